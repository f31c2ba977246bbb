"""Theory beside practice: every paired figure, what it needs, how it is drawn and how it is read.

``ALL`` is their registry, in the order in which a report shows them, and ``REPORT`` that of the course
report's own eight.  A figure is drawn from whatever of its cells there is, and its caption says which
are missing; without any it is a *gap*, which names them and the command that makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from matplotlib.figure import Figure

from empirical.arm import Arm
from empirical.judgment.selection import arm, same_size, select, with_arms
from empirical.presets import preset
from empirical.protocol import TrainSpec
from empirical.records.published import Published
from figures.prose import name_of
from figures.study import captions, protocol_agreement
from figures.study.captions import of_activation
from figures.study.paired_accuracy import LOSSES, accuracy_map, cell_table, initial_loss_figure
from figures.study.paired_effects import (
    last_layer_figure,
    relative_step_figure,
    slopes_figure,
    weight_change_figure,
)
from figures.study.paired_signal import answer_figure, signal_figure
from figures.study.report_figures import course_report_figures, loss_figure

Made = TypeVar("Made", Figure, str)


@dataclass(frozen=True)
class Paired:
    """One figure of theory beside practice.

    title       what it shows, in a line
    preset      the study whose cells it needs (``empirical.presets``)
    draw        (its cells, everything published) -> figure
    read        (its cells, everything published) -> the caption
    activation  of its cells; "" for any
    own         whether it is drawn from the preset's cells alone, or from all of their protocols
    chosen      of everything published, its cells, where they are others
    wanted      which of the preset's cells it needs, where they are fewer
    """

    title: str
    preset: str
    draw: Callable[[Published, Published], Figure]
    read: Callable[[Published, Published], str]
    activation: str = ""
    own: bool = True
    chosen: Callable[[Published], Published] | None = None
    wanted: Callable[[TrainSpec], bool] = lambda cell: True

    def used(self, published: Published) -> Published:
        """Of everything published, the cells that it is drawn from."""
        if self.chosen:
            return self.chosen(published)
        found = select(published, self.preset)
        cells = found.own if self.own else found.records
        return of_activation(cells, self.activation) if self.activation else cells

    def missing(self, published: Published) -> tuple[TrainSpec, ...]:
        """The configurations that it needs and that are not there, at seed 0."""
        return tuple(
            cell
            for cell in select(published, self.preset).missing
            if self.activation in ("", cell.activation) and self.wanted(cell)
        )

    def figure(self, published: Published) -> Figure:
        """The figure, where there is something to draw."""
        return self.draw(self.used(published), published)

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


CONDITIONS = {"xavier": "batch norm", "no-norm": "no batch norm", "he2015": "no batch norm"}


def _conditions(published: Published) -> dict[str, Published]:
    """Of each of ``CONDITIONS``, presets, the deepest ReLU networks that all of its laws have."""
    found: dict[str, Published] = {}
    for preset_name, words in CONDITIONS.items():
        part = of_activation(select(published, preset_name).records, "relu")
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


def _signal(preset: str, activation: str, setting: str) -> Paired:
    return Paired(
        "Signal and gradient by layer, predicted and measured, beside the learning curves; "
        f"{name_of(activation)}, {setting}",
        preset,
        lambda records, _: signal_figure(records, activation),
        lambda records, _: captions.signal(records, activation, "test_accuracy"),
        activation,
        own=False,
    )


def _last_layer(activation: str) -> Paired:
    return Paired(
        f"What the last linear layer's fan does: first loss, accuracy, the printed numbers; "
        f"{name_of(activation)}",
        "head",
        lambda records, _: last_layer_figure(records, activation),
        lambda records, _: captions.last_layer(records, activation),
        activation,
    )


ALL: dict[str, Paired] = {
    "answer": Paired(
        "Should He be the default? Predicted signal and test accuracy, with and without batch norm",
        "no-norm",  # whose cells it cannot do without
        lambda records, _: answer_figure(_conditions(records)),
        lambda records, published: captions.answer(_conditions(records), published),
        chosen=_answer_cells,
        wanted=lambda cell: cell.activation == "relu" and cell.depth == 12,
    ),
    "signal-relu": _signal("report", "relu", "as printed"),
    "signal-prelu": _signal("report", "prelu", "as printed"),
    "signal-no-norm-relu": _signal("no-norm", "relu", "no batch norm"),
    "signal-no-norm-prelu": _signal("no-norm", "prelu", "no batch norm"),
    "stall": Paired(
        "He and Xavier in plain nets of 22 and 30 layers: signal, gradient, training loss",
        "he2015",
        lambda records, _: signal_figure(records, "relu", "train_loss"),
        _alone(captions.stall),
        "relu",
    ),
    "initial-loss": Paired(
        "First loss, predicted against measured, and against the final accuracy; all cells",
        "report",
        lambda records, _: initial_loss_figure(cell_table(records), cell_table(_normed(records))),
        _alone(captions.initial_loss),
        chosen=_with_first_losses,
    ),
    "training-loss": Paired(
        "Training loss against epoch of all sixteen networks of the course report",
        "report",
        lambda records, _: loss_figure(records.study),
        _alone(captions.training_loss),
    ),
    "weight-change": Paired(
        "How far each layer's weights have gone beside their size, by epoch; ReLU",
        "report",
        _alone(weight_change_figure),
        _alone(captions.weight_change),
        "relu",
    ),
    "relative-steps": Paired(
        "N(0, 1) given He's last layer, then He's relative steps too, beside He: step, loss, accuracy",
        "effective-lr",
        _alone(relative_step_figure),
        _alone(captions.relative_step),
        "relu",
    ),
    "last-layer-relu": _last_layer("relu"),
    "last-layer-prelu": _last_layer("prelu"),
    "accuracy-map": Paired(
        "Initializer × depth: predicted first loss beside final accuracy, with significance",
        "report",
        _alone(accuracy_map),
        _alone(captions.accuracy_map),
        chosen=_normed,
    ),
    "protocol-agreement": Paired(
        "The printed accuracies over ours, by augmentation and fan mode: what most likely made them",
        "augmentation",
        _alone(protocol_agreement.agreement_figure),
        _alone(protocol_agreement.caption),
        chosen=protocol_agreement.candidate_cells,
    ),
    "slopes": Paired(
        "PReLU's learned slopes by layer beside the paper's",
        "report",
        _alone(slopes_figure),
        _alone(captions.slopes),
        "prelu",
        own=False,
    ),
}


# ------------------------------------------------------------------------------- the report's own


def _report_figure(name: str, quantity: str, initializer: str, activation: str) -> Paired:
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
        lambda records, _: captions.report_figure(records.cells, quantity, initializer, activation),
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
