"""Monte Carlo over stacks, theory beside it, one tidy table.

``variance(spec)`` draws many networks, reads the second moment q_l of every layer's pre-activations
with the probe, and lays the exact theory over it.  The table has one row per curve and layer; its
columns are documented in ``COLUMNS``.

Curves that can share weights do (common random numbers): initializers of one shape are multiples
of the same unit-variance weights, and rectifiers are homogeneous, so He's q_l is exactly 2^l times
Xavier's in every single draw when fans are equal.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from theory import finite_width, mean_field
from theory.devices import resolve_device
from theory.errors import WorkError
from theory.initializers import Initializer
from theory.probe import Probe
from theory.randomness import generator, stream_seed
from theory.rectifiers import Activation
from theory.specs import VarianceSpec

if TYPE_CHECKING:
    import torch

    from theory.stacks import Stream

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]

COLUMNS = {
    "initializer": "the weight law, as named on the command line",
    "activation": "the activation, as named on the command line",
    "negative_slope": "its slope for negative inputs; NaN for a smooth activation",
    "direction": "forward: second moments of the pre-activations y_l",
    "engine": "modules: nn.Modules read by forward hooks",
    "layer": "l = 1 … L",
    "log10_measured": "log10 of the mean over draws of q_l, the mean of y_l² over units",
    "log10_theory": "log10 of its expectation: exact for rectifiers, infinite width otherwise",
    "log_mean": "mean over draws of ln q_l (networks that are not dead)",
    "log_mean_theory": "its exact value; NaN where there is none",
    "log_variance": "variance over draws of ln q_l",
    "log_variance_theory": "its exact value; NaN where there is none",
    "log10_median_theory": "log10 of the median single network",
    "log10_band_low": "log10 of the 2.5 % quantile of a single network",
    "log10_band_high": "log10 of the 97.5 % quantile of a single network",
    "z": "(log_mean − log_mean_theory) / exact standard error",
    "dead_fraction": "fraction of the draws whose signal is exactly zero at this layer",
    "dead_fraction_theory": "its exact value; NaN where there is none",
    "law": "where the log columns of the theory come from: exact, sampled, approximate or none",
}
BAND = (0.025, 0.5, 0.975)
# One block holds this many weights per layer at most: 8 MiB of float32.  It fixes which generator
# draws which network, so results depend on the seed alone, and not on memory or threads.
BLOCK_WEIGHTS = 2**21
# The law of a chain with biases is sampled with this many exact draws: 0.2 % of a standard deviation.
SAMPLED_DRAWS = 50_000
# Uniform biases need every unit drawn: this many numbers at most.
SAMPLED_NUMBERS = 20_000_000
# Rounding of a float32 second moment, as a floor under the standard error of ln q.
ROUNDING = 1e-6
LN10 = math.log(10)


def variance(spec: VarianceSpec, on_progress: Progress | None = None) -> pd.DataFrame:
    """The table of ``spec``: measured and exact second moments, one row per curve and layer.

    ``on_progress(done, total)`` is called as draws finish.  Columns: see ``COLUMNS``.  Raises
    ``RequestError`` for a device that is not there, ``WorkError`` when memory runs out.

    >>> table = variance(VarianceSpec(depth=2, width=8, draws=4, initializers=("he",)))
    >>> list(table["layer"])
    [1, 2, 1, 2]
    """
    curves: dict[int, pd.DataFrame] = {}
    for group in _groups(spec):
        moments = [LogMoments(spec.depth) for _ in group.streams]
        for log_q in _blocks(spec, group, on_progress):
            for stream, accumulator in enumerate(moments):
                accumulator.add(log_q[:, :, stream])
        for curve in group.curves:
            curves[curve.index] = _table(spec, curve, moments[curve.stream])
    return pd.concat([curves[index] for index in sorted(curves)], ignore_index=True)


def log_second_moments(spec: VarianceSpec) -> Array:
    """ln q_l of every single draw, shape (curves, draws, L, batch); −∞ where the network is dead.

    What ``variance`` averages; curves in the order of ``spec.curves``.
    """
    result = np.empty((len(spec.curves), spec.draws, spec.depth, spec.batch))
    for group in _groups(spec):
        log_q = np.concatenate(list(_blocks(spec, group, None)))
        for curve in group.curves:
            result[curve.index] = log_q[:, :, curve.stream] + curve.log_shift[:, None]
    return result


def growth(table: pd.DataFrame) -> pd.DataFrame:
    """One row per curve of ``variance``'s table: growth per layer and a verdict.

    Columns: the curve's names, ``measured`` and ``theory`` (log10 of the mean factor from one layer
    to the next; NaN for a single layer), ``largest_z`` (largest |z| over the layers), ``agreement``
    (yes when chance alone exceeds that |z| in more than 1 of 1,000 runs, by Bonferroni over the
    layers; else no; – where the theory has no law of ln q) and ``verdict``: stable when the theory's
    factor per layer is within 1 % of one, else vanishing or exploding.
    """
    names = ["initializer", "activation", "negative_slope", "direction", "engine"]
    rows: list[dict[str, Any]] = []
    for _, curve in table.groupby(["initializer", "activation", "direction", "engine"], sort=False):
        first, last = curve.iloc[0], curve.iloc[-1]
        steps = int(last["layer"] - first["layer"])
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
    if math.isnan(log10_growth) or abs(log10_growth) < math.log10(1.01):
        return "stable"
    return "exploding" if log10_growth > 0 else "vanishing"


@dataclass
class LogMoments:
    """Streaming statistics of ln q_l over draws and inputs, every array of shape (L,).

    Chan, Golub & LeVeque's merge (1983) for mean and variance; ln Σ q by log-sum-exp.  ``between``
    holds the same for each draw's mean over its inputs: draws are independent, inputs are not.
    """

    depth: int
    total: int = 0
    log_sum: Array = field(init=False)
    pooled: list[Array] = field(init=False)
    between: list[Array] = field(init=False)

    def __post_init__(self) -> None:
        self.log_sum = np.full(self.depth, -np.inf)
        self.pooled = [np.zeros(self.depth) for _ in range(3)]
        self.between = [np.zeros(self.depth) for _ in range(3)]

    def add(self, log_q: Array) -> None:
        """Take in ``log_q`` of shape (draws, L, batch)."""
        draws, _, batch = log_q.shape
        self.total += draws * batch
        by_layer = log_q.transpose(1, 0, 2).reshape(self.depth, -1)
        self.log_sum = np.logaddexp(self.log_sum, np.logaddexp.reduce(by_layer, axis=1))
        _merge(self.pooled, by_layer)
        if batch > 1:
            alive = np.isfinite(log_q)
            count = np.maximum(alive.sum(2), 1)
            mean = np.where(alive, log_q, 0.0).sum(2) / count
            _merge(self.between, np.where(alive.any(2), mean, -np.inf).T)

    @property
    def log_of_mean(self) -> Array:
        """ln of the mean of q, dead networks included."""
        return self.log_sum - math.log(self.total)

    @property
    def mean(self) -> Array:
        """Mean of ln q over the living."""
        return np.where(self.pooled[0] > 0, self.pooled[1], np.nan)

    @property
    def variance(self) -> Array:
        """Unbiased variance of ln q over the living."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.pooled[0] > 1, self.pooled[2] / (self.pooled[0] - 1), np.nan)

    @property
    def dead_fraction(self) -> Array:
        """Fraction of (draw, input) pairs whose signal is exactly zero."""
        return 1 - self.pooled[0] / self.total

    def mean_variance(self, one: Array) -> Array:
        """Variance of ``mean``: ``one``/draws for one input, else from the scatter between draws."""
        count, _, scatter = self.between
        with np.errstate(invalid="ignore", divide="ignore"):
            if not count.any():
                return one / self.pooled[0]
            return scatter / (count - 1) / count


