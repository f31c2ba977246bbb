"""One run of a network as a tape: which operation took which values and weights, and made which.

Hooks on modules miss what is added, multiplied or called as a function.  One eager run under
``TorchFunctionMode`` sees every call into torch at the level at which it was written: ``linear``,
``add``, ``layer_norm``, ``scaled_dot_product_attention``, ``lstm``.  A *value* is a tensor that depends
on the inputs; an *operation* takes values and parameters and makes values.  An operation that writes
into one of its inputs makes a new value of the same tensor.  What depends on no input (masks, a weight
that is computed from others) is no value: operations hold it among their arguments.

No activation outlives the run: of a value the tape keeps its shape and its second moment, and, if
asked, that of the gradient at it, for a cotangent of independent random signs at every output.

While a mode is active torch keeps ``nn.MultiheadAttention`` and ``nn.TransformerEncoderLayer`` off
their fused fast paths.  ``multi_head_attention_forward`` is the one function that is opened: torch
would hand it over whole, and its weight layers lie inside.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import types
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode, get_testing_overrides
from torch.utils.weak import WeakIdKeyDictionary

from theory.errors import RequestError
from theory.predict.readings import (
    Logits,
    Rows,
    attention_matrix,
    channel_mean,
    mixed_power,
    products_over_time,
    random_signs,
    second_moment,
    silent,
    spread,
    uneven,
)
from theory.probe import Whereabouts, at_gradient, modes_kept
from theory.randomness import generator

# One name for what Python and torch spell in several ways (underscores are off already).
ALIASES = {
    "iadd": "add", "radd": "add", "isub": "sub", "subtract": "sub", "imul": "mul", "rmul": "mul",
    "multiply": "mul", "truediv": "div", "itruediv": "div", "true_divide": "div", "divide": "div",
    "rtruediv": "rdiv", "imatmul": "matmul", "negative": "neg", "concat": "cat", "concatenate": "cat",
    "absolute": "abs", "ipow": "pow", "swapaxes": "transpose", "swapdims": "transpose",
    "moveaxis": "movedim", "clip": "clamp", "type": "to",
}  # fmt: skip
# What a tensor is asked for its size, type or place alone: the answer depends on no input.
MAKES_CONSTANTS = frozenset(
    "zeros_like ones_like full_like empty_like rand_like randn_like new_zeros new_ones new_full "
    "new_empty new_tensor grad".split()
)


RECURRENT = frozenset("lstm gru rnn_tanh rnn_relu".split())
KEEPS = frozenset(
    "to float double half bfloat16 type_as contiguous clone requires_grad cpu cuda identity alias "
    "checkpoint data detach".split()
)
MOVES = frozenset(
    "reshape view view_as reshape_as flatten ravel permute transpose T mT t unsqueeze squeeze "
    "chunk split split_with_sizes tensor_split unbind narrow select getitem cat stack hstack "
    "vstack dstack expand expand_as repeat repeat_interleave tile roll flip unflatten movedim "
    "pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle gather index_select "
    "take_along_dim swapaxes tril triu unfold where masked_select broadcast_to rot90 diagonal "
    "atleast_2d atleast_3d setitem".split()
)

MIXES = frozenset("scaled_dot_product_attention matmul bmm".split())  # tokens, the first factor given


@dataclass(frozen=True)
class Slot:
    """In an operation's arguments: the place of a value, by its number."""

    value: int


