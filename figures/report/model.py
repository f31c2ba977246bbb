r"""What a report is, however it is written: sections of paragraphs, formulas, tables and pictures.

The four back ends (html, markdown, tex, notebook) render these few kinds of block and nothing else.
The prose comes from templates in a small part of Markdown, which ``parse`` reads:

    ## Title                   a subsection
    words, *emphasis*, **strong**, `code`, [words](address), $\LaTeX$ maths
    - item                     a list
    $$ \LaTeX $$               a displayed formula
    ```                        a listing, up to the next ```
    @table NAME, @figure NAME …, @explorer, @gap words

and a backslash takes the meaning from the sign behind it, so that text from data can be ``escaped``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from matplotlib.figure import Figure

from figures.tables import Sheet

# --------------------------------------------------------------------------------- words


@dataclass(frozen=True)
class Words:
    """Plain text in the notation of the papers (x_l, σ_w², ½)."""

    text: str


@dataclass(frozen=True)
class Maths:
    """A formula within a line, as LaTeX."""

    latex: str


@dataclass(frozen=True)
class Code:
    """A command or a name, as it is typed."""

    text: str


@dataclass(frozen=True)
class Stressed:
    """Emphasized words; ``strong`` or not."""

    inside: tuple[Inline, ...]
    strong: bool = False


@dataclass(frozen=True)
class Link:
    """Words that lead to ``address``, which may be #ID of a section."""

    inside: tuple[Inline, ...]
    address: str


Inline: TypeAlias = Words | Maths | Code | Stressed | Link
Line: TypeAlias = tuple[Inline, ...]

# -------------------------------------------------------------------------------- blocks


@dataclass(frozen=True)
class Paragraph:
    words: Line


@dataclass(frozen=True)
class Heading:
    words: Line


@dataclass(frozen=True)
class Bullets:
    items: tuple[Line, ...]


@dataclass(frozen=True)
class Listing:
    text: str


@dataclass(frozen=True)
class Formula:
    latex: str


@dataclass(frozen=True)
class Table:
    sheet: Sheet


@dataclass(frozen=True)
class Picture:
    """One figure: the stem of its files, what it shows, what draws it, and its PNG if that is done."""

    name: str
    title: str
    draw: Callable[[], Figure]
    image: bytes | None = None


@dataclass(frozen=True)
class Pictures:
    """Figures under one caption: one, or several small ones side by side."""

    name: str
    pictures: tuple[Picture, ...]
    caption: Line


@dataclass(frozen=True)
class Gap:
    """What would stand here, and why it does not."""

    words: Line


@dataclass(frozen=True)
class Explorer:
    """The place of the interactive page; other documents than HTML say where it is."""


Block: TypeAlias = Paragraph | Heading | Bullets | Listing | Formula | Table | Pictures | Gap | Explorer


@dataclass(frozen=True)
class Section:
    name: str  # its anchor
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """The whole report; ``summary`` stands before the first section."""

    title: str
    subtitle: str
    summary: tuple[Block, ...]
    sections: tuple[Section, ...]
    footer: str

    @property
    def blocks(self) -> Iterator[Block]:
        """Every block, in order."""
        yield from self.summary
        for section in self.sections:
            yield from section.blocks

    @property
    def pictures(self) -> list[Picture]:
        """Every figure, in order."""
        return [one for block in self.blocks if isinstance(block, Pictures) for one in block.pictures]

    @property
    def sheets(self) -> list[Sheet]:
        """Every table, in order."""
        return [block.sheet for block in self.blocks if isinstance(block, Table)]

    @property
    def gaps(self) -> list[str]:
        """What every gap says, in order."""
        return [plain(block.words) for block in self.blocks if isinstance(block, Gap)]


# ------------------------------------------------------------------------------- reading prose

_INLINE = re.compile(
    r"\\(?P<plain>.)|\$(?P<maths>[^$]+)\$|`(?P<code>(?:\\.|[^`\\])+)`"
    r"|\*\*(?P<strong>(?:\\.|[^*\\])+)\*\*|\*(?P<soft>(?:\\.|[^*\\])+)\*"
    r"|\[(?P<words>(?:\\.|[^\]\\])+)\]\((?P<address>[^)\s]+)\)"
)
_MARKUP = re.compile(r"[\\*`$\[]|^(?:[#@]|- )")
# What a line that begins with @ stands for: its words -> blocks.
Resolve: TypeAlias = Callable[[str, Sequence[str]], list[Block]]


def escaped(text: str) -> str:
    r"""``text`` so that ``parse`` takes nothing in it for markup; on one line.

    >>> escaped("a*b costs $2")
    'a\\*b costs \\$2'
    """
    return _MARKUP.sub(lambda found: f"\\{found[0]}", " ".join(text.split()))


def line(text: str) -> Line:
    """Words with their markup read.

    >>> line("He's *rule*, $n$")
    (Words(text="He's "), Stressed(inside=(Words(text='rule'),), strong=False), Words(text=', '), \
Maths(latex='n'))
    """
    found: list[Inline] = []
    plain, place = "", 0
    for match in _INLINE.finditer(text):
        plain += text[place : match.start()]
        place = match.end()
        if match["plain"] is not None:
            plain += match["plain"]
            continue
        if plain:
            found.append(Words(plain))
            plain = ""
        found.append(_inline(match))
    plain += text[place:]
    return (*found, Words(plain)) if plain else tuple(found)


def _inline(match: re.Match[str]) -> Inline:
    if (maths := match["maths"]) is not None:
        return Maths(maths.strip())
    if (code := match["code"]) is not None:
        return Code(re.sub(r"\\(.)", r"\1", code))
    if (words := match["words"]) is not None:
        return Link(line(words), match["address"])
    strong = match["strong"] is not None
    return Stressed(line(match["strong"] if strong else match["soft"]), strong)


def parse(text: str, resolve: Resolve) -> tuple[Block, ...]:
    """The blocks of a template's text; ``resolve`` turns lines that begin with @ into blocks."""
    blocks: list[Block] = []
    for number, part in enumerate(re.split(r"^```\n(.*?)^```\n?", text, flags=re.M | re.S)):
        if number % 2:
            blocks.append(Listing(part.rstrip("\n")))
        else:
            alone = re.sub(r"^((?:@|## ).*)$", r"\n\1\n", part, flags=re.M)
            for paragraph in re.split(r"\n\s*\n", alone):
                if paragraph.strip():
                    blocks += _block(paragraph.strip(), resolve)
    return tuple(blocks)


def _block(text: str, resolve: Resolve) -> list[Block]:
    if text.startswith("@"):
        directive, *names = text[1:].split()
        return [Gap(line(" ".join(names)))] if directive == "gap" else resolve(directive, names)
    if text.startswith("## "):
        return [Heading(line(" ".join(text[3:].split())))]
    if text.startswith("$$"):
        return [Formula(" ".join(text.strip("$").split()))]
    if text.startswith("- "):
        items = re.split(r"^- ", text, flags=re.M)[1:]
        return [Bullets(tuple(line(" ".join(item.split())) for item in items))]
    return [Paragraph(line(" ".join(text.split())))]


def plain(words: Line) -> str:
    """The words alone, for places that take no markup."""
    found = []
    for one in words:
        match one:
            case Words(text) | Code(text) | Maths(text):
                found.append(text)
            case Stressed(inside) | Link(inside):
                found.append(plain(inside))
    return "".join(found)
