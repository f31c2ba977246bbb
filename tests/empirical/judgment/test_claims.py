"""The report's claims on made-up records in which each of them is true, false, undecided or missing."""

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_records import DEPTHS, EPOCHS, GRID, cell, diverged, true_accuracy, true_curve, world

import cli
import empirical.judgment.claims as claims_module
from empirical.arm import NAMES as TITLES
from empirical.data.files import tables
from empirical.judgment.claims import CLAIM_COLUMNS, PART_COLUMNS, claims, judge_claims, training
from empirical.judgment.evidence import QUANTITIES, Cells, Evidence
from empirical.judgment.protocol_agreement import protocol_cells
from empirical.judgment.statistics import EQUIVALENT, INSUFFICIENT, TOO_CLOSE, paired
from empirical.judgment.truth import (
    CONFIRMED,
    DIVERGED,
    NO_RECORDS,
    REFUTED,
    Part,
    Term,
    judge,
)
from empirical.protocol import published_accuracy
from figures.study.claims import claims_table

NAMES = [f"C{number}" for number in range(1, 15)]


def judged(study, **tables):
    """The claims' table under the protocol as printed, by id."""
    table, _ = judge_claims(Evidence(study, **tables))
    return table[table["fan"] == "fan_out"].set_index("id")


def test_in_a_world_where_every_claim_is_true_every_claim_is_confirmed():
    table, parts = judge_claims(Evidence(world()))
    assert list(table["id"]) == NAMES
    assert list(table) == list(CLAIM_COLUMNS) and list(parts) == list(PART_COLUMNS)
    assert set(table["verdict"]) == {CONFIRMED} and set(table["direction"]) == {"agrees"}
    assert (table["p_holm"] <= 0.05).all() and (table["p_exact"] == 2 / 2**10).all()
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()
    assert (parts["mean"] > 0).all() and (table["single_values"] == "").all()


def test_what_the_first_seeds_alone_say_is_told():
    """C11 is false by the first five seeds; what came later, from the sixth on, leaves it open."""
    study = world(10)
    bound = (
        (study["initializer"] == "normal") & (study["activation"] == "prelu") & (study["depth"] == 12)
    )
    last = bound & (study["epoch"] == study["epoch"].max())
    scatter = np.array([0.1, -0.1, 0.1, -0.1, 0.0, -50.0, -50.0, -50.0, -50.0, -50.0])
    study.loc[last, "test_accuracy"] = 70 + scatter
    table = judged(study)
    first = judged(study[study["seed"] < 5])
    assert table.loc["C11", "verdict"] != REFUTED == first.loc["C11", "verdict"]
    assert list(table["first_verdict"]) == list(first["verdict"]) == list(first["first_verdict"])
    notes = " ".join(claims_table(table.reset_index()).notes)
    told = first["verdict"].items()
    changed = {f"{name} {said}" for name, said in told if said != table.loc[name, "verdict"]}
    assert f"By the first 5 seeds of every cell alone: {'; '.join(sorted(changed))}." in notes
    assert "By the first" not in " ".join(claims_table(first.reset_index()).notes)


NEW = """
[C15]
short = "PReLU rises"
text = "PReLU: accuracy rises with depth, to more than {bound:g} %"
operationalised = "A(L) rises at each step of L = {depths}; A({deepest}) − {bound:g} > 0"
unit = "points"
bound = 75.0
parts = [
    { kind = "rises", arm = "he prelu", quantity = "accuracy" },
    { kind = "bound", arm = "he prelu", above = true },
]
"""


def test_a_table_is_all_that_a_new_claim_needs(monkeypatch, tmp_path):
    own = Path(claims_module.__file__).with_suffix(".toml").read_text(encoding="utf-8")
    written = tmp_path / "claims.toml"
    written.write_text(own + NEW, encoding="utf-8")
    monkeypatch.setattr(claims_module, "_WRITTEN", tables(written))
    monkeypatch.setitem(claims_module.BOUNDS, "C15", 75.0)
    table = judged(world())
    assert list(table.index) == [*NAMES, "C15"]
    new = table.loc["C15"]
    assert new["claim"].endswith("more than 75 %") and new["verdict"] == CONFIRMED
    assert new["parts"].count("rises, ") == 3 and "12 layers − 75: +" in new["parts"]
    low = judged(world(**with_accuracy(he_prelu_12=74, he_prelu_10=70))).loc["C15"]
    assert low["verdict"] == REFUTED and low["part"] == "12 layers − 75"


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
def test_each_claim_is_refuted_where_it_is_false(name, changes):
    table = judged(world(**changes))
    assert (table.loc[name, "verdict"], table.loc[name, "direction"]) == (REFUTED, "disagrees")
    assert table.loc[name, "value"] < 0
    # and only claims that speak of the changed cells change
    assert (table["verdict"] == CONFIRMED).sum() >= 8


def test_every_claim_is_seen_to_be_refuted():
    assert {name for name, _ in FALSE} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_part_of_a_claim_can_refute_it(name):
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
def test_a_claim_is_open_where_chance_decides(name):
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
    assert found.verdict in (TOO_CLOSE, EQUIVALENT) and found.p_holm > 0.05


