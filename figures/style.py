"""One look for every picture.

Colours are Okabe & Ito's (2008), told apart with every common colour blindness; each initializer
and each depth also has a marker and a dash of its own, so a grey print loses nothing.  The same
thing has the same colour in every figure.  Text stays text in PDF, and files carry no date: the
same data give the same bytes.
"""

from __future__ import annotations

import io
import itertools
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from empirical.arm import Arm, Change
from figures.files import write_bytes

BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
ORANGE, SKY, PURPLE, BLACK = "#E69F00", "#56B4E9", "#CC79A7", "#000000"
T = TypeVar("T")
PAGE_WIDTH = 7.0  # inches: two columns of a LaTeX article
NOTEBOOK_DPI = 150

SETTINGS = Path(__file__).with_name("fanin.mplstyle")
RC: Any = mpl.rc_params_from_file(SETTINGS, use_default_template=False)


@dataclass(frozen=True)
class Look:
    """How one thing is drawn everywhere; the properties are keywords of ``axes.plot``."""

    color: str
    marker: str
    dash: Any  # a matplotlib line style

    @property
    def line(self) -> dict[str, Any]:
        return {"color": self.color, "linestyle": self.dash}

    @property
    def curve(self) -> dict[str, Any]:
        """A line through markers."""
        return self.line | {"marker": self.marker}

    @property
    def points(self) -> dict[str, Any]:
        """Open markers, as of what was measured."""
        return self.curve | {"linestyle": "none", "markerfacecolor": "white"}


DOTTED: dict[str, Any] = {"color": "black", "linewidth": 0.8, "linestyle": ":"}  # a reference
_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
_COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
_LOOKS = tuple(map(Look, _COLORS, "osD^vPX", _DASHES))
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
    fixed = looks_in_turn(_INITIALIZER_ORDER)
    spare = itertools.cycle((*_LOOKS[3:], *_LOOKS[:3]))
    return {name: fixed.get(name) or next(spare) for name in dict.fromkeys(names)}


def looks_in_turn(things: Iterable[T]) -> dict[T, Look]:
    """A look for each thing, in order."""
    return dict(zip(things, itertools.cycle(_LOOKS), strict=False))


# What an arm changes beside its initializer, and how that shifts the initializer's look: towards white
# (> 0) or black (< 0), and by another marker and dash.
_CHANGES: dict[tuple[Change, ...], tuple[float, str, Any]] = {
    (("head_fan", "fan_in"),): (0.45, "^", _DASHES[1]),
    (("fan", "fan_in"),): (-0.45, "v", _DASHES[2]),
    (("head_initializer", "he"),): (0.45, "P", _DASHES[1]),
    (("learning_rate_reference", "he"),): (-0.15, "<", _DASHES[6]),
    (("head_initializer", "he"), ("learning_rate_reference", "he")): (-0.45, "X", _DASHES[5]),
}
# The study's depths: a shade and a marker each, light to dark with depth.
_DEPTHS: dict[int, tuple[float, str, Any]] = {
    2: (0.5, "o", _DASHES[0]),
    5: (0.22, "s", _DASHES[1]),
    10: (-0.15, "D", _DASHES[2]),
    12: (-0.5, "^", _DASHES[3]),
    22: (0.22, "v", _DASHES[1]),
    30: (-0.5, "P", _DASHES[0]),
}


def arm_looks(arms: Iterable[Arm]) -> dict[Arm, Look]:
    """A look for each arm in order: its initializer's color, in shades."""
    arms = ordered_arms(arms)
    initializers = initializer_looks(dict.fromkeys(arm.initializer for arm in arms))
    looks: dict[Arm, Look] = {}
    for arm in arms:
        look = initializers[arm.initializer]
        if arm.changes:
            among = len([other for other in looks if other.initializer == arm.initializer])
            by_turn = ((0.45, -0.45)[among % 2], "^vPX"[among % 4], _DASHES[1 + among % 6])
            amount, marker, dash = _CHANGES.get(arm.changes, by_turn)
            look = Look(shade(look.color, amount), marker, dash)
        looks[arm] = look
    return looks


