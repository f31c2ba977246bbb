"""An activation: its torch module and its moments under a Gaussian input.

A *rectifier* of negative slope a is φ(y) = y for y > 0 and a·y otherwise: ReLU is a = 0, PReLU
starts at a = 0.25 (He et al. 2015, §2.1), leaky ReLU keeps a fixed, a = 1 is the linear unit.
For z ~ N(0, 1), half of the mass lies on each side, so that

    A₂ = E[φ(z)²] = (1 + a²)/2          (the factor in He et al. 2015, Eq. 15)
    A₄ = E[φ(z)⁴]/3 = (1 + a⁴)/2
    E[φ(z)] = (1 − a)/√(2π)             (not zero: why E[x²], and not Var[x], enters Eq. 7)

Rectifiers are homogeneous: φ(c·y) = c·φ(y) for c > 0.  Everything exact at finite width rests on
it.  The other activations are smooth; their moments depend on the scale of the input and come from
quadrature (``theory.law.quadrature``).

``correlation_map`` is the map of He-scaled networks on the correlation of two inputs; for ReLU it
is the arc-cosine kernel of degree 1 of Cho & Saul (2009).

``function`` and ``derivative`` are what the theory integrates: numpy functions.  A rectifier's are
written out; any other activation is evaluated by its torch module (``on_arrays``), so that its entry
in ``SMOOTH`` is all there is to write.  numpy and torch are loaded when they are first needed:
``--help`` asks this module for names alone.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeGuard

from theory.errors import RequestError, check_not_tiny, check_real, unknown_name

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]
    Function = Callable[[Array], Array]

PRELU_SLOPE = 0.25
SMOOTH = {"tanh": "Tanh", "gelu": "GELU", "silu": "SiLU", "elu": "ELU", "selu": "SELU"}  # in torch.nn
ACTIVATIONS = ("relu", "prelu", "prelu:SLOPE", "leaky-relu:SLOPE", "linear", *SMOOTH)

# What others call some of these; not accepted, but understood in an error.
OTHER_NAMES = {
    "swish": "silu",
    "identity": "linear",
    "none": "linear",
    "lrelu": "leaky-relu:SLOPE",
    "leakyrelu": "leaky-relu:SLOPE",
    "rectifier": "relu",
}


@dataclass(frozen=True)
class Activation:
    """One activation function.

    ``name`` is what the user typed (normalised), ``kind`` what it is; ``negative_slope`` is the
    slope for y ≤ 0 of a rectifier and None for a smooth activation.
    """

    name: str
    kind: str
    negative_slope: float | None

    @property
    def is_rectifier(self) -> bool:
        """Whether φ(c·y) = c·φ(y) for every c > 0."""
        return self.negative_slope is not None

    @property
    def gain_slope(self) -> float:
        """The slope that He's gain uses for this activation: its own, and 0 for a smooth one."""
        return self.negative_slope if self.negative_slope is not None else 0.0

    @property
    def second_moment(self) -> float:
        """A₂ = E[φ(z)²] for z ~ N(0, 1); only for rectifiers."""
        return (1 + self._slope() ** 2) / 2

    @property
    def fourth_moment(self) -> float:
        """A₄ = E[φ(z)⁴]/3 for z ~ N(0, 1); only for rectifiers."""
        return (1 + self._slope() ** 4) / 2

    @property
    def mean(self) -> float:
        """E[φ(z)] for z ~ N(0, 1); only for rectifiers."""
        return (1 - self._slope()) / math.sqrt(2 * math.pi)

    @property
    def variance_ratio(self) -> float:
        """Var[φ(z)]/E[φ(z)²] = 1 − (1 − a)²/(π(1 + a²)): 0.68169 for ReLU.

        The slip in many derivations of He's rule is to take this for 1.
        """
        return 1 - self.mean**2 / self.second_moment

    def correlation_map(self, correlation: ArrayLike) -> NDArray[Any]:
        """Correlation after one wide layer of two inputs with the given correlation in [−1, 1].

        f(c) = [(1+a)² c + (1−a)² (2/π)(√(1−c²) + c·arcsin c)] / [2(1+a²)]; same shape as the input.
        """
        import numpy as np

        a = self._slope()
        c = np.clip(np.asarray(correlation, dtype=np.float64), -1.0, 1.0)
        mapped: NDArray[Any] = ((1 + a) ** 2 * c + (1 - a) ** 2 * arc_cosine(c)) / (2 * (1 + a**2))
        return mapped

    def slope_product(self, correlation: float) -> float:
        """E[φ′(u)·φ′(v)] for standard normals with E[uv] = ``correlation``; only for rectifiers.

        [(1+a)² + (1−a)²·(2/π)·arcsin c]/4, the arc-cosine kernel of degree 0 for ReLU.
        """
        a = self._slope()
        return ((1 + a) ** 2 + (1 - a) ** 2 * (2 / math.pi) * math.asin(correlation)) / 4

    @property
    def function(self) -> Function:
        """φ on float64 arrays of any shape."""
        return _functions(self)[0]

    @property
    def derivative(self) -> Function:
        """φ′ on float64 arrays of any shape."""
        return _functions(self)[1]

    def module(self, *, inplace: bool = False) -> torch.nn.Module:
        """A new torch module of this activation (PReLU with one learned slope)."""
        from torch import nn

        match self.kind:
            case "relu":
                return nn.ReLU(inplace=inplace)
            case "prelu":
                return nn.PReLU(init=self._slope())
            case "leaky-relu":
                return nn.LeakyReLU(self._slope(), inplace=inplace)
            case "linear":
                return nn.Identity()
        module: nn.Module = getattr(nn, SMOOTH[self.kind])()
        return module

    def _slope(self) -> float:
        if self.negative_slope is None:
            raise RequestError(f"{self.name} is no rectifier: its moments depend on the input's scale")
        return self.negative_slope


