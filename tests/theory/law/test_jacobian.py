"""Input-output Jacobians: the exact recursion against enumeration, the simulation against both."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy import stats
from test_cli import assert_light, one_error_line, run
from torch import nn

from figures.theory.jacobian import jacobian_figure, jacobian_table
from theory.activations import parse_activation
from theory.devices import threads_for
from theory.draw.jacobian import COLUMNS, VALUE_COLUMNS, jacobian, jacobian_of, singular_values
from theory.draw.stacks import build_stack
from theory.errors import RequestError
from theory.initializers import SHAPES, parse_initializer
from theory.law.jacobian import (
    independent_step,
    limit_density,
    limit_variance,
    spectral_moments,
    zero_fraction,
)
from theory.randomness import generator
from theory.specs import JacobianSpec

# Three points with the first five moments of N(0, 1), of the uniform law, and two of a coin: an
# average over them is the exact expectation of a polynomial of degree 4 (5) in each weight.
POINTS = {
    "normal": (np.sqrt(3) * np.array([-1, 0, 1]), np.array([1, 4, 1]) / 6),
    "uniform": (3 / np.sqrt(5) * np.array([-1, 0, 1]), np.array([5, 8, 5]) / 18),
    "coin": (np.array([-1.0, 1.0]), np.array([0.5, 0.5])),
}
KURTOSIS = {"normal": 0.0, "uniform": -1.2, "coin": -2.0}


def spec(**changes):
    return JacobianSpec(**({"depth": 3, "width": 12, "draws": 20, "device": "cpu"} | changes))


def enumerate_layers(widths, layer_matrices, slope):
    """(t₁, t₂, Σ M_ii²) by enumeration: every weight point of every layer, every pattern of gates."""
    m = np.eye(widths[0])[None]
    weight = np.ones(1)
    for (matrices, mass), units in zip(layer_matrices, widths[1:], strict=True):
        gates = np.array(list(itertools.product([1.0, slope], repeat=units)))
        step = (gates[:, None, :, None] * matrices[None]).reshape(-1, units, matrices.shape[2])
        mass = np.tile(mass, len(gates)) / len(gates)
        m = np.einsum("aij,bjk,alk->abil", step, m, step).reshape(-1, units, units)
        weight = np.outer(mass, weight).ravel()
    trace, square = np.einsum("aii->a", m), np.einsum("aij,aij->a", m, m)
    return weight @ trace**2, weight @ square, weight @ np.einsum("aii->ai", m).__pow__(2).sum(1)


def independent_matrices(fan_in, units, points, mass):
    count = fan_in * units
    values = np.array(list(itertools.product(points, repeat=count))).reshape(-1, units, fan_in)
    return values, np.prod(np.array(list(itertools.product(mass, repeat=count))), axis=1)


@pytest.mark.parametrize("law", POINTS)
@pytest.mark.parametrize("slope", [0.0, 0.25, -0.5, 1.0])
@pytest.mark.parametrize("widths", [(2, 1, 2), (2, 2), (1, 2, 2, 1), (3, 2), (1, 3, 1)])
def test_the_recursion_is_the_enumeration_of_every_weight_and_gate(law, slope, widths):
    layers = [independent_matrices(n, m, *POINTS[law]) for n, m in itertools.pairwise(widths)]
    exact = enumerate_layers(widths, layers, slope)
    moments = (float(widths[0]) ** 2, float(widths[0]), float(widths[0]))
    for units in widths[1:]:
        moments = independent_step(
            moments, units, 1.0, (1 + slope**2) / 2, (1 + slope**4) / 2, KURTOSIS[law]
        )
    np.testing.assert_allclose(moments, exact, rtol=1e-12)


@pytest.mark.parametrize("slope", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("widths", [(2, 2, 2), (1, 2, 2), (2, 1, 2), (2, 2, 1)])
def test_the_orthogonal_recursion_is_the_integral_over_rotations(slope, widths):
    """Rotations of the plane by 16 even angles integrate their polynomials exactly."""
    angle = 2 * np.pi * np.arange(16) / 16
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = turn.transpose(2, 0, 1)
    layers = [(turn[:, :m, :n], np.full(16, 1 / 16)) for n, m in itertools.pairwise(widths)]
    t1, t2, _ = enumerate_layers(widths, layers, slope)
    law, phi = parse_initializer("orthogonal"), parse_activation(f"prelu:{slope}")
    got = spectral_moments(widths, law, phi)
    mean = math.exp(got.log_scale) * widths[0] / phi_gain(slope) ** (2 * len(layers))
    assert got.mean_square * mean**2 == pytest.approx(t1, rel=1e-12)
    assert got.second_moment * mean**2 / widths[0] == pytest.approx(t2, rel=1e-12)


def phi_gain(slope):
    return math.sqrt(2 / (1 + slope**2))


@pytest.mark.parametrize("widths", [(5, 3, 4), (3, 5, 5), (4, 4, 4)])
def test_the_orthogonal_recursion_holds_beyond_the_plane(widths):
    """scipy's Haar matrices and independent coins, against the recursion's own standard error."""
    draws, slope, rng = 40_000, 0.25, np.random.default_rng(3)
    j = np.broadcast_to(np.eye(widths[0]), (draws, widths[0], widths[0]))
    for n, m in itertools.pairwise(widths):
        q = stats.ortho_group.rvs(max(n, m), size=draws, random_state=rng)[:, :m, :n]
        j = rng.choice([1.0, slope], size=(draws, m, 1)) * (q @ j) * phi_gain(slope)
    gram = j.transpose(0, 2, 1) @ j
    exact = spectral_moments(widths, parse_initializer("orthogonal"), parse_activation("prelu"))
    mean = math.exp(exact.log_scale)
    trace = np.einsum("aii->a", gram) / widths[0] / mean
    square = np.einsum("aij,aij->a", gram, gram) / widths[0] / mean**2
    for seen, expected in ((trace, 1), (trace**2, exact.mean_square), (square, exact.second_moment)):
        assert abs(seen.mean() - expected) < 4 * seen.std() / math.sqrt(draws)


@pytest.mark.parametrize(
    "law, activation, per_layer",
    [
        ("he", "linear", 1.0),
        ("he", "relu", 2.0),
        ("orthogonal", "relu", 1.0),
        ("orthogonal", "linear", 0.0),
        ("he", "prelu", 2 * (1 + 0.25**4) / (1 + 0.25**2) ** 2),
        ("he-uniform", "relu", 2.0),
        ("xavier", "relu", 2.0),
    ],
)
def test_published_variances_at_infinite_width(law, activation, per_layer):
    initializer, phi = parse_initializer(law), parse_activation(activation)
    assert limit_variance(10, initializer, phi) == pytest.approx(10 * per_layer, abs=1e-12)
    wide = spectral_moments((10**9,) * 11, initializer, phi)
    assert wide.variance == pytest.approx(10 * per_layer, rel=1e-6, abs=1e-9)
    assert wide.mean_square == pytest.approx(1, abs=1e-6)


def test_he_keeps_the_mean_at_one_and_xavier_halves_it():
    relu = parse_activation("relu")
    assert spectral_moments((7,) * 5, parse_initializer("he"), relu).log_scale == pytest.approx(0)
    xavier = spectral_moments((7,) * 5, parse_initializer("xavier"), relu)
    assert xavier.log_scale == pytest.approx(-4 * math.log(2))


def test_kurtosis_is_scipys():
    _, _, _, kurtosis = stats.truncnorm.stats(-2, 2, moments="mvsk")
    assert SHAPES["uniform"].excess_kurtosis == pytest.approx(float(stats.uniform.stats(moments="k")))
    assert SHAPES["truncated"].excess_kurtosis == pytest.approx(float(kurtosis), abs=1e-10)


@pytest.mark.parametrize("activation", ["relu", "prelu", "leaky-relu:-0.5", "linear"])
@pytest.mark.parametrize("law", ["he", "normal", "pytorch", "orthogonal"])
def test_the_product_of_weights_and_gates_is_autograds_jacobian(law, activation):
    initializer, phi = parse_initializer(law), parse_activation(activation)
    widths = (6, 9, 5, 7)
    plain = build_stack(widths, initializer, phi, generator(1), dtype=torch.float64)
    stack = nn.Sequential(*plain, phi.module().double())
    inputs = torch.randn(6, dtype=torch.float64, generator=generator(2))
    expected = torch.autograd.functional.jacobian(stack, inputs)
    got = jacobian_of(stack, inputs, [1.0, 2.0, 0.5])
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("law", ["he", "he-uniform", "orthogonal", "pytorch", "he-truncated"])
def test_simulated_networks_have_the_exact_moments(law):
    table = jacobian(spec(initializers=(law,), width=24, draws=150, depth=3))
    for name in ("mean_z", "variance_z", "mean_square_z"):
        assert (table[name].abs() < 4).all(), table[["activation", name]]
    assert list(table.columns) == list(COLUMNS)


def test_the_standard_error_of_the_mean_is_right_over_seeds():
    seeds = 30
    z = [
        jacobian(spec(width=8, depth=2, draws=20, initializers=("he",), seed=seed))["mean_z"]
        for seed in range(seeds)
    ]
    z = np.array(z)
    assert np.all(np.abs(z.mean(0)) < 4 / math.sqrt(seeds))
    low, high = stats.chi2.ppf([5e-5, 1 - 5e-5], seeds - 1) / (seeds - 1)
    assert np.all((z.var(0, ddof=1) > low) & (z.var(0, ddof=1) < high))


def test_relu_networks_lose_the_rank_that_the_theory_counts():
    table = jacobian(spec(width=6, depth=3, draws=400, activations=("relu",)))
    k = np.array(list(itertools.product(range(7), repeat=3))).min(1)
    mass = np.array(
        [math.prod(row) for row in itertools.product(stats.binom.pmf(range(7), 6, 0.5), repeat=3)]
    )
    exact = 1 - mass @ k / 6
    assert zero_fraction(3, 6, parse_activation("relu")) == pytest.approx(exact, abs=1e-12)
    error = math.sqrt(mass @ (k / 6 - (1 - exact)) ** 2 / 400)
    assert np.all(np.abs(table["zero_fraction"] - exact) < 4 * error)


@pytest.mark.parametrize("law", ["he", "orthogonal"])
@pytest.mark.parametrize("activation", ["relu", "prelu", "linear"])
def test_the_limit_density_holds_its_own_moments(law, activation):
    if (law, activation) == ("orthogonal", "linear"):
        pytest.skip("an isometry has no density")
    initializer, phi, depth = parse_initializer(law), parse_activation(activation), 4
    x = np.linspace(-25, 4, 2001)
    density = limit_density(x, depth, initializer, phi)
    total, mean, square = (np.trapezoid(density * np.exp(k * x), x) for k in range(3))
    below = np.mean(density[:2]) * 8  # what lies left of the grid, at the least
    assert total <= 1.001 and total + below > (0.49 if activation == "relu" else 0.97)
    assert mean == pytest.approx(1, abs=2e-3)  # the trapezoid rule at a square-root edge
    assert square - 1 == pytest.approx(limit_variance(depth, initializer, phi), rel=5e-3)


def test_the_root_of_the_density_is_followed_across_its_cut():
    """One layer of slope 0.1: the principal root loses the path, the continuous one does not."""
    x = np.linspace(-14, 3, 3001)
    density = limit_density(x, 1, parse_initializer("he"), parse_activation("prelu:0.1"))
    assert np.trapezoid(density * np.exp(x), x) == pytest.approx(1, abs=2e-3)


def test_far_below_the_support_the_density_is_zero():
    x = np.linspace(-400, -300, 11)
    density = limit_density(x, 100, parse_initializer("orthogonal"), parse_activation("prelu:0.95"))
    assert np.all(density < 1e-6)


def test_the_linear_gaussian_density_is_fuss_and_catalans():
    """x = sin^{L+1}((L+1)φ)/(sin φ·sin^L(Lφ)), density sin²φ·sin^{L−1}(Lφ)/(π·sin^L((L+1)φ))."""
    depth, angle = 5, np.linspace(0.02, 0.5, 60)
    top, low = np.sin((depth + 1) * angle), np.sin(depth * angle)
    x = top ** (depth + 1) / np.sin(angle) / low**depth
    density = np.sin(angle) ** 2 * low ** (depth - 1) / np.pi / top**depth
    got = limit_density(np.log(x), depth, parse_initializer("he"), parse_activation("linear"))
    np.testing.assert_allclose(got, density * x, rtol=2e-4)


def test_a_wide_spectrum_is_the_limit_density():
    values = singular_values(spec(width=150, depth=4, draws=6, activations=("prelu",)))
    for law, part in values.groupby("initializer", sort=False):
        grid = np.linspace(-25, 4, 3001)
        density = limit_density(grid, 4, parse_initializer(str(law)), parse_activation("prelu"))
        cumulative = 1 - np.cumsum(density[::-1])[::-1] * (grid[1] - grid[0])
        seen = np.searchsorted(np.sort(np.log(part["relative_squared"])), grid) / len(part)
        assert np.abs(seen - cumulative).max() < 0.02  # eigenvalues repel: far below 1/√900


def test_deep_networks_of_any_scale_stay_finite():
    table = jacobian(
        spec(depth=160, width=6, draws=5, initializers=("normal", "normal:1e-3", "pytorch"))
    )
    assert np.isfinite(table.select_dtypes("number").to_numpy()).all()


def test_results_depend_on_the_seed_and_on_nothing_else():
    first = singular_values(spec())
    torch.manual_seed(5)
    assert first.equals(singular_values(spec()))
    assert list(first.columns) == list(VALUE_COLUMNS)
    assert not first.equals(singular_values(spec(seed=1)))


def test_threads_are_as_many_afterwards_even_if_it_fails():
    before = torch.get_num_threads()
    with pytest.raises(ValueError), threads_for(8):
        assert torch.get_num_threads() == 1
        raise ValueError
    assert torch.get_num_threads() == before


def test_mps_is_refused_where_float64_is_needed(monkeypatch):
    monkeypatch.setattr("theory.devices.resolve_device", torch.device)
    with pytest.raises(RequestError, match="float64"):
        singular_values(spec(device="mps"))


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"depth": 0}, "depth must be"),
        ({"width": 0}, "width must be"),
        ({"draws": 4}, "draws must be"),
        ({"initializers": ("hee",)}, "did you mean he"),
        ({"activations": ("tanh",)}, "hold for rectifiers"),
        ({"activations": ()}, "at least one"),
        ({"width": 4096, "draws": 100_000}, "fewer draws"),
        ({"device": "tpu"}, "cuda"),
    ],
)
def test_a_wrong_request_is_refused_on_construction(changes, says):
    with pytest.raises(RequestError, match=says):
        spec(**changes)


def rendered(table, width=80):
    console = Console(width=width, record=True, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_table_and_figure_show_what_was_computed():
    values = singular_values(spec())
    table = jacobian(spec(), values)
    text = rendered(jacobian_table(table))
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    assert "orthogonal · prelu" in text and "Few networks carry th" not in text
    narrow = jacobian(spec(width=2, depth=12))
    assert "Few networks carry" in rendered(jacobian_table(narrow))
    figure = jacobian_figure(values, table)
    assert [axes.get_title(loc="left") for axes in figure.axes[:2]] == [
        "he · linear",
        "orthogonal · linear",
    ]


def test_the_command(capsys, tmp_path):
    argv = ["jacobian", "--depth", 3, "--width", 10, "--draws", 5, "--device", "cpu"]
    assert run(*argv, "--json", "--out", tmp_path) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["command", "spec", "environment", "curves"]
    assert len(document["curves"]) == 6 and document["curves"][2]["variance_limit"] == 6
    for name in ("jacobian.csv", "singular_values.csv", "jacobian.png", "jacobian.pdf"):
        assert (tmp_path / name).stat().st_size > 500


def test_a_wrong_command_is_one_line(capsys):
    assert run("jacobian", "--activation", "gelu") == 2
    assert "rectifiers" in one_error_line(capsys.readouterr())
    assert_light(["jacobian", "--init", "hee"], code=2, says="did you mean he")
