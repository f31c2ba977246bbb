"""The tape: it sees every call, gives values and modules their names, and leaves the model alone."""

import copy
import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from theory.errors import RequestError
from theory.predict.readings import second_moment, spread
from theory.predict.tape import name_of, record


def names(tape):
    return [operation.name for operation in tape.operations]


def first(tape, name):
    return next(operation for operation in tape.operations if operation.name == name)


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(6, 6)
        self.two = nn.Linear(6, 6)

    def forward(self, x):
        x = self.one(x)
        y = torch.relu_(self.two(x))
        y += x
        return {"out": torch.cat([y, self.two(y)], 1), "count": 3}


def test_branches_joins_calls_and_functions():
    x = torch.randn(4, 6)
    tape = record(Branches(), x)
    assert names(tape) == ["linear", "linear", "relu", "add", "linear", "cat"]
    assert [(o.module, o.call) for o in tape.operations] == [
        ("one", 0), ("two", 0), ("", 0), ("", 0), ("two", 1), ("", 0)
    ]  # fmt: skip
    assert [o.inputs for o in tape.operations] == [(0,), (1,), (2,), (3, 1), (4,), (4, 5)]
    assert tape.inputs == (0,) and tape.outputs == (6,)
    assert tape.operations[1].parameters == ("two.weight", "two.bias")
    assert tape.values[0].second_moment == pytest.approx(x.double().square().mean().item(), rel=1e-6)
    assert tape.values[6].shape == (4, 12)


@dataclass
class Answer:
    scores: torch.Tensor
    note: str


class Odd(nn.Module):
    """A dataclass for an output, an argument by name, and a write into a part of a tensor."""

    def forward(self, x, *, shift):
        y = x * 2
        y[:, 0] = shift
        y[:, 1:].mul_(3)
        return Answer(y, "done")


def test_dataclasses_named_arguments_and_writes_into_parts():
    tape = record(Odd(), {"x": torch.ones(2, 4), "shift": torch.tensor(5.0)})
    assert names(tape) == ["mul", "setitem", "getitem", "mul", "write_view"]
    (end,) = tape.outputs
    assert tape.values[end].second_moment == pytest.approx((25 + 3 * 36) / 4)


@pytest.mark.parametrize("gradients", [False, True])
def test_attention_is_seen_inside(gradients):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    tape = record(nn.TransformerEncoder(layer, 2), torch.randn(2, 5, 8), gradients=gradients)
    weights = [o.parameters[0] for o in tape.operations if o.name == "linear"]
    assert weights[:4] == [
        "layers.0.self_attn.in_proj_weight", "layers.0.self_attn.out_proj.weight",
        "layers.0.linear1.weight", "layers.0.linear2.weight",
    ]  # fmt: skip
    assert len(weights) == 8
    assert names(tape).count("scaled_dot_product_attention") == 2


def test_recurrent_cells_and_embeddings():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(10, 4)
            self.cell = nn.GRU(4, 4, batch_first=True)
            self.head = nn.Linear(4, 10, bias=False)
            self.head.weight = self.table.weight

        def forward(self, tokens):
            return self.head(self.cell(self.table(tokens))[0])

    tape = record(Reader(), torch.randint(0, 10, (2, 3)), gradients=True)
    assert names(tape) == ["embedding", "gru", "linear"]
    assert tape.operations[2].parameters == ("head.weight",)
    assert list(tape.ties.values()) == [("table.weight", "head.weight")]
    assert tape.values[tape.operations[0].outputs[0]].gradient_second_moment > 0


def test_weights_that_are_computed_keep_their_names():
    model = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    tape = record(model, torch.randn(2, 3))
    assert set(first(tape, "linear").parameters) == {
        "bias", "parametrizations.weight.original0", "parametrizations.weight.original1"
    }  # fmt: skip


def test_gradients_are_those_of_random_signs():
    model = nn.Sequential(nn.Linear(300, 200, bias=False), nn.Linear(200, 400, bias=False))
    tape = record(model, torch.randn(2, 300), gradients=True)
    middle, end = (tape.values[number].gradient_second_moment for number in (1, 2))
    assert end == 1
    # Σ_j w_j² over the 400 weights that leave a unit, in expectation over the signs
    expected = model[1].weight.square().sum(0).mean().item()
    assert middle == pytest.approx(expected, rel=5 * (2 / (2 * 200)) ** 0.5)


