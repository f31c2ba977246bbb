"""Every rule against brute force: networks drawn anew and measured.

A prediction is made for weights whose second moments are just those of their law; where a rule is exact
it is the mean over draws, and the standard error comes from the draws themselves.
"""

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from theory.predict.moments import with_total
from theory.predict.network import calls_of, follow
from theory.predict.rules import weights_of
from theory.predict.tape import record

GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}
Z = 4.5  # a test of a few numbers fails by chance once in 100,000 runs


def drawn(build, seed, *, exact=False):
    """The network, its weights normal with He's variance, its biases too.

    exact  with just these second moments: what it predicts is then the mean over all draws
    """
    model = build()
    source = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.RNNBase):
            for parameter in module.parameters():
                for gate, part in enumerate(parameter.data.chunk(GATES[module.mode])):
                    std = 0.3 if part.dim() == 1 else (0.5 + 0.5 * gate) / part.shape[1] ** 0.5
                    draw(part, std, source, exact)
        weight = getattr(module, "weight", None)
        if weight is not None and weight.dim() > 1:
            draw(weight, (2 / weight[0].numel()) ** 0.5, source, exact)
            if getattr(module, "bias", None) is not None:
                draw(module.bias, 0.3, source, exact)
    return model


def draw(parameter, std, source, exact):
    with torch.no_grad():
        parameter.normal_(0, std, generator=source)
        if exact:
            parameter.mul_(std / parameter.square().mean().sqrt())


def inputs(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7)) + 0.2


def brute_force(build, x, draws, directions=("forward",)):
    """The prediction, z of what the draws show against it by row, and its relative error."""
    table = follow(drawn(build, 0, exact=True), x)
    measured = np.array([readings(drawn(build, seed), x, seed) for seed in range(1, draws + 1)])
    error = measured.std(0, ddof=1) / draws**0.5
    predicted = table[["forward_predicted", "backward_predicted"]].to_numpy().T
    sure = error <= 1e-6 * measured.mean(0)  # nothing is left to chance
    np.testing.assert_allclose(measured.mean(0)[sure], predicted[sure], rtol=1e-5)
    z = np.where(sure, 0.0, (measured.mean(0) - predicted) / np.where(sure, 1.0, error))
    rows = [("forward", "backward").index(direction) for direction in directions]
    return table, z[rows], (error / measured.mean(0))[rows]


def readings(model, x, seed):
    tape = record(model, x, gradients=True, seed=seed)
    used = [tape.values[o.outputs[0]] for o in tape.operations for _ in weights_of(o)]
    return [[v.second_moment for v in used], [v.gradient_second_moment for v in used]]


class Residual(nn.Module):
    def __init__(self, *, act=True, shared=False):
        super().__init__()
        self.stem = nn.Linear(8, 12)
        self.one = nn.Linear(12, 12)
        self.two = self.one if shared else nn.Linear(12, 12, bias=False)
        self.head = nn.Linear(12, 6)
        self.act = act

    def forward(self, x):
        x = self.stem(x)
        y = self.one(x)
        x = x + self.two(y.relu() if self.act else y)
        return self.head(x)


