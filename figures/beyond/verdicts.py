"""The claims about other tasks and networks, as people read them (``judgment.beyond``)."""

from __future__ import annotations

import pandas as pd

from empirical.judgment.claim_theory import TIE, score
from empirical.judgment.statistics import LEVEL, MINIMUM_SEEDS
from empirical.presets import SEEDS
from figures.answers import interval, points, theory_words, verdict_text
from figures.tables import Column, Sheet, words


def verdicts_table(claims: pd.DataFrame, name: str = "beyond") -> Sheet:
    """A row per claim of ``judgment.beyond.judge_beyond``."""
    found = score(claims)
    told = found["right"] + found["wrong"]
    return Sheet(
        name=name,
        title="Beyond the course report: what theory foretold, and what came of it",
        data=claims,
        section=lambda row: str(row["dataset"]),
        columns=(
            words("", "id", folds=False),
            words("claim", "claim"),
            Column("points", "value", points),
            Column(f"{100 * (1 - LEVEL):g} %", interval),
            Column("seeds", "seeds"),
            words("verdict", verdict_text),
            words("theory, before training", theory_words),
        ),
        notes=(
            "Points of the final score: accuracy, or 100·R² of teacher, diabetes and adding. Verdicts: "
            f"t tests paired by seed, from {MINIMUM_SEEDS} seeds on, with Holm's correction over the "
            f"claims of a preset. Theory: true, false, or no difference below {TIE:g} e-folds; it was "
            f"right of {found['right']} of {told} decided claims, so far of {found['right so far']} of "
            f"{found['right so far'] + found['wrong so far']} open ones.",
            *_added(claims),
        ),
        spare=("seeds",),
    )


def _added(claims: pd.DataFrame) -> list[str]:
    """What the claims with more seeds than planned were by the planned ones alone."""
    more = claims[claims["seeds"] > len(SEEDS["seeds"])]
    if more.empty:
        return []
    changed = more[more["verdict"] != more["planned"]]
    by = "; ".join(f"{one['id']} {one['planned']}" for one in changed.to_dict("records"))
    return [
        f"{', '.join(more['id'])} have more seeds than the {len(SEEDS['seeds'])} that were planned, "
        f"added once these had been seen. By the planned ones alone: {by or 'the same verdicts'}."
    ]
