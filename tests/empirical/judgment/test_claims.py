"""The report's claims on made-up records in which each of them is true, false, undecided or missing."""

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_records import DEPTHS, EPOCHS, GRID, cell, diverged, true_accuracy, true_curve, world

import cli
from empirical.judgment.claims import CLAIM_COLUMNS, PART_COLUMNS, claims, judge_claims
from empirical.judgment.evidence import QUANTITIES, Cells, Evidence, commands
from empirical.judgment.protocol_agreement import protocol_cells
from empirical.judgment.statistics import bca_interval, sign_flip_p_value
from empirical.judgment.truth import (
    CONFIRMED,
    DIVERGED,
    INSUFFICIENT,
    NO_RECORDS,
    NOT_SHOWN,
    REFUTED,
    Part,
    Term,
    judge,
    some_negative_p_value,
)
from empirical.protocol import published_accuracy

NAMES = [f"C{number}" for number in range(1, 15)]


def judged(study, **tables):
    """The claims' table under the protocol as printed, by id."""
    table, _ = judge_claims(Evidence(study, **tables))
    return table[table["fan"] == "fan_out"].set_index("id")


@pytest.fixture
def without_intervals(monkeypatch):
    """Bootstraps take most of the time, and no verdict rests on them."""
    monkeypatch.setattr("empirical.judgment.truth.bca_interval", lambda values, confidence: (0.0, 0.0))


def test_in_a_world_where_every_claim_is_true_every_claim_is_confirmed():
    table, parts = judge_claims(Evidence(world()))
    assert list(table["id"]) == NAMES
    assert list(table) == list(CLAIM_COLUMNS) and list(parts) == list(PART_COLUMNS)
    assert set(table["verdict"]) == {CONFIRMED} and set(table["direction"]) == {"agrees"}
    assert (table["p_holm"] == 14 * 2 / 2**10).all()
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()
    assert (parts["mean"] > 0).all() and (table["single_values"] == "").all()


# For each claim a change of the world that makes it false.
def with_accuracy(**changes):
    """``initializer_activation_depth=percent`` in the place of the true world's."""

    def accuracy(*arm):
        return float(changes.get("_".join(map(str, arm)), true_accuracy(*arm)))

    return {"accuracy": accuracy}


def with_curve(initializer, activation, depths, change):
    def curve(*arm):
        w = true_curve(*arm)
        changed = arm[:2] == (initializer, activation) and arm[2] in depths
        return change(w, arm[2]) if changed else w

    return {"curve": curve}


LATE = np.where(np.arange(EPOCHS) < 5, 0.0, -0.05 * (np.arange(EPOCHS) - 4))  # falls, but late
FALSE = [
    ("C1", with_curve("he", "relu", [2], lambda w, depth: 0.2 + LATE)),
    ("C2", with_curve("he", "relu", [10], lambda w, depth: w + LATE)),
    ("C3", with_accuracy(he_relu_12=74, he_relu_10=70)),  # rises, but stays below the bound
    ("C3", with_accuracy(he_relu_12=78, he_relu_10=79)),  # above the bound, but falls in the end
    ("C4", with_curve("he", "prelu", [5], lambda w, depth: w + LATE)),
    ("C4", with_curve("he", "prelu", DEPTHS, lambda w, depth: w - 0.02 * depth)),
    ("C5", with_accuracy(he_prelu_5=59)),
    ("C5", with_accuracy(he_prelu_2=60)),  # beats ReLU everywhere, most of all in the shallowest
    ("C6", with_curve("normal", "relu", [2], lambda w, depth: 0.2 + LATE)),
    ("C7", with_curve("normal", "relu", [12], lambda w, depth: w + LATE)),
    ("C8", with_accuracy(normal_relu_2=45)),  # below, not far below
    ("C8", with_accuracy(normal_relu_2=10, normal_relu_5=10)),
    ("C9", with_curve("normal", "prelu", DEPTHS, lambda w, depth: w + 0.02 * depth)),
    ("C10", with_accuracy(normal_prelu_10=51)),
    ("C11", with_accuracy(normal_prelu_12=61)),
    ("C12", with_curve("he", "prelu", [10], lambda w, depth: w + 0.01 * (-1.0) ** np.arange(10))),
    ("C13", with_accuracy(normal_prelu_12=82)),
    ("C13", with_accuracy(normal_relu_2=5, normal_prelu_2=5, normal_relu_5=10)),
    ("C14", with_accuracy(he_relu_2=60)),
    ("C14", with_accuracy(normal_prelu_2=190)),
]


