"""Which fan mode is behind the course report's numbers: how far each is from the printed ones.

The report prints He by fan_out, but the printed code was edited after it last ran.  Both modes are
measured, and compared with the print in two ways:

    accuracy  the accuracy itself.  N(0, 1), which has no fan mode, stands beside it: as far as that is
              off, the report differs from us in something else, or by chance
    gap       the accuracy minus N(0, 1)'s at the same activation and depth, which cancels whatever
              shifts both alike

The two may disagree; then neither mode is said to be behind the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from empirical.judgment.evidence import Cells, Evidence
from empirical.protocol import COURSE_REPORT, published_accuracy

DEPTHS = COURSE_REPORT.depths
ACTIVATIONS = COURSE_REPORT.activations
AGREEMENT_COLUMNS = {
    "arm": "initializer, and in what the protocol is not the printed one",
    "measure": "accuracy, or gap: the accuracy minus N(0, 1)'s",
    "depth": "one of the report's, or all",
    "cells": "printed numbers that have a record beside them",
    "of": "printed numbers there are",
    "seeds": "the fewest completed seeds of any of these cells",
    "diverged": "diverged records of the arm, left out",
    "mean_difference": "ours minus the report's, mean over cells, points",
    "mean_absolute_difference": "points",
    "root_mean_square_difference": "points",
}
FAN_ARMS: Mapping[str, Mapping[str, str]] = {
    "as printed": {},
    "fan_in": {"fan": "fan_in"},
    "head fan_in": {"head_fan": "fan_in"},
}


@dataclass(frozen=True)
class Distance:
    """Ours minus the report's, and over how many seeds."""

    points: float
    seeds: int


Measure = Callable[[Cells, Evidence], Distance | None]


def off_in_accuracy(cells: Cells, evidence: Evidence) -> Distance | None:
    """How far the mean accuracy of ``cells`` is from the printed one; None without a completed seed."""
    found = evidence.values("accuracy", cells)
    return Distance(float(found.mean()) - _printed(cells), len(found)) if len(found) else None


def off_in_gap(cells: Cells, evidence: Evidence) -> Distance | None:
    """The same of the gap to N(0, 1), over the seeds that completed in both; None without one."""
    normal = Cells("normal", cells.activation, cells.depth)
    both = (evidence.values("accuracy", cells) - evidence.values("accuracy", normal)).dropna()
    printed = _printed(cells) - _printed(normal)
    return Distance(float(both.mean()) - printed, len(both)) if len(both) else None


MEASURES: Mapping[str, Measure] = {"accuracy": off_in_accuracy, "gap": off_in_gap}


def fan_agreement(evidence: Evidence) -> pd.DataFrame:
    """How far He under each fan mode is from the print, per depth and over all; N(0, 1) beside it.

    Columns: ``AGREEMENT_COLUMNS``.
    """
    rows = []
    for measure in MEASURES:
        for words, changes in FAN_ARMS.items():
            grid = _grid("he", changes)
            rows += _rows(f"he, {words}", measure, grid, evidence)
        if measure == "accuracy":
            rows += _rows("normal", measure, _grid("normal", {}), evidence)
    return pd.DataFrame(rows, columns=list(AGREEMENT_COLUMNS))


def _grid(initializer: str, changes: Mapping[str, str]) -> list[Cells]:
    held = tuple(changes.items())
    return [Cells(initializer, one, depth, held) for one in ACTIVATIONS for depth in DEPTHS]


def _rows(arm: str, measure: str, grid: list[Cells], evidence: Evidence) -> list[dict[str, Any]]:
    chosen = {str(depth): [one for one in grid if one.depth == depth] for depth in DEPTHS}
    return [
        {"arm": arm, "measure": measure, "depth": depth} | _distances(cells, measure, evidence)
        for depth, cells in (chosen | {"all": grid}).items()
    ]


def _distances(grid: list[Cells], measure: str, evidence: Evidence) -> dict[str, Any]:
    known = [found for cells in grid if (found := MEASURES[measure](cells, evidence))]
    points = pd.Series([one.points for one in known], dtype=float)
    return {
        "cells": len(known),
        "of": len(grid),
        "seeds": min((one.seeds for one in known), default=0),
        "diverged": sum(map(evidence.diverged, grid)),
        "mean_difference": float(points.mean()),
        "mean_absolute_difference": float(points.abs().mean()),
        "root_mean_square_difference": _root_mean_square(points),
    }


def _printed(cells: Cells) -> float:
    printed = published_accuracy(cells.initializer, cells.activation, cells.depth)
    assert printed is not None
    return printed


# ---------------------------------------------------------------------------------- in words


def nearest_fan(evidence: Evidence) -> str:
    """In words, which fan mode agrees with the printed numbers, on the cells that both have."""
    total = len(ACTIVATIONS) * len(DEPTHS)
    found = {name: _nearest(name, evidence) for name in MEASURES}
    known = {name: one for name, one in found.items() if one is not None}
    if not known:
        text = f"Open: none of the {total} He cells is recorded under both fan modes."
    elif len({near for near, _ in known.values()}) > 1:
        text = "Open: the two measures disagree."
    else:
        near = next(near for near, _ in known.values())
        whole = all(map(evidence.completed, (*_grid("he", {}), *_grid("he", {"fan": "fan_in"}))))
        text = (
            f"{near} agrees better with the printed numbers{'' if whole else ', as far as recorded'}."
        )
    words = [text, *(words for _, words in known.values())]
    normal = [off for one in _grid("normal", {}) if (off := off_in_accuracy(one, evidence))]
    if normal:
        points = pd.Series([one.points for one in normal])
        words.append(
            f"N(0, 1), which has no fan mode, is itself off by {_sizes(points)} over {len(points)} "
            "cells."
        )
    return " ".join(words)


def _nearest(measure: str, evidence: Evidence) -> tuple[str, str] | None:
    """The nearer fan mode by one measure, and a sentence; None where no cell has both."""
    grid = _grid("he", {})
    modes = {"fan_out": grid, "fan_in": [cells.changed(fan="fan_in") for cells in grid]}
    table = pd.DataFrame(
        {
            mode: [
                off.points if (off := MEASURES[measure](one, evidence)) else math.nan for one in cells
            ]
            for mode, cells in modes.items()
        },
        index=[cells.depth for cells in grid],
    ).dropna()
    if table.empty:
        return None
    far, near = sorted(modes, key=lambda mode: -np.abs(table[mode].to_numpy()).mean())
    closer = table[near].abs() < table[far].abs()
    found = sorted(set(table.index[closer]))
    depths = f"{'depths' if len(found) > 1 else 'depth'} {', '.join(map(str, found))}"
    where = f"{int(closer.sum())} of them, at {depths}" if closer.any() else "none of them"
    return near, (
        f"By {measure}, over the {len(table)} of {len(grid)} He cells recorded under both, {near} is "
        f"off by {_sizes(table[near])} and {far} by {_sizes(table[far])}; {near} is the nearer one in "
        f"{where}."
    )


def _sizes(points: pd.Series[float]) -> str:
    """Mean absolute and root-mean-square difference in words."""
    mean = float(points.abs().mean())
    return f"{mean:.2f} points on average (root mean square {_root_mean_square(points):.2f})"


def _root_mean_square(points: pd.Series[float]) -> float:
    return float((points**2).mean() ** 0.5)
