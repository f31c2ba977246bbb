"""A study's tidy tables, asked for one number per cell and seed.

``QUANTITIES`` are those numbers: the final accuracy, and what sums up the curve of the report's average
weight.  ``Cells`` names cells that differ in nothing but the seed, and ``Evidence`` finds them in the
tables.  A diverged cell has no numbers, and is counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from empirical.arm import NAMES, Arm
from empirical.protocol import COURSE_REPORT, TrainSpec

Array = NDArray[np.float64]

Key = tuple[Arm, str, int]  # arm, activation, depth


# ------------------------------------------------------------------- one number per cell and seed


@dataclass(frozen=True)
class Quantity:
    """A number read off one cell: ``of`` maps the values of ``column`` after epochs 1 … E to it."""

    symbol: str
    words: str
    of: Callable[[Array], Any]
    column: str = "average_weight"


def first_epochs(epochs: int) -> int:
    """k, the last of "the first epochs": a third of the steps between the recorded epochs lies before.

    >>> first_epochs(10)
    4
    """
    return 1 + (epochs - 1) // 3


def _early_drop(w: Array) -> float:
    k = first_epochs(len(w))
    return float(w[0] - w[k - 1]) if k > 1 else math.nan


def _late_step(w: Array) -> float:
    k = first_epochs(len(w))
    return float(np.abs(np.diff(w[k - 1 :])).mean()) if k > 1 else math.nan


QUANTITIES = {
    "accuracy": Quantity(
        "A", "test accuracy after the last epoch, percent", lambda a: a[-1], "test_accuracy"
    ),
    "early_step": Quantity(
        "D",
        "fall of w per epoch in the first epochs, (w_1 − w_k)/(k−1)",
        lambda w: _early_drop(w) / max(first_epochs(len(w)) - 1, 1),
    ),
    "early_drop": Quantity("F", "fall of w in the first epochs, w_1 − w_k", _early_drop),
    "late_step": Quantity("S", "mean of |w_e − w_(e−1)| over e > k", _late_step),
    "late_range": Quantity(
        "Z", "max − min of w_e over e ≥ k", lambda w: np.ptp(w[first_epochs(len(w)) - 1 :])
    ),
    "range": Quantity("R", "max − min of w_e over all e", np.ptp),
    "shift": Quantity("V", "|w_E − w_1|", lambda w: abs(w[-1] - w[0])),
    "level": Quantity("M", "mean of w_e over all e", np.mean),
}
CURVE_NOTE = (
    "w_e is the average weight after epoch e = 1 … E, as the course report's figures show it; the "
    f"first epochs end with k, a third of the way (k = {first_epochs(10)} for E = 10)"
)


@dataclass(frozen=True)
class Cells:
    """The cells that differ in nothing but the seed; ``changes`` are fields of the report's protocol.

    >>> Cells("he", "relu", 2, (("fan", "fan_in"),)).name
    'He · ReLU · 2, fan_in'
    """

    initializer: str
    activation: str
    depth: int
    changes: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, row: Mapping[Any, Any]) -> Cells:
        """The cells of a study's row: without a change that none of their laws knows."""
        arm = Arm.of(row)
        return cls(arm.initializer, row["activation"], row["depth"], tuple(sorted(arm.changes)))

    @property
    def spec(self) -> TrainSpec:
        """The cell of seed 0."""
        return TrainSpec(
            initializer=self.initializer,
            activation=self.activation,
            depth=self.depth,
            **dict(self.changes),
        )

    @property
    def dataset(self) -> str:
        """The name of their data set."""
        return str(dict(self.changes).get("dataset", COURSE_REPORT.dataset))

    @property
    def key(self) -> Key:
        """What it is known by in a study's table."""
        return _key(self)

    @property
    def name(self) -> str:
        arm, activation, depth = self.key
        names = (NAMES.get(name, name) for name in (arm.initializer, activation))
        return ", ".join([" · ".join([*names, str(depth)]), *arm.words])

    def changed(self, **changes: Any) -> Cells:
        """The same cells under another protocol."""
        return replace(self, changes=tuple(sorted((dict(self.changes) | changes).items())))


@cache
def _key(cells: Cells) -> Key:
    spec = cells.spec
    return Arm.of(spec.config()), spec.activation, spec.depth