@pytest.mark.parametrize("name, changes", FALSE, ids=[name for name, _ in FALSE])
def test_each_claim_is_refuted_where_it_is_false(name, changes, without_intervals):
    table = judged(world(**changes))
    assert (table.loc[name, "verdict"], table.loc[name, "direction"]) == (REFUTED, "disagrees")
    assert table.loc[name, "value"] < 0
    # and only claims that speak of the changed cells change
    assert (table["verdict"] == CONFIRMED).sum() >= 8


def test_every_claim_is_seen_to_be_refuted():
    assert {name for name, _ in FALSE} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_part_of_a_claim_can_refute_it(name, without_intervals):
    """Push the cells of one part after the other until it is negative."""
    claim = next(claim for claim in claims() if claim.name == name)
    for number, part in enumerate(claim.parts):
        study = world()
        for term in part.terms:
            chosen = (
                study[["initializer", "activation", "depth"]]
                == [
                    term.cells.initializer,
                    term.cells.activation,
                    term.cells.depth,
                ]
            ).all(axis=1)
            wanted = QUANTITIES[term.quantity]
            epochs = study.loc[chosen, "epoch"]
            if term.quantity in ("accuracy", "level"):
                study.loc[chosen, wanted.column] -= np.sign(term.factor) * 100
            elif term.factor > 0:
                study.loc[chosen, wanted.column] = 0.2
            else:
                study.loc[chosen, wanted.column] = 0.2 + (-1.0) ** epochs + 0.01 * epochs
        found = judge({name: claim.parts}, Evidence(study))[name]
        assert found.outcomes[number].mean < 0
        assert (found.verdict, found.direction) == (REFUTED, "disagrees")


@pytest.mark.parametrize("name", NAMES)
def test_a_claim_is_open_where_chance_decides(name, without_intervals):
    """Half of the seeds say yes, half no, as strongly."""
    claim = next(claim for claim in claims() if claim.name == name)
    outcomes = judge({name: claim.parts}, Evidence(world()))[name].outcomes
    last = outcomes[-1]
    steps = np.where(np.arange(10) % 2, 1.0, -1.0) * (1 + 0.01 * np.arange(10)) * 5 * last.mean
    evidence = Evidence(world())
    term = last.part.terms[0]
    known = evidence.values(term.quantity, term.cells)
    evidence._known[term.quantity, term.cells] = known + (steps - last.mean) / term.factor
    (found,) = judge({name: claim.parts}, evidence).values()
    assert found.verdict == NOT_SHOWN and found.p_holm > 0.05


@pytest.mark.parametrize("seeds", [1, 5])
def test_below_six_seeds_no_effect_is_large_enough(seeds):
    table = judged(world(seeds))
    assert set(table["verdict"]) == {INSUFFICIENT} and set(table["direction"]) == {"agrees"}
    assert table["low"].isna().all() and table["p_holm"].isna().all()
    assert (table["seeds"] == seeds).all()
    assert all(len(values.split(", ")) == seeds for values in table["single_values"])
    value = float(table.loc["C11", "single_values"].split(", ")[0])
    assert value == pytest.approx(60 - 50, abs=0.3)
    assert all("--seeds 10" in command for command in table["commands"])


def test_six_seeds_decide_a_claim_that_stands_alone_and_not_one_of_fourteen(without_intervals):
    alone = judged(world(6, grid=[("he", "relu", 2)]))
    assert alone.loc["C1", "verdict"] == CONFIRMED and alone.loc["C2", "verdict"] == NO_RECORDS
    assert set(judged(world(6))["verdict"]) == {INSUFFICIENT}
    assert set(judged(world(9))["verdict"]) == {INSUFFICIENT}
    assert set(judged(world(10))["verdict"]) == {CONFIRMED}


