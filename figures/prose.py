"""Sentences with numbers in them: templates of Jinja, strict about names.

Each is a block of ``templates/FILE.md``, whose lines become one paragraph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from empirical.arm import NAMES, Arm

LAWS = ("head_initializer", "learning_rate_reference")  # changes whose value is an initializer


def name_of(what: object) -> str:
    """An initializer, an activation or an arm as it is written in a picture.

    >>> name_of("he"), name_of(Arm("normal", (("head_initializer", "he"),))), name_of("prelu")
    ('He', 'N(0, 1), head He', 'PReLU')
    >>> name_of("normal:0.02")
    'N(0, 0.02²)'
    """
    if isinstance(what, Arm):
        named = ((field, name_of(value) if field in LAWS else value) for field, value in what.changes)
        return Arm(name_of(what.initializer), tuple(named)).label
    law, _, std = str(what).partition(":")
    return f"N(0, {std}²)" if law == "normal" and std else NAMES.get(str(what), str(what))


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


def each(rows: Iterable[Any], form: str, between: str = ", ") -> str:
    """
    >>> each([("He", 78.05), ("Xavier", 76.5)], "{} {:.1f} %")
    'He 78.0 %, Xavier 76.5 %'
    """
    return between.join(form.format(*row) for row in rows)


FILTERS: dict[str, Callable[..., Any]] = {
    "each": each,
    "listed": listed,
    "span": span,
    "law": name_of,
    "s": lambda count: "" if count == 1 else "s",
    "finite": math.isfinite,
    "f": lambda value, form: f"{value:{form}}",
    "percent": lambda share: f"{100 * share:.0f} %",
    "upperfirst": lambda text: text[:1].upper() + text[1:],
}


def environment(package: str, *, filters: dict[str, Callable[..., Any]], **options: Any) -> Environment:
    """How the templates of ``package`` are filled in: strict about names, with more ``filters``."""
    made = Environment(
        loader=PackageLoader(package),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )
    made.filters |= FILTERS | filters
    return made


_SENTENCES = environment("figures", filters={})


def said(file: str, block: str, **values: Any) -> str:
    """The ``block`` of a file of templates as one paragraph; ``UndefinedError`` for a missing value."""
    template = _SENTENCES.get_template(f"{file}.md")
    return " ".join("".join(template.blocks[block](template.new_context(values))).split())


def parts(file: str, block: str, **values: Any) -> list[str]:
    """The paragraphs of a ``block`` in which ``;;`` ends one."""
    return [part.strip() for part in said(file, block, **values).split(";;") if part.strip()]


note, notes = partial(said, "notes"), partial(parts, "notes")
