"""The maps of trainability as frontier.js reads them: what networks reached, and theory's share of 6ξ.

A map is one network and activation.  Theory is said by depth/(6ξ), which is 1 where it says that
training ends: at the σ_w² of the map as its table has it, and between and around them as
``frontier.table.planned`` says, close enough that straight lines over
ln σ_w² are within 1 % of theory, or 0.03.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pandas as pd

from empirical.data.catalog import data_set
from empirical.frontier.networks import TASKS
from empirical.frontier.prediction import SCALES
from empirical.frontier.table import TRAINED, planned
from figures.beyond.frontier import kind_of, map_of
from figures.beyond.published import MAPS
from figures.prose import name_of

if TYPE_CHECKING:
    from empirical.frontier.spec import FrontierSpec
    from theory.activations import Activation

STEP = 1.2  # from one σ_w² to the next, at most
AROUND = (0.02, 512.0, 5000.0)  # σ_w² that the page's sliders reach outside a map


def frontier_maps(table: pd.DataFrame) -> list[dict[str, Any]]:
    """What frontier.js reads, a dictionary per map of ``table`` (columns: ``frontier.table.COLUMNS``).

    theory.shares has a row per depth in theory.depths and a value per σ_w² in theory.variances, below
    zero in the chaotic phase of smooth plain and recurrent networks, so that lines cross zero where
    ξ is infinite; ξ of these is the same at every depth, and one row says all.
    """
    return [found for spec in MAPS.values() for found in _maps(spec, map_of(table, spec))]


def _maps(spec: FrontierSpec, table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    classes = data_set(TASKS[spec.network]).classes
    theory = table if table.empty else _with_theory_between(spec, table)
    for phi in spec.parsed:
        part = table[table["activation"] == phi.name]
        if part.empty:
            continue
        accuracy = part.groupby(["depth", "weight_variance"])["accuracy"].mean().unstack()
        yield {
            "network": kind_of(part.iloc[0]),
            "unit": "steps" if spec.network == "rnn" else "layers",
            "activation": name_of(phi.name),
            "slope": phi.gain_slope,
            "bias": spec.bias_of(phi),
            "width": spec.width,
            "seeds": part["seed"].nunique(),
            "guessing": 100 / classes,
            "trained": TRAINED,
            "marks": spec.marks(phi),
            "depths": accuracy.index.tolist(),
            "variances": accuracy.columns.tolist(),
            "accuracy": accuracy.round(1).to_numpy().tolist(),
            "theory": _theory(spec, phi, theory),
        }


def _with_theory_between(spec: FrontierSpec, table: pd.DataFrame) -> pd.DataFrame:
    between: list[float] = []
    for low, high in pairwise(sorted(table["weight_variance"].unique())):
        pieces = math.ceil(math.log(high / low) / math.log(STEP))
        between += [float(low * (high / low) ** (k / pieces)) for k in range(1, pieces)]
    denser = replace(
        spec,
        activations=tuple(table["activation"].unique()),
        initializers=spec.initializers[:1],
        variances=(*between, *AROUND),
    )
    return pd.concat([table, planned(denser)])


def _theory(spec: FrontierSpec, phi: Activation, theory: pd.DataFrame) -> dict[str, Any]:
    rows = theory[theory["activation"] == phi.name]
    if spec.network != "residual":
        rows = rows[rows["depth"] == rows["depth"].max()]
    share = rows["depth"] / (SCALES * rows["depth_scale"])
    if spec.network != "residual":
        share = share.where(rows["depth_scale"] == rows["gradient_depth_scale"], -share)
    found = rows.assign(share=share).groupby(["depth", "weight_variance"])["share"].first().unstack()
    return {
        "depths": found.index.tolist(),
        "variances": [float(f"{variance:.8g}") for variance in found.columns],
        "shares": [[float(f"{value:.4g}") for value in row] for row in found.to_numpy()],
    }
