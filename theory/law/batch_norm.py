"""Batch norm: it fixes the signal, makes the scale of weights a learning rate, and lets gradients grow.

Layer l is y_l = W_l x_{l−1}, z_l = BN(y_l), x_l = φ(z_l), with BN(y) = (y − mean)/σ over the batch of
B inputs, each unit by itself (no ε, no affine map: this is the network as it is initialized).

**Forward.**  Each unit of z_l has mean 0 and second moment 1, in every network.  Turning the sign of
a row of W_l turns that of z_l, so for a rectifier E[φ(z)²] = A₂ and, exactly at every width and batch,

    E[y_1²] = s·q_0,   E[y_l²] = s·A₂ for l ≥ 2:   nothing vanishes or explodes, whatever the law.

**Backward** (Yang et al. 2019).  In the limit of infinite width the B pre-activations of a unit are
Gaussian with covariance s·A₂·[(1 − ρ)I + ρ11ᵀ], where the common correlation ρ = f(c), c = −1/(B − 1):
BN leaves a unit uniform on the sphere of radius √B in the B − 1 dimensions orthogonal to 1, two of
whose coordinates have correlation c, and f is the rectifier's correlation map.  So σ² is
s·A₂·(1 − ρ)·χ²_{B−1}/B, independent of the direction z, and E[1/σ²] = B/((B − 3)·s·A₂·(1 − ρ)).

The gradient passes BN as (1/σ)·Π, Π = I − 11ᵀ/B − zzᵀ/B; its covariance over the batch stays a
multiple γ of P = I − 11ᵀ/B.  Through the next layer's weights, φ'(z) = D and BN:

    γ' = γ·s·E[1/σ²]·E tr(Π D P D)/(B − 1),
    E tr(P D P D) = (B − 1)²/B·A₂ + (B − 1)/B·A₂·f′(c),    E zᵀD P D z/B = (B − 1)/B·A₂·(1 − ρ),

which gives the growth of the gradient's second moment per layer, from the output to the input,

    λ_B = (B − 2 + f(c) + f′(c)) / ((B − 3)·(1 − f(c))),       c = −1/(B − 1).

Linear units: (B − 2)/(B − 3).  Infinite batch: λ = 1/(1 − f(0)) = 1/(1 − (1−a)²/(π(1+a²))), the inverse
of Var[φ(z)]/E[φ(z)²]; for ReLU π/(π − 1) = 1.46694.  Batch norm removes the mean that the rectifier
makes, and pays for it with exploding gradients; linear units have none.  The same count at infinite
batch gives E[φ′²]/Var[φ] for any activation.  A finite width deviates, and
more the deeper the stack: ReLU, n = 512, B = 256 was measured 0.1 % below at depth 12, 0.8 % at depth
30, where the inputs of a batch have drifted apart in norm and are no longer alike.

**Scale.**  BN(k·y) = BN(y): multiplying W_l by k > 0 changes nothing in the function and divides the
gradient by k.  Relative to the weight, an Adam step of learning rate η is η/k, an SGD step η/k².
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from theory.activations import Activation
from theory.batch_norm_spec import BatchNormSpec
from theory.draw.convolution_simulate import Progress
from theory.draw.moments import LogMoments
from theory.draw.simulate import COLUMNS
from theory.errors import RequestError, WorkError, check_choice, check_real
from theory.initializers import Initializer
from theory.law import mean_field, quadrature
from theory.law.scores import normal_score
from theory.precision import float64_device
from theory.probe import Probe
from theory.randomness import generator

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]
OPTIMIZERS = ("adam", "sgd")
GROWTH_COLUMNS = {
    "initializer": "the weight law, as named on the command line",
    "activation": "the activation, as named on the command line",
    "negative_slope": "its slope for negative inputs; NaN for a smooth activation",
    "width": "units per layer",
    "batch": "B",
    "measured": "growth of the gradient's mean square per layer, geometric mean from layer L to 2",
    "standard_error": "of measured, from the scatter between draws",
    "theory": "λ_B: infinite width, this batch; NaN for a smooth activation",
    "infinite_batch": "λ for an infinite batch",
    "after_norm": "mean of z² over draws, layers, units and inputs: 1",
}
# Rounding of a float32 second moment, as a floor under the standard error.
ROUNDING = 1e-6
LN10 = math.log(10)


# ------------------------------------------------------------------------------------ theory


def correlation_slope(activation: Activation, correlation: float) -> float:
    """f′(c) of a rectifier's correlation map: [(1+a)² + (1−a)²·(2/π)·arcsin c]/[2(1+a²)].

    It is E[φ′(u)φ′(v)]/A₂ for unit Gaussians u, v of correlation c.
    """
    a = _slope(activation)
    arc = (2 / math.pi) * math.asin(correlation)
    return ((1 + a) ** 2 + (1 - a) ** 2 * arc) / (2 * (1 + a**2))


def gradient_growth(activation: Activation, batch: float = math.inf) -> float:
    """λ_B, the growth of the gradient's second moment per layer backward, at infinite width.

    For a smooth activation, by quadrature, at infinite batch only: E[φ′²]/(E[φ²] − E[φ]²).  Raises
    ``RequestError`` for one with a finite batch, and for a batch below 4.

    >>> from theory.activations import parse_activation
    >>> round(gradient_growth(parse_activation("relu")), 5)
    1.46694
    >>> round(gradient_growth(parse_activation("linear"), 8), 12)
    1.2
    """
    if batch == math.inf and activation.is_rectifier:
        return 1 / activation.variance_ratio
    if batch == math.inf:
        return quadrature.derivative_second_moment(activation) / _variance(activation)
    _slope(activation)
    check_real("batch", batch, 4)
    c = -1 / (batch - 1)
    rho = float(activation.correlation_map(c))
    return (batch - 2 + rho + correlation_slope(activation, c)) / ((batch - 3) * (1 - rho))


def effective_learning_rate(
    learning_rate: float, weight_scale: float, optimizer: str = "adam"
) -> float:
    """The learning rate that a BN-followed weight of scale 1 would feel: η/k (Adam), η/k² (SGD).

    ``weight_scale`` is k, for instance the ratio of two standard deviations: N(0, 1) against He at
    fan 288 is k = 12.

    >>> effective_learning_rate(1e-3, 2.0, "sgd")
    0.00025
    """
    check_choice("optimizer", optimizer, OPTIMIZERS)
    check_real("learning rate", learning_rate, 0)
    check_real("the weight's scale", weight_scale, 0, open_low=True)
    return learning_rate / weight_scale ** (1 if optimizer == "adam" else 2)


def equivalent_learning_rate(
    learning_rate: float, weight_scale: float, optimizer: str = "adam"
) -> float:
    """The learning rate with which a weight multiplied by k learns as it did before: η·k or η·k²."""
    return effective_learning_rate(learning_rate, 1 / weight_scale, optimizer)


def expected_log_second_moments(spec: BatchNormSpec, activation: Activation, std: float) -> Array:
    """ln E[y_l²], (L,): exact for rectifiers; else infinite width and batch."""
    log_s = math.log(spec.width) + 2 * math.log(std)
    later = log_s + mean_field.log_activation_gain(activation, 0.0)
    return np.array([log_s + math.log(spec.input_second_moment), *[later] * (spec.depth - 1)])


def expected_log_gradients(spec: BatchNormSpec, activation: Activation, std: float) -> Array:
    """ln E[(∂E/∂y_l)²], (L,), at infinite width, independent inputs; smooth: infinite batch too.

    The cotangent has variance 1 at z_L.  The first layer's pre-activations have second moment s·q_0
    and no common correlation, all others s·A₂ and ρ.
    """
    batch, log_s = spec.batch, math.log(spec.width) + 2 * math.log(std)
    share = 1.0  # E[1/σ²]·tr Π, in units of B/σ²; below, σ² in units of s
    if activation.is_rectifier:
        rho = float(activation.correlation_map(-1 / (batch - 1)))
        share, inner = (batch - 2) / (batch - 3), activation.second_moment * (1 - rho)
        growth = gradient_growth(activation, batch)
    else:
        inner, growth = _variance(activation), gradient_growth(activation)
    scatter = np.full(spec.depth, inner)
    scatter[0] = spec.input_second_moment
    passed = np.arange(spec.depth - 1, -1, -1)
    logs: Array = math.log(share) - log_s - np.log(scatter) + passed * math.log(growth)
    return logs


def _variance(activation: Activation) -> float:
    """Var[φ(z)], z ~ N(0, 1)."""
    return quadrature.second_moment(activation) - quadrature.moment(activation) ** 2


def _slope(activation: Activation) -> float:
    if activation.negative_slope is None:
        raise RequestError(
            f"{activation.name} is no rectifier: the growth under batch norm has no formula"
        )
    return activation.negative_slope


# -------------------------------------------------------------------------------- measurement


def variance(spec: BatchNormSpec, on_progress: Progress | None = None) -> pd.DataFrame:
    """The table of ``spec``: measured and expected second moments, one row per curve and layer.

    Columns as in ``draw.simulate.COLUMNS``: forward rows are y_l before batch norm, backward rows
    ∂E/∂y_l; z compares the mean with an exact expectation, by its empirical standard error, so it is
    NaN backward, where the theory is infinite width.  Raises ``RequestError`` for a device that is
    not there, ``WorkError`` when memory runs out.

    >>> spec = BatchNormSpec(depth=3, width=8, batch=8, draws=2, initializers=("he",))
    >>> [round(10**value, 6) for value in variance(spec)["log10_theory"][:3]]
    [2.0, 1.0, 1.0]
    """
    return measure(spec, on_progress)[0]


def growth_table(spec: BatchNormSpec, on_progress: Progress | None = None) -> pd.DataFrame:
    """Growth of the gradient per layer, a row per curve; columns: see ``GROWTH_COLUMNS``."""
    return measure(spec, on_progress)[1]


def measure(
    spec: BatchNormSpec, on_progress: Progress | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``variance``'s and ``growth_table``'s tables from one simulation.

    Laws of one shape share their weights: batch norm makes them the same function.  The second table
    has no rows when only the forward direction is asked for, or below three layers.
    """
    measured: dict[tuple[str, str], Readings] = {}
    rows: dict[tuple[int, int], pd.DataFrame] = {}
    growths = []
    for index, (law, activation) in enumerate(spec.curves):
        key = (law.shape, activation.name)
        if key not in measured:
            measured[key] = _run(spec, law, activation, on_progress)
        slope = activation.gain_slope if spec.gain_slope is None else spec.gain_slope
        std = law.std(spec.width, spec.width, slope)
        for order, direction in enumerate(spec.directions):
            rows[index, order] = _table(spec, law, activation, std, direction, measured[key])
        if "backward" in spec.directions and spec.depth >= 3:
            growths.append(_growth(spec, law, activation, measured[key]))
    table = pd.concat([rows[key] for key in sorted(rows)], ignore_index=True)
    return table, pd.DataFrame(growths, columns=list(GROWTH_COLUMNS))


