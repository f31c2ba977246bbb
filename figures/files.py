"""Files that are whole or not there, also where several processes write the same one at once."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A file to write inside the block, which then takes ``path``'s place; after an error it is gone.

    It is no other process's, so that the last of several that write the same file wins, whole.
    """
    unique = f"{os.getpid()}-{secrets.token_hex(4)}"
    partial = path.with_name(f".{path.stem}.{unique}.partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole file in UTF-8 with Unix line ends, or nothing."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file, or nothing."""
    with written_whole(path) as partial:
        partial.write_bytes(content)
