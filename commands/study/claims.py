"""``claims``: the course report's claims, judged by the records."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import options
from commands.answer import Answer, Session
from theory.errors import RequestError

if TYPE_CHECKING:
    from empirical.records.published import Published

PURPOSE = "Judge the course report's claims by the records; should He be the default?"
EXAMPLES = ("claims", "claims --records runs/cifar", "claims --records figures/data runs/cifar --json")
DATA = options.PUBLISHED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_records(parser, [DATA])


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    for folder in arguments.records:
        if not folder.is_dir():  # said before anything is loaded
            raise RequestError(
                f"--records {folder} is no folder: name published tables or the --out of a cifar run"
            )
    session.prepare_out()
    from theory.devices import resolve_device

    resolve_device(arguments.device)  # a missing one is said before the work
    with session.study_progress() as on_event:
        records = _records(arguments.records, on_event)
    from empirical.judgment.claims import BOUNDS, NEARER, judge_claims, missing_commands
    from empirical.judgment.conditions import judge_conditions
    from empirical.judgment.evidence import QUANTITIES, Evidence
    from empirical.judgment.fan_agreement import fan_agreement, nearest_fan
    from empirical.judgment.truth import LEVEL
    from figures.study import claims as shown

    evidence = Evidence(records.study, records.cells, records.layers)
    claims, claim_parts = judge_claims(evidence)
    agreement, sentence = fan_agreement(evidence), nearest_fan(evidence)
    conditions, condition_parts = judge_conditions(evidence)
    missing = missing_commands(evidence)
    spec: dict[str, Any] = {
        "records": [str(folder) for folder in arguments.records],
        "cells": len(records.cells),
        "level": LEVEL,
        "nearer": NEARER,
        "bounds": BOUNDS,
        "quantities": {one.symbol: one.words for one in QUANTITIES.values()},
    }
    named = {"claims": claims, "fan_agreement": agreement, "conditions": conditions}
    document: dict[str, Any] = {name: table.to_dict("records") for name, table in named.items()}
    document["fan_mode"] = sentence
    document["parts"] = [*claim_parts.to_dict("records"), *condition_parts.to_dict("records")]
    return Answer(
        spec=spec,
        device=arguments.device,
        document=document,
        show=[
            shown.claims_table(claims),
            shown.measures_table(claims),
            shown.agreement_table(agreement, sentence),
            shown.conditions_table(conditions),
            *([needed] if (needed := shown.how_to_complete(missing, conditions)) else []),
        ],
        tables={"claim-parts.csv": claim_parts, "condition-parts.csv": condition_parts},
    )


def _records(folders: list[Path], on_event: Any) -> Published:
    """The records of all ``folders``; of a cell in several of them, the first's."""
    import pandas as pd

    from empirical.records.published import Published, read

    found: list[Published] = []
    known: set[str] = set()
    for folder in folders:
        one = read(folder, on_event)
        new = [name for name in one.cells["cell"] if name not in known]
        known.update(new)
        found.append(one.of(new))
    if not known:
        names = " ".join(map(str, folders))
        raise RequestError(f"{names} holds no finished cell: train some with cli.py cifar --out DIR")
    found = [one for one in found if len(one.cells)]
    tables = ([getattr(one, name) for one in found] for name in ("study", "layers", "cells"))
    return Published(*(pd.concat(parts, ignore_index=True) for parts in tables))
