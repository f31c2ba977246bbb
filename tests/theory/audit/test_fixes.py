"""What is blamed is to blame, and the line that is printed mends it: on kinds of networks in use."""

import copy
import re

import pytest
import torch
from known_mistakes import drawn, he, mlp
from torch import nn
from torch.nn import functional as F

from theory.audit import audit
from theory.audit.fixes import tried

pytestmark = pytest.mark.usefixtures("one_thread", "one_seed")


def findings(model, *inputs):
    return audit(model, inputs).findings


def only(found, code):
    (one,) = [finding for finding in found if finding.code == code]
    return one


# --------------------------------------------------------------------------------- the causes


def test_one_scale_is_one_finding():
    """std = 2/n without the root: thirteen measured scales that differ by chance."""
    model = drawn(mlp(12), lambda weight: nn.init.normal_(weight, std=2 / weight.shape[1]))
    cause = only(findings(model, torch.randn(64, 128)), "wrong-gain")
    assert cause.severity == "error" and len(cause.modules) == 13
    assert cause.evidence["after"] > 0.01 > 1e-20 > cause.evidence["before"]


class Sampling(nn.Module):
    """A variational autoencoder."""

    def __init__(self, log_variance_std):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(64, 256), nn.Linear(16, 128)
        self.mean, self.log_variance = nn.Linear(256, 16), nn.Linear(256, 16)
        self.out = nn.Linear(128, 64)
        drawn(self, he)
        nn.init.normal_(self.log_variance.weight, std=log_variance_std)

    def forward(self, x):
        x = F.relu(self.encoder(x))
        mean, log_variance = self.mean(x), self.log_variance(x)
        z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        return self.out(F.relu(self.decoder(z))), mean, log_variance


def test_a_law_is_blamed_for_what_most_of_its_layers_do():
    """The exp of a log-variance blows up in front of one of five layers that He's law fits."""
    found = findings(Sampling(1.0), torch.randn(64, 64))
    assert only(found, "wrong-gain").modules == ("log_variance",)
    assert "in front of out" in only(found, "exploding-signal").message
    assert audit(Sampling(0.01), torch.randn(64, 64)).verdict == "healthy"


def test_a_reconstruction_is_no_logits():
    model, x = Sampling(0.01), torch.randn(32, 64)
    assert audit(model, x, try_fixes=False).loss is None
    assert audit(model, x, classes=64, try_fixes=False).loss.classes == 64


class Experts(nn.Module):
    """Experts in one tensor, whose fan_in He's law of torch takes from the wrong axes."""

    def __init__(self, gated=False, count=4, width=64, layers=4):
        super().__init__()
        self.gated = gated
        self.experts = nn.ParameterList(torch.empty(count, width, width) for _ in range(layers))
        self.routers = nn.ModuleList(nn.Linear(width, count) for _ in range(layers))
        self.head = nn.Linear(width, 10)
        for weight in self.experts:
            nn.init.kaiming_normal_(weight, nonlinearity="relu")

    def forward(self, x):
        for weight, router in zip(self.experts, self.routers, strict=True):
            gates = router(x).softmax(-1)
            if self.gated:  # a sum of three, which no rule follows
                x = F.relu(torch.einsum("bd,edh,be->bh", x, weight, gates))
            else:
                each = F.relu(torch.einsum("bd,edh->beh", x, weight))
                x = (gates[..., None] * each).sum(1)
        return self.head(x)


@pytest.mark.parametrize("gated", [True, False])
def test_what_others_lose_is_not_laid_on_a_neighbor(gated):
    found = findings(Experts(gated), torch.randn(64, 64))
    assert only(found, "vanishing-signal").severity == "error"
    assert not [one for one in found if one.code == "default-law"]
    assert gated or "experts.0" in only(found, "wrong-fan").modules


