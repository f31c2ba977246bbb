"""From records to the truth of a sentence.

A sentence about a study ("He beats N(0, 1) at every depth") is written as *parts*.  A part is a linear
combination of one number per cell and seed,

    t_s = Σ_i f_i·Q_i(cells_i, seed s) − threshold,

and the sentence is true if every part's mean over seeds is positive; ``evidence.QUANTITIES`` has the Q.
Cells of one seed share their shuffles and crops, so a part is taken seed by seed, over the seeds that
completed in all of its cells.  Where a part is the ``total`` of others, all parts are over the seeds
that all share, if these are enough for a test, so that it is what they add up to.  ``statistics`` has
the tests.  A diverged cell has no numbers: it takes its seed out, and is counted.

    confirmed   every part is positive, each by its two-sided t test: p = max p_i, which for a
                conjunction needs no correction (intersection–union test, Berger 1982)
    refuted     some part is negative: p = m·min p_i over the negative ones of m parts (Bonferroni),
                whatever is missing of the others

and p after Holm's correction over the family of sentences is at most the level.  What is neither is

    no difference that matters  no part is below −``MARGIN`` points, and the decisive one is within
                                ±``MARGIN`` (two one-sided tests), after Holm's correction
    not enough seeds            fewer than ``MINIMUM_SEEDS``, or fewer than would do (and these are at
                                most ``MANY_SEEDS``) if the parts are as they look
    too close to call           the rest

What the runs there are say is told apart (``direction``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from empirical.judgment.evidence import QUANTITIES, Cells, Evidence
from empirical.judgment.statistics import (
    ALONE,
    LEVEL,
    MINIMUM_SEEDS,
    UNEVEN,
    Estimate,
    constant,
    holm,
    paired,
    seeds_needed,
    undecided,
    unpaired,
)
from empirical.protocol import published_accuracy

CONFIRMED, REFUTED = "confirmed", "refuted"
YES, NO, OPEN = "yes", "no", "open"  # the same of a question
NO_RECORDS = "records missing"
DIVERGED = "diverged"
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
    """What must be positive: Σ terms − threshold; a ``total`` sums up other parts of its sentence."""

    name: str
    terms: tuple[Term, ...]
    threshold: float = 0.0
    total: bool = False

    @property
    def formula(self) -> str:
        """The part written out; ``QUANTITIES`` has the symbols.

        >>> Part("x", (Term(1, "accuracy", Cells("he", "relu", 12)),), 75.0).formula
        'A(He · ReLU · 12) > 75'
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

    @property
    def points(self) -> bool:
        """Whether it is in points of accuracy."""
        return all(term.quantity == "accuracy" for term in self.terms)


def penalty(terms: Sequence[Term]) -> int:
    """By what the p-values of a sum of ``terms``, which all vary, are multiplied (``statistics``).

    Cells of like skewness even it out if the cubes of their factors add up to 0.
    """
    if len({term.cells for term in terms}) == 1:
        return ALONE
    cubes = [term.factor**3 for term in terms]
    alike = len({term.quantity for term in terms}) == 1
    even = alike and abs(math.fsum(cubes)) <= 1e-9 * math.fsum(map(abs, cubes))
    return 1 if even else UNEVEN


def in_unit(value: float, points: bool = True) -> str:
    """A difference with its sign: points with two decimals, average weights with three digits.

    >>> in_unit(1.234), in_unit(-0.012, False)
    ('+1.23', '-0.0120')
    """
    return f"{value:+.2f}" if points else f"{value:+#.3g}"


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
    """A part on the records: t_s by seed, what they say together, and what stands in its way.

    ``missing`` cells have no record, ``lost`` ones none that completed; ``diverged`` counts the
    diverged records among the part's cells.  ``effect_size`` is d_z; of fewer than ``MINIMUM_SEEDS`` by
    the spread that the study's other cells have.  ``level`` is ``LEVEL`` over the test's penalty.
    """

    part: Part
    values: pd.Series[float]
    estimate: Estimate
    effect_size: float
    level: float
    missing: tuple[Cells, ...] = ()
    lost: tuple[Cells, ...] = ()
    diverged: int = 0

    @property
    def mean(self) -> float:
        return self.estimate.mean

    @property
    def seeds(self) -> int:
        return self.estimate.seeds


