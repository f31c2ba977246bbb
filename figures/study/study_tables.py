"""What a study is to do and what it found, as tables: presets, plan, accuracies beside the report's."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pandas as pd
from rich.text import Text

from empirical.arm import Arm, shared_changes
from empirical.protocol import COURSE_REPORT, Protocol
from figures.prose import note, notes
from figures.tables import Column, Row, Sheet, curve_label, duration, words


def accuracy_table(comparison: pd.DataFrame, protocol: Protocol = COURSE_REPORT) -> Sheet:
    """Final accuracies of ``empirical.study.grid.compare_with_report``, a row per init and activation.

    Each cell: our percentage (of several seeds, the mean of those that did not diverge, and how many
    they are), and under it the course report's with the difference in points.  Every way in which
    ``protocol``, that of the study, is not the report's is said under the table; where the report has
    no such cell at all, what the cells share.
    """
    printed, arms = bool(comparison["published"].notna().any()), list(comparison["arm"])
    shared = shared_changes(arms)
    in_all = Arm("", tuple(change for change in arms[0].changes if change in shared))
    several = comparison["variant"].nunique() > 1
    rows: dict[str, dict[int, Row]] = {}
    for cell in comparison.to_dict("records"):
        own = cell["arm"].without(shared).variant or "as printed" * (not cell["arm"].changes)
        curve = curve_label(cell) + f"\n  {own}" * bool(several and own)
        rows.setdefault(curve, {})[int(cell["depth"])] = cell

    def column(depth: int) -> Column:
        shown = partial(_accuracy, beside=printed)
        return Column(f"{depth} layers", lambda row: row["depths"].get(depth), shown, folds=True)

    return Sheet(
        name="accuracy",
        title=f"Final test {protocol.data.score} in percent",
        data=comparison.drop(columns="arm"),
        rows=[{"curve": name, "depths": depths} for name, depths in rows.items()],
        columns=(
            words("init · activation", "curve"),
            *map(column, sorted({int(depth) for depth in comparison["depth"]})),
        ),
        notes=notes(
            "accuracy",
            printed=printed,
            differs=_protocol_differences(protocol),
            of=protocol,
            shared=in_all.words,
        ),
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


def _accuracy(cell: Row | None, *, beside: bool) -> Text:
    """The accuracy of a cell, and ``beside`` it the report's."""
    if cell is None:
        return Text("")
    seeds, diverged = int(cell["seeds"]), int(cell["diverged"])
    if diverged == seeds:
        return Text("diverged" if seeds == 1 else f"all {seeds} diverged", style="red")
    text = Text(f"{cell['test_accuracy']:.2f}")
    if diverged:
        text.append(f"\n({diverged} of {seeds} diverged)", style="red")
    elif seeds > 1:
        text.append(f"\n(mean of {seeds})")
    published = cell["published"]
    if not beside:
        return text
    if published is None or math.isnan(published):
        return text.append("\n–")
    return text.append(f"\n{published:.2f} ({cell['difference']:+.2f})")


def plan_table(plan: pd.DataFrame) -> Sheet:
    """The cells of ``empirical.study.grid.plan`` and what is left to do for each."""
    left, megabytes = duration(plan["seconds"].sum()), max(plan["megabytes"], default=0.0)
    return Sheet(
        name="plan",
        title="Plan",
        data=plan,
        columns=(
            words("cell", "cell", room=24),
            words("status", "status", folds=False),
            Column("epochs", lambda row: f"{row['epochs_done']}/{row['epochs']}"),
            Column("parameters", "parameters", "{:,}".format),
            Column("time left", "seconds", duration),
        ),
        notes=(note("plan", cells=len(plan), left=left, megabytes=megabytes),),
        spare=("parameters", "epochs"),
    )


def presets_table(presets: list[dict[str, Any]], command: str = "cifar") -> Sheet:
    """One row per preset of ``command``: ``preset`` its name, ``cells`` how many, its ``question``."""
    return Sheet(
        name="presets",
        title="Presets",
        data=pd.DataFrame(presets),
        columns=(
            words("preset", "preset", form=lambda name: Text(name, style="bold"), folds=False),
            Column("cells", "cells"),
            words("question", "question"),
        ),
        notes=(f"Run one with {command} --preset NAME; other options change it.",),
    )
