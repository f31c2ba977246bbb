"""``learn``: the textbook's lessons, to list, to read and to run."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import nbformat
from rich.markdown import Markdown

import figures
import theory
from commands.answer import Answer, Session
from figures.files import write_text
from figures.maths import terminal
from figures.program import command_line
from theory.errors import RequestError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from figures.book import Lesson

PURPOSE = "The textbook: lists its lessons; shows one, runs it, or makes its slides."
EXAMPLES = ("learn", "learn 3", "learn 3 --run", "learn 3 --slides")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("lesson", type=int, nargs="?", metavar="N", help="a lesson (without: the list)")
    parser.add_argument(
        "--run", action="store_true", dest="ran", help="run it: the notebook has its results, too"
    )
    parser.add_argument("--slides", action="store_true", help="run it, and make slides of it")


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    number = arguments.lesson
    if number is None and (arguments.ran or arguments.slides):
        raise RequestError(f"name a lesson to run: {command_line('learn')} lists them")
    chosen = figures.book.table_of_contents() if number is None else [figures.book.lesson(number)]
    session.prepare_out()
    theory.resolve_device(arguments.device)  # a missing one is said before the work
    table = figures.book.lessons_table(chosen)
    answer: dict[str, Any] = {
        "spec": {"lesson": number, "run": arguments.ran, "slides": arguments.slides},
        "document": {"lessons": table.data.to_dict("records")},
    }
    if number is None:
        return Answer(**answer, show=[table])
    return _opened(chosen[0], arguments, session, answer)


def _opened(
    lesson: Lesson, arguments: argparse.Namespace, session: Session, answer: dict[str, Any]
) -> Answer:
    """The lesson as a notebook in the output folder, run where that is asked for."""
    notebook, ran = lesson.notebook(), arguments.ran or arguments.slides
    target = session.out / f"{lesson.path.stem}.ipynb"
    show: list[RenderableType] = [f"jupyter lab {target} opens it."]
    if ran:
        figures.book.run(notebook, session.out, target.name)
    else:
        show.insert(0, Markdown("\n\n".join(map(_readable, notebook.cells))))
    write_text(target, f"{nbformat.writes(notebook)}\n")
    paths = [target]
    if arguments.slides:
        paths.append(target.with_suffix(".html"))
        write_text(paths[-1], figures.book.slides_page(notebook, lesson.title))
    return Answer(**answer, show=show, paths=paths)


def _readable(cell: nbformat.NotebookNode) -> str:
    """A cell in the terminal's Markdown: code as code, maths in Unicode."""
    if cell.cell_type == "code":
        return f"```python\n{cell.source}\n```"
    return terminal(cell.source.replace("$$", "$"))
