"""The results as README and docs print them, made from the published records and from nothing else.

A file says between two comments which table or sentence stands there; ``filled`` writes it anew.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable

from empirical.judgment.claims import judge_claims
from empirical.judgment.conditions import judge_conditions
from empirical.judgment.evidence import Evidence
from empirical.judgment.protocol_agreement import protocol_agreement, protocol_pairs
from empirical.judgment.statistics import (
    MINIMUM_SEEDS,
    cell_statistics,
    final_values,
    pair_statistics,
)
from empirical.records.published import Published
from figures.accuracies import accuracy_results
from figures.answers import answers_table, conditions_table, factors_table, told
from figures.beyond.published import Beyond
from figures.beyond.verdicts import verdicts_table
from figures.study.captions import handicap
from figures.study.claims import claims_table
from figures.study.protocol_agreement import agreement_table
from figures.study.report_figures import name_of
from figures.study.statistics import cells_table, pairs_table
from figures.tables import Column, Sheet, fixed, words

_BLOCK = re.compile(r"(<!-- made from figures/data: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str, published: Published) -> str:
    """``text`` with each of its marked tables made from ``published``; KeyError for an unknown name."""

    def table(found: re.Match[str]) -> str:
        made = TABLES[found[2]](published)
        text = f"{textwrap.fill(made, 110)}\n" if isinstance(made, str) else made.markdown()
        return f"{found[1]}\n{text}\n{found[3]}"

    return _BLOCK.sub(table, text)


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


def protocols_results(published: Published) -> Sheet:
    """The protocols that may have made the printed numbers, by likelihood."""
    evidence = _evidence(published)
    return agreement_table(protocol_agreement(evidence), protocol_pairs(evidence))


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


def beyond_results(published: Published) -> Sheet:
    """The claims about other tasks and networks, from their own published records."""
    return verdicts_table(Beyond.read().claims)


TABLES: dict[str, Callable[[Published], Sheet | str]] = {
    "handicap": lambda published: handicap(published).strip(),
    "accuracy": accuracy_results,
    "answers": answers_results,
    "protocols": protocols_results,
    "conditions": conditions_results,
    "factors": factors_results,
    "claims": claims_results,
    "seeds": seeds_results,
    "pairs": pairs_results,
    "losses": losses_results,
    "beyond": beyond_results,
}
