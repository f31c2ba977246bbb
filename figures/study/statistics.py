"""What a study's seeds say, as tables: each cell with its spread, each difference with its verdict.

``statistics_cells`` and ``statistics_pairs`` are the two tables of ``judgment.statistics``.  With one
seed there is nothing to say but that there is nothing to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import pandas as pd
from rich.text import Text

from empirical.judgment.statistics import cell_statistics, pair_statistics
from figures.tables import Column, Row, Sheet, fixed, words

SINGLE_RUNS = (
    "One seed per cell: their differences are those of single runs, and no verdict is possible."
)
VERDICT_STYLES = {"first higher": "green", "second higher": "green", "insufficient seeds": "yellow"}


def statistics_tables(study: pd.DataFrame) -> list[Sheet | Text]:
    """Both tables of a study's table of cells and epochs; one line where no cell has a second seed."""
    cells = cell_statistics(study)
    if int((cells["seeds"] + cells["diverged"]).max()) == 1:
        return [Text(SINGLE_RUNS + _seeds_that_decide(pair_statistics(study)))]
    pairs = pair_statistics(study)
    return [cells_table(cells), *([] if pairs.empty else [pairs_table(pairs)])]


def _seeds_that_decide(pairs: pd.DataFrame) -> str:
    """How many seeds it takes to test what a study of single runs compares."""
    if pairs.empty:
        return ""
    needed = int(pairs["seeds_needed"].max())
    return f" To test its differences, this grid needs {needed} seeds (--seeds {needed})."


def cells_table(cells: pd.DataFrame) -> Sheet:
    """The table of ``judgment.statistics.cell_statistics``, a section per arm and activation."""
    return Sheet(
        name="statistics_cells",
        title="Final test accuracy over seeds, in percent",
        data=cells,
        section=lambda row: f"{row['arm']} · {row['activation']}",
        columns=(
            words("layers", "depth", form="{:>6}".format, folds=False),
            Column("seeds", "seeds"),
            Column("diverged", _all_seeds, _diverged),
            Column("mean", "mean", fixed(2)),
            Column("std", "std", fixed(2)),
            Column("95 % interval", _interval(2)),
        ),
        notes=(
            "Mean, standard deviation and BCa bootstrap interval of the mean over the seeds that did "
            "not diverge; – where there are too few.",
        ),
        spare=("std",),
    )


def pairs_table(pairs: pd.DataFrame) -> Sheet:
    """The table of ``empirical.judgment.statistics.pair_statistics``, a section per pair of arms."""
    diverged = Column("diverged", lambda row: f"{row['diverged_first']}, {row['diverged_second']}")
    some = bool((pairs["diverged_first"] + pairs["diverged_second"]).any())
    return Sheet(
        name="statistics_pairs",
        title="Differences in final test accuracy, paired by seed",
        data=pairs,
        section=lambda row: f"{row['first']} − {row['second']}",
        columns=(
            words("setting,\nlayers", _setting, room=12),
            Column("seeds", "pairs"),
            *([diverged] if some else []),
            Column("points", "difference", _signed),
            Column("95 % interval", _interval(1, "+")),
            Column("$d_z$", "effect_size", fixed(1)),
            Column("p", "p_value", _probability),
            Column("Holm", "p_holm", _probability),
            words("verdict", lambda row: row, form=_verdict, room=19),
        ),
        notes=tuple(_pair_notes(pairs, some)),
        spare=("$d_z$", "diverged", "p", "seeds", "Holm"),
    )


def _pair_notes(pairs: pd.DataFrame, some_diverged: bool) -> list[str]:
    notes = [
        "points: first minus second, mean over the seeds that both completed, with its BCa bootstrap "
        "interval; d_z: that mean over the standard deviation of the differences; p: exact sign-flip "
        "test; Holm: corrected over all comparisons of a kind with enough seeds."
    ]
    if some_diverged:
        notes.append("diverged: seeds of the first and of the second, not in the difference.")
    open_ = pairs[pairs["verdict"] == "insufficient seeds"].drop_duplicates("compared")
    counts = pairs["compared"].value_counts()
    needs = []
    for row in open_.to_dict("records"):
        among = row["family"] or counts[row["compared"]]
        kind = "activations" if row["compared"] == "activation" else _arms(pairs)
        needs.append(f"{row['seeds_needed']} seeds on among {among} comparisons of {kind}")
    if needs:
        notes.append(f"A difference can be shown from {', and from '.join(needs)}.")
    return notes


def _arms(pairs: pd.DataFrame) -> str:
    """What arms are: initializers, unless their protocols differ as well."""
    arms = pairs.loc[pairs["compared"] == "arm", ["first", "second"]]
    return "arms" if arms.map(lambda arm: bool(arm.changes)).any(axis=None) else "initializers"


def _setting(row: Row) -> str:
    shared = row["activation"] if row["compared"] == "arm" else row["arm"]
    return f"{shared} · {row['depth']}"


def _interval(digits: int, sign: str = "") -> Callable[[Row], str]:
    def written(row: Row) -> str:
        if math.isnan(row["low"]):
            return "–"
        return f"{row['low']:{sign}.{digits}f} to {row['high']:{sign}.{digits}f}"

    return written


def _all_seeds(row: Row) -> Mapping[str, int]:
    return {"diverged": row["diverged"], "seeds": row["seeds"] + row["diverged"]}


def _diverged(counts: Mapping[str, int]) -> Text:
    if not counts["diverged"]:
        return Text("0")
    return Text(f"{counts['diverged']} of {counts['seeds']}", style="red")


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.2f}"


def _probability(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.4f}" if value >= 5e-5 else "< 0.0001"


def _verdict(row: Row) -> Text:
    """The verdict with the arm's name in it."""
    verdict = str(row["verdict"])
    style = VERDICT_STYLES.get(verdict, "")
    for side in ("first", "second"):
        if verdict == f"{side} higher":
            verdict = f"{row[side]} higher"
    return Text(verdict, style=style)
