"""The paper's statements as a table, and its arithmetic of a vanishing gradient as a picture."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.text import Text

from figures import style
from figures.tables import Column, Sheet, words
from theory.lessons.paper import gradient_ratio, vgg_gradient

AGREEMENT_NOTE = (
    "✓: the computed number rounds to the printed one at its printed digits.  project: a value of this "
    "project's own notes, not of a paper; these are counted apart."
)


def paper_table(table: pd.DataFrame) -> Sheet:
    """The table of ``theory.lessons.paper.paper``, a section per topic."""
    published, own = table[table["is_published"]], table[~table["is_published"]]
    return Sheet(
        name="paper",
        title=(
            f"Published against computed: {_share(published)} agree; "
            f"of this project's own values {_share(own)}"
        ),
        data=table,
        section=lambda row: str(row["topic"]),
        columns=(
            words("statement", "statement", room=20),
            words("where", "source", form=lambda source: Text(source, style="dim"), width=15),
            Column("printed", "published"),
            Column("computed", "computed", written),
            Column("", "agree", _agreement),
        ),
        notes=(AGREEMENT_NOTE,),
        spare=("where",),
    )


def _share(table: pd.DataFrame) -> str:
    return f"{int(table['agree'].sum())} of {len(table)}"


def _agreement(agree: bool) -> Text:
    return Text("✓", style="green") if agree else Text("✗", style="red")


def written(computed: float | str) -> str:
    """A computed value with enough digits to be compared by eye.

    >>> written(0.0589255), written(13), written("ValueError"), written(3.0518e-05)
    ('0.0589255', '13', 'ValueError', '3.0518e-05')
    """
    if isinstance(computed, str):
        return computed
    if abs(computed) >= 1e4:
        return f"{computed:.2f}"
    return f"{computed:.8f}".rstrip("0").rstrip(".") if abs(computed) > 1e-2 else f"{computed:.6g}"


def paper_figure() -> Figure:
    """The gradient's std from conv10 down to conv2 of VGG's model B: fixed std 0.01 against He's."""
    steps = vgg_gradient()
    shrink = -np.cumsum([0.0] + [math.log10(step.ratio) for step in steps])
    looks = style.initializer_looks(["he", "normal"])
    names = ["above\nconv10", *(f"conv{step.layer}\n{step.filters}" for step in steps)]
    with style.canvas(3.0, style.PAGE_WIDTH * 0.8) as figure:
        axes = figure.subplots()
        for look, label, values in (
            (looks["he"], r"He: $\sqrt{2/\hat n_l}$", 0 * shrink),
            (looks["normal"], "fixed std 0.01", shrink),
        ):
            axes.plot(values, **(look.points | look.line), label=label)
        last, lost = (len(steps), shrink[-1]), f"1/{gradient_ratio():,.0f}"
        style.beside(axes, lost, last, (-8, -2), ha="right", va="center", fontsize=9)
        axes.set_xticks(range(len(names)), names)
        axes.set_xlabel("gradient after passing back through (layer, filters)")
        axes.set_ylabel("std of the gradient, relative")
        style.power_of_ten_axis(axes)
        axes.legend()
    return figure
