"""How a set of cells came about, in words: the commands that make them, and what they ran on.

Everything is read off the cells themselves (``published.CELL_COLUMNS``): nothing is typed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd

from empirical.data.catalog import data_set
from empirical.identity import GRID
from empirical.presets import BEYOND, PRESETS
from empirical.protocol import OPTION, Protocol, TrainSpec
from empirical.records.schema import ENVIRONMENT

MACHINE = (*ENVIRONMENT, "code", "engine")


def account(cells: pd.DataFrame, specs: list[TrainSpec]) -> str:
    """ABOUT.md: the commands, then the machines; ``specs`` are the cells of the rows of ``cells``."""
    notes = [f"- {row['cell']}: {row['notes']}" for row in cells.to_dict("records") if row["notes"]]
    header = ("cells", "epochs", "hours", *MACHINE)
    found = machines(cells)[list(header)]
    ran = found.assign(hours=found["hours"].map("{:.2f}".format)).to_numpy()
    return Template(Path(__file__).with_name("about.md").read_text(encoding="utf-8")).substitute(
        commands="\n".join(f"    python cli.py {command}" for command in commands(cells, specs)),
        machines="\n".join([_row(header), "|" + "---|" * len(header), *map(_row, ran)]),
        notes="\n".join(["\n## Notes\n", *notes, ""]) if notes else "",
    )


def _row(cells: Iterable[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def machines(cells: pd.DataFrame) -> pd.DataFrame:
    """One row per machine, engine and version: ``MACHINE``, cells, epochs, hours."""
    totals = cells.assign(hours=cells["seconds"] / 3600).groupby(list(MACHINE), as_index=False)
    named = {"cells": ("cell", "size"), "epochs": ("epochs_done", "sum"), "hours": ("hours", "sum")}
    return totals.agg(**named)


def commands(cells: pd.DataFrame, specs: list[TrainSpec]) -> list[str]:
    """Commands that together make the cells, and what they make of each grid.

    Cells that a preset asks for are made by its command (the first that asks for them); every other by
    one that names its protocol.
    """
    found: list[str] = []
    covered: set[str] = set()
    by_id = {spec.cell_id: spec for spec in specs}
    for name, preset in (PRESETS | BEYOND).items():
        ids = [row["cell"] for row in cells.to_dict("records") if name in row["preset"].split()]
        if new := set(ids) - covered:
            seeds = {by_id[cell].seed for cell in new}
            grid = len({cell.key("seed") for cell in preset.study.cells()})
            have = len({by_id[cell].key("seed") for cell in ids})
            parts = [f"{have} of its {grid} configurations"] if have < grid else []
            if len(seeds) > 1 and len(ids) < have * len(seeds):
                parts.append(f"{len(ids)} of {have * len(seeds)} cells")
            own = set(preset.fields.get("seeds", ())) == seeds and name in BEYOND
            words = ["--preset", name, *([] if own else _seed_options(seeds))]
            command = " ".join([*_command(preset.dataset), *words])
            found.append(command + ("   # " if parts else "") + ", ".join(parts))
            covered |= set(ids)
    return found + commands_of(spec for spec in specs if spec.cell_id not in covered)


def _command(dataset: str) -> list[str]:
    """What trains on ``dataset``: ``cifar`` what the course report trained on."""
    return ["cifar"] if dataset == Protocol().dataset else ["study", data_set(dataset).task]


def commands_of(specs: Iterable[TrainSpec]) -> list[str]:
    """Commands that together make the cells ``specs``, each naming its protocol."""
    protocols: dict[tuple[Any, ...], list[TrainSpec]] = {}
    for spec in specs:
        protocols.setdefault(spec.key(*GRID), []).append(spec)
    return [command for group in protocols.values() for command in _grids(group)]


def _grids(specs: list[TrainSpec]) -> list[str]:
    """One command per set of depths that an initializer and activation were run at."""
    sets: dict[tuple[Any, ...], dict[tuple[str, str], None]] = {}
    for spec in specs:
        arm = (spec.initializer, spec.activation)
        same = [other for other in specs if (other.initializer, other.activation) == arm]
        key = tuple(tuple(sorted({getattr(one, name) for one in same})) for name in ("depth", "seed"))
        sets.setdefault(key, {})[arm] = None
    found = []
    for (depths, seeds), arms in sets.items():
        for activations, laws in _rectangles(arms):
            words = ["--init", *laws, "--activation", *activations, "--depths", *map(str, depths)]
            found.append(" ".join([*_asking(specs[0], words, seeds)]))
    return found


def _asking(spec: TrainSpec, grid: list[str], seeds: Iterable[int]) -> list[str]:
    """A command with the protocol of ``spec``; ``study`` begins with its data set's defaults."""
    data, config = spec.data, spec.shared()
    if data.task == "images":
        return ["cifar", *grid, *_seed_options(seeds), *options(config)]
    known = {item.name for item in fields(Protocol)}
    own = {name: value for name, value in data.defaults.items() if name in known}
    differs = options(config, against=Protocol(dataset=spec.dataset, **own))
    chosen = ["--seed-list", *map(str, sorted(set(seeds)))]
    return ["study", data.task, "--dataset", spec.dataset, *grid, *chosen, *differs]


def _rectangles(arms: Iterable[tuple[str, str]]) -> list[tuple[tuple[str, ...], list[str]]]:
    """Initializers that share their activations, together."""
    by_law: dict[str, list[str]] = {}
    for law, activation in arms:
        by_law.setdefault(law, []).append(activation)
    together: dict[tuple[str, ...], list[str]] = {}
    for law, activations in by_law.items():
        together.setdefault(tuple(activations), []).append(law)
    return list(together.items())


def options(config: Mapping[str, Any], against: Protocol | None = None) -> list[str]:
    """The options of ``cifar`` for the fields of ``config`` that are not those of ``against``.

    >>> options({"fan": "fan_in", "epochs": 10, "filters": 8})
    ['--filters', '8', '--fan', 'fan_in']
    """
    default = (Protocol() if against is None else against).shared()
    words: list[str] = []
    for item in ("filters", *(item.name for item in fields(Protocol) if item.name != "filters")):
        if item in config and item != "engine" and config[item] != default[item]:
            words += [f"--{OPTION.get(item, item).replace('_', '-')}", str(config[item])]
    return words


def _seed_options(seeds: Iterable[int]) -> list[str]:
    """
    >>> _seed_options([0]), _seed_options([2, 0, 1]), _seed_options([3, 5])
    ([], ['--seeds', '3'], ['--seed-list', '3', '5'])
    """
    chosen = sorted(set(seeds))
    if chosen == [0]:
        return []
    if chosen == list(range(len(chosen))):
        return ["--seeds", str(len(chosen))]
    return ["--seed-list", *map(str, chosen)]
