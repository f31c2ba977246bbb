"""Exact laws against published values, and against matrices that are really drawn and multiplied."""

import math

import numpy as np
import pytest
from drawn import squared_ratio
from scipy import special, stats

from theory.law.finite_width import (
    LogRectifiedSum,
    SignalLaw,
    direction_quantiles,
    log_factor,
    sample_log_second_moments,
    spread_coefficient,
)


def brute_force(units, slope, draws, rng, inputs=6):
    """q_l of networks of real matrices, weights N(0, 1/fan_in), in plain numpy: (draws, L)."""
    x0 = rng.standard_normal(inputs)
    x0 /= np.sqrt(np.mean(x0**2))
    result = np.empty((draws, len(units)))
    for draw in range(draws):
        x = x0
        for layer, n in enumerate(units):
            y = rng.standard_normal((n, len(x))) @ x / math.sqrt(len(x))
            result[draw, layer] = np.mean(y**2)
            x = np.where(y > 0, y, slope * y)
    return result


CASES = [((8, 8, 8, 8), 0.0), ((5, 9, 3, 7), 0.25), ((16, 4, 16), 1.0), ((6, 6, 6), -0.7)]


@pytest.mark.parametrize("units, slope", CASES)
def test_every_exact_moment_matches_drawn_matrices(units, slope):
    draws = 20_000
    q = brute_force(units, slope, draws, np.random.default_rng(5))
    law = SignalLaw(units, slope)
    a2 = (1 + slope**2) / 2
    mean = a2 ** np.arange(len(units))
    ratio = squared_ratio(law)
    standard_error = mean * np.sqrt((ratio - 1) / draws)
    assert np.all(np.abs(q.mean(0) - mean) < 4 * standard_error)
    # second moment: its standard error from the sample, as the fourth moment has no formula here
    square = (q**2).mean(0)
    assert np.all(np.abs(square - ratio * mean**2) < 4.5 * (q**2).std(0) / math.sqrt(draws))
    for layer in range(len(units)):
        alive = q[:, layer] > 0
        log_q = np.log(q[alive, layer])
        z = (log_q.mean() - law.log_mean[layer]) / math.sqrt(law.log_variance[layer] / len(log_q))
        assert abs(z) < 4
        fourth = np.mean((log_q - log_q.mean()) ** 4) / log_q.var() ** 2
        ratio_error = math.sqrt((fourth - 1) / len(log_q))
        assert abs(log_q.var() / law.log_variance[layer] - 1) < 4 * ratio_error
        dead = law.dead_probability[layer]
        assert abs(1 - alive.mean() - dead) <= 4 * math.sqrt(dead * (1 - dead) / draws)
        for level, quantile in zip((0.025, 0.5, 0.975), law.quantiles()[layer], strict=True):
            below = np.mean(log_q < quantile)
            assert abs(below - level) < 4 * math.sqrt(level * (1 - level) / len(log_q))


def test_published_spread_coefficients():
    assert spread_coefficient(0) == 5 and spread_coefficient(1) == 2


@pytest.mark.parametrize("n", [1, 2, 7, 64, 1024])
def test_relu_log_moments_are_the_digamma_sums(n):
    k = np.arange(1, n + 1)
    weight = stats.binom.pmf(k, n, 0.5)
    weight = weight / weight.sum()
    log_mean = weight @ (special.digamma(k / 2) + math.log(2)) - math.log(n)
    second = weight @ (special.polygamma(1, k / 2) + (special.digamma(k / 2) + math.log(2 / n)) ** 2)
    factor = LogRectifiedSum(n)
    assert factor.mean == pytest.approx(log_mean, abs=1e-12)
    assert factor.variance == pytest.approx(second - log_mean**2, abs=1e-10)


def test_hanin_and_nicas_limit_holds_for_wide_layers():
    n, depth = 4096, 40
    law = SignalLaw((n,) * depth, 0.0, gated_reading=True)
    beta = 5 * depth / n
    centre = law.log_mean[-1] + depth * math.log(2)  # at criticality each layer gives back A₂ = ½
    assert centre == pytest.approx(-beta / 2, rel=3e-3)
    assert law.log_variance[-1] == pytest.approx(beta, rel=3e-3)
    low, median, high = law.quantiles()[-1] + depth * math.log(2)
    expected = -beta / 2 + math.sqrt(beta) * special.ndtri([0.025, 0.5, 0.975])
    assert [low, median, high] == pytest.approx(list(expected), abs=0.01 * math.sqrt(beta))


def test_quantiles_of_a_single_layer_are_scipys_chi_square():
    for n in (1, 3, 50):
        got = SignalLaw((n,), 0.0).quantiles((0.001, 0.3, 0.999))[0]
        assert got == pytest.approx(np.log(stats.chi2.ppf([0.001, 0.3, 0.999], n) / n), abs=1e-8)


@pytest.mark.parametrize("slope", [0.0, 0.25, 0.9])
@pytest.mark.parametrize("n", [4, 40, 512])
@pytest.mark.parametrize("orthogonal", [False, True])
def test_a_characteristic_function_holds_its_own_moments(slope, n, orthogonal):
    factor = log_factor(n, slope, True, orthogonal)
    step = 1e-3 / math.sqrt(factor.variance)
    centre, near = factor.characteristic(np.array([0.0, step]))
    assert centre == pytest.approx(1, abs=1e-10)
    assert 2 * (1 - near.real) / step**2 == pytest.approx(factor.variance, rel=1e-4)


