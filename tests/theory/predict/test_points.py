"""Correlations of points against drawn filters, exact special cases and the closed-form map."""

import numpy as np
import pytest
import torch
from torch import nn

from theory.activations import parse_activation
from theory.initializers import parse_initializer
from theory.predict.nonlinearities import Nonlinearity, Rectifier, slope_of
from theory.predict.points import Points, _patches
from theory.randomness import generator


def images(count, size):
    """Smooth random images: few strong components, and means that differ from 0."""
    coarse = torch.randn(count, 3, size // 4, size // 4, generator=generator(0, "images"))
    smooth = nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    return smooth + torch.tensor([0.5, 0.0, -0.3])[:, None, None]


def test_sampled_points_give_the_channel_mean_and_the_inverse_variance():
    """Against 4000 drawn filters on correlated images: E[μ²] and E[1/σ²]·E[σ²]."""
    x, layer = images(12, 8).double(), nn.Conv2d(3, 4000, 3, padding=1, bias=False).double()
    parse_initializer("he").draw_(layer.weight, generator(0, "filters"))
    y = layer(x).detach().permute(1, 0, 2, 3).flatten(1).numpy()
    points = Points.of_batch(x).convolution(layer, 0.0, 1.0)
    square = y.mean(1) ** 2 / (y**2).mean()
    sample = 0.03  # 256 points stand for 768
    assert abs(square.mean() - points.mean(y.shape[1])) < 4 * square.std() / 4000**0.5 + sample
    inverse = y.var(1).mean() / y.var(1)
    error = inverse.std() / 4000**0.5
    assert inverse.mean() > 1.1
    assert abs(inverse.mean() - points.inverse_variance()) < 4 * error + sample * inverse.mean()


def test_inverse_variance_of_equal_components_is_n_over_n_minus_two():
    n = 9
    centered = np.eye(n + 1) - 1 / (n + 1)
    assert Points(centered).inverse_variance() == pytest.approx(n / (n - 2), rel=1e-6)
    assert Points(np.ones((4, 4))).inverse_variance() == 1.0


@pytest.mark.parametrize("name", ["relu", "prelu"])
def test_both_ways_of_mapping_a_correlation_agree(name):
    phi = parse_activation(name)
    module = Rectifier(slope_of(phi.module(), 1))
    correlation = np.linspace(-1, 1, 9)
    known = np.stack([np.array([[1.0, c], [c, 1.0]]) for c in correlation])
    for matrix, c in zip(known, correlation, strict=True):
        closed = module.of_points(Points(matrix), 1.7).known[0, 1]
        assert closed == pytest.approx(float(phi.correlation_map(c)), abs=1e-12)
        general = Nonlinearity.of_points(module, Points(matrix), 1.7).known[0, 1]
        assert general == pytest.approx(closed, abs=2e-3)


def test_a_value_is_a_pair_with_itself_once_in_count():
    pair = Points(np.array([[1.0, 0.3], [0.3, 1.0]]))
    assert pair.mean(10) == pytest.approx(0.3 + 0.7 / 10)
    assert Points(np.eye(3)).mean(3) == pytest.approx(1 / 3)


def test_points_that_pooling_merges_count_once():
    places = np.array([[0, 0, 0], [0, 1, 1], [0, 2, 0], [1, 0, 1]])
    points = Points(np.eye(4), places=places).thinned((4, 4), (2, 2))
    np.testing.assert_array_equal(points.known, np.eye(3))
    np.testing.assert_array_equal(points.places, [[0, 0, 0], [0, 1, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    "geometry",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (2, 3), "stride": (2, 1), "dilation": (1, 2)},
        {"kernel_size": 3, "padding": "same", "padding_mode": "circular"},
        {"kernel_size": 1, "stride": 3},
    ],
)
@pytest.mark.parametrize("count", [2, 40])  # all pixels, and a sample of them
def test_patches_are_what_a_convolution_sees(geometry, count):
    layer = nn.Conv2d(3, 5, bias=False, **geometry).double()
    batch = images(count, 12).double()
    patches, places = _patches(layer, batch)
    image, row, column = torch.from_numpy(places).T
    assert len(patches) == min(256, layer(batch)[:, 0].numel())
    assert len(np.unique(places, axis=0)) == len(places)
    seen = patches @ layer.weight.flatten(1).T
    torch.testing.assert_close(seen, layer(batch)[image, :, row, column], rtol=1e-12, atol=1e-12)
