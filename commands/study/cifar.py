"""``cifar``: the course report's networks on CIFAR-10."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import empirical
import figures
import theory
from commands import options
from commands.answer import Answer, Session
from empirical.data.catalog import of_task
from empirical.data.files import tables
from empirical.presets import PRESETS, Preset, preset
from empirical.protocol import CHOICES, ENGINES, MAX_CELLS, PAST_ENGINES, StudySpec
from theory.activations import ACTIVATIONS
from theory.errors import RequestError
from theory.initializers import FANS, INITIALIZERS

if TYPE_CHECKING:
    import pandas as pd

    from empirical.study.placement import Placement

PURPOSE = "Train the course report's networks on CIFAR-10; the same command resumes."
EXAMPLES = (
    "cifar --init he",
    "cifar --init he xavier --activation relu --depths 2 5 --epochs 2",
    "cifar --init he --seeds 8 --data-dir DIR",
    "cifar --preset textbook",
    "cifar --list-presets",
    "cifar --seeds 9 --workers auto",
    "cifar --dry-run",
)
OPTIONS = tables(Path(__file__).with_suffix(".toml"))  # fields of a study: metavar, help and default
FIELDS = {  # of a study, where the option has another name
    "init": "initializers",
    "activation": "activations",
    "depths": "depths",
    "head_init": "head_initializer",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser, of_task("images"))


def add_study(
    parser: argparse.ArgumentParser, datasets: Sequence[str], *, defaults: bool = True
) -> None:
    """The options of a study on one of ``datasets``; whether their help says cifar's ``defaults``."""

    def said(words: str, default: str) -> str:
        shown = f"default {default}" if defaults and default else ""
        return f"{words} ({shown})" if words and shown else words or shown

    _add_grid(parser, said)
    hints = get_type_hints(StudySpec)
    choices = {**CHOICES, "head_fan": FANS, "dataset": tuple(datasets)}
    for name, texts in OPTIONS.items():
        hint = hints[FIELDS.get(name, name)]
        kind = next(one for one in (*get_args(hint), hint) if one is not NoneType)
        flags = [f"--{name.replace('_', '-')}", *["--width"] * (name == "filters")]
        parser.add_argument(
            *flags,
            type=kind,
            choices=choices.get(name),
            metavar=texts.get("metavar"),
            help=said(
                texts.get("help", "").format(engines=", ".join(ENGINES)), texts.get("default", "")
            ),
        )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and an estimate of time")
    _add_place(parser)


def _add_grid(parser: argparse.ArgumentParser, said: Callable[[str, str], str]) -> None:
    """Which cells: the study's axes; ``said`` makes a help text of words and a default."""
    for option, known, default in (
        ("--init", INITIALIZERS, "he normal"),
        ("--activation", ACTIVATIONS, "relu prelu"),
    ):
        text = said(f"any of {', '.join(known)}", default)
        parser.add_argument(option, nargs="+", metavar="NAME", help=text)
    parser.add_argument(
        "--depths",
        type=int,
        nargs="+",
        help=said("layers; steps of a recurrent network, blocks of a transformer", "2 5 10 12"),
    )
    parser.add_argument(
        "--preset", metavar="NAME", help="one of --list-presets; other options change what it trains"
    )
    parser.add_argument(
        "--list-presets",
        action="store_true",
        help="print each preset, the question it answers, and stop",
    )
    seeds = parser.add_mutually_exclusive_group()
    text = said("run N seeds, from --seed on", "1")
    seeds.add_argument("--seeds", type=int, metavar="N", help=text)
    seeds.add_argument(
        "--seed-list", type=int, nargs="+", metavar="SEED", help="run exactly these seeds"
    )


def _add_place(parser: argparse.ArgumentParser) -> None:
    place = parser.add_argument_group("where cells are trained")
    place.add_argument(
        "--workers",
        metavar="N",
        help="N processes, a thread or GPU each; auto: one per core or GPU (default 1, with all cores)",
    )
    place.add_argument("--shard", help=argparse.SUPPRESS)  # of earlier versions
    place.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="a Dask cluster, by its scheduler's address or file",
    )


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    if arguments.list_presets:
        return list_presets(PRESETS, arguments.command)
    refuse_the_past(arguments)
    fields = dict(preset(arguments.preset).fields) if arguments.preset is not None else {}
    return train(study_spec(arguments, session.out, fields), arguments, session)


