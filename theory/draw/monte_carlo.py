"""Drawing many networks: which curves share weights, and block by block what each draw gave.

Curves that can share weights do.  Initializers of one shape are multiples of the same unit-variance
weights; rectifiers are homogeneous, so without biases one unit-scale stream per activation carries
every initializer, and He's q_l is exactly 2^l times Xavier's in every single draw of equal fans.

A block of draws has generators of its own, so results depend on the seed alone: not on memory, and not
on the threads over which blocks are spread.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from theory.activations import Activation
from theory.errors import WorkError
from theory.initializers import Initializer, default_bias_std, shape_named
from theory.precision import float64_device
from theory.probe import Probe
from theory.randomness import generator
from theory.specs import VarianceSpec

if TYPE_CHECKING:
    import torch

    from theory.draw.stacks import Stream

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]

# One block holds this many weights per layer at most: 8 MiB of float32.
BLOCK_WEIGHTS = 2**21
BLOCK_DRAWS = 4096
# All blocks at work together keep weights for the way back up to this many numbers (1 GiB); beyond,
# they are drawn twice.
KEPT_WEIGHTS = 2**28
# What one draw of a block needs beside its weights is bounded too: signals, and one number per layer.
BLOCK_BYTES = 2**26


@dataclass(frozen=True)
class Curve:
    """One (initializer, activation) and the stream that carries it.

    ``log_shift`` (L,) turns the stream's unit-weight ln q_l into the curve's; ``log_shift_back`` does
    the same for the gradient's second moment.
    """

    index: int
    initializer: Initializer
    activation: Activation
    stream: int
    log_shift: Array
    log_shift_back: Array


@dataclass(frozen=True)
class Group:
    """Curves that share weight draws: one shape of law, with or without biases."""

    shape: str
    streams: tuple[Stream, ...]
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class Block:
    """What some draws gave, in unit-weight logs: arrays (draws, L, streams, batch); −∞ where dead.

    forward    ln of the second moment of y_l
    backward   ln of the second moment of ∂/∂y_l, or None if not asked for
    weight     ln of the squared norm of ∂/∂W_l: |∂/∂y_l|²·|x_{l−1}|² for each input, or None
    """

    forward: Array
    backward: Array | None = None
    weight: Array | None = None


def groups(spec: VarianceSpec) -> list[Group]:
    """The curves of ``spec`` by the weights that they share."""
    from theory.draw.stacks import Stream

    streams: dict[tuple[str, bool], list[Stream]] = defaultdict(list)
    curves: dict[tuple[str, bool], list[Curve]] = defaultdict(list)
    for index, (law, activation) in enumerate(spec.curves):
        std, biases = weight_std(spec, law, activation), bias_std(spec, law)
        key = (law.shape, biases is not None)
        free = activation.is_rectifier and biases is None  # homogeneous: the scale factors out
        stream = Stream(activation, (1.0,) * spec.depth if free else std, biases, law.draws_bias)
        if stream not in streams[key]:
            streams[key].append(stream)
        log_power = 2 * np.log(std) if free else np.zeros(spec.depth)
        forward = np.cumsum(log_power)
        curves[key].append(
            Curve(index, law, activation, streams[key].index(stream), forward, forward[-1] - forward)
        )
    return [Group(key[0], tuple(streams[key]), tuple(curves[key])) for key in streams]


def weight_std(spec: VarianceSpec, law: Initializer, activation: Activation) -> tuple[float, ...]:
    """Standard deviation of the weights of each layer, length L."""
    slope = activation.gain_slope if spec.gain_slope is None else spec.gain_slope
    return tuple(law.std(fan_in, fan_out, slope) for fan_in, fan_out in pairwise(spec.widths))


def bias_std(spec: VarianceSpec, law: Initializer) -> tuple[float, ...] | None:
    """Standard deviation of the biases of each layer, or None without biases."""
    if law.draws_bias:
        return tuple(default_bias_std(fan_in) for fan_in in spec.widths[:-1])
    return (spec.sigma_b,) * spec.depth if spec.sigma_b else None


def blocks(spec: VarianceSpec, group: Group, on_progress: Progress | None = None) -> Iterator[Block]:
    """Every draw of ``group``, block by block, in an order that depends on nothing but the spec.

    Raises ``WorkError`` when memory runs out.
    """
    import torch

    device = float64_device(spec.device)
    size = _block_size(spec)
    starts = range(0, spec.draws, size)
    inputs = _inputs(spec, device)
    run_block = _law_block if spec.engine == "law" else _module_block

    def run(start: int) -> Block:
        return run_block(spec, group, inputs, start // size, min(size, spec.draws - start))

    alone = device.type != "cpu" or shape_named(group.shape).is_orthogonal  # QR has threads of its own
    workers = 1 if alone else min(torch.get_num_threads(), len(starts))
    try:
        with ThreadPoolExecutor(workers) as pool:
            for begin in range(0, len(starts), 2 * workers):  # a few at a time: nothing piles up
                some = starts[begin : begin + 2 * workers]
                for start, block in zip(some, pool.map(run, some), strict=True):
                    yield block
                    if on_progress:
                        on_progress(start + len(block.forward), spec.draws)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "memory" in str(error):
            raise WorkError(
                f"out of memory at width {spec.width}, batch {spec.batch}: make one of them smaller"
            ) from error
        raise


def _block_size(spec: VarianceSpec) -> int:
    """Draws per block: a function of the spec alone, so that results are too."""
    columns = spec.batch * len(spec.curves)
    back = "backward" in spec.directions
    # per layer, draw and column: float64 readings of up to three kinds, and copies for the merge
    readings = spec.depth * columns * (72 if back else 24)
    # float32 signal, its float64 copies; a backward pass keeps the signal of every layer
    signals = spec.width * columns * (40 + (16 * spec.depth if back else 0))
    if spec.engine == "law" and not spec.needs_units:
        signals = columns * 64
    most = max(1, BLOCK_BYTES // (readings + signals))
    if spec.engine == "modules":
        weights = max(fan_in * fan_out for fan_in, fan_out in pairwise(spec.widths))
        most = min(most, max(1, BLOCK_WEIGHTS // weights), BLOCK_DRAWS)
    return min(spec.draws, most)


def _inputs(spec: VarianceSpec, device: torch.device) -> torch.Tensor:
    """``batch`` random directions (n_0, batch), float32, each of second moment 1."""
    import torch

    stream = generator(spec.seed, "inputs")
    inputs = torch.randn(spec.widths[0], spec.batch, dtype=torch.float64, generator=stream)
    return (inputs / inputs.square().mean(0).sqrt()).float().to(device)


def _module_block(
    spec: VarianceSpec, group: Group, inputs: torch.Tensor, block: int, draws: int
) -> Block:
    """Real modules, read by the probe; the gradient by its backward half."""
    import torch

    from theory.draw.stacks import Ensemble

    stream = {
        name: generator(spec.seed, name, group.shape, block, device=inputs.device)
        for name in ("weights", "biases", "cotangent")
    }
    back = "backward" in spec.directions
    weights = draws * sum(fan_in * fan_out for fan_in, fan_out in pairwise(spec.widths))
    ensemble = Ensemble(
        spec.widths,
        group.shape,
        group.streams,
        0.5 * math.log(spec.input_second_moment),
        keep=weights * torch.get_num_threads() <= KEPT_WEIGHTS,
    ).to(inputs.device)
    names = [f"layers.{index}" for index in range(spec.depth)]

    def shaped(values: torch.Tensor) -> Array:
        by_draw = values.transpose(0, 1).reshape(draws, spec.depth, len(group.streams), -1)
        result: Array = by_draw.cpu().numpy()
        return result

    with torch.set_grad_enabled(back), Probe(ensemble, names, keep=(0, 2), backward=back) as probe:
        trace = ensemble(inputs, draws, stream["weights"], stream["biases"])
        if back:
            log_factor = trace.backward(_cotangent(trace.output, spec.batch, stream["cotangent"]))
    forward = torch.stack([reading.forward["second_moment"] for reading in probe.readings])
    log_forward = shaped(forward.log() + 2 * trace.log_scale)
    if not back:
        return Block(log_forward)
    seen = [reading.backward for reading in probe.readings]
    gradient = torch.stack([moments["second_moment"] for moments in seen if moments is not None])
    log_gradient = gradient.log() + 2 * log_factor
    sizes = torch.tensor([math.log(n * m) for n, m in pairwise(spec.widths)], dtype=torch.float64)
    log_weight = log_gradient + trace.log_input + sizes.to(inputs.device)[:, None, None]
    return Block(log_forward, shaped(log_gradient), shaped(log_weight))


def _cotangent(output: torch.Tensor, batch: int, stream: torch.Generator) -> torch.Tensor:
    """A random direction per draw and input, of second moment 1, the same for every stream."""
    import torch

    draws, units, columns = output.shape
    direction = torch.empty(draws, units, batch, device=output.device).normal_(generator=stream)
    direction = direction / direction.square().mean(1, keepdim=True).sqrt()
    return direction.repeat(1, 1, columns // batch)


def _law_block(spec: VarianceSpec, group: Group, inputs: torch.Tensor, block: int, draws: int) -> Block:
    """The exact law: no weights."""
    from theory.draw import sampler as law

    stream = generator(spec.seed, "law", block, device=inputs.device)
    log_input = math.log(spec.input_second_moment)
    if spec.needs_units:
        return Block(law.batch(spec.widths, group.streams, inputs, draws, stream, log_input))
    back = "backward" in spec.directions
    return Block(*law.one_input(spec.widths, group.streams, draws, stream, log_input, backward=back))
