"""Stacks of layers as nn.Modules: one plain network, or many drawn at once.

``build_stack`` gives what a reader would write: ``nn.Sequential`` of Linear and activation, its
weights drawn once.  ``Ensemble`` is the same computation for a block of independent networks, used
by the Monte Carlo: each ``RedrawnLinear`` draws its weights when it is called and forgets them, so
memory does not grow with depth, and the signal is rescaled between layers, so that a thousand
layers of N(0, 1) weights overflow nothing.

Rescaling is exact.  Write the true signal as x = e^λ·x̂.  A linear layer of weight std·W̃ gives

    y = std·e^λ·ŷ,   ŷ = W̃·x̂ + (e^{−λ}/std)·b,

and the activation of y is e^μ·φ(e^μ·û)/e^μ with û = ŷ/rms(ŷ) and e^μ = std·e^λ·rms(ŷ).  A rectifier
is homogeneous, so its μ drops out: one unit-scale stream serves every initializer of a shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
from torch import nn

from theory.activations import Activation
from theory.initializers import Initializer, draw_

# Beyond e^±300 a smooth activation is at its asymptote; the cut keeps float64 finite.
LOG_SCALE_LIMIT = 300.0


def build_stack(
    widths: Sequence[int],
    law: Initializer,
    activation: Activation,
    generator: torch.Generator,
    *,
    gain_slope: float | None = None,
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    """One plain network of ``widths`` = (n_0, …, n_L) on the generator's device: Linear, activation, …

    Maps (batch, n_0) to (batch, n_L).  The activation stands between the weight layers, not after the
    last one; no biases, but for the laws that draw them too.  ``gain_slope`` is the slope in He's gain;
    None: the activation's own.
    """
    modules: list[nn.Module] = []
    slope = activation.gain_slope if gain_slope is None else gain_slope
    for fan_in, fan_out in pairwise(widths):
        if modules:
            modules.append(activation.module().to(generator.device, dtype))
        # torch's own initialization is skipped: it would draw from the global generator
        linear: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            nn.Linear, fan_in, fan_out, bias=law.draws_bias, device=generator.device, dtype=dtype
        )
        law.draw_(linear.weight, generator, slope)
        if law.draws_bias:
            law.draw_bias_(linear.bias, fan_in, generator)
        modules.append(linear)
    return nn.Sequential(*modules)


class RedrawnLinear(nn.Module):
    """``draws`` independent linear maps of unit-variance weights, redrawn from ``generator`` per call.

    Maps (draws, fan_in, columns) to (draws, fan_out, columns).  ``shape`` is an initializer's shape.
    A backward pass draws the same weights once more from the generator's recorded state, unless
    ``keep`` says that there is memory to hold them.
    """

    def __init__(self, fan_in: int, fan_out: int, shape: str, *, keep: bool = False) -> None:
        super().__init__()
        self.fan_in, self.fan_out, self.shape, self.keep = fan_in, fan_out, shape, keep

    def draw(self, draws: int, generator: torch.Generator) -> torch.Tensor:
        """Weights of shape (draws, fan_out, fan_in), float32, mean 0 and variance 1."""
        weight = torch.empty(draws * self.fan_out, self.fan_in, device=generator.device)
        draw_(self.shape, weight, 1.0, generator, groups=draws)
        return weight.view(draws, self.fan_out, self.fan_in)

    def forward(
        self, signal: torch.Tensor, generator: torch.Generator, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """W̃·x̂ plus the scaled bias, if there is one."""
        if torch.is_grad_enabled():
            output: torch.Tensor = _RedrawnProduct.apply(signal, self, generator)
        else:
            output = torch.bmm(self.draw(len(signal), generator), signal)
        return output if bias is None else output + bias


class _RedrawnProduct(torch.autograd.Function):
    """W̃·x̂, and W̃ᵀ·g on the way back, W̃ kept or drawn a second time."""

    @staticmethod
    def forward(
        ctx: Any, signal: torch.Tensor, layer: RedrawnLinear, generator: torch.Generator
    ) -> torch.Tensor:
        ctx.layer, ctx.state, ctx.device = layer, generator.get_state(), generator.device
        weight = layer.draw(len(signal), generator)
        ctx.weight = weight if layer.keep else None
        return torch.bmm(weight, signal)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        weight = ctx.weight
        if weight is None:
            again = torch.Generator(ctx.device)
            again.set_state(ctx.state)
            weight = ctx.layer.draw(len(gradient), again)
        return torch.bmm(weight.mT, gradient), None, None


def column_rms(tensor: torch.Tensor) -> torch.Tensor:
    """Root mean square over units of (draws, units, columns), float64; 1 where all are zero."""
    rms = tensor.detach().to(torch.float64).square().mean(1).sqrt()
    return torch.where(rms > 0, rms, 1.0)


def unit_bias(
    shape: Sequence[int], uniform: bool, device: torch.device, generator: torch.Generator
) -> torch.Tensor:
    """Biases of variance 1."""
    unit = torch.empty(*shape, device=device)
    if uniform:
        return unit.uniform_(-math.sqrt(3), math.sqrt(3), generator=generator)
    return unit.normal_(generator=generator)


def walked_back(
    links: list[tuple[torch.Tensor, torch.Tensor]],
    cotangent: torch.Tensor,
    rms: Callable[[torch.Tensor], torch.Tensor],
    over: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Send ``cotangent`` back through ``links``, a layer's (input, output) each, cut at every layer.

    Each gradient goes on divided by its ``rms``, by ``over``, so that none overflows.  Returns ln of
    the factor from what then arrives at each output to the true gradient there, stacked.
    """
    log_factor, factors = torch.zeros_like(rms(cotangent)), []
    while links:
        signal, output = links.pop()
        factors.append(log_factor)
        (gradient,) = torch.autograd.grad(output, signal, cotangent)
        size = rms(gradient)
        log_factor, cotangent = log_factor + size.log(), over(gradient, size)
    return torch.stack(factors[::-1])


