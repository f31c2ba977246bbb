"""A study's records as three small tidy tables, which travel where run folders are too large.

    cells.csv    one row per cell: what it is, how it ended, on what it ran      (CELL_COLUMNS)
    study.csv    one row per cell and epoch                                      (STUDY_COLUMNS)
    layers.csv   one row per cell, epoch and layer, thinned                      (LAYER_COLUMNS)
    ABOUT.md     how they were made: commands, versions, hardware

``collect`` makes them from run folders, from verified records only; ``write`` and ``read`` are inverse
to each other, and ``read`` also takes a run folder, so that every picture can be drawn from either and
is the same.  Numbers keep the digits that matter (``DIGITS``).

Of the layers, the first and the last look at a network are kept whole; between them only what moves:
the weights of convolutions and of the linear layer, and PReLU's slopes.  Second moments are kept of the
first and last look alone, and their predictions of the first, where they follow from the law of the
weights.

Nothing here imports torch until a run folder is read: published tables open in a second.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from empirical import identity
from empirical.arm import Arm, same
from empirical.presets import BEYOND, PRESETS
from empirical.protocol import Protocol, TrainSpec
from empirical.records import schema
from empirical.records.account import account
from empirical.records.cell import EPOCH_COLUMNS
from empirical.records.cell import LAYER_COLUMNS as RECORDED_LAYERS
from empirical.study.events import OnEvent, RecordDamaged, ignore
from theory.errors import RequestError
from theory.initializers import LAWS

if TYPE_CHECKING:
    from empirical.records.folders import Finished

CELLS, STUDY, LAYERS, ABOUT = "cells.csv", "study.csv", "layers.csv", "ABOUT.md"
DIGITS = {CELLS: 9, STUDY: 9, LAYERS: 5}  # significant ones that a number keeps

CONFIG_COLUMNS = (
    *("initializer", "activation", "depth", "seed"),
    *(item.name for item in fields(Protocol) if item.name != "engine"),
)
IDENTITY_COLUMNS = (
    "cell",  # its id: a readable name and a hash of the configuration
    "preset",  # the presets that ask for it, separated by spaces; empty if none does
    *CONFIG_COLUMNS,  # what determines its result
    "variant",  # in what its protocol is not the course report's, in words
)
CELL_COLUMNS = (
    *IDENTITY_COLUMNS,
    "status",  # completed or diverged
    "epochs_done",  # finished epochs: fewer than epochs where it diverged
    "final_test_accuracy",  # the score after the last finished epoch; empty if there is none
    "initial_loss",  # loss on the fixed batch of the network as drawn
    "initial_loss_predicted",  # its expectation, from the law of the weights
    "initial_average_weight",  # of the network as drawn
    "seconds",  # wall time of all epochs
    "engine",  # the one that ran the steps
    *schema.ENVIRONMENT,
    "code",  # changes with the source of theory and empirical
    "notes",  # what a reader should know: a changed version, a clock that jumped
)
EPOCH_VALUES = EPOCH_COLUMNS[1:]
STUDY_COLUMNS = (
    *IDENTITY_COLUMNS,
    *("engine", "status"),
    "epoch",  # 0, without values, for a cell that diverged in its first
    *EPOCH_VALUES,
)
LAYER_COLUMNS = ("cell", *RECORDED_LAYERS)

NEWER = {name: value for name, value in identity.LATER.items() if name != "augment"}
MOVING = ("weight_mean", "weight_std", "negative_slope", "relative_change", "effective_learning_rate")
PREDICTED = ("second_moment_predicted", "gradient_second_moment_predicted")


@dataclass(frozen=True, eq=False)  # the same tables are the same object: a key of ``select``
class Published:
    """The three tables, with ``STUDY_COLUMNS``, ``LAYER_COLUMNS`` and ``CELL_COLUMNS``, in one order.

    ``layers`` knows its cells by ``cell`` alone: join with ``cells`` on it.
    """

    study: pd.DataFrame
    layers: pd.DataFrame
    cells: pd.DataFrame

    def of(self, names: Iterable[str]) -> Published:
        """The same tables with only the cells whose ids are in ``names``."""
        chosen = set(names)
        tables = (self.study, self.layers, self.cells)
        kept = (table[table["cell"].isin(chosen)].reset_index(drop=True) for table in tables)
        return Published(*kept)


# ------------------------------------------------------------------------------- from records


def collect(folder: Path, on_event: OnEvent = ignore) -> Published:
    """The tables of every finished cell under the run folder ``folder``.

    Damaged records are reported to ``on_event`` and left out.
    """
    presets = _presets_by_key()
    study: list[dict[str, Any]] = []
    layers: list[dict[str, Any]] = []
    rows = []
    for cell in sorted(verified(folder, on_event), key=lambda cell: _order(cell.spec)):
        asked = " ".join(presets.get(cell.spec.key("seed"), []))
        identity = identity_of(cell) | {"preset": asked}
        study += [identity | row for row in cell.epochs or [{"epoch": 0}]]
        layers += [{"cell": cell.spec.cell_id} | row for row in _thinned(cell.layers)]
        rows.append(identity | _outcome(cell))
    return Published(
        _typed(study, STUDY_COLUMNS, DIGITS[STUDY]),
        _typed(layers, LAYER_COLUMNS, DIGITS[LAYERS]),
        _typed(rows, CELL_COLUMNS, DIGITS[CELLS]),
    )


def gather(folders: Sequence[Path], on_event: OnEvent = ignore) -> Published:
    """The cells of all ``folders``, each a run folder or published (``read``), in one order.

    A cell that several folders hold is the first one's.  Raises ``RequestError`` as ``read`` does.
    """
    parts: list[Published] = []
    known: set[str] = set()
    for folder in folders:
        part = read(folder, on_event)
        parts.append(part.of(set(part.cells["cell"]) - known))
        known |= set(part.cells["cell"])
    if len(parts) == 1:
        return parts[0]
    rows = [row for part in parts for row in part.cells.to_dict("records")]
    order = {str(row["cell"]): _order(spec_of(row)) for row in rows}
    place = {cell: number for number, cell in enumerate(sorted(order, key=lambda cell: order[cell]))}
    tables = [
        pd.concat(tables, ignore_index=True).sort_values(
            "cell", kind="stable", key=lambda cells: cells.map(place), ignore_index=True
        )
        for tables in zip(*((part.study, part.layers, part.cells) for part in parts), strict=True)
    ]
    return Published(*tables)


def verified(folder: Path, on_event: OnEvent = ignore) -> list[Finished]:
    """Every finished cell of the run folder; bad records are reported and left out."""
    from empirical.records import folders as records

    good, bad = records.read_all(folder)
    for name, reason in bad.items():
        on_event(RecordDamaged(name, reason, None))
    return good


def _order(spec: TrainSpec) -> tuple[Any, ...]:
    """The report's cells first; laws in the order in which this project names them."""
    known = list(LAWS)
    law = known.index(spec.initializer) if spec.initializer in known else len(known)
    words = Arm.of(spec.config()).variant
    activation = {"relu": 0, "prelu": 1}.get(spec.activation, 2)
    return (words, law, spec.initializer, activation, spec.activation, spec.depth, spec.seed,
            spec.cell_id)  # fmt: skip


