"""The course report's claims as people read them, from the tables of ``judgment.claims``."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.text import Text

from empirical.judgment.claims import POINTS
from empirical.judgment.evidence import CURVE_NOTE, QUANTITIES
from empirical.judgment.statistics import ALONE, EXACT_SEEDS, LEVEL, MINIMUM_SEEDS, UNEVEN
from empirical.judgment.truth import in_unit
from empirical.presets import FIRST_SEEDS
from empirical.protocol import COURSE_REPORT
from figures.answers import MARKS, PERCENT, interval, theory_words, verdict_text
from figures.program import training_line
from figures.prose import notes
from figures.tables import Column, Row, Sheet, to_train, words


def claims_table(table: pd.DataFrame) -> Sheet:
    """The verdicts of ``judgment.claims.judge_claims``: a row per claim, one more for fan_in."""
    printed = table[table["fan"] == COURSE_REPORT.fan]
    bounds = {"percent": PERCENT, "level": LEVEL, "fan": COURSE_REPORT.fan}
    bounds |= {"seeds": MINIMUM_SEEDS, "exact_seeds": EXACT_SEEDS, "uneven": UNEVEN, "alone": ALONE}
    decided = table[["p_exact", "p_value"]].dropna() <= LEVEL
    changed = printed[printed["verdict"] != printed["first_verdict"]]
    told = {"first": FIRST_SEEDS, "changed": changed[["id", "first_verdict"]].to_numpy().tolist()}
    counted = (f"{count} {verdict}" for verdict, count in printed["verdict"].value_counts().items())
    return Sheet(
        name="claims",
        title=f"The course report's claims, as printed: {', '.join(counted)}",
        data=table,
        rows=_with_repeats(table),
        columns=(
            words("", lambda row: "" if row["again"] else row["id"], folds=False),
            words("claim", lambda row: f"the same by {row['fan']}" if row["again"] else row["short"]),
            words("by", "part"),
            Column("value", _value),
            Column(PERCENT, interval),
            Column("seeds", "seeds"),
            words("verdict", verdict_text),
            words("theory", "theory_right", form=MARKS.get, folds=False),
        ),
        notes=notes("claims", **bounds, **told, exact=decided["p_exact"], t=decided["p_value"]),
        spare=("by",),
        tight=True,
    )


def measures_table(table: pd.DataFrame) -> Sheet:
    """How each claim is measured, what its parts are, and what theory says; rows as in the claims'."""
    return Sheet(
        name="claim-measures",
        title="How each claim is measured, and what theory foretold",
        data=table,
        data_file="claims",
        rows=_with_repeats(table),
        columns=(
            words("", lambda row: f"{row['id']}\n{row['fan']}", folds=False),
            words("measure, parts, theory", _measure),
        ),
        notes=(quantities_note(),),
        spaced=True,
    )


def how_to_complete(
    claims: Iterable[str], conditions: pd.DataFrame, folders: Sequence[Path] = ()
) -> Text | None:
    """The commands that make what is missing, a line each; None if nothing is.

    ``claims`` are those of ``empirical.judgment.claims.missing_commands``; ``folders`` hold the
    records.
    """
    of_conditions = (line for text in conditions["commands"] for line in str(text).split("; ") if line)
    lines = [line for line in of_conditions if "--seeds" not in line]
    return to_train(training_line(line, folders) for line in (*claims, *lines))


def quantities_note() -> str:
    """What the symbols in the claims' measures stand for."""
    defined = "; ".join(f"{one.symbol}: {one.words}" for one in QUANTITIES.values())
    return f"{defined}. {CURVE_NOTE}."


def _with_repeats(table: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """The rows, each knowing whether its claim has been said."""
    return table.assign(again=table["id"].duplicated()).to_dict("records")


def _measure(row: Row) -> Text:
    """A claim, its measure, its parts and what theory says; what repeats is not said again."""
    lines = notes("measure", row=row, points=in_unit)
    return Text("\n".join(lines)).append(f"\ntheory: {theory_words(row)}", style="dim")


def _value(row: Row) -> str:
    """The decisive part's mean, with its unit's digits."""
    return "–" if math.isnan(row["value"]) else in_unit(row["value"], row["unit"] == POINTS)
