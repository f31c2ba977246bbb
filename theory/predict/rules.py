"""What each operation of a tape does to second moments: the registry that ``network`` looks into.

A rule takes a ``Call`` and returns the ``Moment`` of every output, or None where it does not hold; what
has no rule, and what a rule declines, becomes a *measured factor*: the ratio of second moments, and of
gradients, that the operation had on this run.  To add a rule, write a function under ``@rule``.

    weight layer   E[y²] = Var[w]·Σ E[x²] + E[b²] over what an output sees (He et al. 2015, Eq. 7),
                   Var[w] the mean of w² that the tensor holds: exact over draws of the weights
    sum            q_u + q_v: exact where one of them is odd in a weight that the other never met; else
                   the correlation of this run, measured
    product        q_u·q_v for factors of which one has met a weight that the other has not: gated
                   units, squeeze and excitation; infinite width.  Of matrices, over units: Σ q_u·q_v
    rectifier      (1 + a²)/2 of what is symmetric: exact (Eq. 15)
    activation     quadrature over a Gaussian: infinite width
    layer norm     γ²·σ²/(σ² + ε) + β², and back γ²·(1 − 2/n)·E[1/σ²], of n Gaussian units
                   γ²/σ²·(n − 2)/(n − 3); RMS norm γ² and γ²·(1 − 1/n)·E[1/q], γ²/q·(n − 1)/(n − 2)
    batch norm     γ² + β² forward, with the profile over places kept; back the measured slope.  Group
                   and instance norm the same
    attention      Σ_ij A_ti A_tj E[v_i·v_j], A that of this run: exact over draws of the value weights;
                   back the measured slope
    softmax        E[Σ A²] of Gaussian logits, at the variance within a row that is predicted for them:
                   (1 − r)s², the share 1 − r that of this run; e^((1−r)s²)/T where T keys are many
                   (Kedia et al. 2024); back the measured slope
    dropout        1/(1 − p) both ways in train mode: exact
    recurrent      the mean field of the gates, step by step (``theory.law.recurrence``; the rule is in
                   ``recurrent``): infinite width; back the measured slope
    rearranging    the operation itself, on second moments: exact

Pools: measured factors, of degree 1 in what they are linear in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from theory.activations import on_arrays
from theory.law import quadrature
from theory.law.cross_entropy import softmax_concentration
from theory.precision import widened
from theory.predict.layers import Weights, weights_of
from theory.predict.moments import (
    GAUSSIAN_LOGITS,
    GIVEN_ATTENTION,
    INFINITE_BATCH,
    INFINITE_WIDTH,
    MEASURED_FACTOR,
    SHARED_WEIGHTS,
    Moment,
    has_no_mean,
    independent,
    joined,
    narrowed,
    of_constant,
    resized,
    with_slope,
    with_total,
)
from theory.predict.nonlinearities import Integrated, Nonlinearity
from theory.predict.readings import MASKED, second_moment
from theory.predict.tape import (
    KEEPS,
    MOVES,
    RECURRENT,
    Operation,
    Slot,
    Tape,
    Value,
    mapped,
    nothing,
    record,
)

Outputs = Sequence[Moment] | None
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Call:
    """One operation, what is known of its inputs, and what the run measured.

    moments  by value; a value that holds no real numbers has none
    bits     the weights by name, a bit each
    values   of the tape
    uses     by value, the operations that take it, seen through those that only move numbers
    """

    operation: Operation
    moments: dict[int, Moment]
    bits: dict[str, int]
    values: Sequence[Value]
    uses: Mapping[int, Sequence[Operation]]

    @property
    def following(self) -> Sequence[Operation]:
        """The operations that the first output comes to."""
        return self.uses.get(self.operation.outputs[0], ())

    def slope(self, index: int = 0) -> float:
        """Σ g² sent to the input of that index over Σ g² received, on this run."""
        return self.operation.slopes[index] if self.operation.slopes else math.nan

    def center(self, number: int) -> torch.Tensor:
        """E[μ²] of the channels of an input, by the share that it had on this run."""
        moment, value = self.moments[number], self.values[number]
        if moment.center is not None:
            return moment.center
        share = value.channel_mean / value.second_moment if value.second_moment else 0.0
        return moment.power.detach() * (share if math.isfinite(share) else 0.0)

    def argument(self, *names: str) -> Any:
        """The first argument of these names that there is, or None."""
        arguments = self.operation.arguments
        return next((arguments[name] for name in names if name in arguments), None)

    def moment(self, *names: str) -> Moment | None:
        """Of the argument, if it is a value."""
        found = self.argument(*names)
        return self.moments.get(found.value) if isinstance(found, Slot) else None

    def known(self, argument: Any) -> Moment:
        """Of a value, a parameter, a constant or a number among the arguments."""
        if isinstance(argument, Slot):
            return self.moments[argument.value]
        tensor = torch.as_tensor(argument, dtype=None)
        return of_constant(tensor.double(), self.bit if isinstance(argument, torch.Tensor) else 0)

    @property
    def bit(self) -> int:
        """Of the weights that the operation reads."""
        found = 0
        for name in self.operation.parameters:
            found |= self.bits[name]
        return found

    def out(self, index: int = 0) -> Value:
        """The value that the operation makes."""
        return self.values[self.operation.outputs[index]]


Rule = Callable[[Call], Outputs]
RULES: dict[str, Rule] = {}


def rule(names: str) -> Callable[[Rule], Rule]:
    """Register the decorated function for the operations ``names``, separated by blanks."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names.split(), function))
        return function

    return register


