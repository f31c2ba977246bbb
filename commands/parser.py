"""The command line's grammar: every command with its options, and errors that name what is near.

A command is a file in ``commands/theory`` or ``commands/study``; it is found there.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, NoReturn

from rich_argparse import RawDescriptionRichHelpFormatter

import commands.study
import commands.theory
from figures.program import command_line
from theory.devices import DEVICES
from theory.errors import RequestError, check_whole, nearest
from theory.randomness import MAX_SEED

# How a table can be written beside its CSV, and the suffix that this has.
TABLES = {"csv": ".csv", "latex": ".tex", "markdown": ".md"}

NUMBERS = {"int": "a whole number", "float": "a number"}  # as errors name them

FIRST = ("variance", "cifar")  # of the list of commands


def find_commands() -> dict[str, ModuleType]:
    """The modules of both rooms that have a ``PURPOSE``, by name: ``FIRST``, then as the rooms are."""
    found: dict[str, ModuleType] = {}
    for room in (commands.theory, commands.study):
        for module in pkgutil.iter_modules(room.__path__, f"{room.__name__}."):
            command = importlib.import_module(module.name)
            if hasattr(command, "PURPOSE"):
                found[module.name.rpartition(".")[2].replace("_", "-")] = command
    return {name: found[name] for name in (*FIRST, *(name for name in found if name not in FIRST))}


class Several(argparse._StoreAction):
    """An option's value; of one with several, commas separate them as spaces do."""

    def __init__(self, *args: Any, **options: Any) -> None:
        if options.get("nargs") == "+" and options.get("choices") is None:
            options["type"] = _each(options.get("type") or str)
        super().__init__(*args, **options)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if self.nargs == "+" and self.choices is None:
            values = [value for part in values for value in part]
        super().__call__(parser, namespace, values, option_string)


def _each(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """``kind`` of each part between commas."""

    def parts(text: str) -> list[Any]:
        return [kind(part) for part in text.split(",") if part] if "," in text else [kind(text)]

    parts.__name__ = getattr(kind, "__name__", "value")  # as argparse says in its errors
    return parts


class Formatter(RawDescriptionRichHelpFormatter):
    """Help texts as they stand: ``Var[w]`` is no markup, and ``FILE.py:FACTORY:`` no emoji."""

    help_markup = text_markup = False


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one ``error:`` line, which names what is near."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, formatter_class=Formatter, allow_abbrev=False)
        self.register("action", None, Several)

    def error(self, message: str) -> NoReturn:
        raise RequestError(f"{message} (see {self.prog} --help)")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """A value that is no choice, with the nearest that is."""
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            hint = nearest(str(value), known)
            raise argparse.ArgumentError(
                action, f"invalid choice: {value!r}; {hint}valid are {', '.join(known)}"
            )

    def _get_value(self, action: argparse.Action, text: str) -> Any:
        """A value of the option's type; argparse would name the type as Python does."""
        try:
            return super()._get_value(action, text)
        except argparse.ArgumentError as error:
            kind = next(
                (words for raw, words in NUMBERS.items() if f"invalid {raw} " in str(error)), None
            )
            if kind is None:
                raise
            raise argparse.ArgumentError(action, f"must be {kind}, not {text!r}") from None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Unknown options are this parser's to refuse: argparse leaves them to the parser above it."""
        known, rest = super().parse_known_args(args, namespace)
        if rest:
            names = {option.lstrip("-"): option for option in self._option_string_actions}
            meant = (nearest(word.partition("=")[0].lstrip("-"), (), names) for word in rest)
            hint = next((f"; {text.strip()}" for text in meant if text), "")
            self.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
        return known, rest


def seed(text: str) -> int:
    """The value of ``--seed``, for every command."""
    try:
        return check_whole("seed", int(text), 0, MAX_SEED)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"seed must be a whole number from 0 to {MAX_SEED:,}, not {text}"
        ) from None


def add_command(parsers: argparse._SubParsersAction[Parser], name: str, command: ModuleType) -> None:
    """The command ``name``: its own options, those of every command, and examples under its help."""
    parser = parsers.add_parser(
        name, help=command.PURPOSE, description=command.PURPOSE, epilog=examples(command.EXAMPLES)
    )
    common = parser.add_argument_group("every command")
    common.add_argument(
        "--seed",
        type=seed,
        default=0,
        metavar="N",
        help="a whole number; the same one gives the same random numbers (default 0)",
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
    """The parser of the whole command line."""
    parser = Parser(
        prog=command_line(),
        description="How should these weights be initialized, and does it matter?",
        epilog=examples(("variance --depth 30", "cifar --init he")),
    )
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    parsers = parser.add_subparsers(
        dest="command",
        metavar="COMMAND",
        parser_class=Parser,
        prog=parser.prog,  # else the formatter is asked for it, which writes to stdout
    )
    for name, command in find_commands().items():
        add_command(parsers, name, command)
    return parser


def command_parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of every command, by name."""
    (found,) = (action for action in build_parser()._actions if isinstance(action.choices, dict))
    return dict(found.choices)  # type: ignore[arg-type]


def examples(lines: Iterable[str]) -> str:
    """The end of a help text."""
    return "\n".join(["examples:", *(f"  {command_line(line)}" for line in lines)])
