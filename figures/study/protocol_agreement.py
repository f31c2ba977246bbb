"""What most likely made the printed accuracies: the table, the sentence and the figure.

From the tables of ``empirical.judgment.protocol_agreement``.
"""

from __future__ import annotations

import math
from typing import cast

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

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
from figures.study.report_figures import name_of
from figures.tables import Column, Row, Sheet, words

Protocol = tuple[str, str]
INTERVAL = f"{100 * LEVEL:g} % predictive interval"
HOW = (
    "A printed accuracy is taken for one more seed of its cell: Student's t about our mean, with the "
    f"cell's own spread from {OWN_SPREAD} seeds on, below that the pooled one of its depth."
)


def name(protocol: Protocol) -> str:
    """A candidate in words.

    >>> name(("flip", "fan_in"))
    'flips alone, fan_in'
    """
    augment, fan = protocol
    return f"{AUGMENTED[augment]}, {fan}"


def agreement_table(table: pd.DataFrame, pairs: pd.DataFrame, alone: bool = True) -> Sheet:
    """A row per candidate, the most likely first within an augmentation's section.

    ``alone``: no text beside it says ``most_likely``, so that it does.
    """
    notes = [
        f"{HOW} In: printed accuracies in the {INTERVAL}. Shift: printed minus ours, points; beside it "
        "what is left (standard deviation over cells) and what seeds alone would leave. Log L and "
        "share: on the cells that every recorded protocol has, equal priors.",
        *([most_likely(table, pairs)] if alone else []),
    ]
    return Sheet(
        name="protocol-agreement",
        title="What made the printed accuracies?",
        data=table,
        columns=(
            words("layers", "fan", folds=False),
            Column("cells", lambda row: f"{row['cells']} of {row['of']}"),
            Column("in", lambda row: f"{row['within']}" if row["cells"] else "–"),
            Column("shift", lambda row: _number(row["mean_difference"], "+.1f")),
            Column("left", _left),
            Column("seeds", "seeds"),
            Column("shared", lambda row: f"{row['shared']}" if row["cells"] else "–"),
            Column("log L", lambda row: _number(row["shared_log_likelihood"], ".1f")),
            Column("share", lambda row: _number(row["share"], ".3f")),
        ),
        section=lambda row: AUGMENTED[str(row["augment"])],
        notes=tuple(notes),
        spare=("seeds", "left", "shared"),
    )


def _number(value: float, form: str) -> str:
    return "–" if math.isnan(value) else f"{value:{form}}"


def _left(row: Row) -> str:
    if math.isnan(row["rest"]):
        return "–"
    return f"{row['rest']:.1f} ({row['expected']:.1f})"


# ---------------------------------------------------------------------------------- in words


LEAST_SHARED = 4  # printed accuracies below which no protocol is called the most likely


def most_likely(table: pd.DataFrame, pairs: pd.DataFrame) -> str:
    """Which protocol is most likely behind the print, by how much, and what is not recorded yet."""
    recorded = table[table["cells"] > 0]
    gaps = [name(key) for key in _keys(table[table["cells"] == 0])]
    missing = f" Not recorded yet: {'; '.join(gaps)}." if gaps else ""
    if len(recorded) < 2 or not recorded["shared"].iloc[0]:
        return f"Open: no two protocols are recorded on the same cells.{missing}"
    order = recorded.sort_values("share", ascending=False, kind="stable")
    best = order.iloc[0]
    if best["shared"] < LEAST_SHARED:
        return (
            f"Open: the {len(recorded)} protocols recorded share {best['shared']} of the printed "
            f"cells, and fewer than {LEAST_SHARED} decide nothing."
            f"{_two_by_two(recorded, pairs)}{missing}"
        )
    ahead = float(best["shared_log_likelihood"] - order["shared_log_likelihood"].iloc[1])
    keys = _keys(order)
    cells = f"{best['shared']} cell{'' if best['shared'] == 1 else 's'}"
    text = (
        f"Of the {len(recorded)} protocols recorded, {name(keys[0])} is the most likely one on the "
        f"{cells} that all of them have: posterior share {best['share']:.3f} under equal priors, log "
        f"likelihood {ahead:.1f} above "
        f"the next ({name(keys[1])}). Over its own cells, {best['within']} of {best['cells']} printed "
        f"accuracies lie in the {INTERVAL}{_shift(best)}."
    )
    if AS_PRINTED in keys[1:]:
        ratio, count = _ratio(pairs, keys[0], AS_PRINTED)
        printed = order.iloc[keys.index(AS_PRINTED)]
        text += (
            f" Against the protocol as printed ({name(AS_PRINTED)}) its log likelihood is {ratio:+.1f} "
            f"over the {count} cell{'' if count == 1 else 's'} that both have; of that one's "
            f"{printed['cells']} printed "
            f"accuracies {printed['within']} lie in the interval{_shift(printed)}."
        )
    return f"{text} The printed code stays the protocol of record.{missing}"


def _two_by_two(recorded: pd.DataFrame, pairs: pd.DataFrame) -> str:
    """What each protocol gains over the printed one, where the two share enough cells."""
    others = [(key, *_ratio(pairs, key, AS_PRINTED)) for key in _keys(recorded) if key != AS_PRINTED]
    told = [
        f"{name(key)} {ratio:+.1f} over {count} cells"
        for key, ratio, count in sorted(others, key=lambda other: -other[1])
        if count >= LEAST_SHARED
    ]
    if not told:
        return ""
    return f" Log likelihood beside the protocol as printed ({name(AS_PRINTED)}): {'; '.join(told)}."


def _keys(table: pd.DataFrame) -> list[Protocol]:
    return [(str(row["augment"]), str(row["fan"])) for row in table.to_dict("records")]


def _shift(row: pd.Series) -> str:
    """What a protocol leaves unexplained."""
    text = f"; the report's are {row['mean_difference']:+.2f} points from ours in the mean"
    if math.isnan(row["shift_low"]):
        return text
    low, high = row["shift_low"], row["shift_high"]
    return f"{text} ({100 * LEVEL:g} % interval over cells {low:+.2f} to {high:+.2f})"


def _ratio(pairs: pd.DataFrame, first: Protocol, second: Protocol) -> tuple[float, int]:
    """The log likelihood ratio of two candidates, whichever stands first, and over how many cells."""
    for row in pairs.to_dict("records"):
        one, other = (row["augment"], row["fan"]), (row["other_augment"], row["other_fan"])
        if {one, other} == {first, second}:
            return (row["log_ratio"] if one == first else -row["log_ratio"]), row["cells"]
    raise KeyError(f"{first} and {second} are not compared")


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
        for axes in grid[:, 0]:
            axes.set_ylabel("final test accuracy (percent)")
        for axes in grid[-1]:
            axes.set_xlabel("layers")
        keys = [style.legend_key("printed", color="black", marker="*", linestyle="none", markersize=9)]
        keys += [
            Line2D([], [], color=color, marker="o", markersize=4, label=name(one))
            for one, color in colors.items()
        ]
        keys += [
            style.legend_key("a seed", color="#555555", marker="o", linestyle="none", markersize=2.5),
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
    inside = "; ".join(
        f"{name(cast('Protocol', key))} {row['sum']} of {row['count']}"
        for key, row in counts.iterrows()
    )
    return (
        "The course report's accuracies (stars) over ours, by protocol: a dot per seed, a bar for the "
        f"{INTERVAL} of one more seed. {HOW} N(0, 1) has no fan mode, and its cells stand with every "
        f"fan mode of their augmentation. In their intervals lie: {inside}."
    )
