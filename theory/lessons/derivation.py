"""He's derivation (He et al. 2015, §2.2), line by line, each line checked against numbers.

Here y_l = W_l x_(l−1) and x_l = φ(y_l), for l = 1 … L; the paper writes x_l for our x_(l−1).  Each
line of ``derivation.toml`` states what it assumes, its formula, and how to predict and to measure it.
The measurement is an average over independent networks of nn.Linear and rectifier modules, read by the
probe, forward from one input of second moment 1 and backward from a random unit-variance cotangent at
x_L.  Every line is normalised so that its prediction is the *exact* expectation at any width, not a
limit; so a line that fails is wrong, and not only narrow.

A line passes when |z| is at most ``THRESHOLD``, z being (measured − predicted) / standard error as the
normal score of Student's t: for a true line, chance alone exceeds it about once in 16,000 runs.

One line fails, and is meant to: the slip of taking the *variance* of the rectified signal for its
second moment.  Var[max(0, y)] is (½ − 1/(2π))·Var[y] = 0.341·Var[y], not ½·Var[y], because the mean
of max(0, y) is not zero; what is halved is E[max(0, y)²], and Eq. 7 has E[x²] for that reason.
The slip and its correction predict the same measurement; where it refutes neither of them, the draws
were too few to tell, and neither line is called right.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from theory.activations import Activation, parse_activation
from theory.devices import float64_device, threads_for
from theory.draw.scores import UNDECIDED, normal_score
from theory.draw.stacks import build_stack
from theory.initializers import parse_initializer
from theory.keywords import takes_fields_of
from theory.probe import Probe, Reading
from theory.randomness import generator
from theory.specs import DerivationSpec

Array = NDArray[np.float64]

COLUMNS = {
    "part": "which part of the derivation",
    "equation": "the equation of He et al. (2015) that the line is, or belongs to",
    "claim": "the line in words",
    "formula": "the line as a formula, in LaTeX",
    "assumption": "what the line takes for granted",
    "predicted": "its value: the exact expectation at this width",
    "measured": "the average over networks",
    "standard_error": "of measured, from the scatter between networks",
    "z": "normal score of Student's (measured − predicted) / standard_error",
    "passes": "whether |z| is at most THRESHOLD",
    "known_slip": "whether the line is the well-known slip, which has to fail",
    "verdict": "holds, fails, or too few draws to tell: neither it nor its rival is refuted",
}
THRESHOLD = 4.0
OPERATORS = re.compile(r"Var|mean|E(?=\[)|P(?=\()")  # set upright in a formula
# Rounding of float64 averages, as a floor under a standard error.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Network:
    """A kind of network that lines are measured on: its law, its rectifier, its widths.

    ``gain`` is the rectifier whose slope the gain uses, where it is not the network's own.
    ``widening`` halves the width up to the middle.
    """

    law: str
    slope: str = "relu"
    fan: str | None = None
    gain: str | None = None
    widening: bool = False


@dataclass(frozen=True)
class Measured:
    """What was read on ``draws`` networks of one kind; every array has shape (draws, …).

    forward, variance, positive   of y_l: second moment, and of x_l: second moment, unbiased variance
    """

    widths: tuple[int, ...]
    weight_variance: tuple[float, ...]  # Var[w_l] of the law
    activation: Activation
    y: Array  # (draws, L) second moment of y_l
    x: Array  # (draws, L) second moment of x_l
    x_variance: Array  # (draws, L) unbiased variance of x_l over its units
    positive: Array  # (draws, L) fraction of y_l above zero
    dy: Array  # (draws, L) second moment of ∂E/∂y_l
    dx: Array  # (draws, L) second moment of ∂E/∂x_l; the last one is exactly 1
    products: Array  # (draws,) n·mean of (w·x)² over the products that make y_2
    weight: Array  # (draws,) mean of w² in the second layer


@dataclass(frozen=True)
class Line:
    """One line: words, formula, assumption, and how to predict and measure it.

    ``predict`` and ``measure`` take what was read on ``network``; ``measure`` gives one number per
    draw, whose expectation the line claims to be ``predict``.
    """

    part: str
    equation: str
    claim: str
    formula: str  # LaTeX, with the names of operators bare: see OPERATORS
    assumption: str
    network: Network
    predict: Callable[[Measured], float]
    measure: Callable[[Measured], Array]
    known_slip: bool = False
    rival: Callable[[Measured], float] | None = None  # of the same measurement, were it false


@takes_fields_of(DerivationSpec)
def derivation(spec: DerivationSpec) -> pd.DataFrame:
    """The checked derivation, one row per line; columns: see ``COLUMNS``.

    >>> table = derivation(DerivationSpec(width=32, draws=60))
    >>> table.loc[table["known_slip"], "passes"].tolist()
    [False]
    """
    read: dict[Network, Measured] = {}
    rows = []
    for line in lines(spec.rectifier.name):
        if line.network not in read:
            read[line.network] = measure(spec, line.network)
        rows.append(_row(line, read[line.network]))
    return pd.DataFrame(rows)


def _row(line: Line, read: Measured) -> dict[str, Any]:
    values = line.measure(read)
    predicted, measured = line.predict(read), float(values.mean())
    error = math.hypot(float(values.std(ddof=1)) / math.sqrt(len(values)), ROUNDING)

    def score(value: float) -> float:
        return float(normal_score((measured - value) / error, len(values) - 1))

    z = score(predicted)
    verdict = "holds" if abs(z) <= THRESHOLD else "fails"
    if verdict == "holds" and line.rival and abs(score(line.rival(read))) <= THRESHOLD:
        verdict = UNDECIDED
    formula = OPERATORS.sub(r"\\operatorname{\g<0>}", line.formula)
    cells = (line.part, line.equation, line.claim, formula, line.assumption)
    cells += (predicted, measured, error, z, abs(z) <= THRESHOLD, line.known_slip, verdict)  # type: ignore[assignment]
    return dict(zip(COLUMNS, cells, strict=True))


# ---------------------------------------------------------------------------- measurement


def measure(spec: DerivationSpec, network: Network) -> Measured:
    """Draw ``spec.draws`` networks of this kind and read them forward and backward."""
    device = float64_device(spec.device)
    middle = spec.depth // 2
    half = [network.widening and layer <= middle for layer in range(spec.depth + 1)]
    widths = tuple(spec.width // 2 if narrow else spec.width // 2 * 2 for narrow in half)
    law, activation = parse_initializer(network.law, network.fan), parse_activation(network.slope)
    gain = parse_activation(network.gain or network.slope).gain_slope
    stream = generator(spec.seed, "derivation", *map(str, vars(network).values()), device=device)
    draws = []
    with threads_for(spec.width):
        for _ in range(spec.draws):
            # float32 draws are five times as fast
            plain = build_stack(widths, law, activation, stream, gain_slope=gain)
            stack = nn.Sequential(*plain, activation.module()).to(device, torch.float64)
            draws.append(_read(stack, widths, stream))
    arrays = {name: np.array([draw[name] for draw in draws]) for name in draws[0]}
    variances = tuple(law.variance(n, m, gain) for n, m in pairwise(widths))
    return Measured(widths, variances, activation, **arrays)


def _read(stack: nn.Sequential, widths: tuple[int, ...], stream: torch.Generator) -> dict[str, Any]:
    """One forward and one backward pass; the numbers named as in ``Measured``."""

    def unit_vector(length: int) -> torch.Tensor:
        vector = torch.randn(1, length, dtype=torch.float64, device=stream.device, generator=stream)
        return vector / vector.square().mean().sqrt()

    stack.requires_grad_(False)  # only the signal's gradient is read
    inputs, cotangent = unit_vector(widths[0]).requires_grad_(), unit_vector(widths[-1])
    names = [str(index) for index in range(len(stack))]
    with Probe(stack, names, backward=True, statistics=lambda tensor: {"value": tensor}) as probe:
        stack(inputs).backward(cotangent)
    linear, rectified = probe.readings[0::2], probe.readings[1::2]
    x = [reading.forward["value"] for reading in rectified]
    weight = cast(nn.Linear, stack[2]).weight
    products = (weight * x[0]).square().sum(1).mean()  # n·mean over j of (w_ij x_j)², averaged over i
    return {
        "y": _second_moments(linear),
        "x": _second_moments(rectified),
        "x_variance": [float(value.var()) for value in x],
        "positive": [float((reading.forward["value"] > 0).double().mean()) for reading in linear],
        "dy": _second_moments(linear, backward=True),
        "dx": _second_moments(rectified, backward=True),
        "products": float(products),
        "weight": float(weight.square().mean()),
    }


def _second_moments(readings: list[Reading], *, backward: bool = False) -> list[float]:
    sides = [reading.backward if backward else reading.forward for reading in readings]
    return [float(side["value"].square().mean()) for side in sides if side is not None]


# ------------------------------------------------------------------------------ the lines

HE = Network("he")
NETWORKS = {
    "xavier": Network("xavier"),  # n·Var[w] = 1: shows the factor ½ itself
    "he": HE,
    "fan_out": Network("he", fan="fan_out", widening=True),
    "fan_in": Network("he", fan="fan_in", widening=True),
}


def forward_factor(read: Measured) -> float:
    """Π A₂·n_l·Var[w_l] over l = 2 … L: Eq. 9, and Eq. 15's with slope a."""
    layers = zip(read.widths[1:-1], read.weight_variance[1:], strict=True)
    return math.prod(read.activation.second_moment * n * variance for n, variance in layers)


