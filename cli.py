"""The command line: parse the arguments, call one function, print what it returns.

No science here.  torch, numpy, pandas and matplotlib are imported inside the commands, after the
request has been checked, so that ``--help`` and a mistyped option answer at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich_argparse import RawDescriptionRichHelpFormatter

from theory.batch_norm_spec import BatchNormSpec
from theory.convolution_spec import PADDINGS, ConvSpec
from theory.devices import DEVICES
from theory.errors import RequestError, WorkError
from theory.initializers import FANS, INITIALIZERS
from theory.mean_field_specs import GAINS_ACTIVATIONS, CorrelationSpec, GainsSpec, PhaseSpec
from theory.rectifiers import ACTIVATIONS
from theory.specs import DIRECTIONS, ENGINES, VarianceSpec

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

    from empirical.study import Event

DONE, FAILED, WRONG_REQUEST, INTERRUPTED = 0, 1, 2, 130


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one ``error:`` line."""

    def error(self, message: str) -> NoReturn:
        raise RequestError(f"{message} (see {self.prog} --help)")


class Session:
    """Where a command's output goes: results to stdout, progress and warnings to stderr."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from rich.console import Console

        self.arguments = arguments
        self.json: bool = arguments.json
        self.quiet: bool = arguments.quiet
        self.stdout = Console(highlight=False)
        self.stderr = Console(stderr=True, highlight=False)
        self.out = Path(arguments.out or Path("runs") / arguments.command)
        self.written: list[Path] = []

    def prepare_out(self) -> None:
        """Create the output folder and prove that it can be written, before any long work."""
        probe = self.out / f".writable-{os.getpid()}"
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            reason = error.strerror or str(error)
            raise RequestError(
                f"cannot write to --out {self.out}: {reason}; name another folder"
            ) from None

    def show(self, *renderables: RenderableType) -> None:
        """Print tables, unless the one thing on stdout is to be JSON."""
        if not self.json:
            for renderable in renderables:
                self.stdout.print(renderable)

    def finish(self, document: dict[str, Any]) -> None:
        """Print the JSON document if it was asked for, and list the files that were written."""
        if self.json:
            sys.stdout.write(json.dumps(plain(document), allow_nan=False) + "\n")
        if self.written and not self.quiet:
            console = self.stderr if self.json else self.stdout
            console.print("Written:", *(f"  {path}" for path in self.written), sep="\n", soft_wrap=True)

    def write_table(self, table: pd.DataFrame, name: str) -> None:
        """Write ``table`` as CSV into the output folder."""
        path, partial = self.out / name, self.out / f".{name}.partial"
        table.to_csv(partial, index=False)
        partial.replace(path)
        self.written.append(path)


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: numpy scalars as numbers, NaN and infinities as null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


# ------------------------------------------------------------------------------- variance


def add_variance(commands: argparse._SubParsersAction[Parser]) -> None:
    parser = add_command(
        commands,
        "variance",
        "Simulate activation variance through a deep stack and lay exact theory over it.",
        [
            "variance --depth 30",
            "variance --depth 100 --init he xavier --activation relu tanh --width 256",
            "variance --depth 30 --init he --gain-slope 0 --activation prelu",
            "variance --direction both --init he --fan fan_out --widths 64 128 256 512",
            "variance --engine law --draws 1000000 --width 1024",
            "variance --depth 1000 --init normal --draws 20 --json",
            "variance --stack conv --image-size 32 --channels 32",
            "variance --norm batch --init he",
        ],
    )
    parser.add_argument("--depth", type=int, help="weight layers (default 30)")
    parser.add_argument("--width", type=int, help="units per layer (default 512)")
    parser.add_argument(
        "--widths", type=int, nargs="+", metavar="N", help="n_0 n_1 … n_L instead of depth and width"
    )
    parser.add_argument("--draws", type=int, default=100, help="networks per curve (default 100)")
    parser.add_argument("--batch", type=int, default=1, help="inputs per network (default 1)")
    add_names(parser, init=["he", "xavier", "normal"])
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
    parser.add_argument("--fan", choices=FANS, help="the fan that he and lecun use (default fan_in)")
    parser.add_argument(
        "--input-second-moment", type=float, default=1.0, metavar="Q", help="mean of x_0² (default 1)"
    )
    parser.add_argument(
        "--sigma-b", type=float, default=0.0, metavar="STD", help="std of the biases (0)"
    )
    parser.add_argument(
        "--gain-slope",
        type=float,
        metavar="S",
        help="slope in He's gain (default: the activation's own)",
    )
    parser.add_argument("--all-layers", action="store_true", help="a row for every layer, however many")
    add_stacks(parser)
    parser.set_defaults(run=run_variance)


def run_variance(session: Session) -> None:
    a = session.arguments
    if a.stack == "conv" or a.norm == "batch":
        return run_other_stack(session)
    dense_defaults(a)
    if a.widths is not None and (a.depth is not None or a.width is not None):
        raise RequestError("--widths contradicts --depth and --width: it says both; drop them")
    spec = VarianceSpec(
        depth=30 if a.depth is None else a.depth,
        width=512 if a.width is None else a.width,
        layer_widths=None if a.widths is None else tuple(a.widths),
        draws=a.draws,
        batch=a.batch,
        initializers=tuple(a.init),
        activations=tuple(a.activation),
        direction=a.direction,
        engine=a.engine,
        fan=a.fan,
        input_second_moment=a.input_second_moment,
        sigma_b=a.sigma_b,
        gain_slope=a.gain_slope,
        seed=a.seed,
        device=a.device,
    )
    session.prepare_out()
    from figures.style import save_figure
    from figures.tables import drift_note, growth_table, variance_table
    from figures.variance import variance_figure, weight_gradient_figure
    from theory.devices import environment, resolve_device
    from theory.simulate import growth, variance

    with draws_progress(session) as on_progress:
        table = variance(spec, on_progress)
    curves = growth(table)
    session.show(
        *(
            variance_table(rows, width=session.stdout.width, all_layers=a.all_layers)
            for _, rows in table.groupby("direction", sort=False)
        ),
        growth_table(curves, note=drift_note(spec)),
    )
    session.write_table(table, "variance.csv")
    session.written += save_figure(variance_figure(table), session.out / "variance")
    if "backward" in spec.directions:
        gradients = weight_gradient_figure(table)
        session.written += save_figure(gradients, session.out / "weight-gradients")
    session.finish(
        {
            "command": "variance",
            "spec": spec.as_dict(),
            "environment": environment(resolve_device(spec.device)),
            "curves": variance_curves(table, curves),
        }
    )


def add_stacks(parser: Parser) -> None:
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


def dense_defaults(a: argparse.Namespace) -> None:
    refuse(a, "is of --stack conv: add it", "channels", "image_size", "kernel_size", "padding")
    defaults: dict[str, Any] = {"draws": 100, "batch": 1, "direction": "forward"}
    if getattr(a, "widths", None) is None:
        defaults |= {"depth": 30, "width": 512}
    for name, value in defaults.items():
        if getattr(a, name) is None:
            setattr(a, name, value)


def refuse(a: argparse.Namespace, why: str, *names: str) -> None:
    """A ``RequestError`` if one of the options ``names`` was given."""
    for name in names:
        if getattr(a, name, None) is not None:
            raise RequestError(f"--{name.replace('_', '-')} {why}")


def run_other_stack(session: Session) -> None:
    """Convolutions, or batch norm."""
    a = session.arguments
    conv = a.stack == "conv"
    if conv and a.norm == "batch":
        raise RequestError("--norm batch is there for dense stacks only: drop it or --stack conv")
    if a.engine != "modules":
        other = "--stack conv" if conv else "--norm batch"
        raise RequestError(f"--engine {a.engine} knows plain dense stacks only: drop it or {other}")
    own: tuple[str, ...] = ("channels", "image_size", "kernel_size", "padding")
    shared: dict[str, Any]
    if conv:
        refuse(a, "is of dense stacks; --stack conv has --channels", "width", "widths")
        names, shared = own, {"sigma_b": a.sigma_b}
    else:
        refuse(a, "is of --stack conv: add it, and drop --norm batch", *own)
        refuse(a, "contradicts --norm batch, which has one --width", "widths")
        if a.sigma_b:
            raise RequestError("--sigma-b contradicts --norm batch, which removes every bias: drop one")
        names, shared = ("width",), {}
    names += ("depth", "draws", "batch", "direction")
    shared |= {name: getattr(a, name) for name in names if getattr(a, name) is not None}
    shared |= {
        "initializers": tuple(a.init),
        "activations": tuple(a.activation),
        "fan": a.fan,
        "input_second_moment": a.input_second_moment,
        "gain_slope": a.gain_slope,
        "seed": a.seed,
        "device": a.device,
    }
    spec = ConvSpec(**shared) if conv else BatchNormSpec(**shared)
    session.prepare_out()
    if isinstance(spec, ConvSpec):
        run_conv(session, spec)
    else:
        run_batch_norm(session, spec)


def run_conv(session: Session, spec: ConvSpec) -> None:
    from figures.convolution import border_figure, border_note
    from figures.style import save_figure
    from figures.tables import growth_table
    from theory.convolution_simulate import measure
    from theory.simulate import growth

    with draws_progress(session) as on_progress:
        table, border = measure(spec, on_progress)
    curves = growth(table)
    show_stack(session, table, growth_table(curves), *border_note(border))
    session.write_table(border, "border.csv")
    if spec.padding == "zero":
        session.written += save_figure(border_figure(border), session.out / "border")
    finish_stack(session, spec, table, curves)


def run_batch_norm(session: Session, spec: BatchNormSpec) -> None:
    from figures.batch_norm import norm_growth_figure, norm_growth_table
    from figures.style import save_figure
    from theory.batch_norm import measure
    from theory.simulate import growth

    with draws_progress(session) as on_progress:
        table, gradients = measure(spec, on_progress)
    show_stack(session, table, *([] if gradients.empty else [norm_growth_table(gradients)]))
    if not gradients.empty:
        session.write_table(gradients, "gradient-growth.csv")
        figure = norm_growth_figure(table, gradients)
        session.written += save_figure(figure, session.out / "gradient-growth")
    inner = table[table["layer"] > 1] if spec.depth > 1 else table  # layer 1 has another input
    rows = gradients.to_dict("records")
    finish_stack(session, spec, table, growth(inner), gradient_growth=rows)


def show_stack(session: Session, table: pd.DataFrame, *more: RenderableType) -> None:
    """Print and write what every stack has, a table and a picture per direction."""
    from figures.style import save_figure
    from figures.tables import variance_table
    from figures.variance import variance_figure

    all_layers, width = session.arguments.all_layers, session.stdout.width
    for direction, rows in table.groupby("direction", sort=False):
        session.show(variance_table(rows, width=width, all_layers=all_layers))
        stem = "variance" if direction == "forward" else "variance-backward"
        session.written += save_figure(variance_figure(rows), session.out / stem)
    session.show(*more)
    session.write_table(table, "variance.csv")


def finish_stack(
    session: Session,
    spec: ConvSpec | BatchNormSpec,
    table: pd.DataFrame,
    curves: pd.DataFrame,
    **more: Any,
) -> None:
    from theory.devices import environment, resolve_device

    session.finish(
        {
            "command": "variance",
            "spec": spec.as_dict(),
            "environment": environment(resolve_device(spec.device)),
            "curves": variance_curves(table, curves),
        }
        | more
    )


def variance_curves(table: pd.DataFrame, curves: pd.DataFrame) -> list[dict[str, Any]]:
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


@contextlib.contextmanager
def draws_progress(session: Session) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on stderr for simulations, where someone is there to see it."""
    if session.quiet or not session.stderr.is_terminal:
        yield None
        return
    from rich.progress import Progress

    with Progress(console=session.stderr, transient=True) as progress:
        task = progress.add_task("drawing networks", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


# ------------------------------------------------------------------- gains, correlation, phase


def add_gains(commands: argparse._SubParsersAction[Parser]) -> None:
    parser = add_command(
        commands,
        "gains",
        "The exact gain of every activation, beside torch.nn.init.calculate_gain.",
        ["gains", "gains --activation tanh gelu prelu:0.1"],
    )
    add_activation(parser, GAINS_ACTIVATIONS)
    parser.set_defaults(run=run_gains)


def run_gains(session: Session) -> None:
    spec = GainsSpec(tuple(session.arguments.activation))
    session.prepare_out()
    from figures.gains import gains_figure, gains_notes, gains_table
    from figures.style import save_figure
    from theory.devices import environment, resolve_device
    from theory.gains import gains

    table = gains(spec)
    session.show(gains_table(table), gains_notes(table))
    session.write_table(table, "gains.csv")
    session.written += save_figure(gains_figure(table, spec.parsed), session.out / "gains")
    session.finish(
        {
            "command": "gains",
            "spec": spec.as_dict(),
            "environment": environment(resolve_device(session.arguments.device)),
            "gains": table.to_dict("records"),
        }
    )


def add_correlation(commands: argparse._SubParsersAction[Parser]) -> None:
    parser = add_command(
        commands,
        "correlation",
        "Send pairs of inputs through deep stacks and lay the correlation map over them.",
        [
            "correlation --depth 50",
            "correlation --depth 30 --activation tanh --correlations 0.2 0.6 0.99 --sigma-b 0.2",
            "correlation --depth 20 --init he orthogonal --width 64 --draws 1000",
        ],
    )
    parser.add_argument("--depth", type=int, default=50, help="weight layers (default 50)")
    parser.add_argument("--width", type=int, default=512, help="units per layer (default 512)")
    parser.add_argument("--draws", type=int, default=100, help="networks per curve (default 100)")
    add_names(parser, init=["he"])
    parser.add_argument(
        "--correlations",
        type=float,
        nargs="+",
        default=[0.0, 0.5, 0.9],
        metavar="C",
        help="of the two inputs, each a pair of its own (default 0 0.5 0.9)",
    )
    parser.add_argument("--fan", choices=FANS, help="the fan that he and lecun use (default fan_in)")
    parser.add_argument(
        "--input-second-moment", type=float, default=1.0, metavar="Q", help="mean of x_0² (default 1)"
    )
    parser.add_argument(
        "--sigma-b", type=float, default=0.0, metavar="STD", help="std of the biases (0)"
    )
    parser.add_argument(
        "--gain-slope",
        type=float,
        metavar="S",
        help="slope in He's gain (default: the activation's own)",
    )
    parser.add_argument("--all-layers", action="store_true", help="a row for every layer, however many")
    parser.set_defaults(run=run_correlation)


def run_correlation(session: Session) -> None:
    a = session.arguments
    spec = CorrelationSpec(
        depth=a.depth,
        width=a.width,
        draws=a.draws,
        initializers=tuple(a.init),
        activations=tuple(a.activation),
        correlations=tuple(a.correlations),
        fan=a.fan,
        gain_slope=a.gain_slope,
        sigma_b=a.sigma_b,
        input_second_moment=a.input_second_moment,
        seed=a.seed,
        device=a.device,
    )
    session.prepare_out()
    from figures.correlation import correlation_figure, correlation_table
    from figures.style import save_figure
    from theory.correlation import correlation
    from theory.devices import environment, resolve_device

    with draws_progress(session) as on_progress:
        table = correlation(spec, on_progress)
    session.show(correlation_table(table, all_layers=a.all_layers))
    session.write_table(table, "correlation.csv")
    session.written += save_figure(correlation_figure(table), session.out / "correlation")
    names = ["initializer", "activation", "negative_slope", "input_correlation"]
    session.finish(
        {
            "command": "correlation",
            "spec": spec.as_dict(),
            "environment": environment(resolve_device(spec.device)),
            "curves": [
                rows.iloc[0][names].to_dict() | {"layers": rows.drop(columns=names).to_dict("records")}
                for _, rows in table.groupby(
                    ["initializer", "activation", "input_correlation"], sort=False
                )
            ],
        }
    )


def add_phase(commands: argparse._SubParsersAction[Parser]) -> None:
    parser = add_command(
        commands,
        "phase",
        "The phase diagram (σ_w², σ_b²): ordered, critical and chaotic, initializers marked.",
        ["phase", "phase --activation tanh relu --width 256", "phase --activation elu --sigma-b 0.3"],
    )
    parser.add_argument("--width", type=int, default=512, help="fan_in and fan_out (default 512)")
    add_activation(parser, ("tanh",))
    parser.add_argument(
        "--init",
        nargs="+",
        default=["he", "xavier", "normal"],
        metavar="NAME",
        help=f"marked; default he xavier normal; any of {', '.join(INITIALIZERS)} but pytorch",
    )
    parser.add_argument(
        "--sigma-b",
        type=float,
        default=0.0,
        metavar="STD",
        help="std of the marked networks' biases (0)",
    )
    parser.add_argument(
        "--max-bias-variance", type=float, default=1.0, metavar="V", help="end of the σ_b² axis (1)"
    )
    parser.set_defaults(run=run_phase)


def run_phase(session: Session) -> None:
    a = session.arguments
    spec = PhaseSpec(tuple(a.activation), tuple(a.init), a.width, a.sigma_b, a.max_bias_variance)
    session.prepare_out()
    from figures.phase import critical_table, phase_figure, phase_table
    from figures.style import save_figure
    from theory import phase
    from theory.devices import environment, resolve_device

    marks, contours, critical = phase.marks(spec), phase.contours(spec), phase.critical_line(spec)
    session.show(phase_table(marks), critical_table(critical))
    session.write_table(marks, "phase.csv")
    session.write_table(contours, "phase_contours.csv")
    session.written += save_figure(phase_figure(contours, marks), session.out / "phase")
    session.finish(
        {
            "command": "phase",
            "spec": spec.as_dict(),
            "environment": environment(resolve_device(a.device)),
            "initializers": marks.to_dict("records"),
            "critical_line": critical.to_dict("records"),
        }
    )


def add_activation(parser: Parser, default: Sequence[str]) -> None:
    parser.add_argument(
        "--activation",
        nargs="+",
        default=list(default),
        metavar="NAME",
        help=f"default {' '.join(default)}; any of {', '.join(ACTIVATIONS)}",
    )


# ---------------------------------------------------------------------------------- cifar


def add_cifar(commands: argparse._SubParsersAction[Parser]) -> None:
    parser = add_command(
        commands,
        "cifar",
        "Train the course report's networks on CIFAR-10; the same command resumes.",
        [
            "cifar --init he",
            "cifar --init he xavier --activation relu --depths 2 5 --epochs 2",
            "cifar --init he --seeds 6 --data-dir DIR",
            "cifar --dry-run",
        ],
    )
    add_names(parser, init=["he", "normal"])
    parser.add_argument(
        "--depths", type=int, nargs="+", default=[2, 5, 10, 12], help="conv layers (default 2 5 10 12)"
    )
    parser.add_argument("--epochs", type=int, default=10, help="default 10")
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument("--seeds", type=int, metavar="N", help="run N seeds, from --seed on (default 1)")
    seeds.add_argument(
        "--seed-list", type=int, nargs="+", metavar="SEED", help="run exactly these seeds"
    )
    parser.add_argument("--batch-size", type=int, default=64, help="default 64")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of Adam, default 0.001")
    parser.add_argument("--filters", type=int, default=32, help="per convolution, default 32")
    parser.add_argument("--norm", choices=("batch", "none"), default="batch", help="default batch")
    parser.add_argument("--fan", choices=FANS, default="fan_out", help="default fan_out, as the report")
    parser.add_argument("--dataset", choices=("cifar10",), default="cifar10", help="default cifar10")
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="default $CIFAR10_DIR, else a download"
    )
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="default fp32")
    parser.add_argument("--engine", choices=("auto", "eager"), default="auto", help="default auto")
    parser.add_argument("--limit-train", type=int, metavar="N", help="train on the first N images only")
    parser.add_argument("--limit-test", type=int, metavar="N", help="test on the first N images only")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and an estimate of time")
    parser.set_defaults(run=run_cifar)


