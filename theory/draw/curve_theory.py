"""What theory says of one simulated curve: expectation, log moments and band, forward and backward.

forward, y_l       E q_l = s_l·A₂·E q_{l−1} (+ σ_b²), s_l = fan_in·Var[w_l]    (He et al. 2015, Eq. 7–9)
backward, ∂/∂y_l   E g_l = ŝ_{l+1}·A₂·E g_{l+1},     ŝ_l = fan_out·Var[w_l]   (Eq. 12–13)

The gates of layer l are fair coins, independent of the size of all weights (flip the sign of a row: its
gate turns, and nothing else changes), so the gradient's law is the forward law read from the top: the
factor of ∂/∂y_l is ``finite_width``'s, read after the gate.  The squared norm of ∂/∂W_l is the product
of two independent norms, |∂/∂y_l|²·|x_{l−1}|²: in a net of equal fans it is the same at every layer,
also where the gradients themselves vanish or explode.

Where fans differ, one direction must drift (He et al. 2015, after Eq. 14): with fan_out scaling the
forward product telescopes to n_1/n_L, with fan_in scaling the backward one to n_L/n_1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from theory.activations import Activation
from theory.draw.monte_carlo import Curve, bias_std, weight_std
from theory.initializers import shape_named
from theory.law import finite_width, mean_field
from theory.randomness import stream_seed
from theory.specs import VarianceSpec

Array = NDArray[np.float64]

BAND = (0.025, 0.5, 0.975)
# The law of a chain with biases is sampled with this many exact draws: 0.2 % of a standard deviation.
SAMPLED_DRAWS = 50_000
# Uniform biases need every unit drawn: this many numbers at most.
SAMPLED_NUMBERS = 20_000_000


@dataclass(frozen=True)
class Theory:
    """NaN where theory is silent.  Arrays of shape (L,); ``quantiles`` (L, 3) at ``BAND``.

    law      exact, sampled (exact chain, sampled moments), approximate (not Gaussian) or none
    samples  how many draws the log moments come from
    """

    log_expected: Array
    log_mean: Array
    log_variance: Array
    quantiles: Array
    dead: Array
    law: str
    samples: float = math.inf


@dataclass(frozen=True)
class Chain:
    """The numbers that a curve's theory needs: per layer ln s, ln ŝ and the bias variance."""

    spec: VarianceSpec
    curve: Curve

    @property
    def activation(self) -> Activation:
        return self.curve.activation

    @property
    def units(self) -> tuple[int, ...]:
        """n_1, …, n_L."""
        return self.spec.widths[1:]

    def log_scales(self, fans: tuple[int, ...]) -> Array:
        """ln(fan·Var[w_l]): fan_in forward, fan_out backward."""
        std = weight_std(self.spec, self.curve.initializer, self.activation)
        scales: Array = 2 * np.log(std) + np.log(fans)
        return scales

    @property
    def forward_scales(self) -> Array:
        """ln s_l."""
        return self.log_scales(self.spec.widths[:-1])

    @property
    def backward_scales(self) -> Array:
        """ln ŝ_l."""
        return self.log_scales(self.units)

    @property
    def bias_variances(self) -> tuple[float, ...]:
        """σ_b² of each layer."""
        std = bias_std(self.spec, self.curve.initializer)
        return tuple(value**2 for value in std) if std else (0.0,) * self.spec.depth

    @property
    def has_bias(self) -> bool:
        return any(self.bias_variances)

    @property
    def source(self) -> str:
        """Where the law of ln q comes from; see ``Theory.law``."""
        square = len(set(self.spec.widths)) == 1
        if self.activation.negative_slope is None or (_orthogonal(self.curve) and not square):
            return "none"
        known = shape_named(self.curve.initializer.shape).is_rotation_invariant
        return "exact" if known else "approximate"

    def log_signal(self) -> tuple[Array, Array]:
        """ln of the expected second moments of y_l and of x_{l−1}, each (L,)."""
        log_x, before, after = math.log(self.spec.input_second_moment), [], []
        for log_scale, variance in zip(self.forward_scales, self.bias_variances, strict=True):
            before.append(log_x)
            log_bias = math.log(variance) if variance else -math.inf
            after.append(mean_field.log_add(log_scale + log_x, log_bias))
            log_x = after[-1] + mean_field.log_activation_gain(self.activation, after[-1])
        return np.array(after), np.array(before)


