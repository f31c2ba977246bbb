"""Many small networks as one: K plain networks of one depth, their weights side by side.

A layer of all K is one batched product, h ← φ(h)·W + b with h (K, B, n), W (K, n, n′), b (K, 1, n′).
The loss is the sum over networks of each one's mean, so the gradient in a network is its own, and SGD
acts on every number alone: a network computes what it computes by itself, to rounding, and one that
diverges takes no other along.

Networks of one seed have the same standard normal numbers behind their weights and biases, times their
own σ_w/√fan_in and σ_b, and see the same batches: what differs between them is σ_w² alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch

from empirical.data.catalog import image_set, load_dataset
from empirical.data.datasets import normalize
from empirical.engines.stacked import cell_losses
from theory.activations import Activation
from theory.randomness import generator

DATASET = "digits"


class Networks:
    """K plain networks of ``widths`` (n_0, …, n_L), each with its σ_w² and seed.

    A PReLU learns one slope per layer and network.
    """

    def __init__(
        self,
        phi: Activation,
        widths: Sequence[int],
        weight_variances: Sequence[float],
        bias_variance: float,
        seeds: Sequence[int],
        device: torch.device,
    ) -> None:
        self.phi, self.seeds, self.device = phi, tuple(seeds), device
        scales = torch.tensor(weight_variances, dtype=torch.float32)[:, None, None]
        draws = {seed: generator(seed, "frontier", "networks") for seed in dict.fromkeys(self.seeds)}

        def normals(*shape: int) -> torch.Tensor:
            drawn = {seed: torch.randn(shape, generator=stream) for seed, stream in draws.items()}
            return torch.stack([drawn[seed] for seed in self.seeds])

        def learned(value: torch.Tensor) -> torch.Tensor:
            return value.to(device).requires_grad_()

        self.weights, self.biases, self.slopes = [], [], []
        for fan_in, fan_out in pairwise(widths):
            self.weights.append(learned(normals(fan_in, fan_out) * (scales / fan_in).sqrt()))
            self.biases.append(learned(normals(1, fan_out) * math.sqrt(bias_variance)))
            if phi.kind == "prelu":
                self.slopes.append(learned(torch.full_like(scales, phi.gain_slope)))
        self.module = phi.module()

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """(K, B, n_L) of inputs (K, B, n_0)."""
        h = torch.baddbmm(self.biases[0], inputs, self.weights[0])
        for layer in range(1, len(self.weights)):
            if self.slopes:
                h = torch.where(h > 0, h, self.slopes[layer - 1] * h)
            else:
                h = self.module(h)
            h = torch.baddbmm(self.biases[layer], h, self.weights[layer])
        return h

    def train(
        self, images: torch.Tensor, labels: torch.Tensor, steps: int, batch: int, learning_rate: float
    ) -> None:
        """``steps`` steps of SGD on images (N, n_0); batches are drawn with replacement, by seed."""
        slopes = self.slopes[: len(self.weights) - 1]  # none after the last layer
        optimizer = torch.optim.SGD([*self.weights, *self.biases, *slopes], learning_rate)
        draws = {seed: generator(seed, "frontier", "batches") for seed in dict.fromkeys(self.seeds)}
        for _ in range(steps):
            drawn = {
                seed: torch.randint(len(images), (batch,), generator=stream)
                for seed, stream in draws.items()
            }
            index = torch.stack([drawn[seed] for seed in self.seeds]).to(self.device)
            optimizer.zero_grad()
            losses = cell_losses(self.logits(images[index]), labels[index].T)
            losses.sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    @torch.no_grad()
    def measured(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[list[float], list[float]]:
        """Accuracy (percent) and mean loss of each network on images (N, n_0).

        A network whose logits are no numbers has loss inf, and answers nothing right.
        """
        everyone = (len(self.seeds), -1, -1)
        logits = self.logits(images.expand(*everyone))
        losses = cell_losses(logits, labels.expand(len(self.seeds), -1).T)
        right = (logits.argmax(2) == labels) & logits.isfinite().all(2)
        losses = losses.nan_to_num(nan=math.inf, posinf=math.inf)
        return (100 * right.sum(1).double() / len(labels)).tolist(), losses.tolist()


def digits(device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Training images (1437, 64) and labels, test images (360, 64) and labels; normalized, float32."""
    row, data = image_set(DATASET), load_dataset(DATASET, None, device)
    train, test = (
        normalize(images, row.mean, row.std).flatten(1)
        for images in (data.train_images, data.test_images)
    )
    return train, data.train_labels, test, data.test_labels
