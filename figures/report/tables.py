"""The report's tables: each a described ``Sheet`` of a tidy table that ``empirical`` has made."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pandas as pd
from rich.text import Text

from empirical.judgment.claims import POINTS, in_unit
from empirical.judgment.statistics import MINIMUM_SEEDS
from empirical.judgment.truth import AGREES, LEVEL, seeds_needed
from empirical.protocol import COURSE_REPORT, StudySpec
from figures.study.report_figures import name_of
from figures.tables import Column, Row, Sheet, fixed, words

VERDICTS = {"confirmed": "green", "yes": "green", "refuted": "red", "no": "red"}
PROTOCOL_WORDS = {
    "dataset": "data",
    "filters": "filters of each convolution",
    "norm": "normalization, after every convolution but the first",
    "pool_every": "convolutions between two poolings that halve the map",
    "fan": "fan mode of He",
    "gain_slope": "slope in He's gain, for either activation",
    "optimizer": "optimizer",
    "learning_rate": "learning rate, constant",
    "batch_size": "images in a batch, shuffled every epoch",
    "epochs": "epochs",
    "precision": "precision",
}
SETTINGS = {"cifar10": "CIFAR-10", "adam": "Adam", "batch": "batch norm"}


def in_color(sheet: Sheet) -> Sheet:
    """The sheet with columns that keep the style of a text which they are given."""
    columns = (
        replace(column, form=_as_is) if column.form is str else column for column in sheet.columns
    )
    return replace(sheet, columns=tuple(columns))


def _as_is(value: Any) -> str | Text:
    return value if isinstance(value, Text) else str(value)


def protocol(spec: StudySpec) -> Sheet:
    """The fields of the report's protocol, and its grid."""
    shared = spec.shared()
    rows = [("initializers", ", ".join(map(name_of, spec.initializers)))]
    rows.append(("activations", ", ".join(map(name_of, spec.activations))))
    rows.append(("depths: weight layers before the linear one", ", ".join(map(str, spec.depths))))
    rows += [(text, _setting(shared[name])) for name, text in PROTOCOL_WORDS.items()]
    return Sheet(
        name="protocol",
        title="The course report's protocol, as printed",
        data=pd.DataFrame(rows, columns=["setting", "value"]),
        columns=(words("setting", "setting"), words("value", "value", folds=False)),
    )


def _setting(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else SETTINGS.get(str(value), str(value))


def coverage(table: pd.DataFrame) -> Sheet:
    """``facts.coverage``: how much of each study is recorded."""
    return Sheet(
        name="coverage",
        title="The studies and their records",
        data=table,
        columns=(
            words("study", "study", folds=False),
            words("question", "question"),
            Column("cells", lambda row: f"{row['configurations']} of {row['of']}"),
            Column("seeds", lambda row: _seeds(row["seeds_least"], row["seeds_most"])),
            Column("diverged", "diverged"),
        ),
        notes=(
            "Cells: configurations with at least one finished run. Seeds: of those, the fewest and the "
            "most.",
            *(f"{row['study']}: {row['size']}." for row in table.to_dict("records") if row["size"]),
        ),
    )


def _seeds(least: int, most: int) -> str:
    return "–" if not most else f"{least}" if least == most else f"{least} to {most}"


def machines(table: pd.DataFrame) -> Sheet:
    """``facts.machines``: what the cells ran on."""
    return Sheet(
        name="machines",
        title="What the records were made on",
        data=table,
        columns=(
            words("hardware", _hardware),
            words("software", _software),
            Column("cells", "cells"),
            Column("epochs", "epochs"),
            Column("hours", "hours", fixed(2)),
        ),
        notes=("Code: a digest that changes with this project's source.",),
    )


def _hardware(row: Row) -> str:
    threads = row["threads"]
    return f"{row['hardware']}, {row['device']}, {threads} thread{'s' * (threads != 1)}"


def _software(row: Row) -> str:
    return (
        f"fanin {row['version']} (code {row['code']}), engine {row['engine']}, torch {row['torch']}, "
        f"Python {row['python']}, {row['platform']}"
    )


# ------------------------------------------------------------------------------------ results


def accuracy(table: pd.DataFrame) -> Sheet:
    """``facts.accuracies``: a row per arm, a column per depth, the course report's number below."""
    arms: dict[tuple[str, str], dict[int, Row]] = {}
    for row in table.to_dict("records"):
        arms.setdefault((row["activation"], row["arm"]), {})[int(row["depth"])] = row
    rows: list[Row] = [
        {"activation": activation, "arm": arm, "depths": depths}
        for (activation, arm), depths in arms.items()
    ]

    def column(depth: int) -> Column:
        return Column(f"{depth} layers", lambda row: row["depths"].get(depth), _accuracy)

    return Sheet(
        name="accuracy",
        title="Test accuracy after the last epoch, percent",
        data=table,
        rows=rows,
        section=lambda row: name_of(str(row["activation"])),
        columns=(
            words("weights", lambda row: name_of(str(row["arm"])), folds=False),
            *map(column, sorted({int(depth) for depth in table["depth"]})),
        ),
        notes=(
            "Mean over the seeds that completed, ± their standard deviation; a lone number is one run. "
            "Below, the course report's own number for that initializer, activation and depth, and how "
            "far ours is from it.",
        ),
    )


def _accuracy(row: Row | None) -> Text:
    if row is None:
        return Text("")
    if not row["seeds"]:
        return Text("diverged", style="red")
    text = Text.assemble((f"{row['mean']:.2f}", "bold"))
    if math.isfinite(row["std"]):
        text.append(f" ± {row['std']:.2f}")
    if row["diverged"]:
        text.append(f"\n{row['diverged']} diverged", style="red")
    if math.isfinite(row["published"]):
        text.append(f"\n{row['published']:.2f} ({row['mean'] - row['published']:+.2f})", style="dim")
    return text


def comparison(table: pd.DataFrame, name: str, title: str, first: str, second: str) -> Sheet:
    """``empirical.judgment.statistics.compare``: a row per setting."""
    return Sheet(
        name=name,
        title=title,
        data=table,
        columns=(
            words("setting", _setting_of, folds=False),
            Column("pairs", "pairs"),
            Column("difference", "difference", _signed, unit="points"),
            Column("95 % interval", _interval),
            Column("$d_z$", "effect_size", fixed(1)),
            Column("p (Holm)", "p_holm", _p),
            words("verdict", lambda row: _compared(str(row["verdict"]), first, second)),
        ),
        notes=(
            f"{first} minus {second}, paired by seed. Interval: bias-corrected bootstrap over seeds. "
            "p: exact sign-flip test, with Holm's correction over the table. Below "
            f"{MINIMUM_SEEDS} pairs no difference can be shown, however large it is.",
        ),
    )


def _setting_of(row: Row) -> str:
    parts = [name_of(str(row[name])) for name in ("initializer", "activation") if name in row]
    return " · ".join([*parts, f"{row['depth']} layers"])


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.2f}"


