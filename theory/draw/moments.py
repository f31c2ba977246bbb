"""Streaming statistics of logarithms, for samples too many or too large to keep."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass
class LogMoments:
    """Streaming statistics of ln q_l over draws and inputs, every array of shape (L,).

    Chan, Golub & LeVeque's merge (1983) for mean and variance; ln Σ q by log-sum-exp.  ``between``
    holds the same for each draw's mean over its inputs: draws are independent, inputs are not.
    """

    depth: int
    total: int = 0
    log_sum: Array = field(init=False)
    pooled: list[Array] = field(init=False)
    between: list[Array] = field(init=False)

    def __post_init__(self) -> None:
        self.log_sum = np.full(self.depth, -np.inf)
        self.pooled = [np.zeros(self.depth) for _ in range(3)]
        self.between = [np.zeros(self.depth) for _ in range(3)]

    def add(self, log_q: Array) -> None:
        """Take in ``log_q`` of shape (draws, L, batch)."""
        draws, _, batch = log_q.shape
        self.total += draws * batch
        by_layer = log_q.transpose(1, 0, 2).reshape(self.depth, -1)
        self.log_sum = np.logaddexp(self.log_sum, np.logaddexp.reduce(by_layer, axis=1))
        _merge(self.pooled, by_layer)
        if batch > 1:
            alive = np.isfinite(log_q)
            count = np.maximum(alive.sum(2), 1)
            mean = np.where(alive, log_q, 0.0).sum(2) / count
            _merge(self.between, np.where(alive.any(2), mean, -np.inf).T)

    @property
    def log_of_mean(self) -> Array:
        """ln of the mean of q, dead networks included."""
        return self.log_sum - math.log(self.total)

    @property
    def mean(self) -> Array:
        """Mean of ln q over the living."""
        return np.where(self.pooled[0] > 0, self.pooled[1], np.nan)

    @property
    def variance(self) -> Array:
        """Unbiased variance of ln q over the living."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.pooled[0] > 1, self.pooled[2] / (self.pooled[0] - 1), np.nan)

    @property
    def dead_fraction(self) -> Array:
        """Fraction of (draw, input) pairs whose signal is exactly zero."""
        return 1 - self.pooled[0] / self.total

    def mean_variance(self, one: Array) -> Array:
        """Variance of ``mean``: ``one``/draws for one input, else from the scatter between draws."""
        count, _, scatter = self.between
        with np.errstate(invalid="ignore", divide="ignore"):
            if not count.any():
                return one / self.pooled[0]
            return scatter / (count - 1) / count


def _merge(state: list[Array], values: Array) -> None:
    """Fold ``values`` (L, samples) into ``state`` = [count, mean, sum of squares]; skips −∞."""
    alive = np.isfinite(values)
    count = alive.sum(1).astype(np.float64)
    safe = np.maximum(count, 1)
    mean = np.where(alive, values, 0.0).sum(1) / safe
    scatter = np.where(alive, (values - mean[:, None]) ** 2, 0.0).sum(1)
    total = np.maximum(state[0] + count, 1)
    delta = mean - state[1]
    state[2] += scatter + delta**2 * state[0] * count / total
    state[1] += delta * count / total
    state[0] += count
