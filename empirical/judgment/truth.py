"""From records to the truth of a sentence.

A sentence about a study ("He beats N(0, 1) at every depth") is written as *parts*.  A part is a linear
combination of one number per cell and seed,

    t_s = Σ_i f_i·Q_i(cells_i, seed s) − threshold,

and the sentence is true if every part's mean over seeds is positive; ``evidence.QUANTITIES`` has the Q.
Cells of one seed share their shuffles and crops, so a part is taken seed by seed, over the seeds that
completed in all of its cells.  A diverged cell has no numbers: it takes its seed out, and is counted.

    confirmed   every part is positive, each by the two-sided exact sign-flip test: p = max p_i, which
                for a conjunction needs no correction (intersection–union test, Berger 1982)
    refuted     some part is negative: the smallest of the parts' sums, each over √Σt², is compared with
                its values when the seeds' signs are flipped, all parts of a seed together (max-T;
                Westfall & Young 1993); two-sided, so doubled

and p after Holm's correction over the family of sentences is at most the level.  Below six seeds, or
where the smallest p-value that so many seeds can give is not small enough in the family, the verdict is
"open: insufficient seeds", however large the difference; what the runs there are say is told apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from empirical.judgment.evidence import QUANTITIES, Cells, Evidence
from empirical.judgment.statistics import (
    MINIMUM_SEEDS,
    RESAMPLES,
    bca_interval,
    holm,
    sign_flip_p_value,
)
from empirical.protocol import published_accuracy

Array = NDArray[np.float64]

LEVEL = 0.05
EXACT_SEEDS = 14  # beyond, sign patterns are sampled instead of enumerated
CONFIRMED, REFUTED = "confirmed", "refuted"
INSUFFICIENT = "open: insufficient seeds"
NOT_SHOWN = "open: not shown"
NO_RECORDS = "open: records missing"
DIVERGED = "open: diverged"
AGREES, DISAGREES = "agrees", "disagrees"


# --------------------------------------------------------------------------- parts of a sentence


@dataclass(frozen=True)
class Term:
    """f·Q(cells)."""

    factor: float
    quantity: str
    cells: Cells


@dataclass(frozen=True)
class Part:
    """What must be positive: Σ terms − threshold."""

    name: str
    terms: tuple[Term, ...]
    threshold: float = 0.0

    @property
    def formula(self) -> str:
        """The part written out; ``QUANTITIES`` has the symbols.

        >>> Part("x", (Term(1, "accuracy", Cells("he", "relu", 12)),), 75.0).formula
        'A(he · relu · 12) > 75'
        """
        text = ""
        for term in self.terms:
            sign = ("−" if term.factor < 0 else "+") if text else ("−" if term.factor < 0 else "")
            size = "" if abs(term.factor) == 1 else f"{abs(term.factor):.4g}·"
            symbol = QUANTITIES[term.quantity].symbol
            text += f" {sign} " if text else sign
            text += f"{size}{symbol}({term.cells.name})"
        return f"{text} > {self.threshold:.4g}"

    def under(self, **changes: Any) -> Part:
        """The part under another protocol; a fan mode is nothing to N(0, 1)."""
        terms = (replace(term, cells=term.cells.changed(**changes)) for term in self.terms)
        return replace(self, terms=tuple(terms))

    @property
    def cells(self) -> list[Cells]:
        return list(dict.fromkeys(term.cells for term in self.terms))


def mean_of(quantity: str, cells: Sequence[Cells], factor: float = 1.0) -> tuple[Term, ...]:
    """``factor`` times the mean of a quantity over several cells."""
    return tuple(Term(factor / len(cells), quantity, one) for one in cells)


def difference(
    name: str, first: Sequence[Cells], second: Sequence[Cells], quantity: str = "accuracy"
) -> Part:
    """The mean over ``first`` minus the mean over ``second``."""
    return Part(name, mean_of(quantity, first) + mean_of(quantity, second, -1.0))


@dataclass(frozen=True)
class PartOutcome:
    """A part on the records: t_s by seed, and what stands in its way.

    ``missing`` cells have no record, ``lost`` ones none that completed; ``diverged`` counts the
    diverged records among the part's cells.
    """

    part: Part
    values: pd.Series[float]
    missing: tuple[Cells, ...] = ()
    lost: tuple[Cells, ...] = ()
    diverged: int = 0
    low: float = math.nan
    high: float = math.nan
    p_value: float = math.nan

    @property
    def mean(self) -> float:
        return float(self.values.mean()) if len(self.values) else math.nan

    @property
    def seeds(self) -> int:
        return len(self.values)


def evaluate(part: Part, evidence: Evidence) -> PartOutcome:
    """``part`` on the records: its value seed by seed, and from six seeds on interval and test."""
    if part not in evidence.memo:
        evidence.memo[part] = _evaluated(part, evidence)
    found: PartOutcome = evidence.memo[part]
    return found


def _evaluated(part: Part, evidence: Evidence) -> PartOutcome:
    missing = tuple(cells for cells in part.cells if not evidence.recorded(cells))
    lost = tuple(
        cells for cells in part.cells if cells not in missing and not evidence.completed(cells)
    )
    diverged = sum(map(evidence.diverged, part.cells))
    columns = [evidence.values(term.quantity, term.cells) for term in part.terms]
    seeds = sorted(set.intersection(*(set(column.index) for column in columns)))
    numbers = np.full(len(seeds), -part.threshold)
    for term, column in zip(part.terms, columns, strict=True):
        numbers += term.factor * column.loc[seeds].to_numpy()
    found = PartOutcome(part, pd.Series(numbers, index=seeds), missing, lost, diverged)
    if len(numbers) < MINIMUM_SEEDS:
        return found
    low, high = bca_interval(numbers, 1 - LEVEL)
    return replace(found, low=low, high=high, p_value=sign_flip_p_value(numbers))


def published(part: Part) -> float | None:
    """The part by the report's own printed accuracies (one run each); None where it has no such."""
    total = -part.threshold
    for term in part.terms:
        found = published_accuracy(term.cells.initializer, term.cells.activation, term.cells.depth)
        if term.quantity != "accuracy" or found is None:
            return None
        total += term.factor * found
    return total


