"""What made the course report's numbers: how likely each protocol makes the sixteen accuracies printed.

The printed code was edited after it last ran, so its protocol need not be the one behind the print.
``CANDIDATES`` differ from it in the augmentation and in the fan mode of He.  A printed number is taken
for one more draw of the cell's distribution over seeds: after n seeds of mean m and standard deviation
s it has Student's t distribution with n − 1 degrees, location m and scale s·√(1 + 1/n) (the predictive
distribution of a normal sample under the prior 1/σ; Gelman et al. 2013, *Bayesian Data Analysis*,
eq. 3.5).  A cell of fewer than ``OWN_SPREAD`` seeds borrows s, and its degrees, from the cells of the
same depth (of any depth where those leave fewer than ``OWN_SPREAD`` − 1 degrees): s² = Σ(n−1)s²/Σ(n−1).

Protocols are compared on exactly the cells that they share.  N(0, 1) has no fan mode: one record of it
counts for every fan mode of its augmentation, so a protocol is recorded once a cell of He is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats

from empirical.judgment.evidence import Cells, Evidence, pooled
from empirical.protocol import AUGMENTED, COURSE_REPORT, published_accuracy

INITIALIZERS = ("he", "normal")
LEVEL = 0.95  # of the predictive interval
OWN_SPREAD = 3  # seeds from which on a cell's own standard deviation counts
FAN_MODES: Mapping[str, Mapping[str, str]] = {
    "fan_out": {},
    "head fan_in": {"head_fan": "fan_in"},
    "fan_in": {"fan": "fan_in"},
}
CANDIDATES: Mapping[tuple[str, str], Mapping[str, str]] = {
    (augment, fan): ({} if augment == COURSE_REPORT.augment else {"augment": augment}) | dict(changes)
    for augment, (fan, changes) in itertools.product(AUGMENTED, FAN_MODES.items())
}
AS_PRINTED = (COURSE_REPORT.augment, COURSE_REPORT.fan)

CELL_COLUMNS = {
    "augment": "the augmentation",
    "fan": "the fan mode of He; head fan_in: of its last layer alone",
    "initializer": "he or normal",
    "activation": "of the report's",
    "depth": "of the report's",
    "seeds": "completed seeds",
    "diverged": "diverged seeds, left out",
    "printed": "the report's accuracy, percent",
    "mean": "ours, over seeds, percent",
    "spread": "standard deviation over seeds, percent",
    "borrowed": "whether that is of other cells too",
    "degrees": "degrees of freedom of the spread",
    "low": f"lower end of the {100 * LEVEL:g} % predictive interval of one more seed, percent",
    "high": "its upper end",
    "within": "whether the printed accuracy lies in it",
    "log_likelihood": "log predictive density at the printed accuracy, per percent",
}
COLUMNS = {
    **{name: CELL_COLUMNS[name] for name in ("augment", "fan")},
    "cells": "printed accuracies with a record beside them; none where no cell of He is recorded",
    "of": "printed accuracies there are",
    "seeds": "the fewest completed seeds of any of these cells",
    "diverged": "diverged seeds, left out",
    "within": f"printed accuracies in the {100 * LEVEL:g} % predictive interval",
    "log_likelihood": "sum over its own cells: not to be compared where they differ",
    "mean_difference": "printed minus ours, mean over cells, points: a shift common to all",
    "shift_low": f"lower end of the shift's {100 * LEVEL:g} % t interval over cells; NaN for one cell",
    "shift_high": "its upper end",
    "rest": "standard deviation over cells of what the shift leaves, points",
    "expected": "root mean square of the predictive scales: what seeds alone would leave, points",
    "shared": "cells that every recorded protocol has",
    "shared_log_likelihood": "sum over those",
    "share": "posterior share on those, under equal priors",
}
PAIR_COLUMNS = {
    "augment": "of the first protocol",
    "fan": "of the first protocol",
    "other_augment": "of the second",
    "other_fan": "of the second",
    "cells": "that both have",
    "log_ratio": "log likelihood of the first minus that of the second, over these cells",
}


@dataclass(frozen=True)
class Spread:
    """A standard deviation in points, and its degrees of freedom."""

    points: float
    degrees: int


def log_predictive(printed: float, mean: float, seeds: int, spread: Spread) -> float:
    """Log density at ``printed`` of one more draw after ``seeds`` of this mean and spread."""
    return float(stats.t.logpdf(printed, spread.degrees, mean, _scale(seeds, spread)))


def protocol_cells(evidence: Evidence) -> pd.DataFrame:
    """Each recorded cell of each recorded candidate beside its printed accuracy: ``CELL_COLUMNS``."""
    pools = _pools(evidence)
    rows = []
    for (augment, fan), changes in CANDIDATES.items():
        grid = _grid(changes)
        if not any(evidence.completed(one) for one in grid if one.initializer == "he"):
            continue
        for cells in grid:
            values = evidence.values("accuracy", cells).to_numpy()
            spread = _spread(values, pools.get(cells.depth), pools.get(None))
            if len(values) and spread is not None:
                counted = (len(values), evidence.diverged(cells))
                named = (augment, fan, cells.initializer, cells.activation, cells.depth, *counted)
                rows.append((*named, *_beside(_printed(cells), values, spread)))
    return pd.DataFrame(rows, columns=list(CELL_COLUMNS))


def protocol_agreement(evidence: Evidence) -> pd.DataFrame:
    """A row per candidate: how well it makes the printed numbers.  Columns: ``COLUMNS``."""
    groups = _by_protocol(protocol_cells(evidence))
    shared = _shared(groups.values())
    found = {one: float(cells["log_likelihood"].loc[shared].sum()) for one, cells in groups.items()}
    total = special.logsumexp(list(found.values())) if found else math.nan
    rows = []
    for protocol in CANDIDATES:
        row: dict[str, Any] = dict(zip(("augment", "fan"), protocol, strict=True))
        row |= {"of": len(_grid({})), "cells": 0, "seeds": 0, "diverged": 0, "within": 0, "shared": 0}
        if protocol in groups:
            row |= _fit(groups[protocol]) | {"shared": len(shared)}
            if len(shared):
                share = math.exp(found[protocol] - total)
                row |= {"shared_log_likelihood": found[protocol], "share": share}
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def protocol_pairs(evidence: Evidence) -> pd.DataFrame:
    """Every two recorded candidates on all cells that both have.  Columns: ``PAIR_COLUMNS``."""
    rows = []
    groups = _by_protocol(protocol_cells(evidence))
    for (first, one), (second, other) in itertools.combinations(groups.items(), 2):
        shared = _shared([one, other])
        ratio = float((one["log_likelihood"] - other["log_likelihood"]).loc[shared].sum())
        rows.append((*first, *second, len(shared), ratio if len(shared) else math.nan))
    return pd.DataFrame(rows, columns=list(PAIR_COLUMNS))


def _grid(changes: Mapping[str, str]) -> list[Cells]:
    arms = itertools.product(INITIALIZERS, COURSE_REPORT.activations, COURSE_REPORT.depths)
    return [Cells(*arm, tuple(sorted(changes.items()))) for arm in arms]


def _printed(cells: Cells) -> float:
    printed = published_accuracy(cells.initializer, cells.activation, cells.depth)
    assert printed is not None
    return printed


# ---------------------------------------------------------------------------------- one cell


def _pools(evidence: Evidence) -> dict[int | None, Spread]:
    """The pooled spread of every depth, and of all (None), over each cell of any candidate once."""
    cells = {one.key: one for changes in CANDIDATES.values() for one in _grid(changes)}
    samples: dict[int | None, list[np.ndarray]] = {}
    for one in cells.values():
        values = evidence.values("accuracy", one).to_numpy()
        for name in (one.depth, None):
            samples.setdefault(name, []).append(values)
    pooled = {name: _pooled(found) for name, found in samples.items()}
    return {name: spread for name, spread in pooled.items() if spread is not None}


def _pooled(samples: Iterable[np.ndarray]) -> Spread | None:
    """Over the samples of two or more; None if it has no size."""
    squares, degrees = pooled(samples)
    return Spread(math.sqrt(squares / degrees), degrees) if squares > 0 else None


def _spread(values: np.ndarray, of_depth: Spread | None, of_all: Spread | None) -> Spread | None:
    """The cell's own spread from ``OWN_SPREAD`` seeds on, else its depth's, else that of all cells."""
    if len(values) >= OWN_SPREAD and (own := _pooled([values])):
        return own
    return of_depth if of_depth and of_depth.degrees >= OWN_SPREAD - 1 else of_all


def _scale(seeds: int, spread: Spread) -> float:
    return spread.points * math.sqrt(1 + 1 / seeds)


def _beside(printed: float, values: np.ndarray, spread: Spread) -> tuple[float | bool, ...]:
    """The columns from ``printed`` on."""
    mean, seeds = float(values.mean()), len(values)
    low, high = stats.t.interval(LEVEL, spread.degrees, mean, _scale(seeds, spread))
    borrowed = seeds < OWN_SPREAD
    within = bool(low <= printed <= high)
    likelihood = log_predictive(printed, mean, seeds, spread)
    ends = (float(low), float(high), within, likelihood)
    return (printed, mean, spread.points, borrowed, spread.degrees, *ends)


# ------------------------------------------------------------------------------ one protocol


def _by_protocol(cells: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """The cells of each protocol, indexed by initializer, activation and depth."""
    keys = ["initializer", "activation", "depth"]
    grouped = cells.groupby(["augment", "fan"], sort=False)
    return {(str(one), str(fan)): rows.set_index(keys) for (one, fan), rows in grouped}


def _shared(groups: Iterable[pd.DataFrame]) -> list[tuple[str, str, int]]:
    """The cells that all have."""
    sets = [set(cells.index) for cells in groups]
    return sorted(set.intersection(*sets)) if sets else []


def _fit(cells: pd.DataFrame) -> dict[str, float]:
    """The columns of ``COLUMNS`` that a protocol's own cells decide."""
    off = cells["printed"] - cells["mean"]
    count, error = len(off), float(off.std()) / math.sqrt(len(off))
    low, high = (
        stats.t.interval(LEVEL, count - 1, off.mean(), error) if error > 0 else (math.nan, math.nan)
    )
    scales = cells["spread"] * np.sqrt(1 + 1 / cells["seeds"])
    return {
        "cells": count,
        "seeds": int(cells["seeds"].min()),
        "diverged": int(cells["diverged"].sum()),
        "within": int(cells["within"].sum()),
        "log_likelihood": float(cells["log_likelihood"].sum()),
        "mean_difference": float(off.mean()),
        "shift_low": float(low),
        "shift_high": float(high),
        "rest": float(off.std()),
        "expected": float(np.sqrt(np.square(scales).mean())),
    }
