"""The data sets that a cell can be trained on: a row each, and nothing else anywhere.

Networks, costs, normalization, augmentation, instruments, the loss and its guessing, and the score take
what they need from the row.  To add a data set, add its table to ``catalog.toml``.

A row's class is its kind of data: square images, vectors, or sequences.  ``loss`` is cross-entropy or
squared error.  The score, which records call ``test_accuracy``, is the accuracy in percent under
cross-entropy, and the explained variance in percent, 100·R², under squared error: 0 for guessing the
mean, and less for worse than that.  ``task`` is the command's name for it, and ``defaults`` are the
fields of ``StudySpec`` that suit it.

This module imports neither torch nor numpy: a wrong request is refused in milliseconds.  So a loader
imports what it needs when it is called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from empirical.data import files
from empirical.data.files import Source, tables
from theory.errors import unknown_name

if TYPE_CHECKING:
    import torch

    from empirical.data.datasets import Dataset


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """What every row has.

    classes      outputs of the network
    train_images, test_images  how many images, vectors or sequences there are
    load         from ``--data-dir`` (or None) to all of it on the CPU
    source       where its files are; None for a data set without files
    """

    task: ClassVar[str]
    takes: ClassVar[str]  # the kind of data
    classes: int
    train_images: int
    test_images: int
    load: Callable[[Path | None], Dataset]
    source: Source | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    loss: str = "cross-entropy"
    inputs: int = 0  # channels of an image, entries of a vector or of a step
    raw_shape: tuple[int, ...] = ()  # of one of them as it is loaded
    size: int = 1  # side of an image

    @property
    def guessing(self) -> float:
        """The loss of who has learned nothing: ln classes, or the variance 1 of the targets."""
        return math.log(self.classes) if self.loss == "cross-entropy" else 1.0

    @property
    def score(self) -> str:
        """What ``test_accuracy`` is."""
        return "accuracy" if self.loss == "cross-entropy" else "explained variance"

    def find(self, data_dir: Path | None) -> None:
        """Raise ``RequestError`` if a folder without the files is named, here or by the environment."""
        if self.source is not None:
            self.source.find(data_dir)

    def named(self, data_dir: Path | None) -> Path | None:
        """The folder with its files that the user named, by option or environment; None if none was."""
        return data_dir if self.source is None else self.source.named(data_dir)


@dataclass(frozen=True, kw_only=True)
class ImageSet(DataSet):
    """What is known of a labelled set of square images before any of it is read.

    shape        (channels, height, width), height equal to width
    mean, std    of each channel, of values in [0, 1]: what ``normalize`` takes out
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    task: ClassVar[str] = "images"
    takes: ClassVar[str] = "images"

    def __post_init__(self) -> None:
        channels, height, width = self.shape
        if height != width or not channels == len(self.mean) == len(self.std):
            raise ValueError(f"{self.shape}: images must be square, with a mean and std per channel")
        found = {"inputs": channels, "raw_shape": (height, width, channels), "size": height}
        for name, value in found.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, kw_only=True)
class Vectors(DataSet):
    """Vectors of ``inputs`` standardized numbers, each with one standardized target."""

    classes: int = 1
    loss: str = "squared"
    task: ClassVar[str] = "regression"
    takes: ClassVar[str] = "vectors"

    def __post_init__(self) -> None:
        object.__setattr__(self, "raw_shape", (self.inputs,))


@dataclass(frozen=True, kw_only=True)
class Sequences(DataSet):
    """Sequences of any length up to ``longest``: what is loaded is cut to the length that is asked for.

    answers   how many of its last steps are answered, 0: all
    length    for a network whose depth is not the length
    unrolled  the name of what makes inputs and targets of the loaded numbers, in ``sequences``
    """

    length: int
    longest: int
    unrolled: str
    answers: int = 1
    task: ClassVar[str] = "sequence"
    takes: ClassVar[str] = "sequences"


KINDS: dict[str, type[DataSet]] = {kind.takes: kind for kind in (ImageSet, Vectors, Sequences)}


def _row(name: str, kind: str, source: str | None = None, **fields: Any) -> DataSet:
    found: Source | None = getattr(files, source) if source else None
    return KINDS[kind](load=found.load if found else partial(_made, name), source=found, **fields)


def _made(name: str, data_dir: Path | None) -> Dataset:
    """A data set that no file is needed for."""
    from empirical.data import generated

    made: Dataset = getattr(generated, name)(DATASETS[name])
    return made


DATASETS = {
    name: _row(name, **row) for name, row in tables(Path(__file__).with_suffix(".toml")).items()
}
TASKS = tuple(dict.fromkeys(row.task for row in DATASETS.values()))


def data_set(name: str) -> DataSet:
    """The row called ``name``; ``RequestError`` if there is none.

    >>> data_set("cifar10").classes
    10
    """
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    return DATASETS[name]


def image_set(name: str) -> ImageSet:
    """The row called ``name`` if it is one of images; else ``RequestError``."""
    row = data_set(name)
    if not isinstance(row, ImageSet):
        raise unknown_name("set of images", name, of_task("images"))
    return row


def of_task(task: str) -> list[str]:
    """The names of the data sets of ``task``; the first is its default.

    >>> of_task("regression")
    ['teacher', 'diabetes']
    """
    return [name for name, row in DATASETS.items() if row.task == task]


def load_dataset(
    name: str,
    data_dir: Path | None,
    device: torch.device,
    *,
    limit_train: int | None = None,
    limit_test: int | None = None,
) -> Dataset:
    """The data set called ``name`` on ``device``; a one-line ``RequestError`` when it cannot be had."""
    return data_set(name).load(data_dir).limited(limit_train, limit_test).to(device)
