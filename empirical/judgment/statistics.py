"""From seeds to verdicts: which differences between arms are real, and how large they are.

A study's cells that differ in nothing but the seed are repetitions of one *arm at one setting*.  Cells
of one seed share their weights' random numbers, their shuffles and their crops, so two arms are
compared *paired by seed*.  ``cell_statistics`` and ``pair_statistics`` are the tables of a whole study,
``compare`` is that of one question; ``paired`` and ``unpaired`` are the test that all verdicts rest on:

    p_value       two-sided t test of mean 0 (Student 1908) over the seeds that both sides share; where
                  fewer than ``MINIMUM_SEEDS`` are shared, Welch's (1947) over each side's own
    low, high     its interval
    p_exact       beside it, from ``EXACT_SEEDS`` seeds on: the sign-flip test (Fisher 1935), which
                  needs no normal distribution, and can give no p-value below 2/2ⁿ
    p_equivalent  two one-sided tests (Schuirmann 1987): the mean lies within ``MARGIN`` of 0

Holm's correction (1979) is over a family.  The difference of two arms that spread alike is free of the
skewness that each may have; what is not such a difference is tested more safely, with every p
multiplied by ``UNEVEN``, or by ``ALONE`` for one arm against a number, or against an arm whose seeds do
not differ at all: ``calibration`` shows that false alarms are then as rare as they should be.  A
diverged cell has no accuracy: it is counted apart, and never averaged in.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from empirical.arm import Arm, shared_changes
from empirical.presets import MANY_SEEDS
from theory.errors import RequestError

Array = NDArray[np.float64]

LEVEL = 0.05
MINIMUM_SEEDS = 3  # from which on a spread is more than a guess: below, no test and no interval
EXACT_SEEDS = 6  # from which on the exact test can reach ``LEVEL``
UNEVEN, ALONE = 2, 4  # by what p is multiplied where arms do not even out each other's skewness
MARGIN = 1.0  # points of accuracy: a smaller difference does not matter
POWER = 0.8  # with which ``seeds_needed`` is to show the difference
RESAMPLES = 9_999  # sign patterns of the exact test, where there are more
INSUFFICIENT = "not enough seeds"
TOO_CLOSE = "too close to call"
EQUIVALENT = "no difference that matters"

ARM = ("arm", "activation", "depth")
# What is compared, and what both sides share.
FAMILIES = {"arm": ("activation", "depth"), "activation": ("arm", "depth")}

SUMMARY_COLUMNS = {
    "arm": "and activation and depth: what the seeds share",
    "seeds": "cells that completed",
    "diverged": "cells that diverged: not in the statistics beside it",
    "mean": "mean over seeds of the final value",
    "std": "standard deviation over seeds, divisor n − 1; NaN for one seed",
    "low": "lower end of the t interval of the mean; NaN below ``MINIMUM_SEEDS``",
    "high": "its upper end",
}
COMPARISON_COLUMNS = {
    "first": "the arm that the difference is counted from",
    "second": "the other arm; and the columns that both share",
    "seeds": "seeds that completed in both arms; of the smaller arm where Welch's test stands in",
    "paired": "whether they are the same seeds",
    "diverged_first": "diverged cells of the first arm",
    "diverged_second": "diverged cells of the second arm",
    "difference": "mean over the seeds of first minus second",
    "low": "lower end of its t interval; NaN below ``MINIMUM_SEEDS``",
    "high": "its upper end",
    "effect_size": "d_z = mean difference / standard deviation of the differences; NaN without spread",
    "p_value": "two-sided t test",
    "p_exact": "two-sided sign-flip test, uncorrected; NaN below ``EXACT_SEEDS``",
    "p_holm": "the t test's after Holm's correction over the family's rows with enough seeds",
    "family": "comparisons in the family with enough seeds, over which Holm corrects",
    "seeds_needed": "seeds that would show a difference of this size, if it is as it looks and the "
    "whole family is tested",
    "verdict": "first higher, second higher, no difference that matters, too close to call, or not "
    "enough seeds",
}
PAIR_COLUMNS = {"compared": "arm or activation: the family", **COMPARISON_COLUMNS}


# ------------------------------------------------------------------------------------- the test


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, how far it is known, and the tests of its being 0; NaN for too few seeds.

    ``p_not_worse`` is that of mean ≤ −margin; ``effect_size`` d_z, mean over standard deviation.
    """

    mean: float = math.nan
    seeds: int = 0
    paired: bool = True
    low: float = math.nan
    high: float = math.nan
    p_value: float = math.nan
    p_exact: float = math.nan
    p_not_worse: float = math.nan
    p_equivalent: float = math.nan
    effect_size: float = math.nan


