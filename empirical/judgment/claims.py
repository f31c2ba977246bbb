"""The course report's fourteen claims, each written as what must be positive in the records.

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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pandas as pd

from empirical.arm import NAMES
from empirical.judgment.claim_theory import THEORY_COLUMNS, expected, foretold
from empirical.judgment.evidence import Cells, Evidence
from empirical.judgment.statistics import INSUFFICIENT
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
from empirical.presets import MANY_SEEDS
from empirical.protocol import COURSE_REPORT, published_accuracy
from empirical.records.account import commands_of

DEPTHS = COURSE_REPORT.depths
SHALLOWEST, DEEPER = DEPTHS[0], DEPTHS[1:]
SHALLOW, DEEP = DEPTHS[:2], DEPTHS[2:]
DEEPEST = DEPTHS[-1]
INITIALIZERS = COURSE_REPORT.initializers
ACTIVATIONS = COURSE_REPORT.activations

NEARER = 0.5
BOUNDS = {"C3": 75.0, "C11": 60.0}  # percent, as printed
FANS = (COURSE_REPORT.fan, "fan_in")
POINTS, WEIGHT = "points", "average weight"

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
    "low": "lower end of its 95 % t interval; NaN below three seeds",
    "high": "its upper end",
    "single_values": "below three seeds: the decisive part's value for each seed",
    "seeds": "those behind value and interval; without one the fewest completed of any part, 0 unless "
    "all were measured",
    "diverged": "diverged records among its cells, which are in no number",
    "p_value": "of the sentence (``truth``), NaN below three seeds",
    "p_holm": "the same after Holm's correction over the claims of this fan mode",
    "p_exact": "of the sentence by the exact sign-flip test, uncorrected; NaN below six seeds",
    "needed": "seeds that would decide it, if its parts are as they look",
    "verdict": "of ``truth``: confirmed, refuted, or why not",
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
    "low": "lower end of its 95 % t interval; NaN below three seeds",
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
    short: str
    text: str
    operationalised: str
    unit: str
    parts: tuple[Part, ...]

    @property
    def about_he(self) -> bool:
        """Whether the fan mode matters to it."""
        return any(cells.initializer == "he" for part in self.parts for cells in part.cells)


def claims() -> list[Claim]:
    """The report's claims, under the protocol as printed."""
    return [*_claims_about_he(), *_claims_about_normal(), *_claims_about_both(), *_claims_about_all()]


def _claims_about_he() -> Iterator[Claim]:
    shallow, deeper, deep = SHALLOWEST, _listed(DEEPER), _listed(DEEP)
    sharp = Cells("he", "relu", shallow)
    yield Claim(
        "C1",
        f"He ReLU {shallow}: sharp early drop",
        f"He + ReLU, {shallow} layers: the average weight drops sharply in the first epochs",
        "falls faster, per epoch, in the first epochs than it moves later: D − S > 0",
        WEIGHT,
        (Part("D − S", (Term(1, "early_step", sharp), Term(-1, "late_step", sharp))),),
    )
    yield Claim(
        "C2",
        "He ReLU: deeper change less",
        f"He + ReLU: the average weight changes less with {_and(DEEPER)} layers",
        f"R({shallow}) − R(L) > 0 for L = {deeper}",
        WEIGHT,
        tuple(
            difference(f"R({shallow}) − R({depth})", [sharp], [Cells("he", "relu", depth)], "range")
            for depth in DEEPER
        ),
    )
    yield Claim(
        "C3",
        f"He ReLU rises, > {BOUNDS['C3']:g} % at {DEEPEST}",
        f"He + ReLU: accuracy rises with depth and exceeds {BOUNDS['C3']:g} % at {DEEPEST} layers",
        f"A(L) rises at each step of L = {_listed(DEPTHS)}, and A({DEEPEST}) − {BOUNDS['C3']:g} > 0",
        POINTS,
        (*_rises("he", "relu"), _bound("C3", "he", "relu", +1)),
    )
    yield Claim(
        "C4",
        "He PReLU: nearly constant",
        "He + PReLU: average weights stay nearly constant at all depths, a little higher with depth",
        f"changes nearer to none than to the change that C1 calls sharp, {NEARER:g}·R(ReLU, {shallow}) "
        f"− R(PReLU, L) > 0 for L = {_listed(DEPTHS)}, and the level M(PReLU, L) rises at each step",
        WEIGHT,
        (
            *(_nearly_constant(sharp, Cells("he", "prelu", d), "range", "R") for d in DEPTHS),
            *_rises("he", "prelu", "level"),
        ),
    )
    yield Claim(
        "C5",
        "He: PReLU beats ReLU",
        f"He: PReLU beats ReLU, most of all with {_and(DEEP)} layers",
        f"gap g(L) = A(PReLU, L) − A(ReLU, L) > 0 for L = {_listed(DEPTHS)}, and mean g({deep}) − mean "
        f"g({_listed(SHALLOW)}) > 0",
        POINTS,
        tuple(_gaps([("he", "prelu")], [("he", "relu")], "PReLU − ReLU")),
    )


