"""The course report's figures from a study's table: average weight and accuracy against epoch.

The average weight is the report's: the mean over all parameter tensors of each tensor's mean.  One
figure of each kind per experiment (initializer × activation), a line per depth, in shades of the
initializer's color; the printed accuracies are stars.

Beside them, of the same sixteen networks, the curves of the training loss.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from empirical.arm import Arm
from empirical.data.catalog import data_set
from empirical.judgment.selection import select
from empirical.judgment.statistics import with_own_arms
from empirical.protocol import CLASSES, COURSE_REPORT
from empirical.records.published import Published
from figures import style
from figures.paired.curves import (
    draw_curve,
    guessing_key,
    keys_of,
    printed_accuracies,
    spread_keys,
    whole_epochs,
)
from figures.paired.paired import Paired, of_activation, told
from figures.prose import name_of

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


def _against_epoch(cells: pd.DataFrame, quantity: str, title: str) -> Figure:
    initializer = str(cells["initializer"].iloc[0])
    color = style.initializer_looks([initializer])[initializer].color
    with style.canvas(3.4, style.PAGE_WIDTH * 0.7) as figure:
        axes = figure.subplots()
        looks = style.depth_shades((int(depth) for depth in cells["depth"].unique()), color)
        for depth, look in looks.items():
            of_depth = cells[cells["depth"] == depth]
            draw_curve(axes, of_depth, quantity, look, label=f"{depth}{divergence(of_depth)}")
        score = data_set(str(cells["dataset"].iloc[0])).score
        axes.set(title=title, xlabel="epoch", ylabel=QUANTITIES[quantity].replace("accuracy", score))
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


def _stars(axes: Axes, cells: pd.DataFrame, looks: Mapping[int, style.Look]) -> bool:
    """The printed accuracies of an arm as printed, behind the last epoch; whether there are any."""
    arm, end = cast(Arm, cells["arm"].iloc[0]), float(cells["epoch"].max())
    names = arm.initializer, str(cells["activation"].iloc[0])
    printed = {} if arm.changes else printed_accuracies(*names, looks)
    for place, (depth, value) in enumerate(printed.items(), start=1):
        axes.plot(end * (1 + 0.04 * place), value, color=looks[depth].color, linestyle="none", **STAR)
    return bool(printed)


def _report_figure(name: str, quantity: str, initializer: str, activation: str) -> Paired:
    named = {"quantity": quantity, "initializer": initializer, "activation": activation}

    def used(published: Published) -> Published:
        own = of_activation(select(published, "report").own, activation)
        return own.of(own.cells.loc[own.cells["initializer"] == initializer, "cell"])

    def draw(records: Published, published: Published) -> Figure:
        """Drawn with all others of its kind, which share its axes."""
        own = select(published, "report").own
        drawn = dict(zip(own.cells["cell"], own.cells["initial_average_weight"], strict=True))
        return course_report_figures(own.study, (quantity,), drawn)[name]

    return Paired(
        f"{quantity.replace('_', ' ').capitalize()} against epoch, a line per depth; "
        f"{name_of(initializer)}, {name_of(activation)}",
        "report",
        draw,
        told("report_figure", lambda _: named),
        activation,
        chosen=used,
        wanted=lambda cell: cell.initializer == initializer,
    )


REPORT: dict[str, Paired] = {
    name: _report_figure(name, quantity, initializer, activation)
    for initializer in ("he", "normal")
    for activation in ("relu", "prelu")
    for quantity in ("average_weight", "test_accuracy")
    for name in [f"{quantity.replace('_', '-')}-{initializer}-{activation}"]
}


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
                    draw_curve(axes, own[own["depth"] == depth], "train_loss", shade)
                axes.axhline(math.log10(math.log(CLASSES)), **style.DOTTED)
                axes.set_title(f"{name_of(law)}, {name_of(activation)}")
                whole_epochs(axes)
        style.power_of_ten_axis(grid[0, 0])
        style.label(grid, below="epoch", left="training loss (nats per image)")
        keys = keys_of(style.depth_shades(depths, "#777777"), " layers")
        style.legend_below(figure, [*keys, guessing_key(), *spread_keys(study)])
    return figure


FIGURES = {
    "training-loss": Paired(
        "Training loss against epoch of all sixteen networks of the course report",
        "report",
        lambda records, _: loss_figure(records.study),
        told("training_loss"),
        place=40,
    )
}
