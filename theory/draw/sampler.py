"""The exact sampler: what modules with Gaussian weights would give, without drawing a weight.

One input, rectifiers: given the layer before, the n units are independent N(0, v) with
v = s·mean(x²) + σ_b².  Only sums over units are read, so K ~ Bin(n, ½) active units and two χ²
variables are enough,

    mean y² = v·(P + N)/n,   mean x² = v·(P + a²·N)/n,   P ~ χ²_K,  N ~ χ²_{n−K},

O(1) per layer and network at any width (Hanin & Nica 2020; facts of the finite-width module).  The
gradient of a random cotangent meets the same gates, with Gaussians of its own: its χ² variables are
fresh, its K is the forward pass's.

A batch X (n × B): the rows of Y are independent N(0, s·XᵀX/n + σ_b²), so a layer costs n·B normals
instead of n² (Lee et al. 2018 take n → ∞ of the same statement; here n stays finite).  This also
serves a single input through a smooth activation.

Everything is kept at unit scale, each input with its own logarithm beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from theory.draw.stacks import Stream, activate

Array = NDArray[np.float64]


class Sums(NamedTuple):
    """χ² sums over the active and the inactive units of a layer, each (draws,), float64."""

    positive: torch.Tensor
    negative: torch.Tensor

    def log_mean(self, units: int, slope_squared: float = 1.0) -> torch.Tensor:
        """ln of (P + a²·N)/n; −∞ for a dead layer."""
        return ((self.positive + slope_squared * self.negative) / units).log()


def active_units(units: int, draws: int, generator: torch.Generator) -> torch.Tensor:
    """K ~ Bin(units, ½), (draws,), float64."""
    count = torch.full((draws,), float(units), dtype=torch.float64, device=generator.device)
    return torch.binomial(count, torch.full_like(count, 0.5), generator=generator)


def chi_squares(active: torch.Tensor, units: int, generator: torch.Generator) -> Sums:
    """χ² variables with ``active`` and ``units`` − ``active`` degrees of freedom."""
    shape = torch.stack([active, units - active]) / 2
    gamma = torch._standard_gamma(shape.clamp_min(0.5), generator=generator)
    both = torch.where(shape > 0, 2 * gamma, 0.0)
    return Sums(both[0], both[1])


def one_input(
    widths: Sequence[int],
    streams: Sequence[Stream],
    draws: int,
    generator: torch.Generator,
    log_input: float,
    *,
    backward: bool = False,
) -> tuple[Array, Array | None, Array | None]:
    """``draws`` networks of rectifiers, one input of second moment e^``log_input``.

    Returns ln of the second moments of y_l, of ∂/∂y_l and of the squared norms of ∂/∂W_l, each
    (draws, L, streams, 1), the last two only for ``backward``.  All streams see the same K and χ².
    """
    depth = len(widths) - 1
    slopes = [stream.activation.gain_slope**2 for stream in streams]
    log_scale, log_bias = _scales(widths, streams)
    log_power = torch.full((len(streams), draws), log_input, dtype=torch.float64)
    log_power = log_power.to(generator.device)
    forward, powers, gates = [], [], []
    for layer, units in enumerate(widths[1:]):
        powers.append(log_power)
        gates.append(active_units(units, draws, generator))
        sums = chi_squares(gates[-1], units, generator)
        log_v = torch.stack(
            [
                torch.logaddexp(power + log_scale[layer][i], power.new_tensor(log_bias[layer][i]))
                for i, power in enumerate(log_power)
            ]
        )
        forward.append(log_v + sums.log_mean(units))
        log_power = log_v + torch.stack([sums.log_mean(units, slope) for slope in slopes])
    if not backward:
        return _shaped(forward), None, None
    gradients = [torch.zeros_like(log_power)]  # the cotangent, of second moment 1
    hidden = gates[:-1] or gates  # of a single layer no gradient passes one
    closed = torch.stack([_dead(hidden, slope) for slope in slopes])
    for layer in range(depth - 1, 0, -1):
        units = widths[layer]
        sums = chi_squares(gates[layer - 1], units, generator)
        # s with fan_out: n_{l+1}·Var[w_{l+1}]
        log_fan_out = [scale + math.log(widths[layer + 1] / units) for scale in log_scale[layer]]
        steps = [log_fan_out[i] + sums.log_mean(units, slope) for i, slope in enumerate(slopes)]
        gradients.append(torch.where(closed, -math.inf, gradients[-1] + torch.stack(steps)))
    gradients.reverse()
    weight = [
        gradient + power + math.log(fan_in * fan_out)
        for gradient, power, fan_in, fan_out in zip(
            gradients, powers, widths[:-1], widths[1:], strict=True
        )
    ]
    return _shaped(forward), _shaped(gradients), _shaped(weight)


def batch(
    widths: Sequence[int],
    streams: Sequence[Stream],
    inputs: torch.Tensor,
    draws: int,
    generator: torch.Generator,
    log_input: float,
) -> tuple[Array, Array]:
    """ln of the second moments of y_l of a batch, (draws, L, streams, batch).

    ``inputs`` (n_0, batch) has second moment 1 per column; the true one is e^``log_input``.  Beside it
    the cosine between the y_L of the first two inputs, (draws, streams).
    """
    log_scale, log_bias = _scales(widths, streams)
    modules = [stream.activation.module().requires_grad_(False) for stream in streams]
    signal = inputs.to(torch.float64).expand(draws, len(streams), -1, -1)
    log_power = signal.new_full((draws, len(streams), inputs.shape[1]), log_input)
    log_q = []
    for layer, units in enumerate(widths[1:]):
        scale = log_power + log_power.new_tensor(log_scale[layer])[:, None]
        bias = log_power.new_tensor(log_bias[layer])[:, None]
        log_v = torch.logaddexp(scale, bias)
        root = _root(signal, (scale - log_v).exp(), (bias - log_v).exp()).float()
        normal = torch.empty(draws, 1, units, root.shape[2], device=generator.device)
        output = normal.normal_(generator=generator) @ root
        q = output.to(torch.float64).square().mean(2)
        log_q.append(q.log() + log_v)
        parts = [
            activate(stream.activation, modules[i], output[:, i], log_v[:, i] / 2)
            for i, stream in enumerate(streams)
        ]
        signal = torch.stack(parts, 1).to(torch.float64)
        power = signal.square().mean(2)
        power = torch.where(power > 0, power, 1.0)  # a dead input stays exactly zero
        signal, log_power = signal / power.sqrt()[:, :, None], log_v + power.log()
    first, second = output[..., 0].double(), output[..., -1 if output.shape[3] == 1 else 1].double()
    cosine = (first * second).sum(2) / (first.norm(dim=2) * second.norm(dim=2))
    return torch.stack(log_q, 1).cpu().numpy(), cosine.cpu().numpy()


def _root(signal: torch.Tensor, weights: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """A root R of the covariances of y in units of its variances, (…, r, B) with r ≤ B.

    ``signal`` X (…, n, B) has columns of second moment 1, or 0 where an input has died; ``weights``
    and ``bias`` (…, B) are their shares of each input's variance, so that XᵀX/n and a row of ones make
    RᵀR.  R comes from X by QR, and not from XᵀX by eigenvalues: XᵀX is singular where B > n, and its
    root would give a dead input 1e-8 of its neighbors' signal.  Householder's QR keeps each column's
    length to its own last digits, and a zero column zero.
    """
    factor = signal * (weights.sqrt() / math.sqrt(signal.shape[-2]))[..., None, :]
    if bias.any():
        factor = torch.cat([factor, bias.sqrt()[..., None, :]], -2)
    if factor.shape[-1] == 1:
        length: torch.Tensor = factor.norm(dim=-2, keepdim=True)
        return length
    root: torch.Tensor = torch.linalg.qr(factor, mode="r").R
    return root


def _dead(gates: Sequence[torch.Tensor], slope_squared: float) -> torch.Tensor:
    """Whether some hidden layer of slope 0 has no active unit, (draws,): no gradient passes then."""
    shut = torch.stack(list(gates)) == 0
    return shut.any(0) & (slope_squared == 0)


def _scales(
    widths: Sequence[int], streams: Sequence[Stream]
) -> tuple[list[list[float]], list[list[float]]]:
    """ln s = ln(fan_in·Var[w]) and ln σ_b² of each layer and stream."""
    log_scale = [
        [2 * math.log(stream.weight_std[layer]) + math.log(fan_in) for stream in streams]
        for layer, fan_in in enumerate(widths[:-1])
    ]
    biases = [stream.bias_std or (0.0,) * len(log_scale) for stream in streams]
    log_bias = [
        [2 * math.log(bias) if bias else -math.inf for bias in of] for of in zip(*biases, strict=True)
    ]
    return log_scale, log_bias


def _shaped(layers: Sequence[torch.Tensor]) -> Array:
    """Per layer (streams, draws) -> (draws, L, streams, 1)."""
    result: Array = torch.stack(list(layers)).permute(2, 0, 1).unsqueeze(3).cpu().numpy()
    return result
