"""Correlations between the points of a batch, layer after layer, in the limit of wide layers.

A *point* is one input of a dense network, or one pixel of one image of a convolutional one.  For a
sample of points the matrix K of their covariances E[x_i·x_j] follows the maps of a wide network
(Poole et al. 2016, Eq. 5; for rectifiers the arc-cosine kernel of Cho & Saul 2009), starting from the
inputs themselves: of the first layer the covariances are those of its patches, exactly.  What batch
norm needs can be read from it:

    E[μ²]/q = mean of K over pairs, μ the mean of a channel over the batch,
    σ² of one channel = Σ_k λ_k χ²_1 for Gaussian weights, λ_k the eigenvalues of the centered K/n: so

    E[1/σ²] = ∫_0^∞ Π_k (1 + 2 t λ_k)^{−1/2} dt  ≥  1/E[σ²].

Images have few strong components, so σ² differs much from channel to channel, and the mean of its
inverse is well above the inverse of its mean.

A later convolution averages K over its taps.  That needs the neighbors of each pair; here the pair
stands for them, which is good where neighbors are alike and too wide a spread where they are not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from theory.activations import arc_cosine
from theory.randomness import generator

Array = NDArray[np.float64]
SAMPLE = 256  # points; the error of a mean over their pairs is about that of as many values


@dataclass(frozen=True)
class Points:
    """Covariances of sampled points, of mean diagonal 1; before the first layer, the batch itself.

    ``places`` (points, 3): image, row and column of each point of a convolutional network.
    """

    covariance: Array | None
    batch: torch.Tensor | None = None
    places: NDArray[np.int64] | None = None

    @classmethod
    def of_batch(cls, batch: torch.Tensor) -> Points:
        """The points of a batch (B, F) or (B, C, H, W); which of them, the first layer decides."""
        return cls(None, batch.detach().cpu().to(torch.float64))

    @property
    def known(self) -> Array:
        """The covariances; of a batch that no layer has seen yet, between whole inputs."""
        if self.covariance is not None:
            return self.covariance
        assert self.batch is not None
        return _gram(self.batch[_sample(len(self.batch))].flatten(1))

    def linear(self, bias_share: float) -> Points:
        """After a linear layer, of whose second moment the bias contributes ``bias_share``."""
        return Points((1 - bias_share) * self.known + bias_share, places=self.places)

    def thinned(self, before: tuple[int, ...], after: tuple[int, ...]) -> Points:
        """After a map of ``before`` pixels has shrunk to ``after``: one point for each pixel left."""
        if self.places is None or self.covariance is None or before == after:
            return self
        places = self.places.copy()
        for axis in (0, 1):
            places[:, axis + 1] = places[:, axis + 1] * after[axis] // before[axis]
        _, kept = np.unique(places, axis=0, return_index=True)
        return replace(_normalized(self.covariance[np.ix_(kept, kept)]), places=places[kept])

    def convolution(self, module: nn.Conv2d, bias_share: float, border: float) -> Points:
        """After a convolution; ``border`` is what pairs lose to zero padding more than points do."""
        if self.batch is not None:
            patches, places = _patches(module, self.batch)
            return Points((1 - bias_share) * _gram(patches) + bias_share, places=places)
        covariance = self.known * border
        np.fill_diagonal(covariance, np.diag(self.known))
        return replace(self, covariance=(1 - bias_share) * covariance + bias_share)

    def rectified(self, even: float, odd: float) -> Points:
        """After a rectifier with the means (1 − a)² = ``even`` and (1 + a)² = ``odd`` over channels."""
        std = np.sqrt(np.diag(self.known))
        scale = np.outer(std, std)
        c = np.clip(self.known / np.where(scale > 0, scale, 1.0), -1.0, 1.0)
        return replace(_normalized(scale * (odd * c + even * arc_cosine(c))), places=self.places)

    def activated(self, product: Callable[[Array], Array]) -> Points:
        """After any activation; ``product`` maps correlations (n,) to E[φ(y)·φ(y')]."""
        std = np.sqrt(np.diag(self.known))
        scale = np.outer(std, std)
        grid = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 65))
        c = np.clip(self.known / np.where(scale > 0, scale, 1.0), -1.0, 1.0)
        return replace(_normalized(np.interp(c, grid, product(grid))), places=self.places)

    def centered(self) -> Points:
        """After batch norm: the mean over the batch is gone."""
        known = self.known
        across = known.mean(0)
        centered = known - across - across[:, None] + known.mean()
        return replace(_normalized(centered), places=self.places)

    def mean(self, count: int) -> float:
        """E[μ²]/q for a channel of ``count`` values: pairs of one point with itself count 1/count."""
        known, size = self.known, len(self.known)
        if size < 2:
            return 1.0
        others = (known.sum() - np.trace(known)) / (size * (size - 1))
        return float(others + (1 - others) / count)

    def inverse_variance(self) -> float:
        """E[1/σ²]·E[σ²] for the variance σ² of one channel over the batch; at least 1."""
        centered = self.centered().known
        shares = np.linalg.eigvalsh(centered).clip(0.0)
        if np.count_nonzero(shares > 1e-9 * shares.max()) <= 2:
            return 1.0  # the expectation is infinite, or there is nothing: no better number is known
        shares /= shares.sum()
        # in ln t the integrand is analytic within |Im| < π: a step h leaves e^{−2π²/h} of the integral
        u = np.arange(-30.0, 45.0, 0.25)
        logs = -0.5 * np.log1p(2 * np.exp(u)[:, None] * shares).sum(1)
        return float(np.trapezoid(np.exp(u + logs), u))


def _normalized(covariance: Array) -> Points:
    diagonal = np.trace(covariance) / len(covariance)
    return Points(covariance / (diagonal if diagonal > 0 else 1.0))


def _gram(values: torch.Tensor) -> Array:
    gram: Array = (values @ values.T).numpy()
    diagonal = np.trace(gram) / len(gram)
    return gram / (diagonal if diagonal > 0 else 1.0)


def _sample(count: int, most: int = SAMPLE) -> torch.Tensor:
    if count <= most:
        return torch.arange(count)
    return torch.randperm(count, generator=generator(0, "points", count))[:most]


def _patches(module: nn.Conv2d, batch: torch.Tensor) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """What a sample of output pixels sees, (points, fan_in), and their places (points, 3)."""
    padding: Any = module._reversed_padding_repeated_twice
    mode = {"zeros": "constant"}.get(module.padding_mode, module.padding_mode)
    padded = nn.functional.pad(batch[_sample(len(batch))], padding, mode=mode)
    for axis, (kernel, dilation, stride) in enumerate(
        zip(module.kernel_size, module.dilation, module.stride, strict=True), 2
    ):
        padded = padded.unfold(axis, dilation * (kernel - 1) + 1, stride)[..., ::dilation]
    images, _, rows, columns = padded.shape[:4]  # (B, C, H', W', height, width)
    places = torch.unravel_index(_sample(images * rows * columns), (images, rows, columns))
    image, row, column = places
    return padded[image, :, row, column].flatten(1), torch.stack(places, 1).numpy()
