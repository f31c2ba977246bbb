import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn import single_draws
from scipy import stats

from figures.theory.variance import growth_table
from theory.activations import parse_activation
from theory.draw.dense import BLOCK_BYTES, DenseSimulation
from theory.draw.ensemble import groups
from theory.draw.moments import LogMoments
from theory.draw.scores import UNDECIDED, agreement
from theory.draw.stacks import RedrawnLinear, build_stack
from theory.draw.variance import (
    BIN,
    COLUMNS,
    HISTOGRAM_COLUMNS,
    Tally,
    _z,
    degrees,
    growth,
    histograms,
    variance,
)
from theory.errors import RequestError
from theory.initializers import haar, parse_initializer
from theory.law import mean_field, stacks
from theory.probe import Probe
from theory.randomness import generator
from theory.specs import BatchNormSpec, ConvSpec, CorrelationSpec, VarianceSpec

LN2 = math.log(2)


def small(**changes):
    values = {"depth": 6, "width": 24, "draws": 40, "device": "cpu"} | changes
    return VarianceSpec(**values)


def last_rows(table):
    return table.groupby(["initializer", "activation"], sort=False).tail(1)


@pytest.mark.parametrize("activation", ["relu", "prelu"])
def test_he_is_exactly_two_to_the_l_times_xavier_in_every_draw(activation):
    he, xavier = single_draws(small(initializers=("he", "xavier"), activations=(activation,)))
    layers = np.arange(1, 7)[None, :, None]
    gain = parse_initializer("he").variance(1, 1, parse_activation(activation).gain_slope)
    np.testing.assert_allclose(
        he - xavier, np.broadcast_to(layers * math.log(gain), he.shape), atol=1e-13
    )


@pytest.mark.parametrize(
    "initializer", ["he", "normal", "xavier-uniform", "he-truncated", "orthogonal"]
)
@pytest.mark.parametrize("activation", ["prelu:0.1", "tanh"])
def test_an_ensemble_is_the_plain_network_with_the_same_weights(initializer, activation):
    """Unit-scale streams and logs against nn.Linear, float64 and the probe, draw by draw."""
    spec = small(initializers=(initializer,), activations=(activation,), depth=5, draws=3, batch=2)
    log_q = single_draws(spec)[0]
    law, phi = parse_initializer(initializer), parse_activation(activation)
    stack = build_stack(spec.widths, law, phi, generator(0), dtype=torch.float64)
    weights = generator(spec.seed, "weights", law.shape, 0)
    drawn = [unit_weights(law.shape, 3, spec.width, weights) for _ in range(spec.depth)]
    x = torch.randn(24, 2, dtype=torch.float64, generator=generator(spec.seed, "inputs"))
    x = (x / x.square().mean(0).sqrt()).T
    linears = [module for module in stack if isinstance(module, torch.nn.Linear)]
    for draw in range(3):
        for linear, weight in zip(linears, drawn, strict=True):
            std = law.std(24, 24, phi.gain_slope)
            linear.weight.data = weight[draw].double() * std
        with Probe(stack, keep=(0,)) as probe:
            stack(x)
        plain = torch.stack([reading.forward["second_moment"] for reading in probe.readings])
        np.testing.assert_allclose(log_q[draw], plain.log().numpy(), atol=5e-6)


def unit_weights(shape, draws, width, stream):
    weight = torch.empty(draws, width, width)
    if shape == "uniform":
        return weight.uniform_(-math.sqrt(3), math.sqrt(3), generator=stream)
    if shape == "truncated":
        sigma = 1 / math.sqrt(stats.truncnorm.var(-2, 2))
        return torch.nn.init.trunc_normal_(weight, 0, sigma, -2 * sigma, 2 * sigma, generator=stream)
    weight.normal_(generator=stream)
    return haar(weight) * math.sqrt(width) if shape == "orthogonal" else weight


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"width": 3, "draws": 3000, "depth": 5},
        {"initializers": ("orthogonal",)},
        {"sigma_b": 0.5},
        {"batch": 4, "draws": 120},
        {"initializers": ("pytorch",), "draws": 100},
        {"initializers": ("lecun", "he"), "fan": "fan_out", "input_second_moment": 7.0},
    ],
    ids=["default", "narrow", "orthogonal", "bias", "batch", "pytorch", "fan"],
)
def test_z_is_standard_normal_over_many_seeds(changes):
    """The whole chain: weights, hooks, logs, exact mean, exact standard error."""
    seeds, changes = 24, {"initializers": ("he",)} | changes
    z = np.array([last_rows(variance(small(**changes, seed=seed)))["z"] for seed in range(seeds)])
    assert np.all(np.abs(z.mean(0)) < 4 / math.sqrt(seeds))
    # χ² with 23 degrees of freedom, two-sided at 1e-4; a t-statistic (batch) is a little wider
    low, high = stats.chi2.ppf([5e-5, 1 - 5e-5], seeds - 1) / (seeds - 1)
    assert np.all((z.var(0, ddof=1) > low) & (z.var(0, ddof=1) < 1.1 * high))


