"""How a step is run: engines that compute the same to rounding and differ in time.

    eager     the network's modules, one after the other, by torch's own kernels
    fused     on a CPU: torch's convolutions, and all between two of them in one (engines.fused)
    compiled  torch.compile of the whole network; costs seconds to minutes before the first step
    graph     on a GPU: the whole step, from the data set to Adam, as one CUDA graph (engines.graphs)
    stacked   many cells of one shape in the calls of one (engines.stacked, engines.groups)

An engine runs the *same modules*, with the same parameters, buffers and optimizer, so that a cell's
state does not depend on it.  Instruments read the modules themselves and see the same under each.

``auto`` takes the fastest by a short timed probe on the network at hand, among those that
start at once.  The engine is fixed when a cell begins: the last bits depend on it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import ClassVar

import torch
from torch import nn

from empirical.data.datasets import Dataset, Offsets, augment_with
from empirical.engines.fused import (
    TYPES,
    Unavailable,
    find_compiler,
    fused_forward,
    fused_layers,
    library,
)
from empirical.engines.graphs import Batches, Captured
from empirical.engines.stacked import stacked_forward
from empirical.protocol import CLASSES, IMAGE_SIZE, TrainSpec
from empirical.records.locations import cache_folder
from empirical.training.networks import build_network
from empirical.training.optimizers import build_optimizer
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

    def train_on(self, dataset: Dataset, chosen: torch.Tensor, offsets: Offsets) -> torch.Tensor:
        """``step`` on the training images ``chosen`` (B,), flipped and cropped by ``offsets``."""
        return self.step(*gathered(dataset, chosen, offsets))


def gathered(
    dataset: Dataset, chosen: torch.Tensor, offsets: Offsets
) -> tuple[torch.Tensor, torch.Tensor]:
    """The training images ``chosen`` (B,), flipped and cropped by ``offsets``, and their labels."""
    images = augment_with(dataset.train_images.index_select(0, chosen), *offsets)
    return images, dataset.train_labels.index_select(0, chosen)


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


class CompiledEngine(Engine):
    """The network in train mode as ``torch.compile`` makes it, once for every batch size.

    Sizes are compiled in: were one graph to serve several, which graph a batch meets, and with it the
    last bits, would depend on whether the run was interrupted.
    """

    name = "compiled"

    def __init__(
        self, network: nn.Sequential, optimizer: torch.optim.Optimizer, precision: str = "fp32"
    ) -> None:
        super().__init__(network, optimizer, precision)
        device = next(network.parameters()).device.type
        if device == "cpu":
            find_compiler()
        elif device == "cuda" and importlib.util.find_spec("triton") is None:
            raise Unavailable("torch.compile needs triton on a GPU")
        self.compiled = torch.compile(network, dynamic=False)

    def layers(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = (self.compiled if self.network.training else self.network)(images)
        return logits


class GraphEngine(Engine):
    """The whole step as a CUDA graph for batches like the first, and launched singly for others.

    Only an epoch's last batch is another; a graph of its own would cost more than it saves.
    """

    name = "graph"

    def __init__(
        self, network: nn.Sequential, optimizer: torch.optim.Optimizer, precision: str = "fp32"
    ) -> None:
        super().__init__(network, optimizer, precision)
        if next(network.parameters()).device.type != "cuda":
            raise Unavailable("CUDA graphs need a CUDA device")
        self.on_images: Captured | None = None
        self.on_data: tuple[Dataset, Captured] | None = None

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.on_images is None:
            self.on_images = self.captured(super().step, images, labels)
        if self.on_images.fits(images, labels):
            return self.on_images(images, labels)
        return super().step(images, labels)

    def train_on(self, dataset: Dataset, chosen: torch.Tensor, offsets: Offsets) -> torch.Tensor:
        if self.on_data is None or self.on_data[0] is not dataset:
            whole = partial(self.step_from, Batches(dataset))
            self.on_data = dataset, self.captured(whole, chosen, *offsets)
        if self.on_data[1].fits(chosen, *offsets):
            return self.on_data[1](chosen, *offsets)
        return super().step(*gathered(dataset, chosen, offsets))

    def step_from(self, batches: Batches, *choice: torch.Tensor) -> torch.Tensor:
        """One step on the batch of ``choice``: indices, flips, tops and lefts, each (B,)."""
        images, labels = batches(*(value[:, None] for value in choice))
        return super().step(images, labels[:, 0])

    def captured(self, function: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> Captured:
        state = [*self.network.parameters(), *self.network.buffers()]
        return Captured(function, inputs, state, self.optimizer)


class StackedEngine(Engine):
    """A stack of one: the same calls as for many, on the network's own parameters.

    ``empirical.engines.groups`` trains many; this is what a cell of theirs is by itself.
    """

    name = "stacked"

    def layers(self, images: torch.Tensor) -> torch.Tensor:
        own = itertools.chain(self.network.named_parameters(), self.network.named_buffers())
        tensors = {name: value.unsqueeze(0) for name, value in own}
        modules = dict(self.network.named_children())
        return stacked_forward(modules, tensors, images, self.network.training)[0]


_ENGINES: dict[str, type[Engine]] = {
    engine.name: engine for engine in (Engine, FusedEngine, CompiledEngine, GraphEngine, StackedEngine)
}
PROBED = (Engine.name, FusedEngine.name, GraphEngine.name)  # those that the device has
EAGER_LEAD = 0.9  # of the others' time: nearly even, a busy machine's noise shall not decide


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
    name, notes = begun_with or spec.engine, []
    if name == "auto":
        name = choose(spec, device)
        notes = _lacking(device)
    try:
        return build_engine(name, network, optimizer, spec.precision), notes
    except Unavailable as reason:
        if not begun_with:
            raise RequestError(
                f"--engine {name} cannot run here: {reason}; use --engine auto"
            ) from None
        note = f"begun with the engine {name}, which cannot run here ({reason}): went on with eager"
        return Engine(network, optimizer, spec.precision), [note]


def _lacking(device: torch.device) -> list[str]:
    try:
        if device.type == "cpu":
            library()
    except Unavailable as reason:
        return [f"run without the fused engine: {reason}"]
    return []


def choose(spec: TrainSpec, device: torch.device) -> str:
    """The engine with the shortest step on a network like that of ``spec`` on ``device``.

    Probed once for every shape of network in a process, and remembered in the cache folder, so that a
    study that is started again takes the same.
    """
    alike = replace(
        spec, initializer="he", seed=0, epochs=1, head_initializer=None, learning_rate_reference=None
    )
    return _choose(replace(alike, limit_test=None, engine="auto"), device, torch.get_num_threads())


@cache
def _choose(spec: TrainSpec, device: torch.device, threads: int) -> str:
    if device.type not in ("cpu", "cuda") or _lacking(device):
        return Engine.name
    about = repr((spec, threads, torch.__version__, hardware(device)))

    def fastest() -> str:
        found = probe(spec, device)
        return min(found, key=lambda name: found[name] / (EAGER_LEAD if name == Engine.name else 1.0))

    return remembered(about, PROBED, fastest)


def hardware(device: torch.device) -> str:
    """What a probe's outcome depends on beside torch: the processor's kernels, or the GPU's name."""
    return library()._name if device.type == "cpu" else torch.cuda.get_device_name(device)


