"""The gain of every activation: how large weights must be for the signal to keep its size.

With weights of variance g²/fan_in and pre-activations of variance 1, the next layer's are of variance
g²·E[φ(z)²], so that He's condition (He et al. 2015, Eq. 10) reads for any activation

    forward     g² · E[φ(z)²]  = 1,      z ~ N(0, 1)
    backward    g² · E[φ′(z)²] = 1       (Eq. 14, weights of variance g²/fan_out).

For a rectifier both integrals are A₂ = (1 + a²)/2 and the two gains agree, at every variance of the
signal.  For any other activation they differ: no gain keeps both the signal and the gradient at unit
variance.  Nor is a unit second moment always a place to stay: it attracts nearby signals only where
dq'/dq = g²·d E[φ(√q·z)²]/dq < 1 at q = 1.
"""

from __future__ import annotations

import math

from theory.activations import Activation, Function
from theory.law import quadrature
from theory.law.quadrature import Nonlinearity


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
