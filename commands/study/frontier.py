"""``frontier``: which plain networks train at all, and which theory says would."""

from __future__ import annotations

import argparse
from functools import partial

import empirical
import figures
import theory
from commands import options
from commands.answer import Answer, Session
from empirical.frontier.spec import MAX_CELLS, FrontierSpec
from theory.errors import check_whole

PURPOSE = "Which plain networks train: a map of weight variance and depth under theory's line."
EXAMPLES = (
    "frontier",
    "frontier --activation tanh --seeds 3",
    "frontier --activation relu --depths 2 4 8 --variances 1 2 4 --steps 100",
)
SAME_NAMES = ("width", "steps", "batch_size", "learning_rate", "bias_variance", "device")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    default = FrontierSpec()
    options.add_names(parser, default, marked="marked; ", but=" but pytorch")
    parser.add_argument(
        "--variances", type=float, nargs="+", default=default.variances, metavar="V",
        help="σ_w² = fan_in·Var[w] (default 0.5 to 8; those of --init come in addition)",
    )  # fmt: skip
    parser.add_argument(
        "--depths", type=int, nargs="+", default=default.depths, metavar="L",
        help=f"weight layers (default {' '.join(map(str, default.depths))})",
    )  # fmt: skip
    what = {"steps": "of SGD for every network", "batch_size": "images per step"}
    options.add_numbers(parser, default, width="units of the hidden layers", **what)
    parser.add_argument(
        "--learning-rate", type=float, default=default.learning_rate, help="constant, default 0.01"
    )
    parser.add_argument(
        "--bias-variance", type=float, metavar="V", help="σ_b² (default 0 of rectifiers, else 0.05)"
    )
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="run N seeds, from --seed on (default 1)"
    )


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    a = arguments
    spec = FrontierSpec(
        initializers=tuple(a.init),
        activations=tuple(a.activation),
        variances=tuple(a.variances),
        depths=tuple(a.depths),
        seeds=tuple(range(a.seed, a.seed + check_whole("seeds", a.seeds, 1, MAX_CELLS))),
        **{name: getattr(a, name) for name in SAME_NAMES},
    )
    device = theory.resolve_device(a.device)  # a missing one is said before the work
    session.prepare_out()
    with session.draws_progress("training networks") as on_progress:
        table = empirical.frontier.run_frontier(spec, session.out, device, on_progress)
    agreement = empirical.frontier.agreement(table)
    return Answer(
        spec=spec.as_dict(),
        device=a.device,
        document={
            "networks": table.to_dict("records"),
            "agreement": agreement.to_dict("records"),
        },
        show=[figures.frontier_table(table, agreement, spec)],
        figures={"frontier": partial(figures.frontier_figure, table, spec)},
        paths=[session.out / empirical.frontier.table.FILE],
    )
