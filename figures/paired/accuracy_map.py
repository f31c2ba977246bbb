"""Initializer × depth: what theory says of a cell before training, and the accuracy that it reaches.

Beside each name its *relative step*: a weight followed by batch norm has no scale of its own, and what
moves the network is its step beside its size, η/σ under Adam for σ = √Var[w]
(``theory.law.batch_norm``).
"""

from __future__ import annotations

import math
import textwrap
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from empirical.arm import Arm
from empirical.judgment.statistics import EQUIVALENT, INSUFFICIENT, MINIMUM_SEEDS, TOO_CLOSE, compare
from empirical.protocol import TrainSpec
from empirical.records.published import Published, spec_of
from figures import style
from figures.paired.curves import GREY
from figures.paired.first_loss import LOSSES, normed
from figures.paired.paired import Paired, alone, told
from figures.prose import name_of, notes
from theory.errors import RequestError
from theory.law.batch_norm import effective_learning_rate, equivalent_learning_rate

REFERENCE = Arm("he")
SINGLE = "¹"
MAPS = {  # quantity of a cell: its name, its colors
    "initial_loss_predicted": ("predicted first loss (nats): better →", "cividis_r"),
    "final_test_accuracy": ("final test accuracy (percent): better →", "cividis"),
}
MARKS = {"first higher": "▼", "second higher": "▲", EQUIVALENT: "=", TOO_CLOSE: "~", INSUFFICIENT: "°"}
WORDS: dict[str, Any] = {
    "marks": MARKS,
    "single": SINGLE,
    "words": (EQUIVALENT, TOO_CLOSE, INSUFFICIENT),
}


def cell_table(records: Published) -> pd.DataFrame:
    """The cells, with relative_step: predicted, of a convolution that a batch norm follows.

    NaN where there is none, and under another optimizer than Adam.
    """
    cells = records.cells
    steps = [relative_step(spec_of(row)) for row in cells.to_dict("records")]
    return cells.assign(relative_step=steps)


def relative_step(spec: TrainSpec) -> float:
    """η/σ of the convolutions F → F that a batch norm follows, under Adam; else NaN."""
    if spec.norm != "batch" or spec.optimizer != "adam" or spec.depth < 2:
        return math.nan
    rate = equivalent_learning_rate(spec.learning_rate, spec.relative_scale(1))
    return effective_learning_rate(rate, spec.weight_law.std_of(spec.filter_shape(1), spec.gain_slope))


def accuracy_map(records: Published) -> Figure:
    """Arm × depth: the predicted first loss on the left, final accuracy on the right.

    Both scales run from bad to good, dark to bright, so that of the loss runs downward.

    ``records`` holds cells of one size with batch norm, with the column ``arm``.  Marks say how an arm
    compares with He as printed at that depth, paired by seed (``judgment.statistics.compare``).
    """
    table = cell_table(records)
    parts = [(name, table[table["activation"] == name]) for name in ("relu", "prelu")]
    parts = [(name, part) for name, part in parts if not part.empty]
    rows = [part["arm"].nunique() for _, part in parts]
    maps = {name: [_by_arm(part, name, table["depth"]) for _, part in parts] for name in MAPS}
    norms = {name: _norm(name, found) for name, found in maps.items()}
    with style.canvas(1.2 + 0.3 * len(rows) + 0.34 * sum(rows)) as figure:
        grid = figure.subplots(len(parts), 2, squeeze=False, height_ratios=rows)
        for place, (row, (name, part)) in enumerate(zip(grid, parts, strict=True)):
            for axes, quantity, title in zip(row, MAPS, ("theory", "practice"), strict=True):
                found = maps[quantity][place]
                marks = comparison_marks(records.study, name) if quantity not in LOSSES else None
                seaborn.heatmap(
                    found["mean"], cmap=MAPS[quantity][1], norm=norms[quantity], ax=axes, cbar=False,
                    linewidths=0.5, annot=_written(found, marks), fmt="", annot_kws={"fontsize": 7},
                )  # fmt: skip
                axes.set_title(f"{title}, {name_of(name)}")
                axes.set(xlabel="layers", ylabel="", facecolor="#EEEEEE")  # grey: not recorded
                axes.grid(visible=False)
                axes.tick_params(length=0, labelsize=7)
            row[0].set_yticklabels(_row_names(part), rotation=0)
            row[1].set_yticks([])
        for column, (quantity, (label, colors)) in zip(grid.T, MAPS.items(), strict=True):
            bars = figure.colorbar(
                ScalarMappable(norms[quantity], colors), ax=list(column), location="bottom",
                label=label, aspect=40,
            )  # fmt: skip
            bars.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            if quantity in LOSSES:
                bars.ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                bars.ax.minorticks_off()
                bars.ax.invert_xaxis()  # low is good
        if key := _mark_key(records.study):
            figure.supxlabel(key, x=0.01, ha="left", fontsize=7, color=GREY)
    return figure


