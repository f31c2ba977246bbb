"""What training does to the weights: how far they go, and the slopes that PReLU learns.

He et al. (2015, Table 1) found a large slope in the first layer and smaller ones deeper.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from empirical.records.published import Published
from figures import style
from figures.paired import curves
from figures.paired.curves import GREY, at_the_end
from figures.paired.paired import Paired, alone, by_law, told
from figures.prose import name_of
from theory.activations import parse_activation
from theory.lessons.paper import LEARNED_SLOPES


def weight_change_figure(records: Published) -> Figure:
    """‖W − W₀‖/‖W₀‖ by weight layer: a row per initializer, a column per depth, a line per epoch.

    W₀ is the weight as drawn.  Epochs are some of those recorded, the first and the last among them.
    """
    layers = curves.weight_layers(records)
    layers = layers[layers["epoch"] > 0]
    layers = layers.assign(change=style.log10(layers["relative_change"]))
    depths, last = sorted(set(layers["depth"])), int(layers["epoch"].max())
    epochs = sorted(set(layers["epoch"]) & {*style.thin(last, 4), last})
    looks = style.initializer_looks(layers["initializer"])
    with style.canvas(1.0 + 1.9 * len(looks)) as figure:
        grid = figure.subplots(len(looks), len(depths), sharex="col", sharey=True, squeeze=False)
        for row, (initializer, look) in zip(grid, looks.items(), strict=True):
            for axes, depth in zip(row, depths, strict=True):
                own = layers[(layers["initializer"] == initializer) & (layers["depth"] == depth)]
                for epoch, shade in _epoch_looks(epochs, look.color).items():
                    change = own[own["epoch"] == epoch].groupby("number")["change"].mean()
                    axes.plot(change, **shade.curve, markersize=3.5)
                curves.layer_axis(axes, depth + 1)
        style.power_of_ten_axis(grid[0, 0])
        style.label(
            grid,
            titles=[f"{depth} layers" for depth in depths],
            below="weight layer (h: linear)",
            left=[f"{name_of(law)}\n$\\|W-W_0\\|/\\|W_0\\|$" for law in looks],
        )
        shades = _epoch_looks(epochs, GREY).items()
        named = {f"after epoch {epoch}": shade for epoch, shade in shades}
        style.legend_below(figure, curves.keys_of(named))
    return figure


def _epoch_looks(epochs: list[int], color: str) -> dict[int, style.Look]:
    """Light to dark with the epochs, by the looks of as many depths."""
    known = style.depth_shades((2, 5, 10, 12), color).values()
    return dict(zip(epochs, [*known][-len(epochs) :], strict=False))


def _changes(records: Published) -> dict[str, Any]:
    layers = at_the_end(records.layers[records.layers["layer"].str.startswith("conv")])
    last = layers.merge(records.cells[["cell", "initializer"]], on="cell")
    return {"found": by_law(last, ["relative_change"], "median")}


# ------------------------------------------------------------------------------- the slopes


def learned_slopes(records: Published) -> pd.DataFrame:
    """The slopes of every PReLU after a cell's last epoch: one row per cell and layer.

    ``number`` is 1, 2, …; beside it what is recorded of layer and cell.  Diverged cells are out.
    """
    last = curves.at_the_end(records.layers[records.layers["kind"] == "PReLU"])
    last = last.assign(number=last.groupby("cell", sort=False).cumcount() + 1)
    return last.merge(records.cells[records.cells["status"] == "completed"], on="cell")


def slopes_figure(records: Published) -> Figure:
    """The paper's learned slopes by layer, and beside it those of each initializer, a line per depth.

    ``records`` holds cells of one protocol.
    """
    table, start = learned_slopes(records), parse_activation("prelu").gain_slope
    looks = style.initializer_looks(table["initializer"])
    with style.canvas(3.5) as figure:
        grid = figure.subplots(1, 1 + len(looks), sharey=True, sharex=True, squeeze=False)[0]
        space = "\n" if len(looks) > 2 else " "
        _paper_slopes(grid[0], start)
        grid[0].set_title(f"paper: He et al. 2015,{space}{len(LEARNED_SLOPES) + 1} layers")
        for axes, (initializer, look) in zip(grid[1:], looks.items(), strict=True):
            rows = table[table["initializer"] == initializer]
            for depth, shade in style.depth_shades(map(int, rows["depth"]), look.color).items():
                curves.over_seeds(axes, rows[rows["depth"] == depth], "number", "negative_slope", shade,
                           err_style="bars", markersize=4, label=f"{depth} layers")  # fmt: skip
            axes.set_title(f"practice:{space}{name_of(initializer)}")
        for axes in grid:
            axes.legend(loc="best")
            axes.axhline(start, **style.DOTTED)
            axes.set_xlabel("layer")
            curves.whole_epochs(axes)
        grid[0].set_ylabel("learned negative slope $a$")
    return figure


def _paper_slopes(axes: Axes, start: float) -> None:
    numbers = range(1, len(LEARNED_SLOPES) + 1)
    _, *slopes = zip(*LEARNED_SLOPES, strict=True)
    for values, label, form in zip(
        slopes, ("one per layer", "channels' mean"), ("o-", "s--"), strict=True
    ):
        axes.plot(numbers, values, form, color=GREY, markersize=4, label=label)
    style.beside(axes, "start", (len(numbers), start), (0, 2), ha="right")


def _slopes(records: Published) -> dict[str, Any]:
    table = learned_slopes(records)
    deepest = table[table["depth"] == table["depth"].max()]
    first = deepest["number"] == 1
    of_each = deepest.assign(
        first=deepest["negative_slope"].where(first), others=deepest["negative_slope"].where(~first)
    )
    found = by_law(of_each, ["first", "others"], "mean")
    return {"paper": LEARNED_SLOPES, "deepest": deepest["depth"].max(), "found": found}


FIGURES = {
    "weight-change": Paired(
        "How far each layer's weights have gone beside their size, by epoch; ReLU",
        "report",
        alone(weight_change_figure),
        told("weight_change", _changes),
        "relu",
        place=50,
    ),
    "slopes": Paired(
        "PReLU's learned slopes by layer beside the paper's",
        "report",
        alone(slopes_figure),
        told("slopes", _slopes),
        "prelu",
        own=False,
        place=100,
    ),
}
