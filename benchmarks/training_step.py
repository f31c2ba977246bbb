"""Milliseconds per training step: the report's notebook, ours, and the floor.

    uv run benchmarks/training_step.py --data-dir DIR [--depths 2 5] [--activations relu] [--steps 20]

    a  notebook  torchvision data set of PIL images, its transforms, DataLoader(shuffle, 2 workers),
                 contiguous eager modules, torch.optim.Adam, loss.item() each step
    b  ours      the code path of ``empirical.study``: one epoch's plan, then CellTraining.step
    c  floor     forward and backward of the convolutions and the linear layer alone, on the same
                 shapes and batch, in the faster of the two memory layouts

All three are fp32, batch 64 and the same arithmetic.  Each lives in its own process; rounds of a, b
and c are interleaved and the median over all steps is reported, so that a noisy machine disturbs
them alike.  Of each round's first steps the loader's prefetched batches are discarded, and a pause
lets its workers fall idle before the next contender runs.  An epoch is 782 steps.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

BATCH = 64
STEPS_PER_EPOCH = 782
DISCARD = 5  # more than the 2 × 2 batches that the loader's workers have ready
PAUSE_SECONDS = 0.3
CONTENDERS = ("a", "b", "c")


def main() -> None:
    options = parse()
    import torch
    from rich.console import Console
    from rich.table import Table

    from theory.devices import environment

    about = environment(torch.device("cpu"))
    table = Table(
        title=f"Milliseconds per step, batch {BATCH}, fp32",
        caption=f"{about['hardware']}, {about['threads']} threads, torch {about['torch']}, "
        f"Python {about['python']}; median of {options.rounds} × {options.steps} interleaved steps",
    )
    for column in ("activation", "depth", "a notebook", "b ours", "c floor", "a/b", "b/c"):
        table.add_column(column, justify="left" if column == "activation" else "right")
    table.add_column("s per epoch a → b", justify="right")
    for activation in options.activations:
        for depth in options.depths:
            a, b, c = compare(options, activation, depth)
            epoch = f"{a * STEPS_PER_EPOCH / 1e3:.0f} → {b * STEPS_PER_EPOCH / 1e3:.0f}"
            figures = (*(f"{value:.1f}" for value in (a, b, c)), f"{a / b:.2f}", f"{b / c:.2f}")
            table.add_row(activation, str(depth), *figures, epoch)
            print(activation, depth, *figures, file=sys.stderr)
    Console().print(table)


def compare(options: argparse.Namespace, activation: str, depth: int) -> list[float]:
    """Median milliseconds per step of a, b and c for one network."""
    context = mp.get_context("spawn")
    workers = []
    for name in CONTENDERS:
        ours, theirs = context.Pipe()
        arguments = (theirs, name, activation, depth, str(options.data_dir))
        worker = context.Process(target=serve, args=arguments)
        worker.start()
        workers.append((worker, ours))
        ours.recv()  # built: one at a time, so that they do not disturb each other
    times: list[list[list[float]]] = [[] for _ in CONTENDERS]
    for _ in range(options.rounds):
        for (_, pipe), seen in zip(workers, times, strict=True):
            pipe.send(options.steps)
            seen.append(pipe.recv())
            time.sleep(PAUSE_SECONDS)
    for worker, pipe in workers:
        pipe.send(0)
        worker.join()
    return [
        min(  # the floor reports both layouts, the others a single list
            1e3 * statistics.median(step for round_ in seen for step in round_[way])
            for way in range(len(seen[0]))
        )
        for seen in times
    ]


def serve(pipe: Connection, name: str, activation: str, depth: int, data_dir: str) -> None:
    """One contender: builds its steps, then times as many as it is asked for until asked for none."""
    build: dict[str, Callable[[str, int, Path], list[Iterator[Any]]]] = {
        "a": notebook,
        "b": ours,
        "c": floor,
    }
    ways = build[name](activation, depth, Path(data_dir))
    for way in ways:
        next(way)
    pipe.send("ready")
    while count := pipe.recv():
        pipe.send([timed(way, count) for way in ways])


def timed(steps: Iterator[Any], count: int) -> list[float]:
    seconds = []
    for index in range(count + DISCARD):
        start = time.perf_counter()
        next(steps)
        if index >= DISCARD:
            seconds.append(time.perf_counter() - start)
    return seconds


def notebook(activation: str, depth: int, data_dir: Path) -> list[Iterator[Any]]:
    """The protocol as a notebook writes it."""
    import torch
    from torch import nn
    from torchvision import transforms
    from torchvision.datasets import CIFAR10

    from empirical.datasets import MEAN, STD
    from empirical.locations import find_cifar10

    steps = [transforms.RandomHorizontalFlip(), transforms.RandomCrop(32, padding=4)]
    steps += [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    CIFAR10.base_folder = ""  # the folder of the batches itself is the root
    data = CIFAR10(str(find_cifar10(data_dir)), train=True, transform=transforms.Compose(steps))
    loader = torch.utils.data.DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=2)

    layers: list[nn.Module] = []
    size = 32
    for layer in range(depth):
        layers.append(nn.Conv2d(3 if layer == 0 else 32, 32, 3, padding=1))
        if layer > 0:
            layers.append(nn.BatchNorm2d(32))
        layers.append(nn.ReLU() if activation == "relu" else nn.PReLU())
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


def ours(activation: str, depth: int, data_dir: Path) -> list[Iterator[Any]]:
    """The code that ``run_study`` runs."""
    import torch

    from empirical.datasets import load_dataset
    from empirical.memory import keep_freed_memory
    from empirical.protocol import TrainSpec
    from empirical.training import CellTraining, epoch_plan

    keep_freed_memory()
    device = torch.device("cpu")
    spec = TrainSpec(activation=activation, depth=depth, batch_size=BATCH)
    dataset = load_dataset("cifar10", data_dir, device)
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


def floor(activation: str, depth: int, data_dir: Path) -> list[Iterator[Any]]:
    """The products alone: every convolution and the linear layer, forward and backward."""
    import torch
    from torch import nn

    from empirical.memory import keep_freed_memory
    from empirical.protocol import TrainSpec

    keep_freed_memory()
    spec = TrainSpec(activation=activation, depth=depth)
    source = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=source)

    def run(layout: torch.memory_format) -> Iterator[None]:
        products: list[tuple[nn.Module, torch.Tensor, torch.Tensor]] = []
        for layer, size in enumerate(spec.map_sizes):
            channels = 3 if layer == 0 else spec.filters
            conv = nn.Conv2d(channels, spec.filters, 3, padding=1).to(memory_format=layout)
            x = normal(BATCH, channels, size, size).contiguous(memory_format=layout)
            gradient = normal(BATCH, spec.filters, size, size).contiguous(memory_format=layout)
            products.append((conv, x.requires_grad_(layer > 0), gradient))
        features = spec.filters * spec.head_size**2
        head, x = nn.Linear(features, 10), normal(BATCH, features).requires_grad_()
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
    parser.add_argument("--steps", type=int, default=20, help="timed steps per round (default 20)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("CIFAR10_DIR"))
    options = parser.parse_args()
    if options.data_dir is None:
        parser.error("give the folder that holds cifar-10-batches-py with --data-dir or $CIFAR10_DIR")
    return options


if __name__ == "__main__":
    main()
