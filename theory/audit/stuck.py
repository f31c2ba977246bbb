"""Whether zeros and constants can be left by training: three small steps of them, and of nothing else.

A layer of equal units whose gradients are equal too stays one unit; a zero without a gradient stays
zero.  But a zero whose gradient is cut by another zero wakes up when that one has moved, and a single
step does not tell the two apart.  So the tensors in question, all other zeros and the vectors (biases,
gains) are moved along their gradients, from independent random signs at the outputs, in place of the
model's own; the model itself is not touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from theory.audit.network import Network
from theory.errors import RequestError
from theory.predict.readings import random_signs
from theory.predict.tape import as_arguments, left_as_it_was, tensors_in

STEPS = 3
SIZE = 0.01  # of a step, relative to 1: what the fate hangs on is which entries move alike
ALIKE = 1e-4  # units that differ by less, relative to their size, are copies
NEVER, COPIES, MOVES = "never", "copies", "moves"


@dataclass(frozen=True)
class Fate:
    """What becomes of a tensor: it ``never`` moves, its units remain ``copies``, or it ``moves``."""

    state: str
    is_zero: bool
    gradient: float  # the largest entry of its gradients


def fates(net: Network, inputs: Any, *, seed: int = 0) -> dict[str, Fate]:
    """The fate of each tensor of zeros or of equal units in ``net``, by the parameter's name.

    Zeros count where they multiply: in weights, in norms, and in what scales a branch.
    """
    suspects = dict(_suspects(net))
    if not suspects:
        return {}
    moved = {
        name: parameter.detach().clone().requires_grad_()
        for name, parameter in net.model.named_parameters()
        if parameter.is_floating_point()
        and (name in suspects or parameter.dim() < 2 or not bool(parameter.any()))
    }
    largest = dict.fromkeys(moved, 0.0)
    positional, keywords = as_arguments(inputs)
    device = next((one.device for one in tensors_in(inputs)), torch.device("cpu"))
    with left_as_it_was(net.model, device, seed), torch.enable_grad():
        for step in range(STEPS):
            try:
                output = torch.func.functional_call(net.model, moved, positional, keywords)
            except Exception as error:
                raise RequestError(f"the model does not run a second time: {error}") from error
            ends = [one for one in tensors_in(output) if one.requires_grad]
            signs = [random_signs(end, seed, step, number) for number, end in enumerate(ends)]
            gradients = torch.autograd.grad(ends, list(moved.values()), signs, allow_unused=True)
            _step(moved, gradients, largest)
    return {
        name: Fate(_state(net, name, moved[name], largest[name]), is_zero, largest[name])
        for name, is_zero in suspects.items()
        if name in moved
    }


def _suspects(net: Network) -> Iterator[tuple[str, bool]]:
    """The names of tensors without randomness, and whether they are zero."""
    for name, index in net.laws.items():
        weight = net.weights[index]
        if not net.parameters[name].requires_grad:
            continue
        if not bool(weight.tensor.any()):
            yield name, True
        elif len(weight.units) > 1 and _are_alike(weight.units):
            yield name, False
    scales = {
        name
        for one in net.tape.operations
        if net.is_norm(one) or one.name == "mul"
        for name in one.parameters
        if not name.endswith("bias")
    }
    for name in sorted(scales - set(net.laws)):
        parameter = net.parameters.get(name)
        if parameter is not None and parameter.requires_grad and not bool(parameter.any()):
            yield name, True


def _are_alike(units: torch.Tensor) -> bool:
    return torch.equal(units[0], units[-1]) and bool((units == units[:1]).all())


def _step(moved: dict[str, torch.Tensor], gradients: Any, largest: dict[str, float]) -> None:
    for (name, tensor), gradient in zip(list(moved.items()), gradients, strict=True):
        size = 0.0 if gradient is None else float(gradient.abs().max())
        largest[name] = max(largest[name], size)
        if size > 0:
            moved[name] = (tensor - SIZE / size * gradient).detach().requires_grad_()


def _state(net: Network, name: str, tensor: torch.Tensor, gradient: float) -> str:
    if not gradient > 0:
        return NEVER
    if name not in net.laws or net.laws[name] in net.heads:
        return MOVES
    weight = net.weights[net.laws[name]]
    held = tensor.detach() if tensor.shape == weight.tensor.shape else tensor.detach().mT
    units = replace(weight, tensor=held).units
    apart = float((units - units[:1]).abs().max())
    return COPIES if len(units) > 1 and apart <= ALIKE * float(units.abs().max()) else MOVES