def remembered(about: str, answers: tuple[str, ...], find: Callable[[], str]) -> str:
    """One of ``answers`` to ``about`` from the cache folder, or what ``find`` says, kept there."""
    path = cache_folder() / f"engine-{hashlib.sha256(about.encode()).hexdigest()[:16]}"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        known = path.read_text(encoding="utf-8")
        if known in answers:
            return known
    found = find()
    with contextlib.suppress(OSError):  # then it is probed again next time
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(found, encoding="utf-8")
    return found


def probe(spec: TrainSpec, device: torch.device) -> dict[str, float]:
    """Seconds per step of each engine that can run ``spec``: the least of a few, taken in turn."""
    engines = {}
    for name in PROBED:
        network = build_network(spec, device).train()
        optimizer = build_optimizer(spec, network, device)
        with contextlib.suppress(Unavailable):
            engines[name] = build_engine(name, network, optimizer, spec.precision)
    source = generator(0, "probe")
    shape = (spec.batch_size, 3, IMAGE_SIZE, IMAGE_SIZE)
    images = torch.randn(shape, generator=source).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (spec.batch_size,), generator=source)
    images, labels = images.to(device), labels.to(device)
    seconds = dict.fromkeys(engines, math.inf)
    begun = time.perf_counter()
    for turn in range(PROBE_STEPS if len(engines) > 1 else 0):
        late = turn > 0 and time.perf_counter() - begun > PROBE_SECONDS
        for name, engine in engines.items():
            start = time.perf_counter()
            engine.step(images, labels).item()
            if turn > 0:  # the first step sets things up
                seconds[name] = min(seconds[name], time.perf_counter() - start)
        if late:
            break
    return seconds
