"""Networks drawn as theory asks keep their signal, and what is meant is left alone."""

import pytest
import torch
from known_mistakes import GPT, Plain, Recurrent, TwoZeros, mlp
from torch import nn

from theory.audit import audit, initialize

pytestmark = pytest.mark.usefixtures("one_thread")


def by_name(done):
    return done.table.set_index("parameter")


def test_a_deep_network_is_mended():
    model, inputs = mlp(30), torch.randn(64, 128)
    assert audit(model, inputs).verdict == "broken"
    done = initialize(model, inputs)
    assert done.audit.verdict == "healthy"
    table = by_name(done)
    assert table.loc["0.weight", "std"] == pytest.approx(128**-0.5)
    assert table.loc["2.weight", "std"] == pytest.approx((2 / 128) ** 0.5)
    assert float(model[2].weight.detach().std()) == pytest.approx((2 / 128) ** 0.5, rel=0.05)
    assert not model[2].bias.any()


def test_a_seed_draws_the_same_weights_and_the_global_state_is_left():
    models = [mlp(2) for _ in range(3)]
    inputs, state = torch.randn(8, 128), torch.get_rng_state()
    for model, seed in zip(models, (0, 0, 1), strict=True):
        initialize(model, inputs, seed=seed)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(models[0][0].weight, models[1][0].weight)
    assert not torch.equal(models[0][0].weight, models[2][0].weight)


def test_branches_know_their_depth_and_packed_parts_stand_apart():
    model = GPT(6, scaled=False)
    done = initialize(model, torch.randint(500, (4, 32)))
    table = by_name(done)
    assert table.loc["h.0.c_proj.weight", "std"] == pytest.approx((128 * 12) ** -0.5)
    assert table.loc["h.0.c_attn.weight", "std"] == pytest.approx(128**-0.5)
    assert table.loc["wte.weight", "std"] == pytest.approx(128**-0.5)
    assert {"wpe.weight", "ln_f.weight"} <= set(done.untouched)
    assert done.audit.verdict == "healthy"


def test_a_plain_residual_stack_stays_in_bounds():
    model, inputs = Plain(16, 1.0), torch.randn(64, 64)
    done = initialize(model, inputs)
    stream = done.audit.stream["forward_measured"]
    assert stream.iloc[-1] < 10 * stream.iloc[0]  # e, where every branch adds 1/16 of the stream


def test_cells_are_orthogonal_gate_by_gate_and_remember():
    model = Recurrent()
    initialize(model, torch.randn(4, 28, 32))
    for gate in model.lstm.weight_hh_l0.chunk(4):
        assert torch.allclose(gate @ gate.T, torch.eye(64), atol=1e-5)
    bias = model.lstm.bias_ih_l0 + model.lstm.bias_hh_l0
    assert bias[64:128].eq(1).all() and not bias[:64].any()


def test_a_transposed_convolution_counts_its_stride():
    torch.manual_seed(0)
    layers = [nn.ConvTranspose2d(16, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 16, 4, 2, 1)]
    done = initialize(nn.Sequential(*layers), torch.randn(32, 16, 8, 8))
    measured = done.audit.layers["forward_measured"]
    assert measured.between(0.6, 1.4).all()


def test_zeros_that_are_meant_stay():
    model = TwoZeros(first_is_zero=False)
    done = initialize(model, torch.randn(16, 64))
    assert not model.gate_2.weight.any() and "gate_2.weight" in done.untouched
