"""The phase diagram of an activation: where in (σ_w², σ_b²) signals and gradients survive.

A point of the plane is a network: σ_w² = fan_in·Var[w] and σ_b² = Var[b].  At its fixed point q* it
has a χ₁ (``theory.law.mean_field``): below 1 lies the ordered phase, above 1 the chaotic one, and the
critical line χ₁ = 1 between them is where deep networks train (Poole et al. 2016, Fig. 1;
Schoenholz et al. 2017, Fig. 1).  Lines of equal χ₁ need no search, since

    σ_w² = χ₁/E[φ′(√q*·z)²],    σ_b² = q* − σ_w²·E[φ(√q*·z)²]

trace one as q* runs from 0 to ∞.  An initializer is a point: at equal fans he has σ_w² = 2/(1 + a²),
xavier 1, and N(0, 1) the width itself.

An unbounded activation has a second border: where σ_w²·lim E[φ²]/q = 1, the second moment of a
large signal grows for ever.  For a rectifier the two borders are the same vertical line,
and only its foot, σ_b² = 0, is critical.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from theory.activations import Activation
from theory.errors import RequestError
from theory.initializers import Initializer
from theory.keywords import takes_fields_of
from theory.law import mean_field, quadrature
from theory.law.mean_field import EQUAL
from theory.specs import PhaseSpec

CONTOUR_COLUMNS = {
    "activation": "the activation, as named on the command line",
    "chi_1": "χ₁ all along the line; 1 is the critical line",
    "q": "the fixed point q*; inf where the second moment diverges",
    "sigma_w2": "σ_w² = fan_in·Var[w]",
    "sigma_b2": "σ_b² = Var[b]",
}
MARK_COLUMNS = {
    "activation": "the activation, as named on the command line",
    "initializer": "the weight law, as named on the command line",
    "sigma_w2": "σ_w² = fan_in·Var[w] at the width asked for",
    "sigma_b2": "σ_b² = Var[b]",
    "q": "where a signal of second moment 1 ends: 0, a number, inf, or NaN where every q is fixed",
    "chi_1": "χ₁ there",
    "depth_scale": "ξ = 1/|ln χ₁| layers; inf at criticality",
    "correlation": "c* that two different inputs tend to; NaN where q* is 0 or inf",
    "phase": "in words",
}
CHI_LEVELS = (0.25, 0.5, 1.0, 2.0, 4.0)
CRITICAL_SHARES = (0.0, 0.01, 0.05, 0.1, 0.5)  # of the diagram's largest σ_b², for the table
LARGEST_LOG_Q = 200.0  # of ``residual_growth``: beyond, E[φ′²] has its limit
LOG_Q_GRID, POINTS = (-20.0, 14.0, 137), 121  # to look for the lines, and to draw them


@takes_fields_of(PhaseSpec)
def contours(spec: PhaseSpec) -> pd.DataFrame:
    """Points on the lines of χ₁ in ``CHI_LEVELS``, within the diagram; columns: CONTOUR_COLUMNS.

    Only stable fixed points are kept: at the others no signal stays.
    """
    rows = [
        {"activation": phi.name, "chi_1": chi} | point
        for phi in spec.parsed
        for chi in CHI_LEVELS
        for point in _line(phi, chi, spec.largest_bias_variance)
    ]
    return pd.DataFrame(rows, columns=list(CONTOUR_COLUMNS))


@takes_fields_of(PhaseSpec)
def marks(spec: PhaseSpec) -> pd.DataFrame:
    """What becomes of each initializer of ``spec``; columns: MARK_COLUMNS."""
    rows = [_mark(spec, phi, law) for phi in spec.parsed for law in spec.laws]
    return pd.DataFrame(rows, columns=list(MARK_COLUMNS))


@takes_fields_of(PhaseSpec)
def critical_line(spec: PhaseSpec) -> pd.DataFrame:
    """Columns activation, sigma_b2, sigma_w2 (NaN where there is no stable critical point)."""
    biases = [share * spec.largest_bias_variance for share in CRITICAL_SHARES]
    rows = []
    for phi in spec.parsed:
        for bias in biases:
            try:
                scale = mean_field.critical_scale(phi, bias)
            except RequestError:
                scale = math.nan
            rows.append({"activation": phi.name, "sigma_b2": bias, "sigma_w2": scale})
    return pd.DataFrame(rows)


def divergence_scale(phi: Activation) -> float:
    """The σ_w² from which on q grows without bound: 2/(1+a²) for a rectifier, inf for tanh."""
    if phi.is_rectifier:
        return 1 / phi.second_moment
    log_gain = mean_field.log_activation_gain(phi, 150.0)
    return math.exp(-log_gain) if log_gain > -50 else math.inf


def _line(phi: Activation, chi: float, largest: float) -> list[dict[str, float]]:
    if phi.is_rectifier:  # χ₁ does not depend on q: a vertical line
        scale = chi / phi.second_moment
        return [
            {"q": b / (1 - chi) if chi < 1 else math.inf, "sigma_w2": scale, "sigma_b2": b}
            for b in (0.0, largest)
        ]
    grid = np.array(sorted([*np.linspace(*LOG_Q_GRID), *_crossings(phi, chi, largest)]))
    inside = grid[[_is_inside(phi, chi, float(log_q), largest) for log_q in grid]]
    if inside.size < 2:
        return []
    points = []
    for log_q in np.linspace(inside[0], inside[-1], POINTS):
        q = math.exp(log_q)
        scale, bias = mean_field.contour_point(phi, q, chi)
        points.append({"q": q, "sigma_w2": scale, "sigma_b2": min(max(bias, 0.0), largest)})
    return points


def _is_inside(phi: Activation, chi: float, log_q: float, largest: float) -> bool:
    q = math.exp(log_q)
    scale, bias = mean_field.contour_point(phi, q, chi)
    rounding = 1e-9 * (q + largest)
    within = -rounding <= bias <= largest + rounding
    return within and scale * quadrature.second_moment_slope(phi, q) < 1


def _crossings(phi: Activation, chi: float, largest: float) -> list[float]:
    """The ln q at which a line of equal χ₁ enters or leaves the diagram, at σ_b² = 0 or its end."""

    def bias(log_q: float) -> float:
        return mean_field.contour_point(phi, math.exp(log_q), chi)[1]

    grid = np.linspace(*LOG_Q_GRID)
    values = np.array([bias(float(log_q)) for log_q in grid])
    found = []
    for edge in (0.0, largest):

        def past(log_q: float, edge: float = edge) -> float:
            return bias(log_q) - edge

        beyond = np.where(np.abs(values - edge) > EQUAL, np.sign(values - edge), 0.0)
        for left in np.flatnonzero(beyond[:-1] * beyond[1:] < 0):
            found.append(mean_field.root(past, grid[left], grid[left + 1], 1e-13))
    return found


def _mark(spec: PhaseSpec, phi: Activation, law: Initializer) -> dict[str, Any]:
    scale = spec.width * law.variance(spec.width, spec.width, phi.gain_slope)
    bias = spec.sigma_b**2
    q, chi, c = _end(phi, scale, bias)
    return {
        "activation": phi.name,
        "initializer": law.name,
        "sigma_w2": scale,
        "sigma_b2": bias,
        "q": q,
        "chi_1": chi,
        "depth_scale": mean_field.depth_scale(chi),
        "correlation": c,
        "phase": _phase(q, chi),
    }


def depth_scales(phi: Activation, scale: float, bias_variance: float) -> tuple[float, float]:
    """ξ_∇ of a gradient and ξ_c of the correlation of two inputs, in layers (Schoenholz et al. 2017).

    ξ_∇ = 1/|ln χ₁| and ξ_c = 1/|ln χ_c*|, with χ_c* the slope of the correlation map at c*
    (``mean_field.correlation_slope``) at the fixed point of a signal of second moment 1.  They differ
    in the chaotic phase alone, where c* < 1.  Where q* is 0 or ∞ both are 1/|ln χ₁|: what fades or
    grows there is the signal.

    >>> from theory.activations import parse_activation
    >>> [round(xi, 4) for xi in depth_scales(parse_activation("relu"), 1.0, 0.0)]
    [1.4427, 1.4427]
    """
    q, chi, c = _end(phi, scale, bias_variance)
    inside = 0 < q < math.inf and c < 1
    slope = mean_field.correlation_slope(phi, scale, q, c) if inside else chi
    return mean_field.depth_scale(chi), mean_field.depth_scale(slope)


def residual_growth(
    phi: Activation, scale: float, bias_variance: float, blocks: int, stream: float = 1.0
) -> tuple[float, float]:
    """ln of what ``blocks`` residual blocks x ← x + W·φ(x) + b do to a gradient and to a distance.

    x begins with q = ``stream``.  Fresh zero-mean weights end a branch, so second moments add (Yang &
    Schoenholz 2017), and with χ₁(q) = σ_w²·E[φ′(√q·z)²] a block

        q' = q + σ_w²·E[φ(√q·z)²] + σ_b²,       multiplies a gradient's second moment by 1 + χ₁(q),

    and the squared distance of two nearby inputs over q by (1 + χ₁(q))·q/q', the slope of the
    correlation map at 1.  There is no fixed point: for tanh q grows linearly, and the gradient as
    e^(C·√blocks); for a rectifier without bias both grow by 1 + σ_w²·(1 + a²)/2, and the second is 0.

    >>> from theory.activations import parse_activation
    >>> [round(math.exp(value), 9) for value in residual_growth(parse_activation("relu"), 2.0, 0.0, 3)]
    [8.0, 1.0]
    """
    log_bias = math.log(bias_variance) if bias_variance else -math.inf
    log_scale, log_q = math.log(scale), math.log(stream)
    gradient = distance = 0.0
    for _ in range(blocks):
        slope = math.log1p(mean_field.chi_1(phi, scale, math.exp(min(log_q, LARGEST_LOG_Q))))
        branch = mean_field.log_add(
            log_scale + mean_field.log_activation_gain(phi, log_q), log_bias - log_q
        )
        growth = mean_field.log_add(0.0, branch)
        gradient, distance, log_q = gradient + slope, distance + slope - growth, log_q + growth
    return gradient, distance


def _end(phi: Activation, scale: float, bias: float) -> tuple[float, float, float]:
    """q*, χ₁ and c* where a signal of second moment 1 ends; q* NaN where every q is fixed."""
    limit = mean_field.fixed_points(phi, scale, bias).limit(1.0)
    chi = mean_field.chi_1(phi, scale, 1.0) if limit is None else limit.chi_1
    if abs(chi - 1) < EQUAL:
        chi = 1.0
    q = math.nan if limit is None else limit.q
    c = math.nan
    if limit is None:
        c = 1.0
    elif 0 < q < math.inf:
        c = mean_field.correlation_fixed_point(phi, scale, bias, q)
    return q, chi, c


def _phase(q: float, chi: float) -> str:
    if math.isnan(q):
        return "critical (any q)"
    if q == math.inf:
        return "exploding"
    if chi == 1:
        return "critical" if q else "critical, q → 0"
    if q == 0:
        return "vanishing"
    return "ordered" if chi < 1 else "chaotic"
