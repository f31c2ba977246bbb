import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn

import cli
from figures.theory.convolution import border_figure
from theory.activations import parse_activation
from theory.draw.convolution import BORDER_COLUMNS, ConvSimulation
from theory.draw.convolution_stacks import ConvEnsemble
from theory.draw.ensemble import groups
from theory.draw.variance import COLUMNS, measure, variance
from theory.errors import RequestError
from theory.law import mean_field
from theory.law.convolution import (
    expected_log_gradient,
    expected_log_power,
)
from theory.randomness import generator
from theory.specs import ConvSpec
from theory.windows import backward_power, forward_power, kept_with_mean

GEOMETRIES = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": (5, 2), "padding": (2, 1), "stride": (1, 3)},
    {"kernel_size": 3, "padding": 2, "dilation": 2},
    {"kernel_size": 4, "padding": "same"},
    {"kernel_size": 3, "padding": "valid"},
    {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    {"kernel_size": 5, "padding": 2, "stride": 2, "padding_mode": "reflect"},
    {"kernel_size": 5, "padding": 2, "padding_mode": "replicate"},
]


def ones_conv(geometry):
    conv = nn.Conv2d(1, 1, bias=False, dtype=torch.float64, **geometry)
    conv.weight.data.fill_(1 / conv.weight.numel())
    return conv


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_the_power_map_is_torchs_own_convolution_with_constant_weights(geometry):
    """Σ of squared taps is a convolution of the squares: torch's indexing is the oracle."""
    power = np.random.default_rng(0).random((9, 7))
    x = torch.from_numpy(power)[None, None].requires_grad_()
    y = ones_conv(geometry)(x)
    np.testing.assert_allclose(forward_power(power, **geometry), y[0, 0].detach().numpy(), atol=1e-15)
    cotangent = torch.rand_like(y)
    (gradient,) = torch.autograd.grad(y, x, cotangent)
    back = backward_power(cotangent[0, 0].numpy(), (9, 7), **geometry)
    np.testing.assert_allclose(back, gradient[0, 0].numpy(), atol=1e-15)


@pytest.mark.parametrize("size, published", [(32, 0.95877), (4, 0.69444)])
def test_one_zero_padded_layer_loses_the_published_share(size, published):
    mean = forward_power(np.ones((size, size)), 3, 1).mean()
    assert mean == pytest.approx(((3 * size - 2) / (3 * size)) ** 2, rel=1e-14)
    assert round(mean, 5) == published


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: forward_power(np.ones((2, 2)), 3, 0), "does not fit"),
        (lambda: forward_power(np.ones(4), 3, 1), "two dimensions"),
        (lambda: forward_power(np.ones((4, 4)), 0, 1), "whole number"),
        (lambda: forward_power(np.ones((4, 4)), 3, -1), "padding must be"),
        (lambda: forward_power(np.ones((4, 4)), 3, "some"), "same"),
        (lambda: forward_power(np.ones((4, 4)), 3, 1, padding_mode="zero"), "did you mean zeros"),
        (lambda: backward_power(np.ones((4, 4)), 8, 3, 1), "8×8 pixels"),
    ],
)
def test_an_impossible_geometry_is_refused(call, says):
    with pytest.raises(RequestError, match=says):
        call()


# ------------------------------------------------------------------------------- expectation


def tiny(**changes):
    values = {"depth": 3, "channels": 4, "image_size": 5, "draws": 30, "device": "cpu"}
    return ConvSpec(**values | {"initializers": ("he",), "activations": ("relu",)} | changes)


@pytest.mark.parametrize("activation", ["relu", "prelu", "linear"])
def test_the_map_after_l_layers_is_the_closed_form(activation):
    """E[q_l(i,j)] = s (s A₂)^(l−1) (T^l 1)_i (T^l 1)_j with T the tridiagonal matrix of 1/3."""
    phi, size, depth, std = parse_activation(activation), 7, 6, 0.3
    spec = tiny(depth=depth, image_size=size, channels=5, input_second_moment=2.5)
    step = (np.eye(size) + np.eye(size, k=1) + np.eye(size, k=-1)) / 3
    logs = expected_log_power(spec, phi, std)
    for layer in range(1, depth + 1):
        profile = np.linalg.matrix_power(step, layer).sum(1)
        scale = 2.5 * (45 * std**2) ** layer * phi.second_moment ** (layer - 1)
        np.testing.assert_allclose(np.exp(logs[layer - 1]), scale * np.outer(profile, profile))


