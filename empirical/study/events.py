"""What a running study tells whoever waits for it: plain values, which travel between processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from empirical.protocol import TrainSpec


@dataclass(frozen=True)
class StudyPlanned:
    """Before the first cell: how many cells there are and how many are finished already."""

    cells: int
    finished: int
    out: Path


@dataclass(frozen=True)
class OfCell:
    """Of the cell ``spec``, number ``index`` of ``total``."""

    spec: TrainSpec
    index: int
    total: int


@dataclass(frozen=True)
class CellStarted(OfCell):
    """A cell begins (``epoch`` 0) or goes on after ``epoch`` finished epochs."""

    epoch: int


@dataclass(frozen=True)
class StepDone(OfCell):
    """Some steps further: where the cell and the study are.

    ``loss`` is the mean of the last steps; ``seconds_left`` is an estimate for all cells that are left,
    None until there is a speed to go by; ``test_accuracy`` (percent) is that of the cell's last
    finished epoch, None in its first.
    """

    epoch: int
    images: int
    images_per_epoch: int
    loss: float
    images_per_second: float
    seconds_left: float | None
    test_accuracy: float | None = None


@dataclass(frozen=True)
class EpochDone(OfCell):
    """An epoch is finished and safe on disk; ``row`` holds ``records.cell.EPOCH_COLUMNS``.

    The speed and the time left are those of its last steps; ``at_once`` cells are trained side by side.
    """

    row: dict[str, Any]
    images_per_second: float | None = None
    seconds_left: float | None = None
    at_once: int = 1


@dataclass(frozen=True)
class CellFinished(OfCell):
    """A cell ended; ``result`` is its result.json.  ``skipped``: it was finished before."""

    result: dict[str, Any]
    skipped: bool

    @property
    def diverged(self) -> bool:
        """Whether its loss became non-finite: a result, not a failure."""
        return bool(self.result["status"] == "diverged")


@dataclass(frozen=True)
class CellWaiting(OfCell):
    """Another process works on this cell, and nothing else is left to do."""


@dataclass(frozen=True)
class RecordDamaged:
    """A record was bad, for ``reason``; ``moved_to`` is where it was set aside (None: left there)."""

    cell: str
    reason: str
    moved_to: Path | None


@dataclass(frozen=True)
class WorkerLost(OfCell):
    """``worker`` ended, for ``reason``, while it trained this cell, which another goes on with."""

    worker: str
    reason: str


@dataclass(frozen=True)
class WorkersAwaited:
    """No worker has come to ``place`` yet, or none is left there."""

    place: str


Event = OfCell | StudyPlanned | RecordDamaged | WorkersAwaited
OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """For whoever does not wait for it."""