def comparison_marks(study: pd.DataFrame, activation: str) -> dict[tuple[Arm, int], str]:
    """(arm, depth) -> a mark of ``MARKS``, or ``SINGLE``: each arm against He as printed.

    Holm's correction is over the depths of an arm.
    """
    rows = study[study["activation"] == activation]
    columns = ["cell", "epoch", "seed", "status", "activation", "depth", "test_accuracy"]
    named = rows[columns].assign(initializer=rows["arm"])
    found: dict[tuple[Arm, int], str] = {}
    for arm in dict.fromkeys(named["initializer"]):
        if arm == REFERENCE:
            continue
        try:
            compared = compare(named, "initializer", REFERENCE, arm)
        except RequestError:  # no depth at which both were run
            continue
        marks = compared["verdict"].map(MARKS).where(compared["seeds"] > 1, SINGLE)
        found |= {(arm, depth): mark for depth, mark in zip(compared["depth"], marks, strict=True)}
    return found


def _by_arm(part: pd.DataFrame, quantity: str, depths: pd.Series) -> pd.DataFrame:
    """mean and std of each arm and depth, over the seeds that completed; NaN where there is none."""
    values = part[quantity]
    if quantity not in LOSSES:
        values = values.where(part["status"] == "completed")
    found: Any = values.groupby([part["arm"], part["depth"]]).agg(["mean", "std"]).unstack()
    columns = pd.MultiIndex.from_product([["mean", "std"], sorted(set(depths))])
    table: pd.DataFrame = found.reindex(
        pd.Index(style.ordered_arms(part["arm"]), dtype=object), columns=columns
    )
    return table


def _norm(quantity: str, found: list[pd.DataFrame]) -> Normalize:
    """The scale of a map, from the least mean to the greatest; of a loss, a logarithmic one."""
    means = np.concatenate([one["mean"].to_numpy().ravel() for one in found])
    known = means[np.isfinite(means)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    if quantity in LOSSES:
        return LogNorm(low, max(high, low * 1.001))
    return Normalize(low, max(high, low + 1e-9))


def _written(found: Any, marks: dict[tuple[Arm, int], str] | None) -> Any:
    """What stands in each field: a loss; or the mean accuracy, its spread in points, and the mark."""
    if marks is None:
        return found["mean"].map("{:.3g}".format)
    signs = [[marks.get((arm, depth), "") for depth in found["mean"]] for arm in found.index]
    spread = found["std"].map(lambda std: f"±{std:.1f}" if math.isfinite(std) else "")
    return found["mean"].map("{:.1f}".format) + spread + np.array(signs, dtype=object)


def _row_names(part: pd.DataFrame) -> list[str]:
    """Each arm and its relative step, in two lines at most."""
    steps: dict[Any, float] = part.groupby("arm")["relative_step"].max().to_dict()
    return [
        textwrap.fill(f"{name_of(arm)}, step\u00a0{100 * steps[arm]:.2g}\u00a0%", 28)
        for arm in style.ordered_arms(part["arm"])
    ]


def _mark_key(study: pd.DataFrame) -> str:
    """What the marks mean, of those that can occur."""
    seeds = study.groupby(["arm", "activation", "depth"])["seed"].nunique()
    words = notes("mark_key", **WORDS, seeds=seeds, enough=MINIMUM_SEEDS, few=INSUFFICIENT)
    return f"Against He at that depth: {', '.join(words)}." if words else ""


FIGURES = {
    "accuracy-map": Paired(
        "Initializer × depth: predicted first loss beside final accuracy, with significance",
        "report",
        alone(accuracy_map),
        told("accuracy_map", lambda _: WORDS),
        chosen=normed,
        place=80,
    )
}