def run_cifar(session: Session) -> None:
    a = session.arguments
    if a.seeds is not None and a.seeds < 1:
        raise RequestError(f"--seeds must be at least 1, not {a.seeds}")
    if a.seed_list is not None and a.seed:
        raise RequestError("--seed and --seed-list contradict each other: name the seeds in one place")
    seeds = a.seed_list if a.seed_list is not None else range(a.seed, a.seed + (a.seeds or 1))
    from empirical.protocol import StudySpec

    spec = StudySpec(
        initializers=tuple(a.init),
        activations=tuple(a.activation),
        depths=tuple(a.depths),
        seeds=tuple(seeds),
        epochs=a.epochs,
        batch_size=a.batch_size,
        learning_rate=a.learning_rate,
        filters=a.filters,
        norm=a.norm,
        fan=a.fan,
        dataset=a.dataset,
        data_dir=a.data_dir,
        precision=a.precision,
        engine=a.engine,
        limit_train=a.limit_train,
        limit_test=a.limit_test,
        out=session.out,
        device=a.device,
    )
    from empirical import study
    from figures.tables import accuracy_table, plan_table
    from theory.devices import environment, resolve_device

    head = {
        "command": "cifar",
        "spec": spec.config(),
        "environment": environment(resolve_device(spec.device)),
    }
    if a.dry_run:
        plan = study.plan(spec)
        session.show(plan_table(plan))
        session.finish(head | {"plan": plan.to_dict("records")})
        return
    session.prepare_out()
    from figures.study import course_report_figures
    from figures.style import save_figure

    with study_progress(session) as on_event:
        table = study.run_study(spec, on_event)
    partial = spec.limit_train is not None or spec.limit_test is not None
    comparison = study.compare_with_report(table)
    session.show(accuracy_table(comparison, epochs=spec.epochs, partial=partial))
    session.write_table(table, "study.csv")
    for stem, figure in course_report_figures(table).items():
        session.written += save_figure(figure, session.out / stem)
    session.written.append(session.out / "cells")
    session.finish(head | {"cells": study.results(spec)})


