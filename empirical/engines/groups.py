"""Cells trained side by side as one stack: which belong together, how many fit, and their epochs.

Cells belong to one stack if they differ only in how their weights are drawn and in which order they
see the images: in initializer, fan mode, gain and seed.  Each keeps its own order, flips and crops,
its own test, its own instruments and its own record; a cell whose loss is no longer finite is ended,
and the others go on without it.

All cells of a stack learn at the same rates.  Where ``learning_rate_reference`` gives two cells
different ones, they are in different stacks: the fused optimizers take one rate per tensor.

How many fit is a formula.  A cell of batch B and F filters with maps of s_l × s_l keeps about

    4·B·F·Σ s_l²·6  bytes   in its maps: three kept per layer, their gradients, and copies
    4·P·8           bytes   in P parameters: they, gradients and moments, in the stack and in its own
    4·250·F·s_1²·3   bytes   in the test

and a stack takes at most ``SHARE`` of what is free.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, replace

import torch

from empirical.data.catalog import image_set
from empirical.data.datasets import Offsets
from empirical.engines.choice import STACKED, engine_name, in_precision
from empirical.engines.graphs import Batches, Captured, state_kept
from empirical.engines.memory import memory_of_the_machine
from empirical.engines.stacked import WAYS, Stack, cell_losses, stacked_step
from empirical.protocol import TrainSpec
from empirical.records.cell import CellState
from empirical.records.provenance import Stopwatch
from empirical.training.loop import TEST_BATCH, CellTraining, Losses, StepReport, epoch_plan
from empirical.training.networks import scale_free_parameters
from empirical.training.optimizers import build_optimizer
from theory.activations import parse_activation

Job = tuple[int, TrainSpec]  # a cell and its number in the grid

MAX_AT_ONCE = 64  # so that an epoch of a stack, which is what a kill can lose, stays short
SHARE = 0.8
KEPT_MAPS, KEPT_PARAMETERS, TEST_MAPS = 6, 8, 3
UNKNOWN_MEMORY = 8_000_000_000  # where the system does not say
MOST_VALUES = 2**31 - 1  # in one tensor: many kernels count in 32 bits
TRIALS = 10  # steps by which the ways of a convolution are compared
FREE = ("initializer", "head_initializer", "fan", "head_fan", "gain_slope", "seed")


def shape_of(spec: TrainSpec) -> Hashable:
    """What cells of one stack have in common; equal for those that may be trained together."""
    activation = parse_activation(spec.activation)
    learned = activation.kind == "prelu"  # the slope then only begins at its value
    scales = scale_free_parameters(spec) if spec.is_classic else {}
    rates = tuple((name, scale) for name, scale in scales.items() if scale != 1.0)
    alike = spec.key(*FREE, "learning_rate_reference", "activation")
    return (*alike, activation.kind if learned else activation.name, rates)


def bytes_of(spec: TrainSpec) -> int:
    """What one cell takes in a stack, roughly: the formula of this module."""
    maps = spec.batch_size * spec.filters * sum(size**2 for size in spec.map_sizes)
    test = TEST_BATCH * spec.filters * spec.data.size**2
    return 4 * (KEPT_MAPS * maps + KEPT_PARAMETERS * spec.parameters + TEST_MAPS * test)


def most_at_once(spec: TrainSpec, device: torch.device) -> int:
    """How many cells like ``spec`` are trained at once on ``device``: at least one."""
    images = max(spec.batch_size, TEST_BATCH)
    values = MOST_VALUES // (images * spec.filters * spec.data.size**2)
    room = int(SHARE * free_bytes(device)) // bytes_of(spec)
    return max(min(room, values, MAX_AT_ONCE), 1)


def free_bytes(device: torch.device) -> int:
    """Memory that a stack may use on ``device``: free of a GPU, half of the machine's otherwise."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + unused
    return (memory_of_the_machine() or 2 * UNKNOWN_MEMORY) // 2