def every_sign_network(kernel, size, depth, slope):
    """Squares of y_l and of ∂E/∂y_l per pixel, averaged over *all* networks of weights ±1.

    One channel, no padding for even kernels; the cotangent has independent unit entries.
    """
    signs = list(itertools.product((-1.0, 1.0), repeat=kernel**2 * depth))
    weights = torch.tensor(signs, dtype=torch.float64).view(-1, depth, kernel, kernel)
    image = torch.randn(size, size, dtype=torch.float64, generator=generator(0, "image"))
    signal, outputs = image.expand(len(signs), 1, -1, -1).requires_grad_(), []
    for layer in range(depth):
        patches = nn.functional.unfold(signal, kernel, padding=kernel // 2 if kernel % 2 else 0)
        outputs.append(torch.einsum("nk,nkp->np", weights[:, layer].flatten(1), patches))
        side = math.isqrt(outputs[-1].shape[1])
        signal = nn.functional.leaky_relu(outputs[-1], slope).view(-1, 1, side, side)
    gradients = [torch.zeros(output.shape[1], dtype=torch.float64) for output in outputs]
    for pixel in range(outputs[-1].shape[1]):  # independent entries: their squares add
        parts = torch.autograd.grad(outputs[-1][:, pixel].sum(), outputs, retain_graph=True)
        for total, part in zip(gradients, parts, strict=True):
            total += part.square().mean(0)
    squares = [output.detach().square().mean(0) for output in outputs]
    return image.square().numpy(), squares, gradients


@pytest.mark.parametrize(
    "kernel, size, depth, slope", [(3, 2, 1, 0.0), (2, 5, 3, 0.25), (2, 4, 3, -0.5)]
)
def test_the_expectation_is_exact_over_every_network_of_plus_minus_one(kernel, size, depth, slope):
    """No Gaussian, one channel, every network there is: symmetry is all that is used."""
    power, squares, gradients = every_sign_network(kernel, size, depth, slope)
    phi = parse_activation(f"leaky-relu:{slope}")
    spec = tiny(
        depth=depth, channels=1, image_size=size, kernel_size=kernel,
        padding="zero" if kernel % 2 else "none",
    )  # fmt: skip
    backward = np.exp(np.concatenate([g.ravel() for g in expected_log_gradient(spec, phi, 1.0)]))
    np.testing.assert_allclose(np.concatenate(gradients), backward, rtol=1e-12)
    for square in squares:
        power = forward_power(power, kernel, spec.pad) * kernel**2
        np.testing.assert_allclose(square, power.ravel(), rtol=1e-12)
        power = power * phi.second_moment


def test_circular_padding_loses_nothing_and_no_padding_shrinks():
    phi = parse_activation("relu")
    circular = expected_log_power(tiny(padding="circular"), phi, math.sqrt(2 / 36))
    np.testing.assert_allclose(circular, math.log(2), atol=1e-12)
    shrinking = expected_log_power(tiny(padding="none", image_size=9), phi, math.sqrt(2 / 36))
    assert [len(power) for power in shrinking] == [7, 5, 3]
    np.testing.assert_allclose(np.concatenate([p.ravel() for p in shrinking]), math.log(2), atol=1e-12)


def test_one_pixel_is_a_dense_layer():
    """A 1×1 image under a 1×1 kernel: the dense theory, smooth activations and biases included."""
    for name in ("relu", "tanh", "silu"):
        phi = parse_activation(name)
        spec = tiny(image_size=1, kernel_size=1, channels=6, depth=4, input_second_moment=3.0)
        logs = np.ravel(expected_log_power(spec, phi, 0.5, 0.2))
        dense = mean_field.log_second_moments(phi, [math.log(6 * 0.25)] * 4, math.log(3.0), 0.2)
        np.testing.assert_allclose(logs, dense, rtol=1e-9)


@pytest.mark.parametrize("name", ["tanh", "gelu"])
def test_smooth_activations_follow_the_limit_of_many_channels(name):
    spec = tiny(
        depth=3, channels=64, image_size=6, draws=60, direction="both", activations=(name,), sigma_b=0.3
    )  # fmt: skip
    measured = measure(spec)
    table, border = measured.table, measured.border
    gap = (table["log10_measured"] - table["log10_theory"]).abs() * math.log(10)
    # a network scatters by about 6/n per layer, and the limit is off by as much
    assert gap.max() < 4 * math.sqrt(3 * 6 / 64 / 60) + 6 / 64
    corner = border[(border["row"] == 0) & (border["column"] == 0)]
    assert (corner["measured"] / corner["theory"] - 1).abs().max() < 0.25
    assert table["z"].isna().all()


# ------------------------------------------------------------------------------- measurement


@pytest.mark.parametrize("padding, activation, law", [
    ("zero", "prelu:0.1", "he"), ("circular", "relu", "orthogonal"), ("none", "tanh", "xavier-uniform"),
    ("zero", "relu", "pytorch"), ("zero", "silu", "he-truncated"),
])  # fmt: skip
def test_an_ensemble_is_the_plain_network_with_the_same_weights(padding, activation, law):
    """Groups, unit scales and logs against nn.Conv2d in float64, forward and backward, draw by draw."""
    spec = tiny(
        padding=padding, image_size=8, draws=3, batch=2, direction="both",
        activations=(activation,), initializers=(law,),
    )  # fmt: skip
    (group,) = groups(spec)
    images = torch.randn(2, 4, 8, 8, generator=generator(0, "images"))
    simulation = ConvSimulation(spec, group)
    simulation.x = images
    block = simulation.read(0, 3)
    purpose = ("convolution", group.law.shape, 0)
    weights, biases = generator(0, "weights", *purpose), generator(0, "biases", *purpose)
    ensemble = ConvEnsemble(spec, 3, group.law, group.streams, images.device)
    std = spec.weight_std(group.law, group.curves[0].activation)[0]
    drawn = [layer.draw(weights).double() * std for layer in ensemble.layers]
    bias = torch.zeros(3, 3 * 4, dtype=torch.float64)
    if law == "pytorch":
        for layer in bias:
            layer.copy_(torch.empty(3, 4).uniform_(-1, 1, generator=biases).flatten() / 6)
    phi = parse_activation(activation).module().double()
    for draw in range(3):
        signal, outputs = images.double().requires_grad_(), []
        for layer in range(3):
            conv = nn.Conv2d(4, 4, 3, padding=spec.pad, padding_mode=spec.padding_mode,
                             dtype=torch.float64)  # fmt: skip
            conv.weight.data = drawn[layer][4 * draw : 4 * draw + 4]
            conv.bias.data = bias[layer, 4 * draw : 4 * draw + 4]
            outputs.append(conv(signal))
            signal = phi(outputs[-1])
        shape = (2, 3, 4, *outputs[-1].shape[2:])
        cotangent = torch.randn(
            shape[0], 12, *shape[3:], generator=generator(0, "cotangents", *purpose)
        )
        mine = cotangent.view(shape)[:, draw].double()
        gradients = torch.autograd.grad(outputs[-1], outputs, mine)
        for direction, plain in (("forward", outputs), ("backward", gradients)):
            powers, log_scales = block[direction]
            for layer in range(3):
                scale = np.exp(2 * log_scales[layer][:, draw])[:, None, None]
                unit = math.exp(2 * math.log(std / group.streams[0].weight_std[0])
                                * (layer + 1 if direction == "forward" else 2 - layer))  # fmt: skip
                expected = plain[layer].detach().square().mean(1).numpy()
                np.testing.assert_allclose(powers[layer][:, draw] * scale * unit, expected, rtol=2e-4,
                                           atol=1e-6 * expected.max())  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"direction": "both"},
        {"activations": ("prelu",), "channels": 2, "draws": 300},
        {"initializers": ("orthogonal",), "direction": "both"},
        {"sigma_b": 0.5},
        {"initializers": ("pytorch",), "padding": "circular"},
        {"batch": 3, "padding": "none", "image_size": 9, "direction": "both"},
        {"kernel_size": 5, "image_size": 4, "activations": ("linear",)},
    ],
    ids=["default", "narrow", "orthogonal", "bias", "pytorch", "batch", "kernel"],
)
def test_z_is_standard_normal_over_many_seeds(changes):
    """The whole chain: weights, hooks, logs, borders, expectation, standard error."""
    seeds, changes = 24, {"channels": 8, "draws": 80} | changes
    z = []
    for seed in range(seeds):
        table = variance(tiny(**changes, seed=seed))
        forward = table[(table["direction"] == "forward") & (table["layer"] == 3)]["z"]
        backward = table[(table["direction"] == "backward") & (table["layer"] == 1)]["z"]
        z.append([*forward, *backward])
    z = np.array(z)
    assert np.isfinite(z).all()
    assert np.all(np.abs(z.mean(0)) < 4 / math.sqrt(seeds))
    low, high = stats.chi2.ppf([5e-5, 1 - 5e-5], seeds - 1) / (seeds - 1)
    # the skew of the mean of q adds a little
    assert np.all((z.var(0, ddof=1) > low) & (z.var(0, ddof=1) < 1.1 * high))