@dataclass(frozen=True)
class Stream:
    """One signal that runs through an ensemble: an activation, and the std of its weights.

    ``weight_std`` has one entry per layer.  For rectifiers without bias it does not influence the
    unit-scale stream at all.  ``bias_std`` is 0, or the standard deviation of the biases.
    """

    activation: Activation
    weight_std: tuple[float, ...]
    bias_std: tuple[float, ...] | None = None
    uniform_bias: bool = False


@dataclass
class Trace:
    """What one pass of an ensemble leaves beside the probe's readings; (L, draws, columns), float64.

    log_scale    ln of the true scale of every layer's unit-scale output ŷ: ln|y| = ln|ŷ| + log_scale
    log_input    ln of the mean of x_{l-1}², the true input of every layer; only for a backward pass
    output       ŷ_L
    links        each layer's input and what the next one gets, for ``walked_back``
    """

    log_scale: torch.Tensor
    log_input: torch.Tensor
    output: torch.Tensor
    links: list[tuple[torch.Tensor, torch.Tensor]]

    def backward(self, cotangent: torch.Tensor) -> torch.Tensor:
        """Send ``cotangent`` (draws, n_L, columns) back from y_L.

        Returns ln of the factor that turns the gradient at every ŷ_l, as a hook sees it, into the true
        gradient at y_l, same shape as ``log_scale``.
        """
        over = lambda gradient, rms: gradient / rms[:, None, :].to(gradient)  # noqa: E731
        log_factor = walked_back(self.links, cotangent, column_rms, over)
        return log_factor + self.log_scale[-1] - self.log_scale


