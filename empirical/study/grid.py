"""The grid: plan, skip what is finished, go on with what was interrupted, run the rest.

``run_study`` takes a spec and returns a tidy table, one row per cell and epoch; the records it leaves
under ``spec.out`` give the same table again (``load_study``) without training.  It tells what happens
through events, prints nothing, and may be killed at any time: the same spec goes on from the last
finished epoch of the interrupted cell.  Several processes may share one ``out``: each takes cells that
no other is working on.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import torch

from empirical.arm import Arm
from empirical.data.catalog import load_dataset
from empirical.data.datasets import Dataset, Offsets
from empirical.engines.choice import STACKED
from empirical.engines.groups import (
    GroupTraining,
    Job,
    Member,
    groups_of,
    is_stacked,
    shape_of,
    train_group,
)
from empirical.engines.memory import memory_that_may_end
from empirical.judgment.statistics import final_values
from empirical.protocol import StudySpec, TrainSpec, published_accuracy
from empirical.records import folders as records
from empirical.records.cell import LAYER_COLUMNS, CellState
from empirical.records.folders import DamagedRecord, Finished
from empirical.records.locations import cell_folder
from empirical.records.published import STUDY_COLUMNS as PUBLISHED_COLUMNS
from empirical.records.published import identity_of, verified
from empirical.study import events
from empirical.study.costs import is_small
from empirical.study.overview import Overview
from empirical.training.loop import CellTraining, StepReport, check_dataset, train_cell
from theory.devices import environment, one_thread_if, resolve_device
from theory.keywords import takes_fields_of
from theory.randomness import generator

T = TypeVar("T")

POLL_SECONDS = 1.0
TIMINGS = 5  # of a step of every kind of cell, for an estimate
PLAN_COLUMNS = (
    *("cell", "initializer", "activation", "depth", "seed", "status", "epochs_done", "epochs"),
    *("parameters", "seconds", "megabytes"),
)
STUDY_COLUMNS = tuple(name for name in PUBLISHED_COLUMNS if name != "preset")


@takes_fields_of(StudySpec)
def run_study(
    spec: StudySpec,
    on_event: events.OnEvent = events.ignore,
    *,
    dataset: Dataset | None = None,
) -> pd.DataFrame:
    """Train every cell of ``spec`` that has no finished record; returns the table of all its cells.

    One row per cell and epoch with ``STUDY_COLUMNS``, in the order of the grid.  ``dataset`` replaces
    the spec's data set by one in memory (its records then belong to it: give it its own ``out``).
    Raises ``RequestError`` before any work for a wrong request and ``WorkError`` when the machine gives
    out; what is finished stays on disk in both cases.
    """
    device = resolve_device(spec.device)
    records.prepare(spec.out)
    numbered = numbered_cells(spec)
    done = finished_cells(spec)
    on_event(events.StudyPlanned(len(spec.cells()), len(done), spec.out))
    if any(cell.cell_id not in done for _, cell in numbered):
        with memory_that_may_end():
            dataset = _dataset(spec, device, dataset)
    with memory_that_may_end():
        groups = groups_of(numbered, done, device, spec.stack)
    runner = CellRunner(spec, device, dataset, Overview(numbered, on_event).tell)
    while groups:
        waiting = [left for group in groups if (left := runner.take(group))]
        if waiting == groups:  # all that is left is in other hands
            index, cell = waiting[-1][0]
            runner.on_event(events.CellWaiting(cell, index, runner.total))
            time.sleep(POLL_SECONDS)
        groups = waiting
    return table([runner.finished[cell.cell_id] for _, cell in numbered])


def numbered_cells(spec: StudySpec) -> list[Job]:
    """Each cell of the grid with its number in it, from 1."""
    return list(enumerate(spec.cells(), start=1))


def load_study(out: Path, on_event: events.OnEvent = events.ignore) -> pd.DataFrame:
    """The table of every finished cell under ``out``; bad records are reported and left out."""
    return table(verified(Path(out), on_event))


def load_layers(out: Path, on_event: events.OnEvent = events.ignore) -> pd.DataFrame:
    """The layers' table of every finished cell under ``out``: the cell, then ``LAYER_COLUMNS``."""
    cells = verified(Path(out), on_event)
    rows = [identity_of(cell) | row for cell in cells for row in cell.layers]
    own = STUDY_COLUMNS[: STUDY_COLUMNS.index("epoch")]
    return pd.DataFrame(rows, columns=[*own, *LAYER_COLUMNS])


