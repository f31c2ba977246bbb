"""The course report's figures from a study's table: average weight and accuracy against epoch.

The average weight is the report's: the mean over all parameter tensors of each tensor's mean.  One
figure of each kind per experiment (initializer × activation), a line per depth.  With several
seeds, the line is the mean of those that did not diverge and each seed a thin line behind it.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from figures import style

QUANTITIES = {
    "average_weight": "average weight",
    "test_accuracy": "test accuracy (percent)",
}


def course_report_figures(study: pd.DataFrame) -> dict[str, Figure]:
    """File stem -> figure, two for each experiment in a table of ``empirical.study.run_study``.

    Cells that diverged are drawn up to their last measured epoch; the legend says when they did.
    """
    figures = {}
    for (initializer, activation), cells in study.groupby(["initializer", "activation"], sort=False):
        for quantity in QUANTITIES:
            stem = f"{quantity}-{initializer}-{activation}".replace("_", "-").replace(":", "")
            title = (
                f"{str(initializer).capitalize()} initialization, {_activation_name(str(activation))}"
            )
            figures[stem] = _against_epoch(cells, quantity, title)
    return figures


def _activation_name(name: str) -> str:
    return {"relu": "ReLU", "prelu": "PReLU"}.get(name, name)


def _against_epoch(cells: pd.DataFrame, quantity: str, title: str) -> Figure:
    with style.styled():
        figure = Figure(figsize=(style.PAGE_WIDTH * 0.7, 3.4), layout="constrained")
        axes = figure.subplots()
        looks = style.depth_looks(int(depth) for depth in cells["depth"].unique())
        for depth, look in looks.items():
            _depth_line(axes, cells[cells["depth"] == depth], quantity, depth, look)
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
    return figure


def _depth_line(axes: Axes, cells: pd.DataFrame, quantity: str, depth: int, look: style.Look) -> None:
    """Each seed, and the mean of those that did not diverge (of all, where all did)."""
    measured = cells[cells[quantity].notna()]
    seeds = measured.pivot_table(index="epoch", columns="seed", values=quantity)
    if seeds.shape[1] > 1:
        axes.plot(seeds.index, seeds.to_numpy(), color=look.color, linewidth=0.5, alpha=0.5)
    completed = [seed for seed in seeds if (cells[cells["seed"] == seed]["status"] != "diverged").all()]
    mean = (seeds[completed] if completed else seeds).mean(axis=1).dropna()
    axes.plot(
        mean.index,
        mean,
        color=look.color,
        linestyle=look.dash,
        marker=look.marker,
        markersize=4,
        label=f"{depth}{_divergence(cells)}",
    )


def _divergence(cells: pd.DataFrame) -> str:
    """What the legend says of the seeds that diverged; empty if none did.

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
