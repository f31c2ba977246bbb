"""What most likely made the printed accuracies: the table, the sentence and the figure.

From the tables of ``empirical.judgment.protocol_agreement``.
"""

from __future__ import annotations

import math
from functools import partial
from typing import cast

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from empirical.judgment.evidence import Cells, Evidence
from empirical.judgment.protocol_agreement import (
    AS_PRINTED,
    CANDIDATES,
    INITIALIZERS,
    LEVEL,
    OWN_SPREAD,
    protocol_cells,
)
from empirical.protocol import AUGMENTED, COURSE_REPORT
from empirical.records.published import Published
from figures import style
from figures.prose import name_of, said
from figures.tables import Column, Row, Sheet, number, words

Protocol = tuple[str, str]
INTERVAL = f"{100 * LEVEL:g} % predictive interval"
LEAST_SHARED = 4  # printed accuracies below which no protocol is called the most likely


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


def most_likely(table: pd.DataFrame, pairs: pd.DataFrame) -> str:
    """Which protocol is most likely behind the print, by how much, and what is not recorded yet."""
    told = table.assign(name=[name(key) for key in zip(table["augment"], table["fan"], strict=True)])
    recorded = told[told["cells"] > 0].sort_values("share", ascending=False, kind="stable")
    order = recorded.to_dict("records")
    others = [row for row in order if (row["augment"], row["fan"]) != AS_PRINTED]
    ratios = [(row["name"], *_ratio(pairs, row, AS_PRINTED)) for row in others]
    return sentence(
        "most_likely",
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


# ------------------------------------------------------------------------------- the figure


def candidate_cells(published: Published) -> Published:
    """The cells of ``published`` that stand beside a printed accuracy."""
    evidence = Evidence(published.study)
    rows = protocol_cells(evidence).to_dict("records")
    return published.of(one for row in rows for one in evidence.ids(_cells(row)))


def agreement_figure(records: Published) -> Figure:
    """Printed accuracies (stars) over the seeds and predictive intervals of every recorded protocol."""
    evidence = Evidence(records.study)
    table = protocol_cells(evidence)
    protocols = list(dict.fromkeys(zip(table["augment"], table["fan"], strict=True)))
    colors = dict(zip(protocols, sns.color_palette("colorblind", len(protocols)), strict=True))
    with style.canvas(5.4) as figure:
        grid = figure.subplots(2, 2, sharex=True, sharey="row")
        for axes_row, initializer in zip(grid, INITIALIZERS, strict=True):
            for axes, activation in zip(axes_row, COURSE_REPORT.activations, strict=True):
                _panel(axes, table, evidence, (initializer, activation), colors)
        style.label(grid, below="layers", left="final test accuracy (percent)")
        dot = {"color": "#555555", "marker": "o", "linestyle": "none", "markersize": 2.5}
        keys = [
            style.legend_key("printed", color="black", marker="*", linestyle="none", markersize=9),
            *(style.legend_key(name(one), color=color, marker="o") for one, color in colors.items()),
            style.legend_key("a seed", **dot),
            style.legend_key(INTERVAL, color="#555555", linewidth=2, alpha=0.6),
        ]
        figure.legend(handles=keys, loc="outside upper center", ncols=3)
    return figure


def _panel(
    axes: Axes,
    table: pd.DataFrame,
    evidence: Evidence,
    arm: tuple[str, str],
    colors: dict[Protocol, tuple[float, float, float]],
) -> None:
    initializer, activation = arm
    part = table[(table["initializer"] == initializer) & (table["activation"] == activation)]
    depths = list(COURSE_REPORT.depths)
    axes.set_title(f"{name_of(initializer)}, {name_of(activation)}")
    axes.set_xticks(range(len(depths)), [str(depth) for depth in depths])
    axes.set_xlim(-0.5, len(depths) - 0.5)
    for row in part.to_dict("records"):
        protocol = (row["augment"], row["fan"])
        place = (list(colors).index(protocol) + 0.5) / len(colors) - 0.5
        at, color = depths.index(row["depth"]) + 0.8 * place, colors[protocol]
        axes.vlines(at, row["low"], row["high"], color=color, linewidth=2, alpha=0.6)
        seeds = evidence.values("accuracy", _cells(row))
        axes.plot([at] * len(seeds), seeds, "o", color=color, markersize=2.5)
    for depth, rows in part.groupby("depth"):
        spot = depths.index(cast("int", depth))
        printed = rows["printed"].iloc[0]
        axes.hlines(printed, spot - 0.45, spot + 0.45, color="black", linewidth=0.6)
        axes.plot(spot, printed, "*", color="black", markersize=9, zorder=3)


def _cells(row: Row) -> Cells:
    changes = CANDIDATES[str(row["augment"]), str(row["fan"])]
    named = (str(row["initializer"]), str(row["activation"]), int(row["depth"]))
    return Cells(*named, tuple(sorted(changes.items())))


def caption(records: Published) -> str:
    """Of ``agreement_figure``."""
    table = protocol_cells(Evidence(records.study))
    counts = table.groupby(["augment", "fan"], sort=False)["within"].agg(["sum", "count"])
    inside = [(name(cast("Protocol", row[0])), *row[1:]) for row in counts.itertuples()]
    return sentence("caption", inside=inside)
