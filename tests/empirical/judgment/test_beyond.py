"""The claims beyond the report: cells that exist, theory from the records, verdicts by the tests."""

import math

import pandas as pd
import pytest

from empirical.judgment.beyond import arms_of, contrasts, foretold_arms, judge_beyond
from empirical.judgment.claim_theory import off
from empirical.judgment.evidence import Cells, Evidence
from empirical.presets import BEYOND
from empirical.protocol import StudySpec, TrainSpec

GRADIENT = "gradient_second_moment_predicted"


def evidence(scores, losses=None, gradients=None):
    """Made-up records: by (contrast, side) the scores of the seeds, the first loss and gradients."""
    study, cells, layers = [], [], []
    known = {one.name: one for one in contrasts()}
    for (name, side), values in scores.items():
        arm = known[name].cells(getattr(known[name], side))
        for seed, score in enumerate(values):
            spec = TrainSpec(**arm.spec.config() | {"seed": seed})
            row = spec.config() | {"cell": spec.cell_id, "status": "completed", "epoch": 1}
            study.append(row | {"test_accuracy": score, "average_weight": 0.0})
            loss = (losses or {}).get((name, side), spec.data.guessing)
            cells.append({"cell": spec.cell_id, "initial_loss_predicted": loss})
            for layer, gradient in enumerate((gradients or {}).get((name, side), (1.0, 1.0))):
                layers.append(
                    {
                        "cell": spec.cell_id,
                        "epoch": 0,
                        "layer": f"recurrent.hidden.{layer}",
                        GRADIENT: gradient,
                    }
                )
            layers.append({"cell": spec.cell_id, "epoch": 0, "layer": "head", GRADIENT: 1e9})
    return Evidence(pd.DataFrame(study), pd.DataFrame(cells), pd.DataFrame(layers))


def test_every_claim_is_of_cells_that_its_preset_trains():
    for one in contrasts():
        trained = {Cells.of(cell.config()) for cell in StudySpec(**BEYOND[one.preset].fields).cells()}
        assert set(one.part.cells) <= trained, one.name
        assert len(one.part.cells) == 2
    assert [one.name for one in contrasts()] == [f"E{n}" for n in range(1, 22)]
    assert {one.preset for one in contrasts()} == set(BEYOND)


def test_presets_have_at_least_three_seeds():
    assert all(len(StudySpec(**one.fields).seeds) >= 3 for one in BEYOND.values())


def test_theory_counts_the_first_loss_and_the_unevenness_of_the_gradient():
    found = evidence(
        {("E10", "first"): [50.0], ("E10", "second"): [50.0]},
        losses={("E10", "first"): math.e},
        gradients={("E10", "second"): (math.exp(-6.0), 1.0)},
    )
    claim = next(one for one in contrasts() if one.name == "E10")
    first, second = (off(claim.cells(arm), found) for arm in (claim.first, claim.second))
    assert first == pytest.approx(1.0)  # ln e over the guessing of a standardized target
    assert second == pytest.approx(3.0)  # ½·6, and the head counts in neither


def test_a_weight_before_a_norm_counts_by_its_relative_step():
    found = evidence({("E5", "first"): [50.0], ("E5", "second"): [50.0]})
    claim = next(one for one in contrasts() if one.name == "E5")
    he, normal = (off(claim.cells(arm), found) for arm in (claim.first, claim.second))
    assert he == pytest.approx(0.0) and normal == pytest.approx(0.5 * math.log(72 / 2))  # fan_in 9·8


def test_of_layers_with_norms_between_the_gradient_counts_from_the_second_on():
    gradients = (math.exp(-8.0), math.exp(-2.0), 1.0)
    found = evidence({("E5", "first"): [50.0]}, gradients={("E5", "first"): gradients})
    claim = next(one for one in contrasts() if one.name == "E5")
    assert off(claim.cells(claim.first), found) == pytest.approx(0.5 * 2.0)


def test_verdicts_are_those_of_the_tests_and_theory_is_marked():
    found = evidence(
        {
            ("E10", "first"): [80.0, 80.5, 81.0], ("E10", "second"): [60.0, 60.6, 61.1],
            ("E11", "first"): [70.0, 70.1, 70.2], ("E11", "second"): [70.1, 70.1, 70.1],
            ("E12", "first"): [10.0, 20.0, 30.0], ("E12", "second"): [50.0, 50.0, 50.0],
        },
        gradients={("E10", "second"): (math.exp(-6.0), 1.0), ("E12", "second"): (math.exp(-6.0), 1.0)},
    )  # fmt: skip
    table = judge_beyond(found).set_index("id")
    assert list(table.index) == ["E10", "E11", "E12"]
    assert table.loc["E10", "verdict"] == "confirmed" and table.loc["E10", "theory"] == "true"
    assert table.loc["E10", "theory_right"] == "right"
    assert table.loc["E10", ["first", "second"]].tolist() == pytest.approx([80.5, 60.5667], rel=1e-4)
    assert table.loc["E11", "verdict"] == "no difference that matters"
    assert table.loc["E11", "theory"] == "no difference" and table.loc["E11", "theory_right"] == "right"
    assert table.loc["E12", "direction"] == "disagrees" and table.loc["E12", "theory"] == "true"
    assert "wrong" in table.loc["E12", "theory_right"]


def test_arms_are_listed_with_their_seeds():
    found = evidence({("E13", "first"): [1.0, 2.0], ("E13", "second"): [3.0]})
    table = foretold_arms(found, arms_of(BEYOND))
    assert set(table["group"]) == {"adding"} and table["score"].tolist() == [1.0, 2.0, 3.0]
    assert (table["off"] == 0).all()


def test_the_verdict_by_the_planned_seeds_stands_beside_that_of_all():
    """Five even differences decide what three did not; seeds that came later are told apart."""
    pair = {("E1", "first"): [60.0, 70.0, 61.0, 71.0, 62.0], ("E1", "second"): [50.0] * 5}
    row = judge_beyond(evidence(pair)).set_index("id").loc["E1"]
    assert (row["verdict"], row["planned"], row["seeds"]) == ("confirmed", "not enough seeds", 5)
    first = {key: values[:3] for key, values in pair.items()}
    row = judge_beyond(evidence(first)).set_index("id").loc["E1"]
    assert row["verdict"] == row["planned"] == "not enough seeds"
