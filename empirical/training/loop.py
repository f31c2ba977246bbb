"""One cell: a spec and a data set in, one row of measurements per epoch out.

The protocol is the course report's: Adam with torch's defaults but the learning rate, cross-entropy,
no schedule, every image once per epoch in a new order, the last partial batch kept.  A step is

    gather the batch → augment → forward → loss → backward → Adam

on tensors that stay on the device, without a DataLoader and without reading the loss back.  In other
tasks vectors and sequences are the "images", and the loss is the data set's.

Randomness: the order of epoch e comes from the stream (seed, "shuffle", e), its flips and crops from
(seed, "augment", e), and what is dropped from (seed, "dropout", e).  So the state of a cell between two
epochs is the network, the optimizer and the number e; a resumed cell ends with the same bits (on a CPU
with the same number of threads).
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from empirical.data.datasets import Dataset, Offsets, sample_offsets
from empirical.data.sequences import prepared
from empirical.engines.choice import EAGER, STACKED, engine_for, in_precision, stack_of_one
from empirical.protocol import TrainSpec
from empirical.records.cell import CellState, Progress
from empirical.records.provenance import Stopwatch, note_of_change, note_of_clock, provenance
from empirical.training.families import build_network
from empirical.training.instruments import FIXED_BATCH, Instruments, average_weight
from empirical.training.look import Look
from empirical.training.objectives import objective_of
from empirical.training.optimizers import build_optimizer
from empirical.training.taped import TapedInstruments
from theory.errors import RequestError
from theory.randomness import generator

TEST_BATCH = 250
REPORT_EVERY = 25  # steps between two looks at the loss, the only moments that wait for the device


@dataclass(frozen=True)
class StepReport:
    """How the current epoch goes: mean loss of the last few steps and images per second."""

    epoch: int
    images: int
    loss: float
    images_per_second: float


class Losses:
    """The losses of one pass over ``count`` images in batches of ``size``: (steps, *``each``)."""

    def __init__(self, count: int, size: int, each: tuple[int, ...], device: torch.device) -> None:
        self.count, self.size = count, size
        self.steps = torch.zeros((math.ceil(count / size), *each), device=device)

    def filled(
        self, step: Callable[[int, int], torch.Tensor]
    ) -> Iterator[tuple[int, torch.Tensor, float]]:
        """Make every step; after some, (images so far, mean of the latest losses, images per second).

        ``step`` gets where its batch begins and ends, and gives the losses before it.
        """
        since, reported, steps = time.perf_counter(), 0, len(self.steps)
        for done in range(1, steps + 1):
            begin, end = (done - 1) * self.size, min(done * self.size, self.count)
            self.steps[done - 1] = step(begin, end)
            if done - reported == REPORT_EVERY or done == steps:
                latest = self.steps[reported:done].mean(0).cpu()  # waits for the device
                now = time.perf_counter()
                yield end, latest, (end - reported * self.size) / (now - since)
                since, reported = now, done

    def mean(self) -> torch.Tensor:
        """Over the images of the pass, (*each,), float64 on the CPU."""
        losses = self.steps.cpu().double()
        sizes = torch.full_like(losses, self.size)
        sizes[-1] = self.count - (len(losses) - 1) * self.size
        return (losses * sizes).sum(0) / self.count


def train_cell(
    spec: TrainSpec,
    dataset: Dataset,
    device: torch.device,
    *,
    resume: CellState | None = None,
    on_step: Callable[[StepReport], None] = lambda report: None,
    on_epoch: Callable[[CellState], None] = lambda state: None,
) -> CellState:
    """Train ``spec`` to its end, from ``resume`` if given; returns the final state.

    ``on_epoch`` receives the state after every epoch (and before the first); it may save it.  A
    training or test loss or a parameter that is not finite ends the cell with the status ``diverged``
    and what was measured until then.
    """
    training = CellTraining(spec, dataset, device, resume)
    if resume is None:
        training.look(epoch=0)
        on_epoch(training.state())
    while training.status == "running":
        training.run_epoch(on_step)
        on_epoch(training.state())
    return training.state()


class CellTraining(Progress):
    """A cell in progress: its network, optimizer and rows."""

    def __init__(
        self, spec: TrainSpec, dataset: Dataset, device: torch.device, resume: CellState | None = None
    ) -> None:
        super().__init__()
        check_dataset(spec, dataset)
        self.spec, self.dataset, self.device = spec, dataset, device
        self.network = build_network(spec, device)
        self.optimizer = build_optimizer(spec, self.network, device)
        self.objective = objective_of(spec)
        fixed = self.prepared(dataset.train_images[:FIXED_BATCH], dataset.train_labels[:FIXED_BATCH])
        self.instruments = (
            Instruments(spec, *fixed, self.forward)
            if spec.is_classic
            else TapedInstruments(spec, *fixed, self.network)
        )
        if resume is not None:
            self.restore(resume)
        else:
            self.engine, self.notes = engine_for(spec, device.type)

    def restore(self, state: CellState) -> None:
        """Go back to ``state``; anything may be raised where it is not of this cell."""
        self.network.load_state_dict(state.network)
        self.optimizer.load_state_dict(state.optimizer)
        vars(self).update(state.progress())
        self.engine, missing = engine_for(self.spec, self.device.type, begun_with=state.engine)
        now = provenance(self.device)
        self.notes += [*missing, *note_of_change(state.epoch, state.provenance, now)]
        self.notes += note_of_clock(state.epoch, state.clock)

    def state(self) -> CellState:
        """The state as it is now; its tensors are the live ones, to be saved before the next step."""
        return CellState(
            **self.progress(),
            provenance=provenance(self.device),
            clock=time.time(),
            network=self.network.state_dict(),
            optimizer=self.optimizer.state_dict(),
        )

    def run_epoch(self, on_step: Callable[[StepReport], None] = lambda report: None) -> None:
        """One pass over the training images, then the test and the instruments."""
        watch = Stopwatch()
        with self.own_dropout(self.epoch + 1):
            train_loss = self.train_pass(on_step)
        accuracy, test_loss = self.test() if math.isfinite(train_loss) else (math.nan, math.nan)
        self.end_epoch(train_loss, accuracy, test_loss, watch)

    def end_epoch(
        self,
        train_loss: float,
        accuracy: float,
        test_loss: float,
        watch: Stopwatch,
        seconds: float = 0.0,
    ) -> None:
        """Measure the network after a pass and its test, and add the epoch's row.

        Its time is that of ``watch``, and ``seconds`` more, which went before.
        """
        average = average_weight(self.network)
        # The average is finite only if every parameter is; the test also sees the running statistics.
        if not all(map(math.isfinite, (train_loss, accuracy, test_loss, average))):
            self.status = "diverged"
            return
        self.epoch += 1
        seen = self.look(self.epoch)
        self.notes += watch.note(self.epoch)
        self.epochs.append(
            {
                "epoch": self.epoch,
                "train_loss": train_loss,
                "test_accuracy": accuracy,
                "test_loss": test_loss,
                "average_weight": average,
                "gradient_norm": seen.gradient_norm,
                "seconds": seconds + watch.seconds(),
            }
        )
        if self.epoch == self.spec.epochs:
            self.status = "completed"

    def train_pass(self, on_step: Callable[[StepReport], None]) -> float:
        """Every training image once; returns the mean loss, or the first that is not finite."""
        spec, count = self.spec, len(self.dataset.train_images)
        order, offsets = epoch_plan(spec, self.epoch + 1, count, self.device)
        self.network.train()
        losses = Losses(count, spec.batch_size, (), self.device)
        for images, latest, speed in losses.filled(
            lambda begin, end: self.step(order[begin:end], offsets.part(begin, end))
        ):
            loss = latest.item()
            if not math.isfinite(loss):
                return loss
            on_step(StepReport(self.epoch + 1, images, loss, speed))
        return float(losses.mean())

    def step(self, chosen: torch.Tensor, offsets: Offsets) -> torch.Tensor:
        """One step on the images ``chosen`` (B,); returns their mean loss before it, on the device."""
        return self.plain_step(*self.gathered(chosen, offsets))

    def plain_step(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """One step on inputs and targets (B, …); returns their mean loss before it."""
        loss = self.objective.loss(self.forward(inputs, self.engine), targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()

    def gathered(self, chosen: torch.Tensor, offsets: Offsets) -> tuple[torch.Tensor, torch.Tensor]:
        """The training images ``chosen`` (B,), flipped, cropped and normalized, and their labels."""
        images, labels = self.dataset.train_images, self.dataset.train_labels
        of_images, of_labels = images.index_select(0, chosen), labels.index_select(0, chosen)
        return prepared(self.spec, of_images, of_labels, offsets)

    def prepared(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Raw ``images`` and ``labels`` as inputs and targets, without anything random."""
        return prepared(self.spec, images, labels)

    @contextlib.contextmanager
    def own_dropout(self, *purpose: int | str) -> Iterator[None]:
        """A stream of its own in the place of torch's, from which dropout draws."""
        gpus = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(gpus, enabled=self.spec.dropout > 0):
            if self.spec.dropout:
                seed, stream = self.spec.seed, ("dropout", *purpose)
                torch.random.set_rng_state(generator(seed, *stream).get_state())
                for gpu in gpus:
                    state = generator(seed, *stream, device=gpu).get_state()
                    torch.cuda.set_rng_state(state, gpu)
            yield

    def forward(self, images: torch.Tensor, engine: str = EAGER) -> torch.Tensor:
        """Logits (B, classes) in float32: of eager from the modules themselves, which can be read."""
        layers = partial(stack_of_one, self.network) if engine == STACKED else self.network
        return in_precision(layers, images, self.spec.precision)

    @torch.no_grad()
    def test(self) -> tuple[float, float]:
        """(score in percent, mean loss) over the test images, in eval mode."""
        images, labels = self.dataset.test_images, self.dataset.test_labels
        loss = torch.zeros((), device=self.device)
        found: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.network.eval()
        for begin in range(0, len(images), TEST_BATCH):
            part = slice(begin, begin + TEST_BATCH)
            inputs, answers = self.prepared(images[part], labels[part])
            outputs = self.forward(inputs, self.engine)
            loss += self.objective.loss(outputs, answers, reduction="sum")
            found.append((outputs, answers))
        self.network.train()
        outputs, answers = (torch.cat(parts) for parts in zip(*found, strict=True))
        return self.objective.score(outputs, answers), loss.item() / answers.numel()

    def look(self, epoch: int) -> Look:
        """Let the instruments read the network after ``epoch`` epochs, and keep the layers' rows."""
        with self.own_dropout("look", epoch):
            seen = self.instruments.look(self.network, epoch)
        self.layers += seen.rows
        if epoch == 0:
            self.initial = {
                "loss": _finite(seen.loss),
                "loss_predicted": _finite(seen.loss_predicted),
                "average_weight": _finite(average_weight(self.network)),
            }
        return seen


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def epoch_plan(
    spec: TrainSpec, epoch: int, count: int, device: torch.device
) -> tuple[torch.Tensor, Offsets]:
    """The order of ``epoch``'s images and the flip and crop of each, drawn on the CPU."""
    order = torch.randperm(count, generator=generator(spec.seed, "shuffle", epoch))
    offsets = sample_offsets(count, generator(spec.seed, "augment", epoch), spec.augment)
    return order.to(device), offsets.to(device)


def check_dataset(spec: TrainSpec, dataset: Dataset) -> None:
    """Refuse images of another shape than the spec's, and a batch of one image where batch norm would
    see a single value per channel."""
    expected, found = spec.data.raw_shape, tuple(dataset.train_images.shape[1:])
    if found != expected:
        shapes = ("×".join(map(str, shape)) for shape in (expected, found))
        raise RequestError(f"{spec.dataset} has {spec.data.takes} of {', not '.join(shapes)}")
    spec.check_batches(len(dataset.train_images))
