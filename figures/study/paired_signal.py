"""Signal and gradient of the networks as drawn, predicted and measured, beside how they learn.

Left the theory: for each weight layer the second moment of its pre-activations, and of the gradient
of one image's loss there, as ``theory.predict`` has it from the law of the weights alone (line), and
as the probe read it on the drawn network and real images (marker).  Right the practice: the same
networks while they train.  One row per depth; all rows share the scale of a column.

``answer_figure`` puts the question to three conditions in one picture: theory above, practice below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from empirical.protocol import CLASSES
from empirical.records.published import Published
from figures import style
from figures.study.report_figures import (
    draw_curve,
    guessing_key,
    layer_axis,
    name_of,
    spread_keys,
    whole_epochs,
)

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


def signal_figure(records: Published, activation: str, practice: str = "test_accuracy") -> Figure:
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
        keys: list[Artist] = [*_legend(looks), *spread_keys(study)]
        figure.legend(handles=keys, loc="outside upper center", ncols=min(len(keys), 6))
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


# ------------------------------------------------------------------------------- the answer

WINDOW = (-4.0, 5.0)  # decades of signal that the picture shows; a curve that leaves it is labeled


def answer_figure(parts: Mapping[str, Published]) -> Figure:
    """A column per condition: above the predicted signal by layer, below the test accuracy.

    ``parts`` has the cells of each condition, all of one depth, under what stands above its column.
    """
    study = pd.concat([part.study for part in parts.values()])
    looks = style.initializer_looks(dict.fromkeys(study["initializer"]))
    with style.styled():
        figure = Figure(figsize=(style.PAGE_WIDTH, 4.3), layout="constrained")
        grid = figure.subplots(2, len(parts), sharey="row", squeeze=False)
        for (above, below), (name, part) in zip(grid.T, parts.items(), strict=True):
            above.set_title(name, fontweight="bold", fontsize=10)
            _predicted(above, first_look(part), looks)
            for law, cells in part.study.groupby("initializer", sort=False):
                draw_curve(below, cells, "test_accuracy", looks[str(law)], str(law), size=3.5)
            _finals(below, part, looks)
            above.set_xlabel("weight layer (h: linear)")
            below.set_xlabel("epoch of training")
        above, below = grid[0, 0], grid[1, 0]
        above.set_ylim(*WINDOW)
        style.power_of_ten_axis(above)
        above.set_ylabel("theory, before training:\nsignal, predicted")
        below.set_ylabel("practice:\ntest accuracy (percent)")
        below.set_ylim(0, None)
        for axes in grid[1]:
            axes.axhline(100 / CLASSES, color="black", linewidth=0.8, linestyle=":")
        keys: list[Artist] = [
            style.legend_key(name_of(law), color=look.color, linestyle=look.dash, marker=look.marker)
            for law, look in looks.items()
        ]
        keys += [guessing_key("guessing"), *spread_keys(study)]
        figure.legend(handles=keys, loc="outside upper center", ncols=len(keys))
    return figure


def _predicted(axes: Axes, looked: pd.DataFrame, looks: dict[str, style.Look]) -> None:
    """The predicted signal; where a curve leaves ``WINDOW``, how far it goes."""
    for law, cells in looked.groupby("initializer", sort=False):
        predicted = cells.groupby("number")["second_moment_predicted"].mean()
        look = looks[str(law)]
        axes.plot(predicted.index, predicted, color=look.color, linestyle=look.dash, linewidth=2,
                  marker=look.marker, markersize=4,
                  markevery=max(1, len(predicted) // 10))  # fmt: skip
        if predicted.max() > WINDOW[1]:
            axes.annotate(
                f"↑ to $10^{{{round(predicted.max())}}}$",
                (int(predicted[predicted > WINDOW[1]].index[0]), WINDOW[1]),
                xytext=(2, -3), textcoords="offset points", va="top", color=look.color,
            )  # fmt: skip
    layer_axis(axes, int(looked["number"].max()))


def _finals(axes: Axes, part: Published, looks: dict[str, style.Look]) -> None:
    """The accuracy after the last epoch beside the end of each curve, none over another."""
    done = part.cells[part.cells["status"] == "completed"]
    means = done.groupby("initializer")["final_test_accuracy"].mean().sort_values()
    end, height = int(part.study["epoch"].max()), -math.inf
    for law, mean in means.items():
        height = max(float(mean), height + 7)  # percent that a line of letters takes
        axes.annotate(f"{mean:.1f}", (end, height), xytext=(5, 0), textcoords="offset points",
                      va="center", color=looks[str(law)].color, annotation_clip=False)  # fmt: skip
    axes.set_xlim(1 - 0.04 * end, end * 1.22)
    axes.xaxis.set_major_locator(FixedLocator([1, *range(2, end + 1, 2)] if end < 12 else [1, end]))