def needs_channels(name: str) -> bool:
    """Whether channel means after the operation ``name`` may be asked for."""
    rule_for = RULES.get(name)
    return rule_for not in (keep, move, token_norm)


def unit_axis(name: str) -> int | None:
    """Along which axis, from the end, the operation ``name`` makes units; 0 if it keeps its input's."""
    if name.startswith("conv"):
        return -1 - int(name[-2])
    if name in ("linear", "addmm", "matmul", "mm", *RECURRENT):
        return -1
    keeps = RULES.get(name) in (rectifier, activation, dropout, keep) or "pool" in name
    return 0 if keeps else None


def taped(model: nn.Module, inputs: Any, *, gradients: bool = True, seed: int = 0) -> Tape:
    """``record`` with all that the rules may ask for; without ``gradients`` what needs none."""
    channels, units = (needs_channels, unit_axis) if gradients else (nothing, nothing)
    return record(
        model, inputs, gradients=gradients, slopes=True, channels=channels, units=units,
        seed=seed,
    )  # fmt: skip


def log_weights(call: Call) -> dict[int, float]:
    """∂ ln q of the output by ln q of each input: shares of what is added or joined, else degrees."""
    inputs = [number for number in call.operation.inputs if number in call.moments]
    if call.operation.name in ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"):
        return {}
    if call.operation.name in ("add", "sub", "rsub", "cat", "stack"):
        sizes = [call.moments[n].mean * math.prod(call.values[n].shape) for n in inputs]
        return {n: size / (sum(sizes) or 1.0) for n, size in zip(inputs, sizes, strict=True)}
    return {
        n: d for n, d in zip(call.operation.inputs, _degrees(call), strict=True) if n in call.moments
    }


def only_moves(name: str) -> bool:
    """Whether the operation ``name`` makes no new numbers."""
    return RULES.get(name) in (keep, move)


def is_elementwise(name: str) -> bool:
    """Whether the operation ``name`` makes each number of those in its place alone."""
    known = (add, multiply, negative, rectifier, activation, dropout, keep)
    return RULES.get(name) in known or name in ("pow", "sqrt", "rsqrt", "reciprocal")


def moments_after(call: Call) -> Sequence[Moment]:
    """The moments of the outputs of ``call``, by its rule or by what was measured."""
    rule_for = RULES.get(call.operation.name)
    found = rule_for(call) if rule_for else None
    return measured(call) if found is None else found


# --- measured factors ---------------------------------------------------------------------------------

# Amplitude of the output for that of each input, in order; the last number goes for all that follow.
DEGREES: dict[str, tuple[float, ...]] = {
    **dict.fromkeys("mul matmul bmm einsum mm baddbmm outer dot bilinear".split(), (1.0,)),
    **dict.fromkeys(
        "softmax log_softmax sigmoid hardsigmoid normalize batch_norm layer_norm group_norm rms_norm "
        "instance_norm lstm gru rnn_tanh rnn_relu sign exp cos sin argmax tanh erf cosine_similarity "
        "embedding one_hot".split(),
        (0.0,),
    ),
    "scaled_dot_product_attention": (0.0, 0.0, 1.0, 0.0),
    "div": (1.0, -1.0), "rdiv": (-1.0,), "reciprocal": (-1.0,), "rsqrt": (-0.5,), "sqrt": (0.5,),
    "square": (2.0,),
}  # fmt: skip


def _degrees(call: Call) -> list[float]:
    operation = call.operation
    given = DEGREES.get(operation.name, (1.0, 0.0))
    exponent = call.argument("exponent")
    if operation.name == "pow" and isinstance(exponent, (int, float)):
        given = (float(exponent),)
    if len(operation.inputs) == 1 and operation.name in ("mul", "matmul", "einsum"):
        given = (2.0,) if _twice(call) else (1.0,)
    if len(operation.inputs) == 1 and operation.name == "scaled_dot_product_attention":
        given = (1.0,)
    return [given[min(index, len(given) - 1)] for index in range(len(operation.inputs))]


def _twice(call: Call) -> bool:
    return sum(isinstance(argument, Slot) for argument in call.operation.arguments.values()) > 1


def measured(call: Call) -> Sequence[Moment]:
    """Of what has no rule: second moments and slopes of this run, moved along with the inputs'."""
    operation = call.operation
    inputs = [number for number in operation.inputs if number in call.moments]
    degrees = dict(zip(operation.inputs, _degrees(call), strict=True))
    slopes = {number: call.slope(index) for index, number in enumerate(operation.inputs)}
    ratios = {number: _ratio(call.moments[number].mean, call.values[number]) for number in inputs}
    growth = math.prod(ratios[number] ** degrees[number] for number in inputs)
    seen, basis = call.bit, frozenset({MEASURED_FACTOR})
    for number in inputs:
        seen |= call.moments[number].seen
        basis |= call.moments[number].basis if degrees[number] else frozenset()
    made = []
    for number in operation.outputs:
        after = call.values[number]
        level = after.second_moment * growth
        shape = after.shape
        power = torch.full((1,) * len(shape), level, dtype=torch.float64)
        if inputs and math.isfinite(level):
            # of one that is not unit by unit only the first input's, as it is
            known = (
                inputs if is_elementwise(operation.name) else [n for n in inputs[:1] if degrees[n] == 1]
            )
            profile = math.prod(
                (_relative(_profile(call, number, shape), degrees[number]) for number in known),
                start=torch.ones((1,) * len(shape), dtype=torch.float64),
            )
            mean = float(profile.mean())
            power = profile * (level / mean) if 0 < mean < math.inf else power
        for each in inputs:
            slope = slopes.get(each, math.nan) * growth / (ratios[each] or 1.0)
            if slope and not math.isinf(slope):  # NaN: no gradient came, and none is sent on
                power = power + with_slope(0.0, slope, _profile(call, each, shape))
        made.append(Moment(power, 0, seen, basis=basis, back=frozenset({MEASURED_FACTOR})))
    return made


