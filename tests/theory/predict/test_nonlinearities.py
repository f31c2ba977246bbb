"""Activations as functions: kinks, rows of them, and moments against scipy's adaptive quadrature."""

import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import integrate
from torch import nn

from theory.initializers import parse_initializer
from theory.predict.network import follow
from theory.predict.nonlinearities import ACTIVATIONS, OTHERS, Pointwise, function_of, kinks_of
from theory.predict.prediction import WeightLaw, calibrate, compare, measure, predict
from theory.randomness import generator

pytestmark = pytest.mark.usefixtures("one_thread")

HE = parse_initializer("he")
ROWS = [
    *[[kind()] for kind in OTHERS if kind is not nn.Threshold],
    [nn.Threshold(0.4, -1.0)],
    [nn.ReLU6()],
    [nn.Hardtanh(-0.3, 1.7)],
    [nn.Softplus(beta=3.0, threshold=2.0)],
    [nn.ReLU(), nn.Tanh()],
    [nn.Tanh(), nn.LeakyReLU(0.1), nn.Softshrink(0.2)],
    [nn.ReLU(), nn.Hardtanh()],
    [nn.ReLU(), nn.ELU()],
]


def by_hand(row, offset, std, slope):
    """E[f(y)²] or E[f'(y)²] by scipy, told where the row bends."""
    module = nn.Sequential(*row).double()

    def f(y):
        point = torch.tensor([y], dtype=torch.float64, requires_grad=True)
        value = module(point + 0.0)
        if not slope:
            return float(value.detach()) ** 2
        return float(torch.autograd.grad(value.sum(), point)[0]) ** 2

    def integrand(y):
        return f(y) * math.exp(-(((y - offset) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi))

    low, high = offset - 12 * std, offset + 12 * std
    bends = [low, *(k for k in sorted({0.0, *kinks_of(row)}) if low < k < high), high]
    parts = [
        integrate.quad(integrand, *ends, limit=200, epsabs=1e-13, epsrel=1e-11)[0]
        for ends in pairwise(bends)
    ]
    return sum(parts)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(type(m).__name__ for m in row))
def test_moments_are_scipys(row):
    phi = function_of(Pointwise(*row), 1)
    for offset, std in ((0.0, 1.3), (0.7, 0.5), (-1.1, 2.0)):
        at = np.array([offset]), np.array([std**2])
        assert phi.second_moment(*at)[0] == pytest.approx(by_hand(row, offset, std, False), rel=1e-8)
        expected = by_hand(row, offset, std, True)
        assert phi.slope_second_moment(*at)[0] == pytest.approx(expected, rel=1e-8)


def test_kinks_are_where_the_slope_jumps():
    """Found by the names of the modules; here by their slopes, on a fine grid."""
    y = torch.linspace(-4, 4, 800_002, dtype=torch.float64, requires_grad=True)
    for row in ROWS:
        (slope,) = torch.autograd.grad(nn.Sequential(*row).double()(y + 0.0).sum(), y)
        jumps = y.detach()[:-1][slope.diff().abs() > 1e-3].numpy()
        for jump in jumps:
            assert min(abs(jump - kink) for kink in kinks_of(row)) < 1e-4, (row, jump)


@pytest.mark.parametrize("slopes", [(0.0, 0.0), (0.3, 0.0), (-0.5, 0.2), (0.5, -2.0, 0.1)])
def test_rectifiers_in_a_row_are_one_rectifier(slopes):
    row = Pointwise(*(nn.LeakyReLU(slope) for slope in slopes))
    y = torch.tensor([-2.0, -1.0, 1.0, 3.0])
    slope = float(function_of(row, 1).slope)
    torch.testing.assert_close(row(y), torch.where(y > 0, y, slope * y))
    model = nn.Sequential(nn.Linear(6, 5), *row, nn.Linear(5, 4))
    table = predict(model, 1.0, law=WeightLaw(HE, bias=0.0))
    assert list(table["forward_basis"]) == ["exact", "exact"]
    assert table["forward_predicted"][1] == pytest.approx(4 * (1 + slope**2) / 2)


