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

import cli
from empirical.judgment.claims import judge_claims, missing_commands
from empirical.judgment.conditions import CONDITION_COLUMNS, CONTRAST_COLUMNS, judge_conditions
from empirical.judgment.evidence import Evidence
from empirical.judgment.protocol_agreement import protocol_agreement, protocol_pairs
from empirical.judgment.statistics import EQUIVALENT, INSUFFICIENT, TOO_CLOSE
from empirical.judgment.truth import NO_RECORDS
from empirical.presets import PRESETS
from empirical.protocol import COURSE_REPORT, TrainSpec
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
STEPS = {"head_initializer": "he", "learning_rate_reference": "he"}
SEEDS = 4
OPEN_ = {TOO_CLOSE, EQUIVALENT, INSUFFICIENT}


def arm(initializer, percent, *, seeds=SEEDS, activations=BOTH, depths=DEPTHS, loss=1.0, **changes):
    """Rows of an arm: ``percent`` of each depth (or one for all), with scatter between seeds."""
    random = np.random.default_rng(len(initializer) + int(loss * 100))
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
    assert table.loc["printed", "verdict"] == "no" and "below lecun" in table.loc["printed", "answer"]


def test_the_drawn_together_answer_says_what_the_runs_say_so_far():
    few = [arm("he", 70.0, seeds=1), arm("normal", 50.0, seeds=1), arm("xavier", 65.0, seeds=1)]
    row = answers(*few).loc["default"]
    assert row["verdict"] == "open"
    assert "Open, so far the runs say yes: with batch norm, by fan_out as printed" in row["answer"]
    worse = [*few[:2], arm("xavier", 75.0, seeds=1)]
    assert "Open, so far the runs say no: with batch norm" in answers(*worse).loc["default", "answer"]
    assert "Open: with batch norm, by fan_in" in row["answer"]  # of which there is no record


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
    assert row["answer"].startswith("Open: not all is recorded; so far the runs say yes.")
    assert "He against Xavier: no records" in row["answer"]
    assert row["commands"] == "cifar --init xavier --activation relu prelu --depths 2 5 10 12"


def test_one_seed_leaves_it_open_and_says_which_way_it_points():
    few = [
        arm(name, percent, seeds=1) for name, percent in (("he", 60), ("normal", 50), ("xavier", 61))
    ]
    row = answers(*few).loc["printed"]
    assert row["verdict"] == INSUFFICIENT and float(row["single_values"]) == pytest.approx(-1, abs=0.1)
    assert row["answer"].startswith("Open: insufficient seeds; so far the runs say no.")
    assert row["commands"].startswith("cifar --preset report --seeds 9")


def test_fan_in_is_a_condition_of_its_own():
    table = answers(
        arm("he", 60.0), arm("he", 70.0, fan="fan_in"), arm("normal", 65.0), arm("xavier", 66.0)
    )
    assert (table.loc["printed", "verdict"], table.loc["fan-in", "verdict"]) == ("no", "yes")
    assert table.loc["default", "verdict"] == "open in part"
    assert "Yes: with batch norm, by fan_in" in table.loc["default", "answer"]
    assert "No: with batch norm, by fan_out as printed" in table.loc["default", "answer"]


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
    assert row["verdict"] == "yes" and "which is 50 % less" in row["answer"]
    assert "the last layer by fan_in ends 6.2" in row["answer"].lower()
    row = answers(arm("he", printed), arm("he", printed, head_fan="fan_in")).loc["last-layer"]
    assert row["verdict"] in OPEN_
    shifted = arm("he", (45.0, 65.0, 75.0, 85.0), head_fan="fan_in")  # better, and by as much
    assert answers(arm("he", printed), shifted).loc["last-layer", "verdict"] in OPEN_
    worse = arm("he", (39.0, 59.0, 69.0, 79.0), head_fan="fan_in")
    assert answers(arm("he", printed), worse).loc["last-layer", "verdict"] == "no"


def test_the_stall_of_xavier_in_very_deep_plain_nets():
    deep = {"activations": ("relu",), "depths": (22, 30), **PLAIN}
    table = answers(arm("he", (50.0, 45.0), **deep), arm("xavier", (49.0, 10.0), **deep))
    row = table.loc["very-deep"]
    assert row["verdict"] == "yes" and row["value"] == pytest.approx(35, abs=0.1)
    words = row["answer"]
    assert "it stalls: no better than guessing" in words and words.count("stalls") == 1
    assert f"{2.0**-15:.2e} of He's signal after 30 layers" in words
    table = answers(arm("he", (50.0, 45.0), **deep), arm("xavier", (49.0, 46.0), **deep))
    assert table.loc["very-deep", "verdict"] == "no"
    assert "stalls" not in table.loc["very-deep", "answer"]


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
    assert row["verdict"] == verdict and "With He as printed, PReLU ends" in row["answer"]


def test_prelu_must_win_under_both_fan_modes_recorded():
    arms = [
        arm("he", percent, activations=(name,), **changes)
        for name, percent, changes in (
            ("relu", 60.0, {}), ("prelu", 61.0, {}),
            ("relu", 60.0, {"fan": "fan_in"}), ("prelu", 59.0, {"fan": "fan_in"}),
        )
    ]  # fmt: skip
    assert answers(*arms).loc["prelu", "verdict"] == "no"


