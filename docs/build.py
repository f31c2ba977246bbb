"""The site: ``uv run --group docs docs/build.py [FOLDER]`` writes it into runs/site, or into FOLDER.

Lessons are run on the way; report, explorer and the first lesson's slides are made anew beside Sphinx.
Nothing is downloaded, and no page asks for anything but what lies beside it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
MADE = {"report": ["report"], "explorer": ["explorer"], "slides": ["learn", "1", "--slides"]}


def main(out: Path) -> int:
    """The exit code of the first part that fails, or 0."""
    out = out.absolute()
    python = Path(sys.executable)
    cli = [python.name, "cli.py"]  # so that the report's commands name no folder of this machine
    parts = {name: [*cli, *words, "--quiet", "--out", str(out / name)] for name, words in MADE.items()}
    sphinx = "-m sphinx --builder html --fail-on-warning --jobs auto --quiet --doctree-dir".split()
    doctrees = str(out.with_name(f"{out.name}-doctrees"))
    parts["sphinx"] = [python.name, *sphinx, doctrees, str(DOCS), str(out)]
    out.mkdir(parents=True, exist_ok=True)
    found = f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment = os.environ | {"PATH": found, "OMP_NUM_THREADS": "1"}  # all run side by side
    where: dict[str, Any] = {"cwd": DOCS.parent, "env": environment, "stdout": subprocess.DEVNULL}
    started = time.monotonic()
    running = {name: subprocess.Popen(part, **where) for name, part in parts.items()}
    codes = {name: process.wait() for name, process in running.items()}
    for name in (name for name, code in codes.items() if code):
        sys.stderr.write(f"error: {name} failed: {' '.join(parts[name])}\n")
    if not any(codes.values()):
        sys.stdout.write(f"{out / 'index.html'}, after {time.monotonic() - started:.0f} s\n")
    return max(codes.values(), key=abs)


if __name__ == "__main__":
    sys.exit(main(Path(*sys.argv[1:] or [DOCS.parent / "runs" / "site"])))
