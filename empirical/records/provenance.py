"""Which program, on what, made a record: what a reader must know before comparing two of them.

A cell may be interrupted and go on much later: under another version of this code or of torch, on
another device, with another number of threads, or on a machine whose clock was set in the meantime.
None of this stops it; all of it is noted in its record.
"""

from __future__ import annotations

import hashlib
import time
from functools import cache
from pathlib import Path

import torch

from theory.devices import environment, project_version

CLOCK_TOLERANCE = 2.0  # seconds by which the wall clock and the monotonic one may differ


@cache
def code_digest() -> str:
    """Eight hexadecimal digits that change with any source file of theory and empirical."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    sources = (path for name in ("theory", "empirical") for path in (root / name).rglob("*"))
    for path in sorted(path for path in sources if path.suffix in (".py", ".toml")):
        digest.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:8]


def provenance(device: torch.device) -> str:
    """Everything on which the last bits of a cell depend beside its spec, in one line."""
    return (
        f"fanin {project_version()} code {code_digest()}, torch {torch.__version__}, {device.type} "
        f"({environment(device)['hardware']}), {torch.get_num_threads()} threads"
    )


def note_of_change(epoch: int, before: str, now: str) -> list[str]:
    """What to note of a cell that goes on after ``epoch`` finished epochs; nothing if nothing changed.

    >>> note_of_change(3, "torch 2.11", "torch 2.12")
    ['from epoch 4 on: torch 2.12 (before: torch 2.11)']
    """
    return [] if before in ("", now) else [f"from epoch {epoch + 1} on: {now} (before: {before})"]


class Stopwatch:
    """Seconds by the monotonic clock, and whether the wall clock agrees."""

    def __init__(self) -> None:
        self.start, self.wall = time.perf_counter(), time.time()

    def seconds(self) -> float:
        """Since this stopwatch was made; a clock that is set does not change it."""
        return time.perf_counter() - self.start

    def note(self, epoch: int) -> list[str]:
        """One note if the wall clock went another way than time did, during ``epoch``."""
        jump = time.time() - self.wall - self.seconds()
        if abs(jump) <= CLOCK_TOLERANCE:
            return []
        return [f"in epoch {epoch} the clock jumped by {jump:+.0f} s; durations are not affected"]


def note_of_clock(epoch: int, saved: float) -> list[str]:
    """One note if the clock is now behind the time at which the checkpoint was saved."""
    behind = saved - time.time()
    if behind <= CLOCK_TOLERANCE:
        return []
    return [f"after epoch {epoch} the clock is {behind:.0f} s behind the checkpoint's"]
