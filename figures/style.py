"""One look for every picture.

Colours are Okabe & Ito's (2008), told apart with every common colour blindness; each initializer
and each depth also has a marker and a dash of its own, so a grey print loses nothing.  The same
thing has the same colour in every figure.  Text stays text in PDF, and files carry no date: the
same data give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
ORANGE, SKY, PURPLE, BLACK = "#E69F00", "#56B4E9", "#CC79A7", "#000000"
COLUMN_WIDTH, PAGE_WIDTH = 3.4, 7.0  # inches: one and two columns of a LaTeX article

RC: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "fanin",
    "figure.dpi": 100,
    "savefig.dpi": 200,
}


@dataclass(frozen=True)
class Look:
    """How one thing is drawn everywhere."""

    color: str
    marker: str
    dash: Any  # a matplotlib line style


_DASHES: tuple[Any, ...] = (
    "-",
    "--",
    "-.",
    ":",
    (0, (5, 1, 1, 1, 1, 1)),
    (0, (1, 1)),
    (0, (8, 2)),
)
_LOOKS = tuple(
    Look(color, marker, dash)
    for color, marker, dash in zip(
        (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK), "osD^vPX", _DASHES, strict=True
    )
)
_INITIALIZER_ORDER = (
    "he",
    "xavier",
    "normal",
    "lecun",
    "pytorch",
    "orthogonal",
    "he-uniform",
    "xavier-uniform",
    "he-truncated",
)


def initializer_looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for each initializer: fixed for the first seven known ones, then in turn."""
    fixed = {name: _LOOKS[i % len(_LOOKS)] for i, name in enumerate(_INITIALIZER_ORDER)}
    looks: dict[str, Look] = {}
    spare = 3
    for name in names:
        if name not in fixed:
            fixed[name] = _LOOKS[spare % len(_LOOKS)]
            spare += 1
        looks[name] = fixed[name]
    return looks


def depth_looks(depths: Iterable[int]) -> dict[int, Look]:
    """A look for each depth, in rising order."""
    return {depth: _LOOKS[i % len(_LOOKS)] for i, depth in enumerate(sorted(set(depths)))}


@contextmanager
def styled() -> Iterator[None]:
    """Draw inside this block to get the project's look; nothing global is changed afterwards."""
    settings: Any = RC  # the stubs want every key spelled out
    with mpl.rc_context(settings):
        yield


# Ticks within one decade, sparse to dense.
_PER_DECADE: tuple[tuple[float, ...], ...] = (
    (1,),
    (1, 2, 5),
    (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8),
    tuple(1 + k / 20 for k in range(180)),
    tuple(1 + k / 100 for k in range(900)),
    tuple(1 + k / 1000 for k in range(9000)),
)


def power_of_ten_axis(axes: Axes) -> None:
    """Label a y axis that holds log10 values as powers of ten, at any range."""
    low, high = axes.get_ylim()
    if high - low < 2.5:  # less than a few decades: 1, 2, 5, 10, … as dense as three ticks ask for
        ticks = next(
            (found for found in map(lambda k: _ticks(low, high, k), _PER_DECADE) if len(found) >= 3),
            _ticks(low, high, _PER_DECADE[-1]),
        )
        axes.set_yticks(ticks)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{10**value:.4g}"))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"$10^{{{round(value)}}}$"))


def _ticks(low: float, high: float, per_decade: tuple[float, ...]) -> list[float]:
    """log10 of k·10^d inside [low, high], at most about eight of them."""
    decades = range(math.floor(low), math.ceil(high) + 1)
    found = [decade + math.log10(k) for decade in decades for k in per_decade]
    inside = [tick for tick in found if low <= tick <= high]
    return inside[:: max(len(inside) // 6, 1)]


def thin(layers: int, most: int) -> list[int]:
    """At most about ``most`` of the numbers 1 … ``layers``, ends included, evenly spread.

    >>> thin(30, 7)
    [1, 5, 10, 15, 20, 25, 30]
    """
    if layers <= most:
        return list(range(1, layers + 1))
    raw = layers / (most - 1)
    size = 10 ** math.floor(math.log10(raw))
    step = next(int(size * k) for k in (1, 2, 2.5, 5, 10) if size * k >= raw and (size * k) % 1 == 0)
    return sorted({1, *range(step, layers, step), layers})


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """Write ``figure`` as ``stem``.png and ``stem``.pdf, without dates; returns the two paths."""
    paths = []
    with styled():
        for suffix in ("png", "pdf"):
            path = stem.with_name(f"{stem.name}.{suffix}")
            partial = stem.with_name(f".{stem.name}.partial.{suffix}")
            no_date = {"CreationDate": None} if suffix == "pdf" else {"Software": None}
            figure.savefig(partial, metadata=no_date)
            partial.replace(path)
            paths.append(path)
    return paths
