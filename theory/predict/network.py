"""Any network, followed along its tape: every weight layer predicted and measured, both ways.

``follow`` records one run and lets the rules of ``theory.predict.rules`` run along it.  Predicted
is the expectation over draws of the weights, each tensor with the second moment that it holds now; what
has no rule is a measured factor and says so.  Backward is of ∂E/∂y for a cotangent of independent
random signs at every real output.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import nn

import theory.predict.recurrent  # noqa: F401 - registers its rule
from theory.errors import RequestError, check_whole
from theory.law.finite_width import spread_coefficient
from theory.precision import widened
from theory.predict.layers import Weights, weights_of
from theory.predict.moments import INFINITE_WIDTH, MEASURED_FACTOR, Moment, basis_name, with_slope
from theory.predict.rules import (
    Call,
    is_elementwise,
    log_weights,
    moments_after,
    only_moves,
    taped,
)
from theory.predict.tape import Operation, Tape, record, tensors_in
from theory.randomness import generator

Array = NDArray[np.float64]

APPROXIMATION = 0.04  # relative error of rules that are not exact, so that the band holds 95 %

FOLLOWED_COLUMNS = {
    "module": "the module that owns the weight",
    "call": "0, or which use of this weight it is",
    "kind": "its class",
    "operation": "the function of torch that it runs",
    "shape": "of the weight, as torch holds it",
    "parameter": "the weight's name in the network",
    "fan_in": "inputs of one output; of a lookup 1",
    "fan_out": "outputs of one input",
    "groups": "1, or into how many parts a convolution is cut",
    "forward_predicted": "second moment of its output, mean over units and inputs, over draws",
    "forward_measured": "of this network on these inputs",
    "forward_band_low": "where one network in 40 lies below: measured over ``draws``, or log-normal "
    "from how uneven the units of each layer are and how far approximate rules are off; NaN where "
    "that is not known",
    "forward_band_high": "where one network in 40 lies above",
    "backward_predicted": "second moment of the gradient at its output",
    "backward_measured": "of this network on these inputs",
    "basis": "what the forward prediction rests on: exact, or the approximations in it",
    "backward_basis": "what the backward prediction rests on",
}


def follow(model: nn.Module, inputs: Any, *, draws: int = 0, seed: int = 0) -> pd.DataFrame:
    """One row for each use of a weight tensor, in running order, with ``FOLLOWED_COLUMNS``.

    model   left as it was; its modes count
    inputs  one tensor, a sequence of arguments, or a mapping of them by name
    draws   how many further draws of the weights measure the band, 0 or at least 2

    Raises ``RequestError`` for a model that is compiled or does not run on ``inputs``.
    """
    check_whole("the number of draws", draws, 0, 1000)
    if draws == 1:
        raise RequestError("one draw has no spread: ask for 0 draws, or for at least 2")
    return table_of(model, taped(model, inputs, seed=seed), inputs, draws, seed)


def table_of(model: nn.Module, tape: Tape, inputs: Any, draws: int, seed: int) -> pd.DataFrame:
    """``follow`` from the tape of ``rules.taped``."""
    calls = calls_of(tape, inputs)
    backward = _backward(tape, calls)
    bases = _backward_bases(tape, calls)
    variances = _log_variances(tape, calls)
    uses: Counter[str] = Counter()
    rows = []
    for call, moments in calls:
        number = call.operation.outputs[0]
        for weights in weights_of(call.operation):
            value = tape.values[number]
            approximate = APPROXIMATION**2 if moments[0].basis else 0.0
            low, high = analytic_band(moments[0].mean, variances[number] + approximate)
            rows.append(
                _named(model, call.operation, weights, uses)
                | {
                    "forward_predicted": moments[0].mean,
                    "forward_measured": value.second_moment,
                    "forward_band_low": low,
                    "forward_band_high": high,
                    "backward_predicted": backward.get(number, math.nan),
                    "backward_measured": value.gradient_second_moment,
                    "basis": basis_name(moments[0].basis),
                    "backward_basis": basis_name(bases[number]),
                }
            )
    table = pd.DataFrame(rows, columns=list(FOLLOWED_COLUMNS))
    if draws:
        bands = band([forward_of_draw(model, inputs, seed, draw) for draw in range(draws)])
        table["forward_band_low"], table["forward_band_high"] = bands
    return table


def _named(
    model: nn.Module, operation: Operation, weights: Weights, uses: Counter[str]
) -> dict[str, Any]:
    owner, _, _ = weights.parameter.rpartition(".")
    owner = owner.removesuffix(".parametrizations.weight")
    kind = type(model.get_submodule(owner)).__name__
    call = uses[weights.parameter]
    uses[weights.parameter] += 1
    held = dict(model.named_parameters(remove_duplicate=False)).get(weights.parameter, weights.tensor)
    fan_in, fan_out = weights.fans
    return {
        "module": owner,
        "call": call,
        "kind": kind,
        "operation": operation.name,
        "shape": tuple(held.shape),
        "parameter": weights.parameter,
        "fan_in": 1 if operation.name == "embedding" else fan_in,
        "fan_out": fan_out,
        "groups": weights.groups,
    }


def calls_of(tape: Tape, inputs: Any) -> list[tuple[Call, list[Moment]]]:
    """Every operation with the moments of its outputs: the rules, run along ``tape``."""
    bits = _bits(tape)
    moments: dict[int, Moment] = {}
    for number, tensor in zip(tape.inputs, tensors_in(inputs), strict=True):
        if tensor.is_floating_point():
            moments[number] = Moment(widened(tensor.detach()).square().requires_grad_())
    uses, coherence = _uses(tape), _coherence(tape)
    calls = []
    for operation in tape.operations:
        if not any(tape.values[number].dtype.is_floating_point for number in operation.outputs):
            continue
        known = {
            number: replace(moments[number], back=frozenset())
            for number in operation.inputs
            if number in moments
        }
        call = Call(operation, known, bits, tape.values, uses)
        made = [_rooted(moment) for moment in moments_after(call)]
        for number, moment in zip(operation.outputs, made, strict=True):
            if tape.values[number].dtype.is_floating_point:
                power, factor = moment.power, coherence.get(number)
                if factor is not None:
                    power = with_slope(power, factor, power)
                moments[number] = replace(moment, power=power)
        calls.append((call, made))
    return calls


def _coherence(tape: Tape) -> dict[int, float]:
    """By value: how the parts of its gradient add up, where two of them meet unit by unit.

    Parts through weights that are apart are uncorrelated in the limit of wide layers.  Those of x·σ(x),
    each a number times the same gradient, never are: they add up as they do on this run.
    """
    takers: dict[int, list[Operation]] = defaultdict(list)
    for operation in tape.operations:
        for number in operation.inputs:
            takers[number].append(operation)

    def beyond(operation: Operation) -> set[int]:
        """The operations that units of their own come to from ``operation``, itself too."""
        found, open_ones = set(), [operation]
        while open_ones:
            each = open_ones.pop()
            if is_elementwise(each.name) and each.index not in found:
                found.add(each.index)
                open_ones += [after for number in each.outputs for after in takers[number]]
        return found

    return {
        number: value.coherence
        for number, value in enumerate(tape.values)
        if math.isfinite(value.coherence)
        and any(one & other for one, other in combinations(map(beyond, takers[number]), 2))
    }


def _uses(tape: Tape) -> dict[int, list[Operation]]:
    """By value: the operations it comes to, seen through those that only move numbers."""
    uses: dict[int, list[Operation]] = defaultdict(list)
    for operation in reversed(tape.operations):
        if not any(uses[number] or number in tape.outputs for number in operation.outputs):
            continue  # nothing is made of it
        beyond = [after for number in operation.outputs for after in uses[number]]
        for number in operation.inputs:
            uses[number] += beyond if only_moves(operation.name) else [operation]
    return uses


def _bits(tape: Tape) -> dict[str, int]:
    """A bit for each parameter and buffer that is read; the same one for those that are tied."""
    first = {name: names[0] for names in tape.ties.values() for name in names}
    bits: dict[str, int] = {}
    for operation in tape.operations:
        for name in operation.parameters:
            bits[name] = bits.setdefault(first.get(name, name), 1 << len(bits))
    return bits


def _rooted(moment: Moment) -> Moment:
    """``moment`` as the root of a graph where it depends on no input's."""
    if moment.power.requires_grad:
        return moment
    return replace(moment, power=moment.power.detach().requires_grad_())


