"""``variance``: activation variance through a deep stack, dense, convolutional or batch-normalized.

This module has the options, and the plain dense stack; ``variance_stacks.py`` has the others.
"""

from __future__ import annotations

import argparse
from functools import partial

from commands import options
from commands.answer import Answer, Picture, Session
from commands.theory import variance_stacks
from theory.convolution_spec import PADDINGS
from theory.errors import RequestError
from theory.specs import DIRECTIONS, ENGINES, VarianceSpec

PURPOSE = "Simulate activation variance through a deep stack and lay exact theory over it."
EXAMPLES = (
    "variance --depth 30",
    "variance --depth 100 --init he xavier --activation relu tanh --width 256",
    "variance --depth 30 --init he --gain-slope 0 --activation prelu",
    "variance --direction both --init he --fan fan_out --widths 64 128 256 512",
    "variance --engine law --draws 1000000 --width 1024",
    "variance --depth 1000 --init normal --draws 20 --json",
    "variance --stack conv --image-size 32 --channels 32",
    "variance --norm batch --init he",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_number(parser, "--depth", 30, "weight layers")
    options.add_number(parser, "--width", 512, "units per layer")
    parser.add_argument(
        "--widths", type=int, nargs="+", metavar="N", help="n_0 n_1 … n_L instead of depth and width"
    )
    options.add_number(parser, "--draws", 100, "networks per curve")
    options.add_number(parser, "--batch", 1, "inputs per network")
    options.add_initializers(parser, "he", "xavier", "normal")
    options.add_activations(parser, "relu", "prelu")
    parser.add_argument(
        "--direction",
        choices=DIRECTIONS,
        default="forward",
        help="signal, gradient of a random cotangent, or both (default forward)",
    )
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="modules",
        help="modules: nn.Modules with hooks (default); law: the exact law, without weights",
    )
    options.add_signal(parser)
    _add_other_stacks(parser)


def _add_other_stacks(parser: argparse.ArgumentParser) -> None:
    """The options of stacks that are not plain and dense.

    Where a default depends on the stack, None stands for it: what the user asked for is then known,
    and a contradiction can be refused.
    """
    group = parser.add_argument_group("other stacks")
    group.add_argument("--stack", choices=("dense", "conv"), default="dense", help="default dense")
    group.add_argument("--channels", type=int, metavar="C", help="of --stack conv (default 32)")
    group.add_argument("--image-size", type=int, metavar="H", help="of --stack conv (default 32)")
    group.add_argument("--kernel-size", type=int, metavar="K", help="of --stack conv (default 3)")
    group.add_argument("--padding", choices=PADDINGS, help="of --stack conv (default zero)")
    group.add_argument(
        "--norm",
        choices=("none", "batch"),
        default="none",
        help="batch: batch norm after each dense layer (default batch 256, draws 10, both directions)",
    )
    parser.set_defaults(depth=None, width=None, draws=None, batch=None, direction=None)


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    if arguments.stack == "conv" or arguments.norm == "batch":
        return variance_stacks.run(arguments, session)
    spec = _dense_spec(arguments)
    session.prepare_out()
    from figures.theory.variance import (
        drift_note,
        growth_table,
        variance_figure,
        variance_table,
        weight_gradient_figure,
    )
    from theory.draw.simulate import growth, variance
    from theory.precision import float64_device

    device = float64_device(spec.device)  # a missing one is said before the work
    with session.draws_progress() as on_progress:
        table = variance(spec, on_progress)
    curves = growth(table)
    figures: dict[str, Picture] = {"variance": partial(variance_figure, table)}
    if "backward" in spec.directions:
        figures["weight-gradients"] = partial(weight_gradient_figure, table)
    return Answer(
        spec=spec.as_dict(),
        device=device.type,
        document={"curves": variance_stacks.curve_documents(table, curves)},
        show=[
            *(
                variance_table(rows, all_layers=arguments.all_layers)
                for _, rows in table.groupby("direction", sort=False)
            ),
            growth_table(curves, note=drift_note(spec)),
        ],
        tables={"variance.csv": table},
        figures=figures,
    )


def _dense_spec(a: argparse.Namespace) -> VarianceSpec:
    options.refuse(a, "is of --stack conv: add it", *variance_stacks.CONV_NAMES)
    if a.widths is not None and (a.depth is not None or a.width is not None):
        raise RequestError("--widths contradicts --depth and --width: it says both; drop them")
    return VarianceSpec(
        layer_widths=None if a.widths is None else tuple(a.widths),
        **options.given(a, "width", *variance_stacks.COMMON_NAMES),
        **options.spec_fields(a, "engine", "sigma_b", *variance_stacks.SAME_NAMES),
    )