def paired(values: Array, *, penalty: int = 1) -> Estimate:
    """The mean of ``values`` (n,), one per seed, against 0.

    ``penalty``: 1 for differences of two arms, else ``UNEVEN`` or ``ALONE``.  It multiplies p, and the
    interval is as much wider.
    """
    n, mean = len(values), float(np.mean(values)) if len(values) else math.nan
    if n < MINIMUM_SEEDS:
        return Estimate(mean, n)
    p_exact = sign_flip_p_value(values) if n >= EXACT_SEEDS else math.nan
    if constant(values):
        size = math.copysign(math.inf, mean) if mean else 0.0
        p_value = float(t_p_value(values, penalty))
        return Estimate(mean, n, True, mean, mean, p_value, p_exact, effect_size=size)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(1 - LEVEL / penalty)
    above = float(stats.ttest_1samp(values, -MARGIN, alternative="greater").pvalue)
    below = float(stats.ttest_1samp(values, MARGIN, alternative="less").pvalue)
    return Estimate(
        mean,
        n,
        low=float(low),
        high=float(high),
        p_value=float(t_p_value(values, penalty)),
        p_exact=p_exact,
        p_not_worse=min(penalty * above, 1.0),
        p_equivalent=min(penalty * max(above, below), 1.0),
        effect_size=mean / float(np.std(values, ddof=1)),
    )


def unpaired(first: Array, second: Array, *, penalty: int = 1) -> Estimate:
    """The mean of ``first`` (n,) minus that of ``second`` (m,), of other seeds, against 0 (Welch).

    Its ``effect_size`` is that of pairs which have nothing in common.
    """
    n = min(len(first), len(second))
    mean = float(np.mean(first) - np.mean(second)) if n else math.nan
    if n < MINIMUM_SEEDS or (constant(first) and constant(second)):
        return Estimate(mean, n, paired=False)
    if constant(first) or constant(second):  # Welch's test is Student's of the one that varies
        values = first - np.mean(second) if constant(second) else np.mean(first) - second
        return replace(paired(values, penalty=penalty), seeds=n, paired=False)
    found = stats.ttest_ind(first, second, equal_var=False)
    low, high = found.confidence_interval(1 - LEVEL / penalty)
    higher = stats.ttest_ind(first + MARGIN, second, equal_var=False, alternative="greater")
    lower = stats.ttest_ind(first - MARGIN, second, equal_var=False, alternative="less")
    above, below = float(higher.pvalue), float(lower.pvalue)
    return Estimate(
        mean,
        n,
        paired=False,
        low=float(low),
        high=float(high),
        p_value=min(penalty * float(found.pvalue), 1.0),
        p_not_worse=min(penalty * above, 1.0),
        p_equivalent=min(penalty * max(above, below), 1.0),
        effect_size=mean / math.hypot(np.std(first, ddof=1), np.std(second, ddof=1)),
    )


def t_p_value(values: Array, penalty: int = 1) -> Array:
    """Two-sided p-value (…) of mean 0 of ``values`` (…, n) by the t test, times the ``penalty``.

    Seeds that do not differ at all say nothing of their spread: p is then the exact test's, 2/2ⁿ, or 1
    if they are 0.

    >>> round(float(t_p_value(np.array([1.0, 2.0, 3.0]))), 4)
    0.0742
    >>> float(t_p_value(np.array([2.0, 2.0, 2.0])))
    0.25
    """
    n, same = values.shape[-1], constant(values)
    mean, error = values.mean(axis=-1), values.std(axis=-1, ddof=1) / math.sqrt(n)
    p: Array = 2 * stats.t.sf(np.abs(mean) / np.where(same, 1.0, error), n - 1)
    p = np.where(same, np.where(mean == 0, 1.0, 2 / 2.0**n), p)
    return np.minimum(penalty * p, 1.0)


