"""``report``: everything rebuilt from records and theory, as HTML, Markdown, LaTeX and a notebook."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from rich.text import Text

import figures
import theory
from commands import options
from commands.answer import Answer, Session

if TYPE_CHECKING:
    from figures.report.output import Written
    from figures.report.report import Report

PURPOSE = "Rebuild the whole report from records and theory: HTML, Markdown, LaTeX and a notebook."
EXAMPLES = (
    "report",
    "report --records runs/cifar",
    "report --records runs/cifar runs/more --out handed-in --pdf",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_records(parser)
    parser.add_argument(
        "--pdf", action="store_true", help="compile report.tex too, with pdflatex or tectonic"
    )


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    folders = options.chosen_records(arguments.records)
    if arguments.pdf:
        figures.report.compiler()
    session.prepare_out()
    device = theory.resolve_device(arguments.device)
    asked: dict[str, Any] = {
        "derive": theory.DerivationSpec(seed=arguments.seed, device="cpu"),
        "stack": theory.VarianceSpec(depth=30, engine="law", seed=arguments.seed, device="cpu"),
    }
    with session.study_progress() as on_event:
        report = figures.Report.read(*arguments.records or [], on_event=on_event, **asked)
    with session.draws_progress("writing the report") as on_step:
        written = figures.report.write(report, session.out, seed=arguments.seed, on_step=on_step)
    paths = list(written.paths)
    if arguments.pdf:
        paths.append(figures.report.compile_pdf(session.out))
    return Answer(
        spec={"records": [str(folder) for folder in folders], "seed": arguments.seed},
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


def _summary(report: Report, written: Written, *, pdf: bool) -> Text:
    cells, gaps = len(report.records.cells), len(written.gaps)
    text = (
        f"The report on {cells} trained cell{'s' * (cells != 1)}: {written.tables} tables, "
        f"{written.figures} figures, {gaps} gap{'s' * (gaps != 1)}, each named in its place. "
        "report.html opens in any browser and asks the network for nothing."
    )
    if not pdf:
        text += " report.tex compiles where it lies, with pdflatex twice or with --pdf."
    return Text(text)
