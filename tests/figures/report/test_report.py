"""The report: four files from one document, every number from data, every gap named, the same bytes."""

import base64
import html
import json
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
import figures.report.html as page
from empirical.judgment.fan_agreement import fan_agreement
from empirical.records.published import read
from figures.report import Report, environment, model, output
from figures.report.notebook import execute, shown
from theory.errors import RequestError
from theory.specs import DerivationSpec, VarianceSpec

PROSE = Path(environment.__file__).parent / "templates" / "prose"
LIGHT = {
    "derive": DerivationSpec(width=32, depth=4, draws=20, device="cpu"),
    "stack": VarianceSpec(depth=4, width=16, draws=10, engine="law", device="cpu"),
}
NASTY = r"A&BC_50% #1 {x} ~^\$ <b> *s* `c` [l](u)"
SVG = b'<svg width="72.0pt" height="36pt" viewBox="0 0 72 36"></svg>'


def report_on(records, **options):
    return Report(records, [Path("records")], **LIGHT | options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Every cell of every study, one seed."""
    folder = tmp_path_factory.mktemp("whole")
    return study_of(cells_of(), folder)


@pytest.fixture(scope="module")
def document(whole):
    return report_on(whole).document()


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
    report.evidence, report.derivation, report.stack_table  # noqa: B018 (worked out before it is written)
    output.write(report, out)
    return out, report.document(), report


def text_of(document):
    """Every word of the document's own prose, in order."""
    found = []
    for block in document.blocks:
        match block:
            case model.Paragraph(words) | model.Heading(words) | model.Gap(words):
                found.append(model.plain(words))
            case model.Bullets(items):
                found += map(model.plain, items)
            case model.Pictures():
                found.append(model.plain(block.caption))
            case model.Listing(text):
                found.append(text)
    return "\n".join(found)


def rendered(document):
    """(html, markdown, tex) without drawing anything."""
    pictures = {picture.name: SVG for picture in document.pictures}
    templates = environment.files()
    return (
        page.render(document, templates, pictures, ("<p id='fx'>here</p>", "", "")),
        output.markdown.render(document, templates),
        output.tex.render(document, templates),
    )


# --------------------------------------------------------------------------------- the text


def test_no_number_is_typed_into_the_prose():
    """Digits stand in formulas, in the name N(0, 1), and in what is filled in; nowhere else."""
    templates = sorted(PROSE.glob("*.md"))
    assert len(templates) > 8
    for template in templates:
        text = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", template.read_text(encoding="utf-8"), flags=re.S)
        text = re.sub(r"\$\$.*?\$\$|\$[^$]+\$", "", text, flags=re.S).replace("N(0, 1)", "")
        assert not re.findall(r".*\d.*", text), template.name


def test_the_text_follows_the_data(whole, document):
    """He is 20 points ahead in the made-up study; with three more the text says so everywhere."""
    text = text_of(document)
    assert "He is ahead of N(0, 1) in 8 of 8 settings recorded for both" in text
    assert "the difference is +20.0 points on average, of single runs" in text
    assert "The difference is +19.98 points on average, from +19.98 with ReLU and 2 layers" in text
    assert "8 comparisons need 9 seeds" in text
    moved = whole.study["initializer"] == "he"
    study = whole.study.assign(test_accuracy=whole.study["test_accuracy"] + 3.0 * moved)
    changed = report_on(replace(whole, study=study)).document()
    assert "the difference is +23.0 points on average" in text_of(changed)
    assert "+20.0 points" not in text_of(changed)
    before, after = (
        next(sheet for sheet in one.sheets if sheet.name == "accuracy").markdown()
        for one in (document, changed)
    )
    assert "61.95" in before and "64.95" in after and "61.95" not in after


def test_text_from_data_is_never_markup():
    words = model.line(f"before {model.escaped(NASTY)} after")
    assert words == (model.Words(f"before {NASTY} after"),)
    assert model.parse(model.escaped("## no heading"), None) == (
        model.Paragraph((model.Words("## no heading"),)),
    )
    (code,) = model.line(f"`{model.escaped('cli.py --init normal:$1 [x]')}`")
    assert code == model.Code("cli.py --init normal:$1 [x]")


def test_a_template_that_asks_for_what_is_not_there_fails():
    with pytest.raises(UndefinedError, match="nothing"):
        environment.prose().from_string("{{ nothing }}").render()
    with pytest.raises(ValueError, match="@nonsense"):
        Report._resolve(None, "nonsense", [])


# ---------------------------------------------------------------------------- the whole study


def test_the_whole_study_has_every_section_figure_and_table(document):
    assert [section.name for section in document.sections] == [
        "question", "theory", "protocol", "results", "paired", "claims", "default", "limits",
        "reproduce", "explorer", "references",
    ]  # fmt: skip
    names = {picture.name for picture in document.pictures}
    course = {f"{what}-{law}-{activation}" for what in ("average-weight", "test-accuracy")
              for law in ("he", "normal") for activation in ("relu", "prelu")}  # fmt: skip
    assert course | {"derive", "variance", "stall", "slopes", "accuracy-map"} <= names
    assert {sheet.name for sheet in document.sheets} == {
        "derive", "protocol", "coverage", "accuracy", "fan-agreement", "he-normal", "prelu-relu",
        "claims", "conditions", "machines",
    }  # fmt: skip
    assert document.gaps == []
    assert all(f"C{number}." in text_of(document) for number in range(1, 15))
    assert "Every configuration of every study is recorded." in text_of(document)


def test_the_fan_modes_are_compared_by_both_measures(small):
    """Accuracy and the gap to N(0, 1) are measures of the same arms: one must not hide the other."""
    report = Report.read(small, **LIGHT)
    sheet = report.sheets()["fan-agreement"]()
    assert [heading for heading, _ in sheet.sections] == ["accuracy", "gap to N(0, 1)"]
    expected = fan_agreement(report.evidence).set_index(["measure", "arm", "depth"])
    for (_, rows), measure in zip(sheet.sections, ("accuracy", "gap"), strict=True):
        for row in rows:
            value = expected.loc[(measure, row[0].plain, "all"), "mean_absolute_difference"]
            cells = expected.loc[(measure, row[0].plain, "all"), "cells"]
            assert row[-2].plain.startswith(f"{value:.2f}" if cells else "–")


def test_the_page_asks_the_network_for_nothing_and_shows_every_figure(document):
    text = rendered(document)[0]
    sources = re.findall(r"(?:src|srcset|poster)\s*=\s*[\"']([^\"']*)", text)
    assert len(sources) == len(document.pictures)
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert re.findall(r"<link[^>]*href=\"([^\"]*)", text) == ["data:,"]
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|<script[^>]+src", text)
    assert "default-src 'none'" in text and "<math" in text and "xmlns" not in text
    assert "<p id='fx'>here</p>" in text
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    targets = re.findall(r'href="#([^"]+)"', text)
    assert targets and set(targets) <= set(ids)
    for picture in document.pictures:
        assert f'alt="{html.escape(picture.title)}"' in text
    shown_text = html.unescape(re.sub(r"<[^>]+>", "", text))
    assert not re.search(r"\bnan\b|\bNone\b(?! of)|\{\{|\{%", shown_text)


def test_a_formula_of_a_table_is_set_and_a_style_is_kept(document):
    text = page.table(next(sheet for sheet in document.sheets if sheet.name == "derive"))
    assert text.count("<math") == 21 and '<span class="good">✓</span>' in text
    assert page.text_html("w < v_(l−1)") == "w &lt; <i>v</i><sub>l−1</sub>"
    assert "<mi>Var</mi>" in page.mathml(r"\operatorname{Var}[w]")


def test_special_characters_of_data_are_escaped_everywhere(small):
    records = read(small)
    cells = records.cells.assign(hardware=NASTY, notes=NASTY)
    document = report_on(replace(records, cells=cells)).document()
    text, _, tex = rendered(document)
    assert text.count(html.escape(NASTY, quote=False)) == 10  # a table, a line, the note of each cell
    assert "<b>" not in text and "<em>s</em>" not in text
    assert tex.count(r"A\&BC\_50\% \#1 \{x\}") == 9 and "A&B" not in tex
    machines = next(sheet for sheet in document.sheets if sheet.name == "machines")
    assert r"A\&BC\_50\% \#1 \{x\}" in machines.latex()


def test_the_latex_is_balanced(document):
    tex = rendered(document)[2]
    bare = re.sub(r"\\[\\{}%]", "", tex)
    bare = re.sub(r"%.*", "", bare)
    depth = 0
    for sign in bare:
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0
    assert depth == 0 and bare.count("$") % 2 == 0
    open_environments = []
    for kind, name in re.findall(r"\\(begin|end)\{([a-z*]+)\}", tex):
        if kind == "begin":
            open_environments.append(name)
        else:
            assert open_environments.pop() == name
    assert open_environments == []
    labels = set(re.findall(r"\\label\{([^}]+)\}", tex))
    assert set(re.findall(r"\\hyperref\[([^]]+)\]", tex)) <= labels
    assert not re.search(r"http|url\{", tex)


def test_markdown_names_the_files_beside_it(document):
    text = rendered(document)[1]
    images = re.findall(r"\]\((figures/[^)]+\.png)\)", text)
    assert images == [f"figures/{picture.name}.png" for picture in document.pictures]
    assert "$$\n" in text and "| ---" in text and "{{" not in text


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
    assert 'Report.read("../records")' in code[0].source  # from the notebook's own folder
    titles = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert any("## What theory says" in source for source in titles)


def test_a_cell_of_the_notebook_is_run_and_not_pretended(written):
    report = written[2]
    space = {"shown": shown, "report": report}
    (result,) = execute('print("hm")\nshown(report.table("claims"))', space, 7)[1:]
    assert result["execution_count"] == 7 and "C14" in "".join(result["data"]["text/html"])
    with pytest.raises(RequestError, match="no table nonsense"):
        execute('report.table("nonsense")', space, 8)
    with pytest.raises(RequestError, match="no figure nonsense"):
        report.picture("nonsense")


def test_the_same_records_give_the_same_bytes(written, small):
    out, document, _ = written
    again = Report.read(small, **LIGHT)
    second = again.document()
    assert rendered(second)[1:] == rendered(document)[1:]
    assert (out / "report.md").read_text(encoding="utf-8") == rendered(second)[1]
    assert (out / "report.tex").read_text(encoding="utf-8") == rendered(second)[2]
    name = "test-accuracy-he-relu"
    other = out.parent / "again"
    other.mkdir()
    svg = output.draw(again.picture(name), other)
    for suffix in ("png", "pdf"):
        file = f"{name}.{suffix}"
        assert (other / file).read_bytes() == (out / "figures" / file).read_bytes()
    lean = re.sub(rb"^.*?(?=<svg)|<metadata>.*?</metadata>\s*", b"", svg, flags=re.S)
    assert base64.b64encode(lean).decode() in (out / "report.html").read_text(encoding="utf-8")


def test_partial_records_are_gaps_that_name_what_is_missing(written):
    _, document, _ = written
    gaps = "\n".join(document.gaps)
    assert "PReLU and ReLU share no setting" in gaps
    assert "no record of He · PReLU 2, 5, 10, 12 layers" in gaps
    assert "python cli.py cifar --preset no-norm" in gaps
    text = text_of(document)
    assert "no-norm: 24 of 24 configurations are missing" in text
    assert "The configurations have 2 seeds each" in text


@pytest.mark.parametrize("preset, dead", [("he2015", False), ("report", True)])
def test_a_single_cell_is_enough(tmp_path, preset, dead):
    """One cell of another study than the report's; one that diverged before its first epoch ended."""
    cell = cells_of(preset)[0]
    records = study_of([cell], tmp_path, {cell.cell_id: 0} if dead else None)
    document = report_on(records).document()
    assert len(document.gaps) > 10
    text = text_of(document)
    assert "nan" not in text.lower().split()
    assert ("diverged" in text.lower()) or not dead
    assert all(rendered(document))


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
    monkeypatch.setattr("commands.study.report.DATA", tmp_path / "none")
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

    monkeypatch.setattr(output, "write", stand_in)
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
