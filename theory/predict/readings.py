"""What is read off the tensors of a run: the numbers that a tape keeps of its values.

What is read off one tensor, of any shape, is NaN where it holds no real numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from theory.precision import widened
from theory.randomness import generator

STEPS = 512  # or tokens, whose products are kept: they cost their square
MASKED = 50.0  # e^−50 of the largest is nothing
PIECE = 4096  # numbers whose squares are summed in the tensor's own precision


def second_moment(tensor: torch.Tensor) -> float:
    """Mean of x² over ``tensor``; NaN where it holds no real numbers, or none at all.

    Summed in one pass, pieces in the precision of the tensor and their sum in float64: good to about
    1e-6 in float32.
    """
    if not tensor.numel() or not _holds_real_numbers(tensor):
        return math.nan
    flat = tensor.detach().reshape(-1)
    if flat.dtype in (torch.float32, torch.float64):
        whole = len(flat) // PIECE * PIECE
        norms = torch.linalg.vector_norm(flat[:whole].view(-1, PIECE), dim=1)
        total = float(widened(norms).square().sum() + widened(flat[whole:]).square().sum())
        if math.isfinite(total) and total > 1e-30:
            return total / len(flat)
    return float(widened(flat).square().mean())


def _holds_real_numbers(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and tensor.layout == torch.strided and not tensor.is_meta


def spread(tensor: torch.Tensor) -> float:
    """Variance of ``tensor`` over its first dimension, mean over the others; of one input over all.

    NaN where it holds no real numbers, or a single one.
    """
    if tensor.numel() < 2 or not _holds_real_numbers(tensor):
        return math.nan
    values = tensor.detach().float()
    values = values if len(values) > 1 else values.reshape(-1)
    apart = values - values[0]  # exactly 0 where all are the same
    return second_moment(apart - apart.mean(0)) * len(values) / (len(values) - 1)


def silent(tensor: torch.Tensor) -> float:
    """Share of the units of ``tensor`` that are 0 for every input, its first dimension."""
    if tensor.dim() < 2 or not tensor.numel() or not _holds_real_numbers(tensor):
        return math.nan
    return float((tensor.detach() == 0).all(0).float().mean())


def uneven(tensor: torch.Tensor, axis: int) -> float:
    """Relative variance of the mean over the units along ``axis``, from how their moments differ."""
    if tensor.is_meta or not tensor.is_floating_point() or tensor.shape[axis] < 2:
        return float("nan")
    norms = torch.linalg.vector_norm(tensor.detach().movedim(axis, 0).flatten(1), dim=1)
    squares = widened(norms).square()
    mean = float(squares.mean())
    return float(squares.var()) / (len(squares) * mean**2) if mean > 0 else float("nan")


def channel_mean(tensor: torch.Tensor) -> float:
    """Mean over dimension 1 of the squared mean over all others; NaN where there is no such thing."""
    if tensor.dim() < 2 or not _holds_real_numbers(tensor):
        return math.nan
    return second_moment(tensor.detach().mean([d for d in range(tensor.dim()) if d != 1]))


def products_over_time(
    x: torch.Tensor, states: Any, weights: Any, has_biases: Any, *others: Any
) -> torch.Tensor | None:
    """Mean over batch and features of x_t·x_s, (T, T), from the arguments of a recurrent operation.

    None of packed sequences, and of more than ``STEPS`` steps.
    """
    if not isinstance(has_biases, bool):  # packed: batch sizes come second
        return None
    batch_first = others[-1]
    rows = x.detach().transpose(0, 1 if batch_first else 0)
    if len(rows) > STEPS:
        return None
    rows = rows.flatten(1).float()
    return widened(rows @ rows.mT / rows.shape[1])


@dataclass(frozen=True)
class Rows:
    """Of a tensor that a linear layer made of the rows of ``inputs``: from which row each number comes.

    index   in the shape of the tensor
    inputs  (rows, features) of the layer
    bias    its mean square over that of the weights
    """

    index: torch.Tensor
    inputs: torch.Tensor
    bias: float

    @classmethod
    def of(
        cls, inputs: torch.Tensor, made: torch.Tensor, weight: torch.Tensor, bias: Any
    ) -> Rows | None:
        """Of what ``weight`` and ``bias`` have just ``made`` of ``inputs``; None where they are 0."""
        if not weight.any():
            return None
        rows = inputs.detach().flatten(0, -2)
        index = torch.arange(len(rows), device=made.device).reshape(*made.shape[:-1], 1)
        size = second_moment(bias) / second_moment(weight) if isinstance(bias, torch.Tensor) else 0.0
        return cls(index.expand(made.shape), rows, size)


def attention_matrix(function: Any, args: Any, kwargs: Any) -> torch.Tensor | None:
    """M (…, T', T) of ``scaled_dot_product_attention``, or the first factor of a product.

    None of more than ``STEPS`` tokens, and where dropout changes M.
    """
    attention: Any = torch.nn.functional.scaled_dot_product_attention
    if function is not attention:
        first: torch.Tensor = args[0].detach()
        return first
    value = args[2] if len(args) > 2 else kwargs["value"]
    tokens = value.shape[-2]
    if tokens > STEPS or (args[4] if len(args) > 4 else kwargs.get("dropout_p")):
        return None
    one = torch.eye(tokens, dtype=value.dtype, device=value.device)
    one = one.expand(*value.shape[:-2], -1, -1)
    positional, keywords = list(args), dict(kwargs)
    if len(args) > 2:
        positional[2] = one
    else:
        keywords["value"] = one
    with torch.no_grad():
        mixing: torch.Tensor = function(*positional, **keywords)
    return mixing


def mixed_power(mixing: torch.Tensor, value: torch.Tensor, rows: Rows) -> torch.Tensor | None:
    """What attention leaves of the power of values: of y = M·v, M (…, T', T) and v (…, T, F).

    Given M, ``mixing``, and the rows x from which fresh weights of mean 0 made v, E[y_t²] is that of v
    times Σ_ij M_ti M_tj ⟨x_i, x_j⟩ over the mean of ⟨x_i, x_i⟩; (…, T', 1), float64.  None where v is
    not rows of one layer, and of more than ``STEPS`` tokens.
    """
    chosen, tokens = rows.index[..., 0], value.shape[-2]
    if tokens > STEPS or not torch.equal(rows.index, chosen[..., None].expand(value.shape)):
        return None
    if chosen.dim() > 2 and torch.equal(chosen, chosen[..., :1, :].expand(chosen.shape)):
        chosen = chosen[..., :1, :]  # all heads
    x = rows.inputs[chosen].float()
    gram, mixing = x @ x.mT + rows.bias, mixing.float()
    left: torch.Tensor = ((mixing @ gram) * mixing).sum(-1, keepdim=True, dtype=torch.float64)
    whole = gram.diagonal(dim1=-2, dim2=-1).mean(dtype=torch.float64)
    return left / whole if whole > 0 else None


@dataclass(frozen=True)
class Logits:
    """What a softmax was given, along its axis and over the keys that are not masked.

    variance       within a row, mean over rows
    second_moment  mean of the square
    shares         by number of keys: the share of the rows that have so many
    """

    variance: float
    second_moment: float
    shares: Mapping[int, float]

    @classmethod
    def of(cls, logits: torch.Tensor, dim: int) -> Logits | None:
        """Of ``logits``; keys whose logit lies ``MASKED`` below the largest count as masked.

        None where no row has a finite largest one.
        """
        rows = logits.detach().movedim(dim, -1).flatten(0, -2).double()
        rows = rows[rows.amax(-1).isfinite()]
        if not rows.numel():
            return None
        kept = rows > rows.amax(-1, keepdim=True) - MASKED
        counts = kept.sum(-1)
        rows = torch.where(kept, rows, 0.0)
        apart = torch.where(kept, rows - rows.sum(-1, keepdim=True) / counts[:, None], 0.0)
        many, times = torch.unique(counts, return_counts=True)
        return cls(
            float(apart.square().sum() / (counts - 1).sum().clamp_min(1)),
            float(rows.square().sum() / counts.sum().clamp_min(1)),
            dict(zip(many.tolist(), (times / len(rows)).tolist(), strict=True)),
        )


def random_signs(like: torch.Tensor, *key: int) -> torch.Tensor:
    """Independent random signs in the shape of ``like``."""
    signs = torch.rand(like.shape, generator=generator(0, "cotangent", *key)) < 0.5
    return (2.0 * signs - 1.0).to(like)