@pytest.mark.parametrize("batch", [1, 3])
def test_the_mean_second_moment_is_the_exact_expectation(batch):
    """In a shallow wide stack the sample mean itself is well behaved, and its error known."""
    spec = small(depth=3, width=64, draws=400, batch=batch, initializers=("he", "xavier", "normal"))
    table = variance(spec)
    for _, row in table.iterrows():
        ratio = math.exp((row["log10_measured"] - row["log10_theory"]) * math.log(10))
        spread = (1 + 5 / 64) ** 2 * (1 + 2 / 64) - 1
        assert abs(ratio - 1) < 4 * math.sqrt(spread / spec.draws)


def test_weak_and_strong_signals_stay_finite_at_depth_1000():
    spec = small(depth=1000, width=16, draws=3, initializers=("normal", "normal:1e-3", "he"))
    table = variance(spec)
    words = ["initializer", "activation", "direction", "engine", "law"]
    measured = table.drop(columns=words).filter(regex="^(?!.*weight_gradient)")
    assert np.isfinite(measured.to_numpy(dtype=float)).all()
    relu = table[table["activation"] == "relu"]
    ends = relu[relu["layer"] == 1000].set_index("initializer")["log10_theory"]
    assert ends["normal"] == pytest.approx(1000 * math.log10(16) - 999 * math.log10(2), rel=1e-12)
    assert ends["normal:0.001"] == pytest.approx(ends["normal"] - 6000, rel=1e-12)


@pytest.mark.parametrize("name", ["tanh", "gelu", "silu", "elu", "selu"])
def test_smooth_activations_stay_finite_and_follow_the_mean_field_map(name):
    deep = variance(small(depth=300, activations=(name,), initializers=("normal", "lecun"), draws=4))
    assert np.isfinite(deep["log10_measured"]).all() and np.isfinite(deep["log10_theory"]).all()
    wide = variance(small(depth=4, width=700, draws=6, activations=(name,), initializers=("he",)))
    gap = (wide["log10_measured"] - wide["log10_theory"]).abs()
    assert gap.max() < math.log10(1 + 4 * math.sqrt(4 * 6 / 700 / 6))  # generous spread per layer 6/n
    assert wide["z"].isna().all() and set(wide["law"]) == {"none"}


def test_results_depend_on_the_seed_and_on_nothing_else():
    spec = small(width=300, draws=60)  # several blocks
    first = variance(spec)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        torch.manual_seed(123)
        second = variance(spec)
    finally:
        torch.set_num_threads(threads)
    numbers = first.select_dtypes("number").to_numpy()
    np.testing.assert_allclose(numbers, second.select_dtypes("number").to_numpy(), rtol=1e-5, atol=1e-5)
    assert not first["log_mean"].equals(variance(small(width=300, draws=60, seed=1))["log_mean"])


def test_a_bias_may_dwarf_the_weights_and_the_weights_the_bias():
    for changes in ({"initializers": ("normal:1e-40",), "sigma_b": 1.0}, {"sigma_b": 1e-30}):
        table = variance(small(**changes, depth=40, direction="both"))
        assert np.isfinite(table[["log10_measured", "log_mean"]].to_numpy()).all()
    alone = variance(small(initializers=("normal:1e-40",), sigma_b=2.0, draws=400))
    assert alone["log10_theory"].iloc[-1] == pytest.approx(math.log10(4.0))
    assert (alone["z"].abs() < 4.5).all()


def test_numbers_in_names_are_not_rounded():
    spec = small(initializers=("normal:0.1234567", "normal:0.1234568"), activations=("relu",))
    assert [law.name for law, _ in spec.curves] == ["normal:0.1234567", "normal:0.1234568"]
    assert len(growth(spec, variance(spec))) == 2


