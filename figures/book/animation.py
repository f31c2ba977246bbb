"""Activations on their way through the layers, as a moving picture: what a lecturer shows first.

A frame per layer: how large the activations of a layer's units are, a row per initializer, all on one
logarithmic axis.  Under a law that keeps the signal the hill stays, under one that does not it walks.
"""

from __future__ import annotations

import base64
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from figures import style
from figures.theory.histograms import TAIL

FRAMES_PER_SECOND = 4
HELD = 6  # more frames of the last layer, before it begins again
DPI = 100


@dataclass(frozen=True)
class Animation:
    """A GIF; a notebook shows it."""

    gif: bytes = field(repr=False)
    frames: int

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.gif).decode("ascii")
        return f'<img alt="activations, layer by layer" src="data:image/gif;base64,{data}">'


def signal_animation(table: pd.DataFrame, activation: str) -> Animation:
    """Of the activations of one activation function in a table of ``theory.histograms``.

    A frame for each layer of the table; layer 1 stays as a grey shadow.
    """
    table = table[(table["activation"] == activation) & (table["quantity"] == "activation")]
    laws, layers = list(dict.fromkeys(table["initializer"])), sorted(set(table["layer"]))
    with style.styled():
        figure = Figure(figsize=(style.PAGE_WIDTH, 0.8 + 1.1 * len(laws)), dpi=DPI)
        FigureCanvasAgg(figure)
        rows = figure.subplots(len(laws), 1, sharex=True, squeeze=False)[:, 0]
        seen = table[table["density"] > TAIL * table["density"].max()]
        rows[0].set_xlim(seen["log10_low"].min() - 0.5, seen["log10_high"].max() + 0.5)
        style.power_of_ten_axis(rows[0], "x")
        rows[-1].set_xlabel("absolute value of the activations")
        figure.subplots_adjust(0.08, 0.5 / figure.get_figheight(), 0.98, 0.88)

        def draw(frame: int) -> None:
            layer = layers[min(frame, len(layers) - 1)]
            figure.suptitle(f"layer {layer} of {layers[-1]}")
            for axes, law in zip(rows, laws, strict=True):
                _hill(axes, table[table["initializer"] == law], law, layers[0], layer)

        frames = len(layers) + HELD
        moving = FuncAnimation(figure, draw, frames=frames, init_func=lambda: None, blit=False)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "layers.gif"
            moving.save(path, writer=PillowWriter(fps=FRAMES_PER_SECOND), dpi=DPI)
            return Animation(path.read_bytes(), frames)


def _hill(axes: Axes, curve: pd.DataFrame, law: str, first: int, layer: int) -> None:
    for artist in (*axes.collections, *axes.texts):
        artist.remove()
    color = style.initializer_looks([law])[law].color
    for shown, drawn in ((first, style.shade("#777777", 0.5)), (layer, color)):
        bins = curve[curve["layer"] == shown]
        middle = (bins["log10_low"] + bins["log10_high"]) / 2
        axes.fill_between(middle, bins["density"], color=drawn, alpha=0.8, linewidth=0)
    axes.set_ylim(0, 1.1 * float(curve["density"].max()))
    axes.set_yticks([])
    axes.text(0.01, 0.85, law, transform=axes.transAxes, color=color, va="top", weight="bold")
