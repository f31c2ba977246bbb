"""Many cells at once on many machines: the cells of a study as tasks of Dask distributed.

Each task is a cell, or several that a worker may train as one stack.  A worker process does one task at
a time and writes its records to the shared ``--out`` itself, by the same code and under the same locks
as everywhere; only events and results travel over the network.  When a worker dies, the scheduler gives
its cells to another, which goes on from the last finished epoch.

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
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from empirical.data.datasets import Dataset
from empirical.engines.memory import keep_freed_memory
from empirical.protocol import StudySpec
from empirical.records import folders as records
from empirical.study.events import (
    CellFinished,
    CellStarted,
    CellWaiting,
    Event,
    OnEvent,
    WorkerLost,
    WorkersAwaited,
)
from empirical.study.grid import POLL_SECONDS, CellRunner, limited_to, numbered_cells
from empirical.study.overview import Overview
from empirical.study.placement import Placement, check_dask, local_workers
from empirical.study.workers import (
    Arrays,
    Bundle,
    Leave,
    Throttle,
    begin,
    bundled,
    choose_device,
    collect,
    deaf_children,
    pack,
    run_on_workers,
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


def run_at(place: Placement, spec: StudySpec, on_event: OnEvent) -> pd.DataFrame:
    """``study.run_study`` at ``place``; its errors are the same."""
    if place.dask is not None:
        return run_on_dask(spec, place.dask, on_event)
    return run_on_workers(spec, place.workers, on_event)


def run_on_dask(
    spec: StudySpec,
    place: str,
    on_event: OnEvent,
    *,
    dataset: Dataset | None = None,
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
    numbered = numbered_cells(spec)
    overview = Overview(spec, numbered, on_event)
    waiting = begin(spec, numbered, overview)
    if not waiting:
        return collect(spec, numbered)
    with _client(place, len(waiting)) as client, records.marked(spec.out) as mark:
        order = Order(uuid.uuid4().hex, spec, project_version(), mark)
        await_workers(client, place, overview)
        kinds = inspect_workers(client, order)
        bundles = bundled(waiting, len(kinds), "cuda" if "cuda" in kinds else "cpu")
        _Dispatch(client, place, order, overview).train(bundles, pack(dataset))
    return collect(spec, numbered, SHOW_SECONDS)


def await_workers(client: Client, place: str, overview: Overview) -> None:
    """Return once there is a worker; say so if there is none yet."""
    if not client.nthreads():
        overview.tell(WorkersAwaited(place))
    while not client.nthreads():
        time.sleep(POLL_SECONDS / 4)


def inspect_workers(client: Client, order: Order) -> list[str]:
    """Each worker's kind of device; a ``RequestError`` names the first that is not fit, and why."""
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
    kinds = client.run(device_kind, order.spec.device, on_error="return")
    return [kind for kind in kinds.values() if isinstance(kind, str)] or ["cpu"]


def device_kind(name: str) -> str:
    """``cpu``, ``cuda`` or ``mps``: what ``name`` means in this process."""
    return resolve_device(name).type


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
        spec.data.find(spec.data_dir)
    except RequestError as error:
        return f"says: {error}"
    return None


