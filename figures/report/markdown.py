"""The report as Markdown: GitHub's tables and maths, pictures in the folder beside it."""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import Environment

from figures.markup import markdown as escaped
from figures.report import model
from figures.report.model import Block, Document, Line


def render(document: Document, environment: Environment) -> str:
    """The text; its pictures are ``figures/NAME.png`` beside it."""
    text = environment.get_template("report.md").render(document=document, written=written)
    return text.rstrip("\n") + "\n"


def written(blocks: Sequence[Block]) -> str:
    """Blocks, an empty line between them."""
    return "\n\n".join(map(block, blocks))


def block(one: Block, pictures: str = "figures") -> str:
    """One block; its pictures lie in the folder ``pictures``."""
    match one:
        case model.Paragraph(words):
            return inline(words)
        case model.Heading(words):
            return f"### {inline(words)}"
        case model.Bullets(items):
            return "\n".join(f"- {inline(item)}" for item in items)
        case model.Listing(text):
            return f"```sh\n{text}\n```"
        case model.Formula(latex):
            return f"$$\n{latex}\n$$"
        case model.Table(sheet):
            return sheet.markdown().rstrip("\n")
        case model.Pictures(_, images, caption):
            shown = " ".join(f"![{escaped(one.title)}]({pictures}/{one.name}.png)" for one in images)
            return f"{shown}\n\n{inline(caption)}"
        case model.Gap(words):
            return f"> {inline(words)}"
        case model.Explorer():
            return (
                "The explorer is part of `report.html`; `python cli.py explorer` writes it as a page "
                "of its own."
            )


def inline(words: Line) -> str:
    """A line of Markdown."""
    found = []
    for one in words:
        match one:
            case model.Words(text):
                found.append(_spaced(text, escaped(text)))
            case model.Maths(latex):
                found.append(f"${latex}$")
            case model.Code(text):
                found.append(f"`{text}`")
            case model.Stressed(inside, strong):
                mark = "**" if strong else "*"
                found.append(f"{mark}{inline(inside)}{mark}")
            case model.Link(inside, address):
                found.append(f"[{inline(inside)}]({address})")
    return "".join(found)


def _spaced(text: str, changed: str) -> str:
    """``changed`` with the space at the ends that ``text`` has."""
    before = " " if text[:1].isspace() else ""
    after = " " if text[-1:].isspace() and text.strip() else ""
    return f"{before}{changed}{after}"