def identity_of(cell: Finished) -> dict[str, Any]:
    """What a row of a study says of its cell, but for the presets that ask for it."""
    config = cell.spec.config()
    named = {"cell": cell.spec.cell_id, "variant": Arm.of(config).variant}
    return config | named | {name: cell.result[name] for name in ("engine", "status")}


@cache
def _presets_by_key() -> dict[tuple[Any, ...], list[str]]:
    """Configuration without its seed -> presets that ask for it, but for those that only add seeds."""
    found: dict[tuple[Any, ...], list[str]] = {}
    seen: list[set[tuple[Any, ...]]] = []
    for name, preset in (PRESETS | BEYOND).items():
        keys = {cell.key("seed") for cell in preset.study.cells()}
        if keys in seen:
            continue
        seen.append(keys)
        for key in keys:
            found.setdefault(key, []).append(name)
    return found


def _outcome(cell: Finished) -> dict[str, Any]:
    result = cell.result
    initial = {f"initial_{name}": value for name, value in result["initial"].items()}
    machine = schema.Environment(**result["environment"]).model_dump(include=set(schema.ENVIRONMENT))
    named = {name: result[name] for name in ("final_test_accuracy", "code")}
    totals = {"epochs_done": len(cell.epochs), "seconds": math.fsum(result["seconds"])}
    return initial | machine | named | totals | {"notes": "; ".join(result["notes"])}


def _thinned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of a cell's layers what is kept; see the top of this module."""
    last = max((row["epoch"] for row in rows), default=0)
    kept = []
    for row in rows:
        if 0 < row["epoch"] < last:
            row = {name: row[name] for name in ("epoch", "layer", "kind", *MOVING)}
            if not math.isfinite(row["relative_change"]) and not math.isfinite(row["negative_slope"]):
                continue
        elif row["epoch"]:
            row = {name: value for name, value in row.items() if name not in PREDICTED}
            row["prediction_basis"] = ""
        kept.append(row)
    return kept


