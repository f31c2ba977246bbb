"""Nothing recorded is lost: processes really killed, disks really full, files really damaged.

Each test ends with the same question: are the records those of a run that nothing disturbed, byte for
byte but for the times?
"""

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from cifar_format import tiny_dataset

from empirical.protocol import StudySpec
from empirical.study.events import RecordDamaged
from empirical.study.grid import run_study

ROOT = Path(__file__).resolve().parents[3]
IMAGES = 320
# The program itself, on a data set that is in memory.
PROGRAM = f"""
import sys
from cifar_format import tiny_dataset
import cli, empirical.study.grid as study
study.load_dataset = lambda *args, **options: tiny_dataset({IMAGES})
sys.exit(cli.main(sys.argv[1:]))
"""
GRID = {"initializers": ("he", "normal"), "activations": ("prelu",), "depths": (2, 3)}
SMALL = {"filters": 4, "epochs": 3, "batch_size": 32}


def arguments(out):
    """The command line of the small study in ``out``."""
    grid = ["--init", "he", "normal", "--activation", "prelu", "--depths", "2", "3"]
    small = ["--filters", "4", "--epochs", "3", "--batch-size", "32", "--device", "cpu"]
    return ["cifar", *grid, *small, "--engine", "eager", "--out", str(out)]


def start(out, *, before=None, prefix=()):
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", PROGRAM, *arguments(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=before,
    )


def run(out, **options):
    """(exit code, stdout, stderr) of the study in ``out``, run to its end."""
    process = start(out, **options)
    shown, said = process.communicate(timeout=240)
    return process.returncode, shown, said


def bytes_without_times(out):
    """Every file of the finished cells; of result.json and epochs.csv all but the wall times."""
    found = {}
    for path in sorted((out / "cells").glob("*/*")):
        if path.name == "checkpoint.pt":  # of a cell that is not finished
            found[f"{path.parent.name}/{path.name}"] = ""
            continue
        text = path.read_text()
        if path.name == "result.json":
            result = json.loads(text)
            for name in ("seconds", "sha256", "environment"):
                del result[name]
            text = json.dumps(result)
        if path.name == "epochs.csv":
            text = "\n".join(line.rpartition(",")[0] for line in text.splitlines())
        found[f"{path.parent.name}/{path.name}"] = text
    return found


def written(out):
    """Every state of a record or checkpoint that can be seen now: its path, and when it was written."""
    found = set()
    for path in (out / "cells").glob("*/*"):
        with contextlib.suppress(FileNotFoundError):  # a checkpoint goes when its cell is finished
            found.add((path, path.stat().st_mtime_ns))
    return found


def run_here(out, **changes):
    """The same study in this process; returns its events."""
    threads, events = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        spec = StudySpec(**GRID | SMALL | changes, out=out, device="cpu", engine="eager")
        run_study(spec, events.append, dataset=tiny_dataset(IMAGES))
    finally:
        torch.set_num_threads(threads)
    return events


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The records of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("undisturbed")
    run_here(out)
    found = bytes_without_times(out)
    assert len(found) == 4 * 4
    return found


def test_what_a_killed_writer_left_half_written_goes(tmp_path, undisturbed):
    cell = sorted(undisturbed)[0].partition("/")[0]
    (tmp_path / "cells" / cell).mkdir(parents=True)
    (tmp_path / "cells" / cell / ".epochs.csv.25489.tmp").write_text("epoch,tra")
    run_here(tmp_path)
    assert bytes_without_times(tmp_path) == undisturbed


def test_killed_at_random_moments_by_two_processes_at_once(tmp_path, undisturbed):
    """Two processes share the work and are killed again and again, wherever they are."""
    chance, kills, finished = random.Random(0), 0, 0
    for round_ in range(40):
        processes = [start(tmp_path) for _ in range(2)]
        if round_ < 4:  # after a few writes, whatever the machine's speed; then trains, writes or locks
            writes, wanted = set(written(tmp_path)), chance.randint(1, 5)
            before, until = len(writes), time.monotonic() + 120
            while len(writes) < before + wanted and any(p.poll() is None for p in processes):
                assert time.monotonic() < until
                writes |= written(tmp_path)
                time.sleep(0.005)
            time.sleep(0.1 * chance.random())
            for process in processes:
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)
                    kills += 1
        ends = [process.communicate(timeout=240)[1] for process in processes]
        finished = [process.returncode for process in processes].count(0)
        assert all(p.returncode in (0, -signal.SIGKILL) for p in processes), ends
        assert not any("set aside" in end for end in ends)  # a kill never leaves damage
        if finished == 2:
            break
    assert finished == 2 and kills >= 3
    assert bytes_without_times(tmp_path) == undisturbed
    assert not (tmp_path / "damaged").exists()