def test_claims_with_too_few_seeds_do_not_enlarge_the_family(without_intervals):
    many = world(6, grid=[("he", "relu", 2)])
    table = judged(pd.concat([many, world(1, grid=[arm for arm in GRID if arm != ("he", "relu", 2)])]))
    assert table.loc["C1", "verdict"] == CONFIRMED and table.loc["C1", "p_holm"] == 2 / 2**6
    assert set(table["verdict"].drop("C1")) == {INSUFFICIENT}


def test_a_run_that_disagrees_says_so_with_its_difference():
    table = judged(world(1, **with_accuracy(normal_prelu_12=64.28), noise=0.0))
    row = table.loc["C11"]
    assert (row["verdict"], row["direction"]) == (INSUFFICIENT, "disagrees")
    assert row["value"] == pytest.approx(60 - 64.28) and row["single_values"] == "-4.28"


def test_the_reports_own_numbers_are_judged_too():
    table = judged(world(1))
    own = table["report_direction"].to_dict()
    assert {name for name, direction in own.items() if direction == "agrees"} == {"C3", "C8", "C14"}
    assert {name for name, way in own.items() if way == "disagrees"} == {"C5", "C10", "C11", "C13"}
    assert table.loc["C11", "report_value"] == pytest.approx(60 - 64.28)
    gaps = [
        published_accuracy("he", activation, depth) - published_accuracy("normal", activation, depth)
        for depth in DEPTHS
        for activation in ("relu", "prelu")
    ]
    growth = np.mean(gaps[4:]) - np.mean(gaps[:4])
    assert growth < 0 and table.loc["C13", "report_value"] == pytest.approx(growth)


# ---------------------------------------------------------------- missing, diverged, counted twice


def test_missing_cells_are_named_with_the_command_that_makes_them():
    grid = [arm for arm in GRID if arm not in (("he", "relu", 12), ("normal", "relu", 12))]
    table = judged(world(10, grid=grid))
    missing = {"C2", "C3", "C5", "C7", "C8", "C12", "C13", "C14"}
    assert set(table.index[table["verdict"] == NO_RECORDS]) == missing
    row = table.loc["C8"]
    assert row["missing"] == "he · relu · 12; normal · relu · 12"
    assert row["commands"] == "cifar --init he normal --activation relu --depths 12"
    assert row["seeds"] == 0 and row["direction"] == "agrees" and "no record" in row["parts"]
    assert table.loc["C1", "verdict"] == CONFIRMED


@pytest.mark.parametrize(
    "cells",
    [
        [Cells("he", "relu", 2), Cells("he", "relu", 5), Cells("he", "prelu", 5)],
        [Cells("he", "relu", 2, (("fan", "fan_in"),)), Cells("normal", "relu", 2)],
        [Cells("normal", "relu", 2, (("head_initializer", "he"), ("learning_rate_reference", "he")))],
        [Cells("he", "relu", 30, (("norm", "none"), ("optimizer", "sgd"), ("pool_every", 10)))],
    ],
)
def test_the_commands_make_the_missing_cells(cells):
    from commands.study.cifar import _spec

    made = set()
    for line in commands(cells):
        arguments = cli.build_parser().parse_args(line.removeprefix("cli.py ").split())
        made |= {spec.cell_id for spec in _spec(arguments, Path("runs/cifar")).cells()}
    assert {one.spec.cell_id for one in cells} <= made


def test_diverged_cells_are_counted_and_never_averaged(without_intervals):
    extra = diverged("normal", "relu", 10, 10) + diverged("he", "relu", 5, 11, epochs=0)
    study = pd.concat([world(), pd.DataFrame(extra)])
    with_them, without = judged(study), judged(world())
    same = ["value", "seeds", "verdict", "p_holm"]
    pd.testing.assert_frame_equal(with_them[same], without[same])
    assert with_them.loc["C13", "diverged"] == 2 and with_them.loc["C7", "diverged"] == 1
    agreement, plain = protocol_cells(Evidence(study)), protocol_cells(Evidence(world()))
    pd.testing.assert_frame_equal(agreement.drop(columns="diverged"), plain.drop(columns="diverged"))
    assert agreement["diverged"].sum() > 0 == plain["diverged"].sum()


