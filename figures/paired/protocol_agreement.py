"""The printed accuracies over ours, by augmentation and fan mode.

From the tables of ``empirical.judgment.protocol_agreement``.
"""

from __future__ import annotations

from typing import cast

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from empirical.judgment.evidence import Cells, Evidence
from empirical.judgment.protocol_agreement import CANDIDATES, INITIALIZERS, protocol_cells
from empirical.protocol import COURSE_REPORT
from empirical.records.published import Published
from figures import style
from figures.paired.paired import Paired, alone
from figures.prose import name_of
from figures.study.protocol_agreement import INTERVAL, Protocol, name, sentence
from figures.tables import Row


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
    shades = sns.color_palette("tab20b")  # four of a hue: a hue per augmentation, a shade per fan mode
    places = {one: list(CANDIDATES).index(one) for one in protocols}
    colors = {one: shades[4 * (place // 3) + place % 3] for one, place in places.items()}
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


def agreement_caption(records: Published) -> str:
    """Of ``agreement_figure``."""
    table = protocol_cells(Evidence(records.study))
    counts = table.groupby(["augment", "fan"], sort=False)["within"].agg(["sum", "count"])
    inside = [(name(cast("Protocol", row[0])), *row[1:]) for row in counts.itertuples()]
    return sentence("caption", inside=inside)


FIGURES = {
    "protocol-agreement": Paired(
        "The printed accuracies over ours, by augmentation and fan mode: what most likely made them",
        "augmentation",
        alone(agreement_figure),
        alone(agreement_caption),
        chosen=candidate_cells,
        place=90,
    )
}