def _merge(state: list[Array], values: Array) -> None:
    """Fold ``values`` (L, samples) into ``state`` = [count, mean, sum of squares]; skips −∞."""
    alive = np.isfinite(values)
    count = alive.sum(1).astype(np.float64)
    safe = np.maximum(count, 1)
    mean = np.where(alive, values, 0.0).sum(1) / safe
    scatter = np.where(alive, (values - mean[:, None]) ** 2, 0.0).sum(1)
    total = np.maximum(state[0] + count, 1)
    delta = mean - state[1]
    state[2] += scatter + delta**2 * state[0] * count / total
    state[1] += delta * count / total
    state[0] += count


@dataclass(frozen=True)
class Curve:
    """One (initializer, activation) and the stream that carries it.

    ``log_shift`` (L,) turns the stream's unit-weight ln q_l into the curve's.
    """

    index: int
    initializer: Initializer
    activation: Activation
    stream: int
    log_shift: Array


@dataclass(frozen=True)
class Group:
    """Curves that share weight draws: one shape of law, with or without biases."""

    shape: str
    streams: tuple[Stream, ...]
    curves: tuple[Curve, ...]


def _groups(spec: VarianceSpec) -> list[Group]:
    from theory.stacks import Stream

    streams: dict[tuple[str, bool], list[Stream]] = defaultdict(list)
    curves: dict[tuple[str, bool], list[Curve]] = defaultdict(list)
    for index, (law, activation) in enumerate(spec.curves):
        std, bias_std = _weight_std(spec, law, activation), _bias_std(spec, law)
        key = (law.shape, bias_std is not None)
        free = activation.is_rectifier and bias_std is None  # homogeneous: the scale factors out
        stream = Stream(
            activation, (1.0,) * spec.depth if free else std, bias_std, law.name == "pytorch"
        )
        if stream not in streams[key]:
            streams[key].append(stream)
        shift = 2 * np.cumsum(np.log(std)) if free else np.zeros(spec.depth)
        curves[key].append(Curve(index, law, activation, streams[key].index(stream), shift))
    return [Group(key[0], tuple(streams[key]), tuple(curves[key])) for key in streams]