def results(spec: StudySpec) -> list[dict[str, Any]]:
    """The result.json of every finished cell of ``spec``, in the order of the grid."""
    done = finished_cells(spec)
    return [done[cell.cell_id].result for cell in spec.cells() if cell.cell_id in done]


def table(cells: list[Finished]) -> pd.DataFrame:
    """One row per cell and epoch, ``STUDY_COLUMNS``; a cell that diverged in its first epoch has one
    row with epoch 0 and no measurements."""
    rows = [identity_of(cell) | row for cell in cells for row in cell.epochs or [{"epoch": 0}]]
    return pd.DataFrame(rows, columns=list(STUDY_COLUMNS))


def compare_with_report(study: pd.DataFrame) -> pd.DataFrame:
    """Final accuracy of each initializer × activation × variant × depth beside the course report's.

    Columns: initializer, activation, variant, depth, arm, seeds, diverged (how many of them),
    test_accuracy (percent, mean over the seeds that did not diverge, NaN if all did), published (None
    where the report has no such cell, and of other images than CIFAR-10), difference, status (diverged
    if every seed did, else completed).
    """
    config = ["initializer", "activation", "variant", "depth"]
    rows = []
    for key, cells in final_values(study).groupby(config, sort=False):
        row: dict[str, Any] = dict(zip(config, key, strict=True))
        completed = cells.loc[cells["status"] != "diverged", "test_accuracy"]
        accuracy, published = float(completed.mean()), None
        if cells["dataset"].iloc[0] == "cifar10":
            published = published_accuracy(row["initializer"], row["activation"], int(row["depth"]))
        row |= {
            "arm": Arm.of(cells.iloc[0].to_dict()),
            "seeds": len(cells),
            "diverged": len(cells) - len(completed),
        }
        row |= {"test_accuracy": accuracy, "published": published}
        row["difference"] = None if published is None else accuracy - published
        rows.append(row | {"status": "diverged" if completed.empty else "completed"})
    return pd.DataFrame(rows)


def plan(spec: StudySpec) -> pd.DataFrame:
    """What ``run_study`` would do, without doing it: one row per cell of the grid.

    Columns: cell, initializer, activation, depth, seed, status (finished, interrupted, new or damaged),
    epochs_done, epochs, parameters, seconds (rough, by ``seconds_per_image``), megabytes (on disk while
    the cell runs).  Checks the data folder if one is named; downloads nothing, and writes nothing.
    """
    device = resolve_device(spec.device)
    spec.data.find(spec.data_dir)
    jobs = numbered_cells(spec)
    progress = {cell.cell_id: _progress(spec.out, cell) for _, cell in jobs}
    finished = {name for name, (status, _) in progress.items() if status == "finished"}
    with memory_that_may_end():
        groups = groups_of(
            [job for job in jobs if job[1].cell_id not in finished], (), device, spec.stack
        )
        seconds = seconds_per_image(groups, device)
    rows = []
    for _, cell in jobs:
        status, epochs_done = progress[cell.cell_id]
        left = 0 if status == "finished" else cell.epochs - epochs_done
        rows.append(
            vars(cell)
            | {
                "cell": cell.cell_id,
                "status": status,
                "epochs_done": epochs_done,
                "parameters": cell.parameters,
                "seconds": left * _epoch_images(cell) * seconds.get(cell.cell_id, 0.0),
                "megabytes": cell.parameters * 3 * 4 / 1e6,  # weights and Adam's two moments
            }
        )
    return pd.DataFrame(rows, columns=list(PLAN_COLUMNS))


