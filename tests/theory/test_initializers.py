import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from theory.activations import PRELU_SLOPE
from theory.errors import RequestError
from theory.initializers import (
    INITIALIZERS,
    SHAPES,
    TRUNCATED_VARIANCE,
    Initializer,
    Law,
    draw_,
    fans,
    parse_initializer,
)
from theory.randomness import generator

SIZES = [(512, 512), (64, 3, 3, 3), (10, 32768), (7, 13), (100, 37, 3, 3)]
NAMED = [name.replace("STD", "0.02") for name in INITIALIZERS]
TORCH = {
    ("he", "fan_in"): lambda w, g: nn.init.kaiming_normal_(w, 0, "fan_in", generator=g),
    ("he", "fan_out"): lambda w, g: nn.init.kaiming_normal_(w, 0, "fan_out", generator=g),
    ("he-uniform", "fan_in"): lambda w, g: nn.init.kaiming_uniform_(w, 0, "fan_in", generator=g),
    ("he-uniform", "fan_out"): lambda w, g: nn.init.kaiming_uniform_(w, 0, "fan_out", generator=g),
    ("xavier", None): lambda w, g: nn.init.xavier_normal_(w, generator=g),
    ("xavier-uniform", None): lambda w, g: nn.init.xavier_uniform_(w, generator=g),
    ("orthogonal", None): lambda w, g: nn.init.orthogonal_(w, math.sqrt(2), generator=g),
    ("normal", None): lambda w, g: nn.init.normal_(w, generator=g),
    ("normal:0.01", None): lambda w, g: nn.init.normal_(w, 0, 0.01, generator=g),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("name, fan", TORCH)
def test_the_numbers_are_torchs_own_bit_for_bit(name, fan, shape, dtype):
    ours = parse_initializer(name, fan).draw_(torch.empty(shape, dtype=dtype), generator(3, "w"))
    theirs = TORCH[name, fan](torch.empty(shape, dtype=dtype), generator(3, "w"))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("slope", [0.01, PRELU_SLOPE])
def test_the_gain_slope_is_torchs_leaky_relu_gain(slope):
    ours = parse_initializer("he").draw_(torch.empty(40, 50), generator(0), slope)
    theirs = nn.init.kaiming_normal_(
        torch.empty(40, 50), slope, nonlinearity="leaky_relu", generator=generator(0)
    )
    assert torch.equal(ours, theirs)


def test_pytorchs_default_is_a_linear_layers_own_law():
    law = parse_initializer("pytorch")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        linear = nn.Linear(300, 200)
    bound = math.sqrt(3 * law.variance(300, 200))
    assert bound == pytest.approx(1 / math.sqrt(300), rel=1e-12)
    for parameter in (linear.weight, linear.bias):  # fills its interval and stays inside
        assert 0.97 * bound < parameter.abs().max() <= bound


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("shape", [(300, 200), (64, 32, 3, 3)])
def test_drawn_weights_have_the_variance_the_law_states(name, shape):
    law = parse_initializer(name)
    weight = law.draw_(torch.empty(shape, dtype=torch.float64), generator(1, name))
    variance = law.std_of(shape) ** 2
    count = weight.numel()
    # exact standard errors under independence; an orthogonal matrix is tighter still
    kurtosis = 3.0 if SHAPES[law.shape].is_orthogonal else SHAPES[law.shape].kurtosis
    assert abs(float(weight.mean())) < 4.5 * math.sqrt(variance / count)
    deviation = float(weight.square().mean()) / variance - 1
    assert abs(deviation) < 4.5 * math.sqrt((kurtosis - 1) / count)


def test_truncation_at_two_sigma_has_the_published_moments():
    assert TRUNCATED_VARIANCE == pytest.approx(0.77374130, abs=5e-9)
    assert math.sqrt(TRUNCATED_VARIANCE) == pytest.approx(0.87962566, abs=5e-9)
    he, cut = parse_initializer("he"), parse_initializer("he-truncated")
    assert cut.variance(100, 100) / he.variance(100, 100) == pytest.approx(TRUNCATED_VARIANCE)
    weight = cut.draw_(torch.empty(200, 100), generator(0))
    assert float(weight.abs().max()) <= 2 * he.std(100, 200) * (1 + 1e-6)


def test_orthogonal_rows_are_orthonormal_up_to_hes_gain():
    weight = parse_initializer("orthogonal").draw_(
        torch.empty(20, 50, dtype=torch.float64), generator(0)
    )
    torch.testing.assert_close(weight @ weight.T, 2 * torch.eye(20, dtype=torch.float64))


# (shape, groups, transposed): wide and tall matrices, kernels, groups, and the two fans changed
HELD = [((32, 3, 3, 3), 1, False), ((8, 32, 3, 3), 1, False), ((7, 13), 1, False),
        ((40, 4, 3, 3), 4, False), ((8, 16, 3, 3), 2, False), ((16, 64, 2, 2), 1, True),
        ((64, 1, 3, 3), 1, True)]  # fmt: skip


@pytest.mark.parametrize("shape, groups, transposed", HELD)
def test_every_singular_value_of_an_orthogonal_weight_is_the_gain(shape, groups, transposed):
    law = parse_initializer("orthogonal")
    empty = torch.empty(shape, dtype=torch.float64)
    weight = law.draw_(empty, generator(0), 0.25, groups=groups, transposed=transposed)
    values = torch.linalg.svdvals(weight.view(groups, shape[0] // groups, -1))
    torch.testing.assert_close(values, torch.full_like(values, math.sqrt(2 / (1 + 0.25**2))))
    std = law.std_of(shape, 0.25, groups=groups, transposed=transposed)
    assert float(weight.square().mean()) == pytest.approx(std**2, rel=1e-12)  # no scatter at all


@pytest.mark.parametrize(
    "channels_in, kernel, forward", [(32, 3, 2.0), (3, 3, 2 * 27 / 32), (16, 1, 1.0)]
)
def test_what_an_orthogonal_convolution_does_to_second_moments(channels_in, kernel, forward):
    """Forward g²·min(1, N/m), as the module says; on a circular map, so that no border is lost."""
    std = parse_initializer("orthogonal").std_of((32, channels_in, kernel, kernel))
    assert kernel**2 * channels_in * std**2 == pytest.approx(forward)
    weight = parse_initializer("orthogonal").draw_(
        torch.empty(32, channels_in, kernel, kernel, dtype=torch.float64), generator(1)
    )
    x = torch.randn(64, channels_in, 16, 16, dtype=torch.float64, generator=generator(2))
    padded = nn.functional.pad(x, (kernel // 2,) * 4, mode="circular")
    ratios = nn.functional.conv2d(padded, weight).square().mean((1, 2, 3)) / x.square().mean((1, 2, 3))
    assert abs(float(ratios.mean()) - forward) < 4.5 * float(ratios.std()) / 8 + 1e-14  # rounding


def test_fans_know_groups_and_transposed_convolutions():
    """Counted on modules: entries that one output sees, and outputs that one input entry reaches."""
    for kind, transposed in ((nn.Conv2d, False), (nn.ConvTranspose2d, True)):
        for groups in (1, 2, 4):
            module = kind(8, 12, 3, padding=0 if transposed else 2, groups=groups, bias=False)
            nn.init.ones_(module.weight)
            x = torch.zeros(1, 8, 9, 9)
            x[0, 0, 4, 4] = 1
            reached = int(module(x).count_nonzero())  # weights are 1: what one input feeds
            seen = module(torch.ones(1, 8, 9, 9)).max()  # away from the border: what feeds one output
            got = fans(module.weight.shape, groups=groups, transposed=transposed)
            assert got == (int(seen), reached), (kind, groups)


def test_groups_must_divide_the_channels():
    with pytest.raises(RequestError, match="4 groups"):
        fans((6, 3, 3, 3), groups=4)


def test_an_unknown_shape_or_fan_raises_and_draws_nothing():
    law = Initializer("odd", Law("cauchy", "one", "fan_in"), "fan_in")
    for ask in (lambda: law.std(3, 3), lambda: law.draw_(torch.empty(3, 3), generator(0))):
        with pytest.raises(RequestError, match="unknown shape of a weight law 'cauchy'"):
            ask()
    with pytest.raises(RequestError, match="unknown shape"):
        draw_("cauchy", torch.empty(3, 3), 1.0, generator(0))
    with pytest.raises(RequestError, match="unknown fan"):
        Initializer("odd", Law("normal", "one", None), None).std(3, 3)


def test_the_memory_format_changes_no_weight():
    for name in ("he", "orthogonal"):
        plain, last = (
            torch.empty(8, 4, 3, 3),
            torch.empty(8, 4, 3, 3).to(memory_format=torch.channels_last),
        )
        law = parse_initializer(name)
        assert torch.equal(law.draw_(plain, generator(0)), law.draw_(last, generator(0)))


def test_he_2015_standard_deviations_of_the_vgg_layers():
    law = parse_initializer("he", "fan_out")
    stds = [law.std(9 * n, 9 * n) for n in (64, 128, 256, 512)]
    assert [round(std, 3) for std in stds] == [0.059, 0.042, 0.029, 0.021]


def test_a_draw_changes_no_global_random_state():
    before = torch.get_rng_state()
    parse_initializer("he").draw_(torch.empty(5, 5), generator(0))
    assert torch.equal(before, torch.get_rng_state())


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_xavier_is_between_the_two_he_modes(fan_in, fan_out):
    xavier = parse_initializer("xavier").variance(fan_in, fan_out)
    modes = [
        parse_initializer("he", fan).variance(fan_in, fan_out) / 2 for fan in ("fan_in", "fan_out")
    ]
    assert min(modes) <= xavier * (1 + 1e-12) and xavier <= max(modes) * (1 + 1e-12)


@pytest.mark.parametrize(
    "name, says",
    [
        ("hee", "did you mean he"),
        ("xavir", "did you mean xavier"),
        ("normal:abc", "must be a number"),
        ("normal:nan", "finite"),
        ("normal:-1", "above 0"),
        ("normal:0", "above 0"),
        ("he:2", "unknown initializer"),
    ],
)
def test_a_wrong_name_says_what_would_be_right(name, says):
    with pytest.raises(RequestError, match=says):
        parse_initializer(name)


def test_an_unknown_fan_is_refused():
    with pytest.raises(RequestError, match="fan_in"):
        parse_initializer("he", "fan_inn")
