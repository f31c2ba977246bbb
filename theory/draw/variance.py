"""Monte Carlo over stacks, theory beside it, one tidy table.

``variance(spec)`` draws many networks, dense, convolutional or with batch norm, reads the second moment
of every layer's pre-activations (and of the gradient at them) with the probe, and lays the theory
over it.  The table has one row per curve, direction and layer; its columns are documented in
``COLUMNS``.

z has one meaning: the normal score of a deviation from the theory, N(0, 1) if the theory is right.
What deviates is the mean over draws of ln q_l where its law is known, and elsewhere of the values that
``draw.convolution`` and ``draw.batch_norm`` make, whose expectation is 0.  Its standard error is exact
for one input of a known law, whose skewness counts; where it comes from the scatter between draws,
Student's law stands for the normal one (``draw.scores``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from theory.draw.batch_norm import NormSimulation
from theory.draw.convolution import ConvSimulation
from theory.draw.dense import DenseSimulation
from theory.draw.ensemble import Block, Curve, Group, Progress, groups
from theory.draw.moments import LogMoments, Moments
from theory.draw.scores import agreement, normal_score, skewed_score
from theory.errors import RequestError
from theory.keywords import takes_fields_of
from theory.law import stacks
from theory.law.stacks import Theory
from theory.specs import BatchNormSpec, ConvSpec, EnsembleSpec, VarianceSpec

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
    "z": "normal score of the measurement's distance from the theory, N(0, 1) if it is right; NaN "
    "where nothing is tested; one number for laws of one shape, which share their draws",
    "dead_fraction": "fraction of the draws whose signal is exactly zero at this layer",
    "dead_fraction_theory": "its exact value; NaN where there is none",
    "log10_weight_gradient": "backward: log10 of the mean over draws of the squared norm of ∂/∂W_l",
    "log10_weight_gradient_theory": "its expectation: exact for rectifiers",
    "law": "where the log columns of the theory come from: exact, sampled or approximate; or what "
    "there is without them: mean only (exact), infinite width or none",
}
# Rounding of a float32 second moment, as a floor under the standard error of ln q.
ROUNDING = 1e-6
LN10 = math.log(10)
# Beyond this skewness of the sample mean its t statistic is no longer standard normal.
MOST_SKEWNESS = 0.3
AnySimulation = DenseSimulation | ConvSimulation | NormSimulation


@dataclass(frozen=True)
class Measured:
    """``variance``'s table, and what a kind of stack has besides.

    border            of convolutions: columns as in ``draw.convolution.BORDER_COLUMNS``
    gradient_growth   under batch norm, as in ``draw.batch_norm.GROWTH_COLUMNS``; None where only the
                      forward direction is asked for, or below three layers
    """

    table: pd.DataFrame
    border: pd.DataFrame | None = None
    gradient_growth: pd.DataFrame | None = None


@takes_fields_of(VarianceSpec)
def variance(spec: EnsembleSpec, on_progress: Progress | None = None) -> pd.DataFrame:
    """The table of ``spec``: measured and expected second moments, one row per curve and layer.

    ``on_progress(done, total)`` is called as draws finish.  Columns: see ``COLUMNS``.  Memory does not
    grow with the number of draws, but for a few numbers per layer under batch norm.  Raises
    ``RequestError`` for a device that is not there, ``WorkError`` when memory runs out.

    >>> table = variance(VarianceSpec(depth=2, width=8, draws=4, initializers=("he",)))
    >>> list(table["layer"])
    [1, 2, 1, 2]
    >>> table = variance(ConvSpec(depth=2, channels=4, image_size=4, draws=4, initializers=("he",)))
    >>> [round(10**value, 5) for value in table["log10_theory"][:2]]
    [1.38889, 1.04321]
    >>> table = variance(BatchNormSpec(depth=3, width=8, batch=8, draws=2, initializers=("he",)))
    >>> [round(10**value, 6) for value in table["log10_theory"][:3]]
    [2.0, 1.0, 1.0]
    """
    return measure(spec, on_progress).table


def measure(spec: EnsembleSpec, on_progress: Progress | None = None) -> Measured:
    """``variance``'s table, and the other one of its kind of stack, from one simulation."""
    tables: dict[tuple[int, int], pd.DataFrame] = {}
    border: dict[int, pd.DataFrame] = {}
    gradient_growth: dict[int, pd.DataFrame] = {}
    for group in groups(spec, scale_free=isinstance(spec, BatchNormSpec)):
        simulation = simulate(spec, group)
        tallies = [Tally(spec) for _ in group.streams]
        for block in simulation.blocks(on_progress):
            for stream, tally in enumerate(tallies):
                tally.add(block, stream)
        for curve in group.curves:
            for order, direction in enumerate(spec.directions):
                table = _table(spec, curve, tallies[curve.stream], direction)
                tables[order, curve.index] = table
        if isinstance(simulation, ConvSimulation):
            border |= simulation.border()
        elif isinstance(simulation, NormSimulation):
            gradient_growth |= simulation.growth()
    joined = _joined(tables)
    assert joined is not None
    return Measured(joined, _joined(border), _joined(gradient_growth))


