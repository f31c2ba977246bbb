"""What a network is trained for, and how well it does it: the loss and the score of a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from empirical.protocol import Protocol
from theory.law.cross_entropy import initial_cross_entropy, softmax_second_moment


def cross_entropy(
    outputs: torch.Tensor, targets: torch.Tensor, reduction: str = "mean"
) -> torch.Tensor:
    """Of logits (B, classes), or (B, answers, classes): every answer counts alike."""
    if outputs.dim() == 3:
        outputs, targets = outputs.flatten(0, 1), targets.flatten()
    return nn.functional.cross_entropy(outputs, targets, reduction=reduction)


def accuracy(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    """Percent of the answers that are right."""
    return 100 * int((outputs.argmax(-1) == targets).sum().item()) / targets.numel()


def explained_variance(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    """100·R²: 100 for no error, 0 for that of the targets' mean, and less for a larger one."""
    wide = targets.double()
    errors = (outputs.double() - wide).square().sum()
    return 100 * (1 - (errors / (wide - wide.mean()).square().sum()).item())


@dataclass(frozen=True)
class Objective:
    """A loss (outputs, targets, reduction) and a score (outputs, targets).

    first_loss  (outputs' second moment, targets, classes) -> the expected loss of Gaussian outputs
                that know nothing of the targets
    cotangent   the same -> the second moment of one loss's gradient at its outputs
    """

    loss: Callable[..., torch.Tensor]
    score: Callable[[torch.Tensor, torch.Tensor], float]
    first_loss: Callable[[float, torch.Tensor, int], float]
    cotangent: Callable[[float, torch.Tensor, int], float]


def _second_moment(targets: torch.Tensor) -> float:
    return targets.double().square().mean().item()


OBJECTIVES = {
    "cross-entropy": Objective(
        cross_entropy,
        accuracy,
        lambda power, targets, classes: initial_cross_entropy(power, classes),
        lambda power, targets, classes: softmax_second_moment(power, classes),
    ),
    "squared": Objective(
        nn.functional.mse_loss,
        explained_variance,
        lambda power, targets, classes: power + _second_moment(targets),
        lambda power, targets, classes: 4 * (power + _second_moment(targets)),
    ),
}


def objective_of(spec: Protocol) -> Objective:
    """Of the data set of ``spec``."""
    return OBJECTIVES[spec.data.loss]
