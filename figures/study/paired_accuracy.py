"""Every cell at once: what theory says before training, and what came of it.

Two numbers follow from the law of the weights alone.  The *initial loss*: cross-entropy at Gaussian
logits of the predicted second moment (``theory.law.cross_entropy``).  The *relative step*: a weight
followed by batch norm has no scale of its own, and what moves the network is its step beside its size,
η/σ under Adam for σ = √Var[w] (``theory.law.batch_norm``).
"""

from __future__ import annotations

import math
import textwrap
from typing import Any, cast

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from numpy.typing import NDArray

from empirical.arm import Arm
from empirical.judgment.statistics import (
    EQUIVALENT,
    INSUFFICIENT,
    MINIMUM_SEEDS,
    TOO_CLOSE,
    compare,
)
from empirical.protocol import CLASSES, TrainSpec
from empirical.records.published import Published, spec_of
from figures import style
from figures.study.report_figures import guessing_key, name_of
from theory.errors import RequestError
from theory.law.learning_rate import effective_learning_rate, equivalent_learning_rate

Array = NDArray[np.float64]
REFERENCE = Arm("he")
GREY = "#555555"
SINGLE = "¹"
LOSSES = ("initial_loss_predicted", "initial_loss")
MAPS = {  # quantity of a cell: its name, its colors
    "initial_loss_predicted": ("predicted initial loss (nats): better →", "cividis_r"),
    "final_test_accuracy": ("final test accuracy (percent): better →", "cividis"),
}
MARKS = {"first higher": "▼", "second higher": "▲", EQUIVALENT: "=", TOO_CLOSE: "~", INSUFFICIENT: "°"}


def cell_table(records: Published) -> pd.DataFrame:
    """What theory says of each cell, and what came of it: one row per cell.

    Columns: cell, arm, initializer, activation, depth, seed, norm, status; initial_loss and
    initial_loss_predicted (nats per image); relative_step, predicted, of a convolution that a batch
    norm follows (NaN where there is none, and under another optimizer than Adam); final_test_accuracy
    (percent).
    """
    cells = records.cells.copy()
    specs = [spec_of(row) for row in cells.to_dict("records")]
    cells["relative_step"] = [relative_step(spec) for spec in specs]
    names = ["cell", "arm", "initializer", "activation", "depth", "seed", "norm", "status"]
    values = ["initial_loss", "initial_loss_predicted", "relative_step"]
    return cells[[*names, *values, "final_test_accuracy"]]


def relative_step(spec: TrainSpec) -> float:
    """η/σ of the convolutions F → F that a batch norm follows, under Adam; else NaN."""
    if spec.norm != "batch" or spec.optimizer != "adam" or spec.depth < 2:
        return math.nan
    rate = equivalent_learning_rate(spec.learning_rate, spec.relative_scale(1))
    return effective_learning_rate(rate, spec.weight_law.std_of(spec.filter_shape(1), spec.gain_slope))


# ------------------------------------------------------------------------------- scatter


def initial_loss_figure(table: pd.DataFrame, same_size: pd.DataFrame) -> Figure:
    """Predicted initial loss against measured over all cells of ``table``, and against the outcome.

    ``same_size`` are the cells whose final accuracies can be compared; both as from ``cell_table``.
    The panels cover the cells with batch norm; where others lie outside, an inset shows all.
    """
    names = list(LOSSES)
    known = with_first_losses(table)
    logs = known[names].map(math.log10)
    low, high = _panel(known)
    with style.styled():
        figure, (left, right) = _two_panels()
        _points(left, known, logs[names[0]], logs[names[1]])
        left.plot([low, high], [low, high], color="black", linewidth=0.8, zorder=1)
        left.set(xlim=(low, high), ylim=(low, high))
        left.set_title("theory: predicted and measured")
        left.set_ylabel("measured initial loss (nats)")
        if exceeds_the_panel(table):
            _whole_range(left, known, logs)
        done = same_size[same_size[names[0]].notna() & (same_size["status"] == "completed")]
        _points(right, done, np.log10(done[names[0]]), done["final_test_accuracy"])
        right.set_xlim(low, high)
        _accuracy_axis(right)
        for axes in (left, right):
            axes.set_xlabel("predicted initial loss (nats)")
            style.power_of_ten_axis(axes, "x")
            axes.axvline(math.log10(math.log(CLASSES)), **style.DOTTED)
        style.power_of_ten_axis(left)
        keys = [
            *_point_legend(table),
            style.legend_key("equal", color="black", linewidth=0.8),
            guessing_key("guessing"),
        ]
        figure.legend(handles=keys, loc="outside upper center", ncols=6)
    return figure


