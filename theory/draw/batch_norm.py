"""Dense stacks with batch norm as real modules, their gradients at any depth, and how these grow.

The forward signal has unit scale by itself.  Backward it grows by about 1.467 per layer (ReLU), so
the chain is cut at every layer, and the cotangent is rescaled before it goes on.  Batch norm makes
laws of one shape the same function: they share everything but the scale of their weights.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from theory.activations import Activation
from theory.draw.ensemble import Block, Curve, Group, Simulation
from theory.draw.stacks import build_stack, walked_back
from theory.initializers import Initializer
from theory.law.batch_norm import expected_log_second_moments, gradient_growth
from theory.probe import Probe
from theory.randomness import generator
from theory.specs import BatchNormSpec

Array = NDArray[np.float64]
GROWTH_COLUMNS = {
    "initializer": "the weight law, as named on the command line",
    "activation": "the activation, as named on the command line",
    "negative_slope": "its slope for negative inputs; NaN for a smooth activation",
    "width": "units per layer",
    "batch": "B",
    "measured": "growth of the gradient's mean square per layer, geometric mean from layer L to 2",
    "standard_error": "of measured, from the scatter between draws",
    "theory": "λ_B: infinite width, this batch; NaN for a smooth activation",
    "infinite_batch": "λ for an infinite batch",
    "after_norm": "mean of z² over draws, layers, units and inputs: 1",
}

# torch wants ε above 0; beside a variance of about n this one is nothing.
EPSILON = 1e-30


class NormStack(nn.Module):
    """L × (Linear, BatchNorm1d, activation) of n units, weights of variance 1 and the law's shape.

    The activation stands between layers, not after the last one.  BatchNorm1d has neither an affine
    map (it is 1 and 0 at initialization) nor an ε to speak of: the scale of the weights is free, so the
    variance 1 stands for every initializer of the shape.  The probe reads ``linears`` and ``norms``.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        law: Initializer,
        activation: Activation,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        unit = dataclasses.replace(law, fixed_std=1.0)
        self.linears = nn.ModuleList()
        for _ in range(depth):
            (linear,) = build_stack((width, width), unit, activation, generator)
            self.linears.append(linear.requires_grad_(False))
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(width, eps=EPSILON, affine=False, track_running_stats=False)
            for _ in range(depth)
        )
        self.activation = activation.module().to(generator.device).requires_grad_(False)
        self.links: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map (B, n) to z_L (B, n); where gradients are enabled, keep what ``backward`` walks."""
        signal, self.links = inputs, []
        for layer, (linear, norm) in enumerate(zip(self.linears, self.norms, strict=True)):
            signal = signal.detach().requires_grad_(torch.is_grad_enabled())
            normed: torch.Tensor = norm(linear(signal))
            following = self.activation(normed) if layer + 1 < len(self.linears) else normed
            if torch.is_grad_enabled():
                self.links.append((signal, following))
            signal = following
        return signal

    def backward(self, generator: torch.Generator) -> torch.Tensor:
        """Send a cotangent of independent N(0, 1) entries from z_L down; the probe reads ∂E/∂y_l.

        Returns ln of the factor from what it reads to the true gradient, (L,), float64.
        """
        output = self.links[-1][1]
        cotangent = torch.randn(output.shape, generator=generator, device=output.device)
        return walked_back(
            self.links,
            cotangent,
            lambda gradient: gradient.square().mean(dtype=torch.float64).sqrt().cpu(),
            lambda gradient, rms: gradient / rms.float().to(gradient.device),
        )


class NormSimulation(Simulation[BatchNormSpec]):
    """Networks of ``BatchNormSpec``, one at a time."""

    purpose = ("batch norm",)

    def __init__(self, spec: BatchNormSpec, group: Group) -> None:
        super().__init__(spec, group)
        streams = group.streams
        self.expected = [expected_log_second_moments(spec, one.activation, 1.0) for one in streams]
        self.kept: list[Block] = []

    @property
    def block_size(self) -> int:
        """One network per block."""
        return 1

    def inputs(self) -> torch.Tensor:
        """A batch (B, n) of random directions."""
        shape = self.spec.batch, self.spec.width
        noise = torch.randn(shape, dtype=torch.float64, generator=generator(self.spec.seed, "inputs"))
        return noise / noise.square().mean(1, keepdim=True).sqrt()

    def run(self, block: int, draws: int) -> Block:
        """What one network gave under each activation; ``extra`` is its mean of z², (streams,)."""
        forward, backward, after = zip(
            *(self.run_draw(stream.activation, block) for stream in self.group.streams), strict=True
        )
        log_q = {"forward": np.array(forward).T[None, :, :, None]}
        if "backward" in self.spec.directions:
            log_q["backward"] = np.array(backward).T[None, :, :, None]
        surprise = np.expm1(np.array(forward) - self.expected).T[None]
        for number, stream in enumerate(self.group.streams):
            if not stream.activation.is_rectifier:  # no exact expectation
                surprise[:, :, number] = np.nan
        result = Block(log_q, surprise={"forward": surprise}, extra=np.array(after))
        self.kept.append(result)
        return result

    def run_draw(self, activation: Activation, draw: int) -> tuple[Array, Array, float]:
        """ln of the second moments of y_l and ∂E/∂y_l of network ``draw``, (L,) each; mean of z²."""
        spec, depth = self.spec, self.spec.depth
        backward = "backward" in spec.directions
        weights = self.stream("weights", draw)
        stack = NormStack(depth, spec.width, self.group.law, activation, weights)
        linears = [f"linears.{layer}" for layer in range(depth)]
        norms = [f"norms.{layer}" for layer in range(depth)]
        log_scale = torch.zeros(depth, dtype=torch.float64)
        with (
            torch.set_grad_enabled(backward),
            Probe(stack, linears + norms, backward=backward) as probe,
        ):
            stack(self.x)
            if backward:
                log_scale = stack.backward(self.stream("cotangents", draw))
        before = [one for one in probe.readings if one.module.startswith("linears")]
        after = [one for one in probe.readings if one.module.startswith("norms")]
        forward = [float(one.forward["second_moment"]) for one in before]
        gradients = [
            float(one.backward["second_moment"]) if one.backward else math.nan for one in before
        ]
        log_input = np.zeros(depth)
        log_input[0] = math.log(spec.input_second_moment)
        return (
            np.log(forward) + log_input,
            np.log(gradients) + 2 * log_scale.numpy() - log_input,
            float(np.mean([float(one.forward["second_moment"]) for one in after])),
        )

    def growth(self) -> dict[int, pd.DataFrame]:
        """Growth of the gradient per layer, a row per curve by its index; see ``GROWTH_COLUMNS``.

        Nothing when only the forward direction is asked for, or below three layers.
        """
        if "backward" not in self.spec.directions or self.spec.depth < 3:
            return {}
        rows = {curve.index: _growth(self.spec, curve, self.kept) for curve in self.group.curves}
        return {index: pd.DataFrame([row], columns=list(GROWTH_COLUMNS)) for index, row in rows.items()}


def _growth(spec: BatchNormSpec, curve: Curve, blocks: Sequence[Block]) -> dict[str, Any]:
    """From layer L to 2, the first layer's input being another one."""
    steps, activation = spec.depth - 2, curve.activation
    backward = np.concatenate([block.log_q["backward"][:, :, curve.stream, 0] for block in blocks])
    ends = backward[:, [1, -1]]
    size = np.exp(ends - ends.max(0))
    relative = size / size.mean(0)
    log_growth = np.diff(np.log(size.mean(0)) + ends.max(0))[0] / -steps
    error = (relative[:, 0] - relative[:, 1]).std(ddof=1) / math.sqrt(spec.draws) / steps
    slope = activation.negative_slope
    return {
        "initializer": curve.initializer.name,
        "activation": activation.name,
        "negative_slope": math.nan if slope is None else slope,
        "width": spec.width,
        "batch": spec.batch,
        "measured": math.exp(log_growth),
        "standard_error": math.exp(log_growth) * error,
        "theory": math.nan if slope is None else gradient_growth(activation, spec.batch),
        "infinite_batch": gradient_growth(activation),
        "after_norm": float(np.mean([block.extra[curve.stream] for block in blocks])),
    }
