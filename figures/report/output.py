"""The report's files: four documents, the figures and the tables that they share.

    report.html    one file, all in it        report.md     with figures/*.png
    report.tex     with figures/*.pdf and tables/*.tex      report.ipynb  executed

Each file is written whole or not at all, and the same records give the same bytes.
"""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

from figures import explorer, style
from figures.files import write_text
from figures.report import environment, html, markdown, notebook, tex
from figures.report.build import Report
from figures.report.model import Picture
from theory.errors import RequestError, WorkError

PDFLATEX = "pdflatex"
COMPILERS = (PDFLATEX, "tectonic")
FIGURES, TABLES = "figures", "tables"
PASSES = 3  # of pdflatex, until references and long tables have settled

OnStep = Callable[[int, int], object]


@dataclass(frozen=True)
class Written:
    """What was written, and the words of the gaps in it."""

    paths: list[Path]
    figures: int
    tables: int
    gaps: list[str]


def write(report: Report, out: Path, *, seed: int = 0, on_step: OnStep | None = None) -> Written:
    """Write every file of ``report`` into ``out``; ``on_step(done, total)`` after each figure and file.

    ``seed`` is that of the explorer's first networks.  Raises ``OSError`` where nothing can be written.
    """
    document = report.document()
    pictures, sheets = document.pictures, document.sheets
    total, done = len(pictures) + 4, 0

    def step() -> None:
        nonlocal done
        done += 1
        if on_step:
            on_step(done, total)

    for folder in (out, out / FIGURES, out / TABLES):
        folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, bytes] = {}
    for picture in pictures:
        drawn[picture.name] = draw(picture, out / FIGURES)
        report.images[picture.name] = (out / FIGURES / f"{picture.name}.png").read_bytes()
        step()
    for sheet in sheets:
        write_text(out / TABLES / f"{sheet.name}.tex", tex.representable(sheet.latex()))
        write_text(out / TABLES / f"{sheet.name}.csv", sheet.csv())
    templates = environment.files()
    parts = explorer.fragment(report.records.study, seed=seed, heading_level=3)
    makers: dict[str, Callable[[], str]] = {
        "report.html": lambda: html.render(document, templates, drawn, parts),
        "report.md": lambda: markdown.render(document, templates),
        "report.tex": lambda: tex.render(document, templates),
        "report.ipynb": lambda: notebook.render(document, report, out),
    }
    for name, make in makers.items():
        write_text(out / name, make())
        step()
    paths = [*(out / name for name in makers), out / FIGURES, out / TABLES]
    return Written(paths, len(pictures), len(sheets), document.gaps)


def draw(picture: Picture, folder: Path) -> bytes:
    """Write the figure as PNG and PDF; returns it as SVG, whose text is drawn as outlines.

    It is laid out once, for all three.
    """
    figure = picture.draw()
    with style.styled():
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        style.save_figure(figure, folder / picture.name)
        with mpl.rc_context({"svg.fonttype": "path"}):
            buffer = io.BytesIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


# ----------------------------------------------------------------------------------------- PDF


def compiler() -> str:
    """The name of a LaTeX compiler that is installed; ``RequestError`` if none is."""
    for name in COMPILERS:
        if shutil.which(name):
            return name
    raise RequestError(
        f"--pdf needs {' or '.join(COMPILERS)}, and neither is installed: without --pdf, report.tex is "
        "written all the same"
    )


def compile_command(name: str = PDFLATEX) -> list[str]:
    """What compiles report.tex, in the folder that holds it."""
    if name == PDFLATEX:
        return [name, "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    return [name, "report.tex"]


def compile_pdf(out: Path) -> Path:
    """Compile report.tex into report.pdf; ``WorkError`` with LaTeX's own line where it fails."""
    name = compiler()
    for _ in range(PASSES if name == PDFLATEX else 1):
        ran = subprocess.run(
            compile_command(name),
            cwd=out,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if ran.returncode:
            said = [one for one in ran.stdout.splitlines() if one.startswith(("!", "error"))]
            reason = said[0] if said else f"exit code {ran.returncode}"
            raise WorkError(f"{name} cannot compile {out / 'report.tex'}: {reason}")
    return out / "report.pdf"