HISTOGRAM_COLUMNS = {
    "initializer": "the weight law, as named on the command line",
    "activation": "the activation, as named on the command line",
    "quantity": "activation: of x_l = φ(y_l); gradient: of ∂/∂y_l of a random cotangent",
    "layer": "l, as many as asked for, the first and the last among them",
    "log10_low": "lower edge of the bin, log10 of the absolute value",
    "log10_high": "its upper edge",
    "density": "share of the values that are not zero, per decade",
    "zeros": "share of all values of the layer that are exactly zero",
}
BIN = 0.1  # decades


@takes_fields_of(VarianceSpec)
def histograms(spec: VarianceSpec, most_layers: int = 5) -> pd.DataFrame:
    """Activations and gradients by layer as histograms of log10|·|, as Glorot & Bengio (2010, Fig. 6
    and 7) draw their values: units of one block of networks together.  Columns: ``HISTOGRAM_COLUMNS``.

    The logarithm, because Xavier's and N(0, 1)'s values leave every linear axis.  ``most_layers`` of
    them are read, spread evenly.
    """
    spec = replace(spec, direction="both", engine="modules")
    shown = {int(layer) for layer in np.linspace(1, spec.depth, most_layers).round()}
    tables: dict[tuple[int, str, int], pd.DataFrame] = {}
    for group in groups(spec):
        simulation = DenseSimulation(spec, group)
        for stream, layer, logs in simulation.magnitudes(simulation.block_size):
            for curve in (one for one in group.curves if one.stream == stream and layer in shown):
                for quantity, direction in (("activation", "forward"), ("gradient", "backward")):
                    shift = curve.log_shift[direction][layer - 1] / 2
                    tables[curve.index, quantity, layer] = _histogram(
                        (logs[quantity].ravel() + shift) / LN10
                    ).assign(
                        initializer=curve.initializer.name,
                        activation=curve.activation.name,
                        quantity=quantity,
                        layer=layer,
                    )
    joined = _joined(tables)
    assert joined is not None
    return joined[list(HISTOGRAM_COLUMNS)]


def _histogram(logs: Array) -> pd.DataFrame:
    """Bins of ``BIN`` decades over the finite values; one empty bin where there is none."""
    known = logs[np.isfinite(logs)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 0.0)
    edges = BIN * np.arange(math.floor(low / BIN), math.floor(high / BIN) + 2)
    counts, _ = np.histogram(known, edges)
    return pd.DataFrame(
        {
            "log10_low": edges[:-1],
            "log10_high": edges[1:],
            "density": counts / max(len(known), 1) / BIN,
            "zeros": 1 - len(known) / len(logs),
        }
    )


