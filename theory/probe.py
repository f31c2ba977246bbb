"""Reading a network without changing it: the one file of this project that registers hooks.

``Probe`` is a context manager over any ``nn.Module``.  While it is open, each selected module
reports, for every call, statistics of its output y and, if asked, of the gradient ∂E/∂y that later
reaches that output.  Each tensor is reduced inside the hook, in float64, to a few numbers: no
activation and no graph outlives the step.  On leaving, and also when the model raises, every hook
is removed and every module's train/eval mode is what it was before.

Three statistics that are often mixed up are kept apart (each is an average over all but the kept
dimensions):

    second_moment   mean of y²                 what He et al. 2015 follow through the layers
    mean            mean of y
    variance        second_moment − mean²      over units and inputs together

The gradient is read by a hook on the output *tensor*, placed by the forward hook.  It sees what
``register_full_backward_hook`` calls ``grad_output``, but keeps working where that one raises: when
an in-place ReLU overwrites the output afterwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from theory.errors import RequestError
from theory.precision import widened


@dataclass
class Reading:
    """What one call of one module reported.

    ``forward`` and ``backward`` map a statistic's name to a float64 tensor of the kept dimensions
    (a scalar tensor by default); ``backward`` is None until a gradient has reached the output.
    """

    module: str
    kind: str
    call: int
    shape: tuple[int, ...]
    forward: dict[str, torch.Tensor]
    backward: dict[str, torch.Tensor] | None = None


class Probe:
    """Collect statistics of the outputs of ``model``'s weight layers while the ``with`` block runs.

    model     any nn.Module, nested as it likes; a module called several times reports each call
    select    which modules to read: a predicate of (name, module), or names; by default every module
              that holds a ``weight`` of two or more dimensions (Linear, Conv, …)
    backward  also read the gradient at each output
    keep      dimensions of the output that are not averaged over, e.g. (0,) for one number per input
    mode      "train" or "eval" to put the model into that mode for the duration; None leaves it
    statistics  replaces the default reduction: tensor -> {name: float64 tensor}

    Raises ``RequestError`` when nothing matches, when a module is compiled (hooks do not reach inside),
    on leaving when nothing was read, and, from within the model's own call, when a selected module
    returns something other than one tensor.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU())
    >>> with Probe(model) as probe:
    ...     _ = model(torch.ones(2, 4))
    >>> [(reading.module, reading.shape) for reading in probe.readings]
    [('0', (2, 4))]
    """

    def __init__(
        self,
        model: nn.Module,
        select: Callable[[str, nn.Module], bool] | Iterable[str] | None = None,
        *,
        backward: bool = False,
        keep: tuple[int, ...] = (),
        mode: str | None = None,
        statistics: Callable[[torch.Tensor], dict[str, torch.Tensor]] | None = None,
    ) -> None:
        if mode not in (None, "train", "eval"):
            raise RequestError(f"mode must be train, eval or None, not {mode!r}")
        self.model = model
        self.selected = _select(model, select)
        self.backward = backward
        self.mode = mode
        self.readings: list[Reading] = []
        self._reduce = statistics or (lambda tensor: moments(tensor, keep))
        self._calls: Counter[str] = Counter()
        self._handles: list[RemovableHandle] = []
        self._modes = ExitStack()

    def __enter__(self) -> Probe:
        if self._handles:
            raise RequestError("this probe is open already: one probe reads one block at a time")
        self._modes.enter_context(modes_kept(self.model))
        try:
            for name, module in self.selected.items():
                self._handles.append(module.register_forward_hook(self._forward_hook(name)))
            if self.mode is not None:
                self.model.train(self.mode == "train")
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()
        if kind is None and not self.readings:
            raise RequestError(
                "the probe read nothing: inside its block the model was not called, or it runs "
                "compiled code that hooks do not reach"
            )

    def table(self) -> pd.DataFrame:
        """One row per reading: module, kind, call, shape, then each statistic.

        Columns of the gradient carry the prefix ``gradient_``; NaN where no gradient arrived.
        Only for readings without kept dimensions.
        """
        rows: list[dict[str, Any]] = []
        for reading in self.readings:
            row: dict[str, Any] = {
                "module": reading.module,
                "kind": reading.kind,
                "call": reading.call,
                "shape": reading.shape,
            }
            row |= {name: float(value) for name, value in reading.forward.items()}
            for name, value in (reading.backward or {}).items():
                row[f"gradient_{name}"] = float(value)
            rows.append(row)
        return pd.DataFrame(rows)

    def _forward_hook(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not isinstance(output, torch.Tensor):
                raise RequestError(
                    f"the probe reads modules that return one tensor, but {name or 'the model'} "
                    f"({type(module).__name__}) returned {type(output).__name__}: "
                    "leave it out with select="
                )
            call = self._calls[name]
            self._calls[name] += 1
            forward = self._reduce(output.detach())
            reading = Reading(name, type(module).__name__, call, tuple(output.shape), forward)
            self.readings.append(reading)
            if self.backward and output.requires_grad:
                handle = output.register_hook(self._backward_hook(reading))  # type: ignore[no-untyped-call]
                self._handles.append(handle)

        return hook

    def _backward_hook(self, reading: Reading) -> Callable[[torch.Tensor], None]:
        def hook(gradient: torch.Tensor) -> None:
            reading.backward = self._reduce(gradient.detach())

        return hook

    def _close(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._modes.close()


class Whereabouts:
    """Which module of ``model`` runs, while the ``with`` block does: ``now`` is (name, call).

    The innermost one counts; a module that stands in several places has the name of the first.
    ``stopped`` says of a run that failed at which module it did, and what that was given.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._running: list[tuple[str, int]] = []
        self._calls: Counter[str] = Counter()
        self._handles: list[RemovableHandle] = []
        self.stopped = ""

    @property
    def now(self) -> tuple[str, int]:
        return self._running[-1] if self._running else ("", 0)

    def __enter__(self) -> Whereabouts:
        for name, module in self.model.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):
                before = module.register_forward_pre_hook(self._entering(name), prepend=True)
                after = module.register_forward_hook(self._leaving, always_call=True)
                self._handles += [before, after]
        return self

    def __exit__(self, *raised: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _entering(self, name: str) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, inputs: Any) -> None:
            self._running.append((name, self._calls[name]))
            self._calls[name] += 1
            self.stopped = ""

        return hook

    def _leaving(self, module: nn.Module, inputs: Any, output: Any) -> None:
        name, _ = self._running.pop()
        if output is None and not self.stopped:  # it raised, or made nothing
            given = [each for each in inputs if isinstance(each, torch.Tensor)]
            shapes = ", ".join("×".join(map(str, each.shape)) for each in given)
            self.stopped = f"{name or 'the model'} ({type(module).__name__}), given {shapes}"


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Put each module's train/eval mode back."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def at_gradient(tensor: torch.Tensor, read: Callable[[torch.Tensor], torch.Tensor | None]) -> None:
    """Let ``read`` see the gradient at ``tensor``, and give another; the hook goes with the graph."""
    tensor.register_hook(lambda gradient: None if gradient is None else read(gradient.detach()))  # type: ignore[no-untyped-call]


