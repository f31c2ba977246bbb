"""The claims about other tasks and networks, as people read them (``judgment.beyond``)."""

from __future__ import annotations

import pandas as pd

from empirical.judgment.claim_theory import TIE, score
from empirical.judgment.statistics import LEVEL, MINIMUM_SEEDS
from empirical.presets import SEEDS
from figures.answers import interval, points, theory_words, verdict_text
from figures.prose import note
from figures.tables import Column, Sheet, words


def verdicts_table(claims: pd.DataFrame) -> Sheet:
    """A row per claim of ``judgment.beyond.judge_beyond``."""
    found = score(claims)
    added = claims[claims["seeds"] > len(SEEDS["seeds"])]
    return Sheet(
        name="beyond",
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
            note("beyond", seeds=MINIMUM_SEEDS, tie=TIE, found=found),
            *([] if added.empty else [_added(added)]),
        ),
        spare=("seeds",),
    )


def _added(more: pd.DataFrame) -> str:
    """What the claims with more seeds than planned were by the planned ones alone."""
    changed = more[more["verdict"] != more["planned"]]
    changes = changed[["id", "planned"]].to_numpy().tolist()
    return note("beyond_added", ids=list(more["id"]), planned=len(SEEDS["seeds"]), changed=changes)
