"""Activations and gradients by layer as histograms, simulated: Glorot & Bengio (2010), Fig. 6 and 7.

Of the logarithm of the absolute value, so that a law that keeps the signal draws its layers on top of
each other, and one that does not draws them side by side, however far apart.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from figures.prose import name_of

QUANTITIES = {
    "activation": "activations $|x_l|$\ndensity per decade",
    "gradient": "gradients $|\\partial E/\\partial y_l|$\ndensity per decade",
}
LEAST = 8  # decades that a panel shows, so that panels of little spread look alike
TAIL = 0.002  # density below which a bin does not widen its panel


def histogram_figure(table: pd.DataFrame, activation: str) -> Figure:
    """Of one activation of ``theory.draw.histograms``'s table: a column per initializer."""
    table = table[table["activation"] == activation]
    laws = style.initializer_looks(table["initializer"])
    layers = sorted(set(table["layer"]))
    with style.canvas(4.6, style.width_of(len(laws), 3)) as figure:
        grid = figure.subplots(len(QUANTITIES), len(laws), sharey="row", squeeze=False)
        for row, quantity in zip(grid, QUANTITIES, strict=True):
            for axes, (law, look) in zip(row, laws.items(), strict=True):
                part = table[(table["initializer"] == law) & (table["quantity"] == quantity)]
                _panel(axes, part, style.depth_shades(layers, look.color))
        titles = [f"{name_of(law)}, {name_of(activation)}" for law in laws]
        style.label(grid, titles=titles, below="absolute value", left=[*QUANTITIES.values()])
        looks = style.depth_shades(layers, "#777777")
        keys = [style.legend_key(f"layer {layer}", **look.line) for layer, look in looks.items()]
        style.legend_below(figure, keys)
    return figure


def _panel(axes: Axes, part: pd.DataFrame, looks: dict[int, style.Look]) -> None:
    for layer, look in looks.items():
        bins = part[part["layer"] == layer]
        middle = (bins["log10_low"] + bins["log10_high"]) / 2
        axes.plot(middle, bins["density"], **look.line)
    seen = part[part["density"] > TAIL * part["density"].max()]
    axes.set_xlim(seen["log10_low"].min(), seen["log10_high"].max())
    style.widened(axes, LEAST, "x")
    axes.set_ylim(bottom=0)
    style.power_of_ten_axis(axes, "x")
