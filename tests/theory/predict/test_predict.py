"""Predictions against drawn networks: exact rows within their standard error, the others quantified."""

import math
import pickle
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from empirical.data.catalog import DATASETS
from empirical.data.datasets import normalize
from empirical.data.files import CIFAR10
from empirical.protocol import TrainSpec
from empirical.training.families import build_network, draw_weights_
from theory.activations import parse_activation
from theory.draw.stacks import build_stack
from theory.errors import RequestError
from theory.initializers import parse_initializer
from theory.law import mean_field
from theory.law.cross_entropy import initial_cross_entropy, softmax_second_moment
from theory.law.quadrature import expectation
from theory.predict.chain import Gradient, Setting, Signal, convolution
from theory.predict.prediction import (
    COLUMNS,
    COMPARED_COLUMNS,
    MEASURED_COLUMNS,
    Factor,
    WeightLaw,
    calibrate,
    compare,
    measure,
    measure_layers,
    predict,
    predict_layers,
    run_order,
)
from theory.randomness import generator
from theory.windows import axis_map

pytestmark = pytest.mark.usefixtures("one_thread")

HE = parse_initializer("he")


def images(count, size=32, channels=3):
    """Smooth random images with a border of their own: neither white nor of one power."""
    coarse = torch.randn(count, channels, size // 4, size // 4, generator=generator(0, "images"))
    smooth = nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    return (
        smooth * torch.linspace(0.5, 2.0, size) + torch.tensor([0.5, 0.0, -0.3])[:channels, None, None]
    )


def redraw(model, law, seed):
    """The weights by ``law``, the biases by torch's."""
    stream = generator(seed, "test weights")
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            law.initializer.draw_(module.weight, stream, law.gain_slope)
            if module.bias is not None:
                law.initializer.draw_bias_(module.bias, module.weight[0].numel(), stream)


def summaries(values):
    """By channel and by pixel: single units of a channel are too heavy-tailed for a t-test."""
    return np.concatenate([values.reshape(len(values), -1).mean(1), values.mean(0).reshape(-1)])


def averaged(model, law, x, draws):
    """Forward and backward ``summaries`` of every layer: mean and its standard error over draws."""
    drawn = []
    for seed in range(draws):
        redraw(model, law, seed)
        layers = measure_layers(model, x, seed=seed)
        drawn.append([[summaries(layer.forward), summaries(layer.backward)] for layer in layers])
    result = []
    for layer in zip(*drawn, strict=True):
        stacks = [np.stack(values) for values in zip(*layer, strict=True)]
        result.append([(s.mean(0), s.std(0, ddof=1) / math.sqrt(draws)) for s in stacks])
    return result


def within(measured, predicted, sigmas):
    (mean, error), predicted = measured, summaries(predicted)
    assert np.all(np.abs(mean - predicted) <= sigmas * error + 1e-9 * np.abs(predicted))


# dense, exact


@pytest.mark.parametrize("name", ["relu", "prelu", "leaky-relu:0.1", "tanh", "gelu", "selu"])
def test_a_dense_stack_follows_the_variance_map(name):
    activation = parse_activation(name)
    widths, slope = (30, 50, 40, 20), activation.gain_slope
    stack = build_stack(widths, HE, activation, generator(0))
    table = predict(stack, 1.7, law=WeightLaw(HE, slope))
    scales = [math.log(n * HE.std(n, m, slope) ** 2) for n, m in pairwise(widths)]
    expected = np.exp(mean_field.log_second_moments(activation, scales, math.log(1.7)))
    np.testing.assert_allclose(table["forward_predicted"], expected, rtol=1e-12)
    basis = "exact" if activation.is_rectifier else "infinite width"
    assert list(table["forward_basis"]) == ["exact", basis, basis]
    assert list(table["backward_basis"]) == [basis, basis, "exact"]
    assert list(table.columns) == list(COLUMNS) and list(table["layer"]) == [1, 2, 3]


def test_he_is_flat_and_backward_follows_fan_out():
    widths = (64, 64, 128, 256)
    model = build_stack(widths, HE, parse_activation("relu"), generator(0))
    table = predict(model, 1.0, law=HE)
    np.testing.assert_allclose(table["forward_predicted"], 2.0)
    # E[δ_l²] = n_{l+1}·(2/n_l)·½·E[δ_{l+1}²]
    np.testing.assert_allclose(table["backward_predicted"], [4.0, 2.0, 1.0])


def test_tanh_backward_is_the_quadrature():
    model = build_stack((40, 40, 40), HE, parse_activation("tanh"), generator(0))
    table = predict(model, 0.8, law=parse_initializer("lecun"))
    slope = expectation(lambda z: (1 - np.tanh(math.sqrt(0.8) * z) ** 2) ** 2)
    assert table["backward_predicted"][0] == pytest.approx(slope, rel=1e-12)


# convolution, exact: every pixel, biases included

GEOMETRIES = {
    "plain": dict(padding=1),
    "stride": dict(padding=1, stride=2),
    "dilation": dict(padding=2, dilation=2),
    "circular": dict(padding=1, padding_mode="circular"),
    "replicate": dict(padding=1, padding_mode="replicate"),
    "same": dict(padding="same"),
    "groups": dict(padding=1, groups=2),
    "oblong": dict(padding=(0, 2), kernel_size=(1, 4), stride=(2, 1)),
}


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_every_pixel_of_a_convolution_is_exact_in_both_directions(geometry):
    options = {"kernel_size": 3} | geometry
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.PReLU(4),
        nn.Conv2d(4, 6, **options),
        nn.LeakyReLU(0.2),
        nn.Conv2d(6, 2, 3, padding=1, stride=2),
        nn.Flatten(),
        nn.ReLU(),
    )
    model[1].weight.data = torch.tensor([0.0, 0.25, 0.5, -0.3])
    size = model(torch.zeros(1, 2, 8, 8)).shape[1]
    model.append(nn.Linear(size, 5))
    x, law = images(3, 8, 2), WeightLaw(HE, 0.25)
    predicted = predict_layers(model, x, law=law)
    assert {layer.forward_basis for layer in predicted} == {"exact"}
    assert {layer.backward_basis for layer in predicted} == {"exact"}
    for pair, layer in zip(averaged(model, law, x, 200), predicted, strict=True):
        within(pair[0], layer.forward, 5.5)
        within(pair[1], layer.backward, 5.5)


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_backward_is_the_transpose_of_forward(geometry):
    """Σ E[δy²]·E[y²] = Σ E[δx²]·E[x²] for any two maps, channels of different groups told apart."""
    layer = nn.Conv2d(4, 6, **({"kernel_size": 3} | geometry))
    rng = np.random.default_rng(0)
    signal = Signal(rng.random((4, 8, 9)), np.zeros(4))
    after, backward = convolution(layer, signal, Setting(weight_variance=0.3))
    gradient = Gradient(rng.random(after.power.shape))
    product = (backward(gradient).power * signal.power).sum()
    assert product == pytest.approx((gradient.power * after.power).sum(), rel=1e-12)


