"""He et al. (2015) on initialization, statement by statement: published, computed here, agree?

Every quantitative statement about initialization in the paper, and those of the papers around it
that this project rests on.  Nothing is typed in as computed: each number comes from the module that
the rest of the program uses, or from torch itself where the statement is about torch.

A statement with a source in the literature (or in torch) is *published*.  The others are this project's
own values, as written down in its notes: that they agree says that two ways of computing them do, and
they are counted apart.

A number *agrees* when it rounds to the published one at the published number of digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from theory.activations import parse_activation
from theory.initializers import TRUNCATED_VARIANCE, he_gain, parse_initializer
from theory.law import finite_width, mean_field, quadrature
from theory.law.jacobian import spectral_moments
from theory.randomness import generator

COLUMNS = {
    "topic": "which part of the theory",
    "statement": "what is said",
    "source": "where it is said: paper, section or equation; project: derived in this project's notes",
    "is_published": "whether the source is one outside of this project",
    "published": "the number or word as it is printed, by the source or in this project's notes",
    "computed": "the same from this project's functions; a number, or a word",
    "agree": "whether computed rounds to published at its printed number of digits",
}

# VGG's 13-layer model B (Simonyan & Zisserman 2015, Table 1): ten 3×3 convolutions by filters.
VGG_B_FILTERS = (64, 64, 128, 128, 256, 256, 512, 512, 512, 512)
# He et al.'s 14-layer model (Table 1): every layer with its number of outputs.
FOURTEEN_LAYERS = (
    ("conv1", 64),
    *((f"conv2_{i}", 128) for i in range(1, 5)),
    *((f"conv3_{i}", 256) for i in range(1, 7)),
    ("fc1", 4096),
    ("fc2", 4096),
    ("fc3", 1000),
)
KERNEL = 9  # 3×3
# The slopes that this model learned: layer, one shared by all channels, mean over one per channel.
LEARNED_SLOPES = (  # He et al. 2015, Table 1
    ("conv1", 0.681, 0.596),
    ("conv2_1", 0.103, 0.321),
    ("conv2_2", 0.099, 0.204),
    ("conv2_3", 0.228, 0.294),
    ("conv2_4", 0.561, 0.464),
    ("conv3_1", 0.126, 0.196),
    ("conv3_2", 0.089, 0.152),
    ("conv3_3", 0.124, 0.145),
    ("conv3_4", 0.062, 0.124),
    ("conv3_5", 0.008, 0.134),
    ("conv3_6", 0.210, 0.198),
    ("fc1", 0.063, 0.074),
    ("fc2", 0.031, 0.075),
)


@dataclass(frozen=True)
class Statement:
    """One statement, the published value as printed, and the function that computes it here."""

    statement: str
    source: str
    published: str
    compute: Callable[[], float | str]


def paper() -> pd.DataFrame:
    """The table of all statements; columns: see ``COLUMNS``.

    >>> table = paper()
    >>> table.loc[table["statement"] == "E[max(0, z)²]", "computed"].round(12).tolist()
    [0.5]
    """
    rows = []
    for topic, statements in TOPICS.items():
        for item in statements:
            computed = item.compute()
            agree = agrees(item.published, computed)
            known = (topic, item.statement, item.source, item.source != OWN, item.published)
            values = (*known, computed, agree)
            rows.append(dict(zip(COLUMNS, values, strict=True)))
    return pd.DataFrame(rows)


def agrees(published: str, computed: float | str) -> bool:
    """Whether ``computed`` is ``published`` at its printed digits.

    >>> agrees("0.059", 0.05893), agrees("1.7e4", 16728.76), agrees("0.83149", 0.831483)
    (True, True, False)
    """
    if isinstance(computed, str) or not published[-1].isdigit():
        return computed == published
    return math.isfinite(computed) and at_printed_digits(published, computed) == published


def at_printed_digits(published: str, computed: float) -> str:
    """``computed`` rounded and written as ``published`` is.

    >>> at_printed_digits("1.7e4", 16728.76), at_printed_digits("0.021", 0.020833)
    ('1.7e4', '0.021')
    """
    mantissa, exponential, exponent = published.partition("e")
    scaled = Decimal(computed).scaleb(-int(exponent or 0))
    rounded = scaled.quantize(Decimal(mantissa), rounding=ROUND_HALF_UP)
    return f"{rounded}{exponential}{exponent}"


# ------------------------------------------------------------------------- He et al. 2015


@dataclass(frozen=True)
class BackwardStep:
    """One convolution of VGG's model B, seen from the gradient; ``ratio`` = He's std over 0.01."""

    layer: int
    filters: int
    ratio: float


def vgg_gradient() -> list[BackwardStep]:
    """The convolutions from conv10 down to conv2, each of which the gradient passes.

    With fixed std 0.01 every one multiplies the gradient's std by 0.01/√(2/n̂), n̂ = 3²·filters
    (He et al. 2015, Eq. 14); with He's by one.
    """
    passed = list(enumerate(VGG_B_FILTERS, start=1))[:0:-1]
    return [BackwardStep(layer, filters, he_std(filters) / 0.01) for layer, filters in passed]


def he_std(filters: int) -> float:
    """Std of He's backward law for a 3×3 convolution with so many ``filters``."""
    return parse_initializer("he", "fan_out").std(math.nan, KERNEL * filters)


