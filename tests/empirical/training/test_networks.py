"""The network against the protocol, layer by layer, and its weights against torch's own draws."""

import math

import pytest
import torch
from torch import nn

from empirical.protocol import TrainSpec
from empirical.training.families import build_network
from empirical.training.networks import FlattenLinear, SharedPReLU
from theory.randomness import generator


def parameters_by_hand(depth, prelu, norm=True, width=32):
    """Weights and biases counted from the protocol's sentence, not from the code."""
    total, size = 3 * 9 * width + width, 32
    for i in range(1, depth):
        total += width * 9 * width + width + (2 * width if norm else 0)
        if i % 2 == 0 and size > 1:
            size //= 2
    return total + size * size * width * 10 + 10 + (depth if prelu else 0)


@pytest.mark.parametrize("depth", [1, 2, 5, 10, 12, 30])
@pytest.mark.parametrize("activation", ["relu", "prelu"])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_parameters_and_output(depth, activation, norm):
    spec = TrainSpec(depth=depth, activation=activation, norm=norm)
    network = build_network(spec)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == spec.parameters == parameters_by_hand(depth, activation == "prelu", norm == "batch")
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize(
    ("depth", "side", "pools"), [(2, 32, 0), (5, 8, 2), (10, 2, 4), (12, 1, 5), (30, 1, 5)]
)
def test_shapes_and_order_of_layers(depth, side, pools):
    spec = TrainSpec(depth=depth, filters=4)
    network = build_network(spec)
    names = [name for name, _ in network.named_children()]
    assert names[:2] == ["conv01", "act01"]  # no batch norm after the first convolution
    for layer in range(2, depth + 1):
        start = names.index(f"conv{layer:02d}")
        assert names[start : start + 3] == [f"conv{layer:02d}", f"norm{layer:02d}", f"act{layer:02d}"]
    assert [name for name in names if name.startswith("pool")] == [
        f"pool{2 * k + 1:02d}" for k in range(1, pools + 1)
    ]
    assert names[-1] == "head"
    x = torch.zeros(2, 3, 32, 32)
    sizes = []
    for name, module in network.named_children():
        if name.startswith("conv"):
            sizes.append(x.shape[-1])
        if name == "head":
            assert x.shape == (2, 4, side, side)
        x = module(x)
    assert tuple(sizes) == spec.map_sizes


@pytest.mark.parametrize("fan", ["fan_out", "fan_in"])
def test_he_is_torchs_kaiming_normal_bit_for_bit(fan):
    network = build_network(TrainSpec(depth=5, fan=fan, seed=3))
    stream = generator(3, "weights")
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            weight = torch.empty(module.weight.shape)
            nn.init.kaiming_normal_(
                weight, a=0.01, mode=fan, nonlinearity="leaky_relu", generator=stream
            )
            assert torch.equal(module.weight, weight)
            bound = 1 / math.sqrt(module.weight[0].numel())
            bias = torch.empty(module.bias.shape).uniform_(-bound, bound, generator=stream)
            assert torch.equal(module.bias, bias)


LAWS = {
    "he": lambda fan_in, fan_out: 2 / (1.0001 * fan_out),
    "normal": lambda fan_in, fan_out: 1.0,
    "normal:0.1": lambda fan_in, fan_out: 0.01,
    "xavier": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "lecun": lambda fan_in, fan_out: 1 / fan_out,
}


@pytest.mark.parametrize("initializer", LAWS)
def test_the_variance_of_every_layer_is_the_laws(initializer):
    network = build_network(TrainSpec(initializer=initializer, depth=5))
    for name, module in network.named_children():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            weight = module.weight.detach().double()
            patch = weight[0, 0].numel() if weight.dim() == 4 else 1
            law = LAWS[initializer](weight.shape[1] * patch, weight.shape[0] * patch)
            # The mean square of n Gaussians of variance v has standard error v·√(2/n).
            error = law * math.sqrt(2 / weight.numel())
            assert abs(weight.square().mean().item() - law) < 5 * error, name


@pytest.mark.parametrize(
    "initializer", ["he-uniform", "he-truncated", "xavier-uniform", "pytorch", "orthogonal"]
)
def test_every_law_builds_and_draws_nothing_globally(initializer):
    before = torch.random.get_rng_state()
    network = build_network(TrainSpec(initializer=initializer, depth=3, activation="prelu"))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(parameter.isfinite().all() for parameter in network.parameters())
    again = build_network(TrainSpec(initializer=initializer, depth=3, activation="prelu"))
    for one, two in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)


def test_normalization_and_slopes_start_as_torchs():
    network = build_network(TrainSpec(depth=4, activation="prelu", initializer="normal"))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all()
            assert (module.running_mean == 0).all() and (module.running_var == 1).all()
        if isinstance(module, nn.PReLU):
            assert module.weight.tolist() == [0.25]
    steep = build_network(TrainSpec(depth=2, activation="prelu:0.5"))
    assert steep.get_parameter("act02.weight").tolist() == [0.5]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("slope", [0.25, 0.0, -0.5, 1.5])
def test_shared_prelu_is_torchs(layout, slope):
    ours, torchs = SharedPReLU(slope), nn.PReLU(init=slope)
    assert ours.state_dict().keys() == torchs.state_dict().keys()
    source = torch.Generator().manual_seed(0)
    y = torch.randn(4, 3, 6, 6, generator=source).contiguous(memory_format=layout)
    y[0, 0, 0, :3] = 0.0  # the convention at zero: the negative side
    cotangent = torch.randn(4, 3, 6, 6, generator=source)
    found = []
    for module in (ours, torchs):
        x = y.clone().requires_grad_()
        out = module(x)
        found.append((out.detach(), *torch.autograd.grad(out, [x, module.weight], cotangent)))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert found[0][2].shape == (1,)
    exact = (y.double().clamp_max(0) * cotangent.double()).sum()
    # n products summed in float32: an error of at most n·2⁻²⁴ of the sum of their sizes.
    bound = y.numel() * 2**-24 * (y.double().clamp_max(0) * cotangent.double()).abs().sum()
    assert abs(found[0][2].double() - exact) < bound
    assert abs(found[1][2].double() - exact) < bound


def test_shared_prelu_has_the_right_derivative():
    module = SharedPReLU().double()
    y = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = y.sign() * (y.abs() + 0.1)  # away from the kink
    assert torch.autograd.gradcheck(
        lambda y, a: torch.func.functional_call(module, {"weight": a}, y),
        (y.requires_grad_(), module.weight.detach().clone().requires_grad_()),
    )


def test_flatten_linear_is_flatten_then_linear():
    ours = FlattenLinear(3 * 4 * 4, 10).double()
    pair = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 10)).double()
    pair[1].load_state_dict(ours.state_dict())
    x = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for layout in (torch.contiguous_format, torch.channels_last):
        found = []
        for module in (ours, pair):
            y = x.contiguous(memory_format=layout).requires_grad_()
            out = module(y)
            found.append((out, *torch.autograd.grad(out.square().sum(), [y, *module.parameters()])))
        for one, two in zip(*found, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)
