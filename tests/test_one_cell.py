"""The cell in one file is the study's cell: same weights, same steps, same numbers."""

import doctest
import importlib.util
import math
from pathlib import Path

import pytest
import torch
from cifar_format import tiny_dataset

from empirical.data.datasets import augment_with, normalize, sample_offsets
from empirical.protocol import TrainSpec
from empirical.training.families import build_network
from empirical.training.loop import train_cell
from theory.randomness import generator

PATH = Path(__file__).parent.parent / "docs" / "one_cell.py"
CPU = torch.device("cpu")


def load():
    spec = importlib.util.spec_from_file_location("one_cell", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


one_cell = load()


@pytest.mark.parametrize("initializer", ("he", "xavier", "normal"))
@pytest.mark.parametrize("activation, depth", [("relu", 1), ("prelu", 2), ("relu", 12)])
def test_the_network_as_drawn_is_the_studys_to_the_last_bit(initializer, activation, depth):
    theirs = build_network(
        TrainSpec(initializer=initializer, activation=activation, depth=depth, seed=3)
    )
    ours = one_cell.build(initializer, activation, depth, 3)
    pairs = list(zip(ours.parameters(), theirs.parameters(), strict=True))
    assert len(pairs) == 2 * (depth + 1) + 2 * (depth - 1) + (activation == "prelu") * depth
    assert all(torch.equal(one, other) for one, other in pairs)


def test_images_are_flipped_cropped_and_normalized_as_in_the_study():
    images = tiny_dataset(train=50).train_images
    offsets = sample_offsets(50, generator(1, "augment", 1))
    expected = augment_with(images, *offsets, one_cell.MEAN, one_cell.STD)
    found = one_cell.augmented(images, generator(1, "augment", 1))
    torch.testing.assert_close(one_cell.normalized(found), expected, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(expected, normalize(images, one_cell.MEAN, one_cell.STD), atol=0.1)


@pytest.mark.parametrize("initializer, activation, depth", [("he", "relu", 2), ("normal", "prelu", 3)])
def test_it_learns_what_the_studys_cell_learns(initializer, activation, depth):
    data = tiny_dataset(train=150, test=60)  # three batches, the last of them smaller
    spec = TrainSpec(
        initializer=initializer, activation=activation, depth=depth, seed=1, epochs=2, engine="eager"
    )
    rows = train_cell(spec, data, CPU).epochs
    found = list(one_cell.train(one_cell.build(initializer, activation, depth, 1), data, 1, epochs=2))
    assert len(found) == len(rows) == 2
    for epoch, row in zip(found, rows, strict=True):
        assert epoch.train_loss == pytest.approx(row["train_loss"], rel=1e-4)
        assert epoch.average_weight == pytest.approx(row["average_weight"], rel=1e-3, abs=1e-5)
        assert epoch.test_accuracy == pytest.approx(row["test_accuracy"], abs=100 / 60 + 1e-9)
    assert math.isfinite(found[-1].train_loss) and found[-1].train_loss != found[0].train_loss


def test_the_accuracy_is_of_all_test_images_by_the_running_statistics():
    data = tiny_dataset(test=300)  # two batches, the last of them smaller
    network = one_cell.build("he", "relu", 2, 0)
    images = one_cell.normalized(data.test_images)
    network(images)  # moves the running statistics a tenth of the way to those of the batch
    by_batch = (network(images).argmax(1) == data.test_labels).sum()
    found = one_cell.accuracy(network, data)
    right = (network.eval()(images).argmax(1) == data.test_labels).sum()
    assert found == pytest.approx(100 * right / 300) and right != by_batch


def test_its_example_is_true_and_an_unknown_law_raises():
    tried = doctest.testmod(one_cell)
    assert (tried.attempted, tried.failed) == (1, 0)
    with pytest.raises(ValueError, match="he, xavier or normal"):
        one_cell.deviation("lecun", 3, 4)
