"""Moments of an activation under y ~ N(offset, variance): closed forms for rectifiers, else quadrature.

Batch norm shifts what it normalizes by β, and a network that holds its biases is shifted by them, so
that the half of the mass that a rectifier passes is no longer a half.  With s² the variance, m the
offset and r = m/s,

    P(y > 0) = Φ(r),   E[max(y, 0)] = m·Φ(r) + s·φ(r),   E[max(y, 0)²] = (m² + s²)·Φ(r) + m·s·φ(r),

and the negative half is the same with −m.  At m = 0: A₂·s² (He et al. 2015, Eq. 15).  Other
functions are integrated piece by piece: no panel of the quadrature crosses a kink.

Activation modules of torch in a row, with nothing between them, are one function of the pre-activation;
it is that function whose moments are taken, because what leaves an activation is no Gaussian for the
next.  Rectifiers of slopes a and then b are one of slope a·b (of a, if a < 0: the negative half has
then become positive).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.optimize import brentq
from torch import nn

from theory.law import quadrature
from theory.law.quadrature import gaussian_nodes, piecewise_nodes
from theory.predict.points import Points

Array = NDArray[np.float64]
RECTIFIERS = (nn.ReLU, nn.LeakyReLU, nn.PReLU)
OTHERS = (nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Mish, nn.ELU, nn.CELU, nn.SELU, nn.Softplus,
          nn.Softsign, nn.LogSigmoid, nn.Tanhshrink, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid,
          nn.Hardshrink, nn.Softshrink, nn.Threshold)  # fmt: skip
ACTIVATIONS = RECTIFIERS + OTHERS
# Where the kinks of one activation are looked for among the values of those before it.
SEARCHED = np.concatenate([-np.geomspace(1e6, 1e-6, 2001), [0.0], np.geomspace(1e-6, 1e6, 2001)])
CHUNK = 1000  # rows of quadrature nodes held at once: 6 to 20 MB


class Nonlinearity:
    """Moments of φ(y), y ~ N(offset, variance); the arguments broadcast."""

    def second_moment(self, offset: Array, variance: Array) -> Array:
        """E[φ(y)²]."""
        raise NotImplementedError

    def mean(self, offset: Array, variance: Array) -> Array:
        """E[φ(y)]."""
        raise NotImplementedError

    def slope_second_moment(self, offset: Array, variance: Array) -> Array:
        """E[φ'(y)²]."""
        raise NotImplementedError

    def of_points(self, points: Points, scale: float) -> Points:
        """The sampled ``points`` after φ, ``scale`` being their second moment."""

        def product(correlation: Array) -> Array:
            z, weights = gaussian_nodes()
            common = scale * np.abs(correlation)[:, None]
            high, low = (
                self.mean(sign * np.sqrt(common) * z, np.maximum(scale - common, 0.0))
                for sign in (1.0, -1.0)
            )
            return np.asarray(np.where(correlation[:, None] >= 0, high * high, high * low) @ weights)

        return points.activated(product)


@dataclass(frozen=True)
class Rectifier(Nonlinearity):
    """Closed forms for φ(y) = max(y, 0) + a·min(y, 0); a PReLU by channel has an array of a."""

    slope: Array

    def second_moment(self, offset: Array, variance: Array) -> Array:
        positive, negative = self._half(offset, variance, 2), self._half(-offset, variance, 2)
        return np.asarray(positive + self.slope**2 * negative)

    def mean(self, offset: Array, variance: Array) -> Array:
        positive, negative = self._half(offset, variance, 1), self._half(-offset, variance, 1)
        return np.asarray(positive - self.slope * negative)

    def slope_second_moment(self, offset: Array, variance: Array) -> Array:
        positive, negative = self._half(offset, variance, 0), self._half(-offset, variance, 0)
        return np.asarray(positive + self.slope**2 * negative)

    def of_points(self, points: Points, scale: float) -> Points:
        even, odd = float(np.mean((1 - self.slope) ** 2)), float(np.mean((1 + self.slope) ** 2))
        return points.rectified(even, odd)

    def _half(self, offset: Array, variance: Array, power: int) -> Array:
        """E[max(y, 0)^power]; for power 0 the probability of y > 0."""
        std = np.sqrt(variance)
        ratio = np.divide(offset, std, out=np.sign(offset + 0 * std) * 40.0, where=std > 0)
        above = special.ndtr(ratio)
        density = np.exp(-(ratio**2) / 2) / np.sqrt(2 * np.pi)
        if power == 0:
            return np.asarray(above)
        if power == 1:
            return np.asarray(offset * above + std * density)
        return np.asarray((offset**2 + variance) * above + offset * std * density)


class Integrated(Nonlinearity):
    """Quadrature for any function of one variable, in float64."""

    def __init__(self, function: quadrature.Nonlinearity) -> None:
        self.function = function

    def second_moment(self, offset: Array, variance: Array) -> Array:
        return self._expect(lambda y: self.function.function(y) ** 2, offset, variance)

    def mean(self, offset: Array, variance: Array) -> Array:
        return self._expect(self.function.function, offset, variance)

    def slope_second_moment(self, offset: Array, variance: Array) -> Array:
        return self._expect(lambda y: self.function.derivative(y) ** 2, offset, variance)

    def _expect(self, function: Callable[[Array], Array], offset: Array, variance: Array) -> Array:
        """One quadrature for each distinct (offset, variance): a map has few of them."""
        offset, variance = np.broadcast_arrays(offset, variance)
        pairs = np.stack([offset.reshape(-1), variance.reshape(-1)], axis=1)
        distinct, where = np.unique(pairs, axis=0, return_inverse=True)
        values = np.empty(len(distinct))
        for start in range(0, len(distinct), CHUNK):
            part = distinct[start : start + CHUNK]
            y, weights = piecewise_nodes(part[:, 0], np.sqrt(part[:, 1]), self.function.kinks)
            with np.errstate(over="ignore", invalid="ignore"):  # of exp: an expectation without bound
                values[start : start + CHUNK] = (function(y) * weights).sum(1)
        result: Array = values[where.reshape(-1)].reshape(offset.shape)
        return result


class Pointwise(nn.Sequential):
    """Activations in a row."""

    @property
    def is_rectifier(self) -> bool:
        """Whether all are rectifiers, and with that the row."""
        return all(isinstance(module, RECTIFIERS) for module in self)


def function_of(modules: Pointwise, dimensions: int) -> Nonlinearity:
    """The moments of ``modules``, acting on arrays of so many dimensions, channels first."""
    if modules.is_rectifier:
        return Rectifier(reduce(_composed, (slope_of(module, dimensions) for module in modules)))
    module = copy.deepcopy(modules).cpu().double().requires_grad_(False)
    for part in module:
        if hasattr(part, "inplace"):
            setattr(part, "inplace", False)  # noqa: B010 - autograd needs what it would overwrite
    return Integrated(quadrature.nonlinearity(module, kinks=kinks_of(list(module))))


def slope_of(module: nn.Module, dimensions: int) -> Array:
    """The negative slope of a rectifier; of a PReLU by channel, an array along the first axis."""
    if not isinstance(module, nn.PReLU):
        return np.asarray(float(getattr(module, "negative_slope", 0.0)))
    slopes: Array = module.weight.detach().cpu().double().numpy()
    return slopes.reshape((-1,) + (1,) * (dimensions - 1)) if slopes.size > 1 else slopes.reshape(())


def _composed(first: Array, second: Array) -> Array:
    return np.where(first >= 0, first * second, first)


def kinks_of(modules: Sequence[nn.Module]) -> tuple[float, ...]:
    """Where activations in a row bend: at kinks of the first, and where it meets those of the next.

    >>> kinks_of([nn.ReLU(), nn.Hardtanh()])
    (0.0, 1.0)
    """
    found: set[float] = set()
    for index, module in enumerate(modules):
        before = quadrature.nonlinearity(nn.Sequential(*modules[:index]).double())
        for kink in quadrature.kinks_of(module):
            found |= {kink} if not index else set(_where(before, kink))
    return tuple(sorted(found))


def _where(function: quadrature.Nonlinearity, value: float) -> list[float]:
    """The y at which ``function`` passes through ``value``."""

    def excess(y: Array | float) -> Array:
        return function.function(np.atleast_1d(np.asarray(y, dtype=np.float64))) - value

    side = np.sign(excess(SEARCHED))
    crossings = np.flatnonzero(side[:-1] * side[1:] < 0)
    roots = [
        brentq(lambda y: float(excess(y)[0]), float(SEARCHED[i]), float(SEARCHED[i + 1]), xtol=1e-14)
        for i in crossings
    ]
    touching = np.flatnonzero((side[1:-1] == 0) & (side[:-2] * side[2:] < 0)) + 1
    return [float(root) for root in (*roots, *SEARCHED[touching])]