def with_first_losses(table: pd.DataFrame) -> pd.DataFrame:
    """The cells of ``table`` whose first loss is finite, both predicted and measured."""
    return table[table[list(LOSSES)].notna().all(axis=1)]


def exceeds_the_panel(table: pd.DataFrame) -> bool:
    """Whether first losses lie outside of those with batch norm, so that an inset shows all."""
    known = with_first_losses(table)
    logs = known[list(LOSSES)].map(math.log10)
    low, high = _panel(known)
    return bool(logs.max().max() > high or logs.min().min() < low)


def _panel(known: pd.DataFrame) -> tuple[float, float]:
    """The decades that the panels cover: those of the cells with batch norm, if there are any."""
    logs = known[list(LOSSES)].map(math.log10)
    normed = (known["norm"] == "batch").to_numpy()
    covered = logs[normed] if normed.any() else logs
    return covered.min().min() - 0.1, covered.max().max() + 0.1


def _whole_range(axes: Axes, table: pd.DataFrame, logs: pd.DataFrame) -> None:
    """A small panel in the upper left corner, where no point is, with all cells."""
    inset = style.inset(axes, (0.13, 0.6, 0.36, 0.36), "all cells")
    _points(inset, table, logs.iloc[:, 0], logs.iloc[:, 1], size=2.5)
    low, high = logs.min().min() - 0.5, logs.max().max() + 0.5
    inset.plot([low, high], [low, high], color="black", linewidth=0.6, zorder=1)
    inset.set(xlim=(low, high), ylim=(low, high))
    for which in ("x", "y"):
        style.power_of_ten_axis(inset, which)
    for axis in (inset.xaxis, inset.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10], integer=True))


def _two_panels() -> tuple[Figure, tuple[Axes, Axes]]:
    figure = Figure(figsize=(style.PAGE_WIDTH, 3.7), layout="constrained")
    left, right = figure.subplots(1, 2)
    return figure, (left, right)


def _points(axes: Axes, table: pd.DataFrame, x: pd.Series, y: pd.Series, *, size: float = 5) -> None:
    """Color: initializer; marker: depth; ReLU full, PReLU open."""
    colors = style.initializer_looks(dict.fromkeys(table["initializer"]))
    markers = style.depth_shades((int(depth) for depth in table["depth"]), style.BLACK)
    for key, group in table.groupby(["initializer", "depth", "activation"], sort=False):
        color, marker = colors[str(key[0])].color, markers[int(str(key[1]))].marker
        axes.plot(
            x[group.index],
            y[group.index],
            marker,
            color=color,
            markerfacecolor=color if key[2] == "relu" else "white",
            markersize=size,
            alpha=0.9,
        )


def _point_legend(table: pd.DataFrame) -> list[Line2D | Patch]:
    initializers = style.initializer_looks(dict.fromkeys(table["initializer"]))
    depths = style.depth_shades({int(depth) for depth in table["depth"]}, style.BLACK)
    markers = [(f"{depth} layers", look.marker, GREY) for depth, look in depths.items()]
    present = set(table["activation"])
    if len(present) > 1:
        faces = {name: GREY if name == "relu" else "white" for name in sorted(present, reverse=True)}
        markers += [(name_of(name), "o", face) for name, face in faces.items()]
    return [
        *(Patch(color=look.color, label=name_of(name)) for name, look in initializers.items()),
        *(
            style.legend_key(label, color=GREY, marker=marker, markerfacecolor=face, linestyle="none")
            for label, marker, face in markers
        ),
    ]


def _accuracy_axis(axes: Axes) -> None:
    axes.set_title("practice: final accuracy")
    axes.set_ylabel("final test accuracy (percent)")
    axes.axhline(100 / CLASSES, **style.DOTTED)


# ------------------------------------------------------------------------------- heat map


