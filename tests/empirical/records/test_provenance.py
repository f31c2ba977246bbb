"""What changed between two runs of one cell is noted in its record."""

import time
from pathlib import Path

import pytest
import torch
from cifar_format import tiny_dataset

from empirical.protocol import TrainSpec
from empirical.records import folders as records
from empirical.records import provenance
from empirical.records.provenance import Stopwatch, code_digest, note_of_change, note_of_clock
from empirical.training.loop import CellTraining

CPU = torch.device("cpu")
SPEC = TrainSpec(filters=4, epochs=2, batch_size=16)


def resumed(monkeypatch, **changes):
    before = CellTraining(SPEC, tiny_dataset(), CPU)
    before.look(0)
    before.run_epoch()
    state = before.state()
    for name, value in changes.items():
        monkeypatch.setattr(provenance, name, value)
    after = CellTraining(SPEC, tiny_dataset(), CPU, state)
    after.run_epoch()
    return records.result_of(SPEC, after.state(), {})["notes"]


def test_an_ordinary_resume_notes_nothing(monkeypatch):
    assert resumed(monkeypatch) == []


def test_changed_code_is_noted_with_the_epoch(monkeypatch):
    (note,) = resumed(monkeypatch, code_digest=lambda: "0000beef")
    assert note.startswith("from epoch 2 on: ") and "code 0000beef" in note
    assert f"code {code_digest()}" in note


def test_a_clock_that_went_back_is_noted(monkeypatch):
    now = time.time
    notes = resumed(monkeypatch, time=Clock(lambda: now() - 3600))
    assert len(notes) == 1 and "behind the checkpoint" in notes[0]


class Clock:
    """time, but for its wall clock."""

    def __init__(self, wall):
        self.time, self.perf_counter = wall, time.perf_counter


@pytest.mark.parametrize("jump", [-7200.0, 90.0])
def test_a_clock_that_jumps_within_an_epoch_is_noted_and_durations_stay(monkeypatch, jump):
    offset = [0.0]
    monkeypatch.setattr(provenance, "time", Clock(lambda: time.time() + offset[0]))
    watch = Stopwatch()
    assert watch.note(4) == []
    offset[0] = jump
    (note,) = watch.note(4)
    assert note.startswith("in epoch 4") and f"{jump:+.0f} s" in note
    assert 0 <= watch.seconds() < 5


def test_notes_of_nothing():
    assert note_of_change(1, "", "torch 2.12") == []
    assert note_of_clock(1, 0.0) == []
    assert note_of_clock(1, time.time() + 60)[0].startswith("after epoch 1")


def test_the_code_digest_is_of_the_sources(tmp_path, monkeypatch):
    for package in ("theory", "empirical"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "a.py").write_text("x = 1\n")
    monkeypatch.setattr(
        provenance, "__file__", str(tmp_path / "empirical" / "records" / "provenance.py")
    )
    before = code_digest.__wrapped__()
    (tmp_path / "theory" / "a.py").write_text("x = 2\n")
    assert code_digest.__wrapped__() != before


def test_another_processor_is_noted_with_the_epoch(monkeypatch):
    other = {"hardware": "Another Processor 9000"}
    (note,) = resumed(monkeypatch, environment=lambda device: other)
    assert note.startswith("from epoch 2 on: ") and "(Another Processor 9000)" in note


@pytest.mark.parametrize("name", ["theory/initializers.py", "empirical/engines/choice.py"])
def test_the_digest_changes_with_either_package(monkeypatch, name):
    before, read = code_digest(), Path.read_bytes

    def changed(path):
        return read(path) + (b" " if path.as_posix().endswith(name) else b"")

    monkeypatch.setattr(Path, "read_bytes", changed)
    assert code_digest.__wrapped__() != before