@contextlib.contextmanager
def study_progress(session: Session) -> Iterator[Callable[[Event], None]]:
    """A live bar on stderr where someone watches, a line per epoch elsewhere; warnings always."""
    from rich.progress import BarColumn, Progress, TextColumn

    from empirical.study import StepDone
    from figures.progress import announcement, pace, position, warning

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[pace]}"),
        console=session.stderr,
        transient=True,
        disable=session.quiet or not session.stderr.is_terminal,
    )
    task = bar.add_task("starting", total=None, pace="")

    def on_event(event: Event) -> None:
        if isinstance(event, StepDone):
            total, done = event.images_per_epoch, event.images
            bar.update(task, description=position(event), total=total, completed=done, pace=pace(event))
        line = warning(event) if session.quiet else announcement(event)
        if line is not None:
            session.stderr.print(line, soft_wrap=True, markup=False)

    with bar:
        yield on_event


# ------------------------------------------------------------------------------- jacobian


def add_jacobian(commands: argparse._SubParsersAction[Parser]) -> None:
    parser = add_command(
        commands,
        "jacobian",
        "Singular values of a deep stack's input-output Jacobian against exact theory.",
        [
            "jacobian --depth 10 --width 200",
            "jacobian --init he orthogonal he-uniform --activation relu prelu:0.5 --draws 100",
            "jacobian --depth 50 --init orthogonal --activation linear relu --json",
        ],
    )
    parser.add_argument("--depth", type=int, default=10, help="layers (default 10)")
    parser.add_argument("--width", type=int, default=200, help="units per layer (default 200)")
    parser.add_argument("--draws", type=int, default=30, help="networks per curve (default 30)")
    parser.add_argument(
        "--init",
        nargs="+",
        default=["he", "orthogonal"],
        metavar="NAME",
        help=f"default he orthogonal; any of {', '.join(INITIALIZERS)}",
    )
    parser.add_argument(
        "--activation",
        nargs="+",
        default=["linear", "relu", "prelu"],
        metavar="NAME",
        help="default linear relu prelu; rectifiers only, prelu:SLOPE and leaky-relu:SLOPE included",
    )
    parser.set_defaults(run=run_jacobian)


