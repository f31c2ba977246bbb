"""What one run says of a network: its weights in use, its norms, its branches, its signal.

The signal here is what the inputs tell apart: the ``spread``, the variance over the inputs of a batch,
mean over units.  (A bias that all inputs share is in the second moment, and carries nothing.)  A value
is held against its *reference*: the spread of the input or of the embedding, or the second moment that
the last normalization has set, whichever came last, less what means over places took out of it.  So a
small signal that is normalized again counts as none lost.  The gradient at a value is the sum of
(∂E/∂x)² over the tensor, times the reference, so that a scale which a norm takes out again does not
count either.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn

from theory.predict.layers import Weights, weights_of
from theory.predict.rules import taped
from theory.predict.tape import RECURRENT, Operation, Tape

NORMS = frozenset("batch_norm layer_norm group_norm instance_norm rms_norm normalize".split())
PRODUCTS = frozenset("linear matmul mm addmm einsum bmm".split())
# What hands a signal on with its scale: a norm behind it takes the scale out again.
KEEPS_SCALE = frozenset(
    """relu leaky_relu prelu rrelu dropout dropout1d dropout2d dropout3d feature_dropout alpha_dropout
    view reshape flatten unflatten permute transpose contiguous squeeze unsqueeze expand chunk split
    unbind getitem cat stack max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d mean pad interpolate
    pixel_shuffle channel_shuffle to float movedim T mT roll clone detach identity narrow select
    index_select write_view repeat tile rearrange type_as view_as reshape_as""".split()
)
WRITTEN_OUT = frozenset("pow square mean var rsqrt".split())  # on the way into a norm
AVERAGES = frozenset(  # over places: of pixels that are drawn apart little is left, of an image much
    "mean avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d".split()
)
SELECTS = frozenset("chunk split unbind getitem tensor_split narrow".split())
ACTIVATIONS = frozenset(
    """relu relu6 leaky_relu prelu rrelu tanh sigmoid gelu silu mish elu celu selu softplus softsign
    logsigmoid tanhshrink hardtanh hardswish hardsigmoid hardshrink softshrink threshold clamp
    clamp_min""".split()
)


@dataclass(frozen=True)
class Weight:
    """A weight tensor at the operation that uses it.

    ``fan_in``, ``fan_out`` are right for what the operation does with it; ``parts`` counts the weights
    that are packed in it (q, k and v; the gates of a cell), whose fans these are then.  ``source`` is
    the value that it acts on, ``result`` the one that it makes.
    """

    module: str
    call: int
    parameter: str
    kind: str
    tensor: torch.Tensor = field(
        repr=False
    )  # (outputs, inputs, …); of a transposed convolution as held
    shape: tuple[int, ...]  # as the parameter holds it
    fan_in: float
    fan_out: int
    groups: int
    transposed: bool  # a transposed convolution
    held_across: bool  # the parameter holds inputs first
    summed: bool  # in an equation, or a stack of matrices: torch.nn.init does not know its fans
    parts: int
    operation: int
    source: int | None
    result: int

    @property
    def units(self) -> torch.Tensor:
        """The weights of each unit that it makes, one unit a row."""
        return (self.tensor.transpose(0, 1) if self.transposed else self.tensor).flatten(1)


@dataclass(frozen=True)
class Join:
    """A residual sum: ``skip`` goes past the ``weights`` of the branch, of which ``last`` end it."""

    operation: int
    skip: int
    branch: int
    result: int
    weights: tuple[int, ...]  # indices into Network.weights
    last: tuple[int, ...]
    normed: bool  # whether a norm stands in the branch
    ends_in_norm: bool
    growth: float  # second moment after / before


@dataclass(frozen=True)
class Network:
    """The tape of one run with gradients, and the model it was taken from."""

    model: nn.Module = field(repr=False)
    tape: Tape = field(repr=False)

    @classmethod
    def of(cls, model: nn.Module, inputs: Any, *, gradients: bool = True, seed: int = 0) -> Network:
        """Run ``model`` once on ``inputs``; it is left as it was."""
        return cls(model, taped(model, inputs, gradients=gradients, seed=seed))

    # ------------------------------------------------------------------------------ the graph

    @cached_property
    def producers(self) -> dict[int, Operation]:
        return {value: one for one in self.tape.operations for value in one.outputs}

    @cached_property
    def consumers(self) -> dict[int, list[Operation]]:
        found: dict[int, list[Operation]] = defaultdict(list)
        for operation in self.tape.operations:
            for value in operation.inputs:
                found[value].append(operation)
        return found

    @cached_property
    def ancestors(self) -> list[int]:
        """For each value a bit mask of the values that it is made from, itself included."""
        masks = [0] * len(self.tape.values)
        for value in self.tape.inputs:
            masks[value] = 1 << value
        for operation in self.tape.operations:
            before = 0
            for value in operation.inputs:
                before |= masks[value]
            for value in operation.outputs:
                masks[value] = before | 1 << value
        return masks

    def real_inputs(self, operation: Operation) -> list[int]:
        """The inputs of ``operation`` that hold real numbers."""
        return [one for one in operation.inputs if self.tape.values[one].dtype.is_floating_point]

    # ---------------------------------------------------------------------------- the weights

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.model.named_parameters(remove_duplicate=False))

    @cached_property
    def weights(self) -> tuple[Weight, ...]:
        """Every weight at every operation that uses it, in running order."""
        found: list[Weight] = []
        uses: Counter[str] = Counter()
        for operation in self.tape.operations:
            real = self.real_inputs(operation)
            for held in weights_of(operation):
                if held.parameter in self.parameters:
                    found.append(self._weight(operation, held, real, uses[held.parameter]))
                    uses[held.parameter] += 1
        return tuple(found)

    def _weight(self, operation: Operation, held: Weights, real: list[int], call: int) -> Weight:
        owner = held.parameter.rpartition(".")[0].removesuffix(".parametrizations.weight")
        kind = type(self.model.get_submodule(owner)).__name__
        parts = 1 if held.equation else self._parts(operation, held.tensor)
        fan_in, fan_out = held.fans
        return Weight(
            self.owner(held.parameter),
            call,
            held.parameter,
            kind,
            held.tensor.detach(),
            tuple(self.parameters[held.parameter].shape),
            1 if operation.name == "embedding" else fan_in,
            fan_out // parts,
            held.groups,
            held.transposed,
            held.transposed or operation.name in ("addmm", "matmul", "mm"),
            bool(held.equation),
            parts,
            operation.index,
            real[0] if real else None,
            operation.outputs[0],
        )

    def owner(self, parameter: str) -> str:
        """The module that ``parameter`` is the weight of; of a list of parameters, the parameter."""
        module = parameter.rpartition(".")[0].removesuffix(".parametrizations.weight")
        lists = (nn.ParameterList, nn.ParameterDict)
        return parameter if isinstance(self.model.get_submodule(module), lists) else module

    def steps(self, weight: Weight) -> int:
        """Of a transposed convolution, out of how many inputs of its window an output sees one."""
        stride = self.tape.operations[weight.operation].arguments.get("stride", 1)
        each = stride if isinstance(stride, (tuple, list)) else [stride] * (weight.tensor.dim() - 2)
        return math.prod(each) if weight.transposed else 1

    def _parts(self, operation: Operation, tensor: torch.Tensor) -> int:
        """How many weights are packed in ``tensor``: gates of a cell, or outputs taken apart."""
        if operation.name in RECURRENT:
            return {"lstm": 4, "gru": 3}.get(operation.name, 1)
        if operation.name not in PRODUCTS:
            return 1
        value = operation.outputs[0]
        if self.tape.values[value].shape[-1] * 3 == max(tensor.shape):
            return 3  # torch's attention on different queries and keys takes its parts one by one
        for _ in range(9):  # through views, to where it is taken apart
            using = self.consumers[value]
            if not using:
                return 1
            if using[0].name in SELECTS:
                made = [self.tape.values[one].shape for use in using for one in use.outputs]
                sizes = {torch.Size(shape).numel() for shape in made}
                whole = torch.Size(self.tape.values[value].shape).numel()
                count = whole // max(sizes) if len(sizes) == 1 else 1
                return count if count in (2, 3, 4) and len(made) == count else 1
            if using[0].name not in KEEPS_SCALE or len(using) > 1:
                return 1
            value = using[0].outputs[0]
        return 1

    @cached_property
    def laws(self) -> dict[str, int]:
        """The first use of each parameter, by its name: an index into ``weights``."""
        first: dict[str, int] = {}
        for index, weight in enumerate(self.weights):
            first.setdefault(weight.parameter, index)
        return first

    # -------------------------------------------------------------------- signal and gradient

    def is_norm(self, operation: Operation) -> bool:
        """Whether ``operation`` takes the scale out: a norm of torch's, or x·rsqrt(…) and x/sqrt(…)."""
        if operation.name in NORMS:
            return True
        if operation.name not in ("mul", "div") or len(operation.inputs) < 2:
            return False
        roots = {"mul": ("rsqrt",), "div": ("sqrt", "std", "norm", "vector_norm")}[operation.name]
        made = [self.producers.get(value) for value in operation.inputs]
        return any(one is not None and one.name in roots for one in made)

    @cached_property
    def references(self) -> list[float]:
        """For each value the power that the signal had at its last reference."""
        found = [math.nan] * len(self.tape.values)
        for value in self.tape.inputs:
            found[value] = self.tape.values[value].spread
        given = set(self.tape.inputs)  # and what is made of them before any weight, as pixels / 255
        for operation in self.tape.operations:
            before = [found[value] for value in operation.inputs]
            known = [power for power in before if power == power]
            if given.issuperset(operation.inputs) and not given & set(operation.outputs):
                given.update(value for value in operation.outputs if value not in self.results)
            for value in operation.outputs:
                made = self.tape.values[value]
                if value in given and made.spread > 0:
                    found[value] = made.spread
                elif (self.is_norm(operation) and not self.bites(operation)) or not known:
                    found[value] = made.second_moment if self.is_norm(operation) else made.spread
                elif operation.name in AVERAGES:
                    before = [self.tape.values[value].spread for value in operation.inputs]
                    kept = made.spread / before[0] if before[0] > 0 else 1.0
                    found[value] = max(known) * (min(kept, 1.0) if kept == kept else 1.0)
                else:
                    found[value] = max(known)
        return found

    def bites(self, operation: Operation) -> bool:
        """Whether the ε of a norm is larger than the variance that it is to normalize."""
        eps = operation.arguments.get("eps")
        if not isinstance(eps, (int, float)) or not operation.inputs:
            return False
        return self.tape.values[operation.inputs[0]].spread < float(eps)

    def signal(self, value: int) -> float:
        """The spread of ``value`` over its reference: 1 where nothing is lost."""
        reference = self.references[value]
        return self.tape.values[value].spread / reference if reference > 0 else math.nan

    def gradient(self, value: int) -> float:
        """Σ(∂E/∂x)² over ``value``, times its reference."""
        made = self.tape.values[value]
        return made.gradient_second_moment * math.prod(made.shape) * self.references[value]

    @cached_property
    def hidden(self) -> list[bool]:
        """For each weight whether a norm takes out the scale of what it makes, on every way."""
        return [self._meets_norm(weight.result) for weight in self.weights]

    def _meets_norm(self, value: int) -> bool:
        def passes(operation: Operation) -> bool:
            if operation.name == "add":  # a bias
                return len(self.real_inputs(operation)) < 2
            # or the way into a norm that is written out
            return operation.name in KEEPS_SCALE or operation.name in WRITTEN_OUT

        def onward(one: int) -> list[int]:
            using = [each for each in self.consumers[one] if not self.is_norm(each) and passes(each)]
            return [out for each in using for out in each.outputs]

        ways = list(reached(value, onward))
        using = [operation for one in ways for operation in self.consumers[one]]
        norms = [operation for operation in using if self.is_norm(operation)]
        ends = any(one in self.tape.outputs and not self.consumers[one] for one in ways)
        return bool(norms) and not ends and all(self.is_norm(each) or passes(each) for each in using)

    # ----------------------------------------------------------------------- ends and branches

    @cached_property
    def results(self) -> dict[int, int]:
        """Value → the weight that made it."""
        return {weight.result: index for index, weight in enumerate(self.weights)}

    @cached_property
    def heads(self) -> tuple[int, ...]:
        """The weights behind which no other stands on the way to an output."""
        return tuple(dict.fromkeys(i for out in self.tape.outputs for i in self.nearest_weights(out)))

    def nearest_weights(self, value: int, stop: int = 0) -> list[int]:
        """The weights that are met first on all ways back from ``value``, those in ``stop`` apart."""

        def before(one: int) -> list[int]:
            inputs = () if one in self.results else self.made_of(one)
            return [each for each in inputs if not stop >> each & 1]

        met = [one for one in reached(value, before) if one in self.results]
        return sorted({self.results[one] for one in met})

    def made_of(self, value: int) -> tuple[int, ...]:
        """The inputs of the operation that made ``value``."""
        return self.producers[value].inputs if value in self.producers else ()

    def leads_to(
        self,
        value: int,
        wanted: Callable[[Operation], bool],
        passed: Callable[[Operation], bool],
        steps: int,
    ) -> bool:
        """Whether a ``wanted`` operation takes ``value``, or what up to ``steps`` others make of it."""
        for _ in range(steps):
            using = self.consumers[value]
            if any(map(wanted, using)):
                return True
            onward = next(filter(passed, using), None)
            if onward is None:
                return False
            value = onward.outputs[0]
        return False

    @cached_property
    def stems(self) -> tuple[int, ...]:
        """The weights before which no other stands."""
        mask = 0
        for value in self.results:
            mask |= 1 << value
        return tuple(
            index
            for index, weight in enumerate(self.weights)
            if weight.source is None or not self.ancestors[weight.source] & mask
        )

    @cached_property
    def joins(self) -> tuple[Join, ...]:
        """The residual sums, in running order."""
        found = (self._join(one) for one in self.tape.operations if one.name in ("add", "write_view"))
        return tuple(join for join in found if join is not None)

    def _join(self, operation: Operation) -> Join | None:
        real = self.real_inputs(operation)
        if operation.name != "add" or len(real) != 2:
            return None
        shapes = {self.tape.values[one].shape for one in real}
        if len(shapes) != 1:
            return None
        masks = [self.ancestors[one] for one in real]
        if not masks[0] & masks[1]:
            return None
        own = [self._weights_in(mask & ~other) for mask, other in (masks, masks[::-1])]
        longer = 0 if len(own[0]) > len(own[1]) else 1
        if len(own[longer]) == len(own[1 - longer]):
            return None
        branch, skip = real[longer], real[1 - longer]
        inside = masks[longer] & ~masks[1 - longer]
        norms = [
            one for one in self.tape.operations
            if self.is_norm(one) and any(inside >> out & 1 for out in one.outputs)
        ]  # fmt: skip
        last = self.nearest_weights(branch, stop=masks[1 - longer])
        result = operation.outputs[0]
        before = self.tape.values[skip].second_moment
        growth = self.tape.values[result].second_moment / before if before > 0 else math.inf
        end = self.producers.get(branch)
        return Join(
            operation.index,
            skip,
            branch,
            result,
            own[longer],
            tuple(i for i in last if i in own[longer]),
            bool(norms),
            end is not None and self.is_norm(end),
            growth,
        )

    def _weights_in(self, mask: int) -> tuple[int, ...]:
        return tuple(i for value, i in self.results.items() if mask >> value & 1)

    @cached_property
    def stacks(self) -> tuple[tuple[Join, ...], ...]:
        """Joins in a row, each of whose skips goes on from the sum before it, nothing in between."""
        stacks: list[list[Join]] = []
        ends: dict[int, list[Join]] = {}
        for join in self.joins:
            stack = ends.pop(self._through(join.skip, ends), None)
            if stack is None:
                stack = []
                stacks.append(stack)
            stack.append(join)
            ends[join.result] = stack
        return tuple(map(tuple, stacks))

    def _through(self, value: int, ends: Iterable[int]) -> int:
        """``value`` or, behind operations that keep its scale, the sum in ``ends`` it comes from."""
        while value not in ends:
            made_by = self.producers.get(value)
            if made_by is None or made_by.name not in KEEPS_SCALE or len(made_by.inputs) != 1:
                break
            value = made_by.inputs[0]
        return value


def reached(value: int, onward: Callable[[int], Iterable[int]]) -> Iterator[int]:
    """``value`` and all that ``onward`` leads to from there, each once."""
    todo, seen = [value], {value}
    while todo:
        one = todo.pop()
        yield one
        new = [each for each in onward(one) if each not in seen]
        seen.update(new)
        todo += new
