"""What an audit measures, that its fixes do what they say, and that the model is left as it was."""

import copy
import itertools
import math
import time

import known_mistakes
import pytest
import torch
from known_mistakes import GPT, Plain, Recurrent, drawn, he, mlp
from torch import nn

import fanin
from theory.audit import audit
from theory.audit.examination import COLUMNS
from theory.audit.fixes import tried
from theory.audit.network import Network
from theory.errors import RequestError

pytestmark = pytest.mark.usefixtures("one_thread", "one_seed")


def by_code(result):
    return {finding.code: finding for finding in result.findings}


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(
        nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)
    )
    model[0].weight.grad = torch.ones(8, 8)
    model[3].eval()
    before, modes = copy.deepcopy(model.state_dict()), [one.training for one in model.modules()]
    state = torch.get_rng_state()
    audit(model, torch.randn(16, 8))
    torch.set_rng_state(state)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    assert [one.training for one in model.modules()] == modes
    assert torch.equal(model[0].weight.grad, torch.ones(8, 8)) and model[4].weight.grad is None
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in model.modules())


def test_the_random_state_is_left_as_it_was():
    model, inputs = known_mistakes.mlp(2), torch.randn(8, 128)
    state = torch.get_rng_state()
    audit(model, inputs)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_measured_is_what_hooks_see():
    model, inputs = drawn(mlp(3), he), torch.randn(64, 128)
    table = audit(model, inputs).layers
    assert list(table.columns) == list(COLUMNS)
    with torch.no_grad():
        second = model[2](torch.relu(model[0](inputs)))
    row = table.iloc[1]
    assert row["forward_measured"] == pytest.approx(float(second.square().mean()), rel=1e-5)
    assert row["spread"] == pytest.approx(float(second.var(0).mean()), rel=1e-5)
    assert row["forward_predicted"] == pytest.approx(2.0, rel=0.15)


def test_a_printed_line_does_what_the_finding_says():
    model, inputs = mlp(20), torch.randn(64, 128)
    finding = by_code(audit(model, inputs))["vanishing-signal"]
    twin = tried(model, finding.fix)
    made = Network.of(twin, inputs, gradients=False)
    last = made.tape.values[made.weights[-1].result].spread
    assert last == pytest.approx(finding.evidence["after"], rel=1e-6)
    assert finding.evidence["before"] < 1e-12 < 1e-3 < last
    assert "vanishing-signal" not in by_code(audit(twin, inputs))


def test_every_fix_can_be_pasted_into_a_fresh_program():
    for case in known_mistakes.FOUND[:3]:
        model = case.broken()
        for finding in audit(model, case.inputs()).findings:
            if finding.fix:
                assert "\n" not in finding.fix
                exec(finding.fix, {"model": copy.deepcopy(model), "nn": nn, "torch": torch,
                                   "re": __import__("re")})  # fmt: skip


def test_the_loss_is_that_of_uniform_labels():
    model, inputs = drawn(mlp(2), he), torch.randn(4000, 128)
    loss = audit(model, inputs, try_fixes=False).loss
    with torch.no_grad():
        labels = torch.randint(10, (4000,))
        direct = float(nn.functional.cross_entropy(model(inputs), labels))
    assert loss.guessing == pytest.approx(math.log(10))
    assert loss.measured == pytest.approx(direct, abs=0.1)
    assert loss.predicted == pytest.approx(loss.measured, abs=0.35)


@pytest.mark.parametrize("classes", [None, 10])
def test_a_last_softmax_has_the_loss_of_its_logits(classes):
    model, inputs = drawn(mlp(2), he), torch.randn(256, 128)
    model[-1].weight.data.mul_(10)
    ends = (nn.Identity(), nn.Softmax(-1), nn.LogSoftmax(-1))
    found = [audit(nn.Sequential(*model, end), inputs, classes, try_fixes=False) for end in ends]
    assert [one.verdict for one in found] == [found[0].verdict] * 3 != ["healthy"] * 3
    assert found[0].loss.measured > 10
    for one in found[1:]:
        assert one.loss.measured == pytest.approx(found[0].loss.measured, rel=1e-3)


def test_classes_must_be_there():
    with pytest.raises(RequestError, match="no output has 7 classes"):
        audit(mlp(1), torch.randn(4, 128), classes=7)
    with pytest.raises(RequestError, match="takes an nn"):
        audit("resnet", torch.randn(4, 128))
    with pytest.raises(RequestError, match="no weights"):
        audit(nn.ReLU(), torch.randn(4, 128))


