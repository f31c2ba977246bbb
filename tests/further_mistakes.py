"""More mistakes that shipped, and more that only look so: looked up and run before any rule saw them.

Each is the structure in small, rebuilt from what the issue says; ``where`` is repository and number.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from known_mistakes import (
    GPT,
    Case,
    Recurrent,
    drawn,
    he,
    images,
    lecun,
    mlp,
    remembering,
    sequences,
    tokens,
    vectors,
)
from torch import nn
from torch.nn import functional as F


def biased(model: nn.Module, std: float) -> nn.Module:
    """All biases of the LSTM from N(0, std²)."""
    for name, parameter in model.named_parameters():
        if "bias_" in name:
            nn.init.normal_(parameter, std=std)
    return model


class Pooled(nn.Module):
    """Nielsen's network3: convolutions, pools, wide sigmoid layers of std 1/√n_out or 1/√n_in."""

    def __init__(self, fan: str) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 20, 5), nn.Linear(20 * 12 * 12, 100)
        self.out = nn.Linear(100, 10)
        for layer in (self.conv, self.out):
            nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
        nn.init.normal_(self.fc.weight, std=(100 if fan == "out" else 20 * 12 * 12) ** -0.5)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(torch.sigmoid(self.conv(x)), 2).flatten(1)
        return self.out(torch.sigmoid(self.fc(x)))