def test_a_diverged_seed_takes_its_pair_out(without_intervals):
    study = world()
    lost = (study["initializer"] == "normal") & (study["seed"] == 3) & (study["depth"] == 12)
    study.loc[lost & (study["activation"] == "prelu"), "status"] = "diverged"
    table = judged(study)
    assert (table.loc["C11", "seeds"], table.loc["C13", "seeds"], table.loc["C8", "seeds"]) == (
        9,
        9,
        10,
    )


def test_a_cell_whose_every_seed_diverged_leaves_the_claim_open():
    study = world(grid=[arm for arm in GRID if arm != ("normal", "prelu", 12)])
    extra = [row for seed in range(10) for row in diverged("normal", "prelu", 12, seed)]
    table = judged(pd.concat([study, pd.DataFrame(extra)]))
    assert set(table.index[table["verdict"] == DIVERGED]) == {"C9", "C10", "C11", "C12", "C13", "C14"}
    assert table.loc["C11", "missing"] == "" and math.isnan(table.loc["C11", "value"])
    assert "diverged" in table.loc["C11", "parts"]


def test_one_network_under_two_ids_is_one_seed():
    twice = [row for seed in range(4) for row in cell("normal", "prelu", 12, seed, 50, fan="fan_in")]
    study = pd.concat([world(4), pd.DataFrame(twice)])
    assert study.groupby(["initializer", "activation", "depth"])["cell"].nunique().max() == 8
    evidence = Evidence(study)
    assert evidence.completed(Cells("normal", "prelu", 12)) == [0, 1, 2, 3]
    pd.testing.assert_frame_equal(judged(study), judged(world(4)))


def test_cells_of_another_protocol_do_not_count():
    shorter = pd.DataFrame(cell("he", "relu", 2, 0, 99.0, np.linspace(1, 0, 3), epochs=3))
    assert set(judged(shorter)["verdict"]) == {NO_RECORDS}


# ------------------------------------------------------------------------------- the two fan modes


def test_he_by_fan_in_is_judged_apart_where_it_is_recorded(without_intervals):
    printed = world()
    assert set(judge_claims(Evidence(printed))[0]["fan"]) == {"fan_out"}
    he = [arm for arm in GRID if arm[0] == "he"]
    textbook = world(grid=he, fan="fan_in", **with_accuracy(he_relu_12=74))
    table, parts = judge_claims(Evidence(pd.concat([printed, textbook])))
    other = table[table["fan"] == "fan_in"].set_index("id")
    assert list(other.index) == ["C1", "C2", "C3", "C4", "C5", "C8", "C12", "C13", "C14"]
    assert other.loc["C3", "verdict"] == REFUTED and other.loc["C1", "verdict"] == CONFIRMED
    assert (other.loc["C1", "p_holm"]) == pytest.approx(9 * 2 / 2**10)  # a family of its own
    pd.testing.assert_frame_equal(table[table["fan"] == "fan_out"].set_index("id"), judged(printed))
    about_he = parts[parts["formula"].str.contains("he ·")]
    named = about_he["formula"].str.contains("fan_in")
    assert (named == (about_he["fan"] == "fan_in")).all()
    assert list(table["id"]) == sorted(table["id"], key=lambda name: int(name[1:]))


# --------------------------------------------------------------- numbers that a reader recomputes


def test_the_quantities_of_a_curve_by_hand():
    w = np.array([10.0, 8.0, 7.0, 6.0, 6.5, 6.0, 6.25, 6.0, 5.5, 5.75])
    found = {one.symbol: one.of(w) for one in QUANTITIES.values() if one.column == "average_weight"}
    assert found["F"] == 4.0 and found["D"] == pytest.approx(4 / 3)  # from epoch 1 to epoch 4
    assert found["S"] == pytest.approx((0.5 + 0.5 + 0.25 + 0.25 + 0.5 + 0.25) / 6)
    assert found["Z"] == 1.0 and found["R"] == 4.5 and found["V"] == 4.25
    assert found["M"] == pytest.approx(w.sum() / 10)


