"""Many cells at once on many machines: the cells of a study as tasks of Dask distributed.

Each cell is one task.  A worker process trains one cell at a time and writes its records to the shared
``--out`` itself, by the same code and under the same locks as everywhere; only events and the final
result travel over the network.  When a worker dies, the scheduler gives its cell to another, which goes
on from the last finished epoch.

A worker must run the same version of this program, see the same ``--out`` and have one thread, which is
one slot; each of these is looked at before any cell is given out, and again by every worker that joins
later.  That ``--out`` is the same folder is told by a mark that lies there while the study runs.

A task that is no longer wanted, because the study was interrupted or its process is gone, ends at its
next report.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import queue
import re
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from empirical import records
from empirical.datasets import Dataset
from empirical.events import (
    CellFinished,
    CellStarted,
    CellWaiting,
    Event,
    OnEvent,
    WorkerLost,
    WorkersAwaited,
)
from empirical.locations import find_cifar10
from empirical.memory import keep_freed_memory
from empirical.overview import Overview
from empirical.placement import check_dask, local_workers
from empirical.protocol import StudySpec, TrainSpec
from empirical.study import POLL_SECONDS, CellRunner, numbered_cells
from empirical.workers import (
    Arrays,
    Job,
    Leave,
    Throttle,
    begin,
    choose_device,
    collect,
    deaf_children,
    pack,
    unpack,
)
from theory.devices import project_version, resolve_device
from theory.errors import RequestError, WorkError

if TYPE_CHECKING:
    from distributed import Client, Future, Worker

CONNECT_SECONDS = 15.0
LOST_SECONDS = 30.0  # without a word from the scheduler
SHOW_SECONDS = 90.0  # that a shared disk may take to show another machine's files
DEATHS_ALLOWED = 3  # of workers per cell
STUDIES_KEPT = 2  # data sets that a worker keeps in memory
SAFE = "finished cells are intact, and the same command goes on from there"


@dataclass(frozen=True)
class Order:
    """What a worker is told beside the cell: the study, and how to know the folder again."""

    study: str  # unique
    spec: StudySpec
    version: str
    mark: str  # of a file that lies in spec.out


def run_on_dask(
    spec: StudySpec,
    place: str,
    on_event: OnEvent,
    *,
    dataset: Dataset | None = None,
    cells: Sequence[TrainSpec] | None = None,
) -> pd.DataFrame:
    """``study.run_study`` on the workers of a Dask cluster.

    ``place`` is the scheduler's address, the path of its scheduler file, or ``local:N`` for N workers
    on this machine, started for the occasion.  A ``dataset`` in memory travels to the workers.  Raises
    what ``run_study`` raises; ``RequestError`` also where no scheduler answers or a worker is not fit,
    and ``WorkError`` where the scheduler is lost or a cell's workers die again and again.
    """
    check_dask(place)
    spec = _absolute(spec)
    records.prepare(spec.out)
    numbered = numbered_cells(spec, cells)
    overview = Overview(spec, numbered, on_event)
    waiting = begin(spec, numbered, overview)
    if not waiting:
        return collect(spec, numbered)
    with _client(place, len(waiting)) as client, records.marked(spec.out) as mark:
        order = Order(uuid.uuid4().hex, spec, project_version(), mark)
        await_workers(client, place, overview)
        inspect_workers(client, order)
        _Dispatch(client, place, order, overview).train(waiting, pack(dataset))
    return collect(spec, numbered, SHOW_SECONDS)


def await_workers(client: Client, place: str, overview: Overview) -> None:
    """Return once there is a worker; say so if there is none yet."""
    if not client.nthreads():
        overview.tell(WorkersAwaited(place))
    while not client.nthreads():
        time.sleep(POLL_SECONDS / 4)


def inspect_workers(client: Client, order: Order) -> None:
    """A ``RequestError`` that names the first worker that is not fit, and why."""
    versions = client.run(project_version, on_error="return")
    for address, found in versions.items():
        if found != order.version and not isinstance(found, OSError):  # that one has just left
            problem = "cannot import" if isinstance(found, Exception) else f"has version {found} of"
            raise RequestError(
                f"worker {address} {problem} fanin: start the workers from an environment with the "
                f"version that is here, {order.version}"
            )
    for address, reason in client.run(unfitness, order, on_error="return").items():
        if reason is not None and not isinstance(reason, OSError):
            raise RequestError(f"worker {address} {reason}")


def unfitness(order: Order, dask_worker: Worker | None = None) -> str | None:
    """What keeps this worker from training, in words that follow its name; None if nothing does."""
    spec = order.spec
    if dask_worker is not None and dask_worker.state.nthreads != 1:
        return (
            f"has {dask_worker.state.nthreads} threads, and would train as many cells in one process: "
            "start it with --nthreads 1, and more workers (in dask-jobqueue, cores equal to processes)"
        )
    if not records.is_marked(spec.out, order.mark):
        return f"does not see --out {spec.out}: name a folder that all machines share"
    try:
        records.prepare(spec.out)
        resolve_device(spec.device)
        find_cifar10(spec.data_dir)
    except RequestError as error:
        return f"says: {error}"
    return None


class _Dispatch:
    """Gives the cells to the scheduler, listens, and gives again what was lost or held."""

    def __init__(self, client: Client, place: str, order: Order, overview: Overview) -> None:
        self.client, self.place, self.order, self.overview = client, place, order, overview
        self.inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.open: dict[Future, Job] = {}
        self.held: list[tuple[float, Job]] = []  # in another process's hands, to be asked for again
        self.where: dict[int, str] = {}  # number of a running cell -> its worker
        self.deaths: Counter[int] = Counter()
        self.given = 0
        self.heard = self.looked = time.monotonic()
        self.arrays: Future | None = None
        self.alone = False

    def train(self, jobs: list[Job], arrays: Arrays | None) -> None:
        """Have every cell of ``jobs`` finished, or raise the first error of a worker."""
        self.client.subscribe_topic(self.order.study, lambda event: self._put("event", event[1]))
        if arrays is not None:
            self.arrays = self.client.submit(tuple, arrays, pure=False)
        try:
            for job in jobs:  # the scheduler prefers what was given to it first
                self._give(job)
            while self.open or self.held:
                self._listen()
        finally:
            with contextlib.suppress(Exception):  # the scheduler may be gone
                self.client.cancel(list(self.open))
                self.client.unsubscribe_topic(self.order.study)

    def _put(self, kind: str, value: Any) -> None:
        self.inbox.put((kind, value))

    def _give(self, job: Job) -> None:
        self.given += 1
        future = self.client.submit(
            train_there, self.order, *job, self.arrays, key=(f"fanin-{self.order.study}", self.given)
        )
        self.open[future] = job
        future.add_done_callback(lambda done: self._put("done", done))

    def _listen(self) -> None:
        """Hear one message, or after a while look at who is there."""
        now = time.monotonic()
        for due, job in [item for item in self.held if item[0] <= now]:
            self.held.remove((due, job))
            self._give(job)
        try:
            kind, value = self.inbox.get(timeout=POLL_SECONDS)
        except queue.Empty:
            pass
        else:
            if kind == "done":
                self._done(value)
            else:
                self._tell(value["worker"], pickle.loads(value["event"]))
        if time.monotonic() - self.looked >= POLL_SECONDS:
            self._look()
            self.looked = time.monotonic()

    def _tell(self, worker: str, event: Event) -> None:
        if isinstance(event, CellStarted) and event.index in self.overview.open:
            if event.index in self.where:  # the scheduler knew it before we did
                self._lose(event.index, self.where[event.index])
            self.where[event.index] = worker
        self.overview.tell(event)

    def _done(self, future: Future) -> None:
        job = self.open.pop(future)
        index, cell = job
        if future.status == "finished":
            finished = future.result(timeout=LOST_SECONDS)
            self.where.pop(index, None)
            if finished is not None:
                self.overview.tell(finished)
                return
            self.held.append((time.monotonic() + POLL_SECONDS, job))
            if len(self.held) > len(self.open):
                self.overview.tell(CellWaiting(cell, index, self.overview.total))
        elif future.status == "error":
            self._failed(job, future.exception(timeout=LOST_SECONDS))
        else:
            raise WorkError(f"the Dask scheduler at {self.place} is gone; {SAFE}")

    def _failed(self, job: Job, error: BaseException) -> None:
        from distributed.scheduler import KilledWorker

        if not isinstance(error, KilledWorker):
            raise error
        self._lose(job[0], self.where.get(job[0], "of the cluster"))
        self._give(job)  # the scheduler has given it up, we have not yet

    def _look(self) -> None:
        """Tell of workers that are gone, and notice when the scheduler is."""
        try:
            there = self.client.sync(self.client.scheduler.ncores, callback_timeout=CONNECT_SECONDS)
        except (OSError, TimeoutError):
            if time.monotonic() - self.heard > LOST_SECONDS:
                raise WorkError(f"the Dask scheduler at {self.place} does not answer; {SAFE}") from None
            return
        self.heard = time.monotonic()
        for index, worker in list(self.where.items()):
            if worker not in there:
                self._lose(index, worker)
        if not there and not self.alone:
            self.overview.tell(WorkersAwaited(self.place))
        self.alone = not there

    def _lose(self, index: int, worker: str) -> None:
        """Tell that ``worker`` died of this cell, or stop the study if too many have."""
        self.where.pop(index, None)
        self.deaths[index] += 1
        cell = self.overview.open[index]
        if self.deaths[index] > DEATHS_ALLOWED:
            raise WorkError(
                f"{self.deaths[index]} workers died while they trained {cell.cell_id}, perhaps for "
                f"memory; {SAFE}"
            )
        self.overview.tell(
            WorkerLost(cell, index, self.overview.total, f"worker {worker}", "it left the cluster")
        )


_runners: dict[str, CellRunner] = {}  # of this worker process, by study


def train_there(
    order: Order, index: int, cell: TrainSpec, arrays: Arrays | None
) -> CellFinished | None:
    """A task: train ``cell`` in this worker; None if another process holds it or nobody wants it."""
    from distributed import get_worker

    worker = get_worker()
    key, throttle = worker.get_current_task(), Throttle()
    finished: list[CellFinished] = []

    def on_event(event: Event) -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            raise Leave
        if isinstance(event, CellFinished):
            finished.append(event)
        elif throttle.passes(event):
            worker.log_event(order.study, {"event": pickle.dumps(event)})

    runner = _runner(order, arrays, worker)
    runner.on_event = on_event
    with contextlib.suppress(Leave):
        runner.take(index, cell)
    return finished[0] if finished else None


def _runner(order: Order, arrays: Arrays | None, worker: Worker) -> CellRunner:
    """This process's runner for the study, made when its first cell comes."""
    number = re.search(r"\d+$", str(worker.name))  # of an address, a port: it tells nothing
    known = number is not None and "://" not in str(worker.name)
    device = choose_device(order.spec.device, int(number[0]) if number and known else 0)
    if order.study not in _runners:
        reason = unfitness(order, worker)
        if reason is not None:
            raise WorkError(f"worker {worker.address} {reason}; {SAFE}")
        if "OMP_NUM_THREADS" not in os.environ:  # Dask's nanny sets it to 1, if nobody else does
            torch.set_num_threads(1)
        keep_freed_memory()
        while len(_runners) >= STUDIES_KEPT:
            del _runners[next(iter(_runners))]
        _runners[order.study] = CellRunner(order.spec, device, unpack(arrays), lambda event: None)
    return _runners[order.study]