class Wired(nn.Module):
    """A branch, a join, a split and a functional call."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(8, 6), nn.Linear(8, 10)
        self.both, self.last = nn.Linear(16, 8), nn.Linear(8, 5)

    def forward(self, x):
        joined = torch.cat([self.left(x), 2 * self.right(x)], 1)
        first, second = self.both(F.relu(joined)).chunk(2, 1)
        return self.last(torch.stack([first, -second], 1).flatten(1).relu_())


CONVOLUTIONS = {
    "plain": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.ReLU(), nn.Conv2d(8, 4, 3)
    ),
    "grouped": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=2, dilation=2), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1, groups=4)
    ),
    "depthwise": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 4, 1)
    ),
    "transposed": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 6, 3, stride=2, output_padding=1, groups=2)
    ),
    "circular": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, padding_mode="circular"), nn.ReLU(),
        nn.Conv2d(8, 4, 3, padding="same"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_convolutions_of_every_kind(kind):
    table, z, error = brute_force(CONVOLUTIONS[kind], inputs(3, 3, 8, 8), 120, ("forward", "backward"))
    assert set(table.basis) == {"exact"} and set(table.backward_basis) == {"exact"}
    assert error.max() < 0.1
    assert np.abs(z).max() < Z


def test_one_dimensional_convolutions():
    def build():
        return nn.Sequential(nn.Conv1d(4, 8, 3, padding=1), nn.LeakyReLU(0.3), nn.Conv1d(8, 4, 5))

    _, z, error = brute_force(build, inputs(3, 4, 12), 120, ("forward", "backward"))
    assert error.max() < 0.1 and np.abs(z).max() < Z


def test_residual_sums_have_no_cross_term():
    table, z, error = brute_force(Residual, inputs(6, 8), 250)
    assert set(table.basis) == {"exact"}
    assert error.max() < 0.1 and np.abs(z).max() < Z
    q = table.forward_predicted
    assert q[3] == pytest.approx(2 * (q[0] + q[2]) + 0.09)


def test_gradients_of_branches_add():
    _, z, error = brute_force(lambda: Residual(act=False), inputs(6, 8), 250, ("backward",))
    assert error.max() < 0.1 and np.abs(z).max() < Z


def test_a_weight_that_is_used_twice_says_so():
    table = follow(drawn(lambda: Residual(shared=True), 0), inputs(6, 8))
    assert list(zip(table.module, table.call, strict=True))[1:3] == [("one", 0), ("one", 1)]
    assert "shared weights" in table.basis[2]


def test_joins_splits_and_functions():
    table, z, error = brute_force(Wired, inputs(6, 8), 120, ("forward", "backward"))
    assert set(table.basis) == {"exact"}
    assert error.max() < 0.1 and np.abs(z).max() < Z


class Gated(nn.Module):
    """(W₁x)·silu(W₂x), both from one tensor."""

    def __init__(self):
        super().__init__()
        self.packed, self.out = nn.Linear(8, 1024, bias=False), nn.Linear(512, 64, bias=False)

    def forward(self, x):
        up, gate = self.packed(x).chunk(2, -1)
        return self.out(up * F.silu(gate))


def test_gated_units():
    table, z, error = brute_force(Gated, inputs(5, 8), 120)
    assert table.basis[1] == "infinite width"
    assert error.max() < 0.05 and np.abs(z).max() < Z


@pytest.mark.parametrize("phi", [nn.GELU(), nn.Tanh(), nn.SiLU(), nn.Hardswish(), nn.ReLU6()])
def test_activations_of_gaussian_units(phi):
    def build():
        return nn.Sequential(nn.Linear(8, 64), phi, nn.Linear(64, 4))

    table, z, error = brute_force(build, inputs(5, 8), 120)
    assert table.basis[1] == "infinite width"
    assert error.max() < 0.05 and np.abs(z).max() < Z


NORMS = {
    "layer": lambda: nn.LayerNorm(256),
    "rms": lambda: nn.RMSNorm(256),
    "batch": lambda: nn.BatchNorm1d(256),
    "group": lambda: nn.GroupNorm(4, 256),
}


@pytest.mark.parametrize("kind", NORMS)
def test_normalization_forgets_the_size(kind):
    def build():
        return nn.Sequential(nn.Linear(64, 256), NORMS[kind](), nn.ReLU(), nn.Linear(256, 64))

    table, z, error = brute_force(build, 30 * inputs(64, 64), 30)
    assert error.max() < 0.05 and np.abs(z[0, 1]).max() < Z
    assert table.forward_predicted[1] == pytest.approx(1 + 0.3**2, rel=1e-4)
    assert table.backward_measured[0] == pytest.approx(table.backward_predicted[0], rel=0.15)


def test_batch_norm_takes_out_the_mean_where_it_is():
    """In the middle of a small map more taps see the mean of what enters, which batch norm subtracts.

    With the mean taken out everywhere alike the next layer was predicted 7 % too large.
    """

    def build():
        return nn.Sequential(
            nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1),
        )  # fmt: skip

    table, z, error = brute_force(build, inputs(8, 3, 3, 3) + 2, 60)
    measured = table.forward_predicted[2] / (1 - z[0, 2] * error[0, 2])
    assert table.basis[2] == "infinite batch" and error[0, 2] < 0.012
    assert measured == pytest.approx(table.forward_predicted[2], rel=0.04)


def test_few_values_of_a_channel_are_not_gaussian():
    """Batch norm over 3 inputs of 2 × 2 places that are alike leaves a channel few ways to lie.

    With silu's moments of a Gaussian the layer behind was predicted 9 % too large.
    """

    def build():
        return nn.Sequential(
            nn.Conv2d(16, 256, 1, bias=False), nn.BatchNorm2d(256), nn.SiLU(), nn.Conv2d(256, 512, 1)
        )

    table, z, error = brute_force(build, inputs(3, 16, 1, 1).expand(-1, -1, 2, 2), 40)
    assert "measured factor" in table.basis[1]
    assert error[0, 1] < 0.01 and abs(z[0, 1] * error[0, 1]) < 0.03


def test_where_epsilon_bites_channels_differ():
    """E[σ²/(σ² + ε)] over channels of one weight each is less than that of their mean variance."""

    def build():
        return nn.Sequential(
            nn.Conv2d(512, 512, 1, groups=512, bias=False), nn.BatchNorm2d(512, eps=0.5), nn.ReLU(),
            nn.Conv2d(512, 256, 1),
        )  # fmt: skip

    table, z, error = brute_force(build, inputs(16, 512, 4, 4), 40)
    assert "measured factor" in table.basis[1]
    assert error[0, 1] < 0.01 and abs(z[0, 1] * error[0, 1]) < 0.03  # by the mean variance: 0.38 off


class Middle(nn.Module):
    """The middle place of a 3 × 3 map."""

    def forward(self, x):
        return x[:, :, 1:-1, 1:-1]


def test_batch_norm_takes_more_out_of_the_middle():
    """There alone the prediction is rougher, and without the mean's share 17 % too large."""

    def build():
        return nn.Sequential(
            nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64), nn.ReLU(), Middle(), nn.Conv2d(64, 64, 1),
        )  # fmt: skip

    _, z, error = brute_force(build, inputs(8, 3, 3, 3) + 2, 40)
    assert abs(z[0, 2] * error[0, 2]) < 0.15