@pytest.mark.parametrize("engine", ["modules", "law"])
@pytest.mark.parametrize("direction", ["forward", "both"])
def test_a_block_is_bounded_whatever_is_asked_for(engine, direction):
    """The readings of one block, for the deepest, the widest and the largest batch that are allowed."""
    for shape in (
        {"depth": 100_000, "width": 8},
        {"depth": 2, "width": 16_384},
        {"depth": 3, "batch": 60_000},
    ):
        if engine == "law" and direction == "both" and "batch" in shape:
            continue
        spec = small(**shape, draws=10**6, engine=engine, direction=direction)
        readings = spec.depth * spec.batch * len(spec.curves) * 8
        size = DenseSimulation(spec, groups(spec)[0]).block_size
        assert size == 1 or size * readings <= BLOCK_BYTES / 3
        if engine == "modules" or spec.needs_units:
            assert size * spec.width * spec.batch * 4 <= BLOCK_BYTES


def test_dead_networks_are_counted_and_kept_out_of_the_logs():
    table = variance(small(width=2, depth=4, draws=4000, initializers=("he",), activations=("relu",)))
    theory = table["dead_fraction_theory"].to_numpy()
    np.testing.assert_allclose(theory, 1 - 0.75 ** np.arange(4), atol=1e-12)
    error = np.sqrt(theory * (1 - theory) / 4000)
    assert np.all(np.abs(table["dead_fraction"] - theory) <= 4 * error)
    assert np.isfinite(table["log_mean"]).all()


def test_streaming_statistics_are_the_plain_ones():
    rng = np.random.default_rng(0)
    log_q = rng.normal(size=(50, 3, 2)) * 40
    log_q[7, 2] = -np.inf
    moments = LogMoments(3)
    for block in np.array_split(log_q, [1, 8, 30]):
        moments.add(block)
    flat = log_q.transpose(1, 0, 2).reshape(3, -1)
    living = [row[np.isfinite(row)] for row in flat]
    np.testing.assert_allclose(moments.pooled.mean, [row.mean() for row in living])
    np.testing.assert_allclose(moments.pooled.variance, [row.var(ddof=1) for row in living])
    np.testing.assert_allclose(moments.log_of_mean, np.log(np.exp(flat).mean(1)))
    np.testing.assert_allclose(moments.dead_fraction, [0, 0, 0.02])


def test_table_and_verdicts():
    spec = small(draws=200, width=64)
    table = variance(spec)
    assert list(table.columns) == list(COLUMNS)
    curves = growth(spec, table).set_index(["initializer", "activation"])
    assert curves["verdict"].to_dict() == {
        ("he", "relu"): "stable",
        ("xavier", "relu"): "vanishing",
        ("normal", "relu"): "exploding",
        ("he", "prelu"): "stable",
        ("xavier", "prelu"): "vanishing",
        ("normal", "prelu"): "exploding",
    }
    assert curves.loc[("xavier", "relu"), "theory"] == pytest.approx(-math.log10(2))
    assert curves.loc[("xavier", "prelu"), "theory"] == pytest.approx(math.log10(0.53125))
    assert (curves["agreement"] == "yes").all()


def test_hes_relu_gain_under_prelu_grows_six_times_over_thirty_layers():
    phi = parse_activation("prelu")
    log_q = mean_field.log_second_moments(phi, [LN2] * 31)
    assert math.exp(log_q[30] - log_q[0]) == pytest.approx(6.16, abs=0.005)