def test_borders_match_pixel_by_pixel():
    """Each pixel's z over the layers: their largest stays within chance."""
    spec = tiny(depth=4, image_size=6, channels=16, draws=600, direction="both", batch=2)
    table = measure(spec).border
    assert list(table.columns) == list(BORDER_COLUMNS)
    assert set(table["layer"]) == {1, 2, 4} and len(table) == 2 * 3 * 36
    z = (table["measured"] - table["theory"]) / table["standard_error"]
    assert z.abs().max() < stats.norm.ppf(1 - 1e-3 / (2 * len(table)))
    corner = table[(table["row"] == 0) & (table["column"] == 0) & (table["direction"] == "forward")]
    np.testing.assert_allclose(corner["theory"][:1], 4 / 9)


def test_a_thousand_layers_stay_finite_in_both_directions():
    spec = tiny(
        depth=1000, channels=4, image_size=4, draws=2, direction="both",
        initializers=("normal", "normal:1e-3"), activations=("prelu:0.9",),
    )  # fmt: skip
    table = variance(spec)
    numbers = table[["log10_measured", "log10_theory", "log_mean", "log_variance"]].to_numpy()
    assert np.isfinite(numbers).all()
    weak = table[table["initializer"] == "normal:0.001"]["log10_theory"].to_numpy()
    strong = table[table["initializer"] == "normal"]["log10_theory"].to_numpy()
    assert strong[999] - weak[999] == pytest.approx(6000) and strong[1000] - weak[
        1000
    ] == pytest.approx(5994)


