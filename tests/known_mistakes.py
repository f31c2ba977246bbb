"""Initialization mistakes that shipped, each as it shipped and as it was fixed, and what only looks so.

From torch and torchvision themselves where they have it; else the structure in small, rebuilt.
``where`` is the repository and number of the issue.  ``FOUND`` are those that the rules were written
for, ``UNSEEN`` those that were looked up later and tried before anything was tuned to them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from torch import nn


@dataclass(frozen=True)
class Case:
    """``codes`` must all be found, each with a module that begins with one of ``modules``."""

    where: str
    what: str
    broken: Callable[[], nn.Module]
    inputs: Callable[[], Any]
    codes: tuple[str, ...] = ()
    modules: tuple[str, ...] = ("",)
    fixed: Callable[[], nn.Module] | None = None


def images(count: int = 8, size: int = 32, channels: int = 3) -> Callable[[], torch.Tensor]:
    return lambda: torch.randn(count, channels, size, size)


def vectors(width: int, count: int = 64) -> Callable[[], torch.Tensor]:
    return lambda: torch.randn(count, width)


def sequences(steps: int, width: int, count: int = 4) -> Callable[[], torch.Tensor]:
    return lambda: torch.randn(count, steps, width)


def tokens(words: int, steps: int = 32, count: int = 4) -> Callable[[], torch.Tensor]:
    return lambda: torch.randint(words, (count, steps))


def missed(case: Case, result: Any) -> list[str]:
    """The codes of ``case`` that ``result`` does not name with a module that belongs to it."""

    def is_named(code: str) -> bool:
        return any(
            one.code == code and any(name.startswith(case.modules) for name in one.modules)
            for one in result.findings
        )

    return [code for code in case.codes if not is_named(code)]


# ------------------------------------------------------------------------------ structures


class Conv1D(nn.Module):
    """A dense layer whose weight is held as (in, out)."""

    def __init__(self, inputs: int, outputs: int, std: float = 0.02) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) * std)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight)
        return flat.view(*x.shape[:-1], -1)


class Block(nn.Module):
    """A pre-norm transformer block as GPT-2 has it; ``std_out`` of the projections into the stream."""

    def __init__(self, width: int, heads: int, std_out: float) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.c_proj = Conv1D(width, 3 * width), Conv1D(width, width, std_out)
        self.c_fc, self.mlp_proj = Conv1D(width, 4 * width), Conv1D(4 * width, width, std_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = (*x.shape[:-1], self.heads, -1)
        q, k, v = (part.view(shape).transpose(1, 2) for part in self.c_attn(self.ln_1(x)).chunk(3, -1))
        attended = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(attended.transpose(1, 2).reshape(x.shape))
        return x + self.mlp_proj(nn.functional.gelu(self.c_fc(self.ln_2(x))))


class GPT(nn.Module):
    """GPT-2: embeddings of std ``embedding``, tied with the head."""

    def __init__(
        self, layers=12, width=128, words=500, *, scaled: bool, embedding: float = 0.02
    ) -> None:
        super().__init__()
        std_out = 0.02 / math.sqrt(2 * layers) if scaled else 0.02
        self.wte, self.wpe = nn.Embedding(words, width), nn.Embedding(64, width)
        nn.init.normal_(self.wte.weight, std=embedding)
        nn.init.normal_(self.wpe.weight, std=0.02)
        self.h = nn.ModuleList(Block(width, 4, std_out) for _ in range(layers))
        self.ln_f, self.lm_head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


class LlamaBlock(nn.Module):
    """Attention and a SwiGLU as llama2.c has them, with the std of each matrix given by name."""

    def __init__(self, width: int, hidden: int, stds: dict[str, float]) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.RMSNorm(width), nn.RMSNorm(width)
        shapes = dict.fromkeys(("wq", "wk", "wv", "wo"), (width, width))
        shapes |= {"w1": (width, hidden), "w2": (hidden, width), "w3": (width, hidden)}
        for name, (inputs, outputs) in shapes.items():
            layer = nn.Linear(inputs, outputs, bias=False)
            nn.init.normal_(layer.weight, std=stds.get(name, 0.02))
            self.add_module(name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm_1(x)
        parts = (
            layer(y).unflatten(-1, (6, -1)).transpose(1, 2) for layer in (self.wq, self.wk, self.wv)
        )
        attended = nn.functional.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.wo(attended.transpose(1, 2).reshape(x.shape))
        y = self.norm_2(x)
        return x + self.w2(nn.functional.silu(self.w1(y)) * self.w3(y))


class Llama(nn.Module):
    def __init__(self, scaled: tuple[str, ...], layers: int = 6, width: int = 288) -> None:
        super().__init__()
        stds = dict.fromkeys(scaled, 0.02 / math.sqrt(2 * layers))
        self.embedding = nn.Embedding(1000, width)
        self.layers = nn.ModuleList(LlamaBlock(width, 768, stds) for _ in range(layers))
        self.norm, self.output = nn.RMSNorm(width), nn.Linear(width, 1000, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.output.weight = self.embedding.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x)
        return self.output(self.norm(x))


class Attending(nn.Module):
    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.attention(x, x, x)[0].mean(1))


class Recurrent(nn.Module):
    def __init__(self, width: int = 32, hidden: int = 64) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def mlp(
    depth: int, width: int = 128, activation: Callable[[], nn.Module] = nn.ReLU, out: int = 10
) -> nn.Sequential:
    hidden = [part for _ in range(depth) for part in (nn.Linear(width, width), activation())]
    return nn.Sequential(*hidden, nn.Linear(width, out))


def drawn(
    model: nn.Module, law: Callable[[torch.Tensor], Any], kinds: Any = (nn.Linear, nn.Conv2d)
) -> nn.Module:
    """``model`` with every weight of these kinds drawn by ``law`` and no bias."""
    for module in model.modules():
        if isinstance(module, kinds):
            law(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def he(weight: torch.Tensor) -> torch.Tensor:
    return nn.init.kaiming_normal_(weight, nonlinearity="relu")


def remembering(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.LSTM):
            for name, bias in module.named_parameters():
                if name.startswith("bias_hh"):
                    nn.init.ones_(bias.data.chunk(4)[1])
    return model


def part_by_part(
    model: nn.Module, law: Callable[[torch.Tensor], Any], parts: int, *names: str
) -> nn.Module:
    for name, parameter in model.named_parameters():
        if name.endswith(names):
            for part in parameter.data.chunk(parts):
                law(part)
    return model


def by_groups(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.weight[0, 0].numel() * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
    return model


def default_convolutions(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
    return model


def redrawn(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    return model


def without_norms(model: nn.Module) -> nn.Module:
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    return model


def densenet() -> nn.Module:
    return torchvision.models.DenseNet(12, (3, 3, 3), 24, num_classes=10)


def encoder(layers: int = 3) -> nn.Module:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), layers)


def vit() -> nn.Module:
    return torchvision.models.VisionTransformer(32, 8, 12, 4, 128, 512, num_classes=10)


# --------------------------------------------------------------------------------- the cases

FOUND = (
    Case(
        "huggingface/transformers #47458",
        "GPT-2: the projections into the stream are not divided by √(2L)",
        lambda: GPT(scaled=False),
        tokens(500),
        ("branch-scale", "residual-growth"),
        ("h.",),
        lambda: GPT(scaled=True),
    ),
    Case(
        "pytorch/pytorch #166378",
        "nn.MultiheadAttention: Xavier on the packed 3E×E matrix",
        Attending,
        sequences(16, 64),
        ("packed-fan",),
        ("attention",),
        lambda: part_by_part(Attending(), nn.init.xavier_uniform_, 3, "in_proj_weight"),
    ),
    Case(
        "pytorch/pytorch #86274",
        "nn.TransformerEncoder deep-copies its layer",
        encoder,
        sequences(16, 64),
        ("identical-weights",),
        ("layers.0", "layers.2"),
        lambda: redrawn(encoder()),
    ),
    Case(
        "pytorch/pytorch #23854, timm #84",
        "torchvision's MobileNetV2: fan_out of depthwise convolutions without the groups",
        lambda: torchvision.models.mobilenet_v2(num_classes=10),
        images(),
        ("grouped-fan",),
        ("features.",),
        lambda: by_groups(torchvision.models.mobilenet_v2(num_classes=10)),
    ),
    Case(
        "pytorch/vision #232",
        "DenseNet left at PyTorch's default; its norms hide it",
        lambda: default_convolutions(densenet()),
        images(),
        ("default-law",),
        ("features.",),
        densenet,
    ),
    Case(
        "pytorch/vision #232",
        "the same without norms",
        lambda: without_norms(default_convolutions(torchvision.models.vgg11_bn(num_classes=10))),
        images(),
        ("default-law", "vanishing-signal"),
        ("features.",),
        lambda: drawn(without_norms(torchvision.models.vgg11_bn(num_classes=10)), he),
    ),
    Case(
        "pytorch/pytorch #20102",
        "LSTM forget bias 0",
        Recurrent,
        sequences(28, 32),
        ("forget-bias",),
        ("lstm",),
        lambda: remembering(Recurrent()),
    ),
    Case(
        "vwxyzjn/cleanrl #358",
        "packed gates orthogonal as one matrix",
        lambda: part_by_part(remembering(Recurrent()), nn.init.orthogonal_, 1, "weight_hh_l0"),
        sequences(28, 32),
        ("packed-fan",),
        ("lstm",),
        lambda: part_by_part(remembering(Recurrent()), nn.init.orthogonal_, 4, "weight_hh_l0"),
    ),
    Case(
        "clab/dynet #348",
        "packed gates by Xavier as one matrix",
        lambda: part_by_part(
            remembering(Recurrent()), nn.init.xavier_uniform_, 1, "weight_ih_l0", "weight_hh_l0"
        ),
        sequences(28, 32),
        ("packed-fan",),
        ("lstm",),
        lambda: part_by_part(
            remembering(Recurrent()), nn.init.xavier_uniform_, 4, "weight_ih_l0", "weight_hh_l0"
        ),
    ),
    Case(
        "pytorch/pytorch #3121",
        "nn.Embedding N(0, 1), tied with the head",
        lambda: GPT(2, 256, 2000, scaled=True, embedding=1.0),
        tokens(2000),
        ("tied-scale", "first-loss"),
        ("wte", "lm_head"),
        lambda: GPT(2, 256, 2000, scaled=True),
    ),
    Case(
        "Coursera's symmetry exercise",
        "all weights of a layer equal",
        lambda: drawn(mlp(2, activation=nn.Tanh), lambda w: nn.init.constant_(w, 0.05)),
        vectors(128),
        ("identical-weights",),
        ("0", "2"),
        lambda: drawn(mlp(2, activation=nn.Tanh), nn.init.xavier_normal_),
    ),
    Case(
        "Coursera's symmetry exercise",
        "all weights zero",
        lambda: drawn(mlp(2), nn.init.zeros_),
        vectors(128),
        ("zero-weights",),
        ("0", "2"),
        lambda: drawn(mlp(2), he),
    ),
    Case(
        "PyTorch's default in a deep plain network",
        "U(±1/√fan_in) behind ReLU: a factor 1/6 per layer",
        lambda: mlp(20),
        vectors(128),
        ("default-law", "vanishing-signal"),
        ("",),
        lambda: drawn(mlp(20), he),
    ),
)

LOOKS_WRONG = (
    Case("pytorch/vision #5804", "ViT head zero", vit, images()),
    Case(
        "huggingface/pytorch-image-models #1718",
        "ConvNeXt: head as it is, blocks scaled by 1e-6",
        lambda: torchvision.models.convnext_tiny(num_classes=10),
        images(4, 64),
    ),
    Case(
        "torchvision's VGG",
        "fan_out by design",
        lambda: torchvision.models.vgg16(num_classes=10),
        images(4, 32),
    ),
    Case(
        "karpathy/llama2.c #579",
        "w3 scaled in the place of w2",
        lambda: Llama(("w3", "wo")),
        tokens(1000),
    ),
    Case(
        "torchvision's ResNet",
        "zero_init_residual",
        lambda: torchvision.models.resnet18(num_classes=10, zero_init_residual=True),
        images(),
    ),
)


# Looked up in public trackers after the rules were written.


class TwoZeros(nn.Module):
    """A gate of two layers in a row that both begin at zero, beside a skip."""

    def __init__(self, first_is_zero: bool = True) -> None:
        super().__init__()
        self.stem, self.gate_1 = nn.Linear(64, 64), nn.Linear(64, 64, bias=False)
        self.gate_2, self.head = nn.Linear(64, 64, bias=False), nn.Linear(64, 10)
        nn.init.zeros_(self.gate_2.weight)
        if first_is_zero:
            nn.init.zeros_(self.gate_1.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.head(x + torch.tanh(self.gate_2(torch.relu(self.gate_1(x)))) * x)


class Adapted(nn.Module):
    """A frozen layer with a low-rank one beside it, B zero; ``copies`` of one adapter or drawn anew."""

    def __init__(self, copies: bool, width: int = 64, layers: int = 3) -> None:
        super().__init__()
        self.base = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.lora_a = nn.ModuleList(nn.Linear(width, 8, bias=False) for _ in range(layers))
        self.lora_b = nn.ModuleList(nn.Linear(8, width, bias=False) for _ in range(layers))
        for index in range(layers):
            nn.init.zeros_(self.lora_b[index].weight)
            if copies:
                self.lora_a[index].load_state_dict(self.lora_a[0].state_dict())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for base, a, b in zip(self.base, self.lora_a, self.lora_b, strict=True):
            x = torch.relu(base(x) + b(a(x)))
        return x


def dncnn(depth: int = 12, eps: float = 1e-5) -> nn.Module:
    """Convolutions with batch norm; its second argument is ε, and not the size."""
    middle = [
        part
        for _ in range(depth)
        for part in (nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64, eps), nn.ReLU())
    ]
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), *middle, nn.Conv2d(64, 3, 3, padding=1)
    )


def decoder(transposed_mode: str) -> nn.Module:
    """Transposed convolutions that narrow, by He's law with what torch calls fan_in or fan_out."""
    widths = (512, 256, 128, 64, 32, 16)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layer = nn.ConvTranspose2d(before, after, 3, padding=1)
        nn.init.kaiming_normal_(layer.weight, mode=transposed_mode)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(16, 3, 1))


