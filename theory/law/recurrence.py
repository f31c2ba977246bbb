"""Recurrent cells at infinite width: the second moments of hidden states, step by step.

The pre-activations of a gate are a = U x_t + W h_(t−1) + b, weights of mean 0 drawn once for all steps.
Over the units they are Gaussian at infinite width, with the products over time

    E[a_t a_s] = n·E[u²]·E[x_t x_s] + H·E[w²]·E[h_(t−1) h_(s−1)] + Var[b],

each gate for itself (Chen, Pennington & Schoenholz 2018, 1806.05394; Gilboa et al. 2019, 1901.08987).

A plain cell h_t = φ(a_t) needs only s = t: q_t = E[φ(a)²], by quadrature.  LSTM and GRU remember:

    LSTM   c_t = σ(f)·c_(t−1) + σ(i)·tanh(g),   h_t = σ(o)·tanh(c_t)
    GRU    n = tanh(U x_t + b + σ(r)·(W h_(t−1) + b')),   h_t = (1 − σ(z))·n + σ(z)·h_(t−1)

so E[c_t²] has the cross term 2·E[σ(f) σ(i) c_(t−1) tanh(g)], and g_t is correlated with c_(t−1)
through biases, states and what inputs share over time; so it is with 2·E[σ(z)(1 − σ(z))·n·h_(t−1)].
Neither may be left out: with torch's default weights and inputs that stay the same, E[h²] of 64 units,
mean over 32 steps, is .0497 (LSTM) and .208 (GRU), and would be .0187 and .080.  Of independent inputs
it is .0198 and .0826, but in a second layer .0035 and .0216, and would be .0014 and .0107.  Hence
``UNITS`` units are drawn here, step by step from the products so far, by Cholesky, with normals of a
Sobol sequence: deterministic, and good to about .5 %.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, special
from scipy.stats import qmc

from theory.law.quadrature import piecewise_nodes

Array = NDArray[np.float64]
UNITS = 4096
LEAST = 1e-6  # share of E[a_t²] that is taken as new at every step: what repeats has a singular matrix


@dataclass(frozen=True)
class Gate:
    """The second moments that add up in a pre-activation.

    inputs  n·E[u²], n the number of inputs
    states  H·E[w²], H the number of hidden units
    bias    variance of the bias, both of torch's together
    offset  mean of the bias
    """

    inputs: float
    states: float
    bias: float = 0.0
    offset: float = 0.0


def plain(phi: Callable[[Array], Array], gate: Gate, inputs: Array, hidden: float = 0.0) -> Array:
    """E[h_t²] of h = φ(a), as (T, …), from ``inputs`` E[x_t²], (T, …), and E[h_0²].

    >>> plain(lambda a: np.maximum(a, 0), Gate(1.0, 1.0), np.ones(3)).round(9).tolist()
    [0.5, 0.75, 0.875]
    """
    states, power = [], np.full(inputs.shape[1:], hidden)
    for seen in inputs:
        variance = gate.inputs * seen + gate.states * power + gate.bias
        a, weights = piecewise_nodes(np.full(variance.size, gate.offset), np.sqrt(variance.ravel()))
        power = (phi(a) ** 2 * weights).sum(1).reshape(variance.shape)
        states.append(power)
    return np.stack(states)


def lstm(
    gates: Sequence[Gate], inputs: Array, hidden: float = 0.0, cell: float = 0.0
) -> tuple[Array, Array]:
    """E[h_t h_s], (T, T), and E[c_t²], (T,).

    gates         of i, f, g and o: torch's order
    inputs        E[x_t x_s], (T, T)
    hidden, cell  E[h_0²] and E[c_0²]; initial states are Gaussian
    """
    state, squares = np.sqrt(cell) * _normals(len(inputs), len(gates))[1], []

    def step(gate: Sequence[Array], before: Array) -> Array:
        nonlocal state
        i, f, g, o = gate
        state = special.expit(f) * state + special.expit(i) * np.tanh(g)
        squares.append(np.mean(state**2))
        return np.asarray(special.expit(o) * np.tanh(state))

    return _products(gates, inputs, hidden, step), np.array(squares)


def gru(gates: Sequence[Gate], inputs: Array, hidden: float = 0.0) -> Array:
    """E[h_t h_s], (T, T); ``gates`` of r, z, and n in two: what is for its input and for its state."""

    def step(gate: Sequence[Array], before: Array) -> Array:
        r, z, from_input, from_state = gate
        new = np.tanh(from_input + special.expit(r) * from_state)
        return np.asarray(new + special.expit(z) * (before - new))

    return _products(gates, inputs, hidden, step)


def _products(
    gates: Sequence[Gate],
    inputs: Array,
    hidden: float,
    step: Callable[[Sequence[Array], Array], Array],
) -> Array:
    """E[h_t h_s] over the units, of what ``step`` makes of the gates and of h before it."""
    steps = len(inputs)
    normals = _normals(steps, len(gates))
    fresh = normals[2:].reshape(len(gates), steps, UNITS)
    roots = np.zeros((len(gates), steps, steps))
    states, products = np.zeros((steps + 1, UNITS)), np.zeros((steps + 1, steps + 1))
    states[0], products[0, 0] = np.sqrt(hidden) * normals[0], hidden
    for t in range(steps):
        opened = []
        for gate, root, new in zip(gates, roots, fresh, strict=True):
            row = gate.inputs * inputs[t, : t + 1] + gate.states * products[t, : t + 1] + gate.bias
            root[t, : t + 1] = _next_row(root[:t, :t], row)
            opened.append(gate.offset + root[t, : t + 1] @ new[: t + 1])
        states[t + 1] = step(opened, states[t])
        products[t + 1, : t + 2] = states[: t + 2] @ states[t + 1] / UNITS
        products[: t + 2, t + 1] = products[t + 1, : t + 2]
    return products[1:, 1:]


def _next_row(root: Array, row: Array) -> Array:
    """The row that continues the Cholesky factor ``root`` (t, t) by the products ``row`` (t + 1,)."""
    known = linalg.solve_triangular(root, row[:-1], lower=True) if len(root) else row[:0]
    rest = max(row[-1] - known @ known, LEAST * row[-1] + np.finfo(np.float64).tiny)
    return np.append(known, np.sqrt(rest))


@lru_cache(maxsize=1)
def _normals(steps: int, gates: int) -> Array:
    """(2 + gates·steps, UNITS) standard normals: for h_0, c_0, and every gate at every step."""
    sequence = qmc.Sobol(2 + gates * steps, seed=0)
    return np.ascontiguousarray(special.ndtri(sequence.random(UNITS)).T)