class Encoder(nn.Module):
    """BERT's layers, post-norm, as copies of one layer or each by itself."""

    def __init__(self, copies: bool, layers: int = 3, width: int = 64) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(100, width)
        first = self.layer(width)
        self.layers = nn.ModuleList(
            copy.deepcopy(first) if copies else self.layer(width) for _ in range(layers)
        )
        self.classifier = nn.Linear(width, 2)
        self.apply(self.init_bert_weights) if not copies else None

    @staticmethod
    def layer(width: int) -> nn.ModuleDict:
        names = ("query", "key", "value", "output")
        layer = nn.ModuleDict({name: nn.Linear(width, width) for name in names})
        layer["up"], layer["down"] = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        layer["norm_1"], layer["norm_2"] = nn.LayerNorm(width), nn.LayerNorm(width)
        return layer

    @staticmethod
    def init_bert_weights(module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embeddings(ids)
        for one in self.layers:
            parts = (
                one[name](x).unflatten(-1, (4, -1)).transpose(1, 2)
                for name in ("query", "key", "value")
            )
            y = F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
            x = one["norm_1"](x + one["output"](y))
            x = one["norm_2"](x + one["down"](F.gelu(one["up"](x))))
        return self.classifier(x[:, 0])


class GroupedConv(nn.Module):
    """A convolution written with F.conv2d, its weight drawn in ``reset`` from U(±1/√n)."""

    def __init__(self, channels: int, groups: int, forgets_groups: bool) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(channels, channels // groups, 3, 3))
        bound = (9 * (channels if forgets_groups else channels // groups)) ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self.weight, padding=1, groups=self.groups)


def deformable(forgets_groups: bool) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), GroupedConv(64, 16, forgets_groups), nn.ReLU(),
        GroupedConv(64, 16, forgets_groups), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(64, 10),
    )  # fmt: skip


def separable(forgets_groups: bool) -> nn.Module:
    """tfjs: LeCun uniform of depthwise kernels with fan_in of k²·C."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3)]
    for _ in range(3):
        depthwise = nn.Conv2d(64, 64, 3, groups=64, bias=False)
        bound = math.sqrt(3 / (9 * (64 if forgets_groups else 1)))
        nn.init.uniform_(depthwise.weight, -bound, bound)
        pointwise = nn.Conv2d(64, 64, 1)
        he(pointwise.weight)
        layers += [depthwise, pointwise, nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(10))


def built(model: nn.Module, x: torch.Tensor) -> nn.Module:
    model(x)
    return model


class Summarizer(nn.Module):
    """T5: no scale in attention, RMS norms, an untied head of N(0, 1) or N(0, 1/width)."""

    def __init__(self, head: float, width: int = 128, words: int = 400) -> None:
        super().__init__()
        self.shared, self.norm = nn.Embedding(words, width), nn.RMSNorm(width)
        self.up, self.down = (
            nn.Linear(width, 4 * width, bias=False),
            nn.Linear(4 * width, width, bias=False),
        )
        self.lm_head = nn.Linear(width, words, bias=False)
        nn.init.normal_(self.up.weight, std=width**-0.5)
        nn.init.normal_(self.down.weight, std=(4 * width) ** -0.5)
        nn.init.normal_(self.lm_head.weight, std=head)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.shared(ids)
        x = x + self.down(torch.relu(self.up(self.norm(x))))
        return self.lm_head(self.norm(x))


class Clvp(nn.Module):
    """Attention with its own names and an MLP whose c_proj was meant to be divided by √(2L)."""

    def __init__(self, scaled: bool, layers: int = 12, width: int = 96) -> None:
        super().__init__()
        std = 0.02 / math.sqrt(2 * layers) if scaled else 0.02
        self.embed = nn.Embedding(200, width)
        self.decoder = nn.ModuleList()
        for _ in range(layers):
            layer = nn.ModuleDict(
                {
                    "input_layernorm": nn.LayerNorm(width),
                    "c_fc": nn.Linear(width, 4 * width),
                    "c_proj": nn.Linear(4 * width, width),
                }
            )
            nn.init.normal_(layer["c_fc"].weight, std=0.02)
            nn.init.normal_(layer["c_proj"].weight, std=std)
            self.decoder.append(layer)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 200, bias=False)
        for layer in (self.embed, self.head):
            nn.init.normal_(layer.weight, std=0.02)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        for layer in self.decoder:
            x = x + layer["c_proj"](F.gelu(layer["c_fc"](layer["input_layernorm"](x))))
        return self.head(self.norm(x))


class Lora(nn.Module):
    """A frozen projection with x·A·B beside it; what is zero is given by name."""

    def __init__(self, zeros: str, width: int = 64, layers: int = 2) -> None:
        super().__init__()
        self.frozen = nn.ModuleList(nn.Linear(width, width) for _ in range(layers)).requires_grad_(
            False
        )
        self.lora_A = nn.ParameterList(torch.randn(width, 4) * 4**-0.5 for _ in range(layers))
        self.lora_B = nn.ParameterList(torch.randn(4, width) * 4**-0.5 for _ in range(layers))
        for name in zeros:
            for parameter in getattr(self, f"lora_{name}"):
                nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for base, a, b in zip(self.frozen, self.lora_A, self.lora_B, strict=True):
            x = torch.tanh(base(x) + x @ a @ b)
        return x


class Adapter(nn.Module):
    """LoRA as modules: init_weights of the whole model came after the adapters and zeroed both."""

    def __init__(self, both: bool, width: int = 64) -> None:
        super().__init__()
        self.q_proj, self.v_proj = nn.Linear(width, width), nn.Linear(width, width)
        for name in ("q", "v"):
            down, up = nn.Linear(width, 8, bias=False), nn.Linear(8, width, bias=False)
            nn.init.zeros_(up.weight)
            if both:
                nn.init.zeros_(down.weight)
            self.add_module(f"{name}_lora_A", down)
            self.add_module(f"{name}_lora_B", up)
        self.requires_grad_(False)
        for name, parameter in self.named_parameters():
            parameter.requires_grad_("lora" in name)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = self.q_proj(x) + self.q_lora_B(self.q_lora_A(x))
        v = self.v_proj(x) + self.v_lora_B(self.v_lora_A(x))
        return F.scaled_dot_product_attention(q, q, v)


class Towers(nn.Module):
    """FCOS' head: towers of convolutions, one of which is never called."""

    def __init__(self, calls_all: bool, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.cls_tower, self.bbox_tower = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.cls_logits, self.mask_pred = (
            nn.Conv2d(width, 5, 3, padding=1),
            nn.Conv2d(width, 4, 3, padding=1),
        )
        self.calls_all = calls_all
        drawn(self, he)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = torch.relu(self.stem(x))
        first = self.cls_logits(torch.relu(self.cls_tower(x)))
        if not self.calls_all:
            return (first,)
        return first, self.mask_pred(torch.relu(self.bbox_tower(x)))


class Toy(nn.Module):
    """pytorch's toy model: a whole layer that takes no part."""

    def __init__(self, uses_both: bool) -> None:
        super().__init__()
        self.net1, self.net2 = nn.Linear(10, 10, bias=False), nn.Linear(10, 5)
        self.uses_both = uses_both

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net2(torch.relu(self.net1(x)) if self.uses_both else x)


def upsampler(taken_for: str) -> nn.Module:
    """Transposed convolutions by He's law whose fans were read from the wrong axis."""
    widths = (256, 128, 64, 32)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layer = nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)
        size = (after if taken_for == "out" else before) * 16
        nn.init.normal_(layer.weight, std=math.sqrt(2 / size))
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.LeakyReLU(0.01)]
    return nn.Sequential(*layers, nn.Conv2d(32, 3, 3, padding=1))


def kernel_less(forgets: bool, depth: int = 6) -> nn.Module:
    """fan_out counted as the number of filters, without the window (He's law)."""
    layers: list[nn.Module] = []
    for before in (3, *[64] * (depth - 1)):
        layer = nn.Conv2d(before, 64, 3, padding=1)
        nn.init.normal_(layer.weight, std=math.sqrt(2 / (64 if forgets else before * 9)))
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


class Routed(nn.Module):
    """Deep cross attention: routing weights from a zero matrix through a ReLU, beside the skip."""

    def __init__(self, std: float, width: int = 64) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(width, width), nn.Linear(width, 10)
        self.norm, self.aggregate = nn.RMSNorm(width), nn.Linear(width, 2, bias=False)
        nn.init.normal_(self.aggregate.weight, std=std) if std else nn.init.zeros_(
            self.aggregate.weight
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = torch.tanh(self.inner(x))
        weight = torch.relu(self.aggregate(self.norm(x)))
        return self.head(x + weight[:, :1] * x + weight[:, 1:] * made)


def one_instance(
    model: nn.Module, kinds: Any, law: Callable[[torch.Tensor], Any], reuse: bool
) -> nn.Module:
    """Every layer by one initializer object, which draws the same numbers at every call, or anew."""
    for module in model.modules():
        if isinstance(module, kinds):
            with torch.random.fork_rng([], enabled=reuse):
                if reuse:
                    torch.manual_seed(1337)
                law(module.weight)
    return model


class FeedForward(nn.Module):
    """Leela's encoder layers: two dense layers, DeepNorm's sum, layer norm behind it."""

    def __init__(self, layers: int = 3, width: int = 64) -> None:
        super().__init__()
        self.ffn1 = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.ffn2 = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.ln, self.policy = (
            nn.ModuleList(nn.LayerNorm(width) for _ in range(layers)),
            nn.Linear(width, 30),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for one, two, norm in zip(self.ffn1, self.ffn2, self.ln, strict=True):
            x = norm(x + two(torch.relu(one(x))))
        return self.policy(x)


def matching(batch_norm: bool, called: bool) -> nn.Module:
    """DeepPruner: the call to weight_init was erased; batch norm hides it."""
    layers: list[nn.Module] = []
    for before in (3, 32, 32, 32, 32):
        layers += [nn.Conv2d(before, 32, 3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(32), nn.ReLU()] if batch_norm else [nn.ReLU()]
    model = nn.Sequential(*layers, nn.Conv2d(32, 1, 3, padding=1))
    return drawn(model, he) if called else model


class Dark(nn.Module):
    """Learning to see in the dark: a U-Net with leaky ReLU, no norm, its init function never called."""

    def __init__(self, called: bool, widths: tuple[int, ...] = (16, 32, 64, 96)) -> None:
        super().__init__()
        self.down, self.up, before = nn.ModuleList(), nn.ModuleList(), 4
        for width in widths:
            self.down.append(
                nn.ModuleList(
                    [nn.Conv2d(before, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)]
                )
            )
            before = width
        for width in widths[-2::-1]:
            pair = [nn.Conv2d(2 * width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)]
            self.up.append(nn.ModuleList([nn.ConvTranspose2d(before, width, 2, stride=2), *pair]))
            before = width
        self.conv10 = nn.Conv2d(before, 12, 1)
        if called:
            drawn(self, he, (nn.Conv2d,))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for level, (first, second) in enumerate(self.down):
            x = F.leaky_relu(second(F.leaky_relu(first(F.max_pool2d(x, 2) if level else x), 0.2)), 0.2)
            skips.append(x)
        for (wider, first, second), skip in zip(self.up, skips[-2::-1], strict=True):
            x = torch.cat([wider(x), skip], 1)
            x = F.leaky_relu(second(F.leaky_relu(first(x), 0.2)), 0.2)
        return self.conv10(x)


def truncated(corrected: bool, depth: int = 60) -> nn.Module:
    """He's law cut at ±2σ without the correction of 1/.8796: a factor .774 per layer."""
    factor = 1 / 0.87962566 if corrected else 1.0

    def law(weight: torch.Tensor) -> None:
        std = math.sqrt(2 / weight.shape[1]) * factor
        nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)

    return drawn(mlp(depth, 256), law)


class Graph(nn.Module):
    """GAT: parameters from torch.Tensor(…), never drawn: whatever the memory held."""

    def __init__(self, drawn_anew: bool, width: int = 32) -> None:
        super().__init__()
        self.proj, self.out = nn.Parameter(torch.zeros(width, width)), nn.Linear(width, 7)
        with torch.no_grad():
            self.proj.view(-1)[::7], self.proj.view(-1)[3::11] = -1.69e31, 4.59e-41
        if drawn_anew:
            nn.init.xavier_uniform_(self.proj)

    def forward(self, x: torch.Tensor, adjacency: torch.Tensor) -> torch.Tensor:
        return self.out(F.elu(adjacency @ (x @ self.proj)))


class Einsum(nn.Module):
    """q, k and v from one tensor (parts, heads, width, per head), drawn for a fan_in of one head."""

    def __init__(self, std: float, width: int = 128, heads: int = 8, layers: int = 4) -> None:
        super().__init__()
        shape = (3, heads, width, width // heads)
        self.attention_kvq = nn.ParameterList(torch.randn(shape) * std for _ in range(layers))
        self.proj = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 50)
        for layer in self.proj:
            nn.init.normal_(layer.weight, std=width**-0.5 * layers**-0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for packed, out in zip(self.attention_kvq, self.proj, strict=True):
            k, v, q = torch.einsum("btd,shdk->sbhtk", self.norm(x), packed)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + out(y.transpose(1, 2).flatten(2))
        return self.head(self.norm(x))


FURTHER = (
    Case(
        "mnielsen/neural-networks-and-deep-learning #30",
        "1/√n_out where 1/√n_in is meant",
        lambda: Pooled("out"),
        images(8, 28, 1),
        ("wrong-fan",),
        ("fc",),
        lambda: Pooled("in"),
    ),
    Case(
        "LBANN/lbann #316",
        "He's law was LeCun's",
        lambda: drawn(mlp(40), lecun),
        vectors(128),
        ("vanishing-signal", "wrong-gain"),
        ("",),
        lambda: drawn(mlp(40), he),
    ),
    Case(
        "huggingface/transformers #742",
        "BERT: all layers are copies of one",
        lambda: Encoder(True),
        tokens(100),
        ("identical-weights",),
        ("layers.",),
        lambda: Encoder(False),
    ),
    Case(
        "open-mmlab/mmdetection #5622",
        "1/√n with n of all groups, F.conv2d",
        lambda: deformable(True),
        images(8, 16),
        ("grouped-fan",),
        ("2", "4"),
        lambda: deformable(False),
    ),
    Case(
        "tensorflow/tfjs #8568",
        "depthwise LeCun uniform with the channels in fan_in",
        lambda: built(separable(True), torch.randn(2, 3, 16, 16)),
        images(8, 16),
        ("grouped-fan",),
        ("1", "4"),
        lambda: built(separable(False), torch.randn(2, 3, 16, 16)),
    ),
    Case(
        "huggingface/transformers #26441",
        "T5: a head of N(0, 1)",
        lambda: Summarizer(1.0),
        tokens(400),
        ("first-loss",),
        ("lm_head",),
        lambda: Summarizer(128**-0.5),
    ),
    Case(
        "huggingface/transformers #47478",
        "CLVP: c_proj is not divided by √(2L)",
        lambda: Clvp(False),
        tokens(200),
        ("branch-scale",),
        ("decoder.",),
        lambda: Clvp(True),
    ),
    Case(
        "circle-hit/SAPT #11, Guitaricet/relora #18",
        "LoRA: A and B zero, x @ A @ B",
        lambda: Lora("AB"),
        vectors(64),
        ("zero-weights",),
        ("lora_",),
        lambda: Lora(""),
    ),
    Case(
        "nvidia-cosmos/cosmos-predict2.5 #15",
        "LoRA: A zeroed by a later init_weights",
        lambda: Adapter(True),
        sequences(8, 64),
        ("zero-weights",),
        ("q_lora", "v_lora"),
        None,
    ),
    Case(
        "tianzhi0549/FCOS #217",
        "a convolution that is never called",
        lambda: Towers(False),
        images(4, 16),
        ("unused",),
        ("bbox_tower", "mask_pred"),
        lambda: Towers(True),
    ),
    Case(
        "pytorch/pytorch #41324",
        "a layer that takes no part",
        lambda: Toy(False),
        vectors(10),
        ("unused",),
        ("net1",),
        lambda: Toy(True),
    ),
    Case(
        "tensorflow/tensorflow #31192",
        "Conv2DTranspose: fan from the wrong axis",
        lambda: upsampler("out"),
        lambda: torch.randn(4, 256, 4, 4),
        ("wrong-fan",),
        ("",),
        lambda: upsampler("in"),
    ),
    Case(
        "keras-team/keras #2252",
        "fan_out without the window",
        lambda: kernel_less(True),
        images(4, 16),
        ("wrong-fan", "first-loss"),
        ("",),
        lambda: kernel_less(False),
    ),
    Case(
        "lucidrains/deep-cross-attention #2",
        "zero weights before a ReLU",
        lambda: Routed(0.0),
        vectors(64),
        ("zero-weights",),
        ("aggregate",),
        lambda: Routed(0.02),
    ),
    Case(
        "LeelaChessZero/lczero-training #218",
        "one initializer object for all layers",
        lambda: one_instance(FeedForward(), nn.Linear, nn.init.xavier_normal_, True),
        vectors(64),
        ("identical-weights",),
        ("ffn",),
        lambda: one_instance(FeedForward(), nn.Linear, nn.init.xavier_normal_, False),
    ),
    Case(
        "keras-team/keras-hub #352",
        "one initializer object: q, k, v and output alike",
        lambda: one_instance(Encoder(False), nn.Linear, nn.init.xavier_uniform_, True),
        tokens(100),
        ("identical-weights",),
        ("layers.",),
        lambda: Encoder(False),
    ),
    Case(
        "deel-ai/deel-lip #64",
        "one orthogonal initializer for all layers",
        lambda: one_instance(mlp(3, 64), nn.Linear, nn.init.orthogonal_, True),
        vectors(64),
        ("identical-weights",),
        ("0", "2"),
        lambda: one_instance(mlp(3, 64), nn.Linear, nn.init.orthogonal_, False),
    ),
    Case(
        "uber-research/DeepPruner #6",
        "weight_init no longer called; batch norm hides it",
        lambda: matching(True, False),
        images(4, 16),
        ("default-law",),
        ("",),
        lambda: matching(True, True),
    ),
    Case(
        "lavi135246/pytorch-Learning-to-See-in-the-Dark #17",
        "init function never called, no norm",
        lambda: Dark(False),
        images(2, 32, 4),
        ("default-law",),
        ("",),
        lambda: Dark(True),
    ),
    Case(
        "keras-team/keras #8048",
        "He's law truncated without the correction, 60 layers",
        lambda: truncated(False),
        vectors(256),
        ("vanishing-signal", "wrong-gain"),
        ("",),
        lambda: truncated(True),
    ),
    Case(
        "pytorch/pytorch #750, craffel/nntools #19",
        "forget bias from N(0, .1)",
        lambda: biased(Recurrent(), 0.1),
        sequences(28, 32),
        ("forget-bias",),
        ("lstm",),
        lambda: remembering(Recurrent()),
    ),
    Case(
        "gordicaleksa/pytorch-GAT #11",
        "a tensor that was never drawn",
        lambda: Graph(False),
        lambda: (torch.randn(12, 32), torch.eye(12)),
        ("exploding-signal",),
        ("",),
        lambda: Graph(True),
    ),
    Case(
        "clankur/einygpt #3",
        "1/√d_head where 1/√d is meant",
        lambda: Einsum(16**-0.5),
        sequences(16, 128),
        ("wrong-gain",),
        ("attention",),
        lambda: Einsum(128**-0.5),
    ),
)


class Aggregated(nn.Module):
    """RandWireNN: a node adds its inputs with weights σ(w), all w = 1."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(3, width, 3, padding=1)
        self.mean_weight, self.bn = nn.Parameter(torch.ones(2)), nn.BatchNorm2d(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = torch.sigmoid(self.mean_weight)
        return self.head(torch.relu(self.bn(self.one(x) * first + self.two(x) * second)).mean((2, 3)))


class Siren(nn.Module):
    """sin(30·(Wx + b)), U(±√(6/n)/30), the first U(±1/n)."""

    def __init__(self, layers: int = 4, width: int = 128) -> None:
        super().__init__()
        sizes = [2, *[width] * layers]
        self.net = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.out = nn.Linear(width, 3)
        for index, layer in enumerate((*self.net, self.out)):
            n = layer.in_features
            bound = 1 / n if index == 0 else math.sqrt(6 / n) / 30
            nn.init.uniform_(layer.weight, -bound, bound)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.net:
            x = torch.sin(30 * layer(x))
        return self.out(x)


class Unet(nn.Module):
    """Blocks h + zero(conv(silu(norm(h)))), a zero output convolution."""

    def __init__(self, count: int = 4, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1),
                          nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1))
            for _ in range(count)
        )  # fmt: skip
        self.out = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, 3, 3, padding=1))
        for layer in (*(block[5] for block in self.blocks), self.out[2]):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.out(x)


class Controlled(Unet):
    """Zero convolutions behind blocks that end in zero: the skip goes around the first zero."""

    def __init__(self) -> None:
        super().__init__()
        self.zero_convs = nn.ModuleList(nn.Conv2d(32, 3, 1) for _ in self.blocks)
        for layer in self.zero_convs:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        given, x = x, self.stem(x)
        for block, zero in zip(self.blocks, self.zero_convs, strict=True):
            x = x + block(x)
            given = given + zero(x)
        return given


class Momentum(nn.Module):
    """MoCo: the key encoder begins as a copy of the query encoder and is not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder_q = mlp(2, 64, out=32)
        self.encoder_k = copy.deepcopy(self.encoder_q).requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k = F.normalize(self.encoder_q(x), dim=1), F.normalize(self.encoder_k(x), dim=1)
        return q @ k.mT / 0.07


class Reordered(nn.Module):
    """OLMo 2: x + norm(branch(x)), N(0, .02): the stream grows by 1 with each branch."""

    def __init__(self, layers: int = 6, width: int = 64) -> None:
        super().__init__()
        self.wte, self.ln_f = nn.Embedding(100, width), nn.RMSNorm(width)
        self.up = nn.ModuleList(nn.Linear(width, 4 * width, bias=False) for _ in range(layers))
        self.down = nn.ModuleList(nn.Linear(4 * width, width, bias=False) for _ in range(layers))
        self.norm, self.head = (
            nn.ModuleList(nn.RMSNorm(width) for _ in range(layers)),
            nn.Linear(width, 100),
        )
        for layer in (*self.up, *self.down, self.head):
            nn.init.normal_(layer.weight, std=0.02)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.wte(ids)
        for up, down, norm in zip(self.up, self.down, self.norm, strict=True):
            x = x + norm(down(F.silu(up(x))))
        return self.head(self.ln_f(x))


def zero_linear() -> nn.Module:
    model = nn.Linear(128, 88, bias=False)
    nn.init.zeros_(model.weight)
    return model


def flow() -> nn.Module:
    """FlowNet's encoder: fan_out in every convolution, leaky ReLU, batch norm."""
    layers: list[nn.Module] = []
    for before, after in ((6, 32), (32, 64), (64, 64), (64, 64)):
        conv = nn.Conv2d(before, after, 3, padding=1, stride=2, bias=False)
        nn.init.normal_(conv.weight, std=math.sqrt(2 / (9 * after)))
        layers += [conv, nn.BatchNorm2d(after), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers, nn.Conv2d(64, 2, 3, padding=1))


ALSO_FINE = (
    Case("microsoft/LoRA #98", "A zero and B drawn", lambda: Lora("A"), vectors(64)),
    Case("jthickstun/pytorch_musicnet #4", "a linear model of zeros", zero_linear, vectors(128)),
    Case(
        "atong01/conditional-flow-matching #134",
        "a U-Net whose output begins at zero",
        Unet,
        images(4, 16),
    ),
    Case(
        "lllyasviel/ControlNet #510",
        "zero convolutions behind zero convolutions",
        Controlled,
        images(4, 16),
    ),
    Case("peisuke/MomentumContrast.pytorch #4", "two encoders that begin alike", Momentum, vectors(64)),
    Case("vsitzmann/siren #17", "U(±√(6/n)/30) before sin(30·)", Siren, vectors(2, 256)),
    Case("allenai/OLMo #797", "a stream that grows by 1 per branch", Reordered, tokens(100)),
    Case("ClementPinard/FlowNetPytorch #19", "fan_out where Caffe has fan_in", flow, images(4, 32, 6)),
    Case(
        "karpathy/build-nanogpt #18",
        "position embeddings of .02 where .01 was",
        lambda: GPT(scaled=True),
        tokens(500),
    ),
    Case("JiaminRen/RandWireNN #8", "aggregation weights that are all 1", Aggregated, images(8, 16)),
)
