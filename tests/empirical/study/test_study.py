"""The study and its records: skip, resume, set aside, go on; and a real kill."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from cifar_format import tiny_dataset
from filelock import FileLock

from empirical.protocol import StudySpec, TrainSpec
from empirical.records import folders as records
from empirical.study import grid as study
from empirical.study.events import (
    CellFinished,
    CellStarted,
    CellWaiting,
    EpochDone,
    RecordDamaged,
    StepDone,
    StudyPlanned,
)
from empirical.study.grid import (
    STUDY_COLUMNS,
    compare_with_report,
    load_layers,
    load_study,
    plan,
    results,
    run_study,
)
from theory.errors import RequestError, WorkError

pytestmark = pytest.mark.usefixtures("one_thread")


def tiny_study(out, **changes):
    small = {"activations": ("relu",), "depths": (2,), "filters": 4, "epochs": 2, "batch_size": 32}
    return StudySpec(**(small | {"device": "cpu", "out": out} | changes))


def run(spec):
    events = []
    return run_study(spec, events.append, dataset=tiny_dataset()), events


def files(out):
    return {path: path.read_bytes() for path in Path(out).rglob("*") if path.is_file()}


def without_times(out):
    """Every number of the records but the wall times."""
    found = {}
    for folder in sorted((out / "cells").iterdir()):
        result = json.loads((folder / "result.json").read_text())
        for name in ("seconds", "sha256", "environment"):
            del result[name]
        epochs = pd.read_csv(folder / "epochs.csv").drop(columns="seconds")
        layers = (folder / "layers.csv").read_text()
        found[folder.name] = (result, epochs.to_csv(index=False), layers)
    return found


def test_a_study_leaves_records_that_give_the_same_table(tmp_path):
    spec = tiny_study(tmp_path, initializers=("he", "normal"), seeds=(0, 1))
    table, events = run(spec)
    assert tuple(table.columns) == STUDY_COLUMNS and len(table) == 2 * 2 * 2
    assert isinstance(events[0], StudyPlanned) and events[0].cells == 4
    assert sum(isinstance(event, EpochDone) for event in events) == 8
    loaded = load_study(tmp_path)
    ordered = table.sort_values(["cell", "epoch"], ignore_index=True)
    pd.testing.assert_frame_equal(ordered, loaded, check_exact=True)
    layers = load_layers(tmp_path)
    assert set(layers["layer"]) == {"conv01", "act01", "conv02", "norm02", "act02", "head"}
    assert set(layers["epoch"]) == {0, 1, 2}
    for cell in spec.cells():
        folder = tmp_path / "cells" / cell.cell_id
        names = {path.name for path in folder.iterdir()}
        assert names == {"config.json", "epochs.csv", "layers.csv", "result.json"}


def test_the_result_has_the_contracts_fields(tmp_path):
    spec = tiny_study(tmp_path)
    run(spec)
    (result,) = results(spec)
    on_disk = json.loads((tmp_path / "cells" / result["cell"] / "result.json").read_text())
    assert on_disk.pop("sha256").keys() == {"epochs.csv", "layers.csv", "result.json"}
    assert on_disk == result
    fields = {
        "initializer", "activation", "depth", "seed", "norm", "fan", "filters", "epochs", "status",
        "final_test_accuracy", "train_loss", "average_weight", "test_accuracy", "seconds", "engine",
        "precision", "environment",
    }  # fmt: skip
    assert fields <= result.keys()
    assert result["status"] == "completed" and result["epochs"] == 2
    for name in ("average_weight", "test_accuracy", "seconds"):
        assert len(result[name]) == 2
    assert result["final_test_accuracy"] == result["test_accuracy"][-1]
    with (tmp_path / "cells" / result["cell"] / "epochs.csv").open(newline="") as file:
        epochs = list(csv.DictReader(file))
    assert result["train_loss"] == [float(row["train_loss"]) for row in epochs]


def test_a_finished_study_is_not_run_again(tmp_path):
    spec = tiny_study(tmp_path)
    first, _ = run(spec)
    before = files(tmp_path)
    events = []
    again = run_study(spec, events.append)  # not even the data set is needed
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    assert files(tmp_path) == before
    assert [event.skipped for event in events if isinstance(event, CellFinished)] == [True]


def test_a_diverged_cell_is_a_result_and_the_study_goes_on(tmp_path):
    spec = tiny_study(
        tmp_path, initializers=("normal:1000000", "he"), depths=(12,), norm="none", epochs=1
    )
    table, events = run(spec)
    assert table["status"].tolist() == ["diverged", "completed"]
    first, second = (event for event in events if isinstance(event, CellFinished))
    assert first.diverged and not second.diverged
    assert first.result["final_test_accuracy"] is None and first.result["test_accuracy"] == []
    assert load_study(tmp_path)["status"].value_counts().to_dict() == {"diverged": 1, "completed": 1}
    compared = compare_with_report(table)
    assert compared["status"].tolist() == ["diverged", "completed"]
    assert compared["published"].iloc[1] == 79.03
    other = compare_with_report(table.assign(dataset="digits"))
    assert other["published"].tolist() == [None, None]  # the course report has no other images
    again = []
    run_study(spec, again.append)
    assert all(event.skipped for event in again if isinstance(event, CellFinished))


SCRIPT = """
import sys
from cifar_format import tiny_dataset
from empirical.study.events import EpochDone
from empirical.study.grid import run_study
from test_study import killed_study

