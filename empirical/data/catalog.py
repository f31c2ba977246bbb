"""The data sets that a cell can be trained on: a row each, and nothing else anywhere.

Networks, costs, normalization, augmentation, instruments, the loss and its guessing, and the score take
what they need from the row.  To add a data set, add its row to ``DATASETS``.

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
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from empirical.data.files import CIFAR10, CIFAR100, FASHION_MNIST, SVHN, Source
from theory.errors import unknown_name
from theory.randomness import generator

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

    steps     of a sequence of that length; its last ``answers`` are answered, None: all
    length    for a network whose depth is not the length
    unrolled  the name of what makes inputs and targets of the loaded numbers, in ``sequences``
    """

    length: int
    longest: int
    unrolled: str
    answers: int | None = 1
    task: ClassVar[str] = "sequence"
    takes: ClassVar[str] = "sequences"


def _generated(name: str) -> Callable[[Path | None], Dataset]:
    """The loader called ``name``, of data that no file is needed for."""

    def load(data_dir: Path | None) -> Dataset:
        from empirical.data import generated

        made: Dataset = getattr(generated, name)(DATASETS[name])
        return made

    return load


TRAIN_DIGITS = 1_437  # four fifths
HE_NORMAL = {"initializers": ("he", "normal")}
PLAIN = {"norm": "none", "fan": "fan_in", "gain_slope": 0.0, "augment": "none", "filters": 32}
RECURRENT = PLAIN | {
    "activations": ("tanh",), "network": "rnn", "epochs": 5, "initializers": ("he", "xavier")
}  # fmt: skip


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


DATASETS: dict[str, DataSet] = {
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
        defaults={"augment": "none", "filters": 8, "epochs": 5, "depths": (2, 4, 7)} | HE_NORMAL,
    ),
    "teacher": Vectors(
        inputs=16,
        train_images=2_000,
        test_images=500,
        load=_generated("teacher"),
        defaults=PLAIN | {"initializers": ("he", "xavier"), "depths": (2, 8, 16)},
    ),
    "diabetes": Vectors(  # Efron, Hastie, Johnstone & Tibshirani (2004); scikit-learn ships it
        inputs=10,
        train_images=353,  # four fifths
        test_images=89,
        load=_generated("diabetes"),
        defaults=PLAIN
        | {"initializers": ("he", "xavier"), "depths": (2, 8, 16), "batch_size": 16, "epochs": 20},
    ),
    "adding": Sequences(  # Hochreiter & Schmidhuber (1997), §5.4
        inputs=2,
        classes=1,
        loss="squared",
        raw_shape=(1002,),
        train_images=2_000,
        test_images=500,
        length=20,
        longest=1000,
        unrolled="adding",
        load=_generated("adding"),
        defaults=RECURRENT | {"depths": (5, 20, 40)},
    ),
    "copy": Sequences(  # Hochreiter & Schmidhuber (1997); Arjovsky, Shah & Bengio (2016), §4.1
        inputs=9,
        classes=8,
        loss="cross-entropy",
        raw_shape=(4,),
        train_images=2_000,
        test_images=500,
        length=16,
        longest=1000,
        unrolled="copied",
        load=_generated("copy"),
        defaults=RECURRENT | {"depths": (5, 20, 40)},
        answers=4,
    ),
    "characters": Sequences(  # the Zen of Python (Peters, PEP 20), which every Python ships
        inputs=45,
        classes=45,
        loss="cross-entropy",
        raw_shape=(65,),
        train_images=621,
        test_images=107,
        length=32,
        longest=64,
        unrolled="characters",
        load=_generated("characters"),
        defaults=RECURRENT | {"depths": (8, 16, 32)},
        answers=None,
    ),
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
