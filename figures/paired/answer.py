"""Should He be the default?  Three conditions in one picture: theory above, practice below."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator

from empirical.arm import Arm
from empirical.judgment.selection import select, with_arms
from empirical.protocol import CLASSES
from empirical.records.published import Published
from figures import style
from figures.paired.curves import draw_curve, guessing_key, keys_of, layer_axis, spread_keys
from figures.paired.paired import Paired, arm_words, caption, of_activation, protocol
from figures.paired.signal import first_look
from figures.prose import name_of

WINDOW = (-4.0, 5.0)  # decades of signal that the picture shows; a curve that leaves it is labeled


def answer_figure(parts: Mapping[str, Published]) -> Figure:
    """A column per condition: above the predicted signal by layer, below the test accuracy.

    ``parts`` has the cells of each condition, all of one depth, under what stands above its column.
    """
    study = pd.concat([part.study for part in parts.values()])
    looks = style.initializer_looks(study["initializer"])
    with style.canvas(4.3) as figure:
        grid = figure.subplots(2, len(parts), sharey="row", squeeze=False)
        for (above, below), (name, part) in zip(grid.T, parts.items(), strict=True):
            above.set_title(name, fontweight="bold", fontsize=10)
            _predicted(above, first_look(part), looks)
            for law, cells in part.study.groupby("initializer", sort=False):
                draw_curve(below, cells, "test_accuracy", looks[str(law)], markersize=3.5)
            _finals(below, part, looks)
            below.axhline(100 / CLASSES, **style.DOTTED)
            above.set_xlabel("weight layer (h: linear)")
            below.set_xlabel("epoch of training")
        above, below = grid[0, 0], grid[1, 0]
        above.set_ylim(*WINDOW)
        style.power_of_ten_axis(above)
        above.set_ylabel("theory, before training:\nsignal, predicted")
        below.set_ylabel("practice:\ntest accuracy (percent)")
        below.set_ylim(0, None)
        keys = [*keys_of(looks), guessing_key("guessing"), *spread_keys(study)]
        figure.legend(handles=keys, loc="outside upper center", ncols=len(keys))
    return figure


def _predicted(axes: Axes, looked: pd.DataFrame, looks: dict[str, style.Look]) -> None:
    """The predicted signal; where a curve leaves ``WINDOW``, how far it goes."""
    for law, cells in looked.groupby("initializer", sort=False):
        look, predicted = looks[str(law)], cells.groupby("number")["second_moment_predicted"].mean()
        every = max(1, len(predicted) // 10)
        axes.plot(predicted, **look.curve, linewidth=2, markersize=4, markevery=every)
        if predicted.max() > WINDOW[1]:
            at = predicted[predicted > WINDOW[1]].index[0], WINDOW[1]
            text = f"↑ to $10^{{{round(predicted.max())}}}$"
            style.beside(axes, text, at, (2, -3), va="top", color=look.color, fontsize=9)
    layer_axis(axes, int(looked["number"].max()))


def _finals(axes: Axes, part: Published, looks: dict[str, style.Look]) -> None:
    """The accuracy after the last epoch beside the end of each curve, none over another."""
    done = part.cells[part.cells["status"] == "completed"]
    means = done.groupby("initializer")["final_test_accuracy"].mean().sort_values()
    end, height = int(part.study["epoch"].max()), -math.inf
    for law, mean in means.items():
        height = max(float(mean), height + 7)  # percent that a line of letters takes
        drawn = {"color": looks[str(law)].color, "fontsize": 9, "annotation_clip": False}
        drawn |= {"path_effects": [withStroke(linewidth=3, foreground="white")]}  # over the dotted line
        style.beside(axes, f"{mean:.1f}", (end, height), (5, 0), va="center", **drawn)
    axes.set_xlim(1 - 0.04 * end, end * 1.22)
    axes.xaxis.set_major_locator(FixedLocator([1, *range(2, end + 1, 2)] if end < 12 else [1, end]))


CONDITIONS = {"xavier": "batch norm", "no-norm": "no batch norm", "he2015": "no batch norm"}


def _conditions(published: Published) -> dict[str, Published]:
    """Of each of ``CONDITIONS``, presets, the deepest ReLU networks that all of its laws have."""
    found: dict[str, Published] = {}
    for preset_name, words in CONDITIONS.items():
        part = of_activation(select(published, preset_name).records, "relu")
        laws = part.cells.groupby("depth")["initializer"].nunique()
        if not laws.empty:
            depth = max(laws.index[laws == laws.max()])
            deepest = part.cells.loc[part.cells["depth"] == depth, "cell"]
            found[f"{words}, {depth} layers"] = part.of(deepest)
    return found


def _answer_cells(published: Published) -> Published:
    names = [cell for part in _conditions(published).values() for cell in part.cells["cell"]]
    return with_arms(published.of(names))


def answer_caption(parts: Mapping[str, Published], published: Published) -> str:
    """Of ``answer_figure``; ``published`` may tell what holds N(0, 1) back."""
    told = [(name, protocol(part), _outcomes(part)) for name, part in parts.items()]
    return caption("answer", parts=told, handicap=handicap(published))


def _outcomes(records: Published) -> list[tuple[str, str]]:
    """Final accuracies, and who diverged."""
    cells = records.cells
    done = cells["final_test_accuracy"].where(cells["status"] == "completed")
    means = done.groupby(cells["initializer"], sort=False).mean()
    return [
        (name_of(law), "diverged" if math.isnan(mean) else f"{mean:.2f} %")
        for law, mean in means.items()
    ]


def handicap(published: Published) -> str:
    """What holds N(0, 1) back under batch norm, by the arms that take its causes away one by one.

    At every depth that has more than He and N(0, 1), over the seeds that all arms have there; empty
    where there are none.
    """
    cells = select(published, "effective-lr").own.cells
    found = []
    for depth, rows in cells[cells["status"] == "completed"].groupby("depth"):
        table = rows.pivot_table(index="seed", columns="arm", values="final_test_accuracy").dropna()
        arms = style.ordered_arms(cast(list[Arm], list(table.columns)))
        if len(table) and len(arms) > 2:
            found.append((depth, len(table), [(*arm_words(arm), table[arm].mean()) for arm in arms]))
    return caption("handicap", found=found) if found else ""


FIGURES = {
    "answer": Paired(
        "Should He be the default? Predicted signal and test accuracy, with and without batch norm",
        "no-norm",  # whose cells it cannot do without
        lambda records, _: answer_figure(_conditions(records)),
        lambda records, published: answer_caption(_conditions(records), published),
        chosen=_answer_cells,
        wanted=lambda cell: cell.activation == "relu" and cell.depth == 12,
        place=10,
    )
}
