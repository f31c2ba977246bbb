"""The frontier: accuracy over σ_w² and depth, and theory's depth scale over it.

Schoenholz et al. (2017), Fig. 5, rebuilt, and the same of residual and recurrent networks.  Columns and
rows are those of the map, evenly spaced; the lines 6ξ are computed between them too, and placed by the
logarithms of σ_w² and depth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from empirical.frontier.prediction import SCALES, ends
from empirical.frontier.spec import FrontierSpec
from empirical.frontier.table import TRAINED
from empirical.judgment.statistics import LEVEL
from figures import style
from figures.prose import name_of, said
from figures.tables import Column, Row, Sheet, words
from theory.activations import Activation

SHADES = "cividis"
SCALE = Normalize(10.0, 100.0)  # from guessing one of ten
BETWEEN = 8  # points of a line from column to column
LINES = ("-", ":")  # where theory says that training ends, and where the gradient alone would


def frontier_figure(table: pd.DataFrame, spec: FrontierSpec) -> Figure:
    """A panel per activation: mean accuracy over seeds, 6ξ, and initializers above their columns.

    ``table`` may hold other maps than that of ``spec``.
    """
    table = map_of(table, spec)
    with style.canvas(0.9 + 2.4 * len(spec.parsed)) as figure:
        panels = figure.subplots(len(spec.parsed), 1, squeeze=False)[:, 0]
        differ = False
        for axes, phi in zip(panels, spec.parsed, strict=True):
            _map(axes, table[table["activation"] == phi.name])
            differ |= _lines(axes, phi, spec)
            for name, variance in spec.marks(phi).items():
                at = (spec.columns(phi).index(variance) + 0.5, 1.02)
                where = axes.get_xaxis_transform()
                axes.text(*at, name_of(name), transform=where, ha="center", fontsize=7)
            axes.set_title(f"{name_of(phi.name)}, $\\sigma_b^2$ = {spec.bias_of(phi):g}", pad=16)
            axes.set(xlabel="", ylabel="steps" if spec.network == "rnn" else "layers")
        of = ", of the recurrent weight" * (spec.network == "rnn")
        panels[-1].set_xlabel("$\\sigma_w^2 = $ fan_in · Var$[w]$" + of)
        shades, label = ScalarMappable(SCALE, SHADES), "test accuracy (percent)"
        bar = figure.colorbar(shades, ax=list(panels), aspect=50, label=label, extend="min")
        bar.ax.axhline(TRAINED, color="white")
        reach = f"a change by $e^{SCALES}$" if spec.network == "residual" else f"{SCALES}ξ"
        names = [f"theory: networks up to {reach} train"]
        names += ["by the gradient alone, where it differs"] * differ
        keys = [style.legend_key(one, **_drawn(dash)) for one, dash in zip(names, LINES, strict=False)]
        style.legend_below(figure, keys)
    return figure


def _map(axes: Axes, part: pd.DataFrame) -> None:
    """Rows are depths, deep above; numbers are percent, bold where the network counts as trained."""
    accuracy = part.groupby(["depth", "weight_variance"])["accuracy"].mean().unstack()
    names = [f"{variance:.3g}" for variance in accuracy.columns]
    seaborn.heatmap(
        accuracy, cmap=SHADES, norm=SCALE, ax=axes, cbar=False, annot=True, fmt=".0f",
        annot_kws={"fontsize": 6}, xticklabels=names,
    )  # fmt: skip
    for text, value in zip(axes.texts, accuracy.to_numpy().ravel(), strict=True):
        text.set_fontweight("bold" if value > TRAINED else "normal")
        text.set_path_effects([withStroke(linewidth=1, foreground=colormaps[SHADES](SCALE(value)))])
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.tick_params(length=0, labelsize=7, labelrotation=0)


def _lines(axes: Axes, phi: Activation, spec: FrontierSpec) -> bool:
    """Theory's two lines; whether they can be told apart in the panel."""
    columns, depths = np.log(spec.columns(phi)), np.log(np.sort(spec.depths))
    at = np.linspace(0, len(columns) - 1, BETWEEN * (len(columns) - 1) + 1)
    variances = np.exp(np.interp(at, np.arange(len(columns)), columns))
    found = np.array([ends(spec, phi, float(variance)) for variance in variances])
    rows = np.arange(len(depths)) + 0.5
    out = {"left": -1.0, "right": len(rows) + 1.0}  # of the panel
    heights = [np.interp(np.log(found[:, column]), depths, rows, **out) for column in (1, 0)]
    for line, dash in zip(heights, LINES, strict=True):
        axes.plot(at + 0.5, line, **_drawn(dash), zorder=2 if dash == "-" else 1.5)
    return not np.allclose(*heights)


def _drawn(dash: str) -> dict[str, Any]:
    halo = [withStroke(linewidth=3, foreground="white")]
    return {"color": style.VERMILION, "linewidth": 1.4, "linestyle": dash, "path_effects": halo}


def frontier_caption(agreement: pd.DataFrame, spec: FrontierSpec) -> str:
    """How to read the map, and by how much the found frontier and the predicted one agree."""
    rows = map_of(agreement, spec).to_dict("records")
    return said("captions", "frontier", spec=spec, rows=rows, trained=TRAINED, scales=SCALES)


def frontier_table(agreement: pd.DataFrame, captions: Sequence[str] = ()) -> Sheet:
    """How the frontiers agree, map by map; ``captions`` of the figures are notes."""
    return Sheet(
        name="frontier",
        title=f"Which networks train: found, and predicted by {SCALES}ξ",
        data=agreement,
        section=kind_of if agreement["network"].nunique() > 1 else None,
        columns=(
            words("activation", lambda row: name_of(row["activation"]), folds=False),
            Column("networks", "networks"),
            Column("trained", "trained", _percent),
            Column("predicted", "predicted", _percent),
            Column("as predicted", _agree),
            Column(r"by $\xi_\nabla$", "agree_gradient", _percent),
            Column("same of all", "best_constant", _percent),
            Column(r"ends at, over $6\xi$", _ratio),
        ),
        notes=(*captions, said("captions", "frontier_table", level=LEVEL)),
        spare=("networks", "same of all", "predicted"),
    )


def map_of(table: pd.DataFrame, spec: FrontierSpec) -> pd.DataFrame:
    """The rows that belong to the map of ``spec``."""
    return table[(table["network"] == spec.network) & (table["branch_scale"] == spec.branch_scale)]


def kind_of(row: Row | pd.Series) -> str:
    scaled = ", branches scaled with the depth" if row["branch_scale"] == "depth" else ""
    return {"plain": "Plain", "residual": "Residual", "rnn": "Recurrent"}[row["network"]] + scaled


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _agree(row: Row) -> str:
    return _percent(row["agree"]) + _range(row["agree_low"], row["agree_high"], 100, ".0f")


def _ratio(row: Row) -> str:
    if math.isnan(row["depth_ratio"]):
        return "–"
    return f"{row['depth_ratio']:.2f}" + _range(row["ratio_low"], row["ratio_high"], 1, ".2f")


def _range(low: float, high: float, times: float, form: str) -> str:
    return "" if math.isnan(low) else f" ({times * low:{form}}–{times * high:{form}})"
