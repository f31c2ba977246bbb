"""The course report's fourteen claims, each written as what must be positive in the records.

A claim is a table of ``claims.toml``: its words, and its parts by ``KINDS``.
``evidence`` has the numbers (A: final accuracy; D, F, S, Z, R, V, M: of the average weight's curve),
``judgment`` the test.  A measure of "far", "sharp" or "nearly" is taken from the report:

    a printed bound       "exceeds 75 %", "does not pass 60 %": ``BOUNDS``
    the report's own      "far below", "nearly constant", "no large shift": a quantity counts as large
    example of large      if it is nearer to what the report calls large than to nothing, i.e. beyond
                          ``NEARER`` = ½ of it: the printed gaps for accuracies, the change of the
                          two-layer ReLU net (which C1 and C6 call sharp) for average weights
    "most of all in       the mean over the two depths that the report names deep (10, 12) minus the
    deeper nets"          mean over the other two

"Deeper nets" in C2, C7 and C12 are all but the shallowest, as C2 lists them.  "Rises with depth" means
at each step from one depth to the next.

Every claim is judged for the protocol as printed (He by fan_out) and, where there are records, with He
by fan_in in all layers; each fan mode is a family of its own in Holm's correction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from empirical.arm import NAMES
from empirical.data.files import tables
from empirical.judgment.claim_theory import THEORY_COLUMNS, expected, foretold
from empirical.judgment.evidence import Cells, Evidence
from empirical.judgment.statistics import INSUFFICIENT, Estimate
from empirical.judgment.truth import (
    AGREES,
    DISAGREES,
    NO_RECORDS,
    Judgment,
    Part,
    PartOutcome,
    Term,
    difference,
    in_unit,
    judge,
    mean_of,
    published,
)
from empirical.presets import FIRST_SEEDS, MANY_SEEDS
from empirical.protocol import COURSE_REPORT, published_accuracy
from empirical.records.account import commands_of

DEPTHS = COURSE_REPORT.depths
SHALLOWEST, DEEPER = DEPTHS[0], DEPTHS[1:]
SHALLOW, DEEP = DEPTHS[:2], DEPTHS[2:]
DEEPEST = DEPTHS[-1]
ACTIVATIONS = COURSE_REPORT.activations

NEARER = 0.5
WORDS = ("short", "text", "operationalised", "unit")
_WRITTEN = tables(Path(__file__).with_suffix(".toml"))
BOUNDS = {name: row["bound"] for name, row in _WRITTEN.items() if "bound" in row}  # percent
FANS = (COURSE_REPORT.fan, "fan_in")
POINTS = "points"  # a claim's unit; of others it is the average weight

CLAIM_COLUMNS = {
    "id": "C1 … C14",
    "fan": "the fan mode of He: fan_out as printed, or fan_in",
    "short": "the claim in a few words",
    "claim": "in own words",
    "operationalised": "what must be positive, in the quantities of ``evidence.QUANTITIES``",
    "unit": "of the value: points of accuracy, or of average weight",
    "value": "mean over seeds of the decisive part: the least positive of the negative ones with seeds "
    "enough for a test, or of all",
    "part": "which part that is",
    "low": "lower end of its 95 % t interval, as much wider as the test is safer (``statistics``); NaN "
    "below three seeds",
    "high": "its upper end",
    "single_values": "below three seeds: the decisive part's value for each seed",
    "seeds": "those behind value and interval; without one the fewest completed of any part, 0 unless "
    "all were measured",
    "diverged": "diverged records among its cells, which are in no number",
    "p_value": "of the sentence (``truth``), NaN below three seeds",
    "p_holm": "the same after Holm's correction over the claims of this fan mode",
    "p_exact": "of the sentence by the exact sign-flip test, uncorrected; NaN below six seeds",
    "needed": "seeds that would decide it, if its parts are as they look and all claims are tested",
    "verdict": "of ``truth``: confirmed, refuted, or why not",
    "first_verdict": "the same by the first ``FIRST_SEEDS`` seeds of every cell alone",
    "direction": "whether the runs there are agree with the claim or disagree, whatever the verdict",
    "report_value": "the decisive part by the report's own printed accuracies; NaN for other claims",
    "report_direction": "whether the report's own numbers agree with the claim",
    **THEORY_COLUMNS,
    "parts": "every part with its mean, and its seeds where these are not the same of all",
    "records": "ids of the cells it rests on",
    "missing": "cells without a record",
    "commands": "what makes the missing records, or more seeds",
}
PART_COLUMNS = {
    "id": "of the claim or condition",
    "fan": "as in the claims' table; empty for a condition",
    "part": "its name",
    "formula": "what must be positive, written out",
    "mean": "mean over seeds; in the claim's unit",
    "low": "lower end of its interval, as in the claims' table; NaN below three seeds",
    "high": "its upper end",
    "seeds": "seeds that completed in all of its cells; in a claim with a part that sums up others, in "
    "all cells of the claim if at least three did",
    "paired": "whether they are the same seeds in all of them (else Welch's test)",
    "diverged": "diverged records among them",
    "p_value": "two-sided t test, uncorrected; NaN below three seeds",
    "p_exact": "two-sided sign-flip test, uncorrected; NaN below six seeds",
    "p_equivalent": "of being within a point of 0 (two one-sided tests), uncorrected",
    "values": "the value of each seed, as seed:value",
    "theory": "what theory foretells: e-folds of accuracy, or average weight; NaN if it is silent",
    "report_value": "by the report's own printed accuracies",
}


@dataclass(frozen=True)
class Claim:
    """One of the report's claims."""

    name: str
    parts: tuple[Part, ...]
    short: str
    text: str
    operationalised: str
    unit: str


