"""``correlation``: pairs of inputs through deep stacks, beside the correlation map."""

from __future__ import annotations

import argparse
from collections.abc import Hashable
from functools import partial
from typing import TYPE_CHECKING, Any

import figures
import theory
from commands import options
from commands.answer import Answer, Session
from theory.specs import CorrelationSpec

if TYPE_CHECKING:
    import pandas as pd

PURPOSE = "Send pairs of inputs through deep stacks and lay the correlation map over them."
EXAMPLES = (
    "correlation --depth 50",
    "correlation --depth 30 --activation tanh --correlations 0.2 0.6 0.99 --sigma-b 0.2",
    "correlation --depth 20 --init he orthogonal --width 64 --draws 1000",
)
SAME_NAMES = ("depth", "width", "draws", "fan", "gain_slope", "sigma_b", "input_second_moment")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = {"depth": "weight layers", "width": "units per layer", "draws": "networks per curve"}
    options.add_numbers(parser, CorrelationSpec, **what)
    options.add_names(parser, CorrelationSpec)
    parser.add_argument(
        "--correlations",
        type=float,
        nargs="+",
        default=list(CorrelationSpec.correlations),
        metavar="C",
        help="of the two inputs, each a pair of its own (default 0 0.5 0.9)",
    )
    options.add_signal(parser)


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    spec = CorrelationSpec(
        correlations=tuple(arguments.correlations), **options.spec_fields(arguments, *SAME_NAMES)
    )
    session.prepare_out()
    with session.draws_progress() as on_progress:
        table = theory.correlation(spec, on_progress)
    return Answer(
        spec=spec.as_dict(),
        document={"curves": _curves(table)},
        show=[figures.correlation_table(table, all_layers=arguments.all_layers)],
        tables={"correlation.csv": table},
        figures={"correlation": partial(figures.correlation_figure, table)},
    )


def _curves(table: pd.DataFrame) -> list[dict[Hashable, Any]]:
    names = ["initializer", "activation", "negative_slope", "input_correlation"]
    by = ["initializer", "activation", "input_correlation"]
    return [
        rows.iloc[0][names].to_dict() | {"layers": rows.drop(columns=names).to_dict("records")}
        for _, rows in table.groupby(by, sort=False)
    ]
