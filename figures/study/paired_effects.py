"""Three causes taken apart: the last layer's scale, the relative step, and the slopes that are learned.

*The last layer.*  Batch norm takes out the scale of every weight before it, but not of the last linear
layer: there fan_in (up to 32768) and fan_out (10) draw very different logits, and with them the first
loss.

*The relative step.*  A scale-free weight of standard deviation σ that learns at the rate η under Adam
moves like one of standard deviation 1 at η/σ.  N(0, 1) with He's last layer and He's relative steps is,
in exact arithmetic and with vanishing epsilons, the same network as He's, step by step.

*The slopes.*  He et al. (2015, Table 1) found a large slope in the first layer and smaller ones deeper.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from empirical.arm import Arm
from empirical.protocol import CLASSES, TrainSpec, published_accuracy
from empirical.records.published import Published, spec_of
from figures import style
from figures.study.report_figures import (
    draw_curve,
    guessing_key,
    layer_axis,
    name_of,
    over_seeds,
    spread_keys,
    whole_epochs,
)
from theory.activations import parse_activation
from theory.law.learning_rate import effective_learning_rate, equivalent_learning_rate
from theory.lessons.paper import LEARNED_SLOPES

GREY = "#555555"
HEAD = "head"

# ------------------------------------------------------------------------------- the last layer


def last_layer_figure(records: Published, activation: str) -> Figure:
    """Predicted and measured initial loss by depth, final accuracy beside the report's, and the curves.

    ``records`` holds the arms of the preset head, with the column ``arm``.
    """
    cells = records.cells[records.cells["activation"] == activation]
    study = records.study[records.study["activation"] == activation]
    depths = sorted({int(depth) for depth in cells["depth"]})
    looks = style.arm_looks(cells["arm"])
    with style.styled():
        figure = Figure(figsize=(style.PAGE_WIDTH, 5.2), layout="constrained")
        upper, lower = figure.subfigures(2, 1, height_ratios=(1.15, 1), squeeze=False)[:, 0]
        left, right = upper.subplots(1, 2, squeeze=False)[0]
        _losses_by_depth(left, cells, depths, looks)
        _accuracies_by_depth(right, cells, depths, looks)
        for axes in (left, right):
            axes.set_xlabel("layers")
            axes.set_xticks(depths)
        _curves_by_depth(lower, study, depths, looks)
        entries: list[Artist] = [*_arm_keys(looks, as_printed=True)]
        entries += [
            style.legend_key("course report (one run)", color="black", marker="*", linestyle=":"),
            guessing_key(f"ln {CLASSES}: guessing"),
            *spread_keys(study),
        ]
        figure.legend(handles=entries, loc="outside upper center", ncols=4)
    return figure


def _losses_by_depth(
    axes: Axes, cells: pd.DataFrame, depths: list[int], looks: dict[Arm, style.Look]
) -> None:
    for arm, rows in cells.groupby("arm", sort=False):
        look = looks[cast(Arm, arm)]
        # a line has a gap where a depth was not run
        by_depth = rows.groupby("depth")[["initial_loss_predicted", "initial_loss"]].mean()
        predicted, measured = (column.map(math.log10).reindex(depths) for _, column in by_depth.items())
        axes.plot(predicted.index, predicted, color=look.color, linestyle=look.dash)
        axes.plot(
            measured.index,
            measured,
            look.marker,
            color=look.color,
            markerfacecolor="white",
            markersize=5,
        )
    chance = math.log10(math.log(CLASSES))
    axes.axhline(chance, color="black", linewidth=0.8, linestyle=":")
    axes.set_ylim(bottom=min(axes.get_ylim()[0], chance - 0.08))
    axes.set_title("theory: first loss, predicted (line)\nand measured (open marker)")
    axes.set_ylabel("initial loss (nats)")
    style.power_of_ten_axis(axes)


def _accuracies_by_depth(
    axes: Axes, cells: pd.DataFrame, depths: list[int], looks: dict[Arm, style.Look]
) -> None:
    completed = cells[cells["status"] == "completed"]
    for arm, rows in completed.groupby("arm", sort=False):
        look = looks[cast(Arm, arm)]
        seen = rows.groupby("depth")["final_test_accuracy"].agg(["mean", "min", "max"]).reindex(depths)
        axes.vlines(depths, seen["min"], seen["max"], color=look.color)
        axes.plot(depths, seen["mean"], color=look.color, linestyle=look.dash, marker=look.marker)
    printed = pd.Series(_printed(cells)).reindex(depths)
    axes.plot(depths, printed, "*", color="black", linestyle=":", markersize=6)
    axes.set_title("practice: final test accuracy\n(percent)")


def _curves_by_depth(
    figure: SubFigure, study: pd.DataFrame, depths: list[int], looks: dict[Arm, style.Look]
) -> None:
    printed = _printed(study)
    grid = figure.subplots(1, len(depths), sharey=True, squeeze=False)[0]
    for axes, depth in zip(grid, depths, strict=True):
        for arm, rows in study[study["depth"] == depth].groupby("arm", sort=False):
            if rows["test_accuracy"].notna().any():
                draw_curve(axes, rows, "test_accuracy", looks[cast(Arm, arm)], str(arm), size=3)
        if depth in printed:
            axes.axhline(printed[depth], color="black", linewidth=0.8, linestyle=":")
            last = study.loc[study["depth"] == depth, "epochs"].max()
            axes.plot([last], [printed[depth]], "*", color="black", markersize=6)
        axes.set_title(f"{depth} layers")
        axes.set_xlabel("epoch")
        whole_epochs(axes)
    grid[0].set_ylabel("test accuracy (percent)")


def _printed(rows: pd.DataFrame) -> dict[int, float]:
    """Depth -> what the course report printed."""
    found: dict[int, float] = {}
    keys = rows[["initializer", "activation", "depth"]].drop_duplicates().sort_values("depth")
    for initializer, activation, depth in keys.itertuples(index=False):
        value = published_accuracy(str(initializer), str(activation), int(depth))
        if value is not None:
            found[int(depth)] = value
    return found


# ------------------------------------------------------------------------------- the relative step


def relative_steps(records: Published) -> pd.DataFrame:
    """The relative step of every weight layer as drawn: one row per cell and layer.

    Columns: cell, arm, depth, seed, number (1, 2, …; the linear layer last), layer, predicted: η/σ from
    the layer's law and its own learning rate, measured: η/rms(W) of the drawn weight.  Under SGD η/σ².
    """
    specs = {str(row["cell"]): spec_of(row) for row in records.cells.to_dict("records")}
    layers = records.layers
    drawn = layers[(layers["epoch"] == 0) & layers["relative_change"].notna()].copy()
    drawn["number"] = drawn.groupby("cell", sort=False).cumcount() + 1
    drawn["predicted"] = [
        _predicted_step(specs[cell], layer)
        for cell, layer in zip(drawn["cell"], drawn["layer"], strict=True)
    ]
    drawn = drawn.rename(columns={"effective_learning_rate": "measured"})
    known = records.cells[["cell", "arm", "depth", "seed"]]
    table = drawn[["cell", "number", "layer", "predicted", "measured"]].merge(known, on="cell")
    return table[["cell", "arm", "depth", "seed", "number", "layer", "predicted", "measured"]]


def _predicted_step(spec: TrainSpec, layer: str) -> float:
    """η/σ (SGD: η/σ²) of ``layer`` (conv01, …, head) by its law."""
    if layer == HEAD:
        shape: tuple[int, ...] = (CLASSES, spec.filters * spec.head_size**2)
        law, scale = spec.head_law, 1.0
    else:
        first = layer == "conv01"
        shape, law = spec.filter_shape(0 if first else 1), spec.weight_law
        free = spec.norm == "batch" and (not first or (spec.depth > 1 and _homogeneous(spec)))
        scale = spec.relative_scale(0 if first else 1) if free else 1.0
    rate = equivalent_learning_rate(spec.learning_rate, scale, spec.optimizer)
    return effective_learning_rate(rate, law.std_of(shape, spec.gain_slope), spec.optimizer)


def _homogeneous(spec: TrainSpec) -> bool:
    return parse_activation(spec.activation).is_rectifier


def relative_step_figure(records: Published) -> Figure:
    """A row per depth, an arm per color and dash: relative step by layer, training loss, accuracy.

    ``records`` holds the arms of the preset effective-lr, with the column ``arm``.
    """
    steps, study = relative_steps(records), records.study
    depths = sorted({int(depth) for depth in study["depth"]})
    looks = style.arm_looks(study["arm"])
    with style.styled():
        figure = Figure(figsize=(style.PAGE_WIDTH, 1.5 + 1.45 * len(depths)), layout="constrained")
        grid = figure.subplots(len(depths), 3, squeeze=False, sharey="col")
        for row, depth in enumerate(depths):
            _steps_by_layer(grid[row, 0], steps[steps["depth"] == depth], looks)
            for axes, quantity in zip(grid[row, 1:], ("train_loss", "test_accuracy"), strict=True):
                _arms_against_epoch(axes, study[study["depth"] == depth], quantity, looks)
            grid[row, 0].set_ylabel(f"{depth} layers")
        titles = (
            "theory: relative step\n$\\eta/\\sigma$; as drawn (open)",
            "practice: training loss\n(nats)",
            "practice: test accuracy\n(percent)",
        )
        for axes, title in zip(grid[0], titles, strict=True):
            axes.set_title(title)
        style.power_of_ten_axis(grid[0, 0])
        style.power_of_ten_axis(grid[0, 1])
        grid[-1, 0].set_xlabel("weight layer $l$ (h: linear)")
        for axes in grid[-1, 1:]:
            axes.set_xlabel("epoch")
        keys: list[Artist] = [*_arm_keys(looks), *spread_keys(study)]
        figure.legend(handles=keys, loc="outside upper center", ncols=3)
    return figure


def _steps_by_layer(axes: Axes, steps: pd.DataFrame, looks: dict[Arm, style.Look]) -> None:
    for place, (arm, look) in enumerate(looks.items()):
        by_layer = steps[steps["arm"] == arm].groupby("number")
        predicted, measured = (
            by_layer[name].mean().map(math.log10) for name in ("predicted", "measured")
        )
        below = _drawn_below(arm, looks)
        axes.plot(
            predicted.index,
            predicted,
            color=look.color,
            linestyle=look.dash,
            linewidth=3.0 if below else 1.4,
        )
        beside = 0.012 * steps["number"].max() * (place - (len(looks) - 1) / 2)  # arms that coincide
        axes.plot(
            measured.index + beside,
            measured,
            look.marker,
            color=look.color,
            markerfacecolor="white",
            markersize=4,
        )
    if not steps.empty:
        layer_axis(axes, int(steps["number"].max()))


def _drawn_below(arm: Arm, looks: dict[Arm, style.Look]) -> bool:
    """The first arm is drawn broad, so that one that coincides with it leaves both to be seen."""
    return arm == next(iter(looks))


def _arms_against_epoch(
    axes: Axes, study: pd.DataFrame, quantity: str, looks: dict[Arm, style.Look]
) -> None:
    if quantity == "train_loss":
        study = study.assign(train_loss=study[quantity].map(math.log10))
    for arm, look in looks.items():
        rows, below = study[study["arm"] == arm], _drawn_below(arm, looks)
        if rows[quantity].notna().any():
            size, width = (5.5, 3.0) if below else (3.5, 1.4)
            draw_curve(axes, rows, quantity, look, name_of(arm), size=size, width=width)
    whole_epochs(axes)


def _arm_keys(looks: dict[Arm, style.Look], *, as_printed: bool = False) -> list[Line2D]:
    return [
        style.legend_key(
            f"{name_of(arm)}{' as printed' * (as_printed and not arm.changes)}",
            color=look.color,
            linestyle=look.dash,
            marker=look.marker,
        )
        for arm, look in looks.items()
    ]


# ------------------------------------------------------------------------------- the weights


def weight_change_figure(records: Published) -> Figure:
    """‖W − W₀‖/‖W₀‖ by weight layer: a row per initializer, a column per depth, a line per epoch.

    W₀ is the weight as drawn.  Epochs are some of those recorded, the first and the last among them.
    """
    layers = records.layers[records.layers["relative_change"].notna()].copy()
    layers["number"] = layers.groupby(["cell", "epoch"], sort=False).cumcount() + 1
    layers = layers[layers["epoch"] > 0].merge(records.cells, on="cell")
    with np.errstate(divide="ignore"):
        layers["change"] = np.log10(layers["relative_change"]).replace(-math.inf, math.nan)
    initializers, depths = list(dict.fromkeys(layers["initializer"])), sorted(set(layers["depth"]))
    epochs = sorted(set(layers["epoch"]) & set(style.thin(int(layers["epoch"].max()), 4)))
    epochs = epochs or sorted(set(layers["epoch"]))[-1:]
    with style.styled():
        size = (style.PAGE_WIDTH, 1.0 + 1.9 * len(initializers))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(initializers), len(depths), sharex="col", sharey=True, squeeze=False)
        for row, initializer in zip(grid, initializers, strict=True):
            looks = _epoch_looks(epochs, style.initializer_looks([initializer])[initializer].color)
            for axes, depth in zip(row, depths, strict=True):
                of_cell = layers[(layers["initializer"] == initializer) & (layers["depth"] == depth)]
                for epoch, look in looks.items():
                    change = of_cell[of_cell["epoch"] == epoch].groupby("number")["change"].mean()
                    axes.plot(change.index, change, color=look.color, linestyle=look.dash,
                              marker=look.marker, markersize=3.5)  # fmt: skip
                layer_axis(axes, depth + 1)
            row[0].set_ylabel(f"{name_of(initializer)}\n$\\|W-W_0\\|/\\|W_0\\|$")
        style.power_of_ten_axis(grid[0, 0])
        for axes, depth in zip(grid[0], depths, strict=True):
            axes.set_title(f"{depth} layers")
        for axes in grid[-1]:
            axes.set_xlabel("weight layer (h: linear)")
        keys = [
            style.legend_key(f"after epoch {epoch}", color=look.color, linestyle=look.dash,
                             marker=look.marker)
            for epoch, look in _epoch_looks(epochs, GREY).items()
        ]  # fmt: skip
        style.legend_below(figure, keys)
    return figure


def _epoch_looks(epochs: list[int], color: str) -> dict[int, style.Look]:
    """Light to dark with the epochs, by the looks of as many depths."""
    known = style.depth_shades((2, 5, 10, 12), color).values()
    return dict(zip(epochs, [*known][-len(epochs) :], strict=False))


# ------------------------------------------------------------------------------- the slopes


def learned_slopes(records: Published) -> pd.DataFrame:
    """The slopes of every PReLU after a cell's last epoch: one row per cell and layer.

    Columns: cell, initializer, depth, seed, number (1, 2, …), negative_slope.  Diverged cells are out.
    """
    layers = records.layers[records.layers["kind"] == "PReLU"]
    last = layers[layers["epoch"] == layers.groupby("cell")["epoch"].transform("max")].copy()
    last["number"] = last.groupby("cell", sort=False).cumcount() + 1
    cells = records.cells[records.cells["status"] == "completed"]
    known = cells[["cell", "initializer", "depth", "seed"]]
    table = last[["cell", "number", "negative_slope"]].merge(known, on="cell")
    return table[["cell", "initializer", "depth", "seed", "number", "negative_slope"]]


def slopes_figure(records: Published) -> Figure:
    """The paper's learned slopes by layer, and beside it those of each initializer, a line per depth.

    ``records`` holds cells of one protocol.
    """
    table = learned_slopes(records)
    initializers = list(dict.fromkeys(table["initializer"]))
    colors = {name: look.color for name, look in style.initializer_looks(initializers).items()}
    with style.styled():
        figure = Figure(figsize=(style.PAGE_WIDTH, 3.5), layout="constrained")
        grid = figure.subplots(1, 1 + len(initializers), sharey=True, sharex=True, squeeze=False)[0]
        narrow = "\n" if len(initializers) > 2 else " "
        _paper_slopes(grid[0], narrow)
        for axes, initializer in zip(grid[1:], initializers, strict=True):
            rows = table[table["initializer"] == initializer]
            looks = style.depth_shades({int(depth) for depth in rows["depth"]}, colors[initializer])
            for depth, look in looks.items():
                of_depth = rows[rows["depth"] == depth]
                over_seeds(axes, of_depth, "number", "negative_slope", look, err_style="bars",
                           markersize=4, label=f"{depth} layers")  # fmt: skip
            axes.set_title(f"practice:{narrow}{name_of(initializer)}")
            axes.legend(loc="best")
        for axes in grid:
            axes.axhline(_start(), color="black", linewidth=0.8, linestyle=":")
            axes.set_xlabel("layer")
            whole_epochs(axes)
        grid[0].set_ylabel("learned negative slope $a$")
    return figure


def _paper_slopes(axes: Axes, space: str) -> None:
    numbers = range(1, len(LEARNED_SLOPES) + 1)
    for column, label, dash, marker in (
        (1, "one per layer", "-", "o"),
        (2, "channels' mean", "--", "s"),
    ):
        values = [float(row[column]) for row in LEARNED_SLOPES]
        axes.plot(numbers, values, color=GREY, linestyle=dash, marker=marker, markersize=4, label=label)
    axes.annotate("start", (len(LEARNED_SLOPES), _start()), xytext=(0, 2), ha="right",
                  textcoords="offset points", fontsize=7)  # fmt: skip
    axes.set_title(f"paper: He et al. 2015,{space}{len(LEARNED_SLOPES) + 1} layers")
    axes.legend(loc="best")


def _start() -> float:
    """The slope that a PReLU starts with."""
    slope = parse_activation("prelu").negative_slope
    assert slope is not None
    return slope