@pytest.mark.parametrize(
    "row", [[nn.ReLU(), nn.Tanh()], [nn.Tanh(), nn.ReLU()], [nn.GELU(), nn.Dropout(0.0), nn.Hardtanh()]]
)
def test_a_row_on_a_wide_layer_is_as_predicted(row):
    model = nn.Sequential(nn.Linear(40, 1000, bias=False), *row, nn.Linear(1000, 200, bias=False))
    x = torch.randn(1, 40, generator=generator(0, "row"))
    predicted, ratios = predict(model, x, law=HE), []
    for seed in range(30):
        for index in (0, -1):
            HE.draw_(model[index].weight, generator(seed, "row", index))
        compared = compare(predicted, measure(model, x, seed=seed))
        ratios.append(compared[["forward_ratio", "backward_ratio"]].to_numpy())
    mean, error = np.mean(ratios, 0), np.std(ratios, 0, ddof=1) / math.sqrt(30)
    assert np.all(np.abs(mean - 1) < 5 * error + 1e-9)
    assert list(compared["forward_basis"]) == ["exact", "infinite width"]


@pytest.mark.parametrize(
    "between",
    [
        [nn.ReLU(), nn.BatchNorm1d(6), nn.Tanh()],
        [nn.Dropout(0.4), nn.Tanh()],
        [nn.ReLU(), nn.Dropout(0.4), nn.ReLU()],
        [nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Flatten(), nn.ReLU()],
    ],
)
def test_what_is_not_gaussian_needs_a_measured_factor(between):
    if isinstance(between[0], nn.Conv2d):
        x, start = torch.randn(8, 1, 2, 3, generator=generator(0, "x")), []
    else:
        x, start = torch.randn(8, 5, generator=generator(0, "x")), [nn.Linear(5, 6)]
    model = nn.Sequential(*start, *between, nn.Linear(6, 3))
    blind = predict(model, x, law=HE)
    assert "no closed form" in blind["forward_basis"].iloc[-1]
    assert math.isnan(blind["forward_predicted"].iloc[-1])
    seen = predict(model, x, law=HE, calibration=calibrate(model, x))
    assert "measured factor" in seen["forward_basis"].iloc[-1]
    assert "measured factor" in seen["backward_basis"].iloc[0]
    assert seen["forward_predicted"].iloc[-1] > 0


@pytest.mark.parametrize("first", [kind for kind in ACTIVATIONS if kind is not nn.Threshold])
def test_an_activation_of_the_input_is_applied_to_the_batch(first):
    model = nn.Sequential(first(), nn.BatchNorm1d(5), nn.Linear(5, 4))
    x = torch.randn(9, 5, generator=generator(0, "x"))
    kept = x.clone()
    table = predict(model, x, law=WeightLaw(HE, bias=0.0))
    with torch.no_grad():
        expected = 2 * float(model[:2](x).double().square().mean())
    assert table["forward_predicted"][0] == pytest.approx(expected, rel=1e-5)
    assert table["forward_basis"][0] == "exact"
    assert torch.equal(x, kept)
    blind = predict(nn.Sequential(first(), nn.Linear(5, 4)), np.ones(5), law=HE)
    assert blind["forward_basis"][0] == "no closed form"


def test_an_expectation_without_bound_is_no_warning():
    class Exponential(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(8, 8), nn.Linear(8, 3)
            nn.init.normal_(self.first.weight, 0, 1000, generator=generator(0, "first"))

        def forward(self, x):
            return self.head(torch.exp(self.first(x) / 100))

    with warnings.catch_warnings(action="error"):
        table = follow(Exponential(), torch.randn(5, 8, generator=generator(0, "x")))
    assert not table["forward_predicted"].iloc[-1] < 1e30
