"""``paper``: the paper's statements, recomputed."""

from __future__ import annotations

import argparse

import figures
import theory
from commands.answer import Answer, Session

PURPOSE = "He et al.'s statements on initialization: published, computed here, agree?"
EXAMPLES = ("paper", "paper --json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None but those of every command."""


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    session.prepare_out()
    theory.resolve_device(arguments.device)  # a missing one is said before the work
    table = theory.paper()
    return Answer(
        spec={},
        document={"statements": table.to_dict("records")},
        show=[figures.paper_table(table)],
        tables={"paper.csv": table},
        figures={"paper": figures.paper_figure},
    )