def ordered_arms(arms: Iterable[Arm]) -> list[Arm]:
    """Arms by initializer, as printed before changed ones.

    >>> head, all_layers = (("head_fan", "fan_in"),), (("fan", "fan_in"),)
    >>> arms = [Arm("normal"), Arm("he", all_layers), Arm("he", head), Arm("he")]
    >>> [arm.label for arm in ordered_arms(arms)]
    ['he', 'he, head fan_in', 'he, fan_in', 'normal']
    """
    laws, changes = list(_INITIALIZER_ORDER), [(), *_CHANGES]

    def place(arm: Arm) -> tuple[int, str, int, str]:
        law = laws.index(arm.initializer) if arm.initializer in laws else len(laws)
        change = changes.index(arm.changes) if arm.changes in changes else len(changes)
        return law, arm.initializer, change, arm.variant

    return sorted(dict.fromkeys(arms), key=place)


def depth_shades(depths: Iterable[int], color: str) -> dict[int, Look]:
    """A look for each depth in shades of ``color``; the same depth has the same everywhere."""
    chosen = sorted(set(depths))
    if all(depth in _DEPTHS for depth in chosen):
        parts = [_DEPTHS[depth] for depth in chosen]
    else:
        step = 1.0 / max(len(chosen) - 1, 1)
        parts = [
            (0.5 - step * i, "osD^vPX"[i % 7], _DASHES[i % len(_DASHES)]) for i in range(len(chosen))
        ]
    return {
        depth: Look(shade(color, amount), marker, dash)
        for depth, (amount, marker, dash) in zip(chosen, parts, strict=True)
    }


def shade(color: str, amount: float) -> str:
    """``color`` mixed with ``amount`` of white, or with −``amount`` of black.

    >>> shade("#0072B2", 0.0), shade("#000000", 0.5), shade("#ffffff", -1.0)
    ('#0072b2', '#808080', '#000000')
    """
    target = 1.0 if amount > 0 else 0.0
    red, green, blue = (part + (target - part) * abs(amount) for part in to_rgb(color))
    return str(to_hex((red, green, blue)))


def legend_key(label: str, **drawn: Any) -> Line2D:
    """An entry of a legend: a line or, with ``linestyle="none"``, a marker, drawn as said."""
    return Line2D([], [], label=label, **({"markersize": 4.5} | drawn))


def curve_key(label: str, look: Look) -> Line2D:
    """The entry of a curve that is a line and, where something was measured, an open marker."""
    return legend_key(label, **(look.points | look.line))


def band_key(label: str, **drawn: Any) -> Patch:
    """The entry of a band, whatever its curve's color."""
    look: dict[str, Any] = {"color": "#888888", "alpha": 0.3, "linewidth": 0} | drawn
    return Patch(label=label, **look)


def legend_below(figure: Figure, handles: Sequence[Artist]) -> None:
    """A legend under the panels, in as many columns (three at most) as the figure has room for."""
    for columns in (3, 2, 1):
        legend = figure.legend(handles=handles, loc="outside lower center", ncols=columns)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def beside(axes: Axes, text: str, at: tuple[Any, Any], offset: tuple[int, int], **drawn: Any) -> None:
    """``text``, small, ``offset`` points from ``at``."""
    axes.annotate(text, at, xytext=offset, textcoords="offset points", **({"fontsize": 7} | drawn))


def same_axes(panels: Iterable[Axes]) -> None:
    """Give panels of several figures one y axis, which holds what each of them shows."""
    panels = [axes for axes in panels if axes.has_data()]
    limits = [axes.get_ylim() for axes in panels]
    for axes in panels:
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


def label(
    grid: NDArray[np.object_],
    *,
    titles: Iterable[str] = (),
    below: str | Sequence[str] = "",
    left: str | Sequence[str] = "",
) -> None:
    """Write over the columns of a grid of panels, and below and left of it; one text is for all."""
    columns, rows = grid[-1], grid[:, 0]
    below = [below] * len(columns) if isinstance(below, str) else below
    left = [left] * len(rows) if isinstance(left, str) else left
    for axes, text in zip(grid[0], titles, strict=False):
        axes.set_title(text)
    for axes, text in zip(columns, below, strict=True):
        axes.set_xlabel(text)
    for axes, text in zip(rows, left, strict=True):
        axes.set_ylabel(text)


