import json
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import cli
from figures.theory.batch_norm import norm_growth_figure, norm_growth_table
from theory.activations import parse_activation
from theory.draw.batch_norm import GROWTH_COLUMNS, NormSimulation
from theory.draw.ensemble import groups
from theory.draw.variance import COLUMNS, measure, variance
from theory.errors import RequestError
from theory.initializers import parse_initializer
from theory.law.batch_norm import effective_learning_rate, equivalent_learning_rate, gradient_growth
from theory.law.mean_field import correlation_slope
from theory.randomness import generator
from theory.specs import BatchNormSpec

RELU, PRELU, LINEAR = (parse_activation(name) for name in ("relu", "prelu", "linear"))


def small(**changes):
    values = {"depth": 6, "width": 64, "batch": 16, "draws": 30, "device": "cpu"}
    return BatchNormSpec(**values | {"initializers": ("he",), "activations": ("relu",)} | changes)


# ------------------------------------------------------------------------------------ theory


def test_the_published_growth_at_infinite_batch():
    assert round(gradient_growth(RELU), 5) == 1.46694
    assert gradient_growth(RELU) == pytest.approx(math.pi / (math.pi - 1), rel=1e-15)
    for activation in (RELU, PRELU, LINEAR):
        assert gradient_growth(activation, 1e9) == pytest.approx(gradient_growth(activation), rel=1e-7)


@pytest.mark.parametrize("batch", [4, 5, 16, 1000])
def test_linear_units_grow_by_b_minus_2_over_b_minus_3(batch):
    assert gradient_growth(LINEAR, batch) == pytest.approx((batch - 2) / (batch - 3), rel=1e-13)


@pytest.mark.parametrize("activation", [RELU, PRELU], ids=["relu", "prelu"])
def test_the_slope_of_the_correlation_map_is_its_derivative(activation):
    for c in (-0.9, -0.2, 0.0, 0.6):
        step = 1e-5
        ends = activation.correlation_map(np.array([c - step, c + step]))
        assert correlation_slope(activation, 1 / activation.second_moment, 1.0, c) == pytest.approx(
            float(np.diff(ends)[0]) / (2 * step)
        )


@pytest.mark.parametrize("slope, batch", [(0.0, 8), (0.25, 8), (-0.5, 12), (1.0, 8)])
def test_the_growth_is_one_wide_layers_own(slope, batch):
    """Brute force: E[1/σ²·Π D P D Π] of independent units, by autograd."""
    units = 200_000
    phi = parse_activation(f"leaky-relu:{slope}")
    rho = float(phi.correlation_map(-1 / (batch - 1)))
    noise = torch.randn(batch + 1, units, dtype=torch.float64, generator=generator(0, "units"))
    y = math.sqrt(1 - rho) * noise[1:] + math.sqrt(max(rho, 0.0)) * noise[0]  # a common part is removed
    y.requires_grad_()
    z = nn.functional.batch_norm(y, None, None, training=True, eps=1e-30)
    x = nn.functional.leaky_relu(z, slope)
    cotangent = torch.randn(batch, units, dtype=torch.float64, generator=generator(0, "cotangent"))
    cotangent = cotangent - cotangent.mean(0)  # covariance P: the next layer's gradient
    (gradient,) = torch.autograd.grad(x, y, cotangent)
    ratios = gradient.square().sum(0) / phi.second_moment / (batch - 1)
    error = float(ratios.std()) / math.sqrt(units)
    assert abs(float(ratios.mean()) - gradient_growth(phi, batch)) < 4 * error
    assert error < 0.02


def test_no_formula_is_made_up():
    with pytest.raises(RequestError, match="no rectifier"):
        gradient_growth(parse_activation("tanh"), 64)
    with pytest.raises(RequestError, match="batch must be"):
        gradient_growth(RELU, 3)


