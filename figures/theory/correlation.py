"""Correlation of two inputs, layer by layer: the map as lines, simulated networks as points.

Upper row: c_l itself, with the band in which 95 % of single networks of this width lie (first order
in 1/width, where it is known).  Lower row: what was measured minus the map, with twice the standard
error, and the 1/width correction: the map is the limit of infinite width, and this is the distance.
"""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.text import Text

from figures import style
from figures.style import Look
from figures.tables import (
    ALARM,
    Column,
    Row,
    Sheet,
    curve_label,
    fixed,
    shown_layers,
    standard_errors,
    words,
)
from figures.theory.variance import compared


def correlation_figure(table: pd.DataFrame) -> Figure:
    """The figure of a table of ``theory.draw.correlation.correlation``: a column per curve."""
    curves = list(table.groupby(["initializer", "activation"], sort=False))
    looks = style.looks_in_turn(dict.fromkeys(table["input_correlation"]))
    with style.canvas(5.4, style.width_of(len(curves))) as figure:
        shape, ratios = (2, len(curves)), (3, 2)
        grid = figure.subplots(*shape, sharex=True, sharey="row", squeeze=False, height_ratios=ratios)
        for (above, below), ((initializer, activation), part) in zip(grid.T, curves, strict=True):
            for place, (c_0, look) in enumerate(looks.items()):
                curve = part[part["input_correlation"] == c_0]
                _absolute(above, curve, look)
                _deviation(below, curve, look, place - (len(looks) - 1) / 2)
            below.axhline(0.0, color="black", linewidth=0.8)
            above.set_title(f"{initializer} · {activation}")
        left = ("correlation $c_l$ of\npre-activations", "measured − map")
        style.label(grid, below="layer $l$", left=left)
        style.legend_below(figure, _legend(table, looks))
    return figure


def _absolute(axes: Axes, curve: pd.DataFrame, look: Look) -> None:
    spread = 1.96 * curve["std_theory"]
    low, high = ((curve["finite_width"] + sign * spread).clip(-1, 1) for sign in (-1, 1))
    axes.fill_between(curve["layer"], low, high, color=look.color, alpha=0.2, linewidth=0)
    compared(axes, curve, look, "theory", "measured")


def _deviation(axes: Axes, curve: pd.DataFrame, look: Look, place: float) -> None:
    seen = style.some_layers(curve, 15)  # fewer: bars stand side by side
    step = 0.012 * float(curve["layer"].max())  # side by side, so that no bar hides another
    off, error = seen["measured"] - seen["theory"], 2 * seen["standard_error"]
    beside = seen["layer"] + step * place
    axes.errorbar(beside, off, error, **look.points, markersize=4, elinewidth=0.8)
    axes.plot(curve["layer"], curve["finite_width"] - curve["theory"], **look.line)


def _legend(table: pd.DataFrame, looks: dict[float, Look]) -> list[Artist]:
    entries: list[Artist] = [
        style.curve_key(f"$c_0$ = {c_0:g}: map, simulation", look) for c_0, look in looks.items()
    ]
    if table["finite_width"].notna().any():
        correction = "below: correction of order\n1/width, ± 2 std. errors"
        entries += [
            style.band_key("95 % of single networks"),
            style.legend_key(correction, color="#555555"),
        ]
    return entries


def correlation_table(table: pd.DataFrame, *, all_layers: bool = False) -> Sheet:
    """Map, measurement and 1/width correction per layer, a section per curve and input correlation."""
    return Sheet(
        name="correlation",
        title="Correlation of two inputs' pre-activations",
        data=table,
        rows=shown_layers(table, all_layers),
        section=lambda row: f"{curve_label(row)}, c₀ = {row['input_correlation']:g}",
        columns=(
            words("curve, layer", "layer", form="{:>8}".format, room=12),
            Column("map", "theory", fixed(5)),
            Column("this width", "finite_width", fixed(5)),
            Column("measured ± s.e.", "{measured:.4f} ± {standard_error:.4f}".format_map),
            Column("z", lambda row: row, _map_z),
            Column("z width", "z_finite_width", standard_errors),
        ),
        notes=(
            "map: infinite width.  this width: the map plus its correction of order 1/width "
            "(rectifiers, Gaussian weights, no biases).  z, z width: measured minus either, in "
            "standard errors; z may be large and the map still be right, for the networks are finite.",
        ),
        spare=("this width", "z" if table["z_finite_width"].notna().all() else "z width", "map"),
    )


def _map_z(row: Row) -> Text:
    """z against the map: red only where no correction for the width is known."""
    return standard_errors(row["z"], ALARM if math.isnan(row["z_finite_width"]) else math.inf)
