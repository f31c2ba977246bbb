"""The study on a GPU: seconds for the report's grid, seeds per minute, and steps against their floors.

    uv run benchmarks/cuda_study.py --data-dir DIR [--parts study seeds steps] [--depths 2 12]
        [--stack 16] [--epochs 10] [--engine auto] [--precision fp32] [--noise]

    study  {he, normal} × {relu, prelu} × {2, 5, 10, 12}, ten epochs with tests, instruments and
           records: wall seconds once the data are on the device, and where they go
    seeds  as many seeds as --stack at once, for each depth: seeds of that many epochs per minute
    steps  milliseconds per step of eager, and of stacks of 1, 2, 4 … --stack cells, images per
           second over all cells, and three floors of the largest stack:
             launch   an empty graph, and the step's kernels as empty ones in a graph
             memory   its bytes at the bandwidth of a large copy on the device
             and the arithmetic that it did per second

Bytes are those of passes over maps that no fusion saves here, in float32: per value of a convolution's
output, forward 7 (the convolution writes it; batch norm reads it twice and writes; the activation reads
and writes; the next convolution reads) and backward 12 (activation 3, batch norm 5, convolution 4); per
parameter 7 (Adam reads four numbers and writes three).  Pools and the images are left out.  In bf16
maps have half the bytes; the floor stays that of float32.

--noise takes random images in CIFAR-10's shapes: the same times, and accuracies that mean nothing.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.autograd import DeviceType

from empirical.data.catalog import load_dataset
from empirical.data.datasets import Dataset, Offsets, sample_offsets
from empirical.engines import groups
from empirical.engines.graphs import Captured
from empirical.engines.groups import GroupTraining
from empirical.protocol import CLASSES, TEST_IMAGES, TRAIN_IMAGES, StudySpec, TrainSpec
from empirical.records import folders as records
from empirical.study.costs import training_flops
from empirical.study.grid import run_study
from empirical.training import loop as training
from empirical.training.loop import CellTraining
from theory.devices import environment, resolve_device
from theory.errors import RequestError

BATCH = 64
WARM_UPS, STEPS = 5, 50
FORWARD, BACKWARD, ADAM = 7, 12, 7  # passes over memory, as above
COPY_BYTES = 1 << 30
EMPTY_KERNELS = 1000


def main() -> None:
    options = parse()
    if not torch.cuda.is_available():
        raise SystemExit("error: this benchmark needs a CUDA device, and torch finds none")
    device = resolve_device("cuda")
    about = environment(device)
    print(f"{about['hardware']}, torch {about['torch']}, CUDA {torch.version.cuda}")
    print(f"{options.precision}, TF32 in convolutions: {torch.backends.cudnn.allow_tf32}")
    data = load(options, device)
    for part in options.parts:
        PARTS[part](options, data, device)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, help="default $CIFAR10_DIR")
    parser.add_argument("--noise", action="store_true", help="random images instead of CIFAR-10")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--depths", type=int, nargs="+", default=[2, 5, 10, 12])
    parser.add_argument("--activation", default="relu", help="of seeds and steps")
    parser.add_argument("--stack", type=int, default=16, help="cells at once in seeds and steps")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--engine", default="auto", help="of the study")
    parser.add_argument("--precision", default="fp32", help="fp32 (never TF32) or bf16")
    return parser.parse_args()


def load(options: argparse.Namespace, device: Any) -> Any:
    """The data set on the device."""
    if not options.noise:
        try:
            return load_dataset("cifar10", options.data_dir, device)
        except RequestError as error:
            raise SystemExit(f"error: {error}") from None
    source = torch.Generator().manual_seed(0)
    parts = []
    for count in (TRAIN_IMAGES, TEST_IMAGES):
        parts.append(torch.randint(256, (count, 32, 32, 3), dtype=torch.uint8, generator=source))
        parts.append(torch.randint(CLASSES, (count,), generator=source))
    return Dataset(*parts).to(device)


def shared(options: argparse.Namespace) -> dict[str, Any]:
    """What both studies have in common."""
    return {"epochs": options.epochs, "precision": options.precision, "device": "cuda"}


def study(options: argparse.Namespace, data: Any, device: Any) -> None:
    """The sixteen cells once."""
    grid = StudySpec(initializers=("he", "normal"), engine=options.engine, **shared(options))
    seconds, phases, table = run(grid, data)
    engines = ", ".join(sorted(set(table["engine"])))
    images = len(table) * len(data.train_images)
    print(f"\nstudy: {len(grid.cells())} cells, {options.epochs} epochs, engines {engines}")
    print(f"  {seconds:.1f} s with tests, instruments and records; {images / seconds:,.0f} images/s")
    tell(phases, seconds)


def seeds(options: argparse.Namespace, data: Any, device: Any) -> None:
    """Seeds per minute of the stacked engine, whole cells with everything that belongs to them."""
    for depth in options.depths:
        grid = StudySpec(
            activations=(options.activation,),
            depths=(depth,),
            seeds=tuple(range(options.stack)),
            engine="stacked",
            stack=options.stack,
            **shared(options),
        )
        seconds, phases, _ = run(grid, data)
        rate = 60 * options.stack / seconds
        print(f"\nseeds: depth {depth}, {options.stack} at once, {options.epochs} epochs")
        print(f"  {seconds:.1f} s, {rate:.1f} seeds per minute")
        tell(phases, seconds)


def steps(options: argparse.Namespace, data: Any, device: Any) -> None:
    """Milliseconds per step, and the floors."""
    empty, per_kernel, bandwidth = floors(device)
    print(f"\nan empty graph {1e6 * empty:.1f} µs, each kernel in one {1e6 * per_kernel:.2f} µs more;")
    print(f"copies on the device {bandwidth / 1e12:.2f} TB/s, read and written")
    for depth in options.depths:
        spec = TrainSpec(
            depth=depth,
            activation=options.activation,
            batch_size=BATCH,
            precision=options.precision,
        )
        print(f"\nsteps: depth {depth}, {options.activation}")
        training = CellTraining(replace(spec, engine="eager"), data, device)
        line("eager", 1, timed(functools.partial(training.step, *choice(1, device, alone=True))))
        counts = [count for k in range(32) if (count := 2**k) < options.stack]
        for count in (*counts, options.stack):
            cells = [replace(spec, seed=seed, engine="stacked") for seed in range(count)]
            group = GroupTraining([CellTraining(cell, data, device) for cell in cells])
            step = functools.partial(group.step, *choice(count, device))
            seconds = timed(step)
            line(f"stacked ({group.stack.way})", count, seconds)
        kernels = kernels_of(step)
        launch = f"{1e3 * (empty + kernels * per_kernel):.3f} ms ({kernels} kernels)"
        memory = bytes_of(spec) * count / bandwidth
        rate = training_flops(spec) * BATCH * count / seconds
        print(
            f"  floors of {count} at once: launch {launch if kernels else 'not known'}, "
            f"memory {1e3 * memory:.3f} ms; {rate / 1e12:.1f} TFLOP/s"
        )
        del group, step
        torch.cuda.empty_cache()


PARTS: dict[str, Callable[..., None]] = {"study": study, "seeds": seeds, "steps": steps}


def line(name: str, cells: int, seconds: float) -> None:
    rate = cells * BATCH / seconds
    print(f"  {name:34} {cells:3} cells {1e3 * seconds:8.3f} ms {rate:12,.0f} images/s")


def run(grid: Any, data: Any) -> tuple[float, dict[str, float], Any]:
    """(wall seconds, seconds by phase, the table) of ``grid`` in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder, phases() as spent:
        start = time.perf_counter()
        table = run_study(replace(grid, out=Path(folder)), dataset=data)
        return time.perf_counter() - start, spent, table


