"""The two ways a request can fail, so that every caller can tell them apart."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping


class RequestError(ValueError):
    """The request itself is wrong: an unknown name, an impossible value, missing or damaged data.

    The message is one line that says what is wrong and what would be right.
    """


class WorkError(RuntimeError):
    """The request was right, but the work could not be finished: disk full, out of memory."""


def unknown_name(
    kind: str, name: str, known: Iterable[str], others: Mapping[str, str] | None = None
) -> RequestError:
    """A ``RequestError`` for an unknown ``name``, with the nearest valid ones and the whole list.

    ``others`` are names that the field has for some of the ``known``.
    """
    known = list(known)
    return RequestError(
        f"unknown {kind} {name!r}: {nearest(name, known, others)}valid names are {', '.join(known)}"
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

    >>> check_whole("depth", 30, 1, 100)
    30
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise RequestError(f"{what} must be a whole number from {low} to {high:,}, not {value}")
    return value


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
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise RequestError(f"{what} must be a finite number {range_text}, not {value}")
    if value < low or (open_low and value == low) or value > high:
        raise RequestError(f"{what} must be {range_text}, not {value}")
    return float(value)


def check_choice(what: str, value: str, choices: Iterable[str]) -> str:
    """``value`` if it is among ``choices``, else a ``RequestError`` that names the nearest."""
    choices = list(choices)
    if value not in choices:
        raise unknown_name(what, value, choices)
    return value
