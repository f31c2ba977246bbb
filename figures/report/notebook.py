"""The report as a Jupyter notebook, executed: its tables and figures are the outputs of its cells.

The cells run here, one after the other in one namespace, as a kernel would run them; what the last
expression of a cell shows becomes its output.  So no kernel is needed to write it, and whoever opens it
in Jupyter runs the same cells.  The format is nbformat 4.5, which is JSON.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from figures import style
from figures.report import html, markdown, model
from figures.report.build import Report
from figures.report.model import Document, Picture
from figures.tables import Sheet

WIDTH = 100  # characters of a table as plain text


@dataclass(frozen=True)
class Shown:
    """A table or a figure as a notebook displays it."""

    thing: Sheet | Picture | None

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        match self.thing:
            case Sheet():
                lines = Console(width=WIDTH, file=io.StringIO()).render_lines(self.thing, pad=False)
                rows = ["".join(part.text for part in line).rstrip() for line in lines]
                return {"text/html": html.table(self.thing), "text/plain": "\n".join(rows)}
            case Picture():
                return {"image/png": _png(self.thing), "text/plain": self.thing.title}
        return {"text/plain": "nothing recorded"}


def shown(thing: Sheet | Picture | None) -> Shown:
    """What a cell ends with: ``shown(report.table("claims"))``."""
    return Shown(thing)


def _png(picture: Picture) -> str:
    image = picture.image
    if image is None:
        buffer = io.BytesIO()
        with style.styled():
            picture.draw().savefig(buffer, format="png", metadata={"Software": None})
        image = buffer.getvalue()
    return base64.b64encode(image).decode("ascii")


# ------------------------------------------------------------------------------------------ cells


def render(document: Document, report: Report, out: Path) -> str:
    """The notebook's JSON.  ``report`` is what its cells would read from the records again.

    Records are named by their way from ``out``, the folder of the notebook, where Jupyter runs it.
    """
    namespace: dict[str, Any] = {}
    cells: list[dict[str, Any]] = []
    count = 0
    for kind, source in _sources(document, report, out):
        cell: dict[str, Any] = {
            "cell_type": kind,
            "id": f"cell-{len(cells):03d}",
            "metadata": {},
            "source": source.splitlines(keepends=True),
        }
        if kind == "code":
            count += 1
            with _open(report), contextlib.chdir(out):  # folders are named from here
                outputs = execute(source, namespace, count)
            cell |= {"execution_count": count, "outputs": outputs}
        cells.append(cell)
    return json.dumps(_notebook(cells), indent=1, ensure_ascii=False) + "\n"


@contextlib.contextmanager
def _open(report: Report) -> Iterator[None]:
    """Inside, ``Report.read`` of its folders is ``report`` itself: a moment ago it read the same."""
    key = tuple(folder.resolve() for folder in report.folders)
    Report.open[key] = report
    try:
        yield
    finally:
        del Report.open[key]


def _notebook(cells: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _sources(document: Document, report: Report, out: Path) -> Iterator[tuple[str, str]]:
    """(markdown or code, source) of every cell, in order."""
    yield "markdown", f"# {document.title}\n\n{document.subtitle}"
    yield "markdown", markdown.written(document.summary)
    yield "code", _opening(report, out)
    for section in document.sections:
        words = [f'<a id="{section.name}"></a>\n\n## {section.title}']
        for block in section.blocks:
            match block:
                case model.Table(sheet):
                    code = [f'shown(report.table("{sheet.name}"))']
                case model.Pictures(_, pictures):
                    code = [f'shown(report.picture("{picture.name}"))' for picture in pictures]
                    words.append(markdown.inline(block.caption))
                case _:
                    words.append(markdown.block(block))
                    continue
            if words:
                yield "markdown", "\n\n".join(words)
                words = []
            for line in code:
                yield "code", line
        if words:
            yield "markdown", "\n\n".join(words)


def _opening(report: Report, out: Path) -> str:
    """The first cell: it reads the records again."""
    where = (Path(os.path.relpath(folder.resolve(), out.resolve())) for folder in report.folders)
    folders = ", ".join(f'"{path.as_posix()}"' for path in where)
    return (
        "from figures.report import Report, shown  # of fanin: pip install -e . in its folder\n\n"
        f"report = Report.read({folders})\n"
        "report.coverage"
    )


def execute(source: str, namespace: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Run a cell in ``namespace``; its outputs as nbformat has them.

    >>> execute("a = 20", space := {}, 1), execute("a + 1", space, 2)[0]["data"]
    ([], {'text/plain': ['21']})
    """
    tree = ast.parse(source)
    last = tree.body[-1]
    first = tree.body[:-1] if isinstance(last, ast.Expr) else tree.body
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(first, []), "<cell>", "exec"), namespace)
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace)
    outputs: list[dict[str, Any]] = []
    if text := printed.getvalue():
        stream = {"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)}
        outputs.append(stream)
    if value is not None:
        data = {kind: _lines(kind, shown) for kind, shown in _bundle(value).items()}
        result = {"output_type": "execute_result", "execution_count": count, "metadata": {}}
        outputs.append(result | {"data": data})
    return outputs


def _lines(kind: str, text: str) -> str | list[str]:
    return text if kind.startswith("image/") else text.splitlines(keepends=True)


def _bundle(value: Any) -> dict[str, str]:
    """What Jupyter would show of ``value``."""
    if isinstance(value, Shown):
        return value._repr_mimebundle_()
    found = {"text/plain": repr(value)}
    if hasattr(value, "_repr_html_"):
        found["text/html"] = value._repr_html_()
    return found
