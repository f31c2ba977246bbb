import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import cli
from figures.tables import Sheet
from figures.theory.correlation import correlation_figure, correlation_table
from theory.activations import parse_activation
from theory.draw import correlation as C
from theory.draw.ensemble import groups
from theory.draw.moments import Moments
from theory.errors import RequestError
from theory.law import correlation as theory
from theory.law import mean_field, quadrature
from theory.specs import CorrelationSpec

SMALL = {"device": "cpu", "depth": 4, "width": 32, "draws": 50}


def law(slope, c_0, width, depth, draws, seed):
    """Correlation of y_1 … y_L by the law of a pair's Gram matrix: no weights, no torch, no hooks.

    Given x and x', the units (y_i, y'_i) are independent pairs of normals with their covariance.
    """
    random = np.random.default_rng(seed)
    power, other, product = np.ones(draws), np.ones(draws), np.full(draws, c_0)
    result = np.empty((draws, depth))
    for layer in range(depth):
        z = random.standard_normal((2, draws, width))
        along = product / np.sqrt(power)
        across = np.sqrt(np.maximum(other - along**2, 0))
        y = np.sqrt(power)[:, None] * z[0]
        w = along[:, None] * z[0] + across[:, None] * z[1]
        result[:, layer] = (y * w).sum(1) / np.sqrt((y**2).sum(1) * (w**2).sum(1))
        x, v = (np.where(t > 0, t, slope * t) for t in (y, w))
        power, other, product = (x * x).mean(1), (v * v).mean(1), (x * v).mean(1)
        scale = np.sqrt(power * other)
        power, other, product = power / scale, other / scale, product / scale
    return result


# ---------------------------------------------------------------- first order in 1/width


@pytest.mark.parametrize("slope", [0.0, 0.25, 1.0])
def test_one_layer_of_many_units_fluctuates_as_the_delta_method_says(slope):
    """b/n and w/n of one activation, against 10⁵ draws of 100 units; b to five standard errors."""
    phi, n, rho = parse_activation(f"prelu:{slope}"), 100, 0.6
    random = np.random.default_rng(1)
    values = []
    for _ in range(100):
        z = random.standard_normal((2, 1000, n))
        x, v = (
            np.where(t > 0, t, slope * t) for t in (z[0], rho * z[0] + math.sqrt(1 - rho**2) * z[1])
        )
        values.append((x * v).sum(1) / np.sqrt((x * x).sum(1) * (v * v).sum(1)))
    sample = np.concatenate(values)
    bias, scatter = theory.unit_moments(phi, rho)
    error = sample.std() / math.sqrt(len(sample))
    expected = float(phi.correlation_map(rho)) + bias / n
    assert abs(sample.mean() - expected) < 5 * error + 1 / n**2
    assert abs(bias) / n > 5 * error  # or the line above would prove nothing
    assert n * sample.var() == pytest.approx(scatter, rel=5 * math.sqrt(2 / len(sample)) + 5 / n)


@pytest.mark.parametrize("rho", [-1.0, -0.3, 0.0, 0.8, 1.0])
def test_a_linear_unit_has_the_textbook_moments(rho):
    bias, scatter = theory.unit_moments(parse_activation("linear"), rho)
    assert bias == pytest.approx(-rho * (1 - rho**2) / 2, abs=1e-12)  # Fisher 1915
    assert scatter == pytest.approx((1 - rho**2) ** 2, abs=1e-12)


@pytest.mark.parametrize("rho", [-1.0, -0.7, 0.0, 0.4, 0.999, 1.0])
def test_half_moments_are_their_integrals(rho):
    squares, cubed = theory.half_moments(rho)
    plus = {power: lambda y, power=power: np.maximum(y, 0) ** power for power in (1, 2, 3)}
    both = quadrature.pair_expectation(lambda u, v: plus[2](u) * plus[2](v), rho)
    skew = quadrature.pair_expectation(lambda u, v: plus[3](u) * plus[1](v), rho)
    assert (squares, cubed) == pytest.approx((both, skew), abs=1e-12)


