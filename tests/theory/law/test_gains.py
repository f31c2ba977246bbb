import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from scipy import integrate, special, stats

import cli
from figures.theory.gains import gains_figure, gains_notes, gains_table
from theory.activations import SMOOTH, parse_activation
from theory.errors import RequestError
from theory.law import gains, quadrature
from theory.law.quadrature import nonlinearity
from theory.lessons.torch_gains import COLUMNS
from theory.lessons.torch_gains import gains as gains_of
from theory.specs import GainsSpec

RECTIFIERS = ["relu", "prelu", "leaky-relu:0.01", "leaky-relu:-0.7", "linear"]
EXACT = 1e-12


def row(name):
    (record,) = gains_of(GainsSpec((name,))).to_dict("records")
    return record


# ---------------------------------------------------------------- closed forms and quadrature


@pytest.mark.parametrize("name", RECTIFIERS)
@pytest.mark.parametrize("q", [1e-6, 1.0, 37.0])
def test_rectifier_moments_are_their_closed_forms(name, q):
    phi = parse_activation(name)
    assert quadrature.second_moment(phi, q) / q == pytest.approx(phi.second_moment, abs=EXACT)
    assert quadrature.moment(phi, 4, q) / q**2 == pytest.approx(3 * phi.fourth_moment, abs=EXACT)
    assert quadrature.moment(phi, 1, q) / math.sqrt(q) == pytest.approx(phi.mean, abs=EXACT)
    assert quadrature.derivative_second_moment(phi, q) == pytest.approx(phi.second_moment, abs=EXACT)
    assert quadrature.second_moment_slope(phi, q) == pytest.approx(phi.second_moment, abs=EXACT)


@pytest.mark.parametrize("name", RECTIFIERS)
def test_the_correlation_map_is_the_two_dimensional_quadrature(name):
    phi = parse_activation(name)
    for c in (-1.0, -0.999, -0.4, 0.0, 0.3, 0.9, 0.9999, 1 - 1e-10, 1.0):
        mapped = quadrature.covariance(phi, (1.0, 1.0), c) / phi.second_moment
        assert mapped == pytest.approx(float(phi.correlation_map(c)), abs=EXACT)


def elu_moments(q, alpha=1.0, scale=1.0):
    """(E[φ²], E[φ′²]) at variance q, by completing the square; e^{t²/2}·Φ(−t) = erfcx(t/√2)/2."""
    twice, once = (float(special.erfcx(k * math.sqrt(q / 2))) / 2 for k in (2, 1))
    value = q / 2 + alpha**2 * (twice - 2 * once + 0.5)
    return scale**2 * value, scale**2 * (0.5 + alpha**2 * twice)


def gelu_moments(q):
    """(E[φ²], E[φ′²]) at variance q, by parts."""
    common = math.asin(q / (1 + q)) + 2 * q / ((1 + q) * math.sqrt(1 + 2 * q))
    value = q / 4 + q * common / (2 * math.pi)
    return value, 0.25 + (common + q / (1 + 2 * q) ** 1.5) / (2 * math.pi)


CLOSED = {
    "elu": elu_moments,
    "selu": lambda q: elu_moments(q, 1.6732632423543772, 1.0507009873554805),
    "gelu": gelu_moments,
}


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("q", [0.01, 1.0, 6.0, 1e4])
def test_smooth_closed_forms_agree_with_quadrature(name, q):
    phi, (value, slope) = parse_activation(name), CLOSED[name](q)
    assert quadrature.second_moment(phi, q) / value == pytest.approx(1, abs=EXACT)
    assert quadrature.derivative_second_moment(phi, q) == pytest.approx(slope, abs=EXACT)


@pytest.mark.parametrize(
    "name, function",
    [
        ("tanh", np.tanh),
        ("silu", lambda y: y * special.expit(y)),
        ("gelu", lambda y: y * stats.norm.cdf(y)),
    ],
)
def test_smooth_moments_agree_with_another_integrator(name, function):
    value, error = integrate.quad(
        lambda z: function(z) ** 2 * stats.norm.pdf(z),
        -12,
        12,
        epsabs=1e-14,
        epsrel=1e-13,
        limit=400,
        points=[-1, 0, 1],
    )
    assert error < 1e-12
    assert quadrature.second_moment(parse_activation(name)) == pytest.approx(value, abs=EXACT)


