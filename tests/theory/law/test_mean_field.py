import json
import math

import numpy as np
import pytest
import torch

import cli
from figures.theory.phase import phase_figure
from theory.activations import parse_activation
from theory.errors import RequestError
from theory.initializers import parse_initializer
from theory.law import mean_field, phase, quadrature
from theory.specs import PhaseSpec, VarianceSpec

SELU_SCALE = 1.0507009873554805  # torch's constant


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


# ---------------------------------------------------------------- correlation


def iterate(name, steps, c=0.0):
    phi, values = parse_activation(name), []
    for _ in range(steps):
        c = float(phi.correlation_map(c))
        values.append(c)
    return values


def test_published_correlations_of_relu():
    c = iterate("relu", 10)
    assert (round(c[0], 6), round(c[1], 6), round(c[9], 6)) == (0.318310, 0.493731, 0.871536)
    assert c[0] == pytest.approx(1 / math.pi, abs=1e-15)
    for scale in (0.1, 1.0, 2.0, 512.0):  # a rectifier's correlation knows no scale …
        assert mean_field.correlations(
            parse_activation("relu"), [math.log(scale)] * 11, 0.0
        ) == pytest.approx([0.0, *c], abs=1e-14)
    for depth in (3, 2000):  # … and no range of numbers
        last = mean_field.correlations(parse_activation("relu"), [math.log(1e300)] * depth, 0.0)[-1]
        assert last == pytest.approx(iterate("relu", depth - 1)[-1], abs=1e-14)


@pytest.mark.parametrize("slope", [0.0, 0.25, -0.5])
def test_the_gap_closes_like_one_over_depth_squared(slope):
    """1 − c_l → 9π²/(2κ²l²), with a relative error of order (ln l)/l."""
    c = iterate(f"prelu:{slope}", 10_000)
    layers = np.array([100, 1000, 10_000])
    kappa = (1 - slope) ** 2 / (1 + slope**2)
    errors = np.array([(1 - c[at - 1]) * 2 * kappa**2 * at**2 / (9 * math.pi**2) - 1 for at in layers])
    scaled = -errors * layers / np.log(layers)
    assert abs(errors[-1]) < 0.006 and all(1 < s < 7 for s in scaled)
    assert max(scaled) / min(scaled) < 1.4


def test_the_correlation_of_a_linear_network_stays():
    assert iterate("linear", 50, 0.3)[-1] == pytest.approx(0.3, abs=1e-14)


@pytest.mark.parametrize("name", ["relu", "prelu", "tanh", "gelu", "selu"])
def test_a_step_of_variance_correlation_and_chi_against_brute_force(name):
    """10⁶ pairs of normals through torch's own activation; within five standard errors."""
    phi, q, c, s, bias = parse_activation(name), 1.7, 0.4, 1.3, 0.2
    random = np.random.default_rng(5)
    z = torch.from_numpy(random.standard_normal((2, 1_000_000)))
    y = math.sqrt(q) * torch.stack([z[0], c * z[0] + math.sqrt(1 - c**2) * z[1]])
    y.requires_grad_(True)
    x = phi.module().double()(y)
    (slope,) = torch.autograd.grad(x.sum(), y)
    samples = {
        "q": s * x[0].detach().square() + bias,
        "product": s * x[0].detach() * x[1].detach() + bias,
        "chi": s * slope[0].square(),
        "cross": s * slope[0] * slope[1],
    }
    following = math.exp(mean_field.log_growth(phi, s, bias, math.log(q))) * q
    after = mean_field.correlation_step(phi, math.log(q), c)
    exact = {
        "q": following,
        "product": after * (following - bias) + bias,
        "chi": mean_field.chi_1(phi, s, q),
        "cross": mean_field.correlation_slope(phi, s, q, c),
    }
    for key, sample in samples.items():
        error = float(sample.std()) / 1000
        assert abs(float(sample.mean()) - exact[key]) < 5 * error + 1e-12, key
    first, second = mean_field.correlations(phi, [math.log(s)] * 2, c, math.log((q - bias) / s), bias)
    assert first == pytest.approx(c + bias / q * (1 - c))  # y_1, whose second moment is q
    shifted = mean_field.correlation_step(phi, math.log(q), first)
    assert second == pytest.approx((shifted * (following - bias) + bias) / following)


