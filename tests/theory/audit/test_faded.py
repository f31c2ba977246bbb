"""Signals of which nothing is left, activations with slopes of their own, and several outputs."""

import math

import pytest
import torch
from torch import nn

import cli
from theory.audit import audit, initialize
from theory.audit.examination import BROKEN, HEALTHY
from theory.audit.fixes import tried
from theory.errors import RequestError

pytestmark = pytest.mark.usefixtures("one_thread", "one_seed")
WIDTH = 128


def stack(activation, depth, std=None, **linear):
    parts = [part for _ in range(depth) for part in (nn.Linear(WIDTH, WIDTH, **linear), activation())]
    model = nn.Sequential(*parts, nn.Linear(WIDTH, 10, **linear))
    for layer in model:
        if isinstance(layer, nn.Linear) and std is not None:
            nn.init.normal_(layer.weight, std=std)
    return model


def blamed(result, code):
    return next(finding for finding in result.findings if finding.code == code)


@pytest.mark.parametrize(
    ("activation", "depth", "std", "dtype"),
    [
        (nn.Tanh, 50, 1e-3, torch.float32),
        (nn.Tanh, 50, 1e-2, torch.bfloat16),
        (nn.GELU, 20, 0.02, torch.float16),
        (nn.Sigmoid, 30, 1e-2, torch.float32),
    ],
)
def test_a_signal_that_is_gone_is_no_good_health(activation, depth, std, dtype):
    model = stack(activation, depth, std, bias=False).to(dtype)
    result = audit(model, torch.randn(64, WIDTH).to(dtype))
    assert result.layers["signal"].iloc[-1] == 0 and result.verdict == BROKEN
    assert "keeps nothing of the variance" in blamed(result, "vanishing-signal").message
    assert blamed(result, "wrong-gain").fix


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("depth", [30, 100])
def test_what_rounding_makes_of_a_signal_hides_no_cause(depth, dtype):
    """U(±1/√fan_in) before ReLU: 1/6 per layer, until float32 or bfloat16 rounds."""
    result = audit(stack(nn.ReLU, depth).to(dtype), torch.randn(64, WIDTH).to(dtype))
    law = blamed(result, "default-law")
    assert law.evidence["layers"] == depth + 1 and law.fix
    assert law.evidence["factor_per_layer"] == pytest.approx(1 / 6, rel=0.15)


def test_a_weight_that_is_used_again_counts_again():
    class Unrolled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.step = nn.Linear(32, 64), nn.Linear(64, 64)
            self.last = nn.Linear(64, 5)

        def forward(self, x):
            x = torch.relu(self.first(x))
            for _ in range(8):
                x = torch.relu(self.step(x))
            return self.last(x)

    law = blamed(audit(Unrolled(), torch.randn(64, 32)), "default-law")
    assert law.severity == "warning" and law.evidence["layers"] == 10 and law.fix


@pytest.mark.parametrize(
    ("activation", "gain"),
    [
        (lambda: nn.LeakyReLU(0.5), math.sqrt(2 / 1.25)),
        (lambda: nn.PReLU(init=0.5), math.sqrt(2 / 1.25)),
        (nn.ReLU6, math.sqrt(2)),
        (nn.Mish, 1.4868),
    ],
)
def test_the_gain_is_that_of_the_activation_as_it_was_called(activation, gain):
    """Of Mish by integration of x·tanh(ln(1 + eˣ)) under the normal density."""
    model, x = stack(activation, 20), torch.randn(64, WIDTH)
    found = blamed(audit(model, x), "vanishing-signal")
    mended = tried(model, found.fix)
    assert mended is not None and audit(mended, x).verdict == HEALTHY
    assert float(mended[20].weight.detach().std()) * math.sqrt(WIDTH) == pytest.approx(gain, rel=0.02)
    done = initialize(model, x)
    assert done.table.set_index("parameter")["std"]["2.weight"] * math.sqrt(WIDTH) == pytest.approx(
        gain, rel=1e-4
    )


def test_of_a_prelu_each_slope_counts():
    model = nn.Sequential(nn.Linear(WIDTH, 2), nn.PReLU(2), nn.Linear(2, 10))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([0.0, 1.0]))
    done = initialize(model, torch.randn(64, WIDTH)).table.set_index("parameter")
    assert done["std"]["2.weight"] == pytest.approx(math.sqrt(1 / 0.75 / 2))  # E[φ²] = ½ and 1


