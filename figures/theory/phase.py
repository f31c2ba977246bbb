"""The phase diagram: lines of equal χ₁ in the plane (σ_w², σ_b²), initializers as points.

The axis of σ_w² is logarithmic, so that N(0, 1), whose σ_w² is the width, has its place beside He
and Xavier.  Left of the critical line two inputs become alike and gradients vanish; right of it close
inputs part and gradients explode.  Hatched: the second moment of a large signal diverges.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter
from rich.text import Text

from figures import style
from figures.tables import Column, Row, Sheet, words
from theory.activations import parse_activation
from theory.law.phase import divergence_scale

ORDERED, CHAOTIC = "#DCEAF5", "#FBE6D8"
PHASE_STYLES = {"critical": "green", "ordered": "yellow", "vanishing": "yellow"}
LEFT_EDGE = 0.2


def phase_figure(contours: pd.DataFrame, marks: pd.DataFrame) -> Figure:
    """The figure of the two tables of ``theory.law.phase``: a panel per activation."""
    names = list(dict.fromkeys(marks["activation"]))
    with style.styled():
        width = max(style.PAGE_WIDTH * len(names) / 2, 5.2)
        figure = Figure(figsize=(width, 3.9), layout="constrained")
        panels = figure.subplots(1, len(names), sharex=True, sharey=True, squeeze=False)[0]
        top = contours["sigma_b2"].to_numpy(float).max()
        right = max(2.5 * float(marks["sigma_w2"].max()), 10.0)
        left = min(LEFT_EDGE, 0.5 * float(marks["sigma_w2"].min()))
        for axes, name in zip(panels, names, strict=True):
            axes.set_xscale("log")
            axes.set_xlim(left, right)
            axes.set_ylim(-0.04 * top, top)
            _regions(axes, name, contours[contours["activation"] == name], top)
            _lines(axes, name, contours[contours["activation"] == name])
            _marks(axes, marks[marks["activation"] == name])
            axes.set_title(name, pad=14)
            axes.set_xlabel("$\\sigma_w^2 = $ fan_in · Var$[w]$")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panels[0].set_ylabel("$\\sigma_b^2 = $ Var$[b]$")
        handles = _legend(
            marks, any(divergence_scale(parse_activation(name)) < right for name in names)
        )
        style.legend_below(figure, handles)
    return figure


def _regions(axes: Axes, name: str, lines: pd.DataFrame, top: float) -> None:
    left, right = axes.get_xlim()
    phi = parse_activation(name)
    border = min(divergence_scale(phi), right)
    critical = lines[lines["chi_1"] == 1.0]
    if phi.is_rectifier or critical.empty:
        heights = np.array([0.0, top])
        line = np.full(2, border)
    else:
        heights = np.concatenate([[0.0], critical["sigma_b2"], [top]])
        line = np.interp(heights, critical["sigma_b2"], critical["sigma_w2"])
    axes.fill_betweenx(heights, left, line, color=ORDERED, linewidth=0)
    axes.fill_betweenx(heights, line, np.maximum(border, line), color=CHAOTIC, linewidth=0)
    if border < right:
        axes.axvspan(
            border,
            right,
            ymin=0.04 / 1.04,
            facecolor="white",
            edgecolor="#BBBBBB",
            hatch="///",
            linewidth=0,
        )


def _lines(axes: Axes, name: str, lines: pd.DataFrame) -> None:
    diverges = parse_activation(name).is_rectifier
    for chi in sorted(set(lines["chi_1"])):
        line = lines[lines["chi_1"] == chi]
        critical = chi == 1.0
        if diverges and chi > 1.0:  # no fixed point there, and nothing to draw a line of
            continue
        axes.plot(
            line["sigma_w2"],
            line["sigma_b2"],
            color="black" if critical else "#555555",
            linewidth=1.8 if critical else 0.8,
            linestyle=(0, (4, 2)) if critical and diverges else "-",
        )
        last = line.iloc[-1]
        if last["sigma_w2"] < axes.get_xlim()[0]:
            continue
        axes.annotate(
            f"{chi:g}",
            (last["sigma_w2"], last["sigma_b2"]),
            xytext=(0, 1),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=7,
            annotation_clip=False,
        )


def _marks(axes: Axes, marks: pd.DataFrame) -> None:
    looks = style.initializer_looks(marks["initializer"])
    for row in marks.to_dict("records"):
        look = looks[str(row["initializer"])]
        axes.plot(
            row["sigma_w2"],
            row["sigma_b2"],
            look.marker,
            color=look.color,
            markeredgecolor="white",
            markersize=8,
            clip_on=False,
            zorder=5,
        )


def _legend(marks: pd.DataFrame, diverging: bool) -> list[Line2D | Patch]:
    looks = style.initializer_looks(dict.fromkeys(marks["initializer"]))
    entries: list[Line2D | Patch] = [
        Line2D([], [], color=look.color, marker=look.marker, linestyle="", markersize=7, label=name)
        for name, look in looks.items()
    ]
    entries += [
        Line2D([], [], color="black", linewidth=1.8, label="critical, $\\chi_1 = 1$"),
        Line2D([], [], color="#555555", linewidth=0.8, label="equal $\\chi_1$ (number above)"),
        Patch(facecolor=ORDERED, label="ordered, $\\chi_1 < 1$"),
        Patch(facecolor=CHAOTIC, label="chaotic, $\\chi_1 > 1$"),
    ]
    if diverging:
        hatched = Patch(facecolor="white", edgecolor="#BBBBBB", hatch="///", label="large $q$ diverges")
        entries.append(hatched)
    return entries


def phase_table(marks: pd.DataFrame) -> Sheet:
    """What becomes of each initializer: fixed point, χ₁, depth scale, phase."""
    return Sheet(
        name="phase",
        title="Initializers in the phase diagram",
        data=marks,
        columns=(
            words("activation · init", lambda row: f"{row['activation']} · {row['initializer']}"),
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
    biases = list(dict.fromkeys(critical["sigma_b2"]))
    lines: list[Row] = [
        {"activation": name, "line": dict(zip(part["sigma_b2"], part["sigma_w2"], strict=True))}
        for name, part in critical.groupby("activation", sort=False)
    ]

    def column(bias: float) -> Column:
        return Column(r"$\sigma_b^2$ =" + f"\n{bias:g}", lambda row: row["line"][bias], _on_the_line)

    columns = tuple(map(column, biases))
    return Sheet(
        name="critical_line",
        title="Critical line, χ₁ = 1: the σ_w² that goes with a σ_b²",
        data=critical,
        rows=lines,
        columns=(words("activation", "activation"), *columns),
        spare=tuple(column.name for column in columns[1:-1]),
    )


def _on_the_line(sigma_w2: float) -> str:
    return "none" if math.isnan(sigma_w2) else f"{sigma_w2:.6f}"