def test_zero_padding_leaves_the_published_map():
    """E[q_l(i, j)] = (s A₂)^l (T^l 1)_i (T^l 1)_j, and ((3H − 2)/(3H))² = .95877 after one layer."""
    convolutions = [nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(4)]
    model = nn.Sequential(*(module for c in convolutions for module in (c, nn.ReLU())))
    layers = predict_layers(model, np.full((8, 32, 32), 0.5), law=HE)  # ½: a rectified unit signal
    t = np.ones(32)
    for layer in layers:
        t = axis_map(32, 3, 1, 1, 1, 1, "zeros") @ t
        np.testing.assert_allclose(layer.forward, np.broadcast_to(np.outer(t, t), (8, 32, 32)))
    assert layers[0].forward.mean() == pytest.approx(0.95877, abs=5e-6)
    backward = layers[0].backward[0]
    assert backward[0, 0] < backward[16, 16] == pytest.approx(1 / 2)


def test_the_power_of_a_batch_is_all_that_exact_rows_need():
    x = images(5, 8)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 3))
    pd.testing.assert_frame_equal(
        predict(model, x, law=HE), predict(model, x.double().square().mean(0).numpy(), law=HE)
    )


# the course report's network


@pytest.fixture(scope="module")
def real_images(cifar10_dir):
    with (CIFAR10.find(cifar10_dir) / "data_batch_1").open("rb") as file:
        rows = pickle.load(file, encoding="bytes")[b"data"][:64]
    pixels = torch.from_numpy(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).copy())
    return normalize(pixels, DATASETS["cifar10"].mean, DATASETS["cifar10"].std)


