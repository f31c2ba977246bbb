"""An answer to every exercise, as a student may write it, with numpy and scipy alone.

Read one after you have tried.  None of these asks the rest of the program, so that a test of them is
one of the checks, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import stats


def growth(fan_in: int, std: float) -> float:
    """Of a dense layer and a ReLU, on the second moment: fan_in products add up, half of y² passes."""
    return fan_in * std**2 / 2


def faint_layer() -> int:
    """The first layer under Xavier whose second moment is less than a millionth of layer 1's."""
    layer, second_moment = 1, 1.0
    while second_moment >= 1e-6:
        layer, second_moment = layer + 1, second_moment / 2
    return layer


def he_std(fan_in: int, slope: float) -> float:
    """(1 + a²)/2 · fan_in · std² = 1, solved for std."""
    return math.sqrt(2 / ((1 + slope**2) * fan_in))


def rectified_variance(slope: float) -> float:
    """E[x²] − E[x]² of x = φ(y), y ~ N(0, 1): E[x] = (1 − a)·E[max(0, y)] = (1 − a)/√(2π)."""
    return (1 + slope**2) / 2 - (1 - slope) ** 2 / (2 * math.pi)


def log_spread(width: int, depth: int) -> float:
    """Variance of ln q_L: the layers' small, independent parts of 5/width add up."""
    return 5 * depth / width


def typical(variance: float) -> float:
    """Median over mean of e^X, X normal with this variance."""
    return math.exp(-variance / 2)


def conv_fans(c_in: int, c_out: int, k: int, groups: int) -> tuple[int, int]:
    """(fan_in, fan_out): k² pixels times the channels of one group."""
    return k * k * c_in // groups, k * k * c_out // groups


def drift(widths: Sequence[int]) -> float:
    """E[y_L²]/E[y_1²] under Var[w_l] = 2/fan_out: the product of n_{l−1}/n_l from layer 2 on."""
    factor = 1.0
    for fan_in, fan_out in pairwise(widths[1:]):
        factor *= fan_in / fan_out
    return factor


def gain(phi: Callable[[Any], Any]) -> float:
    """1/√E[φ(z)²], the integral as a sum over a fine grid."""
    z = np.linspace(-8, 8, 10_001)
    return float(1 / np.sqrt(np.average(phi(z) ** 2, weights=stats.norm.pdf(z))))


def slope_growth(slope: float, depth: int) -> float:
    """Of the second moment from layer 1 to layer depth, where Var[w] = 2/fan_in meets a slope."""
    return (1 + slope**2) ** (depth - 1)


def effective_rate(rate: float, k: float, optimizer: str) -> float:
    """What a weight that is k times as large, and has a norm behind it, makes of a learning rate."""
    return rate / k if optimizer == "adam" else rate / k**2


def first_loss(variance: float, classes: int) -> float:
    """Cross-entropy in nats at logits of a small variance."""
    return math.log(classes) + (1 - 1 / classes) * variance / 2


def head_std(fan_in: int, second_moment: float, variance: float) -> float:
    """The std of the last layer's weights that gives logits of this variance."""
    return math.sqrt(variance / (fan_in * second_moment))


def correlation_step(c: float) -> float:
    """What a wide ReLU layer makes of the correlation c, at He's variance."""
    return (math.sqrt(1 - c**2) + c * (math.pi - math.acos(c))) / math.pi


def depth_scale(weight_variance: float) -> float:
    """Layers after which a ReLU net's second moment has changed by e: χ₁ = σ_w²/2."""
    return 1 / abs(math.log(weight_variance / 2))


def residual_stream(blocks: int, norm: bool) -> float:
    """Second moment of the stream over that at the input; every branch keeps that of what it gets."""
    return 1 + blocks if norm else 2**blocks


def branch_factor(blocks: int) -> float:
    """On the last weights of both branches of every block, so that all of them add up to one."""
    return 1 / math.sqrt(2 * blocks)


def t_interval(differences: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean difference (Student 1908)."""
    n, mean = len(differences), float(np.mean(differences))
    half = float(stats.t.ppf(0.975, n - 1) * np.std(differences, ddof=1) / math.sqrt(n))
    return mean - half, mean + half


FOUND = (
    "default-law", "wrong-gain", "exploding-signal", "identical-weights", "zero-weights", "first-loss",
    "dead-units", "outliers", "residual-growth", "branch-scale", "forget-bias", "tied-scale",
)  # fmt: skip

FUNCTIONS: tuple[Callable[..., Any], ...] = (
    growth, faint_layer, he_std, rectified_variance, log_spread, typical, conv_fans, drift, gain,
    slope_growth, effective_rate, first_loss, head_std, correlation_step, depth_scale, residual_stream,
    branch_factor, t_interval,
)  # fmt: skip

SOLUTIONS: dict[str, Any] = {
    **{function.__name__.replace("_", "-"): function for function in FUNCTIONS},
    "faint-layer": faint_layer(),
    **{f"bug-{number}": code for number, code in enumerate(FOUND, 1)},
}