def test_batch_norm_of_what_is_joined_takes_out_its_mean_place_by_place():
    """E[xμ] goes as √q over places: without that their contrast is too strong (DenseNet)."""

    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = (nn.Conv2d(c, 96, 3, padding=1, bias=False) for c in (3, 96))
            self.norm, self.head = nn.BatchNorm2d(192), nn.Conv2d(192, 64, 3, padding=1, bias=False)

        def forward(self, x):
            x = self.one(x).relu()
            return self.head(self.norm(torch.cat([x, self.two(x).relu()], 1)).relu())

    for shift, off in ((0, 0.03), (1, 0.1)):  # a flat share is off by 6 % and 17 %
        _, z, error = brute_force(Joined, inputs(6, 3, 4, 4) + shift, 40)
        assert abs(z[0, -1] * error[0, -1]) < off and error[0, -1] < 0.01


def test_a_weight_before_batch_norm_shares_its_own_scale():
    """E[w²/|w|²] of 36 normal weights is (1 − 2/36)·E[w²]·E[1/|w|²]: on each draw, in the mean."""

    def build():
        return nn.Sequential(
            nn.Linear(64, 36, bias=False), nn.Linear(36, 128, bias=False), nn.BatchNorm1d(128),
            nn.Linear(128, 64),
        )  # fmt: skip

    tables = [follow(drawn(build, seed), inputs(256, 64)) for seed in range(30)]
    ratios = np.array([one.backward_measured[0] / one.backward_predicted[0] for one in tables])
    assert ratios.std() / 30**0.5 < 0.01 and ratios.mean() == pytest.approx(1, abs=0.05)


def test_a_measured_slope_keeps_the_profile_over_the_map():
    """Gradients are smaller at the border, where depthwise windows are cut and silu is flatter.

    With the slopes of 8 such layers spread evenly the gradient before them was predicted a third too
    large, in the mean over draws.
    """

    def build():
        blocks = [
            nn.Sequential(
                nn.Conv2d(48, 48, 5, padding=2, groups=48, bias=False), nn.BatchNorm2d(48), nn.SiLU(),
                nn.Conv2d(48, 48, 1, bias=False), nn.BatchNorm2d(48),
            )
            for _ in range(8)
        ]  # fmt: skip
        return nn.Sequential(nn.Conv2d(3, 48, 1), *blocks, nn.Flatten(), nn.Linear(48 * 16, 10))

    tables = [follow(drawn(build, seed), inputs(8, 3, 4, 4)) for seed in range(16)]
    measured, predicted = (
        np.array([one[f"backward_{what}"][0] for one in tables]) for what in ("measured", "predicted")
    )
    assert np.log(measured / predicted).std() / 16**0.5 < 0.05
    assert measured.mean() == pytest.approx(predicted.mean(), rel=0.15)


def test_a_silent_input_has_a_gradient_all_the_same():
    """An image of zeros in front of group norm: the inverse of its power has no bound."""

    def build():
        return nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.GroupNorm(2, 8), nn.Conv2d(8, 4, 1))

    x = inputs(4, 3, 8, 8)
    x[0] = 0
    table = follow(build(), x)
    assert np.isfinite(table.backward_predicted).all() and (table.backward_predicted > 0).all()


