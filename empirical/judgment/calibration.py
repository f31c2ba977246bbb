"""How often the tests behind the verdicts see an effect where there is none, and what they decide.

The t test supposes normal seeds.  ``false_alarms`` draws seeds of other shapes and counts p ≤ level; in
each ``DESIGNS`` the mean is 0:

    two arms      the difference of two arms of the same shape: symmetric, whatever the shape
    half an arm   ½ of one arm minus another, as in "nearer to none than to …": p times ``UNEVEN``
    one arm       against a printed number, with nothing to even out a skewness: p times ``ALONE``

``resampled`` does the same with the recorded cells of the most seeds in the place of a shape, drawing
their seeds with replacement about their mean.  ``normality`` says how normal the recorded cells are,
and ``resemblance`` which shapes they could come from: by the mean skewness and the mean excess kurtosis
over the cells, each compared with its values in simulated cells of the same sizes.  ``stopped`` counts
false alarms where seeds are added until there is one.  ``decided`` draws studies of n seeds about the
recorded means, to see how many of the claims so many seeds would decide.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from empirical.judgment.claims import claims
from empirical.judgment.evidence import Cells, Evidence
from empirical.judgment.statistics import (
    ALONE,
    EQUIVALENT,
    EXACT_SEEDS,
    LEVEL,
    MINIMUM_SEEDS,
    UNEVEN,
    Array,
    sign_flip_p_value,
    t_p_value,
)
from empirical.judgment.truth import CONFIRMED, REFUTED, judge

Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]
GAMMA = 4.0  # its skewness is 2/√4 = 1

SHAPES: Mapping[str, Draw] = {  # each of mean 0
    "normal": lambda random, size: random.normal(size=size),
    "uniform": lambda random, size: random.uniform(-1, 1, size),
    "heavy tails (t, 5 degrees)": lambda random, size: random.standard_t(5, size),
    "heavier tails (t, 3 degrees)": lambda random, size: random.standard_t(3, size),
    "skewed (1)": lambda random, size: random.gamma(GAMMA, size=size) - GAMMA,
    "very skewed (2)": lambda random, size: random.exponential(size=size) - 1.0,
}
DESIGNS: Mapping[str, tuple[int, Callable[[Array, Array], Array]]] = {  # with the penalty
    "two arms": (1, lambda one, other: one - other),
    "half an arm": (UNEVEN, lambda one, other: 0.5 * one - other),
    "one arm": (ALONE, lambda one, other: one),
}
COLUMNS = {
    "shape": "of the seeds",
    "design": "one of ``DESIGNS``",
    "seeds": "",
    "t": "share of p ≤ level by the t test",
    "used": "the same of the test that is used, with its penalty",
    "exact": "of the sign-flip test, over fewer runs; NaN below ``EXACT_SEEDS``",
    "error": "standard error of ``used``, if it is the level",
}
EXACT_RUNS = 400


def false_alarms(
    seeds: Sequence[int] = (3, 5, 10), runs: int = 100_000, shapes: Mapping[str, Draw] = SHAPES
) -> pd.DataFrame:
    """The share of false alarms of each shape, design and number of seeds; columns: ``COLUMNS``."""
    random, rows = np.random.default_rng(0), []
    error = math.sqrt(LEVEL * (1 - LEVEL) / runs)
    for count in seeds:
        for shape, draw in shapes.items():
            for design, (penalty, values_of) in DESIGNS.items():
                values = values_of(draw(random, (runs, count)), draw(random, (runs, count)))
                t = float(np.mean(t_p_value(values) <= LEVEL))
                used = float(np.mean(t_p_value(values, penalty) <= LEVEL))
                exact = math.nan
                if count >= EXACT_SEEDS:
                    p = [sign_flip_p_value(row) for row in values[:EXACT_RUNS]]
                    exact = float(np.mean(np.array(p) <= LEVEL))
                rows.append((shape, design, count, t, used, exact, error))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def resampled(
    evidence: Evidence, seeds: Sequence[int] = (3, 5, 10), runs: int = 100_000, least: int = 10
) -> pd.DataFrame:
    """``false_alarms`` with the recorded cells of at least so many seeds as shapes."""
    shapes = {name: _resampling(values) for name, values in _samples(evidence, least).items()}
    return false_alarms(seeds, runs, shapes)


def stopped(level: float = LEVEL, most: int = 10, runs: int = 100_000) -> float:
    """The share of false alarms if a test is made at every number of seeds up to ``most``, and one of
    them counts: normal differences of mean 0, p ≤ ``level`` at any look (Armitage et al. 1969)."""
    values = np.random.default_rng(3).normal(size=(runs, most))
    looks = [t_p_value(values[:, :seeds]) <= level for seeds in range(MINIMUM_SEEDS, most + 1)]
    return float(np.mean(np.any(looks, axis=0)))


def _resampling(values: Array) -> Draw:
    return lambda random, size: random.choice(values - values.mean(), size)


def _samples(evidence: Evidence, least: int) -> dict[str, Array]:
    """The final accuracies of every recorded configuration of at least so many completed seeds."""
    rows = evidence.study.drop_duplicates("cell").to_dict("records")
    every = dict.fromkeys(Cells.of(row) for row in rows)
    found = {one.name: np.asarray(evidence.values("accuracy", one)) for one in every}
    return {name: values for name, values in found.items() if len(values) >= least}


def normality(evidence: Evidence, least: int = EXACT_SEEDS) -> pd.DataFrame:
    """Of each cell of so many seeds: seeds, std, skewness, excess kurtosis, shapiro (its p-value)."""
    rows = []
    for name, values in _samples(evidence, least).items():
        skewness, kurtosis = (of(values, bias=False) for of in (stats.skew, stats.kurtosis))
        shapiro = float(stats.shapiro(values).pvalue)
        rows.append((name, len(values), values.std(ddof=1), skewness, kurtosis, shapiro))
    return pd.DataFrame(rows, columns=["cell", "seeds", "std", "skewness", "kurtosis", "shapiro"])


def resemblance(evidence: Evidence, runs: int = 20_000) -> dict[str, float]:
    """Of each shape the p-value of the recorded cells' being of it: small if they are not like it."""
    recorded = normality(evidence)
    sizes, random = list(recorded["seeds"]), np.random.default_rng(1)
    found = {}
    for shape, draw in SHAPES.items():
        samples = [draw(random, (runs, size)) for size in sizes]
        tails = []
        for name, measure in (("skewness", stats.skew), ("kurtosis", stats.kurtosis)):
            simulated = np.mean([measure(one, axis=1, bias=False) for one in samples], axis=0)
            below = float(np.mean(simulated <= recorded[name].mean()))
            tails.append(2 * min(below, 1 - below))
        found[shape] = min(1.0, 2 * min(tails))
    return found


