"""What most likely made the printed accuracies: the table and the sentence.

From the tables of ``empirical.judgment.protocol_agreement``.
"""

from __future__ import annotations

import math
from functools import partial

import pandas as pd

from empirical.judgment.protocol_agreement import (
    AS_PRINTED,
    LEVEL,
    OWN_SPREAD,
)
from empirical.protocol import AUGMENTED
from figures.prose import said
from figures.tables import Column, Row, Sheet, number, words

Protocol = tuple[str, str]
INTERVAL = f"{100 * LEVEL:g} % predictive interval"
LEAST_SHARED = 4  # printed accuracies below which no protocol is called the most likely
STRONG = 3.0  # a log likelihood ratio below is no strong evidence (Kass & Raftery 1995, §3.2)


def name(protocol: Protocol) -> str:
    """A candidate in words.

    >>> name(("flip", "fan_in"))
    'flips alone, fan_in'
    """
    augment, fan = protocol
    return f"{AUGMENTED[augment]}, {fan}"


sentence = partial(
    said, "protocols", interval=INTERVAL, level=100 * LEVEL, own_spread=OWN_SPREAD, least=LEAST_SHARED
)


def agreement_table(table: pd.DataFrame, pairs: pd.DataFrame, alone: bool = True) -> Sheet:
    """A row per candidate, the most likely first within an augmentation's section.

    ``alone``: no text beside it says ``most_likely``, so that it does.
    """
    return Sheet(
        name="protocol-agreement",
        title="What made the printed accuracies?",
        data=table,
        columns=(
            words("layers", "fan", folds=False),
            Column("cells", "{cells} of {of}".format_map),
            Column("in", lambda row: f"{row['within']}" if row["cells"] else "–"),
            Column("shift", "mean_difference", number("+.1f")),
            Column("left", _left),
            Column("seeds", "seeds"),
            Column("shared", lambda row: f"{row['shared']}" if row["cells"] else "–"),
            Column("log L", "shared_log_likelihood", number(".1f")),
            Column("share", "share", number(".3f")),
        ),
        section=lambda row: AUGMENTED[str(row["augment"])],
        notes=(sentence("note"), *([most_likely(table, pairs)] if alone else [])),
        spare=("seeds", "left", "shared"),
    )


def _left(row: Row) -> str:
    rest = row["rest"]
    return "–" if math.isnan(rest) else f"{rest:.1f} ({row['expected']:.1f})"


def most_likely(table: pd.DataFrame, pairs: pd.DataFrame, block: str = "most_likely") -> str:
    """Which protocol is most likely behind the print, by how much, and what is not recorded yet.

    ``block``: ``in_short`` for one sentence.
    """
    told = table.assign(name=[name(key) for key in zip(table["augment"], table["fan"], strict=True)])
    recorded = told[told["cells"] > 0].sort_values("share", ascending=False, kind="stable")
    order = recorded.to_dict("records")
    others = [row for row in order if (row["augment"], row["fan"]) != AS_PRINTED]
    ratios = [(row["name"], *_ratio(pairs, row, AS_PRINTED)) for row in others]
    second = (order[1]["augment"], order[1]["fan"]) if order[1:] else None
    return sentence(
        block,
        between=_ratio(pairs, order[0], second) if second else None,
        strong=STRONG,
        order=order,
        shares=len(order) > 1 and bool(recorded.iloc[0]["shared"]),
        printed=next((row for row in order if row not in others), None),
        ratios=sorted(ratios, key=lambda ratio: -ratio[1]),
        missing=list(told.loc[told["cells"] == 0, "name"]),
        as_printed=name(AS_PRINTED),
    )


def _ratio(pairs: pd.DataFrame, row: Row, second: Protocol) -> tuple[float, int]:
    """The log likelihood ratio of two candidates, whichever stands first, and over how many cells."""
    first = row["augment"], row["fan"]
    for pair in pairs.to_dict("records"):
        one, other = (pair["augment"], pair["fan"]), (pair["other_augment"], pair["other_fan"])
        if {one, other} == {first, second}:
            return (pair["log_ratio"] if one == first else -pair["log_ratio"]), pair["cells"]
    return math.nan, 0
