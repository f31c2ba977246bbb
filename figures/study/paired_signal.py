"""Signal and gradient of the networks as drawn, predicted and measured, beside how they learn.

Left the theory: for each weight layer the second moment of its pre-activations, and of the gradient
of one image's loss there, as ``theory.predict`` has it from the law of the weights alone (line), and
as the probe read it on the drawn network and real images (marker).  Right the practice: the same
networks while they train.  One row per depth; all rows share the scale of a column.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from empirical.protocol import CLASSES
from empirical.records.published import Published
from figures import style
from figures.study.report_figures import draw_curve, layer_axis, name_of, whole_epochs

MOMENTS = {
    "second_moment": "theory: signal\n$\\mathrm{mean}(y_l^2)$",
    "gradient_second_moment": "theory: gradient\n"
    "$\\mathrm{mean}((\\partial\\,\\mathrm{loss}/\\partial y_l)^2)$",
}
PRACTICE = {
    "test_accuracy": "practice: test accuracy\n(percent)",
    "train_loss": "practice: training loss\n(nats per image)",
}


def first_look(records: Published) -> pd.DataFrame:
    """The weight layers of every cell as drawn, one row each.

    Columns: cell, initializer, activation, depth, seed; number (1, 2, …; the linear layer is last),
    layer (its name); log10 of ``MOMENTS`` and of their predictions, NaN where there is none.
    """
    layers = records.layers
    weighted = layers[(layers["epoch"] == 0) & layers["relative_change"].notna()].copy()
    weighted["number"] = weighted.groupby("cell", sort=False).cumcount() + 1
    names = [f"{name}{part}" for name in MOMENTS for part in ("", "_predicted")]
    with np.errstate(divide="ignore"):
        weighted[names] = np.log10(weighted[names].to_numpy(dtype=np.float64))
    weighted[names] = weighted[names].replace([-math.inf, math.inf], math.nan)
    known = ["cell", "initializer", "activation", "depth", "seed"]
    table = weighted[["cell", "number", "layer", *names]].merge(records.cells[known], on="cell")
    return table[[*known, "number", "layer", *names]]


def signal_figure(
    records: Published, activation: str, practice: str = "test_accuracy", note: str = ""
) -> Figure:
    """A row per depth, an initializer per color: signal, gradient, and ``practice`` against epoch.

    ``records`` holds one protocol; ``practice`` is a key of ``PRACTICE``.
    """
    looked = first_look(records)
    looked = looked[looked["activation"] == activation]
    study = records.study[records.study["activation"] == activation]
    depths = sorted(int(depth) for depth in looked["depth"].unique())
    looks = style.initializer_looks(dict.fromkeys(looked["initializer"]))
    with style.styled():
        height = 1.5 + 1.45 * len(depths)
        figure = Figure(figsize=(style.PAGE_WIDTH, height), layout="constrained")
        grid = figure.subplots(len(depths), 3, squeeze=False, sharey="col")
        for row, depth in enumerate(depths):
            at_depth = looked[looked["depth"] == depth]
            for column, moment in enumerate(MOMENTS):
                _moments(grid[row, column], at_depth, moment, looks)
            _practice(grid[row, 2], study[study["depth"] == depth], practice, looks)
            grid[row, 0].set_ylabel(f"{depth} layers")
        for column, title in enumerate((*MOMENTS.values(), PRACTICE[practice])):
            grid[0, column].set_title(title)
        for column in (0, 1):
            _widen(grid[0, column])
            style.power_of_ten_axis(grid[0, column])
            grid[-1, column].set_xlabel("weight layer $l$ (h: linear)")
        grid[-1, 2].set_xlabel("epoch")
        if practice == "train_loss":
            _at_chance(list(grid[:, 2]))
        figure.legend(handles=_legend(looks), loc="outside upper center", ncols=min(len(looks) + 2, 6))
        style.add_note(figure, note)
    return figure


def _moments(axes: Axes, looked: pd.DataFrame, moment: str, looks: dict[str, style.Look]) -> None:
    for initializer, cells in looked.groupby("initializer", sort=False):
        look = looks[str(initializer)]
        by_layer = cells.groupby("number")
        predicted = by_layer[f"{moment}_predicted"].mean()
        axes.plot(predicted.index, predicted, color=look.color, linestyle=look.dash)
        seen = by_layer[moment].agg(["mean", "min", "max"])
        axes.vlines(seen.index, seen["min"], seen["max"], color=look.color, linewidth=0.8)
        axes.plot(
            seen.index,
            seen["mean"],
            look.marker,
            color=look.color,
            markerfacecolor="white",
            markersize=4.5,
        )
    layer_axis(axes, int(looked["number"].max()))


def _practice(axes: Axes, study: pd.DataFrame, quantity: str, looks: dict[str, style.Look]) -> None:
    lost = []
    for initializer, cells in study.groupby("initializer", sort=False):
        if cells[quantity].notna().any():
            draw_curve(axes, cells, quantity, looks[str(initializer)], str(initializer), size=3.5)
        diverged = cells[cells["status"] == "diverged"]
        if not diverged.empty:
            epoch = int(diverged.groupby("seed")["epoch"].max().min()) + 1
            name, of = name_of(str(initializer)), cells["seed"].nunique()
            seeds = f"{diverged['seed'].nunique()} of {of} seeds"
            several = f"{name}: {seeds} diverge, the first in epoch {epoch}"
            lost.append(several if of > 1 else f"{name} diverges in epoch {epoch}")
    if lost:
        axes.annotate(
            "\n".join(lost), (0.98, 0.04), xycoords="axes fraction", ha="right", va="bottom", fontsize=7
        )
    whole_epochs(axes)


def _at_chance(panels: list[Axes]) -> None:
    """The loss of ten equal logits, which a network that has learned nothing keeps."""
    for axes in panels:
        axes.axhline(math.log(CLASSES), color="black", linewidth=0.8, linestyle=":")
    panels[0].annotate(
        f"ln {CLASSES}: nothing learned",
        (0.98, math.log(CLASSES)),
        xycoords=("axes fraction", "data"),
        xytext=(0, -5),  # below: above are the panel's titles
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=7,
    )


def _widen(axes: Axes, decades: float = 1.0) -> None:
    """At least ``decades`` on the y axis, so that noise around a constant does not fill the panel."""
    low, high = axes.get_ylim()
    missing = max(decades - (high - low), 0.0) / 2
    axes.set_ylim(low - missing, high + missing)


def _legend(looks: dict[str, style.Look]) -> list[Line2D]:
    entries = [
        style.legend_key(name_of(name), color=look.color, linestyle=look.dash, marker=look.marker,
                         markerfacecolor="white")
        for name, look in looks.items()
    ]  # fmt: skip
    entries.append(style.legend_key("predicted (line)", color="#555555"))
    entries.append(
        style.legend_key("measured (marker)", color="#555555", marker="o", linestyle="none",
                         markerfacecolor="white")
    )  # fmt: skip
    return entries