def course(norm, depth, fan="fan_out", activation="relu"):
    spec = TrainSpec(norm=norm, depth=depth, fan=fan, activation=activation)
    return spec, build_network(spec), WeightLaw(parse_initializer("he", fan), spec.gain_slope)


def drawn(spec, network, law, x, draws):
    """measured / predicted per draw, layer and direction, each draw with its own calibration."""
    ratios = []
    for seed in range(draws):
        draw_weights_(network, replace(spec, seed=seed))
        prediction = predict(network, x, law=law, calibration=calibrate(network, x, seed=seed + 1000))
        table = compare(prediction, measure(network, x, seed=seed))
        ratios.append(table[["forward_ratio", "backward_ratio"]].to_numpy())
    return table, np.stack(ratios)


COURSE = [
    (2, "fan_in", "relu"),
    (5, "fan_out", "prelu"),
    (10, "fan_in", "prelu"),
    (12, "fan_out", "relu"),
]


@pytest.mark.parametrize("depth, fan, activation", COURSE)
def test_the_course_network_on_real_images_without_batch_norm(real_images, depth, fan, activation):
    spec, network, law = course("none", depth, fan, activation)
    draws = 16
    table, ratios = drawn(spec, network, law, real_images[:6], draws)
    error = ratios.std(0, ddof=1) / math.sqrt(draws)
    exact = table[["forward_basis", "backward_basis"]].to_numpy() == "exact"
    assert exact.sum() == {2: 6, 5: 4, 10: 5, 12: 5}[depth]
    assert np.all(np.abs(ratios.mean(0) - 1)[exact] <= 4.5 * error[exact] + 1e-12)
    # with pools, the spread of single networks and a few percent of what calibration leaves out
    assert np.all(np.abs(ratios.mean(0) - 1) <= 4.5 * error + 0.1)


@pytest.mark.parametrize("depth", [2, 5, 10, 12])
def test_the_course_network_on_real_images_with_batch_norm(real_images, depth):
    spec, network, law = course("batch", depth)
    table, ratios = drawn(spec, network, law, real_images[:16], 6)
    error = ratios.std(0, ddof=1) / math.sqrt(6)
    deviation = np.abs(ratios.mean(0) - 1)
    exact = table["forward_basis"].to_numpy() == "exact"
    assert exact.sum() == 2  # conv 1 and conv 2, which no batch norm precedes
    assert np.all(deviation[:, 0] <= 6 * error[:, 0] + 0.1)
    # what theory.predict.chain says of the backward factors: a third per layer, 2.2 in all
    backward, noise = np.log(ratios.mean(0)[:, 1]), error[:, 1] / ratios.mean(0)[:, 1]
    assert np.all(np.abs(np.diff(backward)) < 0.35)
    assert np.all(np.abs(backward) < math.log(2.2) + 2 * noise)


# batch norm, idealized


def normed_stack(width, depth, slope=0.0):
    modules = [nn.Linear(width, width)]
    for _ in range(depth - 1):
        modules += [nn.BatchNorm1d(width), nn.LeakyReLU(slope), nn.Linear(width, width)]
    return nn.Sequential(*modules)


@pytest.mark.parametrize("slope, growth", [(0.0, math.pi / (math.pi - 1)), (1.0, 1.0)])
def test_the_gradient_grows_by_pi_over_pi_minus_one_under_batch_norm(slope, growth):
    model = normed_stack(16, 6, slope)
    for norm in model:
        if isinstance(norm, nn.BatchNorm1d):
            norm.eps = 1e-30  # torch takes no 0
    table = predict(model, 1.0, law=WeightLaw(HE))
    backward = table["backward_predicted"].to_numpy()
    np.testing.assert_allclose(backward[1:-2] / backward[2:-1], growth, rtol=1e-12)
    forward = table["forward_predicted"].to_numpy()
    np.testing.assert_allclose(forward[1:], (1 + slope**2) + 1 / 48, rtol=1e-12)
    assert list(table["forward_basis"]) == ["exact"] + ["infinite batch"] * 5


