"""The course report's figures from a study's table: average weight and accuracy against epoch.

The average weight is the report's: the mean over all parameter tensors of each tensor's mean.  One
figure of each kind per experiment (initializer × activation), a line per depth, in shades of the
initializer's color.  With several seeds, the line is the mean of those that did not diverge, in a band
from the least to the greatest of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from empirical.arm import NAMES, Arm
from empirical.judgment.statistics import with_own_arms
from figures import style

QUANTITIES = {
    "average_weight": "average weight",
    "test_accuracy": "test accuracy (percent)",
}
LAWS = ("head_initializer", "learning_rate_reference")  # changes whose value is an initializer


def course_report_figures(
    study: pd.DataFrame, quantities: Sequence[str] = tuple(QUANTITIES), note: str = ""
) -> dict[str, Figure]:
    """File stem -> figure, two for each experiment in a table of ``empirical.study.grid.run_study``.

    ``quantities`` chooses among ``QUANTITIES``; ``note`` is said under each figure.

    Experiments whose protocol differs are not mixed: each has its figures, and their names say in what
    it differs.  Cells that diverged are drawn up to their last measured epoch; the legend says when.
    """
    figures = {}
    for key, cells in with_own_arms(study).groupby(["arm", "activation"], sort=False):
        arm, activation = cast(Arm, key[0]), str(key[1])
        for quantity in quantities:
            names = (name.replace(":", "") for name in (arm.initializer, activation))
            stem = re.sub(r"[^a-z0-9.]+", "-", "-".join([quantity, *names, *arm.words]).lower())
            title = f"{name_of(arm.initializer)} initialization, {name_of(activation)}"
            if arm.changes:
                title += f"\n{arm.variant}"
            figures[stem] = _against_epoch(cells, quantity, title, note)
    return figures


def name_of(what: str | Arm) -> str:
    """An initializer, an activation or an arm as it is written in a picture.

    >>> name_of("he"), name_of(Arm("normal", (("head_initializer", "he"),))), name_of("prelu")
    ('He', 'N(0, 1), head He', 'PReLU')
    """
    if isinstance(what, str):
        return NAMES.get(what, what)
    changes = tuple(
        (field, NAMES.get(value, value) if field in LAWS else value) for field, value in what.changes
    )
    return Arm(NAMES.get(what.initializer, what.initializer), changes).label


def draw_curve(
    axes: Axes,
    cells: pd.DataFrame,
    quantity: str,
    look: style.Look,
    label: str,
    *,
    size: float = 4,
    width: float = 1.4,
) -> None:
    """``quantity`` against epoch over a configuration's seeds: their mean, and a band that spans them.

    Of those that did not diverge (of all, where all did); one that did is a thin line to its cross.
    """
    measured = cells[cells[quantity].notna()]
    diverged = measured[measured["status"] == "diverged"]
    completed = measured.drop(diverged.index)
    shown = diverged if completed.empty else completed
    over_seeds(axes, shown, "epoch", quantity, look, label=label, markersize=size, linewidth=width)
    for _, seed in diverged.groupby("seed"):
        axes.plot(seed["epoch"], seed[quantity], color=look.color, linewidth=0.5, alpha=0.5)
        axes.plot(seed["epoch"].iloc[-1], seed[quantity].iloc[-1], "x", color="black", markersize=6)


def over_seeds(axes: Axes, table: pd.DataFrame, x: str, y: str, look: style.Look, **drawn: Any) -> None:
    """The mean of ``y`` over seeds at each ``x``; a band, or bars, from the least to the greatest."""
    before = {"xlabel": axes.get_xlabel(), "ylabel": axes.get_ylabel()}
    own = {"color": look.color, "linestyle": look.dash, "marker": look.marker}
    own["markeredgecolor"] = look.color
    seaborn.lineplot(table, x=x, y=y, errorbar=("pi", 100), ax=axes, legend=False, **own, **drawn)
    axes.set(**before)  # seaborn writes the columns' names there


def whole_epochs(axes: Axes) -> None:
    """Ticks of an axis of epochs, or of layers, at whole numbers."""
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))


def divergence(cells: pd.DataFrame) -> str:
    """What a legend says of the seeds that diverged; empty if none did.

    A cell that diverged has rows for its finished epochs only, or one row of epoch 0.
    """
    diverged = cells[cells["status"] == "diverged"].groupby("seed")["epoch"].max() + 1
    seeds = cells["seed"].nunique()
    if diverged.empty:
        return ""
    low, high = int(diverged.min()), int(diverged.max())
    when = f"epoch {low}" if low == high else f"epochs {low}–{high}"
    who = "" if len(diverged) == seeds else f"{len(diverged)} of {seeds} "
    return f" ({who}diverged\nin {when})"


def _against_epoch(cells: pd.DataFrame, quantity: str, title: str, note: str) -> Figure:
    initializer = str(cells["initializer"].iloc[0])
    color = style.initializer_looks([initializer])[initializer].color
    with style.styled():
        figure = Figure(figsize=(style.PAGE_WIDTH * 0.7, 3.4), layout="constrained")
        axes = figure.subplots()
        looks = style.depth_shades((int(depth) for depth in cells["depth"].unique()), color)
        for depth, look in looks.items():
            of_depth = cells[cells["depth"] == depth]
            draw_curve(axes, of_depth, quantity, look, f"{depth}{divergence(of_depth)}")
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.set_ylabel(QUANTITIES[quantity])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if cells[quantity].isna().all():
            axes.set(xticks=[], yticks=[])
            axes.annotate(
                "every cell diverged in epoch 1", (0.5, 0.5), xycoords="axes fraction", ha="center"
            )
        figure.legend(loc="outside right center", title="layers", borderaxespad=0.8)
        style.add_note(figure, note)
    return figure


def layer_axis(axes: Axes, layers: int) -> None:
    """Ticks at some of the weight layers 1 … ``layers``; the last, linear one is called h."""
    ticks = [*(n for n in style.thin(layers - 1, 6) if n < layers - layers / 14 or n == 1), layers]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: "h" if n == layers else f"{n:.0f}"))
    axes.set_xlim(1 - 0.04 * layers, layers + 0.04 * layers)
