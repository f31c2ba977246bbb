"""The data sets that a cell can be trained on: a row each, and nothing else anywhere.

Networks, costs, normalization, augmentation, instruments and the loss of guessing take shape, classes
and statistics from the row.  To add a data set, add its row to ``DATASETS``.

This module imports neither torch nor numpy: a wrong request is refused in milliseconds.  So a loader
imports what it needs when it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from empirical.data.files import CIFAR10, CIFAR100, FASHION_MNIST, SVHN, Source
from theory.errors import unknown_name
from theory.randomness import generator

if TYPE_CHECKING:
    import torch

    from empirical.data.datasets import Dataset


@dataclass(frozen=True)
class ImageSet:
    """What is known of a labelled set of square images before any of it is read.

    shape        (channels, height, width), height equal to width
    classes      labels are 0 … classes − 1
    mean, std    of each channel, of values in [0, 1]: what ``normalize`` takes out
    train_images, test_images  how many there are
    load         from ``--data-dir`` (or None) to all of it on the CPU
    source       where its files are; None for a data set without files
    """

    shape: tuple[int, int, int]
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train_images: int
    test_images: int
    load: Callable[[Path | None], Dataset]
    source: Source | None = None

    def __post_init__(self) -> None:
        channels, height, width = self.shape
        if height != width or not channels == len(self.mean) == len(self.std):
            raise ValueError(f"{self.shape}: images must be square, with a mean and std per channel")

    def find(self, data_dir: Path | None) -> None:
        """Raise ``RequestError`` if a folder without the files is named, here or by the environment."""
        if self.source is not None:
            self.source.find(data_dir)

    def named(self, data_dir: Path | None) -> Path | None:
        """The folder with its files that the user named, by option or environment; None if none was."""
        return data_dir if self.source is None else self.source.named(data_dir)

    @property
    def channels(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """Side of the image in pixels."""
        return self.shape[1]


TRAIN_DIGITS = 1_437  # four fifths


def load_digits(data_dir: Path | None) -> Dataset:
    """The 1,797 images of scikit-learn, in a fixed random order; gray 0 … 16 becomes 0 … 255.

    scikit-learn has the ten classes in turn: an order of its own would test on other shares of them.
    """
    import torch
    from sklearn import datasets

    from empirical.data.datasets import Dataset

    digits = datasets.load_digits()
    images = torch.as_tensor(digits.images * (255 / 16)).round().to(torch.uint8)[..., None]
    labels = torch.as_tensor(digits.target).to(torch.int64)
    order = torch.randperm(len(labels), generator=generator(0, "digits"))
    train, test = order[:TRAIN_DIGITS], order[TRAIN_DIGITS:]
    return Dataset(images[train], labels[train], images[test], labels[test])


DATASETS: dict[str, ImageSet] = {
    "cifar10": ImageSet(
        shape=(3, 32, 32),
        classes=10,
        mean=(0.4914, 0.4822, 0.4465),  # the course report's constants
        std=(0.2023, 0.1994, 0.2010),
        train_images=50_000,
        test_images=10_000,
        load=CIFAR10.load,
        source=CIFAR10,
    ),
    "cifar100": ImageSet(  # the usual constants, as those of the next two
        shape=(3, 32, 32),
        classes=100,
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        train_images=50_000,
        test_images=10_000,
        load=CIFAR100.load,
        source=CIFAR100,
    ),
    "fashion-mnist": ImageSet(
        shape=(1, 28, 28),
        classes=10,
        mean=(0.2860,),
        std=(0.3530,),
        train_images=60_000,
        test_images=10_000,
        load=FASHION_MNIST.load,
        source=FASHION_MNIST,
    ),
    "svhn": ImageSet(
        shape=(3, 32, 32),
        classes=10,
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        train_images=73_257,
        test_images=26_032,
        load=SVHN.load,
        source=SVHN,
    ),
    "digits": ImageSet(  # Alpaydin & Kaynak (1998), UCI; scikit-learn ships the test part
        shape=(1, 8, 8),
        classes=10,
        mean=(0.3060,),
        std=(0.3765,),
        train_images=TRAIN_DIGITS,
        test_images=1_797 - TRAIN_DIGITS,
        load=load_digits,
    ),
}


def image_set(name: str) -> ImageSet:
    """The row called ``name``; ``RequestError`` if there is none.

    >>> image_set("cifar10").classes
    10
    """
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    return DATASETS[name]


def load_dataset(
    name: str,
    data_dir: Path | None,
    device: torch.device,
    *,
    limit_train: int | None = None,
    limit_test: int | None = None,
) -> Dataset:
    """The data set called ``name`` on ``device``; a one-line ``RequestError`` when it cannot be had."""
    return image_set(name).load(data_dir).limited(limit_train, limit_test).to(device)