class Ensemble(nn.Module):
    """A block of independent dense networks, through which several streams run side by side.

    All streams of a draw see the same weights (common random numbers).  ``layers[i]`` is the
    ``RedrawnLinear`` whose output, ŷ of shape (draws, n, streams·batch), the probe reads; its true
    scale is what ``forward`` returns.  ``log_input`` is ln of the scale of the true input.
    """

    def __init__(
        self,
        widths: Sequence[int],
        shape: str,
        streams: Sequence[Stream],
        log_input: float = 0.0,
        *,
        keep: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(RedrawnLinear(n, m, shape, keep=keep) for n, m in pairwise(widths))
        self.activations = nn.ModuleList(stream.activation.module() for stream in streams)
        self.streams = tuple(streams)
        self.log_input = log_input

    def forward(
        self,
        inputs: torch.Tensor,
        draws: int,
        generator: torch.Generator,
        bias_generator: torch.Generator,
    ) -> Trace:
        """Run ``inputs`` (n_0, batch), of second moment about 1, through ``draws`` networks.

        The columns of the trace are streams × batch.  With gradients enabled it can go ``backward``.
        """
        batch, backward = inputs.shape[1], torch.is_grad_enabled()
        signal = inputs.repeat(1, len(self.streams)).expand(draws, -1, -1)
        log_scale = torch.full((draws, signal.shape[2]), self.log_input, dtype=torch.float64)
        log_scale = log_scale.to(inputs.device)
        scales, powers, links = [], [], []
        for index, layer in enumerate(cast(Sequence[RedrawnLinear], self.layers)):
            std = torch.tensor([stream.weight_std[index] for stream in self.streams])
            log_std = std.to(inputs.device, torch.float64).log().repeat_interleave(batch)
            start = signal = signal.detach().requires_grad_(backward)
            if backward:
                power = signal.detach().to(torch.float64).square().mean(1)
                powers.append(power.log() + 2 * log_scale)
            log_scale, bias = log_scale + log_std, None
            if self.has_bias:
                shape, uniform = (draws, layer.fan_out, 1), self.streams[0].uniform_bias
                unit = unit_bias(shape, uniform, inputs.device, bias_generator)
                log_bias = self._log_bias(index, log_scale, batch)
                # in units of the larger of the two, so that neither overflows
                larger = torch.maximum(log_scale, log_bias)
                signal = signal * (log_scale - larger).exp()[:, None, :].float()
                bias = unit * (log_bias - larger).exp()[:, None, :].float()
                log_scale = larger
            output: torch.Tensor = layer(signal, generator, bias)
            scales.append(log_scale)
            signal = output
            if index + 1 < len(self.layers):
                signal, log_scale = self._activate(output, log_scale, batch)
            if backward:
                links.append((start, signal))
        log_power = torch.stack(powers) if powers else torch.empty(0)
        return Trace(torch.stack(scales), log_power, output, links)

    @property
    def has_bias(self) -> bool:
        """Whether any stream has biases."""
        return any(stream.bias_std is not None for stream in self.streams)

    def _log_bias(self, index: int, like: torch.Tensor, batch: int) -> torch.Tensor:
        """ln of the standard deviation of layer ``index``'s biases, in the shape of ``like``."""
        std = torch.tensor([s.bias_std[index] if s.bias_std else 0.0 for s in self.streams])
        return std.to(like).log().repeat_interleave(batch).expand_as(like)

    def _activate(
        self, output: torch.Tensor, log_scale: torch.Tensor, batch: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rms = column_rms(output)  # a dead network stays at zero
        log_scale = log_scale + rms.log()
        unit = output / rms[:, None, :].float()
        parts = list(self._parts(unit, log_scale, batch))
        return torch.cat(parts, 2) if len(parts) > 1 else parts[0], log_scale

    def _parts(self, unit: torch.Tensor, log_scale: torch.Tensor, batch: int) -> Iterator[torch.Tensor]:
        for index, stream in enumerate(self.streams):
            columns = slice(index * batch, (index + 1) * batch)
            module = self.activations[index]
            yield activate(stream.activation, module, unit[:, :, columns], log_scale[:, columns])


def activate(
    activation: Activation, module: nn.Module, unit: torch.Tensor, log_scale: torch.Tensor
) -> torch.Tensor:
    """φ(e^μ·û)/e^μ of a unit-scale û (draws, units, columns), μ = ``log_scale`` (draws, columns).

    A rectifier is homogeneous: φ(û), whatever the scale.
    """
    if activation.is_rectifier:
        rectified: torch.Tensor = module(unit)
        return rectified
    scale = log_scale[:, None, :].clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT).exp()
    smooth: torch.Tensor = module(unit.double() * scale) / scale
    return smooth.float()
