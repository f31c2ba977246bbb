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

from empirical.data.cifar10 import find_cifar10, load_cifar10
from theory.errors import unknown_name

if TYPE_CHECKING:
    import torch

    from empirical.data.datasets import Dataset


def _nowhere(data_dir: Path | None) -> None:
    """For a data set without files."""


@dataclass(frozen=True)
class ImageSet:
    """What is known of a labelled set of square images before any of it is read.

    shape        (channels, height, width), height equal to width
    classes      labels are 0 … classes − 1
    mean, std    of each channel, of values in [0, 1]: what ``normalize`` takes out
    train_images, test_images  how many there are
    load         from ``--data-dir`` (or None) to all of it on the CPU
    find         of ``--data-dir``: raises ``RequestError`` if it names a folder without the files
    """

    shape: tuple[int, int, int]
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train_images: int
    test_images: int
    load: Callable[[Path | None], Dataset]
    find: Callable[[Path | None], object] = _nowhere

    def __post_init__(self) -> None:
        channels, height, width = self.shape
        if height != width or not channels == len(self.mean) == len(self.std):
            raise ValueError(f"{self.shape}: images must be square, with a mean and std per channel")

    @property
    def channels(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """Side of the image in pixels."""
        return self.shape[1]


DATASETS: dict[str, ImageSet] = {
    "cifar10": ImageSet(
        shape=(3, 32, 32),
        classes=10,
        mean=(0.4914, 0.4822, 0.4465),  # the course report's constants
        std=(0.2023, 0.1994, 0.2010),
        train_images=50_000,
        test_images=10_000,
        load=load_cifar10,
        find=find_cifar10,
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