def constant(values: Array) -> Any:
    """Whether the last axis holds one value, but for rounding."""
    return np.ptp(values, axis=-1) <= 1e-12 * np.abs(values).max(axis=-1)


def sign_flip_p_value(differences: Array) -> float:
    """Two-sided p-value of mean ≠ 0 under sign flips, exact up to 13 seeds; NaN for none.

    >>> sign_flip_p_value(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    0.03125
    """
    if len(differences) < 2:  # one value and its opposite
        return 1.0 if len(differences) else math.nan
    found = stats.permutation_test(
        (np.asarray(differences),),
        np.mean,
        permutation_type="samples",
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(0),
        vectorized=True,
    )
    return float(found.pvalue)


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


def seeds_needed(effect_size: float, level: float = LEVEL) -> int:
    """Seeds with which a paired t test at ``level`` shows an effect of this d_z with ``POWER``.

    By the noncentral t distribution; that the wrong side is shown has no part in it.

    At least ``MINIMUM_SEEDS``, which is also the answer where the effect is not known; at most 1,000.

    >>> seeds_needed(3.0), seeds_needed(-3.0, level=0.05 / 14), seeds_needed(0.5)
    (4, 6, 34)
    """
    if math.isnan(effect_size):
        return MINIMUM_SEEDS
    if math.isinf(effect_size):  # seeds that do not differ: 2/2ⁿ is to be small enough
        return max(MINIMUM_SEEDS, math.ceil(1 + math.log2(1 / level)))
    size = min(abs(effect_size), 20.0)

    def power(seeds: int) -> float:
        edge = stats.t.isf(level / 2, seeds - 1)
        return float(stats.nct.sf(edge, seeds - 1, size * math.sqrt(seeds)))

    enough = range(MINIMUM_SEEDS, 1_000)
    return MINIMUM_SEEDS + bisect.bisect_left(enough, POWER, key=power)


def undecided(seeds: int, needed: int, *, equivalent: bool) -> str:
    """What to call what so many ``seeds`` do not decide."""
    if seeds < MINIMUM_SEEDS or seeds < needed <= MANY_SEEDS:
        return INSUFFICIENT
    return EQUIVALENT if equivalent else TOO_CLOSE


# -------------------------------------------------------------------------------------- the tables


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


def cell_statistics(study: pd.DataFrame) -> pd.DataFrame:
    """Mean, spread and interval over seeds of every arm × activation × depth of a study.

    Columns: ``ARM``, then those of ``SUMMARY_COLUMNS``.  An interval is of the cell, not of a test.
    """
    values = final_values(with_own_arms(study))
    rows = []
    for key, cells in values.groupby(list(ARM), sort=False, dropna=False):
        # the same seed again is no repetition; and no number may depend on the order of the rows
        cells = cells.drop_duplicates("seed").sort_values("seed")
        found = cells.loc[cells["status"] == "completed", "test_accuracy"].to_numpy(dtype=np.float64)
        estimate = paired(found)
        rows.append(
            dict(zip(ARM, key, strict=True))
            | {
                "seeds": len(found),
                "diverged": int((cells["status"] == "diverged").sum()),
                "mean": estimate.mean,
                "std": found.std(ddof=1) if len(found) > 1 else np.nan,
                "low": estimate.low,
                "high": estimate.high,
            }
        )
    return pd.DataFrame(rows)


def pair_statistics(study: pd.DataFrame) -> pd.DataFrame:
    """Every comparison of a study: arms within activation × depth, activations within arm × depth.

    Columns: ``PAIR_COLUMNS``; no rows where there is nothing to compare.  Each of the two kinds is a
    family of Holm's correction: whoever looks at all arms wants no false alarm among all of them.
    """
    values = final_values(with_own_arms(study))
    found = []
    for compared, shared in FAMILIES.items():
        arms = itertools.combinations(values[compared].unique(), 2)
        rows = [
            row for first, second in arms for row in _compared(values, compared, first, second, shared)
        ]
        if rows:
            found.append(_judged(pd.DataFrame(rows)).assign(compared=compared))
    names = [name for name in PAIR_COLUMNS if name not in ARM]
    order = [names[0], *names[1:3], *ARM, *names[3:]]
    if not found:
        return pd.DataFrame(columns=order)
    return pd.concat(found).reindex(columns=order)  # one family alone lacks the other's column


