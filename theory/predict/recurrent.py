"""The rule for recurrent cells: the mean field of ``theory.law.recurrence``, layer after layer.

Forward it needs of a run only how alike the steps of an LSTM's or a GRU's input are, where that input
has met weights before; back it takes the slope that was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from theory.law import recurrence
from theory.predict.moments import INFINITE_WIDTH, MEASURED_FACTOR, has_no_mean, with_slope
from theory.predict.readings import second_moment
from theory.predict.rules import Call, Outputs, measured, rule

Array = NDArray[np.float64]

PARTS = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}  # of packed weights
NEW = {"lstm": (2,), "gru": (2, 3), "rnn_tanh": (0,)}  # the gates whose sign is that of the new state


@dataclass(frozen=True)
class Cells:
    """A recurrent operation as torch calls it.

    layers    by layer and direction: W_ih, W_hh and, if there are any, b_ih and b_hh
    states    E[h_0²] and, of an LSTM, E[c_0²], each by layer and direction
    dropout   its p between layers, 0 in evaluation
    """

    kind: str
    layers: Sequence[Sequence[torch.Tensor]]
    states: Sequence[Array]
    dropout: float
    directions: int
    batch_first: bool

    @property
    def remembers(self) -> bool:
        """Whether a step needs the products with all steps before it."""
        return self.kind in ("lstm", "gru")

    def gates(self) -> list[list[recurrence.Gate]] | None:
        """By layer and direction; None where a weight has a mean."""
        weights = [tensor for layer in self.layers for tensor in layer[:2]]
        parts = [part for tensor in weights for part in tensor.chunk(PARTS[self.kind])]
        own = [part.diagonal() for part in parts if part.shape[0] == part.shape[1]]
        if not all(has_no_mean(tensor) for tensor in (*parts, *own)):
            return None  # an identity shows on the diagonal
        return [_gates(self.kind, layer) for layer in self.layers]


def _cells(call: Call) -> Cells | None:
    """None of packed sequences, of projections, and of weights that are computed or tied."""
    arguments = call.operation.template[0]
    if len(arguments) != 9 or not isinstance(arguments[3], bool):
        return None
    _, states, weights, biased, layers, p, train, both, batch_first = arguments
    each, directions = 4 if biased else 2, 2 if both else 1
    if not each * layers * directions == len(weights) == len(call.operation.parameters):
        return None
    if train and p == 1:
        return None
    initial = [
        call.known(state).power.detach().mean((1, 2)).expand(layers * directions).cpu().numpy()
        for state in (states if isinstance(states, (list, tuple)) else [states])
    ]
    packed = [weights[start : start + each] for start in range(0, len(weights), each)]
    return Cells(call.operation.name, packed, initial, p if train else 0.0, directions, batch_first)


def _gates(kind: str, layer: Sequence[torch.Tensor]) -> list[recurrence.Gate]:
    """In torch's order; the new state of a GRU in two, because r multiplies only what is of h."""
    parts = PARTS[kind]
    inputs, states = (
        [second_moment(part) * tensor.shape[1] for part in tensor.chunk(parts)] for tensor in layer[:2]
    )
    biases = [[_gaussian(part) for part in tensor.chunk(parts)] for tensor in layer[2:]]
    biases = biases or [[(0.0, 0.0)] * parts] * 2
    gates = [
        recurrence.Gate(u, w, of_input[0] + of_state[0], of_input[1] + of_state[1])
        for u, w, of_input, of_state in zip(inputs, states, *biases, strict=True)
    ]
    if kind == "gru":
        gates[2:] = [
            recurrence.Gate(inputs[2], 0.0, *biases[0][2]),
            recurrence.Gate(0.0, states[2], *biases[1][2]),
        ]
    return gates


def _gaussian(bias: torch.Tensor) -> tuple[float, float]:
    """Variance and mean of a bias."""
    mean = 0.0 if has_no_mean(bias) else float(bias.mean(dtype=torch.float64))
    return second_moment(bias) - mean**2, mean


