"""Gaussian expectations E[f(z)], z ~ N(0, 1), of any activation, in float64.

Gauss–Legendre panels on both sides of zero, geometrically refined towards it.  Panels never cross
zero, so the kink of a rectifier costs no accuracy, and the refinement resolves an activation whose
features are as narrow as 1e-6 standard deviations (a tanh under a huge signal).  Beyond |z| = 14
the Gaussian mass is below 1e-44.

Expectations over two correlated normals, E[f(u, v)] with E[uv] = c = cos ψ, are taken in polar
coordinates, u = r·cos θ and v = r·cos(θ − ψ).  The lines u = 0 and v = 0, where the activations have
their kinks, are then the four rays θ = ±π/2 and ψ ± π/2: panels in θ end on them and shrink towards
them, so that a kink costs no accuracy here either, at any correlation.

This is the oracle that the closed forms are tested against, and the only source for activations
that have none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from theory.activations import Activation, is_module, on_arrays
from theory.errors import RequestError

if TYPE_CHECKING:
    from torch import nn

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

# Step of the numerical derivative, relative to |y|: it never crosses zero.
RELATIVE_STEP, LARGEST_STEP = 1e-3, 1e-2


@dataclass(frozen=True)
class Nonlinearity:
    """A function applied unit by unit, as the quadrature sees it.

    ``function`` and ``derivative`` map a float64 array to one of the same shape; ``kinks`` are the
    points other than zero where the function or its derivative jumps.
    """

    name: str
    function: Function
    derivative: Function
    kinks: tuple[float, ...] = ()


def nonlinearity(
    phi: Activation | Nonlinearity | nn.Module | Function,
    derivative: Function | None = None,
    kinks: tuple[float, ...] = (),
) -> Nonlinearity:
    """``phi`` as a ``Nonlinearity``: one of ours, a torch module, or any numpy function.

    The derivative of a torch module comes from autograd, that of a numpy function, unless it is
    given, from sixth-order central differences (good to about 1e-10).

    >>> nonlinearity(np.sin).derivative(np.array([0.0, np.pi])).round(9).tolist()
    [1.0, -1.0]
    """
    if isinstance(phi, Nonlinearity):
        return phi
    if isinstance(phi, Activation):
        return Nonlinearity(phi.name, phi.function, phi.derivative)
    if is_module(phi):
        function, by_autograd = on_arrays(phi.double())
        named = type(phi).__name__
        return Nonlinearity(named, function, derivative or by_autograd, kinks or kinks_of(phi))
    if not callable(phi):
        raise RequestError(
            f"an activation is a function of a numpy array, a torch module or one of ours, not {phi!r}"
        )
    name = getattr(phi, "__name__", type(phi).__name__)
    return Nonlinearity(name, phi, derivative or central_difference(phi, kinks), kinks)


def kinks_of(module: Any) -> tuple[float, ...]:
    """The points at which a torch activation or its derivative jumps; () for a smooth one."""
    at: dict[str, Callable[[Any], tuple[float, ...]]] = {
        "Hardtanh": lambda m: (m.min_val, m.max_val),
        "Hardswish": lambda m: (-3.0, 3.0),
        "Hardsigmoid": lambda m: (-3.0, 3.0),
        "Hardshrink": lambda m: (-m.lambd, m.lambd),
        "Softshrink": lambda m: (-m.lambd, m.lambd),
        "Threshold": lambda m: (m.threshold,),
        "Softplus": lambda m: (m.threshold / m.beta,),
    } | dict.fromkeys(("ReLU", "LeakyReLU", "PReLU", "ELU", "CELU", "SELU"), lambda m: (0.0,))
    names = (kind.__name__ for kind in type(module).__mro__)
    found = next((at[name](module) for name in names if name in at), ())
    return tuple(float(kink) for kink in found)


def central_difference(function: Function, kinks: tuple[float, ...] = ()) -> Function:
    """φ′ of a numpy ``function`` by sixth-order central differences that cross no kink, nor zero."""

    def derivative(values: Array) -> Array:
        y = np.asarray(values, dtype=np.float64)
        step = np.minimum(RELATIVE_STEP * np.abs(y), LARGEST_STEP)
        for kink in kinks:
            step = np.minimum(step, np.abs(y - kink) / 4)
        step = np.where(step > 0, step, RELATIVE_STEP)  # at the kink itself: an average of both sides
        difference = [function(y + k * step) - function(y - k * step) for k in (1, 2, 3)]
        result: Array = (45 * difference[0] - 9 * difference[1] + difference[2]) / (60 * step)
        return result

    return derivative


@cache
def gaussian_nodes(kinks: tuple[float, ...] = (), decades: int = 7) -> tuple[Array, Array]:
    """Nodes z (sorted) and weights w with Σ w·f(z) = E[f(z)]; both of shape (n,).

    No panel crosses zero or one of the ``kinks`` (of either sign).  The panels at zero are 10^−decades
    wide: features of f as narrow as ten times that are resolved.
    """
    finest = 10.0**-decades
    fine = np.geomspace(finest, 1.0, 2 * decades + 1)
    edges = np.concatenate([[0.0], fine, [2.0, 3.5, 5.0, 7.0, 10.0, 14.0]])
    extra = [abs(kink) for kink in kinks if finest < abs(kink) < 14.0]
    edges = np.unique(np.concatenate([edges, extra]))
    positive, widths = _panels(edges, 24)
    density = widths * np.exp(-(positive**2) / 2) / np.sqrt(2 * np.pi)
    return np.concatenate([-positive[::-1], positive]), np.concatenate([density[::-1], density])


def piecewise_nodes(offset: Array, std: Array, kinks: tuple[float, ...] = ()) -> tuple[Array, Array]:
    """Nodes y and weights w, both (m, n), with Σ w·f(y) = E[f(y)] for y ~ N(offset, std²), each (m,).

    No panel crosses a kink of f or zero, and panels shrink towards them.
    """
    spread = np.where(std > 0, std, 1.0)
    fine = np.concatenate([[0.0], np.geomspace(1e-7, 1.0, 8)])
    base = np.array([2.0, 3.5, 5.0, 7.0, 10.0, 14.0])
    around = [
        ((center - offset) / spread)[:, None] + np.concatenate([-fine[:0:-1], fine])
        for center in sorted({0.0, *kinks})
    ]
    ends = np.broadcast_to(np.concatenate([-base[::-1], [0.0], base]), (len(offset), 13))
    edges = np.sort(np.clip(np.concatenate([ends, *around], axis=1), -14.0, 14.0), axis=1)
    z, widths = _panels(edges, 24)
    return offset[:, None] + std[:, None] * z, widths * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def _panels(edges: Array, order: int) -> tuple[Array, Array]:
    """Gauss–Legendre nodes and weights, (…, n), on panels between ``edges`` (…, m)."""
    nodes, weights = np.polynomial.legendre.leggauss(order)
    half = np.diff(edges)[..., None] / 2
    shape = (*edges.shape[:-1], -1)
    return (edges[..., :-1, None] + half * (1 + nodes)).reshape(shape), (half * weights).reshape(shape)


def _decades(std: float) -> int:
    """How far panels shrink for φ(std·z), φ having features of size 1e-3 and more."""
    return max(7, 3 + math.ceil(math.log10(std))) if std > 0 else 7


def expectation(function: Function, kinks: tuple[float, ...] = (), decades: int = 7) -> float:
    """E[f(z)] for z ~ N(0, 1); ``function`` maps an array to an array of the same shape.

    >>> round(expectation(lambda z: np.maximum(z, 0) ** 2), 12)
    0.5
    """
    z, w = gaussian_nodes(kinks, decades)
    return float(np.dot(w, function(z)))


def moment(
    phi: Activation | Nonlinearity | Function,
    power: int = 1,
    variance: float = 1.0,
    *,
    derivative: bool = False,
) -> float:
    """E[φ(y)^power], or E[φ′(y)^power], for y ~ N(0, variance)."""
    unit, std = nonlinearity(phi), math.sqrt(variance)
    function = unit.derivative if derivative else unit.function

    def raised(z: Array) -> Array:
        values: Any = function(std * z)
        return np.asarray(values, dtype=np.float64) ** power

    kinks = tuple(kink / std for kink in unit.kinks) if std else ()
    return expectation(raised, kinks, _decades(std))


def second_moment(phi: Activation | Nonlinearity | Function, variance: float = 1.0) -> float:
    """E[φ(y)²] for y ~ N(0, variance)."""
    return moment(phi, 2, variance)


def derivative_second_moment(phi: Activation | Nonlinearity | Function, variance: float = 1.0) -> float:
    """E[φ′(y)²] for y ~ N(0, variance): what one layer does to the square of a gradient."""
    return moment(phi, 2, variance, derivative=True)


def second_moment_slope(phi: Activation | Nonlinearity | Function, variance: float = 1.0) -> float:
    """d E[φ(y)²]/dq for y ~ N(0, q) at q = ``variance``: E[(z² − 1)·φ(√q·z)²]/(2q), by parts."""
    unit, std = nonlinearity(phi), math.sqrt(variance)
    kinks = tuple(kink / std for kink in unit.kinks)
    values = expectation(lambda z: (z**2 - 1) * unit.function(std * z) ** 2, kinks, _decades(std))
    return values / (2 * variance)


def pair_expectation(function: Callable[[Array, Array], Array], correlation: float) -> float:
    """E[f(u, v)] for standard normals u, v with E[uv] = ``correlation`` in [−1, 1].

    ``function`` maps two arrays of one shape to one.  It may have kinks on u = 0 and on v = 0; a kink
    elsewhere leaves an error of about 1e-5.

    >>> round(pair_expectation(lambda u, v: u**2 * v**2, 0.5), 12)  # 1 + 2c²
    1.5
    """
    psi = math.acos(min(max(correlation, -1.0), 1.0))
    r, radial = _radial_nodes()
    theta, angular = _angular_nodes(psi)
    values = function(r[:, None] * np.cos(theta), r[:, None] * np.cos(theta - psi))
    return float(radial @ values @ angular)


def covariance(
    phi: Activation | Nonlinearity | Function,
    variances: tuple[float, float],
    correlation: float,
    *,
    derivative: bool = False,
) -> float:
    """E[φ(y₁)φ(y₂)], or E[φ′(y₁)φ′(y₂)], for normals of the given variances and correlation."""
    unit = nonlinearity(phi)
    function = unit.derivative if derivative else unit.function
    first, second = (math.sqrt(variance) for variance in variances)
    return pair_expectation(lambda u, v: function(first * u) * function(second * v), correlation)


@cache
def _radial_nodes() -> tuple[Array, Array]:
    """Nodes r > 0 and weights for the density r·exp(−r²/2), both (n,)."""
    edges = np.concatenate([[0.0], np.geomspace(1e-3, 1.0, 6), [2.0, 3.0, 4.5, 6.5, 9.0, 13.0]])
    r, widths = _panels(edges, 14)
    return r, widths * r * np.exp(-(r**2) / 2)


def _angular_nodes(psi: float) -> tuple[Array, Array]:
    """Nodes θ in [0, 2π) and weights dθ/2π: panels refined towards the rays of the kinks."""
    rays = np.sort(np.array([math.pi / 2, 3 * math.pi / 2, psi + math.pi / 2, psi + 3 * math.pi / 2]))
    arcs = np.diff(np.append(rays, rays[0] + 2 * math.pi))[:, None]
    fine = np.concatenate([[0.0], np.geomspace(1e-5, 1.0, 9)]) / 2
    edges = np.concatenate([fine, 1 - fine[-2::-1]])  # fractions of an arc, fine at both ends
    inside, widths = _panels(edges, 12)
    return (rays[:, None] + arcs * inside).ravel(), (arcs * widths).ravel() / (2 * math.pi)
