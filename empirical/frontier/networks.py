"""Many small networks as one: K networks of one kind and depth, their weights side by side.

A layer of all K is one batched product, h ← φ(h)·W + b with h (K, B, n), W (K, n, n′), b (K, 1, n′).
The loss is the sum over networks of each one's mean, so the gradient in a network is its own, and SGD
acts on every number alone: a network computes what it computes by itself, to rounding, and one that
diverges takes no other along.

    plain     weight layers one after another, φ between them
    residual  the same layers, all but the first and the last in branches: x ← x + φ(x)·W + b, the
              pre-activation of He et al. (2016) with one weight layer
    rnn       h ← φ(h·W + x_t·U + b), answered from the last h: three weights, however many steps

Networks of one seed have the same standard normal numbers behind their weights and biases, times their
own σ_w/√fan_in and σ_b, and see the same batches: what differs between them is σ_w² alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch

from empirical.data.catalog import Sequences, data_set, image_set, load_dataset
from empirical.data.datasets import normalize
from empirical.data.sequences import copied
from empirical.engines.stacked import cell_losses
from theory.activations import Activation
from theory.randomness import generator

TASKS = {"plain": "digits", "residual": "digits", "rnn": "copy"}
Data = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


class Networks:
    """K plain networks of ``widths`` (n_0, …, n_L), each with its σ_w² and seed.

    A PReLU learns one slope per layer and network.
    """

    @staticmethod
    def widths(depth: int, inputs: int, width: int, classes: int) -> list[int]:
        """(n_0, …, n_L) of networks of ``depth`` with hidden layers of ``width``."""
        return [inputs, *[width] * (depth - 1), classes]

    def __init__(
        self,
        phi: Activation,
        widths: Sequence[int],
        weight_variances: Sequence[float],
        bias_variance: float,
        seeds: Sequence[int],
        device: torch.device,
        branch_scale: str = "none",
    ) -> None:
        self.phi, self.seeds, self.device = phi, tuple(seeds), device
        self.bias_variance, self.branch_scale = bias_variance, branch_scale
        scales = torch.tensor(weight_variances, dtype=torch.float32)[:, None, None]
        draws = {seed: generator(seed, "frontier", "networks") for seed in dict.fromkeys(self.seeds)}

        def normals(*shape: int) -> torch.Tensor:
            drawn = {seed: torch.randn(shape, generator=stream) for seed, stream in draws.items()}
            return torch.stack([drawn[seed] for seed in self.seeds])

        def learned(value: torch.Tensor) -> torch.Tensor:
            return value.to(device).requires_grad_()

        self.weights, self.biases, self.slopes = [], [], []
        for layer, (fan_in, fan_out) in enumerate(pairwise(widths)):
            variances = self._variances(scales, layer, len(widths) - 1)
            self.weights.append(learned(normals(fan_in, fan_out) * (variances / fan_in).sqrt()))
            self.biases.append(learned(normals(1, fan_out) * math.sqrt(self._first_biases())))
            if phi.kind == "prelu":
                self.slopes.append(learned(torch.full_like(scales, phi.gain_slope)))
        self.module = phi.module()

    def _variances(self, scales: torch.Tensor, layer: int, layers: int) -> torch.Tensor:
        """fan_in·Var[w] of a layer, from each network's σ_w² (K, 1, 1)."""
        return scales

    def _first_biases(self) -> float:
        """Their variance."""
        return self.bias_variance

    def _active(self, h: torch.Tensor, layer: int) -> torch.Tensor:
        """φ of what ``layer`` gave."""
        if self.slopes:
            return torch.where(h > 0, h, self.slopes[layer] * h)
        made: torch.Tensor = self.module(h)
        return made

    def _layer(self, h: torch.Tensor, layer: int) -> torch.Tensor:
        return torch.baddbmm(self.biases[layer], h, self.weights[layer])

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """(K, B, n_L) of inputs (K, B, n_0)."""
        h = self._layer(inputs, 0)
        for layer in range(1, len(self.weights)):
            h = self._layer(self._active(h, layer - 1), layer)
        return h

    def train(
        self, images: torch.Tensor, labels: torch.Tensor, steps: int, batch: int, learning_rate: float
    ) -> None:
        """``steps`` steps of SGD on inputs (N, …); batches are drawn with replacement, by seed."""
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
        """Accuracy (percent) and mean loss of each network on inputs (N, …).

        A network whose logits are no numbers has loss inf, and answers nothing right.
        """
        logits = self.logits(images.expand(len(self.seeds), *images.shape))
        losses = cell_losses(logits, labels.expand(len(self.seeds), -1).T)
        right = (logits.argmax(2) == labels) & logits.isfinite().all(2)
        losses = losses.nan_to_num(nan=math.inf, posinf=math.inf)
        return (100 * right.sum(1).double() / len(labels)).tolist(), losses.tolist()


