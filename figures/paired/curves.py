"""What the pictures of the study share: curves over seeds, axes of layers and epochs, keys of legends.

With several seeds a curve is the mean of those that did not diverge, in a band from the least to the
greatest of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from empirical.arm import Arm
from empirical.protocol import CLASSES, published_accuracy
from empirical.records.published import Published
from figures import style
from figures.prose import name_of

GREY = "#555555"
Looks = dict[Arm, style.Look]


def draw_curve(
    axes: Axes,
    cells: pd.DataFrame,
    quantity: str,
    look: style.Look,
    **drawn: Any,
) -> None:
    """``quantity`` against epoch over a configuration's seeds: their mean, and a band that spans them.

    Of those that did not diverge (of all, where all did); one that did is a thin line to its cross.
    ``spread_keys`` says so in a legend.
    """
    measured = cells[cells[quantity].notna()]
    diverged = measured[measured["status"] == "diverged"]
    completed = measured.drop(diverged.index)
    shown = diverged if completed.empty else completed
    over_seeds(axes, shown, "epoch", quantity, look, **({"markersize": 4} | drawn))
    for _, seed in diverged.groupby("seed"):
        axes.plot(seed["epoch"], seed[quantity], color=look.color, linewidth=0.5, alpha=0.5)
        axes.plot(seed["epoch"].iloc[-1], seed[quantity].iloc[-1], "x", color="black", markersize=6)


def over_seeds(axes: Axes, table: pd.DataFrame, x: str, y: str, look: style.Look, **drawn: Any) -> None:
    """The mean of ``y`` over seeds at each ``x``; a band, or bars, from the least to the greatest."""
    before = {"xlabel": axes.get_xlabel(), "ylabel": axes.get_ylabel()}
    own = {"color": look.color, "linestyle": look.dash, "marker": look.marker}
    own["markeredgecolor"] = look.color
    seaborn.lineplot(table, x=x, y=y, errorbar=("pi", 100), ax=axes, legend=False, **own, **drawn)
    axes.set(**before)  # seaborn writes the columns' names there


def keys_of(looks: Mapping[Any, style.Look], more: str = "", **drawn: Any) -> list[Artist]:
    """An entry for each thing that has a look, with ``more`` words behind its name."""
    return [
        style.legend_key(f"{name_of(what)}{more}", **(look.curve | drawn))
        for what, look in looks.items()
    ]


def spread_keys(cells: pd.DataFrame) -> list[Artist]:
    """What a legend says of bands and thin lines, if ``cells``, rows of curves, have any."""
    lost = cells["status"] == "diverged"
    several = (seeds_of(cells[~lost]) > 1).any()
    keys: list[Artist] = [style.band_key("least to\ngreatest seed")] * bool(several)
    if lost.any():
        thin = {"color": "#555555", "linewidth": 0.5, "marker": "x"}
        keys.append(style.legend_key("a seed until\nit diverged", **thin))
    return keys


def arm_keys(looks: Looks, as_printed: str = "") -> list[Artist]:
    names = {arm: name_of(arm) + as_printed * (not arm.changes) for arm in looks}
    return [style.legend_key(names[arm], **look.curve) for arm, look in looks.items()]


def seeds_of(cells: pd.DataFrame) -> pd.Series[int]:
    """How many seeds each configuration has."""
    config = [name for name in ("variant", "initializer", "activation", "depth") if name in cells]
    return cells.groupby(config)["seed"].nunique()


def guessing_key(label: str = f"ln {CLASSES}: guessing") -> Artist:
    """The entry of the dotted line at what a network reaches that has learned nothing."""
    return style.legend_key(label, **style.DOTTED)


@contextmanager
def rows_by_depth(
    depths: Sequence[int], by_layer: Sequence[str], by_epoch: Sequence[str]
) -> Iterator[tuple[Figure, NDArray[np.object_]]]:
    """A figure with a row of panels per depth; titles of its columns, by weight layer and by epoch."""
    titles = [*by_layer, *by_epoch]
    below = ["weight layer $l$ (h: linear)"] * len(by_layer) + ["epoch"] * len(by_epoch)
    with style.canvas(1.5 + 1.45 * len(depths)) as figure:
        grid = figure.subplots(len(depths), len(titles), squeeze=False, sharey="col")
        yield figure, grid
        style.label(grid, titles=titles, below=below, left=[f"{depth} layers" for depth in depths])


def whole_epochs(axes: Axes) -> None:
    """Ticks of an axis of epochs, or of layers, at whole numbers."""
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))


def layer_axis(axes: Axes, layers: int) -> None:
    """Ticks at some of the weight layers 1 … ``layers``; the last, linear one is called h."""
    ticks = [*(n for n in style.thin(layers - 1, 6) if n < layers - layers / 14 or n == 1), layers]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: "h" if n == layers else f"{n:.0f}"))
    axes.set_xlim(1 - 0.04 * layers, layers + 0.04 * layers)


def weight_layers(records: Published) -> pd.DataFrame:
    """The weight layers of every cell by epoch, with what the cell is.

    ``number`` is 1, 2, …; the linear layer is last.
    """
    layers = records.layers[records.layers["relative_change"].notna()]
    number = layers.groupby(["cell", "epoch"], sort=False).cumcount() + 1
    return layers.assign(number=number).merge(records.cells, on="cell")


def at_the_end(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of each cell's last epoch."""
    return table[table["epoch"] == table.groupby("cell")["epoch"].transform("max")]


def printed_accuracies(initializer: str, activation: str, depths: Iterable[int]) -> dict[int, float]:
    """What the course report printed, at those of the ``depths`` that it has."""
    found = {depth: published_accuracy(initializer, activation, depth) for depth in depths}
    return {depth: value for depth, value in found.items() if value is not None}
