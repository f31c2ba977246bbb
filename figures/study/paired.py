"""Theory beside practice: every paired figure, what it needs, how it is drawn and how it is read.

``ALL`` is their registry, in the order in which a report shows them, and ``REPORT`` that of the course
report's own eight.  A figure is drawn from whatever of its cells there is, and its caption says which
are missing; without any it is a *gap*, which names them and the command that makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from matplotlib.figure import Figure

from empirical.arm import Arm
from empirical.judgment.selection import arm, same_size, select, with_arms
from empirical.presets import preset
from empirical.protocol import TrainSpec
from empirical.records.published import Published
from figures.study import captions, protocol_agreement
from figures.study.captions import of_activation
from figures.study.paired_accuracy import (
    LOSSES,
    accuracy_map,
    cell_table,
    initial_loss_figure,
)
from figures.study.paired_effects import (
    last_layer_figure,
    relative_step_figure,
    slopes_figure,
    weight_change_figure,
)
from figures.study.paired_signal import answer_figure, signal_figure
from figures.study.report_figures import course_report_figures, loss_figure, name_of

Made = TypeVar("Made", Figure, str)


@dataclass(frozen=True)
class Paired:
    """One figure of theory beside practice.

    title    what it shows, in a line
    preset   the study whose cells it needs (``empirical.presets``)
    used     of everything published, the cells that it is drawn from
    draw     (those cells, everything published) -> figure
    read     (those cells, everything published) -> the caption
    wanted   which of the preset's cells it needs
    """

    title: str
    preset: str
    used: Callable[[Published], Published]
    draw: Callable[[Published, Published], Figure]
    read: Callable[[Published, Published], str]
    wanted: Callable[[TrainSpec], bool] = lambda cell: True

    def missing(self, published: Published) -> tuple[TrainSpec, ...]:
        """The configurations that it needs and that are not there, at seed 0."""
        return tuple(filter(self.wanted, select(published, self.preset).missing))

    def command(self, published: Published) -> str:
        """The command that makes the missing ones, without where they go."""
        return select(published, self.preset).command

    def figure(self, published: Published) -> Figure | None:
        """The figure; None if there is nothing to draw."""
        records = self.used(published)
        return None if records.cells.empty else self.draw(records, published)

    def caption(self, published: Published) -> str:
        """How to read it, what its data say, and what it lacks; empty if there is nothing to draw."""
        records = self.used(published)
        if records.cells.empty:
            return ""
        lacks = describe(self.missing(published), self.preset)
        return self.read(records, published) + (f" No records: {lacks}." if lacks else "")


def describe(cells: Iterable[TrainSpec], preset_name: str) -> str:
    """Configurations of a preset in words, depths together; arms are named where it compares some.

    >>> describe([TrainSpec(depth=10), TrainSpec(depth=12), TrainSpec(initializer="normal")], "report")
    'He · ReLU 10, 12 layers; N(0, 1) · ReLU 2 layers'
    """
    compares = "arms" in preset(preset_name).fields
    depths: dict[tuple[Arm | str, str], list[int]] = {}
    for cell in cells:
        named = arm(cell) if compares else cell.initializer
        depths.setdefault((named, cell.activation), []).append(cell.depth)
    return "; ".join(
        f"{name_of(named)} · {name_of(activation)} {', '.join(map(str, dict.fromkeys(found)))} layers"
        for (named, activation), found in depths.items()
    )


# ------------------------------------------------------------------------------- which cells


def _of(preset: str, activation: str, published: Published) -> Published:
    """The cells of a preset's protocols, whatever their initializer and depth."""
    return of_activation(select(published, preset).records, activation)


def _own(preset: str, activation: str, published: Published) -> Published:
    """The cells that a preset asks for."""
    return of_activation(select(published, preset).own, activation)


CONDITIONS = {"xavier": "batch norm", "no-norm": "no batch norm", "he2015": "no batch norm"}


def _conditions(published: Published) -> dict[str, Published]:
    """Of each of ``CONDITIONS``, presets, the deepest ReLU networks that all of its laws have."""
    found: dict[str, Published] = {}
    for preset_name, words in CONDITIONS.items():
        part = _of(preset_name, "relu", published)
        laws = part.cells.groupby("depth")["initializer"].nunique()
        if not laws.empty:
            depth = max(laws.index[laws == laws.max()])
            deepest = part.cells.loc[part.cells["depth"] == depth, "cell"]
            found[f"{words}, {depth} layers"] = part.of(deepest)
    return found


def _answer_cells(published: Published) -> Published:
    names = [cell for part in _conditions(published).values() for cell in part.cells["cell"]]
    return with_arms(published.of(names))


def _normed(published: Published) -> Published:
    """The cells with batch norm and Adam, of the size of the report's cells."""
    same = same_size(published, select(published, "report").size)
    cells = same.cells[(same.cells["norm"] == "batch") & (same.cells["optimizer"] == "adam")]
    return same.of(cells.loc[cells["depth"] > 1, "cell"])


def _with_first_losses(published: Published) -> Published:
    """The cells whose first loss is finite, predicted and measured; also those without batch norm."""
    cells = published.cells
    there = cells[list(LOSSES)].notna().all(axis=1)
    return with_arms(published.of(cells.loc[there, "cell"]))


def _alone(make: Callable[[Published], Made]) -> Callable[[Published, Published], Made]:
    """What is made of a figure's own cells, whatever else is published."""
    return lambda records, _: make(records)


