"""``gains``: the exact gain of every activation."""

from __future__ import annotations

import argparse
from functools import partial

from commands import options
from commands.answer import Answer, Session
from theory.mean_field_specs import GAINS_ACTIVATIONS, GainsSpec

PURPOSE = "The exact gain of every activation, beside torch.nn.init.calculate_gain."
EXAMPLES = ("gains", "gains --activation tanh gelu prelu:0.1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_activations(parser, *GAINS_ACTIVATIONS)


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    spec = GainsSpec(tuple(arguments.activation))
    session.prepare_out()
    from figures.theory.gains import gains_figure, gains_notes, gains_table
    from theory.devices import resolve_device
    from theory.lessons.torch_gains import gains

    resolve_device(arguments.device)  # a missing one is said before the work
    table = gains(spec)
    return Answer(
        spec=spec.as_dict(),
        device=arguments.device,
        document={"gains": table.to_dict("records")},
        show=[gains_table(table), gains_notes(table)],
        tables={"gains.csv": table},
        figures={"gains": partial(gains_figure, table, spec.parsed)},
    )
