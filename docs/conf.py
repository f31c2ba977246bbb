"""How the documents become a site: ``docs/build.py`` runs Sphinx with this.

Nothing on a page comes from elsewhere: formulas are MathML, fonts the reader's own, and what a lesson
shows was made when the site was built.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the program's own modules stand beside this folder

from commands.parser import command_parsers  # noqa: E402

project, author = "fanin", "The fanin developers"
html_title = "fanin"
html_theme = "furo"
html_show_copyright = html_show_sphinx = html_copy_source = False
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
extensions = ["myst_nb", "sphinx.ext.autodoc"]
exclude_patterns = ["exercises"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"  # a cache knows nothing of a change in the program
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # else a page with a widget asks the network
nb_merge_streams = True
nb_render_image_options = {"align": "center"}

highlight_language = "text"  # of docstrings' aligned lines; code says what it is
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True

MADE = {  # by docs/build.py
    "the explorer": "explorer/explorer.html",
    "the report": "report/report.html",
    "slides of the first lesson": "slides/01-why-signals-die.html",
}
CHAPTERS = {
    "Lessons": ["lessons/*"],
    "How to": ["notebook", "audit", "study", "clusters", "costs", "extending"],
    "To look up": ["commands", "reference", "theory", "glossary", "results", "benchmarks"],
}


def completed(app: Sphinx, name: str, source: list[str]) -> None:
    """What the files in the repository do without: the site's contents, the help of every command."""
    if name == "index":
        for chapter, pages in CHAPTERS.items():
            options = f":hidden:\n:glob:\n:caption: {chapter}"
            source[0] += "\n".join(["", "```{toctree}", options, "", *pages, "```", ""])
        links = ", ".join(f'<a href="{target}">{name}</a>' for name, target in MADE.items())
        source[0] += f"\nMade anew with this site: {links}.\n"
    if name == "commands":
        for command, parser in command_parsers().items():
            source[0] += f"\n## {command}\n\n```text\n{parser.format_help()}```\n"


def mathml(formula: str, *, block: bool) -> str:
    """docutils' MathML; in its \\text an escaped underscore would keep its backslash."""
    formula = re.sub(r"\\text\{[^}]*\}", lambda words: words[0].replace(r"\_", "_"), formula)
    return str(tex2mathml(formula, as_block=block))


def inline_mathml(self: object, node: nodes.math) -> None:
    self.body.append(mathml(node.astext(), block=False))  # type: ignore[attr-defined]
    raise nodes.SkipNode


def block_mathml(self: object, node: nodes.math_block) -> None:
    self.body.append(f'<div class="math">{mathml(node.astext(), block=True)}</div>')  # type: ignore[attr-defined]
    raise nodes.SkipNode


class Door(SphinxDirective):
    """``{door} theory``: every function and class that the package offers, with its docstring."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        door = __import__(self.arguments[0], fromlist=["*"])
        lines = []
        for name in door.__all__:
            kind = getattr(door, name)
            if inspect.isclass(kind):
                lines += [f".. autoclass:: {door.__name__}.{name}", ""]
            elif callable(kind):
                lines += [f".. autofunction:: {door.__name__}.{name}", ""]
        return self.parse_text_to_nodes("\n".join(lines))


ALIGNED = re.compile(r"^ |\S {2,}\S")


def as_written(
    app: Sphinx, what: str, name: str, it: object, options: object, lines: list[str]
) -> None:
    """A docstring's aligned lines and examples stay as they are, and in its words nothing is markup."""
    made: list[str] = []
    for block in re.split(r"\n\s*\n", "\n".join(lines).strip()):
        inside = block.split("\n")
        if any(map(ALIGNED.search, inside)) and not block.startswith(">>>"):
            made += ["::", "", *(f"    {line.replace('``', '')}" for line in inside), ""]
        elif block.startswith(">>>"):
            made += [*inside, ""]
        else:
            parts = re.split("(``.*?``)", block)
            parts[::2] = (re.sub(r"[*|_]", r"\\\g<0>", part) for part in parts[::2])
            made += ["".join(parts), ""]
    lines[:] = made


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (inline_mathml, None), (block_mathml, None))
    app.add_directive("door", Door)
    app.connect("source-read", completed)
    app.connect("autodoc-process-docstring", as_written)
    return {"parallel_read_safe": True, "parallel_write_safe": True}  # lessons run side by side