@dataclass(frozen=True)
class Value:
    """A tensor that depends on the inputs; its moments are NaN where it holds no real numbers.

    second_moment           mean of x² over the whole tensor
    channel_mean            mean over channels (dimension 1) of μ², μ the mean of one channel
    gradient_second_moment  mean of (∂E/∂x)², NaN if not asked for or if no gradient arrives
    spread                  variance over the inputs (the first dimension), mean over all others: what
                            tells inputs apart; of a single input its variance over everything
    silent                  share of the units that are 0 for every input
    coherence               Σ of the squared gradient over that of its parts, one from each operation
                            that takes the value; NaN if there is one alone, or not all were seen
    uneven                  variance over the n units of their second moments, over n times the squared
                            mean: given what enters a layer, its units are drawn alike and apart, and
                            this is the relative variance of its second moment over draws
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    second_moment: float
    channel_mean: float = float("nan")
    gradient_second_moment: float = float("nan")
    spread: float = float("nan")
    silent: float = float("nan")
    uneven: float = float("nan")
    coherence: float = float("nan")


@dataclass(frozen=True)
class Operation:
    """One call of a function of torch.

    index       its place on the tape
    name        of the function, without the underscores of its in-place form: ``add``, ``conv2d``
    module      qualified name of the innermost module that ran it, "" for the model itself
    call        which call of that module, from 0
    inputs      numbers of the values that it takes
    outputs     numbers of the values that it makes
    parameters  qualified names of the parameters and buffers that it reads
    buffers     those of them that are buffers
    arguments   its arguments by name, a ``Slot`` for every value and the tensors that are none
    function    what was called, and ``template`` with what: (positional, by keyword)
    slopes      for each input, if asked: Σ of the squared gradient that the operation sends there,
                over Σ of that which its outputs receive; NaN where they receive none
    logits      where slopes are asked for: what a softmax was given, that of attention too
    products    where slopes are asked for: of a recurrent one ``products_over_time`` of its input, of
                attention ``mixed_power``
    """

    index: int
    name: str
    module: str
    call: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    parameters: tuple[str, ...]
    arguments: Mapping[str, Any]
    function: Callable[..., Any]
    template: tuple[tuple[Any, ...], dict[str, Any]]
    buffers: frozenset[str] = frozenset()
    slopes: tuple[float, ...] = ()
    products: torch.Tensor | None = None
    logits: Logits | None = None

    def again(self, values: Mapping[int, torch.Tensor]) -> Any:
        """The operation on other ``values``, which it does not change if it writes into its first."""
        filled = mapped(self.template, lambda slot: values[slot.value], Slot)
        if writes(self.function, self.arguments):
            return _called(self.function, filled)
        return self.function(*filled[0], **filled[1])


@dataclass(frozen=True)
class Tape:
    """A run: ``operations`` in their order, and ``values`` by number.

    inputs, outputs  numbers of the tensors that the model was given and returned, in reading order
    ties             storage (its address) → the names of the parameters that share it, two or more
    returned         the class of what the model returned
    """

    operations: tuple[Operation, ...]
    values: tuple[Value, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    ties: Mapping[int, tuple[str, ...]]
    returned: type = torch.Tensor


Asked = Callable[[str], int | None]  # of an operation, by its name


def nothing(name: str) -> None:
    """Of no operation."""


def record(
    model: nn.Module,
    inputs: Any,
    *,
    gradients: bool = False,
    slopes: bool = False,
    channels: Asked = nothing,
    units: Asked = nothing,
    weights: Mapping[str, torch.Tensor] | None = None,
    seed: int = 0,
) -> Tape:
    """The tape of one run of ``model``, which is left as it was; its modes count.

    inputs     one tensor, a sequence of arguments, or a mapping of them by name
    gradients  also run backward from random signs at every real output
    slopes     also measure what each operation does to a gradient (with ``gradients``)
    channels   of which operations the outputs' channel means are measured
    units      of which operations the outputs are units along which axis, from the end; 0 where they
               are those of the input
    weights    parameters by name, to run with in the place of the model's own
    seed       of the cotangent, and of what the model draws (dropout)

    Raises ``RequestError`` for a model that is compiled or does not run on ``inputs``.
    """
    check_can_be_followed(model)
    positional, keywords = as_arguments(inputs)
    given = [tensor for tensor in tensors_in((positional, keywords))]
    device = next((tensor.device for tensor in given), torch.device("cpu"))
    with left_as_it_was(model, device, seed), Whereabouts(model) as where:
        recorder = _Recorder(model, where, slopes, channels, units, gradients, weights or {})
        with torch.set_grad_enabled(gradients):
            positional, keywords = recorder.entered((positional, keywords))
            try:
                with recorder:
                    if weights is None:
                        output = model(*positional, **keywords)
                    else:
                        output = functional_call(model, dict(weights), positional, keywords)
                outputs = recorder.left(output)
                if gradients:
                    recorder.run_backward(output, seed)
            except RequestError:
                raise
            except Exception as error:
                reason = str(error).strip().partition("\n")[0] or type(error).__name__
                stopped = f"{where.stopped}: " if where.stopped else ""
                raise RequestError(
                    f"the model does not run on these inputs: {stopped}{reason}"
                ) from error
    return Tape(
        tuple(map(recorder.with_slopes, recorder.operations)),
        tuple(map(recorder.with_coherence, range(len(recorder.values)))),
        recorder.inputs,
        outputs,
        ties_of(model),
        type(output),
    )


def check_can_be_followed(model: nn.Module) -> None:
    """Raise ``RequestError`` where modules are compiled, since nothing is seen of what runs inside, or
    lazy and never run, since they have no weights yet."""
    for name, module in model.named_modules():
        if any(map(is_lazy, (*module.parameters(recurse=False), *module.buffers(recurse=False)))):
            raise RequestError(
                f"{name or 'the model'} is lazy and has no weights yet: run the model on an input once"
            )
        if isinstance(module, torch.jit.ScriptModule) or type(module).__name__ == "OptimizedModule":
            raise RequestError(
                f"{name or 'the model'} is compiled ({type(module).__name__}): "
                "hand over the module that it was compiled from"
            )


def ties_of(model: nn.Module) -> dict[int, tuple[str, ...]]:
    """Storage → the names of all parameters on it, where there are several."""
    names = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if (storage := _storage(parameter)) is not None:
            names[storage].append(name)
    return {storage: tuple(shared) for storage, shared in names.items() if len(shared) > 1}


@contextmanager
def left_as_it_was(model: nn.Module, device: torch.device, seed: int) -> Iterator[None]:
    """Put back buffers, modes and the random state; dropout draws from a stream of its own."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(gpus), modes_kept(model):
        torch.random.set_rng_state(generator(seed, "dropout").get_state())
        for gpu in gpus:
            torch.cuda.set_rng_state(generator(seed, "dropout", device=gpu).get_state(), gpu)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, buffer in model.named_buffers():
                    if name in buffers:
                        buffer.copy_(buffers[name])


