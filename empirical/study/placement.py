"""Where the cells of a study are trained: in this process, in several, or on a Dask cluster.

``cluster.run_at`` trains there.  This module imports neither torch nor Dask: an impossible wish is
refused in milliseconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from theory.errors import RequestError, check_whole

MAX_WORKERS = 1024
ADDRESS = re.compile(r"(\w+://)?(\[[0-9a-fA-F:]+\]|[^\s/:\[\]]+):\d+/?")


@dataclass(frozen=True)
class Placement:
    """On ``workers`` processes of this machine, or on ``dask``.

    workers  processes; one is this one, None as many as suit the machine
    dask     the address of a Dask scheduler, or the path of its scheduler file
    """

    workers: int | None = 1
    dask: str | None = None

    @classmethod
    def parse(cls, workers: str | None = None, dask: str | None = None) -> Placement:
        """From the texts of --workers and --dask; ``RequestError`` for what cannot be."""
        if workers is not None and dask is not None:
            raise RequestError("--workers and --dask contradict each other: name one place to train")
        return cls(
            workers=1 if workers is None else parse_workers(workers),
            dask=None if dask is None else check_dask(dask),
        )

    @property
    def is_here(self) -> bool:
        """Whether this machine trains, so that it must have the data and the device."""
        return self.dask is None


def parse_workers(text: str) -> int | None:
    """The number in ``text``, None for ``auto``.

    >>> parse_workers("8")
    8
    """
    if text == "auto":
        return None
    if not re.fullmatch(r"[+-]?\d{1,9}", text):
        raise RequestError(f"--workers must be a whole number or auto, not {text!r}")
    return check_whole("--workers", int(text), 1, MAX_WORKERS)


def check_dask(place: str) -> str:
    """``place`` without a last slash if it says where a scheduler is, else a ``RequestError``."""
    if not (ADDRESS.fullmatch(place) or Path(place).is_file()):
        raise RequestError(
            "--dask must be the address of a scheduler such as tcp://HOST:8786, or the path of its "
            f"scheduler file, not {place!r}; on this machine, --workers N"
        )
    return place.rstrip("/")