def _joined(tables: dict[Any, pd.DataFrame]) -> pd.DataFrame | None:
    """The tables one below the other, in the order of their keys."""
    if not tables:
        return None
    return pd.concat([tables[key] for key in sorted(tables)], ignore_index=True)


def simulate(spec: EnsembleSpec, group: Group) -> AnySimulation:
    """The simulation of one group of ``spec``'s curves."""
    if isinstance(spec, VarianceSpec):
        return DenseSimulation(spec, group)
    if isinstance(spec, ConvSpec):
        return ConvSimulation(spec, group)
    if isinstance(spec, BatchNormSpec):
        return NormSimulation(spec, group)
    raise RequestError(f"no simulation of the second moments of {type(spec).__name__} is known")


def growth(spec: EnsembleSpec, table: pd.DataFrame) -> pd.DataFrame:
    """One row per curve of ``spec``'s ``table``: growth per layer, agreement and a verdict.

    Columns: the curve's names; log10 of factors from one layer to the next, backward from one layer
    to the one below, NaN for a single layer: ``measured`` and ``theory`` from the first to the last
    (under batch norm the second, since the first has another input), ``asymptotic`` of a deep stack,
    and ``border``, what zero padding takes of ``theory`` (NaN elsewhere); ``law`` as in ``COLUMNS``;
    ``largest_z`` (largest |z| over the layers); ``agreement``: see ``draw.scores``; and ``verdict``:
    stable when the asymptotic factor is within 2 % of one, else vanishing or exploding.
    """
    names = ["initializer", "activation", "negative_slope", "direction", "engine"]
    if isinstance(spec, BatchNormSpec) and spec.depth > 1:
        table = table[table["layer"] > 1]
    laws = {law.name: law for law in spec.laws}
    activations = {activation.name: activation for activation in spec.parsed}
    rows: list[dict[str, Any]] = []
    for key, curve in table.groupby(["direction", "activation", "initializer"], sort=False):
        direction, activation, law = str(key[0]), activations[str(key[1])], laws[str(key[2])]
        first, last = (
            curve.iloc[:: -1 if direction == "backward" else 1].iloc[[0, -1]].to_dict("records")
        )
        steps = abs(last["layer"] - first["layer"])
        row = {name: first[name] for name in names}
        for source in ("measured", "theory"):
            change = last[f"log10_{source}"] - first[f"log10_{source}"]
            row[source] = change / steps if steps else math.nan
        row["asymptotic"] = stacks.asymptotic_growth(spec, law, activation, direction)
        row["border"] = stacks.border_growth(spec, law, activation, direction)
        row["law"] = first["law"]
        row["largest_z"] = curve["z"].abs().max()
        row["agreement"] = agreement(row["largest_z"], len(curve), degrees(spec))
        row["verdict"] = stacks.verdict(row["asymptotic"])
        rows.append(row)
    return pd.DataFrame(rows)


def degrees(spec: EnsembleSpec) -> float:
    """Degrees of freedom of the standard error behind z; inf where it is exact."""
    exact = isinstance(spec, VarianceSpec) and spec.batch == 1
    return math.inf if exact else spec.draws - 1


class Tally:
    """The streaming statistics of one stream: of ln q and of what z tests, per direction."""

    def __init__(self, spec: EnsembleSpec) -> None:
        self.moments = {direction: LogMoments(spec.depth) for direction in spec.directions}
        self.tests: dict[str, Moments] = {}
        self.weight = LogMoments(spec.depth)

    def add(self, block: Block, stream: int) -> None:
        """Take in what a block says of ``stream``."""
        for direction, moments in self.moments.items():
            moments.add(block.log_q[direction][:, :, stream])
        for direction, values in block.surprise.items():
            self.tests.setdefault(direction, Moments()).add(values[:, :, stream].T)
        if block.weight is not None:
            self.weight.add(block.weight[:, :, stream])


