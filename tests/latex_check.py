"""A strict reader of the LaTeX that the project writes: what it accepts, pdflatex accepts."""

import re

from matplotlib.mathtext import MathTextParser

ENVIRONMENT = re.compile(r"\\(begin|end)\{(\w+)\}")
PREAMBLE = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage{amssymb,array,booktabs,longtable}
\begin{document}
"""


def check_text(source):
    """Text mode: ASCII, braces balanced, nothing special unescaped, and all maths is maths."""
    assert source.isascii(), source
    assert "\n" not in source
    pieces = re.split(r"(?<!\\)\$", source)
    assert len(pieces) % 2 == 1, f"a dollar is alone in {source}"
    for place, piece in enumerate(pieces):
        depth = 0
        for brace in re.findall(r"(?<!\\)[{}]", piece):
            depth += 1 if brace == "{" else -1
            assert depth >= 0, piece
        assert depth == 0, piece
        if place % 2:
            MathTextParser("path").parse(f"${_known(piece)}$")
        else:
            assert not re.search(r"(?<!\\)[#&_^~]|(?<!\\)%", piece), piece


def _known(formula):
    r"""A formula without what LaTeX knows and mathtext does not."""
    return re.sub(r"\\(?:[&#]|mbox\{[`']+\}|surd(?![a-z])|S(?![a-z]))", "+", formula)


def check_table(source):
    """A whole table: environments closed in order, each row with as many cells as columns."""
    assert source.isascii() and source.endswith("\n")
    open_, columns = [], None
    for line in source.splitlines():
        if line.startswith("%"):
            continue
        for what, name in ENVIRONMENT.findall(line):
            if what == "begin":
                open_.append(name)
            else:
                assert open_.pop() == name
        if line.startswith((r"\begin{tabular}", r"\begin{longtable}")):
            preamble = line.partition("}{")[2].removeprefix("@{}").removesuffix("@{}}")
            columns = len(re.sub(r">\{[^p]*\}p\{[\d.]+\\linewidth\}", "p", preamble))
        elif line.endswith((r"\\", r"\\*")) and not line.startswith(r"\caption"):
            _check_row(re.sub(r" ?\\\\\*?$", "", line), columns)
        elif match := re.match(r"\\caption\{(.*)\}\\label\{[\w:-]+\}(?:\\\\)?$", line):
            check_text(match[1])
    assert not open_ and columns is not None
    return columns


def _check_row(row, columns):
    if match := re.fullmatch(r"\\multicolumn\{(\d+)\}\{@\{\}l\}\{\\textbf\{(.*)\}\}", row):
        assert int(match[1]) == columns
        check_text(match[2])
        return
    cells = re.split(r"(?<!\\)&", row.removeprefix("{}"))
    assert len(cells) == columns, row
    assert not row.startswith(("[", "*"))
    for cell in cells:
        check_text(cell.strip())