def run_jacobian(session: Session) -> None:
    from theory.jacobian_spec import JacobianSpec

    a = session.arguments
    spec = JacobianSpec(
        depth=a.depth,
        width=a.width,
        draws=a.draws,
        initializers=tuple(a.init),
        activations=tuple(a.activation),
        seed=a.seed,
        device=a.device,
    )
    session.prepare_out()
    from figures.jacobian import jacobian_figure, jacobian_table
    from figures.style import save_figure
    from theory.devices import environment
    from theory.jacobian import jacobian, singular_values
    from theory.precision import float64_device

    device = float64_device(spec.device)
    with draws_progress(session) as on_progress:
        values = singular_values(spec, on_progress)
    table = jacobian(spec, values)
    session.show(jacobian_table(table))
    session.write_table(table, "jacobian.csv")
    session.write_table(values, "singular_values.csv")
    session.written += save_figure(jacobian_figure(values, table), session.out / "jacobian")
    session.finish(
        {
            "command": "jacobian",
            "spec": spec.as_dict(),
            "environment": environment(device),
            "curves": table.to_dict("records"),
        }
    )


# ---------------------------------------------------------------------------------- paper


def add_paper(commands: argparse._SubParsersAction[Parser]) -> None:
    parser = add_command(
        commands,
        "paper",
        "He et al.'s statements on initialization: published, computed here, agree?",
        ["paper", "paper --json"],
    )
    parser.set_defaults(run=run_paper)


