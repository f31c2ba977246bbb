"""What the audit blames: the law behind a large loss, biases, numbers never drawn, sharp attention."""

import itertools
import json
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from theory.audit import audit
from theory.audit.fixes import tried

pytestmark = pytest.mark.usefixtures("one_thread", "one_seed")


def loud(result):
    return {finding.code: finding for finding in result.findings if finding.severity != "note"}


def plain(depth, activation, draw, width=128, ends=(64, 10)):
    sizes = [ends[0], *[width] * depth, ends[1]]
    layers = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), activation()]
        draw(layers[-2].weight)
        nn.init.zeros_(layers[-2].bias)
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize(
    ("activation", "draw"),
    [
        (nn.ReLU, lambda p: nn.init.xavier_normal_(p, gain=5 / 3)),
        (nn.SELU, nn.init.kaiming_normal_),
    ],
)
def test_a_loss_that_all_layers_make_is_not_blamed_on_the_head(activation, draw):
    model, x = plain(30, activation, draw), torch.randn(64, 64)
    result = audit(model, x)
    found = loud(result)
    assert found["wrong-gain"].evidence["layers"] == 31
    assert found["first-loss"].fix == found["wrong-gain"].fix
    mended = audit(tried(model, found["first-loss"].fix), x)
    assert result.loss.measured > 20 and mended.loss.measured < 4.5


def test_a_fan_that_costs_the_first_loss_is_no_note():
    class Graph(nn.Module):
        def __init__(self, draw):
            super().__init__()
            self.w1, self.w2 = nn.Parameter(torch.empty(1024, 16)), nn.Parameter(torch.empty(16, 7))
            draw(self.w1), draw(self.w2)

        def forward(self, x):
            return (x @ self.w1).relu() @ self.w2

    x = torch.randn(64, 1024)
    found = loud(audit(Graph(nn.init.kaiming_normal_), x, 7))
    assert found["wrong-fan"].modules[0] == "w1" and "first-loss" in found
    right = Graph(lambda p: nn.init.kaiming_normal_(p, mode="fan_out"))
    assert not loud(audit(right, x, 7))


def test_large_logits_of_one_draw_are_chance():
    """20 layers under He's law let single networks stray: what is expected decides."""
    unlucky = 0
    for seed in range(12):
        torch.manual_seed(seed)
        result = audit(plain(20, nn.ReLU, nn.init.kaiming_normal_), torch.randn(64, 64))
        assert not loud(result)
        if result.loss.measured > result.loss.dear:
            unlucky += 1
            (note,) = (one for one in result.findings if one.code == "first-loss")
            assert "by chance" in note.message and note.fix is None
    assert unlucky


def test_biases_that_shut_a_sigmoid_are_named():
    model = plain(4, nn.Sigmoid, nn.init.xavier_normal_)
    for layer in list(model)[:-1:2]:
        nn.init.uniform_(layer.bias, 6, 10)
    found = loud(audit(model, torch.randn(64, 64)))["wrong-gain"]
    assert "biases" in found.message and "zeros_" in found.fix
    assert found.evidence["share_of_biases"] > 0.9


def test_numbers_that_were_never_drawn_are_named():
    model = plain(3, nn.ReLU, nn.init.kaiming_normal_)
    with torch.no_grad():
        model[2].bias[3] = math.nan
    result = audit(model, torch.randn(64, 64))
    assert result.findings[0].modules == ("2",)
    assert result.findings[0].message == "2.bias holds numbers that are not finite: never drawn?"
    text = json.dumps(result.as_dict(), allow_nan=False)
    assert json.loads(text)["loss"]["measured"] is None


def test_zeros_are_called_by_their_own_name():
    class Adapted(nn.Module):
        def __init__(self):
            super().__init__()
            self.base = nn.Linear(64, 64)
            self.down, self.up = (nn.Parameter(torch.zeros(shape)) for shape in ((64, 4), (4, 64)))

        def forward(self, x):
            return self.base(x) + x @ self.down @ self.up

    result = audit(nn.Sequential(Adapted(), nn.ReLU(), nn.Linear(64, 5)), torch.randn(32, 64))
    assert "The weights of 0.down and 1 more are zero" in loud(result)["zero-weights"].message


class Attention(nn.Module):
    def __init__(self, kind, scale):
        super().__init__()
        self.kind, self.scale = kind, scale
        self.both, self.head = nn.Linear(128, 384), nn.Linear(128, 5)
        nn.init.normal_(self.both.weight, std=128**-0.5)
        nn.init.zeros_(self.both.bias)

    def forward(self, x):
        q, k, v = self.both(x).chunk(3, -1)
        if self.kind == "by hand":
            mixed = (q @ k.mT * self.scale).softmax(-1) @ v
        else:
            mixed = F.scaled_dot_product_attention(
                query=q, key=k, value=v, is_causal=self.kind == "causal", scale=self.scale
            )
        return self.head(x + mixed).mean(1)


@pytest.mark.parametrize("kind", ["by hand", "fused", "causal"])
def test_attention_without_its_scale_is_sharp(kind):
    x = torch.randn(8, 24, 128)
    assert not loud(audit(Attention(kind, 128**-0.5), x))
    found = loud(audit(Attention(kind, 1.0), x))["wrong-gain"]
    assert found.modules == ("both",) and found.evidence["keys"] == 24
    assert found.evidence["logit_variance"] == pytest.approx(128, rel=0.35)
    assert found.evidence["concentration"] > 0.7 and "p.data.chunk(3)[0].mul_" in found.fix
    assert found.evidence["after"] == pytest.approx(1, rel=0.35)


def test_a_layer_on_learned_queries_is_said_to_be_out_of_sight():
    class Pooling(nn.Module):
        def __init__(self, learned):
            super().__init__()
            self.queries = nn.Parameter(torch.randn(4, 64))
            self.q, self.k, self.head, self.learned = (
                *(nn.Linear(64, 64) for _ in "qk"),
                nn.Linear(64, 5),
                learned,
            )

        def forward(self, x):
            q = self.q(self.queries if self.learned else x)
            return self.head((q @ self.k(x).mT / 8).softmax(-1) @ x)

    x = torch.randn(8, 16, 64)
    (note,) = (one for one in audit(Pooling(True), x).findings if one.code == "not-predicted")
    assert note.modules == ("q",) and note.severity == "note"
    assert not any(one.code == "not-predicted" for one in audit(Pooling(False), x).findings)


def test_a_router_may_be_sharp():
    """A softmax over experts that weighs what they give is no attention over keys."""

    class Routed(nn.Module):
        def __init__(self):
            super().__init__()
            self.router, self.body = nn.Linear(64, 12), nn.Linear(64, 64)
            nn.init.normal_(self.router.weight)

        def forward(self, x):
            gate = self.router(x).softmax(-1).amax(-1, keepdim=True)
            return x + gate * self.body(x).relu()

    codes = [one.message for one in audit(Routed(), torch.randn(32, 64)).findings]
    assert not any("Attention" in message for message in codes)
