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
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from empirical.arm import Arm
from empirical.protocol import CLASSES, TrainSpec
from empirical.records.published import Published, spec_of
from figures import style
from figures.prose import name_of
from figures.study import report_figures as curves
from theory.activations import parse_activation
from theory.law.batch_norm import effective_learning_rate, equivalent_learning_rate
from theory.lessons.paper import LEARNED_SLOPES

GREY = "#555555"
HEAD = "head"
Looks = dict[Arm, style.Look]

# ------------------------------------------------------------------------------- the last layer


def last_layer_figure(records: Published, activation: str) -> Figure:
    """Predicted and measured initial loss by depth, final accuracy beside the report's, and the curves.

    ``records`` holds the arms of the preset head, with the column ``arm``.
    """
    cells = records.cells[records.cells["activation"] == activation]
    study = records.study[records.study["activation"] == activation]
    depths = sorted({int(depth) for depth in cells["depth"]})
    looks, printed = style.arm_looks(cells["arm"]), curves.printed_accuracies("he", activation, depths)
    with style.canvas(5.2) as figure:
        upper, lower = figure.subfigures(2, 1, height_ratios=(1.15, 1), squeeze=False)[:, 0]
        left, right = upper.subplots(1, 2, squeeze=False)[0]
        _losses_by_depth(left, cells, depths, looks)
        _accuracies_by_depth(right, cells, depths, looks)
        right.plot(depths, pd.Series(printed).reindex(depths), "*:", color="black", markersize=6)
        for axes in (left, right):
            axes.set(xlabel="layers", xticks=depths)
        grid = lower.subplots(1, len(depths), sharey=True, squeeze=False)[0]
        for axes, depth in zip(grid, depths, strict=True):
            _curves_at_depth(axes, study[study["depth"] == depth], printed.get(depth), looks)
            axes.set(title=f"{depth} layers", xlabel="epoch")
        grid[0].set_ylabel("test accuracy (percent)")
        star = style.legend_key("course report (one run)", color="black", marker="*", linestyle=":")
        keys = [
            *_arm_keys(looks, " as printed"),
            star,
            curves.guessing_key(),
            *curves.spread_keys(study),
        ]
        figure.legend(handles=keys, loc="outside upper center", ncols=4)
    return figure


def _losses_by_depth(axes: Axes, cells: pd.DataFrame, depths: list[int], looks: Looks) -> None:
    for arm, rows in cells.groupby("arm", sort=False):
        look = looks[cast(Arm, arm)]
        # a line has a gap where a depth was not run
        losses = rows.groupby("depth")[["initial_loss_predicted", "initial_loss"]].mean()
        losses = losses.map(math.log10).reindex(depths)
        axes.plot(losses["initial_loss_predicted"], **look.line)
        axes.plot(losses["initial_loss"], **look.points, markersize=5)
    chance = math.log10(math.log(CLASSES))
    axes.axhline(chance, **style.DOTTED)
    axes.set_ylim(bottom=min(axes.get_ylim()[0], chance - 0.08))
    axes.set_title("theory: first loss, predicted (line)\nand measured (open marker)")
    axes.set_ylabel("initial loss (nats)")
    style.power_of_ten_axis(axes)


def _accuracies_by_depth(axes: Axes, cells: pd.DataFrame, depths: list[int], looks: Looks) -> None:
    completed = cells[cells["status"] == "completed"]
    for arm, rows in completed.groupby("arm", sort=False):
        look = looks[cast(Arm, arm)]
        seen = rows.groupby("depth")["final_test_accuracy"].agg(["mean", "min", "max"]).reindex(depths)
        axes.vlines(depths, seen["min"], seen["max"], color=look.color)
        axes.plot(seen["mean"], **look.curve)
    axes.set_title("practice: final test accuracy\n(percent)")


def _curves_at_depth(axes: Axes, study: pd.DataFrame, printed: float | None, looks: Looks) -> None:
    for arm, rows in study.groupby("arm", sort=False):
        curves.draw_curve(axes, rows, "test_accuracy", looks[cast(Arm, arm)], str(arm), size=3)
    if printed is not None:
        axes.axhline(printed, **style.DOTTED)
        axes.plot(study["epochs"].max(), printed, "*", color="black", markersize=6)
    curves.whole_epochs(axes)


# ------------------------------------------------------------------------------- the relative step


