"""What the course report's network has of its own: layers that are fast, and weights without a scale.

    conv 3×3, C→F                      activation          no batch norm here
    conv 3×3, F→F      batch norm      activation          for i = 1 … depth − 1,
                                       2×2 max-pool        after every even i, while the map is > 1×1
    flatten, linear → classes

(with ``pool_every`` p, after every p-th i).  ``families`` builds it.

Layers are counted from 1 in the modules' names: ``conv01 act01 conv02 norm02 act02 … pool03 … head``,
and the head flattens.

A weight followed by batch norm is *scale-free*: multiplied by k it gives the same function, and learns
as if its learning rate were divided by k (Adam) or k² (SGD; law.batch_norm).  The first convolution
has no batch norm, but a rectifier is homogeneous and the second layer's batch norm takes out the common
scale of its weight and bias.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from empirical.protocol import TrainSpec
from theory.activations import parse_activation

FIRST = "conv01"


def scale_free_layers(spec: TrainSpec) -> dict[str, float]:
    """The weight layers whose scale batch norm takes out, each with its scale k.

    k is the ratio of the weight's standard deviation to that under ``learning_rate_reference``; 1
    without a reference.
    """
    if spec.norm != "batch":
        return {}
    kind = parse_activation(spec.activation).kind
    homogeneous = spec.depth > 1 and kind in ("relu", "prelu", "leaky-relu", "linear")
    layers = range(0 if homogeneous else 1, spec.depth)
    return {f"conv{layer + 1:02d}": spec.relative_scale(layer) for layer in layers}


def scale_free_parameters(spec: TrainSpec) -> dict[str, float]:
    """Names of the parameters that learn at another rate when their scale k is not 1, with that k."""
    scales = scale_free_layers(spec)
    found = {f"{layer}.weight": scale for layer, scale in scales.items()}
    if FIRST in scales:
        found[f"{FIRST}.bias"] = scales[FIRST]
    return found


def undrawn(kind: type[nn.Module], *sizes: int, **options: int) -> Any:
    """A layer whose weights are not yet drawn: torch's own draw would use the global generator."""
    return nn.utils.skip_init(kind, *sizes, **options)  # type: ignore[no-untyped-call]


def to_device(network: nn.Sequential, device: torch.device) -> nn.Sequential:
    """``network`` on ``device``, in the memory layout that is fastest there."""
    if device.type in ("cpu", "cuda"):  # on MPS channels_last gains nothing and has had bugs
        moved: nn.Sequential = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return moved
    return network.to(device)


class FlattenLinear(nn.Linear):
    """``nn.Flatten`` and ``nn.Linear`` in one: maps (B, C, H, W) to (B, out).

    The weight is that of the pair, its columns in the order (C, H, W).  Flattening a channels_last map
    in that order would copy it, and send back a gradient in the other layout, on which the layers
    before are slow: so the weight, which is smaller by B/out, is put in the map's order instead.
    """

    acts_as = nn.Linear  # for theory.predict

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not input.is_contiguous(memory_format=torch.channels_last):
            return super().forward(input.flatten(1))
        weight = self.weight.view(-1, *input.shape[1:]).permute(0, 2, 3, 1).flatten(1)
        return nn.functional.linear(input.permute(0, 2, 3, 1).flatten(1), weight, self.bias)


class SharedPReLU(nn.PReLU):
    """``nn.PReLU`` with one learned slope a, and a fast backward pass on the CPU.

    f(y) = y for y > 0 and a·y otherwise, ∂E/∂a = Σ over y ≤ 0 of y·∂E/∂f  (He et al. 2015, Eq. 8–10).
    torch's own CPU kernel writes a slope gradient for every element before it sums them; here the sum
    is one inner product.  Values, the convention at y = 0 and the state_dict are those of nn.PReLU.
    """

    acts_as = nn.PReLU  # for theory.predict

    def __init__(self, init: float = 0.25) -> None:
        super().__init__(num_parameters=1, init=init)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if input.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(input)
        result: torch.Tensor = _SharedPReLU.apply(input, self.weight)
        return result


class _SharedPReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(y, slope)
        return nn.functional.leaky_relu(y, slope.item())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        y, slope = ctx.saved_tensors
        grad_y = grad_slope = None
        scratch = y.clamp_max(0)
        if ctx.needs_input_grad[1]:
            grad_slope = _inner_product(scratch, grad).to(slope.dtype).reshape(slope.shape)
        if ctx.needs_input_grad[0]:  # into the memory that was just read, which is still in the cache
            backward = torch.ops.aten.leaky_relu_backward.grad_input
            grad_y = backward(grad, y, slope.item(), False, grad_input=scratch)
        return grad_y, grad_slope


def _inner_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Σ left·right over all elements, in whatever order they lie in memory, in float32 or wider."""
    if left.dtype in (torch.bfloat16, torch.float16):
        left, right = left.float(), right.float()
    if left.dim() == 4 and left.is_contiguous(memory_format=torch.channels_last):
        left, right = left.permute(0, 2, 3, 1), right.permute(0, 2, 3, 1)
    return torch.dot(left.reshape(-1), right.reshape(-1))