def test_a_slope_over_the_whole_shares_out_what_came():
    power = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    profile = torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64)
    made = with_total(lambda before: profile * before, power, 0.5)
    np.testing.assert_array_equal(made.detach(), profile * power.detach())
    came = torch.tensor([2.0, 6.0, 8.0], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(made, power, came)
    np.testing.assert_allclose(gradient, [4.0, 4.0, 0.0])  # half of 16, as 3·2 to 1·6
    unknown = with_total(lambda before: profile * before, power, np.nan)
    np.testing.assert_array_equal(torch.autograd.grad(unknown, power, came)[0], 0.0)


@pytest.mark.parametrize(("kind", "slope"), [(nn.LayerNorm, 14 / 13), (nn.RMSNorm, 15 / 14)])
def test_the_slope_of_layer_norm(kind, slope):
    """γ²/q·(n − 2)/(n − 3), of RMS norm γ²/q·(n − 1)/(n − 2), at n Gaussian units of variance q = 2."""
    tokens = inputs(64, 8)
    tokens = tokens / tokens.square().mean(1, keepdim=True).sqrt()

    def build():
        model = nn.Sequential(nn.Linear(8, 16, bias=False), kind(16))
        nn.init.constant_(model[1].weight, 3.0)
        return model

    table, z, error = brute_force(build, tokens, 400, directions=("backward",))
    assert table.backward_predicted[0] == pytest.approx(9 / 2 * slope, rel=1e-3)
    assert np.abs(z).max() < Z
    assert error.max() < 0.02


PADDED = torch.arange(1, 11).repeat(6, 1)
PADDED[:, 4:] = 0


class Padded(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(40, 16, padding_idx=0)
        self.linear, self.head = nn.Linear(16, 16, bias=False), nn.Linear(16, 4, bias=False)

    def forward(self, tokens):
        return self.head(self.linear(self.table(tokens)).relu())


def test_padding_is_0_and_shuts_the_gates_behind_it():
    """Four of ten tokens are no padding: all that is made of the others is 0, and has no gradient."""

    def build():
        model = drawn(Padded, 0)
        for parameter in model.parameters():
            nn.init.normal_(parameter, 0, 0.5)
        model.table.weight.data[0] = 0
        return model

    torch.manual_seed(3)
    tables = [follow(build(), PADDED) for _ in range(200)]
    for name in ("forward", "backward"):
        predicted, measured = (
            np.array([table[f"{name}_{kind}"] for table in tables])
            for kind in ("predicted", "measured")
        )
        error = (measured - predicted).std(0, ddof=1) / 200**0.5 + 1e-12
        assert np.abs((measured - predicted).mean(0) / error).max() < Z
        assert set(tables[0].basis) == set(tables[0].backward_basis) == {"exact"}
    assert tables[0].forward_predicted[0] == pytest.approx(0.4 * 0.25, rel=0.2)


class Elementwise(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.first, self.last, self.function = nn.Linear(24, 200), nn.Linear(200, 8), function

    def forward(self, x):
        return self.last(self.function(self.first(x)))


ELEMENTWISE = {
    "x + 3": lambda x: torch.relu(x + 3),
    "x - 1": lambda x: torch.relu(x - 1),
    "hard-swish": lambda x: x * F.relu6(x + 3) / 6,
    "x + x": lambda x: x + x,
    "x - x/2": lambda x: torch.sub(x, x, alpha=0.5),
    "x·x": lambda x: x * x,
    "x·sigmoid": lambda x: x * torch.sigmoid(x),
    "gelu": lambda x: 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * torch.pow(x, 3)))),
    "softmin": lambda x: 100 * F.softmin(x / 3, -1),
    "alpha dropout": lambda x: F.alpha_dropout(x, 0.5, training=True),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_functions_that_are_written_out(name):
    """The parts of a gradient that meet again unit by unit do not add up as independent ones."""
    x = torch.randn(16, 24, generator=torch.Generator().manual_seed(7))
    _, z, error = brute_force(
        lambda: Elementwise(ELEMENTWISE[name]), x, 60, directions=("forward", "backward")
    )
    ratios = z * error  # (measured − predicted)/measured
    assert np.abs(ratios).max() < 0.1
    assert error.max() < 0.08


def test_dropout_in_train_mode_only():
    def build():
        return nn.Sequential(nn.Linear(8, 64), nn.Dropout(0.5), nn.ReLU(), nn.Linear(64, 4))

    table, z, error = brute_force(build, inputs(8, 8), 120, ("forward", "backward"))
    assert error.max() < 0.1 and np.abs(z).max() < Z
    still = follow(drawn(build, 0, exact=True).eval(), inputs(8, 8)).forward_predicted
    assert table.forward_predicted[1] - 0.09 == pytest.approx(2 * (still[1] - 0.09))


def test_stochastic_depth_is_predicted_in_the_mean():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x):
            return self.two(torchvision.ops.stochastic_depth(self.one(x), 0.4, "row"))

    table, z, error = brute_force(Deep, inputs(6, 8), 250, ("forward", "backward"))
    q = table.forward_predicted
    assert q[1] == pytest.approx(2 * q[0] / 0.6 + 0.09)
    assert error.max() < 0.1 and np.abs(z).max() < Z


