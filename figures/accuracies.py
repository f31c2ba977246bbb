"""Every accuracy that is recorded beside the printed ones: the table of README, docs and report."""

from __future__ import annotations

import pandas as pd

from empirical.arm import Arm, Change
from empirical.data.catalog import DATASETS
from empirical.judgment.statistics import cell_statistics
from empirical.protocol import COURSE_REPORT, published_accuracy
from empirical.records.published import Published
from figures.prose import name_of, note
from figures.style import ordered_arms
from figures.tables import Column, Row, Sheet, words

# What is said of the weights and the steps; whatever else an arm changes is the setting it was run in.
OF_THE_ARM = ("fan", "head_fan", "head_initializer", "learning_rate_reference")
Place = tuple[str, int]  # activation and depth: a column


def accuracy_results(published: Published) -> Sheet:
    """Final test accuracy of everything recorded: a row per arm, a column per activation and depth."""
    study = published.study
    arms = [Arm.of(row) for row in study.to_dict("records")]
    cells = cell_statistics(study.assign(arm=pd.Series(arms, index=study.index, dtype=object)))
    at: dict[Arm, dict[Place, str]] = {}
    for row in cells.to_dict("records"):
        at.setdefault(row["arm"], {})[row["activation"], row["depth"]] = _written(row)
    order = {name: number for number, name in enumerate(COURSE_REPORT.activations)}
    places = sorted(
        {place for row in at.values() for place in row},
        key=lambda place: (order.get(place[0], len(order)), *place),
    )
    scores = {DATASETS[name].score for name in published.cells["dataset"].unique()}
    recorded: list[Row] = [
        {"section": _heading(setting), "arm": _in_setting(arm, setting), "at": at[arm]}
        for setting in dict.fromkeys(map(_setting, at))
        for arm in ordered_arms(at)
        if _setting(arm) == setting
    ]
    return Sheet(
        name="accuracy",
        title=f"Final test {'score' if len(scores) > 1 else scores.pop()}, percent",
        data=cells,
        rows=[*(_printed(one, places) for one in COURSE_REPORT.initializers), *recorded],
        section=lambda row: str(row["section"]),
        columns=(words("", "arm"), *map(_column, places)),
        notes=(note("accuracies", fan=COURSE_REPORT.fan),),
    )


def _written(row: Row) -> str:
    if not row["seeds"]:
        return "diverged"
    return f"{row['mean']:.2f}" + (f" ×{row['seeds']}" if row["seeds"] > 1 else "")


def _printed(initializer: str, places: list[Place]) -> Row:
    found = {place: published_accuracy(initializer, *place) for place in places}
    at = {place: f"{value:.2f}" for place, value in found.items() if value is not None}
    return {"section": "the course report prints", "arm": name_of(initializer), "at": at}


def _setting(arm: Arm) -> tuple[Change, ...]:
    return tuple(change for change in arm.changes if change[0] not in OF_THE_ARM)


def _heading(setting: tuple[Change, ...]) -> str:
    return Arm("", setting).variant or f"{COURSE_REPORT.norm} norm"


def _in_setting(arm: Arm, setting: tuple[Change, ...]) -> str:
    own = arm.without(setting)
    printed = own == arm and not own.changes and own.initializer in COURSE_REPORT.initializers
    return name_of(own) + ", as printed" * printed


def _column(place: Place) -> Column:
    activation, depth = place
    return Column(f"{name_of(activation)} {depth}", lambda row: row["at"].get(place, "–"))
