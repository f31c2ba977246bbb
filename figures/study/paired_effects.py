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

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from empirical.arm import Arm
from empirical.protocol import CLASSES, TrainSpec, published_accuracy
from empirical.records.published import Published, spec_of
from figures import style
from figures.study.report_figures import draw_curve, layer_axis, name_of, over_seeds, whole_epochs
from theory.activations import parse_activation
from theory.law.learning_rate import effective_learning_rate, equivalent_learning_rate
from theory.lessons.paper import LEARNED_SLOPES

GREY = "#555555"
HEAD = "head"

# ------------------------------------------------------------------------------- the last layer


def last_layer_figure(records: Published, activation: str, note: str = "") -> Figure:
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
        _losses_by_depth(left, cells, looks)
        _accuracies_by_depth(right, cells, looks)
        for axes in (left, right):
            axes.set_xlabel("layers")
            axes.set_xticks(depths)
        _curves_by_depth(lower, study, depths, looks)
        entries = _arm_keys(looks, as_printed=True)
        entries.append(
            style.legend_key("course report (one run)", color="black", marker="*", linestyle=":")
        )
        figure.legend(handles=entries, loc="outside upper center", ncols=4)
        style.add_note(figure, note)
    return figure


def _losses_by_depth(axes: Axes, cells: pd.DataFrame, looks: dict[Arm, style.Look]) -> None:
    for arm, rows in cells.groupby("arm", sort=False):
        look = looks[cast(Arm, arm)]
        by_depth = rows.groupby("depth")
        predicted = by_depth["initial_loss_predicted"].mean().dropna().map(math.log10)
        measured = by_depth["initial_loss"].mean().dropna().map(math.log10)
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


def _accuracies_by_depth(axes: Axes, cells: pd.DataFrame, looks: dict[Arm, style.Look]) -> None:
    completed = cells[cells["status"] == "completed"]
    for arm, rows in completed.groupby("arm", sort=False):
        look = looks[cast(Arm, arm)]
        over_seeds(axes, rows, "depth", "final_test_accuracy", look, err_style="bars", markersize=5)
    printed = _printed(cells)
    axes.plot(list(printed), list(printed.values()), "*", color="black", linestyle=":", markersize=6)
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


def relative_step_figure(records: Published, note: str = "") -> Figure:
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
        figure.legend(handles=_arm_keys(looks), loc="outside upper center", ncols=2)
        style.add_note(figure, note)
    return figure


def _steps_by_layer(axes: Axes, steps: pd.DataFrame, looks: dict[Arm, style.Look]) -> None:
    for arm, look in looks.items():
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
        axes.plot(
            measured.index,
            measured,
            look.marker,
            color=look.color,
            markerfacecolor="white",
            markersize=7.5 if below else 4,
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


def slopes_figure(records: Published, note: str = "") -> Figure:
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
        style.add_note(figure, note)
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
