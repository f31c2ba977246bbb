"""Spectra of input–output Jacobians: simulated networks as bars, infinite width as a line.

A row of panels per rectifier, a column per initializer.  The squared singular values stand on a log
axis in units of their expected mean; exact zeros (a ReLU network has many) are left out of the
bars, and their share is written in the panel.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import seaborn
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from figures import style
from figures.prose import note, notes
from figures.tables import Column, Row, Sheet, curve_label, scientific, standard_errors, words
from theory.activations import parse_activation
from theory.initializers import parse_initializer, shape_named
from theory.law.jacobian import limit_density

Array = NDArray[np.float64]

# Relative standard deviation of one network's mean square above which a sample mean is hopeless.
HEAVY = 2.0


def jacobian_table(table: pd.DataFrame) -> Sheet:
    """Measured and exact mean and variance, a row per curve of ``theory.draw.jacobian.jacobian``."""
    first = table.iloc[0]
    return Sheet(
        name="jacobian",
        title=f"Squared singular values, {first['depth']} layers of {first['width']} units, "
        f"{first['draws']} networks",
        data=table,
        columns=(
            words("curve", curve_label),
            Column("mean", "{mean:.3f}±{mean_error:.3f}".format_map),
            Column("z", "mean_z", standard_errors),
            Column(
                "variance", lambda row: f"{_number(row['variance'])}±{_number(row['variance_error'])}"
            ),
            Column("exact", "variance_theory", _number),
            Column("n = ∞", "variance_limit", _number),
            Column("z", _variance_z, standard_errors),
        ),
        notes=(note("jacobian", heavy=(table["mean_square_theory"] > HEAVY).any()),),
        spare=("n = ∞", "exact", "mean"),
    )


def _variance_z(row: Row) -> float:
    return math.nan if row["mean_square_theory"] > HEAVY else float(row["variance_z"])


def _number(value: float) -> str:
    if abs(value) < 5e-4:
        return "0"
    return f"{value:.2f}" if 0.1 <= abs(value) < 1000 else scientific(math.log10(abs(value)), 2)


def jacobian_figure(values: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """The figure of ``theory.draw.jacobian.singular_values`` and of its summary ``jacobian``."""
    activations = list(dict.fromkeys(table["activation"]))
    looks = style.initializer_looks(table["initializer"])
    squared = values.groupby(["activation", "initializer"])["relative_squared"]
    with style.canvas(1.1 + 1.9 * len(activations), style.width_of(len(looks))) as figure:
        grid = figure.subplots(len(activations), len(looks), squeeze=False, sharex="row")
        for row in table.to_dict("records"):
            axes = grid[activations.index(row["activation"]), [*looks].index(row["initializer"])]
            own = squared.get_group((row["activation"], row["initializer"])).to_numpy()
            _panel(axes, own, row, looks[row["initializer"]])
        style.label(grid, below="squared singular value / expected mean", left="density per decade")
        figure.suptitle(
            "Jacobian $\\partial x_L/\\partial x_0$ of {draws} networks, $L$ = {depth}, "
            "$n$ = {width}".format_map(table.iloc[0]),
            fontsize=10,
        )
        style.legend_below(figure, _legend())
    return figure


def _panel(axes: Axes, squared: Array, row: Row, look: style.Look) -> None:
    axes.set_title(f"{row['initializer']} · {row['activation']}", loc="left")
    axes.axvline(0.0, color="black", linestyle=":", linewidth=1.2)
    axes.text(0.03, 0.97, _note(row), transform=axes.transAxes, va="top", fontsize=7.5)
    # relative to the largest of all networks, so a little above each network's own rounding
    logs = np.log10(squared[squared > float(squared.max()) * 1e-28])
    if not len(logs) or np.ptp(logs) < 1e-6:  # an isometry: a single value, no density
        axes.axvline(0.0, color=look.color, alpha=0.45, linewidth=8)
        axes.set_yticks([])
        _ten(axes)
        return
    low, high = float(np.quantile(logs, 0.02)), float(logs.max())
    edges = np.linspace(low - 0.05 * (high - low), high + 0.1 * (high - low), 41)
    share = 1 / (len(squared) * (edges[1] - edges[0]))  # of all values, zeros too, per decade
    bars = pd.DataFrame({"log": logs, "share": share})
    seaborn.histplot(
        bars, x="log", weights="share", bins=edges.tolist(), element="step", color=look.color,
        alpha=0.45, linewidth=0, ax=axes,
    )  # fmt: skip
    axes.set(xlabel="", ylabel="")
    line = np.linspace(edges[0], edges[-1], 400)
    law, activation = parse_initializer(row["initializer"]), parse_activation(row["activation"])
    if row["depth"] > 1 or not shape_named(law.shape).is_orthogonal:  # else there are two values only
        density = limit_density(line * math.log(10), int(row["depth"]), law, activation)
        axes.plot(line, density * math.log(10), color="black")
    _ten(axes)
    axes.set_ylim(0, 1.5 * axes.get_ylim()[1])


def _ten(axes: Axes) -> None:
    low, high = axes.get_xlim()
    step = max(1, round((high - low) / 5))
    ticks = [tick for tick in range(math.ceil(low), math.floor(high) + 1) if tick % step == 0]
    axes.set_xticks(ticks, [f"$10^{{{tick}}}$" if tick else "1" for tick in ticks])
    axes.set_xlim(low, high)


def _note(row: Row) -> str:
    return "\n".join(notes("jacobian_panel", row=row, number=_number))


def _legend() -> list[Artist]:
    return [
        style.band_key("simulated networks", alpha=0.6),
        style.legend_key("infinite width", color="black"),
        style.legend_key("expected mean", color="black", linestyle=":"),
    ]