def claims() -> list[Claim]:
    """The report's claims in the order of ``claims.toml``, under the protocol as printed."""
    values = {
        "nearer": NEARER,
        "shallowest": SHALLOWEST,
        "deepest": DEEPEST,
        "depths": _listed(DEPTHS),
        "deeper": _listed(DEEPER),
        "deeper_and": _listed(DEEPER, " and "),
        "shallow": _listed(SHALLOW),
        "deep": _listed(DEEP),
        "deep_and": _listed(DEEP, " and "),
        "settings": len(DEPTHS) * len(ACTIVATIONS),
        "printed": published_accuracy("normal", "prelu", DEEPEST),
    }
    found = []
    for name, row in _WRITTEN.items():
        bound = {"bound": BOUNDS[name]} if name in BOUNDS else {}
        words = {key: row[key].format_map(values | bound) for key in WORDS}
        found.append(Claim(name, tuple(_parts(row["parts"], bound)), **words))
    return found


def _parts(rows: Iterable[Mapping[str, Any]], bound: Mapping[str, float]) -> Iterator[Part]:
    for row in rows:
        options = dict(row)
        make = KINDS[options.pop("kind")]
        yield from make(**options, **(bound if make is _bound else {}))


# ------------------------------------------------------------------------------ kinds of parts
#
# An arm is initializer and activation, as "he relu".


def _cells(arm: str, depths: Iterable[int] = DEPTHS) -> list[Cells]:
    initializer, activation = arm.split()
    return [Cells(initializer, activation, depth) for depth in depths]


def _between(arm: str, first: str, second: str, words: str) -> Iterator[Part]:
    """One quantity above another, in the shallowest net."""
    (cells,) = _cells(arm, [SHALLOWEST])
    terms = (Term(1, first, cells), Term(-1, second, cells))
    yield Part(words, terms)


def _falls(arm: str, quantity: str, *, steps: bool) -> Iterator[Part]:
    """A quantity falls with depth: at each of the ``steps``, or from the shallowest to all others."""
    for low, high in pairwise(DEPTHS) if steps else ((SHALLOWEST, depth) for depth in DEEPER):
        ends = _cells(arm, [low]), _cells(arm, [high])
        yield difference(f"falls, {low} → {high}", *ends, quantity)


def _rises(arm: str, quantity: str) -> Iterator[Part]:
    """It rises with depth, at each step."""
    for low, high in pairwise(DEPTHS):
        ends = _cells(arm, [high]), _cells(arm, [low])
        yield difference(f"rises, {low} → {high}", *ends, quantity)


def _bound(arm: str, bound: float, *, above: bool) -> Iterator[Part]:
    """The accuracy of the deepest net beside the printed bound."""
    sign = 1 if above else -1
    terms = (Term(sign, "accuracy", *_cells(arm, [DEEPEST])),)
    words = f"{DEEPEST} layers − {bound:g}" if above else f"{bound:g} − {DEEPEST} layers"
    yield Part(words, terms, sign * bound)


def _nearly_constant(arm: str, large: str, quantity: str) -> Iterator[Part]:
    """A quantity of each net is nearer to none than to the range of ``large``'s shallowest."""
    sharp = _cells(large, [SHALLOWEST])
    for cells in (one for one in _cells(arm) if one not in sharp):
        terms = (Term(NEARER, "range", *sharp), Term(-1, quantity, cells))
        yield Part(f"small at {cells.depth}", terms)