class Recurrent(nn.Module):
    """A recurrent network, the output of each step, and what is left at the end."""

    def __init__(self, cell, width, initial=False):
        super().__init__()
        self.cell, self.head = cell, nn.Linear(width, 64)
        self.last = nn.Linear(cell.hidden_size, 64)
        self.initial = initial

    def forward(self, x):
        shape = self.cell.num_layers, len(x), self.cell.hidden_size
        initial = torch.randn(shape, generator=torch.Generator().manual_seed(5))
        lstm = self.cell.mode == "LSTM"
        states = ((initial, 2 * initial) if lstm else initial) if self.initial else None
        y, last = self.cell(x, states)
        return self.head(y), self.last(last[1] if lstm else last)


CELLS = {
    "lstm": lambda: Recurrent(nn.LSTM(16, 96, 2, batch_first=True), 96),
    "lstm from a state": lambda: Recurrent(nn.LSTM(16, 96, batch_first=True), 96, True),
    "gru": lambda: Recurrent(nn.GRU(16, 96, 2, batch_first=True, dropout=0.4), 96),
    "gru from a state": lambda: Recurrent(nn.GRU(16, 96, batch_first=True, bias=False), 96, True),
    "both directions": lambda: Recurrent(nn.GRU(16, 96, 2, batch_first=True, bidirectional=True), 192),
    "tanh": lambda: Recurrent(nn.RNN(16, 96, 2, batch_first=True), 96),
    "relu": lambda: Recurrent(nn.RNN(16, 96, nonlinearity="relu", batch_first=True), 96, True),
}


@pytest.mark.parametrize("kind", CELLS)
def test_recurrent_cells(kind):
    table, z, error = brute_force(CELLS[kind], inputs(4, 8, 16), 30)
    assert set(table.basis) == {"infinite width"} and table.backward_basis[0] == "exact"
    assert error.max() < 0.06 and np.abs(z).max() < Z


def test_steps_come_first_unless_the_batch_does():
    cell = drawn(lambda: nn.LSTM(16, 32), 0)
    first = drawn(lambda: nn.LSTM(16, 32, batch_first=True), 0)
    x = inputs(4, 8, 16)
    columns = ["forward_predicted", "forward_measured", "backward_predicted"]
    steps, batch = follow(cell, x.transpose(0, 1))[columns], follow(first, x)[columns]
    np.testing.assert_allclose(steps[columns[:2]], batch[columns[:2]], rtol=1e-5)


def test_a_forget_bias_has_a_mean():
    """torch's default weights, but for a bias of 1 at the forget gate of every unit."""
    x, ratios = inputs(8, 4, 16), []
    for seed in range(30):
        torch.manual_seed(seed)
        cell = nn.LSTM(16, 96)
        with torch.no_grad():
            cell.bias_ih_l0[96:192], cell.bias_hh_l0[96:192] = 1.0, 0.0
        table = follow(cell, x)
        ratios.append(table.forward_measured[0] / table.forward_predicted[0])
    assert np.mean(ratios) == pytest.approx(1, abs=Z * np.std(ratios) / 30**0.5)
    assert np.std(ratios) / 30**0.5 < 0.02


def test_the_end_of_a_sequence_is_predicted_apart():
    """The last step of h, of both directions: what goes back has then seen a single input."""

    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = nn.LSTM(16, 128, bidirectional=True), nn.Linear(256, 64)

        def forward(self, x):
            return self.head(self.cell(x)[0][-1])

    _, z, error = brute_force(Last, inputs(8, 4, 16), 30)
    assert error.max() < 0.06 and np.abs(z).max() < Z


@pytest.mark.parametrize(("kind", "new"), [(nn.LSTM, 2), (nn.GRU, 2), (nn.RNN, 0)])
def test_what_a_recurrent_cell_is_odd_in(kind, new):
    """Change the sign of the new state's inputs and biases, and of what the other gates read of h."""
    cell, x = kind(8, 16), inputs(6, 3, 8)
    tape = record(cell, x, gradients=True, slopes=True)
    (output, *ends) = calls_of(tape, x)[-1][1]
    assert (
        output.odd and not output.odd & ~output.seen and all(end.symmetric for end in (output, *ends))
    )
    before = cell(x)[0]
    with torch.no_grad():
        rows = torch.arange(len(cell.weight_hh_l0)) // 16 == new
        for parameter in (cell.weight_ih_l0, cell.bias_ih_l0, cell.bias_hh_l0):
            parameter[rows] *= -1
        cell.weight_hh_l0[~rows] *= -1
    torch.testing.assert_close(cell(x)[0], -before)