# ------------------------------------------------------------------------------------- judgment


@dataclass(frozen=True)
class Judgment:
    """A sentence's parts on the records, and the verdict in its family.

    The *decisive* part is the one with the smallest mean: the sentence holds if even that is positive.
    """

    outcomes: tuple[PartOutcome, ...]
    p_value: float = math.nan
    p_holm: float = math.nan
    verdict: str = NO_RECORDS
    missing: tuple[Cells, ...] = field(init=False)

    def __post_init__(self) -> None:
        found = dict.fromkeys(cells for outcome in self.outcomes for cells in outcome.missing)
        object.__setattr__(self, "missing", tuple(found))

    @property
    def measured(self) -> list[PartOutcome]:
        return [outcome for outcome in self.outcomes if outcome.seeds]

    @property
    def complete(self) -> bool:
        """Whether every part could be measured."""
        return bool(self.outcomes) and len(self.measured) == len(self.outcomes)

    @property
    def decisive(self) -> PartOutcome | None:
        return min(self.measured, key=lambda outcome: outcome.mean, default=None)

    @property
    def seeds(self) -> int:
        """The fewest seeds of any part; 0 unless every part was measured."""
        return min((outcome.seeds for outcome in self.outcomes), default=0)

    @property
    def direction(self) -> str:
        """Whether the runs there are agree with the sentence; "" if there are none."""
        if self.decisive is None:
            return ""
        return AGREES if self.decisive.mean > 0 else DISAGREES

    @property
    def cells(self) -> list[Cells]:
        """All cells of the parts, each once."""
        return list(dict.fromkeys(one for outcome in self.outcomes for one in outcome.part.cells))


def judge(sentences: Mapping[str, Iterable[Part]], evidence: Evidence) -> dict[str, Judgment]:
    """Judge a family of sentences, each by its name with its parts; Holm's correction is over all."""
    found = {
        name: Judgment(tuple(evaluate(part, evidence) for part in parts))
        for name, parts in sentences.items()
    }
    tested = [
        name for name, judgment in found.items()
        if judgment.complete and judgment.seeds >= MINIMUM_SEEDS
    ]  # fmt: skip
    raw = np.array([conjunction_p_value(found[name].outcomes) for name in tested])
    for name, p_value, p_holm in zip(tested, raw, holm(raw), strict=True):
        found[name] = replace(found[name], p_value=float(p_value), p_holm=float(p_holm))
    return {
        name: replace(judgment, verdict=_verdict(judgment, len(tested)))
        for name, judgment in found.items()
    }


def conjunction_p_value(outcomes: Sequence[PartOutcome]) -> float:
    """p of "every part is positive" if all means are, else of "some part is negative"."""
    if all(outcome.mean > 0 for outcome in outcomes):
        return max(outcome.p_value for outcome in outcomes)
    together = pd.concat([outcome.values for outcome in outcomes], axis=1, join="inner")
    return some_negative_p_value(together.to_numpy(dtype=np.float64))


def some_negative_p_value(values: Array) -> float:
    """Twice the one-sided max-T p-value of "some column's mean is below 0" for ``values`` (n, m).

    Exact up to 2^``EXACT_SEEDS`` sign patterns of the n rows, sampled beyond; 1 without a row.  With
    one column it is the two-sided sign-flip test's.

    >>> some_negative_p_value(-np.arange(1.0, 7.0)[:, None])
    0.03125
    """
    n = len(values)
    norms = np.sqrt((values**2).sum(axis=0))
    if n == 0 or not norms.any():
        return 1.0
    scaled = values[:, norms > 0] / norms[norms > 0]
    if n <= EXACT_SEEDS:
        signs = 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    else:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(RESAMPLES + 1, n))
        signs[0] = 1.0
    smallest = (signs @ scaled).min(axis=1)
    return min(1.0, 2 * float(np.mean(smallest <= smallest[0] + 1e-12)))


def seeds_needed(family: int) -> int:
    """The fewest seeds with which a family of so many sentences can be decided: family·2/2ⁿ ≤ 0.05.

    >>> seeds_needed(1), seeds_needed(14)
    (6, 10)
    """
    return max(MINIMUM_SEEDS, math.ceil(1 + math.log2(max(family, 1) / LEVEL)))


def _verdict(judgment: Judgment, family: int) -> str:
    if judgment.missing or not judgment.outcomes:
        return NO_RECORDS
    if any(outcome.lost for outcome in judgment.outcomes):
        return DIVERGED
    if judgment.p_holm <= LEVEL:
        return CONFIRMED if judgment.direction == AGREES else REFUTED
    if judgment.seeds < seeds_needed(family):
        return INSUFFICIENT
    return NOT_SHOWN
