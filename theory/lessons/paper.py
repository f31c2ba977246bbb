"""He et al. (2015) on initialization, statement by statement: published, computed here, agree?

Every quantitative statement about initialization in the paper, and those of the papers around it
that this project rests on, stands in ``paper.toml``.  Nothing is typed in as computed: each number
comes from the module that the rest of the program uses, or from torch itself where the statement is
about torch.

A statement with a source in the literature (or in torch) is *published*.  The others are this project's
own values, as written down in its notes: that they agree says that two ways of computing them do, and
they are counted apart.

A number *agrees* when it rounds to the published one at the published number of digits.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True)
class Statement:
    """One statement, the published value as printed, and what computes it here.

    ``computed`` is the name of a function of this module, and its arguments.
    """

    statement: str
    source: str
    published: str
    computed: tuple[Any, ...]

    def compute(self) -> float | str:
        """The value by this project's functions."""
        name, *arguments = self.computed
        return FUNCTIONS[name](*arguments)


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


def weight_layers() -> int:
    """Of the 14-layer model."""
    return len(FOURTEEN_LAYERS)


def second_moment(activation: str) -> float:
    """E[φ(z)²] by quadrature."""
    return quadrature.second_moment(parse_activation(activation))


def growth(activation: str, law: str, slope_in_gain: float | None = None, layers: int = 1) -> float:
    """Factor of the second moment over so many layers, fans 512 and 512."""
    phi = parse_activation(activation)
    gain = phi.gain_slope if slope_in_gain is None else slope_in_gain
    return mean_field.chi_1(phi, 512 * parse_initializer(law).variance(512, 512, gain)) ** layers


# ------------------------------------------------------------------ the papers around it


def torch_gain(name: str) -> float | str:
    """``torch.nn.init.calculate_gain(name)``, or the name of what it raises."""
    try:
        return float(nn.init.calculate_gain(name))  # type: ignore[arg-type]
    except (ValueError, RuntimeError) as error:
        return type(error).__name__


def torch_over_he() -> float:
    """torch's gain for ReLU over He's."""
    return float(torch_gain("relu")) / he_gain()


def slope_in_torch_gain() -> float:
    """The slope a with √(2/(1 + a²)) = torch's gain for leaky_relu."""
    gain = torch_gain("leaky_relu")
    return math.sqrt(2 / float(gain) ** 2 - 1)


def torch_default() -> float:
    """Factor per ReLU layer of a new ``nn.Linear``'s own weights, measured on 4096 × 1024 of them."""
    weight = torch.empty(1024, 4096, dtype=torch.float64)
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator(0, "paper", "default"))
    return mean_field.chi_1(parse_activation("relu"), 4096 * float(weight.square().mean()))


def depth_scale(activation: str, law: str) -> float:
    """ξ = 1/|ln χ₁| layers."""
    return mean_field.depth_scale(growth(activation, law))


def correlations(layers: int) -> list[float]:
    """Correlation of two inputs that start orthogonal, after 0 … ``layers`` ReLU layers."""
    return mean_field.correlations(parse_activation("relu"), [0.0] * (layers + 1), 0.0)


def correlation(layers: int) -> float:
    """The last of ``correlations``."""
    return correlations(layers)[-1]


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


def spread(slope: float) -> float:
    """c(a), a ``slope``: a layer of n units multiplies E[q²]/E[q]² by 1 + c/n."""
    return finite_width.spread_coefficient(slope)


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


def last_finite_layer(kind: str) -> int:
    """Last layer whose expected second moment is a finite ``kind``: N(0, 1), ReLU, width 256."""
    largest = float(np.finfo(kind).max)
    logs = mean_field.log_second_moments(parse_activation("relu"), [math.log(256)] * 200)
    return sum(log_q <= math.log(largest) for log_q in logs)


def zero_logit_loss() -> float:
    """Cross-entropy of ten equal logits."""
    return float(functional.cross_entropy(torch.zeros(1, 10).double(), torch.tensor([3])))


def variance(law: str, fan_in: int, fan_out: int) -> float:
    """Var[w]."""
    return parse_initializer(law).variance(fan_in, fan_out)


def unit_over_he(fan: int) -> float:
    """Std of N(0, 1) over that of He's law."""
    return 1 / parse_initializer("he").std(fan, fan)


def truncated_variance() -> float:
    """Of N(0, 1) cut off at ±2."""
    return TRUNCATED_VARIANCE


def truncated_std() -> float:
    """Its root."""
    return math.sqrt(TRUNCATED_VARIANCE)


def uniform_bound(fan_in: int, fan_out: int) -> float:
    """Half-width of Xavier's uniform law."""
    return math.sqrt(3) * parse_initializer("xavier-uniform").std(fan_in, fan_out)


FUNCTIONS: dict[str, Callable[..., float | str]] = {
    function.__name__: function
    for function in (
        second_moment, he_std, step_ratio, gradient_ratio, forward_product_of_backward_law, growth,
        xavier_over_he, shared_slopes, weight_layers, initial_slope, variance, uniform_bound,
        torch_default, truncated_std, truncated_variance, slope_in_torch_gain, torch_over_he,
        torch_gain, spread, log_variance, rectified_variance_ratio, last_finite_layer, depth_scale,
        correlation, correlation_tail, jacobian_variance, batch_norm_growth, unit_over_he,
        zero_logit_loss, border_factor,
    )
}  # fmt: skip
OWN = "project"  # the source of what is not published
DATA = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
LEARNED_SLOPES: tuple[tuple[str, float, float], ...] = tuple(map(tuple, DATA["learned_slopes"]))
TOPICS = {
    topic["name"]: tuple(
        Statement(row["says"], row["source"], row["published"], tuple(row["computed"]))
        for row in topic["statements"]
    )
    for topic in DATA["topics"]
}
