"""What a layer holds: the weights of an operation on a tape, and those of a module of torch's.

Of a module it is asked whether it is what its class promises, before a rule is believed.

A rule knows a layer by its class.  A subclass may do something else, a hook may change what comes
out, and a weight may be computed anew at every call (weight and spectral normalization, pruning):
those are asked for what they hold, and what cannot be known is refused by name.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from theory.errors import RequestError
from theory.predict.nonlinearities import ACTIVATIONS
from theory.predict.tape import RECURRENT, Operation

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


@dataclass(frozen=True)
class Weights:
    """The weights of a layer as (outputs, inputs of one output, taps …), and how they are wired.

    Of an ``equation`` as of ``torch.einsum`` (first x, then the weights as they are ``passed``) the
    letters that x, weights and outputs share count the groups.
    """

    parameter: str
    tensor: torch.Tensor
    bias: Any = None
    groups: int = 1
    transposed: bool = False
    equation: str = ""
    passed: torch.Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def fans(self) -> tuple[int, int]:
        """(fan_in, fan_out) of one output and one input, groups counted; a lookup has a fan_in of 1."""
        taps = math.prod(self.shape[2:])
        if self.transposed:  # (inputs, outputs / groups, taps)
            return taps * self.shape[0] // self.groups, taps * self.shape[1]
        return taps * self.shape[1], taps * self.shape[0] // self.groups


def weights_of(operation: Operation) -> list[Weights]:
    """The weight tensors that ``operation`` multiplies its inputs with; none for any other kind."""
    name, parameters, arguments = operation.name, operation.parameters, operation.arguments
    if name not in WEIGHTED or not parameters:
        return []
    if name in RECURRENT:
        lists = [each for each in operation.template[0] if isinstance(each, (list, tuple))]
        named = zip(parameters, lists[-1], strict=False)  # before it the first states, in a list too
        return [Weights(parameter, tensor) for parameter, tensor in named if tensor.dim() == 2]
    if name in CONTRACTIONS and parameters[0] not in operation.buffers:
        if found := _contraction(operation, parameters[0]):
            return [found]
    key = next((key for key in ("weight", "mat2", "other", "tensor2") if key in arguments), "")
    weight = arguments.get(key)
    if not isinstance(weight, torch.Tensor) or weight.dim() < 2 or name in ("einsum", "bmm"):
        return []
    bias = arguments.get("input") if name == "addmm" else arguments.get("bias")
    weight = weight if key == "weight" else weight.mT
    parameter = next((each for each in parameters if not each.endswith("bias")), parameters[0])
    groups = int(arguments.get("groups") or 1)
    return [Weights(parameter, weight, bias, groups, name.startswith("conv_transpose"))]


WEIGHTED = (
    frozenset(
        "linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d "
        "addmm matmul mm bmm einsum embedding".split()
    )
    | RECURRENT
)
CONTRACTIONS = frozenset("einsum matmul mm bmm".split())


def _contraction(operation: Operation, parameter: str) -> Weights | None:
    """Weights in a sum over named axes, or in a product in which they stand first or in a stack."""
    equation, operands = _summed(operation)
    places = [place for place, one in enumerate(operands) if isinstance(one, torch.Tensor)]
    if len(operands) != 2 or len(places) != 1:
        return None
    weight, terms = operands[places[0]], equation.replace("->", ",").split(",")
    if len(terms) != 3 or "..." in terms[places[0]] or weight.dim() != len(set(terms[places[0]])):
        return None
    own, x, made = terms[places[0]], terms[1 - places[0]], terms[2]
    shared = [letter for letter in own if letter in made and letter in x]
    outputs = [letter for letter in own if letter in made and letter not in x]
    inputs = [letter for letter in own if letter not in made]
    if not inputs or weight.dim() < 2:
        return None
    size = dict(zip(own, weight.shape, strict=True))
    ordered = weight.permute([own.index(letter) for letter in (*shared, *outputs, *inputs)])
    return Weights(
        parameter,
        ordered.reshape(-1, math.prod(size[letter] for letter in inputs)),
        groups=math.prod(size[letter] for letter in shared),
        equation=f"{x},{own}->{made}",
        passed=weight,
    )


def _summed(operation: Operation) -> tuple[str, list[Any]]:
    """``operation`` as an equation of ``torch.einsum``, and its operands; "" where it is none."""
    first, *others = operation.template[0] or ("",)
    if operation.name == "einsum":
        operands = others[0] if len(others) == 1 and isinstance(others[0], (list, tuple)) else others
        equation = str(first).replace(" ", "")
        return (equation if "->" in equation else ""), list(operands)
    for weight, equations in ((first, FIRST), (others[0] if others else None, SECOND)):
        if isinstance(weight, torch.Tensor):
            return equations.get(weight.dim(), ""), [first, *others]
    return "", []


# Of products: weights of two dimensions and a stack of them, in front of x and behind it.
FIRST = {2: "oi,...it->...ot", 3: "boi,...bit->...bot"}
SECOND = {3: "...bti,bio->...bto"}