def seconds_per_image(groups: Sequence[Sequence[Job]], device: torch.device) -> dict[str, float]:
    """Seconds of training per image and cell, by cell id, from a few steps on random images.

    Groups of one kind (one shape, equally many cells) are timed together.  A busy machine makes a step
    longer and never shorter, so the least of ``TIMINGS`` counts; and they are spread over time, a round
    of all kinds after the other, so that one busy moment does not fall on one kind alone.
    """
    kinds: dict[Hashable, list[Sequence[Job]]] = {}
    for group in groups:
        kinds.setdefault((shape_of(group[0][1]), len(group)), []).append(group)
    steps = {kind: _timed_step(alike[0], device) for kind, alike in kinds.items()}
    least = dict.fromkeys(kinds, math.inf)
    for _ in range(TIMINGS):
        for kind, step in steps.items():
            start = time.perf_counter()
            step()
            least[kind] = min(least[kind], time.perf_counter() - start)
    return {
        cell.cell_id: least[kind] / (len(group) * cell.batch_size)
        for kind, alike in kinds.items()
        for group in alike
        for _, cell in group
    }


def _timed_step(group: Sequence[Job], device: torch.device) -> Callable[[], None]:
    """One step of ``group`` on random images, run once already so that everything is set up."""
    spec, count = group[0][1], len(group)
    data = _examples(spec, max(spec.batch_size, 2)).to(device)
    training = CellTraining(spec, data, device)
    chosen = torch.arange(spec.batch_size, device=device)
    stack = GroupTraining([training] * count) if is_stacked(spec, device.type) else None
    if stack is not None:
        chosen = chosen[:, None].expand(-1, count).contiguous()
    offsets = Offsets(chosen < 0, chosen % 9, chosen % 9)
    training.network.train()

    def step() -> None:
        (stack or training).step(chosen, offsets).sum().item()

    step()
    return step


def _examples(spec: TrainSpec, size: int) -> Dataset:
    """Random images; of data without files its own."""
    if spec.data.takes != "images":
        return spec.data.load(None).limited(size, 2)
    noise = generator(0, "calibration")
    shape = (size, *spec.data.raw_shape)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=noise)
    labels = torch.randint(spec.data.classes, (size,), generator=noise)
    return Dataset(images, labels, images, labels)


