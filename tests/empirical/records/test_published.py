"""From run folders to small tables and back: nothing invented, nothing lost, damage named."""

import io
import json
import os
import re

import numpy as np
import pandas as pd
import pytest
import torch
from cifar_format import tiny_dataset
from synthetic_study import PRESETS, cells_of, study_of

import cli
from commands.study import cifar, study
from empirical.judgment.selection import arm, same_size, select
from empirical.presets import preset
from empirical.protocol import StudySpec, TrainSpec
from empirical.records import published
from empirical.records.account import commands
from empirical.records.published import (
    CELLS,
    LAYERS,
    MOVING,
    PREDICTED,
    STUDY,
    collect,
    gather,
    read,
    spec_of,
    write,
)
from empirical.study.events import RecordDamaged
from empirical.study.grid import load_layers, load_study, run_study
from theory.errors import RequestError


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """Five trained cells: two laws, PReLU, a depth more, and one that diverges in its first epoch."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("run")
    small = {
        "filters": 4,
        "epochs": 3,
        "batch_size": 32,
        "engine": "eager",
        "device": "cpu",
        "out": out,
    }
    data = tiny_dataset()
    for grid in (
        {"initializers": ("he", "normal"), "activations": ("prelu",), "depths": (2,)},
        {"initializers": ("he",), "activations": ("relu",), "depths": (2, 3), "seeds": (1,)},
        {"initializers": ("normal:1000000",), "activations": ("relu",), "depths": (7,),
         "norm": "none"},
    ):  # fmt: skip
        run_study(StudySpec(**small | grid), dataset=data)
    torch.set_num_threads(threads)
    return out


@pytest.fixture(scope="module")
def collected(run_folder):
    return collect(run_folder)


def same(one, two):
    for name in ("study", "layers", "cells"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(two, name), check_exact=True)


def test_what_is_written_is_read_back_the_same(collected, tmp_path):
    paths = write(collected, tmp_path / "a")
    assert {path.name for path in paths} == {"cells.csv", "study.csv", "layers.csv", "ABOUT.md"}
    same(collected, read(tmp_path / "a"))
    write(read(tmp_path / "a"), tmp_path / "b")
    for path in paths:
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_a_cell_keeps_every_digit_of_what_names_it(tmp_path):
    odd = {"learning_rate": 10**-2.5, "gain_slope": 3**-0.5}  # points of grids, with 17 digits
    small = {"filters": 4, "epochs": 1, "batch_size": 32, "engine": "eager", "device": "cpu"}
    run = StudySpec(
        initializers=("he",), activations=("relu",), depths=(2,), out=tmp_path, **small, **odd
    )
    run_study(run, dataset=tiny_dataset())
    found = collect(tmp_path)
    write(found, tmp_path / "tables")
    same(found, read(tmp_path / "tables"))
    row = found.cells.iloc[0]
    assert (row["learning_rate"], row["gain_slope"]) == tuple(odd.values())


def test_the_study_is_that_of_the_records_to_nine_digits(collected, run_folder):
    keys = ["cell", "epoch"]
    ours = collected.study.sort_values(keys, ignore_index=True)
    theirs = load_study(run_folder).sort_values(keys, ignore_index=True)
    for name in ("initializer", "activation", "depth", "seed", "filters", "status", "variant"):
        assert ours[name].tolist() == theirs[name].tolist()
    for name in ("train_loss", "test_accuracy", "average_weight", "gradient_norm"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-8)
    diverged = ours[ours["status"] == "diverged"]
    assert diverged["epoch"].tolist() == [0] and diverged["train_loss"].isna().all()


def test_layers_are_those_of_the_records_to_five_digits_and_thinned(collected, run_folder):
    keys = ["cell", "epoch", "layer"]
    joined = collected.layers.merge(load_layers(run_folder)[[*keys, *MOVING, *PREDICTED]], on=keys,
                                    suffixes=("", "_recorded"))  # fmt: skip
    assert len(joined) == len(collected.layers)
    for name in MOVING:
        np.testing.assert_allclose(joined[name], joined[f"{name}_recorded"], rtol=1e-4)
    first = joined[joined["epoch"] == 0]
    np.testing.assert_allclose(
        first["second_moment_predicted"], first["second_moment_predicted_recorded"], rtol=1e-4
    )
    assert collected.layers.loc[collected.layers["epoch"] > 0, list(PREDICTED)].isna().all().all()
    between = collected.layers[collected.layers["epoch"].isin((1, 2))]
    assert set(between["kind"]) == {"Conv2d", "FlattenLinear", "PReLU"}
    assert between["second_moment"].isna().all()
    ends = collected.layers[collected.layers["epoch"] == 3]
    assert {"BatchNorm2d", "ReLU"} <= set(ends["kind"]) and ends["second_moment"].notna().any()


def test_cells_hold_the_result_and_the_machine(collected, run_folder):
    assert len(collected.cells) == 5
    for row in collected.cells.to_dict("records"):
        result = json.loads((run_folder / "cells" / row["cell"] / "result.json").read_text())
        assert spec_of(row).cell_id == row["cell"]
        assert (
            row["hardware"] == result["environment"]["hardware"] and row["torch"] == torch.__version__
        )
        assert row["epochs_done"] == len(result["seconds"])
        if row["status"] == "completed":
            assert row["final_test_accuracy"] == pytest.approx(result["final_test_accuracy"], rel=1e-8)
            assert row["initial_loss"] == pytest.approx(result["initial"]["loss"], rel=1e-8)
    assert sorted(collected.cells["status"]).count("diverged") == 1


def test_a_damaged_record_is_named_and_left_out(run_folder, tmp_path):
    import shutil

    copy = shutil.copytree(run_folder, tmp_path / "copy")
    chosen = sorted((copy / "cells").iterdir())[0]
    table = chosen / "layers.csv"
    table.write_text(table.read_text().replace("1", "2", 1))
    events = []
    found = read(copy, events.append)
    assert len(found.cells) == 4 and chosen.name not in set(found.study["cell"])
    (event,) = events
    assert isinstance(event, RecordDamaged)
    assert event.cell == chosen.name and "checksum" in event.reason


def test_several_folders_are_one_study_and_the_first_counts(run_folder, collected, tmp_path):
    part = collected.of(list(collected.cells["cell"])[::2])
    altered = part.cells.assign(notes="elsewhere")
    write(type(part)(part.study, part.layers, altered), tmp_path / "part")
    same(gather([run_folder, tmp_path / "part"]), collected)
    other = gather([tmp_path / "part", run_folder])
    assert other.cells["cell"].tolist() == collected.cells["cell"].tolist()
    assert (other.cells["notes"] == "elsewhere").sum() == len(part.cells)


@pytest.fixture
def folder(collected, tmp_path):
    write(collected, tmp_path)
    return tmp_path


def edit(path, change):
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


@pytest.mark.parametrize(
    "name, change, says",
    [
        (STUDY, None, "holds cells.csv but no study.csv"),
        (LAYERS, None, "holds cells.csv but no layers.csv"),
        (CELLS, None, "holds no records"),
        (CELLS, lambda text: text.replace("final_test_accuracy", "accuracy"), "lacks the column"),
        (CELLS, lambda text: text.replace(",prelu,2,0,", ",prelu,5,0,"), "describes another cell"),
        (CELLS, lambda text: text + text.splitlines()[-1] + "\n", "more than once"),
        (CELLS, lambda text: "", "cannot be read"),
        (CELLS, lambda text: text.replace("batch,", "laier,", 1), "norm"),
        (STUDY, lambda text: text[: text.rindex("\n", 0, -1) + 1], "does not hold the 0 epochs of"),
        (STUDY, lambda text: re.sub(r"\n.*?\n", "\n", text, count=1), "does not hold the 3 epochs"),
        (STUDY, lambda text: text.replace(",3,", ",three,"), "cannot be read"),
        (
            LAYERS,
            lambda text: text.replace("he-relu-d03", "he-relu-d04"),
            "a cell that cells.csv lacks",
        ),
    ],
)
def test_bad_or_partial_tables_are_one_clear_line(folder, name, change, says):
    if change is None:
        (folder / name).unlink()
    else:
        before = (folder / name).read_text(encoding="utf-8")
        edit(folder / name, change)
        assert (folder / name).read_text(encoding="utf-8") != before
    with pytest.raises(RequestError, match=says) as error:
        read(folder)
    assert "\n" not in str(error.value)


def with_field(name, value, row=1):
    """A change of a table: ``value`` in the column ``name`` of the row ``row``, whatever it holds."""

    def change(text):
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
        table.loc[table.index[row], name] = value
        return table.to_csv(index=False, lineterminator="\n")

    return change


@pytest.mark.parametrize(
    "name, change, says",
    [
        (LAYERS, lambda text: text.splitlines()[0] + "\n", "does not hold the layers of"),
        (LAYERS, lambda text: text + text.splitlines()[-1] + "\n", "twice in one epoch"),
        (LAYERS, with_field("epoch", "9"), "after the last epoch"),
        (LAYERS, with_field("weight_std", "wide"), "weight_std in row 3: should be a valid number"),
        (CELLS, with_field("seed", str(2**63)), "seed in row 3: should be less than or equal to"),
        (CELLS, with_field("seed", "-1"), "seed in row 3: should be greater"),
        (CELLS, with_field("threads", "9" * 5000), "threads in row 3"),
        (CELLS, with_field("status", "running"), "status in row 3: should be 'completed' or"),
        (CELLS, with_field("status", "completed", row=4), "completed after 0 of 3 epochs"),
        (CELLS, with_field("final_test_accuracy", "50.5"), "ends at another accuracy than"),
        (CELLS, with_field("cell", ""), "cell in row 3"),
        (STUDY, with_field("status", "diverged"), "contradicts cells.csv about"),
        (STUDY, with_field("depth", "9"), "contradicts cells.csv about"),
        (STUDY, with_field("epoch", "3"), "each once, in order"),
        (STUDY, with_field("train_loss", ""), "lacks train_loss of"),
        (STUDY, lambda text: text.replace(",engine,", ",status,", 1), "the column status twice"),
        (STUDY, lambda text: text + "a,b\n", "has 2 fields, the first row"),
        *(
            (table, with_field(column, value), f"{column} in row 3: should be")
            for table, column in ((CELLS, "final_test_accuracy"), (STUDY, "test_accuracy"))
            for value in ("inf", "nan", "-1e200", "500", "1e308")
        ),
        (CELLS, with_field("final_test_accuracy", "-5"), "an accuracy below 0"),
        (STUDY, with_field("test_accuracy", "-5"), "an accuracy below 0"),
    ],
)
def test_a_table_of_another_meaning_is_one_clear_line(folder, name, change, says):
    edit(folder / name, change)
    with pytest.raises(RequestError, match=says) as error:
        read(folder)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


@pytest.mark.parametrize("name", [CELLS, STUDY, LAYERS])
def test_a_pipe_in_the_place_of_a_table_is_not_waited_for(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(RequestError, match="holds no records" if name == CELLS else f"no {name}"):
        read(folder)


def test_bytes_that_are_no_text_are_one_clear_line(folder):
    (folder / STUDY).write_bytes(b"\xff\xfe\x00\x01" * 50)
    with pytest.raises(RequestError, match=r"study\.csv cannot be read"):
        read(folder)


def test_a_folder_that_cannot_be_written_is_a_wrong_request(collected, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RequestError, match="cannot write to"):
        write(collected, tmp_path / "file")


def made_by(command):
    """The ids of the cells that a command of ``cifar`` would train."""
    words = command.partition("#")[0].split()
    arguments = cli.build_parser().parse_args([*words, "--out", "x"])
    if words[0] == "study":
        fields = study.fields_of(arguments)
    else:
        fields = preset(arguments.preset).fields if arguments.preset else {}
    return {cell.cell_id for cell in cifar.study_spec(arguments, arguments.out, fields).cells()}


def test_the_named_commands_make_exactly_these_cells(collected):
    specs = [spec_of(row) for row in collected.cells.to_dict("records")]
    found = [made_by(command) for command in commands(collected.cells, specs)]
    assert len(found) == 3 and set.union(*found) == set(collected.cells["cell"])


def test_cells_of_presets_are_made_by_their_presets(tmp_path):
    cells = [*cells_of("report", "effective-lr"), TrainSpec(seed=1), TrainSpec(seed=2, depth=2)]
    tables = study_of(cells, tmp_path)
    asked = published._presets_by_key()
    labelled = [" ".join(asked.get(cell.key("seed"), [])) for cell in cells]
    assert labelled[0] == "report head xavier effective-lr augmentation" and "seeds" not in " ".join(
        labelled
    )
    lines = commands(tables.cells.assign(preset=labelled), cells)
    part = "   # 18 of 48 cells"  # sixteen, and one more of each of two seeds
    assert lines == [f"cifar --preset report --seeds 3{part}", "cifar --preset effective-lr"]
    assert {cell.cell_id for cell in cells} <= set.union(*map(made_by, lines))


# ------------------------------------------------------------------------------- selection


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    return study_of(cells_of(), tmp_path_factory.mktemp("everything"))


@pytest.mark.parametrize("name", PRESETS)
def test_a_complete_study_lacks_nothing(everything, name):
    chosen = select(everything, name)
    expected = {cell.cell_id for cell in cells_of(name)}
    assert chosen.asked == expected and not chosen.missing
    assert expected <= set(chosen.records.cells["cell"])


def test_missing_cells_are_those_of_the_command(everything, tmp_path):
    kept = everything.of(cell for cell in everything.cells["cell"] if "prelu" not in cell)
    chosen = select(kept, "head")
    assert {cell.activation for cell in chosen.missing} == {"prelu"} and len(chosen.missing) == 12
    assert {cell.cell_id for cell in chosen.missing} == made_by(chosen.command) - set(
        kept.cells["cell"]
    )


def test_a_smaller_run_answers_the_same_question_in_small(everything, tmp_path):
    size = {"epochs": 2, "filters": 8, "limit_train": 640}
    small = cells_of("head", **size)[:20]
    tables = study_of(small, tmp_path / "small")
    chosen = select(tables, "head")
    assert chosen.asked == {cell.cell_id for cell in small} and len(chosen.missing) == 4
    assert made_by(chosen.command) == {cell.cell_id for cell in cells_of("head", **size)}
    both = study_of([*small, *cells_of("report")], tmp_path / "both")
    full = select(both, "head")  # the preset's own size goes before the larger number
    assert {spec_of(row).epochs for row in full.records.cells.to_dict("records")} == {10}
    assert len(same_size(both, full.size).cells) == 16


def test_cells_beside_the_grid_are_shown_but_not_asked_for(tmp_path):
    extra = [TrainSpec(initializer="xavier", depth=depth) for depth in (2, 3)]
    chosen = select(study_of([*cells_of("report"), *extra], tmp_path), "report")
    assert set(chosen.records.cells["cell"]) - chosen.asked == {cell.cell_id for cell in extra}
    assert set(chosen.own.cells["initializer"]) == {"he", "normal"}


def test_an_arm_says_how_it_is_not_the_report():
    assert str(arm(TrainSpec(filters=8, epochs=1))) == "he"
    assert str(arm(TrainSpec(head_fan="fan_in", limit_train=64))) == "he, head fan_in"
    assert str(arm(TrainSpec(initializer="normal", fan="fan_in"))) == "normal"
