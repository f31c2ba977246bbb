"""Worker processes and a Dask cluster: real processes, some of them killed."""

import contextlib
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar

import pandas as pd
import pytest
import torch
from cifar_format import tiny_dataset
from torch.utils.flop_counter import FlopCounterMode

import cli
from empirical.protocol import StudySpec, TrainSpec
from empirical.study import cluster as ours
from empirical.study import grid as study
from empirical.study import workers
from empirical.study.cluster import bundled, run_at
from empirical.study.costs import training_flops, work
from empirical.study.events import (
    CellFinished,
    CellStarted,
    CellWaiting,
    EpochDone,
    StepDone,
    WorkerLost,
    WorkersAwaited,
)
from empirical.study.grid import run_study
from empirical.study.overview import Overview
from empirical.study.placement import Placement
from empirical.training.families import build_network
from figures.study import progress
from theory.errors import RequestError, WorkError

pytestmark = pytest.mark.usefixtures("one_thread")

TESTS = Path(__file__).parent.parent.parent
IMAGES = 320
TWO = Placement(workers=2)
TINY = ["cifar", "--init", "he", "--activation", "relu", "--depths", "2", "3", "--filters", "4"]
TINY += ["--batch-size", "64", "--engine", "eager", "--device", "cpu"]


def tiny_study(out, **changes):
    small = {"activations": ("relu",), "depths": (2, 3), "filters": 4, "epochs": 3, "batch_size": 64}
    return StudySpec(**(small | {"device": "cpu", "engine": "eager", "out": out} | changes))


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The records of an uninterrupted run in one process of ``tiny_study`` with two seeds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    spec = tiny_study(tmp_path_factory.mktemp("whole"), seeds=(0, 1))
    run_study(spec, dataset=tiny_dataset(IMAGES))
    torch.set_num_threads(threads)
    return without_times(spec.out)


def without_times(out):
    """Every file of the records as it is, but for wall times and what depends on them."""
    found = {}
    for folder in sorted((out / "cells").iterdir()):
        assert sorted(path.name for path in folder.iterdir()) == [
            *("config.json", "epochs.csv", "layers.csv", "result.json")
        ]
        result = json.loads((folder / "result.json").read_text())
        for name in ("seconds", "sha256", "environment"):
            del result[name]
        for name in ("provenance", "clock", "notes"):  # when and by what it was saved
            result.pop(name, None)
        epochs = pd.read_csv(folder / "epochs.csv", dtype=str).drop(columns="seconds")
        found[folder.name] = (result, epochs.to_csv(), (folder / "layers.csv").read_bytes())
        found[folder.name] += ((folder / "config.json").read_bytes(),)
    return found


# Costs and places


@pytest.mark.parametrize("depth, norm", [(1, "batch"), (2, "none"), (5, "batch"), (12, "none")])
def test_the_formula_counts_the_flops_of_the_real_network(depth, norm):
    spec = TrainSpec(depth=depth, norm=norm, filters=6)
    network = build_network(spec, torch.device("cpu"))
    counter = FlopCounterMode(display=False)
    with counter:
        network(torch.zeros(2, 3, 32, 32)).square().sum().backward()
    assert counter.get_total_flops() == 2 * training_flops(spec)


