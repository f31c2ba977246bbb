"""Gaussian expectations E[f(z)], z ~ N(0, 1), of any activation, in float64.

Gauss–Legendre panels on both sides of zero, geometrically refined towards it.  Panels never cross
zero, so the kink of a rectifier costs no accuracy, and the refinement resolves an activation whose
features are as narrow as 1e-6 standard deviations (a tanh under a huge signal).  Beyond |z| = 14
the Gaussian mass is below 1e-44.

This is the oracle that the closed forms are tested against, and the only source for activations
that have none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory.rectifiers import Activation

Array = NDArray[np.float64]
Function = Callable[[Array], Array]


@cache
def gaussian_nodes() -> tuple[Array, Array]:
    """Nodes z (sorted) and weights w with Σ w·f(z) = E[f(z)]; both of shape (n,)."""
    edges = np.concatenate([[0.0], np.geomspace(1e-7, 1.0, 15), [2.0, 3.5, 5.0, 7.0, 10.0, 14.0]])
    nodes, weights = np.polynomial.legendre.leggauss(24)
    half = np.diff(edges)[:, None] / 2
    positive = (edges[:-1, None] + half * (1 + nodes)).ravel()
    density = (half * weights).ravel() * np.exp(-(positive**2) / 2) / np.sqrt(2 * np.pi)
    return np.concatenate([-positive[::-1], positive]), np.concatenate([density[::-1], density])


def expectation(function: Function) -> float:
    """E[f(z)] for z ~ N(0, 1); ``function`` maps an array to an array of the same shape.

    >>> round(expectation(lambda z: np.maximum(z, 0) ** 2), 12)
    0.5
    """
    z, w = gaussian_nodes()
    return float(np.dot(w, function(z)))


def as_function(activation: Activation) -> Function:
    """``activation`` as a numpy function in float64, evaluated by its own torch module."""
    import torch

    module = activation.module().double()

    def function(values: Array) -> Array:
        with torch.no_grad():
            result: Array = module(torch.from_numpy(np.ascontiguousarray(values))).numpy()
        return result

    return function


def second_moment(activation: Activation | Function, variance: float = 1.0) -> float:
    """E[φ(y)²] for y ~ N(0, variance)."""
    phi = as_function(activation) if isinstance(activation, Activation) else activation
    std = np.sqrt(variance)

    def squared(z: Array) -> Array:
        values: Any = phi(std * z)
        return np.asarray(values, dtype=np.float64) ** 2

    return expectation(squared)