def _ratio(predicted: float, value: Value) -> float:
    ratio = predicted / value.second_moment if value.second_moment else 1.0
    return ratio if math.isfinite(ratio) and ratio > 0 else 1.0


def _relative(power: torch.Tensor, degree: float) -> torch.Tensor:
    """``power`` over its mean, to the ``degree``; 1 where that has no bound."""
    power = power.detach()
    known = degree and float(power.mean()) > 0 and (degree > 0 or bool((power > 0).all()))
    return (power / power.mean()) ** degree if known else torch.ones_like(power)


def _profile(call: Call, number: int, shape: tuple[int, ...]) -> torch.Tensor:
    return resized(call.moments[number].power, call.values[number].shape, shape)


# --- weight layers ------------------------------------------------------------------------------------


def _rows(weights: Weights) -> torch.Tensor:
    """Mean of w²: of the whole tensor, or (outputs,) where outputs differ by more than chance."""
    whole = torch.tensor(second_moment(weights.tensor), dtype=torch.float64)
    if weights.transposed or weights.equation or not whole > 0:
        return whole
    squares = weights.tensor.detach().square()
    rows = squares.flatten(1).mean(1, dtype=torch.float64)
    kurtosis = squares.square_().mean(dtype=torch.float64) / whole**2
    chance = ((kurtosis - 1).clamp_min(0) / squares[0].numel()).sqrt()
    differ = len(rows) > 1 and rows.std() / whole > 2 * chance + 1e-6
    return rows if differ else whole


def _weighted(
    call: Call,
    weights: Weights,
    x: Moment,
    sees: Callable[[torch.Tensor], torch.Tensor],
    axis: int,
) -> Outputs:
    """Of W x + b: ``sees`` makes Σ E[x²] over what an output sees of E[x²], outputs along ``axis``."""
    if not has_no_mean(weights.tensor):
        return None
    bias = weights.bias
    unbiased = not isinstance(bias, torch.Tensor) or not bias.any()
    if not unbiased and (isinstance(bias, Slot) or not has_no_mean(bias)):
        return None
    rows, rank = _rows(weights), len(call.out().shape)
    if rows.dim():
        rows = rows.reshape([-1 if d == axis % rank else 1 for d in range(rank)])
    power, back = _under_a_norm(call, weights, x, lambda power: rows * sees(power))
    if not unbiased:
        power = power + second_moment(bias)
    bit = call.bits[weights.parameter]
    shared = frozenset({SHARED_WEIGHTS} if bit & x.seen else ())  # forward, and to all before it
    basis = x.basis | shared
    odd = bit & ~x.seen | (x.odd & ~bit if unbiased else 0)
    shape = [1] * rank
    shape[axis] = -1
    units = torch.arange(call.out().shape[axis], dtype=torch.float64).reshape(shape)
    met = x.seen | call.bit
    return [Moment(power, odd, met, True, True, basis=basis, back=back | shared, units=units)]


def _under_a_norm(
    call: Call, weights: Weights, x: Moment, makes: Callable[[torch.Tensor], torch.Tensor]
) -> tuple[torch.Tensor, frozenset[str]]:
    """What ``makes`` makes of the power of ``x``, and what its slope rests on.

    Where each channel is normalized next, its gradient goes as 1/σ² ∝ 1/|w|², and w² goes with it: for
    n normal weights E[w²/|w|²] = (1 − 2/n)·E[w²]·E[1/|w|²].  Of few weights, such as a depthwise
    convolution's, the slope of this run is taken.
    """
    if not any(operation.name in PER_CHANNEL for operation in call.following):
        return makes(x.power), frozenset()
    fan_in, slope = weights.fans[0], call.slope()
    if fan_in > FEW_WEIGHTS or not math.isfinite(slope) or not x.mean:
        power = makes(x.power)
        return with_slope(power, max(1 - 2 / fan_in, 0.0), power), frozenset({INFINITE_WIDTH})
    # what follows divides by the predicted size, but a channel's own scale cancels there
    slope *= _ratio(float(makes(x.power.detach()).mean()), call.out())
    return with_total(makes, x.power, slope), frozenset({MEASURED_FACTOR})


PER_CHANNEL = ("batch_norm", "instance_norm", "group_norm")
FEW_WEIGHTS = 32


@rule("linear addmm matmul mm bmm einsum")
def linear(call: Call) -> Outputs:
    """y = W x + b over the last dimension, a product of two values, or a sum over named axes."""
    x, found = call.moment("mat1", "input", "self", "tensor1"), weights_of(call.operation)
    if found and found[0].equation:
        return _contracted(call, found[0])
    if x is None or not found:
        return None if x is None else _of_values(call, x)
    if found[0].tensor.dim() != 2:
        return None
    inputs = found[0].shape[1]
    return _weighted(call, found[0], x, lambda power: inputs * power.mean(-1, keepdim=True), -1)