def inset(axes: Axes, box: tuple[float, float, float, float], title: str) -> Axes:
    """A small panel inside ``axes``, at ``box`` = (left, bottom, width, height) of its own size."""
    panel = axes.inset_axes(box)
    panel.set_title(title, fontsize=7, pad=2)
    panel.tick_params(labelsize=6, pad=1)
    return panel


def styled() -> AbstractContextManager[None]:
    """Draw inside this block to get the project's look; nothing global is changed afterwards."""
    return mpl.rc_context(RC)


def width_of(panels: int, in_a_row: int = 2, least: float = 4.6) -> float:
    """Inches of a figure of so many ``panels`` side by side, of which a page's width takes two."""
    return max(PAGE_WIDTH * panels / in_a_row, least)


@contextmanager
def canvas(height: float, width: float = PAGE_WIDTH) -> Iterator[Figure]:
    """A new figure, to be drawn in the project's look inside this block; sizes in inches."""
    with styled():
        yield Figure(figsize=(width, height), layout="constrained")


def widened(axes: Axes, least: float, which: str = "y") -> None:
    """Let an axis span ``least`` of its units, so that noise around a constant does not fill it."""
    low, high = axes.get_ylim() if which == "y" else axes.get_xlim()
    missing = max(least - (high - low), 0.0) / 2
    axes.set(**{f"{which}lim": (low - missing, high + missing)})


# Ticks within one decade, sparse to dense.
_PER_DECADE: tuple[Sequence[float], ...] = (
    *((1,), (1, 2, 5), (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)),
    *([1 + k / n for k in range(9 * n)] for n in (20, 100, 1000)),
)


def power_of_ten_axis(axes: Axes, which: str = "y", ticks: int = 7) -> None:
    """Label an axis, ``which`` x or y, that holds log10 values as powers of ten, at any range."""
    axis = axes.yaxis if which == "y" else axes.xaxis
    low, high = axis.get_view_interval()
    if high - low < 2.5:  # less than a few decades: 1, 2, 5, 10, … as dense as three ticks ask for
        found = [_ticks(low, high, per_decade) for per_decade in _PER_DECADE]
        axis.set_ticks(next((some for some in found if len(some) >= 3), found[-1]))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{10**value:.4g}"))
    else:
        axis.set_major_locator(MaxNLocator(nbins=ticks, steps=[1, 2, 5, 10], integer=True))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"$10^{{{round(value)}}}$"))


def _ticks(low: float, high: float, per_decade: Sequence[float]) -> list[float]:
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


def some_layers(table: pd.DataFrame, most: int = 20) -> pd.DataFrame:
    """The rows of the layers that a picture or a terminal has room for."""
    return table[table["layer"].isin(thin(int(table["layer"].max()), most))]


def log10(values: pd.Series) -> pd.Series:
    """The logarithm of what is positive and finite; else NaN."""
    numbers = values.astype(float)
    return pd.Series(np.log10(numbers.where((numbers > 0) & (numbers < math.inf))))


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """Write ``figure`` as ``stem``.png and ``stem``.pdf, without dates; returns the two paths."""
    no_date = {"png": {"Software": None}, "pdf": {"CreationDate": None}}
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in no_date]
    engine = figure.get_layout_engine()
    with styled():
        for path, (suffix, metadata) in zip(paths, no_date.items(), strict=True):
            drawn = io.BytesIO()  # of a full disk, matplotlib's PDF writer makes an error of its own
            figure.savefig(drawn, format=suffix, metadata=metadata)
            figure.set_layout_engine("none")  # to find the layout again takes as long as to draw
            write_bytes(path, drawn.getvalue())
    figure.set_layout_engine(engine)
    return paths


def show_in_notebooks() -> None:
    """In IPython, a figure that ends a cell is shown, also where pyplot was never imported.

    Whoever has chosen a format for figures keeps it.
    """
    if "IPython" not in sys.modules:
        return
    from IPython.core.getipython import get_ipython
    from IPython.core.pylabtools import select_figure_formats

    shell = get_ipython()
    if shell and shell.display_formatter:
        pictures = shell.display_formatter.formatters["image/png"]
        if Figure not in pictures.type_printers:
            select_figure_formats(shell, "png", dpi=NOTEBOOK_DPI)  # type: ignore[no-untyped-call]


show_in_notebooks()
