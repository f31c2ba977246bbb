"""From what is loaded to what a network is trained on: inputs and targets, for a length of sequence.

All inputs of a step have second moment 1, mean over its entries and the steps, so that theory's unit
input is exact: a symbol out of V is a vector of V with one entry √V.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from empirical.data.catalog import ImageSet, Sequences
from empirical.data.datasets import Offsets, augment_with, normalize
from empirical.protocol import TrainSpec

Batch = tuple[torch.Tensor, torch.Tensor]


def adding(numbers: torch.Tensor, length: int, row: Sequences) -> Batch:
    """Σ of two marked numbers out of ``length``, one marked in each half: answered after the last step.

    numbers  float (B, ≥ length + 2), uniform on [0, 1); the last two place the marks
    returns  (B, length, 2): the number and the mark; (B, 1): the sum.  Both standardized
    """
    half = max(length // 2, 1)
    first = (numbers[:, -2] * half).long()
    second = half + (numbers[:, -1] * (length - half)).long()
    shown = numbers[:, :length]
    marks = torch.zeros_like(shown)
    for places in (first, second):
        marks.scatter_(1, places[:, None], 1.0)
    total = (shown * marks).sum(1, keepdim=True)
    centered = (shown - 0.5) * math.sqrt(12)
    return torch.stack([centered, marks * math.sqrt(length / 2)], 2), (total - 1) * math.sqrt(6)


def copied(symbols: torch.Tensor, length: int, row: Sequences) -> Batch:
    """Symbols to be said again, each ``length`` steps after it was read; blanks between.

    symbols  int (B, S)
    returns  (B, length + S, inputs): symbol or blank, the last; (B, S): the symbols
    """
    blank = symbols.new_full((len(symbols), length), row.inputs - 1)
    return one_hot(torch.cat([symbols, blank], 1), row.inputs), symbols


def characters(codes: torch.Tensor, length: int, row: Sequences) -> Batch:
    """Each character from those before it: (B, ≥ length + 1) → (B, length, V), (B, length)."""
    return one_hot(codes[:, :length], row.inputs), codes[:, 1 : length + 1]


def one_hot(codes: torch.Tensor, symbols: int) -> torch.Tensor:
    """(…) → (…, symbols), float32, with √symbols in the place of the 1."""
    return torch.nn.functional.one_hot(codes, symbols).float() * math.sqrt(symbols)


UNROLLED: dict[str, Callable[[torch.Tensor, int, Sequences], Batch]] = {
    "adding": adding,
    "copied": copied,
    "characters": characters,
}


def prepared(
    spec: TrainSpec, raw: torch.Tensor, labels: torch.Tensor, offsets: Offsets | None = None
) -> Batch:
    """Inputs and targets of the loaded ``raw`` (B, …) and ``labels`` (B, …).

    ``offsets`` are of training images; without them an image is only normalized.
    """
    row = spec.data
    if isinstance(row, ImageSet):
        if offsets is None:
            return normalize(raw, row.mean, row.std), labels
        return augment_with(raw, *offsets, row.mean, row.std), labels
    if isinstance(row, Sequences):
        return UNROLLED[row.unrolled](raw, spec.length, row)
    return raw, labels
