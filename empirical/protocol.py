"""One cell, one study: what is trained, written down before anything runs.

The defaults are the protocol of the course report: CIFAR-10, 32 filters, batch norm after every
convolution but the first, Adam at 1e-3 for 10 epochs of batches of 64, and "He" with mode fan_out and
the leaky-ReLU gain at slope 0.01, whatever the activation.  ``COURSE_REPORT`` is the report's whole
grid and ``published_accuracy`` what it printed.

In the words of the tuning playbook, depth, initializer and activation are *scientific* here: the
study varies them.  Everything in ``Protocol`` is held fixed over a study and said to be.

This module imports neither torch nor numpy: a wrong request is refused in milliseconds.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from empirical import identity
from empirical.architectures import (
    ARCHITECTURES,
    BRANCH_SCALES,
    EVERY_NORM,
    HEADS,
    IDENTITY,
    Architecture,
    Sizes,
)
from empirical.data.catalog import DATASETS, DataSet, Sequences, data_set
from theory.activations import parse_activation
from theory.devices import DEVICES
from theory.errors import RequestError, check_choice, check_real, check_whole
from theory.initializers import FANS, Initializer, parse_initializer
from theory.randomness import MAX_SEED

PRINTED = "flip+crop"
AUGMENTED = {
    PRINTED: "flips and crops",
    "flip": "flips alone",
    "crop": "crops alone",
    "none": "no augmentation",
}
CHOICES: Mapping[str, tuple[str, ...]] = {  # by field of a protocol
    "norm": EVERY_NORM,
    "fan": FANS,
    "optimizer": ("adam", "sgd"),
    "precision": ("fp32", "bf16"),
    "augment": tuple(AUGMENTED),
    "network": tuple(ARCHITECTURES),
    "branch_scale": tuple(BRANCH_SCALES),
}
OPTION = {"head_initializer": "head_init"}  # fields that the command line calls otherwise
ENGINES = ("auto", "eager", "stacked")
PAST_ENGINES = ("fused", "compiled", "graph")  # of earlier versions, in records alone

# Of the course report's data set: for its figures and claims alone.
TRAIN_IMAGES, TEST_IMAGES = DATASETS["cifar10"].train_images, DATASETS["cifar10"].test_images
CLASSES, IMAGE_SIZE = DATASETS["cifar10"].classes, DATASETS["cifar10"].size

MAX_DEPTH = 1000
MAX_FILTERS = 4096
MAX_EPOCHS = 10_000
MAX_PARAMETERS = 1_000_000_000
MAX_CELLS = 100_000


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What a study holds fixed.

    fan, head_fan   fan mode of the laws that leave it free; ``head_fan`` of the last linear layer
                    alone (None: as ``fan``)
    head_initializer  law of the last linear layer (None: the cell's)
    gain_slope      the slope in He's gain √(2/(1 + a²)); the report uses 0.01 for every activation
    pool_every      a 2×2 max-pool after every so many convolutions (not counting the first)
    learning_rate_reference  an initializer, or None.  Every weight whose scale the next batch norm
                    takes out again learns at the rate at which its relative step is the one it would
                    have had, had it been drawn by this law: η·k for Adam and η·k² for SGD, where k is
                    the ratio of the two standard deviations
    augment         what is done at random to each training image: flipped, cropped, both or nothing;
                    of other data there is none
    network         a family of ``architectures``; ``filters`` is its width
    branch_scale    of residual branches: as drawn, the last weight / √branches, or 0
    dropout         share of the activations, of a transformer of the branches, that is dropped
    weight_decay    decoupled from the gradient under Adam, of weights alone: no biases, scales, slopes
    recurrent       the law of a recurrent weight, gate by gate, or identity (None: the cell's)
    forget_bias     what the bias of an LSTM's forget gate begins with; of networks for sequences every
                    other bias begins at 0
    engine          how a step is run; not what it computes, so it is no part of a cell's id
    limit_train, limit_test  keep only the first so many images (None: all of them)
    """

    norm: str = "batch"
    fan: str = "fan_out"
    head_fan: str | None = None
    head_initializer: str | None = None
    gain_slope: float = 0.01
    filters: int = 32
    pool_every: int = 2
    epochs: int = 10
    batch_size: int = 64
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    learning_rate_reference: str | None = None
    dataset: str = "cifar10"
    precision: str = "fp32"
    engine: str = "auto"
    limit_train: int | None = None
    limit_test: int | None = None
    augment: str = PRINTED
    network: str = "plain"
    branch_scale: str = "none"
    dropout: float = 0.0
    weight_decay: float = 0.0
    recurrent: str | None = None
    forget_bias: float = 0.0

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            check_choice(name.replace("_", " "), getattr(self, name), choices)
        if self.head_fan is not None:
            check_choice("the fan of the last layer", self.head_fan, FANS)
        check_choice("engine", self.engine, (*ENGINES, *PAST_ENGINES))
        check_whole("filters", self.filters, 1, MAX_FILTERS)
        check_whole("pool_every", self.pool_every, 1, MAX_DEPTH)
        check_whole("epochs", self.epochs, 1, MAX_EPOCHS)
        data = self.data
        check_whole("batch size", self.batch_size, 1, data.train_images)
        if self.limit_train is not None:
            check_whole("limit_train", self.limit_train, 1, data.train_images)
        if self.limit_test is not None:
            check_whole("limit_test", self.limit_test, 1, data.test_images)
        slope = check_real("the slope in He's gain", self.gain_slope, -10, 10)
        rate = check_real("learning rate", self.learning_rate, 0, 1e6, open_low=True)
        _set(self, gain_slope=slope, learning_rate=rate)
        if self.head_fan == self.fan:
            _set(self, head_fan=None)
        for name in ("head_initializer", "learning_rate_reference"):
            if (law := getattr(self, name)) is not None:
                _set(self, **{name: parse_initializer(law, self.fan).name})
        if self.learning_rate_reference is not None and self.norm != "batch":
            raise RequestError(
                "learning_rate_reference needs batch norm: without it no weight is free of its scale"
            )
        self._check_network()

    def _check_network(self) -> None:
        data, own = self.data, self.architecture
        if data.takes not in own.takes:
            fitting = ", ".join(name for name, one in ARCHITECTURES.items() if data.takes in one.takes)
            raise RequestError(
                f"{self.network} takes no {data.takes}, which {self.dataset} has: use {fitting}"
            )
        check_choice(f"the norm of {self.network}", self.norm, own.norms)
        for name, value, fits in (
            ("branch_scale", self.branch_scale, own.branches),
            ("recurrent", self.recurrent, own.gates > 0),
            ("forget_bias", self.forget_bias, self.network == "lstm"),
            ("augment", None if self.augment == PRINTED else self.augment, data.takes == "images"),
            ("learning_rate_reference", self.learning_rate_reference, self.is_classic),
            ("the engine stacked", self.engine if self.engine == "stacked" else None, self.is_classic),
        ):
            if value not in (None, "none", 0.0) and not fits:
                raise RequestError(f"{name.replace('_', ' ')} does not apply to {self.described}")
        if self.network == "transformer" and self.filters % (2 * HEADS):
            raise RequestError(
                f"the width of a transformer is a multiple of {2 * HEADS}, not {self.filters}"
            )
        if self.recurrent not in (None, IDENTITY):
            _set(self, recurrent=parse_initializer(str(self.recurrent), self.fan).name)
        if data.takes != "images":
            _set(self, augment="none")
        _set(
            self,
            dropout=check_real("dropout", self.dropout, 0, 0.99),
            weight_decay=check_real("weight decay", self.weight_decay, 0, 1e3),
            forget_bias=check_real("forget bias", self.forget_bias, -100, 100),
        )

    @property
    def architecture(self) -> Architecture:
        return ARCHITECTURES[self.network]

    @property
    def described(self) -> str:
        """The network in words: "a plain network with batch norm"."""
        return f"a {self.network} network with {'no' if self.norm == 'none' else self.norm} norm"

    @property
    def is_classic(self) -> bool:
        """Whether it is the course report's network, with batch norm or without any."""
        plain = self.network == "plain" and self.data.takes == "images"
        drops = self.dropout or self.weight_decay
        return plain and not drops and self.norm in ("batch", "none")

    @property
    def data(self) -> DataSet:
        """The data set's row: shape, classes, statistics; ``RequestError`` if there is none."""
        return data_set(self.dataset)

    def config(self) -> dict[str, Any]:
        """Every field; of a cell ready for JSON, and ``TrainSpec(**config)`` is the same cell."""
        return asdict(self)

    def shared(self) -> dict[str, Any]:
        """The fields that every cell of a study has in common."""
        return {item.name: getattr(self, item.name) for item in fields(Protocol)}