def tell(event):
    if isinstance(event, EpochDone):
        print(event.row["epoch"], flush=True)

run_study(killed_study(sys.argv[1]), tell, dataset=tiny_dataset(640))
"""


def killed_study(out):
    return tiny_study(Path(out), activations=("prelu",), depths=(5,), filters=8, epochs=4)


def test_a_killed_study_ends_with_the_same_numbers(tmp_path):
    spec = killed_study(tmp_path / "killed")
    root = Path(__file__).parent.parent.parent
    paths = os.pathsep.join([str(Path(__file__).parent), str(root), str(root.parent)])
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(spec.out)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"1\n" and process.stdout.readline() == b"2\n"
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert plan(spec)["status"].tolist() == ["interrupted"]
    events = []
    run_study(spec, events.append, dataset=tiny_dataset(640))
    (started,) = (event for event in events if isinstance(event, CellStarted))
    assert started.epoch >= 2
    whole = killed_study(tmp_path / "whole")
    run_study(whole, dataset=tiny_dataset(640))
    assert without_times(spec.out) == without_times(whole.out)


def test_an_interrupt_at_any_event_is_safe(tmp_path):
    class Stop(KeyboardInterrupt):
        pass

    whole = tiny_study(tmp_path / "whole")
    _, events = run(whole)
    for number in range(len(events)):
        spec = tiny_study(tmp_path / str(number))
        seen = []

        def stop(event, seen=seen, number=number):
            seen.append(event)
            if len(seen) == number + 1:
                raise Stop

        with pytest.raises(Stop):
            run_study(spec, stop, dataset=tiny_dataset())
        run(spec)
        assert without_times(spec.out) == without_times(whole.out)


@pytest.mark.parametrize("name", ["config.json", "epochs.csv", "layers.csv", "result.json"])
@pytest.mark.parametrize("how", ["altered", "cut", "missing"])
def test_a_damaged_record_is_set_aside_and_run_again(tmp_path, name, how):
    spec = tiny_study(tmp_path, epochs=1)
    run(spec)
    before = without_times(tmp_path)
    (cell,) = spec.cells()
    victim = tmp_path / "cells" / cell.cell_id / name
    if how == "altered":
        victim.write_bytes(victim.read_bytes().replace(b"1", b"2", 1))
    elif how == "cut":
        victim.write_bytes(victim.read_bytes()[:-20])
    else:
        victim.unlink()
    if (name, how) != ("result.json", "missing"):  # without it the cell is not finished, only begun
        assert plan(spec)["status"].tolist() == ["damaged"]
        bad = []
        assert load_study(tmp_path, bad.append).empty and len(bad) == 1
    _, events = run(spec)
    damaged = [event for event in events if isinstance(event, RecordDamaged)]
    if (name, how) != ("result.json", "missing"):
        assert (
            name in damaged[0].reason
            and damaged[0].moved_to == tmp_path / "damaged" / f"{cell.cell_id}-1"
        )
        assert damaged[0].moved_to.is_dir()
    assert without_times(tmp_path) == before


def test_a_damaged_or_foreign_checkpoint_is_set_aside(tmp_path):
    spec = tiny_study(tmp_path)

    def stop(event):
        if isinstance(event, EpochDone):
            raise KeyboardInterrupt

    for damage in ("altered", "foreign"):
        with pytest.raises(KeyboardInterrupt):
            run_study(spec, stop, dataset=tiny_dataset())
        (cell,) = spec.cells()
        folder = tmp_path / "cells" / cell.cell_id
        if damage == "altered":
            content = bytearray((folder / "checkpoint.pt").read_bytes())
            content[len(content) // 2] ^= 1
            (folder / "checkpoint.pt").write_bytes(content)
        else:
            config = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps(config | {"seed": 7}))
        events = []
        with pytest.raises(KeyboardInterrupt):
            run_study(spec, lambda e, seen=events: (seen.append(e), stop(e)), dataset=tiny_dataset())
        (found,) = (event for event in events if isinstance(event, RecordDamaged))
        assert ("checkpoint.pt" if damage == "altered" else "another cell") in found.reason


def test_an_out_that_cannot_be_written_is_refused_before_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="cannot write to --out"):
        run(tiny_study(tmp_path / "file"))


def test_a_full_disk_is_a_work_error_and_finished_cells_stay(tmp_path, monkeypatch):
    spec = tiny_study(tmp_path, depths=(2, 3))
    real, written = os.fsync, []

    def full(handle):
        written.append(handle)
        if len(list((tmp_path / "cells").glob("*/result.json"))) == 1 and len(written) % 5 == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WorkError, match="the disk is full; finished cells are intact"):
        run(spec)
    monkeypatch.undo()
    assert plan(spec)["status"].iloc[0] == "finished"
    assert not list(tmp_path.rglob("*.tmp"))
    run(spec)
    assert plan(spec)["status"].tolist() == ["finished", "finished"]


def test_out_of_memory_is_a_work_error(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 1 PB")

    monkeypatch.setattr(study, "train_cell", fail)
    with pytest.raises(WorkError, match="out of memory"):
        run(tiny_study(tmp_path))


def test_a_cell_that_another_process_works_on_is_left_for_later(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "POLL_SECONDS", 0.01)
    spec = tiny_study(tmp_path, depths=(2, 3), epochs=1)
    first, second = spec.cells()
    records.prepare(tmp_path)
    other = FileLock(tmp_path / "locks" / f"{first.cell_id}.lock")
    other.acquire()
    events = []

    def release(event):
        events.append(event)
        if isinstance(event, CellWaiting):
            other.release()

    table = run_study(spec, release, dataset=tiny_dataset())
    finished = [event.spec for event in events if isinstance(event, CellFinished)]
    assert finished == [second, first]
    assert table["depth"].tolist() == [2, 3]  # the table is in the grid's order all the same


def test_a_plan_writes_nothing_and_estimates(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    spec = tiny_study(tmp_path / "out", depths=(2, 3))
    planned = plan(spec)
    assert planned["status"].tolist() == ["new", "new"]
    assert (planned["seconds"] > 0).all() and (planned["megabytes"] > 0).all()
    assert not (tmp_path / "out").exists()
    with pytest.raises(RequestError, match="holds no cifar-10-batches-py"):
        plan(tiny_study(tmp_path / "out", data_dir=tmp_path))


class Clock:
    """Stands for time.perf_counter and for the steps that it is read around."""

    def __init__(self, durations):
        self.now, self.durations, self.order = 0.0, durations, []

    def timed_step(self, group, device):
        depth, count = group[0][1].depth, len(group)
        lasting = iter(self.durations[depth])

        def step():
            self.order.append((depth, count))
            self.now += next(lasting)

        return step


@pytest.fixture
def clock(monkeypatch):
    found = Clock({2: [9.0, 6.0, 7.0, 8.0, 50.0], 3: [90.0, 80.0, 12.0, 13.0, 40.0]})
    monkeypatch.setattr(study, "_timed_step", found.timed_step)
    monkeypatch.setattr(study.time, "perf_counter", lambda: found.now)
    return found


def test_an_estimate_takes_the_shortest_step_of_rounds_over_all_kinds(tmp_path, clock):
    grid = {"depths": (2, 3), "seeds": (0, 1), "batch_size": 12, "epochs": 2}
    planned = plan(tiny_study(tmp_path, **grid, limit_train=48, limit_test=12))
    assert clock.order == [(2, 1), (3, 1)] * study.TIMINGS  # spread over time, each kind once a round
    images = 2 * (48 + 12 / 3)
    assert planned["seconds"].tolist() == pytest.approx([6 / 12 * images] * 2 + [12 / 12 * images] * 2)


def test_a_plan_of_a_stack_gives_each_cell_its_share(tmp_path, clock):
    grid = {"depths": (2, 3), "seeds": (0, 1, 2), "engine": "stacked", "batch_size": 12, "epochs": 2}
    planned = plan(tiny_study(tmp_path, **grid, limit_train=48, limit_test=12, stack=3))
    assert clock.order[:2] == [(2, 3), (3, 3)]
    share = 1 / (3 * 12) * 2 * (48 + 12 / 3)  # of a step of three cells, per image
    assert planned["seconds"].tolist() == pytest.approx([6 * share] * 3 + [12 * share] * 3)


@pytest.mark.parametrize(("engine", "count"), [("eager", 1), ("stacked", 2)])
def test_what_is_timed_is_a_step_of_training(engine, count, monkeypatch):
    kind = study.CellTraining if engine == "eager" else study.GroupTraining
    sizes, real = [], kind.step
    monkeypatch.setattr(
        kind, "step", lambda self, chosen, own: sizes.append(chosen.shape) or real(self, chosen, own)
    )
    spec = TrainSpec(filters=3, batch_size=12, engine=engine)
    study._timed_step([(k, spec) for k in range(count)], torch.device("cpu"))()
    assert [tuple(size) for size in sizes] == [(12,) if count == 1 else (12, 2)] * 2


def test_events_tell_the_last_accuracy_the_speed_and_the_time_left(tmp_path):
    _, events = run(tiny_study(tmp_path, depths=(2, 3)))
    epochs = [event for event in events if isinstance(event, EpochDone)]
    steps = [event for event in events if isinstance(event, StepDone)]
    assert all(event.images_per_second > 0 for event in epochs)
    left = [event.seconds_left for event in epochs]
    assert all(seconds > 0 for seconds in left[:-1]) and left[-1] == pytest.approx(0, abs=1e-9)
    for event in steps:
        known = [
            epoch.row["test_accuracy"]
            for epoch in epochs
            if epoch.spec == event.spec and epoch.row["epoch"] == event.epoch - 1
        ]
        assert event.test_accuracy == (known[0] if known else None)


def test_between_equal_cells_the_time_left_is_the_images_left_over_the_speed(tmp_path):
    spec = tiny_study(tmp_path, depths=(2,), seeds=(0, 1))
    _, events = run(spec)
    for event in (event for event in events if isinstance(event, StepDone)):
        epochs_left = spec.epochs * (event.total - event.index) + spec.epochs - event.epoch + 1
        images_left = epochs_left * event.images_per_epoch - event.images
        assert event.seconds_left == pytest.approx(images_left / event.images_per_second)


def test_a_small_cell_computes_with_one_thread(tmp_path):
    """Two threads of a busy machine wait for each other in every small step."""
    before, found = torch.get_num_threads(), []

    def on_event(event):
        if isinstance(event, EpochDone):
            found.append(torch.get_num_threads())

    torch.set_num_threads(2)
    try:
        small = StudySpec(activations=("relu",), depths=(2,), filters=4, epochs=1, device="cpu")
        run_study(replace(small, out=tmp_path), on_event, dataset=tiny_dataset(64))
        assert found == [1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
