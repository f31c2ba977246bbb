"""Many cells at once on one machine: worker processes that share one folder of records.

One process hands out the cells, those with the most work first, and every worker trains one after the
other under the same locks and with the same records as ``study.run_study``.  So a worker may be killed
at any time: the cell it had goes on in another from its last finished epoch, once; if that one dies of
the same cell too, the study stops and says so.

What a worker is given is a bundle of cells: one, or several that it may train as one stack
(``groups``).  A bundle is never so long that another worker would go without.

On a CPU each worker computes with one thread.  Small networks gain little from a second thread, and
one cell per core needs no two cores to wait for each other; and the records do not depend on how many
cores the machine has.  On a host with several GPUs, worker k computes on GPU k modulo their number.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import pickle
import signal
import time
import traceback
from collections import Counter, deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, cast

import pandas as pd
import torch

from empirical.data.datasets import Dataset
from empirical.engines.groups import Job, is_stacked, shape_of
from empirical.engines.memory import keep_freed_memory
from empirical.protocol import StudySpec
from empirical.records import folders as records
from empirical.study.costs import work
from empirical.study.events import (
    CellFinished,
    CellWaiting,
    Event,
    OnEvent,
    StepDone,
    StudyPlanned,
    WorkerLost,
)
from empirical.study.grid import (
    POLL_SECONDS,
    CellRunner,
    finished_cells,
    limited_to,
    numbered_cells,
    run_study,
    table,
)
from empirical.study.overview import Overview
from theory.devices import resolve_device
from theory.errors import WorkError

Bundle = list[Job]
Arrays = tuple[Any, ...]  # a data set as numpy arrays, which travel without shared memory

DEATHS_ALLOWED = 1  # of workers per cell
STEP_SECONDS = 0.5  # between two reports of a worker's steps
WORKER_BYTES = 2_000_000_000  # what one takes on a CPU: CIFAR-10, torch, a batch of 64
LEAVE_SECONDS = 10.0  # for a worker to leave when asked to


class Leave(BaseException):
    """Raised in a worker that is to stop at once; not an ``Exception``, so that nothing holds it up."""


def run_on_workers(
    spec: StudySpec,
    count: int | None,
    on_event: OnEvent,
    *,
    dataset: Dataset | None = None,
) -> pd.DataFrame:
    """``study.run_study`` in ``count`` processes of this machine (None: ``suitable_count``).

    One process is this one, with all of torch's threads.  Raises what ``run_study`` raises, and
    ``WorkError`` where a second worker dies of the same cell.
    """
    device = resolve_device(spec.device)
    count = suitable_count(device) if count is None else count
    if count == 1:
        return run_study(spec, on_event, dataset=dataset)
    records.prepare(spec.out)
    numbered = numbered_cells(spec)
    overview = Overview(spec, numbered, on_event)
    bundles = bundled(begin(spec, numbered, overview), count, device.type)
    if bundles:
        _Crew(spec, min(count, len(bundles)), pack(dataset), overview).train(bundles)
    return collect(spec, numbered)


def suitable_count(device: torch.device) -> int:
    """As many workers as there are GPUs; on a CPU, as torch would use threads and memory allows."""
    if device.type == "cuda":
        return max(torch.cuda.device_count(), 1)
    if device.type != "cpu":
        return 1
    try:
        room = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // WORKER_BYTES
    except (AttributeError, ValueError):  # Windows does not say
        room = torch.get_num_threads()
    return max(min(torch.get_num_threads(), room), 1)


def begin(spec: StudySpec, numbered: list[Job], overview: Overview) -> list[Job]:
    """Tell what is planned and what is finished; returns the other cells."""
    done = finished_cells(spec)
    overview.tell(StudyPlanned(overview.total, len(done), spec.out))
    for index, cell in numbered:
        if cell.cell_id in done:
            result = done[cell.cell_id].result
            overview.tell(CellFinished(cell, index, overview.total, result, True))
    return [job for job in numbered if job[1].cell_id not in done]


def bundled(jobs: list[Job], workers: int, kind: str) -> list[Bundle]:
    """``jobs`` in bundles, the most work first, so that all workers end at about the same time.

    Cells that are stacked on a device of this ``kind`` are bundled with their likes; every other cell
    is alone.
    """
    most = max(len(jobs) // workers, 1)
    alike: dict[Hashable, Bundle] = {}
    for job in jobs:
        joins = shape_of(job[1]) if is_stacked(job[1], kind) else job[0]
        alike.setdefault(joins, []).append(job)
    bundles = []
    for together in alike.values():
        size = math.ceil(len(together) / math.ceil(len(together) / most))
        bundles += [together[first : first + size] for first in range(0, len(together), size)]
    return sorted(bundles, key=lambda bundle: -sum(work(cell) for _, cell in bundle))


def collect(spec: StudySpec, numbered: list[Job], patience: float = 0.0) -> pd.DataFrame:
    """The table of ``numbered``, all finished; a shared disk may show them ``patience`` s late."""
    until = time.monotonic() + patience
    while True:
        done = finished_cells(spec)
        missing = [cell.cell_id for _, cell in numbered if cell.cell_id not in done]
        if not missing:
            return table([done[cell.cell_id] for _, cell in numbered])
        if time.monotonic() >= until:
            raise WorkError(
                f"{len(missing)} finished records are not to be seen in --out {spec.out}, such as "
                f"{missing[0]}: run the same command again"
            )
        time.sleep(POLL_SECONDS)


def pack(dataset: Dataset | None) -> Arrays | None:
    """``dataset`` as plain arrays, for another process."""
    if dataset is None:
        return None
    tensors = (dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels)
    return tuple(tensor.cpu().numpy() for tensor in tensors)


def unpack(arrays: Arrays | None) -> Dataset | None:
    """What ``pack`` was given."""
    return None if arrays is None else Dataset(*(torch.tensor(array) for array in arrays))


def choose_device(name: str, number: int) -> torch.device:
    """The device of worker ``number``: with several GPUs, each in turn becomes torch's current one."""
    device = resolve_device(name)
    if device.type == "cuda":
        torch.cuda.set_device(number % torch.cuda.device_count())
    return device


