"""The protocol: validated on construction, one id per configuration, no torch."""

import subprocess
import sys

import pytest

from empirical.protocol import COURSE_REPORT, StudySpec, TrainSpec, published_accuracy
from theory.errors import RequestError


def test_the_course_report_is_sixteen_cells_and_each_has_a_published_accuracy():
    cells = COURSE_REPORT.cells()
    assert len({cell.cell_id for cell in cells}) == 16
    for cell in cells:
        assert published_accuracy(cell.initializer, cell.activation, cell.depth) is not None
    assert published_accuracy("normal", "prelu", 12) == 64.28
    assert published_accuracy("xavier", "relu", 2) is None


def test_the_defaults_are_the_reports():
    spec = TrainSpec()
    assert (spec.fan, spec.gain_slope, spec.filters, spec.epochs) == ("fan_out", 0.01, 32, 10)
    assert (spec.batch_size, spec.learning_rate, spec.norm, spec.precision) == (
        64,
        1e-3,
        "batch",
        "fp32",
    )


def test_the_id_is_readable_and_follows_the_configuration():
    assert TrainSpec(initializer="HE").cell_id == TrainSpec().cell_id
    assert TrainSpec().cell_id.startswith("he-relu-d02-s0-")
    changed = [
        TrainSpec(fan="fan_in"), TrainSpec(seed=1), TrainSpec(epochs=9), TrainSpec(filters=31),
        TrainSpec(learning_rate=1e-2), TrainSpec(limit_train=100), TrainSpec(gain_slope=0.0),
        TrainSpec(precision="bf16"), TrainSpec(norm="none"), TrainSpec(batch_size=32),
    ]  # fmt: skip
    assert len({spec.cell_id for spec in [TrainSpec(), *changed]}) == 11
    assert TrainSpec(**TrainSpec(seed=3).config()) == TrainSpec(seed=3)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("depth", 0, "depth"), ("depth", 1001, "1,000"), ("depth", 2.0, "whole"),
        ("filters", 5000, "4,096"), ("epochs", 0, "epochs"), ("epochs", 10**6, "epochs"),
        ("batch_size", 0, "batch size"), ("learning_rate", float("nan"), "finite"),
        ("learning_rate", 0.0, "above 0"), ("learning_rate", -1.0, "above 0"),
        ("gain_slope", float("inf"), "finite"), ("seed", -1, "seed"), ("norm", "laier", "layer"),
        ("fan", "fan", "fan_in"), ("dataset", "cifar11", "cifar10"), ("precision", "fp64", "fp32"),
        ("engine", "egaer", "eager"), ("limit_train", 0, "limit_train"),
        ("limit_test", 10**5, "10,000"),
        ("initializer", "hee", "did you mean he"), ("activation", "rleu", "did you mean relu"),
        ("initializer", "normal:-1", "above 0"),
        ("network", "lstm", "lstm takes no images, which cifar10 has: use plain, residual"),
        ("branch_scale", "depth", "branch scale does not apply to a plain network with batch norm"),
        ("forget_bias", 1.0, "forget bias does not apply"), ("recurrent", "he", "does not apply"),
        ("dropout", 1.0, "dropout"), ("weight_decay", -1.0, "weight decay"),
        ("dataset", "adding", "plain takes no sequences"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_in_one_line(field, value, says):
    with pytest.raises(RequestError, match=says) as caught:
        TrainSpec(**{field: value})
    assert "\n" not in str(caught.value)


SEQUENCE = {"dataset": "adding", "norm": "none", "activation": "tanh"}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"network": "residual", "depth": 4}, "odd"),
        (SEQUENCE | {"network": "rnn", "depth": 1}, "length of adding"),
        (SEQUENCE | {"network": "gru", "activation": "relu", "depth": 9}, "of its own"),
        (SEQUENCE | {"network": "rnn", "norm": "batch", "depth": 9}, "norm of rnn"),
        (SEQUENCE | {"network": "transformer", "filters": 12}, "multiple of 8"),
        ({"network": "residual", "depth": 5, "engine": "stacked"}, "stacked does not apply"),
        ({"dropout": 0.1, "learning_rate_reference": "he"}, "learning rate reference does not apply"),
    ],
)
def test_what_a_network_cannot_have_is_refused_in_one_line(fields, says):
    with pytest.raises(RequestError, match=says):
        TrainSpec(**fields)


def test_data_that_are_no_images_are_not_augmented():
    spec = TrainSpec(dataset="teacher")
    assert spec.augment == "none" and spec == TrainSpec(dataset="teacher", augment="none")
    with pytest.raises(RequestError, match="augment does not apply"):
        TrainSpec(dataset="teacher", augment="flip")


def test_a_batch_of_one_is_refused_where_batch_norm_would_fail():
    with pytest.raises(RequestError, match="batch of one"):
        TrainSpec(depth=12, limit_train=65)
    TrainSpec(depth=11, limit_train=65)
    TrainSpec(depth=12, limit_train=65, norm="none")


def test_a_network_too_large_for_any_machine_is_refused():
    with pytest.raises(RequestError, match="parameters"):
        TrainSpec(depth=1000, filters=4096)


def test_a_study_refuses_repetition_and_emptiness():
    with pytest.raises(RequestError, match="he more than once"):
        StudySpec(initializers=("he", "HE"))
    with pytest.raises(RequestError, match="at least one"):
        StudySpec(depths=())
    with pytest.raises(RequestError, match="unknown device"):
        StudySpec(device="gpu")


def test_the_grid_runs_seeds_fastest():
    spec = StudySpec(initializers=("he", "normal"), activations=("relu",), depths=(2, 5), seeds=(0, 1))
    order = [(cell.initializer, cell.depth, cell.seed) for cell in spec.cells()]
    assert order == [(i, d, s) for i in ("he", "normal") for d in (2, 5) for s in (0, 1)]


def test_a_request_is_checked_without_importing_torch():
    code = "import sys, empirical.protocol; print({'torch', 'numpy', 'pandas'} & {*sys.modules})"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