@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_the_bend_is_the_second_derivative_of_the_map(slope):
    phi, h = parse_activation(f"prelu:{slope}"), 1e-4
    for rho in (-0.5, 0.2, 0.9):
        low, mid, high = phi.correlation_map([rho - h, rho, rho + h])
        first, second = theory.derivatives(phi, rho)
        assert first == pytest.approx((high - low) / (2 * h), abs=1e-6)
        assert second == pytest.approx((high - 2 * mid + low) / h**2, abs=1e-5)
    assert theory.derivatives(phi, 1.0)[1] == 0.0


@pytest.mark.parametrize("slope, c_0", [(0.0, 0.0), (0.0, 0.9), (0.25, 0.5)])
def test_deep_networks_leave_the_map_as_the_first_order_says(slope, c_0):
    """Against the law of the Gram matrix at width 100, 20,000 networks of 10 layers."""
    phi, n, depth = parse_activation(f"prelu:{slope}"), 100, 10
    sample = np.concatenate([law(slope, c_0, n, depth, 2000, seed) for seed in range(10)])
    shift, variance = theory.first_order(phi, c_0, depth)
    map_ = mean_field.correlations(phi, [0.0] * depth, c_0)
    error = sample.std(0) / math.sqrt(len(sample))
    assert np.all(np.abs(sample.mean(0) - map_ - shift / n) < 5 * error)
    assert np.max(np.abs(sample.mean(0) - map_) / error) > 7 or c_0 == 0.0  # the map alone is off
    statistical, next_order = 5 * math.sqrt(2 / len(sample)), 5 * np.arange(1, depth + 1) / n
    assert np.all(np.abs(n * sample.var(0) / variance - 1) < statistical + next_order)


# ---------------------------------------------------------------- simulation


def test_modules_have_the_law_of_the_gram_matrix():
    """Two-sample Kolmogorov–Smirnov on c_L: nn.Modules read by hooks against pairs of normals."""
    for name, slope, seed in (("relu", 0.0, 3), ("prelu", 0.25, 4)):
        spec = CorrelationSpec(
            depth=6,
            width=24,
            draws=1000,
            initializers=("xavier",),
            activations=(name,),
            correlations=(0.4,),
            device="cpu",
            seed=seed,
        )
        (group,) = groups(spec)
        measured = np.concatenate(list(C.PairSimulation(spec, group).blocks()))
        assert measured.shape == (1000, 6, 1, 1)
        drawn = law(slope, 0.4, 24, 6, 1000, seed)
        for layer in (0, 1, 5):
            assert stats.ks_2samp(measured[:, layer, 0, 0], drawn[:, layer]).pvalue > 1e-3


def test_the_table_lays_map_and_correction_over_the_measurement():
    spec = CorrelationSpec(
        depth=12, width=128, draws=400, correlations=(0.0, 0.9), device="cpu", seed=1
    )
    table = C.correlation(spec)
    assert list(table.columns) == list(C.COLUMNS)
    assert len(table) == 2 * 2 * 12
    assert table["z_finite_width"].abs().max() < 4.5
    relu = table[(table["activation"] == "relu") & (table["input_correlation"] == 0.0)]
    assert list(relu["theory"].round(6))[1:3] == [0.318310, 0.493731]
    assert relu["theory"].iloc[10] == pytest.approx(0.871536, abs=1e-6)
    assert table["standard_error"].to_numpy() == pytest.approx(table["std"] / 20, rel=1e-3)  # √400
    ratio = (table["std"] / table["std_theory"]).to_numpy()
    assert np.all(np.abs(ratio - 1) < 0.25)


