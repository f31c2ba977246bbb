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

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from empirical.protocol import CLASSES
from empirical.records.published import Published
from figures import style
from figures.prose import name_of
from figures.study.report_figures import (
    draw_curve,
    guessing_key,
    keys_of,
    layer_axis,
    log10,
    rows_by_depth,
    spread_keys,
    weight_layers,
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
    """``weight_layers`` as drawn, with log10 of ``MOMENTS`` and of their predictions."""
    layers = weight_layers(records)
    drawn = layers[layers["epoch"] == 0].reset_index(drop=True)
    return drawn.assign(
        **{name: log10(drawn[name]) for one in MOMENTS for name in (one, f"{one}_predicted")}
    )


def signal_figure(records: Published, activation: str, practice: str = "test_accuracy") -> Figure:
    """A row per depth, an initializer per color: signal, gradient, and ``practice`` against epoch.

    ``records`` holds one protocol; ``practice`` is a key of ``PRACTICE``.
    """
    looked = first_look(records)
    looked = looked[looked["activation"] == activation]
    study = records.study[records.study["activation"] == activation]
    depths = sorted(int(depth) for depth in looked["depth"].unique())
    looks = style.initializer_looks(looked["initializer"])
    columns = list(MOMENTS.values()), [PRACTICE[practice]]
    with rows_by_depth(depths, *columns) as (figure, grid):
        for row, depth in zip(grid, depths, strict=True):
            for axes, moment in zip(row, MOMENTS, strict=False):
                _moments(axes, looked[looked["depth"] == depth], moment, looks)
            _practice(row[2], study[study["depth"] == depth], practice, looks)
        for axes in grid[0, :2]:
            style.widened(axes, 1.0)
            style.power_of_ten_axis(axes)
        if practice == "train_loss":
            _at_chance(list(grid[:, 2]))
        keys = [*_legend(looks), *spread_keys(study)]
        figure.legend(handles=keys, loc="outside upper center", ncols=min(len(keys), 6))
    return figure


def _moments(axes: Axes, looked: pd.DataFrame, moment: str, looks: dict[str, style.Look]) -> None:
    for initializer, cells in looked.groupby("initializer", sort=False):
        look, by_layer = looks[str(initializer)], cells.groupby("number")
        axes.plot(by_layer[f"{moment}_predicted"].mean(), **look.line)
        seen = by_layer[moment].agg(["mean", "min", "max"])
        axes.vlines(seen.index, seen["min"], seen["max"], color=look.color, linewidth=0.8)
        axes.plot(seen["mean"], **look.points, markersize=4.5)
    layer_axis(axes, int(looked["number"].max()))


def _practice(axes: Axes, study: pd.DataFrame, quantity: str, looks: dict[str, style.Look]) -> None:
    lost = []
    for initializer, cells in study.groupby("initializer", sort=False):
        draw_curve(axes, cells, quantity, looks[str(initializer)], str(initializer), size=3.5)
        diverged = cells[cells["status"] == "diverged"]
        if not diverged.empty:
            epoch = int(diverged.groupby("seed")["epoch"].max().min()) + 1
            name, of = name_of(initializer), cells["seed"].nunique()
            seeds = f"{diverged['seed'].nunique()} of {of} seeds"
            several = f"{name}: {seeds} diverge, the first in epoch {epoch}"
            lost.append(several if of > 1 else f"{name} diverges in epoch {epoch}")
    if lost:
        text = axes.text(0.98, 0.04, "\n".join(lost), ha="right", va="bottom", fontsize=7)
        text.set_transform(axes.transAxes)
    whole_epochs(axes)


def _at_chance(panels: list[Axes]) -> None:
    """The loss of ten equal logits, which a network that has learned nothing keeps."""
    chance = math.log(CLASSES)
    for axes in panels:
        axes.axhline(chance, **style.DOTTED)
    corner = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "top"}
    # below the line: above are the panel's titles
    style.beside(panels[0], f"ln {CLASSES}: nothing learned", (0.98, chance), (0, -5), **corner)


