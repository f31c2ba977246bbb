"""A worker process of a cluster: what it is given, what makes it fit, and what it does.

Every worker trains one cell after the other under the same locks and with the same records as
``grid.run_study``.  So it may be killed at any time: the cell it had goes on in another from its last
finished epoch.  What it is given is a bundle of cells: one, or several that it may train as one stack
(``engines.groups``).

On a CPU each worker computes with one thread.  Small networks gain little from a second thread, and
one cell per core needs no two cores to wait for each other; and the records do not depend on how many
cores the machine has.  On a host with several GPUs, worker k computes on GPU k modulo their number.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from empirical.data.datasets import Dataset
from empirical.engines.groups import Job
from empirical.engines.memory import keep_freed_memory
from empirical.protocol import StudySpec
from empirical.records import folders as records
from empirical.study.events import CellFinished, Event, StepDone
from empirical.study.grid import CellRunner, limited_to
from theory.devices import resolve_device
from theory.errors import RequestError, WorkError

if TYPE_CHECKING:
    from distributed import Worker

Bundle = list[Job]

STEP_SECONDS = 0.5  # between two reports of a worker's steps
STUDIES_KEPT = 2  # data sets that a worker keeps in memory
SAFE = "finished cells are intact, and the same command goes on from there"


class Leave(BaseException):
    """Raised in a worker that is to stop at once; not an ``Exception``, so that nothing holds it up."""


@dataclass(frozen=True)
class Order:
    """What a worker is told beside the cell: the study, and how to know the folder again."""

    study: str  # unique
    spec: StudySpec
    version: str
    mark: str  # of a file that lies in spec.out


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


_runners: dict[str, CellRunner] = {}  # of this worker process, by study


def train_there(order: Order, bundle: Bundle, dataset: Dataset | None) -> list[CellFinished]:
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

    runner = _runner(order, dataset, worker)
    runner.on_event = on_event
    with contextlib.suppress(Leave):
        runner.take_all(bundle)
    return finished


def _runner(order: Order, dataset: Dataset | None, worker: Worker) -> CellRunner:
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
        dataset = limited_to(order.spec, device, dataset)
        _runners[order.study] = CellRunner(order.spec, device, dataset, lambda event: None)
    return _runners[order.study]


def choose_device(name: str, number: int) -> torch.device:
    """The device of worker ``number``: with several GPUs, each in turn becomes torch's current one."""
    device = resolve_device(name)
    if device.type == "cuda":
        torch.cuda.set_device(number % torch.cuda.device_count())
    return device


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
