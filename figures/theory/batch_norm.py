"""Batch norm's exploding gradients: the table of the growth per layer, and its picture.

Left: the gradient's second moment layer by layer, theory as lines and simulation as points; it rises
towards the input.  Right: the growth per layer against the batch, λ_B as lines, with its limit for an
infinite batch (dotted), and this run's measurement.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from figures.prose import note
from figures.tables import Column, Sheet, fixed, number, words
from figures.theory.variance import compared
from theory.activations import parse_activation
from theory.law.batch_norm import gradient_growth

INFINITE: dict[str, Any] = {"linestyle": (0, (1, 2)), "linewidth": 1}  # how an infinite batch is drawn


def norm_growth_table(table: pd.DataFrame) -> Sheet:
    """A row per activation of ``theory.draw.variance.measure``, whose laws share the numbers."""
    first = table.iloc[0]
    told = {name: first[name] for name in ("width", "batch")} | {"smooth": table["theory"].isna().any()}
    return Sheet(
        name="gradient-growth",
        title="Growth of the gradient's second moment per layer, output to input",
        data=table,
        rows=table.drop_duplicates(["activation", "measured"]).to_dict("records"),
        columns=(
            words("activation", "activation"),
            Column(r"$\lambda$, $B = \infty$", "infinite_batch", number(".4f", "×")),
            Column(r"$\lambda_B$", "theory", number(".4f", "×")),
            Column("measured", "measured", number(".4f", "×")),
            Column("± s.e.", "standard_error", fixed(4)),
            Column("mean $z^2$", "after_norm", fixed(4)),
        ),
        notes=(note("batch_norm", **told),),
        spare=("mean $z^2$", r"$\lambda$, $B = \infty$", "± s.e."),
    )


def norm_growth_figure(table: pd.DataFrame, growth: pd.DataFrame) -> Figure:
    """The picture of ``theory.draw.variance.measure``'s two tables, for the first initializer."""
    first = table["initializer"].iloc[0]
    rows = table[(table["direction"] == "backward") & (table["initializer"] == first)]
    looks = style.looks_in_turn(dict.fromkeys(rows["activation"]))
    with style.canvas(3.4) as figure:
        left, right = figure.subplots(1, 2)
        for name, curve in rows.groupby("activation", sort=False):
            compared(left, curve, looks[str(name)], "log10_theory", "log10_measured")
        left.set(xlabel="layer $l$", ylabel="$\\mathrm{E}[(\\partial E/\\partial y_l)^2]$")
        left.set_title(f"Gradient of a random cotangent, {first}")
        style.power_of_ten_axis(left)
        _against_batch(right, growth[growth["initializer"] == first], looks)
        keys = [
            style.curve_key(f"{name}: {_theory_word(name)}, simulation", look)
            for name, look in looks.items()
        ]
        infinite = style.legend_key("infinite batch", color="black", **INFINITE)
        style.legend_below(figure, [*keys, infinite])
    return figure


def _theory_word(name: str) -> str:
    return "theory" if parse_activation(name).is_rectifier else "infinite-batch limit"


def _against_batch(axes: Axes, growth: pd.DataFrame, looks: dict[str, style.Look]) -> None:
    batches = np.unique(np.geomspace(5, 2048, 60).round())
    for row in growth.to_dict("records"):
        look = looks[str(row["activation"])]
        axes.axhline(row["infinite_batch"], color=look.color, **INFINITE)
        if not math.isnan(row["theory"]):
            activation = parse_activation(str(row["activation"]))
            line = [gradient_growth(activation, float(batch)) for batch in batches]
            axes.plot(batches, line, **look.line)
        error = 2 * row["standard_error"]
        axes.errorbar(row["batch"], row["measured"], error, **look.points, markersize=5, capsize=2)
    axes.set_xscale("log", base=2)
    axes.set(xlabel="batch $B$", ylabel="growth per layer, $\\lambda_B$")
    axes.set_title("Growth per layer, towards the input")