def test_a_share_of_a_grid_is_refused_and_it_is_said_what_to_do(capsys, tmp_path):
    assert cli.main(["cifar", "--shard", "1/4", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        "error: --shard is gone: give every job of the array the same command and --out; each takes "
        "cells that no other holds\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "argv, said",
    [
        (["--workers", "0"], "--workers must be a whole number from 1"),
        (["--workers", "many"], "a whole number or auto, not 'many'"),
        (["--dask", "local:two"], "on this machine, --workers N"),
        (["--dask", "no/such/file"], "address of a scheduler such as tcp://HOST:8786"),
        (["--dask", "tcp://host"], "address of a scheduler such as tcp://HOST:8786"),
        (["--dask", "host:1", "--workers", "2"], "contradict"),
    ],
)
def test_an_impossible_place_is_refused(argv, said, capsys, tmp_path):
    assert cli.main(["cifar", *argv, "--out", str(tmp_path)]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ") and shown.count("\n") == 1 and said in shown


def test_a_place_is_parsed():
    assert Placement.parse() == Placement(1, None)
    assert Placement.parse("auto") == Placement(None, None)
    assert Placement.parse(workers="1").is_here
    assert not Placement(dask="tcp://host:1").is_here
    assert Placement.parse(dask="[::1]:8786/").dask == "[::1]:8786"


def test_help_and_wrong_requests_import_neither_torch_nor_dask():
    code = (
        "import sys, cli\n"
        "try: cli.main(['cifar', '--help'])\n"
        "except SystemExit: pass\n"
        "assert cli.main(['cifar', '--shard', '1/4']) == 2\n"
        "assert cli.main(['cifar', '--workers', '0']) == 2\n"
        "assert not {'torch', 'numpy', 'pandas', 'dask', 'distributed'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-c", code]
    subprocess.run(command, check=True, cwd=TESTS.parent, stdout=subprocess.DEVNULL)


# One display for many cells


def test_the_bar_follows_one_cell_and_tells_the_speed_of_all(tmp_path):
    spec = tiny_study(tmp_path, depths=(2,), seeds=(0, 1, 2, 3), epochs=10)
    numbered = study.numbered_cells(spec)
    told = []
    overview = Overview(numbered, told.append)
    cells = dict(numbered)

    def step(index, images, speed):
        overview.tell(StepDone(cells[index], index, 4, 1, images, 1000, 1.0, speed, None))

    overview.tell(CellStarted(cells[2], 2, 4, 0))
    overview.tell(CellStarted(cells[1], 1, 4, 0))
    step(2, 500, 100.0)
    assert len(told) == 2  # not the first of the running cells
    step(1, 500, 300.0)
    assert told[-1].images_per_second == 400.0
    # 4 cells of 10,000 images, less 1,000; or the slower of the two alone, 9,500 at 100 per second
    assert told[-1].seconds_left == pytest.approx(max(39_000 / 400, 9_500 / 100))
    overview.tell(CellFinished(cells[1], 1, 4, {"status": "completed"}, False))
    step(1, 700, 300.0)  # news that come late
    assert isinstance(told[-1], CellFinished)
    step(2, 600, 100.0)
    assert told[-1].seconds_left == pytest.approx((30_000 - 600) / 100)
    overview.tell(EpochDone(cells[2], 2, 4, {"epoch": 1, "train_loss": 1, "test_accuracy": 50}, 100.0))
    assert progress.announcement(told[-1]).startswith("  cell 2/4 epoch  1/10  loss 1.0000")
    for _ in range(2):
        overview.tell(CellWaiting(cells[3], 3, 4))
    assert sum(isinstance(event, CellWaiting) for event in told) == 1


def test_no_number_of_workers_makes_the_last_cell_shorter(tmp_path):
    spec = tiny_study(tmp_path, depths=(2,), seeds=(0, 1), epochs=10)
    numbered = study.numbered_cells(spec)
    told = []
    overview = Overview(numbered, told.append)
    for index, cell in numbered:
        overview.tell(CellStarted(cell, index, 2, 0))
    (_, first), (_, second) = numbered
    overview.tell(StepDone(first, 1, 2, 1, 500, 1000, 1.0, 300.0, None))
    # the other has not reported yet, and is taken to be as fast
    assert told[-1].seconds_left == pytest.approx(max(19_500 / 600, 9_500 / 300))
    overview.tell(StepDone(second, 2, 2, 1, 500, 1000, 1.0, 100.0, None))
    overview.tell(StepDone(first, 1, 2, 1, 500, 1000, 1.0, 300.0, None))
    assert 19_000 / 400 < told[-1].seconds_left == pytest.approx(9_500 / 100)


def test_the_loss_of_a_worker_is_a_warning():
    event = WorkerLost(TrainSpec(), 1, 2, "worker 1", "it was killed by SIGKILL")
    words = "warning: worker 1 is gone (it was killed by SIGKILL): another goes on with he · relu"
    assert progress.warning(event).startswith(words)
    assert progress.announcement(WorkersAwaited("tcp://a:1")) == "waiting for workers at tcp://a:1"


# Worker processes of this machine


def worker_processes():
    return [p for p in multiprocessing.active_children() if p.name.startswith("Dask Worker")]


def test_a_killed_worker_loses_nothing(tmp_path, whole):
    spec = tiny_study(tmp_path, seeds=(0, 1))
    events = []

    def on_event(event):
        events.append(event)
        if sum(isinstance(e, EpochDone) for e in events) == 1 and isinstance(event, EpochDone):
            worker_processes()[0].kill()

    table = run_at(TWO, spec, on_event, dataset=tiny_dataset(IMAGES))
    assert without_times(tmp_path) == whole
    lost = [event for event in events if isinstance(event, WorkerLost)]
    assert len(lost) == 1 and lost[0].worker.startswith("worker tcp://127.0.0.1:")
    finished = [event.spec.cell_id for event in events if isinstance(event, CellFinished)]
    assert sorted(finished) == sorted(cell.cell_id for cell in spec.cells())
    assert not worker_processes()
    pd.testing.assert_frame_equal(table, run_study(spec), check_exact=True)
    again = []
    run_at(TWO, spec, again.append)
    assert all(event.skipped for event in again if isinstance(event, CellFinished))


def test_a_cell_whose_workers_die_stops_the_study(tmp_path, monkeypatch):
    monkeypatch.setattr(ours, "DEATHS_ALLOWED", 1)

    def on_event(event):
        if isinstance(event, CellStarted):
            for process in worker_processes():
                process.kill()

    spec = tiny_study(tmp_path, depths=(2,))
    with pytest.raises(WorkError, match="2 workers died while they trained he-relu"):
        run_at(TWO, spec, on_event, dataset=tiny_dataset(IMAGES))
    assert not worker_processes()


def test_workers_that_start_no_more_end_the_study(tmp_path, monkeypatch):
    monkeypatch.setattr(ours, "BACK_SECONDS", 1.0)
    told = []
    ended = threading.Event()

    def kill_all():
        while not ended.wait(0.05):
            for process in worker_processes():
                process.kill()

    def on_event(event):
        if isinstance(event, CellStarted) and not any(isinstance(e, CellStarted) for e in told):
            threading.Thread(target=kill_all, daemon=True).start()
        told.append(event)

    spec = tiny_study(tmp_path, depths=(2,))
    try:
        with pytest.raises(WorkError, match="no worker process of this machine starts any more; "):
            run_at(TWO, spec, on_event, dataset=tiny_dataset(IMAGES))
    finally:
        ended.set()
    assert WorkersAwaited("localhost") in told


def test_a_wrong_request_that_a_worker_finds_is_raised_here(tmp_path):
    spec = tiny_study(tmp_path, depths=(12,))
    with pytest.raises(RequestError, match="leave a batch of one"):
        run_at(TWO, spec, lambda event: None, dataset=tiny_dataset(65))


def test_a_bundle_is_one_cell_or_what_may_be_one_stack():
    def sizes(workers, kind="cpu", **changes):
        spec = StudySpec(**({"depths": (2, 12), "seeds": tuple(range(6))} | changes))
        jobs = study.numbered_cells(spec)
        bundles = bundled(jobs, workers, kind)
        assert sorted(job[0] for bundle in bundles for job in bundle) == [job[0] for job in jobs]
        assert len({(cell.activation, cell.depth) for _, cell in bundles[0]}) == 1
        loads = [sum(work(cell) for _, cell in bundle) for bundle in bundles]
        assert loads == sorted(loads, reverse=True)
        return [len(bundle) for bundle in bundles]

    assert sizes(2) == [1] * 24  # two activations, two depths, six seeds
    assert sizes(2, "cuda") == [6] * 4
    assert sizes(2, engine="stacked") == [6] * 4
    assert sizes(2, "cuda", engine="eager") == [1] * 24
    assert sizes(6, "cuda") == [3] * 8  # no longer than the sixth part of all
    assert sizes(100, "cuda") == [1] * 24


def test_workers_stack_what_they_are_given(tmp_path):
    spec = tiny_study(tmp_path, depths=(2,), seeds=(0, 1, 2), engine="stacked", epochs=1)
    events = []
    run_at(TWO, spec, events.append, dataset=tiny_dataset(64))
    assert sorted(event.index for event in events if isinstance(event, CellFinished)) == [1, 2, 3]
    assert {result["engine"] for result in study.results(spec)} == {"stacked"}


def test_worker_k_computes_on_gpu_k(monkeypatch):
    chosen = []
    monkeypatch.setattr(workers, "resolve_device", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert [workers.choose_device("cuda", number).type for number in range(5)] == ["cuda"] * 5
    assert chosen == [0, 1, 2, 0, 1]
    assert workers.choose_device("cpu", 4).type == "cpu" and len(chosen) == 5
    assert ours.suitable_count(torch.device("cuda")) == 3


def test_auto_means_as_many_as_torch_has_threads_and_memory_allows(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 4_000_000, "SC_PAGE_SIZE": 4096}.get)
    assert ours.suitable_count(cpu) == 6
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 2_000_000, "SC_PAGE_SIZE": 4096}.get)
    assert ours.suitable_count(cpu) == 4  # of 2 GB each in 8.2 GB
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 100_000, "SC_PAGE_SIZE": 4096}.get)
    assert ours.suitable_count(cpu) == 1


