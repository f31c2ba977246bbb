"""What is known of a value on a tape, and how gradients come with it.

A ``Moment`` holds E[x²] over draws of the weights for every unit and every input, as a float64 tensor
``power`` that broadcasts to the value's shape: a dimension along which the law gives one number for all
has size 1.  ``power`` is a torch graph.  Where a rule maps second moments linearly, q → A q with
A_ij = E[(∂y_i/∂x_j)²], gradients of independent cotangents go back by Aᵀ (He et al. 2015, Eq. 12): that
is what autograd does with the same graph.  So a rule is written once, forward, and a value that is used
twice sums its gradients without a line of code.  Where the map is not linear ``with_slope`` gives value
and derivative apart.

Signs say when cross terms vanish.  Flip the sign of one weight tensor and of its bias: the law of a
network does not change.  A value that is *odd* in a weight that another one does not depend on has no
correlation with it, E[uv] = 0 exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import nn

from theory.precision import widened
from theory.predict.readings import second_moment
from theory.probe import at_gradient

# What a prediction rests on: the names that its rows carry.
EXACT = "exact"
INFINITE_WIDTH = "infinite width"
INFINITE_BATCH = "infinite batch"
HELD_WEIGHTS = "held weights"
SHARED_WEIGHTS = "shared weights"
GIVEN_ATTENTION = "given attention"
GAUSSIAN_LOGITS = "Gaussian logits"
MEASURED_FACTOR = "measured factor"
NO_CLOSED_FORM = "no closed form"
BASES = (
    INFINITE_WIDTH, INFINITE_BATCH, HELD_WEIGHTS, SHARED_WEIGHTS, GIVEN_ATTENTION, GAUSSIAN_LOGITS,
    MEASURED_FACTOR, NO_CLOSED_FORM,
)  # fmt: skip


def basis_name(basis: frozenset[str]) -> str:
    """``basis`` in words, in the order of ``BASES``."""
    return " + ".join(name for name in BASES if name in basis) or EXACT


@dataclass(frozen=True)
class Moment:
    """What is known of a value.

    power      E[x²], float64, of the value's number of dimensions, each of its size or of size 1
    odd        weights (a bit each) whose change of sign changes that of the value
    seen       weights that the value depends on
    symmetric  x and −x have one law over draws, unit by unit
    gaussian   x is Gaussian with mean 0 in the limit of infinite width
    center     E[μ²] of the channels (dimension 1), like ``power``; None if the run's share of it holds
    with_mean  E[xμ], μ the mean of the channel; None if it is the same everywhere
    units      which output of its weight layer each number is, if it is one
    basis      what ``power`` rests on, empty for exact
    back       what the slopes of the operation that made it rest on
    """

    power: torch.Tensor
    odd: int = 0
    seen: int = 0
    symmetric: bool = False
    gaussian: bool = False
    center: torch.Tensor | None = None
    with_mean: torch.Tensor | None = None
    units: torch.Tensor | None = None
    basis: frozenset[str] = frozenset()
    back: frozenset[str] = frozenset()

    @property
    def mean(self) -> float:
        """E[x²], mean over the whole value."""
        return float(self.power.detach().mean())

    def scaled(self, factor: torch.Tensor | float) -> Moment:
        """Of the value times a number, or a tensor that is no value, of square ``factor``."""
        return replace(self, power=self.power * factor, center=None, units=None)


def of_constant(tensor: torch.Tensor, bit: int = 0) -> Moment:
    """Of a tensor that is no value: its own squares; a parameter without a mean is odd in itself.

    A single number is its own mean.
    """
    around_zero = has_no_mean(tensor) and (tensor.numel() > 1 or not tensor.any())
    odd = bit if around_zero else 0
    return Moment(widened(tensor.detach()).square(), odd, bit, around_zero, around_zero)


def has_no_mean(tensor: torch.Tensor) -> bool:
    """Whether the mean of ``tensor`` is as near to 0 as that of as many draws of a law of mean 0."""
    size, mean = second_moment(tensor), float(tensor.detach().mean(dtype=torch.float64))
    if not size > 0:
        return True
    constant = tensor.numel() > 1 and size - mean**2 <= 1e-6 * size
    return not constant and mean**2 <= 25 * size / tensor.numel()


def independent(first: Moment, second: Moment) -> bool:
    """Whether E[uv] = 0 for a change of sign: one is odd in a weight that the other never met."""
    return bool(first.odd & ~second.seen or second.odd & ~first.seen)


def joined(moments: Iterable[Moment], power: torch.Tensor) -> Moment:
    """Of a value that is made of several side by side, or is their sum."""
    parts = list(moments)
    odd, seen = parts[0].odd, 0
    for part in parts:
        odd &= part.odd
        seen |= part.seen
    return Moment(
        power,
        odd,
        seen,
        all(part.symmetric for part in parts),
        all(part.gaussian for part in parts),
        basis=frozenset().union(*(part.basis for part in parts)),
    )


def with_slope(
    value: torch.Tensor | float, slope: torch.Tensor | float, power: torch.Tensor
) -> torch.Tensor:
    """A tensor that is ``value`` and whose derivative by ``power`` is ``slope``, unit by unit.

    Where no gradient arrived a slope is unknown (NaN), and counts as 0: nothing passes there.
    """
    known = torch.nan_to_num(torch.as_tensor(slope, dtype=torch.float64))
    return torch.as_tensor(value, dtype=torch.float64).detach() + known * (power - power.detach())


def with_total(
    function: Callable[[torch.Tensor], torch.Tensor], power: torch.Tensor, slope: float
) -> torch.Tensor:
    """``function`` of ``power``, its gradients scaled so that their sum is ``slope`` times what came.

    So a slope that was measured over a whole value keeps the profile that ``function`` gives it.  An
    unknown slope (NaN) counts as 0.
    """
    slope = 0.0 if math.isnan(slope) else slope
    came: list[torch.Tensor] = []
    inside = power.view_as(power)
    if inside.requires_grad:
        at_gradient(inside, lambda gradient: _scaled_to(gradient, slope * came.pop()))
    made = function(inside)
    if made.requires_grad:
        at_gradient(made, lambda gradient: came.append(gradient.sum()))
    return made


def _scaled_to(gradient: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    whole = gradient.sum()
    return gradient * (total / whole) if whole else gradient


def narrowed(power: torch.Tensor) -> torch.Tensor:
    """``power`` with size 1 where it was only spread out; gradients of all units add up there."""
    for dimension, (size, stride) in enumerate(zip(power.shape, power.stride(), strict=True)):
        if size > 1 and stride == 0:
            power = power.narrow(dimension, 0, 1)
    return power


def resized(power: torch.Tensor, before: tuple[int, ...], after: tuple[int, ...]) -> torch.Tensor:
    """The profile of ``power`` on a value of another shape: means over the parts of each axis.

    One mean for all where the axes do not match.  The sum of a gradient is kept.
    """
    if len(before) != len(after):
        return power.mean().reshape((1,) * len(after))
    for axis, (old, new) in enumerate(zip(before, after, strict=True)):
        if old == new or power.shape[axis] == 1:
            continue
        if new == 1:
            power = power.mean(axis, keepdim=True)
        else:
            moved = power.movedim(axis, -1)
            pooled = nn.functional.adaptive_avg_pool1d(moved.reshape(1, -1, old), new)
            power = pooled.reshape(*moved.shape[:-1], new).movedim(-1, axis)
    return power
