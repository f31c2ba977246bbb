"""Monte Carlo over stacks, theory beside it, one tidy table.

``variance(spec)`` draws many networks, reads the second moment of every layer's pre-activations (and
of the gradient at them) with the probe, and lays the exact theory over it.  The table has one row per
curve, direction and layer; its columns are documented in ``COLUMNS``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from theory.draw.curve_theory import Theory, backward_theory, forward_theory, log_weight_gradient
from theory.draw.moments import LogMoments
from theory.draw.monte_carlo import Block, Curve, Progress, blocks, groups
from theory.keywords import takes_fields_of
from theory.specs import VarianceSpec

Array = NDArray[np.float64]

COLUMNS = {
    "initializer": "the weight law, as named on the command line",
    "activation": "the activation, as named on the command line",
    "negative_slope": "its slope for negative inputs; NaN for a smooth activation",
    "direction": "forward: of the pre-activations y_l; backward: of the gradients ∂/∂y_l",
    "engine": "modules: nn.Modules read by hooks; law: the exact law, without weights",
    "layer": "l = 1 … L",
    "log10_measured": "log10 of the mean over draws of q_l, the mean of y_l² (of (∂/∂y_l)²) over units",
    "log10_theory": "log10 of its expectation: exact for rectifiers, infinite width otherwise",
    "log_mean": "mean over draws of ln q_l (networks that are not dead)",
    "log_mean_theory": "its exact value; NaN where there is none",
    "log_variance": "variance over draws of ln q_l",
    "log_variance_theory": "its exact value; NaN where there is none",
    "log10_median_theory": "log10 of the median single network",
    "log10_band_low": "log10 of the 2.5 % quantile of a single network",
    "log10_band_high": "log10 of the 97.5 % quantile of a single network",
    "log10_band_lognormal_low": "the same quantile, if ln q_l were Gaussian",
    "log10_band_lognormal_high": "the same quantile, if ln q_l were Gaussian",
    "z": "(log_mean − log_mean_theory) / exact standard error",
    "dead_fraction": "fraction of the draws whose signal is exactly zero at this layer",
    "dead_fraction_theory": "its exact value; NaN where there is none",
    "log10_weight_gradient": "backward: log10 of the mean over draws of the squared norm of ∂/∂W_l",
    "log10_weight_gradient_theory": "its expectation: exact for rectifiers",
    "law": "where the log columns of the theory come from: exact, sampled, approximate or none",
}
# Rounding of a float32 second moment, as a floor under the standard error of ln q.
ROUNDING = 1e-6
LN10 = math.log(10)
# A factor per layer within 2 % of one is stable: what zero padding costs a 32×32 map is 1.3 %.
STABLE = math.log10(1.02)


@takes_fields_of(VarianceSpec)
def variance(spec: VarianceSpec, on_progress: Progress | None = None) -> pd.DataFrame:
    """The table of ``spec``: measured and exact second moments, one row per curve and layer.

    ``on_progress(done, total)`` is called as draws finish.  Columns: see ``COLUMNS``.  Memory does not
    grow with the number of draws.  Raises ``RequestError`` for a device that is not there,
    ``WorkError`` when memory runs out.

    >>> table = variance(VarianceSpec(depth=2, width=8, draws=4, initializers=("he",)))
    >>> list(table["layer"])
    [1, 2, 1, 2]
    """
    tables: dict[tuple[str, int], pd.DataFrame] = {}
    for group in groups(spec):
        gathered = [_Gathered(spec.depth) for _ in group.streams]
        for block in blocks(spec, group, on_progress):
            for stream, one in enumerate(gathered):
                one.add(block, stream)
        for curve in group.curves:
            one = gathered[curve.stream]
            for direction in spec.directions:
                table = _table(spec, curve, one, direction)
                tables[direction, curve.index] = table
    order = sorted(tables, key=lambda key: (spec.directions.index(key[0]), key[1]))
    return pd.concat([tables[key] for key in order], ignore_index=True)


def log_second_moments(spec: VarianceSpec) -> Array:
    """ln of every single draw's second moments, shape (curves, draws, L, batch); −∞ where dead.

    What ``variance`` averages; curves in the order of ``spec.curves``.  The direction is the spec's,
    forward if it asks for both.
    """
    result = np.empty((len(spec.curves), spec.draws, spec.depth, spec.batch))
    back = spec.direction == "backward"
    for group in groups(spec):
        read = list(blocks(spec, group))
        parts = [block.backward if back else block.forward for block in read]
        log_q = np.concatenate([part for part in parts if part is not None])
        for curve in group.curves:
            shift = curve.log_shift_back if back else curve.log_shift
            result[curve.index] = log_q[:, :, curve.stream] + shift[:, None]
    return result


def growth(table: pd.DataFrame) -> pd.DataFrame:
    """One row per curve of ``variance``'s table: growth per layer and a verdict.

    Columns: the curve's names, ``measured`` and ``theory`` (log10 of the mean factor from one layer
    to the next, backward from one layer to the one below; NaN for a single layer), ``largest_z``
    (largest |z| over the layers), ``agreement`` (yes when chance alone exceeds that |z| in more than 1
    of 1,000 runs, by Bonferroni over the layers; else no; – where the theory has no law of ln q) and
    ``verdict``: stable when the theory's factor per layer is within 2 % of one, else vanishing or
    exploding.
    """
    names = ["initializer", "activation", "negative_slope", "direction", "engine"]
    rows: list[dict[str, Any]] = []
    for _, curve in table.groupby(["initializer", "activation", "direction", "engine"], sort=False):
        ends = curve.iloc[0], curve.iloc[-1]
        first, last = ends[::-1] if ends[0]["direction"] == "backward" else ends
        steps = abs(int(last["layer"] - first["layer"]))
        row = {name: first[name] for name in names}
        for source in ("measured", "theory"):
            change = last[f"log10_{source}"] - first[f"log10_{source}"]
            row[source] = change / steps if steps else math.nan
        row["largest_z"] = curve["z"].abs().max()
        row["agreement"] = _agreement(row["largest_z"], len(curve))
        row["verdict"] = verdict(row["theory"])
        rows.append(row)
    return pd.DataFrame(rows)


def _agreement(largest_z: float, layers: int) -> str:
    if math.isnan(largest_z):
        return "–"
    return "yes" if largest_z <= special.ndtri(1 - 1e-3 / (2 * layers)) else "no"


def verdict(log10_growth: float) -> str:
    """stable, vanishing or exploding, for a growth of the second moment per layer.

    >>> verdict(0.0), verdict(-0.301), verdict(2.1)
    ('stable', 'vanishing', 'exploding')
    """
    if math.isnan(log10_growth) or abs(log10_growth) < STABLE:
        return "stable"
    return "exploding" if log10_growth > 0 else "vanishing"


class _Gathered:
    """The streaming statistics of one stream: forward, backward and weight gradients."""

    def __init__(self, depth: int) -> None:
        self.forward, self.backward, self.weight = (LogMoments(depth) for _ in range(3))

    def add(self, block: Block, stream: int) -> None:
        self.forward.add(block.forward[:, :, stream])
        if block.backward is not None and block.weight is not None:
            self.backward.add(block.backward[:, :, stream])
            self.weight.add(block.weight[:, :, stream])


def _table(spec: VarianceSpec, curve: Curve, gathered: _Gathered, direction: str) -> pd.DataFrame:
    """The rows of one curve in one direction."""
    weight = np.full((2, spec.depth), np.nan)
    if direction == "forward":
        moments, shift, theory = gathered.forward, curve.log_shift, forward_theory(spec, curve)
    else:
        moments, shift, theory = gathered.backward, curve.log_shift_back, backward_theory(spec, curve)
        # |x_{l−1}|² carries the weights below l, |∂/∂y_l|² those above
        below = np.concatenate([[0.0], curve.log_shift[:-1]])
        weight[0] = gathered.weight.log_of_mean + shift + below
        weight[1] = log_weight_gradient(spec, curve)
    columns = _measured(moments, shift, theory) | {
        "initializer": curve.initializer.name,
        "activation": curve.activation.name,
        "negative_slope": _nan_for_none(curve.activation.negative_slope),
        "direction": direction,
        "engine": spec.engine,
        "layer": np.arange(1, spec.depth + 1),
        "log10_weight_gradient": weight[0] / LN10,
        "log10_weight_gradient_theory": weight[1] / LN10,
        "law": theory.law,
    }
    return pd.DataFrame({name: columns[name] for name in COLUMNS})


def _measured(moments: LogMoments, shift: Array, theory: Theory) -> dict[str, Any]:
    log_mean = moments.mean + shift
    error = moments.mean_variance(theory.log_variance) + theory.log_variance / theory.samples
    reach = special.ndtri(0.975) * np.sqrt(theory.log_variance)
    return {
        "log10_measured": (moments.log_of_mean + shift) / LN10,
        "log10_theory": theory.log_expected / LN10,
        "log_mean": log_mean,
        "log_mean_theory": theory.log_mean,
        "log_variance": moments.variance,
        "log_variance_theory": theory.log_variance,
        "log10_median_theory": theory.quantiles[:, 1] / LN10,
        "log10_band_low": theory.quantiles[:, 0] / LN10,
        "log10_band_high": theory.quantiles[:, 2] / LN10,
        "log10_band_lognormal_low": (theory.log_mean - reach) / LN10,
        "log10_band_lognormal_high": (theory.log_mean + reach) / LN10,
        "z": (log_mean - theory.log_mean) / np.sqrt(error + ROUNDING**2),
        "dead_fraction": moments.dead_fraction,
        "dead_fraction_theory": theory.dead,
    }


def _nan_for_none(value: float | None) -> float:
    return math.nan if value is None else value
