"""Should He be the default, and under which conditions?  Each condition answered from the records.

A condition is a sentence in the sense of ``truth``: parts that must all be positive, judged in one
family.  A part is a mean over the *settings* (activation × depth) that both of its arms have recorded
with enough seeds for a test, or, where none has, with any; seed by seed.  An arm that diverged in a
setting leaves it out there, and is counted.

    printed        with batch norm, by fan_out as printed: He above N(0, 1), Xavier and every other law
                   recorded beside it
    no-norm        without batch norm, where nothing hides the scale of the weights
    very-deep      plain nets of 22 and 30 layers (He et al. 2015, Fig. 2 and 3): at the deepest
    fan            He by fan_in above He by fan_out as printed
    prelu          PReLU above ReLU, with He
    fan-in         ``printed`` with He by fan_in, as in textbooks
    last-layer     the last linear layer alone by fan_in: better, and the less so the deeper the net
    effective-lr   N(0, 1) with He's relative steps alone is nearer to He than to N(0, 1), and with He's
                   last layer alone it is not, at each depth: (S − N) − ½·(He − N) > 0 and
                   ½·(He − N) − (H − N) > 0

The first five answer the question (``ANSWERS``).  Beside what is judged, ``contrasts`` says how far any
two of a condition's arms are apart, and ``facts`` what else the records have.  No words are made here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from empirical.arm import NAMES, Arm
from empirical.judgment.claim_theory import THEORY_COLUMNS, drawn_signal, foretold, rate_ratio
from empirical.judgment.claims import NEARER, PART_COLUMNS, judgment_fields, part_row, training
from empirical.judgment.evidence import Cells, Evidence
from empirical.judgment.selection import SIZE, size_of_most
from empirical.judgment.statistics import INSUFFICIENT, MINIMUM_SEEDS
from empirical.judgment.truth import (
    AGREES,
    CONFIRMED,
    NO,
    NO_RECORDS,
    OPEN,
    REFUTED,
    YES,
    Judgment,
    Part,
    Term,
    difference,
    evaluate,
    judge,
)
from empirical.presets import MANY_SEEDS, PRESETS
from empirical.protocol import CLASSES, COURSE_REPORT, TEST_IMAGES, Protocol
from empirical.records.published import spec_of
from theory.lessons.paper import xavier_over_he

ACTIVATIONS, DEPTHS = COURSE_REPORT.activations, COURSE_REPORT.depths
RIVALS = ("normal", "xavier")  # what He must beat to be the default; and whatever else is recorded
ANSWERS = ("printed", "no-norm", "very-deep", "fan", "prelu")
FACTOR_DEPTHS = (2, 12)  # at which head and steps are told apart

CONDITION_COLUMNS = {
    "id": "of the condition",
    "verdict": "yes or no (as confirmed and refuted of a claim), or why neither",
    **dict.fromkeys(
        (
            *("value", "part", "low", "high", "single_values", "seeds", "diverged", "p_value"),
            *("p_holm", "p_exact", "needed", "direction", "parts", "records", "missing", "commands"),
        ),
        "as in the claims' table",
    ),
    **THEORY_COLUMNS,
    "settings": "activation and depth of every setting that the part named has",
    "facts": "what else the records say, by name",
}
CONTRAST_COLUMNS = {
    **PART_COLUMNS,
    "judged": "whether the verdict rests on it",
    "first": "the arm that the difference is counted from; empty for a part of more than two",
    "second": "the other arm",
    "settings": "how many both have",
    "at": "the one setting, where it is one: activation and depth",
}

K = TypeVar("K")
Setting = tuple[str, int]  # activation, depth
SETTINGS: tuple[Setting, ...] = tuple((one, depth) for one in ACTIVATIONS for depth in DEPTHS)


@dataclass(frozen=True)
class Contrast:
    """``first`` minus ``second``, by name, over ``settings``."""

    first: str
    second: str
    part: Part
    settings: tuple[Setting, ...]


@dataclass(frozen=True)
class Condition:
    """What must be positive for yes, what else is compared, and what else is known."""

    name: str
    preset: str
    parts: tuple[Part, ...]
    contrasts: tuple[Contrast, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    decides_default: bool = False


def conditions(evidence: Evidence) -> list[Condition]:
    """The conditions, as far as ``evidence`` has records."""
    no_norm = _changes("no-norm") | (size := recorded_size("no-norm", evidence))
    return [
        _default("printed", "report", {}, evidence),
        _default("no-norm", "no-norm", no_norm, evidence, size),
        _very_deep(evidence),
        _fan(evidence),
        _prelu(evidence),
        _default("fan-in", "textbook", {"fan": "fan_in"}, evidence),
        _last_layer(evidence),
        _effective_rate(evidence),
    ]


def judge_conditions(evidence: Evidence) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table of conditions (``CONDITION_COLUMNS``) and of what they compare (``CONTRAST_COLUMNS``).

    The last row, ``default``, draws the answers together: its ``facts`` are the conditions of each
    answer, and its verdict is that of all, "it depends", or open in part.
    """
    known = conditions(evidence)
    judged = judge({condition.name: condition.parts for condition in known}, evidence)
    rows, parts = [], []
    for condition in known:
        judgment = judged[condition.name]
        row = {"id": condition.name} | judgment_fields(judgment, evidence)
        row |= foretold(judgment, evidence)
        row["verdict"] = {CONFIRMED: YES, REFUTED: NO}.get(judgment.verdict, judgment.verdict)
        row["commands"] = _preset_commands(condition.preset, judgment)
        cells = judgment.decisive.part.cells if judgment.decisive else []
        row["settings"] = list(dict.fromkeys((one.activation, one.depth) for one in cells))
        rows.append(row | {"facts": dict(condition.facts)})
        parts += list(_contrast_rows(condition, judgment, evidence))
    rows.append(_together(known, rows))
    return (
        pd.DataFrame(rows, columns=list(CONDITION_COLUMNS)),
        pd.DataFrame(parts, columns=list(CONTRAST_COLUMNS)),
    )


