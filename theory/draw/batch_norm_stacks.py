"""A dense stack with batch norm as real modules, and its gradients at any depth.

The forward signal has unit scale by itself.  Backward it grows by about 1.467 per layer (ReLU), so
the chain is cut at every layer, and the cotangent is rescaled before it goes on.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from theory.activations import Activation
from theory.initializers import Initializer

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
            linear: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
                nn.Linear, width, width, bias=False, device=generator.device
            )
            unit.draw_(linear.weight, generator)
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
        log_factor = torch.zeros((), dtype=torch.float64)
        factors = []
        while self.links:
            signal, output = self.links.pop()
            factors.append(log_factor)
            (gradient,) = torch.autograd.grad(output, signal, cotangent)
            rms = gradient.square().mean(dtype=torch.float64).sqrt().cpu()
            log_factor = log_factor + rms.log()
            cotangent = gradient / rms.float().to(gradient.device)
        return torch.stack(factors[::-1])