def test_pairs_have_known_expectations():
    for c in (-0.8, 0.0, 0.5, 1.0):
        assert quadrature.pair_expectation(lambda u, v: u * v, c) == pytest.approx(c, abs=EXACT)
        fourth = quadrature.pair_expectation(lambda u, v: u**2 * v**2, c)
        assert fourth == pytest.approx(1 + 2 * c**2, abs=EXACT)
        sine = quadrature.covariance(np.sin, (2.0, 2.0), c)
        assert sine == pytest.approx(math.exp(-2) * math.sinh(2 * c), abs=EXACT)
        sign = quadrature.pair_expectation(lambda u, v: np.sign(u) * np.sign(v), c)
        assert sign == pytest.approx(2 / math.pi * math.asin(c), abs=EXACT)


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("q", [1e-4, 1.0, 500.0])
def test_pairs_agree_with_one_dimension_where_they_must(name, q):
    phi = parse_activation(name)
    second = quadrature.second_moment(phi, q)
    assert quadrature.covariance(phi, (q, q), 1.0) / second == pytest.approx(1, abs=EXACT)
    product = quadrature.moment(phi, 1, q) * quadrature.moment(phi, 1, 2 * q)
    assert quadrature.covariance(phi, (q, 2 * q), 0.0) / second == pytest.approx(
        product / second, abs=EXACT
    )
    slope = quadrature.derivative_second_moment(phi, q)
    assert quadrature.covariance(phi, (q, q), 1.0, derivative=True) == pytest.approx(slope, abs=1e-11)


@pytest.mark.parametrize("name", SMOOTH)
def test_the_slope_by_parts_is_the_difference_quotient(name):
    phi, q, h = parse_activation(name), 1.3, 1e-4
    difference = quadrature.second_moment(phi, q + h) - quadrature.second_moment(phi, q - h)
    assert quadrature.second_moment_slope(phi, q) == pytest.approx(difference / (2 * h), abs=1e-8)


# ---------------------------------------------------------------- functions of one's own


def test_a_numpy_function_is_as_good_as_our_own():
    assert gains.gain(np.tanh) == pytest.approx(gains.gain(parse_activation("tanh")), abs=EXACT)
    ours = gains.backward_gain(parse_activation("tanh"))
    assert gains.backward_gain(np.tanh) == pytest.approx(ours, abs=1e-10)
    assert gains.gain(lambda y: np.maximum(y, 0.0)) == pytest.approx(math.sqrt(2), abs=EXACT)
    assert gains.backward_gain(lambda y: np.maximum(y, 0.0)) == pytest.approx(math.sqrt(2), abs=1e-10)


def test_a_torch_module_brings_its_own_derivative():
    tanh, ours = nonlinearity(torch.nn.Tanh()), parse_activation("tanh")
    assert gains.backward_gain(tanh) == pytest.approx(gains.backward_gain(ours), abs=EXACT)
    mish = nonlinearity(torch.nn.Mish())
    assert mish.name == "Mish"
    table = gains_of(GainsSpec(("relu",)), extra=[mish])
    assert list(table["activation"]) == ["relu", "Mish"]
    assert math.isnan(table["gain_torch"].iloc[1]) and "of your own" in table["remark"].iloc[1]


def test_kinks_that_are_named_cost_no_accuracy():
    def clipped(y):
        return np.clip(y, -1, 1)

    inside = special.erf(math.sqrt(0.5))
    exact = inside - math.sqrt(2 / math.pi) * math.exp(-0.5) + (1 - inside)
    named = nonlinearity(clipped, kinks=(-1.0, 1.0))
    assert quadrature.second_moment(named) == pytest.approx(exact, abs=EXACT)
    assert quadrature.derivative_second_moment(named) == pytest.approx(inside, abs=1e-10)
    four = quadrature.second_moment(named, 4.0)  # the kinks move with the scale
    assert four == pytest.approx(integrate.quad(
        lambda z: np.clip(2 * z, -1, 1) ** 2 * stats.norm.pdf(z), -12, 12, points=[-0.5, 0.5],
        epsabs=1e-13)[0], abs=EXACT)  # fmt: skip
    assert abs(quadrature.second_moment(clipped, 4.0) - four) > 1e-9  # which is why they can be named
    pair = quadrature.covariance(named, (1.0, 1.0), 1.0)
    assert pair == pytest.approx(exact, abs=1e-4)  # as documented: in two dimensions they do cost some


def test_a_derivative_may_be_given_and_nonsense_is_refused():
    phi = nonlinearity(np.sin, derivative=np.cos)
    assert quadrature.derivative_second_moment(phi, 2.0) == pytest.approx(
        (1 + math.exp(-4)) / 2, abs=EXACT
    )
    assert nonlinearity(phi) is phi
    with pytest.raises(RequestError, match="a function of a numpy array"):
        nonlinearity("tanh")


# ---------------------------------------------------------------- gains


@pytest.mark.parametrize("name", RECTIFIERS)
def test_a_rectifier_has_one_gain_for_both_directions_and_every_scale(name):
    phi = parse_activation(name)
    he = math.sqrt(2 / (1 + phi.negative_slope**2))
    for q in (1e-4, 1.0, 1e4):
        assert gains.gain(phi, q) == pytest.approx(he, abs=EXACT)
        assert gains.backward_gain(phi, q) == pytest.approx(he, abs=EXACT)
    assert row(name)["slope"] == pytest.approx(1, abs=EXACT)