# The command line with real processes


@pytest.fixture
def start():
    """Start the command in a session of its own, so that its whole process group can be signalled."""
    started = []

    def begin(out, *more, file_size=None):
        def limit():
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background ignores it
            if file_size is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))

        environment = os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(out / "cache")}
        environment.pop("CIFAR10_DIR", None)
        if file_size is not None:
            environment["PYTHONDONTWRITEBYTECODE"] = (
                "1"  # or the limit cuts the environment's own files
            )
        command = [sys.executable, str(TESTS / "tiny_cli.py"), *TINY, "--seeds", "2", "--epochs", "3"]
        process = subprocess.Popen(
            [*command, "--out", str(out), "--json", *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
            preexec_fn=limit,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def is_gone(group, seconds=120):
    """Whether no process of the group is left soon."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, 0)
            time.sleep(0.05)
            continue
        return True
    return False


def until_an_epoch(process):
    lines = []
    for line in process.stderr:
        lines.append(line)
        if " epoch " in line:
            return lines
    raise AssertionError("".join(lines))


def test_an_interrupt_is_quiet_and_the_same_command_goes_on(tmp_path, whole, start):
    process = start(tmp_path, "--workers", "2")
    until_an_epoch(process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes
    output, said = process.communicate(timeout=300)
    assert process.returncode == 130 and not output
    assert "Traceback" not in said and said.splitlines()[-1].startswith("interrupted; nothing recorded")
    assert is_gone(process.pid)
    process = start(tmp_path, "--workers", "2")
    until_an_epoch(process)
    process.kill()  # and now without a word: the workers notice
    process.wait()
    assert is_gone(process.pid)
    events = []
    run_study(tiny_study(tmp_path, seeds=(0, 1)), events.append, dataset=tiny_dataset(IMAGES))
    assert any(isinstance(event, CellStarted) and event.epoch for event in events)
    assert without_times(tmp_path) == whole


def test_a_job_array_is_the_same_command_started_many_times(tmp_path, whole, start):
    """Three jobs on one folder, one of them killed at its first epoch: nothing is lost."""
    jobs = [start(tmp_path) for _ in range(3)]
    until_an_epoch(jobs[0])
    jobs[0].kill()
    answers = [job.communicate(timeout=300)[0] for job in jobs[1:]]
    assert [job.returncode for job in jobs[1:]] == [0, 0]
    assert without_times(tmp_path) == whole
    assert all(len(json.loads(answer)["cells"]) == len(whole) == 4 for answer in answers)
    assert len(pd.read_csv(tmp_path / "study.csv")) == 4 * 3


def test_a_disk_that_gives_out_is_one_line(tmp_path, start):
    process = start(tmp_path, "--workers", "2", file_size=100_000)  # less than a checkpoint has
    output, said = process.communicate(timeout=300)
    assert process.returncode == 1 and not output and "Traceback" not in said
    assert "error: could not write" in said.splitlines()[-1] and "intact" in said.splitlines()[-1]
    assert is_gone(process.pid)
    assert not list(tmp_path.rglob("*.tmp"))


# A Dask cluster: a real scheduler and real worker processes


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Start workers of a scheduler that runs in a process of its own; ``cluster.place`` names it."""
    folder = tmp_path_factory.mktemp("dask")
    file = folder / "scheduler.json"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS.parent)}
    environment.pop("CIFAR10_DIR", None)
    log = (folder / "log").open("wb")
    started = []

    def begin(command, *more):
        options = ["--scheduler-file", str(file), "--no-dashboard", *more]
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", command, *options],
            stdout=log,
            stderr=log,
            cwd=folder,
            env=environment,
        )
        started.append(process)
        return process

    class Cluster:
        place = str(file)
        scheduler = None
        workers: ClassVar[list] = []

        @classmethod
        def worker(cls, threads=1):
            process = begin("worker", "--no-nanny", "--nthreads", str(threads))
            cls.workers.append(process)
            return process

        @classmethod
        def need(cls, count):
            """At least so many workers, of which some may still be starting."""
            while sum(worker.poll() is None for worker in cls.workers) < count:
                cls.worker()

    scheduler = begin("scheduler", "--port", "0", "--host", "127.0.0.1")
    while not file.exists():
        assert scheduler.poll() is None, (folder / "log").read_text()
        time.sleep(0.05)
    Cluster.scheduler = scheduler
    yield Cluster
    for process in reversed(started):
        process.kill()
        process.wait()
    log.close()


