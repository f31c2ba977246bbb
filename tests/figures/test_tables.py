"""Every table in every form, against files that a person has looked at and programs that read them."""

import dataclasses
import io
import json
import math
import re
import shutil
import subprocess
import unicodedata

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from pylatexenc.latexwalker import LatexWalker
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text
from tables_made_up import SHEETS, study, variance_rows

import cli
from empirical.judgment.statistics import INSUFFICIENT
from figures import tables
from figures.markup import PACKAGES, runs
from figures.maths import BAR, latex, markdown, marked, terminal
from figures.study.statistics import SINGLE_RUNS, statistics_tables
from figures.tables import Column, Sheet, words
from figures.theory.variance import variance_table

WIDTHS = (60, 80, 160)
ANSI = re.compile(r"\x1b\[[\d;]*m")


def render(renderable, width, *, color=False):
    stream = io.StringIO()
    system = "truecolor" if color else None
    Console(
        file=stream, width=width, force_terminal=color, color_system=system, no_color=not color
    ).print(renderable)
    return stream.getvalue()


@pytest.fixture(scope="module")
def sheets():
    return {name: make() for name, make in SHEETS.items()}


# --------------------------------------------------------------------------- as people see them


@pytest.mark.parametrize("name", SHEETS)
def test_every_table_is_as_it_was_looked_at(golden, sheets, name):
    """60, 80 and 160 columns without and with color (escapes made visible), LaTeX, Markdown."""
    parts = []
    for color in (False, True):
        for width in WIDTHS:
            text = render(sheets[name], width, color=color)
            parts.append((f"{width} columns{', color' * color}", text.replace("\x1b[", "⟨")))
    parts += [("LaTeX", sheets[name].latex()), ("Markdown", sheets[name].markdown())]
    golden(name, "".join(f"════ {title}\n{text}\n" for title, text in parts))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", SHEETS)
def test_color_changes_nothing_but_the_color_and_nothing_sticks_out(sheets, name, width):
    plain, colored = (render(sheets[name], width, color=color) for color in (False, True))
    assert "\x1b" not in plain and "\x1b" in colored
    assert ANSI.sub("", colored) == plain
    assert max(map(cell_len, plain.splitlines())) <= width


def test_alarms_are_red_and_verdicts_have_their_color(sheets):
    text = render(sheets["variance"], 80, color=True)
    assert "\x1b[31m-4.6" in text and "\x1b[31m+0.4" not in text
    text = render(sheets["growth"], 80, color=True)
    assert "\x1b[32mstable" in text and "\x1b[31mexploding" in text


def test_the_heading_of_a_section_runs_over_the_columns(sheets):
    long = "a heading that is wider than " + "the whole table " * 3
    sheet = dataclasses.replace(sheets["growth"], section=lambda row: long, spare=())
    lines = render(sheet, 160).splitlines()
    assert f" {long.strip()}" in [line.rstrip() for line in lines]
    assert max(map(cell_len, render(sheet, 60).splitlines())) <= 60


def test_every_layer_is_shown_on_request_and_always_in_the_csv():
    table = variance_rows()
    short, long = variance_table(table), variance_table(table, all_layers=True)
    count = [len(re.findall(r"^ +\d+ ", render(sheet, 80), re.M)) for sheet in (short, long)]
    assert count == [14, 60]
    assert len(pd.read_csv(io.StringIO(short.data.to_csv(index=False)))) == 60


def test_a_table_without_a_band_leaves_its_column_out():
    table = variance_rows()
    table[["log10_band_low", "log10_band_high", "z"]] = math.nan
    text = render(variance_table(table), 80)
    assert "95 %" not in text and "–" in text


def test_with_one_depth_the_title_does_not_wrap_to_the_table(sheets):
    one = dataclasses.replace(sheets["accuracy"], columns=sheets["accuracy"].columns[:2])
    lines = render(one, 80).splitlines()
    assert lines[0] == "Final test accuracy in percent" and max(map(len, lines)) > 70


