"""What stands under each paired figure: how to read it, and what its data say.

The words are in ``figures/templates/captions.md``; every number that fills them in is from the records
of the figure or from the constants that made them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import pandas as pd

from empirical.arm import Arm
from empirical.judgment.selection import select
from empirical.judgment.statistics import EQUIVALENT, INSUFFICIENT, TOO_CLOSE
from empirical.protocol import CLASSES
from empirical.records.published import Published
from empirical.training.instruments import FIXED_BATCH
from figures import style
from figures.prose import name_of, said
from figures.study.paired_accuracy import MARKS, SINGLE, cell_table, exceeds_the_panel
from figures.study.paired_effects import learned_slopes
from figures.study.paired_signal import first_look
from figures.study.report_figures import at_the_end, log10, printed_accuracies, seeds_of
from theory.lessons.paper import LEARNED_SLOPES

caption = partial(said, "captions", classes=CLASSES, chance=math.log(CLASSES))


def answer(parts: Mapping[str, Published], published: Published) -> str:
    """Of ``paired_signal.answer_figure``; ``published`` may tell what holds N(0, 1) back."""
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

    At the least depth, over the seeds that all arms have; empty where there are none.
    """
    cells = select(published, "effective-lr").own.cells
    cells = cells[cells["status"] == "completed"]
    cells = cells[cells["depth"] == cells["depth"].min()]
    table = cells.pivot_table(index="seed", columns="arm", values="final_test_accuracy").dropna()
    arms = style.ordered_arms(cast(list[Arm], list(table.columns)))
    if table.empty or len(arms) < 3:
        return ""
    found = [(*_printed(arm), table[arm].mean()) for arm in arms]
    return caption("handicap", depth=int(cells["depth"].iloc[0]), seeds=len(table), found=found)


def _printed(arm: Arm) -> tuple[str, str]:
    return name_of(arm), "" if arm.changes else " as printed"


def signal(records: Published, activation: str, practice: str) -> str:
    """Of ``paired_signal.signal_figure``."""
    part = of_activation(records, activation)
    looked = first_look(part)
    ratio = (looked["second_moment"] - looked["second_moment_predicted"]).dropna()
    return caption(
        "signal",
        **_of(part.cells),
        activation=activation,
        protocol=protocol(part),
        images=FIXED_BATCH,
        practice=practice,
        ratios=[_times(value) for value in ratio.quantile([0.25, 0.5, 0.75])] if len(ratio) else [],
    )


def stall(records: Published) -> str:
    """Of the deep plain networks: ``signal``, and the numbers of the deepest."""
    looked = first_look(records)
    deepest, moment = int(looked["depth"].max()), "gradient_second_moment"
    inner = looked[(looked["depth"] == deepest) & (looked["number"] == 1)]
    study = records.study
    study = at_the_end(study[(study["depth"] == deepest) & (study["status"] == "completed")])
    return f"{signal(records, 'relu', 'train_loss')} " + caption(
        "stall",
        deepest=deepest,
        gradients=_by_law(inner, [f"{moment}_predicted", moment], "mean"),
        losses=_by_law(study[study["epoch"] > 0], ["train_loss"], "mean"),
    )


def _by_law(table: pd.DataFrame, columns: list[str], how: str) -> list[tuple[Any, ...]]:
    """The name of each law and what its rows come to, where they come to something."""
    found = table.groupby("initializer", sort=False)[columns].agg(how).dropna()
    return [(name_of(row[0]), *row[1:]) for row in found.itertuples()]


def initial_loss(records: Published) -> str:
    """Of ``paired_accuracy.initial_loss_figure``."""
    table = cell_table(records)
    normed = table[table["norm"] == "batch"]
    ratio = log10(normed["initial_loss"] / normed["initial_loss_predicted"]).dropna()
    ratios = [_times(value) for value in (ratio.min(), ratio.median(), ratio.max())]
    inset = exceeds_the_panel(table)
    return caption("initial_loss", **_of(records.cells), inset=inset, cells=len(ratio), ratios=ratios)


