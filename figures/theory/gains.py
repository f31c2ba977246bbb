"""Gains: the exact ones beside torch's, and why a gain alone does not hold a signal in place.

Left, per activation, the gain that keeps the signal, the one that keeps the gradient, and torch's.
Right, with the exact forward gain, the growth of the second moment in one layer: it is 1 at q = 1 by
construction; where the curve falls through 1 a signal returns, where it rises it runs away, and where
it is flat (rectifiers) every q stays.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.text import Text

from figures import style
from figures.tables import Column, Sheet, fixed, words
from theory.activations import Activation, parse_activation
from theory.errors import RequestError
from theory.law import mean_field

GAINS = (
    ("gain", "keeps the signal", style.BLUE, "o", 7.0),
    ("backward_gain", "keeps the gradient", style.GREEN, "D", 5.0),
    ("gain_torch", "torch's table", style.VERMILION, "x", 6.0),
)
OFF = 1e-3  # a torch gain further than this from the exact one is off


def gains_figure(table: pd.DataFrame) -> Figure:
    """The figure of a table of ``theory.gains``; functions of one's own are dots alone."""
    with style.canvas(max(2.8, 0.28 * len(table) + 1.2)) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.1))
        _dots(left, table)
        _growth(right, list(_activations(table["activation"])))
    return figure


def _activations(names: Iterable[str]) -> Iterator[Activation]:
    for name in names:
        with suppress(RequestError):
            yield parse_activation(name)


def _dots(axes: Axes, table: pd.DataFrame) -> None:
    rows = np.arange(len(table))
    for column, label, color, marker, size in GAINS:
        face = color if marker == "x" else "white"
        axes.plot(table[column], rows, marker, color=color, mfc=face, markersize=size, label=label)
    for row in np.flatnonzero(table["gain_torch"].isna()):
        at = (table[["gain", "backward_gain"]].iloc[row].max(), row)
        style.beside(axes, "torch: none", at, (7, 0), va="center", color=style.VERMILION)
    axes.set_yticks(rows, table["activation"])
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.set_xlabel("gain $g$, weights of variance $g^2/$fan")
    low, high = axes.get_xlim()
    axes.set_xlim(low, high + 0.25 * (high - low))  # room for the words
    axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=3)


def _growth(axes: Axes, activations: Sequence[Activation]) -> None:
    log_q = np.linspace(math.log(1e-2), math.log(1e2), 121)
    axes.axhline(1.0, color="black", linewidth=0.8)
    curved = [phi for phi in activations if not phi.is_rectifier]
    for phi, look in style.looks_in_turn(curved).items():
        log_gains = [mean_field.log_activation_gain(phi, t) for t in (0.0, *log_q)]
        growth = np.exp(np.array(log_gains[1:]) - log_gains[0])
        axes.plot(np.exp(log_q), growth, **look.line, label=phi.name)
    if len(curved) < len(activations):
        axes.plot([], [], color="black", linewidth=0.8, label="rectifiers")
    axes.plot(1, 1, "o", color="black", markersize=4)
    axes.set(xscale="log", yscale="log", ylim=(0.2, 5))
    axes.set_yticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"])
    axes.minorticks_off()
    axes.set_xlabel("second moment $q$ of the pre-activations")
    axes.set_ylabel("growth of $q$ in one layer,\nexact gain at $q = 1$")
    axes.legend(ncols=2)


def gains_table(table: pd.DataFrame) -> Sheet:
    """Exact and torch's gain per activation, with what torch's does to a unit signal."""
    return Sheet(
        name="gains",
        title="Gains at unit variance",
        data=table,
        columns=(
            words("activation", "activation"),
            Column(r"$\operatorname{E}[\varphi^2]$", "second_moment", fixed(4)),
            Column("forward", "gain", fixed(4)),
            Column("backward", "backward_gain", fixed(4)),
            Column("torch", "gain_torch", _torch_gain),
            Column("torch ×", "growth_torch", _torch_growth),
            words("$q = 1$", "slope", form=_stability, folds=False),
        ),
        notes=(
            "forward: g²·E[φ²] = 1; backward: g²·E[φ′²] = 1.  torch ×: what a unit second moment "
            "becomes after one layer with torch's gain.  q = 1: what a signal near it does with the "
            "forward gain (neutral: every q stays).",
        ),
        spare=(r"$\operatorname{E}[\varphi^2]$", "$q = 1$", "torch ×"),
    )


def _torch_gain(gain: float) -> Text:
    return Text("raises", style="yellow") if math.isnan(gain) else Text(f"{gain:.4f}")


def _torch_growth(growth: float) -> Text:
    return Text(fixed(4)(growth), style="red" if abs(growth - 1) > OFF else "")


def _stability(slope: float) -> str:
    if abs(slope - 1) < 1e-9:
        return "neutral"
    return "attracts" if abs(slope) < 1 else "repels"


def gains_notes(table: pd.DataFrame) -> Sheet:
    """The remarks on torch's table, one per activation that has one."""
    return Sheet(
        name="gains-torch",
        title="torch's table",
        data=table,
        data_file="gains",
        rows=table[table["remark"] != ""].to_dict("records"),
        columns=(words("activation", "activation", folds=False), words("remark", "remark")),
    )