def test_xaviers_std_after_l_layers_is_2_to_the_minus_l_over_2_of_hes():
    relu = parse_activation("relu")
    for depth, published in ((22, 4.88e-4), (30, 3.05e-5)):
        he = mean_field.log_second_moments(relu, [LN2] * depth)[-1]
        xavier = mean_field.log_second_moments(relu, [0.0] * depth)[-1]
        assert math.exp((xavier - he) / 2) == pytest.approx(published, rel=2e-3)


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"depth": 0}, "depth must be a whole number from 1"),
        ({"depth": 10**9}, "depth must be a whole number"),
        ({"width": -3}, "width must be"),
        ({"draws": 1}, "draws must be"),
        ({"batch": 0}, "batch must be"),
        ({"batch": 60_000, "depth": 1000}, "depth × batch must be"),
        ({"batch": 60_000, "width": 16_000}, "width × batch must be"),
        ({"sigma_b": float("nan")}, "sigma-b must be a finite"),
        ({"sigma_b": -1.0}, "sigma-b must be"),
        ({"input_second_moment": 0.0}, "second moment must be"),
        ({"gain_slope": float("inf")}, "gain slope must be"),
        ({"initializers": ("hee",)}, "did you mean he"),
        ({"activations": ("rel",)}, "did you mean relu"),
        ({"initializers": ("xavier",), "fan": "fan_in"}, "fan of its own"),
        ({"initializers": ("pytorch",), "sigma_b": 1.0}, "contradicts"),
        ({"initializers": ()}, "at least one initializer"),
        ({"direction": "sideways"}, "forward"),
        ({"engine": "steam"}, "modules"),
        ({"device": "tpu"}, "cuda"),
    ],
)
def test_a_wrong_request_is_refused_on_construction(changes, says):
    with pytest.raises(RequestError, match=says):
        VarianceSpec(**changes)


def test_a_missing_device_is_refused():
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(RequestError, match="no cuda device"):
        variance(small(device="cuda"))


# ------------------------------------------------------------------- calibration, verdicts


def share_of_no(draws, batch, width, samples=1000):
    """How often true theories are called wrong: ``samples`` runs of ``draws`` networks, by the law."""
    many = small(
        draws=samples * draws, batch=batch, width=width, engine="law", initializers=("he",), seed=draws
    )
    (group,) = groups(many)
    one_run = replace(many, draws=draws)
    log_q = np.concatenate([b.log_q["forward"] for b in DenseSimulation(many, group).blocks()])
    share = []
    for curve in group.curves:
        theory = stacks.theory(many, curve.initializer, curve.activation, "forward")
        answers = []
        for run in np.split(log_q[:, :, curve.stream], samples):
            tally = Tally(one_run)
            tally.moments["forward"].add(run)
            z = _z(one_run, tally, "forward", curve.log_shift["forward"], theory)
            answers.append(agreement(np.nanmax(np.abs(z)), many.depth, degrees(one_run)))
        share.append(answers.count("no") / samples)
    return share


@pytest.mark.parametrize("draws", [2, 3, 5, 10])
@pytest.mark.parametrize("batch, width", [(1, 24), (1, 8), (4, 24)])
def test_a_true_theory_is_hardly_ever_called_wrong(draws, batch, width):
    """0.1 % is promised, and of 1,000 runs at most 3 are then to be expected: P(more) = 2 %."""
    assert max(share_of_no(draws, batch, width)) <= 3e-3


def test_two_networks_with_a_batch_cannot_tell():
    spec = small(draws=2, batch=4, initializers=("he",))
    assert set(growth(spec, variance(spec))["agreement"]) <= {UNDECIDED}
    spec = small(draws=30, batch=4, initializers=("he",))
    assert set(growth(spec, variance(spec))["agreement"]) == {"yes"}


def verdicts(spec):
    return list(growth(spec, variance(spec))["verdict"])


def test_the_verdict_is_about_deep_layers():
    """He and tanh: q comes down to its fixed point 0.618 and stays; χ₁ = 1.106 there."""
    spec = small(depth=4, initializers=("he",), activations=("tanh",), direction="both", draws=2)
    curves = growth(spec, variance(spec))
    assert curves["theory"].iloc[0] < math.log10(0.98)  # on the way there
    assert list(curves["verdict"]) == ["stable", "exploding"]
    assert 10 ** curves["asymptotic"].iloc[1] == pytest.approx(1.106, abs=5e-4)
    weak = small(depth=4, initializers=("normal:0.1",), activations=("tanh",), draws=2)  # s = 0.24
    assert verdicts(weak) == ["vanishing"]
    assert 10 ** growth(weak, variance(weak))["asymptotic"].iloc[0] == pytest.approx(0.24)
    strong = small(depth=4, initializers=("normal",), activations=("gelu",), draws=2)
    assert verdicts(strong) == ["exploding"]


