"""What is loaded, cut to a length: targets are what the task says, inputs have second moment 1."""

import pytest
import torch

from empirical.data.catalog import DATASETS, load_dataset
from empirical.data.datasets import normalize
from empirical.data.sequences import prepared
from empirical.protocol import TrainSpec

CPU = torch.device("cpu")


def cut(name, length):
    spec = TrainSpec(dataset=name, network="rnn", norm="none", activation="tanh", depth=length)
    data = load_dataset(name, None, CPU)
    return prepared(spec, data.train_images, data.train_labels)


@pytest.mark.parametrize("length", (2, 7, 30))
def test_the_sum_of_two_marked_numbers_one_in_each_half(length):
    inputs, targets = cut("adding", length)
    assert inputs.shape == (2000, length, 2) and targets.shape == (2000, 1)
    marked = inputs[..., 1] > 0
    half = max(length // 2, 1)
    assert (marked[:, :half].sum(1) == 1).all() and (marked[:, half:].sum(1) == 1).all()
    numbers = inputs[..., 0] / 12**0.5 + 0.5
    total = (numbers * marked).sum(1, keepdim=True)
    assert torch.allclose(targets, (total - 1) * 6**0.5, atol=1e-5)
    places = marked.float().mean(0)  # anywhere in its half, alike
    assert places[:half].sub(1 / half).abs().max() < 4 * (1 / half / 2000) ** 0.5
    for values in (inputs[..., 0], targets):
        assert values.square().mean() == pytest.approx(1, abs=0.1)
    assert inputs[..., 1].square().mean() == pytest.approx(1, abs=1e-5)


def test_symbols_are_asked_for_as_many_steps_after_they_were_read():
    inputs, targets = cut("copy", 6)
    assert inputs.shape == (2000, 10, 9) and targets.shape == (2000, 4)
    assert torch.equal(inputs[:, :4].argmax(2), targets) and (inputs[:, 4:].argmax(2) == 8).all()
    assert inputs.square().mean() == pytest.approx(1)  # the last answer is 6 steps after its symbol
    assert set(targets.flatten().tolist()) == set(range(8))


def test_each_character_is_asked_for_before_it_is_read():
    inputs, targets = cut("characters", 16)
    assert inputs.shape == (621, 16, 45)
    assert torch.equal(inputs.argmax(2)[:, 1:], targets[:, :-1])


def test_a_transformer_sees_the_length_of_the_data_set():
    spec = TrainSpec(dataset="copy", network="transformer", norm="layer", depth=3)
    data = load_dataset("copy", None, CPU)
    inputs, _ = prepared(spec, data.test_images, data.test_labels)
    assert inputs.shape[1] == DATASETS["copy"].length + 4


def test_images_are_normalized_and_vectors_are_as_they_are():
    data, row = load_dataset("digits", None, CPU), DATASETS["digits"]
    images, labels = prepared(TrainSpec(dataset="digits"), data.test_images, data.test_labels)
    assert torch.equal(images, normalize(data.test_images, row.mean, row.std))
    assert labels is data.test_labels
    found = prepared(TrainSpec(dataset="teacher"), images, labels)
    assert found[0] is images and found[1] is labels