def relative_steps(records: Published) -> pd.DataFrame:
    """``weight_layers`` as drawn, with the relative step of each.

    predicted: η/σ from the layer's law and its own learning rate, measured: η/rms(W) of the drawn
    weight.  Under SGD η/σ².
    """
    specs = {str(row["cell"]): spec_of(row) for row in records.cells.to_dict("records")}
    layers = curves.weight_layers(records)
    drawn = layers[layers["epoch"] == 0].rename(columns={"effective_learning_rate": "measured"})
    predicted = [
        _predicted_step(specs[cell], layer)
        for cell, layer in zip(drawn["cell"], drawn["layer"], strict=True)
    ]
    return drawn.assign(predicted=predicted)


def _predicted_step(spec: TrainSpec, layer: str) -> float:
    """η/σ (SGD: η/σ²) of ``layer`` (conv01, …, head) by its law."""
    if layer == HEAD:
        shape: tuple[int, ...] = (CLASSES, spec.filters * spec.head_size**2)
        law, scale = spec.head_law, 1.0
    else:
        number = 0 if layer == "conv01" else 1
        shape, law = spec.filter_shape(number), spec.weight_law
        homogeneous = spec.depth > 1 and parse_activation(spec.activation).is_rectifier
        free = spec.norm == "batch" and (number or homogeneous)
        scale = spec.relative_scale(number) if free else 1.0
    rate = equivalent_learning_rate(spec.learning_rate, scale, spec.optimizer)
    return effective_learning_rate(rate, law.std_of(shape, spec.gain_slope), spec.optimizer)


def relative_step_figure(records: Published) -> Figure:
    """A row per depth, an arm per color and dash: relative step by layer, training loss, accuracy.

    ``records`` holds the arms of the preset effective-lr, with the column ``arm``.
    """
    study = records.study.assign(train_loss=records.study["train_loss"].map(math.log10))
    steps, depths = relative_steps(records), sorted({int(depth) for depth in study["depth"]})
    looks = style.arm_looks(study["arm"])
    by_layer = ["theory: relative step\n$\\eta/\\sigma$; as drawn (open)"]
    by_epoch = ["practice: training loss\n(nats)", "practice: test accuracy\n(percent)"]
    with curves.rows_by_depth(depths, by_layer, by_epoch) as (figure, grid):
        for row, depth in zip(grid, depths, strict=True):
            _steps_by_layer(row[0], steps[steps["depth"] == depth], looks)
            for axes, quantity in zip(row[1:], ("train_loss", "test_accuracy"), strict=True):
                _arms_against_epoch(axes, study[study["depth"] == depth], quantity, looks)
        style.power_of_ten_axis(grid[0, 0])
        style.power_of_ten_axis(grid[0, 1])
        keys = [*_arm_keys(looks), *curves.spread_keys(study)]
        figure.legend(handles=keys, loc="outside upper center", ncols=3)
    return figure


# The first arm is drawn broad, so that one that coincides with it leaves both to be seen.
BROAD, USUAL = {"size": 5.5, "width": 3.0}, {"size": 3.5, "width": 1.4}


def _steps_by_layer(axes: Axes, steps: pd.DataFrame, looks: Looks) -> None:
    for place, (arm, look) in enumerate(looks.items()):
        by_layer = steps[steps["arm"] == arm].groupby("number")[["predicted", "measured"]].mean()
        logs = by_layer.map(math.log10)
        axes.plot(logs["predicted"], **look.line, linewidth=(USUAL if place else BROAD)["width"])
        beside = 0.012 * steps["number"].max() * (place - (len(looks) - 1) / 2)  # arms that coincide
        axes.plot(logs.index + beside, logs["measured"], **look.points, markersize=4)
    if not steps.empty:
        curves.layer_axis(axes, int(steps["number"].max()))


def _arms_against_epoch(axes: Axes, study: pd.DataFrame, quantity: str, looks: Looks) -> None:
    for place, (arm, look) in enumerate(looks.items()):
        rows = study[study["arm"] == arm]
        curves.draw_curve(axes, rows, quantity, look, name_of(arm), **(USUAL if place else BROAD))
    curves.whole_epochs(axes)


def _arm_keys(looks: Looks, as_printed: str = "") -> list[Artist]:
    return [
        key for arm, look in looks.items()
        for key in curves.keys_of({arm: look}, as_printed * (not arm.changes))
    ]  # fmt: skip


# ------------------------------------------------------------------------------- the weights