def arc_cosine(correlation: Array) -> Array:
    """E[|u|·|v|] = (2/π)(√(1−c²) + c·arcsin c) for standard normals with E[uv] = c in [−1, 1]."""
    import numpy as np

    c = correlation
    result: Array = (2 / math.pi) * (np.sqrt(1 - c**2) + c * np.arcsin(c))
    return result


@cache
def _functions(activation: Activation) -> tuple[Function, Function]:
    import numpy as np

    a = activation.negative_slope
    if a is None:
        return on_arrays(activation.module().double())
    return (lambda y: np.where(y > 0, y, a * y)), (lambda y: np.where(y > 0, 1.0, a))


def is_module(phi: object) -> TypeGuard[torch.nn.Module]:
    """Whether ``phi`` is a torch module; where torch is not loaded there are none."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(phi, torch.nn.Module)


def on_arrays(phi: Callable[[torch.Tensor], torch.Tensor]) -> tuple[Function, Function]:
    """An elementwise function of float64 tensors, as a module is one, and φ′ by autograd, on arrays."""
    import numpy as np
    import torch

    def function(values: Array) -> Array:
        with torch.no_grad():
            result: Array = phi(torch.from_numpy(np.ascontiguousarray(values))).numpy()
        return result

    def derivative(values: Array) -> Array:
        with torch.inference_mode(False), torch.enable_grad():
            y = torch.tensor(values, dtype=torch.float64, requires_grad=True)
            (gradient,) = torch.autograd.grad(phi(y).sum(), y)
        result: Array = gradient.numpy()
        return result

    return function, derivative


def parse_activation(name: str) -> Activation:
    """The activation called ``name``; the names are listed in ``ACTIVATIONS``.

    >>> parse_activation("prelu:0.1").negative_slope
    0.1
    >>> parse_activation("relu").second_moment
    0.5
    """
    text = name.strip().lower()
    kind, colon, argument = text.partition(":")
    fixed = {"relu": 0.0, "linear": 1.0}
    if kind in fixed and not colon:
        return Activation(kind, kind, fixed[kind])
    if kind in SMOOTH and not colon:
        return Activation(kind, kind, None)
    if kind == "prelu" and not colon:
        return Activation("prelu", "prelu", PRELU_SLOPE)
    if kind == "leaky-relu" and not colon:
        raise RequestError("leaky-relu needs its slope: for instance leaky-relu:0.01")
    if kind in ("prelu", "leaky-relu"):
        slope = parse_number(f"the slope of {kind}", argument, example=f"{kind}:0.1")
        check_not_tiny(f"the slope of {kind}", slope)
        return Activation(
            f"{kind}:{short(slope)}", kind, check_real(f"the slope of {kind}", slope, -10, 10)
        )
    raise unknown_name("activation", name, ACTIVATIONS, OTHER_NAMES)


def short(value: float) -> str:
    """``value`` in as few digits as give it back exactly.

    >>> short(0.01), short(1.0), short(0.1234567)
    ('0.01', '1', '0.1234567')
    """
    brief = f"{value:g}"
    return brief if float(brief) == value else repr(value)


def parse_number(what: str, text: str, example: str) -> float:
    """``text`` as a float, or a ``RequestError`` that shows an ``example`` of what would be right."""
    try:
        return float(text)
    except ValueError:
        raise RequestError(f"{what} must be a number, not {text!r}: for instance {example}") from None
