"""The activation modules of torch as functions of one variable: which they are, and where they bend.

Activations in a row, with nothing between them, are one function of the pre-activation: it is that
function whose moments are taken, because what leaves an activation is no Gaussian for the next.
Rectifiers of slopes a and then b are one of slope a·b (of a, if a < 0: then the negative half has
become positive).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from torch import nn

from theory.law import quadrature
from theory.predict.nonlinearities import Integrated, Nonlinearity, Rectifier

Array = NDArray[np.float64]

RECTIFIERS = (nn.ReLU, nn.LeakyReLU, nn.PReLU)
OTHERS = (nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Mish, nn.ELU, nn.CELU, nn.SELU, nn.Softplus,
          nn.Softsign, nn.LogSigmoid, nn.Tanhshrink, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid,
          nn.Hardshrink, nn.Softshrink, nn.Threshold)  # fmt: skip
ACTIVATIONS = RECTIFIERS + OTHERS
# Where the kinks of one activation are looked for among the values of those before it.
SEARCHED = np.concatenate([-np.geomspace(1e6, 1e-6, 2001), [0.0], np.geomspace(1e-6, 1e6, 2001)])


class Pointwise(nn.Sequential):
    """Activations in a row."""

    @property
    def is_rectifier(self) -> bool:
        """Whether all are rectifiers, and with that the row."""
        return all(isinstance(module, RECTIFIERS) for module in self)


def function_of(modules: Pointwise, dimensions: int) -> Nonlinearity:
    """The moments of ``modules``, acting on arrays of so many dimensions, channels first."""
    if modules.is_rectifier:
        return Rectifier(reduce(_composed, (slope_of(module, dimensions) for module in modules)))
    module = copy.deepcopy(modules).cpu().double().requires_grad_(False)
    for part in module:
        if hasattr(part, "inplace"):
            setattr(part, "inplace", False)  # noqa: B010 - autograd needs what it would overwrite
    return Integrated(quadrature.nonlinearity(module, kinks=kinks_of(list(module))))


def slope_of(module: nn.Module, dimensions: int) -> Array:
    """The negative slope of a rectifier; of a PReLU by channel, an array along the first axis."""
    if not isinstance(module, nn.PReLU):
        return np.asarray(float(getattr(module, "negative_slope", 0.0)))
    slopes: Array = module.weight.detach().cpu().double().numpy()
    return slopes.reshape((-1,) + (1,) * (dimensions - 1)) if slopes.size > 1 else slopes.reshape(())


def _composed(first: Array, second: Array) -> Array:
    return np.where(first >= 0, first * second, first)


def kinks_of(modules: Sequence[nn.Module]) -> tuple[float, ...]:
    """Where activations in a row bend: at kinks of the first, and where it meets those of the next.

    >>> kinks_of([nn.ReLU(), nn.Hardtanh()])
    (0.0, 1.0)
    """
    found: set[float] = set()
    for index, module in enumerate(modules):
        before = quadrature.nonlinearity(nn.Sequential(*modules[:index]).double())
        for kink in quadrature.kinks_of(module):
            found |= {kink} if not index else set(_where(before, kink))
    return tuple(sorted(found))


def _where(function: quadrature.Nonlinearity, value: float) -> list[float]:
    """The y at which ``function`` passes through ``value``."""

    def excess(y: Array | float) -> Array:
        return function.function(np.atleast_1d(np.asarray(y, dtype=np.float64))) - value

    side = np.sign(excess(SEARCHED))
    crossings = np.flatnonzero(side[:-1] * side[1:] < 0)
    roots = [
        brentq(lambda y: float(excess(y)[0]), float(SEARCHED[i]), float(SEARCHED[i + 1]), xtol=1e-14)
        for i in crossings
    ]
    touching = np.flatnonzero((side[1:-1] == 0) & (side[:-2] * side[2:] < 0)) + 1
    return [float(root) for root in (*roots, *SEARCHED[touching])]
