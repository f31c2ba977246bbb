"""Tables that never cut a number: names fold, and columns that a narrow terminal can do without go.

rich shortens what does not fit with an ellipsis, and half a number is a wrong number.  Here a column
with ``no_wrap`` keeps its full width; the others fold.  What still does not fit drops the columns
named in ``spare``, one after the other, and the caption says so.  Title and caption stand outside the
table: rich would wrap them to its width, which may be that of three numbers.  The heading of a section
runs over all columns, for which rich has no row: a mark stands in for it until the table is drawn.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.constrain import Constrain
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from figures.prose import listed

NAME_ROOM = 10  # how far the first column may be folded before a spare column goes
READABLE = 80  # columns of the terminal that a note may always take
MARK = "\ue000"  # stands in a table where the heading of a section is to be


class FittingTable(Table):
    """A table in the project's look that fits itself into the terminal when it is shown.

    ``rooms`` has the header of a column that folds, and how far it may before a spare column goes: else
    to its longest word, and the first one to NAME_ROOM.
    """

    def __init__(
        self,
        title: str,
        *,
        caption: str | None = None,
        spare: tuple[str, ...] = (),
        rooms: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(
            title=title,
            caption=caption,
            box=box.SIMPLE_HEAD,
            padding=(0, 1),
            pad_edge=False,
        )
        self.spare, self.rooms = spare, rooms or {}
        self.headings: list[str] = []

    def add_heading(self, heading: str) -> None:
        """Add a row that holds nothing but ``heading``, in bold, over all columns."""
        self.headings.append(heading)
        self.add_row(MARK)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = self.fitted(options.max_width)
        title, caption, table.title, table.caption = table.title, table.caption, None, None
        drawn = Table.__rich_console__(table, console, options)
        # a table yields nothing but segments
        lines = list(Segment.split_lines(part for part in drawn if isinstance(part, Segment)))
        headings = iter(self.headings)
        if title:
            yield Text(str(title), style="bold")
        for line in lines:
            if any(part.text.startswith(MARK) for part in line):
                yield Padding(Text(next(headings), style="bold"), (0, 0, 0, 1), expand=False)
            else:
                yield from (*line, Segment.line())
        if caption:
            width = max(map(Segment.get_line_length, lines), default=0)
            yield Constrain(Text(str(caption), style="dim"), max(width, READABLE))

    def fitted(self, width: int) -> FittingTable:
        """This table without the spare columns for which ``width`` has no room."""
        result, dropped = copy.copy(self), []
        for name in self.spare:
            if self._least_width(result.columns) <= width:
                break
            kept = [column for column in result.columns if column.header != name]
            if len(kept) < len(result.columns):
                dropped.append(name)
            result.columns = kept
        result.columns = [replace(one, _index=index) for index, one in enumerate(result.columns)]
        if dropped:
            note = f"A wider terminal also shows {' '.join(listed(dropped).split())}."
            result.caption = f"{self.caption}\n{note}" if self.caption else note
        return result

    def _least_width(self, columns: list[Column]) -> int:
        """Columns of the terminal below which a number would be cut, or the names be folded too far."""
        _, right, _, left = self.padding
        between = 1 + left + right
        rooms = [self._room(column, first=not index) for index, column in enumerate(columns)]
        return sum(rooms) + between * (len(columns) - 1) + 2  # the box has an edge on either side

    def _room(self, column: Column, *, first: bool) -> int:
        texts = [str(cell) for cell in (column.header, *column.cells)]
        lines = [line for text in texts for line in text.splitlines()]
        whole = max(map(cell_len, lines), default=0)
        if column.width is not None:
            return column.width
        if column.no_wrap:
            return whole
        longest_word = max((cell_len(word) for line in lines for word in line.split()), default=0)
        return min(whole, self.rooms.get(str(column.header), NAME_ROOM if first else longest_word))
