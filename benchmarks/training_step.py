"""Milliseconds per training step: the report's notebook, every engine of ours, and the floor.

    uv run benchmarks/training_step.py --data-dir DIR [--depths 2 5] [--activations relu] [--steps 20]
        [--contenders eager floor] [--precision bf16] [--threads 1] [--quantile 0] [--cpu-time]

    notebook  torchvision data set of PIL images, its transforms, DataLoader(shuffle, 2 workers),
              contiguous eager modules, torch.optim.Adam, loss.item() each step; always fp32
    eager …   an engine of ours by its name: the code path of ``empirical.study.grid``, which is one
              epoch's plan, then CellTraining.step
    floor     forward and backward of the convolutions and the linear layer alone, on the same
              shapes and batch, in the faster of the two memory layouts
    pair      the engine that ``auto`` takes, in two processes of one thread each, both at work:
              milliseconds for one step of either, as a study has it with ``--workers 2``

In fp32 all are the same arithmetic, in batches of 64.  Each lives in its own processes; rounds of all
contenders are interleaved and the median over all steps is reported, so that a noisy machine disturbs
them alike.  Where others use the machine too, ``--quantile 0`` reports the shortest step, and
``--cpu-time`` with one thread the time of the processor.  Of each round's first steps the loader's
prefetched batches are discarded, and a pause lets its workers fall idle before the next contender runs.
An epoch is 782 steps.  Last come the geometric means over the networks, in images per second.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import multiprocessing as mp
import os
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torchvision import transforms
from torchvision.datasets import CIFAR10

from empirical.data.catalog import DATASETS, load_dataset
from empirical.data.files import CIFAR10 as FILES
from empirical.engines.memory import keep_freed_memory
from empirical.protocol import TrainSpec
from empirical.training.loop import CellTraining, epoch_plan
from theory.devices import environment

BATCH = 64
DISCARD = 5  # more than the 2 × 2 batches that the loader's workers have ready
PAUSE_SECONDS = 0.3
NOTEBOOK, FLOOR, PAIR = "notebook", "floor", "pair"  # every other contender is an engine's name
CONTENDERS = (NOTEBOOK, "eager", "stacked", FLOOR, PAIR)


def main() -> None:
    options = parse()
    about = environment(torch.device("cpu"))
    clock = "processor time" if options.cpu_time else "time"
    which = "median" if options.quantile == 0.5 else f"quantile {options.quantile:g}"
    table = Table(
        title=f"Milliseconds per step, batch {BATCH}, {options.precision} (the notebook: fp32)",
        caption=f"{about['hardware']}, {options.threads or about['threads']} threads, torch "
        f"{about['torch']}, Python {about['python']}; {which} of {clock} over "
        f"{options.rounds} × {options.steps} interleaved steps",
    )
    for column in ("activation", "depth", *options.contenders):
        table.add_column(column, justify="left" if column == "activation" else "right")
    found = []
    for activation, depth in itertools.product(options.activations, options.depths):
        found.append(compare(options, activation, depth))
        row = (activation, str(depth), *(f"{ms:.1f}" for ms in found[-1]))
        table.add_row(*row)
        print(*row, file=sys.stderr)
    means = [
        statistics.geometric_mean(1e3 * BATCH / ms for ms in own) for own in zip(*found, strict=True)
    ]
    table.add_section()
    table.add_row("images/s, geometric mean", "", *(f"{mean:,.0f}" for mean in means))
    Console(width=max(Console().width, 120)).print(table)


@dataclass(frozen=True)
class Request:
    """What a contender is to build."""

    name: str
    activation: str
    depth: int
    data_dir: Path
    precision: str
    threads: int | None
    cpu_time: bool


def compare(options: argparse.Namespace, activation: str, depth: int) -> list[float]:
    """Milliseconds per step of every contender for one network."""
    context = mp.get_context("spawn")
    with contextlib.ExitStack() as stack:
        contenders = []
        for name in options.contenders:
            processes, threads = (2, 1) if name == PAIR else (1, options.threads)
            own = (options.data_dir, options.precision, threads, options.cpu_time)
            request = Request(name, activation, depth, *own)
            pools = [stack.enter_context(ProcessPoolExecutor(1, context)) for _ in range(processes)]
            for pool in pools:  # built one at a time, so that they do not disturb each other
                pool.submit(build, request).result()
            contenders.append(pools)
        times: list[list[list[float]]] = [[] for _ in contenders]
        for _ in range(options.rounds):
            for pools, seen in zip(contenders, times, strict=True):
                answers = [pool.submit(timed, options.steps) for pool in pools]
                seen.append(together([answer.result() for answer in answers]))
                time.sleep(PAUSE_SECONDS)
    return [
        min(  # the floor reports both layouts, the others a single list
            1e3
            * float(np.quantile([step for round_ in seen for step in round_[way]], options.quantile))
            for way in range(len(seen[0]))
        )
        for seen in times
    ]


def together(answers: list[list[list[float]]]) -> list[list[float]]:
    """The steps of processes that work at once, each as if it took its share of the time."""
    return [
        [step / len(answers) for answer in answers for step in answer[way]]
        for way in range(len(answers[0]))
    ]


_built: list[Iterator[Any]] = []  # of a contender's own process: its steps, in each way
_clock = time.perf_counter


def build(request: Request) -> None:
    """Make a contender's steps in its own process, and do the first of each."""
    global _clock
    if request.threads:
        torch.set_num_threads(request.threads)
    if request.cpu_time:
        _clock = time.process_time
    _built.extend({NOTEBOOK: notebook, FLOOR: floor}.get(request.name, ours)(request))
    for way in _built:
        next(way)


