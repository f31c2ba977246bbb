"""README and docs: their tables are the records', what they point to is there, README is short."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from empirical.records import published
from figures.report.report import Report
from figures.report.results import TABLES, filled

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LESSONS = sorted((ROOT / "docs" / "lessons").glob("*.md"))
SHORT = 1200  # words, those of the tables too


@pytest.fixture(scope="module")
def records():
    return published.read(ROOT / "figures" / "data")


@pytest.fixture(scope="module")
def report(records):
    return Report(records)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_tables_are_made_from_the_records(path, report, request):
    text = path.read_text(encoding="utf-8")
    made = filled(text, report)
    if request.config.getoption("--update-golden"):
        path.write_text(made, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == made, "pytest --update-golden writes the tables anew"


def test_every_table_is_printed_somewhere_and_readme_has_the_accuracies():
    printed = "".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    assert {name for name in TABLES if f"figures/data: {name} -->" in printed} == set(TABLES)
    assert "figures/data: main -->" in DOCUMENTS[0].read_text(encoding="utf-8")


def test_a_changed_record_changes_the_table(records, report):
    block = "<!-- made from figures/data: accuracy -->\n<!-- end -->"
    study = records.study.assign(test_accuracy=records.study["test_accuracy"] + 1)
    changed = Report(replace(records, study=study))
    assert "| He, as printed" in filled(block, report)
    assert filled(block, changed) != filled(block, report)
    with pytest.raises(KeyError):
        filled(block.replace("accuracy", "no-such"), report)


def anchors(path):
    """The anchors that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", [*DOCUMENTS, *LESSONS], ids=lambda path: path.name)
def test_links_and_pictures_are_there(path):
    targets = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    for target in targets:
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        found = path.parent / name if name else path
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


def test_every_document_is_in_the_index_and_readme_points_to_docs():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    readme = DOCUMENTS[0].read_text(encoding="utf-8")
    for path in DOCUMENTS[1:]:
        if path.name != "index.md":
            assert f"({path.name})" in index and f"(docs/{path.name}" in readme, path.name
    for path in LESSONS:
        text = path.read_text(encoding="utf-8")
        ((title, question),) = re.findall(r"^# (.+)\n\n\*((?:.+\n)+)", text, re.MULTILINE)
        row = f"| [{title}](lessons/{path.name}) | {' '.join(question.split()).strip('*')} |"
        assert row in index, row


def test_readme_is_short():
    words = [
        word for word in DOCUMENTS[0].read_text(encoding="utf-8").split() if re.search(r"\w", word)
    ]
    assert 600 < len(words) <= SHORT