def moments(tensor: torch.Tensor, keep: tuple[int, ...] = ()) -> dict[str, torch.Tensor]:
    """Second moment, mean and variance of ``tensor`` over all dimensions but ``keep``, in float64."""
    kept = {dimension % tensor.dim() for dimension in keep}
    over = [dimension for dimension in range(tensor.dim()) if dimension not in kept]
    wide = widened(tensor)
    second_moment, mean = wide.square().mean(over), wide.mean(over)
    return {"second_moment": second_moment, "mean": mean, "variance": second_moment - mean**2}


def is_weight_layer(name: str, module: nn.Module) -> bool:
    """Whether ``module`` itself holds a weight of two or more dimensions (Linear, Conv, …)."""
    weight = getattr(module, "weight", None)
    return weight is not None and getattr(weight, "dim", lambda: 0)() >= 2


def _select(
    model: nn.Module, select: Callable[[str, nn.Module], bool] | Iterable[str] | None
) -> dict[str, nn.Module]:
    modules = dict(model.named_modules())
    if select is None:
        select = is_weight_layer
    if callable(select):
        chosen = {name: module for name, module in modules.items() if select(name, module)}
    else:
        names = list(select)
        missing = [name for name in names if name not in modules]
        if missing:
            raise RequestError(
                f"the model has no module called {', '.join(map(repr, missing))}; "
                f"it has {', '.join(filter(None, modules))}"
            )
        chosen = {name: modules[name] for name in names}
    if not chosen:
        raise RequestError("the probe found no module to read: name them with select=")
    for name, module in {"": model, **chosen}.items():
        # by its name: importing torch.compile's own class costs a second
        if isinstance(module, torch.jit.ScriptModule) or type(module).__name__ == "OptimizedModule":
            raise RequestError(
                f"{name or 'the model'} is compiled ({type(module).__name__}), and hooks do not reach "
                "inside: probe the module that it was compiled from"
            )
    return chosen
