"""Infinite width: what a layer does to the second moment of the signal.

With q the second moment of the pre-activations y_l, weights of variance Var[w] with
s = fan_in·Var[w], and biases of variance σ_b², the next layer's is (Poole et al. 2016, Eq. 3)

    q' = s·E[φ(√q·z)²] + σ_b²,   z ~ N(0, 1).

For a rectifier E[φ(√q·z)²] = A₂·q, the map is linear, and it holds *exactly at every width* for the
expected second moment (only the symmetry of the weights is used).  For other activations it is the
limit of infinite width.  χ₁ = s·A₂ is a rectifier's growth per layer: below 1 the signal vanishes,
above 1 it explodes (He et al. 2015, Eq. 9).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from theory import quadrature
from theory.rectifiers import Activation


@lru_cache(maxsize=65536)
def _smooth_second_moment(activation: Activation, q: float) -> float:
    return quadrature.second_moment(activation, q)


def log_activation_gain(activation: Activation, log_q: float) -> float:
    """ln(E[φ(√q·z)²]/q), finite for every finite ``log_q``.

    Outside e^±200 a smooth activation has reached its asymptote, which a power law continues.
    """
    if activation.is_rectifier:
        return math.log(activation.second_moment) if activation.second_moment else -math.inf
    inside = min(max(log_q, -200.0), 200.0)
    gain = math.log(_smooth_second_moment(activation, math.exp(inside))) - inside
    if log_q <= 200.0:
        return gain
    previous = math.log(_smooth_second_moment(activation, math.exp(inside - 1))) - (inside - 1)
    return gain + (gain - previous) * (log_q - inside)


def log_second_moments(
    activation: Activation,
    log_scales: Sequence[float],
    log_input: float = 0.0,
    bias_variance: float = 0.0,
) -> list[float]:
    """ln of the expected second moment of y_l, l = 1 … L, of a dense stack.

    ``log_scales`` holds ln s_l, s_l = fan_in·Var[w_l]; ``log_input`` is ln of the mean of x_0².  The
    first layer has no activation before it.  Exact for rectifiers at every width (He et al. 2015,
    Eq. 7–9), the infinite-width limit otherwise (Poole et al. 2016, Eq. 3).

    >>> import math; from theory.rectifiers import parse_activation
    >>> he = log_second_moments(parse_activation("relu"), [math.log(2)] * 3)
    >>> [round(math.exp(value), 12) for value in he]
    [2.0, 2.0, 2.0]
    """
    log_bias = math.log(bias_variance) if bias_variance else -math.inf
    log_q, result = -math.inf, []
    for layer, log_scale in enumerate(log_scales):
        log_power = log_input if layer == 0 else log_q + log_activation_gain(activation, log_q)
        log_q = log_add(log_scale + log_power, log_bias)
        result.append(log_q)
    return result


def log_add(first: float, second: float) -> float:
    """ln(e^first + e^second) without overflow; −∞ stands for zero."""
    high, low = max(first, second), min(first, second)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


def chi_1(activation: Activation, scale: float) -> float:
    """χ₁ = s·A₂, a rectifier's growth of the second moment per layer (Schoenholz et al. 2017)."""
    return scale * activation.second_moment