def grouped(wholly: bool) -> nn.Module:
    """Grouped convolutions without norms, U(±1/√fan_in) with the groups left out of fan_in or not."""
    model = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1),
        *(part for _ in range(3) for part in (nn.Conv2d(64, 64, 3, padding=1, groups=16), nn.ReLU())),
        nn.Flatten(),
        nn.Linear(64 * 64, 10),
    )
    for module in model:
        if isinstance(module, nn.Conv2d) and module.groups > 1 and wholly:
            bound = 1 / math.sqrt(64 * 9)
            nn.init.uniform_(module.weight, -bound, bound)
    return model


class Across(nn.Module):
    """x @ W with W as (in, out); He's law from torch takes its first dimension for fan_out."""

    def __init__(self, mode: str, widths: tuple[int, ...] = (1024, 512, 256, 128, 64, 32, 16)) -> None:
        super().__init__()
        shapes = itertools.pairwise(widths)
        self.layers = nn.ParameterList(torch.empty(shape) for shape in shapes)
        for layer in self.layers:
            nn.init.kaiming_normal_(layer, mode=mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.relu(x @ layer)
        return x


def spiked(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        model[2].weight[3, 5] = 1e3
    return model


def negative_biases(model: nn.Module, bias: float) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.out_features > 10:
            nn.init.constant_(module.bias, bias)
    return model


UNSEEN = (
    Case(
        "yz93/LAVT-RIS #25",
        "two layers in a row that begin at zero",
        TwoZeros,
        vectors(64),
        ("zero-weights",),
        ("gate",),
        lambda: drawn(TwoZeros(False), he),
    ),
    Case(
        "meta-pytorch/torchtune #2270",
        "LoRA adapters cloned: all A alike (B is zero on purpose)",
        lambda: Adapted(True),
        vectors(64),
        ("identical-weights",),
        ("lora_a",),
        lambda: Adapted(False),
    ),
    Case(
        "harvardnlp/annotated-transformer #9, fkodom/yet-another-retnet #27",
        "a decoder of deep-copied layers",
        lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(64, 4, 128, batch_first=True), 2),
        lambda: (torch.randn(4, 8, 64), torch.randn(4, 8, 64)),
        ("identical-weights",),
        ("layers.",),
        lambda: redrawn(
            nn.TransformerDecoder(nn.TransformerDecoderLayer(64, 4, 128, batch_first=True), 2)
        ),
    ),
    Case(
        "Culaccino-matpy/DnCNN #1",
        "BatchNorm2d's second argument taken for the size: ε = 64",
        lambda: dncnn(eps=64.0),
        images(4, 16),
        ("vanishing-signal",),
        ("",),
        dncnn,
    ),
    Case(
        "Lasagne/Lasagne #858, pytorch/pytorch #30079",
        "transposed convolutions drawn with fan_out for fan_in",
        lambda: decoder("fan_in"),
        lambda: torch.randn(4, 512, 8, 8),
        ("wrong-fan",),
        ("",),
        lambda: decoder("fan_out"),
    ),
    Case(
        "ml-explore/mlx #4536",
        "grouped convolutions: fan_in without the groups",
        lambda: grouped(True),
        images(8, 8),
        ("grouped-fan",),
        ("1", "3"),
        lambda: grouped(False),
    ),
    Case(
        "pytorch/pytorch #129834",
        "x @ W with W as (in, out), He's law with torch's fan_in",
        lambda: Across("fan_in"),
        vectors(1024),
        ("wrong-fan",),
        ("layers",),
        lambda: Across("fan_out"),
    ),
    Case(
        "sidkk86/weight_initialization, d2l: deep sigmoid networks",
        "Xavier before sigmoids",
        lambda: drawn(mlp(10, activation=nn.Sigmoid), nn.init.xavier_normal_),
        vectors(128),
        ("vanishing-signal", "vanishing-gradient"),
        ("",),
        lambda: drawn(mlp(10, activation=nn.Tanh), nn.init.xavier_normal_),
    ),
    Case(
        "N(0, 1) in a plain network",
        "weights of unit variance",
        lambda: drawn(mlp(5), nn.init.normal_),
        vectors(128),
        ("exploding-signal", "wrong-gain"),
        ("",),
        lambda: drawn(mlp(5), he),
    ),
    Case(
        "Xavier in a deep ReLU network (He et al. 2015, Fig. 3)",
        "gain 1 where √2 is asked for",
        lambda: drawn(mlp(30), nn.init.xavier_normal_),
        vectors(128),
        ("vanishing-signal", "wrong-gain"),
        ("",),
        lambda: drawn(mlp(30), he),
    ),
    Case(
        "a plain residual stack without norms (Zhang et al. 2019)",
        "branches of unit gain: the stream doubles with each",
        lambda: Plain(16, 1.0),
        vectors(64),
        ("residual-growth", "branch-scale"),
        ("branches",),
        lambda: Plain(16, 16**-0.5),
    ),
    Case(
        "dead units",
        "biases of −3",
        lambda: negative_biases(drawn(mlp(3), he), -3.0),
        vectors(128),
        ("dead-units",),
        ("",),
        lambda: drawn(mlp(3), he),
    ),
    Case(
        "outliers",
        "one weight of a thousand",
        lambda: spiked(drawn(mlp(2), he)),
        vectors(128),
        ("outliers",),
        ("2",),
        lambda: drawn(mlp(2), he),
    ),
)


class Plain(nn.Module):
    """x + scale·W₂ relu(W₁ x), He's law."""

    def __init__(self, count: int, scale: float, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Linear(width, width)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(count)
        )
        self.head = nn.Linear(width, 10)
        drawn(self, he)
        for branch in self.branches:
            branch[2].weight.data.mul_(scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for branch in self.branches:
            x = x + branch(x)
        return self.head(x)


# Choices from the literature that a rule of thumb would call wrong.


class Residual(nn.Module):
    """x + gate·branch(x): ReZero has gates of 0, Fixup none, and zeros at the end of each branch."""

    def __init__(self, gated: bool, count: int = 16, width: int = 64) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(width, width), nn.Linear(width, 10)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(count)
        )
        self.gates = nn.ParameterList(torch.zeros(1) for _ in range(count)) if gated else [1.0] * count
        drawn(self.branches, he)
        for branch in self.branches if not gated else ():
            branch[0].weight.data.mul_(count**-0.5)
            nn.init.zeros_(branch[2].weight)
        if not gated:
            nn.init.zeros_(self.head.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for gate, branch in zip(self.gates, self.branches, strict=True):
            x = x + gate * branch(x)
        return self.head(x)


class Modulated(nn.Module):
    """Zeros behind zeros as in DiT: gates from a zero layer, and a zero head in front of them."""

    def __init__(self, layers: int = 4, width: int = 64) -> None:
        super().__init__()
        self.stem, self.condition = nn.Linear(16, width), nn.Linear(8, width)
        self.modulation = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(layers))
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            for _ in range(layers)
        )
        self.norm, self.head = nn.LayerNorm(width, elementwise_affine=False), nn.Linear(width, 16)
        redrawn(self)
        drawn(nn.ModuleList([*self.modulation, self.head]), nn.init.zeros_)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        x, condition = self.stem(x), nn.functional.silu(self.condition(condition))
        for modulation, branch in zip(self.modulation, self.branches, strict=True):
            shift, scale, gate = modulation(condition).chunk(3, -1)
            x = x + gate * branch(self.norm(x) * (1 + scale) + shift)
        return self.head(self.norm(x))