def test_a_scale_changes_nothing_for_rectifiers_and_something_for_others():
    spec = CorrelationSpec(
        **SMALL, initializers=("he", "normal"), activations=("relu", "tanh"), correlations=(0.3,)
    )
    curve = dict(list(C.correlation(spec).groupby(["activation", "initializer"])["measured"]))
    he, normal = (curve["relu", law].to_numpy() for law in ("he", "normal"))
    assert he == pytest.approx(normal, abs=1e-6)  # the same weights: common random numbers
    assert np.abs(curve["tanh", "he"].to_numpy() - curve["tanh", "normal"].to_numpy()).max() > 0.01


@pytest.mark.parametrize(
    "init, activation, sigma_b",
    [("he", "tanh", 0.0), ("he", "tanh", 0.5), ("normal:0.1", "gelu", 0.2), ("he", "relu", 0.5),
     ("pytorch", "relu", 0.0), ("orthogonal", "relu", 0.0), ("he-uniform", "elu", 0.0)],
)  # fmt: skip
def test_every_law_and_activation_comes_near_its_map(init, activation, sigma_b):
    """At width 256 the map is off by a few parts in a hundred at most; an error of theory is more."""
    spec = CorrelationSpec(
        depth=6,
        width=256,
        draws=60,
        initializers=(init,),
        activations=(activation,),
        correlations=(0.2, 0.8),
        sigma_b=sigma_b,
        device="cpu",
        seed=2,
    )
    table = C.correlation(spec)
    allowed = 5 * table["standard_error"] + 4 * table["layer"] / 256 * (1 - table["theory"] ** 2)
    assert ((table["measured"] - table["theory"]).abs() < allowed).all()
    known = not sigma_b and init == "he" and activation == "relu"
    assert table["finite_width"].notna().all() == known


def test_inputs_have_exactly_the_asked_correlations():
    spec = CorrelationSpec(**SMALL, correlations=(-1.0, -0.25, 0.0, 0.7, 1.0))
    inputs = C.PairSimulation(spec, groups(spec)[0]).inputs().numpy()
    gram = inputs.T @ inputs / 32
    assert np.diag(gram) == pytest.approx(np.ones(6), abs=1e-14)
    assert gram[0, 1:] == pytest.approx(spec.correlations, abs=1e-14)


def test_equal_and_opposite_inputs():
    table = C.correlation(CorrelationSpec(**SMALL, activations=("relu",), correlations=(1.0, -1.0)))
    equal, opposite = (part for _, part in table.groupby("input_correlation", sort=False))
    assert np.all(equal["measured"] > 1 - 1e-6) and np.all(equal["theory"] == 1)
    assert opposite["measured"].iloc[0] == pytest.approx(-1, abs=1e-6)
    assert opposite["theory"].iloc[1] == pytest.approx(0, abs=1e-12)  # active units never coincide


def test_results_depend_on_the_seed_alone():
    spec = CorrelationSpec(
        depth=2, width=300, draws=60, activations=("relu",), correlations=(0.5,), device="cpu"
    )
    first, again = C.correlation(spec), C.correlation(spec)
    pd.testing.assert_frame_equal(first, again)
    other = C.correlation(
        CorrelationSpec(
            depth=2,
            width=300,
            draws=60,
            activations=("relu",),
            correlations=(0.5,),
            device="cpu",
            seed=1,
        )
    )
    assert not np.allclose(first["measured"], other["measured"])


def test_nothing_overflows_at_any_depth():
    spec = CorrelationSpec(
        depth=200,
        width=48,
        draws=10,
        initializers=("normal", "xavier"),
        activations=("relu",),
        correlations=(0.5,),
        device="cpu",
    )
    table = C.correlation(spec)
    assert np.isfinite(table[["measured", "theory", "z", "finite_width"]].to_numpy()).all()
    assert (table["measured"].abs() <= 1 + 1e-9).all()


def test_dead_networks_are_left_out():
    spec = CorrelationSpec(
        depth=8, width=2, draws=400, activations=("relu",), correlations=(0.5,), device="cpu"
    )
    table = C.correlation(spec)  # of two units, a layer is dead in one network of four
    assert np.isfinite(table["measured"]).all()