def portable(error: Exception) -> Exception:
    """``error`` as it can travel to another process, with its traceback, which cannot, as a note."""
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:
        copy = RuntimeError(f"{type(error).__name__}: {error}")
    copy.add_note("".join(traceback.format_exception(error)))
    return cast(Exception, copy)


class Throttle:
    """Lets a cell's report of steps pass at most every ``STEP_SECONDS``, all else always."""

    def __init__(self) -> None:
        self.latest: dict[int, float] = {}  # by cell

    def passes(self, event: Event) -> bool:
        """Whether ``event`` is to be told."""
        if not isinstance(event, StepDone) or event.images == event.images_per_epoch:
            return True
        now = time.monotonic()
        if now - self.latest.get(event.index, -STEP_SECONDS) < STEP_SECONDS:
            return False
        self.latest[event.index] = now
        return True


@contextlib.contextmanager
def deaf_children() -> Iterator[None]:
    """Processes started inside never see a terminal's Ctrl-C: who started them stops them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows, where a worker ignores it once it runs
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # starting it unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass
class _Worker:
    """A worker process as its employer sees it."""

    process: BaseProcess
    connection: Connection
    given: bool = False
    bundle: Bundle = field(default_factory=list)  # what is not finished of what it was given

    def messages(self) -> tuple[list[Any], bool]:
        """What it has sent, and whether it is still there."""
        alive, received = self.process.is_alive(), []
        try:
            while self.connection.poll():
                received.append(self.connection.recv())
        except (EOFError, OSError):  # the end, maybe in the middle of a message
            return received, False
        return received, alive

    def end(self) -> str:
        """How it died."""
        self.process.join(LEAVE_SECONDS)
        code = self.process.exitcode
        if code is None:
            return "it closed its connection"
        if code >= 0:
            return f"it ended with exit status {code}"
        name = signal.Signals(-code).name
        return f"it was killed by {name}" + (", perhaps for memory" if name == "SIGKILL" else "")


class _Crew:
    """Hands out cells to worker processes and listens to them."""

    def __init__(self, spec: StudySpec, count: int, arrays: Arrays | None, overview: Overview) -> None:
        self.spec, self.arrays, self.overview = spec, arrays, overview
        self.places: list[_Worker | None] = [None] * count
        self.waiting: deque[Bundle] = deque()
        self.held: list[tuple[float, Bundle]] = []  # in another process's hands, to be asked for again
        self.deaths: Counter[int] = Counter()

    def train(self, bundles: list[Bundle]) -> None:
        """Have every cell of ``bundles`` finished, or raise the first error of a worker."""
        self.waiting.extend(bundles)
        try:
            while self.waiting or self.held or any(w and w.given for w in self.places):
                self._hand_out()
                self._listen()
        finally:
            self._dismiss()

    def _hand_out(self) -> None:
        now = time.monotonic()
        self.waiting.extend(bundle for due, bundle in self.held if due <= now)
        self.held = [(due, bundle) for due, bundle in self.held if due > now]
        for number, worker in enumerate(self.places):
            if not self.waiting:
                break
            if worker is None:
                worker = self.places[number] = self._hire(number)
            if not worker.given:
                worker.given, worker.bundle = True, self.waiting.popleft()
                with contextlib.suppress(OSError):  # a worker that died is found by listening
                    worker.connection.send(worker.bundle)

    def _hire(self, number: int) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_work, args=(theirs, number, self.spec, self.arrays), name=f"worker {number + 1}"
        )
        with deaf_children():
            process.start()
        theirs.close()  # or its end would never be seen
        return _Worker(process, ours)

    def _listen(self) -> None:
        """Wait for messages, deaths, or the time to ask for a held cell again."""
        workers = [worker for worker in self.places if worker]
        if self.held and not any(worker.given for worker in workers):
            index, cell = self.held[0][1][0]
            self.overview.tell(CellWaiting(cell, index, self.overview.total))
        signs = [sign for w in workers for sign in (w.connection, w.process.sentinel)]
        patience = min((due for due, _ in self.held), default=time.monotonic() + 60) - time.monotonic()
        ready = wait(signs, max(patience, 0))
        for number, worker in enumerate(self.places):
            if worker and (worker.connection in ready or worker.process.sentinel in ready):
                messages, alive = worker.messages()
                for message in messages:
                    self._hear(worker, message)
                if not alive:
                    self.places[number] = None
                    self._bury(worker)

    def _hear(self, worker: _Worker, message: Any) -> None:
        if isinstance(message, BaseException):
            raise message
        if isinstance(message, list):  # the end of its bundle; these were in other hands
            worker.given, worker.bundle = False, []
            if message:
                self.held.append((time.monotonic() + POLL_SECONDS, message))
            return
        if isinstance(message, CellFinished):
            worker.bundle = [job for job in worker.bundle if job[0] != message.index]
        self.overview.tell(message)

    def _bury(self, worker: _Worker) -> None:
        reason = worker.end()
        worker.connection.close()
        if not worker.bundle:
            return
        index, cell = worker.bundle[0]
        self.deaths.update(number for number, _ in worker.bundle)
        if self.deaths[index] > DEATHS_ALLOWED:
            raise WorkError(
                f"{self.deaths[index]} workers died while they trained {cell.cell_id}; of the last, "
                f"{reason}; finished cells are intact, and the same command goes on from there"
            )
        self.overview.drop(number for number, _ in worker.bundle)
        self.overview.tell(WorkerLost(cell, index, self.overview.total, worker.process.name, reason))
        self.waiting.appendleft(worker.bundle)

    def _dismiss(self) -> None:
        workers = [worker for worker in self.places if worker]
        for worker in workers:
            if not worker.given:
                with contextlib.suppress(OSError):
                    worker.connection.send(None)
            else:
                worker.process.terminate()
        until = time.monotonic() + LEAVE_SECONDS
        for worker in workers:
            worker.process.join(max(until - time.monotonic(), 0))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.connection.close()


def _work(connection: Connection, number: int, spec: StudySpec, arrays: Arrays | None) -> None:
    """The life of a worker process: cells come in, events and answers go out."""
    asked_to_leave: list[int] = []  # heeded at the next event: an exception might strike anywhere
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: asked_to_leave.append(number))
    with contextlib.suppress(Leave):
        try:
            _train_cells(connection, number, spec, arrays, asked_to_leave)
        except Exception as error:
            _send(connection, portable(error))


def _train_cells(
    connection: Connection,
    number: int,
    spec: StudySpec,
    arrays: Arrays | None,
    asked_to_leave: list[int],
) -> None:
    keep_freed_memory()
    torch.set_num_threads(1)
    throttle = Throttle()

    def on_event(event: Event) -> None:
        if asked_to_leave:
            raise Leave
        if throttle.passes(event):
            _send(connection, event)

    device = choose_device(spec.device, number)
    runner = CellRunner(spec, device, limited_to(spec, device, unpack(arrays)), on_event)
    while (bundle := _receive(connection)) is not None:
        _send(connection, runner.take_all(bundle))


def _receive(connection: Connection) -> Bundle | None:
    try:
        bundle: Bundle | None = connection.recv()
    except (EOFError, OSError):  # nobody is left to work for
        return None
    return bundle


def _send(connection: Connection, message: Any) -> None:
    try:
        connection.send(message)
    except OSError:
        raise Leave from None
