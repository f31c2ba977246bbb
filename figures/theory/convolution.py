"""The border effect: what zero padding does to single pixels, theory beside simulation.

Upper rows: maps of the second moment per pixel divided by its mean over the image, one colour scale
for all; the titles say which share of the mean is left of what it would be without any border.
Below: the profile across the image, the mean over each row.  Both are ratios of means: the size of a
single large network, which scatters the mean itself, cancels.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray
from rich.text import Text

from figures import style

Array = NDArray[np.float64]
MAPS, DEEPEST = 4, 20  # deeper than that a few networks carry the mean


def border_figure(table: pd.DataFrame) -> Figure:
    """The figure of a table made by ``theory.draw.variance.measure``: its first curve."""
    curve = _first_curve(table)
    first = curve.iloc[0]
    layers = sorted(set(curve["layer"]))
    layers = [layer for layer in layers if layer <= DEEPEST] or layers
    chosen = np.linspace(0, len(layers) - 1, min(MAPS, len(layers))).round()
    layers = [layers[int(index)] for index in chosen]
    with style.canvas(6.2) as figure:
        above, below = figure.subfigures(2, 1, height_ratios=(3.6, 2.2), squeeze=False)[:, 0]
        _maps(above, curve, layers)
        _profiles(below.subplots(), curve, layers)
        quantity = "$y_l^2$" if first["direction"] == "forward" else "$(\\partial E/\\partial y_l)^2$"
        figure.suptitle(
            f"{quantity} per pixel ({first['activation']}); above each map: its mean, "
            "relative to no border"
        )
    return figure


def border_note(table: pd.DataFrame) -> list[Text]:
    """One line on what the border takes in the first curve; none where it takes nothing."""
    curve = _first_curve(table)
    means = curve.groupby("layer")["theory"].mean()
    if np.allclose(means, 1):
        return []
    shares = ", ".join(f"{mean:.5f} at layer {layer}" for layer, mean in means.items())
    return [Text(f"Left of the mean by the border ({curve.iloc[0]['activation']}): {shares}.")]


def _first_curve(table: pd.DataFrame) -> pd.DataFrame:
    names = ["activation", "direction", "initializer"]
    return table[(table[names] == table[names].iloc[0]).all(axis=1)]


def _grid(curve: pd.DataFrame, layer: int, source: str) -> tuple[Array, float]:
    """One layer's pixels (H, H) divided by their mean, and the mean."""
    part = curve[curve["layer"] == layer]
    pixels = part.pivot(index="row", columns="column", values=source).to_numpy(dtype=np.float64)
    mean = float(pixels.mean())
    return pixels / mean, mean


def _maps(figure: SubFigure, curve: pd.DataFrame, layers: list[int]) -> None:
    grid = figure.subplots(2, len(layers), squeeze=False)
    top = max(float(_grid(curve, layer, "theory")[0].max()) for layer in layers)
    for row, source in zip(grid, ("theory", "measured"), strict=True):
        for panel, layer in zip(row, layers, strict=True):
            pixels, mean = _grid(curve, layer, source)
            image = panel.imshow(pixels, cmap="viridis", vmin=0.0, vmax=top)
            panel.set(xticks=[], yticks=[])
            panel.grid(visible=False)
            panel.set_title(f"$l = {layer}$: {mean:.3f}" if source == "theory" else f"{mean:.3f}")
        row[0].set_ylabel("theory" if source == "theory" else "simulation")
    figure.colorbar(
        image, ax=list(grid.flat), shrink=0.8, label="second moment /\nits mean over the image"
    )


def _profiles(axes: Axes, curve: pd.DataFrame, layers: list[int]) -> None:
    handles = [
        style.legend_key("theory", color="black"),
        style.legend_key("simulation", color="black", marker="o", linestyle="", mfc="white"),
    ]
    for layer, look in style.looks_in_turn(layers).items():
        theory, measured = (_grid(curve, layer, source)[0].mean(1) for source in ("theory", "measured"))
        axes.plot(theory, **look.line)
        axes.plot(measured, **look.points, markersize=4)
        handles.append(style.curve_key(f"$l = {layer}$", look))
    axes.set(xlabel="row of the image", ylabel="mean over the row /\nmean over the image")
    axes.set_ylim(bottom=0.0)
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5))