def training_loss(records: Published) -> str:
    """Of ``report_figures.loss_figure``."""
    return caption("training_loss", **_of(records.cells))


def weight_change(records: Published) -> str:
    """Of ``paired_effects.weight_change_figure``."""
    layers = at_the_end(records.layers[records.layers["layer"].str.startswith("conv")])
    last = layers.merge(records.cells[["cell", "initializer"]], on="cell")
    found = _by_law(last, ["relative_change"], "median")
    return caption("weight_change", **_of(records.cells), found=found)


def accuracy_map(records: Published) -> str:
    """Of ``paired_accuracy.accuracy_map``."""
    words = (EQUIVALENT, TOO_CLOSE, INSUFFICIENT)
    return caption("accuracy_map", **_of(records.cells), marks=MARKS, words=words, single=SINGLE)


def slopes(records: Published) -> str:
    """Of ``paired_effects.slopes_figure``."""
    table = learned_slopes(records)
    deepest = table[table["depth"] == table["depth"].max()]
    first = deepest["number"] == 1
    of_each = deepest.assign(
        first=deepest["negative_slope"].where(first), others=deepest["negative_slope"].where(~first)
    )
    found = _by_law(of_each, ["first", "others"], "mean")
    depth = deepest["depth"].max()
    return caption("slopes", **_of(records.cells), paper=LEARNED_SLOPES, deepest=depth, found=found)


def last_layer(records: Published, activation: str) -> str:
    """Of ``paired_effects.last_layer_figure``."""
    part = of_activation(records, activation)
    cells = part.cells[part.cells["status"] == "completed"]
    means = cells.pivot_table(index="depth", columns="arm", values="final_test_accuracy").dropna()
    printed = pd.Series(printed_accuracies("he", activation, means.index), dtype=float)
    gaps = _of_arms(means.loc[printed.index].sub(printed, axis=0).abs().mean())
    away = [(*_printed(arm), gap) for arm, gap in gaps.items() if len(gaps) > 1]
    shared = list(printed.index)
    return caption("last_layer", **_of(part.cells), activation=activation, shared=shared, away=away)


def relative_step(records: Published) -> str:
    """Of ``paired_effects.relative_step_figure``."""
    study, he = records.study[records.study["epoch"] > 0], Arm("he")
    losses = study.pivot_table(index=["depth", "seed", "epoch"], columns="arm", values="train_loss")
    found = []
    if he in losses:
        gaps = _of_arms(losses.drop(columns=he).sub(losses[he], axis=0).abs().max())
        found = [(name_of(arm), gap) for arm, gap in gaps.items()]
    return caption("relative_step", **_of(records.cells), handicap=handicap(records), found=found)


def _of_arms(values: pd.Series) -> dict[Arm, float]:
    """What is known of each arm, in the order of arms."""
    known = cast(dict[Arm, float], values.dropna().to_dict())
    return {arm: known[arm] for arm in style.ordered_arms(known)}


def report_figure(cells: pd.DataFrame, quantity: str, initializer: str, activation: str) -> str:
    """Of one of the course report's figures."""
    names = {"quantity": quantity, "initializer": initializer, "activation": activation}
    return caption("report_figure", **_of(cells), **names)


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


def _of(cells: pd.DataFrame) -> dict[str, str]:
    """How many cells and seeds, "16 cells, one seed each", and what a band spans if there is one."""
    seeds = seeds_of(cells)
    low, high = (1, 1) if seeds.empty else (seeds.min(), seeds.max())
    each = "one seed" if high == 1 else f"{high} seeds" if low == high else f"{low} to {high} seeds"
    several = cells["seed"].nunique() > 1
    return {
        "counted": f"{len(cells)} cell{'s' * (len(cells) != 1)}, {each} each",
        "band": ", the mean in a band from the least to the greatest seed" * several,
    }


def _times(exponent: float) -> str:
    """A ratio given by its log10.

    >>> _times(0.0), _times(-0.30103), _times(3.0)
    ('×1.00', '×0.50', '×1e+03')
    """
    ratio = 10**exponent
    return f"×{ratio:.2f}" if 0.01 <= ratio < 100 else f"×{ratio:.0e}"