def _table(spec: EnsembleSpec, curve: Curve, tally: Tally, direction: str) -> pd.DataFrame:
    """The rows of one curve in one direction."""
    law, activation = curve.initializer, curve.activation
    moments, shift = tally.moments[direction], curve.log_shift[direction]
    theory = stacks.theory(spec, law, activation, direction)
    weight = np.full((2, spec.depth), np.nan)
    if direction == "backward" and isinstance(spec, VarianceSpec):
        # |x_{l−1}|² carries the weights below l, |∂/∂y_l|² those above
        below = np.concatenate([[0.0], curve.log_shift["forward"][:-1]])
        weight[0] = tally.weight.log_of_mean + shift + below
        weight[1] = stacks.log_weight_gradient(spec, law, activation)
    reach = special.ndtri(0.975) * np.sqrt(theory.log_variance)
    columns: dict[str, Any] = {
        "initializer": law.name,
        "activation": activation.name,
        "negative_slope": _nan_for_none(activation.negative_slope),
        "direction": direction,
        "engine": spec.engine,
        "layer": np.arange(1, spec.depth + 1),
        "log10_measured": (moments.log_of_mean + shift) / LN10,
        "log10_theory": theory.log_expected / LN10,
        "log_mean": moments.pooled.mean + shift,
        "log_mean_theory": theory.log_mean,
        "log_variance": moments.pooled.variance,
        "log_variance_theory": theory.log_variance,
        "log10_median_theory": theory.quantiles[:, 1] / LN10,
        "log10_band_low": theory.quantiles[:, 0] / LN10,
        "log10_band_high": theory.quantiles[:, 2] / LN10,
        "log10_band_lognormal_low": (theory.log_mean - reach) / LN10,
        "log10_band_lognormal_high": (theory.log_mean + reach) / LN10,
        "z": _z(spec, tally, direction, shift, theory),
        "dead_fraction": moments.dead_fraction,
        "dead_fraction_theory": theory.dead,
        "log10_weight_gradient": weight[0] / LN10,
        "log10_weight_gradient_theory": weight[1] / LN10,
        "law": theory.law,
    }
    return pd.DataFrame({name: columns[name] for name in COLUMNS})


def _z(spec: EnsembleSpec, tally: Tally, direction: str, shift: Array, theory: Theory) -> Array:
    """The column z; a rounding error is added to every standard error."""
    moments = tally.moments[direction]
    if not isinstance(spec, VarianceSpec):
        z = _z_of_surprises(spec, tally.tests.get(direction))
        if direction == "backward":  # the mean itself
            with np.errstate(over="ignore"):
                growth = np.expm1(moments.pooled.variance)  # a log-normal's
                skewness = (growth + 3) * np.sqrt(growth / spec.draws)
            z[~(skewness < MOST_SKEWNESS)] = np.nan
        return z
    pooled, between = moments.pooled, moments.between
    known = theory.log_variance / theory.samples + ROUNDING**2
    miss = pooled.mean + shift - theory.log_mean
    if spec.batch == 1:
        with np.errstate(invalid="ignore", divide="ignore"):
            z = miss / np.sqrt(theory.log_variance / pooled.count + known)
            return skewed_score(z, theory.log_skewness / np.sqrt(pooled.count))
    return normal_score(miss / np.sqrt(between.error**2 + known), between.count - 1)


def _z_of_surprises(spec: EnsembleSpec, tests: Moments | None) -> Array:
    """z of values whose expectation is 0; of convolutions they are sums over the layers so far."""
    if tests is None:
        return np.full(spec.depth, np.nan)
    conv = isinstance(spec, ConvSpec)
    floor = ROUNDING * (np.arange(1, spec.depth + 1) if conv else 1.0)
    return normal_score(tests.mean / np.sqrt(tests.error**2 + floor**2), tests.count - 1)


def _nan_for_none(value: float | None) -> float:
    return math.nan if value is None else value
