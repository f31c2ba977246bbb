"""Every family of networks: torch's own layers where there are any; laws, scales, biases as asked."""

import itertools
import math

import pytest
import torch
from torch import nn

from empirical.protocol import TrainSpec
from empirical.training.families import Positions, build_network
from theory.randomness import generator

PLAIN = {"norm": "none", "fan": "fan_in", "gain_slope": 0.0, "filters": 16}
SEQUENCE = PLAIN | {"dataset": "copy", "activation": "tanh", "depth": 7}
TRANSFORMER = SEQUENCE | {"network": "transformer", "norm": "layer", "activation": "gelu", "depth": 3}
RESIDUAL = PLAIN | {"dataset": "digits", "network": "residual", "depth": 7, "pool_every": 4}


def specs():
    for data, network in itertools.product(("digits", "teacher"), ("plain", "residual")):
        for norm, activation in itertools.product(
            ("batch", "layer", "group", "none"), ("relu", "prelu")
        ):
            own = {"dataset": data, "network": network, "norm": norm, "activation": activation}
            yield TrainSpec(**PLAIN | own | {"depth": 5, "dropout": 0.1})
    for network in ("rnn", "lstm", "gru"):
        yield TrainSpec(**SEQUENCE | {"network": network})
    yield TrainSpec(**SEQUENCE | {"network": "rnn", "activation": "prelu"})
    for norm in ("layer", "none"):
        yield TrainSpec(**TRANSFORMER | {"norm": norm, "activation": "prelu"})


@pytest.mark.parametrize("spec", list(specs()), ids=lambda spec: spec.cell_id)
def test_sizes_are_by_formula_and_outputs_have_their_shape(spec):
    network = build_network(spec)
    assert sum(tensor.numel() for tensor in network.parameters()) == spec.parameters
    again = dict(build_network(spec).named_parameters())
    assert all(torch.equal(value, again[name]) for name, value in network.named_parameters())
    inputs = {"images": (3, 1, 8, 8), "vectors": (3, 16), "sequences": (3, 11, 9)}[spec.data.takes]
    outputs = network(torch.randn(inputs, generator=generator(0, "inputs")))
    answers = (4,) if spec.data.takes == "sequences" else ()
    assert outputs.shape == (3, *answers, spec.data.classes) and outputs.isfinite().all()


@pytest.mark.parametrize("kind", ("rnn", "lstm", "gru"))
def test_recurrent_networks_compute_what_torchs_compute(kind):
    network = build_network(
        TrainSpec(**SEQUENCE | {"network": kind, "forget_bias": float(kind == "lstm")})
    )
    ours = network.get_submodule("recurrent")
    theirs = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[kind](9, 16, batch_first=True)
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(ours.input.weight)
        theirs.bias_ih_l0.copy_(ours.input.bias)
        theirs.weight_hh_l0.copy_(ours.hidden.weight)
        theirs.bias_hh_l0.zero_()
    x = torch.randn(5, 11, 9, generator=generator(0, "x"))
    assert torch.allclose(ours(x), theirs(x)[0], atol=1e-5)


def test_gates_are_drawn_part_by_part_and_biases_begin_as_asked():
    spec = TrainSpec(**SEQUENCE | {"network": "lstm", "recurrent": "orthogonal", "forget_bias": 1.5})
    recurrent = build_network(spec).get_submodule("recurrent")
    scale = 2.0  # of He's gain at slope 0, squared
    for part in recurrent.hidden.weight.chunk(4):
        assert torch.allclose(part @ part.T, scale * torch.eye(16), atol=1e-5)
    assert [float(part.mean()) for part in recurrent.input.bias.detach().chunk(4)] == [0, 1.5, 0, 0]
    identity = TrainSpec(**SEQUENCE | {"network": "rnn", "recurrent": "identity"})
    assert torch.equal(build_network(identity).get_submodule("recurrent").hidden.weight, torch.eye(16))
    xavier = build_network(TrainSpec(**TRANSFORMER | {"initializer": "xavier", "filters": 128}))
    packed = xavier.get_parameter("attention01.attention.qkv.weight").detach()
    assert packed.std() == pytest.approx(1 / math.sqrt(128), rel=0.02)  # with the fans of one part


@pytest.mark.parametrize(("fields", "branches"), [(RESIDUAL, 3), (TRANSFORMER, 6)])
def test_branch_scales_are_of_the_last_weight_of_each_branch(fields, branches):
    drawn, scaled, off = (
        dict(build_network(TrainSpec(**fields | {"branch_scale": scale})).named_parameters())
        for scale in ("none", "depth", "zero")
    )
    changed = [name for name, value in drawn.items() if not torch.equal(value, scaled[name])]
    assert len(changed) == branches
    for name in changed:
        assert torch.allclose(scaled[name] * math.sqrt(branches), drawn[name], rtol=1e-5)
        assert not off[name].any()
        assert "block" in name or name.endswith(("out.weight", "down.weight"))


def test_a_transformer_sees_no_later_step():
    network = build_network(TrainSpec(**TRANSFORMER | {"dataset": "characters"})).eval()
    x = torch.randn(2, 32, 45, generator=generator(0, "x"))
    later = x.clone()
    later[:, 20:] += 1
    before, after = network(x), network(later)
    assert torch.allclose(before[:, :20], after[:, :20], atol=1e-5)
    assert not torch.allclose(before[:, 20:], after[:, 20:], atol=1e-2)


def test_the_sines_of_every_step_have_second_moment_1():
    added = Positions(16)(torch.zeros(1, 40, 16))
    assert torch.allclose(added.square().mean(2), torch.ones(1, 40), atol=1e-5)
    assert not torch.allclose(added[0, 3], added[0, 30], atol=0.1)


def test_norms_are_where_they_are_said_to_be():
    for norm, kind in (("batch", nn.BatchNorm2d), ("layer", nn.GroupNorm), ("group", nn.GroupNorm)):
        network = build_network(
            TrainSpec(**PLAIN | {"dataset": "digits", "norm": norm, "dropout": 0.1, "depth": 3})
        )
        norms = [module for module in network if isinstance(module, kind)]
        assert len(norms) == 2 and isinstance(network[1], nn.ReLU)
        if kind is nn.GroupNorm:
            assert norms[0].num_groups == (1 if norm == "layer" else 2)
