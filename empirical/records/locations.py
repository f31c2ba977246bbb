"""Where the records of a cell are.  This module imports neither torch nor numpy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from empirical.protocol import StudySpec, TrainSpec

RESULT = "result.json"


def cell_folder(out: Path, spec: TrainSpec) -> Path:
    """The folder of the records of ``spec`` under ``out``.

    Its name is the cell's id; where an earlier version has begun the cell, the id that it had then.
    """
    folder = out / "cells" / spec.cell_id
    if spec.former_id is None or (folder / RESULT).exists():
        return folder
    former = out / "cells" / spec.former_id
    return former if (former / RESULT).exists() or former.exists() > folder.exists() else folder


def needs_data(spec: StudySpec) -> bool:
    """Whether a cell of ``spec`` has no result yet, by the files' names alone."""
    try:
        return not all((cell_folder(spec.out, cell) / RESULT).exists() for cell in spec.cells())
    except OSError:  # no permission to look
        return True