def test_gains_of_the_smooth_activations():
    tanh = row("tanh")
    assert tanh["gain"] == pytest.approx(1.5925, abs=5e-5)
    assert tanh["gain_torch"] == pytest.approx(5 / 3)
    assert tanh["growth_torch"] == pytest.approx((5 / 3) ** 2 * tanh["second_moment"])
    selu = row("selu")
    assert selu["gain"] == pytest.approx(1, abs=1e-12)  # Klambauer et al. 2017: mean 0 and variance 1
    assert selu["mean"] == pytest.approx(0, abs=1e-12)
    assert selu["growth_torch"] == pytest.approx(9 / 16)
    for name in SMOOTH:
        assert row(name)["backward_gain"] < row(name)["gain"] - 0.02  # the two conditions differ


def test_only_where_the_growth_falls_is_unit_variance_a_place_to_stay():
    attracts = {name: row(name)["slope"] < 1 for name in SMOOTH}
    assert attracts == {"tanh": True, "elu": True, "selu": True, "gelu": False, "silu": False}
    for name, holds in attracts.items():  # iterate the map from a little off
        phi, q = parse_activation(name), 1.01
        for _ in range(40):
            q = gains.gain(phi) ** 2 * quadrature.second_moment(phi, q)
        assert (abs(q - 1) < 0.01) == holds


def test_torch_is_asked_and_its_gaps_are_named():
    for name in ("gelu", "silu", "elu", "prelu"):
        assert math.isnan(row(name)["gain_torch"]) and math.isnan(row(name)["growth_torch"])
        assert f'calculate_gain("{name}") raises' in row(name)["remark"]
    assert row("relu")["gain_torch"] == torch.nn.init.calculate_gain("relu")
    assert row("leaky-relu:0.3")["gain_torch"] == torch.nn.init.calculate_gain("leaky_relu", 0.3)
    assert row("leaky-relu:0.3")["growth_torch"] == pytest.approx(1, abs=EXACT)
    assert row("relu")["remark"] == row("linear")["remark"] == ""
    assert "×1.0624 per layer, ×6.15 over 30" in row("prelu")["remark"]
    assert "0.01" in row("leaky-relu:0.01")["remark"]
    assert "+4.7 %" in row("tanh")["remark"] and "1.095" in row("tanh")["remark"]
    assert "0.5625" in row("selu")["remark"]


def test_where_torch_gain_of_tanh_settles():
    q = 1.0
    for _ in range(200):
        q = 25 / 9 * quadrature.second_moment(parse_activation("tanh"), q)
    assert f"settles at {q:.3f}" in row("tanh")["remark"]


# ---------------------------------------------------------------- table, figure, command


def shown(renderable, width=80):
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_the_tables_fit_80_columns_whole():
    table = gains_of(GainsSpec())
    text = shown(gains_table(table)) + shown(gains_notes(table))
    assert "…" not in text and max(map(len, text.splitlines())) <= 80
    assert "1.5925" in text and "raises" in text and "repels" in text


def test_the_figure_draws_every_activation_and_any_subset():
    for names in (GainsSpec().activations, ("relu",), ("gelu", "relu")):
        spec = GainsSpec(names)
        left, right = gains_figure(gains_of(spec)).axes
        assert [label.get_text() for label in left.get_yticklabels()] == [p.name for p in spec.parsed]
        curves = [line for line in right.lines if len(line.get_xdata()) > 100]
        assert len(curves) == sum(not phi.is_rectifier for phi in spec.parsed)
        for line in curves:
            growth = np.interp(0.0, np.log(line.get_xdata()), line.get_ydata())
            assert growth == pytest.approx(1, abs=1e-3)


def test_the_command(capsys, tmp_path):
    names = ["tanh", "prelu", "relu", "tanh"]
    assert cli.main(["gains", "--activation", *names, "--json", "--out", str(tmp_path)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["command", "spec", "environment", "gains"]
    assert document["spec"] == {"activation": ["tanh", "prelu", "relu"]}
    assert [record["activation"] for record in document["gains"]] == ["tanh", "prelu", "relu"]
    assert document["gains"][1]["gain_torch"] is None
    assert set(document["gains"][0]) == set(COLUMNS)
    table = pd.read_csv(tmp_path / "gains.csv")
    assert list(table.columns) == list(COLUMNS)
    for name in ("gains.png", "gains.pdf"):
        assert (tmp_path / name).stat().st_size > 1000


def test_the_command_prints_a_table_and_nothing_on_stderr(capsys, tmp_path):
    assert cli.main(["gains", "--out", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert "Gains at unit variance" in captured.out and "gains.csv" in captured.out
    assert captured.err == ""


def test_a_wrong_activation_is_one_line(capsys, tmp_path):
    assert cli.main(["gains", "--activation", "tahn", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "did you mean tanh" in error and error.count("\n") == 1
