"""A CUDA device for machines without one: its numbers are the CPU's, its rules are CUDA's.

Tensors that were made on it or moved to it are marked, and so is what is computed from them.  What
would fail or wait on a GPU fails or is counted here:

    a computation from tensors of both devices is refused
    a value read by the host (item, tolist, cpu, a condition) is counted, and refused in a capture, as
    is a copy from the host; there is no way to numpy but by the CPU
    a capture notes every kernel and its tensors and changes nothing; a replay runs those same kernels
    on those same tensors, and nothing of Python: what the host decided in between is not seen
    a fused Adam that is captured without ``capturable`` is refused, by torch itself

It says nothing of speed, memory, streams, cuDNN's kernels or the rounding of a GPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch._dynamo  # which optimizers would import while names of torch are replaced
from torch import nn
from torch.autograd.function import BackwardCFunction, Function
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
MARK = "_pretended_on_cuda"
DEVICE, DATA, GRAD = torch.Tensor.device.__get__, torch.Tensor.data, torch.Tensor.grad
IS_CUDA, IS_CPU = torch.Tensor.is_cuda.__get__, torch.Tensor.is_cpu.__get__
COPIES = (
    torch.Tensor.copy_, torch.Tensor.to, torch.Tensor.cpu, DATA.__set__, GRAD.__set__,
    torch._has_compatible_shallow_copy_type,
)  # fmt: skip
READS = (
    torch.Tensor.item, torch.Tensor.tolist, torch.Tensor.cpu, torch.Tensor.__bool__,
    torch.Tensor.__int__, torch.Tensor.__float__, torch.Tensor.__index__,
)  # fmt: skip


def is_on_cuda(tensor: Any) -> bool:
    return getattr(tensor, MARK, False)


def mark(tensor: Any) -> Any:
    setattr(tensor, MARK, True)
    return tensor


def tensors_in(values: Any) -> list[torch.Tensor]:
    return [value for value in tree_flatten(values)[0] if isinstance(value, torch.Tensor)]


def names_cuda(value: Any) -> bool:
    return isinstance(value, torch.device | str) and str(value).startswith("cuda")


class Pretending(TorchFunctionMode):
    """Marks tensors and holds them to the rules.

    ``waits`` counts what the host has read, ``largest`` is the number of values in the largest of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits = self.largest = 0
        self.recording: Recording | None = None

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        given = tensors_in((args, kwargs))
        there = [tensor for tensor in given if is_on_cuda(tensor)]
        if function in (DEVICE, IS_CUDA, IS_CPU):
            if there:
                return {DEVICE: CUDA, IS_CUDA: True, IS_CPU: False}[function]
            return function(*args, **kwargs)
        if function is torch.Tensor.register_hook and there:
            args = (args[0], self.hook(args[1]))
        target, args, kwargs = self.target(function, args, kwargs)
        if there and (function in READS or (function is torch.Tensor.to and target == CPU)):
            self.wait(function, there[0])
        if there and function in (torch.Tensor.numpy, torch.Tensor.__array__):
            raise TypeError("can't convert a tensor on cuda to numpy: copy it to the CPU first")
        if self.recording is not None and self.from_host(function, target, given):
            raise RuntimeError(f"{function.__name__}: a copy from the host cannot be captured")
        if there and function not in COPIES:
            self.check_devices(function, given)
        result = function(*args, **kwargs)
        if function == DATA.__set__ and there:
            mark(args[0])
        on_cuda = target == CUDA or (bool(there) and target is None and function not in READS)
        if target == CPU and any(out is own for out in tensors_in(result) for own in there):
            result = result.clone()  # on this machine it was there already
        for out in tensors_in(result):
            if on_cuda:
                if not there and any(out is own for own in given):  # .to() of what is on the CPU
                    result = out = out.clone() if out.is_leaf else out.view_as(out)
                mark(out)
        return result

    def hook(self, given: Callable[[torch.Tensor], Any]) -> Callable[[torch.Tensor], Any]:
        def called(gradient: torch.Tensor) -> Any:
            with self:  # which the way back has left
                return given(mark(gradient))

        return called

    def target(
        self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[torch.device | None, tuple[Any, ...], dict[str, Any]]:
        """The device that the call names, and the call with the CPU in its place."""
        if function is torch.Tensor.cpu:
            return CPU, args, kwargs
        named = [value for value in (kwargs.get("device"), *args) if value is not None]
        named = [value for value in named if isinstance(value, torch.device | str)]
        if kwargs.get("device") is None and function not in (torch.Tensor.to, torch.Tensor.type):
            named = []
        if function is torch.Tensor.to and len(args) > 1 and isinstance(args[1], torch.Tensor):
            named = [CUDA if is_on_cuda(args[1]) else CPU]
        if not named:
            return None, args, kwargs
        cpu = lambda value: CPU if names_cuda(value) else value  # noqa: E731
        return (
            CUDA if names_cuda(named[0]) else CPU,
            tuple(cpu(value) for value in args),
            {name: cpu(value) for name, value in kwargs.items()},
        )

    def check_devices(self, function: Any, given: Iterable[torch.Tensor]) -> None:
        """Refuse tensors of the CPU beside others, but single numbers."""
        for tensor in given:
            if not is_on_cuda(tensor) and tensor.dim() > 0:
                name = getattr(function, "__name__", function)
                raise RuntimeError(f"{name}: tensors on cuda and cpu")

    def from_host(self, function: Any, target: torch.device | None, given: list[torch.Tensor]) -> bool:
        """Whether the call brings numbers from the host to the device."""
        if function in (torch.tensor, torch.as_tensor):
            return target == CUDA
        here = any(not is_on_cuda(tensor) for tensor in given)
        to_cuda = function is torch.Tensor.to and target == CUDA
        return here and (to_cuda or (function is torch.Tensor.copy_ and is_on_cuda(given[0])))

    def wait(self, function: Any, tensor: torch.Tensor) -> None:
        self.waits += 1
        self.largest = max(self.largest, tensor.numel())
        if self.recording is not None:
            raise RuntimeError(f"{function.__name__}: operation not permitted when stream is capturing")


@dataclass
class Recording(TorchDispatchMode):
    """The kernels of a capture.  They are run, as their results have shapes, and then undone."""

    kernels: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[torch.Tensor]]] = field(
        default_factory=list
    )

    def __post_init__(self) -> None:
        super().__init__()
        self.made: dict[int, torch.UntypedStorage] = {}
        self.before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, kernel: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for tensor in tensors_in((args, kwargs)):
            storage = tensor.untyped_storage()
            if storage._cdata not in self.made and storage._cdata not in self.before:
                self.before[storage._cdata] = storage, storage.clone()
        with torch._C.DisableTorchFunction():
            result = kernel(*args, **kwargs)
        changes = kernel._schema.is_mutable or any(own.alias_info for own in kernel._schema.returns)
        results = [] if changes else tensors_in(result)
        for out in results:
            self.made[out.untyped_storage()._cdata] = out.untyped_storage()
        self.kernels.append((kernel, args, kwargs, results))
        return result

    def undo(self) -> None:
        for storage, old in self.before.values():
            storage.copy_(old)

    def replay(self) -> None:
        with torch.no_grad(), torch._C.DisableTorchFunction():
            for kernel, args, kwargs, held in self.kernels:
                result = tensors_in(kernel(*args, **kwargs))
                for old, new in zip(held, result, strict=bool(held)):
                    old.copy_(new)


