"""Variance through a stack: exact theory as lines, Monte Carlo as points, one network as a band.

In the picture, the upper row has the second moment itself, every initializer in one panel per
activation, and where one runs so far that it hides another's fall, an inset with the whole range; the
lower row the same divided by its exact expectation, which shows what the upper one
cannot: the band in which 95 % of single networks lie, and that the typical network (dotted median)
lies below the mean.  The tables have the same by layer, and the growth per layer with its verdict.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from rich.text import Text

from figures import style
from figures.prose import name_of
from figures.prose import note as note_on
from figures.tables import (
    Column,
    Row,
    Sheet,
    curve_label,
    fixed,
    scientific,
    shown_layers,
    standard_errors,
    words,
)
from theory.draw.scores import UNDECIDED
from theory.specs import EnsembleSpec, VarianceSpec

LABELS = {
    "forward": (
        "second moment of pre-activations\n$q_l = \\mathrm{mean}(y_l^2)$",
        "$q_l\\,/\\,\\mathrm{E}[q_l]$",
    ),
    "backward": (
        "second moment of gradients\n$g_l = \\mathrm{mean}((\\partial E/\\partial y_l)^2)$",
        "$g_l\\,/\\,\\mathrm{E}[g_l]$",
    ),
}


def variance_figure(table: pd.DataFrame) -> Figure:
    """The figure of a table made by ``theory.draw.variance``: a column of panels per activation.

    Two rows of panels per direction.  Backward, the cotangent enters at the top layer L, on the right.
    """
    activations = list(dict.fromkeys(table["activation"]))
    directions = list(dict.fromkeys(table["direction"]))
    looks = style.initializer_looks(table["initializer"])
    size = 0.8 + 4.8 * len(directions), style.width_of(len(activations))
    with style.canvas(*size) as figure:
        shape = 2 * len(directions), len(activations)
        ratios = (3, 2) * len(directions)
        grid = figure.subplots(*shape, sharex=True, sharey="row", squeeze=False, height_ratios=ratios)
        for row, direction in zip(range(0, len(grid), 2), directions, strict=True):
            for column, activation in enumerate(activations):
                part = table[(table["activation"] == activation) & (table["direction"] == direction)]
                _absolute(grid[row, column], part, looks)
                _relative(grid[row + 1, column], part, looks)
            _closer(grid[row], table[table["direction"] == direction], looks)
            style.power_of_ten_axis(grid[row, 0])
        titles = [_title(str(name), part) for name, part in table.groupby("activation", sort=False)]
        left = [label for direction in directions for label in LABELS[direction]]
        style.label(grid, titles=titles, below="layer $l$", left=left)
        style.legend_below(figure, _legend(table, looks))
    return figure


def weight_gradient_figure(table: pd.DataFrame) -> Figure:
    """Squared norms of ∂E/∂W_l by layer, theory and simulation, a panel per activation."""
    back = table[table["direction"] == "backward"]
    parts = back.groupby("activation", sort=False)
    looks = style.initializer_looks(back["initializer"])
    with style.canvas(3.4, style.width_of(parts.ngroups)) as figure:
        grid = figure.subplots(1, parts.ngroups, sharey=True, squeeze=False)[0]
        for axes, (activation, part) in zip(grid, parts, strict=True):
            for name, curve in part.groupby("initializer", sort=False):
                names = ("log10_weight_gradient_theory", "log10_weight_gradient")
                compared(axes, curve, looks[str(name)], *names)
            axes.set(title=_title(str(activation), part), xlabel="layer $l$")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            style.widened(axes, 0.6)
            style.power_of_ten_axis(axes)
        grid[0].set_ylabel("squared norm of weight gradients\n$\\|\\partial E/\\partial W_l\\|^2$")
        style.legend_below(figure, _curve_legend(looks))
    return figure


def _title(activation: str, part: pd.DataFrame) -> str:
    slope = part["negative_slope"].iloc[0]
    names = {"relu": "ReLU", "prelu": "PReLU", "leaky-relu": "leaky ReLU"}
    name = names.get(activation.partition(":")[0], activation)
    return name if np.isnan(slope) or activation == "relu" else f"{name}, slope {slope:g}"


def compared(axes: Axes, curve: pd.DataFrame, look: style.Look, theory: str, measured: str) -> None:
    """Theory by layer as a line, simulation as markers at some layers."""
    axes.plot(curve["layer"], curve[theory], **look.line)
    seen = style.some_layers(curve)
    axes.plot(seen["layer"], seen[measured], **look.points, markersize=4.5)


def _absolute(axes: Axes, part: pd.DataFrame, looks: dict[str, style.Look]) -> None:
    for name, curve in part.groupby("initializer", sort=False):
        look = looks[str(name)]
        band = curve["log10_band_low"], curve["log10_band_high"]
        axes.fill_between(curve["layer"], *band, color=look.color, alpha=0.25, linewidth=0)
        compared(axes, curve, look, "log10_theory", "log10_measured")


HIDDEN = 4  # a curve that moves by a decade, and another by so many times as much, cannot be seen


def _closer(panels: NDArray[np.object_], table: pd.DataFrame, looks: dict[str, style.Look]) -> None:
    """Where a curve hides how another moves, panels are drawn as far as the others go.

    The whole range is then in an inset, in the corner that the curve that leaves the panel frees.
    """
    names = ["initializer", "activation"]
    reach = table.groupby(names, sort=False)["log10_theory"].agg(lambda logs: logs.abs().max())
    hidden = reach[(reach >= 1) & (reach <= reach.max() / HIDDEN)]
    if hidden.empty:
        return
    widest = 1.1 * hidden.max()
    forward = (table["direction"] == "forward").all()
    for axes, (_, part) in zip(panels, table.groupby("activation", sort=False), strict=True):
        inset = style.inset(axes, (0.5 if forward else 0.12, 0.6, 0.46, 0.34), "whole range")
        for name, curve in part.groupby("initializer", sort=False):
            inset.plot(curve["layer"], curve["log10_theory"], **looks[str(name)].line)
        style.power_of_ten_axis(inset, ticks=4)
        axes.set_ylim(-widest, widest)


def _relative(axes: Axes, part: pd.DataFrame, looks: dict[str, style.Look]) -> None:
    axes.axhline(0.0, color="black", linewidth=0.8)
    curves = part.groupby("initializer", sort=False)
    # with shared weight draws the initializers coincide here: markers stand side by side
    apart = 0.02 * part["layer"].max()
    for place, (name, curve) in enumerate(curves):
        mean = curve["log10_theory"]
        low, high = curve["log10_band_low"] - mean, curve["log10_band_high"] - mean
        if low.notna().any():
            axes.fill_between(curve["layer"], low, high, color="#888888", alpha=0.15, linewidth=0)
            median = curve["log10_median_theory"] - mean
            axes.plot(curve["layer"], median, ":", color="black", linewidth=1.2)
        seen = style.some_layers(curve)
        beside = seen["layer"] + apart * (place - (curves.ngroups - 1) / 2)
        relative = seen["log10_measured"] - seen["log10_theory"]
        axes.plot(beside, relative, **looks[str(name)].points, markersize=4)
    style.power_of_ten_axis(axes)


def _curve_legend(looks: dict[str, style.Look]) -> list[Artist]:
    return [
        style.curve_key(f"{name_of(name)}: theory, simulation", look) for name, look in looks.items()
    ]


def _legend(table: pd.DataFrame, looks: dict[str, style.Look]) -> list[Artist]:
    entries = _curve_legend(looks)
    if table["log10_band_low"].notna().any():
        entries.append(style.band_key("95 % of single networks"))
        entries.append(style.legend_key("median network", color="black", linestyle=":"))
    return entries


# ---------------------------------------------------------------------------- tables

VERDICT_STYLES = {"stable": "green", "vanishing": "yellow", "exploding": "red"}
DIFFERENT = 1e-6  # of log10 of a factor: below what the table shows
FINITE_WIDTH = ("exact", "sampled", "approximate")  # theories that know a single network
QUANTITIES = {
    "forward": "pre-activations y",
    "backward": "gradients ∂/∂y of a random cotangent",
}


def variance_table(table: pd.DataFrame, *, all_layers: bool = False) -> Sheet:
    """Theory, measurement and band per layer, a section per curve of ``theory.draw.variance.variance``.

    Rows of one direction.  mean is the exact expectation, measured the mean over draws; median and
    band are of one network.
    """
    direction = "backward" if (table["direction"] == "backward").all() else "forward"
    median, band = table[["log10_median_theory", "log10_band_low"]].notna().any()
    return Sheet(
        name="variance" if direction == "forward" else "variance-backward",
        title=f"Second moment of the {QUANTITIES[direction]}",
        data=table,
        data_file="variance",
        rows=shown_layers(table, all_layers),
        section=curve_label,
        columns=(
            words("curve, layer", "layer", form="{:>8}".format, room=12),
            Column("mean", "log10_theory", scientific),
            *([Column("median", "log10_median_theory", scientific)] if median else []),
            Column("measured", "log10_measured", scientific),
            *([Column("95 % of nets", _band)] if band else []),
            Column("z", "z", standard_errors),
        ),
        spare=("95 % of nets", "median"),
    )


def _band(row: Row) -> str:
    low, high = row["log10_band_low"], row["log10_band_high"]
    return "–" if math.isnan(low) else f"{scientific(low, 2)} to {scientific(high, 2)}"


def growth_table(table: pd.DataFrame, *, note: str = "") -> Sheet:
    """One line per curve of ``theory.draw.variance.growth``: factors per layer, agreement, verdict.

    ``note`` is said under the table before the other remarks.
    """
    deep = bool(((table["asymptotic"] - table["theory"]).abs() > DIFFERENT).any())
    border = bool((table["border"].abs() > DIFFERENT).any())
    told = note_on(
        "growth",
        note=note,
        deep=deep,
        border=border,
        undecided=UNDECIDED if (table["agreement"] == UNDECIDED).any() else "",
        alike=_sharing_draws(table),
        known=table["law"].isin(FINITE_WIDTH),
    )
    return Sheet(
        name="growth",
        title="Growth per layer, in the direction in which the signal runs",
        data=table,
        columns=(
            words("curve", curve_name),
            Column("theory", "theory", _factor),
            *([Column("deep", "asymptotic", _factor)] if deep else []),
            *([Column("border", "border", _factor)] if border else []),
            Column("measured", "measured", _factor),
            Column("max $|z|$", "largest_z", fixed(1)),
            Column("agrees", "agreement", _agreement),
            words("verdict", "verdict", form=_verdict, folds=False),
        ),
        notes=(told,),
        spare=("max $|z|$", "measured", "border"),
    )


def _sharing_draws(table: pd.DataFrame) -> list[str]:
    """Some initializers that have one z, because they share their draws; none, if none do."""
    tested = table[table["largest_z"].notna()]
    for _, curves in tested.groupby(["activation", "direction"], sort=False):
        for _, same in curves.groupby(tested["largest_z"].round(9), sort=False):
            if len(same) > 1:
                return list(same["initializer"])
    return []


def curve_name(row: Row) -> str:
    """A curve in words: initializer, activation, and the direction if it is backward.

    >>> curve_name({"initializer": "he", "activation": "relu", "direction": "backward"})
    'he · relu · backward'
    """
    return curve_label(row) + (" · backward" if row["direction"] == "backward" else "")


def _agreement(word: str) -> Text:
    return Text("?" if word == UNDECIDED else word, "red" if word == "no" else "")


def _verdict(word: str) -> Text:
    return Text(word, style=VERDICT_STYLES[word])


def _factor(log10: float) -> str:
    return f"×{scientific(log10, 4)}"


def drift_note(spec: EnsembleSpec) -> str:
    """What unequal widths must do to one direction under He's two fan modes; empty for equal ones.

    He et al. 2015, after Eq. 14: fan_out scaling multiplies the signal by n_1/n_L (c_2/d_L there), and
    fan_in scaling the gradient by n_L/n_1.
    """
    if not isinstance(spec, VarianceSpec):
        return ""
    first, last = spec.widths[1], spec.widths[-1]
    if first == last or not any(law.law.gain == "he" and law.fan for law, _ in spec.curves):
        return ""
    return note_on("drift", first=first, last=last)
