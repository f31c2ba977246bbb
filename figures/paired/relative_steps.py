"""N(0, 1) given He's last layer, then He's relative steps too, beside He.

A scale-free weight of standard deviation σ that learns at the rate η under Adam moves like one of
standard deviation 1 at η/σ.  N(0, 1) with He's last layer and He's relative steps is, in exact
arithmetic and with vanishing epsilons, the same network as He's, step by step.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from empirical.arm import Arm
from empirical.protocol import CLASSES, TrainSpec
from empirical.records.published import Published, spec_of
from figures import style
from figures.paired import curves
from figures.paired.answer import handicap
from figures.paired.paired import Paired, alone, of_arms, told
from figures.prose import name_of
from theory.activations import parse_activation
from theory.law.batch_norm import effective_learning_rate, equivalent_learning_rate

HEAD = "head"


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
        keys = [*curves.arm_keys(looks), *curves.spread_keys(study)]
        figure.legend(handles=keys, loc="outside upper center", ncols=3)
    return figure


# The first arm is drawn broad, so that one that coincides with it leaves both to be seen.
BROAD, USUAL = {"markersize": 5.5, "linewidth": 3.0}, {"markersize": 3.5, "linewidth": 1.4}


def _steps_by_layer(axes: Axes, steps: pd.DataFrame, looks: curves.Looks) -> None:
    for place, (arm, look) in enumerate(looks.items()):
        by_layer = steps[steps["arm"] == arm].groupby("number")[["predicted", "measured"]].mean()
        logs = by_layer.map(math.log10)
        axes.plot(logs["predicted"], **look.line, linewidth=(USUAL if place else BROAD)["linewidth"])
        beside = 0.012 * steps["number"].max() * (place - (len(looks) - 1) / 2)  # arms that coincide
        axes.plot(logs.index + beside, logs["measured"], **look.points, markersize=4)
    if not steps.empty:
        curves.layer_axis(axes, int(steps["number"].max()))


def _arms_against_epoch(axes: Axes, study: pd.DataFrame, quantity: str, looks: curves.Looks) -> None:
    for place, (arm, look) in enumerate(looks.items()):
        rows = study[study["arm"] == arm]
        curves.draw_curve(axes, rows, quantity, look, **(USUAL if place else BROAD))
    curves.whole_epochs(axes)


def _distances(records: Published) -> dict[str, Any]:
    """How far the losses of each arm are from He's, and what holds N(0, 1) back."""
    study, he = records.study[records.study["epoch"] > 0], Arm("he")
    losses = study.pivot_table(index=["depth", "seed", "epoch"], columns="arm", values="train_loss")
    found = []
    if he in losses:
        gaps = of_arms(losses.drop(columns=he).sub(losses[he], axis=0).abs().max())
        found = [(name_of(arm), gap) for arm, gap in gaps.items()]
    return {"handicap": handicap(records), "found": found}


FIGURES = {
    "relative-steps": Paired(
        "N(0, 1) given He's last layer, then He's relative steps too, beside He: step, loss, accuracy",
        "effective-lr",
        alone(relative_step_figure),
        told("relative_step", _distances),
        "relu",
        place=60,
    )
}
