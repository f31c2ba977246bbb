"""The report as one HTML file that asks for nothing else: styles, pictures and the explorer in it.

Maths are MathML, which every current browser sets without help; pictures are SVG, text drawn as
outlines, so that they look the same on every machine.  Tables keep their sections and notes.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise

from jinja2 import Environment
from latex2mathml.converter import convert
from markupsafe import Markup
from rich.text import Text

from figures.latex import formula
from figures.markup import FORMULA
from figures.report import model
from figures.report.model import Block, Document, Line
from figures.tables import Column, Sheet

# x_l, y_(l−1), σ_w: a letter with an index, as tables and captions have them
_INDEX = re.compile(r"(?<![^\W_])([^\W\d_]\u0302?)_(?:\(([^()]+)\)|([^\W_](?![^\W_])|\d+))")
# Of latex2mathml's output: names of functions are no operators, a fraction's stroke stands close.
BETTER = (
    (r' xmlns="[^"]*"', ""),
    (r"<mo>([A-Za-z]{2,})</mo>", r"<mi>\1</mi>"),
    (r"<mi>&#x000(4[0-9A-F]|5[0-9A]);</mi>", lambda found: _upright(chr(int(found[1], 16)))),
    (r"<mo>([A-Za-z])</mo>", lambda found: _upright(found[1])),
    (r"<mo>&#x0002F;</mo>", '<mo lspace="0" rspace="0">/</mo>'),
    (r"(?:<mi mathvariant=\"normal\">[A-Za-z]</mi>){2,}", lambda found: _one_word(found[0])),
)
STYLES = {"green": "good", "red": "bad", "yellow": "open", "bold": "strong", "dim": "dim"}


def render(
    document: Document,
    environment: Environment,
    pictures: Mapping[str, bytes],
    explorer: tuple[str, str, str],
) -> str:
    """The page; ``pictures`` are SVG by name, ``explorer`` its (html, css, js)."""
    template = environment.get_template("report.html")
    body, css, script = explorer

    def written(blocks: Sequence[Block]) -> Markup:
        return Markup("\n".join(_block(block, pictures, body) for block in blocks))

    return template.render(
        document=document, written=written, explorer_css=Markup(css), explorer_js=Markup(script)
    )


def _block(block: Block, pictures: Mapping[str, bytes], explorer: str) -> str:
    match block:
        case model.Paragraph(words):
            return f"<p>{inline(words)}</p>"
        case model.Heading(words):
            return f'<h3 id="{anchor(words)}">{inline(words)}</h3>'
        case model.Bullets(items):
            return f"<ul>{''.join(f'<li>{inline(item)}</li>' for item in items)}</ul>"
        case model.Listing(text):
            return f"<pre><code>{html.escape(text)}</code></pre>"
        case model.Formula(latex):
            return f'<div class="formula">{mathml(latex, display=True)}</div>'
        case model.Table(sheet):
            return table(sheet)
        case model.Pictures():
            return _figure(block, pictures)
        case model.Gap(words):
            return f'<p class="gap" role="note">{inline(words)}</p>'
        case model.Explorer():
            return f'<div class="wide">{explorer}</div>'


def anchor(words: Line) -> str:
    """An id made of words.

    >>> anchor(model.line("Forward, layer by layer"))
    'forward-layer-by-layer'
    """
    return re.sub(r"[^a-z0-9]+", "-", model.plain(words).lower()).strip("-")


def inline(words: Line) -> str:
    """A line as HTML."""
    found = []
    for one in words:
        match one:
            case model.Words(text):
                found.append(text_html(text))
            case model.Maths(latex):
                found.append(mathml(latex))
            case model.Code(text):
                found.append(f"<code>{html.escape(text)}</code>")
            case model.Stressed(inside, strong):
                tag = "strong" if strong else "em"
                found.append(f"<{tag}>{inline(inside)}</{tag}>")
            case model.Link(inside, address):
                found.append(f'<a href="{html.escape(address)}">{inline(inside)}</a>')
    return "".join(found)


def text_html(text: str) -> str:
    """Plain text; a letter's index set as one.

    >>> text_html("E[x_(l−1)] < fan_in")
    'E[<i>x</i><sub>l−1</sub>] &lt; fan_in'
    """
    safe = html.escape(text, quote=False)
    return _INDEX.sub(lambda found: f"<i>{found[1]}</i><sub>{found[2] or found[3]}</sub>", safe)


@cache
def mathml(latex: str, display: bool = False) -> str:
    """A formula as MathML, with its LaTeX for who copies it."""
    written = convert(latex, display="block" if display else "inline")
    for pattern, better in BETTER:
        written = re.sub(pattern, better, written)
    return written.replace("<math ", f'<math alttext="{html.escape(latex)}" ', 1)


def _upright(letter: str) -> str:
    return f'<mi mathvariant="normal">{letter}</mi>'


def _one_word(letters: str) -> str:
    return f"<mi>{''.join(re.findall('>([A-Za-z])<', letters))}</mi>"


# ------------------------------------------------------------------------------- pictures


def _figure(block: model.Pictures, pictures: Mapping[str, bytes]) -> str:
    several = " several" if len(block.pictures) > 1 else ""
    images = "".join(_image(one, pictures[one.name]) for one in block.pictures)
    return (
        f'<figure class="wide" id="fig-{block.name}"><div class="pictures{several}" tabindex="0">'
        f"{images}</div><figcaption>{inline(block.caption)}</figcaption></figure>"
    )


def _image(picture: model.Picture, svg: bytes) -> str:
    width, height = (
        round(float(found) * 96 / 72)
        for found in re.findall(rb'(?:width|height)="([\d.]+)pt"', svg)[:2]
    )
    lean = re.sub(rb"^.*?(?=<svg)|<metadata>.*?</metadata>\s*", b"", svg, flags=re.S)
    source = base64.b64encode(lean).decode("ascii")
    return (
        f'<img src="data:image/svg+xml;base64,{source}" width="{width}" height="{height}" '
        f'alt="{html.escape(picture.title)}" loading="lazy">'
    )


# --------------------------------------------------------------------------------- tables


def table(sheet: Sheet) -> str:
    """A described table with its title, sections and notes."""
    kinds = [_kind(column) for column in sheet.columns]
    heads = "".join(
        f'<th scope="col" class="{kind}">{_head(column.header)}</th>'
        for kind, column in zip(kinds, sheet.columns, strict=True)
    )
    rows = []
    for heading, records in sheet.sections:
        if heading:
            title = f'<th colspan="{len(kinds)}" scope="colgroup">{text_html(heading)}</th>'
            rows.append(f'<tr class="section">{title}</tr>')
        for record in records:
            cells = (
                f'<td class="{kind}">{_cell(cell)}</td>'
                for kind, cell in zip(kinds, record, strict=True)
            )
            rows.append(f"<tr>{''.join(cells)}</tr>")
    notes = "".join(f"<p>{text_html(note)}</p>" for note in sheet.notes)
    return (
        f'<figure class="wide table" id="tab-{sheet.name}">'
        f'<figcaption class="title">{text_html(sheet.title)}</figcaption>'
        f'<div class="scroll" tabindex="0"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        + (f'<div class="notes">{notes}</div>' if notes else "")
        + "</figure>"
    )


def _kind(column: Column) -> str:
    return "words" if column.folds else "left" if column.align == "left" else "number"


def _head(header: str) -> str:
    return "<br>".join(map(text_html, header.split("\n")))


def _cell(cell: Text) -> str:
    return "<br>".join(_cell_line(line) for line in cell.split(allow_blank=True))


def _cell_line(text: Text) -> str:
    """One line of a cell: a formula as MathML, else runs of text in their style."""
    if any(span.style == FORMULA for span in text.spans):
        return mathml(formula(text.plain))
    whole = str(text.style)
    found = []
    edges = sorted({0, len(text), *(edge for span in text.spans for edge in (span.start, span.end))})
    for start, end in pairwise(edges):
        styles = [str(span.style) for span in text.spans if span.start <= start and end <= span.end]
        names = [STYLES[word] for style in (whole, *styles) for word in style.split() if word in STYLES]
        written = text_html(text.plain[start:end])
        found.append(f'<span class="{" ".join(names)}">{written}</span>' if names else written)
    return "".join(found)