def test_two_processes_share_the_work_and_no_cell_is_trained_twice(tmp_path, undisturbed):
    ends = [process.communicate(timeout=240) for process in [start(tmp_path), start(tmp_path)]]
    assert bytes_without_times(tmp_path) == undisturbed
    trained = [
        sum("epoch  1/3" in line or "epoch 1/3" in line for line in said.splitlines())
        for _, said in ends
    ]
    assert sum(trained) == 4, ends


def full_disk_says(said):
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    return line


def test_a_quota_on_the_writer_ends_with_1_and_earlier_cells_intact(tmp_path, undisturbed):
    """The kernel refuses every file that would grow beyond the limit: the checkpoint of depth 2."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))

    first = {"depths": (3,), "initializers": ("he",)}  # its checkpoint fits
    run_here(tmp_path, **first)
    before = bytes_without_times(tmp_path)
    code, shown, said = run(tmp_path, before=limit)
    assert code == 1 and shown == ""
    assert "could not write" in full_disk_says(said) and "finished cells are intact" in said
    after = bytes_without_times(tmp_path)
    assert {name: after[name] for name in before} == before
    assert not list(tmp_path.rglob("*.tmp"))
    code, _, said = run(tmp_path)
    assert code == 0, said
    assert bytes_without_times(tmp_path) == undisturbed


def test_a_full_file_system_ends_with_1_and_resumes(tmp_path, undisturbed):
    """A tmpfs of its own, too small for the study; what it held is copied out and gone on with."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], capture_output=True).returncode:
        pytest.skip("a file system of its own cannot be mounted here (unshare -rm)")
    small, kept = tmp_path / "small", tmp_path / "kept"
    small.mkdir()
    script = (
        f'mount -t tmpfs -o size=400k tmpfs {small} && "$@"; code=$?; cp -r {small} {kept}; exit $code'
    )
    prefix = [unshare, "-rm", "sh", "-c", script, "sh"]
    code, shown, said = run(small, prefix=prefix)
    assert code == 1 and shown == "", said
    assert "the disk is full; finished cells are intact" in full_disk_says(said)
    finished = [path.parent.name for path in kept.glob("cells/*/result.json")]
    partly = bytes_without_times(kept)
    for name in finished:
        assert partly[f"{name}/result.json"] == undisturbed[f"{name}/result.json"]
    code, _, said = run(kept)
    assert code == 0, said
    assert bytes_without_times(kept) == undisturbed


def test_random_damage_to_any_file_is_found_set_aside_and_redone(tmp_path, undisturbed):
    """Rounds of flipped bits, cut ends and files of other cells, in finished and begun cells."""
    chance, rounds = random.Random(1), 12
    run_here(tmp_path)
    for round_ in range(rounds):
        files = sorted((tmp_path / "cells").glob("*/*"))
        victim = chance.choice(files)
        content = bytearray(victim.read_bytes())
        how = ("flip", "cut", "foreign")[round_ % 3]
        if how == "flip":
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        elif how == "cut":
            del content[chance.randrange(len(content)) :]
        else:
            others = [f for f in files if f.name == victim.name and f.parent != victim.parent]
            content = bytearray(chance.choice(others).read_bytes())
        victim.write_bytes(content)
        damaged = [event for event in run_here(tmp_path) if isinstance(event, RecordDamaged)]
        assert [event.cell for event in damaged] == [victim.parent.name], (how, victim)
        assert bytes_without_times(tmp_path) == undisturbed
    assert len(list((tmp_path / "damaged").iterdir())) == rounds
