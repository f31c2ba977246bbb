"""The command line in words that can be pasted: the program in the form it was started in."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

FALLBACK = ("python", "cli.py")  # in a notebook or a test, where no command line is running


def program() -> tuple[str, ...]:
    """How this program was started: by uv, as a script, as a module or by its console script.

    After ``uv run cli.py`` the packages are in uv's environment, and ``python cli.py`` finds none.
    """
    started = Path(sys.argv[0] if sys.argv else "")
    main = getattr(sys.modules.get("__main__"), "__spec__", None)  # None of a script, as of ``-c``
    if started.stem not in ("cli", "fanin"):
        return FALLBACK
    by_uv = "UV_RUN_RECURSION_DEPTH" in os.environ
    python = "python" if by_uv else sys.orig_argv[0]
    if main is not None and main.name == "cli":
        words: tuple[str, ...] = (python, "-m", "cli")
    elif started.suffix == ".py":
        words = (sys.argv[0],) if by_uv else (python, sys.argv[0])
    else:
        words = ("fanin",) if by_uv or _found_by_name(started) else (sys.argv[0],)
    return ("uv", "run", *words) if by_uv else words


def command_line(arguments: str = "") -> str:
    """The program and its ``arguments``, which are a piece of command line already.

    >>> command_line("cifar --init he")
    'python cli.py cifar --init he'
    """
    return f"{shlex.join(program())} {arguments}".rstrip()


def training_line(arguments: str, folders: Sequence[Path]) -> str:
    """The command that trains beside what is recorded: in the first run folder of ``folders``, if any.

    >>> training_line("cifar --preset head", [])
    'python cli.py cifar --preset head'
    """
    runs = [folder for folder in folders if (folder / "cells").is_dir()]
    return command_line(f"{arguments} --out {shlex.quote(str(runs[0]))}" if runs else arguments)


def _found_by_name(script: Path) -> bool:
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    first = next((Path(one) for one in folders if (Path(one) / script.name).is_file()), None)
    return first is not None and first.resolve() == script.parent.resolve()
