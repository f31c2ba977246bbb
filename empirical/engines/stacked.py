"""Many networks of one shape as one: K cells, each with its own weights, in the calls of a single one.

The weights of K cells lie in one tensor with a new leading dimension, and their maps side by side in
the channels, (B, K·C, H, W).  Then

    convolution     one grouped convolution, a group per cell
    batch norm      one over K·C channels: its statistics are per channel anyway
    PReLU           a slope per channel, equal within a cell
    linear layer    a batched product of matrices
    loss            the sum over cells of each cell's mean: its gradient in a cell is that cell's own

and Adam and SGD act on every number alone.  So a cell computes what it computes by itself, to
rounding, and no number of one cell ever meets one of another.  What is saved is launches: a step of K
cells has as many kernels as a step of one.

``torch.func`` (``stack_module_state``, ``functional_call``, ``vmap``) would say the same in some sixty
lines less, but not of these modules: it refuses the question how a map lies in memory, which the head
asks, and a PReLU's own backward pass; and it knows one way to do the convolutions, where here there are
three (``WAYS``), since grouped ones are slow in some libraries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.optim import Optimizer

Convolve = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def grouped(maps: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """3×3 convolutions of K cells: maps (B, K·C, H, W), weight (K, F, C, 3, 3), bias (K, F)."""
    return nn.functional.conv2d(
        maps, weight.flatten(0, 1), bias.flatten(), padding=1, groups=len(weight)
    )


def separate(maps: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """The same by a convolution per cell, for libraries whose grouped ones are slow."""
    parts = maps.chunk(len(weight), 1)
    each = zip(parts, weight.unbind(), bias.unbind(), strict=True)
    return torch.cat([nn.functional.conv2d(*cell, padding=1) for cell in each], 1)


# How convolutions are done, and whether maps are in channels_last: equal to rounding.
WAYS: dict[str, tuple[Convolve, bool]] = {
    "grouped": (grouped, False),
    "grouped, channels_last": (grouped, True),
    "separate, channels_last": (separate, True),
}


class Stack(nn.Module):
    """The parameters and buffers of ``networks``, stacked under the names that they have in one.

    All are of one shape (``engines.groups.shape_of``).  ``load`` and ``store`` copy the values, and
    those of an optimizer, from the networks and back.
    """

    def __init__(self, networks: Sequence[nn.Sequential]) -> None:
        super().__init__()
        self.networks = tuple(networks)  # in a tuple: their parameters are not ours
        self.layers = dict(networks[0].named_children())
        self.cells, self.way = len(networks), "grouped"
        for name in self.layers:
            holder = nn.Module()
            modules = [network.get_submodule(name) for network in networks]
            for own, _ in modules[0].named_parameters():
                holder.register_parameter(
                    own, nn.Parameter(_stacked([m.get_parameter(own) for m in modules]))
                )
            for own, _ in modules[0].named_buffers():
                holder.register_buffer(own, _stacked([m.get_buffer(own) for m in modules]))
            self.add_module(name, holder)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Logits (K, B, classes) of maps (B, K·C, H, W), each cell's channels after the other's."""
        tensors = dict(self.named_parameters()) | dict(self.named_buffers())
        return stacked_forward(self.layers, tensors, maps, self.training, self.way)

    def store(self, optimizer: Optimizer, optimizers: Sequence[Optimizer]) -> None:
        """Copy every cell's values, and those of ``optimizer``, into its own network and optimizer.

        Tensors of the optimizers are made in the layout of the parameters: fused kernels pair the
        numbers of the two as they lie in memory.
        """
        values = self.state_dict()
        for k, network in enumerate(self.networks):
            network.load_state_dict({name: value[k] for name, value in values.items()})
        with torch.no_grad():
            for name, stacked in self.named_parameters():
                for what, value in optimizer.state.get(stacked, {}).items():
                    for k, (network, single) in enumerate(zip(self.networks, optimizers, strict=True)):
                        parameter = network.get_parameter(name)
                        part = value if value.dim() == 0 else value[k]
                        state = single.state[parameter]
                        if what not in state:
                            state[what] = torch.empty_like(part if value.dim() == 0 else parameter)
                        state[what].copy_(part)

    def load(self, optimizer: Optimizer, optimizers: Sequence[Optimizer]) -> None:
        """Give ``optimizer`` the state of the networks' own; all have made equally many steps."""
        for name, stacked in self.named_parameters():
            states = [
                single.state.get(network.get_parameter(name), {})
                for network, single in zip(self.networks, optimizers, strict=True)
            ]
            for what, value in states[0].items():
                if torch.is_tensor(value):
                    same = value.dim() == 0  # the number of steps
                    values = [state[what] for state in states]
                    optimizer.state[stacked][what] = value.clone() if same else _stacked(values)


