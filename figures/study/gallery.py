"""The index of the study's pictures: what each shows, from how many cells, and what is missing.

One row per figure, the course report's eight first.  A picture that cannot be drawn at all is a gap:
its row is there, with the cells it lacks and the command that makes them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.text import Text

from empirical.judgment.selection import Selection, select
from empirical.records.published import Published
from figures import paired
from figures.paired.paired import Paired, describe
from figures.paired.report_figures import REPORT
from figures.program import training_line
from figures.prose import note
from figures.tables import Column, Sheet, to_train, words


def find_figures() -> dict[str, Paired]:
    """``FIGURES`` of every module of ``figures.paired``, in the order of their places."""
    names = [f"{paired.__name__}.{module.name}" for module in pkgutil.iter_modules(paired.__path__)]
    modules = map(importlib.import_module, names)
    found = [item for module in modules for item in getattr(module, "FIGURES", {}).items()]
    return dict(sorted(found, key=lambda item: item[1].place))


SECTIONS = {"The course report's figures": REPORT, "Theory beside practice": find_figures()}
COLUMNS = {
    "figure": "the stem of its files",
    "section": "which part of the index it belongs to",
    "shows": "in a line",
    "caption": "how it is read, with its numbers; empty for a gap",
    "cells": "trained cells that it is drawn from",
    "missing": "configurations that it lacks",
    "lacks": "which, in words",
    "command": "makes them; empty if none is missing",
    "drawn": "whether there is anything to draw",
}


@dataclass(frozen=True)
class Gallery:
    """The figures that the records allow, and the index of all (columns: ``COLUMNS``)."""

    index: pd.DataFrame
    figures: dict[str, Paired]


def gallery(published: Published, folders: Sequence[Path] = ()) -> Gallery:
    """Every figure of the study; ``folders`` are where the records come from (for the commands)."""
    selections: dict[str, Selection] = {}
    rows, drawable = [], {}
    for section, figures in SECTIONS.items():
        for name, figure in figures.items():
            chosen = selections.setdefault(figure.preset, select(published, figure.preset))
            used, missing = figure.used(published), figure.missing(published)
            drawn = not used.cells.empty
            row = (
                name,
                section,
                figure.title,
                figure.caption(published),
                len(used.cells),
                len(missing),
                describe(missing, figure.preset),
                training_line(chosen.command, folders) if missing else "",
                drawn,
            )
            rows.append(row)
            if drawn:
                drawable[name] = figure
    return Gallery(pd.DataFrame(rows, columns=list(COLUMNS)), drawable)


def joined(index: pd.DataFrame, rows: Sequence[tuple[object, ...]]) -> pd.DataFrame:
    """The index with the ``rows`` of further pictures (``COLUMNS``)."""
    return pd.concat([index, pd.DataFrame(rows, columns=list(COLUMNS))], ignore_index=True)


def index_table(index: pd.DataFrame) -> Sheet:
    """A row per figure of ``Gallery.index``."""
    return Sheet(
        name="figures",
        title="Figures",
        data=index,
        columns=(
            words("figure", "figure", folds=False),
            words("shows", "shows"),
            Column("cells", "cells"),
            Column("missing", "missing", lambda count: Text(str(count), style="yellow" * bool(count))),
        ),
        section=lambda row: str(row["section"]),
        notes=gap_notes(index),
        spare=("missing",),
    )


def gap_notes(index: pd.DataFrame) -> tuple[str, ...]:
    """For each command, the figures that it would complete, or make possible."""
    lacking = index[index["missing"] > 0]
    found = []
    for command, rows in lacking.groupby("command", sort=False):
        gaps = list(rows.loc[~rows["drawn"], "figure"])
        partly = list(rows.loc[rows["drawn"], "figure"])
        lacks = dict.fromkeys(part for words in rows["lacks"] for part in words.split("; "))
        preset = str(command).partition("--preset ")[2].split()[0]
        found.append(note("missing", preset=preset, lacks=lacks, gaps=gaps, partly=partly))
    return tuple(found)


def how_to_complete(index: pd.DataFrame) -> Text | None:
    """The commands that make what is missing, a line each, to be copied whole; None if nothing is."""
    return to_train(index.loc[index["missing"] > 0, "command"])


def published_table(published: Published) -> Sheet:
    """What was published: a row per kind of cell."""
    cells = published.cells.assign(diverged=published.cells["status"] == "diverged")
    rows = cells.groupby(["initializer", "activation", "variant"], sort=False).agg(
        cells=("cell", "size"),
        depths=("depth", lambda depths: " ".join(map(str, sorted(set(depths))))),
        seeds=("seed", "nunique"),
        diverged=("diverged", "sum"),
    )
    return Sheet(
        name="published",
        title=f"Published: {len(cells)} cells",
        data=rows.reset_index(),
        columns=(
            words("init", "initializer", folds=False),
            words("activation", "activation", folds=False),
            words("protocol", "variant", form=lambda text: text or "as printed"),
            words("depths", "depths", folds=False),
            Column("seeds", "seeds"),
            Column("cells", "cells"),
            Column("diverged", "diverged"),
        ),
        spare=("seeds", "diverged"),
    )
