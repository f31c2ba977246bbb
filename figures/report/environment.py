"""How the templates are filled in: Jinja, strict about names, with the filters that write numbers.

Whatever a template inserts is escaped for the kind of file that it makes: prose for ``model.parse``,
the page for HTML.  A value that is not there is an error, and never an empty place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from figures.report.model import escaped
from figures.report.tables import SETTINGS
from figures.study.report_figures import name_of

SMALL = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
         "eleven", "twelve")  # fmt: skip
ORDINALS = ("zeroth", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth",
            "ninth", "tenth")  # fmt: skip


class Marked(str):
    """Text that is already in the prose's own markup."""


def prose() -> Environment:
    """For the templates of the text, ``templates/prose``."""
    return _environment("templates/prose", _finished, autoescape=False)


def files() -> Environment:
    """For the templates of whole files; only those that end in .html are escaped."""
    return _environment("templates", None, autoescape=select_autoescape(("html",), default=False))


def _environment(folder: str, finalize: Callable[[Any], Any] | None, autoescape: Any) -> Environment:
    environment = Environment(
        loader=PackageLoader("figures.report", folder),
        finalize=finalize,
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= FILTERS
    return environment


def _finished(value: Any) -> str:
    return value if isinstance(value, Marked) else escaped(str(value))


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


def listed(values: Sequence[Any]) -> str:
    """
    >>> listed((2, 5, 10, 12)), listed(["a"])
    ('2, 5, 10 and 12', 'a')
    """
    *first, last = map(str, values)
    return f"{', '.join(first)} and {last}" if first else last


def span(least: int, most: int) -> str:
    """
    >>> span(1, 1), span(1, 10)
    ('1', '1 to 10')
    """
    return f"{least}" if least == most else f"{least} to {most}"


FILTERS: dict[str, Callable[..., Any]] = {
    "f": fixed,
    "g": lambda value, digits: f"{value:.{digits}g}",
    "signed": signed,
    "sci": scientific,
    "whole": whole,
    "few": few,
    "listed": listed,
    "span": span,
    "law": name_of,
    "setting": lambda value: SETTINGS.get(value, value),
    "s": lambda value: "" if value == 1 else "s",
    "isare": lambda value: "is" if value == 1 else "are",
    "ordinal": lambda value: ORDINALS[value] if value < len(ORDINALS) else f"{value}th",
    "upperfirst": lambda text: text[:1].upper() + text[1:],
}
