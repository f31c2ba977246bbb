"""``claims``: the course report's claims, judged by the records."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from rich.text import Text

import empirical
import figures
import theory
from commands import options
from commands.answer import Answer, Session
from theory.errors import RequestError

PURPOSE = "Judge the course report's claims by the records; should He be the default?"
EXAMPLES = (
    "claims",
    "claims --verbose",
    "claims --records runs/cifar",
    "claims --records figures/data runs/cifar --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_records(parser)
    parser.add_argument(
        "--verbose",
        action="store_true",
        help="each claim's parts, measure and theory, and every answer",
    )


def check_dataset(names: Iterable[str]) -> None:
    """Raise ``RequestError`` where there are records, and none of the course report's data set."""
    there, asked = set(names), empirical.COURSE_REPORT.dataset
    if there and asked not in there:
        raise RequestError(
            f"claims are about {asked}, and these records are of {', '.join(sorted(there))}"
        )


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    folders = options.chosen_records(arguments.records)
    session.prepare_out()
    theory.resolve_device(arguments.device)  # a missing one is said before the work
    records = options.read_records(folders, session)
    check_dataset(records.cells["dataset"])
    evidence = empirical.Evidence(records.study, records.cells, records.layers)
    claims, claim_parts = empirical.judge_claims(evidence)
    agreement, pairs = empirical.protocol_agreement(evidence), empirical.protocol_pairs(evidence)
    protocols = figures.study.protocol_agreement
    conditions, condition_parts = empirical.judge_conditions(evidence)
    missing = empirical.missing_commands(evidence)
    theory_sizes = empirical.judgment.foretold_sizes(evidence)
    judgment, shown, answers = empirical.judgment, figures.study.claims, figures.answers
    told = answers.told(conditions, condition_parts)
    spec: dict[str, Any] = {
        "records": [str(folder) for folder in folders],
        "cells": len(records.cells),
        "level": judgment.statistics.LEVEL,
        "margin": judgment.statistics.MARGIN,
        "nearer": judgment.claims.NEARER,
        "bounds": judgment.claims.BOUNDS,
        "quantities": {one.symbol: one.words for one in judgment.QUANTITIES.values()},
    }
    named = {"claims": claims, "protocol_agreement": agreement, "conditions": told}
    document: dict[str, Any] = {name: table.to_dict("records") for name, table in named.items()}
    document["most_likely"] = protocols.most_likely(agreement, pairs)
    document["parts"] = [*claim_parts.to_dict("records"), *condition_parts.to_dict("records")]
    document["theory"] = {
        "directions": judgment.claim_theory.score(claims, conditions),
        "sizes": theory_sizes.to_dict("records"),
    }
    details = [
        shown.measures_table(claims),
        protocols.agreement_table(agreement, pairs),
        answers.conditions_table(told),
        answers.factors_table(condition_parts),
    ]
    needed = shown.how_to_complete(missing, conditions, folders)
    theory_score = Text(answers.theory_score(claims, conditions, theory_sizes))
    return Answer(
        spec=spec,
        document=document,
        show=[
            answers.answers_table(told),
            shown.claims_table(claims),
            theory_score,
            *(details if arguments.verbose else ()),
            *([needed] if needed else []),
        ],
        tables={
            "conditions.csv": told,
            "protocol-agreement.csv": agreement,
            "protocol-cells.csv": empirical.protocol_cells(evidence),
            "protocol-pairs.csv": pairs,
            "claim-parts.csv": claim_parts,
            "condition-parts.csv": condition_parts,
        },
    )
