"""Should He be the default, and under which conditions?  Each condition answered from the records.

A condition is a sentence in the sense of ``judgment``: parts that must all be positive, judged in one
family.  A part is a mean over the *settings* (activation × depth) that both of its arms have recorded,
seed by seed; an arm that diverged in a setting leaves it out there, and the answer says so.

    printed        with batch norm, by fan_out as printed: He above N(0, 1), Xavier and every other law
                   recorded beside it
    fan-in         the same by fan_in, as in textbooks
    last-layer     the last linear layer alone by fan_in: better, and the less so the deeper the net
    no-norm        without batch norm, where nothing hides the scale of the weights
    very-deep      plain nets of 22 and 30 layers (He et al. 2015, Fig. 2 and 3): at the deepest
    prelu          PReLU above ReLU, with He
    effective-lr   N(0, 1) with He's last layer and He's relative steps is nearer to He than to N(0, 1):
                   ½·(He − N) − |He − M| > 0, which are two parts (two one-sided tests)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from empirical.judgment.arms import (
    Arm,
    arm_of,
    compared,
    divergence,
    ends,
    in_small,
    lost_everywhere,
    preset_changes,
    recorded_size,
    sentence,
    shared_settings,
)
from empirical.judgment.claim_theory import rate_ratio
from empirical.judgment.claims import NEARER, PART_COLUMNS, judgment_fields, part_rows
from empirical.judgment.evidence import Cells, Evidence, cells_of, commands
from empirical.judgment.truth import (
    AGREES,
    CONFIRMED,
    DISAGREES,
    INSUFFICIENT,
    NO_RECORDS,
    REFUTED,
    Judgment,
    Part,
    Term,
    difference,
    evaluate,
    judge,
    mean_of,
    seeds_needed,
)
from empirical.presets import PRESETS
from empirical.protocol import CLASSES, COURSE_REPORT, TEST_IMAGES, StudySpec
from theory.lessons.paper import xavier_over_he

ACTIVATIONS, DEPTHS = COURSE_REPORT.activations, COURSE_REPORT.depths
NAMES = {"he": "He", "normal": "N(0, 1)", "xavier": "Xavier", "pytorch": "torch's default"}
RIVALS = ("normal", "xavier")  # what He must beat to be the default; and whatever else is recorded
YES, NO, OPEN = "yes", "no", "open"
_SO_FAR = {AGREES: "open, so far the runs say yes", DISAGREES: "open, so far the runs say no"}
CONDITION_COLUMNS = {
    "id": "of the condition",
    "question": "in words",
    "verdict": "yes or no (as confirmed and refuted of a claim), or open and why",
    "answer": "a sentence made of the evidence",
    "operationalised": "what must be positive",
    **{
        name: "as in the claims' table"
        for name in (
            *(
                "value",
                "part",
                "low",
                "high",
                "single_values",
                "seeds",
                "diverged",
                "p_value",
                "p_holm",
            ),
            *("direction", "parts", "records", "missing", "commands"),
        )
    },
}


@dataclass(frozen=True)
class Condition:
    """A question, what must be positive for yes, and what the records say, in words."""

    name: str
    question: str
    operationalised: str
    parts: tuple[Part, ...]
    words: str
    preset: str
    decides_default: bool = False


def conditions(evidence: Evidence) -> list[Condition]:
    """The conditions, as far as ``evidence`` has records."""
    return [
        _default("printed", "With batch norm, by fan_out as printed", "report", {}, evidence),
        _default("fan-in", "With batch norm, by fan_in", "textbook", {"fan": "fan_in"}, evidence),
        _last_layer(evidence),
        _default(
            "no-norm",
            "Without batch norm, by fan_in",
            "no-norm",
            preset_changes("no-norm"),
            evidence,
            recorded_size("no-norm", evidence),
        ),
        _very_deep(evidence),
        _prelu(evidence),
        _effective_rate(evidence),
    ]


def judge_conditions(evidence: Evidence) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table of conditions (``CONDITION_COLUMNS``) and of their parts (``PART_COLUMNS``).

    The last row, ``default``, draws the answers together.
    """
    known = conditions(evidence)
    judged = judge({condition.name: condition.parts for condition in known}, evidence)
    rows: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    for condition in known:
        judgment = judged[condition.name]
        parts += part_rows(condition.name, judgment)
        row = judgment_fields(judgment, len(judged), evidence)
        row["commands"] = _preset_commands(condition.preset, judgment, len(judged))
        verdict = {CONFIRMED: YES, REFUTED: NO}.get(judgment.verdict, judgment.verdict)
        own = {
            "id": condition.name,
            "question": condition.question,
            "operationalised": condition.operationalised,
            "verdict": verdict,
            "answer": f"{_lead(verdict, judgment)} {condition.words}".strip(),
        }
        rows.append(row | own)
    rows.append(_together(known, rows))
    return (
        pd.DataFrame(rows, columns=list(CONDITION_COLUMNS)),
        pd.DataFrame(parts, columns=list(PART_COLUMNS)),
    )


