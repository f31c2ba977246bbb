"""From seeds to verdicts: which differences between arms are real, and how large they are.

A study's cells that differ in nothing but the seed are repetitions of one *arm at one setting*.  Cells
of one seed share their weights' random numbers, their shuffles and their crops, so two arms are
compared *paired by seed*.

    summary       mean, standard deviation and BCa bootstrap interval (Efron 1987) of one cell's seeds
    comparison    mean difference, its interval, the exact sign-flip permutation test (Fisher 1935; all
                  2ⁿ sign patterns), Holm's correction (1979) over the family, effect size d_z
    divergence    counted apart: a diverged cell has no accuracy, and is never averaged in

With n pairs the smallest two-sided p-value is 2/2ⁿ.  Below six pairs, and wherever that smallest
p-value times the size of the family exceeds the level, no outcome could have shown a difference: the
verdict is then "insufficient seeds", in words, and not "no difference shown".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from theory.errors import RequestError, check_real

Array = NDArray[np.float64]

MINIMUM_SEEDS = 6
EXACT_PAIRS = 20  # beyond, 2ⁿ sign patterns are sampled instead of enumerated
RESAMPLES = 9_999
SETTING = ("norm", "fan", "filters", "precision", "activation", "depth")

SUMMARY_COLUMNS = {
    "initializer": "and the columns of SETTING: what the seeds have in common",
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


def final_values(study: pd.DataFrame, quantity: str = "test_accuracy") -> pd.DataFrame:
    """The last epoch of every cell of a study's table: one row per cell, with ``quantity``.

    Raises ``RequestError`` if the table has no such column.
    """
    if quantity not in study:
        raise RequestError(f"the study has no column {quantity!r}: it has {', '.join(map(str, study))}")
    last = study.sort_values("epoch", kind="stable").groupby("cell", sort=False).tail(1)
    return last.reset_index(drop=True)


def summary(
    study: pd.DataFrame, quantity: str = "test_accuracy", *, confidence: float = 0.95
) -> pd.DataFrame:
    """Mean, spread and interval over seeds for each setting; columns: ``SUMMARY_COLUMNS``."""
    _check_confidence(confidence)
    keys = ["initializer", *_present(study, SETTING)]
    rows = []
    for key, cells in final_values(study, quantity).groupby(keys, sort=False):
        completed = cells[cells["status"] == "completed"]
        values = completed[quantity].to_numpy(dtype=np.float64)
        low, high = bca_interval(values, confidence)
        rows.append(
            dict(zip(keys, key, strict=True))
            | {
                "seeds": len(values),
                "diverged": int((cells["status"] == "diverged").sum()),
                "mean": values.mean() if len(values) else np.nan,
                "std": values.std(ddof=1) if len(values) > 1 else np.nan,
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
    rows = []
    for key, cells in values.groupby(shared, sort=False):
        arms = [cells[cells[arm] == one].set_index("seed") for one in (first, second)]
        if any(one.empty for one in arms):
            continue
        done = [one.loc[one["status"] == "completed", quantity] for one in arms]
        pairs = done[0].index.intersection(done[1].index)
        differences = (done[0].loc[pairs] - done[1].loc[pairs]).to_numpy(dtype=np.float64)
        low, high = bca_interval(differences, confidence)
        rows.append(
            {"first": first, "second": second}
            | dict(zip(shared, key, strict=True))
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
    if not rows:
        raise RequestError(f"{first!r} and {second!r} share no setting in which both were run")
    table = pd.DataFrame(rows)
    enough = (table["pairs"] >= MINIMUM_SEEDS).to_numpy()
    table["p_holm"] = np.nan
    table.loc[enough, "p_holm"] = holm(table.loc[enough, "p_value"].to_numpy(dtype=np.float64))
    family = int(enough.sum())
    table["verdict"] = [
        _verdict(int(row["pairs"]), row["difference"], row["p_holm"], family, level)
        for row in table.to_dict("records")
    ]
    return table


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
    if n <= EXACT_PAIRS:
        patterns = np.arange(2**n)
        totals = np.zeros(2**n)
        for bit, difference in enumerate(differences):
            totals += np.where(patterns >> bit & 1, difference, -difference)
    else:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(RESAMPLES, n))
        totals = np.append(signs @ differences, differences.sum())
    # sums of the same numbers in another order differ in the last bits
    slack = 1e-12 * np.abs(differences).sum()
    return float(np.mean(np.abs(totals) >= abs(differences.sum()) - slack))


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


def _verdict(pairs: int, difference: float, p_holm: float, family: int, level: float) -> str:
    if p_holm <= level:
        return "first higher" if difference > 0 else "second higher"
    if pairs < MINIMUM_SEEDS or family * 2.0 ** (1 - pairs) > level:
        return "insufficient seeds"
    return "no difference shown"


def _check_confidence(confidence: float) -> float:
    check_real("confidence", confidence, 0.5, 0.9999)
    return confidence


def _present(study: pd.DataFrame, names: Sequence[str]) -> list[str]:
    return [name for name in names if name in study]
