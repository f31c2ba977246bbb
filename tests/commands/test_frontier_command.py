"""``frontier`` as its user meets it: a document, files, a second start that trains nothing."""

import json

import pandas as pd
import pytest

import cli
from empirical.frontier import table as frontier

ARGUMENTS = [
    "frontier", "--activation", "relu", "--variances", "1", "2", "--depths", "2,3", "--width", "16",
    "--steps", "5", "--batch-size", "8", "--seeds", "2", "--seed", "7", "--device", "cpu", "--json",
]  # fmt: skip


def document(capsys, *more):
    assert cli.main([*ARGUMENTS, *map(str, more)]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_map_is_one_document_and_the_same_command_goes_on(tmp_path, capsys, monkeypatch):
    first = document(capsys, "--out", tmp_path)
    assert first["command"] == "frontier" and first["spec"]["seeds"] == [7, 8]
    assert len(first["networks"]) == 2 * 2 * 3  # N(0, 1) is σ_w² = 16, he and xavier are there
    assert set(first["networks"][0]) == set(frontier.COLUMNS)
    assert set(first["agreement"][0]) == set(frontier.AGREEMENT_COLUMNS)
    names = {"map.csv", "frontier.csv", "frontier.md", "frontier.tex", "frontier.png", "frontier.pdf"}
    assert names <= {path.name for path in tmp_path.iterdir()}
    assert len(pd.read_csv(tmp_path / "map.csv")) == 12
    monkeypatch.setattr(frontier, "_trained", None)  # calling it would fail
    assert document(capsys, "--out", tmp_path) == first


def test_several_networks_are_several_maps_in_one_document(tmp_path, capsys):
    several = ["--network", "residual", "rnn", "--branch-scale", "none", "depth", "--out", tmp_path]
    found = document(capsys, *several)
    kinds = [("residual", "none"), ("residual", "depth"), ("rnn", "none")]
    asked = found["spec"]["maps"]
    assert [(one["network"], one["branch_scale"]) for one in asked] == kinds
    assert [(row["network"], row["branch_scale"]) for row in found["agreement"]] == kinds
    assert len(found["networks"]) == 3 * 2 * 2 * 3
    names = {path.name for path in tmp_path.iterdir()}
    assert {"frontier-residual.png", "frontier-residual-depth.pdf", "frontier-rnn.png"} <= names


@pytest.mark.parametrize(
    "wrong, says",
    [
        (["--activation", "rellu"], "did you mean relu"),
        (["--depths", "0"], "depth must be"),
        (["--variances", "-1"], "σ_w² must be"),
        (["--seeds", "0"], "seeds must be"),
        (["--steps", "0"], "steps must be"),
        (["--width", "1"], "width must be"),
        (["--learning-rate", "nan"], "learning rate must be"),
        (["--bias-variance", "-1"], "bias variance must be"),
        (["--branch-scale", "depth"], "add --network residual"),
        (["--init", "pytorch"], "draws biases of its own"),
    ],
)
def test_a_wrong_request_is_one_line_and_leaves_nothing(wrong, says, tmp_path, capsys):
    assert cli.main([*ARGUMENTS, "--out", str(tmp_path / "out"), *wrong]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert says in captured.err and not (tmp_path / "out").exists()


def test_a_damaged_map_is_one_line(tmp_path, capsys):
    (tmp_path / "map.csv").write_text("no,map\n", encoding="utf-8")
    assert cli.main([*ARGUMENTS, "--out", str(tmp_path)]) == 2
    assert "is no map of trainability" in capsys.readouterr().err