def _interval(row: Row) -> str:
    return "–" if math.isnan(row["low"]) else f"{row['low']:+.2f} to {row['high']:+.2f}"


def _p(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2g}"


def _compared(verdict: str, first: str, second: str) -> Text:
    named = {"first higher": f"{first} higher", "second higher": f"{second} higher"}
    colors = {"first higher": "green", "second higher": "red"}
    return Text(named.get(verdict, verdict), style=colors.get(verdict, "yellow"))


# ------------------------------------------------------------------------------------- claims


def claims(table: pd.DataFrame) -> Sheet:
    """``empirical.judgment.claims.judge_claims``: a row per claim, and one more for He by fan_in."""
    rows: list[Row] = []
    family = table["id"].nunique()
    for row in table.to_dict("records"):
        again = bool(rows) and rows[-1]["id"] == row["id"]
        rows.append(dict(row) | {"again": again})
    return Sheet(
        name="claims",
        title="The course report's claims, judged by the records",
        data=table,
        rows=rows,
        columns=(
            words("", lambda row: "" if row["again"] else Text(row["id"], style="bold"), folds=False),
            words("claim", _claim),
            words("least positive part", lambda row: row["part"] or "–"),
            words("value", lambda row: _value(row, row["unit"] == POINTS)),
            words("verdict", _verdict),
        ),
        notes=(
            "A claim holds if each of its parts is positive; value and 95 % interval are those of the "
            "least positive part, and below the seeds that a test needs, each run's own. Confirmed and "
            f"refuted: p ≤ {LEVEL:g} by exact sign-flip tests after Holm's correction over the claims "
            f"of one fan mode, from {MINIMUM_SEEDS} seeds on; to decide all {family}, "
            f"{seeds_needed(family)} seeds. As printed, He is by "
            f"{COURSE_REPORT.fan}.",
        ),
        spaced=True,
    )


def conditions(table: pd.DataFrame) -> Sheet:
    """``judgment.conditions.judge_conditions``: each condition's question, value and verdict."""
    return Sheet(
        name="conditions",
        title="The conditions, judged by the records",
        data=table,
        columns=(
            words("condition", lambda row: Text(row["question"], style="" if row["parts"] else "bold")),
            words("least positive part", lambda row: row["part"] or "–"),
            words("value", lambda row: _value(row, points=True)),
            words("verdict", _verdict),
        ),
        notes=(
            "Points of test accuracy after the last epoch, mean over the settings (activation × depth) "
            "that both arms have.",
        ),
        spaced=True,
    )


def _claim(row: Row) -> str:
    return f"the same with He by {row['fan']}" if row["again"] else str(row["claim"])


def _value(row: Row, points: bool) -> Text:
    """The decisive part: mean, interval and seeds, or each run's own value."""
    if math.isnan(row["value"]):
        return Text("–")
    unit, count = " points" * points, row["seeds"]
    seeds = f", {count} seed{'s' * (count != 1)}" if count else ", in part"
    if math.isnan(row["low"]):
        return Text.assemble((str(row["single_values"]), "bold"), f"{unit}{seeds}")
    low, high = (in_unit(row[name], points) for name in ("low", "high"))
    mean = in_unit(row["value"], points)
    return Text.assemble((mean, "bold"), f"{unit} ({low} to {high}){seeds}")


def _verdict(row: Row) -> Text:
    """The verdict, and where it is open what the runs there are say."""
    verdict = str(row["verdict"])
    text = Text.assemble((verdict, VERDICTS.get(verdict, "yellow")))
    if row["direction"] and verdict not in VERDICTS:
        say = "agree" if row["direction"] == AGREES else "disagree"
        text.append(f"; runs {say}", style="dim")
    return text