class _Recorder(TorchFunctionMode):
    """Writes down every call into torch that has to do with the inputs."""

    def __init__(
        self,
        model: nn.Module,
        where: Whereabouts,
        slopes: bool,
        channels: Asked,
        units: Asked,
        gradients: bool,
        weights: Mapping[str, torch.Tensor],
    ) -> None:
        super().__init__()
        self.where, self.gradients = where, gradients
        self.slopes, self.channels, self.units = slopes, channels, units
        self.axes = WeakIdKeyDictionary()  # of tensors whose units are known
        self.made_of = WeakIdKeyDictionary()  # the ``Rows`` of tensors that linear layers made
        self.operations: list[Operation] = []
        self.values: list[Value] = []
        self.inputs: tuple[int, ...] = ()
        self.numbers = WeakIdKeyDictionary()  # of tensors that are values
        self.computed = WeakIdKeyDictionary()  # the parameters behind tensors that are none
        self.masks = WeakIdKeyDictionary()  # root mean squares of random tensors
        self.sent: dict[tuple[int, int], float] = defaultdict(float)  # Σ g² by operation and value
        self.takers: dict[int, list[int]] = defaultdict(list)  # the operations that take each value
        self.outputs: tuple[int, ...] = ()
        self.roots: list[torch.Tensor] = []  # where the graph of the gradients begins
        self.owners: dict[int | None, list[tuple[str, int]]] = defaultdict(list)  # by storage
        self.buffers = frozenset(name for name, _ in model.named_buffers())
        named: list[tuple[str, torch.Tensor]] = [*model.named_parameters(remove_duplicate=False)]
        named += model.named_buffers(remove_duplicate=False)
        for name, held in named:
            tensor = weights.get(name, held)
            if _storage(tensor) is not None:
                self.owners[_storage(tensor)].append((name, tensor.data_ptr()))

    def entered(self, arguments: Any) -> Any:
        """``arguments`` with every tensor replaced by a copy that is a value."""

        def enter(tensor: torch.Tensor) -> torch.Tensor:
            mine = tensor.detach().clone()
            if self.gradients and mine.is_floating_point():
                self.roots.append(mine.requires_grad_())
                mine = mine.clone()  # no leaf: the model may write into it
            self.inputs += (self._value(mine),)
            return mine

        return mapped(arguments, enter)

    def left(self, output: Any) -> tuple[int, ...]:
        """The numbers of the tensors of ``output`` that depend on the inputs."""
        tensors = tensors_in(output)
        if not tensors:
            raise RequestError("the model returns no tensor")
        self.outputs = tuple(self.numbers[tensor] for tensor in tensors if tensor in self.numbers)
        return self.outputs

    def run_backward(self, output: Any, seed: int) -> None:
        """One backward pass from independent random signs; hooks on the values read it."""
        ends = [tensor for tensor in tensors_in(output) if tensor.requires_grad]
        if not ends:
            return
        cotangents = [random_signs(end, seed, number) for number, end in enumerate(ends)]
        with torch.enable_grad():
            torch.autograd.grad(ends, self.roots, cotangents, allow_unused=True)

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is nn.functional.multi_head_attention_forward:
            with self:
                return _opened(func)(*args, **kwargs)
        name = name_of(func)
        taken = tensors_in((args, kwargs))
        known = [self.numbers[tensor] for tensor in taken if tensor in self.numbers]
        if not known or name in MAKES_CONSTANTS:
            result = func(*args, **kwargs)
            self._follow_parameters(taken, result)
            self._follow_masks(name, args, kwargs, result)
            return result
        template = self._template((args, kwargs))
        inputs = tuple(dict.fromkeys(known))
        parameters = self._parameters(taken)
        bound = _bound(func, template)
        if self.gradients and self.slopes and name not in KEEPS and not writes(func, bound):
            args, kwargs = self._alias((args, kwargs), len(self.operations))
            taken = tensors_in((args, kwargs))
        version = taken[0]._version
        result = func(*args, **kwargs)
        made = tensors_in(taken[0] if name == "setitem" else result)
        if not made:
            return result
        known_size = None if taken[0]._version != version else self._viewed(taken, made)
        axis = self.units(name)
        if axis == 0:
            axis = self.axes[taken[0]] if taken[0] in self.axes else None
        outputs = tuple(self._value(tensor, name, known_size, axis) for tensor in made)
        products = logits = None
        if self.slopes:
            if name == "softmax" and isinstance(bound.get("dim"), int):
                logits = Logits.of(taken[0], bound["dim"])
            products = products_over_time(*args) if name in RECURRENT else None
            if name in MIXES and len(taken) > 1:
                products, logits = self._mixing(func, args, kwargs, taken)
        if self.gradients:
            self._follow_rows(func, bound, (args, kwargs), made)
        operation = Operation(
            len(self.operations), name, *self.where.now, inputs, outputs,
            parameters, bound, func, template, self.buffers.intersection(parameters), products=products,
            logits=logits,
        )  # fmt: skip
        self.operations.append(operation)
        for number in inputs:
            self.takers[number].append(operation.index)
        if self.gradients and not any(
            tensor.requires_grad for tensor in taken if tensor in self.numbers
        ):
            self.roots += [tensor for tensor in made if tensor.requires_grad]
        if made[0] is taken[0] and made[0]._version != version:
            self._write_back(made[0])
        return result

    def _mixing(
        self, function: Any, args: Any, kwargs: Mapping[str, Any], taken: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor | None, Logits | None]:
        """``mixed_power`` of what mixes tokens, and the logits of attention that holds its softmax."""
        attends = function is nn.functional.scaled_dot_product_attention
        value = taken[2 if attends and len(taken) > 2 else -1]
        rows = self.made_of[value] if value in self.made_of else None
        if rows is None and not attends:
            return None, None
        mixing = attention_matrix(function, args, kwargs)
        if mixing is None:
            return None, None
        logits = Logits.of(mixing.log(), -1) if attends else None
        return mixed_power(mixing, value, rows) if rows else None, logits

    def _follow_rows(
        self,
        function: Any,
        bound: Mapping[str, Any],
        arguments: tuple[Any, Mapping[str, Any]],
        made: Sequence[torch.Tensor],
    ) -> None:
        """The ``Rows`` of what a linear layer makes of one value, and of what is moved from there."""
        taken = tensors_in(arguments)
        name = name_of(function)
        weight = next((bound[key] for key in ("weight", "mat2", "other") if key in bound), None)
        if name in ("linear", "addmm", "matmul", "mm") and isinstance(weight, torch.Tensor):
            bias = bound.get("input" if name == "addmm" else "bias")
            value = next(tensor for tensor in taken if tensor in self.numbers)
            if (rows := Rows.of(value, made[0], weight, bias)) is not None:
                self.made_of[made[0]] = rows
            return
        held = [tensor for tensor in taken if tensor in self.made_of]
        if name not in MOVES | KEEPS or len(held) != 1 or writes(function, bound):
            return
        rows = self.made_of[held[0]]
        moved = []
        for index in (rows.index, rows.index + 1):
            instead = {id(held[0]): index}
            args, kwargs = mapped(arguments, lambda each: instead.get(id(each), each))  # noqa: B023
            try:
                moved.append(tensors_in(function(*args, **kwargs)))
            except (RuntimeError, TypeError, ValueError, IndexError):
                return  # not what moves whole numbers
        for tensor, index, next_one in zip(made, *moved, strict=True):
            if bool((next_one - index == 1).all()):  # nothing else was put in between
                self.made_of[tensor] = dataclasses.replace(rows, index=index.long())

    def _viewed(self, taken: Sequence[torch.Tensor], made: Sequence[torch.Tensor]) -> float | None:
        """The second moment of what is only another view of all numbers of one value."""
        if len(made) != 1:
            return None
        return next(
            (
                self.values[self.numbers[tensor]].second_moment
                for tensor in taken
                if tensor in self.numbers
                and tensor.numel() == made[0].numel()
                and tensor.dtype == made[0].dtype
                and _storage(tensor) == _storage(made[0]) is not None
            ),
            None,
        )

    def _value(
        self, tensor: torch.Tensor, name: str = "", size: float | None = None, axis: int | None = None
    ) -> int:
        number = len(self.values)
        self.numbers[tensor] = number
        size = second_moment(tensor) if size is None else size
        center = channel_mean(tensor) if self.channels(name) else math.nan
        apart = {"spread": spread(tensor), "silent": silent(tensor)}
        if axis is not None and -axis <= tensor.dim():
            self.axes[tensor], apart["uneven"] = axis, uneven(tensor, axis)
        self.values.append(Value(tuple(tensor.shape), tensor.dtype, size, center, **apart))
        if self.gradients and tensor.requires_grad:

            def read(gradient: torch.Tensor) -> None:
                self.values[number] = dataclasses.replace(
                    self.values[number], gradient_second_moment=second_moment(gradient)
                )

            at_gradient(tensor, read)
        return number

    def _template(self, arguments: Any) -> Any:
        """``arguments`` with slots for real values; whole numbers and masks stay as they are."""

        def slot(tensor: torch.Tensor) -> Any:
            if tensor in self.numbers and tensor.is_floating_point():
                return Slot(self.numbers[tensor])
            if tensor in self.masks:
                return torch.full_like(tensor, self.masks[tensor])
            return tensor.detach()

        return mapped(arguments, slot)

    def _write_back(self, written: torch.Tensor) -> None:
        """Where a view was written into, the tensor that it is a view of is a new value too."""
        base = written._base
        if base is None or base not in self.numbers:
            return
        inputs = (self.numbers[base], self.numbers[written])
        template: Any = ((Slot(inputs[0]), Slot(inputs[1])), {})
        self.operations.append(
            Operation(len(self.operations), "write_view", *self.where.now, inputs,
                      (self._value(base),), (), {}, _first, template)
        )  # fmt: skip

    def _follow_parameters(self, taken: Sequence[torch.Tensor], result: Any) -> None:
        names = self._parameters(taken)
        if names:
            for tensor in tensors_in(result):
                self.computed[tensor] = names

    def _follow_masks(self, name: str, args: Any, kwargs: Mapping[str, Any], result: Any) -> None:
        """Random masks (stochastic depth): their root mean square over draws, through a division."""
        numbers = [each for each in (*args[1:], *kwargs.values()) if isinstance(each, (int, float))]
        if not isinstance(result, torch.Tensor) or len(numbers) != 1:
            return
        if name == "bernoulli":
            self.masks[result] = math.sqrt(numbers[0])
        elif name in ("mul", "div") and args and args[0] in self.masks:
            self.masks[result] = self.masks[args[0]] * numbers[0] ** (1 if name == "mul" else -1)

    def _parameters(self, taken: Sequence[torch.Tensor]) -> tuple[str, ...]:
        """The names of what is read; of several on one storage, those of the module that runs."""
        found: list[str] = []
        for tensor in taken:
            if tensor in self.computed:
                found += self.computed[tensor]
            elif tensor not in self.numbers and tensor.layout == torch.strided:
                found += self._owner(tensor)
        return tuple(dict.fromkeys(found))

    def _owner(self, tensor: torch.Tensor) -> list[str]:
        owners = self.owners.get(_storage(tensor), [])
        same = [name for name, start in owners if start == tensor.data_ptr()]
        names = same or [name for name, _ in owners]
        inside = f"{self.where.now[0]}."
        return [name for name in names if f".{name}".startswith(f".{inside}")][:1] or names[:1]

    def _alias(self, arguments: Any, operation: int) -> Any:
        """``arguments`` with a view for every value, so that what is sent to it here is seen apart."""
        made: dict[int, torch.Tensor] = {}  # by number: one for a value that is there twice

        def alias(tensor: torch.Tensor) -> torch.Tensor:
            if tensor not in self.numbers or not tensor.requires_grad:
                return tensor
            key = (operation, self.numbers[tensor])
            if key[1] in made:
                return made[key[1]]
            mine = tensor.view_as(tensor)
            self.numbers[mine] = key[1]
            for held in (self.axes, self.made_of):
                if tensor in held:
                    held[mine] = held[tensor]

            def read(gradient: torch.Tensor) -> None:
                if len(self.takers[key[1]]) == 1 and key[1] not in self.outputs:
                    return  # it is the gradient at the value
                self.sent[key] += second_moment(gradient) * gradient.numel()

            at_gradient(mine, read)
            made[key[1]] = mine
            return mine

        return mapped(arguments, alias)

    def with_slopes(self, operation: Operation) -> Operation:
        """``operation`` with the slopes that the backward pass has shown."""
        if not self.slopes:
            return operation
        known = [self._sum_of_squares(number) for number in operation.outputs]
        received = sum(each for each in known if math.isfinite(each))
        sent = [
            self.sent.get((operation.index, number), self._sum_of_squares(number))
            for number in operation.inputs
        ]
        slopes = tuple(each / received if received > 0 else math.nan for each in sent)
        return dataclasses.replace(operation, slopes=slopes)

    def with_coherence(self, number: int) -> Value:
        """The value ``number``, with what the parts of its gradient make of each other."""
        value, takers = self.values[number], self.takers[number]
        parts = [self.sent.get((taker, number), math.nan) for taker in takers]
        if len(takers) < 2 or number in self.outputs or not sum(parts) > 0:
            return value
        return dataclasses.replace(value, coherence=self._sum_of_squares(number) / sum(parts))

    def _sum_of_squares(self, number: int) -> float:
        value = self.values[number]
        known = value.gradient_second_moment
        return known * math.prod(value.shape)


