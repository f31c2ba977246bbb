"""The lessons: what there is, in order, and each as a notebook.

A lesson is a file of MyST Markdown: a title, a question as its first paragraph, a picture, text and
code by turns, exercises at the end.  jupytext makes a notebook of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jupytext
import pandas as pd
from nbformat import NotebookNode

from figures.tables import Column, Sheet, words
from theory.errors import RequestError

FOLDERS = (Path(__file__).parents[2] / "docs" / "lessons", Path(__file__).parent / "texts")
COLUMNS = {
    "number": "of the lesson, from 1",
    "title": "its heading",
    "question": "what it answers",
    "file": "its text, in MyST Markdown",
}


@dataclass(frozen=True)
class Lesson:
    """One lesson, by the file that holds its text."""

    path: Path

    @property
    def number(self) -> int:
        """From 1: what its file's name starts with."""
        return int(self.path.name.partition("-")[0])

    @cached_property
    def text(self) -> str:
        """The whole file."""
        return self.path.read_text(encoding="utf-8")

    @property
    def title(self) -> str:
        """The heading, without its number."""
        return self._found(r"^# (?:\d+\. )?(.+)$")

    @property
    def question(self) -> str:
        """The first paragraph, in one line."""
        return " ".join(self._found(r"^# .+\n\n((?:.+\n)+)").split()).strip("*")

    def _found(self, pattern: str) -> str:
        match = re.search(pattern, self.text, re.MULTILINE)
        assert match, f"{self.path.name} does not begin with a title and a question"
        return match[1].strip()

    def notebook(self) -> NotebookNode:
        """The lesson as a notebook, not yet run."""
        return jupytext.reads(self.text, fmt="md:myst")


def table_of_contents() -> list[Lesson]:
    """Every lesson, in order."""
    folder = next((folder for folder in FOLDERS if folder.is_dir()), FOLDERS[0])
    return sorted((Lesson(path) for path in folder.glob("*-*.md")), key=lambda one: one.number)


def lesson(number: int) -> Lesson:
    """The lesson of this ``number``; ``RequestError`` if there is none."""
    found = {one.number: one for one in table_of_contents()}
    if number not in found:
        there = f"1 to {max(found)}" if found else "none, in this copy"
        raise RequestError(f"there is no lesson {number}: lessons are {there}")
    return found[number]


def lessons_table(lessons: list[Lesson]) -> Sheet:
    """What to choose from; the columns of its data are ``COLUMNS``."""
    rows = [
        {"number": one.number, "title": one.title, "question": one.question, "file": str(one.path)}
        for one in lessons
    ]
    return Sheet(
        name="lessons",
        title="Lessons",
        data=pd.DataFrame(rows, columns=list(COLUMNS)),
        columns=(
            Column("", "number"),
            words("lesson", "title", room=24),
            words("question", "question", room=40),
        ),
    )
