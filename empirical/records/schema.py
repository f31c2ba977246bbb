"""What a record may hold: one schema for results, checkpoints and tables, whoever wrote them.

A checksum says that a file is what was written, not that this program can read it.  Whatever is read
passes here once, before anything is made of it: JSON as it is, fields of CSV files as text.  A missing
number is None here.  Raises ``ValueError``, in one line that names the place, for anything else.

This module imports neither torch nor numpy.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError, create_model

from empirical.data.catalog import data_set
from empirical.protocol import TrainSpec
from theory.randomness import MAX_SEED

HUGE = 1e150  # beyond what a network of float32 can measure, and its square is a number still

Whole = Annotated[int, Field(ge=0, lt=2**63)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Number = Annotated[float, Field(ge=-HUGE, le=HUGE)]
Size = Annotated[float, Field(ge=0, le=HUGE)]
Score = Annotated[float, Field(ge=-HUGE, le=100)]  # accuracy, or 100·R², which may be below 0
Seconds = Annotated[float, Field(ge=0, le=1e12)]
Share = Annotated[float, Field(ge=0, le=1)]
Outcome = Literal["completed", "diverged"]
Cell = Annotated[str, Field(min_length=1)]

COLUMNS: Mapping[str, Any] = {
    "cell": Cell,
    **dict.fromkeys(("depth", "filters", "pool_every", "epochs", "batch_size"), Whole),
    "seed": Seed,
    **dict.fromkeys(("epochs_done", "epoch", "threads"), Whole),
    **dict.fromkeys(("limit_train", "limit_test"), Whole | None),
    **dict.fromkeys(("head_fan", "head_initializer"), str | None),
    **dict.fromkeys(("learning_rate_reference", "recurrent"), str | None),
    **dict.fromkeys(("gain_slope", "learning_rate", "dropout", "weight_decay", "forget_bias"), Number),
    "status": Outcome,
    **dict.fromkeys(("final_test_accuracy", "test_accuracy"), Score | None),
    **dict.fromkeys(("initial_loss", "train_loss", "test_loss"), Size | None),
    **dict.fromkeys(("initial_loss_predicted", "initial_average_weight"), Number | None),
    "average_weight": Number | None,
    "seconds": Seconds | None,
    "dead_fraction": Share | None,
    # of a network that is about to diverge, these may be infinite
    **dict.fromkeys(("weight_mean", "bias_mean", "negative_slope"), float | None),
    **dict.fromkeys(
        ("weight_std", "gradient_norm", "relative_change", "effective_learning_rate", "second_moment",
         "second_moment_predicted", "gradient_second_moment", "gradient_second_moment_predicted"),
        Annotated[float, Field(ge=0)] | None,
    ),
}  # fmt: skip
"""The type of every column of every table; one that is not named here is text."""


class _Strict(BaseModel):
    """Values of the right type, no others in their place; fields that it does not know are let be."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, JsonValue]


class Initial(_Strict):
    """The network as drawn."""

    loss: Size | None
    loss_predicted: Number | None
    average_weight: Number | None


class Environment(_Strict):
    """The machine; a record of a version that noted less of it is a record still."""

    device: str = ""
    hardware: str = ""
    threads: Whole = 0
    platform: str = ""
    python: str = ""
    torch: str = ""
    version: str = ""


ENVIRONMENT = tuple(Environment.model_fields)


class Result(_Strict):
    """result.json without its checksums; the cell's configuration stands in it as well."""

    cell: str
    status: Outcome
    final_test_accuracy: Score | None
    train_loss: list[Size]
    average_weight: list[Number]
    test_accuracy: list[Score]
    seconds: list[Seconds]
    initial: Initial
    engine: str
    notes: list[str]
    code: str
    environment: Environment


