"""What a command is given and what it hands back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from rich.console import RenderableType

    from empirical.study.events import Event

# A figure, or what draws it when it is about to be written.
Picture: TypeAlias = "Figure | Callable[[], Figure]"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """All that a command found out, for cli.py to show, to write and to list.

    ``spec``, the environment of ``device`` (None: as in --device) and ``document`` are the JSON
    document, in this order.  The
    tables are written first, then the figures, each in the order of its dictionary.  A
    ``figures.tables.Sheet`` in ``show`` is written too, as LaTeX and Markdown, and its data as CSV
    unless ``tables`` has a file of that name.
    """

    spec: dict[str, Any]
    document: dict[str, Any]
    show: list[RenderableType]
    device: str | None = None
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)  # file name -> table
    figures: dict[str, Picture] = field(default_factory=dict)  # file stem -> picture
    paths: list[Path] = field(default_factory=list)  # what the work itself has written
    alarm: bool = False  # a finding as grave as --fail-on: an exit code of its own


class Session(Protocol):
    """What cli.py offers to a running command."""

    @property
    def out(self) -> Path:
        """The output folder."""

    def prepare_out(self) -> None:
        """Create the output folder and prove that it can be written, before any long work."""

    def draws_progress(
        self, what: str = "drawing networks"
    ) -> AbstractContextManager[Callable[[int, int], None] | None]:
        """What to call with the draws done and all draws; None with --quiet."""

    def study_progress(self) -> AbstractContextManager[Callable[[Event], None]]:
        """What to call with every event of a study."""
