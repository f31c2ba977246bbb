"""The report: four files from one document, every number from data, every gap named, the same bytes."""

import base64
import html
import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from browser import Browser, find_browser
from jinja2 import UndefinedError
from synthetic_study import cells_of, study_of

import cli
from empirical.judgment.protocol_agreement import protocol_agreement
from empirical.protocol import AUGMENTED, published_accuracy
from empirical.records.published import read
from figures.answers import answer_lines
from figures.markup import pandoc
from figures.report import facts, output, source
from figures.report.report import Report
from theory.errors import RequestError
from theory.specs import DerivationSpec, VarianceSpec

PROSE = Path(source.__file__).parent / "templates" / "prose"
LIGHT = {
    "derive": DerivationSpec(width=32, depth=4, draws=20, device="cpu"),
    "stack": VarianceSpec(depth=4, width=16, draws=10, engine="law", device="cpu"),
}
NASTY = r"A&BC_50% #1 {x} ~^\$ <b> *s* `c` [l](u)"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="72pt" height="36pt" viewBox="0 0 72 36"></svg>'


def report_on(records, **options):
    return Report(records, [Path("records")], **LIGHT | options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Every cell of every study, one seed."""
    folder = tmp_path_factory.mktemp("whole")
    return study_of(cells_of() + cells_of("between"), folder)  # which no figure asks for


@pytest.fixture(scope="module")
def document(whole):
    return source.written(report_on(whole), "gfm")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The folder of eight cells: ReLU at two depths, two seeds."""
    folder = tmp_path_factory.mktemp("small") / "records"
    cells = cells_of("report", activations=("relu",), depths=(2, 5), seeds=(0, 1))
    study_of(cells, folder)
    return folder


@pytest.fixture(scope="module")
def written(small):
    """A report that is really written, with what it consists of: (folder, document, report)."""
    out = small.parent / "report"
    report = Report.read(small, **LIGHT)
    output.write(report, out)
    return out, source.written(report, "gfm"), report


def text_of(document):
    """Every word of the document's own prose, in order."""
    return pandoc(document.text, "plain")


@pytest.fixture(scope="module")
def rendered(whole, tmp_path_factory):
    """(html, markdown, tex) of every study, without drawing anything."""
    return documents(report_on(whole), tmp_path_factory.mktemp("pictures"))


def documents(report, folder):
    for picture in source.written(report, "gfm").pictures:
        (folder / f"{picture.name}.svg").write_text(SVG)
    return output.page(report, folder), output.markdown(report), output.latex(report)


# --------------------------------------------------------------------------------- the text


def test_no_number_is_typed_into_the_prose():
    """Digits stand in formulas, in the names N(0, 1) and CIFAR-10, and in what is filled in."""
    templates = sorted(PROSE.glob("*.md"))
    assert len(templates) > 8
    for template in templates:
        text = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", template.read_text(encoding="utf-8"), flags=re.S)
        text = re.sub(r"\$\$.*?\$\$|\$[^$]+\$", "", text, flags=re.S)
        text = text.replace("N(0, 1)", "").replace("CIFAR-10", "")
        assert not re.findall(r".*\d.*", text), template.name


def test_names_are_written_one_way(rendered):
    """He and ReLU, as in the pictures; ``he`` and ``relu`` are what the command line takes."""
    text = re.sub(r"^    .*$", "", rendered[1], flags=re.M)  # commands
    text = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", "", text, flags=re.S)
    assert re.findall(r"\b(?:he|relu|prelu)\b", text) == []
    assert "| ReLU" in text and "| PReLU" in text and "N(0, 1)" in text  # the tables are in it


def test_the_text_follows_the_data(whole, document):
    """He is 20 points ahead in the made-up study; with three more the text says so everywhere."""
    text = text_of(document)
    assert "He is ahead of N(0, 1) in 8 of 8 settings recorded for both" in text
    assert "the difference is +20.0 points on average, of single runs" in text
    assert "The difference is +19.98 points on average, from +19.98 with ReLU and 2 layers" in text
    assert "With 1 seed per setting there is no test: it takes 3." in text
    moved = whole.study["initializer"] == "he"
    study = whole.study.assign(test_accuracy=whole.study["test_accuracy"] + 3.0 * moved)
    changed = source.written(report_on(replace(whole, study=study)), "gfm")
    assert "the difference is +23.0 points on average" in text_of(changed)
    assert "+20.0 points" not in text_of(changed)
    before, after = (
        next(sheet for sheet in one.sheets if sheet.name == "accuracy").markdown()
        for one in (document, changed)
    )
    assert "61.95" in before and "64.95" in after and "61.95" not in after


@pytest.mark.parametrize(
    "text", [NASTY, "## no heading", "- no list", "1. no list", "a*b*c _d_ [e]{.f}"]
)
def test_text_from_data_is_never_markup(text):
    made = pandoc(f"before {source.words(text)} after", "html")
    assert html.unescape(made).strip() == f"<p>before {text} after</p>"
    assert html.unescape(pandoc(source.words(text), "html")).strip() == f"<p>{text}</p>"


def test_code_from_data_is_code():
    for text in ("cli.py --init normal:$1 [x] *y*", "a `b` ``c``"):
        made = pandoc(source.code(text), "html")
        assert html.unescape(made).strip() == f"<p><code>{text}</code></p>"


def test_a_template_that_asks_for_what_is_not_there_fails():
    with pytest.raises(UndefinedError, match="nothing"):
        source.environment().from_string("{{ nothing }}").render()


# ---------------------------------------------------------------------------- the whole study


def test_the_whole_study_has_every_section_figure_and_table(document):
    assert re.findall(r'^<a id="(.+)"></a>$', document.text, re.M) == [
        "question", "theory", "protocol", "results", "paired", "claims", "default", "beyond", "limits",
        "reproduce", "explorer", "references",
    ]  # fmt: skip
    names = {picture.name for picture in document.pictures}
    course = {f"{what}-{law}-{activation}" for what in ("average-weight", "test-accuracy")
              for law in ("he", "normal") for activation in ("relu", "prelu")}  # fmt: skip
    assert course | {"derive", "variance", "stall", "slopes", "accuracy-map"} <= names
    assert {sheet.name for sheet in document.sheets} == {
        "derive", "protocol", "coverage", "accuracy", "protocol-agreement", "he-normal", "prelu-relu",
        "answers", "claims", "conditions", "factors", "machines", "beyond", "frontier",
    }  # fmt: skip
    assert {"frontier", "scores-images", "scores-regression", "scores-sequence"} <= names
    about = "augmentation"  # the one figure that only cells of full size have, and its preset's rest
    known = (about, "made them", "second seed")
    assert all(any(one in gap for one in known) for gap in document.gaps), document.gaps
    assert all(f"C{number}." in text_of(document) for number in range(1, 15))
    assert "Every configuration of every study is recorded." in text_of(document)


def test_the_protocols_are_a_table_of_the_report(small):
    report = Report.read(small, **LIGHT)
    table = protocol_agreement(report.evidence)
    sheet = report.sheets()["protocol-agreement"]()
    assert [heading for heading, _ in sheet.sections] == list(AUGMENTED.values())
    shown = [row[1].plain for _, rows in sheet.sections for row in rows]
    assert shown == [f"{row['cells']} of 16" for row in table.to_dict("records")]


def test_the_page_asks_the_network_for_nothing_and_shows_every_figure(document, rendered):
    text = rendered[0]
    sources = re.findall(r"(?:src|srcset|poster)\s*=\s*[\"']([^\"']*)", text)
    assert len(sources) == len(document.pictures)
    assert all(one.startswith("data:image/svg+xml;base64,") for one in sources)
    assert re.findall(r"<link[^>]*href=\"([^\"]*)", text) == ["data:,"]
    assert not re.search(r"url\((?!#|var)|@import|fetch\(|XMLHttpRequest|<script[^>]+src", text)
    assert "default-src 'none'" in html.unescape(text) and "<math" in text
    ids = re.findall(r' id="([^"]+)"', text)
    assert 'id="fx"' in text and len(ids) == len(set(ids))
    targets = re.findall(r'href="#([^"]+)"', text)
    assert len(targets) > 11 and set(targets) <= set(ids)
    for picture in document.pictures:
        assert f'alt="{picture.title}"' in html.unescape(text)
    body = re.sub(r"<(script|style|annotation)\b.*?</\1>", "", text, flags=re.S)
    shown_text = html.unescape(re.sub(r"<[^>]+>", "", body))
    assert not re.search(r"\bnan\b|\bNone\b(?! of)|\{\{|\{%|\$[^$]+\$", shown_text)


def test_only_the_page_has_sliders(rendered, whole):
    page, *others = rendered
    notebook = source.written(report_on(whole), "ipynb").text
    assert "Move the sliders" in page
    assert all("sliders" not in text and "report.html" in text for text in (*others, notebook))


def test_a_formula_of_a_table_is_set_and_a_style_is_kept(document):
    text = next(sheet for sheet in document.sheets if sheet.name == "derive").html()
    assert text.count("<math") >= 21 and '<span class="good">✓</span>' in text
    assert ">Var</m" in text and "TeX" not in text.replace("x-tex", "")


def test_special_characters_of_data_are_escaped_everywhere(small, tmp_path):
    records = read(small)
    cells = records.cells.assign(hardware=NASTY, notes=NASTY)
    report = report_on(replace(records, cells=cells))
    text, _, tex = documents(report, tmp_path)
    assert text.count(html.escape(NASTY, quote=False)) == 10  # a table, a line, the note of each cell
    assert "<b>" not in text and "<em>s</em>" not in text
    assert tex.count(r"A\&BC\_50\% \#1 \{x\}") == 9 and "A&B" not in tex
    machines = report.table("machines")
    assert r"A\&BC\_50\% \#1 \{x\}" in machines.latex()


def test_the_latex_is_ascii_and_its_links_have_an_aim(rendered):
    tex = rendered[2]
    assert tex.isascii() and not re.search(r"\[U\+|http|url\{", tex)
    labels = set(re.findall(r"\\label\{([^}]+)\}", tex))
    assert set(re.findall(r"\\hyperref\[([^]]+)\]", tex)) <= labels


def test_markdown_names_the_files_beside_it(document, rendered):
    text = rendered[1]
    images = re.findall(r"\]\((figures/[^)]+\.png)\)", text)
    assert images == [f"figures/{picture.name}.png" for picture in document.pictures]
    assert "$$" in text and "| ---" in text and "{{" not in text and "`{=" not in text


# ---------------------------------------------------------------------------- what is written


def test_all_four_are_written_with_their_figures_and_tables(written):
    out, document, _ = written
    for name in ("report.html", "report.md", "report.tex", "report.ipynb"):
        assert (out / name).stat().st_size > 10_000
    for picture in document.pictures:
        assert (out / "figures" / f"{picture.name}.png").read_bytes().startswith(b"\x89PNG")
        assert (out / "figures" / f"{picture.name}.pdf").read_bytes().startswith(b"%PDF")
    for sheet in document.sheets:
        assert "tabular" in (out / "tables" / f"{sheet.name}.tex").read_text(encoding="utf-8") or (
            "longtable" in (out / "tables" / f"{sheet.name}.tex").read_text(encoding="utf-8")
        )
        assert (out / "tables" / f"{sheet.name}.csv").is_file()
    left = [path.name for path in out.rglob("*") if "partial" in path.name]
    assert left == []


def test_the_notebook_is_valid_and_executed(written):
    out, document, _ = written
    notebook = nbformat.read(out / "report.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert all(len(cell.outputs) == 1 for cell in code)
    outputs = [cell.outputs[0].data for cell in code]
    assert sum("image/png" in data for data in outputs) == len(document.pictures)
    assert sum("<table" in data.get("text/html", "") for data in outputs) >= len(document.sheets)
    assert 'Report.read("../records", ' in code[0].source  # from the notebook's own folder
    titles = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert any("## What theory says" in source for source in titles)


def test_the_notebook_shows_what_its_cells_say(written):
    out, _, report = written
    notebook = nbformat.read(out / "report.ipynb", as_version=4)
    (claims,) = [cell for cell in notebook.cells if cell.source == 'report.table("claims")']
    assert (
        "C14" in claims.outputs[0].data["text/html"] and "C14" in claims.outputs[0].data["text/plain"]
    )
    assert any(repr(report.derive) in cell.source for cell in notebook.cells)
    (picture,) = [cell for cell in notebook.cells if cell.source == 'report.picture("variance")']
    image = (out / "figures" / "variance.png").read_bytes()
    assert base64.b64decode(picture.outputs[0].data["image/png"]) == image
    with pytest.raises(RequestError, match="no table nonsense"):
        report.table("nonsense")
    with pytest.raises(RequestError, match="no figure nonsense"):
        report.picture("nonsense")


def test_the_same_records_give_the_same_bytes(written, small):
    out, _, _ = written
    again = Report.read(small, **LIGHT)
    assert (out / "report.html").read_text(encoding="utf-8") == output.page(again, out / "figures")
    assert (out / "report.md").read_text(encoding="utf-8") == output.markdown(again)
    assert (out / "report.tex").read_text(encoding="utf-8") == output.latex(again)
    name = "test-accuracy-he-relu"
    other = out.parent / "again"
    other.mkdir()
    output.draw(again.picture(name), other)
    for suffix in ("png", "pdf", "svg"):
        file = f"{name}.{suffix}"
        assert (other / file).read_bytes() == (out / "figures" / file).read_bytes()


def test_a_cell_that_fails_is_a_failure(small, tmp_path, monkeypatch):
    monkeypatch.setattr(output, "opening", lambda report, out: "1 / 0")
    with pytest.raises(output.WorkError, match="ZeroDivisionError"):
        output.notebook(report_on(read(small)), tmp_path)


def test_partial_records_are_gaps_that_name_what_is_missing(written):
    _, document, _ = written
    gaps = "\n".join(document.gaps)
    assert "PReLU and ReLU share no setting" in gaps
    assert "no record of He · PReLU 2, 5, 10, 12 layers" in gaps
    assert "python cli.py cifar --preset no-norm" in gaps
    text = text_of(document)
    assert "no-norm: 24 of 24 configurations are missing" in text
    assert "0 of the 4 configurations have at least 3 seeds" in text


def test_the_abstract_and_the_table_of_answers_say_the_same(written):
    _, document, report = written
    text = text_of(document)
    for row, line in zip(report.table("answers").sections[0][1], answer_lines(report.conditions),
                         strict=True):  # fmt: skip
        assert line[1:] in text and row[0].plain in line and row[1].plain in line


def test_the_shortfall_is_told_in_standard_deviations_of_seeds(tmp_path):
    """One cell of the course report's, four seeds; the print five deviations away."""
    cells = cells_of("report", activations=("relu",), depths=(2,), seeds=(0, 1, 2, 3))
    records = study_of([one for one in cells if one.initializer == "he"], tmp_path)
    far = facts.distance(report_on(records).evidence)
    values = records.study.groupby("cell")["test_accuracy"].last().to_numpy()
    expected = (values.mean() - published_accuracy("he", "relu", 2)) / (
        values.std(ddof=1) * math.sqrt(1 + 1 / 4)
    )
    assert far["deviations"].mean() == pytest.approx(expected) and far["beyond"] == 1
    text = text_of(source.written(report_on(records), "gfm"))
    assert f"{abs(expected):.1f} such deviations" in text and "The luck of a seed does not do" in text
    assert "says nothing" not in text.split("He against N(0, 1)")[0].split("What came of it")[1]


@pytest.mark.parametrize("preset, dead", [("he2015", False), ("report", True)])
def test_a_single_cell_is_enough(tmp_path, preset, dead):
    """One cell of another study than the report's; one that diverged before its first epoch ended."""
    cell = cells_of(preset)[0]
    records = study_of([cell], tmp_path, {cell.cell_id: 0} if dead else None)
    report = report_on(records)
    document = source.written(report, "gfm")
    assert len(document.gaps) > 10
    text = text_of(document)
    assert "nan" not in text.lower().split()
    assert ("diverged" in text.lower()) or not dead
    assert all(documents(report, tmp_path))


def test_the_latex_compiles(written):
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex on this machine")
    out = written[0]
    ran = subprocess.run(output.compile_command(), cwd=out, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stdout[-2000:]
    assert (out / "report.pdf").stat().st_size > 50_000


def test_the_page_in_a_browser(written):
    chromium = find_browser()
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    address = (written[0] / "report.html").as_uri()
    with Browser(chromium) as browser:
        for width in (1280, 390):
            tab = browser.open(address, width=width)
            assert tab.problems == []
            assert [url for url in tab.requests if not url.startswith("data:")] == [address]
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            broken = "[...document.images].filter(i => i.complete && !i.naturalWidth).length"
            assert tab.evaluate(broken) == 0
            wide = "[...document.querySelectorAll('.scroll, .pictures')].filter(one => "
            wide += "one.scrollWidth > one.clientWidth).map(one => one.closest('figure'))"
            hint = "getComputedStyle(one, '::before').content.includes('swipe')"
            hints = tab.evaluate(f"{wide}.map(one => {hint})")
            assert all(hints) and (len(hints) > 5) == (width == 390)
            small = "[...document.images].map(one => one.getBoundingClientRect().width)"
            assert min(tab.evaluate(small)) > 400  # legible: they scroll instead of shrinking


def test_in_print_no_table_breaks_after_its_header():
    css = (output.TEMPLATES / "report.css").read_text(encoding="utf-8")
    kept = css[css.index("@media print") :].split("break-after: avoid")[0].splitlines()[-1]
    assert {"figcaption.title", "thead", "tr.section", "tbody tr:first-child"} <= set(
        part.strip(" {") for part in kept.split(",")
    )


# ------------------------------------------------------------------------------ the command


def error_of(capsys, *argv):
    code = cli.main([str(part) for part in argv])
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    return code, captured.err


def test_wrong_requests_are_one_line(capsys, tmp_path, small, monkeypatch):
    code, said = error_of(capsys, "report", "--records", tmp_path / "no")
    assert code == 2 and "is no folder" in said
    code, said = error_of(capsys, "report", "--records", tmp_path, "--out", tmp_path / "out")
    assert code == 2 and "holds no records" in said and "cifar" in said
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    code, said = error_of(capsys, "report", "--records", small, "--out", blocked)
    assert code == 2 and "cannot write to --out" in said
    monkeypatch.setattr("commands.options.PUBLISHED", tmp_path / "none")
    code, said = error_of(capsys, "report")
    assert code == 2 and "no published study" in said and "cifar" in said
    monkeypatch.setattr(output, "COMPILERS", ("no-such-latex",))
    code, said = error_of(capsys, "report", "--records", small, "--pdf", "--out", tmp_path / "pdf")
    assert code == 2 and "--pdf needs no-such-latex" in said and not (tmp_path / "pdf").exists()


def test_a_latex_that_fails_is_exit_1(tmp_path, monkeypatch):
    (tmp_path / "report.tex").write_text("")
    monkeypatch.setattr(output, "compiler", lambda: "pdflatex")
    failed = subprocess.CompletedProcess([], 1, stdout="noise\n! Missing $ inserted.\n")
    monkeypatch.setattr(output.subprocess, "run", lambda *args, **options: failed)
    with pytest.raises(output.WorkError, match="Missing"):
        output.compile_pdf(tmp_path)


def test_the_command_says_what_it_made(capsys, tmp_path, small, monkeypatch):
    made = []

    def stand_in(report, out, *, seed, on_step):
        made.append((report, seed))
        (out / "report.html").write_text("x")
        return output.Written([out / "report.html"], 3, 2, ["one"])

    monkeypatch.setattr("figures.report.write", stand_in, raising=False)
    assert cli.main(["report", "--records", str(small), "--seed", "4", "--out", str(tmp_path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "report on 8 trained cells: 2 tables, 3 figures, 1 gap" in said
    assert "report.html" in said.partition("Written in")[2]
    ((report, seed),) = made
    assert seed == 4 and report.derive.seed == 4 and report.stack.seed == 4
    assert report.rebuild == f"python cli.py report --records {small}"
    assert cli.main(["report", "--records", str(small), "--json", "--out", str(tmp_path)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["cells"], answer["figures"], answer["gaps"]) == (8, 3, ["one"])


def test_a_report_needs_a_cell(small):
    with pytest.raises(RequestError, match="no finished cell"):
        Report(read(small).of([]))