# ---------------------------------------------------------------------------------- as data


@pytest.mark.parametrize("name", SHEETS)
def test_csv_and_records_are_the_data_to_the_last_bit(sheets, name):
    sheet = sheets[name]
    back = pd.read_csv(io.StringIO(sheet.data.to_csv(index=False)), dtype=str, keep_default_na=False)
    assert list(back) == list(sheet.data) and len(back) == len(sheet.data)
    for column in sheet.data.select_dtypes("float"):
        for ours, theirs in zip(sheet.data[column], back[column], strict=True):
            assert (math.isnan(ours) and theirs == "") or float(theirs) == ours
    assert len(json.dumps(cli.plain(sheet.data.to_dict("records")), allow_nan=False)) > 50
    assert sheet.data.to_dict("records")[0].keys() == set(sheet.data)


# --------------------------------------------------------------------------------- as LaTeX


def check_table(source):
    """The LaTeX of a table is ASCII and closes what it opens; how many cells each of its rows has."""
    assert source.isascii() and source.endswith("\n")
    LatexWalker(source, tolerant_parsing=False).get_latex_nodes()
    rows = [line for line in source.splitlines() if line.endswith((r"\\", r"\\*"))]
    rows = [row for row in rows if not row.startswith((r"\caption", r"\multicolumn"))]
    (count,) = {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows}
    assert not any(row.startswith(("[", "*")) for row in rows)
    return count


@pytest.mark.parametrize("name", SHEETS)
def test_latex_is_well_formed(sheets, name):
    assert check_table(sheets[name].latex()) == len(sheets[name].columns)


