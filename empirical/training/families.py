"""TrainSpec -> nn.Module, for every family of ``empirical.architectures``.

For images (3×3 convolutions of ``filters`` channels), vectors (linear layers of ``filters`` units) and
sequences:

    plain        layer, then norm (not after the first) → activation → dropout; pools for images.  The
                 course report's network is one of them (``networks``)
    residual     layer, then branches x + layer(act(norm(layer(act(norm(x)))))), with dropout before the
                 second layer (He et al. 2016), a pool where the map is to shrink; norm and activation
    rnn          h_t = φ(W x_t + U h_(t−1) + b);  lstm and gru likewise, their gates' weights stacked
    transformer  x + attention(norm(x)), x + MLP(norm(x)), causal; positions as sines; norm

and a linear head.  One linear operation per step and weight, so that ``theory.predict`` sees each.

Weights are drawn on the CPU in float32 from the explicit generator (seed, "weights"), tensor after
tensor in the order of the modules, and moved afterwards: the same seed gives the same network on every
device.  Normal laws of one shape use the same underlying numbers, so that at one seed "he" and "normal"
are exact multiples of each other, layer by layer.  Stacked weights are drawn part by part, with the
fans of one part.  Biases keep torch's law U(±1/√fan_in) in networks for images and vectors; in those
for sequences all but a forget gate's are 0 at first.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import nn

from empirical.architectures import HEADS, IDENTITY, MLP
from empirical.data.catalog import Sequences
from empirical.protocol import TrainSpec
from empirical.training.networks import (
    FIRST,
    FlattenLinear,
    SharedPReLU,
    scale_free_layers,
    to_device,
    undrawn,
)
from theory.activations import parse_activation
from theory.initializers import parse_initializer
from theory.randomness import generator

Layers = Iterator[tuple[str, nn.Module]]  # of a network, by name, one after another
State = torch.Tensor | None  # of a recurrent layer, None before its first step
GROUP = 8  # channels of group norm
RECURRENT, LAST = "recurrent", "last"  # roles of a weight: of a state, and of a branch


def build_network(spec: TrainSpec, device: torch.device | str = "cpu") -> nn.Sequential:
    """The network of ``spec`` with its weights drawn, in channels_last on CPU and CUDA.

    Input: (B, C, H, W), (B, F) or (B, T, F); output: (B, classes), or (B, answers, classes).
    """
    if not isinstance(spec.data, Sequences):
        layers = _residual(spec) if spec.network == "residual" else _plain(spec)
    else:
        layers = _transformer(spec) if spec.network == "transformer" else _recurrent(spec)
    network = nn.Sequential(OrderedDict(layers))
    draw_weights_(network, spec)
    return to_device(network, torch.device(device))


# --- feed-forward -------------------------------------------------------------------------------------


def _plain(spec: TrainSpec) -> Layers:
    for layer in range(spec.depth):
        yield _name(spec, layer), _layer(spec, first=layer == 0)
        yield from _between(spec, layer, normed=layer > 0)
        yield from _pool(spec, layer)
    yield from _end(spec)


def _residual(spec: TrainSpec) -> Layers:
    yield _name(spec, 0), _layer(spec, first=True)
    for block in range(spec.blocks):
        first, second = 2 * block + 1, 2 * block + 2
        branch = OrderedDict(_between(spec, first, drops=False))
        branch[_name(spec, first)] = _layer(spec)
        branch.update(_between(spec, second))
        branch[_name(spec, second)] = _layer(spec, role=LAST)
        yield f"block{block + 1:02d}", Residual(branch)
        yield from _pool(spec, first)
        yield from _pool(spec, second)
    yield from _between(spec, spec.depth)
    yield from _end(spec)


class Residual(nn.Sequential):
    """x + branch(x)."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        made = input
        for layer in self:
            made = layer(made)
        return input + made


def _name(spec: TrainSpec, layer: int) -> str:
    return f"{'conv' if spec.data.takes == 'images' else 'linear'}{layer + 1:02d}"


def _layer(spec: TrainSpec, *, first: bool = False, role: str = "") -> nn.Module:
    inputs = spec.data.inputs if first else spec.filters
    if spec.data.takes == "images":
        layer = undrawn(nn.Conv2d, inputs, spec.filters, 3, padding=1)
        layer.role = role
        return cast(nn.Module, layer)
    return linear(inputs, spec.filters, role=role)


