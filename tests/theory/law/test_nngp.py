"""The maps against kernels that another program computed: fixtures/nngp.json, made by make_nngp.py."""

import json
from pathlib import Path

import numpy as np
import pytest

from theory.activations import parse_activation
from theory.law import mean_field
from theory.windows import forward_power

FIXTURE = json.loads((Path(__file__).parent.parent.parent / "fixtures" / "nngp.json").read_text())
DENSE, CONV = FIXTURE["dense"], FIXTURE["conv"]
PADDING = {"SAME": "zeros", "CIRCULAR": "circular"}


def label(case):
    names = ("padding", "name", "slope", "depth")
    return "-".join(str(case[name]) for name in names if name in case)


def test_the_fixture_says_what_made_it():
    assert FIXTURE["made_by"]["neural-tangents"] == "0.6.5"
    assert {"jax", "python", "script"} <= set(FIXTURE["made_by"])
    assert len(DENSE["cases"]) == 2 * 3 * 4 and len(CONV["cases"]) == 2 * 2 * 3 * 4


def kernel_of(phi, scales, gram, bias_variance):
    """Covariances of a batch's pre-activations y_L, from our map of correlations, at any norms."""
    covariance = scales[0] * gram + bias_variance
    for scale in scales[1:]:
        std = np.sqrt(np.diag(covariance))
        size = np.outer(std, std)
        mapped = phi.second_moment * size * phi.correlation_map(covariance / size)
        covariance = scale * mapped + bias_variance
    return covariance


@pytest.mark.parametrize("case", DENSE["cases"], ids=label)
def test_the_dense_kernel_with_its_correlations(case):
    inputs, slope = np.array(DENSE["inputs"]), case["slope"]
    phi = parse_activation(f"leaky-relu:{slope}")
    scales = [case["sigma_w2"]] * case["depth"]
    kernel = kernel_of(phi, scales, inputs @ inputs.T / inputs.shape[1], case["sigma_b2"])
    np.testing.assert_allclose(kernel, case["kernel"], rtol=1e-11)


@pytest.mark.parametrize("case", DENSE["cases"], ids=label)
def test_second_moment_and_correlation_layer_by_layer(case):
    inputs = np.array(DENSE["inputs"])
    inputs /= np.sqrt(np.mean(inputs**2, axis=1, keepdims=True))  # the map is for equal second moments
    gram = inputs @ inputs.T / inputs.shape[1]
    phi = parse_activation(f"prelu:{case['slope']}")
    log_scales, bias = [np.log(case["sigma_w2"])] * case["depth"], case["sigma_b2"]
    kernel = kernel_of(phi, np.exp(log_scales), gram, bias)
    q = np.exp(mean_field.log_second_moments(phi, log_scales, 0.0, bias)[-1])
    assert np.diag(kernel) == pytest.approx(np.full(len(kernel), q), rel=1e-12)
    c = mean_field.correlations(phi, log_scales, gram[0, 1], 0.0, bias)[-1]
    assert kernel[0, 1] / q == pytest.approx(c, abs=1e-12)


@pytest.mark.parametrize("case", CONV["cases"], ids=label)
def test_the_variance_of_every_pixel(case):
    phi = parse_activation(f"leaky-relu:{case['slope']}")
    for image, expected in zip(np.array(CONV["images"]), case["second_moment"], strict=True):
        power = np.mean(image**2, axis=-1)
        for layer in range(case["depth"]):
            seen = power if layer == 0 else phi.second_moment * power
            mapped = forward_power(
                seen, tuple(CONV["filter_shape"]), 1, padding_mode=PADDING[case["padding"]]
            )
            power = case["sigma_w2"] * mapped + case["sigma_b2"]
        np.testing.assert_allclose(power, expected, rtol=1e-12)
