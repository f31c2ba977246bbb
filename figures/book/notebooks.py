"""Notebooks run from a program: by a kernel of this Python, in a folder, a failing cell in one line."""

from __future__ import annotations

import re
from pathlib import Path

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from theory.errors import WorkError

COLOR = re.compile(r"\x1b\[[\d;]*m")


def run(made: NotebookNode, folder: Path, name: str, *, seconds: int | None = None) -> None:
    """Run all cells of ``made`` in ``folder``, and keep what they show in it.

    ``seconds`` is how long a cell may take.  Raises ``WorkError`` that names the notebook where a cell
    fails.
    """
    client = NotebookClient(
        made,
        kernel_name="python3",
        record_timing=False,
        timeout=seconds,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
    )
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        said = COLOR.sub("", str(error)).strip().splitlines()[-1]
        raise WorkError(f"{name} cannot be executed: {said}") from error