def test_an_identity_has_no_wrong_scale():
    """Le et al. 2015: an identity as recurrence, and small weights into it."""

    class Identity(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.RNN(8, 64, nonlinearity="relu", batch_first=True)
            self.out = nn.Linear(64, 4)
            nn.init.eye_(self.rnn.weight_hh_l0)
            nn.init.normal_(self.rnn.weight_ih_l0, std=1e-4)
            nn.init.zeros_(self.rnn.bias_ih_l0)
            nn.init.zeros_(self.rnn.bias_hh_l0)

        def forward(self, x):
            return self.out(self.rnn(x)[0][:, -1])

    cause = only(findings(Identity(), torch.randn(8, 32, 8)), "wrong-gain")
    assert "identity" not in cause.message and "weight_ih_l0" in cause.fix


def decoder():
    """Transposed convolutions at torch's default, every second one with a stride."""
    layers = []
    for width in (256, 128, 64, 32):
        layers += [nn.ConvTranspose2d(width, width // 2, 4, 2, 1), nn.ReLU()]
        layers += [nn.ConvTranspose2d(width // 2, width // 2, 3, 1, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(16, 3, 3, padding=1))


def test_the_default_of_a_transposed_convolution_is_the_default():
    found = findings(decoder(), torch.randn(16, 256, 2, 2))
    cause = only(found, "default-law")
    assert cause.severity == "error" and "wrong-fan" not in {one.code for one in found}
    assert cause.evidence["after"] == pytest.approx(
        1, abs=0.95
    )  # a stride leaves a quarter of a window


# ------------------------------------------------------------------------------- the lines


class Normed(nn.Module):
    """Plain convolutions under weight norm, whose law torch's default has set."""

    def __init__(self, norm, depth=16):
        super().__init__()
        self.convolutions = nn.ModuleList(norm(nn.Conv1d(32, 32, 3, padding=1)) for _ in range(depth))
        self.out = nn.Conv1d(32, 1, 3, padding=1)

    def forward(self, x):
        for convolution in self.convolutions:
            x = F.relu(convolution(x))
        return self.out(x)


def test_weight_norm_is_mended_at_its_lengths():
    model, x = Normed(nn.utils.parametrizations.weight_norm), torch.randn(8, 32, 64)
    found = only(findings(model, x), "default-law")
    assert "original0" in found.fix and "original1" not in found.fix
    assert audit(tried(model, found.fix), x, try_fixes=False).verdict == "healthy"


def test_a_line_that_hardly_helps_is_none():
    """Of twenty layers that lose the signal, one that is drawn anew does not bring it back."""
    model = drawn(mlp(20), lambda weight: nn.init.normal_(weight, std=0.02))
    with torch.no_grad():
        model[4].weight.uniform_(-0.03, 0.03)
    for finding in findings(model, torch.randn(64, 128)):
        assert finding.fix is None or finding.evidence["after"] > 1e3 * finding.evidence["before"]


def test_patterns_name_these_parameters_and_no_other():
    model = mlp(20)
    nn.init.kaiming_normal_(model[40].weight)
    found = only(findings(model, torch.randn(64, 128)), "default-law")
    (pattern,) = re.findall(r'fullmatch\(r"(.*?)"', found.fix)
    met = {name for name, _ in model.named_parameters() if re.fullmatch(pattern, name)}
    assert met == {f"{name}.weight" for name in found.modules} and "40.weight" not in met


def test_copies_are_drawn_anew_with_their_gain():
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    nn.init.orthogonal_(model[0].weight, 2**0.5)
    model[2].weight.data.copy_(model[0].weight)
    found = only(findings(model, torch.randn(32, 64)), "identical-weights")
    twin = tried(model, found.fix)
    sizes = [float(one[2].weight.detach().norm()) for one in (model, twin)]
    assert sizes[1] == pytest.approx(sizes[0], rel=1e-3)


def test_dead_units_wake_up_without_their_biases():
    model = drawn(mlp(2), he)
    nn.init.constant_(model[2].bias, -20.0)
    found = only(findings(model, torch.randn(64, 128)), "dead-units")
    assert "zeros_" in found.fix and (found.evidence["before"], found.evidence["after"]) == (1, 0)
    assert "behind layer 2" in found.message


# ------------------------------------------------------------------------------------ zeros


class Adapted(nn.Module):
    """Low-rank adapters beside frozen layers; those of ``dead`` have two zero matrices."""

    def __init__(self, dead):
        super().__init__()
        self.base = nn.ModuleList(nn.Linear(32, 32).requires_grad_(False) for _ in range(3))
        self.a = nn.ParameterList(torch.randn(4, 32) * (i != dead) for i in range(3))
        self.b = nn.ParameterList(torch.zeros(32, 4) for _ in range(3))
        self.head = nn.Linear(32, 5)

    def forward(self, x):
        for base, a, b in zip(self.base, self.a, self.b, strict=True):
            x = F.relu(base(x) + x @ a.T @ b.T)
        return self.head(x)


def test_of_two_zeros_in_a_row_one_is_drawn():
    """The other may begin at nothing: what the adapter does to its network is still none."""
    model, x = Adapted(1), torch.randn(32, 32)
    error, note = [one for one in findings(model, x) if one.code == "zero-weights"]
    assert (error.severity, set(error.modules)) == ("error", {"a.1", "b.1"})
    assert (note.severity, set(note.modules)) == ("note", {"b.0", "b.2"})
    twin = tried(model, error.fix)
    assert not bool(twin.b[1].any()) and torch.equal(twin(x), model(x))
    assert audit(twin, x).verdict == audit(Adapted(None), x).verdict == "healthy"


def test_zeros_in_a_row_that_a_rectifier_cuts_are_all_drawn():
    model = drawn(mlp(4), he)
    for layer in (model[2], model[4]):
        nn.init.zeros_(layer.weight)
    found = only(findings(model, torch.randn(64, 128)), "zero-weights")
    assert audit(tried(model, found.fix), torch.randn(64, 128)).verdict == "healthy"


def test_zero_scales_of_norms_become_ones():
    layers = [part for _ in range(3) for part in (nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 36, 4))
    for norm in layers[1::3]:
        nn.init.zeros_(norm.weight)
    x = torch.randn(8, 8, 12, 12)
    found = only(findings(model, x), "zero-weights")
    assert found.severity == "error" and "ones_" in found.fix
    twin = tried(copy.deepcopy(model), found.fix)
    assert not [one for one in findings(twin, x) if one.code == "zero-weights"]


def test_a_head_in_several_linear_steps_may_be_zero():
    """FCN: class scores of zero, and a bilinear interpolation behind them that is a layer."""
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 5, 1),
        nn.ConvTranspose2d(5, 5, 4, 2, 1),
    )  # fmt: skip
    drawn(model, he)
    nn.init.zeros_(model[2].weight)
    found = only(findings(model, torch.randn(4, 3, 8, 8)), "zero-weights")
    assert (found.severity, found.modules) == ("note", ("2",))
