"""One description of a table, and every way in which it is written.

A command describes each of its tables once, as a ``Sheet``: title, notes, columns with what they show
and how it is written, rows and their sections.  From it come

    the terminal    rich, fitted into its width (figures/fitting.py)
    LaTeX           booktabs (figures/markup.py)
    Markdown        GitHub's pipes (figures/markup.py)
    HTML            with MathML, by pandoc (figures/markup.py); a notebook shows it
    CSV and JSON    the data behind it: every row, in full precision

Maths in titles, headers and notes is LaTeX between dollars (figures/maths.py).  Numbers that may lie
outside float64 come as log10 and are written out from there.  Layers are thinned so that a deep stack
still fits a screen; the CSV always has all of them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import pandas as pd
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from figures.fitting import FittingTable
from figures.markup import html_table, in_terminal, latex_table, markdown_table
from figures.maths import terminal
from figures.style import some_layers

PLAIN_WIDTH = 100  # characters of a table as a notebook's plain text
LAYERS_SHOWN = 7
ALARM = 4.0  # standard errors beyond which a deviation is red

Row: TypeAlias = Mapping[Hashable, Any]


@dataclass(frozen=True)
class Column:
    """One column: its name, what it shows of a row, and how that is written.

    ``source`` is a column of the data, or a function of the row.  Numbers stand right and are never
    cut; a column that ``folds`` holds words, which may be broken over lines (at ``width``, if given):
    down to ``room`` before a spare column goes.
    """

    name: str
    source: Hashable | Callable[[Row], Any]
    form: Callable[[Any], str | Text] = str
    align: Literal["left", "right"] = "right"
    folds: bool = False
    width: int | None = None
    room: int | None = None

    def cell(self, row: Row) -> Text:
        """What this column shows of ``row``."""
        value = self.source(row) if callable(self.source) else row[self.source]
        written = value if isinstance(value, Text) else self.form(value)
        return written if isinstance(written, Text) else Text(written)


def words(name: str, source: Hashable | Callable[[Row], Any], **more: Any) -> Column:
    """A column of words: left, and folded where the terminal is narrow."""
    return Column(name, source, align="left", **{"folds": True} | more)


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A table as people read it, and the data behind it.

    ``rows`` are those shown, in order (all of ``data`` unless said otherwise); rows for which
    ``section`` gives the same heading stand together under it.  ``spare`` names the columns that a
    narrow terminal does without, the least important first.  ``spaced`` rows stand apart, ``tight``
    columns close together.  ``name`` is the stem of the files; ``data_file`` that of the CSV, where
    ``data`` is part of another table.
    """

    name: str
    title: str
    data: pd.DataFrame
    columns: tuple[Column, ...]
    rows: Sequence[Row] | None = None
    section: Callable[[Row], str] | None = None
    notes: Sequence[str] = ()
    spare: tuple[str, ...] = ()
    spaced: bool = False
    tight: bool = False
    data_file: str = ""

    @property
    def heading_column(self) -> int:
        """Where the headings of the sections stand: in the first column that folds."""
        return next((index for index, column in enumerate(self.columns) if column.folds), 0)

    @cached_property
    def sections(self) -> list[tuple[str, list[list[Text]]]]:
        """The headings ("" for none), each with its rows, each a cell per column."""
        found: dict[str, list[list[Text]]] = {}
        for row in self.data.to_dict("records") if self.rows is None else self.rows:
            heading = self.section(row) if self.section else ""
            found.setdefault(heading, []).append([column.cell(row) for column in self.columns])
        return list(found.items())

    def rich(self) -> FittingTable:
        """For the terminal."""
        headers = {column.name: terminal(column.name) for column in self.columns}
        spare = tuple(headers[name] for name in self.spare if name in headers)
        rooms = {
            headers[column.name]: column.room for column in self.columns if column.room is not None
        }
        notes = "\n".join(map(terminal, self.notes))
        table = FittingTable(terminal(self.title), caption=notes or None, spare=spare, rooms=rooms)
        if self.tight:
            table.padding = (0, 1, 0, 0)
        for column in self.columns:
            table.add_column(
                headers[column.name],
                justify=column.align,
                no_wrap=not column.folds,
                overflow="fold" if column.folds else "ellipsis",
                width=column.width,
            )
        for heading, rows in self.sections:
            if heading:
                table.add_heading(terminal(heading))
            for row in rows:
                table.add_row(*map(in_terminal, row), end_section=self.spaced)
            table.add_section()
        return table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.rich()

    def latex(self) -> str:
        """A LaTeX table with caption and label, to be read by \\input."""
        return latex_table(self)

    def markdown(self) -> str:
        """A table of GitHub's Markdown."""
        return markdown_table(self)

    def html(self) -> str:
        """A figure of HTML with its title, sections and notes."""
        return html_table(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """How a notebook shows it."""
        console = Console(width=PLAIN_WIDTH, file=io.StringIO(), markup=False, emoji=False)
        lines = console.render_lines(self, pad=False)
        rows = ["".join(part.text for part in line).rstrip() for line in lines]
        return {"text/html": self.html(), "text/plain": "\n".join(rows)}


def to_train(commands: Iterable[str]) -> Text | None:
    """The ``commands`` that make what is missing, a line each, to be copied whole; None without any."""
    lines = ["To train what is missing:", *dict.fromkeys(commands)]
    return Text("\n  ".join(lines), no_wrap=True, overflow="ignore") if lines[1:] else None


def shown_layers(table: pd.DataFrame, all_layers: bool) -> list[dict[Hashable, Any]]:
    """The rows of a table by layer that a terminal has room for, or all."""
    return (table if all_layers else some_layers(table, LAYERS_SHOWN)).to_dict("records")


# --------------------------------------------------------------------------- how values are written


def scientific(log10: float, digits: int = 3) -> str:
    """10**log10 with ``digits`` significant digits, at any range.

    >>> scientific(0.30103), scientific(-8.7299), scientific(2408.24), scientific(float("-inf"))
    ('2.00', '1.86e-09', '1.74e+2408', '0')
    """
    if math.isnan(log10):
        return "–"
    if log10 == -math.inf:
        return "0"
    exponent = math.floor(log10)
    mantissa = f"{10 ** (log10 - exponent):.{digits - 1}f}"
    if mantissa.startswith("10"):
        exponent, mantissa = exponent + 1, f"{1:.{digits - 1}f}"
    if -2 <= exponent < digits:
        return f"{float(mantissa) * 10.0**exponent:.{max(digits - 1 - exponent, 0)}f}"
    return f"{mantissa}e{exponent:+03d}"


def number(form: str, before: str = "") -> Callable[[float], str]:
    """Writes a number by a ``form`` of Python's, with what stands ``before`` it, and NaN as –.

    >>> number("+.2f")(3.14159), number(".4f", "×")(2.0), number(".1f")(math.nan)
    ('+3.14', '×2.0000', '–')
    """
    return lambda value: "–" if math.isnan(value) else f"{before}{value:{form}}"


def fixed(digits: int) -> Callable[[float], str]:
    """``number`` with so many decimals."""
    return number(f".{digits}f")


def standard_errors(value: float, alarm: float = ALARM) -> Text:
    """A deviation in standard errors, red beyond ``alarm``; – where there is none."""
    if not math.isfinite(value):
        return Text("–")
    return Text(f"{value:+.1f}", style="red" if abs(value) > alarm else "")


def curve_label(row: Row) -> str:
    """Initializer and activation of a row.

    >>> curve_label({"initializer": "he", "activation": "relu"})
    'he · relu'
    """
    return f"{row['initializer']} · {row['activation']}"


def duration(seconds: float) -> str:
    """Seconds in words for people.

    >>> duration(42), duration(200), duration(8000)
    ('42 s', '3 min 20 s', '2 h 13 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
