"""A published study with made-up numbers: every cell of some presets, none of them trained."""

import math

import pandas as pd

from empirical.arm import Arm
from empirical.presets import preset
from empirical.protocol import StudySpec, TrainSpec
from empirical.records import published
from empirical.records.published import CELL_COLUMNS, LAYER_COLUMNS, STUDY_COLUMNS, Published
from theory.law.batch_norm import effective_learning_rate

PRESETS = (
    "report",
    "textbook",
    "head",
    "no-norm",
    "he2015",
    "effective-lr",
    "xavier",
    "augmentation",
    "no-crops",
    "no-augmentation",
)


def cells_of(*names, **changes):
    """The cells of presets, each once; ``changes`` replace fields of the study."""
    found = {}
    for name in names or PRESETS:
        for cell in StudySpec(**dict(preset(name).fields) | changes).cells():
            found.setdefault(cell.cell_id, cell)
    return list(found.values())


def accuracy(cell):
    """Made up: deeper is better, He best."""
    law = {"he": 20.0, "xavier": 15.0, "normal": 0.0}[cell.initializer]
    return 40.0 + law + cell.depth + 0.25 * cell.seed + (cell.activation == "prelu")


def initial_loss(cell):
    """Made up: large under N(0, 1) and fan_out, falling with depth."""
    large = {"he": 3.0, "xavier": 1.0, "normal": 30.0}[cell.initializer]
    return math.log(10) + large * (1.0 if cell.fan == "fan_in" else 4.0) / cell.depth


def signal(cell, number):
    """Made up: (second moment, that of the gradient) of weight layer ``number``."""
    factor = {"he": 1.0, "xavier": 0.5, "normal": 2.0}[cell.initializer]
    return factor**number, 0.1 * factor ** (cell.depth + 1 - number)


def study_of(cells, folder, epochs_done=None):
    """The tables of ``cells``, written to ``folder`` and read again.

    ``epochs_done`` maps the id of a cell that diverged to its finished epochs.
    """
    diverged = epochs_done or {}
    rows, epochs, layers = [], [], []
    for cell in cells:
        config = cell.config()
        done = diverged.get(cell.cell_id, cell.epochs)
        status = "diverged" if cell.cell_id in diverged else "completed"
        identity = {"cell": cell.cell_id, "preset": "", "variant": Arm.of(config).variant, **config}
        identity |= {"engine": "eager", "status": status}
        curve = [_epoch(cell, epoch) for epoch in range(1, done + 1)]
        rows.append(
            identity
            | {
                "epochs_done": done,
                "final_test_accuracy": curve[-1]["test_accuracy"] if curve else None,
                "initial_loss": 1.1 * initial_loss(cell),
                "initial_loss_predicted": initial_loss(cell),
                "initial_average_weight": 0.1,
                "seconds": 3.0 * done,
                "threads": 1,
                **dict.fromkeys(("device", "hardware", "platform", "python", "torch"), "x"),
                **dict.fromkeys(("version", "code", "notes"), ""),
            }
        )
        epochs += [identity | row for row in curve or [{"epoch": 0}]]
        layers += _layers(cell, done)
    tables = Published(
        pd.DataFrame(epochs, columns=list(STUDY_COLUMNS)),
        pd.DataFrame(layers, columns=list(LAYER_COLUMNS)),
        pd.DataFrame(rows, columns=list(CELL_COLUMNS)),
    )
    published.write(tables, folder)
    return published.read(folder)


def _epoch(cell, epoch):
    reached = 1 - 0.5**epoch
    return {
        "epoch": epoch,
        "train_loss": initial_loss(cell) / (1 + epoch),
        "test_accuracy": 10 + (accuracy(cell) - 10) * reached,
        "test_loss": 1.0,
        "average_weight": 0.2 / epoch,
        "gradient_norm": 1.0,
        "seconds": 3.0,
    }


def _layers(cell, done):
    rows = []
    for epoch in sorted({0, done}):
        for number in range(1, cell.depth + 2):
            head = number == cell.depth + 1
            rows.append(_weight_row(cell, epoch, number, "head" if head else f"conv{number:02d}"))
            if cell.activation == "prelu" and not head:
                slope = 0.25 + (0.4 / number if epoch else 0.0)
                named = {"cell": cell.cell_id, "epoch": epoch, "layer": f"act{number:02d}"}
                rows.append(named | {"kind": "PReLU", "negative_slope": slope})
    return rows


def _weight_row(cell, epoch, number, layer):
    power, gradient = signal(cell, number)
    std = cell.weight_law.std(9 * cell.filters, 9 * cell.filters, cell.gain_slope)
    row = {"cell": cell.cell_id, "epoch": epoch, "layer": layer, "prediction_basis": "exact"}
    row |= {"kind": "Linear" if layer == "head" else "Conv2d", "second_moment": 1.2 * power}
    row |= {"gradient_second_moment": 1.3 * gradient, "relative_change": 0.1 * epoch}
    row["effective_learning_rate"] = effective_learning_rate(cell.learning_rate, std, cell.optimizer)
    if epoch == 0:
        row |= {"second_moment_predicted": power, "gradient_second_moment_predicted": gradient}
    return row


def spec(**fields):
    """A cell of the course report, but for ``fields``."""
    return TrainSpec(**fields)
