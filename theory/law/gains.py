"""The gain of every activation: how large weights must be for the signal to keep its size.

With weights of variance g²/fan_in and pre-activations of variance 1, the next layer's are of variance
g²·E[φ(z)²], so that He's condition (He et al. 2015, Eq. 10) reads for any activation

    forward     g² · E[φ(z)²]  = 1,      z ~ N(0, 1)
    backward    g² · E[φ′(z)²] = 1       (Eq. 14, weights of variance g²/fan_out).

For a rectifier both integrals are A₂ = (1 + a²)/2 and the two gains agree, at every variance of the
signal.  For any other activation they differ: no gain keeps both the signal and the gradient at unit
variance.  Nor is a unit second moment always a place to stay: it attracts nearby signals only where
dq'/dq = g²·d E[φ(√q·z)²]/dq < 1 at q = 1.

Closed forms at variance q (Φ the normal distribution function, derived by completing the square and
by parts; ELU of scale λ and slope α has λ² times the first pair):

    ELU    E[φ²] = q/2 + α²(e^{2q}Φ(−2√q) − 2e^{q/2}Φ(−√q) + ½),   E[φ′²] = ½ + α²e^{2q}Φ(−2√q)
    GELU   E[φ²] = q/4 + (q/2π)(arcsin(q/(1+q)) + 2q/((1+q)√(1+2q))),
           E[φ′²] = ¼ + (arcsin(q/(1+q)) + 2q/((1+q)√(1+2q)) + q/(1+2q)^{3/2})/2π.

tanh and SiLU have none and come from quadrature.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from theory.activations import Activation
from theory.keywords import takes_fields_of
from theory.law import mean_field, quadrature
from theory.law.quadrature import Function, Nonlinearity
from theory.mean_field_specs import GainsSpec

COLUMNS = {
    "activation": "the activation, as named on the command line",
    "second_moment": "E[φ(z)²], z ~ N(0, 1)",
    "mean": "E[φ(z)]",
    "derivative_second_moment": "E[φ′(z)²]",
    "gain": "1/√E[φ(z)²]: the forward condition",
    "backward_gain": "1/√E[φ′(z)²]: the backward condition",
    "gain_torch": "torch.nn.init.calculate_gain for it; NaN where torch raises",
    "growth_torch": "q'/q at q = 1 with torch's gain; NaN where torch raises",
    "slope": "dq'/dq at q = 1 with the exact gain: q = 1 attracts below 1, repels above 1",
    "remark": "where torch's table is off, undefined or to be read with care; else empty",
}
# torch's own constants (torch.nn.SELU).
SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
TORCH_NAMES = {"leaky-relu": "leaky_relu"}


@takes_fields_of(GainsSpec)
def gains(spec: GainsSpec, extra: Sequence[Nonlinearity] = ()) -> pd.DataFrame:
    """One row per activation of ``spec``, then one per function in ``extra``; columns: ``COLUMNS``.

    >>> gains(GainsSpec(("relu",)))[["gain", "backward_gain"]].round(6).values.tolist()
    [[1.414214, 1.414214]]
    """
    asked: list[Activation | Nonlinearity] = [*spec.parsed, *extra]
    return pd.DataFrame([_row(phi) for phi in asked], columns=list(COLUMNS))


def gain(phi: Activation | Nonlinearity | Function, variance: float = 1.0) -> float:
    """The g with g²·E[φ(y)²] = Var[y], y ~ N(0, ``variance``): what keeps that variance.

    ``phi`` may be any numpy function.

    >>> import numpy as np
    >>> round(gain(np.tanh), 4)
    1.5925
    """
    return math.sqrt(variance / quadrature.second_moment(phi, variance))


def backward_gain(phi: Activation | Nonlinearity | Function, variance: float = 1.0) -> float:
    """The g with g²·E[φ′(y)²] = 1, y ~ N(0, ``variance``): what keeps a gradient's variance."""
    return 1 / math.sqrt(quadrature.derivative_second_moment(phi, variance))


def torch_gain(activation: Activation) -> float:
    """``torch.nn.init.calculate_gain`` for the activation, its slope given; NaN where it raises."""
    from torch.nn.init import calculate_gain

    name: Any = TORCH_NAMES.get(activation.kind, activation.kind)
    slope = activation.negative_slope if activation.kind == "leaky-relu" else None
    try:
        return float(calculate_gain(name, slope))
    except ValueError:
        return math.nan