def test_residual_stacks_are_seen_whole():
    net = Network.of(Plain(8, 1.0), torch.randn(32, 64))
    (stack,) = net.stacks
    assert len(stack) == 8 and all(len(join.weights) == 2 and not join.normed for join in stack)
    grown = math.prod(join.growth for join in stack)
    values = net.tape.values
    assert grown == pytest.approx(
        values[stack[-1].result].second_moment / values[stack[0].skip].second_moment
    )
    gpt = Network.of(GPT(4, scaled=True), torch.randint(500, (2, 16)))
    assert [len(stack) for stack in gpt.stacks] == [8] and all(join.normed for join in gpt.stacks[0])
    assert {weight.parts for weight in gpt.weights if "c_attn" in weight.parameter} == {3}


def test_he_fan_out_in_a_narrowing_network_is_no_warning():
    widths = itertools.pairwise((32, 512, 256, 512, 64))
    layers = [part for ends in widths for part in (nn.Linear(*ends), nn.ReLU())]
    body = drawn(nn.Sequential(*layers), lambda w: nn.init.kaiming_normal_(w, mode="fan_out"))
    model = nn.Sequential(*body, nn.Linear(64, 10))
    assert audit(model, torch.randn(64, 32)).verdict == "healthy"


def test_a_forget_bias_counts_steps():
    short, long = (
        by_code(audit(Recurrent(), torch.randn(4, steps, 32)))["forget-bias"] for steps in (3, 28)
    )
    assert short.severity == "note" and long.severity == "warning"
    assert long.evidence["left"] == pytest.approx(long.evidence["kept_per_step"] ** 28)
    assert long.evidence["after"] > 1e4 * long.evidence["before"]


