"""The report's files: four documents, the figures and the tables that they share.

    report.html    one file, all in it        report.md     with figures/*.png
    report.tex     with figures/*.pdf and tables/*.tex      report.ipynb  executed

Each file is written whole or not at all, and the same records give the same bytes.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import nbformat

from figures import explorer, style
from figures.book.notebooks import run
from figures.files import write_text
from figures.markup import pandoc
from figures.maths import ascii_latex
from figures.report import source
from theory.errors import RequestError, WorkError

if TYPE_CHECKING:
    from figures.report.report import Picture, Report

PDFLATEX = "pdflatex"
COMPILERS = (PDFLATEX, "tectonic")
FIGURES, TABLES = "figures", "tables"
PASSES = 3  # of pdflatex, until references and long tables have settled
TEMPLATES = Path(__file__).parent / "templates"

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
    shown = source.written(report, "gfm")
    makers: dict[str, Callable[[], str]] = {
        "report.html": lambda: page(report, out / FIGURES, seed=seed),
        "report.md": lambda: markdown(report),
        "report.tex": lambda: latex(report),
        "report.ipynb": lambda: notebook(report, out),
    }
    total = len(shown.pictures) + len(makers)
    step = on_step or (lambda done, total: None)
    for folder in (out, out / FIGURES, out / TABLES):
        folder.mkdir(parents=True, exist_ok=True)
    for done, picture in enumerate(shown.pictures, start=1):
        draw(picture, out / FIGURES)
        step(done, total)
    for sheet in shown.sheets:
        write_text(out / TABLES / f"{sheet.name}.tex", sheet.latex())
        write_text(out / TABLES / f"{sheet.name}.csv", sheet.data.to_csv(index=False))
    for done, (name, make) in enumerate(makers.items(), start=len(shown.pictures) + 1):
        write_text(out / name, make())
        step(done, total)
    paths = [*(out / name for name in makers), out / FIGURES, out / TABLES]
    return Written(paths, len(shown.pictures), len(shown.sheets), shown.gaps)


# ------------------------------------------------------------------------------- four documents


def page(report: Report, folder: Path, *, seed: int = 0) -> str:
    """One file of HTML that asks for nothing else; its pictures are the SVG files of ``folder``.

    Maths are MathML, which every current browser sets without help.
    """
    maps = explorer.frontier_maps(report.beyond.map) if report.beyond else []
    body, css, script = explorer.fragment(report.records.study, maps, seed=seed, heading_level=3)
    text = source.written(report, "html", explorer=body).text
    with tempfile.TemporaryDirectory() as name:
        style_file, script_file = Path(name) / "style.html", Path(name) / "script.html"
        own = (TEMPLATES / "report.css").read_text(encoding="utf-8")
        style_file.write_text(f"<style>\n{css}\n{own}\n</style>", encoding="utf-8")
        script_file.write_text(f"<script>\n{script}\n</script>", encoding="utf-8")
        made = pandoc(
            text, "html", "--mathml", "--section-divs", "--standalone", "--embed-resources",
            f"--template={TEMPLATES / 'report.html'}", f"--include-in-header={style_file}",
            f"--include-after-body={script_file}", f"--resource-path={folder}",
        )  # fmt: skip
    return made


def markdown(report: Report) -> str:
    """GitHub's Markdown; its pictures are ``figures/NAME.png`` beside it."""
    return pandoc(source.written(report, "gfm").text, "gfm-tex_math_gfm+tex_math_dollars")


def latex(report: Report) -> str:
    """LaTeX for pdflatex, in ASCII; it reads figures/NAME.pdf and tables/NAME.tex."""
    text = source.written(report, "latex").text
    template = f"--template={TEMPLATES / 'report.tex'}"
    plain = ("--standalone", "--syntax-highlighting=none", "--shift-heading-level-by=-1")
    return ascii_latex(pandoc(text, "latex-smart", template, *plain))


def notebook(report: Report, out: Path) -> str:
    """The notebook's JSON, executed by a kernel in ``out``, where Jupyter would run it.

    It reads the records again, by their way from there, and takes the figures from the files beside it.
    Raises ``WorkError`` where a cell fails.
    """
    text = source.written(report, "ipynb", opening=opening(report, out)).text
    made = nbformat.reads(pandoc(text, "ipynb"), as_version=4)
    for number, cell in enumerate(made.cells):
        cell.id = f"cell-{number:03d}"
    run(made, out, "report.ipynb")
    return f"{nbformat.writes(made)}\n"


def opening(report: Report, out: Path) -> str:
    """The first cell: it reads the records again."""
    where = (Path(os.path.relpath(folder.resolve(), out.resolve())) for folder in report.folders)
    folders = "".join(f'"{path.as_posix()}", ' for path in where)
    return (
        "from pathlib import Path\n\n"
        "from figures.report.report import Report  # of fanin: pip install -e . in its folder\n"
        "from theory.specs import DerivationSpec\n"
        "from theory.specs import VarianceSpec\n\n"
        f"derive = {report.derive!r}\n"
        f"stack = {report.stack!r}\n"
        f'report = Report.read({folders}derive=derive, stack=stack, drawn=Path("{FIGURES}"))\n'
        "report.coverage"
    )


# ------------------------------------------------------------------------------------- figures


def draw(picture: Picture, folder: Path) -> None:
    """Write the figure as PNG, PDF and SVG, laid out once; text in the SVG is drawn as outlines."""
    figure = picture.draw()
    with style.styled():
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        style.save_figure(figure, folder / picture.name)
        with mpl.rc_context({"svg.fonttype": "path"}):
            buffer = io.StringIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None})
    lean = re.sub(r"<metadata>.*?</metadata>\s*", "", buffer.getvalue(), flags=re.DOTALL)
    write_text(folder / f"{picture.name}.svg", lean)


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
        piped: dict[str, Any] = {"capture_output": True, "text": True, "errors": "replace"}
        ran = subprocess.run(compile_command(name), cwd=out, check=False, **piped)
        if ran.returncode:
            said = [one for one in ran.stdout.splitlines() if one.startswith(("!", "error"))]
            reason = said[0] if said else f"exit code {ran.returncode}"
            raise WorkError(f"{name} cannot compile {out / 'report.tex'}: {reason}")
    return out / "report.pdf"
