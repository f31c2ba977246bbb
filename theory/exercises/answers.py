"""A student's answer beside the right one: whether it is right, and what is off if not.

Where the answer is a function, it is tried on cases; where it is a number or a word, it is compared.
A wrong answer that is a known slip gets the slip's explanation; any other the first case in which it
differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

TOLERANCE = 1e-3  # relative, of a number that is right


@dataclass(frozen=True)
class Checked:
    """Whether an answer is right, and what is off."""

    right: bool
    says: str

    def __repr__(self) -> str:
        return f"{'right' if self.right else 'not yet'}: {self.says}"


@dataclass(frozen=True)
class Slip:
    """A wrong answer that is near at hand, and what is wrong with it."""

    answer: Any
    says: str


@dataclass(frozen=True)
class Exercise:
    """One exercise: its lesson, what it asks for, and what is right.

    truth  a function of the arguments of ``cases``; without cases, the answer itself
    """

    lesson: int
    asks: str
    truth: Any
    cases: Sequence[tuple[Any, ...]] = ()
    slips: tuple[Slip, ...] = ()
    tolerance: float = TOLERANCE

    def check(self, answer: Any) -> Checked:
        """Whether ``answer`` is right; a function that raises is not."""
        if self.cases and not callable(answer):
            return Checked(False, f"a function of {len(self.cases[0])} arguments is asked for")
        wrong = self._differs(answer)
        if not wrong:
            return Checked(True, self.asks)
        for slip in self.slips:
            if self._same(answer, slip.answer):
                return Checked(False, slip.says)
        return Checked(False, wrong)

    def _differs(self, answer: Any) -> str:
        """Where the answer is wrong first; empty if it is nowhere."""
        if not self.cases:
            return "" if _close(answer, self.truth, self.tolerance) else f"{answer!r} is not it"
        for case in self.cases:
            named = ", ".join(_named(one) for one in case)
            try:
                found = answer(*case)
            except Exception as error:  # the student's function may do anything
                return f"for {named} it raises {type(error).__name__}: {error}"
            right = self.truth(*case)
            if not _close(found, right, self.tolerance):
                return f"for {named} it gives {_short(found)}, and {_short(right)} is right"
        return ""

    def _same(self, answer: Any, slip: Any) -> bool:
        try:
            return all(
                _close(answer(*case), slip(*case), self.tolerance) for case in self.cases
            ) if self.cases else _close(answer, slip, self.tolerance)  # fmt: skip
        except Exception:
            return False


def _close(found: Any, right: Any, tolerance: float) -> bool:
    if isinstance(right, str):
        return isinstance(found, str) and found.strip().lower() == right
    try:
        return bool(np.allclose(np.asarray(found, float), right, rtol=tolerance, atol=1e-12))
    except (TypeError, ValueError):
        return False


def _named(value: Any) -> str:
    return str(getattr(value, "__name__", None) or _short(value))


def _short(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, (float, np.floating)) else repr(value)


def compared(function: Callable[..., Any], *cases: tuple[Any, ...]) -> dict[str, Any]:
    """``truth`` and ``cases`` of an exercise that asks for a function."""
    return {"truth": function, "cases": cases}
