"""A weight law: its variance from fan_in and fan_out, and how to draw it into a tensor.

fan_in counts the inputs that feed one output unit (k²·c_in for a k×k convolution), fan_out the
outputs that one input unit feeds (k²·c_out).  Every law here has mean 0 and is symmetric:

    he            N(0, g²/fan), g² = 2/(1 + a²)      He et al. 2015, Eq. 10 (fan_in), 14 (fan_out), 15
    he-uniform    the same variance, uniform
    he-truncated  he cut off at ±2σ, not rescaled: variance 0.77374 of he's.  (Keras and JAX rescale
                  their ``he_normal`` back to he's variance; ``torch.nn.init.trunc_normal_`` does not.)
    xavier        N(0, 2/(fan_in + fan_out))         Glorot & Bengio 2010, Eq. 12
    xavier-uniform  U(±√(6/(fan_in + fan_out)))      Glorot & Bengio 2010, Eq. 16
    lecun         N(0, 1/fan_in)                     LeCun et al. 1998, §4.6
    normal        N(0, 1); normal:STD is N(0, STD²)
    pytorch       torch's default, U(±1/√fan_in): variance 1/(3·fan_in), and the bias from the same law
    orthogonal    g times a Haar-random orthogonal matrix (Saxe et al. 2014), g as in he

``--fan`` chooses the fan of the he laws and of lecun; xavier is fan_avg by definition.

A law is a row of ``LAWS``: a *shape*, a gain, a fan.  The shape is what is left of it at unit variance,
a row of ``SHAPES``: how it is drawn, and what the exact theory may say of it.

Orthogonal weights W of m outputs, flattened to (m, N) with N = fan_in = k²·c_in, are as in
``torch.nn.init.orthogonal_``: WWᵀ = g²·1 if m ≤ N, else WᵀW = g²·1, so that all min(m, N) singular
values are g and Var[w] = g²/max(m, N).  Where m ≤ N this is fan_in's g²/N: the mean second moment of
the signal is g² times its input's.  Where m > N it is g²/m: that of the signal is g²·N/m, and the
gradient's, k²·m·Var[w], is g² times its output's for k = 1 (the law of fan_out) and k²·g² for a kernel.
In a grouped convolution each group has a matrix of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from theory.activations import parse_number, short
from theory.errors import LEAST, RequestError, check_choice, check_real, unknown_name

if TYPE_CHECKING:
    import torch

FANS = ("fan_in", "fan_out", "fan_avg")
# Truncation of N(0, 1) at ±2: variance 1 − 4·pdf(2)/(cdf(2) − cdf(−2)).
TRUNCATED_VARIANCE = 1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2))
# E[z⁴] of it: 3·E[z²] − 2·2³·pdf(2)/(cdf(2) − cdf(−2)), by parts.
TRUNCATED_FOURTH = 3 * TRUNCATED_VARIANCE - 4 * (1 - TRUNCATED_VARIANCE)


# ------------------------------------------------------------------------------------- shapes


@dataclass(frozen=True)
class Shape:
    """The form of a law, its scale apart.

    draw_            fills a tensor (groups, rows, columns) in place with weights of the given standard
                     deviation; entries are independent unless the shape ``is_orthogonal``
    std              what is left of a standard deviation of 1: less where the law is cut off
    kurtosis         E[w⁴]/E[w²]² of one weight; NaN for an orthogonal shape, where fourth moments
                     depend on the size
    is_rotation_invariant   W·R is distributed as W for every rotation R: the law of the squared length
                     of a signal is then known exactly at any width; for other shapes the normal law's
                     stands for it, and is called approximate
    is_orthogonal    square matrices keep the length of every vector
    """

    draw_: Callable[[torch.Tensor, float, torch.Generator], object]
    kurtosis: float
    std: float = 1.0
    is_rotation_invariant: bool = False
    is_orthogonal: bool = False

    @property
    def excess_kurtosis(self) -> float:
        """E[w⁴]/E[w²]² − 3: 0 for the normal law."""
        return self.kurtosis - 3


def _draw_normal(weights: torch.Tensor, std: float, generator: torch.Generator) -> None:
    weights.normal_(0, std, generator=generator)


def _draw_uniform(weights: torch.Tensor, std: float, generator: torch.Generator) -> None:
    bound = math.sqrt(3.0) * std
    weights.uniform_(-bound, bound, generator=generator)


def _draw_truncated(weights: torch.Tensor, std: float, generator: torch.Generator) -> None:
    from torch.nn.init import trunc_normal_

    sigma = std / math.sqrt(TRUNCATED_VARIANCE)
    trunc_normal_(weights, 0.0, sigma, -2 * sigma, 2 * sigma, generator=generator)


def _draw_orthogonal(weights: torch.Tensor, std: float, generator: torch.Generator) -> None:
    gaussian = weights.new_empty(weights.shape).normal_(generator=generator)
    weights.copy_(haar(gaussian)).mul_(std * math.sqrt(max(weights.shape[1:])))


def haar(gaussian: torch.Tensor) -> torch.Tensor:
    """Haar-random orthogonal matrices from Gaussian ones, (…, rows, columns), batched.

    QR with the signs of R's diagonal moved into Q makes the law invariant (Mezzadri 2007); more
    columns than rows give orthonormal rows.
    """
    import torch

    wide = gaussian.shape[-1] > gaussian.shape[-2]
    q, r = torch.linalg.qr(gaussian.mT if wide else gaussian)
    q = q * torch.diagonal(r, dim1=-2, dim2=-1).sign().unsqueeze(-2)
    result: torch.Tensor = q.mT if wide else q
    return result.contiguous()


SHAPES: dict[str, Shape] = {
    "normal": Shape(_draw_normal, kurtosis=3.0, is_rotation_invariant=True),
    "uniform": Shape(_draw_uniform, kurtosis=1.8),
    "truncated": Shape(
        _draw_truncated,
        kurtosis=TRUNCATED_FOURTH / TRUNCATED_VARIANCE**2,
        std=math.sqrt(TRUNCATED_VARIANCE),
    ),
    "orthogonal": Shape(_draw_orthogonal, math.nan, is_rotation_invariant=True, is_orthogonal=True),
}


def shape_named(name: str) -> Shape:
    """The row of ``SHAPES`` called ``name``; raises ``RequestError`` where there is none."""
    if name not in SHAPES:
        raise unknown_name("shape of a weight law", name, SHAPES)
    return SHAPES[name]


# --------------------------------------------------------------------------------------- laws


@dataclass(frozen=True)
class Law:
    """A row of the table above: Var[w] = g²/(divisor·fan), its shape, and what goes with it."""

    shape: str  # one of SHAPES
    gain: str  # one of GAINS
    fan: str | None  # the default fan; None where the law has no fan
    free_fan: bool = False  # whether --fan may change it
    divisor: float = 1.0
    draws_bias: bool = False  # whether biases come with it, U(±1/√fan_in); else they are 0


LAWS: dict[str, Law] = {
    "he": Law("normal", "he", "fan_in", free_fan=True),
    "he-uniform": Law("uniform", "he", "fan_in", free_fan=True),
    "xavier": Law("normal", "one", "fan_avg"),
    "xavier-uniform": Law("uniform", "one", "fan_avg"),
    "normal": Law("normal", "fixed", None),
    "lecun": Law("normal", "one", "fan_in", free_fan=True),
    "pytorch": Law("uniform", "one", "fan_in", divisor=3.0, draws_bias=True),
    "orthogonal": Law("orthogonal", "he", None),
    "he-truncated": Law("truncated", "he", "fan_in", free_fan=True),
}
_WITH_ARGUMENT = {"normal": ("normal", "normal:STD")}
INITIALIZERS = tuple(written for name in LAWS for written in _WITH_ARGUMENT.get(name, (name,)))

# What others call some of these; not accepted, but understood in an error.
OTHER_NAMES = {
    "kaiming": "he",
    "kaiming-normal": "he",
    "kaiming-uniform": "he-uniform",
    "msra": "he",
    "glorot": "xavier",
    "glorot-normal": "xavier",
    "glorot-uniform": "xavier-uniform",
    "gaussian": "normal",
    "default": "pytorch",
}


@dataclass(frozen=True)
class Initializer:
    """One weight law with its fan chosen: what ``parse_initializer`` returns."""

    name: str
    law: Law
    fan: str | None
    fixed_std: float | None = None

    @property
    def shape(self) -> str:
        """Its name in ``SHAPES``: laws of one shape are multiples of each other."""
        return self.law.shape

    @property
    def draws_bias(self) -> bool:
        """Whether the law draws biases too, with ``draw_bias_``."""
        return self.law.draws_bias

    def variance(self, fan_in: float, fan_out: float, negative_slope: float = 0.0) -> float:
        """Var[w] of one weight of a dense layer; ``negative_slope`` is the slope in He's gain (Eq. 15).

        >>> round(parse_initializer("he").variance(512, 256), 12)
        0.00390625
        """
        return self.std(fan_in, fan_out, negative_slope) ** 2

    def std(
        self,
        fan_in: float,
        fan_out: float,
        negative_slope: float = 0.0,
        *,
        longest: float | None = None,
    ) -> float:
        """Standard deviation of one weight, rounded as torch rounds it (gain/√fan).

        ``longest`` is the longer side of the weight flattened to (outputs, inputs·kernel), which scales
        orthogonal weights: of a dense layer the larger fan.  ``std_of`` knows it from a weight's shape.
        """
        if self.fixed_std is not None:
            return self.fixed_std
        shape, gain = shape_named(self.shape), GAINS[self.law.gain](negative_slope)
        if shape.is_orthogonal:  # rows (or columns) of unit length
            return gain / math.sqrt(longest or max(fan_in, fan_out))
        if self.law.fan == "fan_avg":  # as Xavier's formula and torch have it
            return shape.std * gain * math.sqrt(2 / (self.law.divisor * (fan_in + fan_out)))
        fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
        if self.fan not in fans:
            raise unknown_name("fan", str(self.fan), FANS)
        return shape.std * gain / math.sqrt(self.law.divisor * fans[self.fan])

    def std_of(
        self,
        shape: Sequence[int],
        negative_slope: float = 0.0,
        *,
        groups: int = 1,
        transposed: bool = False,
    ) -> float:
        """``std`` of a weight of this ``shape``, as torch holds it; see ``fans``.

        >>> parse_initializer("orthogonal").std_of((32, 3, 3, 3))  # √2/√32
        0.25
        """
        fan_in, fan_out = fans(shape, groups=groups, transposed=transposed)
        longest = max(shape[0] // groups, math.prod(shape[1:]))
        return self.std(fan_in, fan_out, negative_slope, longest=longest)

    def draw_(
        self,
        tensor: torch.Tensor,
        generator: torch.Generator,
        negative_slope: float = 0.0,
        *,
        groups: int = 1,
        transposed: bool = False,
    ) -> torch.Tensor:
        """Fill a weight ``tensor`` in place from ``generator``; returns it.

        It is as torch holds it, (out, in/groups, *kernel), or (in, out/groups, *kernel) where
        ``transposed``.  With the same generator state, the he and xavier laws give bit for bit the
        numbers of ``torch.nn.init.kaiming_normal_`` and its siblings, and orthogonal those of
        ``orthogonal_``.
        """
        std = self.std_of(tensor.shape, negative_slope, groups=groups, transposed=transposed)
        return draw_(self.shape, tensor, std, generator, groups)

    def draw_bias_(self, tensor: torch.Tensor, fan_in: int, generator: torch.Generator) -> torch.Tensor:
        """Fill a bias ``tensor`` in place with torch's default law U(±1/√fan_in); returns it."""
        import torch

        bound = 1 / math.sqrt(fan_in)
        with torch.no_grad():
            return tensor.uniform_(-bound, bound, generator=generator)


