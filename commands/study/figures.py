"""``figures``: every picture of the study, from records alone."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

import empirical
import figures
from commands import options
from commands.answer import Answer, Session

if TYPE_CHECKING:
    from commands.answer import Picture
    from empirical.records.published import Published

PURPOSE = "Draw the course report's figures, and theory beside practice, from records; never trains."
EXAMPLES = (
    "figures",
    "figures --records runs/cifar",
    "figures --records runs/cifar runs/more --out pictures",
    "figures --records runs/cifar --publish figures/data",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_records(parser)
    parser.add_argument(
        "--publish",
        type=Path,
        metavar="DIR",
        help="instead of pictures, write the records as small tables (cells.csv, study.csv, "
        "layers.csv) and how they were made (ABOUT.md) into DIR, which --records takes as well",
    )


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    folders = options.chosen_records(arguments.records)
    if arguments.publish is None:
        session.prepare_out()
    records = options.read_records(folders, session)
    spec = {"records": [str(folder) for folder in folders], "publish": arguments.publish}
    if arguments.publish is not None:
        return _publish(arguments, records, spec)
    return _draw(arguments, folders, records, spec)


def _publish(arguments: argparse.Namespace, records: Published, spec: dict[str, Any]) -> Answer:
    paths = empirical.records.write(records, arguments.publish)
    listed = ", ".join(f"{path.name} ({path.stat().st_size / 1000:.0f} kB)" for path in paths)
    return Answer(
        spec=spec,
        document={"cells": list(records.cells["cell"]), "files": [str(path) for path in paths]},
        show=[figures.published_table(records), Text(f"Written in {arguments.publish}: {listed}")],
    )


def _draw(
    arguments: argparse.Namespace, folders: list[Path], records: Published, spec: dict[str, Any]
) -> Answer:
    found = figures.gallery(records, folders)
    missing = figures.study.gallery.how_to_complete(found.index)
    pictures: dict[str, Picture] = {
        name: partial(figure.figure, records) for name, figure in found.figures.items()
    }
    index = found.index
    beyond = figures.published_beyond() if arguments.records is None else None
    if beyond is not None:
        index = figures.study.gallery.joined(index, beyond.index())
        names = figures.beyond.published.PICTURES
        pictures |= {name: partial(beyond.figure, name) for name in names}
    return Answer(
        spec=spec,
        document={"figures": index.to_dict("records")},
        show=[figures.index_table(index), *([missing] if missing is not None else [])],
        figures=pictures,
    )
