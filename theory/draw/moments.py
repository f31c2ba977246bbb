"""Streaming statistics, for samples too many or too large to keep."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Moments:
    """Streaming mean and variance along the last axis, by Chan, Golub & LeVeque's merge (1983).

    What is not finite is left out: the logarithm of a network whose signal is exactly zero.
    ``count``, ``mean`` and the others have the shape of what is added, less its last axis.
    """

    def __init__(self) -> None:
        self.count: Any = 0.0
        self._mean: Any = 0.0
        self._scatter: Any = 0.0  # sum of squared deviations from the mean

    def add(self, values: Array) -> None:
        """Take in ``values`` of shape (…, samples)."""
        alive = np.isfinite(values)
        count = alive.sum(-1).astype(np.float64)
        mean = np.where(alive, values, 0.0).sum(-1) / np.maximum(count, 1)
        scatter = np.where(alive, (values - mean[..., None]) ** 2, 0.0).sum(-1)
        total = np.maximum(self.count + count, 1)
        delta = mean - self._mean
        self._scatter = self._scatter + (scatter + delta**2 * self.count * count / total)
        self._mean = self._mean + delta * count / total
        self.count = self.count + count

    @property
    def mean(self) -> Array:
        """The mean; NaN of nothing."""
        return np.where(self.count > 0, self._mean, np.nan)

    @property
    def variance(self) -> Array:
        """The unbiased variance; NaN below two samples."""
        return np.where(self.count > 1, self._scatter / np.maximum(self.count - 1, 1), np.nan)

    @property
    def std(self) -> Array:
        """Standard deviation of one sample; NaN below two."""
        std: Array = np.sqrt(self.variance)
        return std

    @property
    def error(self) -> Array:
        """Standard error of ``mean``, from the scatter of the samples; NaN below two."""
        error: Array = self.std / np.sqrt(np.maximum(self.count, 1))
        return error


class LogMoments:
    """Streaming statistics of ln q_l over draws and inputs, every array of shape (L,).

    ``pooled`` holds every pair of draw and input, ``between`` each draw's mean over its inputs: draws
    are independent, inputs are not.
    """

    def __init__(self, depth: int) -> None:
        self.log_sum = np.full(depth, -np.inf)
        self.total = 0
        self.pooled, self.between = Moments(), Moments()

    def add(self, log_q: Array) -> None:
        """Take in ``log_q`` of shape (draws, L, batch); −∞ for a dead network."""
        draws, depth, batch = log_q.shape
        self.total += draws * batch
        by_layer = log_q.transpose(1, 0, 2).reshape(depth, -1)
        self.log_sum = np.logaddexp(self.log_sum, np.logaddexp.reduce(by_layer, axis=1))
        self.pooled.add(by_layer)
        alive = np.isfinite(log_q)
        mean = np.where(alive, log_q, 0.0).sum(2) / np.maximum(alive.sum(2), 1)
        self.between.add(np.where(alive.any(2), mean, np.nan).T)

    @property
    def log_of_mean(self) -> Array:
        """ln of the mean of q, dead networks included."""
        return self.log_sum - math.log(self.total)

    @property
    def dead_fraction(self) -> Array:
        """Fraction of (draw, input) pairs whose signal is exactly zero."""
        fraction: Array = 1 - self.pooled.count / self.total
        return fraction