def _contracted(call: Call, weights: Weights) -> Outputs:
    """The sum over E[x²], if all axes of x that are summed are axes of the weights too."""
    number, passed = call.operation.inputs[0], weights.passed
    x, own, made = weights.equation.replace("->", ",").split(",")
    if number not in call.moments or passed is None or set(x) - set(own) - set(made):
        return None
    ones = torch.ones_like(passed, dtype=torch.float64)
    power = call.moments[number].power.detach().expand(call.values[number].shape)
    try:
        if torch.einsum(weights.equation, power, ones).shape != call.out().shape:
            return None
    except RuntimeError:  # axes that are not there
        return None

    def sees(power: torch.Tensor) -> torch.Tensor:
        return torch.einsum(weights.equation, power.expand(call.values[number].shape), ones)

    after = _weighted(call, weights, call.moments[number], sees, -1)
    return after and [replace(after[0], units=None)]


def _of_values(call: Call, u: Moment) -> Outputs:
    """E[(u·v)²] = Σ q_u·q_v over units of a weight layer, if the other factor never met its weights.

    Each row of the weights may change its sign, so no two units are correlated: logits of attention.
    Tokens are correlated, so it does not hold of what attention makes of values.  Back the measured
    slopes, which know how alike tokens are.
    """
    slots = [argument for argument in call.operation.arguments.values() if isinstance(argument, Slot)]
    v = call.moment("mat2", "other", "tensor2")
    if v is None or len(slots) != 2 or min(u.power.dim(), v.power.dim()) < 2:
        return None
    if call.operation.products is not None:
        return _mixed(call, u, v)
    (first, before), (second, after) = ((slot.value, call.values[slot.value].shape) for slot in slots)
    fresh = [
        each.units is not None and each.units.shape[axis] == before[-1] and each.odd & ~other.seen
        for each, axis, other in ((u, -1, v), (v, -2, u))
    ]
    if not any(fresh):
        return None
    left = u.power.expand(*u.power.shape[:-1], before[-1])
    right = v.power.expand(*v.power.shape[:-2], after[-2], v.power.shape[-1])
    slopes = [
        call.slope(call.operation.inputs.index(number)) * _ratio(other.mean, call.values[of])
        for number, other, of in ((first, v, second), (second, u, first))
    ]
    power = with_total(lambda one: one @ right.detach(), left, slopes[0])
    power = power + with_total(lambda one: left.detach() @ one, right, slopes[1]) - power.detach()
    wide = frozenset({INFINITE_WIDTH} if u.seen & v.seen else ())
    odd = u.odd & ~v.seen | v.odd & ~u.seen
    back = frozenset({MEASURED_FACTOR})
    return [Moment(power, odd, u.seen | v.seen, True, basis=u.basis | v.basis | wide, back=back)]


@rule("scaled_dot_product_attention")
def attention(call: Call) -> Outputs:
    """Values mixed by the attention that this run has; the softmax inside is not predicted."""
    query, value = call.moment("query", "0"), call.moment("value", "2")
    if query is None or value is None or call.operation.products is None:
        return None
    return _mixed(call, query, value)


def _mixed(call: Call, by: Moment, v: Moment) -> Outputs:
    """E[y_t²] = Σ_ij A_ti A_tj E[v_i·v_j], A given: exact over draws of the weights that made v.

    Back the measured slopes.
    """
    if not v.odd & ~by.seen or call.operation.products is None:
        return None
    (made,) = measured(call)
    kept = v.power.detach().mean() * call.operation.products
    shape = call.out().shape
    power = with_slope(kept.expand(*shape[:-1], 1), 1.0, made.power)
    return [
        replace(made, power=narrowed(power), odd=v.odd & ~by.seen, symmetric=v.symmetric,
                basis=v.basis | {GIVEN_ATTENTION})
    ]  # fmt: skip


@rule("softmax")
def softmax(call: Call) -> Outputs:
    """Σ A² of each row over its length; keys that are masked have no part in it."""
    x, logits = call.moment("input", "self", "0"), call.operation.logits
    if x is None or logits is None or not logits.second_moment > 0:
        return None
    masked = x.power.detach() > max(MASKED**2, 1e3 * logits.second_moment)
    kept = float(x.power.detach()[~masked].mean()) if not masked.all() else logits.second_moment
    counts, variance = list(logits.shares), logits.variance * kept / logits.second_moment
    if not math.isfinite(variance):
        return None
    expected = softmax_concentration(variance, counts)
    number, values = call.operation.inputs[0], list(call.values)
    values[number] = replace(values[number], second_moment=logits.second_moment)
    seen = replace(x, power=torch.where(masked, kept, x.power))
    (made,) = measured(replace(call, moments={number: seen}, values=values))
    size = float(expected @ list(logits.shares.values())) / call.out().shape[call.argument("dim")]
    left = 1 - float(masked.double().mean())  # what is masked takes no part of the gradient
    power = with_slope(size, 1 / left if left else 0.0, made.power)
    return [replace(made, power=power, basis=x.basis | {GAUSSIAN_LOGITS})]


