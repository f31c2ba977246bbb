"""``frontier``: which networks train at all, and which theory says would."""

from __future__ import annotations

import argparse
from functools import partial

import empirical
import figures
import theory
from commands import options
from commands.answer import Answer, Session
from empirical.frontier.spec import BRANCH_SCALES, MAX_CELLS, NETWORKS, FrontierSpec
from theory.errors import RequestError, check_whole

PURPOSE = "Which networks train: a map of weight variance and depth, or time, under theory's line."
EXAMPLES = (
    "frontier",
    "frontier --activation tanh --seeds 3",
    "frontier --network rnn --activation tanh",
    "frontier --network plain residual --branch-scale none depth",
    "frontier --activation relu --depths 2 4 8 --variances 1 2 4 --steps 100",
)
SAME_NAMES = ("width", "steps", "batch_size", "learning_rate", "bias_variance", "device")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    default = FrontierSpec()
    options.add_names(parser, default, marked="marked; ", but="pytorch")
    parser.add_argument(
        "--network",
        nargs="+",
        choices=NETWORKS,
        default=["plain"],
        help="plain and residual ones on digits, or rnn, which is to remember a symbol; a map each",
    )
    parser.add_argument(
        "--branch-scale",
        nargs="+",
        choices=BRANCH_SCALES,
        default=["none"],
        help="the weight of every residual branch: as drawn, or / √branches; a map each",
    )
    parser.add_argument(
        "--variances", type=float, nargs="+", default=(), metavar="V",
        help="σ_w² = fan_in·Var[w] (default 0.5 to 8 of plain; those of --init come in addition)",
    )  # fmt: skip
    parser.add_argument(
        "--depths", type=int, nargs="+", default=default.depths, metavar="L",
        help=f"weight layers, of rnn steps (default {' '.join(map(str, default.depths))})",
    )  # fmt: skip
    what = {"steps": "of SGD for every network", "batch_size": "images per step"}
    options.add_numbers(parser, default, width="units of the hidden layers", **what)
    parser.add_argument(
        "--learning-rate", type=float, default=default.learning_rate, help="constant, default 0.01"
    )
    parser.add_argument(
        "--bias-variance",
        type=float,
        metavar="V",
        help="σ_b² (default .05 of plain tanh, 1 of rnn, else 0)",
    )
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="run N seeds, from --seed on (default 1)"
    )


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    specs = _specs(arguments)
    device = theory.resolve_device(arguments.device)  # a missing one is said before the work
    session.prepare_out()
    with session.draws_progress("training networks") as on_progress:
        table = empirical.frontier.run_maps(specs, session.out, device, on_progress)
    agreement = empirical.frontier.agreement(table)
    captions = [figures.frontier_caption(agreement, spec) for spec in specs]
    asked = [spec.as_dict() for spec in specs]
    return Answer(
        spec=asked[0] if len(asked) == 1 else {"maps": asked},
        document={
            "networks": table.to_dict("records"),
            "agreement": agreement.to_dict("records"),
        },
        show=[figures.frontier_table(agreement, captions)],
        figures={spec.name: partial(figures.frontier_figure, table, spec) for spec in specs},
        paths=[session.out / empirical.frontier.table.FILE],
    )


def _specs(arguments: argparse.Namespace) -> list[FrontierSpec]:
    """A map per network, and of residual ones per branch scale."""
    a = arguments
    scales = list(dict.fromkeys(a.branch_scale))
    if scales != ["none"] and "residual" not in a.network:
        raise RequestError("--branch-scale is of residual networks: add --network residual")
    return [
        FrontierSpec(
            network=network,
            branch_scale=scale,
            initializers=tuple(a.init),
            activations=tuple(a.activation),
            variances=tuple(a.variances),
            depths=tuple(a.depths),
            seeds=tuple(range(a.seed, a.seed + check_whole("seeds", a.seeds, 1, MAX_CELLS))),
            **{name: getattr(a, name) for name in SAME_NAMES},
        )
        for network in dict.fromkeys(a.network)
        for scale in (scales if network == "residual" else ["none"])
    ]