class CellRunner:
    """Runs one cell after the other.

    Without a ``dataset`` the spec's is loaded when the first cell needs it.
    """

    def __init__(
        self,
        spec: StudySpec,
        device: torch.device,
        dataset: Dataset | None,
        on_event: events.OnEvent,
    ) -> None:
        self.spec, self.device, self.dataset, self.on_event = spec, device, dataset, on_event
        self.total = len(spec.cells())
        self.finished: dict[str, Finished] = {}

    def take_all(self, jobs: list[Job]) -> list[Job]:
        """Finish ``jobs`` in the groups that suit the device; returns those that others work on."""
        with memory_that_may_end():
            groups = groups_of(jobs, (), self.device, self.spec.stack)
        return [job for group in groups for job in self.take(group)]

    def take(self, jobs: list[Job]) -> list[Job]:
        """Finish ``jobs``, which are alike; returns those that another process is working on."""
        out = self.spec.out
        with contextlib.ExitStack() as held:
            ours = [job for job in jobs if held.enter_context(records.locked(out, job[1]))]
            with memory_that_may_end():
                self._run(ours)
        return [job for job in jobs if job not in ours]

    def _run(self, jobs: list[Job]) -> None:
        """Train ``jobs``, less those that are finished, in stacks of those that are equally far."""
        stacks: dict[int, list[Member]] = {}
        for index, cell in jobs:
            found = self._read(partial(records.read_finished, self.spec.out, cell), cell)
            if found is not None:
                records.drop_checkpoint(self.spec.out, cell)
                self._end(index, cell, found, True)
                continue
            state = self._begin(cell)
            on_step, on_epoch = self._start(index, cell, state)
            assert self.dataset is not None
            if not is_stacked(cell, self.device.type) or (state and state.engine != STACKED):
                with one_thread_if(is_small(cell)):
                    data = (self.dataset, self.device)
                    ended = train_cell(cell, *data, resume=state, on_step=on_step, on_epoch=on_epoch)
                    self._write(index, cell, ended)
                continue
            training = CellTraining(replace(cell, engine=STACKED), self.dataset, self.device, state)
            member = Member(training, on_step, on_epoch, partial(self._write, index, cell))
            stacks.setdefault(training.epoch, []).append(member)
        for members in stacks.values():
            train_group(members)

    def _write(self, index: int, cell: TrainSpec, state: CellState) -> None:
        found = records.write_result(self.spec.out, cell, state, environment(self.device))
        self._end(index, cell, found, False)

    def _end(self, index: int, cell: TrainSpec, found: Finished, skipped: bool) -> None:
        self.finished[cell.cell_id] = found
        self.on_event(events.CellFinished(cell, index, self.total, found.result, skipped))

    def _begin(self, cell: TrainSpec) -> CellState | None:
        """The state that ``cell`` goes on from, if any; its folder is there afterwards."""
        if self.dataset is None:  # a record that was finished when the study was planned is gone
            self.dataset = _dataset(self.spec, self.device, None)
        state = self._read(lambda: self._resumable(cell), cell)
        records.write_config(self.spec.out, cell)
        return state

    def _start(
        self, index: int, cell: TrainSpec, state: CellState | None
    ) -> tuple[Callable[[StepReport], None], Callable[[CellState], None]]:
        """Tell that ``cell`` starts, and give what is to be told its steps and epochs."""
        accuracy = state.epochs[-1]["test_accuracy"] if state and state.epochs else None
        self.on_event(events.CellStarted(cell, index, self.total, state.epoch if state else 0))
        assert self.dataset is not None
        per_epoch, pace = len(self.dataset.train_images), None

        def on_step(report: StepReport) -> None:
            nonlocal pace
            pace = report.images_per_second
            now = (report.epoch, report.images, per_epoch, report.loss, pace, None, accuracy)
            self.on_event(events.StepDone(cell, index, self.total, *now))

        def on_epoch(state: CellState) -> None:
            nonlocal accuracy
            records.write_checkpoint(self.spec.out, cell, state)
            if state.epochs and state.status != "diverged":
                row = dict(state.epochs[-1])
                accuracy = row["test_accuracy"]
                self.on_event(events.EpochDone(cell, index, self.total, row, pace))

        return on_step, on_epoch

    def _resumable(self, cell: TrainSpec) -> CellState | None:
        """The cell's checkpoint, once it has been seen to fit the network and its optimizer."""
        assert self.dataset is not None
        state = records.read_checkpoint(self.spec.out, cell)
        if state is not None:
            training = CellTraining(cell, self.dataset, self.device)
            with records.interpreting(cell_folder(self.spec.out, cell) / records.CHECKPOINT):
                training.restore(state)
        return state

    def _read(self, read: Callable[[], T | None], cell: TrainSpec) -> T | None:
        try:
            return read()
        except DamagedRecord as damage:
            moved_to = records.set_aside(self.spec.out, cell)
            self.on_event(events.RecordDamaged(cell.cell_id, str(damage), moved_to))
            return None


def finished_cells(spec: StudySpec) -> dict[str, Finished]:
    """The good finished records of ``spec`` by cell id; bad ones are dealt with in their turn."""
    done = {}
    for cell in spec.cells():
        try:
            found = records.read_finished(spec.out, cell)
        except DamagedRecord:
            continue
        if found is not None:
            done[cell.cell_id] = found
    return done


def _progress(out: Path, cell: TrainSpec) -> tuple[str, int]:
    try:
        if records.read_finished(out, cell) is not None:
            return "finished", cell.epochs
        state = records.read_checkpoint(out, cell)
    except DamagedRecord:
        return "damaged", 0
    return ("new", 0) if state is None else ("interrupted", state.epoch)


def limited_to(spec: StudySpec, device: torch.device, given: Dataset | None) -> Dataset | None:
    """The data set that was given, as ``spec`` asks for it; None if none was."""
    return None if given is None else given.limited(spec.limit_train, spec.limit_test).to(device)


def _dataset(spec: StudySpec, device: torch.device, given: Dataset | None) -> Dataset:
    dataset = limited_to(spec, device, given) or load_dataset(
        spec.dataset,
        spec.data_dir,
        device,
        limit_train=spec.limit_train,
        limit_test=spec.limit_test,
    )
    for cell in spec.cells():
        check_dataset(cell, dataset)
    return dataset


def _epoch_images(cell: TrainSpec) -> float:
    """Images of an epoch, a test image counting as a third of a training image (no backward pass)."""
    data = cell.data
    return (cell.limit_train or data.train_images) + (cell.limit_test or data.test_images) / 3
