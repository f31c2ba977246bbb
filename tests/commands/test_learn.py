"""``learn`` lists, shows, runs, and makes slides that ask for nothing."""

import json
import re

import nbformat
import pytest

import cli
from figures.book import lessons as book

TEXT = """---
kernelspec:
  display_name: Python 3
  name: python3
---

# 1. A lesson

*What is this?*

```{code-cell}
import figures.style
from matplotlib.figure import Figure

figure = Figure()
figure.subplots().plot([1, 2])
figure
```

## A section

Its first paragraph.

And a second one, with a formula:

$$q = \\tfrac12$$

```{code-cell}
print("said by a cell")
```

## Exercises

1. Nothing.
"""


@pytest.fixture
def one_lesson(tmp_path, monkeypatch):
    folder = tmp_path / "lessons"
    folder.mkdir()
    (folder / "01-a-lesson.md").write_text(TEXT, encoding="utf-8")
    monkeypatch.setattr(book, "FOLDERS", (folder,))
    return tmp_path / "out"


def learn(*words):
    return cli.main(["learn", *map(str, words)])


def test_a_lesson_in_the_terminal_has_its_code_in_lines_and_its_maths_in_unicode(one_lesson, capsys):
    assert learn(1, "--out", one_lesson) == 0
    said = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "figure = Figure()" in said and "figure.subplots().plot([1, 2])" in said
    assert "q = ½" in said and not any("$" in line or "\\" in line for line in said)


@pytest.mark.parametrize("number", [one.number for one in book.table_of_contents()])
def test_no_lesson_shows_latex_in_the_terminal(number, capsys, tmp_path):
    assert learn(number, "--out", tmp_path) == 0
    said = capsys.readouterr().out
    assert not re.search(r"\\[a-zA-Z]{2,}|\$", said)


def test_the_list_has_every_lesson_in_json_too(capsys, tmp_path):
    assert learn("--json", "--out", tmp_path) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["command", "spec", "environment", "lessons"]
    assert [row["number"] for row in document["lessons"]] == list(
        range(1, len(document["lessons"]) + 1)
    )
    assert learn("--out", tmp_path) == 0
    assert document["lessons"][0]["title"] in capsys.readouterr().out


def test_a_lesson_is_shown_and_written_as_a_notebook(capsys, one_lesson):
    assert learn(1, "--out", one_lesson) == 0
    shown = capsys.readouterr().out
    assert "What is this?" in shown and "01-a-lesson.ipynb" in shown
    notebook = nbformat.read(one_lesson / "01-a-lesson.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)


def test_run_has_results_and_slides_have_pictures_and_ask_for_nothing(capsys, one_lesson):
    assert learn(1, "--slides", "--out", one_lesson) == 0
    notebook = nbformat.read(one_lesson / "01-a-lesson.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "image/png" in code[0].outputs[0].data and code[1].outputs[0].text == "said by a cell\n"
    page = (one_lesson / "01-a-lesson.html").read_text(encoding="utf-8")
    assert len(re.findall("<section", page)) == 2 and "What is this?" in page
    assert "said by a cell" in page and "<math" in page and 'src="data:image/png;base64,' in page
    assert "And a second one" not in page and "Nothing." not in page and "import figures" not in page
    assert not re.search(r"(?:src|href)=.?https?:|url\(|@import", page)


@pytest.mark.parametrize(
    "words, says",
    [
        ((99,), "there is no lesson 99"),
        (("three",), "must be a whole number, not 'three'"),
        (("--run",), "name a lesson to run"),
        ((0,), "there is no lesson 0"),
    ],
)
def test_a_wrong_request_is_one_line(words, says, capsys, tmp_path):
    assert learn(*words, "--out", tmp_path / "out") == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and said.err.count("\n") == 1
    assert says in said.err and not (tmp_path / "out").exists()


def test_a_copy_without_lessons_says_so(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(book, "FOLDERS", (tmp_path,))
    assert learn(1) == 2
    assert "lessons are none, in this copy" in capsys.readouterr().err
