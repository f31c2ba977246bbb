"""``jacobian``: singular values of the input-output Jacobian."""

from __future__ import annotations

import argparse
from functools import partial

import figures
import theory
from commands import options
from commands.answer import Answer, Session
from theory.specs import JacobianSpec

PURPOSE = "Singular values of a deep stack's input-output Jacobian against exact theory."
EXAMPLES = (
    "jacobian --depth 10 --width 200",
    "jacobian --init he orthogonal he-uniform --activation relu prelu:0.5 --draws 100",
    "jacobian --depth 50 --init orthogonal --activation linear relu --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = {"depth": "layers", "width": "units per layer", "draws": "networks per curve"}
    options.add_numbers(parser, JacobianSpec, **what)
    known = "rectifiers only, prelu:SLOPE and leaky-relu:SLOPE included"
    options.add_names(parser, JacobianSpec, known=known)


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    spec = JacobianSpec(**options.spec_fields(arguments, "depth", "width", "draws"))
    session.prepare_out()
    device = theory.float64_device(spec.device)
    with session.draws_progress() as on_progress:
        values = theory.singular_values(spec, on_progress)
    table = theory.jacobian(spec, values=values)
    return Answer(
        spec=spec.as_dict(),
        device=device.type,
        document={"curves": table.to_dict("records")},
        show=[figures.jacobian_table(table)],
        tables={"jacobian.csv": table, "singular_values.csv": values},
        figures={"jacobian": partial(figures.jacobian_figure, values, table)},
    )