@pytest.mark.parametrize("name", ["tanh", "gelu", "elu"])
def test_the_correlation_slope_is_the_derivative_of_the_map(name):
    phi, q, s, h = parse_activation(name), 0.8, 1.1, 1e-5
    power = mean_field.log_activation_gain(phi, math.log(q))
    for c in (-0.3, 0.0, 0.7):
        up, down = (mean_field.correlation_step(phi, math.log(q), c + d) for d in (h, -h))
        slope = s * math.exp(power) * (up - down) / (2 * h)
        assert mean_field.correlation_slope(phi, s, q, c) == pytest.approx(slope, abs=1e-7)
    at_one = mean_field.correlation_slope(phi, s, q, 1.0)
    assert at_one == pytest.approx(mean_field.chi_1(phi, s, q), abs=1e-10)


@pytest.mark.parametrize("slope", [0.0, 0.25, 1.0])
def test_the_rectifier_slope_in_closed_form(slope):
    phi = parse_activation(f"prelu:{slope}")
    for c in (-0.6, 0.0, 0.5, 1.0):
        two = quadrature.covariance(phi, (2.0, 2.0), c, derivative=True)
        assert mean_field.correlation_slope(phi, 1.7, 2.0, c) == pytest.approx(1.7 * two, abs=1e-12)
    assert mean_field.correlation_slope(phi, 1.7, 2.0, 1.0) == mean_field.chi_1(phi, 1.7)


@pytest.mark.parametrize("name", ["tanh", "selu"])
def test_the_correlations_of_a_smooth_activation_are_those_of_its_covariances(name):
    phi, scales, bias = parse_activation(name), [1.2] * 4, 0.1
    kernel = scales[0] * np.array([[1.0, 0.3], [0.3, 1.0]]) + bias
    for scale in scales[1:]:
        power, c = kernel[0, 0], kernel[0, 1] / kernel[0, 0]
        mapped = [quadrature.covariance(phi, (power, power), at) for at in (1.0, c)]
        kernel = scale * np.array([mapped, mapped[::-1]]) + bias
    q = mean_field.log_second_moments(phi, np.log(scales), 0.0, bias)[-1]
    c = mean_field.correlations(phi, list(np.log(scales)), 0.3, 0.0, bias)[-1]
    assert kernel[0, 0] == pytest.approx(math.exp(q), rel=1e-12)
    assert kernel[0, 1] / kernel[0, 0] == pytest.approx(c, abs=1e-12)


def test_correlations_far_beyond_float64():
    gelu = parse_activation("gelu")  # at a huge scale it is a ReLU
    c = mean_field.correlations(gelu, [math.log(1e6)] * 60, 0.0)
    relu = mean_field.correlations(parse_activation("relu"), [0.0] * 60, 0.0)
    assert c == pytest.approx(relu, abs=1e-5)
    tanh = mean_field.correlations(parse_activation("tanh"), [math.log(1e-6)] * 60, 0.4)
    assert tanh == pytest.approx([0.4] * 60, abs=1e-6)  # at a tiny one tanh is linear


# ---------------------------------------------------------------- depth scale


def test_depth_scales():
    relu = parse_activation("relu")
    assert round(mean_field.depth_scale(mean_field.chi_1(relu, 1.0)), 4) == 1.4427  # Xavier
    assert mean_field.depth_scale(mean_field.chi_1(relu, 1.0)) == pytest.approx(1 / math.log(2))
    assert mean_field.depth_scale(mean_field.chi_1(relu, 2.0)) == math.inf  # He
    assert mean_field.depth_scale(0.0) == 0.0
    assert mean_field.depth_scale(4.0) == mean_field.depth_scale(0.25)


def test_a_smooth_chi_needs_a_scale():
    with pytest.raises(RequestError, match="depends on the second moment"):
        mean_field.chi_1(parse_activation("tanh"), 1.0)
    assert mean_field.chi_1(parse_activation("tanh"), 1.5, 1e-12) == pytest.approx(1.5)


# ---------------------------------------------------------------- fixed points


@pytest.mark.parametrize("slope", [0.0, 0.25, 1.0])
def test_a_critical_rectifier_has_every_fixed_point_and_names_none(slope):
    found = mean_field.fixed_points(parse_activation(f"prelu:{slope}"), 2 / (1 + slope**2))
    assert found.degenerate and found.points == () and found.stable == ()
    assert found.limit(3.0) is None


