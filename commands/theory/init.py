"""``init``: draw a network as theory asks, and audit it."""

from __future__ import annotations

import argparse
from functools import partial

import figures
import theory.audit
from commands.answer import Answer, Session
from commands.theory.audit import add_network, apart, findings, network, spec_of

PURPOSE = "Draw the weights of your own network as theory asks, and say what was done and why."
EXAMPLES = (
    "init torchvision.models:vit_b_16 --input 2,3,224,224",
    "init net.py:Net --input 64,784 --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_network(parser)


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    model, inputs = network(arguments)
    session.prepare_out()
    with apart():
        done = theory.audit.initialize(model, inputs, arguments.classes, seed=arguments.seed)
    return Answer(
        spec=spec_of(arguments),
        document={"parameters": done.table.to_dict("records"), "audit": done.audit.as_dict()},
        show=[
            figures.initialized_table(done),
            figures.layers_table(done.audit),
            *findings(done.audit),
        ],
        figures={"audit": partial(figures.audit_figure, done.audit)},
    )