def _contrast_rows(
    condition: Condition, judgment: Judgment, evidence: Evidence
) -> Iterator[dict[str, Any]]:
    contrasts = {one.part: one for one in condition.contrasts}
    told = [evaluate(one, evidence) for one in contrasts if one not in condition.parts]
    for outcome in (*judgment.outcomes, *told):
        row = part_row(condition.name, outcome, evidence) | {"judged": outcome.part in condition.parts}
        if (one := contrasts.get(outcome.part)) is not None:
            row |= {"first": one.first, "second": one.second, "settings": len(one.settings)}
            row["at"] = list(one.settings[0]) if len(one.settings) == 1 else None
        yield row


def _preset_commands(preset: str, judgment: Judgment) -> str:
    """What makes the missing records, or more seeds: the preset, and what it does not have."""
    if judgment.verdict not in (NO_RECORDS, INSUFFICIENT):
        return ""
    seeds = min(judgment.needed, MANY_SEEDS) if judgment.verdict == INSUFFICIENT else 1
    wanted = judgment.cells if seeds > 1 else list(judgment.missing)
    more = f" --seeds {seeds}" if seeds > 1 else ""
    lines = []
    for name in dict.fromkeys((preset, "report")):
        grid = {Cells.of(spec.config()).key for spec in PRESETS[name].study.cells()}
        if any(one.key in grid for one in wanted):
            lines.append(f"cifar --preset {name}{more}")
            wanted = [one for one in wanted if one.key not in grid]
    return "; ".join((*lines, *training(wanted, seeds)))


