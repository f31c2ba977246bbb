"""How a step is run: engines that compute the same to rounding and differ in time.

    eager     the network's modules, one after the other, by torch's own kernels
    fused     on a CPU: torch's convolutions, and all between two of them in one (empirical.fused)

An engine runs the *same modules*, with the same parameters, buffers and optimizer, so that a cell's
state does not depend on it.  Instruments read the modules themselves and see the same under each.

``auto`` takes the fastest by a short timed probe on the network at hand.  The engine is fixed when a
cell begins: the last bits depend on it.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from functools import cache
from typing import Any, ClassVar

import torch
from torch import nn

from empirical.fused import TYPES, Unavailable, fused_forward, fused_layers, library
from empirical.locations import cache_folder
from empirical.networks import build_network
from empirical.protocol import CLASSES, IMAGE_SIZE, TrainSpec
from theory.errors import RequestError
from theory.randomness import generator

PROBE_STEPS = 5  # of each engine, the first of them not counted
PROBE_SECONDS = 5.0  # after which no further turn begins


class Engine:
    """The modules as they are: the reference for every other engine.

    ``network`` and ``optimizer`` are used in place; ``precision`` is the spec's.
    Raises ``Unavailable`` where it cannot run.
    """

    name: ClassVar[str] = "eager"

    def __init__(
        self, network: nn.Sequential, optimizer: torch.optim.Optimizer, precision: str = "fp32"
    ) -> None:
        self.network, self.optimizer, self.precision = network, optimizer, precision

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, 10) in float32 or wider; with precision bf16 the layers run under autocast."""
        if self.precision == "fp32":
            return self.layers(images)
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            logits = self.layers(images)
        return logits.float()

    def layers(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images)
        return logits

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """One step on normalised images (B, 3, 32, 32); returns their mean loss before it."""
        loss = nn.functional.cross_entropy(self.forward(images), labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()


class FusedEngine(Engine):
    """Convolutions by torch, batch norm, rectifier and pool together by one kernel; on a CPU."""

    name = "fused"

    def __init__(
        self, network: nn.Sequential, optimizer: torch.optim.Optimizer, precision: str = "fp32"
    ) -> None:
        super().__init__(network, optimizer, precision)
        weight = next(network.parameters())
        if weight.device.type != "cpu" or weight.dtype not in TYPES:
            raise Unavailable("the fused kernels are for a CPU")
        library()
        self.fused = fused_layers(network)

    def layers(self, images: torch.Tensor) -> torch.Tensor:
        return fused_forward(self.network, self.fused, images)


_ENGINES: dict[str, type[Engine]] = {engine.name: engine for engine in (Engine, FusedEngine)}


def build_engine(
    name: str, network: nn.Sequential, optimizer: torch.optim.Optimizer, precision: str = "fp32"
) -> Engine:
    """The engine called ``name`` for ``network``; ``Unavailable`` says why there is none."""
    if name not in _ENGINES:
        raise Unavailable(f"there is no engine {name}")
    return _ENGINES[name](network, optimizer, precision)


def engine_for(
    spec: TrainSpec,
    network: nn.Sequential,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    begun_with: str = "",
) -> tuple[Engine, list[str]]:
    """The engine that trains the cell ``spec``, and what a reader of its record should know of it.

    ``begun_with`` is the engine of a cell to go on with: it is taken whatever ``spec`` asks for; if it
    cannot be had here, eager takes its place and a note says so.
    Raises ``RequestError`` for an engine that was asked for by name and cannot run.
    """
    name = begun_with or spec.engine
    if name == "auto":
        name = choose(spec, device)
    try:
        return build_engine(name, network, optimizer, spec.precision), []
    except Unavailable as reason:
        if not begun_with:
            raise RequestError(
                f"--engine {name} cannot run here: {reason}; use --engine auto"
            ) from None
        note = f"begun with the engine {name}, which cannot run here ({reason}): went on with eager"
        return Engine(network, optimizer, spec.precision), [note]


def choose(spec: TrainSpec, device: torch.device) -> str:
    """The engine with the shortest step on a network like that of ``spec`` on ``device``.

    Probed once for every shape of network in a process, and remembered in the cache folder, so that a
    study that is started again takes the same.
    """
    shape = (spec.activation, spec.norm, spec.depth, spec.filters, spec.batch_size, spec.pool_every)
    return _choose(shape, spec.precision, str(device), torch.get_num_threads())


@cache
def _choose(shape: tuple[Any, ...], precision: str, device: str, threads: int) -> str:
    if device != "cpu":
        return Engine.name
    names = ("activation", "norm", "depth", "filters", "batch_size", "pool_every")
    spec = TrainSpec(precision=precision, **dict(zip(names, shape, strict=True)))
    try:
        library()
    except Unavailable:
        return Engine.name
    about = repr((shape, precision, threads, torch.__version__, library()._name))
    path = cache_folder() / f"engine-{hashlib.sha256(about.encode()).hexdigest()[:16]}"
    try:
        known = path.read_text(encoding="utf-8")
        if known in _ENGINES:
            return known
    except (OSError, UnicodeDecodeError):
        pass
    found = probe(spec, torch.device(device))
    best = min(found, key=lambda name: found[name])
    with contextlib.suppress(OSError):  # then it is probed again next time
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(best, encoding="utf-8")
    return best


def probe(spec: TrainSpec, device: torch.device) -> dict[str, float]:
    """Seconds per step of each engine that can run ``spec``: the least of a few, taken in turn."""
    engines = {}
    for name in _ENGINES:
        network = build_network(spec, device).train()
        optimizer = torch.optim.Adam(network.parameters(), lr=0.0)
        with contextlib.suppress(Unavailable):
            engines[name] = build_engine(name, network, optimizer, spec.precision)
    source = generator(0, "probe")
    images = torch.randn(spec.batch_size, 3, IMAGE_SIZE, IMAGE_SIZE, generator=source).to(device)
    if device.type in ("cpu", "cuda"):
        images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (spec.batch_size,), generator=source).to(device)
    seconds = dict.fromkeys(engines, math.inf)
    begun = time.perf_counter()
    for turn in range(PROBE_STEPS):
        for name, engine in engines.items():
            start = time.perf_counter()
            engine.step(images, labels).item()
            if turn > 0 or time.perf_counter() - begun > PROBE_SECONDS:  # the first one warms up
                seconds[name] = min(seconds[name], time.perf_counter() - start)
        if time.perf_counter() - begun > PROBE_SECONDS and math.inf not in seconds.values():
            break
    return seconds
