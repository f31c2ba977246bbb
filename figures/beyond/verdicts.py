"""The claims about other tasks and networks, as people read them (``judgment.beyond``)."""

from __future__ import annotations

import pandas as pd

from empirical.judgment.claim_theory import TIE, score
from empirical.judgment.statistics import MINIMUM_SEEDS
from empirical.presets import SEEDS
from figures.answers import PERCENT, interval, points, theory_words, verdict_text
from figures.prose import notes
from figures.tables import Column, Sheet, words


def verdicts_table(claims: pd.DataFrame) -> Sheet:
    """A row per claim of ``judgment.beyond.judge_beyond``."""
    planned = len(SEEDS["seeds"])
    added = claims[claims["seeds"] > planned].to_dict("records")
    return Sheet(
        name="beyond",
        title="Beyond the course report: what theory foretold, and what came of it",
        data=claims,
        section=lambda row: str(row["dataset"]),
        columns=(
            words("", "id", folds=False),
            words("claim", "claim"),
            Column("points", "value", points),
            Column(PERCENT, interval),
            Column("seeds", "seeds"),
            words("verdict", verdict_text),
            words("theory, before training", theory_words),
        ),
        notes=notes(
            "beyond", seeds=MINIMUM_SEEDS, tie=TIE, found=score(claims), added=added, planned=planned
        ),
        spare=("seeds",),
    )
