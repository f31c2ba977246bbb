"""The first loss of every cell: predicted beside measured, and beside what came of it.

It follows from the law of the weights alone: cross-entropy at Gaussian logits of the predicted second
moment (``theory.law.cross_entropy``).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from empirical.data.catalog import DATASETS
from empirical.judgment.selection import same_size, select, with_arms
from empirical.protocol import CLASSES
from empirical.records.published import Published
from figures import style
from figures.paired.curves import GREY, guessing_key
from figures.paired.paired import Paired, times, told
from figures.prose import name_of

LOSSES = ("initial_loss_predicted", "initial_loss")


def initial_loss_figure(table: pd.DataFrame, same_size: pd.DataFrame) -> Figure:
    """Predicted first loss against measured over all cells of ``table``, and against the outcome.

    ``same_size`` are the cells whose final accuracies can be compared; both as ``Published.cells``.
    The panels cover the cells with batch norm; where others lie outside, an inset shows all.
    """
    known, logs, (low, high) = _first_losses(table)
    predicted = LOSSES[0]
    with style.canvas(3.7) as figure:
        left, right = figure.subplots(1, 2)
        _against_equal(left, known, logs, (low, high))
        left.set_title("theory: predicted and measured")
        left.set_ylabel("measured first loss (nats)")
        if exceeds_the_panel(table):  # in the upper left corner, where no point is, all cells
            inset = style.inset(left, (0.13, 0.6, 0.36, 0.36), "all cells")
            ends = logs.min().min() - 0.5, logs.max().max() + 0.5
            _against_equal(inset, known, logs, ends, size=2.5)
            for which in ("x", "y"):
                style.power_of_ten_axis(inset, which, ticks=4)
        done = same_size[same_size[predicted].notna() & (same_size["status"] == "completed")]
        _points(right, done, np.log10(done[predicted]), done["final_test_accuracy"])
        right.set(xlim=(low, high), title="practice: final accuracy")
        right.set_ylabel("final test accuracy (percent)")
        right.axhline(100 / CLASSES, **style.DOTTED)
        for axes in (left, right):
            axes.set_xlabel("predicted first loss (nats)")
            style.power_of_ten_axis(axes, "x")
            axes.axvline(math.log10(math.log(CLASSES)), **style.DOTTED)
        style.power_of_ten_axis(left)
        equal = style.legend_key("equal", color="black", linewidth=0.8)
        keys = [*_point_legend(table), equal, guessing_key("guessing")]
        figure.legend(handles=keys, loc="outside upper center", ncols=6)
    return figure


def _first_losses(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, tuple[float, float]]:
    """The cells whose first losses are finite, log10 of ``LOSSES``, and the decades that panels cover.

    Those are of the cells with batch norm, if there are any.
    """
    known = table[table[list(LOSSES)].notna().all(axis=1)]
    logs = known[list(LOSSES)].map(math.log10)
    normed = known["norm"] == "batch"
    covered = logs[normed] if normed.any() else logs
    return known, logs, (covered.min().min() - 0.1, covered.max().max() + 0.1)


def exceeds_the_panel(table: pd.DataFrame) -> bool:
    """Whether first losses lie outside of those with batch norm, so that an inset shows all."""
    _, logs, (low, high) = _first_losses(table)
    return bool(logs.max().max() > high or logs.min().min() < low)


def _against_equal(
    axes: Axes, table: pd.DataFrame, logs: pd.DataFrame, ends: tuple[float, float], size: float = 5
) -> None:
    _points(axes, table, logs[LOSSES[0]], logs[LOSSES[1]], size)
    axes.plot(ends, ends, color="black", linewidth=0.8, zorder=1)
    axes.set(xlim=ends, ylim=ends)


def _points(axes: Axes, table: pd.DataFrame, x: pd.Series, y: pd.Series, size: float = 5) -> None:
    """Color: initializer; marker: depth; ReLU full, PReLU open."""
    colors = style.initializer_looks(table["initializer"])
    markers = style.depth_shades(map(int, table["depth"]), style.BLACK)
    for key, group in table.groupby(["initializer", "depth", "activation"], sort=False):
        color, marker = colors[str(key[0])].color, markers[int(str(key[1]))].marker
        face = color if key[2] == "relu" else "white"
        axes.plot(x[group.index], y[group.index], marker, color=color, markerfacecolor=face,
                  markersize=size, alpha=0.9)  # fmt: skip


def _point_legend(table: pd.DataFrame) -> list[Artist]:
    depths = style.depth_shades(map(int, table["depth"]), style.BLACK)
    markers = [(f"{depth} layers", look.marker, GREY) for depth, look in depths.items()]
    present = sorted(set(table["activation"]), reverse=True)
    if len(present) > 1:
        markers += [(name_of(one), "o", GREY if one == "relu" else "white") for one in present]
    return [
        *(
            Patch(color=look.color, label=name_of(name))
            for name, look in style.initializer_looks(table["initializer"]).items()
        ),
        *(
            style.legend_key(label, color=GREY, marker=marker, markerfacecolor=face, linestyle="none")
            for label, marker, face in markers
        ),
    ]


def _with_first_losses(published: Published) -> Published:
    """The cells of ``CLASSES`` classes whose first losses are finite; also those without batch norm."""
    cells = published.cells
    there = cells[list(LOSSES)].notna().all(axis=1)
    there &= cells["dataset"].map(lambda name: DATASETS[name].classes == CLASSES).astype(bool)
    return with_arms(published.of(cells.loc[there, "cell"]))


def normed(published: Published) -> Published:
    """The cells with batch norm and Adam, of the size of the report's cells."""
    same = same_size(published, select(published, "report").size)
    cells = same.cells[(same.cells["norm"] == "batch") & (same.cells["optimizer"] == "adam")]
    return same.of(cells.loc[cells["depth"] > 1, "cell"])


def _ratios(records: Published) -> dict[str, Any]:
    """Measured over predicted first loss, with batch norm, and whether there is an inset."""
    table = records.cells
    with_norm = table[table["norm"] == "batch"]
    ratio = style.log10(with_norm["initial_loss"] / with_norm["initial_loss_predicted"]).dropna()
    ratios = [times(value) for value in (ratio.min(), ratio.median(), ratio.max())]
    return {"inset": exceeds_the_panel(table), "cells": len(ratio), "ratios": ratios}


FIGURES = {
    "initial-loss": Paired(
        "First loss, predicted against measured, and against the final accuracy; all cells",
        "report",
        lambda records, _: initial_loss_figure(records.cells, normed(records).cells),
        told("initial_loss", _ratios),
        chosen=_with_first_losses,
        place=30,
    )
}