def train(
    spec: StudySpec,
    arguments: argparse.Namespace,
    session: Session,
    more: Callable[[pd.DataFrame], Mapping[str, Any]] = lambda table: {},
) -> Answer:
    """Train ``spec``, or plan it, and answer with its tables and figures.

    ``more`` are fields of the answer that a study of another task has beside: what is shown, and drawn.
    """
    place = empirical.Placement.parse(arguments.workers, arguments.dask)
    if place.is_here and empirical.needs_data(spec):
        spec.data.find(spec.data_dir)  # a wrong folder is said before torch is imported
    if place.is_here:
        theory.resolve_device(spec.device)  # a missing one is said before the work, and the plan
    empirical.keep_freed_memory()  # this process trains, and is ours
    if arguments.dry_run:
        return _plan(spec, place)
    session.prepare_out()
    with session.study_progress() as on_event:
        table = empirical.run_at(place, spec, on_event)
    comparison = empirical.compare_with_report(table)
    statistics, results = figures.statistics_tables(table), empirical.results(spec)
    drawn = {result["cell"]: result["initial"].get("average_weight") for result in results}
    sheets = [sheet for sheet in statistics if isinstance(sheet, figures.Sheet)]
    beside = more(table)
    return Answer(
        spec=spec.config(),
        device=spec.device if place.is_here else "auto",
        document={"cells": results}
        | {one.name: one.data.to_dict("records") for one in sheets}
        | beside.get("document", {}),
        show=[figures.accuracy_table(comparison, spec), *statistics, *beside.get("show", ())],
        tables={"study.csv": table},
        figures={**figures.course_report_figures(table, drawn=drawn), **beside.get("figures", {})},
        paths=[session.out / "cells"],
    )


def refuse_the_past(arguments: argparse.Namespace) -> None:
    """One line for options of earlier versions."""
    if arguments.shard is not None:
        raise RequestError(
            "--shard is gone: give every job of the array the same command and --out; each takes "
            "cells that no other holds"
        )
    if arguments.engine in PAST_ENGINES:
        raise RequestError(
            f"--engine {arguments.engine} is gone: eager gives the same to rounding; use --engine "
            "eager or auto"
        )


def study_spec(a: argparse.Namespace, out: Path, preset_fields: Mapping[str, Any]) -> StudySpec:
    """The study that the options ask for, of which ``preset_fields`` are the fields without them."""
    if a.seeds is not None and a.seeds < 1:
        raise RequestError(f"--seeds must be at least 1, not {a.seeds}")
    if a.seeds is not None and a.seeds > MAX_CELLS:
        raise RequestError(f"--seeds must be at most {MAX_CELLS:,}, not {a.seeds:,}")
    if a.seed_list is not None and a.seed:
        raise RequestError("--seed and --seed-list contradict each other: name the seeds in one place")
    fields = dict(preset_fields)
    for name in fields.get("arms", ()):
        for field in name:
            options.refuse(a, f"is what preset {a.preset} compares: drop one of them", _option(field))
    if a.seed_list is not None:
        fields["seeds"] = a.seed_list
    elif a.seeds is not None or "seeds" not in fields:
        fields["seeds"] = range(a.seed, a.seed + (a.seeds or 1))
    else:
        fields["seeds"] = [a.seed + seed for seed in fields["seeds"]]
    asked = options.given(a, *{**OPTIONS, **FIELDS})
    fields |= {FIELDS.get(name, name): value for name, value in asked.items()}
    return StudySpec(
        **{"initializers": ("he", "normal"), **fields, "seeds": tuple(fields["seeds"])},
        out=out,
        device=a.device,
    )


def _option(field: str) -> str:
    """The argument whose value the field of a cell is."""
    singular = {"initializer": "init", "head_initializer": "head_init", "depth": "depths"}
    return singular.get(field, field)


def list_presets(known: Mapping[str, Preset], command: str) -> Answer:
    """The presets ``known`` of ``command``, each with its size and its question."""
    presets = [
        {"preset": name, "cells": len(one.study.cells()), "question": one.question}
        for name, one in known.items()
    ]
    return Answer(
        spec={"list_presets": True},
        document={"presets": presets},
        show=[figures.presets_table(presets, command)],
    )


def _plan(spec: StudySpec, place: Placement) -> Answer:
    if not place.is_here:  # the estimate is this machine's, which may lack the workers' device
        spec = replace(spec, device="auto")
    plan = empirical.plan(spec)
    return Answer(
        spec=spec.config(),
        device=spec.device,
        document={"plan": plan.to_dict("records")},
        show=[figures.plan_table(plan)],
    )