def evaluate(part: Part, evidence: Evidence, among: frozenset[int] | None = None) -> PartOutcome:
    """``part`` on the records, over the seeds ``among`` which are to be used (None: all)."""
    if (part, among) not in evidence.memo:
        evidence.memo[part, among] = _evaluated(part, evidence, among)
    found: PartOutcome = evidence.memo[part, among]
    return found


def shared_seeds(part: Part, evidence: Evidence) -> frozenset[int]:
    """The seeds that completed in all of its cells."""
    found = [evidence.values(term.quantity, term.cells).index for term in part.terms]
    return frozenset.intersection(*map(frozenset, found))


def _evaluated(part: Part, evidence: Evidence, among: frozenset[int] | None) -> PartOutcome:
    missing = tuple(cells for cells in part.cells if not evidence.recorded(cells))
    lost = tuple(
        cells for cells in part.cells if cells not in missing and not evidence.completed(cells)
    )
    diverged = sum(map(evidence.diverged, part.cells))
    values = _total(part.terms, evidence, among) - part.threshold
    times = penalty([term for term in part.terms if _varies(term, evidence)] or part.terms)
    estimate = paired(np.asarray(values), penalty=times)
    if len(values) < MINIMUM_SEEDS and not among:
        sides = [[term for term in part.terms if term.factor * sign > 0] for sign in (1, -1)]
        ours, theirs = (_total(side, evidence) for side in sides)
        if min(len(ours), len(theirs)) >= MINIMUM_SEEDS or (not len(values) and all(sides)):
            against = -np.asarray(theirs)
            estimate = unpaired(np.asarray(ours) - part.threshold, against, penalty=times)
    size = estimate.effect_size
    if estimate.seeds < MINIMUM_SEEDS:
        variances = [
            (term.factor * evidence.spread(term.quantity, term.cells.dataset)) ** 2
            for term in part.terms
        ]
        size = estimate.mean / math.sqrt(sum(variances)) if sum(variances) > 0 else math.nan
    return PartOutcome(part, values, estimate, size, LEVEL / times, missing, lost, diverged)


def _varies(term: Term, evidence: Evidence) -> bool:
    """Whether the seeds differ; of one seed they might."""
    values = np.asarray(evidence.values(term.quantity, term.cells))
    return len(values) < MINIMUM_SEEDS or not constant(values)


