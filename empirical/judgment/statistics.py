"""From seeds to verdicts: which differences between arms are real, and how large they are.

A study's cells that differ in nothing but the seed are repetitions of one *arm at one setting*.  Cells
of one seed share their weights' random numbers, their shuffles and their crops, so two arms are
compared *paired by seed*.  ``cell_statistics`` and ``pair_statistics`` are the two tables of a whole
study; ``summary`` and ``compare`` answer one question at a time.

    summary       mean, standard deviation and BCa bootstrap interval (Efron 1987) of one cell's seeds
    comparison    mean difference, its interval, the exact sign-flip permutation test (Fisher 1935; all
                  2ⁿ sign patterns), Holm's correction (1979) over the family, effect size d_z
    divergence    counted apart: a diverged cell has no accuracy, and is never averaged in

With n pairs the smallest two-sided p-value is 2/2ⁿ.  Below six pairs, and wherever that smallest
p-value times the size of the family exceeds the level (``seeds_needed``), no outcome could have shown a
difference: the verdict is then "insufficient seeds", in words, and not "no difference shown".
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from empirical.arm import Arm, shared_changes
from empirical.protocol import Protocol
from theory.errors import RequestError, check_real

Array = NDArray[np.float64]

MINIMUM_SEEDS = 6
EXACT_PAIRS = 36  # beyond, 2ⁿ sign patterns are sampled instead of counted
RESAMPLES = 9_999
SETTING = (
    *(item.name for item in fields(Protocol) if item.name != "engine"),
    *("activation", "depth"),
)
ARM = ("arm", "activation", "depth")
# What is compared, and what both sides share.
FAMILIES = {"arm": ("activation", "depth"), "activation": ("arm", "depth")}

SUMMARY_COLUMNS = {
    "initializer": "and the columns of SETTING (cell_statistics: of ARM): what the seeds share",
    "seeds": "cells that completed",
    "diverged": "cells that diverged: not in the statistics beside it",
    "mean": "mean over seeds of the final value",
    "std": "standard deviation over seeds, divisor n − 1; NaN for one seed",
    "low": "lower end of the BCa bootstrap interval of the mean; NaN below three seeds",
    "high": "its upper end",
}
COMPARISON_COLUMNS = {
    "first": "the arm that the difference is counted from",
    "second": "the other arm; and the columns that both share",
    "pairs": "seeds that completed in both arms",
    "diverged_first": "diverged cells of the first arm",
    "diverged_second": "diverged cells of the second arm",
    "difference": "mean over pairs of first minus second",
    "low": "lower end of its BCa bootstrap interval; NaN below three pairs",
    "high": "its upper end",
    "effect_size": "d_z = mean difference / standard deviation of the differences; NaN without spread",
    "p_value": "two-sided exact sign-flip permutation test",
    "p_holm": "the same after Holm's correction over the table's rows with enough seeds",
    "verdict": "first higher, second higher, no difference shown, or insufficient seeds",
}
PAIR_COLUMNS = {
    "compared": "arm or activation: the family",
    **COMPARISON_COLUMNS,
    "family": "comparisons in the family with enough seeds, over which Holm corrects",
    "seeds_needed": "pairs without which no outcome could show a difference in this family",
}


def final_values(study: pd.DataFrame, quantity: str = "test_accuracy") -> pd.DataFrame:
    """The last epoch of every cell of a study's table: one row per cell, with ``quantity``.

    In the order in which the study first names them.  Raises ``RequestError`` if the table has no such
    column.
    """
    if quantity not in study:
        raise RequestError(f"the study has no column {quantity!r}: it has {', '.join(map(str, study))}")
    order = study.drop_duplicates("cell")["cell"]
    last = study.sort_values("epoch", kind="stable").drop_duplicates("cell", keep="last")
    return last.set_index("cell").loc[order].reset_index()


def with_own_arms(study: pd.DataFrame) -> pd.DataFrame:
    """``study`` with the column ``arm``: each cell's ``Arm``, without the changes that all share.

    A table that has the column keeps its own.
    """
    if "arm" in study:
        return study
    arms = [Arm.of(row) for row in study.to_dict("records")]
    shared = shared_changes(arms)
    own = [arm.without(shared) for arm in arms]
    return study.assign(arm=pd.Series(own, index=study.index, dtype=object))


def cell_statistics(
    study: pd.DataFrame, quantity: str = "test_accuracy", *, confidence: float = 0.95
) -> pd.DataFrame:
    """Mean, spread and interval over seeds of every arm × activation × depth of a study.

    Columns: ``ARM``, then those of ``SUMMARY_COLUMNS``.
    """
    return _summarized(final_values(with_own_arms(study), quantity), ARM, quantity, confidence)


def pair_statistics(
    study: pd.DataFrame, quantity: str = "test_accuracy", *, confidence: float = 0.95
) -> pd.DataFrame:
    """Every comparison of a study: arms within activation × depth, activations within arm × depth.

    Columns: ``PAIR_COLUMNS``; no rows where there is nothing to compare.  Each of the two kinds is a
    family of Holm's correction: whoever looks at all arms wants no false alarm among all of them.
    """
    level = 1 - _check_confidence(confidence)
    values = final_values(with_own_arms(study), quantity)
    found = []
    for compared, shared in FAMILIES.items():
        arms = itertools.combinations(values[compared].unique(), 2)
        rows = [
            row
            for first, second in arms
            for row in _compared(values, compared, first, second, shared, quantity, confidence)
        ]
        if rows:
            found.append(_judged(pd.DataFrame(rows), level).assign(compared=compared))
    names = [name for name in PAIR_COLUMNS if name not in ARM]
    order = [names[0], *names[1:3], *ARM, *names[3:]]
    if not found:
        return pd.DataFrame(columns=order)
    return pd.concat(found).reindex(columns=order)  # one family alone lacks the other's column


def summary(
    study: pd.DataFrame, quantity: str = "test_accuracy", *, confidence: float = 0.95
) -> pd.DataFrame:
    """Mean, spread and interval over seeds for each setting; columns: ``SUMMARY_COLUMNS``."""
    values = final_values(study, quantity)
    return _summarized(values, ["initializer", *_present(study, SETTING)], quantity, confidence)


def _summarized(
    values: pd.DataFrame, keys: Sequence[str], quantity: str, confidence: float
) -> pd.DataFrame:
    _check_confidence(confidence)
    rows = []
    for key, cells in values.groupby(list(keys), sort=False, dropna=False):
        # the same seed again is no repetition; and no interval may depend on the order of the rows
        cells = cells.drop_duplicates("seed").sort_values("seed")
        completed = cells[cells["status"] == "completed"]
        accuracies = completed[quantity].to_numpy(dtype=np.float64)
        low, high = bca_interval(accuracies, confidence)
        rows.append(
            dict(zip(keys, key, strict=True))
            | {
                "seeds": len(accuracies),
                "diverged": int((cells["status"] == "diverged").sum()),
                "mean": accuracies.mean() if len(accuracies) else np.nan,
                "std": accuracies.std(ddof=1) if len(accuracies) > 1 else np.nan,
                "low": low,
                "high": high,
            }
        )
    return pd.DataFrame(rows)


def compare(
    study: pd.DataFrame,
    arm: str,
    first: object,
    second: object,
    quantity: str = "test_accuracy",
    *,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """``first`` against ``second`` in the column ``arm``, paired by seed, at every shared setting.

    ``compare(study, "initializer", "he", "normal")`` has one row per activation and depth, which are
    the family of Holm's correction.  Columns: ``COMPARISON_COLUMNS``.  Raises ``RequestError`` if the
    arms share no setting.
    """
    level = 1 - _check_confidence(confidence)
    values = final_values(study, quantity)
    shared = [name for name in ("initializer", *_present(study, SETTING)) if name != arm]
    rows = _compared(values, arm, first, second, shared, quantity, confidence)
    if not rows:
        raise RequestError(f"{first!r} and {second!r} share no setting in which both were run")
    return _judged(pd.DataFrame(rows), level).drop(columns=["family", "seeds_needed"])


def _compared(
    values: pd.DataFrame,
    arm: str,
    first: object,
    second: object,
    shared: Iterable[str],
    quantity: str,
    confidence: float,
) -> list[dict[Hashable, Any]]:
    """A row for each setting of the columns ``shared`` at which both arms were run."""
    names = list(shared)
    rows: list[dict[Hashable, Any]] = []
    for key, cells in values.groupby(names, sort=False, dropna=False):
        arms = [
            cells[_equals(cells[arm], one)].drop_duplicates("seed").set_index("seed")
            for one in (first, second)
        ]
        if any(one.empty for one in arms):
            continue
        done = [one.loc[one["status"] == "completed", quantity] for one in arms]
        pairs = done[0].index.intersection(done[1].index).sort_values()
        differences = (done[0].loc[pairs] - done[1].loc[pairs]).to_numpy(dtype=np.float64)
        low, high = bca_interval(differences, confidence)
        rows.append(
            {"first": first, "second": second}
            | dict(zip(names, key, strict=True))
            | {
                "pairs": len(pairs),
                "diverged_first": int((arms[0]["status"] == "diverged").sum()),
                "diverged_second": int((arms[1]["status"] == "diverged").sum()),
                "difference": differences.mean() if len(pairs) else np.nan,
                "low": low,
                "high": high,
                "effect_size": effect_size(differences),
                "p_value": sign_flip_p_value(differences),
            }
        )
    return rows


def _equals(column: pd.Series, value: object) -> pd.Series:
    """Where ``column`` holds ``value``; a field that is not set is None, or NaN in a table."""
    return column.isna() if value is None or value != value else column == value


def _judged(table: pd.DataFrame, level: float) -> pd.DataFrame:
    """The rows of one family with Holm's p-values and verdicts."""
    enough = (table["pairs"] >= MINIMUM_SEEDS).to_numpy()
    family = int(enough.sum())
    table["p_holm"] = np.nan
    table.loc[enough, "p_holm"] = holm(table.loc[enough, "p_value"].to_numpy(dtype=np.float64))
    table["verdict"] = [
        _verdict(int(row["pairs"]), row["difference"], row["p_holm"], family, level)
        for row in table.to_dict("records")
    ]
    return table.assign(family=family, seeds_needed=seeds_needed(family or len(table), level))


