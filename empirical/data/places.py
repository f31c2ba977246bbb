"""Where the files of data sets are.

CIFAR-10 comes from ``--data-dir``, else ``$CIFAR10_DIR``, else a per-user cache.  A folder is known by
what it holds and not by its name, so ``.``, a symlink or a renamed copy will do.

This module imports neither torch nor numpy: a wrong folder is refused in milliseconds.
"""

from __future__ import annotations

import os
from pathlib import Path

from theory.errors import RequestError

FOLDER = "cifar-10-batches-py"
FILES = ("batches.meta", *(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
HOW_TO_SUPPLY = f"give the folder that holds {FOLDER} with --data-dir or $CIFAR10_DIR"


def find_cifar10(data_dir: Path | None) -> Path | None:
    """The folder with the batches of CIFAR-10, or None when they would have to be downloaded.

    ``data_dir`` and ``$CIFAR10_DIR`` may name that folder or the one that holds it under its official
    name.  A folder with any of the files counts: whoever reads it says which of them is missing.
    Raises ``RequestError`` for a folder that was named and holds none.
    """
    named = (data_dir, "--data-dir") if data_dir is not None else _named_by_environment()
    if named is None:
        cached = cache_folder() / FOLDER
        return cached if cached.is_dir() else None
    folder, source = named
    try:
        if any((folder / name).is_file() for name in FILES):
            return folder
        if (folder / FOLDER).is_dir():
            return folder / FOLDER
        problem = f"holds no {FOLDER}" if folder.is_dir() else "is no folder"
    except (OSError, ValueError) as error:  # no permission to look, or no name of a file at all
        problem = f"cannot be read ({getattr(error, 'strerror', None) or error})"
    raise RequestError(f"{source} {folder} {problem}: {HOW_TO_SUPPLY}")


def cache_folder() -> Path:
    """Where a download is kept: ``$XDG_CACHE_HOME/fanin``, or what the platform has in its place."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "fanin"
    if os.name == "nt" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"]) / "fanin" / "cache"
    return Path.home() / ".cache" / "fanin"


def _named_by_environment() -> tuple[Path, str] | None:
    value = os.environ.get("CIFAR10_DIR")
    return (Path(value), "$CIFAR10_DIR") if value else None