@pytest.mark.parametrize(
    "matched, verdict", [(70.0, "yes"), (69.0, "yes"), (50.0, "no"), (95.0, "no"), (60.0, OPEN_)]
)
def test_whether_the_effective_rate_is_the_only_handicap(matched, verdict):
    """He 70, N(0, 1) 50: matched steps must come nearer to He than half of the 20 points."""
    relu = {"activations": ("relu",)}
    row = answers(
        arm("he", 70.0, **relu),
        arm("normal", 50.0, **relu),
        arm("normal", 55.0, head_initializer="he", **relu),
        arm("normal", matched, loss=1.03, **STEPS, **relu),
    ).loc["effective-lr"]
    assert row["verdict"] == verdict
    assert "training losses and He's differ by at most 3 %" in row["answer"]
    assert "last layer ends 15.0" in row["answer"] or "last layer ends 14.9" in row["answer"]
    assert "learning rate between batch norms is 12.0 times smaller" in row["answer"]


def test_a_head_by_another_fan_is_another_arm():
    """The fan of N(0, 1) is no one's, that of He's last layer is: neither stands for the other."""
    relu = {"activations": ("relu",), "seeds": 1, "depths": (2,)}
    he, normal = arm("he", 70.0, **relu), arm("normal", 50.0, **relu)
    other = arm("normal", 60.0, head_initializer="he", fan="fan_in", **relu)
    alone = answers(he, normal, other, arm("normal", 69.0, **STEPS, **relu)).loc["effective-lr"]
    assert "N(0, 1) with He's last layer against He: no records" in alone["answer"]
    own = arm("normal", 55.0, head_initializer="he", **relu)
    both = answers(he, normal, other, own, arm("normal", 69.0, **STEPS, **relu)).loc["effective-lr"]
    assert re.search(r"last layer ends 1[45]\.\d+ points below He", both["answer"])


def test_the_depth_effects_are_of_the_activations_that_both_arms_have():
    printed = arm("he", (40.0, 60.0, 70.0, 80.0), seeds=1, activations=("relu",))
    steeper = arm("he", (10.0, 60.0, 70.0, 90.0), seeds=1, activations=("prelu",))
    head = arm("he", (60.0, 60.0, 70.0, 80.0), seeds=1, activations=("relu",), head_fan="fan_in")
    with_prelu, without = (answers(*arms).loc["last-layer", "answer"]
                           for arms in ((printed, steeper, head), (printed, head)))  # fmt: skip
    effect = re.search(r"accuracy changes by [^;.]*\.\d+ [^;]*", without)
    assert effect is not None and effect[0] in with_prelu
    assert "changes by +40.0" in without or "changes by +39.9" in without
    assert re.search(r"which is (49|50|51) % less", without)


def test_a_study_without_batch_norm_in_small_is_said_to_be():
    small = {"epochs": 1, "filters": 8, **NO_NORM}
    words = answers(arm("he", 70.0, **small), arm("normal", 50.0, **small)).loc["no-norm", "answer"]
    assert "In small (filters 8, epochs 1); He ends" in words
    both = answers(arm("he", 70.0, **small), arm("he", 60.0, seeds=1, depths=(2,), **NO_NORM))
    assert "n small" not in both.loc["no-norm", "answer"]  # records of the asked size come first


def test_the_arms_of_the_effective_rate_are_compared_where_all_are_recorded():
    relu = {"activations": ("relu",), "seeds": 1}
    row = answers(
        arm("he", 70.0, seeds=1),
        arm("normal", (40.0, 50.0, 50.0, 50.0), seeds=1),
        arm("normal", 69.0, depths=(2,), **STEPS, **relu),
    ).loc["effective-lr"]
    assert re.search(r"N\(0, 1\) ends (30.0|29.9)\d points below He", row["answer"])
    assert "N(0, 1) with He's last layer against He: no records" in row["answer"]


def test_an_arm_that_lacks_one_of_the_settings_is_compared_where_it_is():
    relu = {"activations": ("relu",), "seeds": 1}
    row = answers(
        arm("he", 70.0, seeds=1),
        arm("normal", 50.0, seeds=1),
        arm("normal", 55.0, depths=(2,), head_initializer="he", **relu),
        arm("normal", 69.0, depths=(2, 12), **STEPS, **relu),
    ).loc["effective-lr"]
    assert re.search(r"last layer ends 1[45]\.\d+ points below He \(relu, 2 layers", row["answer"])
    assert "no records" not in row["answer"]


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
    conditions, _ = judge_conditions(evidence)
    whole = text(shown.claims_table(claims), width)
    lines = whole.splitlines()
    body = lines[next(number for number, line in enumerate(lines) if "───" in line) :]
    assert max(map(len, lines)) <= width and not re.search(r"\S…", whole)
    for number in range(1, 15):
        assert sum(line.split()[:1] == [f"C{number}"] for line in lines) == 1
    assert sum("insufficient" in line for line in body) == len(claims)
    assert sum("the same, He" in line for line in body) == (claims["fan"] == "fan_in").sum()
    for value in claims["single_values"]:
        assert all(f"{one}" in whole for one in value.split(", "))
    for table in (
        shown.measures_table(claims),
        agreement_table(protocol_agreement(evidence), protocol_pairs(evidence)),
        shown.conditions_table(conditions),
    ):
        rendered = text(table, width)
        assert max(map(len, rendered.splitlines())) <= width and not re.search(r"\S…", rendered)


def test_what_is_missing_comes_as_commands_a_line_each():
    evidence = Evidence(world(1, grid=[("he", "relu", 2)]))
    conditions, _ = judge_conditions(evidence)
    rendered = text(shown.how_to_complete(missing_commands(evidence), conditions), 80)
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
        assert row["theory"] in whole and row["parts"] in whole
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
    names |= {"protocol-agreement", "protocol-cells", "protocol-pairs"}
    assert {path.stem for path in (tmp_path / "out").glob("*.csv")} == names
    names = {"claims", "claim-measures", "protocol-agreement", "conditions"}
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
