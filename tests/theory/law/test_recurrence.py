"""Recurrent cells at infinite width against wide ones of torch, drawn anew."""

import numpy as np
import pytest
import torch
from torch import nn

from theory.law import quadrature, recurrence
from theory.law.recurrence import Gate

Z = 4.5  # a test of a few numbers fails by chance once in 100,000 runs
WIDTH, INPUTS, STEPS, DRAWS = 512, 24, 8, 40
SAMPLED = 0.01  # what 4096 units of a Sobol sequence leave to chance


def sequence():
    """(T, INPUTS): steps that have something in common."""
    source = torch.Generator().manual_seed(3)
    return torch.randn(STEPS, INPUTS, generator=source) + torch.randn(INPUTS, generator=source)


def drawn(cell, gates, seed):
    """``cell`` with the weights of ``gates`` in torch's packed order, b_hh of a GRU's n its own."""
    source = torch.Generator().manual_seed(seed)
    new = cell.mode == "GRU"
    of_input, of_state = (gates[:3], [*gates[:2], gates[3]]) if new else (gates, gates)
    with torch.no_grad():
        for index, (gate, other) in enumerate(zip(of_input, of_state, strict=True)):
            rows = slice(index * WIDTH, (index + 1) * WIDTH)
            own = new and index == 2
            cell.weight_ih_l0[rows].normal_(0, (gate.inputs / INPUTS) ** 0.5, generator=source)
            cell.weight_hh_l0[rows].normal_(0, (other.states / WIDTH) ** 0.5, generator=source)
            cell.bias_ih_l0[rows].normal_(gate.offset, gate.bias**0.5, generator=source)
            cell.bias_hh_l0[rows].normal_(other.offset, other.bias**0.5, generator=source)
            if not own:
                cell.bias_hh_l0[rows] = 0
    return cell


def of_draws(build, gates, initial):
    """E[h_t h_s] and, of an LSTM, E[c_T²] over draws, each with its standard error."""
    found = []
    for seed in range(DRAWS):
        source = torch.Generator().manual_seed(1000 + seed)
        states = [q**0.5 * torch.randn(1, WIDTH, generator=source) for q in initial]
        cell = drawn(build(INPUTS, WIDTH), gates, seed)
        with torch.no_grad():
            h, last = cell(sequence(), tuple(states) if len(states) > 1 else states[0])
        products = (h @ h.mT / WIDTH).double().numpy()
        square = float(last[1].square().mean()) if len(states) > 1 else 0.0
        found.append(np.append(products, square))
    found = np.array(found)
    return found.mean(0), found.std(0, ddof=1) / DRAWS**0.5


def inputs():
    x = sequence().double().numpy()
    return x @ x.T / INPUTS


def near(law, mean, error):
    """Within the standard error of the draws and what the law leaves to chance."""
    assert (error < 0.03 * mean.max()).all()
    np.testing.assert_array_less(np.abs(law - mean), Z * error + SAMPLED * np.abs(mean) + 1e-12)


def test_lstm():
    """Gates that differ, one with a mean, from initial states."""
    gates = [
        Gate(0.8, 0.5, 0.1),
        Gate(0.3, 1.0, 0.2, 1.0),
        Gate(1.0, 2.0, 0.3),
        Gate(0.5, 0.7, 0.1, -0.5),
    ]
    products, squares = recurrence.lstm(gates, inputs(), 0.3, 0.6)
    mean, error = of_draws(nn.LSTM, gates, (0.3, 0.6))
    near(np.append(products, squares[-1]), mean, error)


def test_gru():
    gates = [
        Gate(0.8, 0.5, 0.1, 0.5),
        Gate(0.3, 1.0, 0.2, 1.0),
        Gate(1.0, 0.0, 0.1),
        Gate(0.0, 2.0, 0.3),
    ]
    mean, error = of_draws(nn.GRU, gates, (0.4,))
    near(recurrence.gru(gates, inputs(), 0.4).ravel(), mean[:-1], error[:-1])


@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_plain_cells(kind):
    gate = Gate(0.6, 1.2, 0.1, 0.2)
    phi = {"tanh": np.tanh, "relu": lambda a: np.maximum(a, 0)}[kind]
    mean, error = of_draws(lambda *sizes: nn.RNN(*sizes, nonlinearity=kind), [gate], (0.4,))
    law = recurrence.plain(phi, gate, np.diagonal(inputs()), 0.4)
    squares, error = (np.diagonal(part[:-1].reshape(STEPS, STEPS)) for part in (mean, error))
    near(law, squares, error)


def test_the_first_step_of_an_lstm():
    """E[c²] = E[σ(i)²]·E[tanh(g)²], by quadrature."""
    gates = [Gate(0.7, 1.0), Gate(0.5, 1.0), Gate(2.0, 1.0), Gate(0.3, 1.0)]
    _, squares = recurrence.lstm(gates, np.ones((1, 1)))
    sigmoid = quadrature.second_moment(lambda a: 1 / (1 + np.exp(-a)), 0.7)
    assert squares[0] == pytest.approx(sigmoid * quadrature.second_moment(np.tanh, 2.0), rel=SAMPLED)


def test_what_repeats_adds_up():
    """A cell that forgets by a half takes in one thing for ever: c → g, c² → g²; of new things g²/3."""
    gates = [Gate(0.0, 0.0)] * 2 + [Gate(1e-4, 0.0), Gate(0.0, 0.0)]
    g = quadrature.second_moment(np.tanh, 1e-4)
    for alike, share in ((np.ones((30, 30)), 1.0), (np.eye(30), 1 / 3)):
        _, squares = recurrence.lstm(gates, alike)
        assert squares[-1] == pytest.approx(share * g, rel=2 * SAMPLED)