def test_a_wide_normed_stack_behaves_as_predicted():
    model, law = normed_stack(128, 4), WeightLaw(HE)
    x = torch.randn(256, 128, generator=generator(1, "inputs"))
    predicted = predict_layers(model, x, law=law)
    for pair, layer in zip(averaged(model, law, x, 8), predicted, strict=True):
        for (mean, _), values in zip(pair, (layer.forward, layer.backward), strict=True):
            assert mean.mean() == pytest.approx(values.mean(), rel=0.06)  # order 1/width per layer


def test_running_statistics_are_a_fixed_affine_map():
    norm = nn.BatchNorm2d(4).eval()
    norm.running_var.fill_(4.0)
    norm.running_mean.fill_(0.0)
    norm.weight.data.fill_(3.0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), norm, nn.ReLU(), nn.Flatten(), nn.Linear(256, 6)
    )
    law, x = WeightLaw(HE), images(3, 8)
    predicted = predict_layers(model, x, law=law)
    assert {layer.forward_basis for layer in predicted} == {"exact"}
    for pair, layer in zip(averaged(model, law, x, 200), predicted, strict=True):
        within(pair[0], layer.forward, 5)
        within(pair[1], layer.backward, 5)
    assert predicted[1].forward.mean() == pytest.approx(
        9 / (4 + norm.eps) * predicted[0].forward.mean() + 1 / 768, rel=1e-12
    )


def test_a_shifted_norm_uses_the_moments_of_a_shifted_gaussian():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, eps=1e-30), nn.ReLU(), nn.Linear(3, 2))
    model[1].bias.data = torch.tensor([1.0, 0.0, -2.0])
    model[1].weight.data = torch.tensor([2.0, 1.0, 0.5])
    table = predict(model, 1.0, law=WeightLaw(HE, bias=0.0))
    z = [expectation(lambda z, b=b, g=g: np.maximum(b + g * z, 0) ** 2) for b, g in ((1, 2), (0, 1))]
    z.append(expectation(lambda z: np.maximum(-2 + 0.5 * z, 0) ** 2))
    # the kinks do not lie at this quadrature's panel edges
    assert table["forward_predicted"][1] == pytest.approx(2 * np.mean(z), rel=1e-4)


# dropout, pools, held weights


def test_dropout_is_exact_in_train_mode_and_absent_in_eval():
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Dropout(0.2), nn.Linear(30, 10))
    table = predict(model, 1.0, law=WeightLaw(HE, bias=0.0))
    np.testing.assert_allclose(table["forward_predicted"], [2.0, 2.5])
    np.testing.assert_allclose(table["backward_predicted"], [10 / 30 * 1.25, 1.0])
    assert set(table["forward_basis"]) == {"exact"}
    np.testing.assert_allclose(
        predict(model.eval(), 1.0, law=WeightLaw(HE, bias=0.1))["forward_predicted"], [2.1, 2.2]
    )


def pooled(pool):
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), pool, nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * 16, 10),
    )  # fmt: skip


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(4)])
def test_a_pool_needs_calibration_and_says_so(pool):
    model, x, law = pooled(pool), images(8, 8), WeightLaw(HE)
    redraw(model, law, 0)
    blind = predict(model, x, law=law)
    assert list(blind["forward_basis"]) == ["exact", "no closed form", "no closed form"]
    assert list(blind["backward_basis"]) == ["no closed form", "exact", "exact"]
    assert np.isnan(blind["forward_predicted"][1]) and np.isfinite(blind["backward_predicted"][1])
    calibration = calibrate(model, x)
    seen = predict(model, x, law=law, calibration=calibration)
    assert list(seen["forward_basis"]) == ["exact", "measured factor", "measured factor"]
    ratio = (
        calibration[("2", 0)].backward * calibration[("1", 0)].backward * 16 * 9 * 2 / 144
    )  # fan_out·Var[w] = 2, and what the border keeps of it
    border = (10 / 12) ** 2
    assert seen["backward_predicted"][0] == pytest.approx(
        ratio * border * seen["backward_predicted"][1], rel=1e-9
    )