class Branched(nn.Module):
    """A residual branch that begins at zero."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(8, 16), nn.Linear(16, 3)
        self.branch = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
        nn.init.zeros_(self.branch[2].weight)

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.branch(x))


class Pixels(nn.Module):
    """A plain network that is given bytes, and divides them itself."""

    def __init__(self):
        super().__init__()
        self.stack = nn.Sequential(
            nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(),
            nn.Linear(16 * 8 * 8, 64), nn.ReLU(), nn.Linear(64, 5),
        )  # fmt: skip

    def forward(self, x):
        return self.stack(x / 255)


def test_a_signal_begins_at_the_first_weights():
    """Bytes divided by 255 are no signal that has lost 65,025 times of its variance."""
    model, pixels = Pixels(), torch.randint(256, (8, 3, 12, 12)).float()
    assert {one.severity for one in audit(model, pixels).findings} <= {"note"}
    network = Network.of(model, pixels)
    assert network.signal(network.weights[0].source) == 1.0


@pytest.mark.parametrize(
    ("build", "says"),
    [(lambda: drawn(mlp(4), he), "no gradient ever"), (lambda: mlp(4), "same for every input")],
    ids=["biases of zero", "torch's biases"],
)
def test_zeros_on_the_only_way_are_an_error(build, says):
    """Behind a ReLU at exactly 0 they stay so; with biases they wake up, until then nothing passes."""
    model = build()
    nn.init.zeros_(model[2].weight)
    found = by_code(audit(model, torch.randn(64, 128)))["zero-weights"]
    assert (found.severity, found.modules) == ("error", ("2",))
    assert says in found.message and found.evidence["after"] > 0.1 > found.evidence["before"]


def test_zeros_of_a_branch_stay_a_note_where_all_inputs_are_alike():
    """Then nothing tells inputs apart anywhere, and zeros are not what cuts them off."""
    model = Branched()
    for x in (torch.ones(16, 8), torch.randn(16, 8)):
        found = by_code(audit(model, x))["zero-weights"]
        assert (found.severity, found.modules) == ("note", ("branch.2",))


def test_a_layer_of_equal_units_is_a_warning_where_others_part_them():
    model = drawn(mlp(4), he)
    nn.init.constant_(model[2].weight, 0.05)
    found = by_code(audit(model, torch.randn(64, 128)))["identical-weights"]
    assert (found.severity, found.modules) == ("warning", ("2",)) and "one unit" in found.message


def test_weights_are_drawn_around_zero():
    """U(0, 0.02), as torch.rand draws: the signal is kept, and all units are nearly the same one."""
    model = drawn(mlp(8), he)
    for module in (model[2], model[4]):
        nn.init.uniform_(module.weight, 0, 0.02)
    found = by_code(audit(model, torch.randn(64, 128)))["wrong-gain"]
    assert (found.severity, found.modules) == ("warning", ("2", "4"))
    assert "75%" in found.message
    assert found.evidence["before"] == pytest.approx(3 / 4, abs=0.02)
    assert found.evidence["after"] < 0.01
    shifted = drawn(mlp(8), he)
    with torch.no_grad():
        shifted[2].weight += 0.3 * shifted[2].weight.std()  # a share of 0.08
    assert "wrong-gain" not in by_code(audit(shifted, torch.randn(64, 128)))


def test_a_table_may_have_a_mean():
    """Of a lookup nothing is summed up: its rows are not units that see the same."""
    model = nn.Sequential(nn.Embedding(50, 32), nn.Linear(32, 50))
    nn.init.uniform_(model[0].weight)
    assert "wrong-gain" not in by_code(audit(model, torch.randint(50, (8, 12))))


def test_scales_of_norms_are_not_drawn_around_zero():
    """As a loop does that draws all that is called ``weight`` from N(0, 0.02²)."""
    model = GPT(layers=2, scaled=True)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.normal_(module.weight, std=0.02)
    found = by_code(audit(model, torch.randint(500, (4, 32))))["wrong-gain"]
    assert found.severity == "warning"
    assert found.modules == ("h.0.ln_1", "h.0.ln_2", "h.1.ln_1", "h.1.ln_2", "ln_f")
    assert found.evidence["factor"] == pytest.approx(0.02**2, rel=0.4)
    assert found.evidence["before"] < 1e-3 and found.evidence["after"] == pytest.approx(1, rel=0.05)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.normal_(module.weight, 1.0, 0.02)
    assert "wrong-gain" not in by_code(audit(model, torch.randint(500, (4, 32))))


def test_what_takes_no_part_is_named():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.left = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x):
            return self.used(x)

    finding = by_code(audit(Half(), torch.randn(4, 8)))["unused"]
    assert finding.severity == "note" and finding.modules == ("left",)
    assert finding.evidence["numbers"] == 72


def test_assert_healthy_and_the_face():
    good = drawn(mlp(3), he)
    assert fanin.assert_healthy(good, torch.randn(32, 128)).verdict == "healthy"
    with pytest.raises(AssertionError, match="default-law"):
        fanin.assert_healthy(mlp(20), torch.randn(32, 128))
    assert fanin.audit is audit
    text = audit(mlp(20), torch.randn(32, 128))._repr_html_()
    assert "broken" in text and "kaiming_normal_" in text and "<table" in text


def test_a_hundred_layers_take_seconds():
    start = time.perf_counter()
    audit(drawn(mlp(100), he), torch.randn(64, 128))
    assert time.perf_counter() - start < 10


class Stacks(nn.Module):
    """Eight experts a layer, each in a slice of one tensor; every input goes to all."""

    def __init__(self, draw):
        super().__init__()
        self.up = nn.ParameterList(nn.Parameter(torch.empty(8, 64, 128)) for _ in range(4))
        self.down = nn.ParameterList(nn.Parameter(torch.empty(8, 128, 64)) for _ in range(4))
        self.head = nn.Linear(64, 10)
        for weight in (*self.up, *self.down):
            draw(weight)

    def forward(self, x):
        for up, down in zip(self.up, self.down, strict=True):
            x = torch.einsum("ebh,ehd->bd", torch.einsum("bd,edh->ebh", x, up).relu(), down) / 8**0.5
        return self.head(x)


@pytest.mark.parametrize("wrong", [True, False])
def test_a_stack_of_experts_is_no_kernel(wrong):
    def draw(weight):
        nn.init.kaiming_normal_(weight) if wrong else nn.init.normal_(
            weight, std=weight.shape[1] ** -0.5
        )

    torch.manual_seed(0)
    result = audit(Stacks(draw), torch.randn(16, 64))
    found = {one.code: one for one in result.findings if one.severity != "note"}
    assert ("wrong-fan" in found) is wrong and (result.verdict == "broken") is wrong
    up = result.layers.iloc[0]
    assert (up["fan_in"], up["fan_out"], up["groups"]) == (64, 8 * 128, 1)
    if wrong:
        assert up["law"] == "he, kernel-like fan_in"
        assert "nn.init.normal_" in found["wrong-fan"].fix


def test_the_kernels_of_keras_are_known_in_a_network_of_torch():
    weight = torch.empty(256, 8, 32).normal_(std=(2 / (256 * (8 + 32))) ** 0.5)

    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.query = nn.Parameter(weight)

        def forward(self, x):
            return torch.einsum("btd,dhk->bthk", x, self.query)

    layer = audit(Heads(), torch.randn(4, 6, 256)).layers.iloc[0]
    assert (layer["fan_in"], layer["law"]) == (256, "xavier, kernel-first fan_avg")