@pytest.mark.parametrize("name", ["tanh", "gelu"])
def test_smooth_activations_grow_by_the_slope_over_the_variance(name):
    """At a large batch; tanh is odd, so its inverse is E[φ²]/E[φ′²]."""
    phi = parse_activation(name)
    spec = small(depth=5, width=256, batch=400, draws=4, activations=(name,))
    row = measure(spec).gradient_growth.iloc[0]
    assert row["infinite_batch"] == gradient_growth(phi)
    allowed = 4 * row["standard_error"] + 4 / 256 + 4 / 400
    assert abs(row["measured"] - row["infinite_batch"]) < allowed


def test_effective_learning_rates():
    """N(0, 1) against He at fan 288: a factor 12 for Adam, 144 for SGD."""
    k = 1 / parse_initializer("he").std(288, 288)
    assert k == pytest.approx(12)
    assert effective_learning_rate(1e-3, k) == pytest.approx(1e-3 / 12)
    assert effective_learning_rate(1e-3, k, "sgd") == pytest.approx(1e-3 / 144)
    for optimizer in ("adam", "sgd"):
        there = equivalent_learning_rate(1e-3, k, optimizer)
        assert effective_learning_rate(there, k, optimizer) == pytest.approx(1e-3)
    with pytest.raises(RequestError, match="did you mean adam"):
        effective_learning_rate(1e-3, 1.0, "adm")


# ------------------------------------------------------------------- scale, in a real network


def network():
    """The course report's shape in small: conv 1 without BN, convolutions with it, a linear head."""
    stream = generator(0, "network")
    with torch.random.fork_rng(devices=[]):
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.PReLU(),
            nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4, eps=1e-40), nn.PReLU(),
            nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4, eps=1e-40), nn.PReLU(),
            nn.Flatten(), nn.Linear(4 * 16, 10),
        ).double()  # fmt: skip
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, math.sqrt(2 / parameter[0].numel()), generator=stream)
    return model


def losses(scale, optimizer, learning_rate, steps=8):
    """Train with every scale-free weight (and conv 1's bias) times ``scale``; the losses by step."""
    model, stream = network(), generator(0, "data")
    free = [model[0].weight, model[0].bias, model[2].weight, model[5].weight]
    useless = [model[2].bias, model[5].bias]  # BN subtracts them: their gradient is rounding
    fixed = [p for p in model.parameters() if not any(p is q for q in (*free, *useless))]
    for parameter in free:
        parameter.data *= scale
    rate = learning_rate * scale ** (1 if optimizer == "adam" else 2)
    groups = [{"params": free, "lr": rate}, {"params": fixed, "lr": learning_rate}]
    make = {"adam": lambda g: torch.optim.Adam(g, eps=1e-40), "sgd": torch.optim.SGD}[optimizer]
    step, history = make(groups), []
    for _ in range(steps):
        images = torch.randn(16, 3, 8, 8, dtype=torch.float64, generator=stream)
        labels = torch.randint(10, (16,), generator=stream)
        loss = nn.functional.cross_entropy(model(images), labels)
        step.zero_grad()
        loss.backward()
        step.step()
        history.append(loss.item())
    return np.array(history)


@pytest.mark.parametrize("optimizer, learning_rate", [("adam", 1e-2), ("sgd", 1e-1)])
@pytest.mark.parametrize("scale", [12.0, 0.1])
def test_scaling_weights_and_their_learning_rate_changes_no_loss(optimizer, learning_rate, scale):
    plain = losses(1.0, optimizer, learning_rate)
    assert np.ptp(plain) > 0.05  # it does learn
    np.testing.assert_allclose(losses(scale, optimizer, learning_rate), plain, rtol=1e-9)