def accuracy_map(records: Published) -> Figure:
    """Arm × depth: the predicted initial loss on the left, final accuracy on the right.

    Both scales run from bad to good, dark to bright, so that of the loss runs downward.

    ``records`` holds cells of one size with batch norm, with the column ``arm``.  Marks say how an arm
    compares with He as printed at that depth, paired by seed (``judgment.statistics.compare``).
    """
    table = cell_table(records)
    depths = sorted({int(depth) for depth in table["depth"]})
    parts = {name: table[table["activation"] == name] for name in ("relu", "prelu")}
    parts = {name: part for name, part in parts.items() if not part.empty}
    arms = {name: style.ordered_arms(part["arm"]) for name, part in parts.items()}
    rows = [len(found) for found in arms.values()]
    with style.styled():
        figure = Figure(
            figsize=(style.PAGE_WIDTH, 1.2 + 0.3 * len(rows) + 0.34 * sum(rows)), layout="constrained"
        )
        grid = figure.subplots(len(parts), 2, squeeze=False, height_ratios=rows)
        for column, (quantity, (label, colors)) in enumerate(MAPS.items()):
            values = {name: _grid(part, arms[name], depths, quantity) for name, part in parts.items()}
            norm = _norm(quantity, [found["mean"] for found in values.values()])
            for axes, (name, found) in zip(grid[:, column], values.items(), strict=True):
                marks = comparison_marks(records.study, name) if column else {}
                seaborn.heatmap(
                    found["mean"], cmap=colors, norm=norm, ax=axes, cbar=False, linewidths=0.5,
                    annot=_written(found, marks, "{:.1f}" if column else "{:.3g}"), fmt="",
                    annot_kws={"fontsize": 7},
                )  # fmt: skip
                axes.set_title(f"{('theory', 'practice')[column]}, {name_of(name)}")
                axes.set(xlabel="layers", ylabel="", facecolor="#EEEEEE")  # grey: not recorded
                axes.grid(visible=False)
                axes.set_yticks([] if column else axes.get_yticks())
                if not column:
                    axes.set_yticklabels(_row_names(parts[name], arms[name]), rotation=0)
                axes.tick_params(length=0, labelsize=7)
            bars = figure.colorbar(
                ScalarMappable(norm, colors),
                ax=list(grid[:, column]),
                location="bottom",
                label=label,
                aspect=40,
            )
            bars.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            if isinstance(norm, LogNorm):
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
        for row in compared.to_dict("records"):
            mark = SINGLE if row["seeds"] == 1 else MARKS[row["verdict"]]
            found[arm, int(row["depth"])] = mark
    return found


def _grid(
    part: pd.DataFrame, arms: list[Arm], depths: list[int], quantity: str
) -> dict[str, pd.DataFrame]:
    """mean and std, (arms, depths), over the seeds that completed; NaN where there is none."""
    if quantity == "final_test_accuracy":
        part = part[part["status"] == "completed"]
    found = part.groupby(["arm", "depth"])[quantity].agg(["mean", "std"])
    return {
        name: found[name].unstack().reindex(index=pd.Index(arms, dtype=object), columns=depths)
        for name in ("mean", "std")
    }


def _norm(quantity: str, values: list[pd.DataFrame]) -> Normalize:
    everything = np.concatenate([found.to_numpy().ravel() for found in values])
    known = everything[np.isfinite(everything)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    high = max(high, low + 1e-9)
    if quantity == "final_test_accuracy":
        return Normalize(low, high)
    return LogNorm(low, max(high, low * 1.001))


def _written(
    found: dict[str, pd.DataFrame], marks: dict[tuple[Arm, int], str], form: str
) -> pd.DataFrame:
    """What stands in each field: the mean, the spread of several seeds in points, and the mark."""
    texts: pd.DataFrame = found["mean"].map(form.format)
    if marks:
        spread = found["std"].map(lambda std: f"±{std:.1f}" if math.isfinite(std) else "")
        signs = [[marks.get((arm, cast(int, depth)), "") for depth in texts] for arm in texts.index]
        texts = texts + spread + np.array(signs, dtype=object)
    return texts


def _row_names(part: pd.DataFrame, arms: list[Arm]) -> list[str]:
    """Each arm, and under it its relative step."""
    steps: dict[Any, float] = part.groupby("arm")["relative_step"].max().to_dict()
    return [
        "\n".join([*textwrap.wrap(name_of(arm), 26), f"step {100 * steps[arm]:.2g} %"]) for arm in arms
    ]


def _mark_key(study: pd.DataFrame) -> str:
    """What the marks mean, of those that can occur."""
    seeds = study.groupby(["arm", "activation", "depth"])["seed"].nunique()
    words = []
    if (seeds == 1).any():
        words.append(f"{SINGLE} single run")
    if (seeds > 1).any():
        words.append(f"{MARKS[INSUFFICIENT]} {INSUFFICIENT}")
    if (seeds >= MINIMUM_SEEDS).any():
        words += [f"{MARKS['first higher']} below He", f"{MARKS['second higher']} above He"]
        words += [f"{MARKS[one]} {one}" for one in (EQUIVALENT, TOO_CLOSE)]
    return f"Against He at that depth: {', '.join(words)}." if words else ""
