"""The report's tables: each a described ``Sheet`` of a tidy table that ``empirical`` has made."""

from __future__ import annotations

import math

import pandas as pd
from rich.text import Text

from empirical.arm import Arm
from empirical.judgment.statistics import MINIMUM_SEEDS
from empirical.protocol import StudySpec
from figures.study.report_figures import name_of
from figures.tables import Column, Row, Sheet, fixed, words

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
    arms: dict[tuple[str, Arm], dict[int, Row]] = {}
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
            words("weights", lambda row: name_of(row["arm"]), folds=False),
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
