"""The families of networks: what each takes, what its depth counts, and how large it is.

    plain        weight layers one after another: 3×3 convolutions for images, linear layers for vectors
    residual     the same layers in branches of two, norm → activation → layer, added to what they take
    rnn, lstm, gru   one layer, unrolled over the steps of a sequence (Elman 1990; Hochreiter &
                 Schmidhuber 1997; Cho et al. 2014)
    transformer  causal blocks of attention and MLP with the norm before each branch, as GPT-2
                 (Radford et al. 2019)

This module imports neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

HEADS = 4  # of attention
MLP = 4  # by how much the MLP of a transformer is wider


@dataclass(frozen=True)
class Sizes:
    """What the number of parameters depends on; ``kernel`` is 9 of images, else 1."""

    inputs: int
    width: int
    depth: int
    features: int  # that the last layer takes
    outputs: int
    kernel: int = 1
    normed: bool = False
    slope: bool = False  # whether an activation learns one


@dataclass(frozen=True)
class Architecture:
    """A family of networks.

    takes        the kinds of data: images, vectors, sequences
    norms        that it may have
    depth        what its depth counts
    parameters   how many values it learns
    branches     whether it has residual branches, and so a branch scale
    gates        of a recurrent network: the parts of its weights, else 0
    """

    takes: tuple[str, ...]
    norms: tuple[str, ...]
    depth: str
    parameters: Callable[[Sizes], int]
    branches: bool = False
    gates: int = 0


def _plain(n: Sizes) -> int:
    later, norms = n.depth - 1, 2 * n.width * n.normed
    first = (n.kernel * n.inputs + 1) * n.width
    return first + later * ((n.kernel * n.width + 1) * n.width + norms) + n.depth * n.slope + _head(n)


def _residual(n: Sizes) -> int:
    """The norm and activation of a layer come before it, and once at the end."""
    return _plain(n) + 2 * n.width * n.normed


def _recurrent(gates: int) -> Callable[[Sizes], int]:
    return lambda n: gates * n.width * (n.inputs + n.width + 1) + n.slope + _head(n)


def _transformer(n: Sizes) -> int:
    attention = 4 * n.width * (n.width + 1)
    mlp = MLP * n.width * (n.width + 1) + (MLP * n.width + 1) * n.width
    block = attention + mlp + 4 * n.width * n.normed + n.slope
    return (n.inputs + 1) * n.width + n.depth * block + 2 * n.width * n.normed + _head(n)


def _head(n: Sizes) -> int:
    return (n.features + 1) * n.outputs


FEED_FORWARD = ("images", "vectors")
EVERY_NORM = ("batch", "layer", "group", "none")
ARCHITECTURES: dict[str, Architecture] = {
    "plain": Architecture(FEED_FORWARD, EVERY_NORM, "weight layers", _plain),
    "residual": Architecture(
        FEED_FORWARD, EVERY_NORM, "weight layers: one, and two per branch", _residual, branches=True
    ),
    "rnn": Architecture(("sequences",), ("none",), "steps", _recurrent(1), gates=1),
    "lstm": Architecture(("sequences",), ("none",), "steps", _recurrent(4), gates=4),
    "gru": Architecture(("sequences",), ("none",), "steps", _recurrent(3), gates=3),
    "transformer": Architecture(
        ("sequences",), ("layer", "none"), "blocks", _transformer, branches=True
    ),
}
BRANCH_SCALES = {
    "none": "branches as drawn",
    "depth": "branches / √n",  # the last weight of each, GPT-2; Hanin & Rolnick (2018)
    "zero": "branches from 0",  # the same; Zhang et al. (2019)
}
IDENTITY = "identity"  # a recurrent weight (Le, Jaitly & Hinton 2015)
