"""The site, built without running lessons: links lead somewhere, nothing is asked of the network."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from figures.book.lessons import FOLDERS, table_of_contents

ROOT = Path(__file__).parent.parent
REMOTE = ("http://", "https://", "//")
MADE = (  # by docs/build.py, beside Sphinx
    "report/report.html",
    "explorer/explorer.html",
    f"slides/{table_of_contents()[0].path.stem}.html",
)


class Page(HTMLParser):
    """What a page links to, what it loads, and its anchors."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loaded, self.anchors = [], [], set()
        self.formulas = re.findall(r"<math.*?</math>", text, re.DOTALL)
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        loads = given.get("src") or (given.get("href") if tag == "link" else None)
        if loads:
            self.loaded.append(loads)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("myst_nb", reason="the docs group is not installed: uv sync --group docs")
    out = tmp_path_factory.mktemp("site")
    options = ["-b", "html", "-D", "nb_execution_mode=off", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(ROOT / "docs"), str(out)],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = [
        line for line in done.stderr.splitlines() if "myst-nb.lexer" not in line
    ]  # of cells not run
    assert not any(said), done.stderr
    return {path: Page(path.read_text(encoding="utf-8")) for path in out.rglob("*.html")}


def test_every_link_leads_somewhere(site):
    wrong = []
    for path, page in site.items():
        for link in (*page.links, *page.loaded):
            parts = urlsplit(link)
            if parts.scheme or link in MADE:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                wrong.append(f"{path.name}: {link}")
            elif parts.fragment and target in site and parts.fragment not in site[target].anchors:
                wrong.append(f"{path.name}: no {link}")
    assert not wrong


def test_no_page_loads_anything_from_elsewhere(site):
    for path, page in site.items():
        assert not [link for link in page.loaded if link.startswith(REMOTE)], path.name


def test_formulas_are_mathml_and_nothing_of_their_latex_is_left(site):
    formulas = [one for page in site.values() for one in page.formulas]
    assert len(formulas) > 100 and any("fan_in" in one for one in formulas)
    assert not [one for one in formulas if "\\" in one]
    halves = [one for one in formulas if "<mfrac>" in one and "<mn>12</mn>" in one]
    assert not halves, "docutils takes \\tfrac12 for 12 over what follows: write \\tfrac{1}{2}"


def test_every_lesson_every_name_and_every_command_has_its_place(site):
    names = {path.stem: page for path, page in site.items()}
    assert {one.path.stem for one in table_of_contents()} <= set(names)
    assert {"theory.variance", "theory.audit.audit", "empirical.run_study"} <= names[
        "reference"
    ].anchors
    assert {"variance", "learn", "audit"} <= names["commands"].anchors
    assert set(MADE) <= set(names["index"].links)


def test_an_installed_copy_has_the_lessons_where_they_are_looked_for():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    source, target = (str(folder.relative_to(ROOT)) for folder in FOLDERS)
    assert f'"{source}" = "{target}"' in text and (ROOT / source).is_dir()


def test_long_lines_of_a_lesson_are_folded_and_not_cut():
    text = (ROOT / "docs" / "site.css").read_text(encoding="utf-8")
    (rule,) = (rule for rule in text.split("}") if "div.cell_output pre" in rule)
    assert "div.cell_input pre" in rule and "white-space: pre-wrap" in rule
