"""The published records of what is beyond the course report, and all that is made of them.

figures/data/beyond/    the tables of the studies' cells (``records.published``), and map.csv, that of
                        ``frontier --network plain residual rnn --branch-scale none depth``
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from empirical.data.catalog import TASKS, data_set
from empirical.frontier.spec import FrontierSpec
from empirical.frontier.table import FILE, agreement, load_map
from empirical.judgment.beyond import arms_of, foretold_arms, judge_beyond
from empirical.judgment.evidence import Evidence
from empirical.presets import BEYOND
from empirical.records.published import Published, read
from figures.beyond.frontier import frontier_caption, frontier_figure, map_of
from figures.beyond.scores import scores_caption, scores_figure

DATA = Path(__file__).parents[1] / "data" / "beyond"
MAPS = {
    spec.name: spec
    for spec in (
        FrontierSpec(),
        FrontierSpec(network="residual"),
        FrontierSpec(network="residual", branch_scale="depth"),
        FrontierSpec(network="rnn"),
    )
}
SECTION = "Beyond CIFAR-10"  # of the index of pictures
TITLES = {
    "frontier": "Which plain networks train",
    "frontier-residual": "Which residual networks train",
    "frontier-residual-depth": "Which residual networks train, their branches scaled with the depth",
    "frontier-rnn": "Which recurrent networks remember a symbol",
}
PICTURES = (*MAPS, *(f"scores-{task}" for task in TASKS))


@dataclass(frozen=True)
class Beyond:
    """The cells of ``presets.BEYOND``, and a table with the maps of trainability, ``MAPS``."""

    records: Published
    map: pd.DataFrame

    @classmethod
    def read(cls, folder: Path = DATA) -> Beyond:
        """From published tables; ``RequestError`` where they are not."""
        return cls(read(folder), load_map(folder / FILE))

    @cached_property
    def evidence(self) -> Evidence:
        return Evidence(self.records.study, self.records.cells, self.records.layers)

    @cached_property
    def agreement(self) -> pd.DataFrame:
        """Of the maps: ``frontier.table.agreement``."""
        return agreement(self.map)

    @cached_property
    def claims(self) -> pd.DataFrame:
        return judge_beyond(self.evidence)

    def arms(self, task: str) -> pd.DataFrame:
        """``judgment.beyond.foretold_arms`` of the presets of ``task``."""
        own = {name: one for name, one in BEYOND.items() if data_set(one.dataset).task == task}
        return foretold_arms(self.evidence, arms_of(own))

    def figure(self, name: str) -> Figure:
        """One of ``PICTURES``."""
        if name in MAPS:
            return frontier_figure(self.map, MAPS[name])
        return scores_figure(self.arms(_task(name)))

    def words(self, name: str) -> tuple[str, str]:
        """Title and caption of one of ``PICTURES``."""
        if name in MAPS:
            return TITLES[name], frontier_caption(self.agreement, MAPS[name])
        return f"Theory and scores: {_task(name)}", scores_caption(self.arms(_task(name)))

    def index(self) -> list[tuple[object, ...]]:
        """A row per picture, as ``figures.study.gallery.COLUMNS``."""
        rows: list[tuple[object, ...]] = []
        for name in PICTURES:
            used = map_of(self.map, MAPS[name]) if name in MAPS else self.arms(_task(name))
            rows.append((name, SECTION, *self.words(name), len(used), 0, "", "", True))
        return rows


def _task(name: str) -> str:
    return name.removeprefix("scores-")


def published_beyond() -> Beyond | None:
    """What is beyond the course report; None in a copy without its records."""
    return Beyond.read() if DATA.is_dir() else None


def published_map() -> pd.DataFrame:
    """``Beyond.map`` alone; without a row in a copy without it."""
    return load_map(DATA / FILE)