@pytest.mark.parametrize(
    "scale, bias, ends",
    [
        (1.0, 0.0, 0.0),
        (1.0, 0.3, 0.6),
        (2.0, 0.3, math.inf),
        (3.0, 0.0, math.inf),
        (3.0, 0.3, math.inf),
    ],
)
def test_fixed_points_of_relu(scale, bias, ends):
    found = mean_field.fixed_points(parse_activation("relu"), scale, bias)
    assert [point.q for point in found.stable] == [pytest.approx(ends)] and not found.degenerate
    limit = found.limit(1.0)
    assert limit.q == pytest.approx(ends) and limit.stable and limit.chi_1 == scale / 2


@pytest.mark.parametrize("name", ["tanh", "elu", "selu", "gelu", "silu"])
@pytest.mark.parametrize("scale, bias", [(0.8, 0.0), (1.3, 0.05), (1.7, 0.4), (2.3, 0.0), (5.0, 0.2)])
def test_signals_end_where_the_fixed_points_say(name, scale, bias):
    """Against plain iteration of the map, from several starts."""
    phi = parse_activation(name)
    found = mean_field.fixed_points(phi, scale, bias)
    for point in found.points:
        if 0 < point.q < math.inf:
            assert mean_field.log_growth(phi, scale, bias, math.log(point.q)) == pytest.approx(
                0, abs=1e-11
            )
            assert point.stable == (point.slope < 1)
    for start in (1e-4, 1.0, 50.0):
        log_q = mean_field.log_second_moments(
            phi, [0.0, *[math.log(scale)] * 1500], math.log(start), 0.0
        )
        if bias:
            log_q = [math.log(start)]
            for _ in range(1500):
                log_q.append(log_q[-1] + mean_field.log_growth(phi, scale, bias, log_q[-1]))
        limit = found.limit(start).q
        if limit == 0:
            assert log_q[-1] < log_q[-500] < math.log(start)
        elif limit == math.inf:
            assert log_q[-1] > log_q[-500] > math.log(start)
        else:
            assert math.exp(log_q[-1]) == pytest.approx(limit, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "scale", "bias"), [("tanh", 0.05, 1e-16), ("selu", 0.05, 1e-30), ("tanh", 1e14, 0.0)]
)
def test_fixed_points_lie_where_the_biases_or_a_bounded_function_put_them(name, scale, bias):
    """Far below 1 φ is linear: q* = σ_b²/(1 − σ_w²φ′(0)²); far above tanh² is 1: q* = σ_w²."""
    phi = parse_activation(name)
    (point,) = mean_field.fixed_points(phi, scale, bias).stable
    steep = mean_field.chi_1(phi, scale, bias or 1.0)
    assert point.q == pytest.approx(bias / (1 - steep) if bias else scale, rel=1e-6)


def test_a_gelu_network_that_keeps_unit_variance_does_not_hold_it():
    phi = parse_activation("gelu")
    found = mean_field.fixed_points(phi, 1 / quadrature.second_moment(phi))
    assert [point.stable for point in found.points] == [True, False, True]
    assert found.points[1].q == pytest.approx(1, abs=1e-10)
    assert (found.limit(0.99).q, found.limit(1.01).q) == (0.0, math.inf)
    assert [point.q for point in found.stable] == [0.0, math.inf]


def test_selu_was_built_for_its_fixed_point():
    (zero, one) = mean_field.fixed_points(parse_activation("selu"), 1.0).points
    assert not zero.stable and one.stable
    assert one.q == pytest.approx(1, abs=1e-12)
    assert one.slope == pytest.approx(0.782648, abs=1e-6)  # Klambauer et al. 2017: below 0.7877 there


@pytest.mark.parametrize("scale, bias", [(0.0, 0.1), (-1.0, 0.0), (1.0, -0.1)])
def test_impossible_variances_are_refused(scale, bias):
    with pytest.raises(RequestError, match="must be above 0"):
        mean_field.fixed_points(parse_activation("tanh"), scale, bias)


