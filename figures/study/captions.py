"""What stands under each paired figure: how to read it, and what its data say.

Every number is filled in from the records of the figure or from the constants that made them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import cast

import pandas as pd

from empirical.arm import Arm
from empirical.judgment.selection import select
from empirical.judgment.statistics import EQUIVALENT, INSUFFICIENT, TOO_CLOSE
from empirical.protocol import CLASSES, published_accuracy
from empirical.records.published import Published
from empirical.training.instruments import FIXED_BATCH
from figures import style
from figures.study.paired_accuracy import MARKS, SINGLE, cell_table, exceeds_the_panel
from figures.study.paired_effects import learned_slopes
from figures.study.paired_signal import first_look
from figures.study.report_figures import name_of
from theory.lessons.paper import LEARNED_SLOPES


def answer(parts: Mapping[str, Published], published: Published) -> str:
    """Of ``paired_signal.answer_figure``; ``published`` may tell what holds N(0, 1) back."""
    text = (
        "Should He be the default? ReLU networks, one color per initializer. Above: the signal, the "
        "second moment of the pre-activations of each weight layer (h: the linear layer), as predicted "
        "from the law of the weights before training. Below: test accuracy while they train, and what "
        "it is after the last epoch; dotted: guessing."
    )
    for name, part in parts.items():
        text += f" {name.capitalize()} ({protocol(part)}): {_outcomes(part)}."
    return f"{text}{handicap(published)}"


def _outcomes(records: Published) -> str:
    """Final accuracies, and who diverged: "He 78.05 %, N(0, 1) 55.74 %"."""
    found = []
    for initializer, cells in records.cells.groupby("initializer", sort=False):
        done = cells.loc[cells["status"] == "completed", "final_test_accuracy"]
        outcome = f"{done.mean():.2f} %" if len(done) else "diverged"
        found.append(f"{name_of(str(initializer))} {outcome}")
    return ", ".join(found)


def handicap(published: Published) -> str:
    """What holds N(0, 1) back under batch norm, by the arms that take its causes away one by one.

    At the least depth, over the seeds that all arms have; empty where there are none.
    """
    cells = select(published, "effective-lr").own.cells
    cells = cells[cells["status"] == "completed"]
    if cells.empty:
        return ""
    cells = cells[cells["depth"] == cells["depth"].min()]
    table = cells.pivot_table(index="seed", columns="arm", values="final_test_accuracy").dropna()
    arms = style.ordered_arms(cast(list[Arm], list(table.columns)))
    if table.empty or len(arms) < 3:
        return ""
    found = [
        f"{name_of(arm)}{' as printed' * (not arm.changes)} {table[arm].mean():.2f} %" for arm in arms
    ]
    return (
        f" What holds N(0, 1) back under batch norm, at {int(cells['depth'].iloc[0])} layers "
        f"({len(table)} seed{'s' * (len(table) > 1)}): {'; '.join(found)}."
    )


def signal(records: Published, activation: str, practice: str) -> str:
    """Of ``paired_signal.signal_figure``."""
    part = of_activation(records, activation)
    looked = first_look(part)
    shown = {"test_accuracy": "test accuracy", "train_loss": "mean training loss of an epoch"}[practice]
    text = (
        f"{name_of(activation)} networks, one row per depth, one color per initializer "
        f"({counted(part)}; {protocol(part)}). Left: the second moment of the pre-activations of each "
        "weight layer (h: the linear layer), predicted from the law of the weights (line) and measured "
        f"on the network as drawn, on {FIXED_BATCH} training images (marker; a bar spans the seeds). "
        "Middle: the same of the gradient of one image's loss. Right: how these networks train, "
        f"{shown} against epoch{_spread(part)}. All rows share the scale of a column."
    )
    ratio = (looked["second_moment"] - looked["second_moment_predicted"]).dropna()
    if len(ratio):
        text += (
            f" Measured over predicted signal: median {_times(float(ratio.median()))}, middle half "
            f"{_times(float(ratio.quantile(0.25)))} to {_times(float(ratio.quantile(0.75)))}."
        )
    return text


def stall(records: Published) -> str:
    """Of the deep plain networks: ``signal``, and the numbers of the deepest."""
    text = signal(records, "relu", "train_loss")
    looked = first_look(records)
    deepest = int(looked["depth"].max())
    inner = looked[(looked["depth"] == deepest) & (looked["number"] == 1)]
    moment = "gradient_second_moment"
    parts = []
    for initializer, rows in inner.groupby("initializer", sort=False):
        predicted, measured = rows[f"{moment}_predicted"].mean(), rows[moment].mean()
        if math.isfinite(predicted) and math.isfinite(measured):
            parts.append(
                f"{name_of(str(initializer))} 10^{predicted:.1f} predicted, 10^{measured:.1f} measured"
            )
    study = records.study[(records.study["depth"] == deepest) & (records.study["epoch"] > 0)]
    study = study[study["status"] == "completed"]
    last = study[study["epoch"] == study.groupby("cell")["epoch"].transform("max")]
    losses = [
        f"{name_of(str(initializer))} {rows['train_loss'].mean():.3f}"
        for initializer, rows in last.groupby("initializer", sort=False)
    ]
    if parts:
        text += f" At {deepest} layers the gradient that reaches the first: {'; '.join(parts)}."
    if losses:
        text += (
            f" Training loss there after the last epoch: {', '.join(losses)}; a network that has "
            f"learned nothing stays at ln {CLASSES} = {math.log(CLASSES):.3f} (dotted)."
        )
    return text


def initial_loss(records: Published) -> str:
    """Of ``paired_accuracy.initial_loss_figure``."""
    table = cell_table(records)
    known = table[table["initial_loss_predicted"].notna() & table["initial_loss"].notna()]
    ratio = (known["initial_loss"] / known["initial_loss_predicted"]).map(math.log10)
    normed = ratio[known["norm"] == "batch"]
    outside = exceeds_the_panel(table)
    inset = "The inset shows all cells, also those without batch norm. " if outside else ""
    text = (
        f"Each point is one trained cell ({counted(records)}): color the initializer, marker the "
        f"depth, full {name_of('relu')}, open {name_of('prelu')}. Left: the loss of the network as "
        "drawn, predicted from the law of the weights before any was drawn, against the measured one; "
        f"points on the diagonal agree. {inset}Right: the same prediction against the accuracy at "
        "the end, of the cells that completed. Dotted: "
        f"ln {CLASSES} = {math.log(CLASSES):.3f}, the loss of equal logits, and "
        f"{100 / CLASSES:g} %, that of guessing."
    )
    if len(normed):
        text += (
            f" With batch norm measured over predicted loss is {_times(normed.median())} in the "
            f"median, {_times(normed.min())} to {_times(normed.max())} over {len(normed)} cells."
        )
    return text


def training_loss(records: Published) -> str:
    """Of ``report_figures.loss_figure``."""
    return (
        f"Mean training loss of each epoch, a panel per initializer and activation, a line per depth, "
        f"darker with depth ({counted(records)}){_spread(records)}. All panels have the same axes. "
        f"Dotted: ln {CLASSES} = {math.log(CLASSES):.3f}, the loss of guessing."
    )


def weight_change(records: Published) -> str:
    """Of ``paired_effects.weight_change_figure``."""
    text = (
        "The ratio of update to weight: the Frobenius norm of all that training has added to a weight "
        "since it was drawn, over that of the weight as drawn, ‖W − W₀‖/‖W₀‖; so not of one step, and "
        f"not of one epoch. A row per initializer, a column per depth ({counted(records)}; the mean "
        "over seeds), a line per epoch, darker with time."
    )
    layers = records.layers[records.layers["layer"].str.startswith("conv")]
    last = layers[layers["epoch"] == layers.groupby("cell")["epoch"].transform("max")]
    last = last.merge(records.cells[["cell", "initializer"]], on="cell")
    found = [
        f"{name_of(str(initializer))} {rows['relative_change'].median():.2g}"
        for initializer, rows in last.groupby("initializer", sort=False)
    ]
    return f"{text} Median over the convolutions at the end: {', '.join(found)}."


def accuracy_map(records: Published) -> str:
    """Of ``paired_accuracy.accuracy_map``."""
    return (
        f"Rows: how the weights are drawn; columns: layers ({counted(records)}, with batch norm). "
        "Under each name the relative step η/σ of its convolutions. Left: the loss of the network as "
        "drawn, predicted from the law of its weights. Right: test accuracy after the last epoch, mean "
        "and standard deviation over the seeds that completed. Marks compare with He as printed at the "
        "same depth, paired by seed, by the t test with Holm's correction over the "
        f"depths of a row: {MARKS['second higher']} above, {MARKS['first higher']} below, "
        + "".join(f"{MARKS[one]} {one}, " for one in (EQUIVALENT, TOO_CLOSE, INSUFFICIENT))
        + f"{SINGLE} a single run, of which no difference can be called real."
    )


def slopes(records: Published) -> str:
    """Of ``paired_effects.slopes_figure``."""
    table = learned_slopes(records)
    first, last = LEARNED_SLOPES[0], LEARNED_SLOPES[-1]
    text = (
        "PReLU's learned slope of each layer. Left: the paper's model on ImageNet (He et al. 2015, "
        f"Table 1), {first[1]} in {first[0]} and {last[1]} in {last[0]} where a layer has one slope. "
        f"Right: after the last epoch here, a line per depth ({counted(records)}). Dotted: the slope "
        "at the start."
    )
    deepest = table[table["depth"] == table["depth"].max()]
    found = [
        f"{name_of(str(initializer))} {rows.loc[rows['number'] == 1, 'negative_slope'].mean():.3f} in "
        f"the first layer, {rows.loc[rows['number'] > 1, 'negative_slope'].mean():.3f} in the mean of "
        "the others"
        for initializer, rows in deepest.groupby("initializer", sort=False)
    ]
    if found:
        text += f" At {int(table['depth'].max())} layers: {'; '.join(found)}."
    return text


def last_layer(records: Published, activation: str) -> str:
    """Of ``paired_effects.last_layer_figure``."""
    part = of_activation(records, activation)
    text = (
        f"He's law with {name_of(activation)} in three variants: as printed (fan_out in every layer), "
        "with fan_in in the last linear layer alone, and with fan_in in every layer "
        f"({counted(part)}). Above left: the loss of the network as drawn, predicted (line) and "
        f"measured (open marker); dotted: ln {CLASSES}. Above right: test accuracy after the last "
        "epoch beside the course report's printed numbers (stars). "
        "Below: the way there, a panel per depth."
    )
    completed = part.cells[part.cells["status"] == "completed"]
    means: dict[Arm, dict[int, float]] = {}
    for (arm, depth), rows in completed.groupby(["arm", "depth"]):
        means.setdefault(cast(Arm, arm), {})[int(str(depth))] = float(
            rows["final_test_accuracy"].mean()
        )
    known = [
        depth for depth in sorted(set(completed["depth"])) if all(depth in of for of in means.values())
    ]
    printed = {
        depth: value
        for depth in known
        if (value := published_accuracy("he", activation, depth)) is not None
    }
    shared = list(printed)
    if shared and len(means) > 1:
        away = []
        for arm in style.ordered_arms(means):
            gaps = [abs(means[arm][depth] - value) for depth, value in printed.items()]
            printed_or_not = "" if arm.changes else " as printed"
            away.append(f"{name_of(arm)}{printed_or_not} {sum(gaps) / len(gaps):.1f}")
        layers = " and ".join(filter(None, [", ".join(map(str, shared[:-1])), str(shared[-1])]))
        text += (
            f" Mean distance from the printed accuracies at {layers} layers, which all of them have, "
            f"in points: {'; '.join(away)}."
        )
    return text


def relative_step(records: Published) -> str:
    """Of ``paired_effects.relative_step_figure``."""
    text = (
        f"Four ways to draw the same ReLU networks, one row per depth ({counted(records)}): He as "
        "printed; N(0, 1); N(0, 1) with He's last layer; and that with the learning rate of every "
        "weight that batch norm follows multiplied so that its step beside the weight is He's. Left: "
        "the relative step of each weight layer, by the law (line) and as drawn (open marker). Middle "
        "and right: training loss and test accuracy. By theory the last arm is He's network in another "
        "scale: dark green must lie on blue."
    )
    text += handicap(records)
    study = records.study[records.study["epoch"] > 0]
    losses = study.pivot_table(index=["depth", "seed", "epoch"], columns="arm", values="train_loss")
    he = Arm("he")
    if he not in losses:
        return text
    found = [
        f"{name_of(arm)} {(losses[arm] - losses[he]).abs().max():.3g}"
        for arm in style.ordered_arms(cast(list[Arm], list(losses.columns)))
        if arm != he and (losses[arm] - losses[he]).notna().any()
    ]
    if found:
        text += f" Largest distance of the training loss from He's, in nats: {'; '.join(found)}."
    return text


def report_figure(cells: pd.DataFrame, quantity: str, initializer: str, activation: str) -> str:
    """Of one of the course report's figures."""
    what = {
        "average_weight": "the report's average weight, the mean over all parameter tensors of each "
        "tensor's mean,",
        "test_accuracy": "test accuracy",
    }[quantity]
    more = {
        "average_weight": "Epoch 0: as drawn.",
        "test_accuracy": "Stars: what the course report prints, of one run each.",
    }[quantity]
    return (
        f"{name_of(initializer)} initialization with {name_of(activation)}: {what} against epoch, a "
        f"line per depth, darker with depth ({_cells_and_seeds(cells)}){_band(cells)}. {more} All "
        "figures of its kind have the same axes."
    )


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