@rule("conv1d conv2d conv3d")
def convolution(call: Call) -> Outputs:
    """y = W * x + b; borders, stride, dilation and groups count."""
    x, windows = call.moment("input"), Windows.of(call)
    if x is None or windows is None:
        return None
    weights = windows.weights
    kernel = weights.shape[2:]
    made = _weighted(call, weights, x, windows, -1 - len(kernel))
    if not made or x.power.dim() != len(kernel) + 2:
        return made
    seen = windows.summed(x.power.detach())
    share = call.center(call.operation.inputs[0]).mean() / (x.power.detach().mean() or 1.0)
    common = share * seen.mean() / (seen.sqrt().mean() ** 2 or 1.0)
    bias = second_moment(weights.bias) if isinstance(weights.bias, torch.Tensor) else 0.0
    mean = second_moment(weights.tensor) * common * _with_mean(seen, windows)
    return [replace(made[0], with_mean=mean + bias)]


@dataclass(frozen=True)
class Windows:
    """Σ E[x²] over the window of every output of a convolution, or of a transposed one."""

    call: Call
    weights: Weights

    @classmethod
    def of(cls, call: Call) -> Windows | None:
        """None where the weights are none of the network's."""
        found = weights_of(call.operation)
        return cls(call, found[0]) if found else None

    @property
    def channels(self) -> tuple[int, int]:
        """Those that one output sees, and all that are made."""
        first, second, groups = *self.weights.shape[:2], self.weights.groups
        return (first // groups, second * groups) if self.weights.transposed else (second, first)

    def __call__(self, power: torch.Tensor) -> torch.Tensor:
        batched = power.dim() == len(self.weights.shape)
        seen = self.summed(power if batched else power[None])
        through = self.over(seen.reshape(-1, 1, *seen.shape[2:]))
        through = through.reshape(*seen.shape[:2], *through.shape[2:])
        if through.shape[1] > 1:  # a group's outputs see the same
            through = through.repeat_interleave(self.channels[1] // through.shape[1], 1)
        return through if batched else through[0]

    def over(self, maps: torch.Tensor, taps: torch.Tensor | None = None) -> torch.Tensor:
        """The sums over the windows of (B, 1, …), weighed by ``taps`` (1, 1, …)."""
        taps = self.taps() if taps is None else taps
        function: Any = getattr(nn.functional, self.call.operation.name)
        ways = ("stride", "padding", "output_padding", "dilation")
        known = {key: self.call.argument(key) for key in ways if key in self.call.operation.arguments}
        made: torch.Tensor = function(maps, taps, **known)
        return made

    def taps(self) -> torch.Tensor:
        """(1, 1, …): every tap counts once."""
        return torch.ones(1, 1, *self.weights.shape[2:], dtype=torch.float64)

    def summed(self, power: torch.Tensor) -> torch.Tensor:
        """(B, C or 1, …) → (B, groups or 1, …): the sum over the inputs of each group."""
        slot = self.call.argument("input")
        assert isinstance(slot, Slot)
        places = len(self.weights.shape) - 2
        power = power.expand(*power.shape[:-places], *self.call.values[slot.value].shape[-places:])
        if power.shape[1] == 1:
            return power * self.channels[0]
        return power.reshape(len(power), -1, self.channels[0], *power.shape[2:]).sum(2)


def _with_mean(seen: torch.Tensor, windows: Windows) -> torch.Tensor:
    """(B, 1, …): the product of an output and the mean output of its channel, of weights of size 1.

    E[x_p x_p'] goes as √(q_p·q_p'): the mean of the outputs weighs a tap by the mean over outputs of
    the √q that it sees, 0 outside of the image; a place keeps the sum over its taps.
    """
    amplitude = seen.mean(1, keepdim=True).sqrt()
    taps = windows.taps().requires_grad_()
    (shares,) = torch.autograd.grad(windows.over(amplitude, taps).mean(), taps)
    return windows.over(amplitude, shares)


@rule("conv_transpose1d conv_transpose2d conv_transpose3d")
def transposed_convolution(call: Call) -> Outputs:
    """The transpose: every input pixel writes into a window of outputs."""
    x, windows = call.moment("input"), Windows.of(call)
    if x is None or windows is None:
        return None
    return _weighted(call, windows.weights, x, windows, 1 - len(windows.weights.shape))


@rule("embedding")
def embedding(call: Call) -> Outputs:
    """A row of the table: its mean square; that of the row for padding is its own."""
    weight, padding = call.argument("weight"), call.argument("padding_idx")
    bit = call.bit
    odd = bit if has_no_mean(weight) else 0
    power = torch.full((1,) * len(call.out().shape), second_moment(weight), dtype=torch.float64)
    if isinstance(padding, int) and len(weight) > 1:
        squares = widened(weight.detach()).square().mean(1)
        others = (squares.sum() - squares[padding]) / (len(weight) - 1)
        is_padding = call.argument("input") == padding % len(weight)
        power = torch.where(is_padding, squares[padding], others).unsqueeze(-1)
    return [Moment(power, odd, bit, bool(odd), bool(odd))]


# --- sums and products --------------------------------------------------------------------------------


@rule("add sub rsub")
def add(call: Call) -> Outputs:
    """q_u + α²·q_v, and the cross term where it does not vanish."""
    u, v = (call.known(call.argument(*names)) for names in (("input", "self", "0"), ("other", "1")))
    alpha = call.argument("alpha")
    size = float(alpha) if isinstance(alpha, (int, float)) else 1.0
    if u is v:
        return [u.scaled((1 + (size if call.operation.name == "add" else -size)) ** 2)]
    v = v.scaled(size**2)
    if not u.power.any() or not v.power.any():
        kept, other = (u, v) if u.power.any() else (v, u)
        return [replace(kept, power=kept.power + other.power)]
    both = joined([u, v], u.power + v.power)
    if independent(u, v):
        return [both]
    measured_parts = [
        _measured_moment(call, argument)
        for argument in (call.argument("input", "self", "0"), call.argument("other", "1"))
    ]
    cross = call.out().second_moment - measured_parts[0] - measured_parts[1]
    scale = math.sqrt(measured_parts[0] * measured_parts[1]) or 1.0
    growth = math.sqrt(u.mean * v.mean) / scale
    after = both.power + cross * growth
    factor = float(after.detach().mean()) / (float(both.power.detach().mean()) or 1.0)
    power = with_slope(both.power * factor, 1.0, both.power)
    return [Moment(power, both.odd, both.seen, basis=both.basis | {MEASURED_FACTOR})]


def _measured_moment(call: Call, argument: Any) -> float:
    """The second moment of an argument on this run."""
    if isinstance(argument, Slot):
        return call.values[argument.value].second_moment
    return call.known(argument).mean


@rule("mul div rdiv")
def multiply(call: Call) -> Outputs:
    """By a number or a tensor that is no value: its square.  By a value: q_u·q_v if they are apart."""
    name = call.operation.name
    first, second = call.argument("input", "self", "0"), call.argument("other", "1")
    if isinstance(first, Slot) and isinstance(second, Slot):
        u, v = call.moments[first.value], call.moments[second.value]
        if name != "mul" or not (u.seen & ~v.seen or v.seen & ~u.seen):
            return None
        both = joined([u, v], _product(call, first, second))
        odd = u.odd & ~v.seen | v.odd & ~u.seen
        wide = frozenset({INFINITE_WIDTH})
        return [Moment(both.power, odd, both.seen, bool(odd), basis=both.basis | wide, back=wide)]
    value, constant = (first, second) if isinstance(first, Slot) else (second, first)
    if value is second and name != "mul":
        return None
    squares = call.known(constant).power
    return [call.known(value).scaled(1 / squares if name == "div" else squares)]


def _product(call: Call, first: Slot, second: Slot) -> torch.Tensor:
    """q_u·q_v; of a gate that is spread out, parts of the gradient add up: there the run's slope."""
    u, v = (call.moments[slot.value].power for slot in (first, second))
    power = u * v
    for slot, one, other in ((first, u, v), (second, v, u)):
        spread = call.values[slot.value].shape != call.out().shape
        slope = call.slope(call.operation.inputs.index(slot.value))
        if spread and math.isfinite(slope):
            return one.detach() * other + with_slope(0.0, slope, one)
    return power


@rule("neg")
def negative(call: Call) -> Outputs:
    """−x."""
    return [call.known(call.argument("input", "self", "0"))]


# --- activations --------------------------------------------------------------------------------------

ODD_FUNCTIONS = frozenset(
    "tanh sin softsign tanhshrink softshrink hardshrink erf atan sinh asinh".split()
)
KINKS: dict[str, tuple[float, ...]] = {
    "hardswish": (-3.0, 3.0), "hardsigmoid": (-3.0, 3.0), "relu6": (6.0,), "hardtanh": (-1.0, 1.0, 6.0),
}  # fmt: skip
BLIND = frozenset("mean avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d dropout".split())
GRID = 129  # variances at which a quadrature is done where a value has more


@rule("relu leaky_relu prelu")
def rectifier(call: Call) -> Outputs:
    """Closed form; exact for what is symmetric."""
    y = call.moment("input", "self", "0")
    if y is None or not (y.symmetric or y.gaussian):
        return None
    slope: Any = 0.0
    if call.operation.name == "leaky_relu":
        slope = call.argument("negative_slope")
    if call.operation.name == "prelu":
        weight = call.argument("weight")
        if isinstance(weight, Slot) or weight.numel() != 1:
            return None
        slope = float(weight)
    factor = (1 + float(slope) ** 2) / 2
    shut = torch.full_like(y.power, float(slope) ** 2)  # where all is 0, and stays 0
    back = torch.where(y.power > 0, factor, shut)
    wide = frozenset() if y.symmetric else frozenset({INFINITE_WIDTH})
    return [_activated(call, y, y.power * factor, back, wide)]


@rule(
    "tanh sigmoid gelu silu mish elu celu selu softplus softsign logsigmoid tanhshrink hardtanh "
    "hardswish hardsigmoid hardshrink softshrink threshold relu6 sin cos erf atan abs square exp "
    "clamp log1p sinh asinh"
)
def activation(call: Call) -> Outputs:
    """φ(y), unit by unit, of a Gaussian y: quadrature."""
    y = call.moment("input", "self", "0", "x")
    if y is None or not y.gaussian or len(call.operation.inputs) != 1:
        return None
    phi = _function_of(call)
    power, slope = _tabulated(phi.second_moment, y.power), _tabulated(phi.slope_second_moment, y.power)
    odd = y.odd if call.operation.name in ODD_FUNCTIONS else 0
    return [_activated(call, y, power, slope, frozenset({INFINITE_WIDTH}), odd)]


def _activated(
    call: Call, y: Moment, power: torch.Tensor, slope: Any, basis: frozenset[str], odd: int = 0
) -> Moment:
    """After φ; its slope is measured where the gradient may know the sign of y.

    It does not where weight layers or means follow; it does after a pool, which selects large values,
    and along a residual branch, on which they come to meet the next rectifier.
    """
    back = basis

    def sloped(before: torch.Tensor) -> torch.Tensor:
        return with_slope(power, slope, before)

    if all(_is_blind(call, after) for after in call.following) or not math.isfinite(call.slope()):
        after = sloped(y.power)
    else:
        after, back = with_total(sloped, y.power, call.slope()), frozenset({MEASURED_FACTOR})
    return Moment(after, odd, y.seen, bool(odd), basis=y.basis | basis, back=back)


def _is_blind(call: Call, after: Operation) -> bool:
    """Whether what comes back from the operation ``after`` knows no signs of what it was given."""
    mixed = [
        weights.fans[0] > FEW_WEIGHTS
        or all(beyond.name not in PER_CHANNEL for beyond in call.uses.get(after.outputs[0], ()))
        for weights in weights_of(after)
    ]
    return after.name in BLIND or (bool(mixed) and all(mixed))


def _function_of(call: Call) -> Nonlinearity:
    number = call.operation.inputs[0]
    function, derivative = on_arrays(lambda y: call.operation.again({number: y}))
    kinks = KINKS.get(call.operation.name, ())
    return Integrated(quadrature.Nonlinearity(call.operation.name, function, derivative, kinks))


def _tabulated(function: Callable[[Any, Any], Any], power: torch.Tensor) -> torch.Tensor:
    """``function`` of (0, variance) at every variance; of many, by a table in their logarithm."""
    variances = power.detach().cpu().numpy()
    distinct = np.unique(variances)
    if len(distinct) > GRID:
        positive = distinct[distinct > 0]
        distinct = np.geomspace(positive[0], positive[-1], GRID)
    values = function(np.zeros_like(distinct), distinct)
    found = np.interp(
        np.log(np.maximum(variances, 1e-300)), np.log(np.maximum(distinct, 1e-300)), values
    )
    return torch.from_numpy(np.asarray(found)).reshape(power.shape)


@rule("dropout feature_dropout dropout1d dropout2d dropout3d")
def dropout(call: Call) -> Outputs:
    """x·mask/(1 − p): 1/(1 − p) in train mode."""
    x = call.known(call.argument("input", "self", "0"))
    on = call.argument("training", "train")
    p = float(call.argument("p") or 0.0)
    if not on or not p:
        return [x]
    return [replace(x.scaled(1 / (1 - p) if p < 1 else 0.0), gaussian=False)]


# --- normalization ------------------------------------------------------------------------------------


def _squares(tensor: Any, default: float, like: torch.Tensor, axis: int) -> torch.Tensor:
    """The squares of γ or β along ``axis``; one number if all are the same."""
    if not isinstance(tensor, torch.Tensor):
        return torch.tensor(default, dtype=torch.float64)
    squares = widened(tensor.detach()).square()
    if bool((squares == squares.flatten()[0]).all()):
        return squares.flatten()[0]
    if axis == -1:
        return squares
    return squares.reshape([-1 if d == axis else 1 for d in range(like.dim())])


def _normalized(
    call: Call,
    x: Moment,
    level: torch.Tensor,
    profile: torch.Tensor,
    slope: Any,
    axis: int,
    *basis: str,
) -> list[Moment]:
    """γ·profile + β with ``slope`` back, the measured one if it is None."""
    gamma = _squares(call.argument("weight"), 1.0, x.power, axis)
    beta = _squares(call.argument("bias"), 0.0, x.power, axis)
    power = gamma * profile + beta
    rests = INFINITE_WIDTH if slope is not None else MEASURED_FACTOR
    if slope is None:  # a channel's slope goes as the inverse of its power; the whole's is this run's
        positive = level.clamp_min(torch.finfo(torch.float64).tiny)
        inverse = gamma * (positive.min() / positive)  # at most 1: a silent channel's has no bound
        whole = call.slope() / _ratio(x.mean, call.values[call.operation.inputs[0]])
        after = with_total(lambda before: with_slope(power, inverse, before), x.power, whole)
    else:
        after = with_slope(power, gamma * slope, x.power)
    unshifted = not beta.any()
    made = Moment(
        after,
        x.odd if unshifted else 0,
        x.seen | call.bit,
        x.symmetric and unshifted,
        x.gaussian and unshifted,
        basis=frozenset(basis),
        back=frozenset({rests}),
    )
    return [made]


FEW_VALUES = 64  # of which mean and variance are taken: the rest of them is no longer Gaussian
BITING = 1e-3  # ε over a variance that it changes


@rule("batch_norm")
def batch_norm(call: Call) -> Outputs:
    """In train mode every channel is normalized over batch and places; else a fixed affine map."""
    x = call.moment("input")
    if x is None:
        return None
    mean, variance = call.argument("running_mean"), call.argument("running_var")
    if call.argument("training") or mean is None:
        over = [dimension for dimension in range(x.power.dim()) if dimension != 1]
        shared = call.center(call.operation.inputs[0]).mean(over, keepdim=True)
        along = x.with_mean if x.with_mean is not None else x.power.detach().sqrt()  # E[xx'] as √(qq')
        if along.any():
            shared = shared * along / along.mean(over, keepdim=True)
        center = shared.mean(over, keepdim=True)
        centered = (x.power.detach() - 2 * shared + center).clamp_min(0.0)  # E[(x − μ)²]
        variance = centered.mean(over, keepdim=True)
        eps = float(call.argument("eps") or 0.0)
        level = variance + eps
        profile = centered / level if level.all() else centered
        (made,) = _normalized(call, x, level, profile, None, 1, INFINITE_BATCH)
        if eps > BITING * float(variance.mean()):  # σ²/(σ² + ε) of channels that differ: this run's
            size = 1 / _ratio(made.mean, call.out())
            power = with_slope(made.power * size, 1.0, made.power)
            made = replace(made, power=power, basis=made.basis | {MEASURED_FACTOR})
        values = math.prod(call.out().shape) // call.out().shape[1]
        return [replace(made, gaussian=made.gaussian and values >= FEW_VALUES)]
    if mean.any():
        return None
    scale = _squares((variance + float(call.argument("eps"))).rsqrt(), 1.0, x.power, 1)
    return _normalized(call, x, scale, x.power.detach() * scale, scale, 1, *x.basis)


@rule("layer_norm rms_norm")
def token_norm(call: Call) -> Outputs:
    """Every token is normalized over its features, or divided by the root of its mean square."""
    x, shape, eps = call.moment("input"), call.argument("normalized_shape"), call.argument("eps")
    if x is None:
        return None
    n, level = math.prod(shape), x.power.mean(tuple(range(-len(shape), 0)), keepdim=True).detach()
    if call.operation.name == "rms_norm":
        level = level + (torch.finfo(call.out().dtype).eps if eps is None else float(eps))
        back = (1 - 1 / n) * _mean_inverse(n, n, x) / level
        return _normalized(call, x, level, x.power.detach() / level, back, -1)
    raised = level + float(eps or 0.0)
    back = (1 - 2 / n) * _mean_inverse(n, n - 1, x) / raised
    return _normalized(call, x, level, level / raised, back if x.symmetric else None, -1)


def _mean_inverse(units: int, freedom: int, x: Moment) -> float:
    """E[1/s²] of s² = χ²/n, by the degrees of ``freedom`` of Gaussian units; 1 of others."""
    return units / (freedom - 2) if x.gaussian and freedom > 2 else 1.0


@rule("group_norm instance_norm")
def group_norm(call: Call) -> Outputs:
    """Every group of channels of every input is normalized over its channels and places."""
    x = call.moment("input")
    if x is None:
        return None
    over = list(range(1, x.power.dim()))
    level = x.power.mean(over, keepdim=True).detach()
    eps = float(call.argument("eps") or 0.0)
    return _normalized(call, x, level, x.power.detach() / (level + eps), None, 1)


# --- what only moves numbers --------------------------------------------------------------------------


@rule(" ".join(KEEPS))
def keep(call: Call) -> Outputs:
    """The same numbers."""
    x = call.moments.get(call.operation.inputs[0])
    return None if x is None else [x]


@rule(" ".join(MOVES))
def move(call: Call) -> Outputs:
    """The operation itself, on second moments."""
    operation = call.operation
    parts = [call.moments[number] for number in operation.inputs if number in call.moments]
    if not parts:
        return None
    spread = {
        number: call.moments[number].power.expand(call.values[number].shape)
        for number in operation.inputs
        if number in call.moments
    }
    template = mapped(
        operation.template,
        lambda t: widened(t).square() if t.is_floating_point() else t,
    )
    function = torch.Tensor.reshape if operation.name == "view" else operation.function
    moving = replace(operation, template=template, function=function)
    centers = {n: call.center(n).expand(call.values[n].shape) for n in spread}
    held = [call.moments[number].units for number in spread]
    units = {
        n: unit.expand(call.values[n].shape)
        for n, unit in zip(spread, held, strict=True)
        if unit is not None
    }
    try:
        made, middle = (_as_list(moving.again(numbers)) for numbers in (spread, centers))
        kinds = _as_list(moving.again(units)) if len(spread) == len(units) == 1 else [None] * len(made)
    except (RuntimeError, TypeError, ValueError, IndexError):
        return None
    if [tuple(power.shape) for power in made] != [call.values[n].shape for n in operation.outputs]:
        return None
    mapped(
        operation.template,
        lambda t: parts.append(of_constant(t, call.bit)) if t.is_floating_point() and t.numel() else t,
    )
    return [
        _part(call, replace(joined(parts, narrowed(power)), center=narrowed(center)), unit)
        for power, center, unit in zip(made, middle, kinds, strict=True)
    ]


def _part(call: Call, moment: Moment, units: torch.Tensor | None) -> Moment:
    """``moment``, odd in its own part of packed weights if it holds some of the units alone."""
    if units is None or not units.numel():
        return moment
    whole = call.moments[call.operation.inputs[0]].units
    ends = float(units.min()), float(units.max())
    if whole is None or ends == (float(whole.min()), float(whole.max())):
        return replace(moment, units=narrowed(units))
    bit = call.bits.setdefault(f"{moment.seen} {ends}", 1 << len(call.bits))
    odd = moment.odd | (bit if moment.odd else 0)
    return replace(moment, units=narrowed(units), odd=odd, seen=moment.seen | bit)


def _as_list(made: Any) -> list[Any]:
    return [made] if isinstance(made, torch.Tensor) else list(made)


@rule("pad")
def pad(call: Call) -> Outputs:
    """With zeros, or with numbers from inside."""
    return None if call.argument("value") else move(call)


@rule("masked_fill")
def masked_fill(call: Call) -> Outputs:
    """With zeros, or with one number, which has no sign of its own."""
    x, value = call.moment("input", "self", "0"), call.argument("value")
    if not value or x is None or not isinstance(value, (int, float)):
        return move(call) if value == 0 else None
    filled = torch.where(call.argument("mask"), float(value) ** 2, x.power)
    return [Moment(filled, 0, x.seen, basis=x.basis)]