def reads(formula, study):
    """The mean over seeds of a formula as printed, by reading it: an oracle of its own."""
    left, bound = formula.split(" > ")
    total = 0.0
    number = r"([+−]?) ?(?:([\d.]+)·)?([A-Z])\((\w+) · (\w+) · (\d+)\)"
    for sign, factor, symbol, initializer, activation, depth in re.findall(number, left):
        rows = study[(study["initializer"] == initializer) & (study["activation"] == activation)]
        rows = rows[rows["depth"] == int(depth)].sort_values("epoch")
        one = next(one for one in QUANTITIES.values() if one.symbol == symbol)
        curves = rows.pivot_table(index="seed", columns="epoch", values=one.column).to_numpy()
        mean = np.mean([one.of(curve) for curve in curves])
        total += (-1 if sign == "−" else 1) * float(factor or 1) * mean
    return total - float(bound.replace("−", "-"))


def test_every_part_is_what_its_printed_formula_says():
    study = world(3)
    _, parts = judge_claims(Evidence(study))
    assert len(parts) > 50
    for row in parts.to_dict("records"):
        assert row["mean"] == pytest.approx(reads(row["formula"], study), rel=2e-3, abs=1e-5)
        values = [float(pair.split(":")[1]) for pair in row["values"].split()]
        assert row["mean"] == pytest.approx(np.mean(values), rel=1e-4)


def test_intervals_and_p_values_are_the_projects_own():
    table, parts = judge_claims(Evidence(world()))
    row = parts[parts["id"] == "C11"].iloc[0]
    study = world()
    rows = study[(study["initializer"] == "normal") & (study["activation"] == "prelu")]
    rows = rows[(rows["depth"] == 12) & (rows["epoch"] == 10)]
    values = 60 - rows.sort_values("seed")["test_accuracy"].to_numpy()
    assert (row["low"], row["high"]) == pytest.approx(bca_interval(values))
    assert row["p_value"] == sign_flip_p_value(values)
    assert table.set_index("id").loc["C11", "low"] == row["low"]


def test_the_joint_sign_flip_is_the_brute_force_one():
    random = np.random.default_rng(5)
    values = random.normal([0.3, -0.4, 1.0], 1.0, (7, 3))
    flips = [
        np.min([np.dot(signs, values[:, j]) / np.sqrt(np.sum(values[:, j] ** 2)) for j in range(3)])
        for signs in itertools.product((1, -1), repeat=7)
    ]
    expected = min(1.0, 2 * np.mean(np.array(flips) <= flips[0] + 1e-9))
    assert some_negative_p_value(values) == pytest.approx(expected)
    assert some_negative_p_value(-np.ones((6, 2))) == 2 / 64
    assert some_negative_p_value(np.zeros((6, 2))) == 1.0
    many = random.normal(-1.0, 1.0, (20, 2))
    assert some_negative_p_value(many) < 0.01  # sampled


def test_a_false_verdict_is_as_rare_as_it_says(monkeypatch, without_intervals):
    """Parts without any effect: with twenty claims' worth of draws, few are decided."""
    random = np.random.default_rng(6)
    cells = [Cells("he", "relu", depth) for depth in DEPTHS]
    parts = [Part(str(one.depth), (Term(1, "accuracy", one),), 50.0) for one in cells]
    wrong = {CONFIRMED: 0, REFUTED: 0}
    runs = 120
    evidence = Evidence(world(8, grid=[("he", "relu", depth) for depth in DEPTHS]))
    for _ in range(runs):
        evidence.memo.clear()
        for one in cells:
            evidence._known["accuracy", one] = pd.Series(50 + random.normal(size=8))
        verdict = judge({"x": parts}, evidence)["x"].verdict
        if verdict in wrong:
            wrong[verdict] += 1
    slack = 4 * math.sqrt(0.05 * 0.95 / runs)
    assert sum(wrong.values()) / runs < 0.05 + slack