def _above(first: str, second: str, words: str) -> Iterator[Part]:
    """The accuracy of one arm above another's, at every depth."""
    for ours, theirs in zip(_cells(first), _cells(second), strict=True):
        yield difference(f"{words}, {ours.depth}", [ours], [theirs])


def _far_above(first: str, second: str) -> Iterator[Part]:
    """The same by more than ``NEARER`` of the printed gap."""
    for ours, theirs in zip(_cells(first), _cells(second), strict=True):
        gap = difference(f"far at {ours.depth}", [ours], [theirs])
        printed = published(gap)
        assert printed is not None
        yield replace(gap, threshold=NEARER * printed)


def _growth(first: Sequence[str], second: Sequence[str]) -> Iterator[Part]:
    """The gap of accuracy, a mean over arms, is larger in the deep nets than in the shallow ones."""
    terms: list[Term] = []
    for factor, depths in ((1.0, DEEP), (-1.0, SHALLOW)):
        for sign, arms in ((factor, first), (-factor, second)):
            cells = [one for arm in arms for one in _cells(arm, depths)]
            terms += mean_of("accuracy", cells, sign)
    yield Part("grows with depth", tuple(terms), total=True)


def _steadier(arm: str, quantity: str) -> Iterator[Part]:
    """A quantity of the shallowest net above its mean over the deeper ones."""
    yield difference(_named(arm), _cells(arm, [SHALLOWEST]), _cells(arm, DEEPER), quantity)


def _best(arm: str, others: Sequence[str]) -> Iterator[Part]:
    """The mean accuracy over all depths above each of the others'."""
    for other in others:
        yield difference(f"over {_named(other)}", _cells(arm), _cells(other))


KINDS: Mapping[str, Callable[..., Iterator[Part]]] = {
    "between": _between,
    "falls": _falls,
    "rises": _rises,
    "bound": _bound,
    "nearly constant": _nearly_constant,
    "above": _above,
    "far above": _far_above,
    "growth": _growth,
    "steadier": _steadier,
    "best": _best,
}


def _named(arm: str) -> str:
    return " · ".join(NAMES[name] for name in arm.split())


def _listed(depths: Sequence[int], before_last: str = ", ") -> str:
    *first, last = map(str, depths)
    return f"{', '.join(first)}{before_last}{last}"


# ------------------------------------------------------------------------------------- judgment


def judge_claims(evidence: Evidence) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table of claims (``CLAIM_COLUMNS``) and that of their parts (``PART_COLUMNS``).

    A claim about He has a second row, with He by fan_in, if any such cell is recorded.
    """
    table, parts = first, _ = _judged(evidence)
    few = evidence.study["seed"] < FIRST_SEEDS
    if not few.all():
        first, _ = _judged(Evidence(evidence.study[few], evidence.cells, evidence.layers))
    verdicts = {(row["id"], row["fan"]): row["verdict"] for row in first.to_dict("records")}
    keys = zip(table["id"], table["fan"], strict=True)
    return table.assign(first_verdict=[verdicts.get(key, NO_RECORDS) for key in keys]), parts


def _judged(evidence: Evidence) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    known = {claim.name: claim for claim in claims()}
    for fan in FANS:
        for name, judgment in judge(_sentences(fan, evidence), evidence).items():
            rows.append(_claim_row(known[name], fan, judgment, evidence))
            parts += [part_row(name, one, evidence, fan) for one in judgment.outcomes]
    rows.sort(key=lambda row: list(known).index(row["id"]))
    return (
        pd.DataFrame(rows, columns=list(CLAIM_COLUMNS)),
        pd.DataFrame(parts, columns=list(PART_COLUMNS)),
    )


def _sentences(fan: str, evidence: Evidence) -> dict[str, Sequence[Part]]:
    """Each claim's parts by a fan mode; if that is not the printed one, where a cell of He is there."""
    if fan == COURSE_REPORT.fan:
        return {claim.name: claim.parts for claim in claims()}
    found = {claim.name: [part.under(fan=fan) for part in claim.parts] for claim in claims()}
    return {name: parts for name, parts in found.items() if any(map(evidence.recorded, _of_he(parts)))}


def _of_he(parts: Iterable[Part]) -> list[Cells]:
    return [cells for part in parts for cells in part.cells if cells.initializer == "he"]


