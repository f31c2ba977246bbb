import math

import numpy as np
import pytest
import torch

from theory.activations import ACTIVATIONS, parse_activation
from theory.errors import RequestError
from theory.law import quadrature

SLOPES = [0.0, 0.01, 0.25, 1.0, -0.5, 1.7]


def rectifier(slope):
    return lambda z: np.where(z > 0, z, slope * z)


@pytest.mark.parametrize("slope", SLOPES)
def test_closed_moments_match_quadrature_to_1e_12(slope):
    activation, phi = parse_activation(f"prelu:{slope}"), rectifier(slope)
    moment = quadrature.expectation
    assert activation.second_moment == pytest.approx(moment(lambda z: phi(z) ** 2), abs=1e-12)
    assert 3 * activation.fourth_moment == pytest.approx(moment(lambda z: phi(z) ** 4), abs=1e-11)
    assert activation.mean == pytest.approx(moment(phi), abs=1e-12)
    mean, square = moment(phi), moment(lambda z: phi(z) ** 2)
    assert activation.variance_ratio == pytest.approx((square - mean**2) / square, abs=1e-12)


def test_the_published_variance_ratios():
    assert parse_activation("relu").variance_ratio == pytest.approx(0.68169, abs=5e-6)
    assert parse_activation("prelu").variance_ratio == pytest.approx(0.831483, abs=5e-7)
    # the slip: what is halved is the second moment; the variance keeps (1/2 − 1/(2π)) = 0.341
    relu = parse_activation("relu")
    assert relu.second_moment * relu.variance_ratio == pytest.approx(0.5 - 1 / (2 * math.pi))


@pytest.mark.parametrize("slope", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("correlation", [-0.9, 0.0, 0.3, 0.99])
def test_correlation_map_matches_two_dimensional_quadrature(slope, correlation):
    phi = rectifier(slope)
    z, w = quadrature.gaussian_nodes()

    def inner(u):
        # E over v of φ(c·u + √(1−c²)·v), by panels split where the argument changes sign
        s = math.sqrt(1 - correlation**2)
        cut = -correlation * u / s
        density = np.exp(-(cut**2) / 2) / math.sqrt(2 * math.pi)
        upper = 0.5 * math.erfc(cut / math.sqrt(2))
        positive = correlation * u * upper + s * density
        return positive + slope * (correlation * u - positive)

    kernel = float(np.dot(w, phi(z) * np.array([inner(u) for u in z])))
    activation = parse_activation(f"prelu:{slope}")
    mapped = float(activation.correlation_map(correlation))
    assert mapped == pytest.approx(kernel / activation.second_moment, abs=1e-12)


def test_the_published_correlations_of_relu():
    relu, c, seen = parse_activation("relu"), 0.0, {}
    for layer in range(1, 11):
        c = float(relu.correlation_map(c))
        seen[layer] = c
    assert seen[1] == pytest.approx(0.318310, abs=5e-7)
    assert seen[2] == pytest.approx(0.493731, abs=5e-7)
    assert seen[10] == pytest.approx(0.871536, abs=5e-7)


@pytest.mark.parametrize("name", [name.replace("SLOPE", "0.1") for name in ACTIVATIONS])
def test_every_activation_is_its_torch_module(name):
    activation = parse_activation(name)
    y = torch.linspace(-3, 3, 61, dtype=torch.float64)
    got = activation.module().double()(y).detach()
    if activation.is_rectifier:
        expected = torch.where(y > 0, y, activation.negative_slope * y)
    else:
        expected = getattr(torch.nn.functional, activation.kind)(y) if name != "tanh" else torch.tanh(y)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("variance", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("name", ["tanh", "gelu", "silu", "elu", "selu"])
def test_smooth_moments_match_scipys_adaptive_quadrature(name, variance):
    from scipy import integrate, stats

    phi = parse_activation(name).function
    std = math.sqrt(variance)

    def integrand(z):
        return float(phi(np.array([std * z]))[0]) ** 2 * stats.norm.pdf(z)

    points = [0.0, *(sign * k / std for k in (0.3, 1, 3, 10, 30) for sign in (-1, 1) if k / std < 12)]
    expected, _ = integrate.quad(integrand, -12, 12, points=points, limit=400, epsabs=0, epsrel=1e-11)
    assert quadrature.second_moment(parse_activation(name), variance) == pytest.approx(
        expected, rel=1e-9
    )


@pytest.mark.parametrize(
    "name, says",
    [
        ("rellu", "did you mean relu"),
        ("prelu:x", "must be a number"),
        ("prelu:inf", "finite"),
        ("leaky-relu", "leaky-relu:0.01"),
        ("relu:0.1", "unknown activation"),
    ],
)
def test_a_wrong_name_says_what_would_be_right(name, says):
    with pytest.raises(RequestError, match=says):
        parse_activation(name)


def test_a_smooth_activation_has_no_scale_free_moment():
    with pytest.raises(RequestError, match="no rectifier"):
        _ = parse_activation("tanh").second_moment
