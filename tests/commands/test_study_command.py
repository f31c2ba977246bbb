"""``study`` as its user meets it: a document, verdicts and figures; a second start trains nothing."""

import json
import math

import pytest

import cli
from commands.study import cifar, study
from empirical.data.catalog import DATASETS, TASKS
from empirical.judgment.beyond import COLUMNS
from empirical.judgment.claim_theory import foretold_sizes
from empirical.presets import BEYOND
from empirical.protocol import COURSE_REPORT, StudySpec
from empirical.study import grid
from figures.accuracies import accuracy_results
from figures.paired.first_loss import FIGURES
from figures.report.report import Report

SMALL = [
    "--limit-train",
    "96",
    "--limit-test",
    "48",
    "--epochs",
    "1",
    "--filters",
    "8",
    "--device",
    "cpu",
]


def document(capsys, *words):
    assert cli.main(["study", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def cells_of(*words):
    arguments = cli.build_parser().parse_args([*words, "--out", "x"])
    fields = study.fields_of(arguments) if words[0] == "study" else {}
    return [cell.cell_id for cell in cifar.study_spec(arguments, arguments.out, fields).cells()]


def test_cifar_is_the_study_of_its_images():
    assert cells_of("study", "images") == cells_of("study", "images", "--dataset", "cifar10")
    assert cells_of("study", "images") == cells_of("cifar")
    assert cells_of("cifar") == [cell.cell_id for cell in COURSE_REPORT.cells()]


@pytest.mark.parametrize("name", [name for name, row in DATASETS.items() if row.source is None])
def test_every_data_set_has_a_study_of_its_own(name):
    task = DATASETS[name].task
    spec = StudySpec(
        **study.fields_of(cli.build_parser().parse_args(["study", task, "--dataset", name]))
    )
    assert spec.seeds == (0, 1, 2) and len(spec.initializers) > 1 and spec.augment == "none"


@pytest.mark.parametrize(
    "words",
    [
        ("images", "--dataset", "digits", "--depths", "2", "--activation", "relu"),
        ("regression", "--depths", "2", "--activation", "prelu"),
        ("sequence", "--dataset", "copy", "--network", "gru", "--depths", "3"),
    ],
)
def test_a_study_is_one_document_and_the_same_command_resumes(words, tmp_path, capsys, monkeypatch):
    words = [*words, *SMALL, "--out", tmp_path]
    first = document(capsys, *words)
    assert first["command"] == "study" and len(first["cells"]) == 6
    assert {cell["status"] for cell in first["cells"]} == {"completed"}
    assert len(first["statistics_pairs"]) == 1 and first["claims"] == []
    assert {"scores.png", "scores.pdf", "accuracy.md"} <= {path.name for path in tmp_path.iterdir()}
    monkeypatch.setattr(grid, "train_cell", None)  # calling it would fail
    assert document(capsys, *words) == first


def test_a_preset_is_judged_by_its_claims(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(BEYOND["adding"].fields, "depths", (4,))
    found = document(capsys, "sequence", "--preset", "adding", *SMALL, "--out", tmp_path)
    assert found["claims"] == []  # a smaller run is another cell, and says nothing of the claim
    small = {"limit_train": 96, "limit_test": 48, "epochs": 1, "filters": 8}
    for name, value in small.items():
        monkeypatch.setitem(BEYOND["adding"].fields, name, value)
    found = document(capsys, "sequence", "--preset", "adding", *SMALL, "--out", tmp_path)
    assert [claim["id"] for claim in found["claims"]] == ["E13", "E14"]
    for claim in found["claims"]:
        assert set(claim) == set(COLUMNS) and claim["seeds"] == 3
        assert claim["theory"] in ("true", "false", "no difference")


@pytest.mark.parametrize("task", TASKS)
def test_presets_are_listed_by_task(task, capsys):
    found = document(capsys, task, "--list-presets")["presets"]
    assert found and all(DATASETS[BEYOND[one["preset"]].dataset].task == task for one in found)
    assert cli.main(["study", task, "--list-presets"]) == 0
    assert f"Run one with study {task} --preset NAME" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["music"], "invalid choice: 'music'"),
        (["images", "--dataset", "teacher"], "teacher is a data set of regression"),
        (["images", "--preset", "teacher"], "teacher is a data set of regression"),
        (["regression", "--preset", "techer"], "did you mean teacher"),
        (["regression", "--network", "rnn"], "rnn takes no vectors"),
        (["regression", "--augment", "flip"], "augment does not apply to"),
        (["sequence", "--network", "gru", "--activation", "relu"], "activations of its own"),
        (["sequence", "--dataset", "characters", "--depths", "65"], "length of characters"),
        (["images", "--dataset", "digits", "--dropout", "nan"], "dropout must be"),
        (
            ["images", "--preset", "residual", "--branch-scale", "zero"],
            "is what preset residual compares",
        ),
    ],
)
def test_a_wrong_request_is_one_line_and_leaves_nothing(words, says, tmp_path, capsys):
    assert cli.main(["study", *words, "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert says in captured.err and not (tmp_path / "out").exists()


def test_records_of_another_task_are_never_taken_for_the_course_reports(tmp_path, capsys):
    words = ["regression", "--depths", "2", "--activation", "tanh", "--init", "he", "xavier"]
    assert cli.main(["study", *words, "--seeds", "2", *SMALL, "--quiet", "--out", str(tmp_path)]) == 0
    report = Report.read(tmp_path)
    table = accuracy_results(report.records)
    assert table.title == "Final test explained variance, percent"
    sections = {row["section"] for row in table.rows} - {"the course report prints"}
    (section,) = sections
    assert "no batch norm" in section and "8 filters" in section and "dataset teacher" in section
    assert {row["arm"] for row in table.rows if row["section"] == section} == {"He, fan_in", "Xavier"}
    assert not foretold_sizes(report.evidence)["cells"].any()
    assert math.isnan(report.evidence.spread("accuracy"))
    assert report.evidence.spread("accuracy", "teacher") > 0
    assert not len(FIGURES["initial-loss"].chosen(report.records).cells)
    capsys.readouterr()
    assert cli.main(["claims", "--records", str(tmp_path), "--out", str(tmp_path / "claims")]) == 2
    said = capsys.readouterr().err
    assert said == "error: claims are about cifar10, and these records are of teacher\n"
