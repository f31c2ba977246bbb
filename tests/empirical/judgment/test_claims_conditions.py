"""The report's question answered per condition, and the command that shows it all."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_records import cell, diverged, world
from rich.console import Console
from scipy import stats

import cli
from empirical.judgment.claims import judge_claims, missing_commands
from empirical.judgment.conditions import (
    ANSWERS,
    CONDITION_COLUMNS,
    CONTRAST_COLUMNS,
    judge_conditions,
)
from empirical.judgment.evidence import Evidence
from empirical.judgment.protocol_agreement import protocol_agreement, protocol_pairs
from empirical.judgment.statistics import ALONE, EQUIVALENT, INSUFFICIENT, TOO_CLOSE
from empirical.judgment.truth import NO_RECORDS, in_unit
from empirical.presets import PRESETS
from empirical.protocol import COURSE_REPORT, StudySpec, TrainSpec
from empirical.records import published
from figures import answers as worded
from figures.study import claims as shown
from figures.study.protocol_agreement import agreement_table

DEPTHS, BOTH = COURSE_REPORT.depths, COURSE_REPORT.activations
NO_NORM = {"norm": "none", "fan": "fan_in"}
PLAIN = {
    name: PRESETS["he2015"].fields[name]
    for name in ("norm", "fan", "gain_slope", "filters", "pool_every", "optimizer", "learning_rate")
}
HEAD, STEPS = {"head_initializer": "he"}, {"learning_rate_reference": "he"}
SEEDS = 4
OPEN_ = {TOO_CLOSE, EQUIVALENT, INSUFFICIENT}


def arm(initializer, percent, *, seeds=SEEDS, activations=BOTH, depths=DEPTHS, loss=1.0, **changes):
    """Rows of an arm: ``percent`` of each depth (or one for all), with scatter between seeds."""
    random = np.random.default_rng(
        [len(initializer), int(loss * 100), int(100 * np.mean(percent)), len(activations), len(changes)]
    )
    finals = dict(zip(depths, percent, strict=True)) if isinstance(percent, tuple) else {}
    rows = []
    for activation in activations:
        for depth in depths:
            for seed in range(seeds):
                final = finals.get(depth, percent) + random.normal(0, 0.05)
                rows += cell(initializer, activation, depth, seed, final, loss=loss, **changes)
    return rows


def answers(*arms):
    study = pd.DataFrame([row for one in arms for row in one])
    table, contrasts = judge_conditions(Evidence(study))
    assert list(table) == list(CONDITION_COLUMNS) and list(contrasts) == list(CONTRAST_COLUMNS)
    return worded.told(table, contrasts).set_index("id")


def test_he_is_the_default_where_it_beats_every_other_law_recorded():
    he, normal = arm("he", 70.0), arm("normal", 50.0)
    table = answers(he, normal, arm("xavier", 65.0))
    assert table.loc["printed", "verdict"] == "yes"
    words = table.loc["printed", "answer"]
    assert words.startswith("Yes. He ends 20.0") and "above N(0, 1) (8 settings, 4 seeds" in words
    assert "above Xavier" in words
    table = answers(he, normal, arm("xavier", 71.0))
    assert table.loc["printed", "verdict"] == "no" and "below Xavier" in table.loc["printed", "answer"]
    table = answers(he, normal, arm("xavier", 65.0), arm("lecun", 71.0))
    assert table.loc["printed", "verdict"] == "no" and "below LeCun" in table.loc["printed", "answer"]


def test_the_drawn_together_answer_says_what_the_runs_say_so_far():
    few = [arm("he", 70.0, seeds=1), arm("normal", 50.0, seeds=1), arm("xavier", 65.0, seeds=1)]
    row = answers(*few).loc["default"]
    assert row["verdict"] == "open"
    assert "Open, so far yes: batch norm, as printed" in row["answer"]
    worse = [*few[:2], arm("xavier", 75.0, seeds=1)]
    assert "Open, so far no: batch norm" in answers(*worse).loc["default", "answer"]
    assert re.search("Open: [^.]*batch norm, by fan_in", row["answer"])  # there is no record


def test_settings_with_too_few_seeds_do_not_hold_up_those_that_have_enough():
    one = {"seeds": 1, "depths": (2, 5, 10, 12)}
    more = {"seeds": 3, "depths": (12,), "activations": ("relu",)}
    singles = [arm("he", 70.0, **one), arm("normal", 50.0, **one), arm("xavier", 65.0, **one)]
    threes = [arm("he", 60.0, **more), arm("normal", 50.0, **more), arm("xavier", 65.0, **more)]
    alone = answers(*singles).loc["printed"]
    assert alone["verdict"] == INSUFFICIENT and len(alone["settings"]) == 8
    study = pd.DataFrame([row for one in (*threes, *singles) for row in one])
    study = study.drop_duplicates(["cell", "epoch"])  # at 12 layers the three seeds, not the one
    table, _ = judge_conditions(Evidence(study))
    row = table.set_index("id").loc["printed"]
    assert row["verdict"] == "no" and row["settings"] == [("relu", 12)] and row["seeds"] == 3
    assert worded.settings_words(row["settings"]) == "ReLU 12"


def test_a_tie_with_another_law_is_no_yes():
    same = [
        {**row, "initializer": "xavier", "cell": row["cell"].replace("he-", "xavier-")}
        | {"test_accuracy": row["test_accuracy"] + (-1) ** row["seed"]}
        for row in arm("he", 70.0)
    ]
    table = answers(arm("he", 70.0), arm("normal", 50.0), same)
    assert table.loc["printed", "verdict"] in OPEN_


def test_without_a_rival_the_answer_is_open_and_says_what_is_needed():
    row = answers(arm("he", 70.0), arm("normal", 50.0)).loc["printed"]
    assert row["verdict"] == NO_RECORDS and row["direction"] == "agrees"
    assert row["answer"].startswith("Records missing, so far yes.")
    assert "He against Xavier: no records" in row["answer"]
    assert row["commands"] == "cifar --init xavier --activation relu prelu --depths 2 5 10 12"


def test_one_seed_leaves_it_open_and_says_which_way_it_points():
    few = [
        arm(name, percent, seeds=1) for name, percent in (("he", 60), ("normal", 50), ("xavier", 61))
    ]
    row = answers(*few).loc["printed"]
    assert row["verdict"] == INSUFFICIENT and float(row["single_values"]) == pytest.approx(-1, abs=0.1)
    assert row["answer"].startswith("Not enough seeds (3 would do), so far no.")
    assert row["commands"].startswith("cifar --preset report --seeds 3")


def test_fan_in_is_a_condition_of_its_own():
    table = answers(
        arm("he", 60.0), arm("he", 70.0, fan="fan_in"), arm("normal", 65.0), arm("xavier", 66.0)
    )
    assert (table.loc["printed", "verdict"], table.loc["fan-in", "verdict"]) == ("no", "yes")
    assert table.loc["default", "verdict"] == "open in part"
    assert "Yes: batch norm, by fan_in" in table.loc["default", "answer"]
    assert "No: batch norm, as printed" in table.loc["default", "answer"]


def test_an_arm_that_diverged_everywhere_is_told_and_not_averaged():
    lost = [
        row
        for activation in BOTH
        for depth in DEPTHS
        for seed in range(SEEDS)
        for row in diverged("normal", activation, depth, seed, epochs=seed % 2, **NO_NORM)
    ]
    he, xavier = arm("he", 60.0, **NO_NORM), arm("xavier", 55.0, **NO_NORM)
    row = answers(he, xavier, lost).loc["no-norm"]
    assert row["verdict"] == "yes" and row["value"] == pytest.approx(5, abs=0.1)
    assert f"N(0, 1) diverged in {8 * SEEDS} of {8 * SEEDS} runs" in row["answer"]


def test_the_share_of_the_last_layer_in_the_depth_effect():
    printed, head = (40.0, 60.0, 70.0, 80.0), (60.0, 65.0, 70.0, 80.0)
    table = answers(
        arm("he", printed), arm("he", head, head_fan="fan_in"), arm("he", head, fan="fan_in")
    )
    row = table.loc["last-layer"]
    assert row["verdict"] == "yes" and ", 50 % less" in row["answer"]
    assert "the last layer by fan_in ends 6.2" in row["answer"].lower()
    row = answers(arm("he", printed), arm("he", printed, head_fan="fan_in")).loc["last-layer"]
    assert row["verdict"] in OPEN_
    shifted = arm("he", (45.0, 65.0, 75.0, 85.0), head_fan="fan_in")  # better, and by as much
    assert answers(arm("he", printed), shifted).loc["last-layer", "verdict"] in OPEN_
    worse = arm("he", (39.0, 59.0, 69.0, 79.0), head_fan="fan_in")
    assert answers(arm("he", printed), worse).loc["last-layer", "verdict"] == "no"


def test_more_seeds_of_one_end_take_no_depth_effect_away():
    relu = {"activations": ("relu",), "head_fan": "fan_in"}
    shallow = arm("he", 60.0, depths=(2,), seeds=SEEDS, **relu)
    deep = arm("he", 81.0, depths=(12,), seeds=1, **relu)
    row = answers(arm("he", (40.0, 60.0, 70.0, 80.0)), shallow, deep).loc["last-layer"]
    assert row["verdict"] == INSUFFICIENT and not row["missing"]
    assert re.search(r"from 2 to 12 layers accuracy changes by \+(39.9|40.0)", row["answer"])


def test_the_stall_of_xavier_in_very_deep_plain_nets():
    deep = {"activations": ("relu",), "depths": (22, 30), **PLAIN}
    table = answers(arm("he", (50.0, 45.0), **deep), arm("xavier", (49.0, 10.0), **deep))
    row = table.loc["very-deep"]
    assert row["verdict"] == "yes" and row["value"] == pytest.approx(35, abs=0.1)
    words = row["answer"]
    assert "it stalls: no better than guessing" in words and words.count("stalls") == 1
    assert "without biases" not in words  # nothing is recorded of these networks as drawn
    table = answers(arm("he", (50.0, 45.0), **deep), arm("xavier", (49.0, 46.0), **deep))
    assert table.loc["very-deep", "verdict"] == "no"
    assert "stalls" not in table.loc["very-deep", "answer"]


def test_a_stalled_arm_is_tested_as_a_number():
    deep = {"activations": ("relu",), "depths": (30,), **PLAIN}
    stalled = [row for seed in range(SEEDS) for row in cell("xavier", "relu", 30, seed, 10.0, **PLAIN)]
    rows = [*arm("he", 45.0, **deep), *stalled]
    table, _ = judge_conditions(Evidence(pd.DataFrame(rows)))
    last = [row["test_accuracy"] for row in rows if row["epoch"] == 10 and row["initializer"] == "he"]
    plain = stats.ttest_1samp(np.array(last) - 10.0, 0)
    found = table.set_index("id").loc["very-deep"]
    assert found["p_value"] == pytest.approx(ALONE * plain.pvalue)
    ends = plain.confidence_interval(1 - 0.05 / ALONE)
    assert (found["low"], found["high"]) == pytest.approx(ends)


def test_records_of_a_smaller_run_answer_in_small_and_say_so():
    small = {"activations": ("relu",), "depths": (22, 30), **PLAIN, "epochs": 3, "limit_train": 500}
    row = answers(arm("he", 40.0, **small), arm("xavier", 10.0, **small)).loc["very-deep"]
    assert row["verdict"] == "yes" and "In small (epochs 3, limit train 500)" in row["answer"]
    full = {"activations": ("relu",), "depths": (22, 30), **PLAIN}
    row = answers(
        arm("he", 40.0, **small), arm("xavier", 10.0, **small),
        arm("he", 50.0, **full), arm("xavier", 52.0, **full),
    ).loc["very-deep"]  # fmt: skip
    assert row["verdict"] == "no" and "In small" not in row["answer"]


@pytest.mark.parametrize("prelu, verdict", [(71.0, "yes"), (69.0, "no")])
def test_prelu_in_the_place_of_relu(prelu, verdict):
    relu = arm("he", 70.0, activations=("relu",))
    row = answers(relu, arm("he", prelu, activations=("prelu",))).loc["prelu"]
    assert row["verdict"] == verdict and "PReLU ends" in row["answer"]


def test_prelu_must_win_under_both_fan_modes_recorded():
    arms = [
        arm("he", percent, activations=(name,), **changes)
        for name, percent, changes in (
            ("relu", 60.0, {}), ("prelu", 61.0, {}),
            ("relu", 60.0, {"fan": "fan_in"}), ("prelu", 59.0, {"fan": "fan_in"}),
        )
    ]  # fmt: skip
    assert answers(*arms).loc["prelu", "verdict"] == "no"


def effective(head=55.0, steps=68.0, both=70.0, **more):
    """He 70 and N(0, 1) 50 at 2 and 12 layers, with what is changed of N(0, 1); None: not recorded."""
    relu = {"activations": ("relu",), "depths": (2, 12)} | more
    arms = [arm("he", 70.0, **relu), arm("normal", 50.0, **relu)]
    for percent, changes in ((head, HEAD), (steps, STEPS), (both, HEAD | STEPS)):
        if percent is not None:
            arms.append(arm("normal", percent, loss=1.03 if changes == HEAD | STEPS else 1.0,
                            **changes, **relu))  # fmt: skip
    return arms


@pytest.mark.parametrize(
    "head, steps, verdict",
    [
        (55.0, 68.0, {"yes"}),
        (65.0, 68.0, {"no"}),  # the last layer alone closes most of the gap
        (55.0, 57.0, {"no"}),  # steps alone do not
        (55.0, 60.0, OPEN_),
        (65.0, None, {"no"}),  # what is recorded suffices to say no
        (55.0, None, {NO_RECORDS}),
    ],
)
def test_whether_the_effective_rate_is_the_only_handicap(head, steps, verdict):
    """Steps alone must close more than half of the 20 points, and the last layer alone less."""
    row = answers(*effective(head, steps)).loc["effective-lr"]
    assert row["verdict"] in verdict
    assert "training losses and He's differ by at most 3 %" in row["answer"]
    assert "learning rate between batch norms is 12.0 times smaller" in row["answer"]


def test_what_holds_at_one_depth_alone_is_no_answer():
    """Steps close the gap at 12 layers and not at 2: the mean over both would say yes."""
    row = answers(*effective(55.0, (57.0, 69.0))).loc["effective-lr"]
    assert row["verdict"] == "no" and row["part"] == "steps alone close more than half, 2 layers"
    assert row["value"] == pytest.approx(-3, abs=0.2)


def test_head_and_steps_are_told_apart():
    """From what is recorded, and with what is not."""
    words = answers(*effective(65.0, None, both=69.0)).loc["effective-lr", "answer"]
    share = re.search(r"of the (\d+\.\d+) points at 2 layers He's last layer alone (\d+) %", words)
    assert share and float(share[1]) == pytest.approx(19, abs=0.2) and 77 <= int(share[2]) <= 81
    assert "(not recorded: He's steps alone)" in words
    rows = [row for one in effective(55.0, 68.0) for row in one]
    _table, contrasts = judge_conditions(Evidence(pd.DataFrame(rows)))
    own = contrasts[contrasts["id"] == "effective-lr"].set_index("part")["mean"]
    for depth in (2, 12):
        assert own[f"He's steps − N(0, 1), {depth} layers"] == pytest.approx(18, abs=0.2)
        assert own[f"both − He's steps, {depth} layers"] == pytest.approx(2, abs=0.2)
        assert own[f"both − He's last layer, {depth} layers"] == pytest.approx(15, abs=0.2)
    shown_table = worded.factors_table(contrasts)
    assert [heading for heading, _ in shown_table.sections] == ["2 layers", "12 layers"]


def test_the_preset_trains_all_four_arms_of_head_and_steps():
    cells = StudySpec(**PRESETS["effective-lr"].fields).cells()
    found = {
        (one.depth, one.head_initializer, one.learning_rate_reference)
        for one in cells
        if one.initializer == "normal"
    }
    for depth in (2, 12):
        assert {
            (depth, None, None),
            (depth, "he", None),
            (depth, None, "he"),
            (depth, "he", "he"),
        } <= found
    assert {depth for depth, head, steps in found if steps and not head} == {2, 12}


def test_what_parts_xavier_from_he_is_told_change_by_change():
    relu = {"activations": ("relu",), "seeds": 3}
    narrow, sgd = NO_NORM | {"filters": 16}, {"optimizer": "sgd", "learning_rate": 0.01}
    way = [
        (12, 70.0, 71.0, NO_NORM),
        (12, 60.0, 60.5, narrow),
        (12, 50.0, 35.0, narrow | sgd | {"gain_slope": 0.0}),
        (22, 45.0, 10.0, PLAIN),
    ]
    rows = [
        row
        for depth, he, xavier, changes in way
        for law, percent in (("he", he), ("xavier", xavier))
        for row in arm(law, percent, depths=(depth,), **relu, **changes)
    ]
    told = answers(rows).loc["very-deep", "answer"]
    _, _, told = told.partition("change by change: ")
    steps = re.findall(r"([+-][\d.]+) points with ([^(]+) \(3 seeds\)", told)
    assert [words for _, words in steps] == [
        "32 filters, Adam, 12 layers",
        "16 filters",
        "SGD",
        "22 layers",
    ]
    assert [float(gap) for gap, _ in steps] == pytest.approx([-1.0, -0.5, 15.0, 35.0], abs=0.2)
    some = answers(rows[: len(rows) // 4] + rows[3 * len(rows) // 4 :]).loc["very-deep", "answer"]
    assert "points with 16 filters, SGD, 22 layers (3 seeds)" in some
    assert "change by change" not in answers(rows[: len(rows) // 4]).loc["very-deep", "answer"]


def test_the_signal_of_very_deep_nets_is_that_of_the_networks_recorded():
    """With biases: not the power of two that a network without them would have."""
    records = published.read(Path(published.__file__).parents[2] / "figures" / "data")
    evidence = Evidence(records.study, records.cells, records.layers)
    words = worded.told(*judge_conditions(evidence)).set_index("id").loc["very-deep", "answer"]
    head = records.layers[(records.layers["epoch"] == 0) & (records.layers["layer"] == "head")]
    head = head.set_index("cell")["second_moment_predicted"]
    he, xavier = (
        head[head.index.str.startswith(f"{name}-relu-d30")].mean()  # over seeds
        for name in ("he", "xavier")
    )
    assert (
        f"second moment of {xavier:.3g} at the last layer under Xavier and {he:.3g} under He" in words
    )
    assert f"without biases Xavier's would be {2.0**-30:.2e} of He's" in words  # second moments, too


def test_no_answer_says_a_thing_twice():
    records = published.read(Path(published.__file__).parents[2] / "figures" / "data")
    evidence = Evidence(records.study, records.cells, records.layers)
    for answer in worded.told(*judge_conditions(evidence))["answer"]:
        said = re.split(r"[;.] ", answer)
        assert len(set(said)) == len(said)


def test_a_head_by_another_fan_is_another_arm():
    """The fan of N(0, 1) is no one's, that of He's last layer is: neither stands for the other."""
    small = {"activations": ("relu",), "seeds": 1, "depths": (2,)}
    other = arm("normal", 60.0, head_initializer="he", fan="fan_in", **small)
    alone = answers(*effective(None, None, **small), other).loc["effective-lr"]
    assert "(not recorded: He's last layer alone and He's steps alone)" in alone["answer"]
    both = answers(*effective(55.0, None, **small), other).loc["effective-lr"]
    assert re.search(r"He's last layer alone 2[3-7] %", both["answer"])


def test_the_depth_effects_are_of_the_activations_that_both_arms_have():
    printed = arm("he", (40.0, 60.0, 70.0, 80.0), seeds=1, activations=("relu",))
    steeper = arm("he", (10.0, 60.0, 70.0, 90.0), seeds=1, activations=("prelu",))
    head = arm("he", (60.0, 60.0, 70.0, 80.0), seeds=1, activations=("relu",), head_fan="fan_in")
    with_prelu, without = (answers(*arms).loc["last-layer", "answer"]
                           for arms in ((printed, steeper, head), (printed, head)))  # fmt: skip
    effect = re.search(r"accuracy changes by [^;.]*\.\d+ [^;]*", without)
    assert effect is not None and effect[0] in with_prelu
    assert "changes by +40.0" in without or "changes by +39.9" in without
    assert re.search(r", (49|50|51) % less", without)


def test_a_study_without_batch_norm_in_small_is_said_to_be():
    small = {"epochs": 1, "filters": 8, **NO_NORM}
    words = answers(arm("he", 70.0, **small), arm("normal", 50.0, **small)).loc["no-norm", "answer"]
    assert "In small (filters 8, epochs 1); He ends" in words
    both = answers(arm("he", 70.0, **small), arm("he", 60.0, seeds=1, depths=(2,), **NO_NORM))
    assert "n small" not in both.loc["no-norm", "answer"]  # records of the asked size come first


def test_an_answer_gives_its_interval():
    words = answers(arm("he", 70.0), arm("normal", 50.0)).loc["printed", "answer"]
    assert "4 seeds, 95 % 19.9" in words or "4 seeds, 95 % 20.0" in words


def test_the_answers_change_with_the_records():
    for gap in (3.0, 7.0):
        words = answers(arm("he", 50 + gap, seeds=1), arm("normal", 50.0, seeds=1)).loc["printed"]
        ends = float(words["answer"].split("He ends ")[1].split(" points")[0])
        assert ends == pytest.approx(gap, abs=0.3)


def test_every_question_has_an_answer_without_a_single_record():
    empty = pd.DataFrame(cell("he", "relu", 3, 0, 50.0))
    table, parts = judge_conditions(Evidence(empty))
    assert set(table["verdict"]) == {NO_RECORDS, "open"}
    assert table.loc[table["id"] != "default", "commands"].str.contains("cifar --preset").all()
    assert parts["mean"].isna().all() and len(parts) >= 7


# ------------------------------------------------------------------------------------ what is seen


def text(renderable, width):
    stream = io.StringIO()
    Console(file=stream, width=width).print(renderable)
    return stream.getvalue()


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_tables_fit_and_cut_no_id_value_or_verdict(width):
    evidence = Evidence(pd.concat([world(2), pd.DataFrame(arm("he", 60.0, fan="fan_in", seeds=1))]))
    claims, _ = judge_claims(evidence)
    conditions, contrasts = judge_conditions(evidence)
    whole = text(shown.claims_table(claims), width)
    lines = whole.splitlines()
    body = lines[next(number for number, line in enumerate(lines) if "───" in line) :]
    assert max(map(len, lines)) <= width and not re.search(r"\S…", whole)
    for number in range(1, 15):
        assert sum(line.split()[:1] == [f"C{number}"] for line in lines) == 1
    assert " ".join(body).count("needs ") == len(claims)
    assert sum("the same" in line for line in body) == (claims["fan"] == "fan_in").sum()
    for row in claims.to_dict("records"):
        assert in_unit(row["value"], row["unit"] == "points") in whole
    told = worded.told(conditions, contrasts)
    for table in (
        worded.answers_table(told),
        worded.factors_table(contrasts),
        shown.measures_table(claims),
        agreement_table(protocol_agreement(evidence), protocol_pairs(evidence)),
        worded.conditions_table(told),
    ):
        rendered = text(table, width)
        assert max(map(len, rendered.splitlines())) <= width and not re.search(r"\S…", rendered)


def test_what_is_missing_comes_as_commands_a_line_each(tmp_path):
    evidence = Evidence(world(1, grid=[("he", "relu", 2)]))
    conditions, _ = judge_conditions(evidence)
    rendered = text(shown.how_to_complete(missing_commands(evidence), conditions), 80)
    (tmp_path / "cells").mkdir()  # a run folder: what is trained anew goes beside what is there
    beside = text(shown.how_to_complete(missing_commands(evidence), conditions, [tmp_path]), 300)
    assert f"python cli.py cifar --preset report --out {tmp_path}" in beside
    lines = [line.strip() for line in rendered.splitlines()]
    assert len(set(lines)) == len(lines) and "python cli.py cifar --preset report" in lines
    assert "python cli.py cifar --preset effective-lr" in lines
    assert not [line for line in lines if "--seeds" in line]
    assert missing_commands(Evidence(world(1))) == []
    begun = pd.concat([world(1), pd.DataFrame(cell("he", "relu", 2, 0, 50.0, fan="fan_in"))])
    assert missing_commands(Evidence(begun)) == ["cifar --preset textbook"]
    nothing = conditions.assign(commands="")
    assert shown.how_to_complete([], nothing) is None


def test_the_measures_say_what_a_reader_needs():
    claims, _ = judge_claims(Evidence(world(1)))
    whole = " ".join(text(shown.measures_table(claims), 2000).split())
    for row in claims.to_dict("records"):
        assert " ".join(row["operationalised"].split()) in whole
        assert worded.theory_words(row) in whole and row["parts"] in whole
    assert "test accuracy after the last epoch" in whole and "k = 4 for E = 10" in whole


def publish(study, folder):
    """A folder of published tables with the cells of ``study``."""
    study = study.assign(test_loss=1.0, gradient_norm=1.0, seconds=1.0)
    last = study.groupby("cell", sort=False).tail(1)
    cells = last.assign(epochs_done=last["epoch"], final_test_accuracy=last["test_accuracy"])
    cells = cells.assign(threads=1, initial_loss=2.5, initial_loss_predicted=2.4)
    folder.mkdir(exist_ok=True)
    layer = {"epoch": 0, "layer": "conv01", "kind": "Conv2d"}
    layers = [{"cell": cell} | layer for cell in study["cell"].unique()]
    for table, columns, name in (
        (cells, published.CELL_COLUMNS, "cells.csv"),
        (study, published.STUDY_COLUMNS, "study.csv"),
        (pd.DataFrame(layers), published.LAYER_COLUMNS, "layers.csv"),
    ):
        table.reindex(columns=list(columns)).to_csv(folder / name, index=False)
    return folder


def run(capsys, *argv):
    code = cli.main(["claims", "--device", "cpu", *map(str, argv)])
    return code, capsys.readouterr()


def test_the_command_prints_one_document_and_writes_its_tables(tmp_path, capsys):
    first = publish(world(1, grid=[("he", "relu", depth) for depth in DEPTHS]), tmp_path / "one")
    second = publish(world(1), tmp_path / "two")
    code, captured = run(capsys, "--records", first, second, "--json", "--out", tmp_path / "out")
    assert code == 0
    document = json.loads(captured.out)
    keys = ["command", "spec", "environment", "claims", "protocol_agreement", "conditions"]
    assert list(document)[:6] == keys and document["command"] == "claims"
    assert [row["id"] for row in document["claims"]] == [f"C{number}" for number in range(1, 15)]
    assert document["spec"]["cells"] == 16 and document["spec"]["records"] == [str(first), str(second)]
    assert document["claims"][0]["low"] is None and document["claims"][0]["seeds"] == 1
    assert [row["id"] for row in document["conditions"]][-1] == "default"
    table = pd.read_csv(tmp_path / "out" / "claims.csv").set_index("id")
    assert set(table["verdict"]) == {INSUFFICIENT}
    names = {"claims", "claim-parts", "conditions", "condition-parts"}
    names |= {"protocol-agreement", "protocol-cells", "protocol-pairs", "answers"}
    assert {path.stem for path in (tmp_path / "out").glob("*.csv")} == names
    names = {"answers", "claims"}  # those shown
    for form in ("*.tex", "*.md"):
        assert {path.stem for path in (tmp_path / "out").glob(form)} == names
    parts = pd.read_csv(tmp_path / "out" / "claim-parts.csv")
    own = parts[parts["id"] == "C11"]
    assert own["mean"].iloc[0] == pytest.approx(table.loc["C11", "value"])


def test_the_command_shows_its_tables(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    folder = publish(world(1), tmp_path / "one")
    code, captured = run(capsys, "--records", folder, "--out", tmp_path / "out")
    assert code == 0 and "Should He be the default?" in " ".join(captured.out.split())
    tables = captured.out.split("Written in")[0]
    assert max(map(len, tables.splitlines())) <= 80 and captured.err == ""


def test_the_answer_comes_first_in_five_lines_and_each_claim_in_one(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "100")
    code, captured = run(capsys, "--out", tmp_path)
    lines = captured.out.splitlines()
    assert code == 0 and lines[0] == "Should He be the default?"
    start = next(number for number, line in enumerate(lines) if "───" in line)
    five = lines[start + 1 : start + 6]
    short = [worded.QUESTIONS[name]["few"] for name in ANSWERS]
    assert [line.strip()[: len(name)] for line, name in zip(five, short, strict=True)] == short
    assert all(re.search(r"[+-]\d+\.\d\d", line) for line in five)
    where = next(number for number, line in enumerate(lines) if line.split()[:1] == ["C1"])
    rows = lines[where : lines.index("", where) if "" in lines[where:] else None]
    rows = [line for line in rows[:30] if line.strip()][:23]
    assert all(re.match(r" (C\d+| {2,4}) +\S", line) for line in rows)
    assert sum(line.split()[0].startswith("C") for line in rows) == 14 and "needs" in captured.out
    code, verbose = run(capsys, "--out", tmp_path, "--verbose")
    assert "measured by" in verbose.out and "measured by" not in captured.out


def test_a_run_folder_with_a_damaged_record_is_read_and_warned_about(tmp_path, capsys):
    good = tmp_path / "run" / "cells" / TrainSpec().cell_id
    good.mkdir(parents=True)
    (good / "result.json").write_text("{", encoding="utf-8")
    code, captured = run(capsys, "--records", tmp_path / "run", "--out", tmp_path / "out")
    assert code == 2 and captured.out == ""
    assert TrainSpec().cell_id in captured.err  # the warning
    assert captured.err.splitlines()[-1].startswith("error: ") and "no finished cell" in captured.err


@pytest.mark.parametrize(
    "spoil, says",
    [
        (lambda folder: (folder / "study.csv").unlink(), "but no study.csv"),
        (lambda folder: (folder / "cells.csv").unlink(), "holds no records"),
        (lambda folder: (folder / "study.csv").write_text("cell\nx\n"), "lacks the column"),
        (lambda folder: (folder / "cells.csv").write_bytes(b"\xff\xfe"), "cannot be read"),
    ],
)
def test_a_bad_folder_is_one_line_and_exit_2(spoil, says, tmp_path, capsys):
    folder = publish(world(1, grid=[("he", "relu", 2)]), tmp_path / "one")
    spoil(folder)
    code, captured = run(capsys, "--records", folder, "--out", tmp_path / "out")
    assert code == 2 and captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith("error: ") and says in captured.err


def test_a_missing_folder_is_said_before_anything_is_loaded(tmp_path):
    program = (
        "import sys, cli\ncode = cli.main(sys.argv[1:])\n"
        "heavy = {'torch', 'numpy', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(99 if heavy else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "claims", "--records", str(tmp_path / "none")],
        cwd=Path(__file__).parent.parent.parent.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "is no folder" in done.stderr
