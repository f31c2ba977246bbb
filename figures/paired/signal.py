"""Signal and gradient of the networks as drawn, predicted and measured, beside how they learn.

Left the theory: for each weight layer the second moment of its pre-activations, and of the gradient
of one image's loss there, as ``theory.predict`` has it from the law of the weights alone (line), and
as the probe read it on the drawn network and real images (marker).  Right the practice: the same
networks while they train.  One row per depth; all rows share the scale of a column.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from empirical.protocol import CLASSES
from empirical.records.published import Published
from empirical.training.instruments import FIXED_BATCH
from figures import style
from figures.paired.curves import (
    at_the_end,
    draw_curve,
    keys_of,
    layer_axis,
    rows_by_depth,
    spread_keys,
    weight_layers,
    whole_epochs,
)
from figures.paired.paired import Paired, by_law, protocol, times, told
from figures.prose import name_of

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
        **{name: style.log10(drawn[name]) for one in MOMENTS for name in (one, f"{one}_predicted")}
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
        draw_curve(axes, cells, quantity, looks[str(initializer)], markersize=3.5)
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


def _ratios(records: Published, practice: str = "test_accuracy") -> dict[str, Any]:
    """Of ``signal_figure``: measured over predicted signal."""
    looked = first_look(records)
    ratio = (looked["second_moment"] - looked["second_moment_predicted"]).dropna()
    return {
        "activation": records.cells["activation"].iloc[0],
        "protocol": protocol(records),
        "images": FIXED_BATCH,
        "practice": practice,
        "ratios": [times(value) for value in ratio.quantile([0.25, 0.5, 0.75])] if len(ratio) else [],
    }


def _stalled(records: Published) -> dict[str, Any]:
    """Of the deep plain networks: ``_ratios``, and the numbers of the deepest."""
    looked = first_look(records)
    deepest, moment = int(looked["depth"].max()), "gradient_second_moment"
    inner = looked[(looked["depth"] == deepest) & (looked["number"] == 1)]
    study = records.study
    study = at_the_end(study[(study["depth"] == deepest) & (study["status"] == "completed")])
    return _ratios(records, "train_loss") | {
        "deepest": deepest,
        "gradients": by_law(inner, [f"{moment}_predicted", moment], "mean"),
        "losses": by_law(study[study["epoch"] > 0], ["train_loss"], "mean"),
    }


def _signal(preset: str, activation: str, setting: str) -> Paired:
    return Paired(
        "Signal and gradient by layer, predicted and measured, beside the learning curves; "
        f"{name_of(activation)}, {setting}",
        preset,
        lambda records, _: signal_figure(records, activation),
        told("signal", _ratios),
        activation,
        own=False,
        place=20,
    )


FIGURES = {
    "signal-relu": _signal("report", "relu", "as printed"),
    "signal-prelu": _signal("report", "prelu", "as printed"),
    "signal-no-norm-relu": _signal("no-norm", "relu", "no batch norm"),
    "signal-no-norm-prelu": _signal("no-norm", "prelu", "no batch norm"),
    "stall": Paired(
        "He and Xavier in plain nets of 22 and 30 layers: signal, gradient, training loss",
        "he2015",
        lambda records, _: signal_figure(records, "relu", "train_loss"),
        told("stall", _stalled),
        "relu",
        place=20,
    ),
}
