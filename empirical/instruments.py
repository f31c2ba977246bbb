"""What is read off a network while it trains, without changing how it trains.

``average_weight`` is the course report's number, kept as the report defines it: the unweighted mean
over *all* parameter tensors (weights, biases, batch-norm scales and shifts, PReLU slopes) of each
tensor's mean.  A batch-norm scale of 1 counts in it as much as a whole convolution, so it says little
about the weights; beside it stand, per layer, quantities that do.

Gradients and dead channels are read on one fixed batch, the first images of the training set without
augmentation, with batch norm in train mode.  Its running statistics are put back afterwards and no
``.grad`` is touched, so that a run with instruments equals a run without, bit for bit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from theory.probe import Probe

FIXED_BATCH = 256
LAYER_COLUMNS = (
    "epoch",  # 0 is the network as drawn
    "layer",  # the module's name: conv01, norm02, act01, head, …
    "kind",  # the torch class: Conv2d, BatchNorm2d, ReLU, PReLU, Linear, …
    "weight_mean",  # mean of the weight tensor (of a PReLU: its slope; of a batch norm: its scale)
    "weight_std",  # its standard deviation about that mean, divisor n
    "bias_mean",  # mean of the bias tensor, empty where there is none
    "negative_slope",  # the learned slope of a PReLU, else empty
    "gradient_norm",  # L2 norm of the loss gradient over the layer's parameters
    "dead_fraction",  # of an activation: its channels with pre-activation ≤ 0 at every image and place
)


def average_weight(network: nn.Module) -> float:
    """The report's average weight: the mean over all parameter tensors of each tensor's mean."""
    means = [_wide(tensor).mean().item() for tensor in network.parameters()]
    return math.fsum(means) / len(means) if all(map(math.isfinite, means)) else math.nan


def measure(
    network: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    epoch: int,
    forward: Callable[[torch.Tensor], torch.Tensor],
) -> tuple[list[dict[str, Any]], float]:
    """One row of ``LAYER_COLUMNS`` per layer with parameters or an activation, and the gradient's norm.

    ``images`` are the fixed batch, normalized; ``forward`` runs the network as the training does.
    The second value is the L2 norm of the whole gradient.
    """
    gradients, dead = _probe(network, images, labels, forward)
    rows: list[dict[str, Any]] = []
    for name, module in network.named_children():
        own = [f"{name}.{parameter}" for parameter, _ in module.named_parameters()]
        if not own and name not in dead:
            continue
        row = dict.fromkeys(LAYER_COLUMNS, math.nan) | {"epoch": epoch, "layer": name}
        row["kind"] = "PReLU" if isinstance(module, nn.PReLU) else type(module).__name__
        row["dead_fraction"] = dead.get(name, math.nan)
        if own:
            row |= _weights(module)
            row["gradient_norm"] = math.hypot(*(gradients[parameter] for parameter in own))
        rows.append(row)
    return rows, math.hypot(*gradients.values())


def _weights(module: nn.Module) -> dict[str, float]:
    weight = _wide(module.get_parameter("weight"))
    values = {"weight_mean": weight.mean().item(), "weight_std": weight.std(correction=0).item()}
    if getattr(module, "bias", None) is not None:
        values["bias_mean"] = _wide(module.get_parameter("bias")).mean().item()
    if isinstance(module, nn.PReLU):
        values["negative_slope"] = weight.mean().item()
    return values


def _probe(
    network: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    forward: Callable[[torch.Tensor], torch.Tensor],
) -> tuple[dict[str, float], dict[str, float]]:
    """Norm of the gradient per parameter, and dead fraction per activation."""
    names = [name for name, _ in network.named_children()]
    inputs = {before: name for before, name in itertools.pairwise(names) if _is_activation(name)}
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    parameters = dict(network.named_parameters())
    with _restoring(network, buffers), Probe(network, inputs, mode="train", statistics=_dead) as probe:
        loss = nn.functional.cross_entropy(forward(images), labels)
        found = torch.autograd.grad(loss, list(parameters.values()))
    norms = (_wide(gradient).norm().item() for gradient in found)
    gradients = dict(zip(parameters, norms, strict=True))
    return gradients, {inputs[item.module]: float(item.forward["dead"]) for item in probe.readings}


class _restoring(AbstractContextManager[None]):
    """Put the network's buffers (batch norm's running statistics) back on leaving."""

    def __init__(self, network: nn.Module, buffers: dict[str, torch.Tensor]) -> None:
        self.network, self.buffers = network, buffers

    def __exit__(self, *_: object) -> None:
        for name, buffer in self.network.named_buffers():
            buffer.copy_(self.buffers[name])


def _dead(pre_activation: torch.Tensor) -> dict[str, torch.Tensor]:
    over = [dimension for dimension in range(pre_activation.dim()) if dimension != 1]
    return {"dead": (pre_activation.amax(over) <= 0).float().mean()}


def _is_activation(name: str) -> bool:
    return name.startswith("act")


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    """``tensor`` on the CPU in float64: MPS has no float64, and the sums are small."""
    return tensor.detach().cpu().to(torch.float64)
