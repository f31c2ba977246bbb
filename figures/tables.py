"""Tidy tables as rich tables for the terminal.

Numbers that may lie outside float64 come as log10 and are written out from there.  Layers are
thinned so that a deep stack still fits a screen; the CSV beside the picture always has all of them.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd
from rich.console import Group
from rich.table import Table
from rich.text import Text

from empirical.protocol import COURSE_REPORT, Protocol
from figures.fitting import FittingTable
from figures.style import thin
from theory.specs import VarianceSpec

VERDICT_STYLES = {"stable": "green", "vanishing": "yellow", "exploding": "red"}
LAYERS_SHOWN = 7

TYPICAL_NETWORK_NOTE = (
    "The mean is carried by a few large networks, so the typical (median) network lies below it, and "
    "the more so the deeper and narrower the stack."
)


def scientific(log10: float, digits: int = 3) -> str:
    """10**log10 with ``digits`` significant digits, at any range.

    >>> scientific(0.30103), scientific(-8.7299), scientific(2408.24), scientific(float("-inf"))
    ('2.00', '1.86e-09', '1.74e+2408', '0')
    """
    if math.isnan(log10):
        return "–"
    if log10 == -math.inf:
        return "0"
    exponent = math.floor(log10)
    mantissa = f"{10 ** (log10 - exponent):.{digits - 1}f}"
    if mantissa.startswith("10"):
        exponent, mantissa = exponent + 1, f"{1:.{digits - 1}f}"
    if -2 <= exponent < digits:
        return f"{float(mantissa) * 10.0**exponent:.{max(digits - 1 - exponent, 0)}f}"
    return f"{mantissa}e{exponent:+03d}"


def new_table(
    title: str, *, caption: str | None = None, spare: tuple[str, ...] = (), name_room: int = 10
) -> FittingTable:
    """An empty rich table in the project's look, which fits itself into the terminal.

    ``spare`` names the columns that a narrow terminal does without, the least important first;
    ``name_room`` is how far the first column may be folded before one of them goes.
    """
    return FittingTable(title, caption=caption, spare=spare, name_room=name_room)


def variance_table(
    table: pd.DataFrame, *, width: int | None = None, all_layers: bool = False
) -> FittingTable:
    """Theory, measurement and band per layer, a section per curve of ``theory.simulate.variance``.

    Rows of one direction.  ``width`` limits the table beside the terminal's own.
    mean is the exact expectation, measured the mean over draws; median and band are of one network.
    """
    with_band = bool(table["log10_band_low"].notna().any())
    back = (table["direction"] == "backward").all()
    quantity = "gradients ∂/∂y of a random cotangent" if back else "pre-activations y"
    result = new_table(
        f"Second moment of the {quantity}", spare=("95 % of nets", "median"), name_room=13
    )
    result.limit = width
    result.add_column("curve, layer", max_width=16)
    columns = {"mean": "log10_theory", "median": "log10_median_theory", "measured": "log10_measured"}
    if table["log10_median_theory"].isna().all():
        del columns["median"]
    for name in (*columns, *(["95 % of nets"] if with_band else []), "z"):
        result.add_column(name, justify="right", no_wrap=True)
    layers = int(table["layer"].max())
    shown = set(range(1, layers + 1) if all_layers else thin(layers, LAYERS_SHOWN))
    for (initializer, activation), curve in table.groupby(["initializer", "activation"], sort=False):
        result.add_row(Text(f"{initializer} · {activation}", style="bold"))
        for row in curve[curve["layer"].isin(shown)].to_dict("records"):
            cells = [f"{row['layer']:>8}"]
            cells += [scientific(row[column]) for column in columns.values()]
            if with_band:
                low, high = row["log10_band_low"], row["log10_band_high"]
                cells.append(
                    "–" if math.isnan(low) else f"{scientific(low, 2)} to {scientific(high, 2)}"
                )
            result.add_row(*cells, _z(row["z"]))
        result.add_section()
    return result


def curve_name(row: Mapping[Hashable, Any]) -> str:
    """A curve in words: initializer, activation, and the direction if it is backward.

    >>> curve_name({"initializer": "he", "activation": "relu", "direction": "backward"})
    'he · relu · backward'
    """
    back = " · backward" if row["direction"] == "backward" else ""
    return f"{row['initializer']} · {row['activation']}{back}"


def growth_table(table: pd.DataFrame, *, note: str = "") -> Table:
    """One line per curve of ``theory.simulate.growth``: factor per layer, agreement, verdict.

    ``note`` is said under the table before the line on the typical network.
    """
    caption = f"{note} {TYPICAL_NETWORK_NOTE}".strip()
    result = new_table(
        "Growth per layer, in the direction in which the signal runs",
        caption=caption,
        spare=("max |z|", "measured"),
    )
    result.add_column("curve")
    for name in ("theory", "measured", "max |z|", "agrees"):
        result.add_column(name, justify="right", no_wrap=True)
    result.add_column("verdict", no_wrap=True)
    for row in table.to_dict("records"):
        largest = row["largest_z"]
        result.add_row(
            curve_name(row),
            f"×{scientific(row['theory'], 4)}",
            f"×{scientific(row['measured'], 4)}",
            "–" if math.isnan(largest) else f"{largest:.1f}",
            Text(row["agreement"], style="red" if row["agreement"] == "no" else ""),
            Text(row["verdict"], style=VERDICT_STYLES[row["verdict"]]),
        )
    return result


def drift_note(spec: VarianceSpec) -> str:
    """What unequal widths must do to one direction under He's two fan modes; empty for equal ones.

    He et al. 2015, after Eq. 14: fan_out scaling multiplies the signal by n_1/n_L (c_2/d_L there), and
    fan_in scaling the gradient by n_L/n_1.
    """
    first, last = spec.widths[1], spec.widths[-1]
    if first == last or not any(law.law.gain == "he" and law.fan for law, _ in spec.curves):
        return ""
    return (
        f"Under he, fan_in keeps the signal and changes the gradient by n_L/n_1 = {last / first:.4g} "
        f"from top to bottom; fan_out keeps the gradient and changes the signal by n_1/n_L = "
        f"{first / last:.4g}."
    )


def _z(value: float) -> Text:
    if math.isnan(value):
        return Text("–")
    return Text(f"{value:+.1f}", style="red" if abs(value) > 4 else "")


def accuracy_table(comparison: pd.DataFrame, protocol: Protocol = COURSE_REPORT) -> Group:
    """Final accuracies of ``empirical.study.compare_with_report``, a row per init and activation.

    Each cell: our percentage (of several seeds, the mean of those that did not diverge, and how many
    they are), and under it the course report's with the difference in points.  Every way in which
    ``protocol``, that of the study, is not the report's is said under the table.
    """
    table = new_table("")
    table.title = None
    table.add_column("init · activation", no_wrap=True)
    depths = sorted({int(depth) for depth in comparison["depth"]})
    for depth in depths:
        table.add_column(f"{depth} layers", justify="right")
    several = comparison["variant"].nunique() > 1
    arms = ["initializer", "activation", "variant"]
    for (initializer, activation, variant), row in comparison.groupby(arms, sort=False):
        cells = {int(cell["depth"]): _accuracy(cell) for cell in row.to_dict("records")}
        label = f"{initializer} · {activation}"
        if several:
            label += f"\n  {variant or 'as printed'}"
        table.add_row(label, *(cells.get(depth, Text("")) for depth in depths))
    notes = [
        "Below each percentage the course report's (difference), – where it has no such cell. The "
        "report ran each cell once with an unstated seed."
    ]
    if differs := _protocol_differences(protocol):
        notes.append(f"The report's protocol differs: {', '.join(differs)}.")
    if (protocol.limit_train, protocol.limit_test) != (None, None):
        notes.append("On part of the images the difference says little.")
    # Outside the table: rich would wrap a title and a caption to the width of a table of one depth.
    return Group(
        Text("Final test accuracy in percent", style="bold"),
        table,
        *(Text(note, style="dim") for note in notes),
    )


def _protocol_differences(protocol: Protocol) -> list[str]:
    """Each field in which ``protocol`` is not the report's: its value, and the one here.

    >>> _protocol_differences(Protocol(filters=8, limit_train=500))
    ['filters 32 (here 8)', 'training images all (here 500)']
    """
    words = {
        "gain_slope": "slope in He's gain",
        "limit_train": "training images",
        "limit_test": "test images",
    }
    report, ours = COURSE_REPORT.shared(), protocol.shared()
    del ours["engine"]  # it says how a step is run, not what it computes
    return [
        f"{words.get(name, name.replace('_', ' '))} {_setting(report[name])} (here {_setting(value)})"
        for name, value in ours.items()
        if value != report[name]
    ]


def _setting(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "all" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _accuracy(cell: dict[Hashable, Any]) -> Text:
    seeds, diverged = int(cell["seeds"]), int(cell["diverged"])
    if diverged == seeds:
        return Text("diverged" if seeds == 1 else f"all {seeds} diverged", style="red")
    text = Text(f"{cell['test_accuracy']:.2f}")
    if diverged:
        text.append(f"\n({diverged} of {seeds} diverged)", style="red")
    elif seeds > 1:
        text.append(f"\n(mean of {seeds})")
    if pd.isna(cell["published"]):
        return text.append("\n–")
    return text.append(f"\n{cell['published']:.2f} ({cell['difference']:+.2f})")


def plan_table(plan: pd.DataFrame) -> Table:
    """The cells of ``empirical.study.plan`` and what is left to do for each."""
    left = plan["seconds"].sum()
    result = new_table(
        "Plan",
        caption=f"{len(plan)} cells, about {duration(left)} of training left on this machine, "
        f"{plan['megabytes'].max():.1f} MB of checkpoint at a time",
    )
    result.add_column("cell", no_wrap=True)
    result.add_column("status", no_wrap=True)
    for name in ("epochs", "parameters", "time left"):
        result.add_column(name, justify="right", no_wrap=True)
    for row in plan.to_dict("records"):
        result.add_row(
            str(row["cell"]),
            str(row["status"]),
            f"{row['epochs_done']}/{row['epochs']}",
            f"{row['parameters']:,}",
            duration(row["seconds"]),
        )
    return result


def duration(seconds: float) -> str:
    """Seconds in words for people.

    >>> duration(42), duration(200), duration(8000)
    ('42 s', '3 min 20 s', '2 h 13 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
