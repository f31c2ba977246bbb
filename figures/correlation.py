"""Correlation of two inputs, layer by layer: the map as lines, simulated networks as points.

Upper row: c_l itself, with the band in which 95 % of single networks of this width lie (first order
in 1/width, where it is known).  Lower row: what was measured minus the map, with twice the standard
error, and the 1/width correction: the map is the limit of infinite width, and this is the distance.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from rich.table import Table
from rich.text import Text

from figures import style
from figures.style import Look, thin
from figures.tables import LAYERS_SHOWN, new_table

CURVE = ["initializer", "activation"]
MOST_POINTS = 15


def correlation_figure(table: pd.DataFrame) -> Figure:
    """The figure of a table of ``theory.correlation.correlation``: a column per curve."""
    curves = list(table.groupby(CURVE, sort=False))
    pairs = list(dict.fromkeys(table["input_correlation"]))
    looks = dict(zip(pairs, style.depth_looks(range(len(pairs))).values(), strict=True))
    with style.styled():
        width = max(style.PAGE_WIDTH * len(curves) / 2, 4.6)
        figure = Figure(figsize=(width, 5.4), layout="constrained")
        grid = figure.subplots(
            2, len(curves), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 2)
        )
        for column, ((initializer, activation), part) in enumerate(curves):
            for place, (c_0, look) in enumerate(looks.items()):
                curve = part[part["input_correlation"] == c_0]
                _absolute(grid[0, column], curve, look)
                _deviation(grid[1, column], curve, look, place - (len(looks) - 1) / 2)
            grid[1, column].axhline(0.0, color="black", linewidth=0.8)
            grid[0, column].set_title(f"{initializer} · {activation}")
            grid[1, column].set_xlabel("layer $l$")
        grid[0, 0].set_ylabel("correlation $c_l$ of\npre-activations")
        grid[1, 0].set_ylabel("measured − map")
        figure.legend(handles=_legend(table, looks), loc="outside lower center", ncols=3)
    return figure


def _absolute(axes: Axes, curve: pd.DataFrame, look: Look) -> None:
    spread = 1.96 * curve["std_theory"]
    low, high = curve["finite_width"] - spread, curve["finite_width"] + spread
    if low.notna().any():
        axes.fill_between(
            curve["layer"], low.clip(-1, 1), high.clip(-1, 1), color=look.color, alpha=0.2, linewidth=0
        )
    axes.plot(curve["layer"], curve["theory"], color=look.color, linestyle=look.dash)
    seen = _points(curve)
    axes.plot(
        seen["layer"],
        seen["measured"],
        look.marker,
        color=look.color,
        markerfacecolor="white",
        markersize=4.5,
    )


def _deviation(axes: Axes, curve: pd.DataFrame, look: Look, place: float) -> None:
    seen = _points(curve)
    step = 0.012 * float(curve["layer"].max())  # side by side, so that no bar hides another
    axes.errorbar(
        seen["layer"] + step * place,
        seen["measured"] - seen["theory"],
        2 * seen["standard_error"],
        fmt=look.marker,
        color=look.color,
        markerfacecolor="white",
        markersize=4,
        linewidth=0.8,
    )
    axes.plot(
        curve["layer"], curve["finite_width"] - curve["theory"], color=look.color, linestyle=look.dash
    )


def _points(curve: pd.DataFrame) -> pd.DataFrame:
    return curve[curve["layer"].isin(thin(int(curve["layer"].max()), MOST_POINTS))]


def _legend(table: pd.DataFrame, looks: dict[float, Look]) -> list[Line2D | Patch]:
    entries: list[Line2D | Patch] = [
        Line2D(
            [],
            [],
            color=look.color,
            linestyle=look.dash,
            marker=look.marker,
            markerfacecolor="white",
            markersize=4.5,
            label=f"$c_0$ = {c_0:g}: map, simulation",
        )
        for c_0, look in looks.items()
    ]
    if table["finite_width"].notna().any():
        entries.append(Patch(color="#888888", alpha=0.3, linewidth=0, label="95 % of single networks"))
        entries.append(
            Line2D([], [], color="#555555", label="below: correction of order 1/width, ± 2 std. errors")
        )
    return entries


def correlation_table(table: pd.DataFrame, *, all_layers: bool = False) -> Table:
    """Map, measurement and 1/width correction per layer, a section per curve and input correlation."""
    result = new_table(
        "Correlation of two inputs' pre-activations",
        caption="map: infinite width.  this width: the map plus its correction of order 1/width "
        "(rectifiers, Gaussian weights, no biases).  z, z width: measured minus either, in standard "
        "errors; z may be large and the map still be right, for the networks are finite.",
        spare=("this width", "z" if table["z_finite_width"].notna().all() else "z width", "map"),
    )
    result.add_column("curve")
    for name in ("layer", "map", "this width", "measured ± s.e.", "z", "z width"):
        result.add_column(name, justify="right", no_wrap=True)
    layers = int(table["layer"].max())
    shown = set(range(1, layers + 1) if all_layers else thin(layers, LAYERS_SHOWN))
    for (initializer, activation, c_0), curve in table.groupby(
        [*CURVE, "input_correlation"], sort=False
    ):
        labels = [f"{initializer} · {activation}", f"c₀ = {c_0:g}"]
        for row in curve[curve["layer"].isin(shown)].to_dict("records"):
            result.add_row(
                labels.pop(0) if labels else "",
                str(row["layer"]),
                f"{row['theory']:.5f}",
                _number(row["finite_width"]),
                f"{row['measured']:.4f} ± {row['standard_error']:.4f}",
                _z(row["z"], 4 if math.isnan(row["z_finite_width"]) else math.inf),
                _z(row["z_finite_width"], 4),
            )
        if labels == [f"c₀ = {c_0:g}"]:  # a single layer: the label still has to be seen
            result.add_row(labels[0])
        result.add_section()
    return result


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.5f}"


def _z(value: float, alarm: float) -> Text:
    if not np.isfinite(value):
        return Text("–")
    return Text(f"{value:+.1f}", style="red" if abs(value) > alarm else "")