def _backward(tape: Tape, calls: Sequence[tuple[Call, list[Moment]]]) -> dict[int, float]:
    """For every output of a weight layer: E[g²], mean over its units."""
    made = {
        number: moment
        for call, moments in calls
        for number, moment in zip(call.operation.outputs, moments, strict=True)
    }
    asked = [call.operation.outputs[0] for call, _ in calls if weights_of(call.operation)]
    ends = [made[number] for number in dict.fromkeys(tape.outputs) if number in made]
    sizes = [math.prod(tape.values[n].shape) for n in dict.fromkeys(tape.outputs) if n in made]
    if not ends or not asked:
        return {}
    total = torch.stack([end.power.mean() * size for end, size in zip(ends, sizes, strict=True)]).sum()
    powers = [made[number].power for number in asked]
    gradients = torch.autograd.grad(total, powers, allow_unused=True)
    return {
        number: float(gradient.sum()) / math.prod(tape.values[number].shape)
        for number, gradient in zip(asked, gradients, strict=True)
        if gradient is not None
    }


def _backward_bases(
    tape: Tape, calls: Sequence[tuple[Call, list[Moment]]]
) -> dict[int, frozenset[str]]:
    """What the gradient at every value rests on: the slopes of all that comes after it."""
    bases: dict[int, frozenset[str]] = {number: frozenset() for number in range(len(tape.values))}
    bases.update(dict.fromkeys(_coherence(tape), frozenset({MEASURED_FACTOR})))
    uses = Counter(number for call, _ in calls for number in call.operation.inputs)
    for call, moments in reversed(calls):
        after = frozenset[str]().union(*(bases[number] for number in call.operation.outputs))
        after = after.union(*(moment.back for moment in moments))
        for number in call.operation.inputs:
            # the parts of a gradient are uncorrelated in the limit of wide layers
            bases[number] |= after | ({INFINITE_WIDTH} if uses[number] > 1 else set())
    return bases