def test_scaling_weights_alone_is_another_learning_rate():
    plain = losses(1.0, "adam", 1e-2)
    model, other = network(), network()
    other[2].weight.data *= 12
    images = torch.randn(16, 3, 8, 8, dtype=torch.float64, generator=generator(0, "data"))
    np.testing.assert_allclose(other(images).detach(), model(images).detach(), rtol=1e-10)
    for net in (model, other):
        net(images).square().sum().backward()
    np.testing.assert_allclose(other[2].weight.grad * 12, model[2].weight.grad, rtol=1e-8, atol=1e-12)
    assert np.abs(losses(12.0, "sgd", 1e-2) - plain).max() > 1e-3  # and the check above can fail


def test_a_network_that_knows_nothing_starts_at_ln_10():
    logits = torch.zeros(5, 10, dtype=torch.float64)
    loss = nn.functional.cross_entropy(logits, torch.arange(5)).item()
    assert round(loss, 4) == 2.3026


# -------------------------------------------------------------------------------- measurement


@pytest.mark.parametrize("changes", [{}, {"width": 8, "draws": 60}, {"activations": ("prelu:-0.5",)}])
def test_the_forward_z_is_standard_normal_over_many_seeds(changes):
    seeds = 24
    tables = [variance(small(depth=3, direction="forward", seed=s, **changes)) for s in range(seeds)]
    z = np.array([table["z"] for table in tables])
    assert np.all(np.abs(z.mean(0)) < 4 / math.sqrt(seeds))
    low, high = stats.chi2.ppf([5e-5, 1 - 5e-5], seeds - 1) / (seeds - 1)
    assert np.all((z.var(0, ddof=1) > low) & (z.var(0, ddof=1) < high))


@pytest.mark.parametrize("name", ["relu", "prelu", "linear"])
def test_wide_stacks_grow_by_lambda_b(name):
    """Within chance of λ_B, up to 1.5/n and 3/n per layer: the deviations seen from n = 16 to 1024."""
    spec = small(depth=6, width=256, batch=16, draws=24, activations=(name,), direction="backward")
    measured = measure(spec)
    table, growth = measured.table, measured.gradient_growth
    row = growth.iloc[0]
    allowed = 4 * row["standard_error"] + 4 / 256
    assert abs(row["measured"] - row["theory"]) < allowed
    assert row["theory"] - row["infinite_batch"] > allowed  # the batch's own term is seen
    assert row["after_norm"] == pytest.approx(1, abs=1e-6)
    gap = (table["log10_measured"] - table["log10_theory"]).abs() * math.log(10)
    assert gap.max() < 5 * allowed


def test_initializers_differ_by_their_scale_alone():
    table = variance(small(initializers=("he", "xavier", "normal")))
    he, normal = (table[table["initializer"] == name] for name in ("he", "normal"))
    k = math.log10(64 / 2)
    ratio = normal["log10_measured"].to_numpy() - he["log10_measured"].to_numpy()
    np.testing.assert_allclose(ratio, [k] * 6 + [-k] * 6)
    np.testing.assert_allclose(normal["log10_theory"].to_numpy() - he["log10_theory"].to_numpy(), ratio)


def test_the_first_layer_and_the_input_scale():
    table = variance(small(input_second_moment=9.0, width=128, draws=20, depth=2))
    np.testing.assert_allclose(10 ** table["log10_theory"][:2], [18.0, 1.0])
    gap = (table["log10_measured"] - table["log10_theory"]).abs()
    assert gap.max() < 0.05
    plain = variance(small(width=128, draws=20, depth=2))
    change = plain["log10_measured"] - table["log10_measured"]
    np.testing.assert_allclose(change, np.array([-1, 0, 1, 0]) * math.log10(9), atol=1e-12)