def stacked_forward(
    layers: Mapping[str, nn.Module],
    tensors: Mapping[str, torch.Tensor],
    maps: torch.Tensor,
    training: bool,
    way: str = "grouped",
) -> torch.Tensor:
    """Logits (K, B, classes) of maps (B, K·C, H, W).

    ``layers`` are one network's modules by name, which say what is done; ``tensors`` hold the K
    networks' parameters and buffers, each (K, …), by the names in that network.
    """
    convolve, last = WAYS[way]
    maps = maps.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    for name, layer in layers.items():
        if isinstance(layer, nn.Conv2d):
            maps = convolve(maps, tensors[f"{name}.weight"], tensors[f"{name}.bias"])
        elif isinstance(layer, nn.BatchNorm2d):
            maps = _batch_norm(layer, name, tensors, maps, training)
        elif isinstance(layer, nn.PReLU):
            slope = tensors[f"{name}.weight"]
            channels = maps.shape[1] // len(slope)
            slope = slope.expand(-1, channels).reshape(-1).to(maps.dtype)
            maps = nn.functional.prelu(maps, slope)
        elif isinstance(layer, nn.Linear):
            weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
            features = maps.reshape(len(maps), len(weight), -1).transpose(0, 1)  # (K, B, C·H·W)
            maps = torch.baddbmm(bias[:, None], features, weight.transpose(1, 2))
        else:  # a pool, or an activation that learns nothing
            maps = layer(maps)
    return maps


def cell_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy (K,) of each cell: logits (K, B, classes), labels (B, K)."""
    each = nn.functional.cross_entropy(logits.flatten(0, 1), labels.T.flatten(), reduction="none")
    return each.view(len(logits), -1).mean(1)


def stacked_step(
    forward: Callable[[torch.Tensor], torch.Tensor],
    optimizer: Optimizer,
    images: torch.Tensor,
    labels: torch.Tensor,
) -> torch.Tensor:
    """One step on images (B, K·C, H, W) and labels (B, K); the cells' losses (K,) before it."""
    losses = cell_losses(forward(images), labels)
    optimizer.zero_grad(set_to_none=True)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return losses.detach()


def _batch_norm(
    layer: nn.BatchNorm2d,
    name: str,
    tensors: Mapping[str, torch.Tensor],
    maps: torch.Tensor,
    training: bool,
) -> torch.Tensor:
    mean, variance, weight, bias = (
        tensors[f"{name}.{own}"].view(-1) for own in ("running_mean", "running_var", "weight", "bias")
    )
    if training:
        tensors[f"{name}.num_batches_tracked"].add_(1)
    assert layer.momentum is not None
    return nn.functional.batch_norm(
        maps, mean, variance, weight, bias, training, layer.momentum, layer.eps
    )


def _stacked(values: Sequence[torch.Tensor]) -> torch.Tensor:
    """(K, …), contiguous: the layout of one cell's values does not matter."""
    return torch.stack([value.detach() for value in values]).contiguous()