def _lead(verdict: str, judgment: Judgment) -> str:
    if verdict in (YES, NO):
        return f"{verdict.capitalize()}."
    if not judgment.direction:
        return f"{verdict.capitalize()}."
    lead = "Open: not all is recorded" if verdict == NO_RECORDS else verdict.capitalize()
    return f"{lead}; so far the runs say {YES if judgment.direction == AGREES else NO}."


def _preset_commands(preset: str, judgment: Judgment, family: int) -> str:
    """What makes the missing records, or more seeds: the preset, and what it does not have."""
    if judgment.verdict not in (NO_RECORDS, INSUFFICIENT):
        return ""
    more = f" --seeds {seeds_needed(family)}" if judgment.verdict == INSUFFICIENT else ""
    wanted = judgment.cells if more else list(judgment.missing)
    lines = []
    for name in dict.fromkeys((preset, "report")):
        grid = {cells_of(spec).key for spec in StudySpec(**PRESETS[name].fields).cells()}
        if any(one.key in grid for one in wanted):
            lines.append(f"cifar --preset {name}")
            wanted = [one for one in wanted if one.key not in grid]
    return "; ".join(line + more for line in (*lines, *commands(wanted)))


def _together(known: Sequence[Condition], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The report's question: for which of the conditions the answer is yes, no, or open."""
    found: dict[str, list[str]] = {word: [] for word in (YES, NO, *_SO_FAR.values(), OPEN)}
    for condition, row in zip(known, rows, strict=True):
        if condition.decides_default:
            word = (
                row["verdict"] if row["verdict"] in (YES, NO) else _SO_FAR.get(row["direction"], OPEN)
            )
            found[word].append(condition.question.removesuffix(_ASKED))
    words = [
        f"{word}: {'; '.join(name[0].lower() + name[1:] for name in names)}"
        for word, names in found.items()
        if names
    ]
    answers = {word if word in (YES, NO) else OPEN for word, names in found.items() if names}
    verdict = "open in part" if OPEN in answers else "it depends"
    if len(answers) == 1:
        (verdict,) = answers
    return dict.fromkeys(CONDITION_COLUMNS, "") | {
        "id": "default",
        "question": "Should He be the default?",
        "verdict": verdict,
        "answer": f"{'. '.join(text[0].upper() + text[1:] for text in words)}.",
        "operationalised": "the answers above, drawn together",
        "seeds": min((int(row["seeds"]) for row in rows), default=0),
        **dict.fromkeys(("value", "low", "high", "p_value", "p_holm"), math.nan),
        "diverged": sum(int(row["diverged"]) for row in rows),
    }


# ----------------------------------------------------------------------------- He against others

_ASKED = ": should He be the default?"


def _default(
    name: str,
    setting: str,
    preset: str,
    changes: Mapping[str, Any],
    evidence: Evidence,
    size: Mapping[str, Any] | None = None,
) -> Condition:
    """He against every other law that is recorded under the same protocol, of this ``size``."""
    changes = dict(changes) | dict(size or {})
    he = arm_of("he", changes)
    parts, words = [], in_small(size or {})
    others = [str(other) for other in evidence.study["initializer"].unique()]
    for other in dict.fromkeys((*RIVALS, *sorted(others))):
        rival = arm_of(other, changes)
        if other == "he" or (other not in RIVALS and not shared_settings(he, rival, evidence)):
            continue
        title = NAMES.get(other, other)
        found = divergence(rival, title, evidence) + divergence(he, "He", evidence)
        words += found
        if lost_everywhere(rival, evidence) and not lost_everywhere(he, evidence):
            continue  # it has no accuracy to compare with, and the words say so
        part = compared(f"He − {title}", he, rival, evidence)
        parts.append(part)
        words.append(ends(evaluate(part, evidence), "He", title))
    return Condition(
        name,
        f"{setting}{_ASKED}",
        "A(He) − A(other) > 0, mean over the settings that both have, for each other law",
        tuple(parts),
        sentence(words),
        preset,
        decides_default=True,
    )


def _very_deep(evidence: Evidence) -> Condition:
    depths = PRESETS["he2015"].fields["depths"]
    changes = preset_changes("he2015") | (size := recorded_size("he2015", evidence))
    he, xavier = arm_of("he", changes), arm_of("xavier", changes)
    words = in_small(size)
    for depth in depths:
        levels = [
            _level(NAMES[name], arm("relu", depth), evidence)
            for name, arm in (("he", he), ("xavier", xavier))
        ]
        if any(levels):
            words.append(f"at {depth} layers {' and '.join(filter(None, levels))}")
    deepest = max(depths)
    words.append(
        f"in theory Xavier leaves {xavier_over_he(deepest):.2e} of He's signal after {deepest} layers"
    )
    return Condition(
        "very-deep",
        f"Very deep plain nets{_ASKED}",
        f"A(He) − A(Xavier) > 0 at {deepest} layers",
        (difference("He − Xavier", [he("relu", deepest)], [xavier("relu", deepest)]),),
        sentence(words),
        "he2015",
        decides_default=True,
    )


def _level(title: str, cells: Cells, evidence: Evidence) -> str:
    """Where an arm ends, and whether that is guessing: within four standard errors of 1 in 10."""
    if not evidence.completed(cells):
        return f"{title} diverged" if evidence.diverged(cells) else ""
    accuracy, chance = evidence.mean("accuracy", cells), 1 / CLASSES
    error = 100 * math.sqrt(chance * (1 - chance) / TEST_IMAGES)
    stalled = " (it stalls: no better than guessing)" if accuracy < 100 * chance + 4 * error else ""
    return f"{title} ends at {accuracy:.2f} %{stalled}"


# --------------------------------------------------------------------------------- the last layer


def _last_layer(evidence: Evidence) -> Condition:
    size = recorded_size("head", evidence)
    printed, head = arm_of("he", size), arm_of("he", {"head_fan": "fan_in"} | size)
    textbook = arm_of("he", {"fan": "fan_in"} | size)
    low, high = min(DEPTHS), max(DEPTHS)
    better = compared("head by fan_in − as printed", head, printed, evidence)
    effects = _depth_effects((printed, head), low, high, evidence)
    both = Part("depth effect as printed − head by fan_in", effects[0] + _negative(effects[1]))
    words = in_small(size)
    words.append(ends(evaluate(better, evidence), "the last layer by fan_in", "that as printed"))
    as_printed, by_head = (evaluate(Part("", terms), evidence) for terms in (effects[0], effects[1]))
    if as_printed.seeds and by_head.seeds:
        words.append(
            f"from {low} to {high} layers accuracy changes by {as_printed.mean:+.2f} points as printed "
            f"and by {by_head.mean:+.2f} with that one layer changed"
            + _share(as_printed.mean, by_head.mean)
        )
    rest = compared("all layers − head", textbook, head, evidence)
    words.append(ends(evaluate(rest, evidence), "every layer by fan_in", "the last layer alone"))
    words += [
        text
        for title, arm in (("as printed", printed), ("by fan_in", head))
        if (text := _first_loss(title, arm("relu", low), evidence))
    ]
    return Condition(
        "last-layer",
        "Is part of the depth effect the last linear layer's fan alone?",
        "A(head by fan_in) − A(as printed) > 0, mean over settings, and the rise of A from "
        f"{low} to {high} layers as printed minus that with the head by fan_in > 0",
        (better, both),
        sentence(words),
        "head",
    )


def _depth_effects(
    arms: Sequence[Arm], low: int, high: int, evidence: Evidence
) -> list[tuple[Term, ...]]:
    """A(high) − A(low) of each arm, mean over the activations for which all arms have both."""
    there = [
        one
        for one in ACTIVATIONS
        if all(evidence.completed(arm(one, depth)) for arm in arms for depth in (low, high))
    ]
    return [
        difference("", [arm(one, high) for one in chosen], [arm(one, low) for one in chosen]).terms
        for chosen in [there or ACTIVATIONS]
        for arm in arms
    ]


def _share(rise: float, rest: float) -> str:
    """How much of a rise is gone with the one change; nothing is said where nothing rises."""
    return f", which is {100 * (1 - rest / rise):.0f} % less" if rise > max(rest, 0) else ""


def _negative(terms: Iterable[Term]) -> tuple[Term, ...]:
    return tuple(Term(-term.factor, term.quantity, term.cells) for term in terms)


def _first_loss(title: str, cells: Cells, evidence: Evidence) -> str:
    predicted, measured = (
        evidence.initial(name, cells) for name in ("initial_loss_predicted", "initial_loss")
    )
    if not math.isfinite(measured):
        return ""
    return (
        f"{title} the first loss at {cells.depth} layers is {measured:.2f} (predicted {predicted:.2f}, "
        f"guessing {math.log(CLASSES):.2f})"
    )


# ------------------------------------------------------------------------------ PReLU, and the rate


def _prelu(evidence: Evidence) -> Condition:
    parts, words = [], []
    for title, initializer, changes in (
        ("He as printed", "he", {}),
        ("He by fan_in", "he", {"fan": "fan_in"}),
        ("N(0, 1)", "normal", {}),
    ):
        arm = arm_of(initializer, changes)
        shared = [
            (arm("prelu", d), arm("relu", d))
            for d in DEPTHS
            if evidence.completed(arm("prelu", d)) and evidence.completed(arm("relu", d))
        ]
        if not shared and changes == {} and initializer == "he":
            shared = [(arm("prelu", d), arm("relu", d)) for d in DEPTHS]
        if not shared:
            continue
        first, second = ([pair[side] for pair in shared] for side in (0, 1))
        part = difference(f"PReLU − ReLU, {title}", first, second)
        if initializer == "he":
            parts.append(part)
        words.append(f"with {title}, " + ends(evaluate(part, evidence), "PReLU", "ReLU"))
    return Condition(
        "prelu",
        "Should PReLU take ReLU's place, with He?",
        "A(PReLU) − A(ReLU) > 0, mean over depths, with He by each fan mode recorded",
        tuple(parts),
        sentence(words),
        "report",
    )


def _effective_rate(evidence: Evidence) -> Condition:
    size = recorded_size("effective-lr", evidence)
    last, steps = {"head_initializer": "he"} | size, {"learning_rate_reference": "he"}
    he, normal = arm_of("he", size), arm_of("normal", size)
    head, matched = arm_of("normal", last), arm_of("normal", last | steps)
    pairs = [(activation, depth) for activation in ACTIVATIONS for depth in DEPTHS]
    complete = [
        one for one in pairs if all(evidence.completed(arm(*one)) for arm in (he, normal, matched))
    ]
    chosen = complete or [("relu", depth) for depth in DEPTHS]

    def part(name: str, of_he: float, of_normal: float, of_matched: float) -> Part:
        arms = ((he, of_he), (normal, of_normal), (matched, of_matched))
        return Part(name, tuple(
            term
            for arm, factor in arms
            for term in mean_of("accuracy", [arm(*one) for one in chosen], factor)
        ))  # fmt: skip

    half = NEARER
    parts = (
        part("not below", half - 1, -half, 1.0),  # ½·(He − N) − (He − M)
        part("not above", 1 + half, -half, -1.0),  # ½·(He − N) + (He − M)
    )
    words = in_small(size) + [
        ends(evaluate(_same_settings(arm, he, complete, evidence), evidence), title, "He")
        for title, arm in (
            ("N(0, 1)", normal),
            ("N(0, 1) with He's last layer", head),
            ("N(0, 1) with He's last layer and relative steps", matched),
        )
    ]
    gap = _loss_gap([(he(*one), matched(*one)) for one in complete], evidence)
    if math.isfinite(gap):
        words.append(
            f"its training losses and He's differ by at most {100 * gap:.2g} % in any epoch "
            "(in theory by rounding and Adam's ε alone, which training amplifies)"
        )
    words.append(f"N(0, 1)'s learning rate between batch norms is {rate_ratio():.1f} times smaller")
    return Condition(
        "effective-lr",
        "Is N(0, 1)'s only handicap, under batch norm, its effective learning rate?",
        f"{NEARER:g}·(A(He) − A(N)) ∓ (A(He) − A(M)) > 0, mean over settings; M is N(0, 1) with He's "
        "last layer and He's relative steps",
        parts,
        sentence(words),
        "effective-lr",
    )


def _same_settings(
    first: Arm, second: Arm, chosen: Sequence[tuple[str, int]], evidence: Evidence
) -> Part:
    """The mean difference over the ``chosen`` settings that both have; without any, over all."""
    both = [one for one in chosen if all(evidence.completed(arm(*one)) for arm in (first, second))]
    if not both:
        return compared("", first, second, evidence)
    return difference("", [first(*one) for one in both], [second(*one) for one in both])


def _loss_gap(pairs: Sequence[tuple[Cells, Cells]], evidence: Evidence) -> float:
    """The largest relative difference of two arms' training losses, over epochs, seeds and settings."""
    gaps = [math.nan]
    for pair in pairs:
        losses = [
            evidence.rows(cells).query("epoch > 0").set_index(["seed", "epoch"])["train_loss"]
            for cells in pair
        ]
        both = pd.concat(losses, axis=1, join="inner").dropna().to_numpy(dtype=np.float64)
        if len(both):
            gaps.append(float((np.abs(both[:, 1] - both[:, 0]) / both[:, 0]).max()))
    return float(np.nanmax(gaps)) if len(gaps) > 1 else math.nan