def run_paper(session: Session) -> None:
    session.prepare_out()
    from figures.paper import paper_figure, paper_table
    from figures.style import save_figure
    from theory.devices import environment, resolve_device
    from theory.paper import paper

    device = resolve_device(session.arguments.device)
    table = paper()
    session.show(paper_table(table))
    session.write_table(table, "paper.csv")
    session.written += save_figure(paper_figure(), session.out / "paper")
    session.finish(
        {
            "command": "paper",
            "spec": {},
            "environment": environment(device),
            "statements": table.to_dict("records"),
        }
    )


# --------------------------------------------------------------------------------- derive


def add_derive(commands: argparse._SubParsersAction[Parser]) -> None:
    parser = add_command(
        commands,
        "derive",
        "He's derivation line by line, each line checked on real networks.",
        ["derive", "derive --negative-slope 0.5", "derive --width 512 --draws 400 --seed 1"],
    )
    parser.add_argument("--depth", type=int, default=10, help="layers (default 10)")
    parser.add_argument("--width", type=int, default=128, help="units per layer (default 128)")
    parser.add_argument("--draws", type=int, default=100, help="networks per kind (default 100)")
    rectifier = parser.add_mutually_exclusive_group()
    rectifier.add_argument(
        "--activation", default="prelu", metavar="NAME", help="rectifier of the part after Eq. 15"
    )
    rectifier.add_argument(
        "--negative-slope", type=float, metavar="A", help="its slope; the same as leaky-relu:A"
    )
    parser.set_defaults(run=run_derive)


