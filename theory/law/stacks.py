"""What theory says of one simulated curve: expectation, log moments and band, and its growth per layer.

Dense stacks first:

forward, y_l       E q_l = s_l·A₂·E q_{l−1} (+ σ_b²), s_l = fan_in·Var[w_l]    (He et al. 2015, Eq. 7–9)
backward, ∂/∂y_l   E g_l = ŝ_{l+1}·A₂·E g_{l+1},     ŝ_l = fan_out·Var[w_l]   (Eq. 12–13)

The gates of layer l are fair coins, independent of the size of all weights (flip the sign of a row: its
gate turns, and nothing else changes), so the gradient's law is the forward law read from the top: the
factor of ∂/∂y_l is ``finite_width``'s, read after the gate.  The squared norm of ∂/∂W_l is the product
of two independent norms, |∂/∂y_l|²·|x_{l−1}|²: in a net of equal fans it is the same at every layer,
also where the gradients themselves vanish or explode.

Where fans differ, one direction must drift (He et al. 2015, after Eq. 14): with fan_out scaling the
forward product telescopes to n_1/n_L, with fan_in scaling the backward one to n_L/n_1.

Convolutions (``law.convolution``) and stacks with batch norm (``law.batch_norm``) have an expectation
and no law of ln q.  Whether a curve is stable is a question of its deep layers: ``asymptotic_growth``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from theory.activations import Activation
from theory.errors import RequestError, check_choice
from theory.initializers import Initializer, shape_named
from theory.law import batch_norm, convolution, finite_width, mean_field
from theory.randomness import stream_seed
from theory.specs import BatchNormSpec, ConvSpec, EnsembleSpec, VarianceSpec

Array = NDArray[np.float64]

BAND = (0.025, 0.5, 0.975)
# The law of a chain with biases is sampled with this many exact draws: 0.2 % of a standard deviation.
SAMPLED_DRAWS = 50_000
# Uniform biases need every unit drawn: this many numbers at most.
SAMPLED_NUMBERS = 20_000_000
# A factor per layer within 2 % of one is stable: less than a factor 2 over 30 layers.
STABLE = math.log10(1.02)


@dataclass(frozen=True)
class Theory:
    """NaN where theory is silent.  Arrays of shape (L,); ``quantiles`` (L, 3) at ``BAND``.

    law      exact, sampled (exact chain, sampled moments) or approximate (not Gaussian); where ln q has
             no known law: mean only (the expectation is exact), infinite width, or none (a limit)
    samples  how many draws the log moments come from
    """

    log_expected: Array
    log_mean: Array
    log_variance: Array
    quantiles: Array
    dead: Array
    law: str
    samples: float = math.inf
    log_skewness: Array | float = 0.0  # of ln q; 0 where it is not known


def theory(spec: EnsembleSpec, law: Initializer, activation: Activation, direction: str) -> Theory:
    """Theory of the second moment of y_l (forward) or ∂/∂y_l (backward) of one curve of ``spec``."""
    forward = check_choice("direction", direction, ("forward", "backward")) == "forward"
    if isinstance(spec, VarianceSpec):
        return (forward_theory if forward else backward_theory)(spec, law, activation)
    std = spec.weight_std(law, activation)[0]
    if isinstance(spec, ConvSpec):
        bias = _bias_variances(spec, law)[0]
        powers = convolution.expected_log_powers(spec, activation, std, bias, direction)
        known = "mean only" if activation.is_rectifier else "none"
        return _silent(convolution.expected_log_means(powers), known)
    if isinstance(spec, BatchNormSpec):
        known = "mean only" if forward and activation.is_rectifier else "infinite width"
        gradients, moments = batch_norm.expected_log_gradients, batch_norm.expected_log_second_moments
        return _silent((moments if forward else gradients)(spec, activation, std), known)
    raise _unknown(spec)


def _unknown(spec: EnsembleSpec) -> RequestError:
    return RequestError(f"no theory of the second moments of {type(spec).__name__} is known")


def _bias_variances(spec: EnsembleSpec, law: Initializer) -> tuple[float, ...]:
    """σ_b² of each layer."""
    std = spec.bias_std(law)
    return tuple(value**2 for value in std) if std else (0.0,) * spec.depth


# ---------------------------------------------------------------------- growth per layer


def asymptotic_growth(
    spec: EnsembleSpec, law: Initializer, activation: Activation, direction: str
) -> float:
    """log10 of the factor per layer that a deep stack of this kind comes to, its borders apart.

    A rectifier's is the same in every layer (the geometric mean, where widths differ), but that biases
    keep up a signal that would vanish.  Of a smooth activation the signal tends to a fixed point of
    the mean field, where it stays, vanishes or grows; gradients then grow by χ₁ per layer (Schoenholz
    et al. 2017).  With batch norm the signal stays and the gradient grows by λ_B.  0 for a single
    layer, which has no growth.
    """
    forward = check_choice("direction", direction, ("forward", "backward")) == "forward"
    if spec.depth == 1:
        return 0.0
    if isinstance(spec, BatchNormSpec):
        batch = spec.batch if activation.is_rectifier else math.inf
        growth = 1.0 if forward else batch_norm.gradient_growth(activation, batch)
        return math.log10(growth)
    if not isinstance(spec, (VarianceSpec, ConvSpec)):
        raise _unknown(spec)
    log_weights = 2.0 * float(np.log(spec.weight_std(law, activation)[1:]).mean())
    # fans of the layers that an activation feeds
    fan_in, fan_out = (float(mean) for mean in np.log(spec.fans[1:]).mean(0))
    log_scale, log_scale_back = log_weights + fan_in, log_weights + fan_out
    biases = float(np.mean(_bias_variances(spec, law)))
    if activation.is_rectifier:
        log_growth = math.log(activation.second_moment) + (log_scale if forward else log_scale_back)
        held = forward and biases > 0  # biases keep a signal up that would vanish
        return (max(log_growth, 0.0) if held else log_growth) / math.log(10)
    log_q = _first_log_power(spec, law, activation, biases)
    points = mean_field.fixed_points(activation, _exp(log_scale), biases)
    limit = points.limit(_exp(log_q))
    if forward:
        moving = limit is not None and limit.q in (0.0, math.inf)
        return _log10(limit.slope) if limit and moving else 0.0
    chi = _exp(_log_gate(activation, log_q) + log_scale) if limit is None else limit.chi_1
    return _log10(chi) + (log_scale_back - log_scale) / math.log(10)


def _first_log_power(
    spec: EnsembleSpec, law: Initializer, activation: Activation, bias_variance: float
) -> float:
    """ln E[q_1]."""
    std, fan_in = spec.weight_std(law, activation)[0], spec.fans[0][0]
    log_bias = math.log(bias_variance) if bias_variance else -math.inf
    log_scale = 2 * math.log(std) + math.log(fan_in)
    return mean_field.log_add(log_scale + math.log(spec.input_second_moment), log_bias)


def _exp(log: float) -> float:
    """e^``log``, or what is as good as 0 or ∞ for an activation."""
    return math.exp(min(max(log, -600.0), 600.0))


def _log10(factor: float) -> float:
    return math.log10(factor) if factor > 0 else -math.inf


def border_growth(
    spec: EnsembleSpec, law: Initializer, activation: Activation, direction: str
) -> float:
    """log10 of the factor per layer that the borders of zero-padded images take, from end to end.

    NaN for other stacks, and for a single layer.
    """
    if not isinstance(spec, ConvSpec) or spec.padding != "zero" or spec.depth == 1:
        return math.nan
    std, bias = spec.weight_std(law, activation)[0], _bias_variances(spec, law)[0]
    powers = convolution.expected_log_powers(spec, activation, std, bias, direction)
    free = convolution.log_borderless(spec, activation, std, bias, direction)
    taken = convolution.expected_log_means(powers) - free
    change = float(taken[-1] - taken[0]) * (1 if direction == "forward" else -1)
    return change / (spec.depth - 1) / math.log(10)


def verdict(log10_growth: float) -> str:
    """stable, vanishing or exploding, for a factor of the second moment per layer.

    >>> verdict(0.0), verdict(-0.301), verdict(2.1)
    ('stable', 'vanishing', 'exploding')
    """
    if abs(log10_growth) < STABLE:
        return "stable"
    return "exploding" if log10_growth > 0 else "vanishing"


# -------------------------------------------------------------------------- dense stacks


@dataclass(frozen=True)
class Chain:
    """The numbers that a dense curve's theory needs, per layer.

    units            n_1, …, n_L
    forward_scales   ln s_l = ln(n_{l−1}·Var[w_l]), backward_scales ln ŝ_l = ln(n_l·Var[w_l])
    bias_variances   σ_b²
    """

    spec: VarianceSpec
    law: Initializer
    activation: Activation
    units: tuple[int, ...]
    forward_scales: Array
    backward_scales: Array
    bias_variances: tuple[float, ...]

    @classmethod
    def of(cls, spec: VarianceSpec, law: Initializer, activation: Activation) -> Chain:
        log_variances, biases = 2 * np.log(spec.weight_std(law, activation)), _bias_variances(spec, law)
        forward, back = (log_variances + np.log(fans) for fans in (spec.widths[:-1], spec.widths[1:]))
        return cls(spec, law, activation, spec.widths[1:], forward, back, biases)

    @property
    def has_bias(self) -> bool:
        return any(self.bias_variances)

    @property
    def orthogonal(self) -> bool:
        return shape_named(self.law.shape).is_orthogonal

    @property
    def source(self) -> str:
        """Where the law of ln q comes from; see ``Theory.law``."""
        square = len(set(self.spec.widths)) == 1
        if self.activation.negative_slope is None or (self.orthogonal and not square):
            return "none"
        return "exact" if shape_named(self.law.shape).is_rotation_invariant else "approximate"

    def log_signal(self) -> tuple[Array, Array]:
        """ln of the expected second moments of y_l and of x_{l−1}, each (L,)."""
        phi, log_x = self.activation, math.log(self.spec.input_second_moment)
        scales, biases = self.forward_scales.tolist(), self.bias_variances
        log_y = mean_field.log_second_moments(phi, scales, log_x, biases)
        behind = [log_q + mean_field.log_activation_gain(phi, log_q) for log_q in log_y[:-1]]
        return np.array(log_y), np.array([log_x, *behind])


def forward_theory(spec: VarianceSpec, law: Initializer, activation: Activation) -> Theory:
    """Theory of the second moment of y_l."""
    chain = Chain.of(spec, law, activation)
    expected, _ = chain.log_signal()
    if chain.source == "none":
        return _silent(expected)
    if chain.has_bias:
        return _sampled(chain, expected)
    signal = _signal_law(chain.units, activation.gain_slope, False, chain.orthogonal)
    shift = math.log(spec.input_second_moment) + np.cumsum(chain.forward_scales)
    return Theory(
        expected,
        signal.log_mean + shift,
        signal.log_variance,
        _band(signal) + shift[:, None],
        signal.dead_probability,
        chain.source,
        log_skewness=_skewness(chain, chain.units, gated=False),
    )


def backward_theory(spec: VarianceSpec, law: Initializer, activation: Activation) -> Theory:
    """Theory of the second moment of ∂/∂y_l, for a cotangent of second moment 1 at y_L."""
    chain = Chain.of(spec, law, activation)
    expected, dead = _gradient(chain), _closed(chain)
    if chain.source == "none":
        return _silent(expected + np.log1p(-dead["below"]))
    depth = spec.depth
    skewness = np.zeros(depth)
    mean, variance, quantiles = np.zeros(depth), np.zeros(depth), np.zeros((depth, len(BAND)))
    hidden = chain.units[:-1][::-1]
    if hidden:
        signal = _signal_law(hidden, activation.gain_slope, True, chain.orthogonal)
        mean[:-1], variance[:-1] = signal.log_mean[::-1], signal.log_variance[::-1]
        quantiles[:-1] = _band(signal)[::-1]
        skewness[:-1] = _skewness(chain, hidden, gated=True)[::-1]
    shift = _from_the_top(chain.backward_scales)
    return Theory(
        expected + np.log1p(-dead["below"]),
        mean + shift,
        variance,
        quantiles + shift[:, None],
        dead["anywhere"],
        chain.source,
        log_skewness=skewness,
    )


def log_weight_gradient(spec: VarianceSpec, law: Initializer, activation: Activation) -> Array:
    """ln of the expected squared norm of ∂/∂W_l, (L,): |∂/∂y_l|²·|x_{l−1}|², the two independent."""
    chain = Chain.of(spec, law, activation)
    _, log_x = chain.log_signal()
    sizes = np.log(spec.widths[:-1]) + np.log(chain.units)
    result: Array = _gradient(chain) + log_x + sizes
    return result


def _gradient(chain: Chain) -> Array:
    """ln of the expected gradient at y_l, given that no layer below l is dead."""
    log_q, _ = chain.log_signal()
    gates = [_log_gate(chain.activation, value) for value in log_q[:-1]]
    steps: Array = chain.backward_scales[1:] + np.array(gates)
    return np.concatenate([steps[::-1].cumsum()[::-1], [0.0]])


def _log_gate(activation: Activation, log_q: float) -> float:
    """ln E[φ'(√q·z)²]: A₂ for a rectifier."""
    if activation.is_rectifier:
        return mean_field.log_activation_gain(activation, log_q)
    return math.log(mean_field.chi_1(activation, 1.0, _exp(log_q)))


def _closed(chain: Chain) -> dict[str, Array]:
    """Probability that gates are all shut: in a layer ``below`` l, and where it stops ∂/∂y_l at all.

    Without biases a dead layer silences every layer above it, so it stops every gradient.
    """
    slope = chain.activation.gain_slope if chain.activation.is_rectifier else 1.0
    alive = 1 - np.array([finite_width.dead_probability(n, slope) for n in chain.units[:-1]])
    above = np.concatenate([alive[::-1].cumprod()[::-1], [1.0]])
    if chain.has_bias:
        return {"below": np.zeros(chain.spec.depth), "anywhere": 1 - above}
    below = np.concatenate([[1.0], alive.cumprod()])
    anywhere = np.full(chain.spec.depth, 1 - below[-1])
    anywhere[-1] = 0.0
    below[-1] = 1.0  # the cotangent itself
    return {"below": 1 - below, "anywhere": anywhere}


def _from_the_top(log_scales: Array) -> Array:
    """Σ_{k>l} of ``log_scales``, (L,)."""
    return np.concatenate([log_scales[:0:-1].cumsum()[::-1], [0.0]])


def _silent(expected: Array, known: str = "none") -> Theory:
    nothing = np.full(len(expected), np.nan)
    return Theory(expected, nothing, nothing, np.full((len(expected), 3), np.nan), nothing, known)


def _sampled(chain: Chain, expected: Array) -> Theory:
    """With biases the layers' factors are not independent: the chain is drawn from its law."""
    spec, uniform = chain.spec, chain.law.draws_bias
    draws = SAMPLED_DRAWS
    if uniform or chain.orthogonal:
        draws = max(500, min(draws, SAMPLED_NUMBERS // (spec.width * spec.depth)))
    layers = finite_width.sample_log_second_moments(
        chain.units,
        chain.activation.gain_slope,
        list(chain.forward_scales),
        draws,
        np.random.default_rng(stream_seed(spec.seed, "law")),
        log_input=math.log(spec.input_second_moment),
        bias_variance=chain.bias_variances,
        uniform_bias=uniform,
        orthogonal=chain.orthogonal,
    )
    rows = [
        (log_q.mean(), log_q.var(ddof=1), np.quantile(log_q, BAND), _skew(log_q)) for log_q in layers
    ]
    mean, var, quantiles, skewness = (np.array(column) for column in zip(*rows, strict=True))
    source = "sampled" if chain.source == "exact" else "approximate"
    return Theory(expected, mean, var, quantiles, np.zeros(spec.depth), source, draws, skewness)


def _skew(values: Array) -> float:
    """Third central moment over σ³; scipy.stats, which has it, takes a second to load."""
    centered = values - values.mean()
    return float(np.mean(centered**3) / np.mean(centered**2) ** 1.5)


def _skewness(chain: Chain, units: tuple[int, ...], *, gated: bool) -> Array:
    """Skewness of ln q after each of ``units`` layers, read before the last gate or after it."""

    def cumulants(gate: bool) -> Array:
        slope = chain.activation.gain_slope
        return np.array([_cumulants(n, slope, gate, chain.orthogonal) for n in units]).T

    variance, third = cumulants(True).cumsum(1)
    if not gated:
        below = np.array([variance, third]) - cumulants(True)
        variance, third = below + cumulants(False)
    spread = variance**1.5
    skewness: Array = np.divide(third, spread, out=np.zeros_like(spread), where=spread > 0)
    return skewness


@lru_cache(maxsize=256)
def _cumulants(units: int, slope: float, gated: bool, orthogonal: bool) -> tuple[float, float]:
    """Variance and third cumulant of ln of one layer's factor.

    Of ln E[e^{iω(X − E X)}] = −κ₂ω²/2 − iκ₃ω³/6 + …, the imaginary part at a small ω.
    """
    factor = finite_width.log_factor(units, slope, gated, orthogonal)
    if factor.variance < 1e-12:
        return 0.0, 0.0
    omega = 0.05 / math.sqrt(factor.variance)
    wave = factor.characteristic(np.array([omega] * 8))[0]
    return factor.variance, -6 * float(np.angle(wave)) / omega**3


@lru_cache(maxsize=64)
def _band(signal: finite_width.SignalLaw) -> Array:
    """The quantiles at ``BAND``: the same for every initializer, but for a shift."""
    return signal.quantiles(BAND)


_signal_law = lru_cache(maxsize=64)(finite_width.SignalLaw)
