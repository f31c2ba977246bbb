"""What is on disk: one folder per cell, written atomically, verified when read.

    OUT/cells/<cell-id>/config.json     the spec, written first; a field it lacks has its default
                        checkpoint.pt   the state after the last finished epoch, until the cell ends
                        epochs.csv      one row per epoch     (cell.EPOCH_COLUMNS)
                        layers.csv      one row per layer and epoch (cell.LAYER_COLUMNS)
                        result.json     written last: where it is, the cell is finished
    OUT/damaged/<cell-id>-<n>/          records that were set aside
    OUT/locks/<cell-id>.lock            held by the process that works on the cell

Every file is written beside its place, flushed to the disk and renamed, so a process killed at any
moment leaves the old file or the new one.  Checkpoints carry a SHA-256 of their content, and
result.json one of its own and of both tables: damage is found, never averaged in.  What a checksum
vouches for is read by ``schema`` still: another program can have written it.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import json
import math
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from empirical.protocol import TrainSpec
from empirical.records import schema
from empirical.records.cell import EPOCH_COLUMNS, LAYER_COLUMNS, CellState
from empirical.records.locations import RESULT, cell_folder
from empirical.records.provenance import code_digest
from theory.errors import RequestError, WorkError

CONFIG, CHECKPOINT, EPOCHS, LAYERS = "config.json", "checkpoint.pt", "epochs.csv", "layers.csv"


class DamagedRecord(Exception):
    """A record that is not what was written, or not of the cell whose folder it lies in."""


@dataclass(frozen=True)
class Finished:
    """A verified finished cell: result.json without its checksums, and both tables' rows."""

    spec: TrainSpec
    result: dict[str, Any]
    epochs: list[dict[str, Any]]
    layers: list[dict[str, Any]]


def prepare(out: Path) -> None:
    """Make ``out`` and see that it can be written to, or raise ``RequestError``."""
    try:
        (out / "cells").mkdir(parents=True, exist_ok=True)
        (out / "locks").mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=out / "cells") as file:
            file.write(b"fanin")
    except OSError as error:
        raise RequestError(f"cannot write to --out {out}: {error.strerror or error}") from error


@contextlib.contextmanager
def locked(out: Path, spec: TrainSpec) -> Iterator[bool]:
    """Whether this process holds the cell's lock for the ``with`` block; never waits.

    A cell that an earlier version has begun may still be in that version's hands: its lock has the
    folder's name, and is held beside the one of today.
    """
    with contextlib.ExitStack() as held:
        for name in dict.fromkeys((spec.cell_id, cell_folder(out, spec).name)):
            try:
                with _writing(out / "locks"):
                    held.enter_context(FileLock(out / "locks" / f"{name}.lock", blocking=False))
            except Timeout:
                yield False
                return
        yield True


@contextlib.contextmanager
def marked(out: Path) -> Iterator[str]:
    """The name of a file in ``out`` for the ``with`` block: who sees it there sees ``out``."""
    with contextlib.ExitStack() as stack:
        with _writing(out / "locks"):
            mark = stack.enter_context(tempfile.NamedTemporaryFile(dir=out / "locks", prefix="mark-"))
        yield Path(mark.name).name


def is_marked(out: Path, name: str) -> bool:
    """Whether this ``out`` is the one that bears the mark ``name``."""
    return (out / "locks" / name).exists()


def read_finished(out: Path, spec: TrainSpec) -> Finished | None:
    """The finished record of ``spec``, or None when there is none; ``DamagedRecord`` if it is bad."""
    folder = cell_folder(out, spec)
    if not (folder / RESULT).exists():
        return None
    _check_config(folder, spec)
    return _read_finished(folder, spec)


def read_all(out: Path) -> tuple[list[Finished], dict[str, str]]:
    """Every finished cell under ``out`` by order of id, and what is wrong with the damaged ones."""
    good: dict[str, Finished] = {}
    bad = {}
    for folder in sorted(path for path in (out / "cells").glob("*") if (path / RESULT).exists()):
        try:
            spec = _read_spec(folder)
            found = _read_finished(folder, spec)
        except DamagedRecord as damage:
            bad[folder.name] = str(damage)
        else:
            if folder == cell_folder(out, spec):  # and not a former one, beside that of today
                good[folder.name] = found
    return list(good.values()), bad


def read_checkpoint(out: Path, spec: TrainSpec) -> CellState | None:
    """The state to go on from, or None for a cell not begun; ``DamagedRecord`` if it is bad."""
    folder = cell_folder(out, spec)
    if not (folder / CHECKPOINT).exists():
        return None
    _check_config(folder, spec)
    digest, _, payload = _read(folder / CHECKPOINT).partition(b"\n")
    if hashlib.sha256(payload).hexdigest().encode() != digest:
        raise DamagedRecord(f"{folder / CHECKPOINT} does not match its checksum")
    saved = _unpacked(folder / CHECKPOINT, payload)
    with interpreting(folder / CHECKPOINT):
        if saved.pop("cell", None) != folder.name:
            raise DamagedRecord(f"{folder / CHECKPOINT} belongs to another cell")
        schema.check(schema.State, saved)
        state = CellState(**saved)
        if state.epoch > spec.epochs:
            raise DamagedRecord(f"{folder / CHECKPOINT} is after epoch {state.epoch} of {spec.epochs}")
        schema.check_rows(state.epochs, EPOCH_COLUMNS)
        schema.check_rows(state.layers, LAYER_COLUMNS)
        _check_epochs(state.epochs, state.layers, state.epoch)
        return state


