"""Exact laws at finite width: what one network of n units per layer does, not the average one.

One fixed input, independent Gaussian weights, no bias, a rectifier of slope a.  Given the layer
before, the n units y_i are independent N(0, v) with v = s·(mean of x²), so with z ~ N(0, 1)

    after the activation    mean x² = v·S/n,   S = Σ φ(z_i)² = χ²_K + a²·χ²_{n−K},  K ~ Bin(n, ½)
    before it               mean y² = v·T/n,   T = χ²_n

and the layers' factors are independent.  Everything below follows (Hanin & Nica 2020; for the gate
count K, Hanin 2018).  Write S = T·R.  T is the squared length of a Gaussian vector, R = B + a²(1−B)
depends on its direction only, B | K ~ Beta(K/2, (n−K)/2), so T and R are independent:

    mean       E[S/n]  = A₂                                (every width)
    spread     E[(S/n)²]/E[S/n]² = 1 + c(a)/n,   c(a) = 3A₄/A₂² − 1;   for T: 1 + 2/n
    log mean   E[ln T] = ψ(n/2) + ln 2;    ReLU: E[ln S | K > 0] = E[ψ(K/2) | K > 0] + ln 2
    log var    Var[ln T] = ψ'(n/2);        ReLU: E[ψ'(K/2) | K > 0] + Var[ψ(K/2) | K > 0]
    dead       P(K = 0) = 2⁻ⁿ, a ReLU layer that passes nothing on

Orthogonal weights keep the length: their factor is R alone.  The law of ln q_l is the sum of the
layers' independent logs.  Its quantiles come from the product of their characteristic functions by
Gil-Pelaez inversion (1951): no sampling noise and no log-normal approximation.  R of a few units
has atoms (all gates open, or none) and a density without bound beside them; while their share is
felt, after few orthogonal layers, its logs are added on a lattice that holds the atoms.  The sampler
at the end draws from the same law; each is the other's test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

# A characteristic function above this at the end of its grid has not decayed: the law has atoms.
UNDECAYED = 1e-6
LATTICE = 2**16


def spread_coefficient(negative_slope: float) -> float:
    """c(a) = 6(1 + a⁴)/(1 + a²)² − 1: E[(mean x²)²]/E[mean x²]² = 1 + c(a)/n per layer.

    >>> spread_coefficient(0), spread_coefficient(1)
    (5.0, 2.0)
    """
    return 6 * (1 + negative_slope**4) / (1 + negative_slope**2) ** 2 - 1


def dead_probability(units: int, negative_slope: float) -> float:
    """Probability 2⁻ⁿ that every one of ``units`` ReLUs is inactive; 0 for other slopes."""
    return 2.0**-units if negative_slope == 0 else 0.0


class LogFactor:
    """The law of the log of one layer's factor, conditional on the layer not being dead.

    A subclass gives ``mean``, ``variance`` and ``characteristic(omega)`` = E[exp(iω·(X − mean))].
    """

    mean: float
    variance: float

    def characteristic(self, omega: Array) -> Complex:
        """E[exp(iω(X − E X))] for each of ``omega``; same shape."""
        raise NotImplementedError


class LogLength(LogFactor):
    """ln(T/n), T = χ²_n: the squared length of n Gaussians."""

    def __init__(self, units: int) -> None:
        self.units = units
        self.mean = float(special.digamma(units / 2) + np.log(2 / units))
        self.variance = float(special.polygamma(1, units / 2))

    def characteristic(self, omega: Array) -> Complex:
        half = self.units / 2
        log = special.loggamma(half + 1j * omega) - special.gammaln(half)
        return _exp(log + 1j * omega * (np.log(2 / self.units) - self.mean))


class LogRectifiedSum(LogFactor):
    """ln(S/n) of a ReLU (slope 0), K > 0: a mixture of χ²_K over K ~ Bin(n, ½)."""

    def __init__(self, units: int) -> None:
        active, weight = binomial_half(units)
        alive = active > 0
        self.units = units
        self.active, self.weight = active[alive], weight[alive] / weight[alive].sum()
        log_mean = special.digamma(self.active / 2) + np.log(2 / units)
        self.mean = float(self.weight @ log_mean)
        within = special.polygamma(1, self.active / 2)
        self.variance = float(self.weight @ (within + (log_mean - self.mean) ** 2))

    def characteristic(self, omega: Array) -> Complex:
        half = self.active[:, None] / 2
        log = special.loggamma(half + 1j * omega) - special.gammaln(half)
        mixed: Complex = self.weight @ np.exp(log)
        return mixed * _exp(1j * omega * (np.log(2 / self.units) - self.mean))


class LogDirection(LogFactor):
    """ln R, R = B + a²(1 − B), for a slope a ≠ 0: the direction's part of ln S.

    The density of logit(B), mixed over K, is analytic with exponential tails: the trapezoid rule on
    an even grid converges geometrically.  K = 0 and K = n are atoms at a² and 1.
    """

    def __init__(self, units: int, negative_slope: float) -> None:
        active, weight = binomial_half(units)
        inner = (active > 0) & (active < units)
        alpha, beta = active[inner] / 2, (units - active[inner]) / 2
        reach = 90.0 if units <= 128 else min(90.0, 60.0 / np.sqrt(units))
        step = min(0.25, 0.6 / np.sqrt(units))
        logit = np.arange(-reach, reach + step, step)
        log_b, log_rest = special.log_expit(logit), special.log_expit(-logit)
        exponent = np.outer(log_b, alpha) + np.outer(log_rest, beta) - special.betaln(alpha, beta)
        density = step * (np.exp(exponent) @ weight[inner])
        mass = np.concatenate([density, weight[~inner]])
        slope_squared = negative_slope**2
        value = np.log(np.exp(log_b) + slope_squared * np.exp(log_rest))
        atoms = np.where(active[~inner] == 0, np.log(slope_squared), 0.0)
        self.mass = mass / mass.sum()
        values = np.concatenate([value, atoms])
        self.mean = float(self.mass @ values)
        self.values = values - self.mean
        self.variance = float(self.mass @ self.values**2)

    def characteristic(self, omega: Array) -> Complex:
        keep = self.mass > 1e-18
        mass, values = self.mass[keep], self.values[keep]
        parts = [np.exp(1j * np.outer(part, values)) @ mass for part in np.array_split(omega, 8)]
        return np.concatenate(parts)


class LogProduct(LogFactor):
    """The log of a product of independent factors, or (power −1) of a quotient."""

    def __init__(self, factors: Sequence[tuple[LogFactor, int]]) -> None:
        self.factors = factors
        self.mean = sum(power * factor.mean for factor, power in factors)
        self.variance = max(sum(power * factor.variance for factor, power in factors), 0.0)

    def characteristic(self, omega: Array) -> Complex:
        result = np.ones_like(omega, dtype=np.complex128)
        for factor, power in self.factors:
            result = result * factor.characteristic(omega) ** power
        return result


def binomial_half(units: int) -> tuple[Array, Array]:
    """The values of K ~ Bin(units, ½) that carry all but 1e-18 of the mass, and their weights."""
    if units <= 64:
        active = np.arange(units + 1)
    else:
        reach = int(np.ceil(4.6 * np.sqrt(units)))
        active = np.arange(max(units // 2 - reach, 0), min(units // 2 + reach, units) + 1)
    # each weight from the one before: P(k)/P(k − 1) = (n − k + 1)/k
    weight = np.concatenate([[1.0], np.cumprod((units - active[:-1]) / active[1:])])
    return active.astype(np.float64), weight / weight.sum()


@lru_cache(maxsize=256)
def log_factor(units: int, negative_slope: float, gated: bool, orthogonal: bool) -> LogFactor:
    """The law of the log of one layer's factor.

    gated       after the activation (S or R); otherwise before it (T, or exactly 1)
    orthogonal  for weights that keep the length: the direction's part alone
    """
    length = LogLength(units)
    if not gated or abs(negative_slope) == 1:
        return LogProduct([]) if orthogonal else length
    if negative_slope == 0:
        rectified = LogRectifiedSum(units)
        return LogProduct([(rectified, 1), (length, -1)]) if orthogonal else rectified
    direction = LogDirection(units, negative_slope)
    return direction if orthogonal else LogProduct([(direction, 1), (length, 1)])


@dataclass(frozen=True)
class SignalLaw:
    """The law of ln q_l along a dense stack, up to the deterministic scale Π s_k·(mean x_0²).

    units           n_l of every layer, in the order in which the signal passes
    negative_slope  a
    gated_reading   False: q_l is read before layer l's activation (forward pre-activations)
    orthogonal      weights that keep the length instead of Gaussian ones (square layers)
    """

    units: tuple[int, ...]
    negative_slope: float
    gated_reading: bool = False
    orthogonal: bool = False

    def _factor(self, layer: int, gated: bool) -> LogFactor:
        return log_factor(self.units[layer], self.negative_slope, gated, self.orthogonal)

    def _sums(self, attribute: str) -> Array:
        layers = range(len(self.units))
        gated: Array = np.array([getattr(self._factor(i, True), attribute) for i in layers])
        if self.gated_reading:
            return gated.cumsum()
        read: Array = np.array([getattr(self._factor(i, False), attribute) for i in layers])
        return np.concatenate([[0.0], gated.cumsum()[:-1]]) + read

    @cached_property
    def log_mean(self) -> Array:
        """E[ln q_l] without the scale, shape (L,)."""
        return self._sums("mean")

    @cached_property
    def log_variance(self) -> Array:
        """Var[ln q_l], shape (L,)."""
        return self._sums("variance")

    @cached_property
    def dead_probability(self) -> Array:
        """Probability that a layer before the reading was dead, shape (L,)."""
        dead = [dead_probability(n, self.negative_slope) for n in self.units]
        alive = (1 - np.array(dead)).cumprod()
        return 1 - (alive if self.gated_reading else np.concatenate([[1.0], alive[:-1]]))

    def quantiles(self, probabilities: Sequence[float] = (0.025, 0.5, 0.975)) -> Array:
        """Exact quantiles of ln q_l without the scale, shape (L, len(probabilities)).

        They are those of a network that is not dead.

        The characteristic function is taken on one midpoint grid of ω: fine enough that no layer's
        law wraps around within 24 standard deviations, long enough for the narrowest layer (12/std
        for a bell, 25 more for the e^{−πω/2} decay of the log of very few χ² variables).  Where it
        has not decayed at the end, the law has atoms: see ``direction_quantiles``.
        """
        std = np.sqrt(self.log_variance)
        spread = std[std > 1e-9]
        result = np.repeat(self.log_mean[:, None], len(probabilities), axis=1)
        if not len(spread):
            return result
        step = np.pi / (24 * spread.max())
        omega = (np.arange(int(np.ceil((12 / spread.min() + 25) / step))) + 0.5) * step
        last = len(omega) // 8
        for layer, characteristic in enumerate(self._characteristics(omega)):
            if std[layer] <= 1e-9:
                continue
            if self.orthogonal and np.abs(characteristic[-last:]).max() > UNDECAYED:
                passed = self.units[: layer + self.gated_reading]
                result[layer] = direction_quantiles(passed, self.negative_slope, probabilities)
            else:
                result[layer] += std[layer] * _invert(
                    characteristic, omega * std[layer], np.asarray(probabilities)
                )
        return result

    def _characteristics(self, omega: Array) -> Iterator[Complex]:
        cache: dict[tuple[int, bool], Complex] = {}

        def factor(layer: int, gated: bool) -> Complex:
            key = (self.units[layer], gated)
            if key not in cache:
                cache[key] = self._factor(layer, gated).characteristic(omega)
            return cache[key]

        passed = np.ones_like(omega, dtype=np.complex128)
        for layer in range(len(self.units)):
            before, passed = passed, passed * factor(layer, True)
            yield passed if self.gated_reading else before * factor(layer, False)


def _invert(characteristic: Complex, omega: Array, probabilities: Array) -> Array:
    """Quantiles of a standardised law from its characteristic function on a midpoint grid.

    Gil-Pelaez: F(x) = ½ − (1/π)∫₀^∞ Im[e^{−iωx}·characteristic(ω)]/ω dω, solved by safeguarded Newton.
    """
    step = omega[1] - omega[0] if len(omega) > 1 else 2 * omega[0]
    needed = np.flatnonzero(np.abs(characteristic) > 1e-17)
    last = int(needed[-1]) + 1 if len(needed) else 1
    omega, characteristic = omega[:last], characteristic[:last]
    x = special.ndtri(probabilities)
    low, high = np.full_like(x, -24.0), np.full_like(x, 24.0)
    for _ in range(60):
        wave = np.exp(-1j * np.outer(x, omega)) * characteristic
        excess = 0.5 - (step / np.pi) * (wave.imag / omega).sum(1) - probabilities
        density = (step / np.pi) * wave.real.sum(1)
        low, high = np.where(excess < 0, x, low), np.where(excess < 0, high, x)
        with np.errstate(divide="ignore", invalid="ignore"):
            newton = x - excess / density
        inside = (newton > low) & (newton < high)
        updated = np.where(inside, newton, (low + high) / 2)
        done = np.max(np.abs(updated - x)) < 1e-10
        x = updated
        if done:
            break
    return x


def direction_quantiles(
    units: Sequence[int], negative_slope: float, probabilities: Sequence[float]
) -> Array:
    """Quantiles of the sum of ln R over layers of so many ``units``, each not dead, |a| ≠ 1.

    The sum is taken on a lattice from its largest value down, on which the atoms 0 and ln a² lie, so
    that no value beyond them appears; good to half of one of its ``LATTICE`` steps.  A slope above 1
    is one below, seen from the other side: ln R_a = ln a² + ln R_{1/a} in law.
    """
    if abs(negative_slope) > 1:
        shift = 2 * len(units) * float(np.log(abs(negative_slope)))
        above_one: Array = direction_quantiles(units, 1 / negative_slope, probabilities) + shift
        return above_one
    if negative_slope:
        lowest = -2 * np.log(abs(negative_slope))
        step = lowest / max(LATTICE // len(units), 1)
        size = len(units) * round(lowest / step) + 1
    else:
        factors = [log_factor(n, 0.0, True, True) for n in units]
        spread = np.sqrt(sum(factor.variance for factor in factors))
        # ln R has a tail of e^{x/2} at least: 60 leave 1e-13
        size = LATTICE
        step = (24 * spread + 60 - sum(factor.mean for factor in factors)) / size
    edges = -(np.arange(size + 1) - 0.5) * step
    transform = np.ones(size + 1, dtype=np.complex128)
    for n, layers in Counter(units).items():
        mass = -np.diff(direction_distribution(n, negative_slope, edges))
        transform = transform * np.fft.rfft(mass, 2 * size) ** layers
    mass = np.fft.irfft(transform, 2 * size)[:size]
    above = np.concatenate([[0.0], mass.cumsum()])  # P(sum > −(k − ½)·step)
    wanted = 1 - np.asarray(probabilities) + 1e-12
    values: Array = -step * (np.searchsorted(above, wanted, side="right") - 1.0)
    return values


def direction_distribution(units: int, negative_slope: float, log_r: Array) -> Array:
    """P(ln R ≤ ``log_r``), |a| < 1, of a layer that is not dead; same shape as ``log_r``."""
    active, weight = binomial_half(units)
    if negative_slope == 0:
        weight = np.where(active > 0, weight, 0.0) / (1 - weight[active == 0].sum())
    slope_squared = negative_slope**2
    # R = B + a²(1 − B), so B = (R − a²)/(1 − a²)
    share = np.clip((np.exp(log_r) - slope_squared) / (1 - slope_squared), 0.0, 1.0)
    result = np.zeros_like(log_r)
    for count, part in zip(active, weight, strict=True):
        if count == 0:
            result += part * (np.exp(log_r) >= slope_squared)
        elif count == units:
            result += part * (log_r >= 0)
        else:
            result += part * special.betainc(count / 2, (units - count) / 2, share)
    return result


def _exp(values: Complex) -> Complex:
    result: Complex = np.exp(values)
    return result


def sample_log_second_moments(
    units: Sequence[int],
    negative_slope: float,
    log_scales: Sequence[float],
    draws: int,
    rng: np.random.Generator,
    *,
    log_input: float = 0.0,
    bias_variance: float | Sequence[float] = 0.0,
    uniform_bias: bool = False,
    orthogonal: bool = False,
) -> Iterator[Array]:
    """ln q_l of ``draws`` networks, drawn from their law without drawing a weight.

    Yields one array of shape (draws,) per layer, before its activation; −∞ where the network is
    dead.  Gaussian weights, and biases of variance ``bias_variance`` (one, or one per layer): Gaussian
    ones join the weights' variance.  Uniform ones are drawn unit by unit, and so is what ``orthogonal``
    square weights make: a vector of fixed length in a uniform direction, plus the biases.
    """
    log_power = np.full(draws, log_input)
    variances = np.broadcast_to(bias_variance, len(units))
    for n, log_scale, variance in zip(units, log_scales, variances, strict=True):
        log_bias = np.log(variance) if variance else -np.inf
        log_v = np.logaddexp(log_scale + log_power, log_bias)
        if uniform_bias or orthogonal:
            share = np.exp(log_bias - log_v)[:, None]  # of the variance that is the bias's
            unit = rng.standard_normal((draws, n))
            if orthogonal:
                unit *= np.sqrt(n) / np.linalg.norm(unit, axis=1, keepdims=True)
            unit *= np.sqrt(1 - share)
            bias = rng.uniform(-1, 1, (draws, n)) if uniform_bias else rng.standard_normal((draws, n))
            unit += np.sqrt((3 if uniform_bias else 1) * share) * bias
            positive = (np.maximum(unit, 0) ** 2).sum(1)
            rest = (np.minimum(unit, 0) ** 2).sum(1)
        else:
            active = rng.binomial(n, 0.5, draws)
            positive = 2 * rng.standard_gamma(active / 2)
            rest = 2 * rng.standard_gamma((n - active) / 2)
        with np.errstate(divide="ignore"):
            yield log_v + np.log((positive + rest) / n)
            log_power = log_v + np.log((positive + negative_slope**2 * rest) / n)