def test_pdflatex_sets_every_table(sheets, tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex here")
    body = "\n\\clearpage\n".join(sheet.latex() for sheet in sheets.values())
    packages = rf"\usepackage[T1]{{fontenc}}\usepackage{{{','.join(PACKAGES)}}}"
    source = rf"\documentclass{{article}}{packages}\begin{{document}}{body}\end{{document}}"
    (tmp_path / "all.tex").write_text(source, encoding="ascii")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
        cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    wide = [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt", done.stdout)]
    assert max(wide, default=0.0) < 12  # not seen in a table; a letter is 5 wide


NASTY = st.text(
    st.sampled_from("ab Z09·×±−→∞σφχ²₁ŷ½√()[]{}|_^%#&\\<>\"'`*.,:;-+/=–…§“”é✓~@!"), max_size=40
)


@settings(max_examples=300, deadline=None)
@given(NASTY)
def test_any_text_becomes_well_formed_latex(text):
    source = latex(marked(text))
    assert source.isascii()
    LatexWalker(source, tolerant_parsing=False).get_latex_nodes()
    assert not re.search(r"(?<!\\)[#&%]", source)


@pytest.mark.parametrize(
    "text, source",
    [
        ("95 % of nets, fan_out", r"95 \% of nets, fan\_out"),
        ("1.86e-09", r"$1.86 \times 10^{-9}$"),
        ("-4.6", r"\ensuremath{-}4.6"),
        ("leaky-relu:0.1 in torch.nn", "leaky-relu:0.1 in torch.nn"),
        (r"the $\sigma_w^2$ of \$2", r"the $\sigma_w^2$ of \$2"),
        ("the slope of y_l and x_(l−1)", r"the slope of $y_{l}$ and $x_{l\ensuremath{-}1}$"),
        ("Glorot & Bengio", r"Glorot \& Bengio"),
        ("a {b} \\c #1", r"a \{b\} {\textbackslash}c \#1"),
    ],
)
def test_what_is_maths_becomes_maths(text, source):
    assert latex(marked(text)) == source


@pytest.mark.parametrize(
    "text, shown",
    [
        (r"$\mathrm{Var}[y_{l-1}] = (1 + a^2)^{L-1}$", "Var[y_(l−1)] = (1 + a²)^(L−1)"),
        (r"$\chi_1$, $q^*$, $|z| \leq 4$", "χ₁, q*, |z| ≤ 4"),
        (r"$\prod \tfrac12 \cdot \hat{n}_l$ for \$2", "Π ½·n̂_l for $2"),
    ],
)
def test_maths_is_unicode_in_a_terminal(text, shown):
    assert unicodedata.normalize("NFC", terminal(text)) == unicodedata.normalize("NFC", shown)


def test_a_row_that_begins_with_a_bracket_is_no_argument():
    data = pd.DataFrame({"range": ["[1, 2]", "[3, 4]"], "n": [1, 2]})
    sheet = Sheet(name="x", title="x", data=data, columns=(words("range", "range"), Column("n", "n")))
    source = sheet.latex()
    check_table(source)
    assert "\\\\\n[" not in source and "{}[3, 4]" in source.replace("$", "")


def test_a_table_is_broken_between_pages_with_its_header_repeated():
    data = pd.DataFrame({"n": range(3)})
    sheet = Sheet(name="long", title="Long", data=data, columns=(Column("n", "n"),), notes=("Note.",))
    source = sheet.latex()
    check_table(source)
    assert r"\begin{longtable}" in source and source.count(r"\toprule") == 2


def test_a_wide_table_is_set_smaller_and_then_folded():
    def sheet(letters):
        data = pd.DataFrame({"text": ["word " * (letters // 5)], "n": [1]})
        return Sheet(name="x", title="x", data=data, columns=(words("text", "text"), Column("n", "n")))

    sizes = [sheet(letters).latex() for letters in (40, 70, 400)]
    assert [("footnotesize" in source, r"{xltabular}{\linewidth}" in source) for source in sizes] == [
        (False, False), (False, False), (True, True),
    ]  # fmt: skip


# ------------------------------------------------------------------------------ as Markdown


KINDS = {"text", "text_special", "html_inline", "strong_open", "strong_close"}


def read_markdown(source):
    """The cells of the first table, by markdown-it, as text; a line break is a space."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(source)
    found, row = [], None
    for token, inline in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "tr_open":
            row = []
            found.append(row)
        elif token.type in ("th_open", "td_open"):
            kinds = {child.type for child in inline.children}
            assert kinds <= {"text", "text_special", "html_inline", "strong_open", "strong_close"}, (
                kinds
            )
            text = "".join(
                " " if child.content == "<br>" else child.content for child in inline.children
            )
            row.append(" ".join(text.split()))
    return found


def words_of(cell):
    """A cell as plain text with its maths, on one line."""
    return " ".join(" ".join("".join(text for text, _ in line) for line in runs(cell)).split())


@pytest.mark.parametrize("name", SHEETS)
def test_markdown_has_the_same_cells(sheets, name):
    sheet = sheets[name]
    header, *body = read_markdown(sheet.markdown())
    assert header == [" ".join(column.name.replace("|", BAR).split()) for column in sheet.columns]
    expected = []
    for heading, records in sheet.sections:
        if heading:
            blank = [""] * len(header)
            blank[sheet.heading_column] = marked(heading)
            expected.append(blank)
        expected += [[words_of(cell) for cell in record] for record in records]
    assert body == expected
    for note in sheet.notes:
        assert f"\n\n{markdown(marked(note))}\n" in sheet.markdown()


@settings(max_examples=300, deadline=None)
@given(NASTY)
def test_any_text_survives_markdown(text):
    data = pd.DataFrame({"text": [text]})
    sheet = Sheet(name="x", title="x", data=data, columns=(words("a", "text"), words("b", "text")))
    assert read_markdown(sheet.markdown())[1] == [words_of(Text(text))] * 2


# ---------------------------------------------------------------------------- what is written


def test_a_command_writes_each_table_in_each_form_and_lists_it(capsys, tmp_path):
    argv = ["gains", "--activation", "relu", "tanh", "--device", "cpu", "--out", str(tmp_path)]
    assert cli.main(argv) == 0
    listed = capsys.readouterr().out.partition(f"Written in {tmp_path}:\n")[2].split()
    assert sorted(listed) == sorted(path.name for path in tmp_path.iterdir())
    gains = [f"gains.{suffix}" for suffix in ("csv", "tex", "md", "png", "pdf")]
    assert listed[: len(gains)] == gains and {"gains-torch.tex", "gains-torch.md"} <= set(listed)
    check_table((tmp_path / "gains.tex").read_text(encoding="ascii"))
    assert read_markdown((tmp_path / "gains.md").read_text(encoding="utf-8"))[2][0] == "tanh"


@pytest.mark.parametrize("form, suffixes", [("csv", {".csv"}), ("latex", {".csv", ".tex"})])
def test_forms_can_be_chosen_and_the_csv_is_always_there(tmp_path, form, suffixes, capsys):
    argv = ["gains", "--activation", "relu", "--device", "cpu", "--out", str(tmp_path)]
    assert cli.main([*argv, "--tables", form, "--quiet"]) == 0
    assert {path.suffix for path in tmp_path.iterdir()} == suffixes | {".png", ".pdf"}
    assert "Written" not in capsys.readouterr().out


def test_an_unknown_form_is_a_wrong_request(capsys):
    assert cli.main(["gains", "--tables", "word"]) == 2
    assert "invalid choice: 'word'" in capsys.readouterr().err


def test_a_command_that_asked_for_no_folder_writes_none(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["cifar", "--list-presets"]) == 0
    assert "effective-lr" in capsys.readouterr().out and not list(tmp_path.iterdir())


# ---------------------------------------------------------------------------- what seeds say


def test_one_seed_gets_one_line_and_no_verdict():
    (only,) = statistics_tables(study(1))
    assert only.plain.startswith(SINGLE_RUNS) and "no verdict" in SINGLE_RUNS
    needed = int(re.search(r"--seeds (\d+)", only.plain)[1])
    short, enough = (statistics_tables(study(seeds, diverged=()))[1] for seeds in (needed - 1, needed))
    assert set(short.data["verdict"]) == {INSUFFICIENT}
    assert INSUFFICIENT not in set(enough.data.query("compared == 'arm'")["verdict"])


def test_statistics_are_shown_with_the_arms_names_and_divergence_apart():
    cells, pairs = statistics_tables(study(9))
    assert (cells.name, pairs.name) == ("statistics_cells", "statistics_pairs")
    text = " ".join(render(cells, 80).split())
    assert "1 of 9" in text and "95 % interval" in text
    shown = render(pairs, 160)
    assert "He − N(0, 1)" in shown and "He higher" in shown and "first higher" not in shown
    assert "0, 1" in shown  # one diverged cell of N(0, 1) at depth 12
    assert "diverged:" in shown and "diverged" not in render(
        statistics_tables(study(9, diverged=()))[1], 160
    )


def test_few_seeds_are_said_to_be_few_and_how_many_would_do():
    text = " ".join(render(statistics_tables(study(2))[1], 160).split())
    assert text.count(f"{INSUFFICIENT} (3 at least)") == 8  # two seeds know no spread


def test_two_seeds_of_a_single_arm_have_cells_but_nothing_to_compare():
    lone = study(2, initializers=("he",))
    (only,) = statistics_tables(lone[lone["activation"] == "relu"])
    assert only.name == "statistics_cells"


# ------------------------------------------------------------------------------------ numbers


@given(st.floats(-4000, 4000))
def test_scientific_is_right_to_three_digits(log10):
    mantissa, _, exponent = tables.scientific(log10).partition("e")
    back = math.log10(float(mantissa)) + int(exponent or 0)
    assert back == pytest.approx(log10, abs=math.log10(1.006))


@pytest.mark.parametrize(
    "log10, text", [(0.0, "1.00"), (math.log10(999.6), "1.00e+03"), (-0.00001, "1.00"), (math.nan, "–")]
)
def test_scientific_rounds_up_into_the_next_power(log10, text):
    assert tables.scientific(log10) == text