def test_pool_before_the_activation_uses_the_activations_measured_factor():
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(256, 4)
    )
    x, law, ratios = images(8, 8), WeightLaw(HE), []
    for seed in range(40):
        redraw(model, law, seed)
        table = predict(model, x, law=law, calibration=calibrate(model, x, seed=seed + 99))
        ratios.append(compare(table, measure(model, x, seed=seed))[["forward_ratio", "backward_ratio"]])
    mean, error = np.mean(ratios, 0), np.std(ratios, 0, ddof=1) / math.sqrt(40)
    assert np.all(np.abs(mean - 1) < 4.5 * error + 0.05)


def test_held_weights_use_their_mean_square():
    model = nn.Sequential(nn.Linear(300, 400), nn.ReLU(), nn.Linear(400, 300))
    with torch.no_grad():
        for linear in (model[0], model[2]):
            linear.weight.normal_(0, 0.05, generator=generator(1, "held"))
            linear.bias.normal_(0.3, 0.2, generator=generator(3, "held"))
    x = torch.randn(200, 300, generator=generator(2, "held"))
    table = compare(predict(model, x), measure(model, x))
    assert list(table["forward_basis"]) == ["held weights", "infinite width + held weights"]
    variance = float(model[0].weight.detach().double().square().mean())
    power, bias = (float(values.double().square().mean()) for values in (x, model[0].bias.detach()))
    assert table["forward_predicted"][0] == pytest.approx(300 * variance * power + bias, rel=1e-6)
    np.testing.assert_allclose(table[["forward_ratio", "backward_ratio"]], 1.0, atol=0.06)


# which networks