def missing_commands(evidence: Evidence) -> list[str]:
    """What trains the cells that the claims lack: as printed, and by fan_in if that was begun."""
    lines = []
    for fan, preset in zip(FANS, ("report", "textbook"), strict=True):
        parts = [part for own in _sentences(fan, evidence).values() for part in own]
        every = [cells for part in parts for cells in part.cells]
        wanted = every if fan == COURSE_REPORT.fan else _of_he(parts)  # N(0, 1) has no fan mode
        if not all(map(evidence.recorded, wanted)):
            lines.append(f"cifar --preset {preset}")
    return lines


def _claim_row(claim: Claim, fan: str, judgment: Judgment, evidence: Evidence) -> dict[str, Any]:
    own = [value for part in claim.parts if (value := published(part)) is not None]
    words = {name: getattr(claim, name) for name in ("short", "operationalised", "unit")}
    report = {
        "report_value": min(own, default=math.nan),
        "report_direction": (AGREES if min(own) > 0 else DISAGREES) if own else "",
    }
    known = {"id": claim.name, "fan": fan, "claim": claim.text} | words | report
    return known | judgment_fields(judgment, evidence) | foretold(judgment, evidence)


JUDGED = ("p_value", "p_holm", "p_exact", "needed", "verdict", "direction")


def judgment_fields(judgment: Judgment, evidence: Evidence) -> dict[str, Any]:
    """What the tables of claims, of conditions and of what is beyond have in common."""
    decisive = judgment.decisive
    estimate = decisive.estimate if decisive else Estimate()
    few = decisive is not None and math.isnan(estimate.p_value)
    wanted: list[str] = []
    if judgment.verdict == NO_RECORDS:
        wanted = training(judgment.missing)
    elif judgment.verdict == INSUFFICIENT:
        wanted = training(judgment.cells, seeds=min(judgment.needed, MANY_SEEDS))
    return {
        "value": estimate.mean,
        "part": decisive.part.name if decisive else "",
        "low": estimate.low,
        "high": estimate.high,
        "single_values": _single_values(decisive) if decisive is not None and few else "",
        "seeds": judgment.seeds if decisive is None or few else decisive.seeds,
        "diverged": sum(map(evidence.diverged, judgment.cells)),
        **{name: getattr(judgment, name) for name in JUDGED},
        "parts": _parts_words(judgment.outcomes),
        "records": " ".join(name for one in judgment.cells for name in evidence.ids(one)),
        "missing": "; ".join(one.name for one in judgment.missing),
        "commands": "; ".join(wanted),
    }


def training(cells: Iterable[Cells], seeds: int = 1) -> list[str]:
    """The commands that train ``cells``, each with so many seeds."""
    plain = [Cells.of(one.spec.config()) for one in cells]
    specs = (replace(one.spec, seed=seed) for one in plain for seed in range(seeds))
    return commands_of(specs)


def part_row(name: str, outcome: PartOutcome, evidence: Evidence, fan: str = "") -> dict[str, Any]:
    """A part of a judged sentence, ``PART_COLUMNS``."""
    estimates = ("mean", "low", "high", "seeds", "paired", "p_value", "p_exact", "p_equivalent")
    return {
        "id": name,
        "fan": fan,
        "part": outcome.part.name,
        "formula": outcome.part.formula,
        **{one: getattr(outcome.estimate, one) for one in estimates},
        "diverged": outcome.diverged,
        "values": " ".join(f"{seed}:{value:.6g}" for seed, value in outcome.values.items()),
        "theory": expected(outcome.part, evidence),
        "report_value": published(outcome.part),
    }


def _single_values(outcome: PartOutcome) -> str:
    return ", ".join(in_unit(float(value), outcome.part.points) for value in outcome.values)


def _parts_words(outcomes: Sequence[PartOutcome]) -> str:
    """Every part with its mean; the seeds once if they are as many of all."""
    counts = {outcome.seeds for outcome in outcomes if outcome.seeds}
    alike = f" (over {_seeds(*counts)})" if len(counts) == 1 else ""
    return "; ".join(_part_words(one, counted=not alike) for one in outcomes) + alike


def _seeds(count: int) -> str:
    return f"{count} seed{'s' * (count != 1)}"


def _part_words(outcome: PartOutcome, *, counted: bool) -> str:
    if outcome.seeds:
        over = f" ({_seeds(outcome.seeds)})" if counted else ""
        return f"{outcome.part.name}: {in_unit(outcome.mean, outcome.part.points)}{over}"
    why = "no record" if outcome.missing else "diverged" if outcome.lost else "no common seed"
    return f"{outcome.part.name}: {why}"
