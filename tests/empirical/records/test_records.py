"""Whatever lies on the disk, reading it gives what was written or names what is damaged."""

import hashlib
import io
import json
import os
import random
import shutil

import pytest
import torch
from cifar_format import tiny_dataset

from empirical.protocol import StudySpec
from empirical.records import folders as records
from empirical.study.events import EpochDone, RecordDamaged
from empirical.study.grid import load_layers, load_study, plan, run_study
from theory.errors import RequestError

pytestmark = pytest.mark.usefixtures("one_thread")

FILES = ("config.json", "epochs.csv", "layers.csv", "result.json")


def spec_in(out, **changes):
    small = {"activations": ("relu",), "depths": (2,), "filters": 2, "epochs": 1, "batch_size": 32}
    return StudySpec(**(small | {"initializers": ("he",), "device": "cpu", "out": out} | changes))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The records of two finished cells, and of one interrupted after its first epoch of two."""
    out = tmp_path_factory.mktemp("written")
    run_study(spec_in(out / "done", seeds=(0, 1)), dataset=tiny_dataset(32, 8))

    def stop(event):
        if isinstance(event, EpochDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(spec_in(out / "begun", epochs=2), stop, dataset=tiny_dataset(32, 8))
    return out


def edited(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def resealed(path, **changes):
    """Change a result and make its checksum fit: what another version of the program could write."""
    content = json.loads(path.read_text()) | changes
    sums = content.pop("sha256")
    sums["result.json"] = hashlib.sha256(records._json(content)).hexdigest()
    path.write_text(json.dumps(content | {"sha256": sums}))


CONFIGS = {
    "number for a name": {"initializer": 5},
    "list for a name": {"norm": ["batch"]},
    "null for a name": {"activation": None},
    "object for a name": {"fan": {"fan_out": 1}},
    "text for a number": {"depth": "two"},
    "list for a number": {"limit_train": [1]},
    "nan": {"learning_rate": float("nan")},
    "infinity": {"gain_slope": float("-inf")},
    "huge": {"depth": 10**400},
    "unknown field": {"colour": "red"},
    "another cell": {"seed": 7},
}
RESULTS = {
    "nan": {"train_loss": [float("nan")]},
    "infinity": {"final_test_accuracy": float("inf")},
    "sums of a wrong type": {"sha256": ["a"]},
    "sums missing": {"sha256": None},
    "half a character": {"status": "\ud800"},
}
FOREIGN = {
    "empty": b"",
    "half": b'{"cell": "he-re',
    "list": b"[1, 2]",
    "number": b"5",
    "null": b"null",
    "nan": b"NaN",
    "deep": b"[" * 100_000,
    "object": b"{}",
    "not text": b"\xff\xfe\x00",
    "overflow": b'{"cell": 1e999}',
    "many digits": b'{"cell": ' + b"1" * 5000 + b"}",
}


def assert_set_aside_and_rerun(out, spec, name):
    """The second of two cells is named as damaged everywhere, and a run makes it whole again."""
    cell = spec.cells()[-1].cell_id
    bad = []
    assert set(load_study(out, bad.append)["cell"]) == {other.cell_id for other in spec.cells()[:-1]}
    assert [event.cell for event in bad] == [cell] and name in bad[0].reason
    assert "\n" not in bad[0].reason
    load_layers(out)
    assert plan(spec)["status"].tolist() == ["finished", "damaged"]
    events = []
    table = run_study(spec, events.append, dataset=tiny_dataset(32, 8))
    (damaged,) = (event for event in events if isinstance(event, RecordDamaged))
    assert damaged.cell == cell and damaged.moved_to.is_dir()
    assert table["status"].tolist() == ["completed", "completed"]


@pytest.fixture
def done(written, tmp_path):
    """A copy of the finished study: its spec, and the folder of its second cell."""
    spec = spec_in(tmp_path / "done", seeds=(0, 1))
    shutil.copytree(written / "done", spec.out)
    return spec, spec.out / "cells" / spec.cells()[1].cell_id


@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)
def test_a_config_that_means_nothing_is_damage(done, changes):
    spec, folder = done
    edited(folder / "config.json", **changes)
    assert_set_aside_and_rerun(spec.out, spec, "config.json")


@pytest.mark.parametrize("changes", RESULTS.values(), ids=RESULTS)
def test_a_result_that_means_nothing_is_damage(done, changes):
    spec, folder = done
    edited(folder / "result.json", **changes)
    assert_set_aside_and_rerun(spec.out, spec, "result.json")


@pytest.mark.parametrize("changes", [{"status": "running"}, {"status": None}, {"cell": 5}], ids=str)
def test_a_result_of_another_program_is_damage_for_all_its_checksum(done, changes):
    spec, folder = done
    resealed(folder / "result.json", **changes)
    assert_set_aside_and_rerun(spec.out, spec, "result.json")


SCHEMAS = {
    "environment a list": {"environment": ["cpu"]},
    "hardware a number": {"environment": {"hardware": 5}},
    "notes a number": {"notes": 5},
    "seconds as texts": {"seconds": ["1.0"]},
    "seconds below zero": {"seconds": [-1.0]},
    "accuracy beyond 100": {"test_accuracy": [500.0], "final_test_accuracy": 500.0},
    "accuracy of another epoch": {"final_test_accuracy": 1.0},
    "curve of another table": {"train_loss": [0.5]},
    "curve too long": {"seconds": [1.0, 2.0]},
    "initial without its loss": {"initial": {"average_weight": 0.1}},
    "initial none": {"initial": None},
    "another depth than its config": {"depth": 12},
    "code a number": {"code": 1},
}


@pytest.mark.parametrize("changes", SCHEMAS.values(), ids=SCHEMAS)
def test_a_result_of_another_schema_is_damage_for_all_its_checksum(done, changes):
    spec, folder = done
    resealed(folder / "result.json", **changes)
    with pytest.raises(records.DamagedRecord, match=r"result\.json") as damage:
        records.read_finished(spec.out, spec.cells()[1])
    assert "\n" not in str(damage.value)


TABLES = {
    "other columns": lambda text: text.replace("epoch,", "time,", 1),
    "a field too many": lambda text: text.replace("\n", ",\n", 1),
    "a row twice": lambda text: text + text.splitlines()[-1] + "\n",
    "no rows": lambda text: text.splitlines()[0] + "\n",
    "an epoch of another time": lambda text: text.replace("\n1,", "\n7,"),
    "words": lambda text: text.replace("\n1,", "\none,"),
}


@pytest.mark.parametrize("name", ["epochs.csv", "layers.csv"])
@pytest.mark.parametrize("change", TABLES.values(), ids=TABLES)
def test_a_table_of_another_schema_is_damage_for_all_its_checksum(done, name, change):
    spec, folder = done
    before = (folder / name).read_text()
    (folder / name).write_text(change(before))
    sums = json.loads((folder / "result.json").read_text())["sha256"]
    sums[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    edited(folder / "result.json", sha256=sums)
    assert change(before) != before
    with pytest.raises(records.DamagedRecord, match=name):
        records.read_finished(spec.out, spec.cells()[1])


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(done, name):
    spec, folder = done
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(records.DamagedRecord, match="is no file"):
        records.read_finished(spec.out, spec.cells()[1])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_foreign_content_is_damage(done, name, content):
    spec, folder = done
    (folder / name).write_bytes(content)
    bad = []
    assert len(load_study(spec.out, bad.append)) == 1 and len(bad) == 1
    with pytest.raises(records.DamagedRecord, match=name):
        records.read_finished(spec.out, spec.cells()[1])


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_the_place_of_a_file_is_damage(done, name):
    spec, folder = done
    (folder / name).unlink()
    (folder / name).mkdir()
    assert_set_aside_and_rerun(spec.out, spec, name)


@pytest.mark.parametrize("name", [*FILES, "all"])
def test_files_of_another_cell_are_damage(done, name):
    spec, folder = done
    other = spec.out / "cells" / spec.cells()[0].cell_id
    for one in FILES if name == "all" else [name]:
        shutil.copy(other / one, folder / one)
    assert_set_aside_and_rerun(spec.out, spec, "" if name == "all" else name)


@pytest.mark.parametrize("name", FILES)
def test_no_flipped_bit_is_read_as_something_else(written, done, name):
    spec, folder = done
    cell = spec.cells()[1]
    good = records.read_finished(spec.out, cell)
    content = (written / "done" / "cells" / cell.cell_id / name).read_bytes()
    source = random.Random(name)
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(source.choice([1, 1, 2, 20])):
            damaged[source.randrange(len(damaged))] ^= 1 << source.randrange(8)
        if source.random() < 0.2:
            del damaged[source.randrange(len(damaged)) :]
        (folder / name).write_bytes(damaged)
        try:
            assert repr(records.read_finished(spec.out, cell)) == repr(good)
        except records.DamagedRecord as damage:
            assert "\n" not in str(damage)
        found, bad = records.read_all(spec.out)
        assert len(found) + len(bad) == 2


def sealed(content):
    """``content`` as a checkpoint file whose checksum fits."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return seal(buffer.getvalue())


