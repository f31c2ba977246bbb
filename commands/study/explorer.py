"""``explorer``: a page whose sliders move the exact law of a random network, and a study's results."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from commands import options
from commands.answer import Answer, Session
from theory.errors import RequestError

if TYPE_CHECKING:
    import pandas as pd

PURPOSE = "One HTML page to explore the theory with sliders, and the study's results beside it."
EXAMPLES = (
    "explorer",
    "explorer --records runs/cifar",
    "explorer --records figures/data runs/more --seed 7 --out site",
)
DATA = options.PUBLISHED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_records(parser, otherwise="; without one the page has theory alone")


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    folders = chosen_folders(arguments.records)
    from figures.explorer import page
    from figures.explorer.build import MAX_SEED
    from figures.files import write_text
    from theory.errors import check_whole

    check_whole("seed", arguments.seed, 0, MAX_SEED)
    session.prepare_out()
    study = read_study(folders, session) if folders else None
    text = page(study, seed=arguments.seed)
    target = session.out / "explorer.html"
    write_text(target, text)
    named = ", ".join(map(str, folders))
    cells = 0 if study is None else study["cell"].nunique()
    holds = f"the {cells} cells of {named}" if folders else "theory alone, as there are no records"
    return Answer(
        spec={"records": [str(folder) for folder in folders], "seed": arguments.seed},
        device=arguments.device,
        document={"explorer": str(target), "bytes": len(text.encode()), "cells": cells},
        show=[f"The page holds {holds}. Any browser opens it; it asks the network for nothing."],
        paths=[target],
    )


def chosen_folders(named: list[Path] | None) -> list[Path]:
    """The folders of records; none where none is named and this copy has no published study."""
    if named is None:
        return [DATA] if DATA.is_dir() else []
    for folder in named:
        if not folder.is_dir():
            raise RequestError(
                f"--records {folder} is no folder: name the --out of a cifar run, or published tables"
            )
    return named


def read_study(folders: list[Path], session: Session) -> pd.DataFrame:
    """The epochs of every finished cell in ``folders``; ``RequestError`` if there is none."""
    from empirical.records import published

    with session.study_progress() as on_event:
        study = published.gather(folders, on_event).study
    if study.empty:
        named = ", ".join(map(str, folders))
        raise RequestError(f"no finished cell in {named}: cifar trains them, and resumes")
    return study