def name_of(function: Any) -> str:
    """The one name of a function of torch: ``relu`` for ``Tensor.relu_``, ``add`` for ``__radd__``.

    >>> name_of(torch.Tensor.__iadd__), name_of(torch.Tensor.mul_), name_of(torch.Tensor.T.__get__)
    ('add', 'mul', 'T')
    """
    name = str(getattr(function, "__name__", type(function).__name__))
    if name in ("__get__", "__set__"):  # a property
        name = str(getattr(function.__self__, "__name__", name))
    name = name.strip("_")
    return ALIASES.get(name, name)


def writes(function: Any, arguments: Mapping[str, Any]) -> bool:
    """Whether the call changes its first argument."""
    name = str(getattr(function, "__name__", ""))
    if name.startswith("__"):
        return name == "__setitem__" or (name.startswith("__i") and name != "__invert__")
    return name.endswith("_") or bool(arguments.get("inplace"))


def mapped(structure: Any, change: Callable[[Any], Any], kind: type = torch.Tensor) -> Any:
    """``structure`` (sequences, mappings and dataclasses) with what is of this ``kind`` changed."""
    if isinstance(structure, kind):
        return change(structure)
    parts = [mapped(part, change, kind) for part in _parts(structure)]
    if isinstance(structure, Mapping):
        changed = dict(zip(structure, parts, strict=True))
        return changed if isinstance(structure, dict) else type(structure)(**changed)
    if isinstance(structure, slice):
        return slice(*parts)
    if isinstance(structure, (list, tuple)) and not isinstance(structure, torch.Size):
        return type(structure)(*parts) if hasattr(structure, "_fields") else type(structure)(parts)
    if parts:
        names = [field.name for field in dataclasses.fields(structure)]
        return dataclasses.replace(structure, **dict(zip(names, parts, strict=True)))
    return structure


