"""The published records beyond the report: whole, foretold before training, beside CIFAR-10's own."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import cli
from empirical.frontier.table import planned
from empirical.judgment.beyond import contrasts
from empirical.records.published import read, write
from figures.beyond.published import DATA, MAPS, PICTURES, SECTION, Beyond
from figures.beyond.verdicts import verdicts_table


@pytest.fixture(scope="module")
def beyond():
    return Beyond.read()


def test_every_claim_has_its_records_of_three_seeds_and_a_verdict(beyond):
    assert list(beyond.claims["id"]) == [one.name for one in contrasts()]
    assert (beyond.claims["seeds"] >= 3).all()
    assert not (beyond.claims["verdict"] == "records missing").any()
    assert set(beyond.claims["theory"]) <= {"true", "false", "no difference"}
    assert np.isfinite(beyond.claims["theory_value"]).all()


def test_seeds_that_were_added_later_are_said_to_be(beyond):
    more = beyond.claims[beyond.claims["seeds"] > 3]
    changed = more[more["verdict"] != more["planned"]]
    said = verdicts_table(beyond.claims).notes[-1]
    assert len(changed) and said.startswith(", ".join(more["id"]))
    assert all(f"{row.id} {row.planned}" in said for row in changed.itertuples())


def test_what_theory_foretold_is_of_the_network_as_drawn(beyond):
    told = beyond.records.layers["second_moment_predicted"].notna()
    assert set(beyond.records.layers.loc[told, "epoch"]) == {0}
    assert beyond.records.cells["initial_loss_predicted"].notna().all()


def test_the_map_is_that_of_the_default_command(beyond):
    expected = pd.concat([planned(spec) for spec in MAPS.values()], ignore_index=True)
    names = ["network", "branch_scale", "activation", "depth", "weight_variance", "predicted"]
    found = beyond.map.sort_values(names).reset_index(drop=True)
    expected = expected.sort_values(names).reset_index(drop=True)
    assert len(found) == len(expected) and beyond.map["accuracy"].notna().all()
    assert (found["activation"] == expected["activation"]).all()
    assert np.allclose(found["depth_scale"], expected["depth_scale"], rtol=1e-6)


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_is_drawn_and_says_how_it_is_read(beyond, name):
    title, caption = beyond.words(name)
    assert isinstance(beyond.figure(name), Figure) and title and caption.endswith(".")


def test_the_figures_command_draws_what_is_beyond_too(tmp_path, capsys, monkeypatch):
    """PNG and PDF of every picture; of other records none of it."""
    monkeypatch.setattr("figures.study.gallery.SECTIONS", {})
    assert cli.main(["figures", "--out", str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["figures"]
    assert [row["figure"] for row in rows] == list(PICTURES)
    assert {row["section"] for row in rows} == {SECTION} and all(row["cells"] > 20 for row in rows)
    names = {path.name for path in tmp_path.iterdir()}
    assert {f"{name}.{kind}" for name in PICTURES for kind in ("png", "pdf")} <= names


def test_the_frontiers_agree_more_than_saying_the_same_of_all(beyond):
    found = beyond.agreement.set_index(["network", "branch_scale", "activation"])
    assert len(found) == 12
    other = found.drop(index=("residual", "depth", "tanh"))  # of which theory says that all train
    assert (other["agree_low"] > other["best_constant"]).all()


def test_the_tables_of_the_course_reports_study_stay_as_they_are(tmp_path):
    """A field that came later has no column where every cell has its default."""
    paths = write(read(DATA.parent), tmp_path)
    for path in paths[:3]:
        header = path.read_text(encoding="utf-8").partition("\n")[0]
        assert header == (DATA.parent / path.name).read_text(encoding="utf-8").partition("\n")[0]
        assert "branch_scale" not in header
    assert "branch_scale" in (DATA / "cells.csv").read_text(encoding="utf-8").partition("\n")[0]
    assert Path(paths[0]).read_bytes() == (DATA.parent / "cells.csv").read_bytes()
