"""Where the records of a cell are.  This module imports neither torch nor numpy."""

from __future__ import annotations

from pathlib import Path

from empirical.protocol import StudySpec, TrainSpec

RESULT = "result.json"


def cell_folder(out: Path, spec: TrainSpec) -> Path:
    """The folder of the records of ``spec`` under ``out``."""
    return out / "cells" / spec.cell_id


def needs_data(spec: StudySpec) -> bool:
    """Whether a cell of ``spec`` has no result yet, by the files' names alone."""
    try:
        return not all((cell_folder(spec.out, cell) / RESULT).exists() for cell in spec.cells())
    except OSError:  # no permission to look
        return True
