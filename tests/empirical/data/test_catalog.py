"""A data set is one row: everything else takes shape, classes and statistics from it."""

import json
import math
from dataclasses import replace

import pytest
import torch

import cli
from empirical.data.catalog import DATASETS, ImageSet, image_set
from empirical.data.datasets import Dataset, Offsets
from empirical.engines.graphs import Batches
from empirical.protocol import StudySpec, TrainSpec
from empirical.study.costs import training_flops
from empirical.training.loop import CellTraining
from theory.errors import RequestError

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


def shades(data_dir):
    """Gray images of 8×8 whose brightness tells the class: seven classes."""
    source = torch.Generator().manual_seed(0)

    def part(count):
        labels = torch.randint(7, (count,), generator=source)
        noise = torch.randint(0, 30, (count, 8, 8, 1), generator=source)
        return (noise + 32 * labels[:, None, None, None]).to(torch.uint8), labels

    return Dataset(*part(350), *part(140))


@pytest.fixture
def row(monkeypatch):
    """The one row that a new data set is."""
    added = ImageSet(shape=(1, 8, 8), classes=7, mean=(0.3,), std=(0.25,), train_images=350,
                     test_images=140, load=shades)  # fmt: skip
    monkeypatch.setitem(DATASETS, "shades", added)
    return added


def test_a_cell_is_trained_on_a_row(row, tmp_path, capsys):
    argv = ["cifar", "--dataset", "shades", "--init", "he", "--activation", "prelu", "--depths", "3"]
    argv += ["--filters", "8", "--epochs", "5", "--batch-size", "16", "--device", "cpu", "--json"]
    argv += ["--fan", "fan_in", "--learning-rate", "0.01"]
    assert cli.main([*argv, "--out", str(tmp_path)]) == 0
    (cell,) = json.loads(capsys.readouterr().out)["cells"]
    assert cell["status"] == "completed"
    assert cell["final_test_accuracy"] > 3 * 100 / 7  # it has learned, of seven classes
    config = json.loads(next(tmp_path.glob("cells/*/config.json")).read_text())
    assert config["dataset"] == "shades"
    assert (tmp_path / "study.csv").exists()


def test_the_network_its_costs_and_its_first_loss_follow_the_row(row):
    spec = TrainSpec(dataset="shades", depth=4, filters=5, activation="prelu")
    training = CellTraining(spec, shades(None), CPU)
    assert spec.map_sizes == (8, 8, 8, 4) and spec.head_size == 4
    assert training.network.conv01.weight.shape == (5, 1, 3, 3)
    assert training.network.head.weight.shape == (7, 5 * 4**2)
    assert sum(p.numel() for p in training.network.parameters()) == spec.parameters
    first, later = 9 * 1 * 5 * 64, 9 * 25 * (64 + 64 + 16) + 7 * 5 * 16
    assert training_flops(spec) == 2 * (2 * first + 3 * later)
    with torch.no_grad():
        for parameter in training.network.head.parameters():
            parameter.zero_()  # equal logits
    assert training.look(0).loss == pytest.approx(math.log(7), rel=1e-6)
    drawn = CellTraining(replace(spec, fan="fan_in"), shades(None), CPU)
    drawn.look(0)
    assert drawn.initial["loss_predicted"] == pytest.approx(drawn.initial["loss"], rel=0.2)


def test_images_are_normalized_by_the_row(row):
    spec = TrainSpec(dataset="shades", filters=4, batch_size=32)
    data = shades(None)
    training = CellTraining(spec, data, CPU)
    chosen = torch.arange(20)
    centered = Offsets(chosen < 0, torch.full((20,), 4), torch.full((20,), 4))
    expected = (data.train_images[:20].permute(0, 3, 1, 2) / 255 - 0.3) / 0.25
    torch.testing.assert_close(
        training.prepared(data.train_images[:20], data.train_labels[:20])[0], expected
    )
    torch.testing.assert_close(training.gathered(chosen, centered)[0], expected)
    stacked, labels = Batches(data, row)(chosen[:, None], *(part[:, None] for part in centered))
    torch.testing.assert_close(stacked, expected)
    assert torch.equal(labels[:, 0], data.train_labels[:20])


def test_every_engine_trains_on_the_row(row):
    losses = []
    for engine in ("eager", "stacked"):
        spec = TrainSpec(dataset="shades", filters=4, batch_size=32, epochs=1, engine=engine)
        training = CellTraining(spec, shades(None), CPU)
        training.run_epoch()
        assert training.status == "completed" and training.engine == engine
        losses.append(training.epochs[0]["train_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_limits_of_a_request_are_the_rows(row):
    with pytest.raises(RequestError, match="limit_train must be a whole number from 1 to 350"):
        TrainSpec(dataset="shades", limit_train=351)


def test_an_unknown_data_set_is_refused():
    for spec in (TrainSpec, StudySpec):
        with pytest.raises(RequestError, match="unknown data set 'cifar11': did you mean cifar10"):
            spec(dataset="cifar11")
    with pytest.raises(RequestError, match="unknown data set"):
        image_set("")


def test_images_of_another_shape_than_the_row_are_refused(row):
    with pytest.raises(RequestError, match=r"cifar10 has images of 32×32×3, not 8×8×1"):
        CellTraining(TrainSpec(filters=4), shades(None), CPU)


def test_a_row_that_contradicts_itself_is_refused(row):
    for wrong in ({"shape": (1, 8, 9)}, {"shape": (3, 8, 8)}, {"std": (1.0, 1.0)}):
        with pytest.raises(ValueError, match="square"):
            replace(row, **wrong)
