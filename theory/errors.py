"""The two ways a request can fail, so that every caller can tell them apart."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Iterable, Mapping
from numbers import Real


class RequestError(ValueError):
    """The request itself is wrong: an unknown name, an impossible value, missing or damaged data.

    The message is one line that says what is wrong and what would be right.
    """


class WorkError(RuntimeError):
    """The request was right, but the work could not be finished: disk full, out of memory."""


LISTED = 40  # names in an error


def unknown_name(
    kind: str, name: str, known: Iterable[str], others: Mapping[str, str] | None = None
) -> RequestError:
    """A ``RequestError`` for an unknown ``name``, with the nearest valid ones and the whole list.

    ``others`` are names that the field has for some of the ``known``.
    """
    known = list(known)
    valid = ", ".join(known[:LISTED]) + f" and {len(known) - LISTED} more" * (len(known) > LISTED)
    return RequestError(
        f"unknown {kind} {name!r}: {nearest(name, known, others)}valid names are {valid}"
    )


def nearest(name: str, known: Iterable[str], others: Mapping[str, str] | None = None) -> str:
    """A question for the names among ``known`` that ``name`` may stand for; empty if none is near.

    >>> nearest("varience", ["variance", "gains"])
    'did you mean variance? '
    >>> nearest("kaiming_normal", ["he", "lecun"], {"kaiming": "he", "kaiming-normal": "he"})
    'did you mean he? '
    """
    others = others or {}
    text = name.strip().lower().replace("_", "-")
    near = difflib.get_close_matches(text, [*known, *others], n=3, cutoff=0.6)
    meant = list(dict.fromkeys(others.get(one, one) for one in ([text] if text in others else near)))
    return f"did you mean {' or '.join(meant)}? " if meant else ""


def check_whole(what: str, value: object, low: int, high: int) -> int:
    """``value`` as an int, or a ``RequestError`` unless it is a whole number in [low, high].

    What Python takes for an index is one, numpy's integers too, and True is not.

    >>> check_whole("depth", 30, 1, 100)
    30
    """
    try:
        whole = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        whole = None
    if whole is None or not low <= whole <= high:
        raise RequestError(f"{what} must be a whole number from {low} to {high:,}, not {value}")
    return whole


def check_real(
    what: str, value: object, low: float, high: float = math.inf, *, open_low: bool = False
) -> float:
    """``value`` as a finite float in [low, high] (or (low, high]), or a ``RequestError``.

    >>> check_real("learning rate", 1e-3, 0, 10, open_low=True)
    0.001
    """
    range_text = f"above {low:g}" if open_low else f"at least {low:g}"
    if high != math.inf:
        range_text += f" and at most {high:g}"
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise RequestError(f"{what} must be a finite number {range_text}, not {value}")
    number = float(value)
    if number < low or (open_low and number == low) or number > high:
        raise RequestError(f"{what} must be {range_text}, not {value}")
    return number


LEAST = 1e-40  # its fourth power is far above the smallest double, and it is still a float32


def check_not_tiny(what: str, value: float) -> float:
    """``value`` if it is 0 or at least ``LEAST`` in size: what is smaller, squares lose."""
    if 0 < abs(value) < LEAST:
        raise RequestError(f"{what} must be 0 or at least {LEAST:g} in size, not {value:g}")
    return value


def check_choice(what: str, value: str, choices: Iterable[str]) -> str:
    """``value`` if it is among ``choices``, else a ``RequestError`` that names the nearest."""
    choices = list(choices)
    if value not in choices:
        raise unknown_name(what, value, choices)
    return value