class Evidence:
    """The tidy tables of a study, asked for numbers by cells and seed.

    study   ``empirical.study.grid.STUDY_COLUMNS``
    cells   one row per cell: its id ``cell``, initial_loss, initial_loss_predicted,
            initial_average_weight (the network as drawn); may lack any of them
    layers  cell, epoch and ``instruments.LAYER_COLUMNS``; may be empty
    """

    def __init__(
        self,
        study: pd.DataFrame,
        cells: pd.DataFrame | None = None,
        layers: pd.DataFrame | None = None,
    ) -> None:
        rows = study.drop_duplicates("cell").to_dict("records")
        keys = {row["cell"]: (Arm.of(row), row["activation"], row["depth"]) for row in rows}
        # N(0, 1) under either fan mode is one cell with two ids: count each seed once
        owners: dict[tuple[Key, int], Any] = {}
        self._seeds: dict[tuple[Key, str], list[int]] = {}
        for row in rows:
            key, seed = keys[row["cell"]], int(row["seed"])
            if owners.setdefault((key, seed), row["cell"]) == row["cell"]:
                self._seeds.setdefault((key, row["status"]), []).append(seed)
        study = study[study["cell"].isin(owners.values())].drop_duplicates(["cell", "epoch"])
        self.study = study.sort_values(["seed", "epoch"], kind="stable")
        of_cell = self.study["cell"].map(keys)
        self._groups = {key: group for key, group in self.study.groupby(of_cell, sort=False)}
        self.cells = pd.DataFrame({"cell": []}) if cells is None else cells
        self.layers = pd.DataFrame({"cell": []}) if layers is None else layers
        self._known: dict[tuple[str, Cells], pd.Series[float]] = {}
        self.memo: dict[Any, Any] = {}  # for what is worked out of these tables more than once

    def rows(self, cells: Cells) -> pd.DataFrame:
        """The study's rows of ``cells``, of every seed and status."""
        return self._groups.get(cells.key, self.study.iloc[:0])

    def recorded(self, cells: Cells) -> bool:
        return cells.key in self._groups

    def completed(self, cells: Cells) -> list[int]:
        """The seeds that completed."""
        return sorted(self._seeds.get((cells.key, "completed"), []))

    def diverged(self, cells: Cells) -> int:
        """How many seeds diverged."""
        return len(self._seeds.get((cells.key, "diverged"), []))

    def ids(self, cells: Cells) -> list[str]:
        """The ids of ``cells``' records, diverged ones among them."""
        return [str(cell) for cell in self.rows(cells)["cell"].unique()]

    def values(self, quantity: str, cells: Cells) -> pd.Series[float]:
        """``QUANTITIES[quantity]`` of every completed seed, indexed by the seed."""
        if (quantity, cells) not in self._known:
            self._known[quantity, cells] = _by_seed(self.rows(cells), QUANTITIES[quantity])
        return self._known[quantity, cells]

    def mean(self, quantity: str, cells: Cells) -> float:
        """Its mean over the completed seeds; NaN for none."""
        return float(self.values(quantity, cells).mean())

    def spread(self, quantity: str, dataset: str = COURSE_REPORT.dataset) -> float:
        """Its standard deviation over seeds, pooled over all arms there; NaN where none has two."""
        key = ("spread", quantity, dataset)
        if key not in self.memo:
            there = (rows for rows in self._groups.values() if rows["dataset"].iloc[0] == dataset)
            squares, degrees = pooled(_by_seed(rows, QUANTITIES[quantity]).to_numpy() for rows in there)
            self.memo[key] = math.sqrt(squares / degrees) if degrees else math.nan
        return float(self.memo[key])

    def initial(self, column: str, cells: Cells) -> float:
        """Mean over ``cells`` of a column of the cells' table, which is of the network as drawn."""
        if column not in self.cells:
            return math.nan
        rows = self.cells[self.cells["cell"].isin(self.ids(cells))]
        return float(pd.to_numeric(rows[column]).mean()) if len(rows) else math.nan


def pooled(samples: Iterable[np.ndarray]) -> tuple[float, int]:
    """Squared deviations from each sample's mean, summed, and degrees of freedom; a sample of one has
    none.  The one over the other is s² = Σ(n−1)s²/Σ(n−1)."""
    several = [one for one in samples if len(one) > 1]
    squares = sum(float(np.square(one - one.mean()).sum()) for one in several)
    return squares, sum(len(one) - 1 for one in several)


def _by_seed(rows: pd.DataFrame, wanted: Quantity) -> pd.Series[float]:
    """The quantity of every completed seed in an arm's rows."""
    rows = rows[((rows["status"] == "completed") & (rows["epoch"] > 0)).to_numpy()]
    seeds, starts = np.unique(rows["seed"].to_numpy(), return_index=True)
    curves = np.split(rows[wanted.column].to_numpy(dtype=np.float64), starts[1:])
    numbers = [float(wanted.of(curve)) for curve in curves if len(curve)]
    found = pd.Series(numbers, index=[int(seed) for seed in seeds], dtype=np.float64)
    return found.dropna()