class PretendedGraph:
    recording: Recording

    def replay(self) -> None:
        self.recording.replay()


@contextlib.contextmanager
def pretended_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pretending]:
    """Within it ``torch.device("cuda")`` can be used as if there were one."""
    mode = Pretending()

    @contextlib.contextmanager
    def capture(graph: PretendedGraph) -> Iterator[None]:
        mode.recording = Recording()
        try:
            with mode.recording:
                yield
            mode.recording.undo()
            graph.recording = mode.recording
        finally:
            mode.recording = None

    class Stream:
        def wait_stream(self, other: Stream) -> None: ...

        def is_capturing(self) -> bool:
            return mode.recording is not None

    def made_parameter(kind: Any, data: torch.Tensor, *rest: Any) -> torch.Tensor:
        made = make_subclass(kind, data, *rest)
        return mark(made) if is_on_cuda(data) else made

    def gradients(outputs: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        inputs = [inputs] if isinstance(inputs, torch.Tensor) else inputs
        found = autograd(outputs, inputs, *rest, **named)
        return tuple(
            mark(gradient) if is_on_cuda(own) else gradient
            for gradient, own in zip(found, inputs, strict=True)
        )

    def applied(function: Any, *args: Any) -> Any:
        result = (apply.__get__(None, function) if apply else super(Function, function).apply)(*args)
        if any(is_on_cuda(tensor) for tensor in tensors_in(args)):
            for out in tensors_in(result):
                mark(out)
                mark(out.grad_fn or out)
        return result

    def applied_backward(node: Any, *gradients: Any) -> Any:
        if is_on_cuda(node):
            for gradient in tensors_in(gradients):
                mark(gradient)
        with mode:  # as above
            return apply_backward(node, *gradients)

    def submit(pool: Any, function: Any, *args: Any, **kwargs: Any) -> Future[Any]:
        """At once and in this thread: torch's modes are a thread's own."""
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future

    def autocast(device: str, **options: Any) -> Any:
        return cast("cpu" if device == "cuda" else device, **options)

    class Generator(torch.Generator):
        def __new__(cls, device: Any = "cpu") -> Generator:
            made = super().__new__(cls, "cpu" if names_cuda(device) else device)
            made.named = device
            return made

        @property
        def device(self) -> torch.device:
            return torch.device(self.named)

    make_subclass, autograd, cast = torch.Tensor._make_subclass, torch.autograd.grad, torch.autocast
    apply, apply_backward = vars(Function).get("apply"), BackwardCFunction.apply
    generators = [torch.Generator()]  # the device's own
    fakes: dict[str, Callable[..., Any] | type] = {
        "is_available": lambda: True,
        "is_current_stream_capturing": lambda: mode.recording is not None,
        "current_device": lambda: 0,
        "device_count": lambda: 1,
        "get_device_name": lambda device=None: "pretended GPU",
        "mem_get_info": lambda device=None: (10**9, 10**9),
        "memory_reserved": lambda device=None: 0,
        "memory_allocated": lambda device=None: 0,
        "synchronize": lambda device=None: None,
        "current_stream": Stream,
        "Stream": Stream,
        "stream": lambda stream: contextlib.nullcontext(),
        "CUDAGraph": PretendedGraph,
        "graph": capture,
        "get_rng_state": lambda device: generators[0].get_state(),
        "set_rng_state": lambda state, device: generators[0].set_state(state),
    }
    with monkeypatch.context() as patch:
        for name, fake in fakes.items():
            patch.setattr(torch.cuda, name, fake)
        patch.setattr(torch.accelerator, "current_accelerator", lambda **options: CUDA)
        patch.setattr(torch.accelerator, "current_stream", Stream)
        patch.setattr(torch.Tensor, "_make_subclass", staticmethod(made_parameter), raising=False)
        patch.setattr(torch.autograd, "grad", gradients)
        patch.setattr(torch, "autocast", autocast)
        patch.setattr(torch, "Generator", Generator)
        patch.setattr(Function, "apply", classmethod(applied), raising=False)
        patch.setattr(BackwardCFunction, "apply", applied_backward)
        patch.setattr(ThreadPoolExecutor, "submit", submit)
        with mode:
            yield mode


def on_cuda(network: nn.Module) -> bool:
    """Whether every parameter and buffer is there."""
    return all(is_on_cuda(value) for value in (*network.parameters(), *network.buffers()))