def tensors_in(structure: Any) -> list[torch.Tensor]:
    """The tensors of ``structure`` in reading order."""
    if isinstance(structure, torch.Tensor):
        return [structure]
    return [tensor for part in _parts(structure) for tensor in tensors_in(part)]


def _parts(structure: Any) -> list[Any]:
    """What a sequence, a mapping, a slice or a dataclass holds, in reading order."""
    if isinstance(structure, Mapping):
        return list(structure.values())
    if isinstance(structure, (list, tuple)) and not isinstance(structure, torch.Size):
        return list(structure)
    if isinstance(structure, slice):
        return [structure.start, structure.stop, structure.step]
    if dataclasses.is_dataclass(structure) and not isinstance(structure, (type, Slot)):
        return [getattr(structure, field.name) for field in dataclasses.fields(structure)]
    return []


def _called(function: Callable[..., Any], template: Any) -> Any:
    """What ``function`` makes of copies of its arguments; of one that only writes, what it wrote."""
    positional, keywords = mapped(template, lambda tensor: tensor.clone())
    result = function(*positional, **keywords)
    return positional[0] if result is None else result


def _storage(tensor: torch.Tensor) -> int | None:
    """The address of the memory of ``tensor``, None where it has none."""
    if nn.parameter.is_lazy(tensor) or tensor.is_meta or tensor.layout != torch.strided:
        return None
    if not tensor.numel():
        return None
    return tensor.untyped_storage().data_ptr()