def agreement(evidence: Evidence) -> tuple[int, int]:
    """Of how many differences of two recorded cells both tests say the same, and how many there are."""
    known = sorted(_samples(evidence, EXACT_SEEDS).items())
    same = []
    for (_, one), (_, other) in itertools.combinations(known, 2):
        both = min(len(one), len(other))
        differences = one[:both] - other[:both]
        t, exact = float(t_p_value(differences)), sign_flip_p_value(differences)
        same.append((t <= LEVEL) == (exact <= LEVEL))
    return sum(same), len(same)


class Projected(Evidence):
    """Evidence with ``seeds`` drawn about the recorded means, normal, with the pooled spread."""

    def __init__(self, evidence: Evidence, seeds: int, random: np.random.Generator) -> None:
        super().__init__(evidence.study)
        self._recorded, self._seeds_drawn, self._random = evidence, seeds, random

    def values(self, quantity: str, cells: Cells) -> pd.Series[float]:
        """Drawn once for each quantity and cell."""
        if (quantity, cells) not in self._known:
            mean = self._recorded.mean(quantity, cells)
            noise = self._random.normal(0, self._recorded.spread(quantity), self._seeds_drawn)
            self._known[quantity, cells] = pd.Series(mean + noise).dropna()
        return self._known[quantity, cells]


def decided(evidence: Evidence, seeds: int, runs: int = 20) -> list[int]:
    """How many claims, as printed, so many seeds would decide if the means are those recorded.

    Decided is yes, no, or no difference that matters.
    """
    random, counts = np.random.default_rng(2), []
    sentences = {claim.name: claim.parts for claim in claims()}
    for _ in range(runs):
        found = judge(sentences, Projected(evidence, seeds, random)).values()
        counts.append(sum(one.verdict in (CONFIRMED, REFUTED, EQUIVALENT) for one in found))
    return counts
