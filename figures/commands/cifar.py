"""``cifar``: the course report's networks on CIFAR-10."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from figures.commands import options
from figures.commands.answer import Answer, Session
from theory.errors import RequestError
from theory.initializers import FANS

if TYPE_CHECKING:
    from empirical.protocol import StudySpec

PURPOSE = "Train the course report's networks on CIFAR-10; the same command resumes."
EXAMPLES = (
    "cifar --init he",
    "cifar --init he xavier --activation relu --depths 2 5 --epochs 2",
    "cifar --init he --seeds 6 --data-dir DIR",
    "cifar --dry-run",
)
SAME_NAMES = (
    "epochs",
    "batch_size",
    "learning_rate",
    "filters",
    "norm",
    "fan",
    "dataset",
    "data_dir",
    "precision",
    "engine",
    "limit_train",
    "limit_test",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_initializers(parser, "he", "normal")
    options.add_activations(parser, "relu", "prelu")
    parser.add_argument(
        "--depths", type=int, nargs="+", default=[2, 5, 10, 12], help="conv layers (default 2 5 10 12)"
    )
    parser.add_argument("--epochs", type=int, default=10, help="default 10")
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument("--seeds", type=int, metavar="N", help="run N seeds, from --seed on (default 1)")
    seeds.add_argument(
        "--seed-list", type=int, nargs="+", metavar="SEED", help="run exactly these seeds"
    )
    parser.add_argument("--batch-size", type=int, default=64, help="default 64")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of Adam, default 0.001")
    parser.add_argument("--filters", type=int, default=32, help="per convolution, default 32")
    parser.add_argument("--norm", choices=("batch", "none"), default="batch", help="default batch")
    parser.add_argument("--fan", choices=FANS, default="fan_out", help="default fan_out, as the report")
    parser.add_argument("--dataset", choices=("cifar10",), default="cifar10", help="default cifar10")
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="default $CIFAR10_DIR, else a download"
    )
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="default fp32")
    parser.add_argument("--engine", choices=("auto", "eager"), default="auto", help="default auto")
    parser.add_argument("--limit-train", type=int, metavar="N", help="train on the first N images only")
    parser.add_argument("--limit-test", type=int, metavar="N", help="test on the first N images only")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and an estimate of time")


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    spec = _spec(arguments, session.out)
    from empirical.locations import find_cifar10, needs_data

    if needs_data(spec):
        find_cifar10(spec.data_dir)  # a wrong folder is said before torch is imported
    from theory.devices import resolve_device

    resolve_device(spec.device)  # a missing one is said before the work, and to --dry-run too
    if arguments.dry_run:
        return _plan(spec)
    session.prepare_out()
    from empirical import study
    from figures.study import course_report_figures
    from figures.tables import accuracy_table

    with session.study_progress() as on_event:
        table = study.run_study(spec, on_event)
    comparison = study.compare_with_report(table)
    return Answer(
        spec=spec.config(),
        device=spec.device,
        document={"cells": study.results(spec)},
        show=[accuracy_table(comparison, spec)],
        tables={"study.csv": table},
        figures={**course_report_figures(table)},
        paths=[session.out / "cells"],
    )


def _spec(a: argparse.Namespace, out: Path) -> StudySpec:
    if a.seeds is not None and a.seeds < 1:
        raise RequestError(f"--seeds must be at least 1, not {a.seeds}")
    if a.seed_list is not None and a.seed:
        raise RequestError("--seed and --seed-list contradict each other: name the seeds in one place")
    seeds = a.seed_list if a.seed_list is not None else range(a.seed, a.seed + (a.seeds or 1))
    from empirical.protocol import StudySpec

    return StudySpec(
        initializers=tuple(a.init),
        activations=tuple(a.activation),
        depths=tuple(a.depths),
        seeds=tuple(seeds),
        out=out,
        device=a.device,
        **{name: getattr(a, name) for name in SAME_NAMES},
    )


def _plan(spec: StudySpec) -> Answer:
    from empirical import study
    from figures.tables import plan_table

    plan = study.plan(spec)
    return Answer(
        spec=spec.config(),
        device=spec.device,
        document={"plan": plan.to_dict("records")},
        show=[plan_table(plan)],
    )
