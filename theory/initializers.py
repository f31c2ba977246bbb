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
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from theory.activations import parse_number, short
from theory.errors import RequestError, check_choice, check_real, unknown_name

if TYPE_CHECKING:
    import torch

FANS = ("fan_in", "fan_out", "fan_avg")
# Truncation of N(0, 1) at ±2: variance 1 − 4·pdf(2)/(cdf(2) − cdf(−2)).
TRUNCATED_VARIANCE = 1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2))


@dataclass(frozen=True)
class Law:
    """A row of the table above: the distribution's shape, which gain and which fan it uses."""

    shape: str  # normal | uniform | truncated | orthogonal
    gain: str  # he | one | fixed | pytorch
    fan: str | None  # the default fan; None where the law has no fan
    free_fan: bool = False  # whether --fan may change it


LAWS: dict[str, Law] = {
    "he": Law("normal", "he", "fan_in", free_fan=True),
    "he-uniform": Law("uniform", "he", "fan_in", free_fan=True),
    "xavier": Law("normal", "one", "fan_avg"),
    "xavier-uniform": Law("uniform", "one", "fan_avg"),
    "normal": Law("normal", "fixed", None),
    "lecun": Law("normal", "one", "fan_in", free_fan=True),
    "pytorch": Law("uniform", "pytorch", "fan_in"),
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
        """normal, uniform, truncated or orthogonal: laws of one shape are multiples of each other."""
        return self.law.shape

    def variance(self, fan_in: float, fan_out: float, negative_slope: float = 0.0) -> float:
        """Var[w] of one weight; ``negative_slope`` is the slope in He's gain (Eq. 15).

        >>> round(parse_initializer("he").variance(512, 256), 12)
        0.00390625
        """
        return self.std(fan_in, fan_out, negative_slope) ** 2

    def std(self, fan_in: float, fan_out: float, negative_slope: float = 0.0) -> float:
        """Standard deviation of one weight, rounded as torch rounds it (gain/√fan)."""
        if self.fixed_std is not None:
            return self.fixed_std
        if self.law.gain == "pytorch":
            return 1 / math.sqrt(3 * fan_in)
        if self.law.fan == "fan_avg":
            return math.sqrt(2 / (fan_in + fan_out))
        gain = he_gain(negative_slope) if self.law.gain == "he" else 1.0
        if self.shape == "orthogonal":  # rows (or columns) of unit length
            return gain / math.sqrt(max(fan_in, fan_out))
        fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
        cut = math.sqrt(TRUNCATED_VARIANCE) if self.shape == "truncated" else 1.0
        return cut * gain / math.sqrt(fans[self.fan or "fan_in"])

    def draw_(
        self, tensor: torch.Tensor, generator: torch.Generator, negative_slope: float = 0.0
    ) -> torch.Tensor:
        """Fill a weight ``tensor`` (out, in, *kernel) in place from ``generator``; returns it.

        With the same generator state, the he and xavier laws give bit for bit the numbers of
        ``torch.nn.init.kaiming_normal_`` and its siblings.
        """
        import torch

        fan_in, fan_out = fans(tensor.shape)
        std = self.std(fan_in, fan_out, negative_slope)
        with torch.no_grad():
            if self.shape == "normal":
                return tensor.normal_(0, std, generator=generator)
            if self.shape == "uniform":
                bound = math.sqrt(3.0) * std
                return tensor.uniform_(-bound, bound, generator=generator)
            if self.shape == "truncated":
                sigma = std / math.sqrt(TRUNCATED_VARIANCE)
                return torch.nn.init.trunc_normal_(
                    tensor, 0.0, sigma, -2 * sigma, 2 * sigma, generator=generator
                )
            gain = std * math.sqrt(max(tensor.shape[0], tensor[0].numel()))
            return torch.nn.init.orthogonal_(tensor, gain, generator=generator)

    def draw_bias_(self, tensor: torch.Tensor, fan_in: int, generator: torch.Generator) -> torch.Tensor:
        """Fill a bias ``tensor`` in place with torch's default law U(±1/√fan_in); returns it."""
        import torch

        bound = 1 / math.sqrt(fan_in)
        with torch.no_grad():
            return tensor.uniform_(-bound, bound, generator=generator)


def he_gain(negative_slope: float = 0.0) -> float:
    """He's gain √(2/(1 + a²)) for a rectifier of slope a (He et al. 2015, Eq. 15).

    >>> he_gain(1.0)
    1.0
    """
    return math.sqrt(2 / (1 + negative_slope**2))


def fans(shape: tuple[int, ...] | torch.Size) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight of shape (out, in, *kernel).

    >>> fans((64, 3, 3, 3))
    (27, 576)
    """
    if len(shape) < 2:
        raise RequestError(f"a weight has at least two dimensions (out, in, …), not {tuple(shape)}")
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


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
        check_real(what, std, 0, 1e6, open_low=True)
        return Initializer(f"normal:{short(std)}" if colon else "normal", LAWS["normal"], None, std)
    if kind not in LAWS or colon:
        raise unknown_name("initializer", name, INITIALIZERS, OTHER_NAMES)
    law = LAWS[kind]
    return Initializer(kind, law, fan if fan is not None and law.free_fan else law.fan)
