"""The optimizer of a cell."""

from __future__ import annotations

import torch
from torch import nn

from empirical.protocol import TrainSpec
from empirical.training.networks import scale_free_parameters
from theory.law.batch_norm import equivalent_learning_rate

MOMENTUM = 0.9  # of SGD


def build_optimizer(spec: TrainSpec, network: nn.Module, device: torch.device) -> torch.optim.Optimizer:
    """Adam with torch's defaults, or SGD with momentum 0.9 (Krizhevsky et al. 2012, §5); fused into one
    kernel where there is one.

    Parameters whose learning rate refers to another law make groups of their own, with η·k or η·k².
    Weight decay is of the weights of layers alone; with it, Adam is AdamW (Loshchilov & Hutter 2019).
    """
    scales = scale_free_parameters(spec) if spec.is_classic else {}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        rate = equivalent_learning_rate(spec.learning_rate, scales.get(name, 1.0), spec.optimizer)
        decay = spec.weight_decay if parameter.dim() > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    sets = [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]
    fused = device.type in ("cpu", "cuda") or None
    if spec.optimizer == "sgd":
        return torch.optim.SGD(sets, lr=spec.learning_rate, momentum=MOMENTUM, fused=fused)
    kind = torch.optim.AdamW if spec.weight_decay else torch.optim.Adam
    return kind(sets, lr=spec.learning_rate, fused=fused)