def run_derive(session: Session) -> None:
    from theory.derivation_spec import DerivationSpec

    a = session.arguments
    spec = DerivationSpec(
        depth=a.depth,
        width=a.width,
        draws=a.draws,
        activation=a.activation if a.negative_slope is None else f"leaky-relu:{a.negative_slope}",
        seed=a.seed,
        device=a.device,
    )
    session.prepare_out()
    from figures.derivation import derivation_figure, derivation_table
    from figures.style import save_figure
    from theory.derivation import THRESHOLD, derivation
    from theory.devices import environment
    from theory.precision import float64_device

    device = float64_device(spec.device)
    table = derivation(spec)
    session.show(derivation_table(table))
    session.write_table(table, "derive.csv")
    session.written += save_figure(derivation_figure(table), session.out / "derive")
    session.finish(
        {
            "command": "derive",
            "spec": spec.as_dict(),
            "environment": environment(device),
            "threshold": THRESHOLD,
            "lines": table.to_dict("records"),
        }
    )


# --------------------------------------------------------------------------------- shared


def add_command(
    commands: argparse._SubParsersAction[Parser], name: str, purpose: str, examples: Sequence[str]
) -> Parser:
    """A subcommand with the options that every command has, and examples under its help."""
    lines = "\n".join(f"  python cli.py {example}" for example in examples)
    parser = commands.add_parser(
        name,
        help=purpose,
        description=purpose,
        epilog=f"examples:\n{lines}",
        formatter_class=RawDescriptionRichHelpFormatter,
        allow_abbrev=False,
    )
    common = parser.add_argument_group("every command")
    common.add_argument(
        "--seed", type=int, default=0, help="first number of all randomness (default 0)"
    )
    common.add_argument("--device", choices=DEVICES, default="auto", help="default auto")
    common.add_argument("--out", metavar="DIR", help=f"where files go (default runs/{name})")
    common.add_argument("--json", action="store_true", help="one JSON document on stdout, nothing else")
    common.add_argument("--quiet", action="store_true", help="no progress and no list of files")
    return parser


