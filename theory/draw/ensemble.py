"""Drawing many networks: which curves share weights, and block by block what each draw gave.

Curves that can share weights do.  Initializers of one shape are multiples of the same unit-variance
weights; rectifiers are homogeneous, so without biases one unit-scale stream per activation carries
every initializer, and He's q_l is exactly 2^l times Xavier's in every single draw of equal fans.

A block of draws has generators of its own, so results depend on the seed alone: not on memory, and not
on the threads over which blocks are spread.

``Simulation`` is the one loop over blocks; dense stacks, convolutions, stacks with batch norm and
pairs of inputs each say how large a block may be and how it is run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from theory.activations import Activation
from theory.devices import float64_device
from theory.draw.stacks import Stream
from theory.errors import WorkError
from theory.initializers import Initializer
from theory.randomness import generator
from theory.specs import EnsembleSpec

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]
S = TypeVar("S", bound=EnsembleSpec)


@dataclass(frozen=True)
class Curve:
    """One (initializer, activation) and the stream that carries it.

    ``log_shift`` (L,) turns the stream's unit-weight ln q_l into the curve's, per direction.
    """

    index: int
    initializer: Initializer
    activation: Activation
    stream: int
    log_shift: dict[str, Array]


@dataclass(frozen=True)
class Group:
    """Curves that share weight draws: one shape of law, with or without biases."""

    law: Initializer
    streams: tuple[Stream, ...]
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class Block:
    """What some draws gave, in unit-weight logs: arrays (draws, L, streams, batch); −∞ where dead.

    log_q      per direction, ln of the second moment of y_l, or of ∂/∂y_l
    weight     ln of the squared norm of ∂/∂W_l: |∂/∂y_l|²·|x_{l−1}|² for each input, or None
    surprise   per direction (draws, L, streams): values whose expectation is 0, where z needs them
    extra      what one kind of stack reads besides
    """

    log_q: dict[str, Array]
    weight: Array | None = None
    surprise: dict[str, Array] = field(default_factory=dict)
    extra: Any = None


class Simulation(Generic[S]):
    """The draws of one group of ``spec``'s curves, block by block.

    A subclass gives ``block_size``, ``inputs`` and ``run``.  ``purpose`` names its random streams
    beside the shape of the weights, ``threaded`` says whether blocks may run side by side on CPU
    threads, and ``advice`` what to make smaller when memory runs out.
    """

    purpose: ClassVar[tuple[str, ...]] = ()
    threaded: ClassVar[bool] = False
    advice: ClassVar[str] = "width {0.width}, batch {0.batch}: make one of them smaller"

    def __init__(self, spec: S, group: Group) -> None:
        self.spec, self.group = spec, group
        self.device = float64_device(spec.device)
        self.x = self.inputs().float().to(self.device)

    @property
    def block_size(self) -> int:
        """Draws per block: a function of the spec alone, so that results are too."""
        raise NotImplementedError

    def inputs(self) -> torch.Tensor:
        """What every network sees, float64, of second moment 1."""
        raise NotImplementedError

    def run(self, block: int, draws: int) -> Any:
        """What ``draws`` networks gave, the block of number ``block``."""
        raise NotImplementedError

    def stream(self, name: str, block: int) -> torch.Generator:
        """The random numbers of one purpose and block."""
        purpose = (*self.purpose, self.group.law.shape)
        return generator(self.spec.seed, name, *purpose, block, device=self.device)

    def blocks(self, on_progress: Progress | None = None) -> Iterator[Any]:
        """Every draw, block by block, in an order that depends on nothing but the spec.

        ``on_progress(done, total)`` is called as draws finish.  Raises ``WorkError`` when memory
        runs out.
        """
        draws, size = self.spec.draws, self.block_size
        starts = range(0, draws, size)

        def run(start: int) -> Any:
            return self.run(start // size, min(size, draws - start))

        alone = self.device.type != "cpu" or self.group.law.shape == "orthogonal"  # QR has threads
        workers = min(torch.get_num_threads(), len(starts)) if self.threaded and not alone else 1
        ahead = 2 * workers if workers > 1 else 1
        with memory_for(self.advice.format(self.spec)), ThreadPoolExecutor(workers) as pool:
            for begin in range(0, len(starts), ahead):  # a few at a time: nothing piles up
                some = starts[begin : begin + ahead]
                for start, block in zip(some, pool.map(run, some), strict=True):
                    yield block
                    if on_progress:
                        on_progress(min(start + size, draws), draws)


@contextmanager
def memory_for(what: str) -> Iterator[None]:
    """Inside the block, memory that runs out is a ``WorkError`` that says at ``what``."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "memory" in str(error):
            raise WorkError(f"out of memory at {what}") from error
        raise


def groups(spec: EnsembleSpec, *, scale_free: bool = False) -> list[Group]:
    """The curves of ``spec`` by the weights that they share.

    ``scale_free``: every layer forgets the scale of its weights, as batch norm makes it; their
    standard deviation then shifts that one layer's logarithms alone.
    """
    streams: dict[tuple[str, bool], list[Stream]] = defaultdict(list)
    curves: dict[tuple[str, bool], list[Curve]] = defaultdict(list)
    for index, (law, activation) in enumerate(spec.curves):
        std, biases = spec.weight_std(law, activation), spec.bias_std(law)
        key = (law.shape, biases is not None)
        free = scale_free or (activation.is_rectifier and biases is None)  # the scale factors out
        stream = Stream(activation, (1.0,) * spec.depth if free else std, biases, law.draws_bias)
        if stream not in streams[key]:
            streams[key].append(stream)
        log_power = 2 * np.log(std) if free else np.zeros(spec.depth)
        passed = np.cumsum(log_power)
        shift = {"forward": passed, "backward": passed[-1] - passed}
        if scale_free:
            shift = {"forward": log_power, "backward": -log_power}
        curves[key].append(Curve(index, law, activation, streams[key].index(stream), shift))
    return [
        Group(curves[key][0].initializer, tuple(streams[key]), tuple(curves[key])) for key in streams
    ]