class Ordered(nn.Module):
    """Layers in order, written the other usual way."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(256, 5)

    def forward(self, x):
        return self.head(torch.flatten(nn.functional.relu(self.convolution(x)), 1))


class Branching(Ordered):
    def forward(self, x):
        return self.convolution(x) + x[:, :1]


def test_nesting_and_functions_do_not_matter():
    ordered = Ordered()
    layers = [ordered.convolution, nn.ReLU(), nn.Flatten(), ordered.head]
    nested = nn.Sequential(nn.Sequential(*layers[:2]), nn.Sequential(*layers[2:]))
    x = images(2, 8)
    first, second = predict(ordered, x, law=HE), predict(nested, x, law=HE)
    pd.testing.assert_frame_equal(first.drop(columns="module"), second.drop(columns="module"))
    assert list(first["module"]) == ["convolution", "head"]
    compare(first, measure(ordered, x))


class Turning(Ordered):
    """What is symbolic for a tracer is a number for a run: how many layers follow depends on it."""

    def forward(self, x):
        y = torch.relu_(self.convolution(x))
        if y.max() > 0:
            y = y.view(len(y), -1)
        return self.head(y)


def test_the_chain_is_what_runs():
    ordered, x = Ordered(), images(2, 8)
    turning = Turning()
    turning.load_state_dict(ordered.state_dict())
    traced = torch.fx.symbolic_trace(ordered)
    expected = predict(ordered, x, law=HE)
    for model in (turning, traced):
        pd.testing.assert_frame_equal(predict(model, x, law=HE), expected)
    assert [key for key, _ in run_order(turning, x)] == [
        ("convolution", 0), ("relu()", 1), ("view()", 4), ("head", 0)
    ]  # fmt: skip


def test_a_module_that_runs_twice_has_two_rows():
    shared, relu = nn.Linear(6, 6), nn.ReLU()
    model = nn.Sequential(shared, relu, shared, relu, nn.Linear(6, 2))
    x = torch.randn(4, 6, generator=generator(0, "inputs"))
    table = compare(predict(model, x), measure(model, x))
    assert list(zip(table["module"], table["call"], strict=True)) == [("0", 0), ("0", 1), ("4", 0)]
    assert list(table.columns) == list(COMPARED_COLUMNS)


def test_the_courses_flattening_head_and_a_lone_layer_are_understood():
    _, network, _ = course("batch", 5)
    keys = [key for key, _ in run_order(network, images(2))]
    assert keys == [(name, 0) for name, _ in network.named_children()]
    assert run_order(nn.Linear(3, 2), torch.ones(2, 3))[0][0] == ("", 0)
    assert predict(nn.Linear(3, 2), 1.0, law=HE)["forward_predicted"][0] == pytest.approx(2 + 1 / 9)


@pytest.mark.parametrize(
    "model, inputs, says",
    [
        (Branching(), images(1, 8), "without branches"),
        (nn.Sequential(nn.Linear(4, 4), nn.Softmax(1)), 1.0, "1 .Softmax. has no rule"),
        (nn.Sequential(nn.Linear(4, 4), nn.Linear(5, 4)), 1.0, r"1 \(Linear\), given 2×4"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(6, 2)), images(1, 8), "flatten maps first"),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), np.ones((2, 8, 8)), r"0 \(Conv2d\), given 2×2×8×8"),
        (nn.Sequential(nn.Conv2d(3, 4, 9)), np.ones((3, 4, 4)), r"0 \(Conv2d\), given 2×3×4×4"),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(5)), 1.0, r"1 \(BatchNorm1d\), given 2×4"),
        (nn.Sequential(nn.ReLU()), np.ones(3), "no linear or convolutional layer"),
        (nn.Sequential(nn.Linear(4, 4), nn.Flatten(0)), 1.0, "only nn.Flatten"),
        (nn.Linear(4, 4), -np.ones(4), "at least 0"),
        (nn.Linear(4, 4), torch.zeros(4), "a batch is"),
    ],
)
def test_what_cannot_be_predicted_is_refused(model, inputs, says):
    with pytest.raises(RequestError, match=says):
        predict(model, inputs, law=HE)


def test_a_wrong_law_or_pairing_is_refused():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(RequestError, match="no entry for 2"):
        predict(model, 1.0, law=WeightLaw({"0": HE}))
    with pytest.raises(RequestError, match="at least 0"):
        WeightLaw(HE, bias=-1.0)
    with pytest.raises(RequestError, match="different layers"):
        compare(predict(model, 1.0), measure(nn.Linear(4, 2), torch.ones(1, 4)))
    per_layer = WeightLaw({"0": HE, "2": parse_initializer("normal")}, bias=0.0)
    np.testing.assert_allclose(predict(model, 1.0, law=per_layer)["forward_predicted"], [2.0, 4.0])


def test_measuring_leaves_no_trace():
    _, network, _ = course("batch", 3)
    network.append(nn.Dropout(0.5))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.random.get_rng_state()
    x = images(4)
    first, second = measure(network, x), measure(network, x)
    calibrate(network, x)
    pd.testing.assert_frame_equal(first, second)
    assert list(first.columns) == list(MEASURED_COLUMNS)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())
    assert network.training and all(p.grad is None for p in network.parameters())


def test_loss_and_its_gradient_on_a_wide_network():
    """One wide dense network under N(0, 1)-like logits: within the spread of its ten outputs."""
    model = build_stack((200, 400, 10), HE, parse_activation("relu"), generator(0))
    x = torch.randn(64, 200, generator=generator(0, "inputs"))
    labels = torch.randint(10, (64,), generator=generator(0, "labels"))
    losses, gradients = [], []
    for seed in range(40):
        redraw(model, WeightLaw(HE), seed)
        losses.append(nn.functional.cross_entropy(model(x), labels).item())
        gradients.append(measure(model, x, labels=labels)["backward_measured"].to_numpy())
    law = WeightLaw(HE, bias=0.0)
    q = predict(model, x, law=law)["forward_predicted"].iloc[-1]
    cotangent = softmax_second_moment(q, 10)
    table = predict(
        model, x, law=law, cotangent_second_moment=cotangent, cotangent_basis="infinite width"
    )
    error = np.std(losses, ddof=1) / math.sqrt(40)
    assert np.mean(losses) == pytest.approx(initial_cross_entropy(q, 10), abs=4 * error + 0.02)
    mean, error = np.mean(gradients, 0), np.std(gradients, 0, ddof=1) / math.sqrt(40)
    expected = table["backward_predicted"].to_numpy()
    assert np.all(np.abs(mean - expected) < 4 * error + 0.03 * expected)
    assert set(table["backward_basis"]) == {"infinite width"}


def test_a_factor_of_a_dead_layer_is_zero_not_an_error():
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(2))
    model[0].weight.data.zero_()
    factors = calibrate(model, torch.ones(2, 1, 4, 4))
    assert factors[("2", 0)] == Factor(0.0, 0.25, 0.0)
