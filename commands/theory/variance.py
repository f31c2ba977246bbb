"""``variance``: activation variance through a deep stack, dense, convolutional or batch-normalized."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

import figures
import theory
from commands import options
from commands.answer import Answer, Picture, Session
from figures.files import write_bytes
from theory.errors import RequestError
from theory.specs import DIRECTIONS, ENGINES, PADDINGS, BatchNormSpec, ConvSpec, VarianceSpec

if TYPE_CHECKING:
    import pandas as pd

    from theory.draw.variance import Measured

Spec = VarianceSpec | ConvSpec | BatchNormSpec
CONV_NAMES = ("channels", "image_size", "kernel_size", "padding")
COMMON_NAMES = ("depth", "draws", "batch", "direction")
MOST_FRAMES = 60
SAME_NAMES = ("fan", "input_second_moment", "gain_slope")
PURPOSE = "Simulate activation variance through a deep stack and lay exact theory over it."
EXAMPLES = (
    "variance --depth 30",
    "variance --depth 100 --init he xavier --activation relu tanh --width 256",
    "variance --depth 30 --init he --gain-slope 0 --activation prelu",
    "variance --direction both --init he --fan fan_out --widths 64 128 256 512",
    "variance --engine law --draws 1000000 --width 1024",
    "variance --depth 1000 --init normal --draws 20 --json",
    "variance --stack conv --image-size 32 --channels 32",
    "variance --norm batch --init he",
    "variance --depth 5 --activation tanh --histograms",
    "variance --depth 30 --activation relu --animation",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = {"draws": "networks per curve", "batch": "inputs per network"}
    options.add_numbers(parser, VarianceSpec, depth="weight layers", width="units per layer")
    parser.add_argument(
        "--widths", type=int, nargs="+", metavar="N", help="n_0 n_1 … n_L instead of depth and width"
    )
    options.add_numbers(parser, VarianceSpec, **what)
    options.add_names(parser, VarianceSpec)
    parser.add_argument(
        "--direction",
        choices=DIRECTIONS,
        default="forward",
        help="signal, gradient of a random cotangent, or both (default forward)",
    )
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="modules",
        help="modules: nn.Modules with hooks (default); law: the exact law, without weights",
    )
    parser.add_argument(
        "--histograms",
        action="store_true",
        help="also draw activations and gradients by layer (Glorot & Bengio 2010, Fig. 6 and 7)",
    )
    parser.add_argument(
        "--animation", action="store_true", help="also draw the activations, layer by layer, as a GIF"
    )
    options.add_signal(parser)
    _add_other_stacks(parser)


def _add_other_stacks(parser: argparse.ArgumentParser) -> None:
    """The options of stacks that are not plain and dense.

    Where a default depends on the stack, None stands for it: what the user asked for is then known,
    and a contradiction can be refused.
    """
    group = parser.add_argument_group("other stacks")
    group.add_argument("--stack", choices=("dense", "conv"), default="dense", help="default dense")
    group.add_argument("--channels", type=int, metavar="C", help="of --stack conv (default 32)")
    group.add_argument("--image-size", type=int, metavar="H", help="of --stack conv (default 32)")
    group.add_argument("--kernel-size", type=int, metavar="K", help="of --stack conv (default 3)")
    group.add_argument("--padding", choices=PADDINGS, help="of --stack conv (default zero)")
    group.add_argument(
        "--norm",
        choices=("none", "batch"),
        default="none",
        help="batch: batch norm after each dense layer (default batch 256, draws 10, both directions)",
    )
    parser.set_defaults(depth=None, width=None, draws=None, batch=None, direction=None)


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    spec = _spec(arguments)
    session.prepare_out()
    device = theory.float64_device(spec.device)  # a missing one is said before the work
    with session.draws_progress() as on_progress:
        measured = theory.draw.measure(spec, on_progress)
    curves = theory.growth(spec, measured.table)
    more = _besides(spec, measured)
    if arguments.histograms and isinstance(spec, VarianceSpec):
        _add_histograms(more, spec)
    if arguments.animation and isinstance(spec, VarianceSpec):
        _add_animation(more, spec, session)
    tables = [
        figures.variance_table(rows, all_layers=arguments.all_layers)
        for _, rows in measured.table.groupby("direction", sort=False)
    ]
    return Answer(
        spec=spec.as_dict(),
        device=device.type,
        document={"curves": curve_documents(measured.table, curves), **more.document},
        show=[*tables, figures.growth_table(curves, note=figures.drift_note(spec)), *more.show],
        tables={"variance.csv": measured.table, **more.tables},
        figures=_pictures(spec, measured.table) | more.figures,
        paths=more.paths,
    )


def _spec(a: argparse.Namespace) -> Spec:
    """The request; what contradicts its kind of stack is refused."""
    conv, norm = a.stack == "conv", a.norm == "batch"
    if conv and norm:
        raise RequestError("--norm batch is there for dense stacks only: drop it or --stack conv")
    if (conv or norm) and a.engine != "modules":
        other = "--stack conv" if conv else "--norm batch"
        raise RequestError(f"--engine {a.engine} knows plain dense stacks only: drop it or {other}")
    shown = "--histograms" if a.histograms else "--animation" if a.animation else ""
    if shown and (conv or norm or a.engine != "modules"):
        raise RequestError(
            f"{shown} is there for plain dense stacks of modules only: drop it or the other option"
        )
    given = options.spec_fields(a, *SAME_NAMES) | options.given(a, *COMMON_NAMES)
    if conv:
        options.refuse(a, "is of dense stacks; --stack conv has --channels", "width", "widths")
        return ConvSpec(sigma_b=a.sigma_b, **options.given(a, *CONV_NAMES), **given)
    drop = ", and drop --norm batch" if norm else ""
    options.refuse(a, f"is of --stack conv: add it{drop}", *CONV_NAMES)
    given |= options.given(a, "width")
    if norm:
        options.refuse(a, "contradicts --norm batch, which has one --width", "widths")
        if a.sigma_b:
            raise RequestError("--sigma-b contradicts --norm batch, which removes every bias: drop one")
        return BatchNormSpec(**given)
    if a.widths is not None and (a.depth is not None or a.width is not None):
        raise RequestError("--widths contradicts --depth and --width: it says both; drop them")
    widths = None if a.widths is None else tuple(a.widths)
    return VarianceSpec(layer_widths=widths, engine=a.engine, sigma_b=a.sigma_b, **given)


def _pictures(spec: Spec, table: pd.DataFrame) -> dict[str, Picture]:
    """Dense stacks in one picture, and the gradients of their weights; the others by direction."""
    if isinstance(spec, VarianceSpec):
        pictures: dict[str, Picture] = {"variance": partial(figures.variance_figure, table)}
        if "backward" in spec.directions:
            pictures["weight-gradients"] = partial(figures.weight_gradient_figure, table)
        return pictures
    stems = {"forward": "variance", "backward": "variance-backward"}
    return {
        stems[str(direction)]: partial(figures.variance_figure, rows)
        for direction, rows in table.groupby("direction", sort=False)
    }


def _besides(spec: Spec, measured: Measured) -> Answer:
    """What convolutions and batch norm have besides: tables, pictures, a line, a part of the JSON."""
    more = Answer(spec={}, document={}, show=[])
    border, growth = measured.border, measured.gradient_growth
    if border is not None and isinstance(spec, ConvSpec):
        more.tables["border.csv"] = border
        more.show.extend(figures.border_note(border))
        if spec.padding == "zero":
            more.figures["border"] = partial(figures.border_figure, border)
    if isinstance(spec, BatchNormSpec):
        more.document["gradient_growth"] = [] if growth is None else growth.to_dict("records")
    if growth is not None:
        more.tables["gradient-growth.csv"] = growth
        more.show.append(figures.norm_growth_table(growth))
        more.figures["gradient-growth"] = partial(figures.norm_growth_figure, measured.table, growth)
    return more


def _add_histograms(more: Answer, spec: VarianceSpec) -> None:
    table = theory.draw.histograms(spec)
    more.tables["histograms.csv"] = table
    for activation in dict.fromkeys(table["activation"]):
        stem = f"histograms-{activation.replace(':', '')}"
        more.figures[stem] = partial(figures.histogram_figure, table, activation)


def _add_animation(more: Answer, spec: VarianceSpec, session: Session) -> None:
    """A frame per layer, as many as a viewer may watch."""
    table = theory.draw.histograms(spec, most_layers=min(spec.depth, MOST_FRAMES))
    for activation in dict.fromkeys(table["activation"]):
        path = session.out / f"layers-{activation.replace(':', '')}.gif"
        write_bytes(path, figures.signal_animation(table, activation).gif)
        more.paths.append(path)


def curve_documents(table: pd.DataFrame, curves: pd.DataFrame) -> list[dict[str, Any]]:
    """The curves of the variance document: names, layers, growth, verdict."""
    names = ["initializer", "activation", "negative_slope", "direction", "engine"]
    of_curve = ["initializer", "activation", "direction"]
    bands = [name for name in table if "band" in str(name)]
    both: Any = table[["log10_band_low", "log10_band_high"]].apply(list, axis=1)
    table = table.assign(log10_band=both)
    layers = {
        key: rows.drop(columns=[*names, *bands]).to_dict("records")
        for key, rows in table.groupby(of_curve)
    }
    return [
        {name: curve[name] for name in names}
        | {
            "layers": layers[tuple(curve[name] for name in of_curve)],
            "log10_growth_per_layer": {
                key: curve[key] for key in ("measured", "theory", "asymptotic", "border")
            },
            "agreement": curve["agreement"],
            "verdict": curve["verdict"],
        }
        for curve in curves.to_dict("records")
    ]