def _weight_std(spec: VarianceSpec, law: Initializer, activation: Activation) -> tuple[float, ...]:
    slope = activation.gain_slope if spec.gain_slope is None else spec.gain_slope
    return tuple(law.std(fan_in, fan_out, slope) for fan_in, fan_out in pairwise(spec.widths))


def _bias_std(spec: VarianceSpec, law: Initializer) -> tuple[float, ...] | None:
    if law.name == "pytorch":
        return tuple(1 / math.sqrt(3 * fan_in) for fan_in in spec.widths[:-1])
    return (spec.sigma_b,) * spec.depth if spec.sigma_b else None


def _blocks(spec: VarianceSpec, group: Group, on_progress: Progress | None) -> Iterator[Array]:
    """ln q_l of the group's streams, block by block: arrays (draws, L, streams, batch).

    Blocks have their own generators, so they run side by side on CPU threads with the same result.
    """
    import torch

    device = resolve_device(spec.device)
    size = max(1, min(spec.draws, BLOCK_WEIGHTS // spec.width**2, 4096))
    starts = range(0, spec.draws, size)
    inputs = _inputs(spec, device)

    def run(start: int) -> Array:
        draws = min(size, spec.draws - start)
        return _run_block(spec, group, inputs, start // size, draws)

    alone = device.type != "cpu" or group.shape == "orthogonal"  # QR has threads of its own
    workers = 1 if alone else min(torch.get_num_threads(), len(starts))
    try:
        with ThreadPoolExecutor(workers) as pool:
            for start, log_q in zip(starts, pool.map(run, starts), strict=True):
                yield log_q
                if on_progress:
                    on_progress(start + len(log_q), spec.draws)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "memory" in str(error):
            raise WorkError(
                f"out of memory at width {spec.width}, batch {spec.batch}: make one of them smaller"
            ) from error
        raise


def _inputs(spec: VarianceSpec, device: torch.device) -> torch.Tensor:
    """``batch`` random directions (n_0, batch), float32, each of second moment 1."""
    import torch

    stream = generator(spec.seed, "inputs")
    inputs = torch.randn(spec.widths[0], spec.batch, dtype=torch.float64, generator=stream)
    return (inputs / inputs.square().mean(0).sqrt()).float().to(device)


def _run_block(spec: VarianceSpec, group: Group, inputs: torch.Tensor, block: int, draws: int) -> Array:
    import torch

    from theory.stacks import Ensemble

    log_input = 0.5 * math.log(spec.input_second_moment)
    ensemble = Ensemble(spec.widths, group.shape, group.streams, log_input).to(inputs.device)
    weights = generator(spec.seed, "weights", group.shape, block, device=inputs.device)
    biases = generator(spec.seed, "biases", group.shape, block, device=inputs.device)
    names = [f"layers.{index}" for index in range(spec.depth)]
    with torch.inference_mode(), Probe(ensemble, names, keep=(0, 2)) as probe:
        log_scale = ensemble(inputs, draws, weights, biases)
        measured = torch.stack([reading.forward["second_moment"] for reading in probe.readings])
        log_q = measured.log() + 2 * log_scale
    result: Array = (
        log_q.transpose(0, 1).reshape(draws, spec.depth, len(group.streams), -1).cpu().numpy()
    )
    return result


@dataclass(frozen=True)
class Theory:
    """What theory says of one curve, NaN where it is silent: (L,) each, ``quantiles`` (L, 3)."""

    log_expected: Array
    log_mean: Array
    log_variance: Array
    quantiles: Array
    dead: Array
    law: str
    samples: float = math.inf


def _theory(spec: VarianceSpec, curve: Curve) -> Theory:
    law, activation = curve.initializer, curve.activation
    std = np.array(_weight_std(spec, law, activation))
    log_scales = 2 * np.log(std) + np.log(spec.widths[:-1])
    log_input, bias_std = math.log(spec.input_second_moment), _bias_std(spec, law)
    bias_variance = bias_std[0] ** 2 if bias_std else 0.0
    expected = np.array(
        mean_field.log_second_moments(activation, list(log_scales), log_input, bias_variance)
    )
    if activation.negative_slope is None:
        nothing = np.full(spec.depth, np.nan)
        return Theory(expected, nothing, nothing, np.full((spec.depth, 3), np.nan), nothing, "none")
    gaussian = law.shape == "normal"
    if bias_variance:
        return _sampled_theory(spec, curve, log_scales, bias_variance, expected)
    chain = _signal_law(spec.widths[1:], activation.negative_slope, law.shape == "orthogonal")
    shift = log_input + np.cumsum(log_scales)
    return Theory(
        expected,
        chain.log_mean + shift,
        chain.log_variance,
        chain.quantiles(BAND) + shift[:, None],
        chain.dead_probability,
        "exact" if gaussian or law.shape == "orthogonal" else "approximate",
    )


def _sampled_theory(
    spec: VarianceSpec, curve: Curve, log_scales: Array, bias_variance: float, expected: Array
) -> Theory:
    """With biases the layers' factors are not independent: the chain is drawn from its law."""
    uniform = curve.initializer.name == "pytorch"
    draws = SAMPLED_DRAWS
    if uniform:
        draws = max(500, min(draws, SAMPLED_NUMBERS // (spec.width * spec.depth)))
    layers = finite_width.sample_log_second_moments(
        spec.widths[1:],
        curve.activation.gain_slope,
        list(log_scales),
        draws,
        np.random.default_rng(stream_seed(spec.seed, "law")),
        log_input=math.log(spec.input_second_moment),
        bias_variance=bias_variance,
        uniform_bias=uniform,
    )
    rows = [(log_q.mean(), log_q.var(ddof=1), np.quantile(log_q, BAND)) for log_q in layers]
    mean, var, quantiles = (np.array(column) for column in zip(*rows, strict=True))
    source = "approximate" if uniform else "sampled"
    return Theory(expected, mean, var, quantiles, np.zeros(spec.depth), source, draws)


@lru_cache(maxsize=64)
def _signal_law(units: tuple[int, ...], slope: float, orthogonal: bool) -> finite_width.SignalLaw:
    return finite_width.SignalLaw(units, slope, orthogonal=orthogonal)


def _table(spec: VarianceSpec, curve: Curve, moments: LogMoments) -> pd.DataFrame:
    theory = _theory(spec, curve)
    log_mean = moments.mean + curve.log_shift
    error = moments.mean_variance(theory.log_variance) + theory.log_variance / theory.samples
    slope = curve.activation.negative_slope
    columns: dict[str, Any] = {
        "initializer": curve.initializer.name,
        "activation": curve.activation.name,
        "negative_slope": math.nan if slope is None else slope,
        "direction": spec.direction,
        "engine": spec.engine,
        "layer": np.arange(1, spec.depth + 1),
        "log10_measured": (moments.log_of_mean + curve.log_shift) / LN10,
        "log10_theory": theory.log_expected / LN10,
        "log_mean": log_mean,
        "log_mean_theory": theory.log_mean,
        "log_variance": moments.variance,
        "log_variance_theory": theory.log_variance,
        "log10_median_theory": theory.quantiles[:, 1] / LN10,
        "log10_band_low": theory.quantiles[:, 0] / LN10,
        "log10_band_high": theory.quantiles[:, 2] / LN10,
        "z": (log_mean - theory.log_mean) / np.sqrt(error + ROUNDING**2),
        "dead_fraction": moments.dead_fraction,
        "dead_fraction_theory": theory.dead,
        "law": theory.law,
    }
    return pd.DataFrame({name: columns[name] for name in COLUMNS})