@dataclass(frozen=True, kw_only=True)
class TrainSpec(Protocol):
    """One cell: a configuration and its seed.  Names are normalised, so HE and he are one cell.

    >>> TrainSpec(initializer="HE", depth=2).cell_id == TrainSpec(initializer="he", depth=2).cell_id
    True
    """

    initializer: str = "he"
    activation: str = "relu"
    depth: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _set(
            self,
            initializer=parse_initializer(self.initializer, self.fan).name,
            activation=parse_activation(self.activation).name,
        )
        if self.head_initializer == self.initializer:
            _set(self, head_initializer=None)
        check_whole("depth", self.depth, 1, MAX_DEPTH)
        self._check_depth()
        check_whole("seed", self.seed, 0, MAX_SEED)
        if self.parameters > MAX_PARAMETERS:
            raise RequestError(
                f"depth {self.depth} with {self.filters} filters makes {self.parameters:,} parameters: "
                f"choose fewer filters or layers, at most {MAX_PARAMETERS:,} parameters"
            )
        self.check_batches(self.limit_train or self.data.train_images)

    @property
    def cell_id(self) -> str:
        """A readable name plus a hash of everything that determines the result (``identity``).

        The engine, the device and the number of threads are not in it: they change the last bits, not
        the cell.
        """
        defaults = {item.name: item.default for item in fields(self)}
        return identity.cell_id(self.config(), defaults | dict(identity.DEFAULTS))

    @property
    def former_id(self) -> str | None:
        """The id under which earlier versions recorded this cell; None if they could not."""
        return identity.former_id(self.config())

    def key(self, *free: str) -> tuple[Any, ...]:
        """The values of all fields but those ``free``: equal of cells that differ in these alone.

        >>> TrainSpec(seed=1).key("seed") == TrainSpec(seed=2, engine="eager").key("seed")
        True
        """
        config = self.config().items()
        return tuple(value for name, value in config if name not in ("engine", *free))

    @property
    def weight_law(self) -> Initializer:
        """The law of every convolution's weight."""
        return parse_initializer(self.initializer, self.fan)

    @property
    def head_law(self) -> Initializer:
        """The law of the last linear layer's weight."""
        return parse_initializer(self.head_initializer or self.initializer, self.head_fan or self.fan)

    def filter_shape(self, layer: int) -> tuple[int, int, int, int]:
        """Shape of the weight of convolution ``layer`` = 0, 1, …"""
        return (self.filters, self.filters if layer else self.data.inputs, 3, 3)

    @property
    def length(self) -> int:
        """Steps between the first input and the last answer that it takes a recurrent network, which is
        its depth; else the data set's own."""
        own = self.data
        if not isinstance(own, Sequences):
            return 1
        return self.depth if self.architecture.gates else own.length

    @property
    def blocks(self) -> int:
        """Residual blocks: of two branches in a transformer, of one with two weight layers else."""
        return self.depth if self.network == "transformer" else (self.depth - 1) // 2

    @property
    def branch_factor(self) -> float:
        """By what ``branch_scale`` multiplies the last weight of each residual branch."""
        branches = self.blocks * (2 if self.network == "transformer" else 1)
        return {"none": 1.0, "depth": 1 / math.sqrt(max(branches, 1)), "zero": 0.0}[self.branch_scale]

    def relative_scale(self, layer: int) -> float:
        """std(the cell's law)/std(the reference law) of convolution ``layer``; 1 without one."""
        if self.learning_rate_reference is None:
            return 1.0
        reference = parse_initializer(self.learning_rate_reference, self.fan)
        shape = self.filter_shape(layer)
        ours, theirs = (law.std_of(shape, self.gain_slope) for law in (self.weight_law, reference))
        return ours / theirs

    @property
    def map_sizes(self) -> tuple[int, ...]:
        """Side of the square map that each convolution works on: pooling halves it after every
        ``pool_every``-th i ≥ 1 (the convolutions count from i = 0) and stops at 1×1.

        >>> TrainSpec(depth=12).map_sizes
        (32, 32, 32, 16, 16, 8, 8, 4, 4, 2, 2, 1)
        """
        return tuple(
            max(self.data.size >> ((layer - 1) // self.pool_every if layer else 0), 1)
            for layer in range(self.depth)
        )

    @property
    def head_size(self) -> int:
        """Side of the map that reaches the linear layer, after the last pooling; 1 without a map."""
        return max(self.data.size >> ((self.depth - 1) // self.pool_every), 1)

    @property
    def parameters(self) -> int:
        """Number of learned values, by formula."""
        kernel = 9 if self.data.takes == "images" else 1
        sizes = Sizes(
            self.data.inputs,
            self.filters,
            self.depth,
            self.head_size**2 * self.filters,
            self.data.classes,
            kernel,
            normed=self.norm != "none",
            slope=parse_activation(self.activation).kind == "prelu",
        )
        return self.architecture.parameters(sizes)

    def _check_depth(self) -> None:
        own, data = self.architecture, self.data
        if self.network == "residual" and self.depth % 2 == 0:
            raise RequestError(
                f"a residual network has an odd depth, one layer and two per branch, not {self.depth}"
            )
        if isinstance(data, Sequences) and own.gates:
            check_whole(f"the length of {self.dataset}", self.depth, 2, data.longest)
        if own.gates > 1 and self.activation != "tanh":
            raise RequestError(f"{self.network} has activations of its own: name tanh")

    def check_batches(self, images: int) -> None:
        """Batch norm on a 1×1 map needs two images: refuse a batch of one before the training does."""
        smallest = images % self.batch_size or self.batch_size
        if self.norm == "batch" and 1 in self.map_sizes[1:] and smallest == 1:
            raise RequestError(
                f"batches of {self.batch_size} out of {images:,} images leave a batch of one, which "
                f"batch norm cannot normalise on the 1×1 map that depth {self.depth} reaches: "
                "change the batch size"
            )


@dataclass(frozen=True, kw_only=True)
class StudySpec(Protocol):
    """A grid of cells, where their data are and where their records go.

    Cells are trained in the order arm, initializer, activation, depth, seed.  An arm is a mapping from
    fields of ``TrainSpec`` to the values that they have in it, whatever the grid says; a cell that two
    arms share is one cell.  ``data_dir`` None means ``$CIFAR10_DIR``, else a download.  A value named
    twice ("he", "HE") is a mistake and refused.  ``stack`` is how many cells the engine ``stacked`` may
    train at once; None: as many as fit.
    """

    initializers: tuple[str, ...] = ("he",)
    activations: tuple[str, ...] = ("relu", "prelu")
    depths: tuple[int, ...] = (2, 5, 10, 12)
    seeds: tuple[int, ...] = (0,)
    arms: tuple[Mapping[str, Any], ...] = ({},)
    data_dir: Path | None = None
    out: Path = field(default=Path("runs/cifar"))
    device: str = "auto"
    stack: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("device", self.device, DEVICES)
        if self.stack is not None:
            check_whole("the number of cells at once", self.stack, 1, MAX_CELLS)
        _set(
            self,
            initializers=tuple(parse_initializer(name, self.fan).name for name in self.initializers),
            activations=tuple(parse_activation(name).name for name in self.activations),
            depths=tuple(self.depths),
            seeds=tuple(self.seeds),
            out=Path(self.out),
            data_dir=None if self.data_dir is None else Path(self.data_dir),
        )
        for what in ("initializers", "activations", "depths", "seeds"):
            _check_distinct(what, getattr(self, what))
        known = {item.name for item in fields(TrainSpec)}
        for name in {name for arm in self.arms for name in arm} - known:
            raise RequestError(f"an arm changes {name}, which is no field of a cell")
        lengths = map(len, (self.arms, self.initializers, self.activations, self.depths, self.seeds))
        check_whole("the number of cells", math.prod(lengths), 1, MAX_CELLS)
        self.cells()  # each cell validates itself

    def cells(self) -> list[TrainSpec]:
        """Every cell of the grid, in order."""
        grid = itertools.product(
            self.arms, self.initializers, self.activations, self.depths, self.seeds
        )
        found: dict[str, TrainSpec] = {}
        for arm, *values in grid:
            named = dict(zip(identity.GRID, values, strict=True))
            cell = TrainSpec(**self.shared() | named | dict(arm))
            found.setdefault(cell.cell_id, cell)
        return list(found.values())


def published_accuracy(initializer: str, activation: str, depth: int) -> float | None:
    """Final test accuracy (percent) that the course report printed for this cell, else None.

    One run per cell with an unstated seed: nothing to agree with to the second decimal.

    >>> published_accuracy("he", "relu", 12)
    79.03
    """
    return _published().get((initializer, activation, depth))


@cache
def _published() -> dict[tuple[str, str, int], float]:
    text = Path(__file__).with_name("course_report.json").read_text(encoding="utf-8")
    return {
        (cell["initializer"], cell["activation"], cell["depth"]): cell["test_accuracy"]
        for cell in json.loads(text)["cells"]
    }


def _check_distinct(what: str, values: tuple[object, ...]) -> None:
    if not values:
        raise RequestError(f"{what} must name at least one")
    repeated = sorted(str(value) for value, count in Counter(values).items() if count > 1)
    if repeated:
        raise RequestError(f"{what} name {', '.join(repeated)} more than once: name each once")


def _set(spec: object, **values: object) -> None:
    """Set fields of a frozen dataclass while it is being constructed."""
    for name, value in values.items():
        object.__setattr__(spec, name, value)


COURSE_REPORT = StudySpec(initializers=("he", "normal"))
