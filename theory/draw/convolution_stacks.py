"""Many convolutional networks side by side, as one stack of grouped ``nn.Conv2d``.

D independent networks of C channels are one network of D·C channels whose convolutions have D
groups: a group never sees another.  Each layer draws its weights when it is called and forgets
them, and between layers the signal of every (image, network) is rescaled to unit power, so that a
thousand layers of N(0, 1) weights overflow nothing; with x = e^λ·x̂ the algebra is that of
``theory.draw.stacks``.  Backward the same holds for gradients: the chain is cut at every layer, and the
cotangent is rescaled before it goes on.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import nn

from theory.draw.stacks import LOG_SCALE_LIMIT, Stream, unit_bias, walked_back
from theory.initializers import Initializer
from theory.specs import ConvSpec


class RedrawnConv(nn.Conv2d):
    """``draws`` independent convolutions of unit-variance weights, redrawn at every call.

    Maps (N, draws·C, H, W) to (N, draws·C, H', W'), one group per draw.
    """

    def __init__(self, spec: ConvSpec, draws: int, law: Initializer) -> None:
        channels = draws * spec.channels
        super().__init__(
            channels,
            channels,
            spec.kernel_size,
            padding=spec.pad,
            padding_mode=spec.padding_mode,
            groups=draws,
            bias=False,
            device="meta",  # a shape alone: the weights live as long as a call
        )
        self.law = dataclasses.replace(law, fixed_std=1.0)

    def draw(self, generator: torch.Generator) -> torch.Tensor:
        """Weights (draws·C, C, k, k), float32, of mean 0 and variance 1."""
        weight = torch.empty(self.weight.shape, device=generator.device)
        return self.law.draw_(weight, generator, groups=self.groups)  # a group is a network

    def forward(  # type: ignore[override]
        self, signal: torch.Tensor, generator: torch.Generator, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """W̃ * x̂, plus ``bias`` (N, draws·C), which depends on each image's scale."""
        output: torch.Tensor = self._conv_forward(signal, self.draw(generator), None)
        return output if bias is None else output + bias[:, :, None, None]


class ConvEnsemble(nn.Module):
    """``draws`` networks of ``spec``, through which the images of several streams run side by side.

    All streams of a draw see the same weights.  ``layers[i]`` is what the probe reads: its output is
    ŷ (streams·batch, draws·C, H, W), whose true scale ``forward`` returns.
    """

    def __init__(
        self,
        spec: ConvSpec,
        draws: int,
        law: Initializer,
        streams: Sequence[Stream],
        device: torch.device,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(RedrawnConv(spec, draws, law) for _ in range(spec.depth))
        self.activations = nn.ModuleList(stream.activation.module().to(device) for stream in streams)
        self.spec, self.draws, self.streams = spec, draws, tuple(streams)
        self.links: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(
        self, images: torch.Tensor, weights: torch.Generator, biases: torch.Generator
    ) -> torch.Tensor:
        """Run ``images`` (batch, C, H, W), of power 1, through every network.

        Returns ln of the true scale of every layer's ŷ, shape (L, streams·batch, draws), float64.
        Where gradients are enabled, keeps the links that ``backward`` walks.
        """
        signal = images.repeat(len(self.streams), self.draws, 1, 1)
        start = 0.5 * math.log(self.spec.input_second_moment)
        log_scale = torch.full((len(signal), self.draws), start, dtype=torch.float64)
        log_scale = log_scale.to(images.device)
        std = torch.tensor([stream.weight_std[0] for stream in self.streams], dtype=torch.float64)
        log_std = std.log().repeat_interleave(len(images)).to(images.device)[:, None]
        scales, self.links = [], []
        for layer in self.layers:
            log_scale = log_scale + log_std
            signal = signal.detach().requires_grad_(torch.is_grad_enabled())
            output: torch.Tensor = layer(signal, weights, self._bias(log_scale, biases))
            scales.append(log_scale)
            following = output
            if len(scales) < len(self.layers):
                following, log_scale = self._activate(output, log_scale)
            if torch.is_grad_enabled():
                self.links.append((signal, following))
            signal = following
        return torch.stack(scales)

    def backward(self, generator: torch.Generator, scales: torch.Tensor) -> torch.Tensor:
        """Send a cotangent of independent N(0, 1) entries from y_L down; the probe reads ∂E/∂ŷ_l.

        Returns ln of the factor from the gradient read at ŷ_l to the true ∂E/∂y_l, shape
        (L, streams·batch, draws).  ``scales`` is what ``forward`` returned.
        """
        _, output = self.links[-1]
        batch = len(output) // len(self.streams)
        cotangent = torch.randn(
            (batch, *output.shape[1:]), generator=generator, device=output.device
        ).repeat(len(self.streams), 1, 1, 1)
        # y_L = e^{λ_L}·ŷ_L and y_l = e^{λ_l}·ŷ_l: the chain rule multiplies by e^{λ_L − λ_l}
        divided = lambda gradient, rms: self._scaled(gradient, 1 / rms)  # noqa: E731
        return walked_back(self.links, cotangent, self._rms, divided) + scales[-1] - scales

    def _bias(self, log_scale: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        if all(stream.bias_std is None for stream in self.streams):
            return None
        shape, uniform = (self.draws, self.spec.channels), self.streams[0].uniform_bias
        unit = unit_bias(shape, uniform, log_scale.device, generator)
        stds = [stream.bias_std[0] if stream.bias_std else 0.0 for stream in self.streams]
        std = torch.tensor(stds, dtype=torch.float64)
        batch = len(log_scale) // len(self.streams)
        size = std.repeat_interleave(batch).to(log_scale.device)[:, None] * (-log_scale).exp()
        return (unit * size[:, :, None]).flatten(1).float()

    def _activate(
        self, output: torch.Tensor, log_scale: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rms = self._rms(output.detach())
        log_scale = log_scale + rms.log()
        unit = self._scaled(output, 1 / rms)
        parts = [
            self._part(index, part, scale)
            for index, (part, scale) in enumerate(
                zip(unit.chunk(len(self.streams)), log_scale.chunk(len(self.streams)), strict=True)
            )
        ]
        return torch.cat(parts) if len(parts) > 1 else parts[0], log_scale

    def _part(self, index: int, unit: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
        activation = self.activations[index]
        if self.streams[index].activation.is_rectifier:
            rectified: torch.Tensor = activation(unit)
            return rectified
        scale = log_scale.clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT).exp()
        scaled = activation.double()(self._scaled(unit.double(), scale))
        return self._scaled(scaled, 1 / scale).float()

    def _rms(self, signal: torch.Tensor) -> torch.Tensor:
        """Root mean square of every (image, network), (N, draws), float64; 1 for a dead one."""
        by_draw = signal.reshape(len(signal), self.draws, -1)
        rms = by_draw.square().mean(2, dtype=torch.float64).sqrt()
        return torch.where(rms > 0, rms, 1.0)

    def _scaled(self, signal: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        each = factor.to(signal.dtype).repeat_interleave(self.spec.channels, 1)
        return signal * each[:, :, None, None]


def power(output: torch.Tensor, draws: int) -> torch.Tensor:
    """Mean over channels of the squares of (N, draws·C, H, W): (N, draws, H, W), float64."""
    by_draw = output.reshape(len(output), draws, -1, *output.shape[2:])
    return by_draw.square().mean(2, dtype=torch.float64)