def gradient_ratio() -> float:
    """How many times smaller the gradient at conv2 is with fixed std 0.01 than with He's."""
    return math.prod(step.ratio for step in vgg_gradient())


def step_ratio(filters: int) -> float:
    """One factor of ``gradient_ratio``."""
    return next(step.ratio for step in vgg_gradient() if step.filters == filters)


def forward_product_of_backward_law() -> float:
    """Π ½ n_l Var[w_l] over conv2 … conv10 of model B when Var[w_l] = 2/n̂_l."""
    he, relu = parse_initializer("he", "fan_out"), parse_activation("relu")
    product = 1.0
    for before, after in pairwise(VGG_B_FILTERS):
        fan_in = KERNEL * before
        product *= mean_field.chi_1(relu, fan_in * he.variance(fan_in, KERNEL * after))
    return product


def xavier_over_he(depth: int) -> float:
    """Std of the signal after ``depth`` ReLU layers, Xavier's over He's, equal fans."""
    relu, logs = parse_activation("relu"), []
    for name in ("xavier", "he"):
        scale = math.log(512 * parse_initializer(name).variance(512, 512))
        logs.append(mean_field.log_second_moments(relu, [scale] * depth)[-1])
    return math.exp((logs[0] - logs[1]) / 2)


def shared_slopes() -> int:
    """Parameters that channel-shared PReLU adds to the 14-layer model: it follows all but the last."""
    prelu = parse_activation("prelu")
    modules = [prelu.module() for _ in FOURTEEN_LAYERS[:-1]]
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def initial_slope() -> float:
    """The slope that a new PReLU module holds."""
    return next(parse_activation("prelu").module().parameters()).item()


def growth(activation: str, law: str, slope_in_gain: float | None = None) -> float:
    """Factor of the second moment per layer, fans 512 and 512."""
    phi = parse_activation(activation)
    gain = phi.gain_slope if slope_in_gain is None else slope_in_gain
    return mean_field.chi_1(phi, 512 * parse_initializer(law).variance(512, 512, gain))


# ------------------------------------------------------------------ the papers around it


def torch_gain(name: str) -> float | str:
    """``torch.nn.init.calculate_gain(name)``, or the name of what it raises."""
    try:
        return float(nn.init.calculate_gain(name))  # type: ignore[arg-type]
    except (ValueError, RuntimeError) as error:
        return type(error).__name__


def slope_in_torch_gain() -> float:
    """The slope a with √(2/(1 + a²)) = torch's gain for leaky_relu."""
    gain = torch_gain("leaky_relu")
    return math.sqrt(2 / float(gain) ** 2 - 1)


def torch_default() -> float:
    """Factor per ReLU layer of a new ``nn.Linear``'s own weights, measured on 4096 × 1024 of them."""
    weight = torch.empty(1024, 4096, dtype=torch.float64)
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator(0, "paper", "default"))
    return mean_field.chi_1(parse_activation("relu"), 4096 * float(weight.square().mean()))


def correlations(layers: int) -> list[float]:
    """Correlation of two inputs that start orthogonal, after 0 … ``layers`` ReLU layers."""
    return mean_field.correlations(parse_activation("relu"), [0.0] * (layers + 1), 0.0)