def draw_(
    shape: str, tensor: torch.Tensor, std: float, generator: torch.Generator, groups: int = 1
) -> torch.Tensor:
    """Fill ``tensor`` (groups·rows, …) in place with weights of the named shape; returns it.

    The entries of a row are a row of the flattened matrix, of which there is one for each group.
    Raises ``RequestError`` for a shape that is not in ``SHAPES``.
    """
    import torch

    with torch.no_grad():
        matrices = tensor.reshape(groups, len(tensor) // groups, -1)
        shape_named(shape).draw_(matrices, std, generator)
        if not tensor.is_contiguous():  # what was filled is then a copy
            tensor.copy_(matrices.view(tensor.shape))
    return tensor


def default_bias_std(fan_in: float) -> float:
    """Standard deviation of torch's law of biases, U(±1/√fan_in)."""
    return 1 / math.sqrt(3 * fan_in)


def drawing_biases(laws: Iterable[Initializer]) -> str:
    """Names of those ``laws`` that draw biases too, for a message; empty where none does."""
    return ", ".join(dict.fromkeys(law.name for law in laws if law.draws_bias))


def he_gain(negative_slope: float = 0.0) -> float:
    """He's gain √(2/(1 + a²)) for a rectifier of slope a (He et al. 2015, Eq. 15).

    >>> he_gain(1.0)
    1.0
    """
    return math.sqrt(2 / (1 + negative_slope**2))


GAINS: dict[str, Callable[[float], float]] = {  # of the slope of the activation's negative half
    "he": he_gain,
    "one": lambda negative_slope: 1.0,
    "fixed": lambda negative_slope: math.nan,  # the standard deviation is given
}


def fans(shape: Sequence[int], *, groups: int = 1, transposed: bool = False) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight of shape (out, in/groups, *kernel).

    One input channel of a grouped convolution feeds out/groups channels only.  A transposed
    convolution holds its weight as (in, out/groups, *kernel): the two change places.  (torch's own
    ``_calculate_fan_in_and_fan_out`` knows neither.)

    >>> fans((64, 3, 3, 3)), fans((64, 16, 3, 3), groups=4), fans((16, 64, 2, 2), transposed=True)
    ((27, 576), (144, 144), (64, 256))
    """
    if len(shape) < 2:
        raise RequestError(f"a weight has at least two dimensions (out, in, …), not {tuple(shape)}")
    if shape[0] % groups:
        raise RequestError(f"{shape[0]} channels cannot be divided into {groups} groups")
    kernel = math.prod(shape[2:])
    second, first = shape[1] * kernel, shape[0] // groups * kernel
    return (first, second) if transposed else (second, first)


def parse_initializer(name: str, fan: str | None = None) -> Initializer:
    """The initializer called ``name``; the names are listed in ``INITIALIZERS``.

    ``fan`` (fan_in, fan_out or fan_avg) overrides the fan of the laws that leave it free.
    Raises ``RequestError`` for an unknown name, a bad standard deviation or an unknown fan.
    """
    if fan is not None:
        check_choice("fan", fan, FANS)
    text = name.strip().lower()
    kind, colon, argument = text.partition(":")
    if kind == "normal":
        what = "the standard deviation of normal"
        std = parse_number(what, argument, "normal:0.01") if colon else 1.0
        check_real(what, check_real(what, std, 0, 1e6, open_low=True), LEAST)
        return Initializer(f"normal:{short(std)}" if colon else "normal", LAWS["normal"], None, std)
    if kind not in LAWS or colon:
        raise unknown_name("initializer", name, INITIALIZERS, OTHER_NAMES)
    law = LAWS[kind]
    return Initializer(kind, law, fan if fan is not None and law.free_fan else law.fan)
