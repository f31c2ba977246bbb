"""Beyond the course report: does what is said of He in CIFAR-10's networks hold elsewhere?

Each sentence compares two arms of a preset of ``presets.BEYOND`` at one depth: the first ends above
the second.  What theory foretells of it is known before a cell's first step: its record has, from epoch
0, the predicted first loss and the predicted gradient at every layer (``claim_theory.off``).  Verdicts
are those of ``truth``, in points of the score, 100·R² or accuracy; the sentences of a preset are one
family of Holm's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from empirical.data.files import tables
from empirical.judgment.claim_theory import THEORY_COLUMNS, foretold, off
from empirical.judgment.claims import judgment_fields
from empirical.judgment.evidence import Cells, Evidence
from empirical.judgment.truth import Part, difference, judge
from empirical.presets import BEYOND, SEEDS, Preset
from empirical.protocol import TrainSpec

COLUMNS = {
    "id": "E1, E2, …",
    "preset": "of presets.BEYOND, which trains its cells",
    "dataset": "what they are trained on",
    "claim": "that the first of two arms ends above the second",
    "value": "mean over seeds of the difference, in points of the score",
    "low": "lower end of its 95 % t interval; NaN below three seeds",
    "high": "its upper end",
    "first": "mean score of the first arm",
    "second": "of the second",
    "seeds": "that completed in both",
    "diverged": "diverged records among them, which are in no number",
    "p_holm": "t test after Holm's correction over the claims of the preset",
    "needed": "seeds that would decide it, if it is as it looks",
    "verdict": "of ``truth``: confirmed, refuted, or why not",
    "direction": "whether the runs there are agree with it or disagree, whatever the verdict",
    "planned": "the verdict by the seeds of the preset alone: others were added once these were seen",
    **THEORY_COLUMNS,
}


@dataclass(frozen=True)
class Contrast:
    """A sentence: ``first`` ends above ``second``, which are changes of the preset's own cells."""

    name: str
    preset: str
    text: str
    first: Mapping[str, Any]
    second: Mapping[str, Any]
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def part(self) -> Part:
        first, second = (self.cells(one) for one in (self.first, self.second))
        return difference(self.name, [first], [second])

    def cells(self, arm: Mapping[str, Any]) -> Cells:
        """Those of ``arm``, at the greatest depth of the preset unless ``changes`` say otherwise."""
        study = BEYOND[self.preset].study
        own = {"activation": study.activations[0], "depth": max(study.depths)}
        spec = TrainSpec(**study.shared() | own | dict(self.changes) | dict(arm))
        return Cells.of(spec.config())


def contrasts() -> list[Contrast]:
    """Every sentence of ``beyond.toml``, in order."""
    return [Contrast(name, **row) for name, row in tables(Path(__file__).with_suffix(".toml")).items()]


def judge_beyond(evidence: Evidence) -> pd.DataFrame:
    """Those sentences of which there are records, judged; columns: ``COLUMNS``."""
    study = evidence.study[evidence.study["seed"].isin(SEEDS["seeds"])]
    planned = _judged(Evidence(study, evidence.cells, evidence.layers)).set_index("id")["verdict"]
    table = _judged(evidence)
    return table.assign(planned=table["id"].map(planned).fillna(""))


def _judged(evidence: Evidence) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    there = [one for one in contrasts() if all(map(evidence.recorded, one.part.cells))]
    for preset in dict.fromkeys(one.preset for one in there):
        family = {one.name: one for one in there if one.preset == preset}
        judged = judge({name: [one.part] for name, one in family.items()}, evidence)
        for name, judgment in judged.items():
            one = family[name]
            known = {"id": name, "preset": preset, "dataset": BEYOND[preset].dataset, "claim": one.text}
            arms = {"first": one.first, "second": one.second}
            ended = {arm: evidence.mean("accuracy", one.cells(arms[arm])) for arm in arms}
            rows.append(
                known | ended | judgment_fields(judgment, evidence) | foretold(judgment, evidence)
            )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def arms_of(presets: Mapping[str, Preset]) -> dict[str, list[Cells]]:
    """Every arm of the ``presets``, by preset."""
    return {
        name: list(dict.fromkeys(Cells.of(cell.config()) for cell in one.study.cells()))
        for name, one in presets.items()
    }


def foretold_arms(evidence: Evidence, arms: Mapping[str, Iterable[Cells]]) -> pd.DataFrame:
    """How far theory sees each recorded arm from an even start, and where it ended: a row per seed.

    Columns: group (the name in ``arms``), cells (``Cells``), off (e-folds: ``claim_theory.off``), seed,
    score (percent; NaN, with seed −1, where every seed diverged).
    """
    rows: list[tuple[Any, ...]] = []
    for group, found in arms.items():
        for cells in filter(evidence.recorded, found):
            start = off(cells, evidence)
            scores = evidence.values("accuracy", cells)
            ended = list(scores.items()) or [(-1, math.nan)]
            rows += [(group, cells, start, seed, score) for seed, score in ended]
    return pd.DataFrame(rows, columns=["group", "cells", "off", "seed", "score"])
