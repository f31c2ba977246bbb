"""The map as a table: theory's prediction first, then what was found, and how the two agree.

What theory says is in ``prediction``.  The table is OUT/map.csv, a row per network.  Rows are there,
with their prediction, before the first step; they get accuracy and loss depth by depth, the file
replaced whole each time.  The same command goes on where it was; the rows of others stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout

from empirical.data.catalog import data_set
from empirical.frontier.networks import KINDS, TASKS, Data, data_of
from empirical.frontier.prediction import SCALES, scales_of
from empirical.frontier.spec import FrontierSpec
from empirical.judgment.statistics import LEVEL
from empirical.records.folders import write_whole
from theory.activations import Activation
from theory.errors import RequestError
from theory.randomness import stream_seed

COLUMNS = {
    "network": "plain, residual or rnn",
    "branch_scale": "of residual branches: none or depth",
    "activation": "as named on the command line",
    "depth": "weight layers; steps of rnn",
    "weight_variance": "σ_w² = fan_in·Var[w] of every layer, of the recurrent one of rnn",
    "bias_variance": "σ_b² of every layer; of rnn that of U·x",
    "seed": "of weights and batches",
    "width": "units of each hidden layer",
    "batch_size": "images or sequences per step",
    "learning_rate": "of plain SGD",
    "steps": "of SGD",
    "depth_scale": "ξ_c in layers, for rectifiers without bias 1/|ln χ₁|; inf at criticality; of a "
    "residual network its depth over its e-folds",
    "gradient_depth_scale": "ξ_∇ = 1/|ln χ₁| in layers; likewise",
    "predicted": "whether theory says that it trains: depth ≤ 6ξ",
    "accuracy": "percent of the test set, after the last step; NaN until then",
    "loss": "mean cross-entropy of the test set then; inf where it is no number",
}
KEYS = list(COLUMNS)[:11]
LATER = {"network": "plain", "branch_scale": "none"}  # what a file without these columns means
FOUND = ["accuracy", "loss"]
FILE = "map.csv"
MAP = ["network", "branch_scale", "activation"]  # what a map is one of
MINIMUM_COLUMNS, RESAMPLES = 4, 9_999  # of an interval
TRAINED = 55.0  # percent: halfway from guessing one of ten to perfection (of eight: 56)

AGREEMENT_COLUMNS = {
    "network": "plain, residual or rnn",
    "branch_scale": "of residual branches",
    "activation": "as named on the command line",
    "networks": "cells of the map, seeds counted",
    "trained": "share whose accuracy is above ``TRAINED``",
    "predicted": "share that theory says train",
    "agree": "share on the side of the line that theory says",
    "agree_low": "lower end of its 95 % interval: the map's σ_w² drawn again (bootstrap)",
    "agree_high": "its upper end",
    "agree_gradient": "the same for 6ξ_∇",
    "best_constant": "share that is right who says the same of all: what agreement has to beat",
    "short": "share that trains though theory says no",
    "beyond": "share that does not train though theory says yes",
    "depth_ratio": "depth where training ends over 6ξ, of residual networks the e-folds there over "
    "6; median over ``columns``; NaN without any",
    "ratio_low": "lower end of its 95 % interval, likewise; NaN below ``MINIMUM_COLUMNS``",
    "ratio_high": "its upper end",
    "columns": "σ_w² of finite ξ with a depth that trains and a deeper one that does not",
}


def planned(spec: FrontierSpec) -> pd.DataFrame:
    """Every network of the map and what theory says of it; accuracy and loss are NaN."""
    shared = (spec.width, spec.batch_size, spec.learning_rate, spec.steps)
    rows = []
    for phi in spec.parsed:
        bias = spec.bias_of(phi)
        for depth, variance in product(spec.depths, spec.columns(phi)):
            gradient, decides = scales_of(spec, phi, variance, depth)
            says = (decides, gradient, depth <= SCALES * decides)
            for seed in spec.seeds:
                key = (spec.network, spec.branch_scale, phi.name, depth, variance, bias, seed)
                rows.append((*key, *shared, *says, math.nan, math.nan))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def run_frontier(
    spec: FrontierSpec,
    out: Path,
    device: torch.device,
    on_progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """The map of ``spec``, trained where OUT/map.csv lacks it; columns: ``COLUMNS``.

    ``on_progress`` is called with the networks done and all networks.  Raises ``RequestError`` where
    the file is no such table or another process is at it.
    """
    try:
        with FileLock(out / ".map.lock", blocking=False):
            return _filled(spec, out / FILE, device, on_progress or (lambda done, total: None))
    except Timeout:
        raise RequestError(f"another process fills {out / FILE}: name another --out") from None


def run_maps(
    specs: Sequence[FrontierSpec],
    out: Path,
    device: torch.device,
    on_progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """The maps of all ``specs``, one after another, as one table; otherwise as ``run_frontier``."""
    tables = [run_frontier(spec, out, device, on_progress) for spec in specs]
    return pd.concat(tables, ignore_index=True)


def _filled(
    spec: FrontierSpec, path: Path, device: torch.device, on_progress: Callable[[int, int], None]
) -> pd.DataFrame:
    recorded = _read(path)
    table = planned(spec).set_index(KEYS)
    table[FOUND] = recorded[FOUND].reindex(table.index)
    others = recorded.loc[recorded.index.difference(table.index, sort=False)]

    def save() -> None:
        whole = pd.concat([table, others]) if len(others) else table
        write_whole(path, whole.reset_index().to_csv(index=False).encode())
        on_progress(int(table["accuracy"].notna().sum()), len(table))

    save()
    for phi, depth in product(spec.parsed, sorted(spec.depths)):
        rows = table.index[table["accuracy"].isna()].to_frame(index=False)
        rows = rows[(rows["activation"] == phi.name) & (rows["depth"] == depth)]
        if rows.empty:
            continue
        size, data = spec.at_once(depth), data_of(spec.network, depth, device)
        for first in range(0, len(rows), size):
            part = rows.iloc[first : first + size]
            table.loc[pd.MultiIndex.from_frame(part), FOUND] = _trained(spec, phi, depth, part, data)
            save()
    return table.reset_index()


def _trained(
    spec: FrontierSpec,
    phi: Activation,
    depth: int,
    rows: pd.DataFrame,
    data: Data,
) -> np.ndarray:
    """Accuracy and loss (K, 2) of the networks ``rows``."""
    images, labels, test_images, test_labels = data
    variances, seeds = rows["weight_variance"].tolist(), rows["seed"].tolist()
    kind, classes = KINDS[spec.network], data_set(TASKS[spec.network]).classes
    widths, bias = kind.widths(depth, images.shape[-1], spec.width, classes), spec.bias_of(phi)
    networks = kind(phi, widths, variances, bias, seeds, images.device, spec.branch_scale)
    networks.train(images, labels, spec.steps, spec.batch_size, spec.learning_rate)
    return np.array(networks.measured(test_images, test_labels)).T


def load_map(path: Path) -> pd.DataFrame:
    """The map in the file ``path``, with ``COLUMNS``; ``RequestError`` if it is none."""
    return _read(path).reset_index()


def _read(path: Path) -> pd.DataFrame:
    try:
        found = pd.DataFrame(columns=list(COLUMNS))
        if path.exists():
            found = pd.read_csv(path, engine="python")
            later = {name: value for name, value in LATER.items() if name not in found}
            found = found.assign(**later)[list(COLUMNS)]
        found = found.astype(dict.fromkeys(FOUND, float)).set_index(KEYS)
        if found.index.has_duplicates:
            raise ValueError("a network stands there twice")
        return found
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise RequestError(f"{path} is no map of trainability ({reason}): name another --out") from None


def agreement(table: pd.DataFrame) -> pd.DataFrame:
    """How the found frontier and the predicted one agree, map by map; ``AGREEMENT_COLUMNS``.

    Networks of one σ_w² share their end, and those of one seed their draws: the intervals are over the
    σ_w², whose columns of the map are drawn again whole.
    """
    rows = [_agreement(part) for _, part in table.groupby(MAP, sort=False)]
    return pd.DataFrame(rows, columns=list(AGREEMENT_COLUMNS))


def _agreement(part: pd.DataFrame) -> dict[str, Any]:
    trained, predicted = part["accuracy"] > TRAINED, part["predicted"].astype(bool)
    gradient = part["depth"] <= SCALES * part["gradient_depth_scale"]
    ratios = [ratio for _, column in part.groupby("weight_variance") if (ratio := _ratio(column)) > 0]
    agree = (trained == predicted).astype(float).groupby(part["weight_variance"]).mean()
    low, high = _interval(agree.tolist(), np.mean)
    found = {name: part[name].iloc[0] for name in MAP} | {
        "networks": len(part),
        "trained": trained.mean(),
        "predicted": predicted.mean(),
        "agree": (trained == predicted).mean(),
        "agree_low": low,
        "agree_high": high,
        "agree_gradient": (trained == gradient).mean(),
        "best_constant": max(trained.mean(), 1 - trained.mean()),
        "short": (trained & ~predicted).mean(),
        "beyond": (~trained & predicted).mean(),
        "depth_ratio": float(np.median(ratios)) if ratios else math.nan,
        "columns": len(ratios),
    }
    low, high = _interval(ratios, np.median)
    return found | {"ratio_low": low, "ratio_high": high}


def _interval(values: Sequence[float], statistic: Any) -> tuple[float, float]:
    """Percentile bootstrap of ``statistic`` of ``values``, one per σ_w²; NaN of too few."""
    if len(values) < MINIMUM_COLUMNS:
        return math.nan, math.nan
    random = np.random.default_rng(stream_seed(0, "frontier", "intervals"))
    drawn = np.array(values)[random.integers(len(values), size=(RESAMPLES, len(values)))]
    low, high = np.quantile(statistic(drawn, axis=1), [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def _ratio(column: pd.DataFrame) -> float:
    """The depth where training ends over 6ξ there; NaN or 0 where either has no end."""
    end, scales = _end(column), column.groupby("depth")["depth_scale"].first()
    if scales.nunique() > 1:  # ξ of a residual network depends on its depth
        folds = np.interp(math.log(end), np.log(scales.index), scales.index / scales)
        return float(folds) / SCALES
    return end / (SCALES * float(scales.iloc[0]))


def _end(column: pd.DataFrame) -> float:
    """The depth where training ends, between the deepest trained one and the next; NaN outside."""
    by_depth = column.groupby("depth")["accuracy"].mean() > TRAINED
    trained = by_depth.index[by_depth]
    if trained.empty or trained.max() == by_depth.index.max():
        return math.nan
    deeper = by_depth.index[by_depth.index > trained.max()]
    return math.sqrt(trained.max() * deeper.min())
