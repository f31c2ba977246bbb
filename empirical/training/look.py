"""A look at a network: what every instrument gives, whatever it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


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


def weight_row(module: nn.Module) -> dict[str, float]:
    """What a row says of the parameters that ``module`` holds."""
    weight = wide(module.get_parameter("weight"))
    values = {"weight_mean": weight.mean().item(), "weight_std": weight.std(correction=0).item()}
    if getattr(module, "bias", None) is not None:
        values["bias_mean"] = wide(module.get_parameter("bias")).mean().item()
    if isinstance(module, nn.PReLU):
        values["negative_slope"] = weight.mean().item()
    return values


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """``tensor`` on the CPU in float64: MPS has no float64, and the sums are small."""
    return tensor.detach().cpu().to(torch.float64)