def compare(study: pd.DataFrame, arm: str, first: object, second: object) -> pd.DataFrame:
    """``first`` against ``second`` in the column ``arm``, paired by seed, at every shared setting.

    The rows are the family of Holm's correction.  Settings are what the table has of ``ARM`` beside
    ``arm``.  Columns: ``COMPARISON_COLUMNS``.  Raises ``RequestError`` if the arms share no setting.
    """
    values = final_values(study)
    shared = [name for name in ARM if name != arm and name in study]
    rows = _compared(values, arm, first, second, shared)
    if not rows:
        raise RequestError(f"{first!r} and {second!r} share no setting in which both were run")
    return _judged(pd.DataFrame(rows))


def _compared(
    values: pd.DataFrame, arm: str, first: object, second: object, shared: Iterable[str]
) -> list[dict[Hashable, Any]]:
    """A row for each setting of the columns ``shared`` at which both arms were run."""
    names = list(shared)
    rows: list[dict[Hashable, Any]] = []
    for key, cells in values.groupby(names, sort=False, dropna=False):
        arms = [
            cells[_equals(cells[arm], one)].drop_duplicates("seed").set_index("seed").sort_index()
            for one in (first, second)
        ]
        if any(one.empty for one in arms):
            continue
        ours, theirs = (
            one.loc[one["status"] == "completed", "test_accuracy"].astype(float) for one in arms
        )
        found = between(ours, theirs)
        rows.append(
            {"first": first, "second": second}
            | dict(zip(names, key, strict=True))
            | {
                "diverged_first": int((arms[0]["status"] == "diverged").sum()),
                "diverged_second": int((arms[1]["status"] == "diverged").sum()),
                "difference": found.mean,
            }
            | {name: value for name, value in vars(found).items() if name != "mean"}
        )
    return rows


def between(first: pd.Series[float], second: pd.Series[float]) -> Estimate:
    """``first`` minus ``second``, both indexed by seed: paired if enough seeds are shared, or all."""
    seeds = first.index.intersection(second.index).sort_values()
    fewest = min(len(first), len(second))
    apart = len(seeds) < MINIMUM_SEEDS <= fewest or (not len(seeds) and fewest)
    ours, theirs = (np.asarray(one if apart else one.loc[seeds]) for one in (first, second))
    if not min(len(ours), len(theirs)):
        return Estimate()
    penalty = ALONE if constant(ours) != constant(theirs) else 1
    return unpaired(ours, theirs, penalty=penalty) if apart else paired(ours - theirs, penalty=penalty)


def _equals(column: pd.Series, value: object) -> pd.Series:
    """Where ``column`` holds ``value``; a field that is not set is None, or NaN in a table."""
    return column.isna() if value is None or value != value else column == value


def _judged(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of one family with Holm's p-values and verdicts."""
    enough = table["p_value"].notna().to_numpy()
    table = table.assign(family=int(enough.sum()), p_holm=np.nan)
    table.loc[enough, "p_holm"] = holm(table.loc[enough, "p_value"].to_numpy(dtype=np.float64))
    within = table["p_equivalent"].fillna(1.0).to_numpy(dtype=np.float64)
    table["seeds_needed"] = [
        seeds_needed(size, LEVEL / max(len(table), 1)) for size in table["effect_size"]
    ]
    table["verdict"] = [
        _verdict(row, equivalent=equivalent)
        for row, equivalent in zip(table.to_dict("records"), holm(within) <= LEVEL, strict=True)
    ]
    return table.drop(columns=["p_not_worse", "p_equivalent"])


def _verdict(row: dict[Hashable, Any], *, equivalent: bool) -> str:
    if row["p_holm"] <= LEVEL:
        return "first higher" if row["difference"] > 0 else "second higher"
    return undecided(row["seeds"], row["seeds_needed"], equivalent=equivalent)