def _unpacked(path: Path, payload: bytes) -> dict[str, Any]:
    """What torch saved as ``payload``, of tensors and plain values alone."""
    try:
        saved = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # torch's own words would advise to run what the file holds
        raise DamagedRecord(
            f"{path} is no checkpoint: it cannot be read as tensors, numbers and texts"
        ) from error
    if not isinstance(saved, dict):
        raise DamagedRecord(f"{path} is no checkpoint: it holds no named values")
    return saved


def write_config(out: Path, spec: TrainSpec) -> None:
    """Make the cell's folder and say in it what the cell is."""
    folder = cell_folder(out, spec)
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / CONFIG, _json({"cell": folder.name, **spec.config()}))


def write_checkpoint(out: Path, spec: TrainSpec, state: CellState) -> None:
    """Save ``state``, then the tables so far (for the reader: resuming needs the checkpoint only)."""
    folder = cell_folder(out, spec)
    buffer = io.BytesIO()
    torch.save({"cell": folder.name, **vars(state)}, buffer)
    payload = buffer.getvalue()
    write_whole(folder / CHECKPOINT, hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)
    _write_tables(folder, state)


def write_result(out: Path, spec: TrainSpec, state: CellState, environment: dict[str, Any]) -> Finished:
    """Finish the cell: tables, then result.json, then the checkpoint goes."""
    folder = cell_folder(out, spec)
    _write_tables(folder, state)
    result = result_of(spec, state, environment) | {"cell": folder.name}
    sums = {name: hashlib.sha256(_read(folder / name)).hexdigest() for name in (EPOCHS, LAYERS)}
    sums[RESULT] = hashlib.sha256(_json(result)).hexdigest()
    write_whole(folder / RESULT, _json(result | {"sha256": sums}))
    drop_checkpoint(out, spec)
    return _read_finished(folder, spec)


def drop_checkpoint(out: Path, spec: TrainSpec) -> None:
    """Remove the checkpoint of a finished cell, and what a writer that was killed left half written."""
    folder = cell_folder(out, spec)
    with _writing(folder):
        for left in (folder / CHECKPOINT, *folder.glob(".*.tmp")):
            left.unlink(missing_ok=True)


def result_of(spec: TrainSpec, state: CellState, environment: dict[str, Any]) -> dict[str, Any]:
    """The content of result.json: the cell, its status, and its curves epoch by epoch.

    ``final_test_accuracy`` (percent) is that of the last finished epoch, null when the cell diverged
    before its first; the other measurements are lists with one entry per finished epoch.
    """
    last = state.epochs[-1] if state.epochs else {}
    named = ("initializer", "activation", "depth", "seed", "norm", "fan", "filters", "epochs")
    config = spec.config()
    return {
        "cell": spec.cell_id,
        **{name: config.pop(name) for name in named},
        "status": state.status,
        "final_test_accuracy": last.get("test_accuracy"),
        **{
            name: [row[name] for row in state.epochs]
            for name in ("train_loss", "average_weight", "test_accuracy", "seconds")
        },
        "initial": state.initial,
        **config,
        "engine": state.engine,
        "notes": state.notes,
        "code": code_digest(),
        "environment": environment,
    }


def set_aside(out: Path, spec: TrainSpec) -> Path:
    """Move a damaged cell's folder to ``out/damaged`` under a name that is free; returns where."""
    folder = cell_folder(out, spec)
    with _writing(out / "damaged"):
        (out / "damaged").mkdir(exist_ok=True)
        number = 1
        while (place := out / "damaged" / f"{folder.name}-{number}").exists():
            number += 1
        folder.rename(place)
    return place