def _total(
    terms: Iterable[Term], evidence: Evidence, among: frozenset[int] | None = None
) -> pd.Series[float]:
    """Σ f·Q by seed, over the seeds that all have."""
    columns = [term.factor * evidence.values(term.quantity, term.cells) for term in terms]
    if not columns:
        return pd.Series(dtype=np.float64)
    together = pd.concat(columns, axis=1, join="inner").sum(axis=1).sort_index()
    return together if among is None else together[together.index.isin(among)]


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
    Where a negative part has seeds enough for a test, it is the smallest of these: one refutes.
    ``p_exact`` is the exact test's, joined as ``p_value`` is; ``needed`` are the seeds that would do.
    """

    outcomes: tuple[PartOutcome, ...]
    p_value: float = math.nan
    p_holm: float = math.nan
    p_exact: float = math.nan
    needed: int = MINIMUM_SEEDS
    verdict: str = NO_RECORDS

    @property
    def missing(self) -> tuple[Cells, ...]:
        """The cells without a record, each once."""
        return tuple(dict.fromkeys(cells for one in self.outcomes for cells in one.missing))

    @property
    def measured(self) -> list[PartOutcome]:
        return [outcome for outcome in self.outcomes if outcome.seeds]

    @property
    def complete(self) -> bool:
        """Whether every part could be measured."""
        return bool(self.outcomes) and len(self.measured) == len(self.outcomes)

    @property
    def decisive(self) -> PartOutcome | None:
        refuting = [one for one in self.measured if one.mean <= 0 and one.estimate.p_value <= 1]
        return min(refuting or self.measured, key=lambda outcome: outcome.mean, default=None)

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
    """Judge a family of sentences, each by its name with its parts.

    Holm's correction is over those with seeds enough for a test; ``needed`` is for a family in which
    all are tested.
    """
    found = {name: _joined(list(parts), evidence, len(sentences)) for name, parts in sentences.items()}
    tested = [name for name, judgment in found.items() if not math.isnan(judgment.p_value)]
    corrected = holm(np.array([found[name].p_value for name in tested]))
    alike = [name for name in tested if found[name].complete]
    within = holm(np.array([_equivalence(found[name].outcomes) for name in alike]))
    equivalent = {name for name, p_value in zip(alike, within, strict=True) if p_value <= LEVEL}
    for name, p_holm in zip(tested, corrected, strict=True):
        found[name] = replace(found[name], p_holm=float(p_holm))
    return {
        name: replace(judgment, verdict=_verdict(judgment, equivalent=name in equivalent))
        for name, judgment in found.items()
    }


def _joined(parts: Sequence[Part], evidence: Evidence, family: int) -> Judgment:
    among = None
    if any(part.total for part in parts):
        shared = frozenset.intersection(*(shared_seeds(part, evidence) for part in parts))
        among = shared if len(shared) >= MINIMUM_SEEDS else None
    outcomes = tuple(evaluate(part, evidence, among) for part in parts)
    return Judgment(
        outcomes,
        p_value=conjunction_p_value(outcomes),
        p_exact=conjunction_p_value(outcomes, "p_exact"),
        needed=_needed(outcomes, family),
    )


def conjunction_p_value(outcomes: Sequence[PartOutcome], test: str = "p_value") -> float:
    """p of "every part is positive" if all means are, else of "some part is negative"; NaN for neither.

    ``test`` is which of ``Estimate``'s.
    """
    found = [float(getattr(outcome.estimate, test)) for outcome in outcomes]
    if outcomes and all(outcome.mean > 0 for outcome in outcomes):
        return math.nan if any(map(math.isnan, found)) else max(found)
    negative = [p for p, outcome in zip(found, outcomes, strict=True) if outcome.mean <= 0]
    known = [p for p in negative if not math.isnan(p)]
    return min(1.0, len(outcomes) * min(known)) if known else math.nan


def _equivalence(outcomes: Sequence[PartOutcome]) -> float:
    """p of "no part is below −``MARGIN`` points, and the least is within ±``MARGIN``"; 1 without."""
    if not all(outcome.part.points for outcome in outcomes):
        return 1.0
    least = min(outcomes, key=lambda outcome: outcome.mean).estimate.p_equivalent
    found = np.array([least, *(outcome.estimate.p_not_worse for outcome in outcomes)])
    return 1.0 if np.isnan(found).any() else float(found.max())


def _needed(outcomes: Sequence[PartOutcome], family: int) -> int:
    """Seeds that would decide, in a ``family`` of so many, if every part is as it looks."""
    shown = [outcome for outcome in outcomes if outcome.seeds]
    level = 1 / max(family, 1)
    if all(outcome.mean > 0 for outcome in shown):
        needed = (seeds_needed(one.effect_size, one.level * level) for one in shown)
        return max(needed, default=MINIMUM_SEEDS)
    level /= len(outcomes)
    return min(seeds_needed(one.effect_size, one.level * level) for one in shown if one.mean <= 0)


def _verdict(judgment: Judgment, *, equivalent: bool) -> str:
    if judgment.p_holm <= LEVEL and judgment.direction == DISAGREES:
        return REFUTED
    if judgment.missing or not judgment.outcomes:
        return NO_RECORDS
    if any(outcome.lost for outcome in judgment.outcomes):
        return DIVERGED
    if judgment.p_holm <= LEVEL:
        return CONFIRMED
    return undecided(judgment.seeds, judgment.needed, equivalent=equivalent)
