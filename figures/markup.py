r"""A described table as LaTeX (booktabs) and as Markdown (GitHub's pipes).

Both show every column, also those that a narrow terminal does without.  A value of several lines
takes several rows in LaTeX and a ``<br>`` in Markdown.  In LaTeX a table is scaled to the line it has:
a size smaller, then with its long words folded; one longer than a page becomes a ``longtable``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import repeat, zip_longest
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from figures.latex import formula, latex

if TYPE_CHECKING:
    from figures.tables import Column, Sheet

FORMULA = "bold cyan"  # the style of a line that is one formula
PACKAGES = ("amssymb", "array", "booktabs", "longtable")
PAGE_ROWS = 40
# Characters that a line of 345 pt holds, by size; the space between two columns takes GAP of them.
ROOM = {"": 68, r"\small": 75, r"\footnotesize": 81, r"\scriptsize": 92}
GAP = 2.2
FOLDED = r"\footnotesize"  # the size at which words fold rather than become smaller
LONG = 24  # a column of words beyond this may be folded

_MARKDOWN = re.compile(r"([\\|*`>~$])|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[])")


# ------------------------------------------------------------------------------------ LaTeX


def latex_table(sheet: Sheet) -> str:
    r"""``sheet`` as a ``table`` (or ``longtable``) with caption, label ``tab:NAME`` and notes.

    The packages it needs are ``PACKAGES``; the first line says so.
    """
    body = _body(sheet)
    size, widths = _layout(sheet)
    preamble = "".join(
        rf">{{\raggedright\arraybackslash}}p{{{width:.2f}\linewidth}}" if width else column.align[0]
        for column, width in zip(sheet.columns, widths, strict=True)
    )
    header = " & ".join(latex(column.header) for column in sheet.columns) + r" \\"
    write = _long if _printed(sheet, size, widths) > PAGE_ROWS else _floating
    needs = f"% needs \\usepackage{{{','.join(PACKAGES)}}}"
    lines = [needs, *write(sheet, f"@{{}}{preamble}@{{}}", header, body, size)]
    return "\n".join(lines) + "\n"


def _floating(sheet: Sheet, preamble: str, header: str, body: list[str], size: str) -> list[str]:
    return [
        r"\begin{table}[htbp]",
        r"\centering" + _size(size),
        r"\setlength{\belowcaptionskip}{4pt}",
        rf"\caption{{{latex(sheet.title)}}}\label{{tab:{sheet.name}}}",
        rf"\begin{{tabular}}{{{preamble}}}",
        r"\toprule",
        header,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        *([r"\par\medskip", *_notes(sheet)] if sheet.notes else []),
        r"\end{table}",
    ]


def _long(sheet: Sheet, preamble: str, header: str, body: list[str], size: str) -> list[str]:
    return [
        r"\begingroup" + _size(size),
        rf"\begin{{longtable}}{{{preamble}}}",
        rf"\caption{{{latex(sheet.title)}}}\label{{tab:{sheet.name}}}\\",
        *(r"\toprule", header, r"\midrule", r"\endfirsthead"),
        *(r"\toprule", header, r"\midrule", r"\endhead"),
        *(r"\bottomrule", r"\endfoot"),
        *body,
        r"\end{longtable}",
        *_notes(sheet),
        r"\endgroup",
    ]


def _size(size: str) -> str:
    space = 3 if size == list(ROOM)[-1] else 4
    return rf"{size}\setlength{{\tabcolsep}}{{{space}pt}}" if size else ""


def _notes(sheet: Sheet) -> list[str]:
    if not sheet.notes:
        return []
    paragraphs = "\\par\n".join(map(latex, sheet.notes))
    return [rf"\noindent\begin{{minipage}}{{\linewidth}}\footnotesize {paragraphs}\end{{minipage}}"]


def _body(sheet: Sheet) -> list[str]:
    lines: list[str] = []
    for heading, records in sheet.sections:
        if lines:
            lines.append(r"\addlinespace")
        if heading:
            lines.append(
                rf"\multicolumn{{{len(sheet.columns)}}}{{@{{}}l}}{{\textbf{{{latex(heading)}}}}} \\*"
            )
        for index, record in enumerate(records):
            printed = list(zip_longest(*map(_latex_lines, record), fillvalue=""))
            if index and (len(printed) > 1 or sheet.spaced):
                lines.append(r"\addlinespace[0.3em]")
            written = [_guarded(" & ".join(cells)) for cells in printed]
            lines.append(" \\\\*\n".join(written) + r" \\")  # the star: no new page in between
    return lines


def _printed(sheet: Sheet, size: str, widths: Sequence[float]) -> int:
    """About how many lines the body takes, with those into which words are folded."""
    total = 0
    for heading, records in sheet.sections:
        total += bool(heading)
        for record in records:
            rows = zip_longest(*(cell.plain.split("\n") for cell in record), fillvalue="")
            total += sum(max(map(_folded, row, widths, repeat(ROOM[size]))) for row in rows)
    return total


def _folded(text: str, width: float, room: int) -> int:
    """Into how many lines a column of ``width`` (a share of the line; 0: as wide as it needs) folds."""
    return max(1, math.ceil(cell_len(text) / (width * room))) if width else 1


def _guarded(row: str) -> str:
    r"""A row behind ``\\``, which would take a bracket or a star as its argument."""
    return f"{{}}{row}" if row.startswith(("[", "*")) else row


def _latex_lines(cell: Text) -> list[str]:
    lines = []
    for line in cell.split(allow_blank=True):
        whole = any(span.style == FORMULA for span in line.spans)
        lines.append(f"${formula(line.plain)}$" if whole else latex(line.plain))
    return lines


def _layout(sheet: Sheet) -> tuple[str, list[float]]:
    """The size of the letters, and the share of the line of each column that must fold (else 0)."""
    natural = [
        max(cell_len(line) for text in (column.header, *cells) for line in text.splitlines() or [""])
        for column, *cells in _plain_columns(sheet)
    ]
    gaps = GAP * (len(natural) - 1)
    long = [column.folds and width > LONG for column, width in zip(sheet.columns, natural, strict=True)]
    wanted = sum(width for width, folds in zip(natural, long, strict=True) if folds)
    for size, room in ROOM.items():
        left = room - gaps - sum(natural) + wanted
        if left >= wanted:
            return size, [0.0] * len(natural)
        if size == FOLDED and left >= LONG * sum(long) > 0:
            break
    share = max(left, LONG) / room / max(wanted, 1)
    return size, [folds * share * width for folds, width in zip(long, natural, strict=True)]


def _plain_columns(sheet: Sheet) -> list[tuple[Column, str]]:
    cells = [record for _, records in sheet.sections for record in records]
    return [
        (column, *(record[index].plain for record in cells))  # type: ignore[misc]
        for index, column in enumerate(sheet.columns)
    ]


# --------------------------------------------------------------------------------- Markdown


def markdown_table(sheet: Sheet) -> str:
    """``sheet`` as GitHub's Markdown: title in bold, pipes, a paragraph per note."""
    rows = [[markdown(column.header) for column in sheet.columns]]
    for heading, records in sheet.sections:
        if heading:
            blank = [""] * len(sheet.columns)
            blank[sheet.heading_column] = f"**{markdown(heading)}**"
            rows.append(blank)
        rows += [[_markdown_cell(cell) for cell in record] for record in records]
    widths = [max(3, *map(cell_len, column)) for column in zip(*rows, strict=True)]
    right = [column.align == "right" for column in sheet.columns]
    rule = ["-" * (width - end) + ":" * end for width, end in zip(widths, right, strict=True)]
    lines = [f"**{markdown(sheet.title)}**", ""]
    for row in (rows[0], rule, *rows[1:]):
        padded = [_padded(*place) for place in zip(row, widths, right, strict=True)]
        lines.append(f"| {' | '.join(padded)} |")
    for note in sheet.notes:
        lines += ["", markdown(note)]
    return "\n".join(lines) + "\n"


def _markdown_cell(cell: Text) -> str:
    return "<br>".join(map(markdown, cell.plain.split("\n")))


def markdown(text: str) -> str:
    r"""``text`` on one line of Markdown, nothing in it taken for markup.

    >>> markdown("max |z|, c* < ½, fan_out, φ_")
    'max \\|z\\|, c\\* &lt; ½, fan_out, φ\\_'
    """
    words = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return _MARKDOWN.sub(lambda found: f"\\{found[0]}", words)


def _padded(text: str, width: int, right: bool) -> str:
    space = " " * (width - cell_len(text))
    return space + text if right else text + space