def test_a_killed_dask_worker_loses_nothing(tmp_path, whole, cluster):
    spec = tiny_study(tmp_path, seeds=(0, 1))
    cluster.need(1)
    events, victims = [], list(cluster.workers)

    def on_event(event):
        events.append(event)
        if isinstance(event, EpochDone) and victims:
            victims.pop().kill()  # the only one there is: its cell has to wait
            cluster.need(2)

    table = run_at(Placement(dask=cluster.place), spec, on_event, dataset=tiny_dataset(IMAGES))
    assert without_times(tmp_path) == whole
    finished = [event.spec.cell_id for event in events if isinstance(event, CellFinished)]
    assert sorted(finished) == sorted(cell.cell_id for cell in spec.cells())
    (lost,) = (event for event in events if isinstance(event, WorkerLost))
    resumed = [e for e in events if isinstance(e, CellStarted) and e.spec == lost.spec]
    assert [event.epoch > 0 for event in resumed] == [False, True]
    assert any(isinstance(event, StepDone) and event.seconds_left for event in events)
    pd.testing.assert_frame_equal(table, run_study(spec), check_exact=True)


def test_an_interrupted_client_leaves_idle_workers(tmp_path, cluster):
    from distributed import Client

    spec = tiny_study(tmp_path, depths=(2,), epochs=10_000)  # nobody would wait for its end
    cluster.need(1)
    told = []

    def stop(event):
        told.append(event)
        if isinstance(event, EpochDone):
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_at(Placement(dask=cluster.place), spec, stop, dataset=tiny_dataset(IMAGES))
        with Client(scheduler_file=cluster.place, set_as_default=False) as client:
            until = time.monotonic() + 120
            while any(client.run(lambda dask_worker: dask_worker.state.executing_count).values()):
                assert time.monotonic() < until
                time.sleep(0.1)
    first, second = (event for event in told if isinstance(event, CellStarted))
    assert first.epoch == 0 and second.epoch > 0


