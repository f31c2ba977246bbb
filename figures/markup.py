r"""A described table as LaTeX (booktabs), as Markdown (GitHub's pipes) and as HTML.

All three show every column, also those that a narrow terminal does without.  A value of several lines
takes several rows in LaTeX and a ``<br>`` in the others.  In LaTeX a table may be broken between pages
with its header repeated; one that is wider than the line is set smaller, and its words fold.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

import pypandoc
from rich.cells import cell_len
from rich.text import Text

from figures.maths import latex, markdown, marked, terminal, unicode
from figures.prose import environment

if TYPE_CHECKING:
    from figures.tables import Sheet

FORMULA = "bold cyan"  # the style of what is a formula in a cell, written as LaTeX
STYLES = {"green": "good", "red": "bad", "yellow": "open", "bold": "strong", "dim": "dim"}
PACKAGES = (
    "amsmath",
    "amssymb",
    "array",
    "booktabs",
    "longtable",
    "xltabular",
)  # the last one where words fold
ROOM = {r"\small": 75, r"\footnotesize": 81, r"\scriptsize": 92}  # characters in a line of 345 pt
GAP = 2.2  # characters that the space between two columns takes
LONG = 24  # a column of words beyond this may be folded
PANDOC = (
    "markdown-smart-auto_identifiers-implicit_figures-blank_before_header"
    "+lists_without_preceding_blankline"
)


def pandoc(source: str, to: str, *options: str) -> str:
    """Pandoc's Markdown in another format; the same source gives the same bytes."""
    return str(pypandoc.convert_text(source, to, PANDOC, extra_args=["--wrap=none", *options]))


Run = tuple[str, list[str]]  # text with its maths, and the names of its styles


def runs(cell: Text) -> list[list[Run]]:
    """The lines of a cell, each in runs of one style."""
    return [[_run(run) for run in _divided(line)] for line in cell.split(allow_blank=True)]


def _divided(line: Text) -> list[Text]:
    edges = sorted({edge for span in line.spans for edge in (span.start, span.end)} - {0, len(line)})
    return [run for run in line.divide(edges) if run.plain] or [Text("")]


def _run(run: Text) -> Run:
    styles = [str(run.style), *(str(span.style) for span in run.spans)]
    if FORMULA in styles:
        return f"${run.plain}$", []
    return marked(run.plain.replace("$", r"\$")), [STYLES[one] for one in styles if one in STYLES]


def in_terminal(cell: Text) -> Text:
    """A cell whose formulas are Unicode."""
    if not any(span.style == FORMULA for span in cell.spans):
        return cell
    lines = (_divided(line) for line in cell.split(allow_blank=True))
    return Text("\n").join(Text.assemble(*map(_in_unicode, line)) for line in lines)


def _in_unicode(run: Text) -> Text:
    if any(span.style == FORMULA for span in run.spans):
        return Text.assemble((unicode(run.plain), FORMULA))
    return run


# ------------------------------------------------------------------------------------ LaTeX


def latex_table(sheet: Sheet) -> str:
    r"""``sheet`` as a ``longtable`` with caption, label ``tab:NAME`` and notes, in ASCII.

    The packages it needs are ``PACKAGES``; the first line says so.
    """
    size, columns, folds = _layout(sheet)
    kind, packages = ("xltabular", PACKAGES) if folds else ("longtable", PACKAGES[:-1])
    names = [[latex(line) for line in column.name.split("\n")] for column in sheet.columns]
    told = {"packages": packages, "size": size, "kind": kind, "columns": columns, "names": names}
    return _TEMPLATES.get_template("table.tex").render(sheet=sheet, **told)


def _latex_lines(cell: Text) -> list[str]:
    return ["".join(latex(text) for text, _ in line) for line in runs(cell)]


def _row(cells: list[list[str]]) -> str:
    """A row of cells of several lines, which no page break divides."""
    printed = (" & ".join(row) for row in zip_longest(*cells, fillvalue=""))
    # a bracket or a star behind \\ would be its argument
    return " \\\\*\n".join(f"{{}}{row}" if row[:1] in ("[", "*") else row for row in printed) + r" \\"


def _layout(sheet: Sheet) -> tuple[str, str, bool]:
    """The size of the letters, the columns, and whether words fold."""
    records = [record for _, found in sheet.sections for record in found]
    natural = [
        max(cell_len(line) for text in texts for line in text.split("\n"))
        for texts in (
            (terminal(column.name), *(in_terminal(record[place]).plain for record in records))
            for place, column in enumerate(sheet.columns)
        )
    ]
    width = sum(natural) + GAP * (len(natural) - 1)
    long = [column.folds and size > LONG for column, size in zip(sheet.columns, natural, strict=True)]
    folds = any(long) and width > ROOM[r"\small"]
    size = (
        r"\footnotesize"
        if folds
        else next((n for n, room in ROOM.items() if width <= room), [*ROOM][-1])
    )
    if not folds:
        return size, "".join(column.align[0] for column in sheet.columns), False
    mean = sum(n for n, one in zip(natural, long, strict=True) if one) / sum(long)
    return size, "".join(
        rf">{{\hsize={n / mean:.2f}\hsize\raggedright\arraybackslash}}X" if one else column.align[0]
        for n, one, column in zip(natural, long, sheet.columns, strict=True)
    ), True  # fmt: skip


# ------------------------------------------------------------------------- Markdown and HTML


def _cell(cell: Text, *, styled: bool) -> str:
    """A cell in Markdown; its styles as classes, for pandoc, if ``styled``."""
    return "<br>".join(
        "".join(
            f"[{markdown(text)}]{{{' '.join(f'.{name}' for name in names)}}}"
            if styled and names and text.strip() else markdown(text)
            for text, names in line
        )
        for line in runs(cell)
    )  # fmt: skip


def markdown_table(sheet: Sheet) -> str:
    """``sheet`` as GitHub's Markdown: title in bold, pipes, a paragraph per note."""
    rows = [[markdown(" ".join(column.name.split())) for column in sheet.columns]]
    for heading, records in sheet.sections:
        if heading:
            blank = [""] * len(sheet.columns)
            blank[sheet.heading_column] = f"**{markdown(marked(heading))}**"
            rows.append(blank)
        rows += [[_cell(cell, styled=False) for cell in record] for record in records]
    widths = [max(3, *map(cell_len, column)) for column in zip(*rows, strict=True)]
    right = [column.align == "right" for column in sheet.columns]
    rule = ["-" * (width - end) + ":" * end for width, end in zip(widths, right, strict=True)]
    lines = [f"**{markdown(marked(sheet.title))}**", ""]
    for row in (rows[0], rule, *rows[1:]):
        padded = [_padded(*place) for place in zip(row, widths, right, strict=True)]
        lines.append(f"| {' | '.join(padded)} |")
    for note in sheet.notes:
        lines += ["", markdown(marked(note))]
    return "\n".join(lines) + "\n"


def _padded(text: str, width: int, right: bool) -> str:
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def html_source(sheet: Sheet) -> str:
    """``sheet`` as a table of HTML whose words are Markdown, as pandoc reads it."""
    return _TEMPLATES.get_template("table.html").render(sheet=sheet)


def html_table(sheet: Sheet) -> str:
    """``sheet`` as HTML with MathML."""
    return pandoc(html_source(sheet), "html", "--mathml")


_TEMPLATES = environment(
    "figures",
    keep_trailing_newline=True,
    filters={
        "markdown": markdown,
        "words": lambda text: markdown(marked(text)),
        "cell": _cell,
        "latex": lambda text: latex(marked(text)),
        "latex_lines": _latex_lines,
        "row": _row,
    },
)