def test_moments_merge_blocks_and_skip_nan():
    random = np.random.default_rng(0)
    values = random.normal(size=(60, 3))
    values[::7, 1] = np.nan
    moments = Moments()
    for part in np.split(values, [10, 11, 40]):
        moments.add(part.T)
    assert moments.mean == pytest.approx(np.nanmean(values, axis=0))
    assert moments.std == pytest.approx(np.nanstd(values, axis=0, ddof=1))
    lonely = Moments()
    lonely.add(values[:1].T)
    assert np.isnan(lonely.std).all()


# ---------------------------------------------------------------- request, table, figure, command


@pytest.mark.parametrize(
    "change, says",
    [
        ({"correlations": (1.5,)}, "at most 1"),
        ({"correlations": (math.nan,)}, "finite"),
        ({"correlations": ()}, "number of correlations"),
        ({"correlations": (0.5, 0.5)}, "once"),
        ({"width": 1}, "width must be"),
        ({"draws": 9}, "draws must be"),
        ({"activations": ()}, "at least one activation"),
        ({"initializers": ("xavier",), "fan": "fan_in"}, "fan of its own"),
        ({"initializers": ("pytorch",), "sigma_b": 0.1}, "draws its own biases"),
    ],
)
def test_wrong_requests_say_what_is_wrong(change, says):
    with pytest.raises(RequestError, match=says):
        CorrelationSpec(**change)


def test_the_table_fits_80_columns_whole():
    from rich.console import Console

    table = C.correlation(CorrelationSpec(**SMALL))
    result = correlation_table(table)
    assert isinstance(result, Sheet)
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(result)
    text = capture.get()
    assert "…" not in text and max(map(len, text.splitlines())) <= 80
    assert "c₀ = 0.5" in " ".join(text.split()) and "he · prelu" in text


def test_the_figure_has_a_column_per_curve():
    spec = CorrelationSpec(**SMALL, initializers=("he", "normal"), activations=("relu", "tanh"))
    figure = correlation_figure(C.correlation(spec))
    assert len(figure.axes) == 2 * 4
    titles = [axes.get_title() for axes in figure.axes[:4]]
    assert titles == ["he · relu", "normal · relu", "he · tanh", "normal · tanh"]
    map_ = figure.axes[0].lines[0]
    assert map_.get_ydata()[1] == pytest.approx(1 / math.pi)


def test_the_command(capsys, tmp_path):
    argv = ["correlation", "--depth", "3", "--width", "16", "--draws", "20", "--device", "cpu",
            "--out", str(tmp_path)]  # fmt: skip
    assert cli.main([*argv, "--json", "--correlations", "0", "-0.5"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["command", "spec", "environment", "curves"]
    assert document["spec"]["correlations"] == [0.0, -0.5] and len(document["curves"]) == 4
    curve = document["curves"][0]
    assert (curve["initializer"], curve["activation"], curve["input_correlation"]) == (
        "he",
        "relu",
        0.0,
    )
    assert [layer["layer"] for layer in curve["layers"]] == [1, 2, 3]
    assert {"measured", "theory", "standard_error", "z"} <= set(curve["layers"][0])
    for name in ("correlation.csv", "correlation.png", "correlation.pdf"):
        assert (tmp_path / name).stat().st_size > 1000
    assert cli.main(argv) == 0
    captured = capsys.readouterr()
    assert "Correlation of two inputs" in captured.out and captured.err == ""


def test_a_wrong_command_is_one_line(capsys, tmp_path):
    assert cli.main(["correlation", "--correlations", "2", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: a correlation of two inputs") and error.count("\n") == 1


@pytest.mark.parametrize("command", ["gains", "correlation", "phase"])
def test_help_and_usage_errors_need_no_torch(command):
    from test_cli import assert_light

    assert_light([command, "--help"], code=0, says="Usage: python cli.py")
    assert_light([command, "--activation", "rellu"], code=2, says="did you mean relu")
