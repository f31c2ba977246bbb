"""What a study's seeds say, as tables: each cell with its spread, each difference with its verdict.

``statistics_cells`` and ``statistics_pairs`` are the two tables of ``judgment.statistics``.  With one
seed there is nothing to say but that there is nothing to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd
from rich.text import Text

from empirical.judgment.statistics import (
    EXACT_SEEDS,
    INSUFFICIENT,
    MINIMUM_SEEDS,
    cell_statistics,
    pair_statistics,
)
from figures.prose import name_of, note, notes
from figures.tables import Column, Row, Sheet, fixed, number, words

SINGLE_RUNS = (
    "One seed per cell: their differences are those of single runs, and no verdict is possible. From "
    f"{MINIMUM_SEEDS} seeds on (--seeds {MINIMUM_SEEDS}) they are tested."
)
VERDICT_STYLES = {"first higher": "green", "second higher": "green", INSUFFICIENT: "yellow"}


def statistics_tables(study: pd.DataFrame) -> list[Sheet | Text]:
    """Both tables of a study's table of cells and epochs; one line where no cell has a second seed."""
    cells = cell_statistics(study)
    if int((cells["seeds"] + cells["diverged"]).max()) == 1:
        return [Text(SINGLE_RUNS)]
    pairs = pair_statistics(study)
    return [cells_table(cells), *([] if pairs.empty else [pairs_table(pairs)])]


def cells_table(cells: pd.DataFrame) -> Sheet:
    """The table of ``judgment.statistics.cell_statistics``, a section per arm and activation."""
    return Sheet(
        name="statistics_cells",
        title="Final test accuracy over seeds, in percent",
        data=cells,
        section=lambda row: f"{name_of(row['arm'])} · {name_of(row['activation'])}",
        columns=(
            words("layers", "depth", form="{:>6}".format, folds=False),
            Column("seeds", "seeds"),
            Column("diverged", _diverged),
            Column("mean", "mean", fixed(2)),
            Column("std", "std", fixed(2)),
            Column("95 % interval", _interval(".2f")),
        ),
        notes=(note("statistics"),),
        spare=("std",),
    )


def pairs_table(
    pairs: pd.DataFrame,
    name: str = "statistics_pairs",
    title: str = "Differences in final test accuracy, paired by seed",
) -> Sheet:
    """The table of ``empirical.judgment.statistics.pair_statistics``, a section per pair of arms."""
    diverged = Column("diverged", "{diverged_first}, {diverged_second}".format_map)
    some = bool((pairs["diverged_first"] + pairs["diverged_second"]).any())
    unpaired = not pairs["paired"].all()
    return Sheet(
        name=name,
        title=title,
        data=pairs,
        section=lambda row: f"{name_of(row['first'])} − {name_of(row['second'])}",
        columns=(
            words("setting,\nlayers", _setting, room=12),
            Column("seeds", "seeds"),
            *([diverged] if some else []),
            Column("points", "difference", number("+.2f")),
            Column("95 % interval", _interval("+.1f")),
            Column("$d_z$", "effect_size", fixed(1)),
            Column("exact p", "p_exact", _probability),
            Column("p (Holm)", "p_holm", _probability),
            words("verdict", lambda row: row, form=_verdict, room=17),
        ),
        notes=notes("pairs", exact=EXACT_SEEDS, diverged=some, unpaired=unpaired),
        spare=("$d_z$", "exact p", "diverged", "seeds", "p (Holm)"),
    )


def _setting(row: Row) -> str:
    shared = row["activation"] if row["compared"] == "arm" else row["arm"]
    return f"{name_of(shared)} · {row['depth']}"


def _interval(form: str) -> Callable[[Row], str]:
    ends = f"{{low:{form}}} to {{high:{form}}}"
    return lambda row: "–" if math.isnan(row["low"]) else ends.format_map(row)


def _diverged(row: Row) -> Text:
    if not row["diverged"]:
        return Text("0")
    return Text(f"{row['diverged']} of {row['seeds'] + row['diverged']}", style="red")


def _probability(value: float) -> str:
    return "< 0.0001" if value < 5e-5 else fixed(4)(value)


def _verdict(row: Row) -> Text:
    """The verdict with the arm's name in it."""
    verdict = str(row["verdict"])
    style = VERDICT_STYLES.get(verdict, "")
    for side in ("first", "second"):
        if verdict == f"{side} higher":
            verdict = f"{name_of(row[side])} higher"
    if verdict == INSUFFICIENT:
        needed = row["seeds_needed"]
        known = not math.isnan(row["effect_size"])
        verdict += f" ({needed} would do)" if known else f" ({needed} at least)"
    return Text(verdict, style=style)
