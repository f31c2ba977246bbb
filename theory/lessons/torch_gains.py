"""The exact gains beside torch's table, ``torch.nn.init.calculate_gain``: where it is off.

The exact gain g of an activation has g²·E[φ(z)²] = 1 (``theory.law.gains``).  torch's table agrees for
ReLU, for the linear unit and for a leaky ReLU whose slope it is told; its tanh and SELU keep no
variance of 1, and for the other activations it raises.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from torch.nn.init import calculate_gain

from theory.activations import Activation, parse_activation
from theory.keywords import takes_fields_of
from theory.law import mean_field, quadrature
from theory.law.gains import backward_gain, gain
from theory.law.quadrature import Nonlinearity
from theory.specs import GainsSpec

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
TORCH_NAMES = {"leaky-relu": "leaky_relu"}


@takes_fields_of(GainsSpec)
def gains(spec: GainsSpec, extra: Sequence[Nonlinearity] = ()) -> pd.DataFrame:
    """One row per activation of ``spec``, then one per function in ``extra``; columns: ``COLUMNS``.

    >>> gains(GainsSpec(("relu",)))[["gain", "backward_gain"]].round(6).values.tolist()
    [[1.414214, 1.414214]]
    """
    asked: list[Activation | Nonlinearity] = [*spec.parsed, *extra]
    return pd.DataFrame([_row(phi) for phi in asked], columns=list(COLUMNS))


def torch_gain(activation: Activation) -> float:
    """``torch.nn.init.calculate_gain`` for the activation, its slope given; NaN where it raises."""
    name: Any = TORCH_NAMES.get(activation.kind, activation.kind)
    slope = activation.negative_slope if activation.kind == "leaky-relu" else None
    try:
        return float(calculate_gain(name, slope))
    except ValueError:
        return math.nan


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