@contextlib.contextmanager
def _client(place: str, cells: int) -> Iterator[Client]:
    """A client of the scheduler at ``place``; ``local:N`` starts one, at most ``cells`` workers."""
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        address: Any = place.rstrip("/")
        if (count := local_workers(place)) is not None:
            with deaf_children():
                address = stack.enter_context(
                    LocalCluster(
                        n_workers=min(count, cells),
                        threads_per_worker=1,
                        memory_limit=0,  # the system's own; a worker near a limit would be stopped
                        dashboard_address=None,
                        silence_logs=logging.CRITICAL,
                    )
                )
        where = {"scheduler_file": place} if Path(place).is_file() else {"address": address}
        try:
            client = Client(**where, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise RequestError(f"no Dask scheduler answers at --dask {place}") from error
        yield stack.enter_context(client)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Dask's own messages about workers that come and go: the study's events tell of them."""
    known = logging.root.manager.loggerDict
    names = ["distributed", *(name for name in known if name.startswith("distributed."))]
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _absolute(spec: StudySpec) -> StudySpec:
    """``spec`` with paths that mean the same elsewhere, and $CIFAR10_DIR of here as its data folder."""
    named = spec.data_dir or os.environ.get("CIFAR10_DIR")
    data_dir = None if named is None else Path(named).absolute()
    return replace(spec, out=spec.out.absolute(), data_dir=data_dir)