def forward_theory(spec: VarianceSpec, curve: Curve) -> Theory:
    """Theory of the second moment of y_l."""
    chain = Chain(spec, curve)
    expected, _ = chain.log_signal()
    if chain.source == "none":
        return _silent(expected)
    if chain.has_bias:
        return _sampled(chain, expected)
    law = _signal_law(chain.units, curve.activation.gain_slope, False, _orthogonal(curve))
    shift = math.log(spec.input_second_moment) + np.cumsum(chain.forward_scales)
    return Theory(
        expected,
        law.log_mean + shift,
        law.log_variance,
        _band(law) + shift[:, None],
        law.dead_probability,
        chain.source,
    )


def backward_theory(spec: VarianceSpec, curve: Curve) -> Theory:
    """Theory of the second moment of ∂/∂y_l, for a cotangent of second moment 1 at y_L."""
    chain = Chain(spec, curve)
    expected, dead = _gradient(chain), _closed(chain)
    if chain.source == "none":
        return _silent(expected + np.log1p(-dead["below"]))
    depth = spec.depth
    mean, variance, quantiles = np.zeros(depth), np.zeros(depth), np.zeros((depth, len(BAND)))
    hidden = chain.units[:-1][::-1]
    if hidden:
        law = _signal_law(hidden, curve.activation.gain_slope, True, _orthogonal(curve))
        mean[:-1], variance[:-1] = law.log_mean[::-1], law.log_variance[::-1]
        quantiles[:-1] = _band(law)[::-1]
    shift = _from_the_top(chain.backward_scales)
    return Theory(
        expected + np.log1p(-dead["below"]),
        mean + shift,
        variance,
        quantiles + shift[:, None],
        dead["anywhere"],
        chain.source,
    )


def log_weight_gradient(spec: VarianceSpec, curve: Curve) -> Array:
    """ln of the expected squared norm of ∂/∂W_l, (L,): |∂/∂y_l|²·|x_{l−1}|², the two independent."""
    chain = Chain(spec, curve)
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
    q = math.exp(min(max(log_q, -600.0), 600.0))
    return math.log(mean_field.chi_1(activation, 1.0, q))


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


def _silent(expected: Array) -> Theory:
    nothing = np.full(len(expected), np.nan)
    return Theory(expected, nothing, nothing, np.full((len(expected), 3), np.nan), nothing, "none")


def _sampled(chain: Chain, expected: Array) -> Theory:
    """With biases the layers' factors are not independent: the chain is drawn from its law."""
    spec, uniform = chain.spec, chain.curve.initializer.draws_bias
    draws = SAMPLED_DRAWS
    if uniform:
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
    )
    rows = [(log_q.mean(), log_q.var(ddof=1), np.quantile(log_q, BAND)) for log_q in layers]
    mean, var, quantiles = (np.array(column) for column in zip(*rows, strict=True))
    source = "approximate" if uniform else "sampled"
    return Theory(expected, mean, var, quantiles, np.zeros(spec.depth), source, draws)


def _orthogonal(curve: Curve) -> bool:
    return shape_named(curve.initializer.shape).is_orthogonal


@lru_cache(maxsize=64)
def _band(law: finite_width.SignalLaw) -> Array:
    """The quantiles at ``BAND``: the same for every initializer, but for a shift."""
    return law.quantiles(BAND)


@lru_cache(maxsize=64)
def _signal_law(
    units: tuple[int, ...], slope: float, gated: bool, orthogonal: bool
) -> finite_width.SignalLaw:
    return finite_width.SignalLaw(units, slope, gated_reading=gated, orthogonal=orthogonal)
