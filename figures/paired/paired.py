"""A picture of theory beside practice: what it needs, how it is drawn and how it is read.

Each is a file of this room, with its ``FIGURES``; ``figures.study.gallery`` finds them there.  A
figure is drawn from whatever of its cells there is, and its caption says which are missing; without any
it is a *gap*, which names them and the command that makes them.  The words of captions are in
``figures/templates/captions.md``; every number that fills them in is from the records of the figure or
from the constants that made them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

import pandas as pd
from matplotlib.figure import Figure

from empirical.arm import Arm
from empirical.judgment.selection import arm, select
from empirical.presets import preset
from empirical.protocol import CLASSES, TrainSpec
from empirical.records.published import Published
from figures import style
from figures.paired.curves import seeds_of
from figures.prose import name_of, said, span

Made = TypeVar("Made", Figure, str)
Caption = Callable[[Published, Published], str]


@dataclass(frozen=True)
class Paired:
    """One figure of theory beside practice.

    title       what it shows, in a line
    preset      the study whose cells it needs (``empirical.presets``)
    draw        (its cells, everything published) -> figure
    read        (its cells, everything published) -> the caption
    activation  of its cells; "" for any
    own         whether it is drawn from the preset's cells alone, or from all of their protocols
    chosen      of everything published, its cells, where they are others
    wanted      which of the preset's cells it needs, where they are fewer
    place       among the others, from the first on
    """

    title: str
    preset: str
    draw: Callable[[Published, Published], Figure]
    read: Caption
    activation: str = ""
    own: bool = True
    chosen: Callable[[Published], Published] | None = None
    wanted: Callable[[TrainSpec], bool] = lambda cell: True
    place: int = 1000

    def used(self, published: Published) -> Published:
        """Of everything published, the cells that it is drawn from."""
        if self.chosen:
            return self.chosen(published)
        found = select(published, self.preset)
        cells = found.own if self.own else found.records
        return of_activation(cells, self.activation) if self.activation else cells

    def missing(self, published: Published) -> tuple[TrainSpec, ...]:
        """The configurations that it needs and that are not there, at seed 0."""
        return tuple(
            cell
            for cell in select(published, self.preset).missing
            if self.activation in ("", cell.activation) and self.wanted(cell)
        )

    def figure(self, published: Published) -> Figure:
        """The figure, where there is something to draw."""
        return self.draw(self.used(published), published)

    def caption(self, published: Published) -> str:
        """How to read it, what its data say, and what it lacks; empty if there is nothing to draw."""
        records = self.used(published)
        if records.cells.empty:
            return ""
        lacks = describe(self.missing(published), self.preset)
        return self.read(records, published) + (f" No records: {lacks}." if lacks else "")


def alone(make: Callable[[Published], Made]) -> Callable[[Published, Published], Made]:
    """What is made of a figure's own cells, whatever else is published."""
    return lambda records, _: make(records)


def describe(cells: Iterable[TrainSpec], preset_name: str) -> str:
    """Configurations of a preset in words, depths together; arms are named where it compares some.

    >>> describe([TrainSpec(depth=10), TrainSpec(depth=12), TrainSpec(initializer="normal")], "report")
    'He · ReLU 10, 12 layers; N(0, 1) · ReLU 2 layers'
    """
    compares = "arms" in preset(preset_name).fields
    depths: dict[tuple[Arm | str, str], list[int]] = {}
    for cell in cells:
        named = arm(cell) if compares else cell.initializer
        depths.setdefault((named, cell.activation), []).append(cell.depth)
    return "; ".join(
        f"{name_of(named)} · {name_of(activation)} {', '.join(map(str, dict.fromkeys(found)))} layers"
        for (named, activation), found in depths.items()
    )


# ------------------------------------------------------------------------------- captions


caption = partial(said, "captions", classes=CLASSES, chance=math.log(CLASSES))


def told(block: str, facts: Callable[[Published], dict[str, Any]] = lambda records: {}) -> Caption:
    """The caption that is a ``block`` of captions.md: of how many cells, and of the ``facts``."""
    return alone(lambda records: caption(block, **counted(records.cells), **facts(records)))


def of_activation(records: Published, activation: str) -> Published:
    """The cells of one activation."""
    cells = records.cells
    return records.of(cells.loc[cells["activation"] == activation, "cell"])


def protocol(records: Published) -> str:
    """What the cells have in common: "as printed, 32 filters, 10 epochs"."""
    words = max((arm.variant for arm in records.cells["arm"]), key=len, default="") or "as printed"
    sizes = []
    for name in ("filters", "epochs", "limit_train"):
        values = sorted(set(records.cells[name].dropna().astype(int)))
        if values:
            label = "training images" if name == "limit_train" else name
            sizes.append(f"{' or '.join(f'{value:,}' for value in values)} {label}")
    return ", ".join([words, *sizes])


def counted(cells: pd.DataFrame) -> dict[str, str]:
    """How many cells and seeds, "16 cells, one seed each", and what a band spans if there is one."""
    seeds = seeds_of(cells)
    low, high = (1, 1) if seeds.empty else (seeds.min(), seeds.max())
    each = "one seed" if high == 1 else f"{span(low, high)} seeds"
    several = cells["seed"].nunique() > 1
    return {
        "counted": f"{len(cells)} cell{'s' * (len(cells) != 1)}, {each} each",
        "band": ", the mean in a band from the least to the greatest seed" * several,
    }


def by_law(table: pd.DataFrame, columns: list[str], how: str) -> list[tuple[Any, ...]]:
    """The name of each law and what its rows come to, where they come to something."""
    found = table.groupby("initializer", sort=False)[columns].agg(how).dropna()
    return [(name_of(row[0]), *row[1:]) for row in found.itertuples()]


def of_arms(values: pd.Series) -> dict[Arm, float]:
    """What is known of each arm, in the order of arms."""
    known = cast(dict[Arm, float], values.dropna().to_dict())
    return {arm: known[arm] for arm in style.ordered_arms(known)}


def arm_words(arm: Arm) -> tuple[str, str]:
    return name_of(arm), "" if arm.changes else " as printed"


def times(exponent: float) -> str:
    """A ratio given by its log10.

    >>> times(0.0), times(-0.30103), times(3.0)
    ('×1.00', '×0.50', '×1e+03')
    """
    ratio = 10**exponent
    return f"×{ratio:.2f}" if 0.01 <= ratio < 100 else f"×{ratio:.0e}"