@pytest.mark.parametrize("seeds", [1, 2])
def test_below_three_seeds_no_effect_is_large_enough(seeds):
    table = judged(world(seeds))
    assert set(table["verdict"]) == {INSUFFICIENT} and set(table["direction"]) == {"agrees"}
    assert table["low"].isna().all() and table["p_holm"].isna().all()
    assert (table["seeds"] == seeds).all() and (table["needed"] >= 3).all()
    assert all(len(values.split(", ")) == seeds for values in table["single_values"])
    value = float(table.loc["C11", "single_values"].split(", ")[0])
    assert value == pytest.approx(60 - 50, abs=0.3)
    assert all("--seeds" in command for command in table["commands"])


def test_three_seeds_decide_what_is_clear():
    table = judged(world(3))
    assert set(table["verdict"]) == {CONFIRMED} and table["p_exact"].isna().all()
    assert (table["single_values"] == "").all()


def test_an_effect_within_a_point_makes_no_difference_that_matters():
    """He with PReLU as good as with ReLU, to a tenth of a point: neither true nor false."""
    same = with_accuracy(he_prelu_2=50, he_prelu_5=60, he_prelu_10=70, he_prelu_12=78)
    table = judged(world(10, **same))
    assert table.loc["C14", "verdict"] == EQUIVALENT
    worse = with_accuracy(he_prelu_2=48, he_prelu_5=58, he_prelu_10=68, he_prelu_12=76)
    assert judged(world(10, **worse)).loc["C14", "verdict"] == REFUTED


def test_what_would_do_grows_with_the_family_and_with_the_noise():
    part = next(claim for claim in claims() if claim.name == "C11").parts
    loud = Evidence(world(2, noise=60.0))
    alone, among = (judge({str(n): part for n in range(size)}, loud)["0"].needed for size in (1, 14))
    assert 3 < alone < among
    assert judge({"0": part}, Evidence(world(2)))["0"].needed == 3


def test_a_refutation_needs_no_record_of_the_other_parts():
    grid = [arm for arm in GRID if arm != ("he", "relu", 12)]
    table = judged(world(5, grid=grid, **with_accuracy(he_relu_10=55)))
    assert table.loc["C3", "missing"] and table.loc["C3", "verdict"] == REFUTED
    assert judged(world(5, grid=grid)).loc["C3", "verdict"] == NO_RECORDS


def test_a_total_is_what_its_parts_add_up_to():
    """More seeds of one cell than of the others: the line keeps to the seeds that all have."""
    more = world(10, grid=[("he", "relu", 2), ("normal", "relu", 2)], noise=40.0)
    study = pd.concat([world(4, noise=40.0), more]).drop_duplicates(["cell", "epoch"])
    _, parts = judge_claims(Evidence(study))
    for name, first, last in (("C5", 0, 4), ("C13", 0, 8)):
        own = parts[parts["id"] == name]
        gaps = own["mean"].to_numpy()[first:last]
        deep = np.array([part.endswith((" 10", " 12")) for part in own["part"][first:last]])
        total = own.loc[own["part"] == "grows with depth", "mean"].item()
        assert total == pytest.approx(gaps[deep].mean() - gaps[~deep].mean(), abs=1e-9)
        assert set(own["seeds"]) == {4}
    far = parts[parts["id"] == "C8"]
    printed = [published_accuracy("he", "relu", d) - published_accuracy("normal", "relu", d)
               for d in DEPTHS]  # fmt: skip
    gaps = far["mean"].to_numpy()[:4] + np.array(printed) / 2
    assert far["mean"].to_numpy()[4] == pytest.approx(gaps[2:].mean() - gaps[:2].mean(), abs=1e-9)


def test_no_seed_is_left_out_where_nothing_is_added_up():
    """A fourth seed of two cells counts in the part that is of these two, whatever the others have."""
    more = world(4, grid=[("he", "relu", 2), ("he", "prelu", 2)])
    study = pd.concat([world(3), more]).drop_duplicates(["cell", "epoch"])
    _, parts = judge_claims(Evidence(study))
    seeds = parts[parts["id"] == "C4"].set_index("part")["seeds"]
    assert seeds.iloc[0] == 4 and set(seeds.iloc[1:]) == {3}
    assert set(parts.loc[parts["id"] == "C13", "seeds"]) == {3}


def test_a_part_with_seeds_enough_refutes_whatever_is_missing_of_the_others():
    """Three seeds at 2 layers, one of the rest: the 2-layer gap is against C5 for all of them."""
    shallow = [(name, activation, 2) for name in ("he", "normal") for activation in ("relu", "prelu")]
    low = with_accuracy(he_prelu_2=45, he_prelu_5=20)
    study = pd.concat([world(3, grid=shallow, **low), world(1, **low)])
    study = study.drop_duplicates(["cell", "epoch"])
    found = judged(study).loc["C5"]
    assert found["verdict"] == REFUTED and found["part"] == "PReLU − ReLU, 2" and found["seeds"] == 3
    assert "PReLU − ReLU, 2: " in found["parts"] and "(3 seeds)" in found["parts"]
    assert "PReLU − ReLU, 5: " in found["parts"] and "(1 seed)" in found["parts"]
    assert not judged(world(3, grid=shallow)).loc["C5", "verdict"] == REFUTED