def _signal(preset: str, activation: str, practice: str, title: str) -> Paired:
    return Paired(
        title,
        preset,
        partial(_of, preset, activation),
        lambda records, _: signal_figure(records, activation, practice),
        lambda records, _: captions.signal(records, activation, practice),
        lambda cell: cell.activation == activation,
    )


def _last_layer(activation: str) -> Paired:
    return Paired(
        f"What the last linear layer's fan does: first loss, accuracy, the printed numbers; "
        f"{name_of(activation)}",
        "head",
        partial(_own, "head", activation),
        lambda records, _: last_layer_figure(records, activation),
        lambda records, _: captions.last_layer(records, activation),
        lambda cell: cell.activation == activation,
    )


_AS_DRAWN = "Signal and gradient by layer, predicted and measured, beside the learning curves"

ALL: dict[str, Paired] = {
    "answer": Paired(
        "Should He be the default? Predicted signal and test accuracy, with and without batch norm",
        "no-norm",  # whose cells it cannot do without
        _answer_cells,
        lambda records, _: answer_figure(_conditions(records)),
        lambda records, published: captions.answer(_conditions(records), published),
        lambda cell: cell.activation == "relu" and cell.depth == 12,
    ),
    "signal-relu": _signal("report", "relu", "test_accuracy", f"{_AS_DRAWN}; ReLU, as printed"),
    "signal-prelu": _signal("report", "prelu", "test_accuracy", f"{_AS_DRAWN}; PReLU, as printed"),
    "signal-no-norm-relu": _signal(
        "no-norm", "relu", "test_accuracy", f"{_AS_DRAWN}; ReLU, no batch norm"
    ),
    "signal-no-norm-prelu": _signal(
        "no-norm", "prelu", "test_accuracy", f"{_AS_DRAWN}; PReLU, no batch norm"
    ),
    "stall": Paired(
        "He and Xavier in plain nets of 22 and 30 layers: signal, gradient, training loss",
        "he2015",
        partial(_own, "he2015", "relu"),
        lambda records, _: signal_figure(records, "relu", "train_loss"),
        _alone(captions.stall),
    ),
    "initial-loss": Paired(
        "First loss, predicted against measured, and against the final accuracy; all cells",
        "report",
        _with_first_losses,
        lambda records, _: initial_loss_figure(cell_table(records), cell_table(_normed(records))),
        _alone(captions.initial_loss),
    ),
    "training-loss": Paired(
        "Training loss against epoch of all sixteen networks of the course report",
        "report",
        lambda published: select(published, "report").own,
        _alone(lambda records: loss_figure(records.study)),
        _alone(captions.training_loss),
    ),
    "weight-change": Paired(
        "How far each layer's weights have gone beside their size, by epoch; ReLU",
        "report",
        partial(_own, "report", "relu"),
        _alone(weight_change_figure),
        _alone(captions.weight_change),
        lambda cell: cell.activation == "relu",
    ),
    "relative-steps": Paired(
        "N(0, 1) given He's last layer, then He's relative steps too, beside He: step, loss, accuracy",
        "effective-lr",
        partial(_own, "effective-lr", "relu"),
        _alone(relative_step_figure),
        _alone(captions.relative_step),
    ),
    "last-layer-relu": _last_layer("relu"),
    "last-layer-prelu": _last_layer("prelu"),
    "accuracy-map": Paired(
        "Initializer × depth: predicted first loss beside final accuracy, with significance",
        "report",
        _normed,
        _alone(accuracy_map),
        _alone(captions.accuracy_map),
    ),
    "protocol-agreement": Paired(
        "The printed accuracies over ours, by augmentation and fan mode: what most likely made them",
        "augmentation",
        protocol_agreement.candidate_cells,
        _alone(protocol_agreement.agreement_figure),
        _alone(protocol_agreement.caption),
    ),
    "slopes": Paired(
        "PReLU's learned slopes by layer beside the paper's",
        "report",
        partial(_of, "report", "prelu"),
        _alone(slopes_figure),
        _alone(captions.slopes),
        lambda cell: cell.activation == "prelu",
    ),
}


# ------------------------------------------------------------------------------- the report's own


def _report_figure(quantity: str, initializer: str, activation: str) -> Paired:
    def used(published: Published) -> Published:
        own = select(published, "report").own
        cells = own.cells
        same = (cells["initializer"] == initializer) & (cells["activation"] == activation)
        return own.of(cells.loc[same, "cell"])

    def draw(records: Published, published: Published) -> Figure:
        """Drawn with all others of its kind, which share its axes."""
        own = select(published, "report").own
        cells = own.cells.dropna(subset="initial_average_weight")
        drawn = dict(zip(cells["cell"], cells["initial_average_weight"], strict=True))
        stem = f"{quantity.replace('_', '-')}-{initializer}-{activation}"
        return course_report_figures(own.study, (quantity,), drawn)[stem]

    what = {"average_weight": "Average weight", "test_accuracy": "Test accuracy"}[quantity]
    return Paired(
        f"{what} against epoch, a line per depth; {name_of(initializer)}, {name_of(activation)}",
        "report",
        used,
        draw,
        lambda records, _: captions.report_figure(records.cells, quantity, initializer, activation),
        lambda cell: (cell.initializer, cell.activation) == (initializer, activation),
    )


REPORT: dict[str, Paired] = {
    f"{quantity.replace('_', '-')}-{initializer}-{activation}": _report_figure(
        quantity, initializer, activation
    )
    for initializer in ("he", "normal")
    for activation in ("relu", "prelu")
    for quantity in ("average_weight", "test_accuracy")
}