@pytest.mark.parametrize(
    "scale, bias", [(1.05, 0.0), (1.5, 0.0), (2.5, 0.05), (4.0, 0.2), (500.0, 0.1)]
)
def test_in_the_chaotic_phase_inputs_part_until_they_reach_c_star(scale, bias):
    phi = parse_activation("tanh")
    q = mean_field.fixed_points(phi, scale, bias).limit(1.0).q
    assert mean_field.chi_1(phi, scale, q) > 1
    end = mean_field.correlation_fixed_point(phi, scale, bias, q)

    def following(c):
        return ((q - bias) * mean_field.correlation_step(phi, math.log(q), c) + bias) / q

    assert following(end) == pytest.approx(end, abs=1e-12) and 0 <= end < 1
    assert end < following(end + 0.01) < end + 0.01  # attracts from above …
    assert end - 0.01 < following(end - 0.01) < end  # … and from below
    assert following(1 - 1e-4) < 1 - 1e-4  # and 1 repels


def test_in_the_ordered_phase_inputs_become_one():
    tanh, relu = parse_activation("tanh"), parse_activation("relu")
    q = mean_field.fixed_points(tanh, 1.2, 0.1).limit(1.0).q
    assert mean_field.correlation_fixed_point(tanh, 1.2, 0.1, q) == 1.0
    assert mean_field.correlation_fixed_point(relu, 1.0, 0.1, 0.2) == 1.0
    with pytest.raises(RequestError, match="finite q above 0"):
        mean_field.correlation_fixed_point(tanh, 1.2, 0.1, math.inf)


# ---------------------------------------------------------------- critical line, phase diagram


def test_the_critical_line_of_tanh():
    tanh = parse_activation("tanh")
    assert mean_field.critical_scale(tanh, 0.0) == 1.0
    assert mean_field.critical_scale(tanh, 0.05) == pytest.approx(1.76, abs=5e-3)  # as in later papers
    line = [mean_field.critical_scale(tanh, bias) for bias in (0.0, 0.001, 0.05, 0.3, 1.0, 4.0)]
    assert line == sorted(line)
    for bias, scale in zip((0.001, 0.05, 0.3, 1.0, 4.0), line[1:], strict=True):
        limit = mean_field.fixed_points(tanh, scale, bias).limit(1.0)
        assert limit.chi_1 == pytest.approx(1, abs=1e-9) and limit.stable


def test_critical_points_of_the_others():
    assert mean_field.critical_scale(parse_activation("prelu"), 0.0) == pytest.approx(2 / 1.0625)
    with pytest.raises(RequestError, match="critical at σ_b² = 0 only"):
        mean_field.critical_scale(parse_activation("relu"), 0.1)
    assert mean_field.critical_scale(parse_activation("elu"), 0.0) == pytest.approx(1, abs=1e-12)
    alpha, scale = 1.6732632423543772, SELU_SCALE  # φ′ is λα on one side of zero and λ on the other
    start = 2 / (scale**2 * (1 + alpha**2))
    assert mean_field.critical_scale(parse_activation("selu"), 0.0) == pytest.approx(start, abs=1e-12)
    with pytest.raises(RequestError, match="no stable critical point"):
        mean_field.critical_scale(parse_activation("gelu"), 0.01)


