"""Explicit generators: every random number is a function of (seed, purpose), nothing else.

No function of this project touches the global random state.  A stream is named by the things that
it is for, for instance ``generator(0, "weights", block)``: two purposes never share numbers, and
the same purpose gets the same numbers whatever was drawn before it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MAX_SEED = 2**63 - 1


def stream_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for the stream (seed, *purpose), by SHA-256.

    >>> stream_seed(0, "weights") == stream_seed(0, "weights") != stream_seed(1, "weights")
    True
    """
    digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *purpose: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A ``torch.Generator`` on ``device`` seeded for the stream (seed, *purpose)."""
    import torch

    return torch.Generator(device=device).manual_seed(stream_seed(seed, *purpose))