def _first(base: torch.Tensor, view: torch.Tensor) -> torch.Tensor:
    return base


def as_arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """``inputs`` as the model's arguments: by place, and by name."""
    if isinstance(inputs, torch.Tensor):
        return (inputs,), {}
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    if isinstance(inputs, (list, tuple)):
        return tuple(inputs), {}
    raise RequestError(
        f"the inputs are a tensor, a sequence or a mapping of tensors, not {type(inputs).__name__}"
    )


@cache
def _signatures() -> dict[Any, inspect.Signature]:
    return {function: inspect.signature(like) for function, like in get_testing_overrides().items()}


def _bound(function: Any, template: Any) -> dict[str, Any]:
    """The arguments by name, defaults too; by number where torch tells no names."""
    positional, keywords = template
    try:
        signature = _signatures().get(function) or inspect.signature(function)
        bound = signature.bind(*positional, **keywords)
    except (TypeError, ValueError):
        return {**{str(place): value for place, value in enumerate(positional)}, **keywords}
    bound.apply_defaults()
    return dict(bound.arguments)


@cache
def _opened(function: Any) -> Any:
    """``function`` without the question whether a mode takes it over: its calls are seen one by one."""
    names = {**function.__globals__, "has_torch_function": lambda tensors: False}
    opened = types.FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )
    opened.__kwdefaults__ = function.__kwdefaults__
    return opened
