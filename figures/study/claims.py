"""The report's claims and its question, as people read them.

From the tables of ``judgment.claims`` and ``judgment.conditions``.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from typing import Any

import pandas as pd
from rich.text import Text

from empirical.judgment.claims import POINTS, in_unit
from empirical.judgment.evidence import CURVE_NOTE, QUANTITIES
from empirical.judgment.statistics import MINIMUM_SEEDS
from empirical.judgment.truth import AGREES, LEVEL, seeds_needed
from empirical.protocol import COURSE_REPORT
from figures.program import command_line
from figures.tables import Row, Sheet, words

VERDICT_STYLES = {"confirmed": "green", "yes": "green", "refuted": "red", "no": "red"}
VERDICT_WIDTH = len("runs disagree")


def claims_table(table: pd.DataFrame) -> Sheet:
    """The verdicts of ``judgment.claims.judge_claims``: a row per claim, one more for fan_in."""
    family = table["id"].nunique()
    counted = (f"{count} {verdict}" for verdict, count in table["verdict"].value_counts().items())
    return Sheet(
        name="claims",
        title=f"The report's claims: {', '.join(counted)}",
        data=table,
        rows=_with_repeats(table),
        columns=(
            words("", lambda row: "" if row["again"] else row["id"], folds=False),
            words("claim", _claim),
            words("value", _value, folds=False),
            words("verdict", _verdict, width=VERDICT_WIDTH),
        ),
        notes=(
            "A claim holds if each of its parts is positive; value and interval "
            f"({100 * (1 - LEVEL):g} %, over seeds) are of the least positive one, below "
            f"{MINIMUM_SEEDS} seeds each run's own. Confirmed and refuted: p ≤ {LEVEL:g} by exact "
            "sign-flip tests after Holm's correction over the claims of one fan mode, from "
            f"{MINIMUM_SEEDS} seeds on; to decide all {family}, {seeds_needed(family)} seeds. As "
            f"printed, He is by {COURSE_REPORT.fan}.",
        ),
    )


def measures_table(table: pd.DataFrame) -> Sheet:
    """How each claim is measured, what its parts are, and what theory says; rows as in the claims'."""
    return Sheet(
        name="claim-measures",
        title="How each claim is measured, and what theory says",
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


def conditions_table(table: pd.DataFrame) -> Sheet:
    """The table of ``empirical.judgment.conditions.judge_conditions``."""
    return Sheet(
        name="conditions",
        title="Should He be the default, and under which conditions?",
        data=table,
        columns=(
            words("condition", _question),
            words("answer", "answer"),
            words("verdict", _verdict, width=VERDICT_WIDTH),
        ),
        notes=(
            "Points are of final test accuracy, mean over the settings (activation × depth) that both "
            "arms have.",
        ),
        spaced=True,
    )


def how_to_complete(claims: Iterable[str], conditions: pd.DataFrame) -> Text | None:
    """The commands that make what is missing, a line each; None if nothing is.

    ``claims`` are those of ``empirical.judgment.claims.missing_commands``.
    """
    of_conditions = (line for text in conditions["commands"] for line in str(text).split("; ") if line)
    lines = [line for line in of_conditions if "--seeds" not in line]
    found = list(dict.fromkeys(command_line(line) for line in (*claims, *lines)))
    if not found:
        return None
    return Text("\n  ".join(["To train what is missing:", *found]))


def quantities_note() -> str:
    """What the symbols in the claims' measures stand for."""
    defined = "; ".join(f"{one.symbol}: {one.words}" for one in QUANTITIES.values())
    return f"{defined}. {CURVE_NOTE}."


def _with_repeats(table: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """The rows, each knowing whether its claim has been said, and whether what theory says has."""
    again, said = table["id"].duplicated(), table.duplicated(["id", "theory"])
    return table.assign(again=again, said=said).to_dict("records")


def _claim(row: Row) -> Text:
    """The claim, and the part that decides on it."""
    text = Text(f"the same, He by {row['fan']}" if row["again"] else str(row["claim"]))
    return text.append(f"\nleast: {row['part']}", style="dim") if row["part"] else text


def _measure(row: Row) -> Text:
    """A claim's measure, its parts and what theory says; what repeats is not said again."""
    lines = [] if row["again"] else [f"measured by: {row['operationalised']}"]
    if row["direction"]:
        lines.append(f"parts: {row['parts']}")
        if row["missing"]:
            lines.append(f"missing: {row['missing']}")
    if row["report_direction"] and not row["again"]:
        own = in_unit(row["report_value"])
        lines.append(f"the report's own numbers: {row['report_direction']} ({own} points)")
    if row["diverged"]:
        lines.append(f"diverged records, in no number: {row['diverged']}")
    text = Text("\n".join(lines))
    return text if row["said"] else text.append(f"\ntheory: {row['theory']}", style="dim")


def _question(row: Row) -> Text:
    return Text(str(row["question"]), style="" if row["parts"] else "bold")


def _value(row: Row) -> str:
    """The decisive part: mean and interval, or each run's own value."""
    if math.isnan(row["value"]):
        return "–"
    points = row["unit"] == POINTS
    unit = " points" if points else ""
    count = row["seeds"]
    seeds = f"{count} seed{'' if count == 1 else 's'}" if count else "in part"
    if math.isnan(row["low"]):
        values = [f"{value}{unit}" for value in row["single_values"].split(", ")]
        return "\n".join([*values, seeds])
    low, high = (in_unit(row[name], points) for name in ("low", "high"))
    return f"{in_unit(row['value'], points)}{unit}\n{low} to {high}\n{seeds}"


def _verdict(row: Row) -> Text:
    """The verdict, and where it is open what the runs there are say."""
    verdict = str(row["verdict"])
    text = Text(verdict, style=VERDICT_STYLES.get(verdict, "yellow"))
    if row["direction"] and verdict not in VERDICT_STYLES:
        say = "agree" if row["direction"] == AGREES else "disagree"
        text.append(f"\nruns {say}")
    return text
