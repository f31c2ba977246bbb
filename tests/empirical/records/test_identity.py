"""A cell keeps its id when the program learns another option, and its record under the id of before."""

import dataclasses
import json

import pytest
from cifar_format import tiny_dataset
from filelock import FileLock
from test_records import resealed, spec_in

from empirical import identity
from empirical.protocol import Protocol, TrainSpec
from empirical.records import folders, published
from empirical.records.locations import cell_folder
from empirical.study.events import CellFinished, EpochDone
from empirical.study.grid import results, run_study

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tomorrow(TrainSpec):
    """The protocol with one option more."""

    warmup: int = 0


def test_a_new_field_changes_no_id_until_it_is_used():
    for fields in ({}, {"depth": 12, "fan": "fan_in", "augment": "flip"}):
        assert Tomorrow(**fields).cell_id == TrainSpec(**fields).cell_id
        assert Tomorrow(**fields).former_id == TrainSpec(**fields).former_id
        assert Tomorrow(**fields, warmup=5).cell_id != TrainSpec(**fields).cell_id


def test_every_field_has_its_line_and_a_default_may_change(monkeypatch):
    names = {item.name for item in dataclasses.fields(Protocol)}
    assert names - set(identity.NO_PART) == set(identity.DEFAULTS)
    before = TrainSpec(epochs=10).cell_id
    monkeypatch.setattr(TrainSpec.__dataclass_fields__["epochs"], "default", 20)
    assert TrainSpec(epochs=10).cell_id == before


def test_the_ids_of_the_first_records_are_known():
    assert TrainSpec().former_id == "he-relu-d02-s0-8d77a18d"
    assert TrainSpec(depth=12, seed=1).former_id == "he-relu-d12-s1-1186e460"
    assert TrainSpec(augment="none").former_id is None


def test_each_augmentation_is_a_cell_of_its_own():
    ids = {TrainSpec(augment=one).cell_id for one in ("flip+crop", "flip", "crop", "none")}
    assert len(ids) == 4 and TrainSpec().cell_id in ids


def as_before(out, spec):
    """Make the records of ``spec`` what the version before identities wrote."""
    folder = out / "cells" / spec.cell_id
    then = folder.rename(folder.with_name(spec.former_id))
    config = json.loads((then / "config.json").read_text()) | {"cell": spec.former_id}
    del config["augment"]
    (then / "config.json").write_text(json.dumps(config))
    if (then / "result.json").exists():
        resealed(then / "result.json", cell=spec.former_id)
    return then


def test_records_of_before_are_read_and_not_trained_again(tmp_path):
    spec = spec_in(tmp_path, seeds=(0, 1))
    table = run_study(spec, dataset=tiny_dataset(32, 8))
    tables = published.collect(tmp_path)
    for cell in spec.cells():
        as_before(tmp_path, cell)
    events = []
    again = run_study(spec, events.append, dataset=tiny_dataset(32, 8))
    assert all(event.skipped for event in events if isinstance(event, CellFinished))
    assert [one["cell"] for one in results(spec)] == [cell.cell_id for cell in spec.cells()]
    assert again.equals(table)
    for name in ("cells", "study", "layers"):
        assert getattr(published.collect(tmp_path), name).equals(getattr(tables, name))


def test_a_cell_begun_before_goes_on_where_it_was(tmp_path):
    def stop(event):
        if isinstance(event, EpochDone):
            raise KeyboardInterrupt

    spec, whole = (spec_in(tmp_path / name, epochs=2) for name in ("begun", "whole"))
    (cell,) = spec.cells()
    with pytest.raises(KeyboardInterrupt):
        run_study(spec, stop, dataset=tiny_dataset(32, 8))
    state = folders.read_checkpoint(spec.out, cell)
    then = as_before(spec.out, cell)
    folders.write_checkpoint(spec.out, cell, state)
    assert cell_folder(spec.out, cell) == then
    epochs = []
    table = run_study(spec, epochs.append, dataset=tiny_dataset(32, 8))
    assert [event.row["epoch"] for event in epochs if isinstance(event, EpochDone)] == [2]
    expected = run_study(whole, dataset=tiny_dataset(32, 8))
    assert table["train_loss"].tolist() == expected["train_loss"].tolist()
    assert [path.name for path in (spec.out / "cells").iterdir()] == [cell.former_id]


def test_a_cell_that_an_earlier_version_still_trains_is_left_to_it(tmp_path):
    spec = spec_in(tmp_path)
    (cell,) = spec.cells()
    folders.prepare(tmp_path)
    (tmp_path / "cells" / cell.former_id).mkdir()
    with FileLock(tmp_path / "locks" / f"{cell.former_id}.lock"):
        with folders.locked(tmp_path, cell) as ours:
            assert not ours
    with folders.locked(tmp_path, cell) as ours, folders.locked(tmp_path, cell) as others:
        assert ours and not others
        (tmp_path / "cells" / cell.former_id).rmdir()  # as a damaged record is set aside
        with folders.locked(tmp_path, cell) as others:
            assert not others


def test_a_finished_record_of_before_counts_beside_one_begun_today(tmp_path):
    spec = spec_in(tmp_path)
    (cell,) = spec.cells()
    run_study(spec, dataset=tiny_dataset(32, 8))
    then = as_before(tmp_path, cell)
    (tmp_path / "cells" / cell.cell_id).mkdir()
    assert cell_folder(tmp_path, cell) == then
    found, damaged = folders.read_all(tmp_path)
    assert [one.spec for one in found] == [cell] and not damaged


def test_published_tables_of_before_are_read_under_the_ids_of_today(tmp_path):
    run_study(spec_in(tmp_path / "run", seeds=(0, 1)), dataset=tiny_dataset(32, 8))
    now = published.collect(tmp_path / "run")
    former = {
        str(row["cell"]): published.spec_of(row).former_id for row in now.cells.to_dict("records")
    }
    published.write(now, tmp_path / "data")
    for name in ("cells.csv", "study.csv", "layers.csv"):
        text = (tmp_path / "data" / name).read_text()
        for today, then in former.items():
            text = text.replace(today, then)
        (tmp_path / "data" / name).write_text(text)
    for name in ("cells.csv", "study.csv"):
        lines = [line.split(",") for line in (tmp_path / "data" / name).read_text().splitlines()]
        column = lines[0].index("augment")
        text = "\n".join(",".join(line[:column] + line[column + 1 :]) for line in lines)
        (tmp_path / "data" / name).write_text(text + "\n")
    read = published.read(tmp_path / "data")
    for name in ("cells", "study", "layers"):
        assert getattr(read, name).equals(getattr(now, name))