class Residual(Networks):
    """K residual networks of ``widths``: L weight layers, L − 2 of them branches.

    ``branch_scale`` depth: the weight of a branch is drawn 1/√branches times as large
    (``empirical.architectures.BRANCH_SCALES``).
    """

    def _variances(self, scales: torch.Tensor, layer: int, layers: int) -> torch.Tensor:
        scaled = self.branch_scale == "depth" and 0 < layer < layers - 1
        return scales / (layers - 2) if scaled else scales

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """(K, B, n_L) of inputs (K, B, n_0)."""
        h, last = self._layer(inputs, 0), len(self.weights) - 1
        for layer in range(1, last):
            h = h + self._layer(self._active(h, layer - 1), layer)
        return self._layer(self._active(h, last - 1), last) if last else h


class Recurrent(Networks):
    """K recurrent networks of ``widths`` (inputs, n, n, classes): U, W and what answers.

    σ_w² is that of W, ``bias_variance`` what U makes of an input of second moment 1; the answer's
    weights have 1, biases are 0 at first, and h is 0 before the first step.
    """

    @staticmethod
    def widths(depth: int, inputs: int, width: int, classes: int) -> list[int]:
        """The same whatever the ``depth``, which is the number of steps."""
        return [inputs, width, width, classes]

    def _variances(self, scales: torch.Tensor, layer: int, layers: int) -> torch.Tensor:
        return (torch.full_like(scales, self.bias_variance), scales, torch.ones_like(scales))[layer]

    def _first_biases(self) -> float:
        return 0.0

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """(K, B, classes) of sequences (K, B, T, inputs)."""
        first, *later = inputs.unbind(2)
        h = self._active(self._layer(first, 0), 0)
        for given in later:
            h = self._active(torch.baddbmm(self._layer(given, 0), h, self.weights[1]), 0)
        return self._layer(h, 2)


KINDS: dict[str, type[Networks]] = {"plain": Networks, "residual": Residual, "rnn": Recurrent}


def data_of(network: str, depth: int, device: torch.device) -> Data:
    """Inputs and labels of the task of a kind of network, to train on and to test."""
    return remembered(depth, device) if network == "rnn" else digits(device)


def remembered(steps: int, device: torch.device) -> Data:
    """``copy`` with one symbol of eight: to be said ``steps`` steps after it was read, blanks between.

    Training sequences (2000, steps + 1, 9) and symbols, test sequences (500, …) and symbols.
    """
    row, data = data_set(TASKS["rnn"]), load_dataset(TASKS["rnn"], None, device)
    assert isinstance(row, Sequences)
    (train, told), (test, asked) = (
        copied(symbols[:, :1], steps, row) for symbols in (data.train_images, data.test_images)
    )
    return train, told[:, 0], test, asked[:, 0]


def digits(device: torch.device) -> Data:
    """Training images (1437, 64) and labels, test images (360, 64) and labels; normalized, float32."""
    row, data = image_set(TASKS["plain"]), load_dataset(TASKS["plain"], None, device)
    train, test = (
        normalize(images, row.mean, row.std).flatten(1)
        for images in (data.train_images, data.test_images)
    )
    return train, data.train_labels, test, data.test_labels
