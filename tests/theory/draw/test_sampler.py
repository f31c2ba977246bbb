"""The exact sampler, and the gradient's law, against networks that are really drawn."""

import math

import numpy as np
import pytest
import torch
from drawn import single_draws
from scipy import stats

from theory.activations import parse_activation
from theory.draw import sampler as law
from theory.draw.dense import BLOCK_BYTES, DenseSimulation
from theory.draw.ensemble import groups
from theory.draw.stacks import Stream, activate
from theory.draw.variance import growth, variance
from theory.errors import RequestError
from theory.law.finite_width import dead_probability
from theory.randomness import generator
from theory.specs import VarianceSpec


def spec(**changes):
    values = {
        "depth": 5,
        "width": 24,
        "draws": 2000,
        "initializers": ("he",),
        "device": "cpu",
    } | changes
    return VarianceSpec(**values)


def both_engines(**changes):
    return (single_draws(spec(engine=engine, **changes)) for engine in ("modules", "law"))


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("activation", ["relu", "prelu", "leaky-relu:-0.5", "linear"])
@pytest.mark.parametrize("width", [4, 24, 70])
def test_the_sampler_is_indistinguishable_from_modules(width, activation, direction):
    modules, sampled = both_engines(width=width, activations=(activation,), direction=direction)
    for layer in (0, 2, 4):
        one, two = modules[0, :, layer, 0], sampled[0, :, layer, 0]
        assert abs(np.isinf(one).mean() - np.isinf(two).mean()) < 4 * math.sqrt(0.5 / len(one))
        one, two = one[np.isfinite(one)], two[np.isfinite(two)]
        if direction == "backward" and layer == 4:  # the cotangent itself
            assert np.abs(one).max() < 1e-6 and np.abs(two).max() == 0
        else:
            assert stats.ks_2samp(one, two).pvalue > 1e-4


@pytest.mark.parametrize("activation", ["relu", "prelu", "tanh"])
@pytest.mark.parametrize("changes", [{}, {"sigma_b": 0.6}], ids=["plain", "bias"])
def test_a_batch_is_indistinguishable_from_modules(activation, changes):
    modules, sampled = both_engines(activations=(activation,), batch=3, **changes)
    for column in range(3):
        assert stats.ks_2samp(modules[0, :, 4, column], sampled[0, :, 4, column]).pvalue > 1e-4
    gap = [log_q[0, :, 4, 0] - log_q[0, :, 4, 1] for log_q in (modules, sampled)]
    assert stats.ks_2samp(*gap).pvalue > 1e-4  # the joint law: inputs of one network go together


@pytest.mark.parametrize("width, batch, depth", [(3, 5, 6), (8, 4, 20), (1, 3, 4), (2, 7, 12)])
@pytest.mark.parametrize("activation", ["relu", "prelu"])
def test_a_batch_larger_than_a_layer_keeps_every_inputs_own_law(width, batch, depth, activation):
    """Where XᵀX is singular: the dead stay dead, and each input is a single input."""
    values = {"width": width, "depth": depth, "activations": (activation,), "engine": "law"}
    (log_q,) = single_draws(spec(batch=batch, draws=20_000, **values))
    (one,) = single_draws(spec(draws=20_000, seed=1, **values))
    dead = np.isinf(log_q[:, -1]).mean(0)
    expected = dead_probability(width, 0.0) if activation == "relu" else 0.0
    expected = 1 - (1 - expected) ** (depth - 1)
    assert np.all(np.abs(dead - expected) <= 4.5 * math.sqrt(expected * (1 - expected) / 20_000))
    alone = one[np.isfinite(one[:, -1, 0]), -1, 0]
    for column in range(batch):
        alive = log_q[np.isfinite(log_q[:, -1, column]), -1, column]
        assert stats.ks_2samp(alive, alone).pvalue > 1e-5


@pytest.mark.parametrize("bias", [1e-12, 0.3])
def test_a_bias_wakes_a_dead_input_of_a_batch_at_its_own_size(bias):
    values = {"width": 2, "depth": 3, "activations": ("relu",), "sigma_b": bias, "draws": 20_000}
    (log_q,) = single_draws(spec(batch=3, engine="law", **values))
    (one,) = single_draws(spec(engine="law", seed=1, **values))
    assert np.isfinite(log_q).all()
    for column in range(3):
        assert stats.ks_2samp(log_q[:, -1, column], one[:, -1, 0]).pvalue > 1e-5


