"""``phase``: the phase diagram (σ_w², σ_b²) with the initializers marked."""

from __future__ import annotations

import argparse
from functools import partial

from commands import options
from commands.answer import Answer, Session
from theory.mean_field_specs import PHASE_ACTIVATIONS, PhaseSpec

PURPOSE = "The phase diagram (σ_w², σ_b²): ordered, critical and chaotic, initializers marked."
EXAMPLES = (
    "phase",
    "phase --activation tanh relu --width 256",
    "phase --activation elu --sigma-b 0.3",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_number(parser, "--width", 512, "fan_in and fan_out")
    options.add_activations(parser, *PHASE_ACTIVATIONS)
    options.add_initializers(parser, "he", "xavier", "normal", before="marked; ", but=" but pytorch")
    options.add_sigma_b(parser, "std of the marked networks' biases")
    parser.add_argument(
        "--max-bias-variance", type=float, default=1.0, metavar="V", help="end of the σ_b² axis (1)"
    )


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    a = arguments
    spec = PhaseSpec(tuple(a.activation), tuple(a.init), a.width, a.sigma_b, a.max_bias_variance)
    session.prepare_out()
    from figures.theory.phase import critical_table, phase_figure, phase_table
    from theory.devices import resolve_device
    from theory.law import phase

    resolve_device(arguments.device)  # a missing one is said before the work
    marks, contours, critical = phase.marks(spec), phase.contours(spec), phase.critical_line(spec)
    return Answer(
        spec=spec.as_dict(),
        device=arguments.device,
        document={
            "initializers": marks.to_dict("records"),
            "critical_line": critical.to_dict("records"),
        },
        show=[phase_table(marks), critical_table(critical)],
        tables={"phase.csv": marks, "phase_contours.csv": contours},
        figures={"phase": partial(phase_figure, contours, marks)},
    )
