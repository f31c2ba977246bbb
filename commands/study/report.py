"""``report``: everything rebuilt from records and theory, as HTML, Markdown, LaTeX and a notebook."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import options
from commands.answer import Answer, Session
from theory.errors import RequestError

if TYPE_CHECKING:
    from rich.text import Text

    from figures.report.output import Written
    from figures.report.report import Report

PURPOSE = "Rebuild the whole report from records and theory: HTML, Markdown, LaTeX and a notebook."
EXAMPLES = (
    "report",
    "report --records runs/cifar",
    "report --records runs/cifar runs/more --out handed-in --pdf",
)
DATA = options.PUBLISHED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_records(parser)
    parser.add_argument(
        "--pdf", action="store_true", help="compile report.tex too, with pdflatex or tectonic"
    )


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    folders: list[Path] = arguments.records or []
    _check(folders)
    from figures.report import output
    from figures.report.report import Report

    if arguments.pdf:
        output.compiler()
    session.prepare_out()
    from theory.devices import resolve_device
    from theory.specs import DerivationSpec, VarianceSpec

    device = resolve_device(arguments.device)
    options: dict[str, Any] = {
        "derive": DerivationSpec(seed=arguments.seed, device="cpu"),
        "stack": VarianceSpec(depth=30, engine="law", seed=arguments.seed, device="cpu"),
    }
    with session.study_progress() as on_event:
        report = Report.read(*folders, on_event=on_event, **options)
    with session.draws_progress() as on_step:
        written = output.write(report, session.out, seed=arguments.seed, on_step=on_step)
    paths = list(written.paths)
    if arguments.pdf:
        paths.append(output.compile_pdf(session.out))
    return Answer(
        spec={"records": [str(folder) for folder in folders or [DATA]], "seed": arguments.seed},
        device=device.type,
        document={
            "cells": len(report.records.cells),
            "figures": written.figures,
            "tables": written.tables,
            "gaps": written.gaps,
        },
        show=[_summary(report, written, pdf=arguments.pdf)],
        paths=paths,
    )


def _check(folders: list[Path]) -> None:
    """Said before anything is loaded."""
    if not folders and not DATA.is_dir():
        raise RequestError(
            "this copy has no published study: train one with cifar --preset report, and name its "
            "--out with --records"
        )
    for folder in folders:
        if not folder.is_dir():
            raise RequestError(
                f"--records {folder} is no folder: name the --out of a cifar run, or published tables"
            )


def _summary(report: Report, written: Written, *, pdf: bool) -> Text:
    from rich.text import Text

    cells, gaps = len(report.records.cells), len(written.gaps)
    text = (
        f"The report on {cells} trained cell{'s' * (cells != 1)}: {written.tables} tables, "
        f"{written.figures} figures, {gaps} gap{'s' * (gaps != 1)}, each named in its place. "
        "report.html opens in any browser and asks the network for nothing."
    )
    if not pdf:
        text += " report.tex compiles where it lies, with pdflatex twice or with --pdf."
    return Text(text)
