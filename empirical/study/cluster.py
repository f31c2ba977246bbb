"""Many cells at once, on this machine or many: the cells of a study as tasks of Dask distributed.

Each task is a cell, or several that a worker may train as one stack, those with the most work first.
A worker process does one task at a time and writes its records to the shared ``--out`` itself, by the
same code and under the same locks as everywhere (``workers``); only events and results travel over the
network.  When a worker dies, the scheduler gives its cells to another, which goes on from the last
finished epoch; if one worker after the other dies of the same cell, the study stops and says so.

A worker must run the same version of this program, see the same ``--out`` and have one thread, which is
one slot; each of these is looked at before any cell is given out, and again by every worker that joins
later.  That ``--out`` is the same folder is told by a mark that lies there while the study runs.

A task that is no longer wanted, because the study was interrupted or its process is gone, ends at its
next report.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import queue
import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from empirical.data.datasets import Dataset
from empirical.engines.groups import Job, is_stacked, together
from empirical.engines.memory import memory_of_the_machine
from empirical.protocol import StudySpec
from empirical.records import folders as records
from empirical.study import events
from empirical.study.costs import work
from empirical.study.grid import POLL_SECONDS, finished_cells, numbered_cells, run_study, table
from empirical.study.overview import Overview
from empirical.study.placement import Placement
from empirical.study.workers import SAFE, Bundle, Order, train_there, unfitness
from theory.devices import project_version, resolve_device
from theory.errors import RequestError, WorkError

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_SECONDS = 15.0
LOST_SECONDS = 30.0  # without a word from the scheduler
BACK_SECONDS = 120.0  # that a process of this machine may take to start again; dask gives up after 15
SHOW_SECONDS = 90.0  # that a shared disk may take to show another machine's files
DEATHS_ALLOWED = 3  # of workers per cell
WORKER_BYTES = 2_000_000_000  # what one takes on a CPU: CIFAR-10, torch, a batch of 64


def run_at(
    place: Placement,
    spec: StudySpec,
    on_event: events.OnEvent,
    *,
    dataset: Dataset | None = None,
) -> pd.DataFrame:
    """``study.run_study`` in processes of this machine, or on the workers of a Dask cluster.

    One process is this one, with all of torch's threads.  A ``dataset`` in memory travels to the
    workers.  Raises what ``run_study`` raises, and ``WorkError`` where workers die of the same cell
    again and again or the scheduler is lost; ``RequestError`` also where no scheduler answers or a
    worker is not fit.
    """
    where = place.dask or place.workers or suitable_count(resolve_device(spec.device))
    if where == 1:
        return run_study(spec, on_event, dataset=dataset)
    spec = _absolute(spec)
    records.prepare(spec.out)
    numbered = numbered_cells(spec)
    overview = Overview(numbered, on_event)
    waiting = begin(spec, numbered, overview)
    if not waiting:
        return collect(spec, numbered)
    with _client(where, len(waiting)) as client, records.marked(spec.out) as mark:
        order = Order(uuid.uuid4().hex, spec, project_version(), mark)
        at = "localhost" if isinstance(where, int) else where
        await_workers(client, at, overview)
        kinds = inspect_workers(client, order)
        bundles = bundled(waiting, len(kinds), "cuda" if "cuda" in kinds else "cpu")
        _Dispatch(client, at, order, overview).train(bundles, dataset)
    return collect(spec, numbered, SHOW_SECONDS)


def suitable_count(device: torch.device) -> int:
    """As many workers as there are GPUs; on a CPU, as torch would use threads and memory allows."""
    if device.type == "cuda":
        return max(torch.cuda.device_count(), 1)
    if device.type != "cpu":
        return 1
    threads, memory = torch.get_num_threads(), memory_of_the_machine()
    return max(min(threads, memory // WORKER_BYTES if memory else threads), 1)


def begin(spec: StudySpec, numbered: list[Job], overview: Overview) -> list[Job]:
    """Tell what is planned and what is finished; returns the other cells."""
    done = finished_cells(spec)
    overview.tell(events.StudyPlanned(overview.total, len(done), spec.out))
    for index, cell in numbered:
        if cell.cell_id in done:
            result = done[cell.cell_id].result
            overview.tell(events.CellFinished(cell, index, overview.total, result, True))
    return [job for job in numbered if job[1].cell_id not in done]


def bundled(jobs: list[Job], workers: int, kind: str) -> list[Bundle]:
    """``jobs`` in bundles, the most work first, so that all workers end at about the same time.

    Cells that are stacked on a device of this ``kind`` are bundled with their likes; every other cell
    is alone.
    """
    most = max(len(jobs) // workers, 1)
    bundles = together(jobs, lambda job: is_stacked(job[1], kind), lambda alike: most)
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


def await_workers(client: Client, place: str, overview: Overview) -> None:
    """Return once there is a worker; say so if there is none yet."""
    if not client.nthreads():
        overview.tell(events.WorkersAwaited(place))
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
    found = client.run(resolve_device, order.spec.device, on_error="return").values()
    return [device.type for device in found if isinstance(device, torch.device)] or ["cpu"]


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
        self.dataset: Future | None = None
        self.alone = False

    def train(self, bundles: list[Bundle], dataset: Dataset | None) -> None:
        """Have every cell of ``bundles`` finished, or raise the first error of a worker."""
        self.client.subscribe_topic(self.order.study, lambda event: self.inbox.put(("event", event[1])))
        if dataset is not None:
            cpu = torch.device("cpu")
            self.dataset = self.client.submit(Dataset.to, dataset.to(cpu), cpu, pure=False)
        try:
            for bundle in bundles:  # the scheduler prefers what was given to it first
                self._give(bundle)
            while self.open or self.held:
                self._listen()
        finally:
            with contextlib.suppress(Exception):  # the scheduler may be gone
                self.client.cancel(list(self.open))
                self.client.unsubscribe_topic(self.order.study)

    def _give(self, bundle: Bundle) -> None:
        self.given += 1
        key = (f"fanin-{self.order.study}", self.given)
        future = self.client.submit(train_there, self.order, bundle, self.dataset, key=key)
        self.open[future] = bundle
        future.add_done_callback(lambda done: self.inbox.put(("done", done)))

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

    def _tell(self, worker: str, event: events.Event) -> None:
        if isinstance(event, events.CellStarted) and event.index in self.overview.open:
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
                    self.overview.tell(events.CellWaiting(cell, index, self.overview.total))
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
        if not there and self.client.cluster is not None and not self.client.cluster.workers:
            raise WorkError(f"no worker process of this machine starts any more; {SAFE}")
        if not there and not self.alone:
            self.overview.tell(events.WorkersAwaited(self.place))
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
            self.overview.tell(
                events.WorkerLost(cell, index, self.overview.total, f"worker {worker}", reason)
            )


@contextlib.contextmanager
def _client(place: str | int, cells: int) -> Iterator[Client]:
    """A client of the scheduler at ``place``, or of one started here with at most ``cells`` workers."""
    import dask
    from distributed import Client, LocalCluster
    from distributed.utils import silence_logging_cmgr

    with contextlib.ExitStack() as stack:
        # the study's events tell of workers that come and go
        stack.enter_context(silence_logging_cmgr(logging.CRITICAL))
        where: dict[str, Any] = {"address": place}
        if isinstance(place, int):
            patience = {"distributed.deploy.lost-worker-timeout": BACK_SECONDS}
            stack.enter_context(dask.config.set(patience))
            with deaf_children():
                where["address"] = stack.enter_context(
                    LocalCluster(
                        n_workers=min(place, cells),
                        threads_per_worker=1,
                        env={"OMP_NUM_THREADS": "1"},
                        memory_limit=0,  # the system's own; a worker near a limit would be stopped
                        dashboard_address=None,
                        silence_logs=logging.CRITICAL,
                    )
                )
        elif Path(place).is_file():
            where = {"scheduler_file": place}
        try:
            client = Client(**where, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise RequestError(f"no Dask scheduler answers at --dask {place}") from error
        yield stack.enter_context(client)


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


def _absolute(spec: StudySpec) -> StudySpec:
    """``spec`` with paths that mean the same elsewhere, and the data folder that is named here."""
    named = spec.data.named(spec.data_dir)
    data_dir = None if named is None else named.absolute()
    return replace(spec, out=spec.out.absolute(), data_dir=data_dir)
