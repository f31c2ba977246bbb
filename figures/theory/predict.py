"""Prediction beside measurement, layer by layer: a picture and a table.

Lines are what ``theory.predict`` says before the network is run, points what the probe reads on it.
A filled point has an exact prediction; an open one rests on the approximations that the table names.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from figures import style
from figures.tables import Column, Row, Sheet, fixed, scientific, words

Array = NDArray[np.float64]

DIRECTIONS = {
    "forward": "second moment of pre-activations\n$\\mathrm{mean}(y_l^2)$",
    "backward": "second moment of the gradient\n$\\mathrm{mean}((\\partial E/\\partial y_l)^2)$",
}
SHORT = {
    "exact": "exact",
    "infinite width": "width",
    "infinite batch": "batch",
    "held weights": "held",
    "measured factor": "pool",
    "no closed form": "none",
}
CAPTION = (
    "basis: exact in expectation over weights, or the approximations in it (width: infinite width; "
    "batch: batch norm of an infinite batch; held: mean square of the weights held; pool: measured "
    "factor; none: no closed form)"
)


def prediction_table(comparison: pd.DataFrame) -> Sheet:
    """A row per layer of ``theory.predict.compare``: predicted, measured, their ratio and the basis."""
    columns = [words("layer", _layer)]
    for direction in DIRECTIONS:
        columns += [
            Column(direction, f"{direction}_predicted", lambda value: scientific(_log10(value))),
            Column("ratio", f"{direction}_ratio", fixed(2)),
            words("basis", f"{direction}_basis", form=short_basis),
        ]
    return Sheet(
        name="prediction",
        title="Second moments, predicted and measured / predicted",
        data=comparison,
        columns=tuple(columns),
        notes=(CAPTION,),
        spare=("basis",),
    )


def _layer(row: Row) -> str:
    call = f" ({row['call'] + 1})" if row["call"] else ""
    return f"{row['module'] or row['kind']}{call}"


def short_basis(basis: str) -> str:
    """The basis in the table's short words.

    >>> short_basis("infinite batch + measured factor")
    'batch, pool'
    """
    return ", ".join(SHORT[part] for part in basis.split(" + "))


def prediction_figure(comparisons: dict[str, pd.DataFrame]) -> Figure:
    """Forward and backward panels; one color per named comparison of ``theory.predict.compare``."""
    looks = style.depth_looks(range(len(comparisons)))
    with style.styled():
        figure = Figure(figsize=(style.PAGE_WIDTH, 3.6), layout="constrained")
        panels = figure.subplots(1, 2)
        for axes, (direction, label) in zip(panels, DIRECTIONS.items(), strict=True):
            for table, look in zip(comparisons.values(), looks.values(), strict=True):
                _curve(axes, table, direction, look)
            axes.set_title(direction)
            axes.set_xlabel("weight layer $l$")
            axes.set_ylabel(label)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            style.power_of_ten_axis(axes)
        figure.legend(handles=_legend(list(comparisons), looks), loc="outside lower center", ncols=2)
    return figure


def map_figure(predicted: Array, measured: Array, title: str) -> Figure:
    """Two maps (H, W) of a layer's second moment per pixel, mean over channels, on one grey scale."""
    with style.styled():
        figure = Figure(figsize=(style.PAGE_WIDTH * 0.8, 2.8), layout="constrained")
        panels = figure.subplots(1, 2)
        high = max(float(predicted.max()), float(measured.max()))
        for axes, values, name in zip(
            panels, (predicted, measured), ("predicted", "measured"), strict=True
        ):
            image = axes.imshow(values, cmap="cividis", vmin=0.0, vmax=high)
            axes.set_title(name)
            axes.set_xlabel("column")
            axes.grid(visible=False)
        panels[0].set_ylabel("row")
        figure.colorbar(image, ax=list(panels), label="second moment, mean over channels")
        figure.suptitle(title, fontsize=9)
    return figure


def _curve(axes: Axes, table: pd.DataFrame, direction: str, look: style.Look) -> None:
    layer = table["layer"].to_numpy()
    predicted, measured = (
        np.array([_log10(value) for value in table[f"{direction}_{what}"]])
        for what in ("predicted", "measured")
    )
    axes.plot(layer, predicted, color=look.color, linestyle=look.dash)
    exact = (table[f"{direction}_basis"] == "exact").to_numpy()
    for chosen, face in ((exact, look.color), (~exact, "white")):
        axes.plot(
            layer[chosen],
            measured[chosen],
            look.marker,
            color=look.color,
            markerfacecolor=face,
            markersize=5,
        )


def _legend(names: list[str], looks: dict[int, style.Look]) -> list[Line2D]:
    entries = [
        style.curve_key(f"{name}: predicted, measured", look)
        for name, look in zip(names, looks.values(), strict=True)
    ]
    for face, label in (("black", "prediction is exact"), ("white", "prediction is approximate")):
        entries.append(
            Line2D(
                [],
                [],
                color="black",
                marker="o",
                linestyle="none",
                markerfacecolor=face,
                markersize=5,
                label=label,
            )
        )
    return entries


def _log10(value: float) -> float:
    if math.isnan(value):
        return math.nan
    return math.log10(value) if value > 0 else -math.inf
