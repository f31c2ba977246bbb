"""The results as README and docs print them, made from the published records and from nothing else.

A file says between two comments which table or sentence stands there; ``filled`` writes it anew.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING

from empirical.arm import Arm
from empirical.judgment.selection import select
from empirical.judgment.statistics import MINIMUM_SEEDS, cell_statistics, final_values, pair_statistics
from figures.accuracies import accuracy_results
from figures.paired.answer import handicap
from figures.prose import name_of
from figures.study.protocol_agreement import agreement_table, most_likely
from figures.study.statistics import cells_table, pairs_table
from figures.tables import Column, Row, Sheet, fixed, words

if TYPE_CHECKING:
    from figures.report.report import Report

_BLOCK = re.compile(r"(<!-- made from figures/data: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str, report: Report) -> str:
    """``text`` with each of its marked tables made anew; KeyError for an unknown name."""

    def table(found: re.Match[str]) -> str:
        made = TABLES[found[2]](report)
        assert made is not None  # he-normal and prelu-relu alone can be missing in a report
        text = f"{textwrap.fill(made, 110)}\n" if isinstance(made, str) else made.markdown()
        return f"{found[1]}\n{text}\n{found[3]}"

    return _BLOCK.sub(table, text)


MAIN = ("report", "textbook", "xavier", "no-norm", "he2015")  # presets


def _main(report: Report) -> Sheet:
    """What answers the question, for README: accuracies of the ``MAIN`` presets' cells alone."""
    chosen = [select(report.records, name).own.cells["cell"] for name in MAIN]
    return accuracy_results(report.records.of(name for cells in chosen for name in cells))


def _seeds(report: Report) -> Sheet:
    """Mean, spread and interval of every setting that has a second seed."""
    cells = cell_statistics(report.records.study)
    return cells_table(cells[cells["seeds"] > 1])


def _pairs(report: Report) -> Sheet:
    """Every difference with as many seeds as a test takes."""
    pairs = pair_statistics(report.records.study)
    return pairs_table(pairs[pairs["seeds"] >= MINIMUM_SEEDS])


def _losses(report: Report) -> Sheet:
    """Without batch norm: the first loss, predicted and measured, and the last training loss."""
    cells, study = report.records.cells, report.records.study
    plain = cells[cells["norm"] == "none"].sort_values(["activation", "depth", "optimizer", "filters"])
    last = final_values(study, "train_loss").set_index("cell")["train_loss"]
    return Sheet(
        name="losses",
        title="Loss without batch norm",
        data=plain.assign(train_loss=plain["cell"].map(last)),
        section=_protocol,
        columns=(
            words("", lambda row: name_of(row["initializer"])),
            Column("seed", "seed"),
            Column("first, predicted", "initial_loss_predicted", _loss),
            Column("first, measured", "initial_loss", _loss),
            Column("training loss at the end", "train_loss", _loss),
            Column("accuracy", "final_test_accuracy", fixed(2)),
        ),
    )


def _protocol(row: Row) -> str:
    """What sets a row's network apart from the others without batch norm, by fan_in."""
    own = Arm.of(row, ignoring=("norm", "fan")).words
    return ", ".join([name_of(row["activation"]), f"{row['depth']} layers", *own])


def _loss(value: float) -> str:
    return f"{value:.3f}" if value < 1000 else f"{value:.2g}"


def _of_report(name: str) -> Callable[[Report], Sheet | str | None]:
    return lambda report: report.sheets()[name]()


TABLES: dict[str, Callable[[Report], Sheet | str | None]] = {
    **{
        name: _of_report(name)
        for name in ("accuracy", "answers", "conditions", "factors", "claims", "beyond")
    },
    "main": _main,
    "handicap": lambda report: handicap(report.records),
    "protocols": lambda report: agreement_table(*report.protocols),
    "origin": lambda report: most_likely(*report.protocols, "in_short"),
    "seeds": _seeds,
    "pairs": _pairs,
    "losses": _losses,
}
