"""The exact gains beside torch's table, ``torch.nn.init.calculate_gain``: where it is off.

The exact gain g of an activation has g²·E[φ(z)²] = 1 (``theory.law.gains``).  torch's table agrees for
ReLU, for the linear unit and for a leaky ReLU whose slope it is told; its tanh and SELU keep no
variance of 1, and for the other activations it raises.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch.nn.init import calculate_gain

from theory.activations import Activation
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
REMARKS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


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


def _remark(phi: Activation | Nonlinearity, exact: float, torch_value: float) -> str:
    if not isinstance(phi, Activation):
        return str(REMARKS["own"])
    kind, growth = phi.kind, (1 + phi.gain_slope**2) / (1 + 0.01**2)
    if kind in ("prelu", "leaky-relu"):
        kind = kind if math.isnan(torch_value) else "leaky-relu"
        kind = "told" if phi.gain_slope == 0.01 else kind
    elif math.isnan(torch_value):
        kind = "raises"
    numbers = {
        "exact": exact,
        "torch": torch_value,
        "percent": 100 * (torch_value / exact - 1),
        "shrunk": 1 / exact**2,
        "kept": (torch_value / exact) ** 2,
        "slope": phi.gain_slope,
        "growth": growth,
        "compound": growth**30,
    }
    if kind == "tanh":
        (point,) = mean_field.fixed_points(phi, torch_value**2).stable
        numbers["settled"] = point.q
    return str(REMARKS.get(kind, "")).format(kind=phi.kind, **numbers)
