"""The presets: which cells they make, what they share, and what their options may change."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from empirical.arm import Arm
from empirical.judgment.evidence import Cells
from empirical.presets import MANY_SEEDS, PRESETS, preset
from empirical.protocol import COURSE_REPORT, StudySpec, TrainSpec
from theory.errors import RequestError

CLI = Path(__file__).resolve().parents[2] / "cli.py"


def cells(name, **changes):
    return {cell.cell_id: cell for cell in StudySpec(**{**preset(name).fields, **changes}).cells()}


def test_the_report_is_the_course_report():
    assert list(cells("report")) == [cell.cell_id for cell in COURSE_REPORT.cells()]
    assert {Arm.of(cell.config()).variant for cell in cells("report").values()} == {""}


def test_presets_share_cells_instead_of_training_them_twice():
    report, textbook, head = cells("report"), cells("textbook"), cells("head")
    assert len(head) == 24 and len(head.keys() & report.keys()) == 8 == len(textbook)
    assert textbook.keys() < head.keys()
    assert len(cells("effective-lr").keys() & report.keys()) == 8
    assert len(cells("seeds")) == 16 * MANY_SEEDS and report.keys() < cells("seeds").keys()


def test_the_head_differs_in_nothing_but_the_head():
    as_printed, head, textbook = (
        next(c for c in cells("head", depths=(2,)).values() if Arm.of(c.config()).variant == text)
        for text in ("", "head fan_in", "fan_in")
    )
    assert as_printed.weight_law == head.weight_law and textbook.head_law == head.head_law
    assert as_printed.head_law.std(32768, 10, 0.01) == pytest.approx((2 / 1.0001 / 10) ** 0.5)
    assert head.head_law.std(32768, 10, 0.01) == pytest.approx((2 / 1.0001 / 32768) ** 0.5)


def test_the_plain_nets_of_he2015_keep_their_maps():
    found = cells("he2015").values()
    assert {(c.initializer, c.depth) for c in found} == {
        (i, d) for i in ("he", "xavier") for d in (22, 30)
    }
    for cell in found:
        assert cell.norm == "none" and cell.gain_slope == 0 and cell.optimizer == "sgd"
        assert cell.map_sizes[-1] == 8 and cell.head_size == 8 and cell.map_sizes[10:12] == (32, 16)


def test_between_no_norm_and_he2015_one_thing_changes_at_a_time():
    def of(name, **grid):
        return [
            cell.config() for cell in cells(name, activations=("relu",), **grid).values()
            if cell.initializer == "he"
        ]  # fmt: skip

    (start,), (narrow, sgd), (end,) = (
        of("no-norm", depths=(12,)),
        of("between"),
        of("he2015", depths=(22,)),
    )
    way = (start, narrow, sgd, end)
    assert [
        {name for name in before if before[name] != after[name]} for before, after in pairwise(way)
    ] == [
        {"filters"},
        {"optimizer", "learning_rate", "gain_slope"},
        {"depth", "pool_every"},
    ]


def test_a_variant_is_described_in_words():
    assert Arm.of(TrainSpec(fan="fan_in").config()).variant == "fan_in"
    assert Arm.of(TrainSpec(initializer="xavier", fan="fan_in").config()).variant == ""
    assert Arm.of(TrainSpec(filters=8, optimizer="sgd").config()).variant == "8 filters, SGD"
    row = TrainSpec().config() | {"head_fan": float("nan"), "limit_train": float("nan")}
    assert Arm.of(row).variant == ""  # as a table reads a missing value back
    row["limit_train"] = 640.0  # as it reads a whole number back, where other cells have none
    assert Arm.of(row).variant == "limit train 640" and Cells.of(row).spec.limit_train == 640


def test_arms_are_checked():
    with pytest.raises(RequestError, match="fann, which is no field"):
        StudySpec(arms=({"fann": "fan_in"},))
    with pytest.raises(RequestError, match="unknown fan"):
        StudySpec(arms=({"fan": "fan-in"},))


def test_a_head_that_is_named_but_no_other_is_the_same_cell():
    plain = TrainSpec()
    assert TrainSpec(head_fan="fan_out").cell_id == plain.cell_id
    assert TrainSpec(head_initializer="HE").cell_id == plain.cell_id
    assert TrainSpec(engine="eager").cell_id == plain.cell_id
    assert TrainSpec(head_initializer="normal").cell_id != plain.cell_id


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--preset", "nope"], "unknown preset 'nope'"),
        (["--preset", "head", "--fan", "fan_in"], "--fan is what preset head compares"),
        (["--preset", "effective-lr", "--init", "he"], "--init is what preset effective-lr compares"),
        (["--norm", "none", "--learning-rate-reference", "he"], "needs batch norm"),
    ],
)
def test_contradictions_are_refused_in_one_line(tmp_path, arguments, words):
    done = subprocess.run(
        [sys.executable, CLI, "cifar", *arguments, "--out", tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_presets_are_listed():
    done = subprocess.run(
        [sys.executable, CLI, "cifar", "--list-presets", "--json"], capture_output=True, text=True
    )
    listed = json.loads(done.stdout)["presets"]
    assert [row["preset"] for row in listed] == list(PRESETS)
    assert [row["cells"] for row in listed][:3] == [16, 8, 24]