def test_a_stack_is_the_plain_network_and_deep_gradients_stay_finite():
    spec = small(depth=3, draws=2, width=6, batch=5)
    inputs = torch.randn(5, 6, generator=generator(0, "x"))
    inputs = inputs / inputs.square().mean(1, keepdim=True).sqrt()
    simulation = NormSimulation(spec, groups(spec, scale_free=True)[0])
    simulation.x = inputs
    forward, backward, after = simulation.run_draw(RELU, 0)
    weights = generator(0, "weights", "batch norm", "normal", 0)
    signal, outputs = inputs.double(), []
    for layer in range(3):
        weight = torch.empty(6, 6).normal_(generator=weights).double()
        outputs.append((signal @ weight.T).requires_grad_())
        centered = outputs[-1] - outputs[-1].mean(0)
        normed = centered / centered.square().mean(0).sqrt()
        signal = normed.relu() if layer < 2 else normed
    cotangent = torch.randn(5, 6, generator=generator(0, "cotangents", "batch norm", "normal", 0))
    gradients = torch.autograd.grad(normed, outputs, cotangent.double())
    np.testing.assert_allclose(forward, [y.detach().square().mean().log() for y in outputs], atol=1e-5)
    np.testing.assert_allclose(backward, [g.square().mean().log() for g in gradients], atol=1e-3)
    assert after == pytest.approx(1, abs=1e-5)
    deep = variance(small(depth=600, width=8, batch=8, draws=2))
    assert np.isfinite(deep[["log10_measured", "log10_theory"]].to_numpy()).all()
    assert deep["log10_measured"].max() > 40  # beyond float32


def test_tables_and_picture():
    measured = measure(small(activations=("relu", "tanh")))
    table, growth = measured.table, measured.gradient_growth
    assert list(table.columns) == list(COLUMNS) and list(growth.columns) == list(GROWTH_COLUMNS)
    assert set(table["direction"]) == {"forward", "backward"}
    assert math.isnan(growth["theory"].iloc[1]) and growth["measured"].iloc[1] > 1
    assert len(norm_growth_table(growth).rows) == 2
    smooth, rectifier = (norm_growth_table(growth.iloc[[row]]).notes[0] for row in (1, 0))
    assert "limit of an infinite batch" in smooth and "infinite" not in rectifier.replace(
        "infinite width", ""
    )
    figure = norm_growth_figure(table, growth)
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "tanh: infinite-batch limit, simulation" in words and "relu: theory, simulation" in words
    relu = table[(table["activation"] == "relu") & (table["direction"] == "backward")]
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), relu["log10_theory"])
    forward_only = measure(small(direction="forward"))
    assert set(forward_only.table["direction"]) == {"forward"}
    assert forward_only.gradient_growth is None


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"batch": 1}, "at least 4, not 1"),
        ({"batch": 3}, "no finite mean"),
        ({"batch": 0}, "batch must be"),
        ({"depth": 0}, "depth must be"),
        ({"width": 1}, "width must be"),
        ({"initializers": ("pytorch",)}, "removes the biases"),
        ({"activations": ("rel",)}, "did you mean relu"),
    ],
)
def test_a_wrong_request_is_refused_on_construction(changes, says):
    with pytest.raises(RequestError, match=says):
        small(**changes)


def test_the_command_writes_its_tables_and_pictures(capsys, tmp_path):
    argv = ["variance", "--norm", "batch", "--depth", "4", "--width", "16", "--batch", "8"]
    argv += ["--draws", "3", "--init", "he", "--device", "cpu"]
    assert cli.main([*argv, "--json", "--out", str(tmp_path)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["spec"]["norm"] == "batch"
    relu = next(row for row in document["gradient_growth"] if row["activation"] == "relu")
    assert relu["infinite_batch"] == pytest.approx(1.46694, abs=1e-5)
    verdicts = {(curve["direction"], curve["verdict"]) for curve in document["curves"]}
    assert ("forward", "stable") in verdicts and ("forward", "vanishing") not in verdicts
    files = {path.name for path in tmp_path.iterdir()}
    assert files >= {"variance.csv", "gradient-growth.csv", "gradient-growth.png"}
    assert cli.main([*argv, "--direction", "forward", "--out", str(tmp_path / "forward")]) == 0
    assert "gradient-growth" not in capsys.readouterr().out