def _between(spec: TrainSpec, layer: int, *, normed: bool = True, drops: bool = True) -> Layers:
    number = f"{layer + 1:02d}"
    if normed and spec.norm != "none":
        yield f"norm{number}", _norm(spec)
    yield f"act{number}", _activation(spec)
    if drops and spec.dropout:
        yield f"drop{number}", nn.Dropout(spec.dropout)


def _pool(spec: TrainSpec, layer: int) -> Layers:
    size = spec.map_sizes[layer]
    if layer > 0 and layer % spec.pool_every == 0 and size > 1:
        yield f"pool{layer + 1:02d}", nn.MaxPool2d(2)


def _end(spec: TrainSpec) -> Layers:
    sizes = spec.filters * spec.head_size**2, spec.data.classes
    if spec.data.takes == "images" and not spec.is_classic:
        yield "flatten", nn.Flatten()
    yield "head", undrawn(FlattenLinear, *sizes) if spec.is_classic else linear(*sizes)


def _norm(spec: TrainSpec) -> nn.Module:
    width, images = spec.filters, spec.data.takes == "images"
    if spec.norm == "batch":
        return nn.BatchNorm2d(width) if images else nn.BatchNorm1d(width)
    if spec.norm == "group":
        return nn.GroupNorm(math.gcd(width, max(width // GROUP, 1)), width)
    return nn.GroupNorm(1, width) if images else nn.LayerNorm(width)


def _activation(spec: TrainSpec) -> nn.Module:
    """As torch has it, since theory's tape sees no operation of our own; the course report's faster.

    There the layer before never needs its output again, so that a rectifier without a learned slope may
    overwrite it.
    """
    activation = parse_activation(spec.activation)
    if spec.is_classic and activation.kind == "prelu":
        return SharedPReLU(activation.gain_slope)
    return activation.module(inplace=spec.is_classic)


def linear(
    inputs: int, outputs: int, *, parts: int = 1, role: str = "", bias: bool = True
) -> nn.Module:
    """A linear layer that is not drawn yet; of ``parts`` that lie one on another."""
    layer = undrawn(nn.Linear, inputs, outputs, bias=bias)
    layer.parts, layer.role = parts, role
    return cast(nn.Module, layer)


# --- sequences ----------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    """A recurrent layer from state 0, step by step: (B, T, inputs) → (B, T, width)."""

    def __init__(self, spec: TrainSpec) -> None:
        super().__init__()
        self.kind, gates, width = spec.network, spec.architecture.gates, spec.filters
        self.input = linear(spec.data.inputs, gates * width, parts=gates)
        self.hidden = linear(width, gates * width, parts=gates, role=RECURRENT, bias=False)
        self.act = _activation(spec)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        states: list[torch.Tensor] = []
        memory: State = None
        for drive in self.input(input).unbind(1):
            state, memory = getattr(self, self.kind)(drive, states[-1] if states else None, memory)
            states.append(state)
        return torch.stack(states, 1)

    def rnn(self, drive: torch.Tensor, state: State, memory: State) -> tuple[torch.Tensor, State]:
        return self.act(drive if state is None else drive + self.hidden(state)), None

    def lstm(self, drive: torch.Tensor, state: State, memory: State) -> tuple[torch.Tensor, State]:
        """Gates in torch's order: input, forget, cell, output."""
        gates = drive if state is None else drive + self.hidden(state)
        let_in, forget, new, let_out = gates.chunk(4, 1)
        written = let_in.sigmoid() * new.tanh()
        memory = written if memory is None else forget.sigmoid() * memory + written
        return let_out.sigmoid() * memory.tanh(), memory

    def gru(self, drive: torch.Tensor, state: State, memory: State) -> tuple[torch.Tensor, State]:
        """Gates in torch's order: reset, update, new."""
        reset, update, new = drive.chunk(3, 1)
        if state is None:
            return (1 - update.sigmoid()) * new.tanh(), None
        own = self.hidden(state).chunk(3, 1)
        kept = (update + own[1]).sigmoid()
        fresh = (new + (reset + own[0]).sigmoid() * own[2]).tanh()
        return (1 - kept) * fresh + kept * state, None


def _recurrent(spec: TrainSpec) -> Layers:
    yield "recurrent", Recurrent(spec)
    yield from _answer(spec)


def _transformer(spec: TrainSpec) -> Layers:
    width = spec.filters
    yield "embedding", linear(spec.data.inputs, width)
    yield "positions", Positions(width)
    for block in range(spec.depth):
        perceptron = {"up": linear(width, MLP * width), "act": _activation(spec)}
        perceptron["down"] = linear(MLP * width, width, role=LAST)
        for name, branch in (("attention", {"attention": Attention(width)}), ("mlp", perceptron)):
            parts = OrderedDict([*_layer_norm(spec), *branch.items(), *_dropout(spec)])
            yield f"{name}{block + 1:02d}", Residual(parts)
    yield from _layer_norm(spec)
    yield from _answer(spec)


def _layer_norm(spec: TrainSpec) -> Layers:
    if spec.norm != "none":
        yield "norm", nn.LayerNorm(spec.filters)


def _dropout(spec: TrainSpec) -> Layers:
    if spec.dropout:
        yield "drop", nn.Dropout(spec.dropout)


class Positions(nn.Module):
    """Adds sines and cosines of each step's number, of second moment 1 (Vaswani et al. 2017, §3.5)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.rates: torch.Tensor
        rates = torch.exp(-math.log(1e4) * torch.arange(0, width, 2) / width)
        self.register_buffer("rates", rates, persistent=False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        angles = torch.arange(input.shape[1], device=input.device)[:, None] * self.rates
        return input + math.sqrt(2) * torch.cat([angles.sin(), angles.cos()], 1)


class Attention(nn.Module):
    """Causal attention of ``HEADS`` heads (Vaswani et al. 2017)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = linear(width, 3 * width, parts=3)
        self.out = linear(width, width, role=LAST)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        packed = self.qkv(input).unflatten(2, (3, HEADS, -1)).transpose(1, 3)
        query, key, value = packed.unbind(2)
        seen = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        made: torch.Tensor = self.out(seen.transpose(1, 2).flatten(2))
        return made


class Last(nn.Module):
    """The last ``answers`` steps; of one alone, that step."""

    def __init__(self, answers: int) -> None:
        super().__init__()
        self.answers = answers

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input[:, -1] if self.answers == 1 else input[:, -self.answers :]


def _answer(spec: TrainSpec) -> Layers:
    assert isinstance(spec.data, Sequences)
    yield "last", Last(spec.data.answers or spec.length)
    if spec.architecture.gates:
        yield from _dropout(spec)
    yield "head", linear(spec.filters, spec.data.classes)


# --- drawing ------------------------------------------------------------------------------------------


def draw_weights_(network: nn.Module, spec: TrainSpec) -> None:
    """Draw every weight and bias by its layer's law, in module order.

    Where learning rates refer to another law, the first convolution's bias is multiplied by the same k
    as its weight: the network is then, but for scales that do not matter, the other law's.
    """
    stream, sequences = generator(spec.seed, "weights"), isinstance(spec.data, Sequences)
    kinds, modules = (nn.Conv2d, nn.Linear), network.named_modules()
    weighted: dict[str, Any] = {name: module for name, module in modules if isinstance(module, kinds)}
    for name, module in weighted.items():
        law = spec.head_law if name == "head" else spec.weight_law
        parts, role = getattr(module, "parts", 1), getattr(module, "role", "")
        if role == RECURRENT and spec.recurrent not in (None, IDENTITY):
            law = parse_initializer(str(spec.recurrent), spec.fan)
        law.draw_(module.weight, stream, negative_slope=spec.gain_slope, groups=parts)
        with torch.no_grad():
            if role == RECURRENT and spec.recurrent == IDENTITY:
                module.weight.copy_(torch.eye(spec.filters).repeat(parts, 1))
            if role == LAST:
                module.weight.mul_(spec.branch_factor)
            if module.bias is not None and sequences:
                module.bias.zero_()
            elif module.bias is not None:
                law.draw_bias_(module.bias, module.weight[0].numel(), stream)
            if spec.network == "lstm" and name == "recurrent.input":
                module.bias.chunk(parts)[1].fill_(spec.forget_bias)
            if name == FIRST:
                module.bias.mul_(scale_free_layers(spec).get(FIRST, 1.0))
