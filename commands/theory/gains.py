"""``gains``: the exact gain of every activation."""

from __future__ import annotations

import argparse
from functools import partial

import figures
import theory
from commands import options
from commands.answer import Answer, Session
from theory.specs import GainsSpec

PURPOSE = "The exact gain of every activation, beside torch.nn.init.calculate_gain."
EXAMPLES = ("gains", "gains --activation tanh gelu prelu:0.1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_names(parser, GainsSpec)


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    spec = GainsSpec(tuple(arguments.activation))
    session.prepare_out()
    theory.resolve_device(arguments.device)  # a missing one is said before the work
    table = theory.gains(spec)
    return Answer(
        spec=spec.as_dict(),
        document={"gains": table.to_dict("records")},
        show=[figures.gains_table(table), figures.gains_notes(table)],
        tables={"gains.csv": table},
        figures={"gains": partial(figures.gains_figure, table)},
    )
