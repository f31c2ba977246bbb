"""The first loss: special cases, an identity between the two functions, the limit of large logits."""

import math

import numpy as np
import pytest

from theory.errors import RequestError
from theory.law.cross_entropy import (
    initial_cross_entropy,
    softmax_concentration,
    softmax_second_moment,
)
from theory.law.quadrature import expectation


def test_the_loss_of_zero_logits_is_ln_ten():
    assert initial_cross_entropy(0.0, 10) == pytest.approx(math.log(10), abs=1e-10)
    assert softmax_second_moment(0.0, 10) == pytest.approx(0.09, abs=1e-12)


def test_two_classes_are_a_one_dimensional_integral():
    for q in (0.1, 1.0, 30.0):
        softplus = expectation(lambda z, q=q: np.logaddexp(0, math.sqrt(2 * q) * z))
        assert initial_cross_entropy(q, 2) == pytest.approx(softplus, rel=1e-8)
        square = expectation(lambda z, q=q: (1 + np.exp(-math.sqrt(2 * q) * z)) ** -2.0)
        assert softmax_second_moment(q, 2) == pytest.approx(square, rel=1e-8)


@pytest.mark.parametrize("q", [0.2, 3.0, 50.0])
def test_the_slope_of_the_loss_is_what_the_softmax_says(q):
    """dE[ln Σ e^z]/dq = ½ Σ E[p_i(1 − p_i)], and K·E[p²] from the second function."""
    step = 1e-3 * q
    slope = (initial_cross_entropy(q + step, 10) - initial_cross_entropy(q - step, 10)) / (2 * step)
    sum_of_squares = 10 * softmax_second_moment(q, 10) - 1 + 2 / 10
    assert slope == pytest.approx((1 - sum_of_squares) / 2, rel=2e-6)


def test_large_logits_cost_the_expected_maximum():
    assert initial_cross_entropy(1e8, 10) / 1e4 == pytest.approx(1.5387527, abs=1e-6)
    with pytest.raises(RequestError, match="second moment of the logits"):
        initial_cross_entropy(-1.0, 10)
    with pytest.raises(RequestError, match="number of classes"):
        initial_cross_entropy(1.0, 1)


@pytest.mark.parametrize("variance", [0.1, 2.0, 20.0])
def test_how_far_a_softmax_concentrates(variance):
    """Against brute force, of few logits and of many at once; a single one has all."""
    counts = [1, 3, 40]
    expected = softmax_concentration(variance, counts)
    assert expected[0] == pytest.approx(1, abs=1e-9)
    for count, share in zip(counts[1:], expected[1:], strict=True):
        z = math.sqrt(variance) * np.random.default_rng(count).standard_normal((20_000, count))
        p = np.exp(z - z.max(1, keepdims=True))
        sums = ((p / p.sum(1, keepdims=True)) ** 2).sum(1)
        assert abs(sums.mean() - share) < 4 * sums.std() / math.sqrt(len(sums))


def test_many_small_logits_concentrate_as_kedia_says():
    """Σ p² → e^{s²}/T."""
    (share,) = softmax_concentration(0.25, [100_000])
    assert share * 100_000 == pytest.approx(math.exp(0.25), rel=1e-4)


def test_no_logits_have_no_softmax():
    with pytest.raises(RequestError, match="the number of logits"):
        softmax_concentration(1.0, [0])


def test_very_large_logits_go_on_smoothly() -> None:
    """Beyond the range of the integrals, loss/√q and the cotangent keep their course."""
    inside, beyond = 9.99e9, 1.001e10
    ratio = initial_cross_entropy(beyond, 10) / initial_cross_entropy(inside, 10)
    assert ratio == pytest.approx((beyond / inside) ** 0.5, rel=1e-9)
    short = [0.18 - softmax_second_moment(q, 10) for q in (1e9, inside, beyond, 1e12)]
    for q, gap in zip((inside, beyond, 1e12), short[1:], strict=True):
        assert gap == pytest.approx(short[0] * (1e9 / q) ** 0.5, rel=2e-4)
