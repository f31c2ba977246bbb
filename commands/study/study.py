"""``study``: the course report's question put to other tasks and networks."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import empirical
import figures
from commands.answer import Answer, Session
from commands.study import cifar
from empirical.data.catalog import DATASETS, TASKS, data_set, of_task
from empirical.presets import BEYOND, SEEDS, preset
from theory.errors import RequestError

if TYPE_CHECKING:
    import pandas as pd

PURPOSE = "Train networks for images, regression or sequences; the same command resumes."
EXAMPLES = (
    "study images --dataset digits",
    "study regression --depths 2 8 32",
    "study sequence --dataset copy --network lstm --forget-bias 1",
    "study images --preset residual",
    "study sequence --list-presets",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    known = "; ".join(f"{task}: {', '.join(of_task(task))}" for task in TASKS)
    parser.add_argument(
        "task",
        choices=TASKS,
        metavar="TASK",
        help=f"with its data sets: {known}; the first is the default, and what is not asked for is as "
        "suits the data set (--dry-run prints the cells)",
    )
    cifar.add_study(parser, tuple(DATASETS), defaults=False)


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    presets = {name: one for name, one in BEYOND.items() if one.study.data.task == arguments.task}
    if arguments.list_presets:
        return cifar.list_presets(presets, f"study {arguments.task}")
    cifar.refuse_the_past(arguments)
    spec = cifar.study_spec(arguments, session.out, fields_of(arguments))
    if spec.data.task != arguments.task:
        raise RequestError(
            f"{spec.dataset} is a data set of {spec.data.task}: for {arguments.task} there are "
            f"{', '.join(of_task(arguments.task))}"
        )
    return cifar.train(spec, arguments, session, partial(_beside, session.out))


def fields_of(a: argparse.Namespace) -> dict[str, Any]:
    """What the study is without further options: a preset, or what suits the data set."""
    if a.preset is not None:
        return dict(preset(a.preset, BEYOND).fields)
    dataset = a.dataset or of_task(a.task)[0]
    defaults = dict(data_set(dataset).defaults)
    return {"dataset": dataset} | ({**SEEDS, **defaults} if defaults else {})


def _beside(out: Path, table: pd.DataFrame) -> dict[str, Any]:
    """The claims about what is beyond the course report, and the scores beside theory's numbers."""
    records = empirical.gather([out]).of(table["cell"])
    evidence = empirical.Evidence(records.study, records.cells, records.layers)
    claims, beyond = empirical.judgment.judge_beyond(evidence), figures.beyond
    rows = table.drop_duplicates("cell").to_dict("records")
    arms = {str(table["dataset"].iloc[0]): list(dict.fromkeys(map(empirical.judgment.Cells.of, rows)))}
    found = empirical.judgment.foretold_arms(evidence, arms)
    return {
        "document": {"claims": claims.to_dict("records")},
        "show": [] if claims.empty else [beyond.verdicts_table(claims)],
        "figures": {"scores": partial(beyond.scores_figure, found)},
    }
