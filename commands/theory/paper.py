"""``paper``: the paper's statements, recomputed."""

from __future__ import annotations

import argparse

from commands.answer import Answer, Session

PURPOSE = "He et al.'s statements on initialization: published, computed here, agree?"
EXAMPLES = ("paper", "paper --json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None but those of every command."""


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    session.prepare_out()
    from figures.theory.paper import paper_figure, paper_table
    from theory.devices import resolve_device
    from theory.lessons.paper import paper

    resolve_device(arguments.device)  # a missing one is said before the work
    table = paper()
    return Answer(
        spec={},
        device=arguments.device,
        document={"statements": table.to_dict("records")},
        show=[paper_table(table)],
        tables={"paper.csv": table},
        figures={"paper": paper_figure},
    )