def test_a_recurrent_branch_adds_to_what_it_read():
    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.cell, self.head = nn.Linear(8, 64), nn.RNN(64, 64), nn.Linear(64, 32)

        def forward(self, x):
            x = self.stem(x)
            return self.head((x + self.cell(x)[0]).relu())

    table, z, error = brute_force(Branch, inputs(6, 4, 8), 80)
    assert table.basis.iloc[-1] == "infinite width"
    assert error.max() < 0.06 and np.abs(z).max() < Z


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.LSTM(8, 16)

    def forward(self, x):
        return self.cell(nn.utils.rnn.pack_padded_sequence(x, [6, 4, 3]))[0].data


class Again(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRU(8, 16)

    def forward(self, x):
        first, last = self.cell(x)
        return first, self.cell(x, last)[0]


def identity():
    cell = nn.RNN(8, 16)
    nn.init.eye_(cell.weight_hh_l0)
    return cell


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize(
    "build",
    [Packed, Again, identity, lambda: nn.LSTM(8, 16, proj_size=4)],
    ids=lambda one: one.__name__,
)
def test_other_recurrent_networks_are_measured(build):
    table = follow(build(), inputs(6, 3, 8))
    assert table.basis.iloc[-1] == "measured factor"
    assert table.forward_predicted.iloc[-1] == pytest.approx(table.forward_measured.iloc[-1])


class Logits(nn.Module):
    """What a head reads from q·k of every two tokens, or from a product over tokens."""

    def __init__(self, *, packed=False, over_tokens=False):
        super().__init__()
        self.q, self.k = nn.Linear(8, 24), nn.Linear(8, 24)
        self.both, self.head = nn.Linear(8, 48), nn.Linear(24 if over_tokens else 6, 5)
        self.packed, self.over_tokens = packed, over_tokens

    def forward(self, x):
        q, k = self.both(x).chunk(2, -1) if self.packed else (self.q(x), self.k(x))
        if self.over_tokens:
            return self.head(q.mT @ k)
        if self.packed:
            q, k = (each.unflatten(-1, (3, 8)).transpose(1, 2) for each in (q, k))
        return self.head(q @ k.transpose(-2, -1) / 3)


@pytest.mark.parametrize("packed", [False, True])
def test_products_of_units(packed):
    x = inputs(5, 6, 8) * torch.arange(1, 7)[:, None] / 3
    table, z, error = brute_force(lambda: Logits(packed=packed), x, 200)
    assert table.basis.iloc[-1] == ("infinite width" if packed else "exact")
    assert error.max() < 0.1 and np.abs(z).max() < Z


def test_the_slope_of_a_product_is_measured():
    table = follow(drawn(Logits, 3), inputs(5, 6, 8))
    assert "measured factor" in table.backward_basis[0]
    for which in (0, 1):
        assert table.backward_measured[which] == pytest.approx(table.backward_predicted[which], rel=0.5)


def test_a_product_over_tokens_takes_the_other_factor_as_given():
    table = follow(drawn(lambda: Logits(over_tokens=True), 0), inputs(5, 6, 8))
    assert table.basis.iloc[-1] == "given attention"


class Summed(nn.Module):
    """Weights that are no layer's: in an equation, as a stack of matrices, in front of the signal."""

    def __init__(self, how):
        super().__init__()
        self.first, self.how = nn.Linear(8, 8), how
        shape = {"heads": (8, 3, 4), "experts": (5, 8, 6), "stack": (5, 8, 6), "tokens": (7, 6)}[how]
        self.weight = nn.Parameter(torch.empty(shape))

    def forward(self, x):  # (5, 6, 8)
        y = self.first(x).relu()
        if self.how == "heads":
            return torch.einsum("btd, dhk -> bthk", y, self.weight)
        if self.how == "experts":
            return torch.bmm(y, self.weight)
        return y @ self.weight if self.how == "stack" else self.weight @ y


FANS = {"heads": (8, 12, 1), "experts": (8, 6, 5), "stack": (8, 6, 5), "tokens": (6, 7, 1)}


@pytest.mark.parametrize("how", FANS)
def test_weights_in_a_sum_over_named_axes(how):
    x = inputs(5, 6, 8) * torch.arange(1, 7)[:, None] / 3
    table, z, error = brute_force(lambda: Summed(how), x, 300, ("forward", "backward"))
    last = table.iloc[-1]
    assert (last.parameter, last.fan_in, last.fan_out, last.groups) == ("weight", *FANS[how])
    assert set(table.basis) == {"exact"} and error.max() < 0.1 and np.abs(z).max() < Z


def test_an_axis_that_is_summed_by_itself_is_measured():
    class Pooling(Summed):
        def forward(self, x):
            return torch.einsum("btd,dhk->bhk", self.first(x), self.weight)

    table = follow(drawn(lambda: Pooling("heads"), 0), inputs(5, 6, 8))
    assert "measured factor" in table.basis.iloc[-1] and table.parameter.iloc[-1] == "weight"


class Attending(nn.Module):
    """Attention whose matrix depends on the inputs alone, so that all draws have the same."""

    def __init__(self, kind):
        super().__init__()
        self.both, self.head, self.kind = nn.Linear(8, 48), nn.Linear(24, 5), kind

    def forward(self, x):
        v = self.both(x).chunk(2, -1)[1]
        if self.kind == "by hand":
            return self.head(torch.softmax(x @ x.mT / 2, -1) @ v)
        heads = v.unflatten(-1, (3, 8)).transpose(1, 2)
        if self.kind == "cached":  # as transformers joins an empty cache to its values
            heads = torch.cat([torch.tensor([]), heads], -2)
        if self.kind == "padded":
            heads = torch.cat([heads[..., :-1, :], torch.zeros(len(x), 3, 1, 8)], -2)
        keys = torch.stack([x, 2 * x, -x], 1)
        mixed = F.scaled_dot_product_attention(
            keys, keys.flip(1), heads, is_causal=self.kind == "causal"
        )
        return self.head(mixed.transpose(1, 2).flatten(2))


def test_values_that_are_joined_with_others_are_no_rows():
    model = drawn(lambda: Attending("padded"), 0)
    assert "measured factor" in follow(model, inputs(3, 6, 8)).basis.iloc[-1]
    tape = record(model, inputs(3, 6, 8), gradients=True, slopes=True)
    (mixes,) = (one for one in tape.operations if one.name == "scaled_dot_product_attention")
    assert mixes.products is None and mixes.logits is not None


@pytest.mark.parametrize("kind", ["by hand", "heads", "causal", "cached"])
def test_values_are_mixed_by_the_attention_of_this_run(kind):
    x = inputs(3, 6, 8) * torch.arange(1, 7)[:, None] / 6
    table, z, error = brute_force(lambda: Attending(kind), x, 300)
    assert list(table.basis) == ["exact", "given attention"]
    assert error.max() < 0.1 and np.abs(z).max() < Z


class Looking(nn.Module):
    """Where fresh queries and keys look: the attention matrix goes into a layer of its own."""

    def __init__(self, mask):
        super().__init__()
        self.query, self.key, self.head = nn.Linear(48, 48), nn.Linear(48, 48), nn.Linear(24, 200)
        self.mask, self.later = mask, torch.ones(24, 24, dtype=torch.bool).triu(1)
        if mask == "few":  # six queries see one key
            self.later = (torch.arange(24)[:, None] < 6) & (torch.arange(24) > 0)

    def forward(self, x):
        logits = self.query(x) @ self.key(x).mT / (1.4 * 48**0.5)
        if self.mask == "added":
            logits = logits + torch.zeros(24, 24).masked_fill(self.later, -torch.inf)
        if self.mask in ("filled", "few"):
            logits = logits.masked_fill(self.later, -1e9)
        if self.mask == "chosen":
            logits = torch.where(self.later, torch.tensor(-torch.inf), logits)
        return self.head(torch.softmax(logits, -1))


@pytest.mark.parametrize("mask", ["none", "added", "filled", "chosen", "few"])
def test_a_softmax_looks_where_gaussian_logits_do(mask):
    """Its logits are Gaussian for wide layers alone: within 8 %, where even weights are off by half."""
    table, z, error = brute_force(lambda: Looking(mask), inputs(6, 24, 48), 80)
    assert table.basis.iloc[-1] == "Gaussian logits"
    assert abs(z[0, -1] * error[0, -1]) < 0.08 and error[0, -1] < 0.03
    behind = table.backward_predicted / table.backward_measured
    assert 0.6 < behind[0] < 1.6, "what masks a logit has no part in the gradient"


def test_a_softmax_over_nothing_but_masks_stops_nothing():
    class Blind(Attending):
        def forward(self, x):
            logits = (x @ x.mT).masked_fill(torch.ones(6, 6, dtype=torch.bool), -1e9)
            return self.head(torch.softmax(logits, -1) @ self.both(x)[..., :24])

    table = follow(drawn(lambda: Blind(""), 0), inputs(3, 6, 8))
    assert table.forward_predicted.iloc[-1] == pytest.approx(table.forward_measured.iloc[-1], rel=0.5)


def test_zeros_that_are_taken_apart():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.both, self.head = nn.Linear(8, 16), nn.Linear(8, 3)
            nn.init.zeros_(self.both.weight)

        def forward(self, x):
            u, v = self.both(x).chunk(2, -1)
            return self.head(x + u * v)

    assert len(follow(Gate(), inputs(4, 8))) == 2


@pytest.mark.parametrize("by_name", [True, False])
def test_attention_that_drops_at_random_is_measured(by_name):
    class Dropping(Attending):
        def forward(self, x):
            v = self.both(x)[..., :24]
            if by_name:
                return self.head(F.scaled_dot_product_attention(x, x, v, dropout_p=0.5))
            return self.head(F.scaled_dot_product_attention(x, x, v, None, 0.5))

    table = follow(drawn(lambda: Dropping(""), 0), inputs(3, 6, 8))
    assert "measured factor" in table.basis.iloc[-1]


def test_attention_of_zeros_is_zero():
    model = drawn(lambda: Attending("heads"), 0)
    nn.init.zeros_(model.both.bias)
    table = follow(model, torch.zeros(3, 6, 8))
    assert table.forward_predicted[0] == 0 and not table.forward_predicted.isna().any()


def test_attention_of_the_same_weights_twice_is_measured():
    class Twice(Attending):
        def forward(self, x):
            v = self.both(x)[..., :24]
            return self.head(torch.softmax(v @ v.mT / 50, -1) @ v)

    table = follow(drawn(lambda: Twice(""), 0), inputs(3, 6, 8))
    assert "measured factor" in table.basis.iloc[-1]


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.position = nn.Embedding(50, 16), nn.Parameter(torch.zeros(6, 16))
        self.middle, self.head = nn.Linear(16, 16), nn.Linear(16, 50, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens):
        return self.head(self.middle(self.table(tokens) + self.position).relu())


def test_embeddings_and_ties():
    tokens = torch.arange(50).repeat(6)[:48].reshape(8, 6)
    table, z, error = brute_force(Tied, tokens, 120)
    assert table.forward_predicted[0] == pytest.approx(2 / 16, rel=0.2)
    assert table.basis[2] == "shared weights"
    # the head meets the weights that made its input: of the order of 1/width, so it is left out
    assert error.max() < 0.1 and np.abs(z[0, :2]).max() < Z


def test_what_has_no_rule_is_measured_and_says_so():
    class Strange(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(8, 32), nn.Linear(32, 4)

        def forward(self, x):
            return self.two(torch.cumsum(self.one(x), 1).sort(-1).values)

    model = drawn(Strange, 1)
    table = follow(model, inputs(6, 8))
    assert table.basis[1] == "measured factor"
    before = model.one(inputs(6, 8)).double().square().mean().item()
    after = model.one(inputs(6, 8)).cumsum(1).double().square().mean().item()
    size = 32 * model.two.weight.double().square().mean().item()
    bias = model.two.bias.double().square().mean().item()
    expected = table.forward_predicted[0] * after / before * size + bias
    assert table.forward_predicted[1] == pytest.approx(expected, rel=1e-5)


def test_a_branch_that_ends_in_zero_is_predicted_all_the_same():
    """A last norm with γ = 0 lets no gradient into its branch; forward goes on."""

    class Closed(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.norm = nn.Linear(8, 16), nn.BatchNorm1d(16)
            self.two, self.last = nn.Linear(16, 8), nn.BatchNorm1d(8)
            nn.init.zeros_(self.last.weight)

        def forward(self, x):
            return x + self.last(self.two(self.norm(self.one(x)).relu()))

    table = follow(drawn(Closed, 0), inputs(64, 8))
    assert table.forward_predicted[1] == pytest.approx(1.09, rel=0.5)
    assert table.backward_predicted.tolist() == table.backward_measured.tolist() == [0, 0]


class WrittenNorm(nn.Module):
    """RMS norm and a gated unit, both written out, of tokens that differ in size."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(16, 48, bias=False)
        self.gate, self.up = (nn.Linear(48, 64, bias=False) for _ in range(2))
        self.down = nn.Linear(64, 8, bias=False)

    def forward(self, x):
        x = self.first(x)
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.down(F.silu(self.gate(x)) * self.up(x))


def test_a_norm_that_is_written_out_makes_tokens_alike():
    sizes = torch.logspace(-2, 1, 40)[:, None]
    _, z, error = brute_force(WrittenNorm, sizes * inputs(40, 16), 100, ("forward", "backward"))
    forward, backward = np.abs(z * error)[:, 1:]  # (measured − predicted)/measured
    assert forward.max() < 0.04 and error[0, 1:].max() < 0.02
    assert backward.max() < 0.2  # a slope of one run
