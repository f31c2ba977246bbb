r"""The report as LaTeX for pdflatex: amsmath, amssymb, array, booktabs, graphicx, hyperref, longtable.

Pictures are read from figures/NAME.pdf, tables by \input from tables/NAME.tex.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from jinja2 import Environment

from figures.latex import latex
from figures.report import model
from figures.report.model import Block, Document, Line

# Signs that no font of pdflatex has under their own name.
SIGNS = {
    "▲": r"$\blacktriangle$", "▼": r"$\blacktriangledown$", "°": r"\textdegree{}", "’": "'",
    "—": "---", "\u00a0": "~", "•": r"\textbullet{}",
}  # fmt: skip
LISTING_WIDTH = 88
CODE = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
    "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}", "-": "{-}", "…": r"\ldots{}",
}  # fmt: skip


def render(document: Document, environment: Environment) -> str:
    """The whole source."""
    source = environment.get_template("report.tex").render(
        document=document, written=written, words=words
    )
    return representable(source.rstrip("\n") + "\n")


def representable(source: str) -> str:
    """``source`` without signs that pdflatex cannot set.

    >>> representable("▲ naïve ☃")
    '$\\\\blacktriangle$ naïve [U+2603]'
    """
    return "".join(
        SIGNS.get(sign, sign if ord(sign) < 0x180 else f"[U+{ord(sign):04X}]") for sign in source
    )


def written(blocks: Sequence[Block]) -> str:
    """Blocks, an empty line between them."""
    return "\n\n".join(map(block, blocks))


def block(one: Block) -> str:
    """One block."""
    match one:
        case model.Paragraph(line):
            return inline(line)
        case model.Heading(line):
            return rf"\subsection*{{{inline(line)}}}"
        case model.Bullets(items):
            lines = "\n".join(rf"\item {inline(item)}" for item in items)
            return f"\\begin{{itemize}}\n{lines}\n\\end{{itemize}}"
        case model.Listing(text):
            return _listing(text)
        case model.Formula(source):
            return f"\\begin{{equation*}}\n{source}\n\\end{{equation*}}"
        case model.Table(sheet):
            return rf"\input{{tables/{sheet.name}.tex}}"
        case model.Pictures():
            return _figure(one)
        case model.Gap(line):
            return f"\\begin{{quote}}\\itshape {inline(line)}\\end{{quote}}"
        case model.Explorer():
            return (
                r"The explorer is part of \texttt{report.html}; \texttt{python cli.py explorer} writes "
                "it as a page of its own."
            )


def _figure(one: model.Pictures) -> str:
    if len(one.pictures) == 1:
        option = r"width=\linewidth,height=0.7\textheight,keepaspectratio"
    else:
        option = r"width=0.49\linewidth"
    images = [rf"\includegraphics[{option}]{{figures/{each.name}.pdf}}" for each in one.pictures]
    rows = (r"\hfill ".join(images[first : first + 2]) for first in range(0, len(images), 2))
    placed = "\\\\[4pt]\n".join(rows)
    return (
        "\\par\\bigskip\\noindent\\begin{minipage}{\\linewidth}\n\\centering\n"
        f"{placed}\n\\figurecaption{{{inline(one.caption)}}}\\label{{fig:{one.name}}}\n"
        "\\end{minipage}\\par\\bigskip"
    )


def _listing(text: str) -> str:
    """Commands in typewriter, long ones folded at a space."""
    lines = []
    for row in text.splitlines():
        folded = re.findall(rf".{{1,{LISTING_WIDTH}}}(?:\s|$)|\S+", row) or [""]
        lines += [folded[0], *(f"    {rest}" for rest in folded[1:])]
    rows = "\\\\\n".join(rf"\mbox{{\texttt{{{_code(row.rstrip()) or '~'}}}}}" for row in lines)
    return f"\\begin{{flushleft}}\\footnotesize\n{rows}\n\\end{{flushleft}}"


def _code(text: str) -> str:
    indent = len(text) - len(text.lstrip(" "))
    return "~" * indent + "".join(CODE.get(sign, sign) for sign in text[indent:])


def inline(line: Line) -> str:
    """A line in text mode."""
    found = []
    for one in line:
        match one:
            case model.Words(text):
                found.append(words(text))
            case model.Maths(source):
                found.append(f"${source}$")
            case model.Code(text):
                found.append(rf"\texttt{{{_breakable(_code(text))}}}")
            case model.Stressed(inside, strong):
                found.append(rf"\{'textbf' if strong else 'emph'}{{{inline(inside)}}}")
            case model.Link(inside, address):
                found.append(
                    rf"\hyperref[sec:{address[1:]}]{{{inline(inside)}}}"
                    if address.startswith("#")
                    else rf"\href{{{_address(address)}}}{{{inline(inside)}}}"
                )
    return "".join(found)


def _breakable(code: str) -> str:
    return code.replace("/", r"/\allowbreak{}").replace(".", r".\allowbreak{}")


def _address(address: str) -> str:
    return re.sub(r"([%#&])", r"\\\1", address)


def words(text: str) -> str:
    """Plain text with its maths; the space at its ends stays."""
    before = " " if text[:1].isspace() else ""
    after = " " if text[-1:].isspace() and text.strip() else ""
    return f"{before}{latex(text)}{after}"