def _claims_about_normal() -> Iterator[Claim]:
    shallow, deeper = SHALLOWEST, _listed(DEEPER)
    sharp = Cells("normal", "relu", shallow)
    yield Claim(
        "C6",
        f"N(0, 1) ReLU {shallow}: drop, flat",
        f"N(0, 1) + ReLU, {shallow} layers: the average weight drops sharply early, then is flat",
        "falls more in the first epochs than it ranges over all later ones: F − Z > 0",
        WEIGHT,
        (Part("F − Z", (Term(1, "early_drop", sharp), Term(-1, "late_range", sharp))),),
    )
    yield Claim(
        "C7",
        "N(0, 1) ReLU: little shift",
        "N(0, 1) + ReLU: the average weight of deeper nets does not shift much",
        f"shifts nearer to none than to the {shallow}-layer net's change, {NEARER:g}·R({shallow}) − "
        f"V(L) > 0 for L = {deeper}",
        WEIGHT,
        tuple(_nearly_constant(sharp, Cells("normal", "relu", d), "shift", "V") for d in DEEPER),
    )
    yield Claim(
        "C9",
        "N(0, 1) PReLU: weights fall",
        "N(0, 1) + PReLU: average weights fall with the number of layers",
        f"the level M(L) falls at each step of L = {_listed(DEPTHS)}",
        WEIGHT,
        tuple(
            difference(
                f"M({low}) − M({high})",
                [Cells("normal", "prelu", low)],
                [Cells("normal", "prelu", high)],
                "level",
            )
            for low, high in pairwise(DEPTHS)
        ),
    )
    yield Claim(
        "C10",
        "N(0, 1) PReLU rises",
        "N(0, 1) + PReLU: accuracy rises clearly with depth",
        f"A(L) rises at each step of L = {_listed(DEPTHS)}",
        POINTS,
        tuple(_rises("normal", "prelu")),
    )
    own = published_accuracy("normal", "prelu", DEEPEST)
    yield Claim(
        "C11",
        f"N(0, 1) PReLU {DEEPEST}: ≤ {BOUNDS['C11']:g} %",
        f"N(0, 1) + PReLU: {DEEPEST} layers do not pass {BOUNDS['C11']:g} % (printed: {own:g})",
        f"{BOUNDS['C11']:g} − A({DEEPEST}) > 0",
        POINTS,
        (_bound("C11", "normal", "prelu", -1),),
    )


def _claims_about_both() -> Iterator[Claim]:
    deep, shallow = _listed(DEEP), _listed(SHALLOW)
    far = [
        Part(
            f"far at {depth}",
            difference("", [Cells("he", "relu", depth)], [Cells("normal", "relu", depth)]).terms,
            NEARER * _printed_gap(depth),
        )
        for depth in DEPTHS
    ]
    growth = f"mean g({deep}) − mean g({shallow}) > 0"
    yield Claim(
        "C8",
        "N(0, 1) ReLU far below He",
        f"N(0, 1) + ReLU: accuracy far below He's, most of all with {_and(DEEP)} layers",
        f"gap g(L) = A(He, L) − A(N(0, 1), L) nearer to the printed one than to none, g(L) − "
        f"{NEARER:g}·printed g(L) > 0 for L = {_listed(DEPTHS)}, and {growth}",
        POINTS,
        (*far, _growth([("he", "relu")], [("normal", "relu")])),
    )
    yield Claim(
        "C12",
        "deeper nets are steadier",
        "Deeper nets have steadier average weights after the first epochs",
        f"for each initializer and activation: S({SHALLOWEST}) − mean of S(L) over L = "
        f"{_listed(DEEPER)} > 0",
        WEIGHT,
        tuple(
            difference(
                f"{NAMES[initializer]} · {NAMES[activation]}",
                [Cells(initializer, activation, SHALLOWEST)],
                [Cells(initializer, activation, depth) for depth in DEEPER],
                "late_step",
            )
            for initializer in INITIALIZERS
            for activation in ACTIVATIONS
        ),
    )