class Teacher(nn.Module):
    """A network and its frozen copy, both run, as in BYOL."""

    def __init__(self) -> None:
        super().__init__()
        self.online = mlp(2)
        self.target = mlp(2).requires_grad_(False)
        self.target.load_state_dict(self.online.state_dict())

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.online(x), self.target(x)


def generator_of_images() -> nn.Module:
    """DCGAN's: transposed convolutions of N(0, 0.02), batch norm behind each but the last."""
    widths = (100, 128, 64, 32)
    layers = [
        part
        for before, after in itertools.pairwise(widths)
        for part in (nn.ConvTranspose2d(before, after, 4, 2, 1), nn.BatchNorm2d(after), nn.ReLU())
    ]
    model = nn.Sequential(*layers, nn.ConvTranspose2d(32, 3, 4, 2, 1), nn.Tanh())
    return drawn(model, lambda w: nn.init.normal_(w, std=0.02), nn.ConvTranspose2d)


def lecun(weight: torch.Tensor) -> torch.Tensor:
    return nn.init.kaiming_normal_(weight, nonlinearity="linear")


CHOICES = (
    Case("ReZero (Bachlechner 2020)", "gates of zero", lambda: Residual(True), vectors(64)),
    Case("Fixup (Zhang 2019)", "zero ends of branches and head", lambda: Residual(False), vectors(64)),
    Case(
        "DiT (Peebles 2022)",
        "zeros behind zeros",
        Modulated,
        lambda: (torch.randn(8, 16), torch.randn(8, 8)),
    ),
    Case("BYOL (Grill 2020)", "a frozen copy", Teacher, vectors(128)),
    Case("DCGAN (Radford 2015)", "N(0, 0.02)", generator_of_images, images(8, 4, 100)),
    Case(
        "SELU (Klambauer 2017)",
        "LeCun's law",
        lambda: drawn(mlp(30, activation=nn.SELU), lecun),
        vectors(128),
    ),
    Case(
        "Glorot 2010",
        "Xavier before tanh, 20 layers",
        lambda: drawn(mlp(20, activation=nn.Tanh), nn.init.xavier_normal_),
        vectors(128),
    ),
    Case("a shallow network", "PyTorch's default, 3 layers", lambda: mlp(3), vectors(128)),
)