def groups_of(
    jobs: Sequence[Job],
    finished: Collection[str],
    device: torch.device,
    limit: int | None = None,
) -> list[list[Job]]:
    """``jobs`` in the groups that are trained at once, in the order of each one's first.

    Cells whose engine is ``stacked`` are put together with their likes, at most ``limit`` (None: as
    many as fit), in groups of about equal size.  Every other cell is alone, and so are those
    ``finished``, by id.
    """

    def joins(job: Job) -> bool:
        return is_stacked(job[1], device.type) and job[1].cell_id not in finished

    def most(alike: list[Job]) -> int:
        return limit or (most_at_once(alike[0][1], device) if len(alike) > 1 else 1)

    return sorted(together(jobs, joins, most), key=lambda group: group[0][0])


def together(
    jobs: Sequence[Job], joins: Callable[[Job], bool], most: Callable[[list[Job]], int]
) -> list[list[Job]]:
    """Those of ``jobs`` that join in with their likes, at most so many at once; every other alone."""
    alike: dict[Hashable, list[Job]] = {}
    for job in jobs:
        alike.setdefault(shape_of(job[1]) if joins(job) else job[0], []).append(job)
    found: list[list[Job]] = []
    for own in alike.values():
        size = math.ceil(len(own) / math.ceil(len(own) / most(own)))
        found += [own[begin : begin + size] for begin in range(0, len(own), size)]
    return found


def is_stacked(spec: TrainSpec, kind: str) -> bool:
    """Whether ``spec`` is trained as part of a stack on a device of this ``kind``."""
    return spec.is_classic and engine_name(spec.engine, kind) == STACKED


@dataclass(frozen=True)
class Member:
    """A cell of a group, and what is told of its steps, of its state after every epoch (and before
    the first, if it is new), and of its state at its end."""

    training: CellTraining
    on_step: Callable[[StepReport], None]
    on_epoch: Callable[[CellState], None]
    on_end: Callable[[CellState], None]


def train_group(members: Sequence[Member]) -> None:
    """Train ``members``, all of one shape and after equally many epochs, each to its end."""
    for member in members:
        if not member.training.initial:
            member.training.look(epoch=0)
            member.on_epoch(member.training.state())
        if member.training.status != "running":  # it had ended before its result was written
            member.on_end(member.training.state())
    while running := [member for member in members if member.training.status == "running"]:
        group = GroupTraining([member.training for member in running])
        ended = False
        while not ended:
            group.run_epoch([member.on_step for member in running])
            for member in running:
                state = member.training.state()
                member.on_epoch(state)
                if state.status != "running":
                    ended = True
                    member.on_end(state)
        del group  # its memory, before the next takes as much