# ------------------------------------------------------------------------------- on disk


def write(published: Published, folder: Path) -> list[Path]:
    """Write the tables and ABOUT.md into ``folder``; returns their paths.

    A column of ``NEWER`` is left out where every cell has the value that was the only one before.  The
    same tables give the same bytes.  Raises ``RequestError`` where nothing can be written.
    """
    unused = {
        name for name, value in NEWER.items() if all(same(one, value) for one in published.cells[name])
    }
    contents = {
        name: _csv(table, [column for column in columns if column not in unused])
        for name, table, columns in (
            (CELLS, published.cells, CELL_COLUMNS),
            (STUDY, published.study, STUDY_COLUMNS),
            (LAYERS, published.layers, LAYER_COLUMNS),
        )
    }
    specs = [spec_of(row) for row in published.cells.to_dict("records")]
    contents[ABOUT] = account(published.cells, specs)
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            path, partial = folder / name, folder / f".{name}.{os.getpid()}.partial"
            partial.write_text(content, encoding="utf-8", newline="\n")
            partial.replace(path)
            paths.append(path)
    except OSError as error:
        raise RequestError(f"cannot write to {folder}: {error.strerror or error}") from error
    return paths


def read(folder: Path, on_event: OnEvent = ignore) -> Published:
    """The tables of ``folder``, which holds published tables or the records of a run.

    Raises ``RequestError``, in one line, for a folder that is neither, that lacks a table or a column,
    or whose tables do not belong together.
    """
    folder = Path(folder)
    if (folder / "cells").is_dir():
        return collect(folder, on_event)
    present = [name for name in (CELLS, STUDY, LAYERS) if (folder / name).is_file()]
    if CELLS not in present:
        what = "holds no records" if folder.is_dir() else "is no folder"
        raise RequestError(
            f"{folder} {what}: name the --out of a cifar run, or a folder with {CELLS}, {STUDY} and "
            f"{LAYERS}"
        )
    for name in (STUDY, LAYERS):
        if name not in present:
            raise RequestError(f"{folder} holds {CELLS} but no {name}: the three belong together")
    cells = _read(folder / CELLS, CELL_COLUMNS, identity.LATER)
    study = _read(folder / STUDY, STUDY_COLUMNS, identity.LATER)
    layers = _read(folder / LAYERS, LAYER_COLUMNS, {})
    with _refusing(folder / CELLS):
        today = _ids_of_today(cells)
    with _refusing(folder / STUDY):
        _check_study(cells, study)
    with _refusing(folder / LAYERS):
        _check_layers(cells, layers)
    tables = (study, layers, cells)
    return Published(*(table.assign(cell=table["cell"].map(today).astype(object)) for table in tables))


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """What is wrong with the content of ``path`` is wrong with the request, which names it."""
    try:
        yield
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # unicode's errors are among them, and RequestError
        raise RequestError(f"{path} cannot be read: {error}") from error


def _read(path: Path, columns: tuple[str, ...], later: Mapping[str, Any]) -> pd.DataFrame:
    with _refusing(path):
        text = path.read_text(encoding="utf-8-sig")
        return _frame(pd.DataFrame(schema.read_columns(text, columns, later), columns=list(columns)))


def spec_of(row: Mapping[Any, Any]) -> TrainSpec:
    """The cell that a row of ``cells`` or ``study`` describes; ``RequestError`` if it is none."""
    values = [row[name] for name in CONFIG_COLUMNS]
    for index, (name, value) in enumerate(zip(CONFIG_COLUMNS, values, strict=True)):
        if value is None or value != value:  # NaN
            values[index] = None
        elif schema.is_whole(name):
            values[index] = int(value)
    return _spec(tuple(values))


@lru_cache(maxsize=10_000)
def _spec(values: tuple[Any, ...]) -> TrainSpec:
    """The cell with these values of ``CONFIG_COLUMNS``: every figure asks for it again."""
    return TrainSpec(**dict(zip(CONFIG_COLUMNS, values, strict=True)))


def _ids_of_today(cells: pd.DataFrame) -> dict[str, str]:
    """Each row's cell by the id in the file, which an earlier version may have given it.

    Raises ``ValueError`` for a row that is not the cell that it names, or a cell of two rows.
    """
    today: dict[str, str] = {}
    seen: set[str] = set()
    for row in cells.to_dict("records"):
        named, spec = str(row["cell"]), spec_of(row)
        if named not in (spec.cell_id, spec.former_id):
            raise ValueError(f"it describes another cell than {named}")
        if spec.cell_id in seen:
            raise ValueError(f"it names {named} more than once")
        seen.add(spec.cell_id)
        today[named] = spec.cell_id
        schema.check_score(spec.dataset, row["final_test_accuracy"])
        done, epochs = row["epochs_done"], row["epochs"]
        if done > epochs or (done < epochs and row["status"] == "completed"):
            raise ValueError(f"{named} is {row['status']} after {done} of {epochs} epochs")
    return today