def test_lines_of_equal_chi_are_what_they_say():
    spec = PhaseSpec(("tanh", "relu", "elu"), largest_bias_variance=0.5)
    table = phase.contours(spec)
    assert list(table.columns) == list(phase.CONTOUR_COLUMNS)
    assert set(table[table["activation"] == "tanh"]["chi_1"]) == set(phase.CHI_LEVELS)  # steep ones too
    for (name, chi), line in table.groupby(["activation", "chi_1"]):
        phi = parse_activation(name)
        assert line["sigma_b2"].max() == pytest.approx(0.5, abs=1e-9)
        for row in line.iloc[:: max(len(line) // 5, 1)].to_dict("records"):
            limit = mean_field.fixed_points(phi, row["sigma_w2"], row["sigma_b2"])
            if limit.degenerate or row["q"] < 1e-6:
                continue
            end = limit.limit(row["q"])
            assert end.chi_1 == pytest.approx(chi, abs=1e-6)
            assert end.q == pytest.approx(row["q"], rel=1e-5)


def test_what_becomes_of_the_three_initializers():
    table = phase.marks(PhaseSpec(("tanh", "relu"), width=256)).set_index(["activation", "initializer"])
    assert list(table["sigma_w2"]) == pytest.approx([2, 1, 256, 2, 1, 256])
    words = ["chaotic", "critical, q → 0", "chaotic", "critical (any q)", "vanishing", "exploding"]
    assert list(table["phase"]) == words
    assert table.loc[("relu", "xavier"), "depth_scale"] == pytest.approx(1.4427, abs=1e-4)
    assert table.loc[("relu", "he"), "depth_scale"] == math.inf
    assert math.isnan(table.loc[("relu", "he"), "q"]) and table.loc[("relu", "normal"), "q"] == math.inf
    assert table.loc[("relu", "normal"), "chi_1"] == pytest.approx(128)
    biased = phase.marks(PhaseSpec(("tanh",), ("xavier",), sigma_b=0.3)).iloc[0]
    assert biased["phase"] == "ordered" and biased["correlation"] == 1 and biased["sigma_b2"] == 0.09


def test_from_where_on_large_signals_diverge():
    scales = {name: phase.divergence_scale(parse_activation(name)) for name in ("relu", "gelu", "elu")}
    assert scales == pytest.approx({"relu": 2, "gelu": 2, "elu": 2}, abs=1e-9)
    assert phase.divergence_scale(parse_activation("tanh")) == math.inf
    selu = phase.divergence_scale(parse_activation("selu"))
    assert selu == pytest.approx(2 / SELU_SCALE**2, abs=1e-9)


def test_the_phase_command(capsys, tmp_path):
    argv = ["phase", "--activation", "tanh", "relu", "gelu", "--out", str(tmp_path)]
    assert cli.main([*argv, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["command", "spec", "environment", "initializers", "critical_line"]
    assert [mark["phase"] for mark in document["initializers"][:3]] == [
        "chaotic", "critical, q → 0", "chaotic"]  # fmt: skip
    critical = {(p["activation"], p["sigma_b2"]): p["sigma_w2"] for p in document["critical_line"]}
    assert critical["tanh", 0.05] == pytest.approx(1.760955, abs=1e-6)
    assert critical["relu", 0.05] is None
    for name in ("phase.csv", "phase_contours.csv", "phase.png", "phase.pdf"):
        assert (tmp_path / name).stat().st_size > 400
    assert cli.main(["phase", "--out", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert "Critical line" in captured.out and captured.err == "" and "…" not in captured.out


def test_the_phase_figure_marks_what_was_asked():
    spec = PhaseSpec(("tanh", "prelu"), ("he", "normal"), width=64)
    figure = phase_figure(phase.contours(spec), phase.marks(spec))
    for axes in figure.axes:
        low, high = axes.get_xlim()
        assert axes.get_xscale() == "log" and low < 1 and high > 64
        drawn = [line.get_xydata()[0] for line in axes.lines if len(line.get_xdata()) == 1]
        assert len(drawn) == 2 and drawn[1] == pytest.approx([64, 0])


@pytest.mark.parametrize(
    "argv, says",
    [
        (["--sigma-b", "3"], "--max-bias-variance"),
        (["--init", "pytorch"], "biases of its own"),
        (["--activation", "thanh"], "did you mean tanh"),
        (["--width", "0"], "width must be"),
        (["--max-bias-variance", "nan"], "finite"),
    ],
)
def test_a_wrong_phase_request_is_one_line(argv, says, capsys, tmp_path):
    assert cli.main(["phase", *argv, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert says in error and error.startswith("error: ") and error.count("\n") == 1


@pytest.mark.parametrize("log10_q", [10, 18, 20, 24, 60, 200])
def test_chi_1_of_a_saturated_tanh_is_the_integral_over_its_flank(log10_q):
    """E[sech⁴(√q·z)] → ∫ sech⁴ / √(2πq) = (4/3)/√(2πq), at any size of q."""
    q = 10.0**log10_q
    flank = 4 / 3 / math.sqrt(2 * math.pi * q)
    assert mean_field.chi_1(parse_activation("tanh"), 1.0, q) == pytest.approx(flank, rel=1e-4)


@pytest.mark.parametrize("name", ["prelu:1e-200", "leaky-relu:1e-41", "prelu:-1e-320"])
def test_slopes_that_their_square_loses_are_refused(name):
    with pytest.raises(RequestError, match="0 or at least 1e-40"):
        parse_activation(name)


def test_standard_deviations_that_their_square_loses_are_refused():
    with pytest.raises(RequestError, match="at least 1e-40"):
        parse_initializer("normal:1e-300")
    with pytest.raises(RequestError, match="0 or at least 1e-40"):
        VarianceSpec(sigma_b=1e-160)
