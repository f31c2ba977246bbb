"""``explorer``: a page whose sliders move the exact law of a random network and its point on the map
of which networks train, and a study's results.
"""

from __future__ import annotations

import argparse

import figures
from commands import options
from commands.answer import Answer, Session
from figures.files import write_text
from theory.errors import check_whole

PURPOSE = (
    "One HTML page to explore the theory with sliders, with the map of which networks train and the "
    "study's results beside it."
)
EXAMPLES = (
    "explorer",
    "explorer --records runs/cifar",
    "explorer --records figures/data runs/more --seed 7 --out site",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_records(parser, otherwise="; without one the page has theory alone")


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    folders = options.chosen_records(arguments.records, needed=False)
    check_whole("seed", arguments.seed, 0, figures.explorer.MAX_SEED)
    session.prepare_out()
    study = options.read_records(folders, session).study if folders else None
    maps = figures.explorer.frontier_maps(figures.beyond.published.published_map())
    text = figures.explorer.page(study, maps, seed=arguments.seed)
    target = session.out / "explorer.html"
    write_text(target, text)
    named = ", ".join(map(str, folders))
    cells = 0 if study is None else study["cell"].nunique()
    holds = f"the {cells} cells of {named}" if folders else "theory alone, as there are no records"
    return Answer(
        spec={"records": [str(folder) for folder in folders], "seed": arguments.seed},
        document={"explorer": str(target), "bytes": len(text.encode()), "cells": cells},
        show=[f"The page holds {holds}. Any browser opens it; it asks the network for nothing."],
        paths=[target],
    )