def seal(payload):
    return hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload


@pytest.fixture
def begun(written, tmp_path):
    """A copy of the interrupted study: its spec, its checkpoint's path and content."""
    spec = spec_in(tmp_path / "begun", epochs=2)
    shutil.copytree(written / "begun", spec.out)
    path = spec.out / "cells" / spec.cells()[0].cell_id / "checkpoint.pt"
    saved = torch.load(io.BytesIO(path.read_bytes().partition(b"\n")[2]), weights_only=True)
    return spec, path, saved


CHECKPOINTS = {
    "empty": lambda saved: b"",
    "sealed nothing": lambda saved: seal(b""),
    "sealed text": lambda saved: seal(b"this is no checkpoint"),
    "not a dict": lambda saved: sealed([1, 2]),
    "no cell": lambda saved: sealed({}),
    "field missing": lambda saved: sealed({k: v for k, v in saved.items() if k != "network"}),
    "field unknown": lambda saved: sealed(saved | {"colour": 1}),
    "epoch of a wrong type": lambda saved: sealed(saved | {"epoch": None}),
    "epoch beyond the end": lambda saved: sealed(saved | {"epoch": 3}),
    "rows of a wrong type": lambda saved: sealed(saved | {"epochs": 5}),
    "rows of other columns": lambda saved: sealed(saved | {"epochs": [{"epoch": 1}]}),
    "a layer's number a text": lambda saved: sealed(
        saved | {"layers": [row | {"weight_std": "wide"} for row in saved["layers"]]}
    ),
    "notes a number": lambda saved: sealed(saved | {"notes": 5}),
    "initial a list": lambda saved: sealed(saved | {"initial": [1.0]}),
    "code": lambda saved: sealed({"cell": saved["cell"], "epoch": shutil.copy}),
    "another network": lambda saved: sealed(saved | {"network": {"a": torch.zeros(2)}}),
    "another optimizer": lambda saved: sealed(saved | {"optimizer": {"state": {}}}),
    "another shape": lambda saved: sealed(
        saved | {"network": saved["network"] | {"head.bias": torch.zeros(2)}}
    ),
}