def _check_study(cells: pd.DataFrame, study: pd.DataFrame) -> None:
    """``study`` holds each epoch of each of the ``cells``, and says of each cell what they say."""
    _check_names(cells, study)
    shared = [*IDENTITY_COLUMNS, "engine", "status"]
    side = study[shared].merge(cells[shared], how="left", on=shared, indicator=True)["_merge"]
    if len(contrary := study.loc[side == "left_only", "cell"]):
        raise ValueError(f"it contradicts {CELLS} about {contrary.iloc[0]}")
    epochs = {name: list(group) for name, group in study.groupby("cell", sort=False)["epoch"]}
    for cell, done in zip(cells["cell"], cells["epochs_done"], strict=True):
        if epochs.get(cell) != (list(range(1, done + 1)) or [0]):
            raise ValueError(f"it does not hold the {done} epochs of {cell}, each once, in order")
    for dataset, least in study.groupby("dataset", sort=False)["test_accuracy"].min().items():
        schema.check_score(str(dataset), least)
    measured = study[study["epoch"] > 0]
    for name in EPOCH_VALUES:
        lacking = measured.loc[measured[name].isna(), "cell"]
        if name != "gradient_norm" and len(lacking):
            raise ValueError(f"it lacks {name} of {lacking.iloc[0]}")
    last = study.drop_duplicates("cell", keep="last").set_index("cell")["test_accuracy"]
    final = cells.set_index("cell")["final_test_accuracy"]
    if len(differ := final.compare(last.reindex(final.index))):
        raise ValueError(f"it ends at another accuracy than {CELLS} says of {differ.index[0]}")


def _check_layers(cells: pd.DataFrame, layers: pd.DataFrame) -> None:
    """``layers`` holds the layers of each of the ``cells`` as drawn, and none twice."""
    _check_names(cells, layers)
    if absent := sorted(set(cells["cell"]) - set(layers.loc[layers["epoch"] == 0, "cell"])):
        raise ValueError(f"it does not hold the layers of {absent[0]} as drawn")
    if (again := layers.duplicated(["cell", "epoch", "layer"])).any():
        raise ValueError(f"it holds a layer of {layers.loc[again, 'cell'].iloc[0]} twice in one epoch")
    done = layers["cell"].map(cells.set_index("cell")["epochs_done"])
    if (beyond := layers["epoch"] > done).any():
        raise ValueError(f"it goes on after the last epoch of {layers.loc[beyond, 'cell'].iloc[0]}")


def _check_names(cells: pd.DataFrame, table: pd.DataFrame) -> None:
    if strange := sorted(set(table["cell"]) - set(cells["cell"])):
        raise ValueError(f"it has a cell that {CELLS} lacks: {strange[0]}")


def _typed(rows: list[dict[str, Any]], columns: tuple[str, ...], digits: int) -> pd.DataFrame:
    """A tidy frame of ``rows`` whose numbers are rounded to ``digits`` significant digits."""
    frame = _frame(pd.DataFrame(rows, columns=list(columns)))
    for name in columns:
        if name not in CONFIG_COLUMNS and frame[name].dtype == np.float64:  # every digit names a cell
            frame[name] = [float(f"{value:.{digits}g}") for value in frame[name]]
    return frame


def _frame(frame: pd.DataFrame) -> pd.DataFrame:
    """The same types whether the rows come from records or from a file; what is missing is NaN.

    A text that no record lacks, as a note, is empty instead.
    """
    frame = frame.astype({name: schema.dtype(str(name)) for name in frame})
    for name in frame:
        if frame[name].dtype == object:
            missing = math.nan if schema.may_lack(str(name)) else ""
            texts = [missing if value is None or value != value else value for value in frame[name]]
            frame[name] = pd.Series(texts, dtype=object)
    return frame


def _csv(table: pd.DataFrame, columns: Sequence[str]) -> str:
    table = _frame(table[list(columns)])
    whole = {
        name: table[name].astype("Int64")
        for name in columns
        if schema.is_whole(name) and schema.may_lack(name)
    }
    return table.assign(**whole).to_csv(index=False, lineterminator="\n")
