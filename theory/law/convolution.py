"""Convolution: fans, and what the border of an image does to the signal.

A k×k convolution adds fan_in = k²·c_in products per output.  At the border of a zero-padded image
some of them are zero, so an output pixel sees less.  Weights are uncorrelated with mean 0, hence
given the input, *exactly and at every channel count*,

    E[y(i, j)²] = s · (mean over the k×k taps of the squared input, a missing tap counting 0),

with s = fan_in·Var[w] and squares averaged over channels.  The map on the right is
``forward_power``; it is linear and separable, T·P·Tᵀ with T one axis' share of the taps (for 3×3,
padding 1: a tridiagonal matrix of 1/3).  A rectifier halves symmetrically at every pixel, so that
after l layers on an input of power q_0 at every pixel

    E[q_l(i, j)] = s·(s·A₂)^{l−1} · (T^l 1)_i · (T^l 1)_j · q_0.

One layer loses ((3H − 2)/(3H))² of the mean: .95877 at H = 32, .69444 at H = 4.  Circular padding
loses nothing.

Backward, each input pixel collects from the outputs that it feeds, with fan_out = k²·c_out in the
place of fan_in: the transposed map, ``backward_power``.  That is exact too, for a cotangent of
independent entries.  Let D_c(p) be the slope that channel c has at pixel p.  Changing the sign of
a channel's filter (and bias) turns y_c into −y_c at every pixel and D_c² into 1 + a² − D_c², and
leaves products of two of the filter's weights alone, so E[w·w'·D_c(p)²] = E[w·w']·A₂.  Going down
layer by layer, with everything above averaged over, gradients at different pixels or channels stay
uncorrelated, and their variances follow the transposed map times fan_out·Var[w]·A₂.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from theory.activations import Activation
from theory.errors import check_choice
from theory.law import mean_field
from theory.specs import ConvSpec
from theory.windows import backward_power, forward_power

Array = NDArray[np.float64]


# ------------------------------------------------------------------------------- expectation


def expected_log_powers(
    spec: ConvSpec,
    activation: Activation,
    weight_std: float,
    bias_variance: float,
    direction: str,
) -> list[Array]:
    """ln of the expected second moment at every pixel, l = 1 … L, each (H_l, H_l).

    forward    of y_l; −∞ where no tap reaches
    backward   of ∂E/∂y_l, for a cotangent of variance 1 at y_L

    Exact for rectifiers; for other activations the limit of many channels (backward, χ₁ at each
    pixel's q_l).
    """
    if check_choice("direction", direction, ("forward", "backward")) == "backward":
        return expected_log_gradient(spec, activation, weight_std, bias_variance)
    return expected_log_power(spec, activation, weight_std, bias_variance)


def expected_log_means(log_powers: list[Array]) -> Array:
    """ln of the mean over pixels of e^``log_powers``, (L,)."""
    return np.array([np.logaddexp.reduce(log.ravel()) - math.log(log.size) for log in log_powers])


def expected_log_power(
    spec: ConvSpec, activation: Activation, weight_std: float, bias_variance: float = 0.0
) -> list[Array]:
    """The forward half of ``expected_log_powers``."""
    log_s = math.log(spec.fan_in) + 2 * math.log(weight_std)
    log_bias = math.log(bias_variance) if bias_variance else -math.inf
    log_power = np.full((spec.image_size,) * 2, math.log(spec.input_second_moment))
    result = []
    for layer in range(spec.depth):
        if layer:
            log_power = log_power + _log_gains(activation, log_power)
        log_power = np.logaddexp(log_s + _log_mapped(spec, log_power), log_bias)
        result.append(log_power)
    return result


def expected_log_gradient(
    spec: ConvSpec, activation: Activation, weight_std: float, bias_variance: float = 0.0
) -> list[Array]:
    """The backward half of ``expected_log_powers``."""
    log_s = math.log(spec.fan_in) + 2 * math.log(weight_std)
    signals = expected_log_power(spec, activation, weight_std, bias_variance)
    log_power = np.zeros((spec.sizes[-1],) * 2)
    result = [log_power]
    for signal in signals[-2::-1]:
        log_power = log_s + _log_mapped(spec, log_power, len(signal)) + _log_slopes(activation, signal)
        result.append(log_power)
    return result[::-1]


def _log_mapped(spec: ConvSpec, log_power: Array, input_size: int | None = None) -> Array:
    """ln of the power map of e^``log_power``, backward to ``input_size`` if that is given."""
    top = log_power.max()
    if not math.isfinite(top):
        shape = spec.sizes[-1] if input_size is None else input_size
        return np.full((shape, shape), top)
    power, geometry = np.exp(log_power - top), (spec.kernel_size, spec.pad, 1, 1, spec.padding_mode)
    if input_size is None:
        mapped = forward_power(power, *geometry)
    else:
        mapped = backward_power(power, input_size, *geometry)
    with np.errstate(divide="ignore"):
        logs: Array = np.log(mapped) + top
    return logs


def _log_gains(activation: Activation, log_power: Array) -> Array:
    """ln(E[φ(y)²]/E[y²]) per pixel, for Gaussian y of second moment e^``log_power``."""
    return _per_value(lambda q: mean_field.log_activation_gain(activation, q), activation, log_power)


def _log_slopes(activation: Activation, log_power: Array) -> Array:
    """ln E[φ′(y)²] per pixel; beyond e^±200 a smooth activation's is taken there."""

    def slope(q: float) -> float:
        moment = mean_field.chi_1(activation, 1.0, math.exp(min(max(q, -200.0), 200.0)))
        return math.log(moment) if moment else -math.inf

    return _per_value(slope, activation, log_power)


def _per_value(function: Callable[[float], float], activation: Activation, log_power: Array) -> Array:
    if activation.is_rectifier:
        return np.full(log_power.shape, function(0.0))
    values, where = np.unique(log_power.round(12), return_inverse=True)
    mapped: Array = np.array([function(float(q)) for q in values])[where].reshape(log_power.shape)
    return mapped


def log_borderless(
    spec: ConvSpec, activation: Activation, weight_std: float, bias_variance: float, direction: str
) -> Array:
    """ln of the expected second moment (backward: of the gradient) far from any border, (L,)."""
    log_s = math.log(spec.fan_in) + 2 * math.log(weight_std)
    log_input, scales = math.log(spec.input_second_moment), [log_s] * spec.depth
    signal = np.array(mean_field.log_second_moments(activation, scales, log_input, bias_variance))
    if direction == "forward":
        return signal
    steps = log_s + _log_slopes(activation, signal[:-1])
    return np.append(np.cumsum(steps[::-1])[::-1], 0.0)