def _claims_about_all() -> Iterator[Claim]:
    growth = f"mean g({_listed(DEEP)}) − mean g({_listed(SHALLOW)}) > 0"
    he, normal = ([(name, activation) for activation in ACTIVATIONS] for name in ("he", "normal"))
    gaps = [
        part
        for activation in ACTIVATIONS
        for part in _gaps(
            [("he", activation)],
            [("normal", activation)],
            f"He − N(0, 1), {NAMES[activation]}",
            growth=False,
        )
    ]
    yield Claim(
        "C13",
        "He beats N(0, 1) everywhere",
        "He beats N(0, 1) in every cell, particularly in deeper nets",
        f"gap g = A(He) − A(N(0, 1)) > 0 in each of the {len(gaps)} cells, and over both activations "
        f"{growth}",
        POINTS,
        (*gaps, _growth(he, normal)),
    )
    yield Claim(
        "C14",
        "He with PReLU is best",
        "He with PReLU is the best combination",
        "mean of A over the depths: He + PReLU minus each of the other three > 0",
        POINTS,
        tuple(
            difference(f"over {NAMES[initializer]} · {NAMES[activation]}", _column("he", "prelu"),
                       _column(initializer, activation))
            for initializer in INITIALIZERS
            for activation in ACTIVATIONS
            if (initializer, activation) != ("he", "prelu")
        ),
    )  # fmt: skip


def _listed(depths: Iterable[int]) -> str:
    return ", ".join(map(str, depths))


def _and(depths: Sequence[int]) -> str:
    """For prose: 5, 10 and 12."""
    return f"{_listed(depths[:-1])} and {depths[-1]}"


def _column(initializer: str, activation: str, depths: Iterable[int] = DEPTHS) -> list[Cells]:
    return [Cells(initializer, activation, depth) for depth in depths]


def _rises(initializer: str, activation: str, quantity: str = "accuracy") -> Iterator[Part]:
    for low, high in pairwise(DEPTHS):
        first, second = Cells(initializer, activation, high), Cells(initializer, activation, low)
        yield difference(f"{low} → {high} layers", [first], [second], quantity)


def _bound(name: str, initializer: str, activation: str, sign: int) -> Part:
    term = Term(sign, "accuracy", Cells(initializer, activation, DEEPEST))
    bound = BOUNDS[name]
    words = f"{DEEPEST} layers − {bound:g}" if sign > 0 else f"{bound:g} − {DEEPEST} layers"
    return Part(words, (term,), sign * bound)


def _nearly_constant(large: Cells, small: Cells, quantity: str, symbol: str) -> Part:
    terms = (Term(NEARER, "range", large), Term(-1, quantity, small))
    return Part(f"{NEARER:g}·R − {symbol}({small.depth})", terms)


def _gaps(
    first: list[tuple[str, str]], second: list[tuple[str, str]], words: str, *, growth: bool = True
) -> Iterator[Part]:
    for depth in DEPTHS:
        ours, theirs = ([Cells(*arm, depth) for arm in arms] for arms in (first, second))
        yield difference(f"{words}, {depth}", ours, theirs)
    if growth:
        yield _growth(first, second)


def _growth(first: list[tuple[str, str]], second: list[tuple[str, str]]) -> Part:
    terms: list[Term] = []
    for factor, depths in ((1.0, DEEP), (-1.0, SHALLOW)):
        for sign, arms in ((factor, first), (-factor, second)):
            terms += mean_of("accuracy", [Cells(*arm, d) for arm in arms for d in depths], sign)
    return Part("gap grows with depth", tuple(terms), total=True)