class Twice(nn.Module):
    """One value for two operations; the gradients of both are seen apart."""

    def forward(self, x):
        x = x * 3
        return torch.cat([x.relu(), nn.functional.avg_pool1d(x, 4)], -1)


def test_slopes_are_the_gradient_sent_over_the_gradient_received():
    x = torch.randn(3, 2, 8)
    tape = record(Twice(), x, gradients=True, slopes=True)
    triple, relu, pool, _ = tape.operations
    assert relu.slopes == pytest.approx(((x > 0).double().mean().item(),))
    assert pool.slopes == pytest.approx((1 / 4,))
    assert triple.slopes == pytest.approx((9,))


def test_arguments_by_name():
    operation = first(record(nn.Conv2d(4, 6, 3, stride=2, groups=2), torch.randn(1, 4, 9, 9)), "conv2d")
    assert operation.arguments["groups"] == 2
    assert tuple(operation.arguments["stride"]) == (2, 2)
    assert operation.arguments["weight"].shape == (6, 2, 3, 3)


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU(inplace=True))
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(3)
    state = torch.get_rng_state()
    x = torch.randn(2, 3, 8, 8)
    torch.set_rng_state(state)
    kept = x.clone()
    record(model, x, gradients=True, slopes=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, kept)
    assert model.training and all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    for module in model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_what_does_not_run_is_said_in_one_line():
    with pytest.raises(RequestError, match=r"^the model does not run on these inputs: .+$"):
        record(nn.Linear(3, 3), torch.randn(2, 4))
    with pytest.raises(RequestError, match="returns no tensor"):
        record(_Nothing(), torch.ones(1))
    with pytest.raises(RequestError, match="is compiled"):
        record(OptimizedModule(), torch.ones(1, 2))
    with pytest.raises(RequestError, match="1 is lazy and has no weights yet"):
        record(nn.Sequential(nn.ReLU(), nn.LazyLinear(3)), torch.ones(1, 2))


class OptimizedModule(nn.Linear):
    """What torch.compile gives is known by this name."""

    def __init__(self):
        super().__init__(2, 2)


class _Nothing(nn.Module):
    def forward(self, x):
        return None


def test_names_of_functions():
    assert [name_of(f) for f in (torch.relu_, torch.Tensor.__radd__, nn.functional.gelu)] == [
        "relu", "add", "gelu"
    ]  # fmt: skip


def test_second_moments_of_large_and_tiny_numbers():
    x = torch.randn(3, 5000)
    exact = x.double().square().mean().item()
    assert second_moment(x) == pytest.approx(exact, rel=2e-7)
    assert second_moment(1e30 * x) == pytest.approx(1e60 * exact, rel=1e-6)
    assert second_moment(1e-30 * x) == pytest.approx(1e-60 * exact, rel=1e-6)
    assert second_moment(x.half()) == pytest.approx(exact, rel=1e-3)
    assert math.isnan(second_moment(torch.arange(3)))


def test_what_tells_inputs_apart_is_a_variance():
    values = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(0)) + 10
    assert spread(values) == pytest.approx(float(values.double().var(0).mean()), rel=1e-5)
    assert spread(values[:1]) == pytest.approx(float(values[:1].double().var()), rel=1e-5)
    assert spread(values[:1].expand(4, 7, 3)) == 0.0


class Squared(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        h = self.first(x)
        return h * h, self.last(h)


def test_a_value_that_an_operation_takes_twice_is_sent_one_gradient():
    """2·h·g where the output receives random signs g: of slope 4·mean(h²), and not twice h·g."""
    tape = record(Squared(), torch.randn(5, 6), gradients=True, slopes=True)
    (square,) = (one for one in tape.operations if one.name == "mul")
    h = tape.values[square.inputs[0]].second_moment
    assert square.slopes == pytest.approx((4 * h,), rel=1e-5)