class GroupTraining:
    """``members`` in progress as one stack; between two epochs each holds its own state."""

    def __init__(self, members: Sequence[CellTraining]) -> None:
        first = members[0]
        self.members, self.spec = list(members), first.spec
        self.dataset, self.device = first.dataset, first.device
        self.optimizers = [member.optimizer for member in members]
        self.stack = Stack([member.network for member in members]).train()
        self.optimizer = build_optimizer(self.spec, self.stack, self.device)
        self.stack.load(self.optimizer, self.optimizers)
        self.batches = Batches(self.dataset, image_set(self.spec.dataset))
        self.captured: Captured | None = None

    def run_epoch(self, on_step: Sequence[Callable[[StepReport], None]]) -> None:
        """One pass over the training images, then each member's test and instruments.

        ``on_step`` holds for each member what is told how it goes.
        """
        watch = Stopwatch()
        losses = self.train_pass(on_step)
        tests = self.test()
        self.stack.store(self.optimizer, self.optimizers)
        share, notes = watch.seconds() / len(self.members), watch.note(self.members[0].epoch + 1)
        for member, loss, (accuracy, test_loss) in zip(self.members, losses, tests, strict=True):
            member.end_epoch(loss, accuracy, test_loss, Stopwatch(), share)
            if member.status != "diverged":
                member.notes += notes

    def train_pass(self, on_step: Sequence[Callable[[StepReport], None]]) -> list[float]:
        """Every training image once for every member; each one's mean loss, NaN where a loss was not
        finite.  Such a member is not reported any more, and its numbers touch no other's."""
        count = len(self.dataset.train_images)
        order, offsets = self.plan(count)
        losses = Losses(count, self.spec.batch_size, (len(self.members),), self.device)
        failed: set[int] = set()
        for images, latest, speed in losses.filled(
            lambda begin, end: self.step(order[begin:end], offsets.part(begin, end))
        ):
            each = latest.tolist()
            failed |= {k for k, loss in enumerate(each) if not math.isfinite(loss)}
            if len(failed) == len(self.members):
                break
            for k, member in enumerate(self.members):
                if k not in failed:
                    on_step[k](StepReport(member.epoch + 1, images, each[k], speed))
        means = losses.mean().tolist()
        return [math.nan if k in failed else mean for k, mean in enumerate(means)]

    def plan(self, count: int) -> tuple[torch.Tensor, Offsets]:
        """Each member's order and offsets of the epoch, (count, K) on the device."""
        host = torch.device("cpu")
        drawn = {m.spec.seed: epoch_plan(m.spec, m.epoch + 1, count, host) for m in self.members}
        plans = [drawn[member.spec.seed] for member in self.members]
        order = torch.stack([order for order, _ in plans], 1)
        offsets = (torch.stack(parts, 1) for parts in zip(*(own for _, own in plans), strict=True))
        return order.to(self.device), Offsets(*offsets).to(self.device)

    def step(self, chosen: torch.Tensor, offsets: Offsets) -> torch.Tensor:
        """One step of every member on its images ``chosen`` (B, K); their losses (K,) before it.

        On a GPU batches like the first are one CUDA graph, others launched singly.
        """
        if self.device.type == "cuda" and self.captured is None:
            self.captured = self.capture(chosen, *offsets)
        if self.captured is not None and self.captured.fits(chosen, *offsets):
            return self.captured(chosen, *offsets)
        return self.whole_step(chosen, *offsets)

    def whole_step(self, *choice: torch.Tensor) -> torch.Tensor:
        """Gather, augment, forward, backward and the optimizer."""
        return stacked_step(self.forward, self.optimizer, *self.batches(*choice))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (K, B, classes) in float32 or wider of images (B, K·C, H, W)."""
        return in_precision(self.stack, images, self.spec.precision)

    def capture(self, *choice: torch.Tensor) -> Captured:
        """The step as a graph, in the way that is the fastest for this shape on this device."""
        spec = replace(self.spec, activation="relu")  # which changes nothing of the convolutions
        about = (shape_of(spec), len(self.members), str(self.device))
        if about not in _ways:
            times = {way: self.seconds_of(way, choice) for way in WAYS}
            _ways[about] = min(times, key=lambda way: times[way])
        self.stack.way = _ways[about]
        return Captured(self.whole_step, choice, self.state(), self.optimizer)

    def seconds_of(self, way: str, choice: tuple[torch.Tensor, ...]) -> float:
        """Mean seconds of a captured step whose convolutions are done in this ``way``."""
        self.stack.way = way
        captured = Captured(self.whole_step, choice, self.state(), self.optimizer)
        with state_kept(self.state(), self.optimizer):
            captured.replay()
            torch.cuda.synchronize(self.device)
            start = time.perf_counter()
            for _ in range(TRIALS):
                captured.replay()
            torch.cuda.synchronize(self.device)
            return (time.perf_counter() - start) / TRIALS

    def state(self) -> list[torch.Tensor]:
        """What a step changes beside the optimizer's own tensors."""
        return [*self.stack.parameters(), *self.stack.buffers()]

    @torch.no_grad()
    def test(self) -> list[tuple[float, float]]:
        """(accuracy in percent, mean cross-entropy) of each member over the test images."""
        images, labels = self.dataset.test_images, self.dataset.test_labels
        count, cells = len(images), len(self.members)
        right = torch.zeros(cells, dtype=torch.int64, device=self.device)
        loss = torch.zeros(cells, device=self.device)
        self.stack.eval()
        for begin in range(0, count, TEST_BATCH):
            part = slice(begin, begin + TEST_BATCH)
            batch, answers = self.members[0].prepared(images[part], labels[part])
            logits = self.forward(batch.repeat(1, cells, 1, 1))
            right += (logits.argmax(2) == answers).sum(1)
            loss += cell_losses(logits, answers[:, None].expand(-1, cells)) * len(answers)
        self.stack.train()
        shares, means = (100 * right / count).tolist(), (loss / count).tolist()
        return list(zip(shares, means, strict=True))


_ways: dict[Hashable, str] = {}  # the fastest way by shape, number of cells and device