@pytest.mark.parametrize("damage", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_checkpoint_that_means_nothing_is_set_aside(begun, damage):
    spec, path, saved = begun
    path.write_bytes(damage(saved))
    plan(spec)
    events = []
    table = run_study(spec, events.append, dataset=tiny_dataset(32, 8))
    (damaged,) = (event for event in events if isinstance(event, RecordDamaged))
    assert "checkpoint.pt" in damaged.reason and damaged.moved_to.is_dir()
    assert "\n" not in damaged.reason and "weights_only" not in damaged.reason
    assert table["epoch"].tolist() == [1, 2]


@pytest.mark.parametrize("whole", [True, False], ids=["checksum fits", "checksum does not"])
def test_a_checkpoint_with_flipped_bits_never_breaks_the_reader(begun, whole):
    spec, path, _ = begun
    head, _, payload = path.read_bytes().partition(b"\n")
    source = random.Random(whole)
    for _ in range(100):
        damaged = bytearray(payload)
        for _ in range(source.choice([1, 5, 50])):
            damaged[source.randrange(len(damaged))] ^= 1 << source.randrange(8)
        path.write_bytes(seal(bytes(damaged)) if whole else head + b"\n" + damaged)
        try:
            records.read_checkpoint(spec.out, spec.cells()[0])
        except records.DamagedRecord:
            continue
        assert whole


def test_the_limit_on_memory_is_no_damage(begun, monkeypatch):
    spec, _, _ = begun

    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(MemoryError):
        records.read_checkpoint(spec.out, spec.cells()[0])


def test_a_request_is_still_refused_as_such(tmp_path):
    with pytest.raises(RequestError):
        spec_in(tmp_path, initializers=("hee",))
