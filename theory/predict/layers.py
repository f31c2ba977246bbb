"""What a layer holds, and whether it is what its class promises: checks before a rule is believed.

A rule knows a layer by its class.  A subclass may do something else, a hook may change what comes
out, and a weight may be computed anew at every call (weight and spectral normalization, pruning):
those are asked for what they hold, and what cannot be known is refused by name.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from theory.errors import RequestError
from theory.predict.nonlinearities import ACTIVATIONS

# Hooks of torch's own that set the weight before a call, and do nothing else.
SETS_WEIGHT = (WeightNorm, SpectralNorm, prune.BasePruningMethod)


def is_weighted(module: nn.Module) -> bool:
    """Whether ``module`` is a weight layer: a row of the tables."""
    return isinstance(module, (nn.Linear, nn.Conv2d))


def is_computed(module: nn.Module) -> bool:
    """Whether weight or bias are computed from other tensors at every call."""
    return is_weighted(module) and not {"weight", "bias"} <= module._parameters.keys()


def check_tensors(name: str, module: nn.Module) -> None:
    """Raise ``RequestError`` where ``module`` holds tensors of which nothing is predicted."""
    kind = type(module).__name__
    tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    if any(nn.parameter.is_lazy(tensor) for tensor in tensors):
        raise RequestError(f"{name} ({kind}) has no size yet: run the network once, then predict it")
    if any(tensor.is_complex() for tensor in tensors):
        raise RequestError(f"{name} ({kind}) has complex weights: only real ones are predicted")
    if any(tensor.layout != torch.strided for tensor in tensors):
        raise RequestError(f"{name} ({kind}) has sparse weights: make them dense")
    if is_weighted(module) and not all(tensor.numel() for tensor in module.parameters()):
        raise RequestError(f"{name} ({kind}) is empty: it has no weights")


def check_layer(name: str, module: nn.Module) -> None:
    """Raise ``RequestError`` where ``module`` may not do what its class does."""
    kind = type(module).__name__
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    if any(not isinstance(hook, SETS_WEIGHT) for hook in hooks):
        raise RequestError(
            f"{name} ({kind}) has a forward hook, which may change what it gives: remove it"
        )
    if not _does_as_torchs(module):
        raise RequestError(
            f"{name} ({kind}) has a forward of its own: only what torch's own layers do is known"
        )


def _does_as_torchs(module: nn.Module) -> bool:
    """Whether ``module`` runs the forward of the layer of torch's that it extends.

    A layer with a forward of its own passes if its class names the layer of torch's whose function it
    computes (``acts_as``), or if it is linear or an activation and gives the same numbers.
    """
    kind: Any = next(
        kind for kind in type(module).__mro__ if kind.__module__.startswith("torch.nn.modules")
    )
    if cast(Any, type(module)).forward is kind.forward or getattr(module, "acts_as", None) is kind:
        return True
    if not isinstance(module, (nn.Linear, *ACTIVATIONS)) or is_computed(module):
        return False
    layer: Any = copy.deepcopy(module).cpu().double()
    units = getattr(layer, "in_features", getattr(layer, "num_parameters", 8))
    x = torch.linspace(-7, 8, 2 * units, dtype=torch.float64).reshape(2, -1)
    with torch.no_grad():
        try:
            return torch.allclose(layer(x.clone()), kind.forward(layer, x.clone()))
        except (RuntimeError, TypeError, ValueError, NotImplementedError):
            return False


def held_weights(module: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The weight and the bias that a call of ``module`` would use now; it is left as it was."""
    with torch.no_grad(), _left_alone(module):
        for hook in module._forward_pre_hooks.values():  # ``check_layer``: those that set the weight
            hook(module, ())
        with parametrize.cached():
            bias = module.bias
            return module.weight.detach().clone(), None if bias is None else bias.detach().clone()


@contextmanager
def _left_alone(module: nn.Module) -> Iterator[None]:
    """Put back the buffers (spectral norm's vectors) and the weight that a hook has set."""
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    set_by_hooks: dict[str, Any] = {
        name: vars(module)[name] for name in ("weight", "bias") if name in vars(module)
    }
    try:
        yield
    finally:
        for name, buffer in module.named_buffers():
            buffer.copy_(buffers[name])
        vars(module).update(set_by_hooks)