def correlation_tail(layers: int) -> float:
    """The limit of l²·(1 − c_l), from the second half of ``layers`` steps of ReLU's map.

    1/√(1 − c_l) grows by a constant g per layer in the limit, so that 1 − c_l → 1/(g·l)²; the
    difference over many layers is free of the slow ln(l)/l of l²·(1 − c_l) itself.
    """
    path = correlations(layers)
    step = 1 / math.sqrt(1 - path[layers]) - 1 / math.sqrt(1 - path[layers // 2])
    return ((layers - layers // 2) / step) ** 2


def jacobian_variance(law: str, activation: str) -> float:
    """Variance of squared singular values, 10 layers, from the exact recursion at width 10⁹."""
    widths = (10**9,) * 11
    return spectral_moments(widths, parse_initializer(law), parse_activation(activation)).variance


def log_variance(width: int, depth: int) -> float:
    """Exact variance of the log squared length after ``depth`` ReLU layers of ``width``."""
    return float(finite_width.SignalLaw((width,) * depth, 0.0, gated_reading=True).log_variance[-1])


def batch_norm_growth() -> float:
    """E[φ'(z)²]/Var[φ(z)] of ReLU by quadrature: the gradient's growth per layer under batch norm."""
    mean = quadrature.expectation(lambda z: np.maximum(z, 0.0))
    square = quadrature.expectation(lambda z: np.maximum(z, 0.0) ** 2)
    slope = quadrature.expectation(lambda z: (z > 0).astype(np.float64))
    return slope / (square - mean**2)


def rectified_variance_ratio(activation: str) -> float:
    """Var[φ(z)]/E[φ(z)²] by quadrature."""
    phi = parse_activation(activation)
    return 1 - quadrature.moment(phi) ** 2 / quadrature.second_moment(phi)


def border_factor(size: int) -> float:
    """Mean of a 3×3 convolution's window that lies on the image, zero padding 1, by convolving ones."""
    ones = torch.ones(1, 1, size, size, dtype=torch.float64)
    window = torch.ones(1, 1, 3, 3, dtype=torch.float64) / KERNEL
    return float(functional.conv2d(ones, window, padding=1).mean())


def last_finite_layer(largest: float) -> int:
    """Last layer whose expected second moment is at most ``largest``: N(0, 1), ReLU, width 256."""
    logs = mean_field.log_second_moments(parse_activation("relu"), [math.log(256)] * 200)
    return sum(log_q <= math.log(largest) for log_q in logs)


def zero_logit_loss() -> float:
    """Cross-entropy of ten equal logits."""
    return float(functional.cross_entropy(torch.zeros(1, 10).double(), torch.tensor([3])))


def uniform_bound(fan_in: int, fan_out: int) -> float:
    """Half-width of Xavier's uniform law."""
    return math.sqrt(3) * parse_initializer("xavier-uniform").std(fan_in, fan_out)


HE, GLOROT, OWN = "He 2015", "Glorot & Bengio 2010", "project"

TOPICS: dict[str, tuple[Statement, ...]] = {
    "He's rule": (
        Statement("E[max(0, z)²]", f"{HE}, Eq. 8", "0.5",
                  lambda: quadrature.second_moment(parse_activation("relu"))),
        *(Statement(f"std of a 3×3 layer with {filters} filters", f"{HE}, §2.2", text,
                    lambda filters=filters: he_std(filters))  # type: ignore[misc]
          for filters, text in ((64, "0.059"), (128, "0.042"), (256, "0.029"), (512, "0.021"))),
        *(Statement(f"gradient std lost per {filters}-filter layer at std 0.01: 1/…", f"{HE}, §2.2",
                    text, lambda filters=filters: step_ratio(filters))  # type: ignore[misc]
          for filters, text in ((64, "5.9"), (128, "4.2"), (256, "2.9"), (512, "2.1"))),
        Statement("gradient std, conv10 to conv2 at std 0.01: 1/…", f"{HE}, §2.2", "1.7e4",
                  gradient_ratio),
        Statement("the same, unrounded factors", OWN, "16728.76", gradient_ratio),
        Statement("fan_out law: forward product c₂/d_L, VGG model B (64/512)", f"{HE}, §2.2", "0.125",
                  forward_product_of_backward_law),
        Statement("factor per layer, He, ReLU", f"{HE}, Eq. 10", "1", lambda: growth("relu", "he")),
        Statement("factor per layer, He, slope 0.25", f"{HE}, Eq. 15", "1",
                  lambda: growth("prelu", "he")),
        Statement("Xavier's std over He's after 22 layers", f"{HE}, §2.2", "4.88e-4",
                  lambda: xavier_over_he(22)),
        Statement("Xavier's std over He's after 30 layers", f"{HE}, §2.2", "3.05e-5",
                  lambda: xavier_over_he(30)),
        Statement("parameters of shared PReLU, 14-layer model", f"{HE}, §2.1, Table 1", "13",
                  shared_slopes),
        Statement("weight layers of that model", f"{HE}, Table 1", "14", lambda: len(FOURTEEN_LAYERS)),
        Statement("initial slope of PReLU", f"{HE}, §2.1", "0.25", initial_slope),
        Statement("30 layers of He-for-ReLU under slope 0.25: ×", OWN, "6.2",
                  lambda: growth("prelu", "he", 0.0) ** 30),
    ),
    "Xavier and other laws": (
        Statement("Xavier's variance, fans 300 and 100: 2/400", f"{GLOROT}, Eq. 12", "0.005",
                  lambda: parse_initializer("xavier").variance(300, 100)),
        Statement("Xavier's uniform bound there: √6/√400", f"{GLOROT}, Eq. 16", "0.12247",
                  lambda: uniform_bound(300, 100)),
        Statement("factor per ReLU layer, Xavier", f"{GLOROT}; {HE}, §2.2", "0.5",
                  lambda: growth("relu", "xavier")),
        Statement("factor per linear layer, LeCun: 1/fan_in", "LeCun 1998, §4.6", "1",
                  lambda: growth("linear", "lecun")),
        Statement("factor per ReLU layer, torch's default: 1/6", "torch.nn.Linear", "0.1667",
                  lambda: growth("relu", "pytorch")),
        Statement("the same, measured on torch's own draw", "torch.nn.Linear", "0.167",
                  torch_default),
        Statement("std of N(0, 1) cut off at ±2", OWN, "0.87962566",
                  lambda: math.sqrt(TRUNCATED_VARIANCE)),
        Statement("its variance", OWN, "0.77374130", lambda: TRUNCATED_VARIANCE),
        Statement("slope in calculate_gain('leaky_relu')", "torch.nn.init", "0.01",
                  slope_in_torch_gain),
        Statement("calculate_gain('relu')/He's gain", "torch.nn.init", "1.0",
                  lambda: float(torch_gain("relu")) / he_gain()),
        Statement("calculate_gain('prelu') raises", "torch.nn.init", "ValueError",
                  lambda: torch_gain("prelu")),
    ),
    "Finite width": (
        Statement("c(0): spread 1 + c/n per ReLU layer", "Hanin & Nica 2020", "5",
                  lambda: finite_width.spread_coefficient(0.0)),
        Statement("c(1): the same, linear", "Hanin & Nica 2020", "2",
                  lambda: finite_width.spread_coefficient(1.0)),
        Statement("log variance β = 5L/n, 40 layers of 4096", "Hanin & Nica 2020", "0.049",
                  lambda: log_variance(4096, 40)),
        Statement("Var/E[x²] after ReLU", OWN, "0.68169",
                  lambda: rectified_variance_ratio("relu")),
        Statement("Var/E[x²] after slope 0.25", OWN, "0.83148",
                  lambda: rectified_variance_ratio("prelu")),
        Statement("last layer finite in float32, N(0, 1), n = 256", OWN, "18",
                  lambda: last_finite_layer(float(np.finfo(np.float32).max))),
        Statement("last layer finite in float64, N(0, 1), n = 256", OWN, "146",
                  lambda: last_finite_layer(float(np.finfo(np.float64).max))),
    ),
    "Infinite width": (
        Statement("depth scale 1/|ln χ₁|, Xavier and ReLU", "Schoenholz 2017", "1.4427",
                  lambda: 1 / abs(math.log(growth("relu", "xavier")))),
        Statement("correlation c₁ of orthogonal inputs, ReLU", "Cho & Saul 2009", "0.318310",
                  lambda: correlations(1)[-1]),
        Statement("c₂", OWN, "0.493731", lambda: correlations(2)[-1]),
        Statement("c₁₀", OWN, "0.871536", lambda: correlations(10)[-1]),
        Statement("l²(1 − c_l) → 9π²/2", OWN, "44.4", lambda: correlation_tail(20_000)),
        *(Statement(f"Jacobian variance, 10 layers, {law} · {activation}", "Pennington 2017", text,
                    lambda law=law, activation=activation: jacobian_variance(law, activation))  # type: ignore[misc]
          for law, activation, text in (
              ("he", "linear", "10.0"), ("he", "relu", "20.0"), ("orthogonal", "relu", "10.0"),
              ("he", "prelu", "17.79"))),
    ),
    "Batch norm and convolution": (
        Statement("gradient growth per layer, ReLU and batch norm: π/(π − 1)", "Yang 2019", "1.46694",
                  batch_norm_growth),
        Statement("N(0, 1) over He's std at fan 288", OWN, "12.0",
                  lambda: 1 / parse_initializer("he").std(288, 288)),
        Statement("cross-entropy of ten equal logits: ln 10", OWN, "2.3026", zero_logit_loss),
        Statement("border factor of 3×3, padding 1, 32×32 pixels", OWN, "0.95877",
                  lambda: border_factor(32)),
        Statement("the same, 4×4 pixels", OWN, "0.69444", lambda: border_factor(4)),
    ),
}  # fmt: skip
