"""The phase diagram: lines of equal χ₁ in the plane (σ_w², σ_b²), initializers as points.

The axis of σ_w² is logarithmic, so that N(0, 1), whose σ_w² is the width, has its place beside He
and Xavier.  Left of the critical line two inputs become alike and gradients vanish; right of it close
inputs part and gradients explode.  Hatched: the second moment of a large signal diverges.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter
from rich.text import Text

from figures import style
from figures.tables import Column, Sheet, words
from theory.activations import parse_activation
from theory.law.phase import divergence_scale

ORDERED, CHAOTIC = "#DCEAF5", "#FBE6D8"
PHASE_STYLES = {"critical": "green", "ordered": "yellow", "vanishing": "yellow"}
LEFT_EDGE = 0.2
LINES: dict[bool, dict[str, Any]] = {  # of equal χ₁; the critical one
    False: {"color": "#555555", "linewidth": 0.8},
    True: {"color": "black", "linewidth": 1.8},
}
HATCHED: dict[str, Any] = {"facecolor": "white", "edgecolor": "#BBBBBB", "hatch": "///"}


def phase_figure(contours: pd.DataFrame, marks: pd.DataFrame) -> Figure:
    """The figure of the two tables of ``theory.law.phase``: a panel per activation."""
    names = list(dict.fromkeys(marks["activation"]))
    looks = style.initializer_looks(marks["initializer"])
    top, right = contours["sigma_b2"].max(), max(2.5 * marks["sigma_w2"].max(), 10.0)
    left = min(LEFT_EDGE, 0.5 * marks["sigma_w2"].min())
    with style.canvas(3.9, style.width_of(len(names), least=5.2)) as figure:
        panels = figure.subplots(1, len(names), sharex=True, sharey=True, squeeze=False)[0]
        for axes, name in zip(panels, names, strict=True):
            axes.set(xscale="log", xlim=(left, right), ylim=(-0.04 * top, top))
            _regions(axes, name, contours[contours["activation"] == name], top)
            _lines(axes, name, contours[contours["activation"] == name])
            for row in marks[marks["activation"] == name].to_dict("records"):
                drawn = looks[row["initializer"]].curve | {"markeredgecolor": "white", "markersize": 8}
                axes.plot(row["sigma_w2"], row["sigma_b2"], **drawn, clip_on=False, zorder=5)
            axes.set_title(name, pad=14)
            axes.set_xlabel("$\\sigma_w^2 = $ fan_in · Var$[w]$")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panels[0].set_ylabel("$\\sigma_b^2 = $ Var$[b]$")
        diverging = any(divergence_scale(parse_activation(name)) < right for name in names)
        style.legend_below(figure, _legend(looks, diverging))
    return figure


def _regions(axes: Axes, name: str, lines: pd.DataFrame, top: float) -> None:
    left, right = axes.get_xlim()
    phi = parse_activation(name)
    border = min(divergence_scale(phi), right)
    critical = lines[lines["chi_1"] == 1.0]
    heights, line = np.array([0.0, top]), np.full(2, border)
    if not phi.is_rectifier and not critical.empty:
        heights = np.concatenate([[0.0], critical["sigma_b2"], [top]])
        line = np.interp(heights, critical["sigma_b2"], critical["sigma_w2"])
    axes.fill_betweenx(heights, left, line, color=ORDERED, linewidth=0)
    axes.fill_betweenx(heights, line, np.maximum(border, line), color=CHAOTIC, linewidth=0)
    if border < right:
        axes.axvspan(border, right, ymin=0.04 / 1.04, linewidth=0, **HATCHED)


def _lines(axes: Axes, name: str, lines: pd.DataFrame) -> None:
    diverges = parse_activation(name).is_rectifier
    for chi, line in lines.groupby("chi_1"):
        critical = chi == 1.0
        if diverges and float(str(chi)) > 1.0:  # no fixed point there, and nothing to draw a line of
            continue
        dash = (0, (4, 2)) if critical and diverges else "-"
        axes.plot(line["sigma_w2"], line["sigma_b2"], **LINES[bool(critical)], linestyle=dash)
        end = line["sigma_w2"].iloc[-1], line["sigma_b2"].iloc[-1]
        if end[0] >= axes.get_xlim()[0]:
            style.beside(axes, f"{chi:g}", end, (0, 1), ha="center", va="bottom", annotation_clip=False)


def _legend(looks: dict[str, style.Look], diverging: bool) -> list[Artist]:
    return [
        *(
            style.legend_key(name, color=look.color, marker=look.marker, linestyle="", markersize=7)
            for name, look in looks.items()
        ),
        style.legend_key("critical, $\\chi_1 = 1$", **LINES[True]),
        style.legend_key("equal $\\chi_1$ (number above)", **LINES[False]),
        Patch(facecolor=ORDERED, label="ordered, $\\chi_1 < 1$"),
        Patch(facecolor=CHAOTIC, label="chaotic, $\\chi_1 > 1$"),
        *([Patch(**HATCHED, label="large $q$ diverges")] if diverging else []),
    ]


def phase_table(marks: pd.DataFrame) -> Sheet:
    """What becomes of each initializer: fixed point, χ₁, depth scale, phase."""
    return Sheet(
        name="phase",
        title="Initializers in the phase diagram",
        data=marks,
        columns=(
            words("activation · init", "{activation} · {initializer}".format_map),
            Column(r"$\sigma_w^2$", "sigma_w2", _value),
            Column("$q^*$", "q", lambda q: "every" if math.isnan(q) else _value(q)),
            Column(r"$\chi_1$", "chi_1", _value),
            Column(r"$\xi$", "depth_scale", _value),
            Column("$c^*$", "correlation", lambda c: "–" if math.isnan(c) else _value(c)),
            words("phase", "phase", form=_phase, folds=False),
        ),
        notes=(
            "q*: where a unit second moment ends.  χ₁: growth of a gradient's second moment per "
            "layer.  ξ = 1/|ln χ₁|: layers over which a perturbation changes by e.  c*: what the "
            "correlation of two inputs tends to.",
        ),
        spare=("$c^*$", r"$\xi$", "$q^*$"),
    )


def _phase(phase: str) -> Text:
    return Text(phase, style=PHASE_STYLES.get(phase.partition(",")[0], "red"))


def _value(value: float) -> str:
    return "∞" if value == math.inf else f"{value:.4g}"


def critical_table(critical: pd.DataFrame) -> Sheet:
    """Points of the critical line."""
    lines = critical.pivot(index="activation", columns="sigma_b2", values="sigma_w2")
    lines = lines.loc[critical["activation"].unique()]
    columns = tuple(
        Column(r"$\sigma_b^2$ =" + f"\n{bias:g}", bias, _on_the_line) for bias in lines.columns
    )
    return Sheet(
        name="critical_line",
        title="Critical line, χ₁ = 1: the σ_w² that goes with a σ_b²",
        data=critical,
        rows=lines.reset_index().to_dict("records"),
        columns=(words("activation", "activation"), *columns),
        spare=tuple(column.name for column in columns[1:-1]),
    )


def _on_the_line(sigma_w2: float) -> str:
    return "none" if math.isnan(sigma_w2) else f"{sigma_w2:.6f}"
