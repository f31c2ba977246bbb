"""``variance --stack conv`` and ``variance --norm batch``, and what all stacks share."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

from commands import options
from commands.answer import Answer, Picture, Session
from theory.batch_norm_spec import BatchNormSpec
from theory.convolution_spec import ConvSpec
from theory.errors import RequestError

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

CONV_NAMES = ("channels", "image_size", "kernel_size", "padding")
COMMON_NAMES = ("depth", "draws", "batch", "direction")
SAME_NAMES = ("fan", "input_second_moment", "gain_slope")


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    """Convolutions, or batch norm."""
    spec = _spec(arguments)
    session.prepare_out()
    if isinstance(spec, ConvSpec):
        return _conv(spec, arguments, session)
    return _batch_norm(spec, arguments, session)


def _spec(a: argparse.Namespace) -> ConvSpec | BatchNormSpec:
    conv = a.stack == "conv"
    if conv and a.norm == "batch":
        raise RequestError("--norm batch is there for dense stacks only: drop it or --stack conv")
    if a.engine != "modules":
        other = "--stack conv" if conv else "--norm batch"
        raise RequestError(f"--engine {a.engine} knows plain dense stacks only: drop it or {other}")
    shared = options.spec_fields(a, *SAME_NAMES)
    if conv:
        options.refuse(a, "is of dense stacks; --stack conv has --channels", "width", "widths")
        return ConvSpec(sigma_b=a.sigma_b, **options.given(a, *CONV_NAMES, *COMMON_NAMES), **shared)
    options.refuse(a, "is of --stack conv: add it, and drop --norm batch", *CONV_NAMES)
    options.refuse(a, "contradicts --norm batch, which has one --width", "widths")
    if a.sigma_b:
        raise RequestError("--sigma-b contradicts --norm batch, which removes every bias: drop one")
    return BatchNormSpec(**options.given(a, "width", *COMMON_NAMES), **shared)


def _conv(spec: ConvSpec, arguments: argparse.Namespace, session: Session) -> Answer:
    from figures.theory.convolution import border_figure, border_note
    from figures.theory.variance import growth_table
    from theory.draw.convolution_simulate import measure
    from theory.draw.simulate import growth
    from theory.precision import float64_device

    device = float64_device(spec.device)  # a missing one is said before the work

    with session.draws_progress() as on_progress:
        table, border = measure(spec, on_progress)
    curves = growth(table)
    shown, pictures = _by_direction(table, arguments.all_layers)
    zero = {"border": partial(border_figure, border)} if spec.padding == "zero" else {}
    return Answer(
        spec=spec.as_dict(),
        device=device.type,
        document={"curves": curve_documents(table, curves)},
        show=[*shown, growth_table(curves), *border_note(border)],
        tables={"variance.csv": table, "border.csv": border},
        figures={**pictures, **zero},
        first=tuple(pictures),
    )


def _batch_norm(spec: BatchNormSpec, arguments: argparse.Namespace, session: Session) -> Answer:
    from figures.theory.batch_norm import norm_growth_figure, norm_growth_table
    from theory.draw.simulate import growth
    from theory.law.batch_norm import measure
    from theory.precision import float64_device

    device = float64_device(spec.device)  # a missing one is said before the work

    with session.draws_progress() as on_progress:
        table, gradients = measure(spec, on_progress)
    shown, pictures = _by_direction(table, arguments.all_layers)
    tables, figures = {"variance.csv": table}, dict(pictures)
    if not gradients.empty:
        shown.append(norm_growth_table(gradients))
        tables["gradient-growth.csv"] = gradients
        figures["gradient-growth"] = partial(norm_growth_figure, table, gradients)
    inner = table[table["layer"] > 1] if spec.depth > 1 else table  # layer 1 has another input
    return Answer(
        spec=spec.as_dict(),
        device=device.type,
        document={
            "curves": curve_documents(table, growth(inner)),
            "gradient_growth": gradients.to_dict("records"),
        },
        show=shown,
        tables=tables,
        figures=figures,
        first=tuple(pictures),
    )


def _by_direction(
    table: pd.DataFrame, all_layers: bool
) -> tuple[list[RenderableType], dict[str, Picture]]:
    """A table and a picture per direction."""
    from figures.theory.variance import variance_figure, variance_table

    shown: list[RenderableType] = []
    pictures: dict[str, Picture] = {}
    for direction, rows in table.groupby("direction", sort=False):
        shown.append(variance_table(rows, all_layers=all_layers))
        stem = "variance" if direction == "forward" else "variance-backward"
        pictures[stem] = partial(variance_figure, rows)
    return shown, pictures


def curve_documents(table: pd.DataFrame, curves: pd.DataFrame) -> list[dict[str, Any]]:
    """The curves of the variance document: names, layers, growth, verdict."""
    names = ["initializer", "activation", "negative_slope", "direction", "engine"]
    documents = []
    for curve in curves.to_dict("records"):
        rows = table
        for name in ("initializer", "activation", "direction"):
            rows = rows[rows[name] == curve[name]]
        layers = [
            {key: value for key, value in row.items() if key not in names and "band" not in str(key)}
            | {"log10_band": [row["log10_band_low"], row["log10_band_high"]]}
            for row in rows.to_dict("records")
        ]
        documents.append(
            {name: curve[name] for name in names}
            | {
                "layers": layers,
                "log10_growth_per_layer": {key: curve[key] for key in ("measured", "theory")},
                "agreement": curve["agreement"],
                "verdict": curve["verdict"],
            }
        )
    return documents