def _together(known: Sequence[Condition], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """For which conditions the answer is yes, no, or open, and which way the runs there point."""
    found: dict[str, list[str]] = {}
    for condition, row in zip(known, rows, strict=True):
        if condition.decides_default:
            so_far = {AGREES: f"{OPEN} {YES}", "": OPEN}.get(row["direction"], f"{OPEN} {NO}")
            answer = row["verdict"] if row["verdict"] in (YES, NO) else so_far
            found.setdefault(answer, []).append(condition.name)
    answers = {answer.split()[0] for answer in found}
    verdict = "open in part" if OPEN in answers else "it depends"
    if len(answers) == 1:
        (verdict,) = answers
    return dict.fromkeys(CONDITION_COLUMNS, "") | {
        "id": "default",
        "verdict": verdict,
        "facts": found,
        "seeds": min((int(row["seeds"]) for row in rows), default=0),
        **dict.fromkeys(("value", "low", "high", "p_value", "p_holm", "p_exact"), math.nan),
        "needed": max(int(row["needed"]) for row in rows),
        "theory_value": math.nan,
        "diverged": sum(int(row["diverged"]) for row in rows),
    }


# ------------------------------------------------------------------------------ arms and settings


def at(arm: Arm, setting: Setting) -> Cells:
    """The cells of an arm at one setting."""
    return Cells(arm.initializer, *setting, tuple(sorted(arm.changes)))


def _arm(initializer: str, changes: Mapping[str, Any]) -> Arm:
    return Arm(initializer, tuple(sorted(changes.items())))


def _changes(preset: str) -> dict[str, Any]:
    """The fields of the protocol that a preset changes."""
    named = {item.name for item in fields(Protocol)}
    return {name: value for name, value in PRESETS[preset].fields.items() if name in named}


def recorded_size(preset: str, evidence: Evidence) -> dict[str, Any]:
    """The fields of ``selection.SIZE`` in which He's records of a preset are not of the preset's size.

    Where there are none of that size, those of the shorter or smaller run with most of them answer the
    question, in small, and are said to.
    """
    cells = evidence.study.drop_duplicates("cell")
    if not {*SIZE} <= set(cells):
        return {}
    study = PRESETS[preset].study
    of_he = [cell for cell in study.cells() if cell.initializer == "he"]
    size = size_of_most(map(spec_of, cells.to_dict("records")), of_he)
    return {name: value for name, value in size.items() if value != getattr(study, name)}


def _complete(
    arms: Sequence[Arm], evidence: Evidence, among: Iterable[Setting] = SETTINGS
) -> tuple[Setting, ...]:
    """The settings ``among`` which all ``arms`` have seeds in common, by ``_most_telling``."""
    return _most_telling(_shared({one: [at(arm, one) for arm in arms] for one in among}, evidence))


def _shared(cells: Mapping[K, Sequence[Cells]], evidence: Evidence) -> dict[K, int]:
    """How many seeds have completed in all of the cells, by the cells' key."""
    completed = {key: [set(evidence.completed(one)) for one in own] for key, own in cells.items()}
    return {key: len(set.intersection(*seeds)) for key, seeds in completed.items()}


def _most_telling(shared: Mapping[K, int]) -> tuple[K, ...]:
    """Those with seeds enough for a test; else with any; else all."""
    for least in (MINIMUM_SEEDS, 1, 0):
        if there := tuple(one for one, seeds in shared.items() if seeds >= least):
            return there
    return ()


def _contrast(
    names: tuple[str, str], first: Arm, second: Arm, settings: tuple[Setting, ...], label: str = ""
) -> Contrast:
    """``first`` minus ``second``, mean over the settings."""
    ours, theirs = ([at(arm, one) for one in settings] for arm in (first, second))
    return Contrast(*names, difference(label or " − ".join(names), ours, theirs), settings)


def _runs(arm: Arm, evidence: Evidence) -> tuple[int, int]:
    """How many of an arm's runs diverged, and how many there are."""
    cells = [at(arm, one) for one in SETTINGS]
    diverged = sum(map(evidence.diverged, cells))
    return diverged, diverged + sum(len(evidence.completed(one)) for one in cells)


# ----------------------------------------------------------------------------- He against others


def _default(
    name: str,
    preset: str,
    changes: Mapping[str, Any],
    evidence: Evidence,
    size: Mapping[str, Any] | None = None,
) -> Condition:
    """He against every other law that is recorded under the same protocol, of this ``size``."""
    he = _arm("he", changes)
    contrasts, diverged = [], {"He": _runs(he, evidence)}
    others = [str(other) for other in evidence.study["initializer"].unique()]
    for other in dict.fromkeys((*RIVALS, *sorted(others))):
        rival, title = _arm(other, changes), NAMES.get(other, other)
        settings = _complete((he, rival), evidence)
        unknown = not all(evidence.completed(at(arm, settings[0])) for arm in (he, rival))
        if other == "he" or (other not in RIVALS and unknown):
            continue
        diverged[title] = lost = _runs(rival, evidence)
        if lost[0] == lost[1] > 0 and (not diverged["He"][0] or diverged["He"][0] < diverged["He"][1]):
            continue  # it has no accuracy to compare with, and the facts say so
        contrasts.append(_contrast(("He", title), he, rival, settings))
    facts = {"size": dict(size or {}), "diverged": {one: n for one, n in diverged.items() if n[0]}}
    parts = tuple(one.part for one in contrasts)
    return Condition(name, preset, parts, tuple(contrasts), facts, decides_default=True)


def _very_deep(evidence: Evidence) -> Condition:
    depths = PRESETS["he2015"].fields["depths"]
    size = recorded_size("he2015", evidence)
    he, xavier = (_arm(name, _changes("he2015") | size) for name in ("he", "xavier"))
    deepest = ("relu", max(depths))
    levels = {
        depth: {
            NAMES[arm.initializer]: _level(at(arm, ("relu", depth)), evidence) for arm in (he, xavier)
        }
        for depth in depths
    }
    signal = {NAMES[arm.initializer]: drawn_signal(at(arm, deepest), evidence) for arm in (he, xavier)}
    contrast = _contrast(("He", "Xavier"), he, xavier, (deepest,))
    facts = {"size": size, "levels": levels, "signal": signal, "layers": max(depths)}
    facts["without_biases"] = xavier_over_he(max(depths)) ** 2  # of second moments
    facts["way"] = _way(evidence)
    return Condition("very-deep", "he2015", (contrast.part,), (contrast,), facts, decides_default=True)


def _way(evidence: Evidence) -> list[dict[str, Any]]:
    """From ``no-norm`` at its deepest to ``he2015`` at its shallowest, change by change: He − Xavier.

    Of each that is recorded what it changes, the mean difference in points, and its seeds.
    """
    grids = [PRESETS[name].study.cells() for name in ("no-norm", "between", "he2015")]
    ends = max(cell.depth for cell in grids[0]), min(cell.depth for cell in grids[-1])
    found: list[dict[str, Any]] = []
    known: dict[str, Any] = {}
    for cell in (cell for grid in grids for cell in grid if cell.depth in ends):
        if (cell.initializer, cell.activation) != ("he", "relu"):
            continue
        pair = [Cells.of(replace(cell, initializer=law).config()) for law in ("he", "xavier")]
        outcome = evaluate(difference("", pair[:1], pair[1:]), evidence)
        if outcome.seeds:
            now = {name: getattr(cell, name) for name in ("filters", "optimizer", "depth")}
            changed = {name: value for name, value in now.items() if known.get(name) != value}
            found.append({"changed": changed, "gap": outcome.mean, "seeds": outcome.seeds})
            known = now
    return found


def _level(cells: Cells, evidence: Evidence) -> dict[str, Any] | None:
    """Where an arm ends, and whether that is guessing: within four standard errors of 1 in 10."""
    if not evidence.completed(cells):
        return {"accuracy": None, "stalls": False} if evidence.diverged(cells) else None
    accuracy, chance = evidence.mean("accuracy", cells), 1 / CLASSES
    error = 100 * math.sqrt(chance * (1 - chance) / TEST_IMAGES)
    return {"accuracy": accuracy, "stalls": accuracy < 100 * chance + 4 * error}


def _fan(evidence: Evidence) -> Condition:
    size = recorded_size("textbook", evidence)
    printed, textbook = _arm("he", size), _arm("he", {"fan": "fan_in"} | size)
    settings = _complete((printed, textbook), evidence)
    contrast = _contrast(("fan_in", "fan_out"), textbook, printed, settings)
    return Condition("fan", "textbook", (contrast.part,), (contrast,), {"size": size})


def _prelu(evidence: Evidence) -> Condition:
    contrasts = []
    for title, initializer, changes in (
        ("", "he", {}),
        ("fan_in", "he", {"fan": "fan_in"}),
        ("N(0, 1)", "normal", {}),
    ):
        arm = _arm(initializer, changes)
        pairs = {depth: [at(arm, (one, depth)) for one in ("prelu", "relu")] for depth in DEPTHS}
        shared = _shared(pairs, evidence)
        depths = _most_telling(shared)
        if any(shared.values()) or not title:
            first, second = zip(*(pairs[depth] for depth in depths), strict=True)
            name = "PReLU − ReLU" + (f", {title}" if title else "")
            part, settings = difference(name, first, second), tuple(("", d) for d in depths)
            contrasts.append(Contrast(f"PReLU{f' with {title}' * bool(title)}", "ReLU", part, settings))
    parts = tuple(one.part for one in contrasts if one.part.cells[0].initializer == "he")
    return Condition("prelu", "report", parts, tuple(contrasts))


# --------------------------------------------------------------------------------- the last layer


def _last_layer(evidence: Evidence) -> Condition:
    size = recorded_size("head", evidence)
    printed, head = _arm("he", size), _arm("he", {"head_fan": "fan_in"} | size)
    textbook = _arm("he", {"fan": "fan_in"} | size)
    low, high = min(DEPTHS), max(DEPTHS)
    names = ("the last layer by fan_in", "He as printed")
    better = _contrast(names, head, printed, _complete((head, printed), evidence))
    rest = _contrast(
        ("every layer by fan_in", names[0]), textbook, head, _complete((textbook, head), evidence)
    )
    four = [(arm, depth) for arm in (printed, head) for depth in (low, high)]
    ends = {one: [at(arm, (one, depth)) for arm, depth in four] for one in ACTIVATIONS}
    chosen = _most_telling(_shared(ends, evidence))
    rises = [
        difference(
            "", [at(arm, (one, high)) for one in chosen], [at(arm, (one, low)) for one in chosen]
        )
        for arm in (printed, head)
    ]
    negative = tuple(Term(-term.factor, term.quantity, term.cells) for term in rises[1].terms)
    both = Part("depth effect as printed − head by fan_in", rises[0].terms + negative)
    facts = {"size": size, "low": low, "high": high}
    facts["rises"] = [evaluate(one, evidence, _seeds(both, evidence)).mean for one in rises]
    facts["first_loss"] = {
        title: [evidence.initial(name, at(arm, ("relu", low))) for name in _LOSSES]
        for title, arm in (("as printed", printed), ("by fan_in", head))
    }
    return Condition("last-layer", "head", (better.part, both), (better, rest), facts)


_LOSSES = ("initial_loss_predicted", "initial_loss")


def _seeds(part: Part, evidence: Evidence) -> frozenset[int] | None:
    return frozenset(evaluate(part, evidence).values.index) or None


# ---------------------------------------------------------------------------- head and steps


def _effective_rate(evidence: Evidence) -> Condition:
    """The two things that tell N(0, 1) from He under batch norm, each with and without the other."""
    size = recorded_size("effective-lr", evidence)
    head, steps = {"head_initializer": "he"}, {"learning_rate_reference": "he"}
    he, plain = _arm("he", size), _arm("normal", size)
    arms = {
        "N(0, 1)": plain,
        "He's last layer": _arm("normal", size | head),
        "He's steps": _arm("normal", size | steps),
        "both": _arm("normal", size | head | steps),
    }
    asked = tuple(("relu", depth) for depth in FACTOR_DEPTHS)

    def beyond_half(name: str, arm: Arm, sign: float) -> Iterator[Part]:
        """``sign`` times how much of the gap between N(0, 1) and He an arm closes beyond ``NEARER``."""
        factors = {arm: sign, plain: -sign * (1 - NEARER), he: -sign * NEARER}
        shared = _shared({one: [at(arm, one) for arm in factors] for one in asked}, evidence)
        for setting in [one for one in asked if shared[one]] or asked:
            terms = (Term(f, "accuracy", at(one, setting)) for one, f in factors.items())
            yield Part(f"{name}, {setting[1]} layers", tuple(terms))

    parts = (
        *beyond_half("steps alone close more than half", arms["He's steps"], 1.0),
        *beyond_half("the last layer alone closes less", arms["He's last layer"], -1.0),
    )
    pairs = [("He's last layer", "N(0, 1)"), ("He's steps", "N(0, 1)"), ("both", "He's last layer")]
    pairs += [("both", "He's steps"), ("both", "N(0, 1)")]
    every = arms | {"He": he}
    contrasts = [
        _contrast(pair, every[pair[0]], every[pair[1]], (one,), f"{' − '.join(pair)}, {one[1]} layers")
        for one in asked
        for pair in (*pairs, ("both", "He"))
    ]
    facts = {
        "size": size,
        "rate_ratio": rate_ratio(),
        "loss_gap": _loss_gap([(at(he, one), at(arms["both"], one)) for one in SETTINGS], evidence),
        "means": {
            one[1]: _means({n: at(arm, one) for n, arm in every.items()}, evidence) for one in asked
        },
    }
    return Condition("effective-lr", "effective-lr", parts, tuple(contrasts), facts)


def _means(cells: Mapping[str, Cells], evidence: Evidence) -> dict[str, float]:
    """The accuracies of those recorded, over the seeds that they share."""
    found = {name: evidence.values("accuracy", one) for name, one in cells.items()}
    there = {name: values for name, values in found.items() if len(values)}
    if not there:
        return {}
    together = pd.concat(there, axis=1, join="inner").mean()
    return {str(name): float(mean) for name, mean in together.items() if not math.isnan(mean)}


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
