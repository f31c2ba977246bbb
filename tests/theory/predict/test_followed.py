"""Whole networks along their tapes: the chain's numbers, the zoo, bands, and what is refused."""

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from theory.errors import RequestError
from theory.predict import follow, predict
from theory.predict.network import FOLLOWED_COLUMNS

SOURCE = torch.Generator().manual_seed(0)


def seeded(build, seed=0):
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return build()


CHAINS = {
    "dense": (
        lambda: nn.Sequential(
            nn.Linear(9, 40), nn.ReLU(), nn.Linear(40, 30), nn.PReLU(), nn.Linear(30, 7)
        ),
        (5, 9),
    ),
    "convolutional": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 24, 3, stride=2, groups=2),
            nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(24 * 9, 5),
        ),
        (4, 3, 8, 8),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHAINS)
def test_the_chain_is_a_tape(kind):
    """Where all is exact both give the same numbers."""
    build, shape = CHAINS[kind]
    model, x = seeded(build), torch.randn(shape, generator=SOURCE)
    with torch.no_grad():
        for module in model:
            if getattr(module, "bias", None) is not None:
                module.bias.zero_()
    along, chained = follow(model, x), predict(model, x)
    assert set(along.basis) == {"exact"} and set(chained.forward_basis) == {"held weights"}
    for direction in ("forward", "backward"):
        name = f"{direction}_predicted"
        np.testing.assert_allclose(along[name], chained[name], rtol=1e-12)


def test_columns_fans_and_names():
    class Parts(nn.Module):
        def __init__(self):
            super().__init__()
            self.grouped = nn.Conv2d(4, 8, 3, groups=2)
            self.up = nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2)
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

        def forward(self, x):
            x = self.up(self.grouped(x)).flatten(2).mT
            return self.attention(x, x, x)

    model = seeded(Parts)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    table = follow(model, torch.randn(2, 4, 6, 6))
    assert list(table.columns) == list(FOLLOWED_COLUMNS)
    assert table[["module", "parameter", "fan_in", "fan_out", "groups"]].to_numpy().tolist() == [
        ["grouped", "grouped.weight", 18, 36, 2],
        ["up", "up.weight", 16, 12, 2],
        ["attention", "attention.in_proj_weight", 6, 18, 1],
        ["attention.out_proj", "attention.out_proj.weight", 6, 6, 1],
    ]
    assert table["shape"].tolist()[:2] == [(8, 2, 3, 3), (8, 3, 2, 2)]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_residual_network_with_batch_norm():
    """What a real network shows over draws of its weights, by the target of the audit."""
    x = torch.randn(4, 3, 64, 64, generator=SOURCE)
    tables = [follow(seeded(lambda: torchvision.models.resnet18(), seed), x) for seed in range(4)]
    measured = np.mean([table.forward_measured for table in tables], axis=0)
    back = np.mean([table.backward_measured for table in tables], axis=0)
    assert (np.abs(measured / tables[0].forward_predicted - 1) < 0.15).mean() >= 0.9
    assert (np.abs(back / tables[0].backward_predicted - 1) < 0.5).mean() >= 0.9
    # batch norm forgets: what follows it rests on no measurement
    assert tables[0].basis[2] == "infinite batch"


def test_the_band_holds_other_draws():
    def build():
        return nn.Sequential(
            nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 20)
        )

    x = torch.randn(6, 20, generator=SOURCE)
    table = follow(seeded(build), x, draws=12)
    assert (table.forward_band_low < table.forward_predicted).all()
    assert (table.forward_predicted < table.forward_band_high).all()
    others = np.array([follow(seeded(build, seed), x).forward_measured for seed in range(1, 25)])
    inside = (table.forward_band_low.to_numpy() < others) & (
        others < table.forward_band_high.to_numpy()
    )
    assert inside.mean() > 0.85


def he(width, depth):
    layers = [part for _ in range(depth) for part in (nn.Linear(width, width, bias=False), nn.ReLU())]
    for layer in layers[::2]:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return nn.Sequential(*layers[:-1])


def test_the_band_without_a_draw():
    """Log-normal from the units' unevenness: it holds networks that it has not seen."""
    x = torch.randn(8, 40, generator=SOURCE)
    table = follow(seeded(lambda: he(40, 5)), x)
    others = np.array(
        [follow(seeded(lambda: he(40, 5), seed), x).forward_measured for seed in range(1, 60)]
    )
    low, high = table.forward_band_low.to_numpy(), table.forward_band_high.to_numpy()
    assert 0.85 < ((low < others) & (others < high)).mean() < 0.995