def timed(count: int) -> list[list[float]]:
    """Seconds of each of ``count`` steps, in each way."""
    found: list[list[float]] = []
    for way in _built:
        seconds = []
        for _ in range(count + DISCARD):
            start = _clock()
            next(way)
            seconds.append(_clock() - start)
        found.append(seconds[DISCARD:])
    return found


def notebook(request: Request) -> list[Iterator[Any]]:
    """The protocol as a notebook writes it."""
    row = DATASETS["cifar10"]
    steps = [transforms.RandomHorizontalFlip(), transforms.RandomCrop(32, padding=4)]
    steps += [transforms.ToTensor(), transforms.Normalize(row.mean, row.std)]
    CIFAR10.base_folder = ""  # the folder of the batches itself is the root
    data = CIFAR10(str(FILES.find(request.data_dir)), train=True, transform=transforms.Compose(steps))
    loader = torch.utils.data.DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=2)

    layers: list[nn.Module] = []
    size = 32
    for layer in range(request.depth):
        layers.append(nn.Conv2d(3 if layer == 0 else 32, 32, 3, padding=1))
        if layer > 0:
            layers.append(nn.BatchNorm2d(32))
        layers.append(nn.ReLU() if request.activation == "relu" else nn.PReLU())
        if layer > 0 and layer % 2 == 0 and size > 1:
            layers.append(nn.MaxPool2d(2))
            size //= 2
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * size**2, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def run() -> Iterator[float]:
        running = 0.0
        while True:
            for images, labels in loader:
                optimizer.zero_grad()
                loss = criterion(model(images), labels)
                loss.backward()
                optimizer.step()
                running += loss.item()
                yield running

    return [run()]


def ours(request: Request) -> list[Iterator[Any]]:
    """The code that ``run_study`` runs."""
    keep_freed_memory()
    device = torch.device("cpu")
    spec = TrainSpec(
        activation=request.activation,
        depth=request.depth,
        batch_size=BATCH,
        precision=request.precision,
        engine="auto" if request.name == PAIR else request.name,
    )
    dataset = load_dataset("cifar10", request.data_dir, device)
    training = CellTraining(spec, dataset, device)
    training.network.train()

    def run() -> Iterator[torch.Tensor]:
        epoch = 1
        while True:
            order, offsets = epoch_plan(spec, epoch, len(dataset.train_images), device)
            for begin in range(0, len(order), BATCH):
                part = slice(begin, begin + BATCH)
                yield training.step(order[part], offsets.part(begin, begin + BATCH))
            epoch += 1

    return [run()]


def floor(request: Request) -> list[Iterator[Any]]:
    """The products alone: every convolution and the linear layer, forward and backward."""
    keep_freed_memory()
    spec = TrainSpec(activation=request.activation, depth=request.depth)
    dtype = torch.bfloat16 if request.precision == "bf16" else torch.float32
    source = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=source).to(dtype)

    def run(layout: torch.memory_format) -> Iterator[None]:
        products: list[tuple[nn.Module, torch.Tensor, torch.Tensor]] = []
        for layer, size in enumerate(spec.map_sizes):
            channels = 3 if layer == 0 else spec.filters
            conv = nn.Conv2d(channels, spec.filters, 3, padding=1).to(dtype, memory_format=layout)
            x = normal(BATCH, channels, size, size).contiguous(memory_format=layout)
            gradient = normal(BATCH, spec.filters, size, size).contiguous(memory_format=layout)
            products.append((conv, x.requires_grad_(layer > 0), gradient))
        features = spec.filters * spec.head_size**2
        head, x = nn.Linear(features, 10, dtype=dtype), normal(BATCH, features).requires_grad_()
        products.append((head, x, normal(BATCH, 10)))
        while True:
            for module, x, gradient in products:
                module.zero_grad(set_to_none=True)
                x.grad = None
                module(x).backward(gradient)
            yield

    return [run(torch.contiguous_format), run(torch.channels_last)]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--depths", type=int, nargs="+", default=[2, 5, 10, 12])
    parser.add_argument(
        "--activations", nargs="+", default=["relu", "prelu"], choices=["relu", "prelu"]
    )
    parser.add_argument("--contenders", nargs="+", default=CONTENDERS, help="also any engine's name")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"], help="default fp32")
    parser.add_argument("--threads", type=int, help="of all but the pair (default: as torch has them)")
    parser.add_argument("--steps", type=int, default=20, help="timed steps per round (default 20)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--quantile", type=float, default=0.5, help="of the steps' times (default 0.5)")
    parser.add_argument("--cpu-time", action="store_true", help="of the processor, not of the clock")
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("CIFAR10_DIR"))
    options = parser.parse_args()
    if options.data_dir is None:
        parser.error("give the folder that holds cifar-10-batches-py with --data-dir or $CIFAR10_DIR")
    return options


if __name__ == "__main__":
    main()