@pytest.mark.parametrize("slope", [0.0, 0.25])
@pytest.mark.parametrize("width", [8, 40])
def test_the_correlation_of_a_pair_has_the_law_of_drawn_matrices(width, slope):
    """Against plain numpy: cosines of y_L of two inputs after four layers."""
    rng, draws, depth = np.random.default_rng(3), 1500, 4
    inputs = torch.randn(width, 2, generator=generator(0, "pair"), dtype=torch.float64)
    inputs = inputs / inputs.square().mean(0).sqrt()
    expected = []
    for _ in range(draws):
        x = inputs.numpy()
        for _ in range(depth):
            y = rng.standard_normal((width, width)) @ x / math.sqrt(width)
            x = np.where(y > 0, y, slope * y)
        norms = np.linalg.norm(y, axis=0)
        expected.append(y[:, 0] @ y[:, 1] / norms.prod() if norms.all() else math.nan)
    stream = Stream(parse_activation(f"prelu:{slope}"), (1 / math.sqrt(width),) * depth)
    widths = (width,) * (depth + 1)
    _, cosine = law.batch(widths, [stream], inputs.float(), draws, generator(1), 0.0)
    both = [values[np.isfinite(values)] for values in (np.array(expected), cosine[:, 0])]
    assert stats.ks_2samp(*both).pvalue > 1e-4


def test_smooth_activations_go_through_units():
    modules, sampled = both_engines(activations=("gelu",), initializers=("lecun",), width=12)
    assert stats.ks_2samp(modules[0, :, 4, 0], sampled[0, :, 4, 0]).pvalue > 1e-4


@pytest.mark.parametrize("engine", ["modules", "law"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"width": 3, "draws": 1500},
        {"layer_widths": (20, 40, 10, 30), "fan": "fan_out", "initializers": ("he", "lecun")},
    ],
    ids=["square", "narrow", "widths"],
)
def test_the_gradients_z_is_standard_normal_over_many_seeds(changes, engine):
    seeds, values = 24, {"draws": 60, "direction": "both", "engine": engine} | changes
    z = np.array([variance(spec(**values, seed=seed))["z"] for seed in range(seeds)])
    table = variance(spec(**values))
    z = z[:, ~((table["direction"] == "backward") & (table["layer"] == table["layer"].max()))]
    assert np.all(np.abs(z.mean(0)) < 4 / math.sqrt(seeds))
    low, high = stats.chi2.ppf([2e-5, 1 - 2e-5], seeds - 1) / (seeds - 1)
    assert np.all((z.var(0, ddof=1) > low) & (z.var(0, ddof=1) < high))


@pytest.mark.parametrize("changes", [{"initializers": ("orthogonal",)}, {"sigma_b": 0.4}])
def test_gates_are_fair_coins_for_orthogonal_weights_and_biases_too(changes):
    seeds = 16
    values = {"draws": 60, "direction": "backward"} | changes
    z = np.array([variance(spec(**values, seed=seed))["z"] for seed in range(seeds)])[:, :4]
    assert np.all(np.abs(z.mean(0)) < 4 / math.sqrt(seeds))


def test_the_gradient_is_autograds():
    """Streams, rescaling and weights drawn twice, against one plain network per draw."""
    for keep in (False, True):
        values = spec(draws=3, depth=4, direction="backward", activations=("prelu", "tanh"))
        (group,) = groups(values)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("theory.draw.dense.KEPT_WEIGHTS", 10**9 if keep else 0)
            (block,) = DenseSimulation(values, group).blocks()
        weights = generator(0, "weights", "normal", 0)
        drawn = [torch.empty(3, 24, 24).normal_(generator=weights).double() for _ in range(4)]
        cotangent = (
            torch.empty(3, 24, 1).normal_(generator=generator(0, "cotangent", "normal", 0)).double()
        )
        cotangent /= cotangent.square().mean(1, keepdim=True).sqrt()
        x0 = torch.randn(24, 1, dtype=torch.float64, generator=generator(0, "inputs"))
        x0 = x0 / x0.square().mean().sqrt()
        for curve in group.curves:
            std = 1.0 if curve.activation.is_rectifier else group.streams[curve.stream].weight_std[0]
            for draw in range(3):
                matrices = [(std * weight[draw]).requires_grad_() for weight in drawn]
                ys, x = [], x0
                for matrix in matrices:
                    ys.append(matrix @ x)
                    ys[-1].retain_grad()
                    x = curve.activation.module().double()(ys[-1])
                ys[-1].backward(cotangent[draw])
                gradient = [math.log(float(y.grad.square().mean())) for y in ys]
                np.testing.assert_allclose(
                    block.log_q["backward"][draw, :, curve.stream, 0], gradient, atol=2e-5
                )
                norm = [math.log(float(matrix.grad.square().sum())) for matrix in matrices]
                np.testing.assert_allclose(block.weight[draw, :, curve.stream, 0], norm, atol=2e-5)