@dataclass
class Readings:
    """ln of the second moments of unit-variance weights, (draws, L) each, and the mean of z²."""

    forward: Array
    backward: Array
    after_norm: float


def _run(
    spec: BatchNormSpec, law: Initializer, activation: Activation, on_progress: Progress | None
) -> Readings:
    import torch

    device = float64_device(spec.device)
    inputs = torch.randn(
        spec.batch, spec.width, dtype=torch.float64, generator=generator(spec.seed, "inputs")
    )
    inputs = (inputs / inputs.square().mean(1, keepdim=True).sqrt()).float().to(device)
    rows = []
    try:
        for draw in range(spec.draws):
            rows.append(_run_draw(spec, law, activation, inputs, draw))
            if on_progress:
                on_progress(draw + 1, spec.draws)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "memory" in str(error):
            raise WorkError(
                f"out of memory at width {spec.width}, batch {spec.batch}: make one of them smaller"
            ) from error
        raise
    forward, backward, after = zip(*rows, strict=True)
    return Readings(np.array(forward), np.array(backward), float(np.mean(after)))


def _run_draw(
    spec: BatchNormSpec, law: Initializer, activation: Activation, inputs: torch.Tensor, draw: int
) -> tuple[Array, Array, float]:
    import torch

    from theory.draw.batch_norm_stacks import NormStack

    purpose = ("batch norm", law.shape, draw)
    weights = generator(spec.seed, "weights", *purpose, device=inputs.device)
    backward = "backward" in spec.directions
    stack = NormStack(spec.depth, spec.width, law, activation, weights)
    linears = [f"linears.{layer}" for layer in range(spec.depth)]
    norms = [f"norms.{layer}" for layer in range(spec.depth)]
    with torch.set_grad_enabled(backward), Probe(stack, linears + norms, backward=backward) as probe:
        stack(inputs)
        log_scale = torch.zeros(spec.depth, dtype=torch.float64)
        if backward:
            cotangents = generator(spec.seed, "cotangents", *purpose, device=inputs.device)
            log_scale = stack.backward(cotangents)
    readings = {
        name: [r for r in probe.readings if r.module.startswith(name)] for name in ("lin", "norm")
    }
    forward = [float(reading.forward["second_moment"]) for reading in readings["lin"]]
    after = [float(reading.forward["second_moment"]) for reading in readings["norm"]]
    gradients = [
        float(reading.backward["second_moment"]) if reading.backward else math.nan
        for reading in readings["lin"]
    ]
    log_input = np.zeros(spec.depth)
    log_input[0] = math.log(spec.input_second_moment)
    return (
        np.log(forward) + log_input,
        np.log(gradients) + 2 * log_scale.numpy() - log_input,
        float(np.mean(after)),
    )