def test_the_band_of_one_input_is_that_of_theory():
    """Var[ln q] = ln(1 + 2/n) + (L − 1)·ln(1 + 5/n), E[q] as predicted (Hanin & Nica 2020)."""
    table = follow(seeded(lambda: he(32, 4)), torch.randn(1, 32, generator=SOURCE))
    width = np.log(table.forward_band_high / table.forward_band_low) / (2 * 1.959964)
    assert list(table.basis) == ["exact"] * 4
    expected = np.log1p(2 / 32) + np.arange(4) * np.log1p(5 / 32)
    np.testing.assert_allclose(width**2, expected, rtol=1e-6)
    middle = np.log(table.forward_band_high * table.forward_band_low) / 2
    np.testing.assert_allclose(middle, np.log(table.forward_predicted) - expected / 2, rtol=1e-9)


def test_the_band_knows_how_far_rules_are_off():
    """Of 20,000 units after SiLU only the rule's own error is left: 4 %."""
    model = seeded(lambda: nn.Sequential(nn.Linear(8, 4000), nn.SiLU(), nn.Linear(4000, 20_000)))
    table = follow(model, torch.randn(64, 8, generator=SOURCE))
    width = np.log(table.forward_band_high / table.forward_band_low) / (2 * 1.959964)
    assert width.iloc[-1] == pytest.approx(0.04, abs=0.015)


def test_batch_norm_forgets_the_band():
    model = seeded(lambda: nn.Sequential(he(16, 4), nn.BatchNorm1d(16), nn.Linear(16, 400)))
    table = follow(model, torch.randn(32, 16, generator=SOURCE))
    width = np.log(table.forward_band_high / table.forward_band_low)
    assert width.iloc[-1] < 0.3 * width.iloc[-2]


def test_recurrent_networks_run_through_and_are_drawn_anew():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = nn.LSTM(6, 8, 2), nn.Linear(8, 3)

        def forward(self, x):
            return {"scores": self.head(self.cell(x)[0][-1])}

    table = follow(seeded(Reader), torch.randn(5, 4, 6), draws=3)
    assert table.parameter.tolist() == [
        "cell.weight_ih_l0", "cell.weight_hh_l0", "cell.weight_ih_l1", "cell.weight_hh_l1",
        "head.weight",
    ]  # fmt: skip
    assert (table.forward_band_low < table.forward_band_high).all()
    assert np.isfinite(table.backward_predicted).all()


def test_one_draw_has_no_band():
    with pytest.raises(RequestError, match="at least 2"):
        follow(nn.Linear(2, 2), torch.ones(1, 2), draws=1)


def test_a_small_gpt2():
    transformers = pytest.importorskip("transformers", reason="the zoo group is not installed")
    config = transformers.GPT2Config(
        n_layer=3, n_embd=96, n_head=4, vocab_size=300, bos_token_id=0, eos_token_id=0
    )
    tokens = {"input_ids": torch.randint(0, 300, (2, 32), generator=SOURCE)}
    tables = [follow(seeded(lambda: transformers.GPT2LMHeadModel(config), s), tokens) for s in range(4)]
    measured = np.mean([table.forward_measured for table in tables], axis=0)
    assert (np.abs(measured / tables[0].forward_predicted - 1) < 0.15).mean() >= 0.9
    assert tables[0].module.iloc[-1] == "lm_head"


def test_behind_a_head_of_zeros_no_gradient_is_predicted_through_attention_either():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
            self.head = nn.Linear(16, 3)
            nn.init.zeros_(self.head.weight)

        def forward(self, x):
            return self.head(self.attention(x, x, x, need_weights=False)[0])

    table = follow(seeded(Net), torch.randn(2, 5, 16, generator=SOURCE)).set_index("parameter")
    before = table.loc[["attention.in_proj_weight", "attention.out_proj.weight"]]
    assert list(before["backward_measured"]) == [0.0, 0.0]
    assert list(before["backward_predicted"]) == [0.0, 0.0]
    assert table.loc["head.weight", "backward_predicted"] > 0


def test_what_comes_back_through_a_weight_used_twice_is_not_called_exact():
    """In 3 units the first call's gradient is a fifth above that of independent weights."""
    tied = nn.Linear(3, 3, bias=False)
    inputs = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    table = follow(nn.Sequential(tied, nn.ReLU(), tied, nn.ReLU(), tied), inputs)
    assert table["backward_basis"].tolist() == ["shared weights", "shared weights", "exact"]
    free = nn.Sequential(nn.Linear(3, 3, bias=False), nn.ReLU(), nn.Linear(3, 3, bias=False))
    assert follow(free, inputs)["backward_basis"].tolist() == ["exact", "exact"]