def test_claims_with_too_few_seeds_do_not_enlarge_the_family():
    many = world(6, grid=[("he", "relu", 2)])
    table = judged(pd.concat([many, world(1, grid=[arm for arm in GRID if arm != ("he", "relu", 2)])]))
    assert table.loc["C1", "verdict"] == CONFIRMED
    assert table.loc["C1", "p_holm"] == table.loc["C1", "p_value"]
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
    assert row["missing"] == "He · ReLU · 12; N(0, 1) · ReLU · 12"
    assert row["commands"] == "cifar --init he normal --activation relu --depths 12"
    assert row["seeds"] == 10 and row["direction"] == "agrees" and "no record" in row["parts"]
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
    from commands.study.cifar import study_spec

    made = set()
    for line in training(cells):
        arguments = cli.build_parser().parse_args(line.removeprefix("cli.py ").split())
        made |= {spec.cell_id for spec in study_spec(arguments, Path("runs/cifar"), {}).cells()}
    assert {one.spec.cell_id for one in cells} <= made


def test_diverged_cells_are_counted_and_never_averaged():
    extra = diverged("normal", "relu", 10, 10) + diverged("he", "relu", 5, 11, epochs=0)
    study = pd.concat([world(), pd.DataFrame(extra)])
    with_them, without = judged(study), judged(world())
    same = ["value", "seeds", "verdict", "p_holm"]
    pd.testing.assert_frame_equal(with_them[same], without[same])
    assert with_them.loc["C13", "diverged"] == 2 and with_them.loc["C7", "diverged"] == 1
    agreement, plain = protocol_cells(Evidence(study)), protocol_cells(Evidence(world()))
    pd.testing.assert_frame_equal(agreement.drop(columns="diverged"), plain.drop(columns="diverged"))
    assert agreement["diverged"].sum() > 0 == plain["diverged"].sum()


def test_a_diverged_seed_takes_its_pair_out():
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


def test_he_by_fan_in_is_judged_apart_where_it_is_recorded():
    printed = world()
    assert set(judge_claims(Evidence(printed))[0]["fan"]) == {"fan_out"}
    he = [arm for arm in GRID if arm[0] == "he"]
    textbook = world(grid=he, fan="fan_in", **with_accuracy(he_relu_12=74))
    table, parts = judge_claims(Evidence(pd.concat([printed, textbook])))
    other = table[table["fan"] == "fan_in"].set_index("id")
    assert list(other.index) == ["C1", "C2", "C3", "C4", "C5", "C8", "C12", "C13", "C14"]
    assert other.loc["C3", "verdict"] == REFUTED and other.loc["C1", "verdict"] == CONFIRMED
    assert other["p_holm"].min() == pytest.approx(9 * other["p_value"].min())  # a family of its own
    pd.testing.assert_frame_equal(table[table["fan"] == "fan_out"].set_index("id"), judged(printed))
    about_he = parts[parts["formula"].str.contains("He ·")]
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
    number = r"([+−]?) ?(?:([\d.]+)·)?([A-Z])\((He|N\(0, 1\)) · (\w+) · (\d+)\)"
    known = {name: key for key, name in TITLES.items()}
    for sign, factor, symbol, *names, depth in re.findall(number, left):
        initializer, activation = (known[name] for name in names)
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
    own = paired(values, penalty=4)  # one arm against a printed number
    assert (row["low"], row["high"]) == pytest.approx((own.low, own.high))
    assert (row["p_value"], row["p_exact"]) == (pytest.approx(own.p_value), own.p_exact)
    assert table.set_index("id").loc["C11", "low"] == row["low"]


def test_a_refutation_pays_for_the_choice_of_the_worst_part():
    random = np.random.default_rng(5)
    depths, values = DEPTHS[:3], random.normal([0.3, -0.4, 1.0], 0.2, (7, 3))
    evidence = Evidence(world(7, grid=[("he", "relu", depth) for depth in depths]))
    parts = []
    for depth, column in zip(depths, values.T, strict=True):
        one = Cells("he", "relu", depth)
        evidence._known["accuracy", one] = pd.Series(50 + column)
        parts.append(Part(str(depth), (Term(1, "accuracy", one),), 50.0))
    found = judge({"x": parts}, evidence)["x"]
    assert found.verdict == REFUTED
    assert found.p_value == pytest.approx(3 * paired(values[:, 1], penalty=4).p_value)
    positive = judge({"x": [parts[0], parts[2]]}, evidence)["x"]
    worst = max(paired(values[:, column], penalty=4).p_value for column in (0, 2))
    assert positive.p_value == pytest.approx(worst)


def test_a_false_verdict_is_as_rare_as_it_says():
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