def _table(
    spec: BatchNormSpec, law: Initializer, activation: Activation, std: float, direction: str,
    readings: Readings,
) -> pd.DataFrame:  # fmt: skip
    forward = direction == "forward"
    log_q = getattr(readings, direction) + (2 if forward else -2) * math.log(std)
    expected = (expected_log_second_moments if forward else expected_log_gradients)(
        spec, activation, std
    )
    moments = LogMoments(spec.depth)
    moments.add(log_q[:, :, None])
    slope, z = activation.negative_slope, np.full(spec.depth, np.nan)
    if forward and slope is not None:
        surprise = np.expm1(log_q - expected)
        error = surprise.std(0, ddof=1) / math.sqrt(spec.draws)
        z = normal_score(surprise.mean(0) / np.sqrt(error**2 + ROUNDING**2), spec.draws - 1)
    columns: dict[str, Any] = {
        "initializer": law.name,
        "activation": activation.name,
        "negative_slope": math.nan if slope is None else slope,
        "direction": direction,
        "engine": "modules",
        "layer": np.arange(1, spec.depth + 1),
        "log10_measured": moments.log_of_mean / LN10,
        "log10_theory": expected / LN10,
        "log_mean": moments.mean,
        "log_variance": moments.variance,
        "z": z,
        "dead_fraction": moments.dead_fraction,
        "law": "mean only" if forward and slope is not None else "infinite width",
    }
    return pd.DataFrame({name: columns.get(name, math.nan) for name in COLUMNS})


def _growth(
    spec: BatchNormSpec, law: Initializer, activation: Activation, readings: Readings
) -> dict[str, Any]:
    """The row of ``GROWTH_COLUMNS``: from layer L to 2, the first layer's input being another one."""
    steps = spec.depth - 2
    ends = readings.backward[:, [1, -1]]
    size = np.exp(ends - ends.max(0))
    relative = size / size.mean(0)
    log_growth = np.diff(np.log(size.mean(0)) + ends.max(0))[0] / -steps
    error = (relative[:, 0] - relative[:, 1]).std(ddof=1) / math.sqrt(spec.draws) / steps
    rectifier = activation.is_rectifier
    return {
        "initializer": law.name,
        "activation": activation.name,
        "negative_slope": math.nan if activation.negative_slope is None else activation.negative_slope,
        "width": spec.width,
        "batch": spec.batch,
        "measured": math.exp(log_growth),
        "standard_error": math.exp(log_growth) * error,
        "theory": gradient_growth(activation, spec.batch) if rectifier else math.nan,
        "infinite_batch": gradient_growth(activation),
        "after_norm": readings.after_norm,
    }