def backward_factor(read: Measured) -> float:
    """Π A₂·n̂_l·Var[w_l] over l = 2 … L: Eq. 13."""
    layers = zip(read.widths[2:], read.weight_variance[1:], strict=True)
    return math.prod(read.activation.second_moment * n * variance for n, variance in layers)


def first_variance(read: Measured) -> float:
    """Var[y_1] = n_0·Var[w_1]·mean(x_0²), exact for an input of second moment 1."""
    return read.widths[0] * read.weight_variance[0]


def rectified_variance(read: Measured) -> float:
    """Var[φ(y)]/Var[y] for a Gaussian y: ½ − 1/(2π) for ReLU."""
    return read.activation.second_moment * read.activation.variance_ratio


PREDICTIONS: dict[str, Callable[[Measured], float]] = {
    "½": lambda r: 0.5,
    "1": lambda r: 1.0,
    "2": lambda r: 2.0,
    "A₂": lambda r: r.activation.second_moment,
    "Var[φ]": rectified_variance,
    "n·Var[w]": lambda r: r.widths[1] * r.weight_variance[1],
    "n̂·Var[w]": lambda r: r.widths[-1] * r.weight_variance[-1],
    "A₂·n·Var[w]": lambda r: r.activation.second_moment * r.widths[1] * r.weight_variance[1],
    "∏ A₂·n·Var[w]": forward_factor,
    "∏ A₂·n̂·Var[w]": backward_factor,
    "(1 + a²)^(L−1)": lambda r: (1 + r.activation.gain_slope**2) ** (len(r.widths) - 2),
}
MEASUREMENTS: dict[str, Callable[[Measured], Array]] = {
    "share of y_1 > 0": lambda r: r.positive[:, 0],
    "n·w²": lambda r: r.widths[1] * r.weight,
    "y_1²": lambda r: r.y[:, 0],
    "y_2²/x_1²": lambda r: r.y[:, 1] / r.x[:, 0],
    "y_2²/products": lambda r: r.y[:, 1] / r.products,
    "x_1²/Var[y_1]": lambda r: r.x[:, 0] / first_variance(r),
    "Var[x_1]/Var[y_1]": lambda r: r.x_variance[:, 0] / first_variance(r),
    "y_2²/Var[y_1]": lambda r: r.y[:, 1] / first_variance(r),
    "y_L²/Var[y_1]": lambda r: r.y[:, -1] / first_variance(r),
    "Δy_L²": lambda r: r.dy[:, -1],
    "Δx_(L−1)²/Δy_L²": lambda r: r.dx[:, -2] / r.dy[:, -1],
    "Δx_1²": lambda r: r.dx[:, 0],  # that of Δx_L is 1
}


def lines(rectifier: str = "prelu") -> list[Line]:
    """All lines in order: forward and backward for ReLU, then for the named ``rectifier``."""
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    own = {"own": Network("he", rectifier), "relu's": Network("he", rectifier, gain="relu")}
    slope = parse_activation(rectifier).gain_slope
    found = []
    for row in tomllib.loads(text)["lines"]:
        row["part"] = row["part"].format(slope=slope)
        row["network"] = (NETWORKS | own)[row["network"]]
        row["predict"], row["measure"] = PREDICTIONS[row["predict"]], MEASUREMENTS[row["measure"]]
        row["rival"] = PREDICTIONS[row["rival"]] if "rival" in row else None
        found.append(Line(**row))
    return found