def bca_interval(values: Array, confidence: float = 0.95) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap interval of the mean (Efron 1987); seeded.

    (NaN, NaN) below three values; the value itself when all are equal.
    """
    if len(values) < 3:
        return np.nan, np.nan
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    found = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=confidence,
        n_resamples=RESAMPLES,
        method="BCa",
        rng=np.random.default_rng(0),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def sign_flip_p_value(differences: Array) -> float:
    """Two-sided p-value of mean ≠ 0 under sign flips: exact up to ``EXACT_PAIRS`` pairs; NaN for none.

    >>> sign_flip_p_value(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    0.03125
    """
    n = len(differences)
    if n == 0:
        return np.nan
    # sums of the same numbers in another order differ in the last bits
    least = abs(differences.sum()) - 1e-12 * np.abs(differences).sum()
    if least <= 0:
        return 1.0
    if n > EXACT_PAIRS:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(RESAMPLES, n))
        totals = np.append(signs @ differences, differences.sum())
        return float(np.mean(np.abs(totals) >= least))
    # Of two halves' sums, a + b ≥ t: counted by search, so 2ⁿ patterns cost about 2^(n/2).
    left, right = (_signed_sums(half) for half in np.split(differences, [n // 2]))
    below = np.searchsorted(np.sort(right), least - left, side="left")
    return float(2 * np.sum(len(right) - below) / 2.0**n)


def _signed_sums(values: Array) -> Array:
    """All 2^len(values) sums of ±values."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums - value, sums + value])
    return sums


def effect_size(differences: Array) -> float:
    """d_z: the mean difference in standard deviations of the differences; NaN without spread."""
    if len(differences) < 2 or np.ptp(differences) == 0:
        return np.nan
    return float(differences.mean() / differences.std(ddof=1))


def holm(p_values: Array) -> Array:
    """Holm's step-down correction (1979): controls the family-wise error for any dependence.

    >>> holm(np.array([0.01, 0.04, 0.03]))
    array([0.03, 0.06, 0.06])
    """
    order = np.argsort(p_values)
    stepped = p_values[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty_like(p_values)
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return corrected


def seeds_needed(family: int, level: float = 0.05) -> int:
    """Pairs from which on one of ``family`` comparisons can be significant at all: 2·family/2ⁿ ≤ level.

    >>> seeds_needed(1), seeds_needed(8), seeds_needed(24)
    (6, 9, 10)
    """
    least = next(n for n in itertools.count(1) if family * 2.0 ** (1 - n) <= level)
    return max(least, MINIMUM_SEEDS)


def _verdict(pairs: int, difference: float, p_holm: float, family: int, level: float) -> str:
    if p_holm <= level:
        return "first higher" if difference > 0 else "second higher"
    if pairs < seeds_needed(family, level):
        return "insufficient seeds"
    return "no difference shown"


def _check_confidence(confidence: float) -> float:
    check_real("confidence", confidence, 0.5, 0.9999)
    return confidence


def _present(study: pd.DataFrame, names: Sequence[str]) -> list[str]:
    return [name for name in names if name in study]
