"""Depth scales: what the recursions themselves do, layer by layer."""

import math
from itertools import pairwise

import pytest
import torch

from theory.activations import parse_activation
from theory.law import mean_field
from theory.law.phase import depth_scales, residual_growth
from theory.randomness import generator


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


@pytest.mark.parametrize(
    "name, scale, bias", [("tanh", 2.0, 0.1), ("relu", 0.5, 0.0), ("gelu", 1.0, 0.0)]
)
def test_residual_blocks_do_to_gradients_and_distances_what_is_said(name, scale, bias):
    """Wide blocks, drawn; the spread of the mean over draws is what it is tested against."""
    phi, blocks, width, start = parse_activation(name), 8, 512, 3.0
    module, random, found = phi.module(), generator(1, "test", name), []
    for _ in range(12):
        first = torch.randn(1, width, generator=random, dtype=torch.float64)
        near = first + 1e-5 * torch.randn(32, width, generator=random, dtype=torch.float64)
        x = torch.cat([first, near]) * (start / first.square().mean()).sqrt()
        x.requires_grad_()
        stream = x
        for _ in range(blocks):
            weight = torch.randn(width, width, generator=random, dtype=torch.float64)
            biases = torch.randn(width, generator=random, dtype=torch.float64) * bias**0.5
            stream = stream + module(stream) @ weight * (scale / width) ** 0.5 + biases
        cotangents = torch.randn(32, width, generator=random, dtype=torch.float64)
        (gradients,) = torch.autograd.grad(stream[0], x, cotangents, is_grads_batched=True)
        grown = gradients[:, 0].square().mean() / cotangents.square().mean()
        before, after = ((y[1:] - y[0]).square().mean() / y[0].square().mean() for y in (x, stream))
        found.append([grown.log().item(), (after / before).log().item()])
    means = torch.tensor(found, dtype=torch.float64).mean(0)
    errors = torch.tensor(found, dtype=torch.float64).std(0) / 12**0.5
    expected = residual_growth(phi, scale, bias, blocks, start)
    for mean, error, value in zip(means.tolist(), errors.tolist(), expected, strict=True):
        assert abs(mean - value) < 4 * error + 0.01 and error < 0.08


def test_residual_blocks_of_rectifiers_multiply_and_those_of_tanh_add():
    relu, tanh = parse_activation("prelu"), parse_activation("tanh")
    gradient, distance = residual_growth(relu, 2.0, 0.0, 300)
    assert gradient == pytest.approx(300 * math.log(1 + (1 + 0.25**2))) and abs(distance) < 1e-9
    far, near = (residual_growth(tanh, 2.0, 0.0, blocks)[0] for blocks in (400, 100))
    assert 1.8 < far / near < 2.2  # e^(C·√blocks)
    assert residual_growth(tanh, 2.0, 0.0, 0) == (0.0, 0.0)
