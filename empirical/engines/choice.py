"""The engine of a cell, by a fixed rule: the same command runs the same engine everywhere it is alike.

    eager     the network's modules, one after the other, by torch's own kernels: on a CPU, and on MPS
    stacked   cells of one shape in the calls of one, each step one CUDA graph (engines.groups): on
              CUDA, of the course report's networks alone

Any can be asked for by name.  An engine runs the *same modules*, with the same parameters, buffers and
optimizer, so that a cell's state does not depend on it.  Instruments read the modules themselves and
see the same under each.  The engine is fixed when a cell begins, because the last bits depend on it.

Nothing is timed here.  A stopwatch would give one command other last bits from day to day;
``benchmarks/training_step.py`` times the engines where somebody asks for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import nn

from empirical.engines.stacked import stacked_forward
from empirical.protocol import PAST_ENGINES, TrainSpec
from empirical.training.objectives import objective_of
from theory.errors import RequestError

EAGER, STACKED = "eager", "stacked"


class Engine:
    """The modules as they are: the reference for every other engine.

    ``network`` and ``optimizer`` are used in place; ``precision`` is the spec's.
    """

    name: ClassVar[str] = EAGER

    def __init__(
        self,
        network: nn.Sequential,
        optimizer: torch.optim.Optimizer,
        precision: str = "fp32",
        loss: Callable[..., torch.Tensor] = nn.functional.cross_entropy,
    ) -> None:
        self.network, self.optimizer, self.precision = network, optimizer, precision
        self.loss = loss

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, classes) in float32 or wider; with bf16 the layers run under autocast."""
        if self.precision == "fp32":
            return self.layers(images)
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            logits = self.layers(images)
        return logits.float()

    def layers(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images)
        return logits

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """One step on inputs and targets (B, …); returns their mean loss before it."""
        loss = self.loss(self.forward(images), labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()


class StackedEngine(Engine):
    """A stack of one: the same calls as for many, on the network's own parameters.

    ``empirical.engines.groups`` trains many; this is what a cell of theirs is by itself.
    """

    name = STACKED

    def layers(self, images: torch.Tensor) -> torch.Tensor:
        own = itertools.chain(self.network.named_parameters(), self.network.named_buffers())
        tensors = {name: value.unsqueeze(0) for name, value in own}
        modules = dict(self.network.named_children())
        return stacked_forward(modules, tensors, images, self.network.training)[0]


_ENGINES: dict[str, type[Engine]] = {engine.name: engine for engine in (Engine, StackedEngine)}


def engine_name(asked: str, kind: str) -> str:
    """The engine that ``asked`` (auto, or one by name) means on a device of this ``kind``.

    >>> engine_name("auto", "cpu"), engine_name("auto", "cuda"), engine_name("eager", "cuda")
    ('eager', 'stacked', 'eager')
    """
    if asked in PAST_ENGINES:
        raise RequestError(f"the engine {asked} is gone: eager gives the same to rounding")
    if asked != "auto":
        return asked
    return STACKED if kind == "cuda" else EAGER


def engine_for(
    spec: TrainSpec,
    network: nn.Sequential,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    begun_with: str = "",
) -> tuple[Engine, list[str]]:
    """The engine that trains the cell ``spec``, and what a reader of its record should know of it.

    ``begun_with`` is the engine of a cell to go on with: it is taken whatever ``spec`` asks for; if
    there is none of that name any more, eager takes its place and a note says so.
    """
    name = begun_with or (EAGER if not spec.is_classic else engine_name(spec.engine, device.type))
    loss = objective_of(spec).loss
    if name in _ENGINES:
        return _ENGINES[name](network, optimizer, spec.precision, loss), []
    note = f"begun with the engine {name}, which is gone: went on with eager, the same to rounding"
    return Engine(network, optimizer, spec.precision, loss), [note]
