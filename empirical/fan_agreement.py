"""Which fan mode is behind the course report's numbers: how far each is from the printed accuracies.

The report prints He by fan_out, but the printed code was edited after it last ran.  Both modes are
measured; the one that made the numbers should be off by no more than seeds differ, and by no more than
N(0, 1) is, which has no fan mode: as far as that is off, the report differs in something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from empirical.evidence import Cells, Evidence
from empirical.protocol import COURSE_REPORT, published_accuracy

DEPTHS = COURSE_REPORT.depths
ACTIVATIONS = COURSE_REPORT.activations
AGREEMENT_COLUMNS = {
    "arm": "initializer, and in what the protocol is not the printed one",
    "depth": "one of the report's, or all",
    "cells": "published accuracies that have a record beside them",
    "of": "published accuracies there are",
    "seeds": "the fewest completed seeds of any of these cells",
    "diverged": "diverged records, left out",
    "mean_difference": "ours minus the report's, mean over cells, points",
    "mean_absolute_difference": "points",
    "root_mean_square_difference": "points",
}
FAN_ARMS: Mapping[str, Mapping[str, str]] = {
    "as printed": {},
    "fan_in": {"fan": "fan_in"},
    "head fan_in": {"head_fan": "fan_in"},
}


def fan_agreement(evidence: Evidence) -> pd.DataFrame:
    """How far He's accuracies under each fan mode are from the published ones, per depth and over all.

    N(0, 1), which has no fan mode, stands beside it: as far as it is off, the report differs from us in
    something else, or by chance.  Columns: ``AGREEMENT_COLUMNS``.
    """
    rows = []
    for initializer, arms in (("he", FAN_ARMS), ("normal", {"": {}})):
        for words, changes in arms.items():
            grid = [
                Cells(initializer, activation, depth, tuple(changes.items()))
                for activation in ACTIVATIONS
                for depth in DEPTHS
            ]
            arm = f"{initializer}, {words}" if words else initializer
            for depth in DEPTHS:
                chosen = [cells for cells in grid if cells.depth == depth]
                rows.append({"arm": arm, "depth": str(depth)} | _distances(chosen, evidence))
            rows.append({"arm": arm, "depth": "all"} | _distances(grid, evidence))
    return pd.DataFrame(rows, columns=list(AGREEMENT_COLUMNS))


def _distances(grid: list[Cells], evidence: Evidence) -> dict[str, Any]:
    there = [cells for cells in grid if evidence.completed(cells)]
    found = pd.Series([_distance(cells, evidence) for cells in there], dtype=float)
    return {
        "cells": len(there),
        "of": len(grid),
        "seeds": min((len(evidence.completed(cells)) for cells in there), default=0),
        "diverged": sum(evidence.diverged(cells) for cells in grid),
        "mean_difference": float(found.mean()),
        "mean_absolute_difference": float(found.abs().mean()),
        "root_mean_square_difference": float((found**2).mean() ** 0.5),
    }


def _distance(cells: Cells, evidence: Evidence) -> float:
    printed = published_accuracy(cells.initializer, cells.activation, cells.depth)
    assert printed is not None
    return evidence.mean("accuracy", cells) - printed


def nearest_fan(evidence: Evidence) -> str:
    """In words, which fan mode agrees with the published accuracies, on the cells that both have."""
    grid = [Cells("he", activation, depth) for activation in ACTIVATIONS for depth in DEPTHS]
    modes = {"fan_out": grid, "fan_in": [cells.changed(fan="fan_in") for cells in grid]}
    there = [all(map(evidence.completed, pair)) for pair in zip(*modes.values(), strict=True)]
    if not any(there):
        return f"Open: none of the {len(grid)} He cells is recorded under both fan modes."
    off = {
        mode: pd.Series([_distance(one, evidence) for one, ok in zip(cells, there, strict=True) if ok])
        for mode, cells in modes.items()
    }
    near, far = sorted(off, key=lambda mode: float(off[mode].abs().mean()))
    closer = off[near].abs() < off[far].abs()
    depths = [cells.depth for cells, ok in zip(grid, there, strict=True) if ok]
    where = {depth for depth, one in zip(depths, closer, strict=True) if one}
    text = (
        f"{near} agrees better with the published accuracies: over the {len(depths)} of {len(grid)} "
        f"He cells recorded under both it is off by {_sizes(off[near])}, {far} by {_sizes(off[far])}. "
        f"It is the nearer one in {int(closer.sum())} of them, at depths {_listed(where)}."
    )
    control = [Cells("normal", cells.activation, cells.depth) for cells in grid]
    control = [cells for cells in control if evidence.completed(cells)]
    if not control:
        return text
    rest = pd.Series([_distance(cells, evidence) for cells in control])
    return f"{text} N(0, 1), which has no fan mode, is off by {_sizes(rest)} over {len(control)} cells."


def _sizes(off: pd.Series[float]) -> str:
    """Mean absolute and root-mean-square difference in words."""
    return f"{off.abs().mean():.2f} points on average (root mean square {(off**2).mean() ** 0.5:.2f})"


def _listed(depths: set[int]) -> str:
    return ", ".join(map(str, sorted(depths)))