@contextmanager
def phases() -> Iterator[dict[str, float]]:
    """Seconds spent in the parts of a study; the device is waited for after each."""
    spent: dict[str, float] = defaultdict(float)
    places: list[tuple[Any, str, str]] = [
        (groups.GroupTraining, "train_pass", "training"),
        (training.CellTraining, "train_pass", "training"),
        (groups.GroupTraining, "test", "tests"),
        (training.CellTraining, "test", "tests"),
        (training.CellTraining, "look", "instruments"),
        (training.CellTraining, "__init__", "drawing networks"),
        (records, "write_checkpoint", "checkpoints"),
        (Captured, "__init__", "capturing graphs, in training"),
    ]

    def watched(function: Callable[..., Any], phase: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def watching(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments, **named)
            torch.cuda.synchronize()
            spent[phase] += time.perf_counter() - start
            return result

        return watching

    with ExitStack() as stack:
        for place, name, phase in places:
            own = watched(getattr(place, name), phase)
            stack.enter_context(patch.object(place, name, own))
        yield spent


def tell(spent: dict[str, float], seconds: float) -> None:
    for phase, own in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"    {phase:32} {own:8.2f} s {100 * own / seconds:5.1f} %")


def choice(cells: int, device: Any, alone: bool = False) -> tuple[Any, Any]:
    """Indices and offsets of one batch of every cell: (B, K), or (B,) of one that is ``alone``."""
    source = torch.Generator().manual_seed(0)
    drawn = [sample_offsets(BATCH, source) for _ in range(cells)]
    chosen = torch.randint(TRAIN_IMAGES, (BATCH, cells), generator=source).to(device)
    offsets = Offsets(*(torch.stack(parts, 1) for parts in zip(*drawn, strict=True))).to(device)
    if alone:
        return chosen[:, 0].contiguous(), Offsets(*(part[:, 0].contiguous() for part in offsets))
    return chosen, offsets


def timed(step: Callable[[], Any]) -> float:
    """Seconds per call, of ``STEPS`` in a row."""
    for _ in range(WARM_UPS):
        step()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / STEPS


def floors(device: Any) -> tuple[float, float, float]:
    """Seconds of a graph of one empty kernel, of each one more, and bytes per second of a copy."""
    number = torch.zeros((), device=device)
    times = []
    for kernels in (1, EMPTY_KERNELS):
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(kernels):
                number.add_(1)
        times.append(timed(graph.replay))
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = timed(functools.partial(target.copy_, source))
    return times[0], (times[1] - times[0]) / (EMPTY_KERNELS - 1), 2 * COPY_BYTES / copy


def kernels_of(step: Callable[[], Any]) -> int:
    """How many kernels one call runs on the device; 0 where the driver does not let them be counted."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        step()
        torch.cuda.synchronize()
    return sum(event.device_type == DeviceType.CUDA for event in profile.events())


def bytes_of(spec: Any) -> int:
    """Bytes that a step of one cell moves, by the formula above."""
    maps = BATCH * spec.filters * sum(size**2 for size in spec.map_sizes)
    return int(4 * ((FORWARD + BACKWARD) * maps + ADAM * spec.parameters))


if __name__ == "__main__":
    main()
