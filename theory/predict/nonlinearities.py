"""Moments of an activation under y ~ N(offset, variance): closed forms for rectifiers, else quadrature.

Batch norm shifts what it normalizes by β, and a network that holds its biases is shifted by them, so
that the half of the mass that a rectifier passes is no longer a half.  With s² the variance, m the
offset and r = m/s,

    P(y > 0) = Φ(r),   E[max(y, 0)] = m·Φ(r) + s·φ(r),   E[max(y, 0)²] = (m² + s²)·Φ(r) + m·s·φ(r),

and the negative half is the same with −m.  At m = 0: A₂·s² (He et al. 2015, Eq. 15).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special
from torch import nn

from theory.law.quadrature import gaussian_nodes
from theory.predict.points import Points

Array = NDArray[np.float64]
CHUNK = 2000  # rows of quadrature nodes held at once: 15 MB


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

    @classmethod
    def of(cls, module: nn.Module, dimensions: int) -> Rectifier:
        """The rectifier of a ReLU, LeakyReLU or PReLU that acts on arrays of so many dimensions."""
        if isinstance(module, nn.PReLU):
            slopes = module.weight.detach().cpu().to(torch.float64).numpy()
            return cls(
                slopes.reshape((-1,) + (1,) * (dimensions - 1)) if slopes.size > 1 else slopes[0]
            )
        return cls(np.asarray(getattr(module, "negative_slope", 0.0)))

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


class Smooth(Nonlinearity):
    """Quadrature for any activation module, evaluated in float64 by a copy of itself."""

    def __init__(self, module: nn.Module) -> None:
        self.module = copy.deepcopy(module).cpu().double()

    def second_moment(self, offset: Array, variance: Array) -> Array:
        return self._expect(lambda y: self._value(y) ** 2, offset, variance)

    def mean(self, offset: Array, variance: Array) -> Array:
        return self._expect(self._value, offset, variance)

    def slope_second_moment(self, offset: Array, variance: Array) -> Array:
        return self._expect(lambda y: self._slope(y) ** 2, offset, variance)

    def _expect(self, function: Callable[[Array], Array], offset: Array, variance: Array) -> Array:
        """One quadrature for each distinct (offset, variance): a map has few of them."""
        offset, variance = np.broadcast_arrays(offset, variance)
        pairs = np.stack([offset.reshape(-1), variance.reshape(-1)], axis=1)
        distinct, where = np.unique(pairs, axis=0, return_inverse=True)
        z, weights = gaussian_nodes()
        values = np.empty(len(distinct))
        for start in range(0, len(distinct), CHUNK):
            part = distinct[start : start + CHUNK]
            nodes = part[:, :1] + np.sqrt(part[:, 1:]) * z
            values[start : start + CHUNK] = function(nodes) @ weights
        result: Array = values[where.reshape(-1)].reshape(offset.shape)
        return result

    def _value(self, y: Array) -> Array:
        with torch.no_grad():
            values: Array = self.module(torch.from_numpy(y.copy())).numpy()
        return values

    def _slope(self, y: Array) -> Array:
        point = torch.from_numpy(y.copy()).requires_grad_()
        (slope,) = torch.autograd.grad(self.module(point + 0.0).sum(), point)
        slopes: Array = slope.numpy()
        return slopes