def test_the_table_is_the_dense_ones_and_says_what_has_no_law():
    both = variance(tiny(activations=("relu", "tanh"), initializers=("he", "xavier"), direction="both"))
    assert list(both.columns) == list(COLUMNS)
    table = both[both["direction"] == "forward"]
    relu, tanh = (table[table["activation"] == name] for name in ("relu", "tanh"))
    assert set(relu["law"]) == {"mean only"} and set(tanh["law"]) == {"none"}
    assert tanh["z"].isna().all() and relu["z"].notna().all()
    assert table[["log_mean_theory", "log_variance_theory", "log10_band_low"]].isna().to_numpy().all()
    he, xavier = (relu[relu["initializer"] == name] for name in ("he", "xavier"))
    gap = he["log10_measured"].to_numpy() - xavier["log10_measured"].to_numpy()
    np.testing.assert_allclose(gap, np.arange(1, 4) * math.log10(2), atol=1e-12)  # shared weights
    np.testing.assert_allclose(he["z"], xavier["z"])
    back = both[(both["direction"] == "backward") & (both["activation"] == "relu")]
    for source in ("log10_measured", "log10_theory"):
        values = back[source].to_numpy().reshape(2, 3)
        np.testing.assert_allclose(
            values[0] - values[1], np.array([2, 1, 0]) * math.log10(2), atol=1e-12
        )


def test_results_depend_on_the_seed_alone():
    torch.manual_seed(1)
    first = variance(tiny(direction="both"))
    torch.manual_seed(2)
    pd.testing.assert_frame_equal(first, variance(tiny(direction="both")))
    assert not first["log_mean"].equals(variance(tiny(direction="both", seed=1))["log_mean"])


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"depth": 0}, "depth must be"),
        ({"channels": 0}, "channels must be"),
        ({"image_size": 0}, "image size must be"),
        ({"kernel_size": 4}, "odd kernel"),
        ({"padding": "zeros"}, "did you mean zero"),
        ({"padding": "none", "depth": 2, "image_size": 4}, "larger than 4"),
        ({"padding": "circular", "kernel_size": 7, "image_size": 2}, "circular padding of 3"),
        ({"direction": "sideways"}, "forward"),
        ({"initializers": ("hee",)}, "did you mean he"),
        ({"initializers": ("xavier",), "fan": "fan_in"}, "fan of its own"),
        ({"initializers": ("pytorch",), "sigma_b": 1.0}, "contradicts"),
        ({"activations": ()}, "at least one"),
        ({"gain_slope": math.nan}, "gain slope must be"),
    ],
)
def test_a_wrong_request_is_refused_on_construction(changes, says):
    with pytest.raises(RequestError, match=says):
        tiny(**changes)