@pytest.mark.parametrize("units, slope", [((32,) * 20, 0.0), ((10, 40, 20), 0.25)])
def test_the_sampler_and_the_inversion_are_one_law(units, slope):
    draws = 40_000
    law = SignalLaw(units, slope)
    rng = np.random.default_rng(2)
    *_, last = sample_log_second_moments(units, slope, [0.0] * len(units), draws, rng)
    levels = np.array([0.01, 0.1, 0.5, 0.9, 0.99])
    below = np.array([np.mean(last < q) for q in law.quantiles(levels)[-1]])
    assert np.all(np.abs(below - levels) < 4 * np.sqrt(levels * (1 - levels) / draws))


def test_orthogonal_weights_keep_the_length():
    law = SignalLaw((16,) * 3, 0.0, orthogonal=True)
    assert law.log_mean[0] == 0 and law.log_variance[0] == 0
    rng, draws, logs = np.random.default_rng(0), 20_000, []
    for _ in range(draws):  # one layer between two rotations: only the direction matters
        y = rng.standard_normal(16)
        x = np.maximum(y, 0)
        logs.append(math.log(np.sum(x**2) / np.sum(y**2)) if x.any() else -math.inf)
    logs = np.array(logs)[np.isfinite(logs)]
    assert abs(logs.mean() - law.log_mean[1]) < 4 * math.sqrt(law.log_variance[1] / len(logs))


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("slope", [0.0, 0.25, -3.0])
@pytest.mark.parametrize("n", [1, 2, 3, 9])
def test_orthogonal_quantiles_hold_atoms(n, slope, gated):
    """R by its definition, from Gaussian directions, layer after layer."""
    draws, depth = 30_000, 4
    rng = np.random.default_rng(n)
    law = SignalLaw((n,) * depth, slope, gated_reading=gated, orthogonal=True)
    log_q = np.zeros(draws)
    levels = np.array([0.025, 0.3, 0.5, 0.975, 0.999999])
    quantiles = law.quantiles(tuple(levels))
    for layer in range(depth):
        before, y = log_q, rng.standard_normal((draws, n))
        with np.errstate(divide="ignore"):
            log_q = log_q + np.log((np.where(y > 0, y, slope * y) ** 2).sum(1) / (y**2).sum(1))
        reading = log_q if gated else before
        reading = reading[np.isfinite(reading)]
        for level, value in zip(levels, quantiles[layer], strict=True):
            room = 4.5 * math.sqrt(level * (1 - level) / len(reading)) + 1e-9
            width = 2e-4 * (1 + abs(value))  # of the lattice; an atom lies on either side of it
            assert np.mean(reading < value - width) <= level + room
            assert np.mean(reading <= value + width) >= level - room
        most = (layer + gated) * max(0.0, 2 * math.log(abs(slope) or 1e-9))
        assert quantiles[layer].max() <= most + 1e-9


def test_the_lattice_and_the_inversion_are_one_law():
    """Where both hold: enough units for the atoms not to be felt, few enough for the lattice."""
    for slope in (0.0, 0.25):
        law = SignalLaw((9, 12, 9, 7, 12), slope, gated_reading=True, orthogonal=True)
        levels = (0.025, 0.5, 0.975)
        inverted = law.quantiles(levels)[-1]
        added = direction_quantiles(law.units, slope, levels)
        assert added == pytest.approx(inverted, abs=2e-3 * law.log_variance[-1] ** 0.5)


def test_depth_does_not_leave_the_numbers_range():
    law = SignalLaw((512,) * 1000, 0.0)
    quantiles = law.quantiles()
    assert np.isfinite(quantiles).all() and np.isfinite(squared_ratio(law)).all()
    assert np.all(np.diff(quantiles, axis=1) > 0)


@pytest.mark.parametrize("uniform", [False, True])
def test_the_sampler_draws_biases_of_the_right_shape(uniform):
    """A bias-dominated layer, where a uniform bias makes q much narrower than a Gaussian one."""
    n, draws, rng = 30, 20_000, np.random.default_rng(4)
    bias = rng.uniform(-1, 1, (draws, n)) * math.sqrt(3) if uniform else rng.standard_normal((draws, n))
    y = 0.1 * rng.standard_normal((draws, n)) + bias
    expected = np.log(np.mean(y**2, axis=1))
    (got,) = sample_log_second_moments(
        (n,), 0.0, [math.log(0.01)], draws, rng, bias_variance=1.0, uniform_bias=uniform
    )
    assert stats.ks_2samp(got, expected).pvalue > 1e-3
    assert (got.std() < 0.2) == uniform


def test_orthogonal_weights_with_biases_against_haar_matrices():
    """Mean and variance of ln q of the sampled chain; Gaussian weights spread far more in layer 1."""
    n, depth, bias, draws = 8, 3, 0.3, 20_000
    rng = np.random.default_rng(1)
    chain = sample_log_second_moments(
        [n] * depth, 0.0, [np.log(2)] * depth, draws, rng, bias_variance=bias**2, orthogonal=True
    )
    x = np.ones((draws, n))
    for sampled in chain:
        rotation, upper = np.linalg.qr(rng.standard_normal((draws, n, n)))
        rotation *= np.sign(np.einsum("dii->di", upper))[:, None, :]
        y = np.sqrt(2) * np.einsum("dij,dj->di", rotation, x) + bias * rng.standard_normal((draws, n))
        x, logs = np.maximum(y, 0), np.log((y**2).mean(1))
        spread = logs.std() * np.sqrt(2 / draws)
        assert abs(sampled.mean() - logs.mean()) < 4.5 * spread
        fourths = np.mean((logs - logs.mean()) ** 4) / logs.var() ** 2
        assert abs(sampled.var() / logs.var() - 1) < 4.5 * np.sqrt(2 * (fourths - 1) / draws)
