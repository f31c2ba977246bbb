"""Options that several commands share, and their way into a spec."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import empirical
from commands.answer import Session
from figures.program import command_line
from theory.activations import ACTIVATIONS
from theory.errors import RequestError
from theory.initializers import FANS, INITIALIZERS

if TYPE_CHECKING:
    from empirical.records.published import Published

PUBLISHED = Path(__file__).parents[1] / "figures" / "data"  # the published study


def add_numbers(parser: argparse.ArgumentParser, spec: Any, **what: str) -> None:
    """Whole numbers with the defaults of ``spec``: the name of each, and ``what`` it counts."""
    for name, text in what.items():
        default = getattr(spec, name)
        help_text = f"{text} (default {default})"
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help=help_text)


def add_names(
    parser: argparse.ArgumentParser,
    spec: Any,
    *,
    marked: str = "",
    but: str = "",
    known: str = f"any of {', '.join(ACTIVATIONS)}",
) -> None:
    """The initializers and activations of a ``spec``, where it has them, with its defaults.

    marked, but   what the initializers are for, and which one is left out
    known         which activations there are
    """
    initializers = f"any of {', '.join(name for name in INITIALIZERS if name != but)}"
    for option, field, before, names in (
        ("--init", "initializers", marked, initializers),
        ("--activation", "activations", "", known),
    ):
        if default := getattr(spec, field, None):
            text = f"{before}default {' '.join(default)}; {names}"
            parser.add_argument(option, nargs="+", default=list(default), metavar="NAME", help=text)


def add_sigma_b(parser: argparse.ArgumentParser, what: str = "std of the biases") -> None:
    parser.add_argument("--sigma-b", type=float, default=0.0, metavar="STD", help=f"{what} (0)")


def add_signal(parser: argparse.ArgumentParser) -> None:
    """The scale of weights, input and biases of a stack, and how much of its table to show."""
    parser.add_argument("--fan", choices=FANS, help="the fan that he and lecun use (default fan_in)")
    parser.add_argument(
        "--input-second-moment", type=float, default=1.0, metavar="Q", help="mean of x_0² (default 1)"
    )
    add_sigma_b(parser)
    parser.add_argument(
        "--gain-slope",
        type=float,
        metavar="S",
        help="slope in He's gain (default: the activation's own)",
    )
    parser.add_argument("--all-layers", action="store_true", help="a row for every layer, however many")


def add_records(parser: argparse.ArgumentParser, otherwise: str = "") -> None:
    """--records: where the study is read from; see ``chosen_records``."""
    parser.add_argument(
        "--records",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="run folders (--out of cifar) or published tables, together; of a cell in several, the "
        f"first counts (default: the published study{otherwise})",
    )


def chosen_records(named: list[Path] | None, *, needed: bool = True) -> list[Path]:
    """The folders that --records ``named``, else the ``PUBLISHED`` study; said before any is read.

    Raises ``RequestError`` for one that is not there.  A copy without the published study is refused,
    too, unless nothing of it is ``needed``: then the list is empty.
    """
    if named is None:
        if needed and not PUBLISHED.is_dir():
            raise RequestError(
                f"this copy has no published study: train one with "
                f"{command_line('cifar --preset report')}, and name its --out with --records"
            )
        return [PUBLISHED] if PUBLISHED.is_dir() else []
    for folder in named:
        if not folder.is_dir():
            raise RequestError(
                f"--records {folder} is no folder: name the --out of a cifar run, or published tables"
            )
    return named


def read_records(folders: list[Path], session: Session) -> Published:
    """All that is recorded in ``folders``; ``RequestError`` if no cell is finished."""
    with session.study_progress() as on_event:
        records = empirical.gather(folders, on_event)
    if records.cells.empty:
        raise RequestError(
            f"no finished cell in {', '.join(map(str, folders))}: {command_line('cifar')} trains some, "
            "and resumes"
        )
    return records


def spec_fields(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Keywords of a spec: the options ``names``, and the initializers, activations, seed and device."""
    return {name: getattr(arguments, name) for name in (*names, "seed", "device")} | {
        "initializers": tuple(arguments.init),
        "activations": tuple(arguments.activation),
    }


def given(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Those of the options ``names`` that are not None; the spec has the others' defaults."""
    values = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def refuse(arguments: argparse.Namespace, why: str, *names: str) -> None:
    """A ``RequestError`` if one of the options ``names`` was given."""
    for name in given(arguments, *names):
        raise RequestError(f"--{name.replace('_', '-')} {why}")
