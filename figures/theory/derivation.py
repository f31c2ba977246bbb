"""The checked derivation as a lesson in a table, and as measured over predicted in a picture."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.text import Text

from figures import style
from figures.markup import FORMULA
from figures.maths import unicode
from figures.prose import note
from figures.tables import Column, Row, Sheet, words
from theory.draw.scores import UNDECIDED
from theory.lessons.derivation import THRESHOLD


def derivation_table(table: pd.DataFrame) -> Sheet:
    """The table of ``derivation.derivation``: words, formula and assumption in one cell each."""
    return Sheet(
        name="derive",
        title="He et al. (2015), §2.2, line by line",
        data=table,
        section=lambda row: str(row["part"]),
        columns=(
            words("", "equation", folds=False),
            words("line", _line),
            Column("theory", "predicted", "{:.4g}".format),
            Column("measured", "{measured:.4g}\n± {standard_error:.2g}".format_map),
            Column("z", "z", "{:+.1f}".format),
            Column("", _mark),
        ),
        notes=(_note(table),),
        tight=True,  # room for the formulas
    )


def _line(row: Row) -> Text:
    return Text.assemble(
        str(row["claim"]),
        "\n",
        (str(row["formula"]), FORMULA),
        "\n",
        (f"if {row['assumption']}", "dim"),
    )


def _mark(row: Row) -> Text:
    if row["verdict"] == UNDECIDED:
        return Text("?", style="yellow")
    if row["passes"]:
        return Text("✓", style="green")
    return Text("✗", style="yellow" if row["known_slip"] else "red")


def _note(table: pd.DataFrame) -> str:
    """Notation, what could not be told, and a warning where a true line failed or the slip did not."""
    open_ = table["verdict"] == UNDECIDED
    wrong = table[(table["passes"] == table["known_slip"]) & ~open_]
    return note(
        "derive",
        threshold=THRESHOLD,
        undecided=UNDECIDED if open_.any() else "",
        wrong=list(dict.fromkeys(wrong["equation"])),
    )


def derivation_figure(table: pd.DataFrame) -> Figure:
    """Measured over predicted, a row per line, with bars of two standard errors."""
    with style.canvas(0.6 + 0.27 * len(table)) as figure:
        axes = figure.subplots()
        rows = table.assign(
            ratio=table["measured"] / table["predicted"],
            error=2 * table["standard_error"] / table["predicted"],
            place=np.arange(len(table))[::-1],
        )
        axes.axvline(1.0, color="black", linewidth=0.8)
        for slip, color, marker, label in (
            (False, style.BLUE, "o", "lines of the derivation"),
            (True, style.VERMILION, "X", "the known slip: variance for second moment"),
        ):
            own = rows[rows["known_slip"] == slip]
            axes.errorbar(own["ratio"], own["place"], xerr=own["error"], fmt=marker, color=color,
                          markersize=5, capsize=2, label=label)  # fmt: skip
        names = rows["equation"] + "   " + rows["formula"].map(unicode)
        axes.set_yticks(rows["place"], names)
        axes.grid(visible=False, axis="y")
        begins = rows["part"] != rows["part"].shift(fill_value=rows["part"].iloc[0])
        for place in rows.loc[begins, "place"]:
            axes.axhline(place + 0.5, color="#999999", linewidth=0.6)
        axes.set_xlabel("measured / predicted, ± 2 standard errors")
        figure.legend(loc="outside upper right", ncols=2)
    return figure
