"""Theory's number beside the outcome: a row per arm, on the left how far it is from an even start.

The number is ``judgment.claim_theory.off``, in e-folds, known before the first step: the fewer, the
better an arm should end.  On the right the final score of every seed, and their mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from empirical.arm import Arm, shared_changes
from empirical.judgment.evidence import Cells
from figures import style
from figures.prose import name_of, note


def scores_figure(arms: pd.DataFrame) -> Figure:
    """A pair of panels for each group of ``judgment.beyond.foretold_arms``."""
    groups = {str(name): part for name, part in arms.groupby("group", sort=False)}
    heights = [0.7 + part["cells"].nunique() for part in groups.values()]
    with style.canvas(0.5 + 0.22 * sum(heights) + 0.25 * len(groups)) as figure:
        grid = figure.subplots(len(groups), 2, squeeze=False, height_ratios=heights)
        for (left, right), (name, part) in zip(grid, groups.items(), strict=True):
            found = list(dict.fromkeys(part["cells"]))
            places = part["cells"].map({cells: place for place, cells in enumerate(found)})
            looks = style.initializer_looks(dict.fromkeys(cells.initializer for cells in found))
            colors = [looks[cells.initializer].color for cells in part["cells"]]
            left.barh(places, part["off"], color=colors, height=0.6)
            right.scatter(part["score"], places, c=colors, s=14, alpha=0.7, linewidths=0)
            means = part.groupby("cells", sort=False)["score"].mean()
            right.plot(means.to_numpy(), range(len(found)), "|", color="black", markersize=9)
            for lost in np.flatnonzero(means.isna()):
                at = {"xycoords": ("axes fraction", "data"), "va": "center"}
                style.beside(right, "diverged", (0.02, lost), (0, 0), **at)
            left.set_yticks(range(len(found)), labels(found))
            right.set_yticks([])
            left.set_title(name, loc="left")
            for axes in (left, right):
                axes.set_ylim(len(found) - 0.4, -0.6)
                axes.grid(visible=False, axis="y")
        grid[-1, 0].set_xlabel("theory: e-folds from an even start")
        grid[-1, 1].set_xlabel("practice: final score (points)")
    return figure


def scores_caption(arms: pd.DataFrame) -> str:
    """How to read the figure, and how far theory's order is that of the scores, group by group."""
    ranks = []
    for name, part in arms.groupby("group", sort=False):
        means = part.groupby("cells", sort=False)[["off", "score"]].mean().dropna()
        if len(means) > 2:
            ranks.append((name, float(spearmanr(-means["off"], means["score"]).statistic)))
    return note("scores", ranks=ranks)


def labels(cells: Sequence[Cells]) -> list[str]:
    """Each of ``cells`` by what the others do not share with it.

    >>> labels([Cells("he", "relu", depth, (("norm", "none"),)) for depth in (2, 4)])
    ['He, 2', 'He, 4']
    """
    shared = shared_changes(Arm(one.initializer, one.changes) for one in cells)
    fans = {change for one in cells for change in one.changes if change[0] == "fan"}
    shared |= fans if len(fans) == 1 else set()  # where every law that has a fan has this one
    activations, depths = ({getattr(one, name) for one in cells} for name in ("activation", "depth"))
    found = []
    for one in cells:
        words = [name_of(Arm(one.initializer, one.changes).without(shared))]
        words += [name_of(one.activation)] * (len(activations) > 1)
        words += [str(one.depth)] * (len(depths) > 1)
        found.append(", ".join(words))
    return found