@rule("lstm gru rnn_tanh rnn_relu")
def recurrent(call: Call) -> Outputs:
    """``theory.law.recurrence``, layer after layer; back the measured slope."""
    cells, known = _cells(call), [call.moments.get(number) for number in call.operation.inputs]
    gates, inputs = (cells.gates(), _over_time(call, cells)) if cells else (None, None)
    if cells is None or gates is None or inputs is None:
        return None
    if any(moment is None or call.bit & moment.seen for moment in known):
        return None  # run again on its own states: what they share is not known
    made, finals = _layers(cells, gates, inputs)
    powers = [_of_output(call, cells, made), *(final[:, :, None] for final in finals)]
    odd, symmetric = _signs(call, cells, gates)
    basis = frozenset({INFINITE_WIDTH}).union(*(moment.basis for moment in known if moment))
    if cells.remembers and known[0] and known[0].seen:
        basis |= {MEASURED_FACTOR}  # how alike the steps were on this run
    return [
        replace(
            moment,
            power=with_slope(torch.from_numpy(power).to(moment.power.device), 1.0, moment.power),
            odd=odd if not index or len(cells.layers) == 1 else 0,
            symmetric=symmetric,
            basis=basis,
        )
        for index, (moment, power) in enumerate(zip(measured(call), powers, strict=True))
    ]


def _over_time(call: Call, cells: Cells) -> Array | None:
    """E[x_t²] of the inputs, (T, B); where cells remember E[x_t x_s], (T, T), alike as on this run."""
    number, products = call.operation.inputs[0], call.operation.products
    if number not in call.moments or (cells.remembers and products is None):
        return None
    power = call.moments[number].power.detach().mean(-1).expand(call.values[number].shape[:2])
    powers: Array = (power.mT if cells.batch_first else power).cpu().numpy()
    if not cells.remembers or products is None:
        return powers
    shown = products.cpu().numpy()
    scale = np.sqrt(powers.mean(1) / np.maximum(np.diagonal(shown), np.finfo(np.float64).tiny))
    return np.asarray(scale[:, None] * shown * scale)


def _layers(
    cells: Cells, gates: Sequence[Sequence[recurrence.Gate]], inputs: Array
) -> tuple[list[Array], list[Array]]:
    """E[h²] (T, B or 1) of each direction of the last layer, and E[h_T²] and E[c_T²] by layer."""
    axes = (0, 1) if cells.remembers else (0,)
    finals: list[tuple[Array, ...]] = []
    for first in range(0, len(gates), cells.directions):
        made = []
        for index in range(first, first + cells.directions):
            turned = (lambda one: np.flip(one, axes)) if index > first else np.asarray
            initial = [float(state[index]) for state in cells.states]
            states, *cell = _run(cells.kind, gates[index], turned(inputs), initial)
            finals.append((_powers(cells, states)[-1], *(each[-1:] for each in cell)))
            made.append(turned(states))
        inputs = np.mean(made, axis=0)  # of features of both, side by side
        kept = 1 / (1 - cells.dropout)
        inputs = inputs * (np.where(np.eye(len(inputs)), kept, 1.0) if cells.remembers else kept)
    return [_powers(cells, each) for each in made], [
        np.stack(each) for each in zip(*finals, strict=True)
    ]


def _run(
    kind: str, gates: Sequence[recurrence.Gate], inputs: Array, initial: Sequence[float]
) -> tuple[Array, ...]:
    """What there is of h over time, and of an LSTM E[c²]."""
    if kind == "lstm":
        return recurrence.lstm(gates, inputs, *initial)
    if kind == "gru":
        return (recurrence.gru(gates, inputs, *initial),)
    phi = np.tanh if kind == "rnn_tanh" else lambda a: np.maximum(a, 0.0)
    return (recurrence.plain(phi, gates[0], inputs, *initial),)


def _powers(cells: Cells, states: Array) -> Array:
    """E[h²] as (T, B or 1)."""
    return np.diagonal(states)[:, None] if cells.remembers else states


def _of_output(call: Call, cells: Cells, made: Sequence[Array]) -> Array:
    """``made`` of each direction in the shape of the output, the directions side by side."""
    units = call.out().shape[-1] // len(made) if len(made) > 1 else 1
    powers = np.repeat(np.stack(made, -1), units, -1)
    return powers.swapaxes(0, 1) if cells.batch_first else powers


def _signs(call: Call, cells: Cells, gates: Sequence[Sequence[recurrence.Gate]]) -> tuple[int, bool]:
    """What the output is odd in, and whether states are symmetric.

    Change the sign of what makes the new state, but for what it reads of h, and of what all other gates
    read of h: every h and c changes its sign.
    """
    new = NEW.get(cells.kind)
    if new is None or any(state.any() for state in cells.states):
        return 0, False
    if any(layer[index].offset for layer in gates for index in new):
        return 0, False
    names, seen = call.operation.parameters, call.moments[call.operation.inputs[0]].seen
    last = call.bits[names[-len(cells.layers[-1])]]
    return (last & ~seen if cells.directions == 1 else 0), True
