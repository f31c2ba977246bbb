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
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from rich.text import Text

from figures import style

Array = NDArray[np.float64]
MAPS, DEEPEST = 4, 20  # deeper than that a few networks carry the mean


def border_figure(table: pd.DataFrame) -> Figure:
    """The figure of a table made by ``theory.draw.variance.measure``: its first curve."""
    first = table.iloc[0]
    same = (table["activation"] == first["activation"]) & (table["direction"] == first["direction"])
    curve = table[same & (table["initializer"] == first["initializer"])]
    layers = _chosen(sorted(set(curve["layer"])))
    with style.styled():
        figure = Figure(figsize=(style.PAGE_WIDTH, 6.2), layout="constrained")
        parts = figure.subfigures(2, 1, height_ratios=(3.6, 2.2), squeeze=False)
        _maps(parts[0, 0], curve, layers)
        _profiles(parts[1, 0].subplots(), curve, layers)
        quantity = "$y_l^2$" if first["direction"] == "forward" else "$(\\partial E/\\partial y_l)^2$"
        figure.suptitle(
            f"{quantity} per pixel ({first['activation']}); above each map: its mean, "
            "relative to no border"
        )
    return figure


def border_note(table: pd.DataFrame) -> list[Text]:
    """One line on what the border takes in the first curve; none where it takes nothing."""
    first = table.iloc[0]
    same = (table["activation"] == first["activation"]) & (table["direction"] == first["direction"])
    curve = table[same & (table["initializer"] == first["initializer"])]
    means = curve.groupby("layer")["theory"].mean()
    if np.allclose(means, 1):
        return []
    shares = ", ".join(f"{mean:.5f} at layer {layer}" for layer, mean in means.items())
    return [Text(f"Left of the mean by the border ({first['activation']}): {shares}.")]


def _chosen(layers: list[int]) -> list[int]:
    layers = [layer for layer in layers if layer <= DEEPEST] or layers
    if len(layers) <= MAPS:
        return layers
    return [layers[round(index)] for index in np.linspace(0, len(layers) - 1, MAPS)]


def _grid(curve: pd.DataFrame, layer: int, source: str) -> tuple[Array, float]:
    """One layer's pixels (H, H) divided by their mean, and the mean."""
    part = curve[curve["layer"] == layer]
    pixels = part.pivot(index="row", columns="column", values=source).to_numpy(dtype=np.float64)
    mean = float(pixels.mean())
    return pixels / mean, mean


def _maps(figure: SubFigure, curve: pd.DataFrame, layers: list[int]) -> None:
    grid = figure.subplots(2, len(layers), squeeze=False)
    top = max(float(_grid(curve, layer, "theory")[0].max()) for layer in layers)
    for column, layer in enumerate(layers):
        for row, source in enumerate(("theory", "measured")):
            panel, (pixels, mean) = grid[row, column], _grid(curve, layer, source)
            image = panel.imshow(pixels, cmap="viridis", vmin=0.0, vmax=top)
            panel.set(xticks=[], yticks=[])
            panel.grid(visible=False)
            panel.set_title(f"$l = {layer}$: {mean:.3f}" if row == 0 else f"{mean:.3f}")
            if column == 0:
                panel.set_ylabel("simulation" if row else "theory")
    bar = figure.colorbar(image, ax=list(grid.flat), shrink=0.8)
    bar.set_label("second moment /\nits mean over the image")


def _profiles(axes: Axes, curve: pd.DataFrame, layers: list[int]) -> None:
    handles = [Line2D([], [], color="black", label="theory")]
    handles.append(
        Line2D([], [], color="black", marker="o", linestyle="", mfc="white", label="simulation")
    )
    for layer, look in style.depth_looks(layers).items():
        theory, measured = (_grid(curve, layer, source)[0].mean(1) for source in ("theory", "measured"))
        rows = np.arange(len(theory))
        axes.plot(rows, theory, color=look.color, linestyle=look.dash)
        axes.plot(rows, measured, look.marker, color=look.color, markerfacecolor="white", markersize=4)
        handles.append(style.curve_key(f"$l = {layer}$", look))
    axes.set_xlabel("row of the image")
    axes.set_ylabel("mean over the row /\nmean over the image")
    axes.set_ylim(bottom=0.0)
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5))
