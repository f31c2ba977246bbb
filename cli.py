"""The command line: parse the arguments, run one command, print and write what it answers.

No science here, and no command: those are in figures/commands.  torch, numpy, pandas and matplotlib
are imported only once the request has been checked, so that ``--help`` and a mistyped option answer
at once.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, cast

from rich_argparse import RawDescriptionRichHelpFormatter

from theory.devices import DEVICES
from theory.errors import RequestError, WorkError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from commands.answer import Answer, Picture
    from commands.answer import Session as Offer
    from empirical.study.grid import Event
    from figures.tables import Sheet

DONE, FAILED, WRONG_REQUEST, INTERRUPTED = 0, 1, 2, 130

# How a table can be written beside its CSV, and the suffix that this has.
TABLES = {"csv": ".csv", "latex": ".tex", "markdown": ".md"}

# The commands in the order of --help, and the room of commands/ that each is in.
COMMANDS = {
    "variance": "theory",
    "gains": "theory",
    "correlation": "theory",
    "phase": "theory",
    "cifar": "study",
    "figures": "study",
    "jacobian": "theory",
    "paper": "theory",
    "derive": "theory",
    "claims": "study",
    "report": "study",
    "explorer": "study",
}


class Command(Protocol):
    """What a module of figures/commands has."""

    PURPOSE: str
    EXAMPLES: Sequence[str]

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's own options."""

    def run(self, arguments: argparse.Namespace, session: Offer) -> Answer:
        """Check the request, prepare the output folder, do the work."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one ``error:`` line."""

    def error(self, message: str) -> NoReturn:
        raise RequestError(f"{message} (see {self.prog} --help)")


def open_console(*, stderr: bool = False) -> Console:
    """A console that tells of a closed pipe as Python does, and not by leaving the program."""
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Plain(stderr=stderr, highlight=False)


