"""What a prediction rests on: the names that its rows carry."""

from __future__ import annotations

EXACT = "exact"
INFINITE_WIDTH = "infinite width"
INFINITE_BATCH = "infinite batch"
HELD_WEIGHTS = "held weights"
SHARED_WEIGHTS = "shared weights"
MEASURED_FACTOR = "measured factor"
NO_CLOSED_FORM = "no closed form"
BASES = (
    INFINITE_WIDTH, INFINITE_BATCH, HELD_WEIGHTS, SHARED_WEIGHTS, MEASURED_FACTOR, NO_CLOSED_FORM
)  # fmt: skip


def basis_name(basis: frozenset[str]) -> str:
    """``basis`` in words, in the order of ``BASES``."""
    return " + ".join(name for name in BASES if name in basis) or EXACT
