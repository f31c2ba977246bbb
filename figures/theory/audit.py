"""An audit as people read it: the layers, the findings, and the picture of signal and gradient.

The picture has a panel for each way.  A filled marker is a layer on the main path, an open one a layer
inside a residual branch, a cross what of it tells inputs apart, and the thick line the residual stream
between them: branches hang under or above their stream, and do not tear its curve.  Short bars are
predictions, the band where 95 % of single networks lie.  Layers with a warning or an error stand on a
colored ground.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.text import Text

from figures import style
from figures.prose import note
from figures.tables import Column, Row, Sheet, scientific, words

if TYPE_CHECKING:
    from theory.audit.examination import Audit
    from theory.audit.initialization import Initialized

SHOWN = 40  # layers in a terminal; the CSV has all
STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan", "ok": "green"}
VERDICTS = {
    "healthy": "healthy: nothing here keeps it from training",
    "check": "check: something costs",
    "broken": "broken: like this it will not train",
}
GROUNDS = {"error": style.VERMILION, "warning": style.ORANGE}


def layers_table(result: Audit) -> Sheet:
    """A row for each weight layer."""
    table = result.layers
    rows = table.to_dict("records")
    if len(rows) > SHOWN:
        kept = {number - 1 for number in style.thin(len(rows), SHOWN // 2)}
        grave = [i for i, row in enumerate(rows) if row["verdict"] in GROUNDS][: SHOWN // 2]
        rows = [rows[index] for index in sorted(kept | set(grave))]
    return Sheet(
        name="audit-layers",
        title=f"{len(table)} weight layers",
        data=table.drop(columns="findings").assign(findings=table["findings"].map(" ".join)),
        rows=rows,
        columns=(
            words("layer", _name, room=16),
            words("kind", "kind", room=8),
            words("law", "law", room=12),
            Column("fan in", "fan_in", "{:.0f}".format),
            Column("predicted", "forward_predicted", _power),
            Column("measured", "forward_measured", _power),
            Column("gradient", "backward_measured", _power),
            words("verdict", _judged, room=12),
        ),
        notes=(note("audit", hidden=len(table) - len(rows)),),
        spare=("gradient", "fan in", "kind"),
    )


def _name(row: Row) -> str:
    module, _, leaf = str(row["parameter"]).rpartition(".")
    name = module if leaf == "weight" and module else str(row["parameter"])
    return name + (f" (call {row['call']})" if row["call"] else "")


def _power(value: float) -> str:
    return "–" if math.isnan(value) else scientific(math.log10(value) if value > 0 else -math.inf)


def _judged(row: Row) -> Text:
    said = " ".join(code for code in row["findings"] if code != "not-predicted")
    return Text(said or "ok", style=STYLES[row["verdict"] if said else "ok"])


def findings_table(result: Audit) -> Sheet:
    """A row for each finding, errors first, and the verdict."""
    columns = ["severity", "code", "modules", "message", "evidence", "fix"]
    found = [finding.as_dict() for finding in result.findings]
    data = pd.DataFrame(found, columns=columns, dtype=object)  # of which None stays None
    data["modules"] = data["modules"].map(" ".join)
    nothing: dict[Hashable, Any] = dict(
        zip(columns, ("ok", "none", "", "No rule found anything.", {}, None), strict=True)
    )
    lines = _fixes(result)
    return Sheet(
        name="audit-findings",
        title=f"Verdict: {VERDICTS[result.verdict]}",
        data=data,
        rows=data.to_dict("records") or [nothing],
        columns=(
            words("", lambda row: Text(row["severity"], STYLES[row["severity"]]), folds=False),
            words("finding", "code", folds=False),
            words("what", "message", room=30),
            Column("fix", lambda row: lines.index(row["fix"]) + 1 if row["fix"] else "–"),
        ),
        notes=() if result.loss is None else (note("audit_loss", loss=result.loss),),
        spaced=True,
    )


def fixes_text(result: Audit) -> Text | None:
    """The lines that mend the findings, by their numbers in the table, whole, to be copied; or None."""
    lines = _fixes(result)
    head = "To mend it (after import re, torch; from torch import nn), with your model as model:"
    numbered = (f"{number}  {line}" for number, line in enumerate(lines, 1))
    return Text("\n".join([head, *numbered]), no_wrap=True, overflow="ignore") if lines else None


def _fixes(result: Audit) -> list[str]:
    """Each line once."""
    return list(dict.fromkeys(finding.fix for finding in result.findings if finding.fix))


def initialized_table(done: Initialized) -> Sheet:
    """What was drawn by which law and why; what was left alone in a note."""
    drawn = done.table[done.table["std"].notna()]
    return Sheet(
        name="init",
        title=f"{len(drawn)} parameters drawn",
        data=done.table,
        rows=drawn[drawn["std"] > 0].to_dict("records"),
        columns=(
            words("parameter", "parameter", room=16),
            words("law", "law", folds=False),
            Column("std before", "std_before", _power),
            Column("std", "std", _power),
            words("why", "why", room=16),
        ),
        notes=(note("init", left=done.untouched),),
    )


# -------------------------------------------------------------------------------- the picture


def audit_figure(result: Audit) -> Figure:
    """Signal and gradient through the network."""
    table = result.layers
    width = min(max(style.PAGE_WIDTH, 0.09 * len(table) + 3), 2 * style.PAGE_WIDTH)
    with style.canvas(6.2, width) as figure:
        above, below = figure.subplots(2, 1, sharex=True)
        for axes, way in ((above, "forward"), (below, "backward")):
            _ground(axes, table)
            _panel(axes, table, result.stream, way)
        above.set_ylabel("signal: second moment\nof the outputs")
        below.set_ylabel("gradient: second moment\nof $\\partial E/\\partial$ output")
        below.set_xlabel("weight layers in running order")
        _codes(above, table)
        style.legend_below(figure, _legend(result))
    return figure


def _panel(axes: Axes, table: pd.DataFrame, stream: pd.DataFrame, way: str) -> None:
    color = style.BLUE if way == "forward" else style.GREEN
    place = np.arange(1, len(table) + 1)
    measured, predicted = (style.log10(table[f"{way}_{what}"]) for what in ("measured", "predicted"))
    branch = table["branch"].to_numpy(bool)
    if way == "forward" and table["forward_band_low"].notna().any():
        low, high = (style.log10(table[f"forward_band_{end}"]) for end in ("low", "high"))
        axes.vlines(place, low, high, color=color, alpha=0.25, linewidth=5)
    for _, part in stream.groupby("stack"):
        logs = style.log10(part[f"{way}_measured"])
        axes.plot(part["position"] + 0.5, logs, color=color, alpha=0.5, linewidth=3)
    axes.hlines(predicted, place - 0.45, place + 0.45, color="black", linewidth=1.2)
    if way == "forward":
        axes.plot(place, style.log10(table["spread"]), "x", color=style.SKY, markersize=4)
    for chosen, face in ((~branch, color), (branch, "white")):
        axes.plot(place[chosen], measured[chosen], "o", color=color, mfc=face, markersize=4)
    style.widened(axes, 1.0)
    style.power_of_ten_axis(axes)


def _ground(axes: Axes, table: pd.DataFrame) -> None:
    for place, verdict in enumerate(table["verdict"], 1):
        if verdict in GROUNDS:
            axes.axvspan(place - 0.5, place + 0.5, color=GROUNDS[verdict], alpha=0.15, linewidth=0)


def _codes(axes: Axes, table: pd.DataFrame) -> None:
    """The codes of what is drawn on colored ground, as a title."""
    grave = table[table["verdict"].isin(list(GROUNDS))]
    codes = dict.fromkeys(code for codes in grave["findings"] for code in codes)
    said = ", ".join(code for code in codes if code != "not-predicted")
    axes.set_title(said, loc="left", color=style.VERMILION)


def _legend(result: Audit) -> list[Artist]:
    grey = {"color": "#555555", "linestyle": "none", "marker": "o"}
    entries: list[Artist] = [
        style.legend_key("measured, main path", **grey),
        style.legend_key("predicted", color="black"),
        style.legend_key("what tells inputs apart", color=style.SKY, linestyle="none", marker="x"),
    ]
    if result.layers["branch"].any():
        entries.append(style.legend_key("measured, in a branch", markerfacecolor="white", **grey))
        entries.append(style.legend_key("residual stream", color="#999999", linewidth=3))
    if result.layers["forward_band_low"].notna().any():
        entries.append(style.band_key("95 % of single networks"))
    for severity in dict.fromkeys(result.layers["verdict"]):
        if severity in GROUNDS:
            entries.append(style.band_key(severity, color=GROUNDS[severity]))
    return entries
