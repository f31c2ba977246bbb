"""Arms of a study compared over the settings that both have, and what came of it in words.

An arm is an initializer under a protocol: a function from a *setting* (activation, depth) to its cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from empirical.judgment.evidence import Cells, Evidence
from empirical.judgment.selection import SIZE
from empirical.judgment.truth import LEVEL, Part, PartOutcome, difference
from empirical.presets import PRESETS
from empirical.protocol import COURSE_REPORT, Protocol, StudySpec, TrainSpec

ACTIVATIONS, DEPTHS = COURSE_REPORT.activations, COURSE_REPORT.depths

Arm = Callable[[str, int], Cells]  # activation, depth -> cells


def preset_changes(preset: str) -> dict[str, Any]:
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
    kept = [item.name for item in fields(TrainSpec) if item.name not in (*SIZE, "engine", "seed")]
    specs = [spec.config() for spec in StudySpec(**PRESETS[preset].fields).cells()]
    own = tuple(specs[0][name] for name in SIZE)
    wanted = {tuple(one[name] for name in kept) for one in specs if one["initializer"] == "he"}
    found: dict[tuple[Any, ...], set[tuple[Any, ...]]] = {own: set()}
    for row in cells.to_dict("records"):
        known = {name: None if value != value else value for name, value in row.items()}
        key = tuple(known[name] for name in kept)
        if key in wanted:
            found.setdefault(tuple(known[name] for name in SIZE), set()).add(key)
    best = own if found[own] else max(found, key=lambda size: len(found[size]))
    whole = {"limit_train", "limit_test"}
    return {
        name: int(value) if name in whole and value is not None else value
        for name, value, usual in zip(SIZE, best, own, strict=True)
        if value != usual
    }


def in_small(size: Mapping[str, Any]) -> list[str]:
    words = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in size.items())
    return [f"in small ({words})"] if words else []


def arm_of(initializer: str, changes: Mapping[str, Any]) -> Arm:
    held = tuple(sorted(changes.items()))
    return lambda activation, depth: Cells(initializer, activation, depth, held)


def settings() -> Iterator[tuple[str, int]]:
    return ((activation, depth) for activation in ACTIVATIONS for depth in DEPTHS)


def shared_settings(first: Arm, second: Arm, evidence: Evidence) -> list[tuple[Cells, Cells]]:
    """The settings in which both arms have completed cells."""
    pairs = ((first(*one), second(*one)) for one in settings())
    return [pair for pair in pairs if all(map(evidence.completed, pair))]


def compared(name: str, first: Arm, second: Arm, evidence: Evidence) -> Part:
    """The mean difference over the settings that both have; over all of them, if both have none."""
    pairs = shared_settings(first, second, evidence)
    pairs = pairs or [(first(*one), second(*one)) for one in settings()]
    return difference(name, [pair[0] for pair in pairs], [pair[1] for pair in pairs])


def lost_everywhere(arm: Arm, evidence: Evidence) -> bool:
    """Whether the arm is recorded, and diverged wherever it is."""
    cells = [arm(*one) for one in settings() if evidence.recorded(arm(*one))]
    return bool(cells) and not any(map(evidence.completed, cells))


def divergence(arm: Arm, title: str, evidence: Evidence) -> list[str]:
    cells = [arm(*one) for one in settings()]
    diverged = sum(evidence.diverged(one) for one in cells)
    runs = diverged + sum(len(evidence.completed(one)) for one in cells)
    return [f"{title} diverged in {diverged} of {runs} runs"] if diverged else []


def ends(outcome: PartOutcome, first: str, second: str) -> str:
    """How far an arm ends from another, with the interval or the number of seeds; "" if unknown."""
    if not outcome.seeds:
        return f"{first} against {second}: no records" if outcome.missing else ""
    settings = len(outcome.part.cells) // 2
    seeds = f"{outcome.seeds} seed{'s' if outcome.seeds > 1 else ''}"
    one = outcome.part.cells[0]
    where = f"{settings} settings" if settings > 1 else f"{one.activation}, {one.depth} layers"
    side, low, high = "above", outcome.low, outcome.high
    if outcome.mean < 0:
        side, low, high = "below", -outcome.high, -outcome.low
    confidence = f"{100 * (1 - LEVEL):g} %"
    interval = f", {confidence} {low:.2f} to {high:.2f}" if math.isfinite(low) else ""
    return f"{first} ends {abs(outcome.mean):.2f} points {side} {second} ({where}, {seeds}{interval})"


def sentence(words: Iterable[str]) -> str:
    """The non-empty ``words`` as one sentence, each said once."""
    text = "; ".join(dict.fromkeys(filter(None, words)))
    return f"{text[0].upper()}{text[1:]}." if text else ""
