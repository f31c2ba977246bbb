"""``phase``: the phase diagram (σ_w², σ_b²) with the initializers marked."""

from __future__ import annotations

import argparse
from functools import partial

import figures
import theory
from commands import options
from commands.answer import Answer, Session
from theory.specs import PhaseSpec

PURPOSE = "The phase diagram (σ_w², σ_b²): ordered, critical and chaotic, initializers marked."
EXAMPLES = (
    "phase",
    "phase --activation tanh relu --width 256",
    "phase --activation elu --sigma-b 0.3",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_numbers(parser, PhaseSpec, width="fan_in and fan_out")
    options.add_names(parser, PhaseSpec, marked="marked; ", but="pytorch")
    options.add_sigma_b(parser, "std of the marked networks' biases")
    parser.add_argument(
        "--max-bias-variance", type=float, default=1.0, metavar="V", help="end of the σ_b² axis (1)"
    )


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    a = arguments
    spec = PhaseSpec(tuple(a.activation), tuple(a.init), a.width, a.sigma_b, a.max_bias_variance)
    session.prepare_out()
    theory.resolve_device(arguments.device)  # a missing one is said before the work
    marks = theory.law.phase.marks(spec)
    contours = theory.law.phase.contours(spec)
    critical = theory.law.phase.critical_line(spec)
    return Answer(
        spec=spec.as_dict(),
        document={
            "initializers": marks.to_dict("records"),
            "critical_line": critical.to_dict("records"),
        },
        show=[figures.phase_table(marks), figures.critical_table(critical)],
        tables={"phase.csv": marks, "phase_contours.csv": contours},
        figures={"phase": partial(figures.phase_figure, contours, marks)},
    )