class _Dispatch:
    """Gives the cells to the scheduler, listens, and gives again what was lost or held."""

    def __init__(self, client: Client, place: str, order: Order, overview: Overview) -> None:
        self.client, self.place, self.order, self.overview = client, place, order, overview
        self.inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.open: dict[Future, Bundle] = {}
        self.held: list[tuple[float, Bundle]] = []  # in another process's hands, to be asked for again
        self.where: dict[int, str] = {}  # number of a running cell -> its worker
        self.deaths: Counter[int] = Counter()
        self.given = 0
        self.heard = self.looked = time.monotonic()
        self.arrays: Future | None = None
        self.alone = False

    def train(self, bundles: list[Bundle], arrays: Arrays | None) -> None:
        """Have every cell of ``bundles`` finished, or raise the first error of a worker."""
        self.client.subscribe_topic(self.order.study, lambda event: self._put("event", event[1]))
        if arrays is not None:
            self.arrays = self.client.submit(tuple, arrays, pure=False)
        try:
            for bundle in bundles:  # the scheduler prefers what was given to it first
                self._give(bundle)
            while self.open or self.held:
                self._listen()
        finally:
            with contextlib.suppress(Exception):  # the scheduler may be gone
                self.client.cancel(list(self.open))
                self.client.unsubscribe_topic(self.order.study)

    def _put(self, kind: str, value: Any) -> None:
        self.inbox.put((kind, value))

    def _give(self, bundle: Bundle) -> None:
        self.given += 1
        key = (f"fanin-{self.order.study}", self.given)
        future = self.client.submit(train_there, self.order, bundle, self.arrays, key=key)
        self.open[future] = bundle
        future.add_done_callback(lambda done: self._put("done", done))

    def _listen(self) -> None:
        """Hear one message, or after a while look at who is there."""
        now = time.monotonic()
        for bundle in [bundle for due, bundle in self.held if due <= now]:
            self._give(bundle)
        self.held = [(due, bundle) for due, bundle in self.held if due > now]
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
            before = self.where.get(event.index, worker)
            if before != worker:  # the scheduler knew that it had died before we did
                self._lose(before)
            self.where[event.index] = worker
        self.overview.tell(event)

    def _done(self, future: Future) -> None:
        bundle = self.open.pop(future)
        if future.status == "finished":
            for event in future.result(timeout=LOST_SECONDS):
                self.overview.tell(event)
            for index, _ in bundle:
                self.where.pop(index, None)
            self.overview.drop(index for index, _ in bundle)
            if left := self._unfinished(bundle):
                self.held.append((time.monotonic() + POLL_SECONDS, left))
                if not self.open:
                    index, cell = left[0]
                    self.overview.tell(CellWaiting(cell, index, self.overview.total))
        elif future.status == "error":
            self._failed(bundle, future.exception(timeout=LOST_SECONDS))
        else:
            raise WorkError(f"the Dask scheduler at {self.place} is gone; {SAFE}")

    def _failed(self, bundle: Bundle, error: BaseException) -> None:
        from distributed.scheduler import KilledWorker

        if not isinstance(error, KilledWorker):
            raise error
        left = self._unfinished(bundle)
        for index, _ in left:  # it may have died before it could say that it had begun
            self.where.setdefault(index, "unknown")
        for worker in {self.where[index] for index, _ in left}:
            self._lose(worker)
        if left:
            self._give(left)  # the scheduler has given it up, we have not yet

    def _unfinished(self, bundle: Bundle) -> Bundle:
        return [job for job in bundle if job[0] in self.overview.open]

    def _look(self) -> None:
        """Tell of workers that are gone, and notice when the scheduler is."""
        try:
            there = self.client.sync(self.client.scheduler.ncores, callback_timeout=CONNECT_SECONDS)
        except (OSError, TimeoutError):
            if time.monotonic() - self.heard > LOST_SECONDS:
                raise WorkError(f"the Dask scheduler at {self.place} does not answer; {SAFE}") from None
            return
        self.heard = time.monotonic()
        for worker in set(self.where.values()) - set(there):
            self._lose(worker)
        if not there and not self.alone:
            self.overview.tell(WorkersAwaited(self.place))
        self.alone = not there

    def _lose(self, worker: str) -> None:
        """Tell that ``worker`` died of its cells, or stop the study if one has had too many die."""
        died = [index for index, place in self.where.items() if place == worker]
        for index in died:
            del self.where[index]
        died = [index for index in died if index in self.overview.open]
        self.deaths.update(died)
        self.overview.drop(died)
        for index in died[:1]:  # of a stack one is enough to tell
            cell, count = self.overview.open[index], self.deaths[index]
            if count > DEATHS_ALLOWED:
                raise WorkError(
                    f"{count} workers died while they trained {cell.cell_id}, perhaps for memory; "
                    f"{SAFE}"
                )
            reason = "it left the cluster"
            self.overview.tell(WorkerLost(cell, index, self.overview.total, f"worker {worker}", reason))


_runners: dict[str, CellRunner] = {}  # of this worker process, by study


def train_there(order: Order, bundle: Bundle, arrays: Arrays | None) -> list[CellFinished]:
    """A task: train ``bundle`` in this worker, less what others hold, as long as someone wants it."""
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
        if throttle.passes(event):
            worker.log_event(order.study, {"event": pickle.dumps(event)})

    runner = _runner(order, arrays, worker)
    runner.on_event = on_event
    with contextlib.suppress(Leave):
        runner.take_all(bundle)
    return finished


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
        dataset = limited_to(order.spec, device, unpack(arrays))
        _runners[order.study] = CellRunner(order.spec, device, dataset, lambda event: None)
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
    """``spec`` with paths that mean the same elsewhere, and the data folder that is named here."""
    named = spec.data.named(spec.data_dir)
    data_dir = None if named is None else named.absolute()
    return replace(spec, out=spec.out.absolute(), data_dir=data_dir)