class State(BaseModel):
    """A checkpoint's plain values; its tables, network and optimizer are looked at elsewhere."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    epoch: Whole
    status: Literal["running", "completed", "diverged"]
    epochs: list[dict[str, Any]]
    layers: list[dict[str, Any]]
    initial: Initial
    engine: str
    provenance: str
    clock: float
    notes: list[str]


_TYPES = get_type_hints(TrainSpec)
Config = create_model(  # type: ignore[call-overload]
    "Config",
    __config__=ConfigDict(strict=True, extra="forbid"),
    __doc__="config.json without its id: the fields of ``TrainSpec``; one that it lacks is as ever.",
    **{item.name: (_TYPES[item.name], item.default) for item in fields(TrainSpec)},
)


def check(model: type[BaseModel], content: Mapping[str, Any]) -> None:
    """``content`` is what ``model`` says."""
    try:
        model.model_validate(content)
    except ValidationError as error:
        raise _one_line(error) from error


def check_score(dataset: str, least: float) -> None:
    """Only an explained variance may be below 0."""
    if least < 0 and data_set(dataset).score == "accuracy":
        raise ValueError(f"{least:g} is an accuracy below 0")


def is_whole(name: str) -> bool:
    """Whether the column ``name`` counts something."""
    return COLUMNS.get(name) in (Whole, Seed, Whole | None)


def may_lack(name: str) -> bool:
    """Whether a field of the column ``name`` may be missing."""
    return type(None) in getattr(COLUMNS.get(name), "__args__", ())


def dtype(name: str) -> str:
    """What the column ``name`` is in a data frame: a number that may be missing is a float there."""
    kind = COLUMNS.get(name, str)
    if kind in (str, str | None, Cell, Outcome):
        return "object"
    return "int64" if is_whole(name) and not may_lack(name) else "float64"


def read_columns(text: str, names: Sequence[str], later: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The columns ``names`` of a CSV file's ``text``; an empty field is None where its type has it.

    ``later`` are columns that files of earlier versions lack, and the value that each then had.
    """
    try:
        header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    except (csv.Error, ValueError) as error:
        raise ValueError("it is no table" if text else "it is empty") from error
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise ValueError(f"it has the column {repeated[0]} twice")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise ValueError(f"row {number} has {len(row)} fields, the first row {len(header)}")
    found = dict(zip(header, zip(*rows, strict=True) if rows else [()] * len(header), strict=True))
    found |= {name: (value,) * len(rows) for name, value in later.items() if name not in found}
    for name in names:
        if name not in found:
            raise ValueError(f"it lacks the column {name}")
    return {name: _column(name, found[name], strict=False) for name in names}


def check_rows(rows: Iterable[Mapping[str, Any]], names: Iterable[str]) -> None:
    """Each of ``rows`` has all of ``names``, with values of their types; NaN is a missing number."""
    rows = list(rows)
    for name in names:
        if any(name not in row for row in rows):
            raise ValueError(f"a row lacks {name}")
        values = [row[name] for row in rows]
        _column(name, [None if value != value else value for value in values], strict=True)


def _column(name: str, values: Sequence[Any], *, strict: bool) -> list[Any]:
    adapter = _column_type(name)
    if not strict and may_lack(name):
        values = [value or None for value in values]
    try:
        return adapter.validate_python(list(values), strict=strict)
    except ValidationError as error:
        raise _one_line(error, name) from error


@cache
def _column_type(name: str) -> TypeAdapter[list[Any]]:
    return TypeAdapter(list[COLUMNS.get(name, str)])  # type: ignore[arg-type, misc]


def _one_line(error: ValidationError, *place: str) -> ValueError:
    """The first thing that is wrong, where it is, and what stands there.

    A column's rows are numbered as an editor numbers its lines: the first row is the names'.
    """
    first = error.errors(include_url=False)[0]
    where = [str(part + 2 if place and isinstance(part, int) else part) for part in first["loc"][:3]]
    at = f"{place[0]} in row {where[0]}" if place else ".".join(where)
    said = first["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    text = " ".join(f"{at}: {said}".removeprefix(": ").split())
    if first["type"] not in ("missing", "value_error"):
        text += f", not {first['input']!r}"[:80]
    return ValueError(text.encode(errors="replace").decode()[:300])