def counted(records: Published) -> str:
    """How many cells and seeds: "16 cells, one seed each"."""
    return _cells_and_seeds(records.cells)


def _cells_and_seeds(cells: pd.DataFrame) -> str:
    config = [name for name in ("variant", "initializer", "activation", "depth") if name in cells]
    seeds = cells.groupby(config)["seed"].nunique()
    number = f"{len(cells)} cell{'s' * (len(cells) != 1)}"
    if seeds.empty or seeds.max() == 1:
        return f"{number}, one seed each"
    if seeds.min() == seeds.max():
        return f"{number}, {seeds.max()} seeds each"
    return f"{number}, {seeds.min()} to {seeds.max()} seeds each"


def _spread(records: Published) -> str:
    return _band(records.cells)


def _band(cells: pd.DataFrame) -> str:
    several = len(set(_seeds(cells))) > 1
    return ", the mean in a band from the least to the greatest seed" if several else ""


def _seeds(cells: pd.DataFrame) -> Iterable[int]:
    return (int(seed) for seed in cells["seed"])


def _times(log10: float) -> str:
    """A ratio given by its log10.

    >>> _times(0.0), _times(-0.30103), _times(3.0)
    ('×1.00', '×0.50', '×1e+03')
    """
    ratio = 10**log10
    return f"×{ratio:.2f}" if 0.01 <= ratio < 100 else f"×{ratio:.0e}"
