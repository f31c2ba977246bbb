"""The course report's figures from a study's table: average weight and accuracy against epoch.

The average weight is the report's: the mean over all parameter tensors of each tensor's mean.  One
figure of each kind per experiment (initializer × activation), a line per depth, in shades of the
initializer's color; the printed accuracies are stars.  With several seeds, the line is the mean of
those that did not diverge, in a band from the least to the greatest of them.

Beside them, of the same sixteen networks, the curves of the training loss.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import seaborn
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from empirical.arm import Arm
from empirical.judgment.statistics import with_own_arms
from empirical.protocol import CLASSES, COURSE_REPORT, published_accuracy
from figures import style
from figures.prose import name_of

if TYPE_CHECKING:
    from empirical.records.published import Published

QUANTITIES = {
    "average_weight": "average weight",
    "test_accuracy": "test accuracy (percent)",
}
COURSE_REPORT_LAWS = ("he", "normal")
STAR: dict[str, Any] = {
    "marker": "*", "markersize": 9, "markeredgecolor": "black", "markeredgewidth": 0.6,
}  # fmt: skip


def course_report_figures(
    study: pd.DataFrame,
    quantities: Sequence[str] = tuple(QUANTITIES),
    drawn: Mapping[str, float | None] = MappingProxyType({}),
) -> dict[str, Figure]:
    """File stem -> figure, two for each experiment in a table of ``empirical.study.grid.run_study``.

    ``quantities`` chooses among ``QUANTITIES``; all figures of a quantity have the same axes.
    ``drawn`` has the average weight of each cell as it was drawn, which is that of epoch 0.

    Experiments whose protocol differs are not mixed: each has its figures, and their names say in what
    it differs.  Cells that diverged are drawn up to their last measured epoch; the legend says when.
    """
    figures: dict[str, Figure] = {}
    for key, cells in with_own_arms(_from_epoch_0(study, drawn)).groupby(
        ["arm", "activation"], sort=False
    ):
        arm, activation = cast(Arm, key[0]), str(key[1])
        for quantity in quantities:
            names = (name.replace(":", "") for name in (arm.initializer, activation))
            stem = _stem("-".join([quantity, *names, *arm.words]))
            title = f"{name_of(arm.initializer)} initialization, {name_of(activation)}"
            if arm.changes:
                title += f"\n{arm.variant}"
            figures[stem] = _against_epoch(cells, quantity, title)
    for quantity in quantities:
        style.same_axes(
            one.axes[0] for stem, one in figures.items() if stem.startswith(_stem(quantity))
        )
    return figures


def _from_epoch_0(study: pd.DataFrame, drawn: Mapping[str, float | None]) -> pd.DataFrame:
    """``study`` with a row per cell more, its average weight as drawn."""
    if not drawn:
        return study
    first = study.drop_duplicates("cell").assign(epoch=0, **dict.fromkeys(QUANTITIES, math.nan))
    first["average_weight"] = first["cell"].map(drawn).astype(float)
    return pd.concat([first[first["average_weight"].notna()], study], ignore_index=True)


def _stem(words: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", words.lower())


def draw_curve(
    axes: Axes,
    cells: pd.DataFrame,
    quantity: str,
    look: style.Look,
    label: str,
    *,
    size: float = 4,
    width: float = 1.4,
) -> None:
    """``quantity`` against epoch over a configuration's seeds: their mean, and a band that spans them.

    Of those that did not diverge (of all, where all did); one that did is a thin line to its cross.
    ``spread_keys`` says so in a legend.
    """
    measured = cells[cells[quantity].notna()]
    diverged = measured[measured["status"] == "diverged"]
    completed = measured.drop(diverged.index)
    shown = diverged if completed.empty else completed
    over_seeds(axes, shown, "epoch", quantity, look, label=label, markersize=size, linewidth=width)
    for _, seed in diverged.groupby("seed"):
        axes.plot(seed["epoch"], seed[quantity], color=look.color, linewidth=0.5, alpha=0.5)
        axes.plot(seed["epoch"].iloc[-1], seed[quantity].iloc[-1], "x", color="black", markersize=6)


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


def seeds_of(cells: pd.DataFrame) -> pd.Series[int]:
    """How many seeds each configuration has."""
    config = [name for name in ("variant", "initializer", "activation", "depth") if name in cells]
    return cells.groupby(config)["seed"].nunique()


def guessing_key(label: str = f"ln {CLASSES}: guessing") -> Artist:
    """The entry of the dotted line at what a network reaches that has learned nothing."""
    return style.legend_key(label, **style.DOTTED)


def over_seeds(axes: Axes, table: pd.DataFrame, x: str, y: str, look: style.Look, **drawn: Any) -> None:
    """The mean of ``y`` over seeds at each ``x``; a band, or bars, from the least to the greatest."""
    before = {"xlabel": axes.get_xlabel(), "ylabel": axes.get_ylabel()}
    own = {"color": look.color, "linestyle": look.dash, "marker": look.marker}
    own["markeredgecolor"] = look.color
    seaborn.lineplot(table, x=x, y=y, errorbar=("pi", 100), ax=axes, legend=False, **own, **drawn)
    axes.set(**before)  # seaborn writes the columns' names there


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


def log10(values: pd.Series) -> pd.Series:
    """The logarithm; NaN of zero and of what is infinite."""
    with np.errstate(divide="ignore"):
        logs = np.log10(values.to_numpy(np.float64))
    return pd.Series(np.where(np.isfinite(logs), logs, np.nan), values.index)


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


def divergence(cells: pd.DataFrame) -> str:
    """What a legend says of the seeds that diverged; empty if none did.

    A cell that diverged has rows for its finished epochs only, or one row of epoch 0.
    """
    diverged = cells[cells["status"] == "diverged"].groupby("seed")["epoch"].max() + 1
    seeds = cells["seed"].nunique()
    if diverged.empty:
        return ""
    low, high = int(diverged.min()), int(diverged.max())
    when = f"epoch {low}" if low == high else f"epochs {low}–{high}"
    who = "" if len(diverged) == seeds else f"{len(diverged)} of {seeds} "
    return f" ({who}diverged\nin {when})"


def _against_epoch(cells: pd.DataFrame, quantity: str, title: str) -> Figure:
    initializer = str(cells["initializer"].iloc[0])
    color = style.initializer_looks([initializer])[initializer].color
    with style.canvas(3.4, style.PAGE_WIDTH * 0.7) as figure:
        axes = figure.subplots()
        looks = style.depth_shades((int(depth) for depth in cells["depth"].unique()), color)
        for depth, look in looks.items():
            of_depth = cells[cells["depth"] == depth]
            draw_curve(axes, of_depth, quantity, look, f"{depth}{divergence(of_depth)}")
        axes.set(title=title, xlabel="epoch", ylabel=QUANTITIES[quantity])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if cells[quantity].isna().all():
            axes.set(xticks=[], yticks=[])
            axes.text(0.5, 0.5, "every cell diverged in epoch 1", transform=axes.transAxes, ha="center")
        handles: list[Artist] = [*axes.get_legend_handles_labels()[0], *spread_keys(cells)]
        if quantity == "test_accuracy" and _stars(axes, cells, looks):
            key = style.legend_key(
                "printed in\nthe course report", color="#BBBBBB", linestyle="none", **STAR
            )
            handles.append(key)
        figure.legend(handles=handles, loc="outside right center", title="layers", borderaxespad=0.8)
    return figure


def _stars(axes: Axes, cells: pd.DataFrame, looks: Mapping[int, style.Look]) -> bool:
    """The printed accuracies of an arm as printed, behind the last epoch; whether there are any."""
    arm, end = cast(Arm, cells["arm"].iloc[0]), float(cells["epoch"].max())
    names = arm.initializer, str(cells["activation"].iloc[0])
    printed = {} if arm.changes else printed_accuracies(*names, looks)
    for place, (depth, value) in enumerate(printed.items(), start=1):
        axes.plot(end * (1 + 0.04 * place), value, color=looks[depth].color, linestyle="none", **STAR)
    return bool(printed)


def printed_accuracies(initializer: str, activation: str, depths: Iterable[int]) -> dict[int, float]:
    """What the course report printed, at those of the ``depths`` that it has."""
    found = {depth: published_accuracy(initializer, activation, depth) for depth in depths}
    return {depth: value for depth, value in found.items() if value is not None}


# ------------------------------------------------------------------------------- the loss


def loss_figure(study: pd.DataFrame) -> Figure:
    """Training loss against epoch: a column per initializer, a row per activation, a line per depth."""
    study = study.assign(train_loss=study["train_loss"].map(math.log10))
    initializers = [one for one in COURSE_REPORT_LAWS if one in set(study["initializer"])]
    activations = [one for one in COURSE_REPORT.activations if one in set(study["activation"])]
    depths = {int(depth) for depth in study["depth"]}
    with style.canvas(0.9 + 2.3 * len(activations)) as figure:
        shape = len(activations), len(initializers)
        grid = figure.subplots(*shape, sharex=True, sharey=True, squeeze=False)
        for row, activation in zip(grid, activations, strict=True):
            for axes, (law, look) in zip(
                row, style.initializer_looks(initializers).items(), strict=True
            ):
                own = study[(study["initializer"] == law) & (study["activation"] == activation)]
                for depth, shade in style.depth_shades(depths, look.color).items():
                    draw_curve(axes, own[own["depth"] == depth], "train_loss", shade, str(depth))
                axes.axhline(math.log10(math.log(CLASSES)), **style.DOTTED)
                axes.set_title(f"{name_of(law)}, {name_of(activation)}")
                whole_epochs(axes)
        style.power_of_ten_axis(grid[0, 0])
        style.label(grid, below="epoch", left="training loss (nats per image)")
        keys = keys_of(style.depth_shades(depths, "#777777"), " layers")
        style.legend_below(figure, [*keys, guessing_key(), *spread_keys(study)])
    return figure


def layer_axis(axes: Axes, layers: int) -> None:
    """Ticks at some of the weight layers 1 … ``layers``; the last, linear one is called h."""
    ticks = [*(n for n in style.thin(layers - 1, 6) if n < layers - layers / 14 or n == 1), layers]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: "h" if n == layers else f"{n:.0f}"))
    axes.set_xlim(1 - 0.04 * layers, layers + 0.04 * layers)