def test_where_the_activation_loses_the_signal_the_weights_are_not_blamed():
    model = stack(nn.Sigmoid, 12)
    initialize(model, torch.randn(64, WIDTH))
    found = blamed(audit(model, torch.randn(64, WIDTH)), "wrong-gain")
    assert "the scale that sigmoid asks for" in found.message and found.fix is None


class Two(nn.Module):
    """A policy and a value: only the policy makes logits."""

    def __init__(self, kind, loud):
        super().__init__()
        self.kind, self.body = kind, nn.Linear(20, 64)
        self.policy, self.value = nn.Linear(64, 10), nn.Linear(64, 1)
        nn.init.normal_(getattr(self, loud).weight)

    def forward(self, x):
        x = torch.relu(self.body(x))
        logits, value = self.policy(x), self.value(x)
        return {"value": value, "logits": logits} if self.kind is dict else (logits, value)


@pytest.mark.parametrize("kind", [tuple, dict])
def test_the_first_loss_is_of_the_head_that_makes_the_logits(kind):
    x = torch.randn(64, 20)
    result = audit(Two(kind, "policy"), x)
    found = blamed(result, "first-loss")
    assert found.modules == ("policy",) and "policy.weight" in found.fix
    quiet = audit(Two(kind, "value"), x)
    assert quiet.loss.predicted == pytest.approx(quiet.loss.measured, rel=0.1)


def test_classes_of_0_are_no_logits_and_one_input_is_said_to_be_too_few():
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 3))
    nn.init.normal_(model[2].weight, std=3.0)
    x = torch.randn(32, 20)
    assert blamed(audit(model, x), "first-loss") and audit(model, x, 0).loss is None
    with pytest.raises(RequestError, match="classes"):
        audit(model, x, 1)
    with torch.no_grad():  # as a notebook may have it
        (said,) = [one for one in audit(model, x[:1], 0).findings if one.evidence.get("inputs") == 1]
    assert said.severity == "note" and "Give several" in said.message


def test_what_a_model_prints_is_no_part_of_the_document(tmp_path, capsys):
    (tmp_path / "net.py").write_text(
        "import torch\n\nclass Net(torch.nn.Linear):\n    def forward(self, x):\n"
        "        print('hello')\n        return super().forward(x)\n\n"
        "class Ends(Net):\n    def forward(self, x):\n        raise SystemExit('bye')\n"
    )
    argv = ["--arguments", '{"in_features": 8, "out_features": 3}', "--input", "4,8", "--json"]
    for command in ("audit", "init"):
        assert cli.main([command, f"{tmp_path}/net.py:Net", *argv, "--out", str(tmp_path)]) == 0
        said = capsys.readouterr()
        assert said.out.startswith("{") and "hello" in said.err
        assert cli.main([command, f"{tmp_path}/net.py:Ends", *argv, "--out", str(tmp_path)]) == 2
        assert capsys.readouterr().err == "error: the model ended the program when it was run: bye\n"


@pytest.mark.parametrize("normed", [False, True])
def test_branches_of_one_weight_that_know_the_depth_are_not_told_to(normed):
    class Stream(nn.Module):
        def __init__(self, scale):
            super().__init__()
            self.branches = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(30))
            self.norm = nn.LayerNorm(WIDTH) if normed else nn.Identity()
            self.head = nn.Linear(WIDTH, 10)
            for branch in self.branches:
                nn.init.normal_(branch.weight, std=scale * math.sqrt(2 / WIDTH))

        def forward(self, x):
            for branch in self.branches:
                x = x + torch.relu(branch(self.norm(x)))
            return self.head(x)

    x = torch.randn(64, WIDTH)
    codes = [[one.code for one in audit(Stream(scale), x).findings] for scale in (1.0, 30**-0.5)]
    assert "branch-scale" in codes[0] and "branch-scale" not in codes[1]


class Bounded(nn.Module):
    """An activation whose bound another value of the run decides."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(20, 64), nn.Linear(64, 10)

    def forward(self, x):
        return self.last(torch.clamp(self.first(x), min=x.mean()))


def test_an_activation_of_two_values_asks_for_no_gain():
    done = initialize(Bounded(), torch.randn(32, 20)).table.set_index("parameter")
    assert done.loc["last.weight", "std"] == pytest.approx(64**-0.5)
    assert done.loc["last.weight", "why"] == "behind clamp"