def weight_change_figure(records: Published) -> Figure:
    """‖W − W₀‖/‖W₀‖ by weight layer: a row per initializer, a column per depth, a line per epoch.

    W₀ is the weight as drawn.  Epochs are some of those recorded, the first and the last among them.
    """
    layers = curves.weight_layers(records)
    layers = layers[layers["epoch"] > 0]
    layers = layers.assign(change=curves.log10(layers["relative_change"]))
    depths, last = sorted(set(layers["depth"])), int(layers["epoch"].max())
    epochs = sorted(set(layers["epoch"]) & {*style.thin(last, 4), last})
    looks = style.initializer_looks(layers["initializer"])
    with style.canvas(1.0 + 1.9 * len(looks)) as figure:
        grid = figure.subplots(len(looks), len(depths), sharex="col", sharey=True, squeeze=False)
        for row, (initializer, look) in zip(grid, looks.items(), strict=True):
            for axes, depth in zip(row, depths, strict=True):
                own = layers[(layers["initializer"] == initializer) & (layers["depth"] == depth)]
                for epoch, shade in _epoch_looks(epochs, look.color).items():
                    change = own[own["epoch"] == epoch].groupby("number")["change"].mean()
                    axes.plot(change, **shade.curve, markersize=3.5)
                curves.layer_axis(axes, depth + 1)
        style.power_of_ten_axis(grid[0, 0])
        style.label(
            grid,
            titles=[f"{depth} layers" for depth in depths],
            below="weight layer (h: linear)",
            left=[f"{name_of(law)}\n$\\|W-W_0\\|/\\|W_0\\|$" for law in looks],
        )
        shades = _epoch_looks(epochs, GREY).items()
        named = {f"after epoch {epoch}": shade for epoch, shade in shades}
        style.legend_below(figure, curves.keys_of(named))
    return figure


def _epoch_looks(epochs: list[int], color: str) -> dict[int, style.Look]:
    """Light to dark with the epochs, by the looks of as many depths."""
    known = style.depth_shades((2, 5, 10, 12), color).values()
    return dict(zip(epochs, [*known][-len(epochs) :], strict=False))


# ------------------------------------------------------------------------------- the slopes


def learned_slopes(records: Published) -> pd.DataFrame:
    """The slopes of every PReLU after a cell's last epoch: one row per cell and layer.

    ``number`` is 1, 2, …; beside it what is recorded of layer and cell.  Diverged cells are out.
    """
    last = curves.at_the_end(records.layers[records.layers["kind"] == "PReLU"])
    last = last.assign(number=last.groupby("cell", sort=False).cumcount() + 1)
    return last.merge(records.cells[records.cells["status"] == "completed"], on="cell")


def slopes_figure(records: Published) -> Figure:
    """The paper's learned slopes by layer, and beside it those of each initializer, a line per depth.

    ``records`` holds cells of one protocol.
    """
    table, start = learned_slopes(records), parse_activation("prelu").gain_slope
    looks = style.initializer_looks(table["initializer"])
    with style.canvas(3.5) as figure:
        grid = figure.subplots(1, 1 + len(looks), sharey=True, sharex=True, squeeze=False)[0]
        space = "\n" if len(looks) > 2 else " "
        _paper_slopes(grid[0], start)
        grid[0].set_title(f"paper: He et al. 2015,{space}{len(LEARNED_SLOPES) + 1} layers")
        for axes, (initializer, look) in zip(grid[1:], looks.items(), strict=True):
            rows = table[table["initializer"] == initializer]
            for depth, shade in style.depth_shades(map(int, rows["depth"]), look.color).items():
                curves.over_seeds(axes, rows[rows["depth"] == depth], "number", "negative_slope", shade,
                           err_style="bars", markersize=4, label=f"{depth} layers")  # fmt: skip
            axes.set_title(f"practice:{space}{name_of(initializer)}")
        for axes in grid:
            axes.legend(loc="best")
            axes.axhline(start, **style.DOTTED)
            axes.set_xlabel("layer")
            curves.whole_epochs(axes)
        grid[0].set_ylabel("learned negative slope $a$")
    return figure


def _paper_slopes(axes: Axes, start: float) -> None:
    numbers = range(1, len(LEARNED_SLOPES) + 1)
    _, *slopes = zip(*LEARNED_SLOPES, strict=True)
    for values, label, form in zip(
        slopes, ("one per layer", "channels' mean"), ("o-", "s--"), strict=True
    ):
        axes.plot(numbers, values, form, color=GREY, markersize=4, label=label)
    style.beside(axes, "start", (len(numbers), start), (0, 2), ha="right")