def _legend(looks: dict[str, style.Look]) -> list[Artist]:
    points = {"marker": "o", "linestyle": "none", "markerfacecolor": "white"}
    return [
        *keys_of(looks, markerfacecolor="white"),
        style.legend_key("predicted (line)", color="#555555"),
        style.legend_key("measured (marker)", color="#555555", **points),
    ]


# ------------------------------------------------------------------------------- the answer

WINDOW = (-4.0, 5.0)  # decades of signal that the picture shows; a curve that leaves it is labeled


def answer_figure(parts: Mapping[str, Published]) -> Figure:
    """A column per condition: above the predicted signal by layer, below the test accuracy.

    ``parts`` has the cells of each condition, all of one depth, under what stands above its column.
    """
    study = pd.concat([part.study for part in parts.values()])
    looks = style.initializer_looks(study["initializer"])
    with style.canvas(4.3) as figure:
        grid = figure.subplots(2, len(parts), sharey="row", squeeze=False)
        for (above, below), (name, part) in zip(grid.T, parts.items(), strict=True):
            above.set_title(name, fontweight="bold", fontsize=10)
            _predicted(above, first_look(part), looks)
            for law, cells in part.study.groupby("initializer", sort=False):
                draw_curve(below, cells, "test_accuracy", looks[str(law)], str(law), size=3.5)
            _finals(below, part, looks)
            below.axhline(100 / CLASSES, **style.DOTTED)
            above.set_xlabel("weight layer (h: linear)")
            below.set_xlabel("epoch of training")
        above, below = grid[0, 0], grid[1, 0]
        above.set_ylim(*WINDOW)
        style.power_of_ten_axis(above)
        above.set_ylabel("theory, before training:\nsignal, predicted")
        below.set_ylabel("practice:\ntest accuracy (percent)")
        below.set_ylim(0, None)
        keys = [*keys_of(looks), guessing_key("guessing"), *spread_keys(study)]
        figure.legend(handles=keys, loc="outside upper center", ncols=len(keys))
    return figure


def _predicted(axes: Axes, looked: pd.DataFrame, looks: dict[str, style.Look]) -> None:
    """The predicted signal; where a curve leaves ``WINDOW``, how far it goes."""
    for law, cells in looked.groupby("initializer", sort=False):
        look, predicted = looks[str(law)], cells.groupby("number")["second_moment_predicted"].mean()
        every = max(1, len(predicted) // 10)
        axes.plot(predicted, **look.curve, linewidth=2, markersize=4, markevery=every)
        if predicted.max() > WINDOW[1]:
            at = predicted[predicted > WINDOW[1]].index[0], WINDOW[1]
            text = f"↑ to $10^{{{round(predicted.max())}}}$"
            style.beside(axes, text, at, (2, -3), va="top", color=look.color, fontsize=9)
    layer_axis(axes, int(looked["number"].max()))


def _finals(axes: Axes, part: Published, looks: dict[str, style.Look]) -> None:
    """The accuracy after the last epoch beside the end of each curve, none over another."""
    done = part.cells[part.cells["status"] == "completed"]
    means = done.groupby("initializer")["final_test_accuracy"].mean().sort_values()
    end, height = int(part.study["epoch"].max()), -math.inf
    for law, mean in means.items():
        height = max(float(mean), height + 7)  # percent that a line of letters takes
        drawn = {"color": looks[str(law)].color, "fontsize": 9, "annotation_clip": False}
        style.beside(axes, f"{mean:.1f}", (end, height), (5, 0), va="center", **drawn)
    axes.set_xlim(1 - 0.04 * end, end * 1.22)
    axes.xaxis.set_major_locator(FixedLocator([1, *range(2, end + 1, 2)] if end < 12 else [1, end]))
