"""Made-up records of the course report's grid, for tests of what is concluded from records."""

import itertools
from functools import cache

import numpy as np
import pandas as pd

from empirical.arm import Arm
from empirical.protocol import TrainSpec

DEPTHS, EPOCHS = (2, 5, 10, 12), 10
GRID = tuple(itertools.product(("he", "normal"), ("relu", "prelu"), DEPTHS))

BEFORE = (1.0, 99.0)  # accuracies before the last epoch, which must not count

# A world in which every claim is true.
ACCURACY = {
    ("he", "relu"): (50, 60, 70, 78),
    ("he", "prelu"): (51, 61, 73, 81),
    ("normal", "relu"): (30, 39, 40, 41),
    ("normal", "prelu"): (35, 40, 45, 50),
}
LEVELS = {("he", "prelu"): (0.15, 0.16, 0.17, 0.18), ("normal", "prelu"): (0.18, 0.17, 0.16, 0.15)}


def true_accuracy(initializer, activation, depth):
    return float(ACCURACY[initializer, activation][DEPTHS.index(depth)])


def true_curve(initializer, activation, depth):
    """Sharply falling at two layers with ReLU; elsewhere a level, wobbling less in deeper nets."""
    epochs = np.arange(EPOCHS)
    level = LEVELS.get((initializer, activation), (0.15,) * 4)[DEPTHS.index(depth)]
    wobble = (0.001 if depth == 2 else 0.0001) * (-1.0) ** epochs
    sharp = 0.1 * np.exp(-epochs) if (activation, depth) == ("relu", 2) else 0.0
    return level + wobble + sharp


@cache
def identity(initializer, activation, depth, seed, changes):
    """What a study's table says of a cell on every row."""
    spec = TrainSpec(
        initializer=initializer, activation=activation, depth=depth, seed=seed, **dict(changes)
    )
    config = spec.config()
    return {"cell": spec.cell_id, **config, "variant": Arm.of(config).variant, "status": "completed"}


def cell(initializer, activation, depth, seed, accuracy, curve=None, *, loss=1.0, **changes):
    """The study's rows of one completed cell."""
    held = identity(initializer, activation, depth, seed, tuple(changes.items()))
    curve = np.full(held["epochs"], 0.2) if curve is None else curve
    return [
        held
        | {"epoch": epoch, "train_loss": loss * (1 + 1 / epoch), "average_weight": weight}
        | {"test_accuracy": accuracy if epoch == held["epochs"] else BEFORE[epoch % 2]}
        for epoch, weight in enumerate(curve, start=1)
    ]


def diverged(initializer, activation, depth, seed, *, epochs=3, **changes):
    """The rows of a cell that diverged after ``epochs`` epochs, with numbers that must not count."""
    rows = cell(initializer, activation, depth, seed, 0.0, **changes)[: max(epochs, 1)]
    update = {"status": "diverged", "test_accuracy": -1e6, "average_weight": 1e6}
    return [row | update | ({"epoch": 0} if not epochs else {}) for row in rows]


@cache
def skeleton(seeds, grid, changes):
    """The rows of a world, without its numbers."""
    rows = []
    for initializer, activation, depth in grid:
        own = {} if initializer == "normal" else dict(changes)
        for seed in range(seeds):
            rows += cell(initializer, activation, depth, seed, 0.0, **own)
    return pd.DataFrame(rows)


def world(seeds=10, *, accuracy=true_accuracy, curve=true_curve, grid=GRID, noise=1.0, **changes):
    """A study's table: ``accuracy`` and ``curve`` of each cell, and small scatter between seeds."""
    random = np.random.default_rng(0)
    accuracies, curves = [], []
    for arm in grid:
        for _ in range(seeds):
            final = accuracy(*arm) + noise * random.normal(0, 0.05)
            accuracies += [BEFORE[epoch % 2] for epoch in range(1, EPOCHS)] + [final]
            curves.append(curve(*arm) + random.normal(0, 1e-6, EPOCHS))
    table = skeleton(seeds, tuple(grid), tuple(changes.items()))
    return table.assign(test_accuracy=accuracies, average_weight=np.concatenate(curves))
