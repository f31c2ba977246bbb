"""The lessons run, each in a kernel of its own, and are read in order: no word before its lesson."""

import ast
import re

import pytest

from figures.book import lessons as book
from figures.book.lessons import FOLDERS, lesson, lessons_table, table_of_contents
from figures.book.notebooks import run
from theory.errors import RequestError, WorkError
from theory.exercises import EXERCISES

LESSONS = table_of_contents()
GLOSSARY = FOLDERS[0].parent / "glossary.md"
SECONDS = 120  # that a cell may take where many tests run at once


def prose(text):
    """The words of a lesson, without code and formulas."""
    text = text.partition("---\n\n")[2]
    for code in (r"```.*?```", r"\$\$.*?\$\$", r"\$[^$]*\$", r"`[^`]*`"):
        text = re.sub(code, " ", text, flags=re.DOTALL)
    return text


def glossary():
    """(word, lesson) of every word that has one."""
    rows = re.findall(r"^\| ([^|]+) \| (\d+) \|", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE)
    return [(word, int(number)) for word, number in rows]


def uses(word, text):
    """Where ``word`` stands in ``text``, its plural counted, and compounds of it not."""
    pattern = rf"(?<![\w-]){re.escape(word)}(?:s|es)?(?![\w-])"
    return [found.start() for found in re.finditer(pattern, text, re.IGNORECASE)]


def shown(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def test_there_are_lessons_in_order():
    assert [one.number for one in LESSONS] == list(range(1, len(LESSONS) + 1))
    assert 8 <= len(LESSONS) <= 11


@pytest.mark.parametrize("one", LESSONS, ids=lambda one: one.path.stem)
def test_a_lesson_runs_and_begins_with_a_picture(one, tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR10_DIR", str(tmp_path / "nowhere"))
    notebook = one.notebook()
    run(notebook, tmp_path, one.path.name, seconds=SECONDS)
    assert not list(tmp_path.iterdir()), "a lesson leaves nothing behind"
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    data = [output.data for output in first.outputs if "data" in output]
    assert any("image/png" in one or "<img" in one.get("text/html", "") for one in data)
    said = [output for output in shown(notebook) if output.get("name") == "stderr"]
    assert not said, said[0].text
    assert "not yet: " in notebook.cells[-1].outputs[-1].data["text/plain"], "the wrong answer is told"


@pytest.mark.parametrize("one", LESSONS, ids=lambda one: one.path.stem)
def test_a_lesson_is_a_question_a_picture_text_and_exercises(one):
    assert one.question.endswith("?") and f"*{one.question[:20]}" in one.text
    headings = re.findall(r"^#+ (.*)$", prose(one.text), re.MULTILINE)
    assert headings[0] == f"{one.number}. {one.title}" and headings[-1] == "Exercises"
    assert 300 < len(one.text.split()) < 1500, "a quarter of an hour"
    assert not re.findall(r"(?<![§\d])\d+\.\d", prose(one.text)), "a number in words is computed"
    for cell in one.notebook().cells:
        if cell.cell_type == "code":
            ast.parse(cell.source)


@pytest.mark.parametrize("one", LESSONS, ids=lambda one: one.path.stem)
def test_the_exercises_of_a_lesson_are_those_that_are_checked(one):
    listed = one.text.partition("## Exercises")[2]
    known = {name for name, exercise in EXERCISES.items() if exercise.lesson == one.number}
    if any(name.startswith("bug-") for name in known):
        known = {"bug-1", "bug-12"}
    assert set(re.findall(r"^\d\. `([\w-]+)`", listed, re.MULTILINE)) | known & {"bug-12"} == known


@pytest.mark.parametrize("word, number", glossary(), ids=lambda value: str(value))
def test_a_word_is_explained_where_it_is_first_used(word, number):
    before = {one.number: uses(word, prose(one.text)) for one in LESSONS if one.number < number}
    assert not any(before.values()), f"{word}: used before lesson {number}"
    text = re.sub(
        r"^#.*$|^\*[^*]+\*$", "", prose(lesson(number).text), flags=re.MULTILINE
    )  # these announce it
    bold = [found.start(1) for found in re.finditer(r"\*\*([\w -]+)\*\*", text)
            if found[1].lower().rstrip("s") == word.rstrip("s")]  # fmt: skip
    assert bold and uses(word, text)[0] == bold[0], f"{word}: in bold in lesson {number}"


def test_the_order_of_words_is_seen_to_bite():
    assert uses("law", "Laws, and a law; lawful outlaws") == [0, 12]
    assert uses("gain", "a gain-like thing, again") == []
    assert prose("---\n\nA $b$ `c`\n```{code-cell}\nd\n```\n").split() == ["A"]


def test_a_lesson_that_is_not_there_is_a_wrong_request():
    with pytest.raises(RequestError, match="there is no lesson 99: lessons are 1 to"):
        lesson(99)


def test_a_cell_that_fails_is_said_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "1-broken.md").write_text(
        "---\nkernelspec:\n  display_name: Python 3\n  name: python3\n---\n\n# 1. Broken\n\n*Why?*\n\n"
        "```{code-cell}\n1 / 0\n```\n"
    )
    monkeypatch.setattr(book, "FOLDERS", (tmp_path,))
    (only,) = table_of_contents()
    assert (only.title, only.question) == ("Broken", "Why?")
    with pytest.raises(WorkError, match=r"1-broken\.md cannot be executed: ZeroDivisionError"):
        run(only.notebook(), tmp_path, only.path.name)


def test_the_table_has_every_lesson():
    assert lessons_table(LESSONS).data["title"].tolist() == [one.title for one in LESSONS]