class Session:
    """Where a command's output goes: results to stdout, progress and warnings to stderr."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.json: bool = arguments.json
        self.quiet: bool = arguments.quiet
        self.stdout = open_console()
        self.stderr = open_console(stderr=True)
        self.out = Path(arguments.out or Path("runs") / arguments.command)
        self.tables = [name for name in TABLES if name in {"csv", *arguments.tables}]
        self.prepared = False
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
        self.prepared = True

    def show(self, renderables: Sequence[RenderableType]) -> None:
        """Print tables, unless the one thing on stdout is to be JSON."""
        if not self.json:
            for renderable in renderables:
                self.stdout.print(renderable)

    def present(self, answer: Answer) -> None:
        """Write the answer's files, show it, print the JSON document, list what was written.

        Files first: a reader who closes the pipe early loses nothing.
        """
        from theory.devices import environment, resolve_device

        try:
            self.write_files(answer)
        finally:  # a full disk shall not take the tables too
            self.show(answer.show)
        head = {
            "command": self.arguments.command,
            "spec": answer.spec,
            "environment": environment(resolve_device(answer.device)),
        }
        self.finish(head | answer.document)

    def write_files(self, answer: Answer) -> None:
        """Write tables and pictures, in the order that the answer asks for.

        Every table that is shown is written too, unless the command asked for no folder.
        """
        from figures.tables import Sheet

        if not self.prepared:
            return
        pictures = dict(answer.figures)
        for stem in answer.first:
            self.write_figure(pictures.pop(stem), stem)
        sheets = [shown for shown in answer.show if isinstance(shown, Sheet)]
        tables = dict(answer.tables)
        for sheet in sheets:
            tables.setdefault(f"{sheet.data_file or sheet.name}.csv", sheet.data)
        for name, table in tables.items():
            self.write(name, partial(table.to_csv, index=False))
        for sheet in sheets:
            self.write_sheet(sheet)
        for stem, picture in pictures.items():
            self.write_figure(picture, stem)
        self.written += answer.paths

    def finish(self, document: dict[str, Any]) -> None:
        """Print the JSON document if it was asked for, and list the files that were written."""
        if self.json:
            sys.stdout.write(json.dumps(plain(document), allow_nan=False) + "\n")
        if self.written and not self.quiet:
            console = self.stderr if self.json else self.stdout
            lines = (f"Written in {self.out}:", *by_stem(self.written, self.out))
            console.print("\n  ".join(lines), soft_wrap=True, markup=False)

    def write_sheet(self, sheet: Sheet) -> None:
        """Write a table as people read it, in each form that was asked for."""
        for form in self.tables:
            if form != "csv":
                text = sheet.latex() if form == "latex" else sheet.markdown()
                put = partial(Path.write_text, data=text, encoding="utf-8", newline="\n")
                self.write(f"{sheet.name}{TABLES[form]}", put)

    def write(self, name: str, put: Callable[[Path], object]) -> None:
        """Have ``put`` write a file of the output folder: all of it, or nothing."""
        from figures.files import written_whole

        with written_whole(self.out / name) as unfinished:
            put(unfinished)
        self.written.append(self.out / name)

    def write_figure(self, picture: Picture, stem: str) -> None:
        """Write ``picture`` as PNG and PDF into the output folder."""
        from matplotlib.figure import Figure

        from figures.style import save_figure

        figure = picture if isinstance(picture, Figure) else picture()
        self.written += save_figure(figure, self.out / stem)

    @contextlib.contextmanager
    def draws_progress(self) -> Iterator[Callable[[int, int], None] | None]:
        """A progress bar on stderr for simulations, where someone is there to see it."""
        if self.quiet or not self.stderr.is_terminal:
            yield None
            return
        from rich.progress import Progress

        with Progress(console=self.stderr, transient=True) as progress:
            task = progress.add_task("drawing networks", total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    @contextlib.contextmanager
    def study_progress(self) -> Iterator[Callable[[Event], None]]:
        """A live bar on stderr where someone watches, a line per epoch elsewhere; warnings always."""
        from rich.progress import BarColumn, Progress, TextColumn

        from empirical.study.grid import StepDone
        from figures.study.progress import announcement, pace, position, warning

        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[pace]}"),
            console=self.stderr,
            transient=True,
            disable=self.quiet or not self.stderr.is_terminal,
        )
        task = bar.add_task("starting", total=None, pace="")

        def on_event(event: Event) -> None:
            if isinstance(event, StepDone):
                total, done = event.images_per_epoch, event.images
                bar.update(
                    task, description=position(event), total=total, completed=done, pace=pace(event)
                )
            line = warning(event) if self.quiet else announcement(event)
            if line is not None:
                self.stderr.print(line, soft_wrap=True, markup=False)

        with bar:
            yield on_event


def by_stem(paths: Sequence[Path], folder: Path) -> list[str]:
    """A line for the files of each name, in the order of the first; a folder's name ends in a slash.

    >>> by_stem([Path("out/a.csv"), Path("out/b.csv"), Path("out/a.png")], Path("out"))
    ['a.csv  a.png', 'b.csv']
    """
    lines: dict[Path, list[str]] = {}
    for path in paths:
        inside = path.relative_to(folder) if path.is_relative_to(folder) else path
        lines.setdefault(inside.with_suffix(""), []).append(f"{inside}{'/' if path.is_dir() else ''}")
    return ["  ".join(names) for names in lines.values()]


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
    return value if isinstance(value, (str, int, float, type(None))) else str(value)


def add_command(commands: argparse._SubParsersAction[Parser], name: str) -> None:
    """The command ``name``: its own options, those of every command, and examples under its help."""
    command = cast(Command, importlib.import_module(f"commands.{COMMANDS[name]}.{name}"))
    lines = "\n".join(f"  python cli.py {example}" for example in command.EXAMPLES)
    parser = commands.add_parser(
        name,
        help=command.PURPOSE,
        description=command.PURPOSE,
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
    common.add_argument(
        "--tables",
        nargs="+",
        choices=TABLES,
        default=list(TABLES),
        help="how tables are written beside the CSV (default latex markdown; csv: only that)",
    )
    common.add_argument("--json", action="store_true", help="one JSON document on stdout, nothing else")
    common.add_argument("--quiet", action="store_true", help="no progress and no list of files")
    command.add_arguments(parser)
    parser.set_defaults(run=command.run)


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
    for name in COMMANDS:
        add_command(commands, name)
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
        parser.print_help(sys.stderr)
        raise RequestError(f"name a command: {', '.join(COMMANDS)}")
    run: Callable[[argparse.Namespace, Offer], Answer] = arguments.run
    session = Session(arguments)
    session.present(run(arguments, session))
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
