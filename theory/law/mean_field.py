"""Infinite width: what a layer does to the second moment, the correlation and the gradient.

With q the second moment of the pre-activations y_l, c the correlation of two inputs' y_l, weights
of variance Var[w] with s = fan_in·Var[w], and biases of variance σ_b², the next layer's are (Poole
et al. 2016, Eq. 3 and 6; s is their σ_w²)

    q' = s·E[φ(√q·z)²] + σ_b²,                      z ~ N(0, 1)
    c' = (s·E[φ(√q·u)·φ(√q·v)] + σ_b²)/q',          u, v ~ N(0, 1), E[uv] = c
    χ₁ = s·E[φ′(√q·z)²],                            a gradient's growth, and dc'/dc at c = 1.

For a rectifier E[φ(√q·z)²] = A₂·q, the first map is linear, and it holds *exactly at every width*
for the expected second moment (only the symmetry of the weights is used).  All else here is the
limit of infinite width.

χ₁ = 1 is criticality (Schoenholz et al. 2017): below, two inputs become one and gradients vanish
(the ordered phase); above, close inputs part and gradients explode (the chaotic phase); a
perturbation lives for ξ = 1/|ln χ₁| layers.  A rectifier has χ₁ = s·A₂ whatever q is, and a single
critical point, σ_b² = 0 and s = 2/(1 + a²), where every q is a fixed point (He et al. 2015, Eq. 15).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from theory.activations import Activation
from theory.errors import RequestError
from theory.law import quadrature
from theory.law.quadrature import Nonlinearity

Array = NDArray[np.float64]
Phi = Activation | Nonlinearity

# Fixed points are looked for in at least this range of ln q, at this distance.
LOWEST, HIGHEST, STEP = -32.0, 32.0, 0.25
# What differs from an equality by less than this is one: 1e-12 is quadrature's accuracy.
EQUAL = 1e-12


def _is_rectifier(phi: Phi) -> TypeGuard[Activation]:
    return isinstance(phi, Activation) and phi.is_rectifier


# ------------------------------------------------------------------------- second moment


_smooth_second_moment = lru_cache(maxsize=65536)(quadrature.second_moment)
_smooth_derivative_moment = lru_cache(maxsize=65536)(quadrature.derivative_second_moment)


def log_activation_gain(activation: Phi, log_q: float) -> float:
    """ln(E[φ(√q·z)²]/q), finite for every finite ``log_q``.

    Outside e^±200 a smooth activation has reached its asymptote, which a power law continues.
    """
    if _is_rectifier(activation):
        return math.log(activation.second_moment) if activation.second_moment else -math.inf
    inside = min(max(log_q, -200.0), 200.0)
    gain = math.log(_smooth_second_moment(activation, math.exp(inside))) - inside
    if log_q <= 200.0:
        return gain
    previous = math.log(_smooth_second_moment(activation, math.exp(inside - 1))) - (inside - 1)
    return gain + (gain - previous) * (log_q - inside)


def log_second_moments(
    activation: Phi,
    log_scales: Sequence[float],
    log_input: float = 0.0,
    bias_variance: float | Sequence[float] = 0.0,
) -> list[float]:
    """ln of the expected second moment of y_l, l = 1 … L, of a dense stack.

    ``log_scales`` holds ln s_l, s_l = fan_in·Var[w_l]; ``log_input`` is ln of the mean of x_0², and
    ``bias_variance`` of all layers, or of each.  The first layer has no activation before it.  Exact
    for rectifiers at every width (He et al. 2015, Eq. 7–9), the infinite-width limit otherwise (Poole
    et al. 2016, Eq. 3).

    >>> import math; from theory.activations import parse_activation
    >>> he = log_second_moments(parse_activation("relu"), [math.log(2)] * 3)
    >>> [round(math.exp(value), 12) for value in he]
    [2.0, 2.0, 2.0]
    """
    log_q, result = -math.inf, []
    variances = np.broadcast_to(bias_variance, len(log_scales)).tolist()
    for layer, (log_scale, variance) in enumerate(zip(log_scales, variances, strict=True)):
        log_bias = math.log(variance) if variance else -math.inf
        log_power = log_input if layer == 0 else log_q + log_activation_gain(activation, log_q)
        log_q = log_add(log_scale + log_power, log_bias)
        result.append(log_q)
    return result


def log_add(first: float, second: float) -> float:
    """ln(e^first + e^second) without overflow; −∞ stands for zero."""
    high, low = max(first, second), min(first, second)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


# --------------------------------------------------------------------------- correlation


def correlation_step(phi: Phi, log_q: float, correlation: float) -> float:
    """Correlation E[φ(y)φ(y')]/E[φ(y)²] after the activation, for y, y' of second moment e^log_q.

    For a rectifier it does not depend on q (``Activation.correlation_map``).  It is not centered:
    the mean of φ counts, as it does in the next layer's variance.
    """
    if _is_rectifier(phi):
        return float(phi.correlation_map(correlation))
    return _smooth_correlation_step(phi, min(max(log_q, -200.0), 200.0), correlation)


@lru_cache(maxsize=65536)
def _smooth_correlation_step(phi: Phi, log_q: float, correlation: float) -> float:
    function, std = quadrature.nonlinearity(phi).function, math.exp(log_q / 2)

    def product(u: Array, v: Array) -> Array:  # divided by the scale, so that nothing overflows
        return (function(std * u) / std) * (function(std * v) / std)

    power = math.exp(log_activation_gain(phi, log_q))
    return quadrature.pair_expectation(product, correlation) / power


def correlations(
    phi: Phi,
    log_scales: Sequence[float],
    correlation: float,
    log_input: float = 0.0,
    bias_variance: float = 0.0,
) -> list[float]:
    """Correlation of two inputs' pre-activations y_l, l = 1 … L (Poole et al. 2016, Eq. 6).

    The inputs have the given ``correlation`` and equal second moments e^log_input.  y_1 is linear in
    the input: without bias its correlation is still the input's, and y_{l+1} has gone through l
    activations.

    >>> from theory.activations import parse_activation
    >>> [round(c, 6) for c in correlations(parse_activation("relu"), [0.0] * 3, 0.0)]
    [0.0, 0.31831, 0.493731]
    """
    log_q = log_second_moments(phi, log_scales, log_input, bias_variance)
    log_bias = math.log(bias_variance) if bias_variance else -math.inf
    c, result = correlation, []
    for layer, log_here in enumerate(log_q):
        after = c if layer == 0 else correlation_step(phi, log_q[layer - 1], c)
        bias_share = math.exp(log_bias - log_here)
        c = min(max(after + bias_share * (1 - after), -1.0), 1.0)
        result.append(c)
    return result


# ------------------------------------------------------------------- gradient, depth scale


def chi_1(activation: Phi, scale: float, q: float | None = None) -> float:
    """χ₁ = s·E[φ′(√q·z)²], s·A₂ for a rectifier (Schoenholz et al. 2017, Eq. 5).

    The growth per layer of a gradient's second moment, and the slope of the correlation map at 1.  A
    rectifier needs no ``q``; for the others it is the second moment of the pre-activations.
    """
    if _is_rectifier(activation):
        return scale * activation.second_moment
    if q is None:
        raise RequestError(
            f"{activation.name} is no rectifier: its χ₁ depends on the second moment q, so name one"
        )
    return scale * _smooth_derivative_moment(activation, q)


def correlation_slope(phi: Phi, scale: float, q: float, correlation: float) -> float:
    """dc'/dc at a fixed point q: s·E[φ′(√q·u)·φ′(√q·v)] (Schoenholz et al. 2017, Eq. 9).

    For a rectifier q drops out (``Activation.slope_product``).
    """
    if _is_rectifier(phi):
        return scale * phi.slope_product(correlation)
    return scale * quadrature.covariance(phi, (q, q), correlation, derivative=True)


def depth_scale(chi: float) -> float:
    """ξ = 1/|ln χ|, the number of layers after which a perturbation has changed by a factor e.

    >>> round(depth_scale(0.5), 4)  # Xavier and ReLU
    1.4427
    """
    if chi <= 0:
        return 0.0
    log_chi = math.log(chi)
    return math.inf if abs(log_chi) < EQUAL else 1 / abs(log_chi)


# -------------------------------------------------------------------------- fixed points


@dataclass(frozen=True)
class FixedPoint:
    """One q with q' = q: ``slope`` is dq'/dq there, ``chi_1`` the gradient's growth.

    ``q`` may be 0, or inf, which stands for a signal that grows without bound and carries the
    asymptotic growth as its slope.  ``stable``: signals nearby tend to it.
    """

    q: float
    slope: float
    chi_1: float
    stable: bool


@dataclass(frozen=True)
class FixedPoints:
    """Every fixed point of the second moment, in rising order.

    ``degenerate``: every q is one (a rectifier with σ_b = 0 and s = 2/(1 + a²)); ``points`` is then
    empty, since naming one would be arbitrary.
    """

    points: tuple[FixedPoint, ...]
    degenerate: bool = False

    @property
    def stable(self) -> tuple[FixedPoint, ...]:
        """The points that signals tend to."""
        return tuple(point for point in self.points if point.stable)

    def limit(self, q: float) -> FixedPoint | None:
        """Where a signal of second moment ``q`` > 0 ends; None where every q is a fixed point.

        Of the fixed points next to q, the stable one: true where E[φ²] rises with q.
        """
        if any(point.q == q for point in self.points):
            return next(point for point in self.points if point.q == q)
        below = [point for point in self.points if point.q < q][-1:]
        above = [point for point in self.points if point.q > q][:1]
        return next((point for point in (*below, *above) if point.stable), None)


def log_growth(phi: Phi, scale: float, bias_variance: float, log_q: float) -> float:
    """ln(q'/q) of one layer at q = e^log_q; zero at a fixed point."""
    log_bias = math.log(bias_variance) if bias_variance else -math.inf
    return log_add(math.log(scale) + log_activation_gain(phi, log_q), log_bias - log_q)


def fixed_points(phi: Phi, scale: float, bias_variance: float = 0.0) -> FixedPoints:
    """The fixed points of q' = s·E[φ(√q·z)²] + σ_b² (Poole et al. 2016, §2.1).

    For a rectifier in closed form; else by bisection of ln(q'/q) between e^−32 and e^32, beyond which
    its sign decides on 0 and ∞.

    >>> from theory.activations import parse_activation
    >>> fixed_points(parse_activation("relu"), 2.0).degenerate
    True
    >>> [round(point.q, 9) for point in fixed_points(parse_activation("relu"), 1.0, 0.1).stable]
    [0.2]
    """
    if scale <= 0 or bias_variance < 0:
        raise RequestError(
            f"σ_w² must be above 0 and σ_b² at least 0, not {scale:g} and {bias_variance:g}"
        )
    if _is_rectifier(phi):
        return _rectifier_fixed_points(scale * phi.second_moment, bias_variance)
    # q* is at least σ_b², and at most σ_w²·max φ² + σ_b² where φ is bounded
    lowest = min(LOWEST, math.log(bias_variance) - 1) if bias_variance else LOWEST
    grid = np.arange(lowest, max(HIGHEST, math.log(scale + bias_variance) + 4) + STEP, STEP)
    growth = np.array([log_growth(phi, scale, bias_variance, t) for t in grid])
    signs = np.where(np.abs(growth) > EQUAL, np.sign(growth), 0.0)
    known = np.flatnonzero(signs)
    if not known.size:
        return FixedPoints((), degenerate=True)
    points = []
    if not bias_variance:
        points.append(_end(phi, scale, 0.0, signs[known[0]] < 0))
    for left, right in pairwise(known):
        if signs[left] != signs[right]:
            points.append(_crossing(phi, scale, bias_variance, grid[left], grid[right]))
    if signs[known[-1]] > 0:
        points.append(_end(phi, scale, math.inf, stable=True))
    return FixedPoints(tuple(points))


def _rectifier_fixed_points(chi: float, bias_variance: float) -> FixedPoints:
    """q' = χ₁·q + σ_b², a straight line."""
    critical = abs(chi - 1) < EQUAL
    if critical and not bias_variance:
        return FixedPoints((), degenerate=True)
    points = []
    if not bias_variance:
        points.append(FixedPoint(0.0, chi, chi, chi < 1))
    elif chi < 1 and not critical:
        points.append(FixedPoint(bias_variance / (1 - chi), chi, chi, True))
    if critical or chi > 1:
        points.append(FixedPoint(math.inf, chi, chi, True))
    return FixedPoints(tuple(points))


def _end(phi: Phi, scale: float, q: float, stable: bool) -> FixedPoint:
    near = math.exp(150.0 if q else -150.0)
    slope = scale * quadrature.second_moment_slope(phi, near)
    return FixedPoint(q, slope, chi_1(phi, scale, near), bool(stable))


def _crossing(phi: Phi, scale: float, bias_variance: float, low: float, high: float) -> FixedPoint:
    log_q = root(lambda t: log_growth(phi, scale, bias_variance, t), low, high)
    q = math.exp(log_q)
    slope = scale * quadrature.second_moment_slope(phi, q)
    return FixedPoint(q, slope, chi_1(phi, scale, q), abs(slope) < 1)


def root(function: Callable[[float], float], low: float, high: float, xtol: float = 1e-14) -> float:
    """Where ``function`` crosses zero between ``low`` and ``high``, by Brent's method."""
    from scipy.optimize import brentq  # takes a second to load, and most commands seek no root

    return float(brentq(function, low, high, xtol=xtol))


def correlation_fixed_point(phi: Phi, scale: float, bias_variance: float, q: float) -> float:
    """The correlation c* that two different inputs tend to, at a fixed point ``q`` > 0.

    1 in the ordered phase and at criticality; below 1 in the chaotic phase, where c = 1 repels.
    """
    if not 0 < q < math.inf:
        raise RequestError(f"the correlation has a fixed point at a finite q above 0, not at {q}")
    if chi_1(phi, scale, q) <= 1 + EQUAL:
        return 1.0
    log_q = math.log(q)
    power = scale * q * math.exp(log_activation_gain(phi, log_q))

    def drift(c: float) -> float:
        return (power * correlation_step(phi, log_q, c) + bias_variance) / q - c

    # f is a power series with positive coefficients, so f(c) − c is convex on [0, 1], at least 0 at
    # c = 0 and, in the chaotic phase, negative just below its zero at c = 1: one zero lies between
    if drift(0.0) <= EQUAL:
        return 0.0
    gap = 0.5
    while drift(1 - gap) >= 0:
        gap /= 2
        if gap < EQUAL:
            return 1.0
    return root(drift, 0.0, 1 - gap)


# ------------------------------------------------------------------------- critical line


def critical_point(phi: Phi, q: float) -> tuple[float, float]:
    """(σ_w², σ_b²) at which q is a fixed point with χ₁ = 1 (Schoenholz et al. 2017, §3).

    σ_w² = 1/E[φ′(√q·z)²] and σ_b² = q − σ_w²·E[φ(√q·z)²]: no search is needed.  σ_b² may come out
    negative: then no such network exists.
    """
    return contour_point(phi, q, 1.0)


def contour_point(phi: Phi, q: float, chi: float) -> tuple[float, float]:
    """(σ_w², σ_b²) at which q is a fixed point with the given χ₁; σ_b² may come out negative."""
    if _is_rectifier(phi):
        scale = chi / phi.second_moment
        return scale, q * (1 - chi)
    scale = chi / _smooth_derivative_moment(phi, q)
    return scale, q - scale * _smooth_second_moment(phi, q)


def critical_scale(phi: Phi, bias_variance: float) -> float:
    """σ_w² of the critical line at ``bias_variance`` = σ_b²: χ₁ = 1 at a stable fixed point.

    Raises ``RequestError`` where there is none, as for a rectifier with σ_b² > 0.

    >>> from theory.activations import parse_activation
    >>> critical_scale(parse_activation("relu"), 0.0), critical_scale(parse_activation("tanh"), 0.0)
    (2.0, 1.0)
    """
    if _is_rectifier(phi):
        if bias_variance == 0:
            return 1 / phi.second_moment
        raise RequestError(f"{phi.name} is critical at σ_b² = 0 only, not at {bias_variance:g}")

    def excess(t: float) -> float:
        return critical_point(phi, math.exp(t))[1] - bias_variance

    if bias_variance == 0:  # the line may start at q → 0, where σ_w² = 1/φ′(0)²
        start = 1 / _smooth_derivative_moment(phi, 1e-60)
        if any(point.q == 0 for point in fixed_points(phi, start).stable):
            return round(start, 14)
    grid = np.arange(LOWEST, HIGHEST + STEP, STEP)
    values = np.array([excess(t) for t in grid])
    for left in np.flatnonzero((np.abs(values[:-1]) > EQUAL) & (values[:-1] * values[1:] < 0)):
        q = math.exp(root(excess, grid[left], grid[left + 1]))
        scale = critical_point(phi, q)[0]
        if scale * quadrature.second_moment_slope(phi, q) < 1:
            return scale
    raise RequestError(f"{phi.name} has no stable critical point at σ_b² = {bias_variance:g}")
