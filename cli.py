"""The command line: parse the arguments, run one command, print and write what it answers.

No science here, and no command: those are in ``commands``.  The doors ``theory``, ``empirical`` and
``figures`` load a name when it is first used, so that ``--help`` and a mistyped option answer at once:
torch, numpy, pandas and matplotlib come after the request has been checked.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

DONE, FAILED, WRONG_REQUEST, ALARM, INTERRUPTED = 0, 1, 2, 3, 130
SILENT_SECONDS = 20.0  # at most, of long work whose stderr is no terminal


def missing_package(error: ModuleNotFoundError) -> str:
    """What to do where a package that the program needs is not installed."""
    return (
        f"the package {error.name} is not installed for this Python: start with uv run cli.py, "
        "which installs everything, or run pip install -e . first"
    )


try:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.text import Text

    import empirical.study
    import figures.study
    import theory
    from commands.parser import TABLES, build_parser
    from commands.terminal import prepare, settle
    from figures.files import write_text
    from figures.program import program
    from theory.errors import RequestError, WorkError
    from theory.jsonable import plain
except ModuleNotFoundError as error:
    sys.stderr.write(f"error: {missing_package(error)}\n")
    sys.exit(WRONG_REQUEST)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from commands.answer import Answer, Picture
    from commands.answer import Session as Offer
    from empirical.study.events import Event
    from figures.tables import Sheet


class Plain(Console):
    """A console that prints text as it stands, and tells of a closed pipe as Python does."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class Session:
    """Where a command's output goes: results to stdout, progress and warnings to stderr."""

    def __init__(self, arguments: Namespace) -> None:
        self.arguments = arguments
        self.json: bool = arguments.json
        self.quiet: bool = arguments.quiet
        self.stdout = Plain()
        self.stderr = Plain(stderr=True)
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
        """Print tables, unless the one thing on stdout is to be JSON; commands to copy, unwrapped."""
        if not self.json:
            for renderable in renderables:
                whole = isinstance(renderable, Text) and bool(renderable.no_wrap)
                self.stdout.print(renderable, soft_wrap=whole)

    def present(self, answer: Answer) -> None:
        """Write the answer's files, show it, print the JSON document, list what was written.

        Files first: a reader who closes the pipe early loses nothing.
        """
        try:
            self.write_files(answer)
        finally:  # a full disk shall not take the tables too
            self.show(answer.show)
        device = theory.resolve_device(answer.device or self.arguments.device)
        head = {
            "command": self.arguments.command,
            "spec": answer.spec,
            "environment": theory.environment(device),
        }
        self.finish(head | answer.document)

    def write_files(self, answer: Answer) -> None:
        """Write tables, then pictures.

        Every table that is shown is written too, unless the command asked for no folder.
        """
        if not self.prepared:
            return
        sheets = [shown for shown in answer.show if isinstance(shown, figures.Sheet)]
        tables = dict(answer.tables)
        for sheet in sheets:
            tables.setdefault(f"{sheet.data_file or sheet.name}.csv", sheet.data)
        for name, table in tables.items():
            self.write(name, table.to_csv(index=False))
        for sheet in sheets:
            self.write_sheet(sheet)
        for stem, picture in answer.figures.items():
            self.write_figure(picture, stem)
        self.written += answer.paths

    def finish(self, document: dict[str, Any]) -> None:
        """Print the JSON document if it was asked for, and list the files that were written."""
        if self.json:
            sys.stdout.write(json.dumps(plain(document), allow_nan=False) + "\n")
        if self.written and not self.quiet:
            console = self.stderr if self.json else self.stdout
            lines = (f"Written in {self.out}:", *by_stem(self.written, self.out))
            console.print("\n  ".join(lines), soft_wrap=True)

    def write_sheet(self, sheet: Sheet) -> None:
        """Write a table as people read it, in each form that was asked for."""
        for form in self.tables:
            if form != "csv":
                text = sheet.latex() if form == "latex" else sheet.markdown()
                self.write(f"{sheet.name}{TABLES[form]}", text)

    def write(self, name: str, text: str) -> None:
        """Write a file of the output folder: all of it, or nothing."""
        write_text(self.out / name, text)
        self.written.append(self.out / name)

    def write_figure(self, picture: Picture, stem: str) -> None:
        """Write ``picture`` as PNG and PDF into the output folder."""
        figure = picture() if callable(picture) else picture
        self.written += figures.save_figure(figure, self.out / stem)

    @contextlib.contextmanager
    def draws_progress(
        self, what: str = "drawing networks"
    ) -> Iterator[Callable[[int, int], None] | None]:
        """A progress bar on stderr for simulations; where it is no terminal, a line now and then."""
        if self.quiet:
            yield None
            return
        if not self.stderr.is_terminal:
            said = time.monotonic()

            def tell(done: int, total: int) -> None:
                nonlocal said
                if time.monotonic() - said >= SILENT_SECONDS:
                    said = time.monotonic()
                    self.stderr.print(f"{what}: {done} of {total}")

            yield tell
            return
        with Progress(console=self.stderr, transient=True) as progress:
            task = progress.add_task(what, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    @contextlib.contextmanager
    def study_progress(self) -> Iterator[Callable[[Event], None]]:
        """A live bar on stderr where someone watches, a line per epoch elsewhere; warnings always."""
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
            if isinstance(event, empirical.study.StepDone):
                bar.update(
                    task,
                    description=figures.study.position(event),
                    total=event.images_per_epoch,
                    completed=event.images,
                    pace=figures.study.pace(event),
                )
            say = figures.study.warning if self.quiet else figures.study.announcement
            line = say(event)
            if line is not None:
                self.stderr.print(line, soft_wrap=True)

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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit code, and raises nothing."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        return dispatch(argv)
    except RequestError as error:
        return fail(str(error), WRONG_REQUEST)
    except ModuleNotFoundError as error:
        return fail(missing_package(error), WRONG_REQUEST)
    except KeyboardInterrupt:
        command = shlex.join([*program(), *argv])
        say(f"interrupted; nothing recorded is lost; go on with: {command}")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has seen enough
        return DONE
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return fail(f"{error.strerror or error}{where}", FAILED)
    except (WorkError, MemoryError) as error:
        return fail(str(error) or type(error).__name__, FAILED)


def dispatch(argv: Sequence[str]) -> int:
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.version:
        sys.stdout.write(f"fanin {theory.project_version()}\n")
        return DONE
    if arguments.command is None:
        parser.print_help(sys.stderr)
        raise RequestError("name a command: the list is above")
    run: Callable[[Namespace, Offer], Answer] = arguments.run
    session = Session(arguments)
    answer = run(arguments, session)
    session.present(answer)
    sys.stdout.flush()
    return ALARM if answer.alarm else DONE


def fail(message: str, code: int) -> int:
    say(f"error: {' '.join(message.split())}")
    return code


def say(line: str) -> None:
    with contextlib.suppress(OSError):  # where stderr is full, the exit code has to do
        sys.stderr.write(f"{line}\n")


def console() -> None:
    """The program as a process of its own."""
    prepare()
    try:
        code = main()
    finally:
        settle()
    sys.exit(code)


if __name__ == "__main__":
    console()