def _printed_gap(depth: int) -> float:
    he, normal = (published_accuracy(name, "relu", depth) for name in ("he", "normal"))
    assert he is not None and normal is not None
    return he - normal


# ------------------------------------------------------------------------------------- judgment


def judge_claims(evidence: Evidence) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table of claims (``CLAIM_COLUMNS``) and that of their parts (``PART_COLUMNS``).

    A claim about He has a second row, with He by fan_in, if any such cell is recorded.
    """
    rows: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    known = sorted(claims(), key=lambda claim: int(claim.name[1:]))
    for fan in FANS:
        printed = fan == COURSE_REPORT.fan
        sentences = {
            claim.name: [part if printed else part.under(fan=fan) for part in claim.parts]
            for claim in known
            if printed or (claim.about_he and _any_recorded(claim, fan, evidence))
        }
        judged = judge(sentences, evidence)
        for claim in known:
            if claim.name in judged:
                rows.append(_claim_row(claim, fan, judged[claim.name], evidence))
                parts += [
                    part_row(claim.name, one, evidence, fan) for one in judged[claim.name].outcomes
                ]
    order = {claim.name: number for number, claim in enumerate(known)}
    table = pd.DataFrame(rows, columns=list(CLAIM_COLUMNS))
    table = table.sort_values("id", key=lambda names: names.map(order), kind="stable")
    return table.reset_index(drop=True), pd.DataFrame(parts, columns=list(PART_COLUMNS))


def _any_recorded(claim: Claim, fan: str, evidence: Evidence) -> bool:
    changed = {cells for part in claim.parts for cells in part.under(fan=fan).cells}
    return any(evidence.recorded(cells) for cells in changed if cells.initializer == "he")


def missing_commands(evidence: Evidence) -> list[str]:
    """What trains the cells that the claims lack: as printed, and by fan_in if that was begun."""
    lines = []
    for fan, preset in zip(FANS, ("report", "textbook"), strict=True):
        printed = fan == COURSE_REPORT.fan
        judged = [
            part.under(fan=fan)
            for claim in claims()
            if printed or (claim.about_he and _any_recorded(claim, fan, evidence))
            for part in claim.parts
        ]
        wanted = [one for part in judged for one in part.cells if printed or one.initializer == "he"]
        if not all(map(evidence.recorded, wanted)):
            lines.append(f"cifar --preset {preset}")
    return lines


def _claim_row(claim: Claim, fan: str, judgment: Judgment, evidence: Evidence) -> dict[str, Any]:
    own = [value for part in claim.parts if (value := published(part)) is not None]
    return (
        {
            "id": claim.name,
            "fan": fan,
            "short": claim.short,
            "claim": claim.text,
            "operationalised": claim.operationalised,
            "unit": claim.unit,
        }
        | judgment_fields(judgment, evidence)
        | {
            "report_value": min(own, default=math.nan),
            "report_direction": (AGREES if min(own) > 0 else DISAGREES) if own else "",
        }
        | foretold(judgment, evidence)
    )


def judgment_fields(judgment: Judgment, evidence: Evidence) -> dict[str, Any]:
    """What the claims' and the conditions' tables have in common."""
    decisive = judgment.decisive
    few = decisive is not None and math.isnan(decisive.estimate.p_value)
    wanted: list[str] = []
    if judgment.verdict == NO_RECORDS:
        wanted = training(judgment.missing)
    elif judgment.verdict == INSUFFICIENT:
        wanted = training(judgment.cells, seeds=min(judgment.needed, MANY_SEEDS))
    return {
        "value": math.nan if decisive is None else decisive.mean,
        "part": "" if decisive is None else decisive.part.name,
        "low": math.nan if decisive is None else decisive.estimate.low,
        "high": math.nan if decisive is None else decisive.estimate.high,
        "single_values": _single_values(decisive) if decisive is not None and few else "",
        "seeds": judgment.seeds if decisive is None or few else decisive.seeds,
        "diverged": sum(map(evidence.diverged, judgment.cells)),
        "p_value": judgment.p_value,
        "p_holm": judgment.p_holm,
        "p_exact": judgment.p_exact,
        "needed": judgment.needed,
        "verdict": judgment.verdict,
        "direction": judgment.direction,
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