def test_weight_gradients_are_equal_across_layers_while_gradients_vanish():
    """He et al. 2015's two conditions, seen at once: Xavier under ReLU, equal fans."""
    table = variance(spec(initializers=("xavier",), direction="backward", engine="law", draws=100_000))
    relu = table[table["activation"] == "relu"]
    theory = relu["log10_weight_gradient_theory"]
    assert theory.max() - theory.min() < 1e-12
    assert relu["log10_theory"].iloc[0] == pytest.approx(4 * math.log10(0.5), abs=1e-6)
    # squared norms spread by a factor (1 + 5/n) per layer and more; 1e5 draws give 0.5 %
    spread = (1 + 5 / 24) ** 4 * (1 + 2 / 24) - 1
    error = math.sqrt(spread / 100_000) / math.log(10)
    assert ((relu["log10_weight_gradient"] - theory).abs() < 4 * error).all()


@pytest.mark.parametrize(
    "fan, direction, kept", [("fan_in", "forward", 1.0), ("fan_out", "backward", 1.0)]
)
def test_one_fan_mode_keeps_one_direction_and_the_other_drifts(fan, direction, kept):
    widths = (64, 128, 256, 512)
    request = spec(layer_widths=widths, fan=fan, direction="both", engine="law", activations=("relu",))
    table = variance(request)
    change = {}
    for name, rows in table.groupby("direction"):
        ends = rows["log10_theory"].iloc[0], rows["log10_theory"].iloc[-1]
        change[name] = 10 ** (ends[1] - ends[0] if name == "forward" else ends[0] - ends[1])
    assert change[direction] == pytest.approx(kept)
    other = {"forward": "backward", "backward": "forward"}[direction]
    # He et al. 2015, after Eq. 14: c_2/d_L forward, its inverse backward
    assert change[other] == pytest.approx(512 / 128 if other == "backward" else 128 / 512)
    assert set(growth(request, table)["agreement"]) == {"yes"}


def test_memory_does_not_grow_with_the_number_of_draws():
    few, many = spec(engine="law", draws=10_000), spec(engine="law", draws=10_000_000)
    simulations = [DenseSimulation(one, groups(one)[0]) for one in (few, many)]
    first = [next(iter(one.blocks())).log_q["forward"].shape for one in simulations]
    assert 8 * math.prod(first[1]) <= BLOCK_BYTES and first[0][0] <= first[1][0]


def test_the_law_keeps_its_numbers_in_logs():
    table = variance(spec(engine="law", depth=300, draws=50, initializers=("normal", "normal:1e-3")))
    assert np.isfinite(table[["log10_measured", "log_mean", "log_variance"]].to_numpy()).all()


def test_activate_is_the_activation_at_its_true_scale():
    phi = parse_activation("tanh")
    unit = torch.randn(2, 5, 3, generator=generator(0))
    scale = torch.tensor([[0.0, 1.0, -2.0], [3.0, -40.0, 200.0]], dtype=torch.float64)
    got = activate(phi, phi.module(), unit, scale).double()
    true = torch.tanh(unit.double() * scale.exp()[:, None, :]) / scale.exp()[:, None, :]
    torch.testing.assert_close(got, true, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"initializers": ("he-uniform",)}, "Gaussian weights, and he-uniform"),
        ({"initializers": ("orthogonal",)}, "--engine modules"),
        ({"direction": "both", "batch": 2}, "one input"),
        ({"direction": "backward", "activations": ("tanh",)}, "rectifiers"),
        ({"direction": "backward", "sigma_b": 0.1}, "without bias"),
    ],
)
def test_what_the_law_does_not_cover_is_refused(changes, says):
    with pytest.raises(RequestError, match=says):
        spec(engine="law", **changes)


def test_bad_widths_are_refused():
    for widths, says in (((5,), "at least two"), ((5, 0), "width must be"), ((), "at least two")):
        with pytest.raises(RequestError, match=says):
            spec(layer_widths=widths)
