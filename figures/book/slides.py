"""Slides of a lesson that was run: one page of HTML that asks for nothing else.

A slide per section: its heading, its first paragraph, its formulas, and what its cells show.  Code, and
the rest of the words, are the lecturer's to say.  Keys ←, → and space turn the slides; printed, each is
a page.
"""

from __future__ import annotations

import re
from pathlib import Path

from nbformat import NotebookNode

from figures.markup import pandoc

TEMPLATE = Path(__file__).with_name("slides.html")
FORMULA = re.compile(r"\$\$.+?\$\$", re.DOTALL)
LAST = "Exercises"  # no slide of its own


def slides_page(lesson: NotebookNode, title: str) -> str:
    """The page for the executed notebook ``lesson``."""
    slides: list[str] = []
    for cell in lesson.cells:
        if cell.cell_type == "markdown":
            for section in re.split(r"^(?=##? )", cell.source, flags=re.MULTILINE):
                if section.startswith("#"):
                    slides.append(_said(section))
                elif slides:
                    slides[-1] += "\n\n".join(FORMULA.findall(section))
        elif slides:
            slides[-1] += "".join(map(_shown, cell.outputs))
    text = "\n\n".join(slide for slide in slides if not slide.startswith(f"## {LAST}"))
    options = ("--mathml", "--section-divs", "--standalone", "--embed-resources")
    return pandoc(text, "html", *options, f"--template={TEMPLATE}", f"--metadata=pagetitle={title}")


def _said(section: str) -> str:
    """The heading as one of a slide, the first paragraph and the formulas after it."""
    heading, _, rest = section.partition("\n")
    first, _, later = rest.strip().partition("\n\n")
    return "\n\n".join([f"## {heading.lstrip('# ')}", first, *FORMULA.findall(later), ""])


def _shown(output: NotebookNode) -> str:
    """A picture, else a table or words in HTML, else nothing."""
    data = output.get("data", {})
    if "image/png" in data:
        return f"\n\n![](data:image/png;base64,{data['image/png'].strip()})\n\n"
    if "text/html" in data:
        return f"\n\n```{{=html}}\n{data['text/html']}\n```\n\n"
    if output.output_type == "stream":
        return f"\n\n```\n{output.text}\n```\n\n"
    return ""