def _log_variances(tape: Tape, calls: Sequence[tuple[Call, list[Moment]]]) -> dict[int, float]:
    """Var[ln q] over draws of every value, to first order in what its sources do to ln q.

    Each weight layer is a source: given what enters it, its second moment has the relative variance r
    of a mean over its units, which their unevenness shows, before and behind an activation (2/n and
    5/n of one input through ReLU: theory.md §4 counts the same).  Sources multiply, so ln(1 + r) add.
    """
    noise: dict[int, dict[int, float]] = defaultdict(dict)  # value → source → √r
    for call, _ in calls:
        made: dict[int, float] = defaultdict(float)
        weighted = bool(weights_of(call.operation))
        for number, weight in log_weights(call).items():
            for source, size in noise[number].items():
                made[source] += weight * size
        number = call.operation.outputs[0]
        uneven = _relative_variance(call)
        if weighted:
            made[call.operation.index] = math.sqrt(uneven)
        elif math.isfinite(uneven) and made:  # the units of the last source, behind φ or a pool
            made[max(made)] = math.sqrt(uneven)
        for each in call.operation.outputs:
            noise[each] = dict(made)
    return {
        number: sum(math.log1p(size**2) for size in sources.values())
        for number, sources in noise.items()
    }


def _relative_variance(call: Call) -> float:
    """Of the second moment of an output, given what enters its weights; of one input exactly."""
    value = call.out()
    units = max(value.shape, default=1)
    if math.prod(value.shape) == units > 1 and math.isfinite(value.uneven):
        slope = call.argument("negative_slope") if call.operation.name == "leaky_relu" else 0.0
        if weights_of(call.operation):
            return 2 / units
        if call.operation.name in ("relu", "leaky_relu"):
            return spread_coefficient(float(slope)) / units
    return value.uneven


def analytic_band(mean: float, variance: float) -> tuple[float, float]:
    """Where 95 % of draws lie if ln q is normal, of that variance, and E[q] the ``mean``."""
    if not mean > 0 or not math.isfinite(variance):
        return math.nan, math.nan
    middle, reach = math.log(mean) - variance / 2, stats.norm.ppf(0.975) * math.sqrt(variance)
    return math.exp(middle - reach), math.exp(middle + reach)


def forward_of_draw(model: nn.Module, inputs: Any, seed: int, draw: int) -> list[float]:
    """The second moments at the weight layers when the weights of ``model`` are drawn anew.

    Of each tensor of two or more dimensions the numbers that it holds are shuffled, their signs drawn.
    """
    weights = {}
    for index, (name, held) in enumerate(model.named_parameters()):
        source = generator(seed, "draw", draw, index)
        values = held.detach().flatten()
        if held.dim() > 1:
            order = torch.randperm(values.numel(), generator=source)
            signs = torch.rand(values.numel(), generator=source) < 0.5
            values = values[order.to(values.device)] * (2 * signs - 1).to(values)
        weights[name] = values.reshape(held.shape)
    drawn = record(model, inputs, seed=seed, weights=weights)
    return [
        drawn.values[operation.outputs[0]].second_moment
        for operation in drawn.operations
        for _ in weights_of(operation)
    ]


def band(measured: Sequence[Sequence[float]]) -> tuple[Array, Array]:
    """Where 95 % of further draws lie if ln q is normal: by Student's t, for each layer."""
    logs = np.log(np.maximum(np.asarray(measured, dtype=np.float64), np.finfo(np.float64).tiny))
    count = len(logs)
    reach = stats.t.ppf(0.975, count - 1) * logs.std(0, ddof=1) * math.sqrt(1 + 1 / count)
    return np.exp(logs.mean(0) - reach), np.exp(logs.mean(0) + reach)
