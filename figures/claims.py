"""The report's claims, the fan mode behind its numbers and its question, as tables for the terminal.

From the tables of ``empirical.claims``, ``empirical.fan_agreement`` and ``empirical.conditions``.  Long
texts fold; ids, values and verdicts keep whole words at any width.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from empirical.claims import POINTS, in_unit
from empirical.evidence import CURVE_NOTE, QUANTITIES
from empirical.judgment import AGREES, LEVEL, NO_RECORDS
from empirical.protocol import COURSE_REPORT
from empirical.statistics import MINIMUM_SEEDS
from figures.tables import new_table

VERDICT_STYLES = {"confirmed": "green", "yes": "green", "refuted": "red", "no": "red"}
VERDICT_WIDTH = len("runs disagree")
Row = Mapping[Hashable, Any]


def claims_table(table: pd.DataFrame) -> Table:
    """The verdicts of ``empirical.claims.judge_claims``: a row per claim, one more for fan_in."""
    verdicts = table["verdict"].value_counts().to_dict()
    counted = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
    result = new_table(f"The report's claims: {counted}", caption=_claims_caption())
    result.add_column("", no_wrap=True)
    result.add_column("claim", ratio=1)
    result.add_column("value", no_wrap=True)
    result.add_column("verdict", width=VERDICT_WIDTH)
    shown = ""
    for row in table.to_dict("records"):
        again = row["id"] == shown
        claim = Text(f"the same, He by {row['fan']}" if again else str(row["claim"]))
        if row["part"]:
            claim.append(f"\nleast: {row['part']}", style="dim")
        value = _value(row, row["unit"] == POINTS)
        result.add_row("" if again else Text(row["id"], style="bold"), claim, value, _verdict(row))
        shown = row["id"]
    return result


def measures_table(table: pd.DataFrame) -> Table:
    """How each claim is measured, what its parts are, and what theory says; rows as in the claims'."""
    result = new_table("How each claim is measured, and what theory says", caption=quantities_note())
    result.add_column("", no_wrap=True)
    result.add_column("", ratio=1)
    said: dict[str, str] = {}
    for row in table.to_dict("records"):
        again = row["id"] in said
        name = Text(f"{row['id']}\n{row['fan']}", style="" if again else "bold")
        result.add_row(name, _measure(row, again, said.get(row["id"]) != row["theory"]))
        result.add_section()
        said[row["id"]] = row["theory"]
    return result


def conditions_table(table: pd.DataFrame) -> Table:
    """The table of ``empirical.conditions.judge_conditions``."""
    result = new_table(
        "Should He be the default, and under which conditions?",
        caption="Points are of final test accuracy, mean over the settings (activation × depth) that "
        "both arms have.",
    )
    result.add_column("condition", ratio=2)
    result.add_column("answer", ratio=5)
    result.add_column("verdict", width=VERDICT_WIDTH)
    for row in table.to_dict("records"):
        answer = Text(str(row["answer"]))
        if row["verdict"] == NO_RECORDS and row["commands"]:
            answer.append(f"\nneeds {row['commands']}", style="dim")
        style = "" if row["parts"] else "bold"
        result.add_row(Text(str(row["question"]), style=style), answer, _verdict(row))
        result.add_section()
    return result


def agreement_table(table: pd.DataFrame, sentence: str) -> Table:
    """The table of ``empirical.fan_agreement.fan_agreement``, a row per arm and a column per depth.

    ``sentence`` is what ``nearest_fan`` says of it.
    """
    result = new_table(
        "Which fan mode is behind the printed accuracies?",
        caption="Ours minus the report's in points, at each number of layers: mean absolute and, "
        f"below, root mean square. {sentence}",
        spare=("cells",),
    )
    result.add_column("layers")
    depths = list(dict.fromkeys(table["depth"]))
    for depth in depths:
        result.add_column(depth, justify="right", no_wrap=True)
    result.add_column("cells", justify="right", no_wrap=True)
    for measure, of_measure in table.groupby("measure", sort=False):
        title = "accuracy" if measure == "accuracy" else "gap to N(0, 1)"
        result.add_row(Text(title, style="bold"))
        for arm, rows in of_measure.groupby("arm", sort=False):
            by_depth = rows.set_index("depth")
            cells = [_off(by_depth.loc[depth].to_dict()) for depth in depths]
            total = by_depth.loc["all"]
            result.add_row(str(arm), *cells, f"{total['cells']} of {total['of']}")
        result.add_section()
    return result


def quantities_note() -> str:
    """What the symbols in the claims' measures stand for."""
    words = "; ".join(f"{one.symbol}: {one.words}" for one in QUANTITIES.values())
    return f"{words}. {CURVE_NOTE}."


def _claims_caption() -> str:
    return (
        "A claim holds if each of its parts is positive; value and interval (95 %, over seeds) are of "
        "the least positive one, below six seeds each run's own. Confirmed and refuted: p ≤ "
        f"{LEVEL:g} by exact sign-flip tests after Holm's correction over the claims of one fan mode, "
        f"from {MINIMUM_SEEDS} seeds on. As printed, He is by {COURSE_REPORT.fan}."
    )


def _measure(row: Row, again: bool, theory: bool) -> Text:
    """A claim's measure, its parts and what theory says; what repeats is not said again."""
    lines = [] if again else [f"measured by: {row['operationalised']}"]
    if row["direction"]:
        lines.append(f"parts: {row['parts']}")
    if row["report_direction"] and not again:
        own = in_unit(row["report_value"])
        lines.append(f"the report's own numbers: {row['report_direction']} ({own} points)")
    if row["diverged"]:
        lines.append(f"diverged records, in no number: {row['diverged']}")
    if row["verdict"] == NO_RECORDS:
        if row["direction"]:
            lines.append(f"missing: {row['missing']}")
        lines.append(f"needs {row['commands']}")
    text = Text("\n".join(lines))
    return text.append(f"\ntheory: {row['theory']}", style="dim") if theory else text


def _value(row: Row, points: bool) -> Text:
    """The decisive part: mean and interval, or each run's own value."""
    if math.isnan(row["value"]):
        return Text("–")
    unit = " points" if points else ""
    count = row["seeds"]
    seeds = f"{count} seed{'' if count == 1 else 's'}" if count else "in part"
    if math.isnan(row["low"]):
        values = [f"{value}{unit}" for value in row["single_values"].split(", ")]
        return Text("\n".join([*values, seeds]))
    low, high = (in_unit(row[name], points) for name in ("low", "high"))
    return Text(f"{in_unit(row['value'], points)}{unit}\n{low} to {high}\n{seeds}")


def _verdict(row: Row) -> Text:
    """The verdict, and where it is open what the runs there are say."""
    verdict = str(row["verdict"])
    text = Text(verdict, style=VERDICT_STYLES.get(verdict, "yellow"))
    if row["direction"] and verdict not in VERDICT_STYLES:
        say = "agree" if row["direction"] == AGREES else "disagree"
        text.append(f"\nruns {say}")
    return text


def _off(row: Mapping[Hashable, Any]) -> str:
    if not row["cells"]:
        return "–"
    return f"{row['mean_absolute_difference']:.2f}\n{row['root_mean_square_difference']:.2f}"