@contextlib.contextmanager
def interpreting(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with the content of ``path`` into a ``DamagedRecord``.

    A file that is not what was written can fail in any way at all: in its syntax, by a missing name, by
    a value of a wrong type, in torch's unpickler.  Only memory that runs out says nothing about it.
    """
    try:
        yield
    except (DamagedRecord, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DamagedRecord(f"{path} cannot be understood: {reason}") from error


def _read_finished(folder: Path, spec: TrainSpec) -> Finished:
    result = _read_json(folder / RESULT)
    with interpreting(folder / RESULT):
        sums = result.pop("sha256", None)
        if not isinstance(sums, dict) or hashlib.sha256(_json(result)).hexdigest() != sums.get(RESULT):
            raise DamagedRecord(f"{folder / RESULT} does not match its checksum")
    for name in (EPOCHS, LAYERS):
        if hashlib.sha256(_read(folder / name)).hexdigest() != sums.get(name):
            raise DamagedRecord(f"{folder / name} does not match its checksum in {RESULT}")
    if result.get("cell") != folder.name:
        raise DamagedRecord(f"{folder / RESULT} belongs to another cell")
    with interpreting(folder / RESULT):
        schema.check(schema.Result, result)
        epochs = _read_table(folder / EPOCHS, EPOCH_COLUMNS)
        layers = _read_table(folder / LAYERS, LAYER_COLUMNS)
        _check_epochs(epochs, layers, len(result["seconds"]))
        _check_result(spec, result, epochs)
    today = {"cell": spec.cell_id}  # whatever it was called then
    return Finished(spec, result | today, epochs, layers)


def _check_result(spec: TrainSpec, result: dict[str, Any], epochs: list[dict[str, Any]]) -> None:
    """A result says of its cell and its curves what the configuration and the table of epochs say."""
    for name, value in spec.config().items():
        if name != "engine" and result.get(name, value) != value:
            raise ValueError(f"{name} is {result[name]!r}, but {value!r} in {CONFIG}")
    for name in ("train_loss", "average_weight", "test_accuracy", "seconds"):
        if result[name] != [row[name] for row in epochs]:
            raise ValueError(f"{name} is not that of {EPOCHS}")
    schema.check_score(spec.dataset, min(result["test_accuracy"], default=0.0))
    if result["final_test_accuracy"] != (epochs[-1]["test_accuracy"] if epochs else None):
        raise ValueError(f"final_test_accuracy is not the last of {EPOCHS}")
    if result["status"] == "completed" and len(epochs) != spec.epochs:
        raise ValueError(f"it is completed after {len(epochs)} of {spec.epochs} epochs")


def _check_epochs(epochs: list[dict[str, Any]], layers: list[dict[str, Any]], done: int) -> None:
    """Each of the ``done`` epochs has its row, and so has every layer in each and as it was drawn."""
    if [row["epoch"] for row in epochs] != list(range(1, done + 1)):
        raise ValueError(f"{EPOCHS} does not hold the epochs 1 to {done}")
    if {row["epoch"] for row in layers} != set(range(done + 1)):
        raise ValueError(f"{LAYERS} does not hold the layers as drawn and after each of {done} epochs")
    if len({(row["epoch"], row["layer"]) for row in layers}) < len(layers):
        raise ValueError(f"{LAYERS} holds a layer twice")


def _read_spec(folder: Path) -> TrainSpec:
    config = _read_json(folder / CONFIG)
    cell_id = config.pop("cell", None)
    with interpreting(folder / CONFIG):
        schema.check(schema.Config, config)
        spec = TrainSpec(**config)
    if cell_id not in (spec.cell_id, spec.former_id):
        raise DamagedRecord(f"{folder / CONFIG} describes another cell than it names")
    if folder.name not in (spec.cell_id, spec.former_id):
        raise DamagedRecord(f"{folder / CONFIG} describes another cell")
    return spec


def _check_config(folder: Path, spec: TrainSpec) -> None:
    if _read_spec(folder).cell_id != spec.cell_id:
        raise DamagedRecord(f"{folder / CONFIG} describes another cell")


def _write_tables(folder: Path, state: CellState) -> None:
    write_whole(folder / EPOCHS, _table(EPOCH_COLUMNS, state.epochs))
    write_whole(folder / LAYERS, _table(LAYER_COLUMNS, state.layers))


def _table(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> bytes:
    """CSV in UTF-8; floats in their shortest exact form, NaN as an empty field."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow("" if _is_nan(row[name]) else row[name] for name in columns)
    return text.getvalue().encode()


def _read_table(path: Path, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """The rows of a table; a missing number is NaN, as it was when the row was made."""
    content = _read(path)
    with interpreting(path):
        read = schema.read_columns(content.decode(), columns, later={})
        made = [[math.nan if value is None else value for value in read[name]] for name in columns]
        return [dict(zip(columns, row, strict=True)) for row in zip(*made, strict=True)]


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def _read_json(path: Path) -> dict[str, Any]:
    text = _read(path)
    try:
        content = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise DamagedRecord(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise DamagedRecord(f"{path} is not a JSON object")
    return content


def _no_number(name: str) -> float:
    """NaN and Infinity are Python's, not JSON's: no record was ever written with them."""
    raise ValueError(f"{name} is no number of JSON")


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise DamagedRecord(f"{path} is no file")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DamagedRecord(f"{path} is missing") from error
    except OSError as error:
        raise DamagedRecord(f"cannot read {path}: {error.strerror or error}") from error


def write_whole(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content`` so that a crash leaves one or the other, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with _writing(path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn a failure of the disk into a ``WorkError`` that says what is safe."""
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise WorkError(
            f"could not write {path}: {reason}; finished cells are intact, and the same command "
            "goes on from there"
        ) from error
