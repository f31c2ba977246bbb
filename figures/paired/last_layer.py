"""What the last linear layer's fan does.

Batch norm takes out the scale of every weight before it, but not of the last linear layer: there fan_in
(up to 32768) and fan_out (10) draw very different logits, and with them the first loss.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, cast

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from empirical.arm import Arm
from empirical.protocol import CLASSES, COURSE_REPORT
from empirical.records.published import Published
from figures import style
from figures.paired import curves
from figures.paired.paired import Paired, arm_words, of_arms, told
from figures.prose import name_of


def last_layer_figure(records: Published, activation: str) -> Figure:
    """Predicted and measured first loss by depth, final accuracy beside the report's, and the curves.

    ``records`` holds the arms of the preset head, with the column ``arm``.
    """
    cells = records.cells[records.cells["activation"] == activation]
    study = records.study[records.study["activation"] == activation]
    depths = sorted({int(depth) for depth in cells["depth"]})
    looks, printed = style.arm_looks(cells["arm"]), curves.printed_accuracies("he", activation, depths)
    with style.canvas(5.2) as figure:
        upper, lower = figure.subfigures(2, 1, height_ratios=(1.15, 1), squeeze=False)[:, 0]
        left, right = upper.subplots(1, 2, squeeze=False)[0]
        _losses_by_depth(left, cells, depths, looks)
        _accuracies_by_depth(right, cells, depths, looks)
        right.plot(depths, pd.Series(printed).reindex(depths), "*:", color="black", markersize=6)
        for axes in (left, right):
            axes.set(xlabel="layers", xticks=depths)
        grid = lower.subplots(1, len(depths), sharey=True, squeeze=False)[0]
        for axes, depth in zip(grid, depths, strict=True):
            _curves_at_depth(axes, study[study["depth"] == depth], printed.get(depth), looks)
            axes.set(title=f"{depth} layers", xlabel="epoch")
        grid[0].set_ylabel("test accuracy (percent)")
        star = style.legend_key("course report (one run)", color="black", marker="*", linestyle=":")
        keys = [
            *curves.arm_keys(looks, " as printed"),
            star,
            curves.guessing_key(),
            *curves.spread_keys(study),
        ]
        figure.legend(handles=keys, loc="outside upper center", ncols=4)
    return figure


def _losses_by_depth(axes: Axes, cells: pd.DataFrame, depths: list[int], looks: curves.Looks) -> None:
    for arm, rows in cells.groupby("arm", sort=False):
        look = looks[cast(Arm, arm)]
        # a line has a gap where a depth was not run
        losses = rows.groupby("depth")[["initial_loss_predicted", "initial_loss"]].mean()
        losses = losses.map(math.log10).reindex(depths)
        axes.plot(losses["initial_loss_predicted"], **look.line)
        axes.plot(losses["initial_loss"], **look.points, markersize=5)
    chance = math.log10(math.log(CLASSES))
    axes.axhline(chance, **style.DOTTED)
    axes.set_ylim(bottom=min(axes.get_ylim()[0], chance - 0.08))
    axes.set_title("theory: first loss, predicted (line)\nand measured (open marker)")
    axes.set_ylabel("first loss (nats)")
    style.power_of_ten_axis(axes)


def _accuracies_by_depth(
    axes: Axes, cells: pd.DataFrame, depths: list[int], looks: curves.Looks
) -> None:
    completed = cells[cells["status"] == "completed"]
    for arm, rows in completed.groupby("arm", sort=False):
        look = looks[cast(Arm, arm)]
        seen = rows.groupby("depth")["final_test_accuracy"].agg(["mean", "min", "max"]).reindex(depths)
        axes.vlines(depths, seen["min"], seen["max"], color=look.color)
        axes.plot(seen["mean"], **look.curve)
    axes.set_title("practice: final test accuracy\n(percent)")


def _curves_at_depth(
    axes: Axes, study: pd.DataFrame, printed: float | None, looks: curves.Looks
) -> None:
    for arm, rows in study.groupby("arm", sort=False):
        curves.draw_curve(axes, rows, "test_accuracy", looks[cast(Arm, arm)], markersize=3)
    if printed is not None:
        axes.axhline(printed, **style.DOTTED)
        axes.plot(study["epochs"].max(), printed, "*", color="black", markersize=6)
    curves.whole_epochs(axes)


def _distances(records: Published, activation: str) -> dict[str, Any]:
    """How far each arm's accuracies are from the printed ones."""
    cells = records.cells[records.cells["status"] == "completed"]
    means = cells.pivot_table(index="depth", columns="arm", values="final_test_accuracy").dropna()
    printed = pd.Series(curves.printed_accuracies("he", activation, means.index), dtype=float)
    gaps = of_arms(means.loc[printed.index].sub(printed, axis=0).abs().mean())
    away = [(*arm_words(arm), gap) for arm, gap in gaps.items() if len(gaps) > 1]
    return {"activation": activation, "shared": list(printed.index), "away": away}


def _last_layer(activation: str) -> Paired:
    return Paired(
        f"What the last linear layer's fan does: first loss, accuracy, the printed numbers; "
        f"{name_of(activation)}",
        "head",
        lambda records, _: last_layer_figure(records, activation),
        told("last_layer", partial(_distances, activation=activation)),
        activation,
        place=70,
    )


FIGURES = {f"last-layer-{one}": _last_layer(one) for one in COURSE_REPORT.activations}