def test_the_border_is_no_vanishing():
    spec = ConvSpec(depth=5, channels=4, draws=2, initializers=("he", "xavier"), activations=("relu",))
    he, xavier = growth(spec, variance(spec)).to_dict("records")
    assert (he["verdict"], xavier["verdict"]) == ("stable", "vanishing")
    assert 10 ** he["border"] == pytest.approx(0.977, abs=5e-4)
    assert he["theory"] == pytest.approx(he["asymptotic"] + he["border"])
    circular = replace(spec, padding="circular")
    assert growth(circular, variance(circular))["border"].isna().all()


def test_gradients_under_batch_norm_explode_and_the_signal_stays():
    spec = BatchNormSpec(depth=3, width=8, batch=8, draws=2, initializers=("he",))
    table = growth(spec, variance(spec)).set_index(["direction", "activation"])
    assert set(table.loc["forward", "verdict"]) == {"stable"}
    assert table.loc[("backward", "relu"), "asymptotic"] == pytest.approx(
        table.loc[("backward", "relu"), "theory"]
    )


def test_biases_keep_up_a_signal_that_would_vanish():
    plain, biased = (small(initializers=("xavier",), sigma_b=std, draws=2) for std in (0.0, 0.3))
    assert set(verdicts(plain)) == {"vanishing"} and set(verdicts(biased)) == {"stable"}


def test_an_unknown_kind_of_stack_is_refused():
    spec = CorrelationSpec(depth=2, width=8, draws=10)
    for ask in (lambda: variance(spec), lambda: stacks.theory(spec, *spec.curves[0], "forward")):
        with pytest.raises(RequestError, match="CorrelationSpec"):
            ask()
    with pytest.raises(RequestError, match="direction"):
        stacks.theory(small(), *small().curves[0], "sideways")
    with pytest.raises(RequestError, match="shape"):
        RedrawnLinear(2, 2, "triangular").draw(1, generator(0))


def test_the_table_says_whose_z_is_one_number_and_what_no_infinite_width_knows():
    spec = small(initializers=("he", "xavier"), activations=("relu",))
    (note,) = growth_table(growth(spec, variance(spec))).notes
    assert "z of he and xavier is one number, not 2 tests" in note and "few large networks" in note
    smooth = small(initializers=("he",), activations=("tanh",))
    (note,) = growth_table(growth(smooth, variance(smooth))).notes
    assert "large networks" not in note and "one number" not in note


@pytest.mark.parametrize("activation", ["prelu", "tanh"])
def test_histograms_are_of_the_networks_that_the_table_is_of(activation):
    """Their second moments are those of the same networks, gradients of the first layer too."""
    spec = small(activations=(activation,), width=64, draws=8, direction="both", depth=7)
    table, means = histograms(spec), variance(spec)
    assert list(table.columns) == list(HISTOGRAM_COLUMNS)
    np.testing.assert_allclose(table["log10_high"] - table["log10_low"], BIN)
    assert sorted(set(table["layer"])) == [1, 2, 4, 6, 7]
    shares = table.groupby(["initializer", "quantity", "layer"])["density"].sum() * BIN
    np.testing.assert_allclose(shares, 1.0)
    gradients = table[table["quantity"] == "gradient"]
    power = 10 ** (gradients["log10_low"] + gradients["log10_high"]) * gradients["density"] * BIN
    power = power.groupby([gradients["initializer"], gradients["layer"]]).sum().map(math.log10)
    back = means[means["direction"] == "backward"].set_index(["initializer", "layer"])
    expected = back["log10_measured"].loc[power.index]
    np.testing.assert_allclose(power, expected, atol=2 * BIN)
    if activation == "tanh":  # saturated, not exploded
        normal = table[(table["initializer"] == "normal") & (table["quantity"] == "activation")]
        peak = normal.loc[normal.groupby("layer")["density"].idxmax(), "log10_high"]
        assert peak.abs().max() < 1.5 * BIN


def test_half_of_the_activations_of_relu_are_zero_and_none_of_prelu():
    table = histograms(small(activations=("relu", "prelu"), width=64, initializers=("normal",)))
    zeros = table[table["quantity"] == "activation"].groupby("activation")["zeros"].max()
    assert zeros["relu"] == pytest.approx(0.5, abs=0.1) and zeros["prelu"] == 0.0


def test_histograms_of_a_thousand_layers_are_finite():
    table = histograms(small(depth=1000, width=32, initializers=("normal",), activations=("prelu",)))
    assert np.isfinite(table.drop(columns=["initializer", "activation", "quantity"])).all(axis=None)
    assert table["log10_high"].max() > 350  # beyond what a float can hold