def closed_moments(activation: Activation, q: float = 1.0) -> tuple[float, float] | None:
    """(E[φ(y)²], E[φ′(y)²]) for y ~ N(0, q) in closed form; None where there is none."""
    if activation.is_rectifier:
        return activation.second_moment * q, activation.second_moment
    if activation.kind == "elu":
        return elu_moments(q)
    if activation.kind == "selu":
        return elu_moments(q, SELU_ALPHA, SELU_SCALE)
    if activation.kind == "gelu":
        return gelu_moments(q)
    return None


def elu_moments(q: float, alpha: float = 1.0, scale: float = 1.0) -> tuple[float, float]:
    """(E[φ(y)²], E[φ′(y)²]) for φ(y) = scale·(y or alpha·(e^y − 1)), y ~ N(0, q)."""
    from scipy.special import erfcx

    # e^{t²/2}·Φ(−t) = erfcx(t/√2)/2 does not overflow
    twice, once = (float(erfcx(k * math.sqrt(q / 2))) / 2 for k in (2, 1))
    value = q / 2 + alpha**2 * (twice - 2 * once + 0.5)
    return scale**2 * value, scale**2 * (0.5 + alpha**2 * twice)


def gelu_moments(q: float) -> tuple[float, float]:
    """(E[φ(y)²], E[φ′(y)²]) for φ(y) = y·Φ(y), y ~ N(0, q)."""
    common = math.asin(q / (1 + q)) + 2 * q / ((1 + q) * math.sqrt(1 + 2 * q))
    value = q / 4 + q * common / (2 * math.pi)
    return value, 0.25 + (common + q / (1 + 2 * q) ** 1.5) / (2 * math.pi)


def _row(phi: Activation | Nonlinearity) -> dict[str, Any]:
    value, slope = quadrature.second_moment(phi), quadrature.derivative_second_moment(phi)
    torch_value = torch_gain(phi) if isinstance(phi, Activation) else math.nan
    forward = gain(phi)
    return {
        "activation": phi.name,
        "second_moment": value,
        "mean": quadrature.moment(phi),
        "derivative_second_moment": slope,
        "gain": forward,
        "backward_gain": backward_gain(phi),
        "gain_torch": torch_value,
        "growth_torch": torch_value**2 * value,
        "slope": forward**2 * quadrature.second_moment_slope(phi),
        "remark": _remark(phi, forward, torch_value),
    }


def _remark(phi: Activation | Nonlinearity, forward: float, torch_value: float) -> str:
    if not isinstance(phi, Activation):
        return "torch has no gain for a function of your own."
    if phi.kind in ("prelu", "leaky-relu"):
        return _slope_remark(phi.kind, phi.gain_slope, math.isnan(torch_value))
    if math.isnan(torch_value):
        shrunk = 1 / forward**2
        return (
            f'calculate_gain("{phi.kind}") raises.  With gain 1, as lecun, q = 1 becomes {shrunk:.3f} '
            f"after one layer; the exact gain is {forward:.4f}."
        )
    if phi.kind in ("tanh", "selu"):
        return (_tanh_remark if phi.kind == "tanh" else _selu_remark)(forward, torch_value)
    return ""


def _tanh_remark(forward: float, torch_value: float) -> str:
    from theory.activations import parse_activation

    scale = torch_value**2
    (point,) = mean_field.fixed_points(parse_activation("tanh"), scale).stable
    return (
        f"torch's 5/3 = {torch_value:.4f} is {100 * (torch_value / forward - 1):+.1f} % off the exact "
        f"{forward:.4f}: q = 1 becomes {scale / forward**2:.3f} after one layer and settles at "
        f"{point.q:.3f}, where saturation holds it."
    )


def _selu_remark(forward: float, torch_value: float) -> str:
    return (
        f"torch's 3/4 keeps no variance: q = 1 becomes {(torch_value / forward) ** 2:.4f} after one "
        f'layer.  SELU is built for gain {forward:.0f} (lecun, calculate_gain("linear")): mean 0 and '
        "variance 1 are then a fixed point."
    )


def _slope_remark(kind: str, slope: float, prelu_raises: bool) -> str:
    if slope == 0.01:
        return (
            'calculate_gain("leaky_relu") assumes slope 0.01 unless told otherwise, which is right '
            "here; kaiming_normal_ assumes slope 0 (its a = 0)."
        )
    growth = (1 + slope**2) / (1 + 0.01**2)
    raises = 'calculate_gain("prelu") raises.  ' if kind == "prelu" and prelu_raises else ""
    return (
        f'{raises}calculate_gain("leaky_relu", {slope:g}) is exact; without the slope torch assumes '
        f"0.01, and q grows ×{growth:.4f} per layer, ×{growth**30:.3g} over 30."
    )
