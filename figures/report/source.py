"""The report's text in pandoc's Markdown: templates, filled in by Jinja, strict about names.

Whatever a template inserts is escaped, so that nothing in the data is markup, unless it is ``Marked``.
A value that is not there is an error, and never an empty place.  ``templates/blocks.md`` says what each
of the four documents has in the place of a table or a figure.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jinja2 import Environment

from figures import prose
from figures.markup import html_source
from figures.maths import markdown, marked
from figures.report.facts import TEXTS
from figures.tables import Sheet

if TYPE_CHECKING:
    from figures.report.report import Picture, Report

DOCUMENTS = ("html", "gfm", "latex", "ipynb")  # as pandoc names them
SMALL = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
         "eleven", "twelve")  # fmt: skip
ORDINALS = ("zeroth", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth",
            "ninth", "tenth")  # fmt: skip


class Marked(str):
    """Text that is Markdown already."""


def environment() -> Environment:
    """How the templates are filled in."""
    options = {"finalize": _finished, "keep_trailing_newline": True}
    return prose.environment("figures.report", filters=FILTERS, **options)


def _finished(value: Any) -> str:
    return value if isinstance(value, Marked) else words(str(value))


def words(text: str) -> Marked:
    """Plain text as Markdown: nothing in it is markup but its indices and powers of ten."""
    return Marked(markdown(marked(text.replace("$", r"\$"))))


@dataclass
class Source:
    """The report's text for one kind of document, and what it shows, in order."""

    to: str
    text: str = ""
    pictures: list[Picture] = field(default_factory=list)
    sheets: list[Sheet] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)


def written(report: Report, to: str, *, opening: str = "", explorer: str = "") -> Source:
    """The whole text for the document ``to``, one of ``DOCUMENTS``.

    opening   the first cell of a notebook
    explorer  the interactive part of a page
    """
    source, made = Source(to), environment()
    blocks = made.get_template("blocks.md").module

    def block(kind: str, *arguments: Any) -> Marked:
        return Marked(getattr(blocks, kind)(to, *arguments))

    def gap(text: str) -> Marked:
        source.gaps.append(text.replace("`", ""))
        return block("gap", Marked("`".join(  # what stands in backquotes is a command
            piece if place % 2 else words(piece) for place, piece in enumerate(text.split("`"))
        )))  # fmt: skip

    def table(name: str) -> Marked:
        sheet = report.table(name)
        if isinstance(sheet, str):
            return gap(sheet)
        source.sheets.append(sheet)
        return block("table", sheet)

    def figure(*names: str) -> Marked:
        drawn = [picture for name in names if (picture := report.picture(name)) is not None]
        source.pictures += drawn
        sides = ("Left: ", "Right: ") if len(drawn) == 2 else ("",) * len(drawn)
        caption = " ".join(side + one.caption for side, one in zip(sides, drawn, strict=True))
        found = [block("figure", drawn, words(caption))] if drawn else []
        return Marked("".join([*found, *map(gap, report.undrawn(names))]))

    def part(name: str) -> Marked:
        return Marked(made.get_template(f"prose/{name}.md").render().strip())

    made.globals |= report.values | {
        "to": to, "part": part, "table": table, "figure": figure, "gap": gap,
        "cell": lambda code: Marked(blocks.cell(code)),  # type: ignore[attr-defined]
        "opening": opening, "explorer": Marked(explorer),
    }  # fmt: skip
    source.text = made.get_template("document.md").render()
    return source


def code(text: str) -> Marked:
    """
    >>> code("cli.py --init normal:$1 [x]")
    '`cli.py --init normal:$1 [x]`'
    """
    around = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return Marked(f"{around} {text} {around}" if "`" in text else f"`{text}`")


# -------------------------------------------------------------------------------------- filters


def fixed(value: float, digits: int) -> str:
    """
    >>> fixed(-0.156, 2)
    '−0.16'
    """
    return f"{value:.{digits}f}".replace("-", "−")


def signed(value: float, digits: int) -> str:
    """
    >>> signed(-0.156, 2), signed(3, 1)
    ('−0.16', '+3.0')
    """
    return f"{value:+.{digits}f}".replace("-", "−")


def scientific(value: float, digits: int = 2) -> Marked:
    r"""
    >>> scientific(3.07e-5)
    '$3.1 \\times 10^{-5}$'
    """
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    return Marked(rf"${mantissa} \times 10^{{{int(exponent)}}}$")


def whole(value: int) -> str:
    """
    >>> whole(32768)
    '32,768'
    """
    return f"{value:,}"


def few(value: int) -> str:
    """
    >>> few(0), few(3), few(14)
    ('none', 'three', '14')
    """
    return SMALL[value] if value < len(SMALL) else str(value)


FILTERS: dict[str, Callable[..., Any]] = {
    "raw": Marked,
    "verbatim": Marked,
    "code": code,
    "quoted": lambda text: Marked(json.dumps(words(text), ensure_ascii=False)),
    "attribute": lambda text: Marked(html.escape(text)),
    "html_source": lambda sheet: Marked(html_source(sheet)),
    "f": fixed,
    "g": lambda value, digits: f"{value:.{digits}g}",
    "signed": signed,
    "sci": scientific,
    "whole": whole,
    "few": few,
    "setting": lambda value: TEXTS["settings"].get(value, value),
    "indent": lambda text, width: Marked(text.replace("\n", "\n" + " " * width)),
    "isare": lambda value: "is" if value == 1 else "are",
    "ordinal": lambda value: ORDINALS[value] if value < len(ORDINALS) else f"{value}th",
}
