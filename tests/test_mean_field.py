import math

import numpy as np
import pytest

from theory import mean_field
from theory.rectifiers import parse_activation


@pytest.mark.parametrize("slope", [0.0, 0.25, 1.0])
def test_the_rectifier_map_is_linear_at_every_scale(slope):
    phi = parse_activation(f"prelu:{slope}")
    for log_q in (-1e6, 0.0, 1e6):
        assert mean_field.log_activation_gain(phi, log_q) == pytest.approx(math.log((1 + slope**2) / 2))
    assert mean_field.chi_1(phi, 2.0) == pytest.approx(1 + slope**2)


@pytest.mark.parametrize(
    "name, small, large",
    [
        ("tanh", 0.0, lambda q: -q),  # linear near zero; saturates at ±1
        ("gelu", math.log(0.25), lambda q: math.log(0.5)),  # slope ½ at zero; ReLU far out
        ("silu", math.log(0.25), lambda q: math.log(0.5)),
        ("elu", 0.0, lambda q: math.log(0.5)),
    ],
)
def test_smooth_gains_reach_their_asymptotes_far_beyond_float64(name, small, large):
    phi = parse_activation(name)
    for log_q in (-150.0, -5000.0):
        assert mean_field.log_activation_gain(phi, log_q) == pytest.approx(small, abs=1e-6)
    for log_q in (150.0, 260.0, 5000.0):
        assert mean_field.log_activation_gain(phi, log_q) == pytest.approx(large(log_q), abs=1e-4)


def test_a_bias_enters_at_every_layer():
    relu = parse_activation("relu")
    log_q = mean_field.log_second_moments(relu, [0.0] * 4, math.log(3.0), bias_variance=0.2)
    q = [3.0 + 0.2]
    for _ in range(3):
        q.append(q[-1] / 2 + 0.2)
    assert np.exp(log_q) == pytest.approx(q)
    deep = mean_field.log_second_moments(relu, [0.0] * 200, 0.0, bias_variance=0.2)
    assert math.exp(deep[-1]) == pytest.approx(0.4)  # the fixed point σ_b²/(1 − s·A₂)


def test_log_add_is_addition_and_knows_zero():
    assert math.exp(mean_field.log_add(math.log(2), math.log(5))) == pytest.approx(7)
    assert mean_field.log_add(-math.inf, -math.inf) == -math.inf
    assert mean_field.log_add(1e4, 0.0) == 1e4