def test_a_worker_that_is_not_fit_is_named(tmp_path, cluster, monkeypatch):
    from distributed import Client

    cluster.need(1)

    def refused(said):
        with pytest.raises(RequestError) as refusal:
            ours.run_at(Placement(dask=cluster.place), tiny_study(tmp_path / "out"), lambda event: None)
        message = str(refusal.value)
        assert message.startswith("worker tcp://127.0.0.1:") and said in message
        assert not list((tmp_path / "out" / "cells").iterdir())

    with monkeypatch.context() as patch:
        order = ours.Order
        patch.setattr(ours, "Order", lambda study, spec, _, mark: order(study, spec, "0.0.1", mark))
        refused("fanin: start the workers from an environment with the version that is here, 0.0.1")
    with monkeypatch.context() as patch:  # our mark lies in another folder than the workers look at
        elsewhere = tmp_path / "elsewhere"
        ours.records.prepare(elsewhere)
        real = ours.records.marked
        patch.setattr(ours.records, "marked", lambda out: real(elsewhere))
        refused(f"does not see --out {tmp_path / 'out'}: name a folder that all machines share")
    wide = cluster.worker(threads=2)
    with Client(scheduler_file=cluster.place, set_as_default=False) as client:
        while 2 not in client.nthreads().values():
            time.sleep(0.1)
    refused("has 2 threads, and would train as many cells in one process")
    wide.kill()


def test_a_cell_that_kills_dask_workers_stops_the_study(tmp_path, cluster, monkeypatch):
    monkeypatch.setattr(ours, "DEATHS_ALLOWED", 0)
    cluster.need(1)

    def on_event(event):
        if isinstance(event, CellStarted):
            for process in cluster.workers:
                process.kill()

    spec = tiny_study(tmp_path, depths=(2,), epochs=1000)
    with pytest.raises(WorkError, match="1 workers died while they trained he-relu-d02"):
        ours.run_at(Placement(dask=cluster.place), spec, on_event, dataset=tiny_dataset(IMAGES))


def test_a_scheduler_that_dies_stops_the_study(tmp_path, cluster, monkeypatch):
    """The last test of this cluster."""
    monkeypatch.setattr(ours, "LOST_SECONDS", 2.0)
    cluster.need(1)

    def on_event(event):
        if isinstance(event, CellStarted):
            cluster.scheduler.kill()

    spec = tiny_study(tmp_path, depths=(2,), epochs=1000)
    with pytest.raises(WorkError, match=r"the Dask scheduler at .* finished cells are intact"):
        ours.run_at(Placement(dask=cluster.place), spec, on_event, dataset=tiny_dataset(IMAGES))


def test_no_scheduler_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(ours, "CONNECT_SECONDS", 0.5)
    with pytest.raises(RequestError, match="no Dask scheduler answers at --dask tcp://127"):
        ours.run_at(Placement(dask="tcp://127.0.0.1:1"), tiny_study(tmp_path), lambda event: None)