def add_names(parser: Parser, init: list[str]) -> None:
    parser.add_argument(
        "--init",
        nargs="+",
        default=init,
        metavar="NAME",
        help=f"default {' '.join(init)}; any of {', '.join(INITIALIZERS)}",
    )
    parser.add_argument(
        "--activation",
        nargs="+",
        default=["relu", "prelu"],
        metavar="NAME",
        help=f"default relu prelu; any of {', '.join(ACTIVATIONS)}",
    )


def build_parser() -> Parser:
    parser = Parser(
        prog="fanin",
        description="How should these weights be initialized, and does it matter?",
        epilog="examples:\n  python cli.py variance --depth 30\n  python cli.py cifar --init he",
        formatter_class=RawDescriptionRichHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    add_variance(commands)
    add_gains(commands)
    add_correlation(commands)
    add_phase(commands)
    add_cifar(commands)
    add_jacobian(commands)
    add_paper(commands)
    add_derive(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit code, and raises nothing."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        return dispatch(argv)
    except RequestError as error:
        return fail(error, WRONG_REQUEST)
    except KeyboardInterrupt:
        command = shlex.join([*program(), *argv])
        sys.stderr.write(f"interrupted; nothing recorded is lost; go on with: {command}\n")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (WorkError, OSError, MemoryError) as error:
        return fail(error, FAILED)


def dispatch(argv: Sequence[str]) -> int:
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.version:
        from theory.devices import project_version

        sys.stdout.write(f"fanin {project_version()}\n")
        return DONE
    if arguments.command is None:
        parser.print_help()
        raise RequestError("name a command: variance or cifar")
    run: Callable[[Session], None] = arguments.run
    run(Session(arguments))
    sys.stdout.flush()
    return DONE


def fail(error: BaseException, code: int) -> int:
    message = " ".join(str(error).split()) or type(error).__name__
    sys.stderr.write(f"error: {message}\n")
    return code


def program() -> list[str]:
    """How this program was started, for a command that can be pasted."""
    name = Path(sys.argv[0]).name if sys.argv else "fanin"
    return ["python", sys.argv[0]] if name.endswith(".py") else [name]


def console() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    console()
