"""Depth scales: what the recursions themselves do, layer by layer."""

import math
from itertools import pairwise

import pytest

from theory.activations import parse_activation
from theory.law import mean_field
from theory.law.phase import depth_scales


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_the_correlation_of_tanh_nears_its_end_at_the_rate_of_its_depth_scale(scale):
    """Both phases; the map is iterated from two different inputs, and its last steps are compared."""
    phi, bias = parse_activation("tanh"), 0.05
    _, xi = depth_scales(phi, scale, bias)
    path = mean_field.correlations(phi, [math.log(scale)] * 100, 0.5, 0.0, bias)
    steps = [after - before for before, after in pairwise(path)]
    layer = next(i for i, step in enumerate(steps) if abs(step) < 1e-5)
    rate = math.log(abs(steps[layer] / steps[layer + 1]))
    assert 1 / xi == pytest.approx(rate, rel=2e-3)


def test_in_the_ordered_phase_both_are_one_and_in_the_chaotic_phase_they_part():
    phi = parse_activation("tanh")
    gradient, correlation = depth_scales(phi, 1.2, 0.05)
    assert gradient == correlation > 0
    gradient, correlation = depth_scales(phi, 3.0, 0.05)
    points = mean_field.fixed_points(phi, 3.0, 0.05).limit(1.0)
    assert gradient == pytest.approx(1 / math.log(points.chi_1))
    assert correlation > 1.5 * gradient


@pytest.mark.parametrize("name, gain", [("relu", 0.5), ("prelu", 0.53125)])
def test_of_a_rectifier_without_bias_it_is_that_of_the_signal(name, gain):
    for scale in (0.5, 1.0, 4.0):
        assert depth_scales(parse_activation(name), scale, 0.0) == pytest.approx(
            [1 / abs(math.log(scale * gain))] * 2
        )
    assert depth_scales(parse_activation(name), 1 / gain, 0.0) == (math.inf, math.inf)
