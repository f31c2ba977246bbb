"""A dozen networks with one bug each, to be found before the audit finds it.

``broken_network(n)`` gives a network and inputs for it.  An answer is a code of ``theory.audit``, such
as ``wrong-gain``; ``EXERCISES`` has them as ``bug-1`` to ``bug-12``.  Most of these bugs shipped
somewhere: benchmarks/audit_known_mistakes.py has the places.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from theory.errors import check_whole
from theory.randomness import generator

Made = tuple[nn.Module, Any]


@dataclass(frozen=True)
class Bug:
    """One bug: the code that an audit gives it, where to look, and the network that has it."""

    code: str
    hint: str
    make: Callable[[], Made]


class Block(nn.Module):
    """x + branch(norm(x)), or without the norm."""

    def __init__(self, width: int, std: float, *, norm: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        nn.init.kaiming_normal_(self.up.weight, nonlinearity="relu")
        nn.init.normal_(self.down.weight, std=std)
        for layer in (self.up, self.down):
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        moved: torch.Tensor = self.down(torch.relu(self.up(self.norm(x))))
        return x + moved


class Tagger(nn.Module):
    """An LSTM that answers after its last step."""

    def __init__(self, width: int = 32, hidden: int = 64) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        last: torch.Tensor = self.head(self.lstm(x)[0][:, -1])
        return last


class Speaker(nn.Module):
    """A language model whose head is its embedding."""

    def __init__(self, words: int = 500, width: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.norm(self.embedding(ids)))
        return logits


def _vectors(width: int, count: int = 64) -> torch.Tensor:
    return torch.randn(count, width)


def _chain(*widths: int, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Dense layers by He's law without biases, an activation between them."""
    parts: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        parts += [_he(nn.Linear(fan_in, fan_out)), activation()]
    return nn.Sequential(*parts[:-1])


def _he(layer: nn.Linear) -> nn.Linear:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer


def _redrawn(model: nn.Module, draw: Callable[[torch.Tensor], Any]) -> nn.Module:
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            draw(module.weight)
    return model


def _left_at_default() -> Made:
    layers = [part for _ in range(24) for part in (nn.Linear(128, 128), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(128, 10)), _vectors(128)


def _copied_layers() -> Made:
    layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 3, enable_nested_tensor=False), torch.randn(4, 8, 64)


def _all_zero() -> Made:
    model = _chain(64, 128, 128, 10)
    nn.init.zeros_(model[2].weight)  # type: ignore[arg-type]
    nn.init.zeros_(model[4].weight)  # type: ignore[arg-type]
    return model, _vectors(64)


def _large_head() -> Made:
    model = _chain(64, 128, 128, 10)
    nn.init.normal_(model[-1].weight)  # type: ignore[arg-type]
    return model, _vectors(64)


def _low_biases() -> Made:
    model = _chain(64, 128, 128, 10)
    nn.init.constant_(model[2].bias, -12.0)  # type: ignore[arg-type]
    return model, _vectors(64)


def _a_bad_write() -> Made:
    model = _chain(64, 128, 128, 10)
    with torch.no_grad():
        model[2].weight[3, 5] = 40.0  # type: ignore[operator]
    return model, _vectors(64)


def _growing_stream() -> Made:
    blocks = [Block(64, math.sqrt(2 / 256), norm=False) for _ in range(12)]
    return nn.Sequential(*blocks, nn.LayerNorm(64), nn.Linear(64, 10)), _vectors(64)


def _branches_without_depth() -> Made:
    words, blocks = nn.Embedding(500, 64), [Block(64, math.sqrt(2 / 256), norm=True) for _ in range(24)]
    nn.init.normal_(words.weight, std=0.3)
    stack = nn.Sequential(words, *blocks, nn.LayerNorm(64), nn.Linear(64, 10))
    return stack, torch.randint(500, (8, 16))


BUGS = (
    Bug("default-law", "who has drawn these weights, and for which activation?", _left_at_default),
    Bug("wrong-gain", "measure std·√fan_in of each layer",
        lambda: (_redrawn(_chain(*[128] * 32, 10), nn.init.xavier_normal_), _vectors(128))),
    Bug("exploding-signal", "print the signal layer by layer",
        lambda: (_redrawn(_chain(*[128] * 8, 10), nn.init.normal_), _vectors(128))),
    Bug("identical-weights", "compare the layers with one another", _copied_layers),
    Bug("zero-weights", "print the std of each weight, and think of the gradient", _all_zero),
    Bug("first-loss", "what does the first loss cost, and what does guessing?", _large_head),
    Bug("dead-units", "which share of a layer's units is ever above zero?", _low_biases),
    Bug("outliers", "print the largest weight of each layer in its standard deviations", _a_bad_write),
    Bug("residual-growth", "print the second moment of the stream after each block", _growing_stream),
    Bug("branch-scale", "print the std of the last weight of each branch", _branches_without_depth),
    Bug("forget-bias", "what is left of a cell's state after all steps?",
        lambda: (Tagger(), torch.randn(4, 60, 32))),
    Bug("tied-scale", "one table has two roles here: which std does each ask for?",
        lambda: (Speaker(), torch.randint(500, (4, 32)))),
)  # fmt: skip


def broken_network(number: int) -> Made:
    """A network with a bug, number 1 to 12, and inputs for it.

    The same each time; torch's own random state stays as it is.  Raises ``RequestError`` for another
    number.
    """
    bug = BUGS[check_whole("the number of a broken network", number, 1, len(BUGS)) - 1]
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator(0, "broken network", number).get_state())
        return bug.make()
