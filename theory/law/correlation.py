"""The correlation of two inputs at finite width: the map's correction of order 1/width.

At infinite width the correlation of two inputs' pre-activations follows the correlation
map (``theory.law.mean_field``).  Networks are finite, and
at depth L and width n they leave the map by O(L/n).  For Gaussian weights, rectifiers and no biases
the deviation is known to first order in 1/n.  Given the correlation ρ after a layer, the next layer's
units are independent pairs of normals of correlation ρ, and the correlation of their n activations is
a smooth function of three sample means: of X = φ(u)²/A₂, Y = φ(v)²/A₂ and Z = φ(u)φ(v)/A₂.  With f
the correlation map and V, C variances and covariances of one unit, the delta method gives

    E[ρ'|ρ] = f + b/n,    b = ½[(3f/2)·V_X + (f/2)·C_XY − 2·C_XZ]
    Var[ρ'|ρ] = w/n,      w = V_Z + (f²/2)(V_X + C_XY) − 2f·C_XZ

and along the layers, with δ/n the deviation of the mean and v/n the variance,

    δ' = f′·δ + ½f″·v + b,    v' = f′²·v + w.

Reading y instead of φ(y) adds one linear step: f = ρ, b = −ρ(1 − ρ²)/2, w = (1 − ρ²)².
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from theory.activations import Activation
from theory.law import mean_field

Array = NDArray[np.float64]


def first_order(phi: Activation, c_0: float, depth: int) -> tuple[Array, Array]:
    """(δ_l, v_l) of y_l, l = 1 … ``depth``: E[c_l] ≈ map + δ_l/n and Var[c_l] ≈ v_l/n; each (L,).

    For a rectifier, Gaussian weights, no biases and n units in every layer.

    >>> from theory.activations import parse_activation
    >>> first_order(parse_activation("linear"), 0.0, 3)[1].tolist()  # every layer adds its 1/n
    [1.0, 2.0, 3.0]
    """
    rho, shift, variance = c_0, 0.0, 0.0
    shifts, variances = np.empty(depth), np.empty(depth)
    for layer in range(depth):
        shifts[layer] = shift - rho * (1 - rho**2) / 2
        variances[layer] = variance + (1 - rho**2) ** 2
        slope, bend = derivatives(phi, rho)
        bias, scatter = unit_moments(phi, rho)
        shift = slope * shift + bend * variance / 2 + bias
        variance = slope**2 * variance + scatter
        rho = float(phi.correlation_map(rho))
    return shifts, variances


def derivatives(phi: Activation, rho: float) -> tuple[float, float]:
    """f′ and f″ of the correlation map; f″, infinite at ±1, is 0 there, where nothing varies."""
    a = phi.gain_slope
    slope = mean_field.correlation_slope(phi, 1 / phi.second_moment, 1.0, rho)
    inside = 1 - rho**2
    bend = (1 - a) ** 2 / (math.pi * (1 + a**2) * math.sqrt(inside)) if inside > 1e-12 else 0.0
    return slope, bend


def unit_moments(phi: Activation, rho: float) -> tuple[float, float]:
    """b and w of the module's docstring, of one activation."""
    a, power = phi.gain_slope, phi.second_moment
    f = float(phi.correlation_map(rho))
    v_x = 3 * phi.fourth_moment / power**2 - 1
    (same, cubed), (opposite, cubed_opposite) = half_moments(rho), half_moments(-rho)
    square = ((1 + a**4) * same + 2 * a**2 * opposite) / power**2
    c_xy, v_z = square - 1, square - f**2
    c_xz = ((1 + a**4) * cubed - (a + a**3) * cubed_opposite) / power**2 - f
    bias = (1.5 * f * v_x + 0.5 * f * c_xy - 2 * c_xz) / 2
    return bias, max(v_z + f**2 / 2 * (v_x + c_xy) - 2 * f * c_xz, 0.0)


def half_moments(rho: float) -> tuple[float, float]:
    """E[u₊²v₊²] (Cho & Saul 2009, degree 2) and, by parts, E[u₊³v₊] = 2E[u₊v₊] + ρ·E[u₊²·1(v > 0)]."""
    psi = math.acos(min(max(rho, -1.0), 1.0))
    sine, rest = math.sin(psi), math.pi - psi
    squares = 3 * sine * rho + rest * (1 + 2 * rho**2)
    cubed = 2 * (sine + rest * rho) + rho * (rest + sine * rho)
    return squares / (2 * math.pi), cubed / (2 * math.pi)
