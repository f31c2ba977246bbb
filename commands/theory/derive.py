"""``derive``: He's derivation, each line checked on real networks."""

from __future__ import annotations

import argparse
from functools import partial

import figures
import theory
from commands import options
from commands.answer import Answer, Session
from theory.specs import DerivationSpec

PURPOSE = "He's derivation line by line, each line checked on real networks."
EXAMPLES = ("derive", "derive --negative-slope 0.5", "derive --width 512 --draws 400 --seed 1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = {"depth": "layers", "width": "units per layer", "draws": "networks per kind"}
    options.add_numbers(parser, DerivationSpec, **what)
    rectifier = parser.add_mutually_exclusive_group()
    rectifier.add_argument(
        "--activation", default="prelu", metavar="NAME", help="rectifier of the part after Eq. 15"
    )
    rectifier.add_argument(
        "--negative-slope", type=float, metavar="A", help="its slope; the same as leaky-relu:A"
    )


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    a = arguments
    activation = a.activation if a.negative_slope is None else f"leaky-relu:{a.negative_slope}"
    own = options.given(a, "depth", "width", "draws", "seed", "device")
    spec = DerivationSpec(activation=activation, **own)
    session.prepare_out()
    device = theory.float64_device(spec.device)
    table = theory.derivation(spec)
    return Answer(
        spec=spec.as_dict(),
        device=device.type,
        document={"threshold": theory.lessons.derivation.THRESHOLD, "lines": table.to_dict("records")},
        show=[figures.derivation_table(table)],
        tables={"derive.csv": table},
        figures={"derive": partial(figures.derivation_figure, table)},
    )
