"""Data without files: the sizes that their rows say, the same every time, a text that is checked."""

import pytest
import torch

from empirical.data import generated
from empirical.data.catalog import DATASETS, data_set, load_dataset, of_task
from theory.errors import RequestError
from theory.randomness import generator

CPU = torch.device("cpu")
NAMES = [*of_task("regression"), *of_task("sequence")]


@pytest.mark.parametrize("name", NAMES)
def test_data_have_the_sizes_of_their_row_and_are_the_same_again(name):
    row, data, again = DATASETS[name], *(load_dataset(name, None, CPU) for _ in range(2))
    assert data.train_images.shape == (row.train_images, *row.raw_shape)
    assert data.test_images.shape == (row.test_images, *row.raw_shape)
    assert len(data.train_labels) == row.train_images and len(data.test_labels) == row.test_images
    for one in ("train_images", "train_labels", "test_images", "test_labels"):
        assert torch.equal(getattr(data, one), getattr(again, one))


@pytest.mark.parametrize("name", of_task("regression"))
def test_regressions_are_standardized_by_their_training_part(name):
    data = load_dataset(name, None, CPU)
    for values in (data.train_images, data.train_labels):
        assert values.mean(0).abs().max() < 1e-5
        assert values.square().mean(0).sub(1).abs().max() < 1e-4


def test_the_teacher_is_the_network_that_it_says(monkeypatch):
    """Its targets by its weights drawn again, here with matrices of our own."""
    row, stream = data_set("teacher"), generator(0, "teacher")
    inputs = torch.randn(row.train_images + row.test_images, row.inputs, generator=stream)
    signal, fan_in = inputs, row.inputs
    for width in (32, 32, 32, 1):
        weight = torch.randn(width, fan_in, generator=stream) * (2 / fan_in) ** 0.5
        signal, fan_in = signal @ weight.T, width
        signal = signal.relu() if width > 1 else signal
    known = signal[: row.train_images]
    expected = (signal - known.mean()) / known.std(correction=0)
    data = load_dataset("teacher", None, CPU)
    found = torch.cat([data.train_labels, data.test_labels])
    assert torch.allclose(found, expected, atol=1e-4)


def test_the_text_is_the_zen_of_python_and_no_other_is_taken(monkeypatch, capsys):
    text = generated.zen()
    assert text.startswith("The Zen of Python") and "Flat is better than nested." in text
    assert capsys.readouterr().out == ""  # running the module would print it
    assert len(set(text)) == data_set("characters").classes
    data = load_dataset("characters", None, CPU)
    letters = sorted(set(text))
    assert "".join(letters[code] for code in data.train_images[3]) == text[3:68]
    end = "".join(letters[code] for code in data.test_images[-1])
    assert text.endswith(end)
    assert round(len(text) * 0.8) == len(text) - (len(data.test_images) + 64)
    monkeypatch.setattr(generated, "ZEN", "0" * 64)
    with pytest.raises(RequestError, match="the module this of this Python"):
        generated.zen()
