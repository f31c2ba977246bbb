"""A look at a network: what every instrument gives, whatever it reads."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from empirical.protocol import TrainSpec
from empirical.records.cell import LAYER_COLUMNS
from theory.law.batch_norm import effective_learning_rate, equivalent_learning_rate


@dataclass(frozen=True)
class Look:
    """What the instruments saw after ``epoch`` epochs.

    rows            one of ``LAYER_COLUMNS`` per layer with parameters or an activation
    gradient_norm   L2 norm of the loss gradient over all parameters
    loss            mean cross-entropy on the fixed batch
    loss_predicted  its expectation for Gaussian logits of the predicted second moment that know
                    nothing of the labels: only of a network that has not learned yet
    """

    rows: list[dict[str, Any]]
    gradient_norm: float
    loss: float
    loss_predicted: float


def layer_row(epoch: int, layer: str, module: nn.Module) -> dict[str, Any]:
    """A row of ``module`` of which nothing is known yet."""
    kind = "PReLU" if isinstance(module, nn.PReLU) else type(module).__name__
    named = {"epoch": epoch, "layer": layer, "kind": kind, "prediction_basis": ""}
    return dict.fromkeys(LAYER_COLUMNS, math.nan) | named


@contextmanager
def as_found(network: nn.Module) -> Iterator[None]:
    """Train mode inside this block; then mode and buffers (running statistics) are as before."""
    was, buffers = network.training, {name: value.clone() for name, value in network.named_buffers()}
    network.train()
    try:
        yield
    finally:
        network.train(was)
        for name, buffer in network.named_buffers():
            buffer.copy_(buffers[name])


def weight_row(module: nn.Module) -> dict[str, float]:
    """What a row says of the parameters that ``module`` holds."""
    weight = wide(module.get_parameter("weight"))
    values = {"weight_mean": weight.mean().item(), "weight_std": weight.std(correction=0).item()}
    if getattr(module, "bias", None) is not None:
        values["bias_mean"] = wide(module.get_parameter("bias")).mean().item()
    if isinstance(module, nn.PReLU):
        values["negative_slope"] = weight.mean().item()
    return values


def weight_steps(
    spec: TrainSpec, module: nn.Module, drawn: torch.Tensor, scale: float = 1.0
) -> dict[str, float]:
    """How far the weight of ``module`` has gone since it was ``drawn``, and its next step beside it."""
    weight, before = wide(module.get_parameter("weight")), wide(drawn)
    rms, size = weight.square().mean().sqrt().item(), torch.linalg.vector_norm(before)
    rate = equivalent_learning_rate(spec.learning_rate, scale, spec.optimizer)
    change = torch.linalg.vector_norm(weight - before) / size
    known = 0 < rms < math.inf
    return {
        "relative_change": change.item() if size else math.nan,
        "effective_learning_rate": (
            effective_learning_rate(rate, rms, spec.optimizer) if known else math.nan
        ),
    }


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """``tensor`` on the CPU in float64: MPS has no float64, and the sums are small."""
    return tensor.detach().cpu().to(torch.float64)