def test_the_border_picture_shows_what_the_table_holds():
    table = measure(tiny(depth=6, image_size=8)).border
    figure = border_figure(table)
    maps = [axes for axes in figure.axes if axes.images]
    assert len(maps) == 2 * 4
    theory = table[table["layer"] == 1]["theory"].to_numpy().reshape(8, 8)
    np.testing.assert_allclose(maps[0].images[0].get_array(), theory / theory.mean())
    assert maps[0].get_title() == f"$l = 1$: {theory.mean():.3f}"
    profile = next(axes for axes in figure.axes if axes.get_xlabel() == "row of the image")
    np.testing.assert_allclose(profile.lines[0].get_ydata(), theory.mean(1) / theory.mean())


# ------------------------------------------------------------------------------- command line

CONV = ["--stack", "conv", "--image-size", "4", "--channels", "4", "--draws", "4", "--device", "cpu"]


def run(*argv):
    return cli.main(["variance", *map(str, argv)])


def test_the_command_writes_its_tables_and_pictures(capsys, tmp_path):
    assert run(*CONV, "--depth", 3, "--direction", "both", "--json", "--out", tmp_path) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["spec"]["stack"] == "conv" and document["spec"]["padding"] == "zero"
    assert len(document["curves"]) == 3 * 2 * 2
    layers = document["curves"][0]["layers"]
    assert [layer["layer"] for layer in layers] == [1, 2, 3]
    assert layers[0]["log10_theory"] == pytest.approx(math.log10(2 * 0.69444), abs=1e-5)
    files = {path.name for path in tmp_path.iterdir()}
    assert files >= {"variance.csv", "border.csv", "border.png", "variance-backward.pdf"}
    assert run(*CONV, "--depth", 1, "--padding", "circular", "--out", tmp_path / "circular") == 0
    out = capsys.readouterr().out
    assert "border.csv" in out and "border.png" not in out


def test_the_command_says_what_the_border_takes(capsys, tmp_path):
    assert run(*CONV, "--depth", 1, "--out", tmp_path) == 0
    assert "by the border (relu): 0.69444 at layer 1." in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv, says",
    [
        (["--channels", "8"], "--channels is of --stack conv"),
        (["--padding", "circular"], "--padding is of --stack conv"),
        (["--stack", "conv", "--width", "64"], "--width is of dense stacks"),
        (["--stack", "conv", "--kernel-size", "2"], "odd kernel"),
        (["--stack", "conv", "--padding", "none"], "larger than 60"),
        (["--stack", "conv", "--norm", "batch"], "dense stacks only"),
        (["--stack", "convolution"], "invalid choice"),
        (["--norm", "batch", "--image-size", "8"], "--image-size is of --stack conv"),
        (["--norm", "batch", "--batch", "2"], "at least 4"),
        (["--norm", "batch", "--sigma-b", "1"], "removes every bias"),
    ],
)
def test_a_contradiction_is_one_line_and_exit_2(argv, says, capsys, tmp_path):
    assert run(*argv, "--out", tmp_path) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and says in captured.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("padding, stride, dilation, mode", [
    (1, 1, 1, "zeros"), ((2, 1), 2, 1, "zeros"), (2, 1, 2, "zeros"), ("same", 1, 2, "zeros"),
    (0, 1, 1, "zeros"), (1, 1, 1, "circular"), (1, 2, 1, "reflect"),
])  # fmt: skip
def test_what_a_pixel_keeps_of_the_mean_is_seen_tap_by_tap(padding, stride, dilation, mode):
    layer = torch.nn.Conv2d(
        1, 9, 3, padding=padding, stride=stride, dilation=dilation, padding_mode=mode, bias=False
    )
    layer.weight.data = torch.eye(9).reshape(9, 1, 3, 3)  # one tap per channel
    inside = layer(torch.ones(1, 1, 6, 7)).detach()[0].double()
    kept = (inside * inside.mean((1, 2), keepdim=True)).mean(0).numpy()
    found = kept_with_mean((6, 7), 3, padding, stride, dilation, mode)
    np.testing.assert_allclose(found, kept, rtol=1e-6)
    assert (found == 1).all() == (mode != "zeros" or padding == 0)
