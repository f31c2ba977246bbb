"""The results as README and docs print them, made from the published records and from nothing else.

A file says between two comments which table stands there; ``filled`` writes it anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import cast

import pandas as pd

from empirical.arm import Arm, Change
from empirical.judgment.claims import judge_claims
from empirical.judgment.conditions import judge_conditions
from empirical.judgment.evidence import Evidence
from empirical.judgment.statistics import (
    MINIMUM_SEEDS,
    cell_statistics,
    final_values,
    pair_statistics,
)
from empirical.protocol import COURSE_REPORT, published_accuracy
from empirical.records.published import Published
from figures.answers import answers_table, conditions_table, factors_table, told
from figures.study.claims import claims_table
from figures.study.report_figures import name_of
from figures.study.statistics import cells_table, pairs_table
from figures.style import ordered_arms
from figures.tables import Column, Row, Sheet, fixed, words

# What is said of the weights and the steps; whatever else an arm changes is the setting it was run in.
OF_THE_ARM = ("fan", "head_fan", "head_initializer", "learning_rate_reference")
Place = tuple[str, int]  # activation and depth: a column
_BLOCK = re.compile(r"(<!-- made from figures/data: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str, published: Published) -> str:
    """``text`` with each of its marked tables made from ``published``; KeyError for an unknown name."""

    def table(found: re.Match[str]) -> str:
        return f"{found[1]}\n{TABLES[found[2]](published).markdown()}\n{found[3]}"

    return _BLOCK.sub(table, text)


def accuracy_results(published: Published) -> Sheet:
    """Final test accuracy of everything recorded: a row per arm, a column per activation and depth."""
    cells = cell_statistics(published.study)
    of_arms = {cast(Arm, arm): _of_arm(of_arm) for arm, of_arm in cells.groupby("arm", sort=False)}
    places: list[Place] = sorted(
        {place for row in of_arms.values() for place in row},
        key=lambda place: (COURSE_REPORT.activations.index(place[0]), place[1]),
    )
    printed = [_printed(initializer, places) for initializer in COURSE_REPORT.initializers]
    recorded: list[Row] = [
        {"section": _heading(setting), "arm": _in_setting(arm, setting), "at": of_arms[arm]}
        for setting in dict.fromkeys(map(_setting, of_arms))
        for arm in ordered_arms(of_arms)
        if _setting(arm) == setting
    ]
    return Sheet(
        name="accuracy",
        title="Final test accuracy, percent",
        data=cells,
        rows=[*printed, *recorded],
        section=lambda row: str(row["section"]),
        columns=(words("", "arm"), *map(_column, places)),
        notes=(
            "Means over the seeds that did not diverge; ×n: of n seeds, else of one. As printed: He by "
            f"{COURSE_REPORT.fan} in every layer.",
        ),
    )


def _of_arm(cells: pd.DataFrame) -> dict[Place, str]:
    """What is written of each setting of one arm."""
    return {
        (str(row["activation"]), int(row["depth"])): "diverged"
        if not row["seeds"]
        else f"{row['mean']:.2f}" + (f" ×{row['seeds']}" if row["seeds"] > 1 else "")
        for row in cells.to_dict("records")
    }


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


def seeds_results(published: Published) -> Sheet:
    """Mean, spread and interval of every setting that has a second seed."""
    cells = cell_statistics(published.study)
    return cells_table(cells[cells["seeds"] > 1])


def pairs_results(published: Published) -> Sheet:
    """Every difference with as many seeds as a test takes."""
    pairs = pair_statistics(published.study)
    return pairs_table(pairs[pairs["seeds"] >= MINIMUM_SEEDS])


def _evidence(published: Published) -> Evidence:
    return Evidence(published.study, published.cells, published.layers)


def answers_results(published: Published) -> Sheet:
    """Should He be the default? In five lines."""
    return answers_table(judge_conditions(_evidence(published))[0])


def conditions_results(published: Published) -> Sheet:
    """The same in whole sentences, for every condition."""
    return conditions_table(told(*judge_conditions(_evidence(published))))


def factors_results(published: Published) -> Sheet:
    """What the last layer and the steps each do to N(0, 1)."""
    return factors_table(judge_conditions(_evidence(published))[1])


def claims_results(published: Published) -> Sheet:
    """The verdicts on the course report's claims."""
    return claims_table(judge_claims(_evidence(published))[0])


def losses_results(published: Published) -> Sheet:
    """Without batch norm: the first loss, predicted and measured, and the last training loss."""
    plain = published.cells[published.cells["norm"] == "none"].sort_values(["activation", "depth"])
    last = final_values(published.study, "train_loss").set_index("cell")["train_loss"]
    return Sheet(
        name="losses",
        title="Loss without batch norm",
        data=plain.assign(train_loss=plain["cell"].map(last)),
        section=lambda row: f"{name_of(row['activation'])}, {row['depth']} layers",
        columns=(
            words("", lambda row: name_of(row["initializer"])),
            Column("seed", "seed"),
            Column("first, predicted", "initial_loss_predicted", _loss),
            Column("first, measured", "initial_loss", _loss),
            Column("training loss at the end", "train_loss", _loss),
            Column("accuracy", "final_test_accuracy", fixed(2)),
        ),
    )


def _loss(value: float) -> str:
    return f"{value:.3f}" if value < 1000 else f"{value:.2g}"


TABLES: dict[str, Callable[[Published], Sheet]] = {
    "accuracy": accuracy_results,
    "answers": answers_results,
    "conditions": conditions_results,
    "factors": factors_results,
    "claims": claims_results,
    "seeds": seeds_results,
    "pairs": pairs_results,
    "losses": losses_results,
}
