"""Input–output Jacobians of drawn networks: their singular values beside the exact moments.

Theory and notation: ``theory.law.jacobian``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from theory.activations import Activation
from theory.devices import float64_device, threads_for
from theory.draw.ensemble import Progress, memory_for
from theory.draw.scores import normal_score
from theory.draw.stacks import build_stack
from theory.initializers import Initializer
from theory.keywords import takes_fields_of
from theory.law.jacobian import limit_variance, spectral_moments, zero_fraction
from theory.randomness import generator
from theory.specs import JacobianSpec

Array = NDArray[np.float64]

VALUE_COLUMNS = {
    "initializer": "the weight law, as named on the command line",
    "activation": "the rectifier, as named on the command line",
    "negative_slope": "its slope for negative inputs",
    "draw": "which network, from 0",
    "rank": "0 for the largest singular value of the network",
    "relative_squared": "squared singular value of ∂x_L/∂x_0 over its expected mean",
}
COLUMNS = {
    "initializer": "the weight law, as named on the command line",
    "activation": "the rectifier, as named on the command line",
    "negative_slope": "its slope for negative inputs",
    "depth": "L, layers of a weight and a rectifier each",
    "width": "n, units of every layer and of the input",
    "draws": "independent networks",
    "log10_mean_theory": "log10 of the expected mean of the squared singular values, exact",
    "mean": "their mean over values and networks, over its expectation (1 in theory)",
    "mean_error": "its exact standard error",
    "mean_z": "(mean − 1) / mean_error",
    "variance": "mean of relative_squared² over values and networks, minus 1",
    "variance_error": "its standard error, from the scatter between networks",
    "variance_theory": "its exact value at this width",
    "variance_limit": "its value at infinite width",
    "variance_z": "normal score of Student's (variance − variance_theory) / variance_error",
    "mean_square": "mean over networks of (the network's own mean)²",
    "mean_square_error": "its standard error, from the scatter between networks",
    "mean_square_theory": "its exact value, t₁/n² in units of the mean",
    "mean_square_z": "normal score of Student's (mean_square − mean_square_theory) / its error",
    "zero_fraction": "fraction of singular values at or below n·eps of the network's largest",
    "zero_fraction_theory": "exact fraction that is zero: 1 − E[fewest active units of a layer]/n",
}
# Rounding of float64 sums over a spectrum, as a floor under a standard error that is exactly zero.
ROUNDING = 1e-10


def jacobian_of(stack: nn.Sequential, inputs: torch.Tensor, scales: Sequence[float]) -> torch.Tensor:
    """∂x_L/∂x_0 of a stack of Linear and rectifier modules at ``inputs`` (n_0,), over Π ``scales``.

    The modules run forward one by one; J is multiplied by each weight and by each gate, read where
    the module bends: φ(y)/y.  Without biases the signal is renormalised on the way, which changes no
    gate (rectifiers are homogeneous), so that no depth overflows.  Shape (n_L, n_0).
    """
    signal = inputs
    product = torch.eye(len(inputs), dtype=inputs.dtype, device=inputs.device)
    layer = iter(scales)
    with torch.inference_mode():
        for module in stack:
            output: torch.Tensor = module(signal)
            if isinstance(module, nn.Linear):
                product = module.weight @ product / next(layer)
                length = output.norm()
                if getattr(module, "bias", None) is None and length > 0:
                    output = output / length
            else:
                # φ(±1) are the two slopes; a unit at exactly zero counts as off, as in torch
                side = torch.where(signal > 0, 1.0, -1.0).to(signal)
                product = (module(side) * side)[:, None] * product
            signal = output
    return product


@takes_fields_of(JacobianSpec)
def singular_values(spec: JacobianSpec, on_progress: Progress | None = None) -> pd.DataFrame:
    """Squared singular values of every network of ``spec``; columns: see ``VALUE_COLUMNS``.

    ``on_progress(done, total)`` is called as networks finish.  Raises ``RequestError`` for a device
    without float64, ``WorkError`` when memory runs out.
    """
    total = len(spec.curves) * spec.draws
    parts = []
    for index, (law, activation) in enumerate(spec.curves):
        squared = np.empty((spec.draws, spec.width))
        with threads_for(spec.width):
            for draw, values in enumerate(_spectra(spec, law, activation)):
                squared[draw] = values
                if on_progress:
                    on_progress(index * spec.draws + draw + 1, total)
        columns: dict[str, Any] = {
            "initializer": law.name,
            "activation": activation.name,
            "negative_slope": activation.gain_slope,
            "draw": np.repeat(np.arange(spec.draws), spec.width),
            "rank": np.tile(np.arange(spec.width), spec.draws),
            "relative_squared": squared.ravel(),
        }
        parts.append(pd.DataFrame({name: columns[name] for name in VALUE_COLUMNS}))
    return pd.concat(parts, ignore_index=True)


def _spectra(spec: JacobianSpec, law: Initializer, activation: Activation) -> Iterator[Array]:
    """The squared singular values of each network in units of their expected mean, falling."""
    device = float64_device(spec.device)
    scales = [
        math.sqrt(spec.width * law.variance(n, m, activation.gain_slope) * activation.second_moment)
        for n, m in pairwise(spec.widths)
    ]
    with memory_for(f"width {spec.width}: make it smaller"):
        for draw in range(spec.draws):
            # one stream per shape and draw: curves of one shape see the same weights
            stream = generator(spec.seed, "jacobian", law.shape, draw, device=device)
            inputs = torch.randn(spec.width, dtype=torch.float64, device=device, generator=stream)
            plain = build_stack(spec.widths, law, activation, stream, dtype=torch.float64)
            stack = nn.Sequential(*plain, activation.module().to(device, torch.float64))
            values = torch.linalg.svdvals(jacobian_of(stack, inputs, scales))
            squared: Array = values.square().cpu().numpy()
            yield squared


@takes_fields_of(JacobianSpec)
def jacobian(spec: JacobianSpec, values: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per curve: mean and variance of the squared singular values, measured and exact.

    ``values`` is what ``singular_values(spec)`` returned; without it the networks are drawn here.
    Columns: see ``COLUMNS``.

    >>> table = jacobian(JacobianSpec(depth=2, width=8, draws=5, initializers=("orthogonal",)))
    >>> [round(value, 6) for value in table["variance"]][:1]  # linear: every value is 1
    [0.0]
    """
    values = singular_values(spec) if values is None else values
    all_squared = values["relative_squared"].to_numpy().reshape(-1, spec.draws, spec.width)
    rows = [
        _row(spec, law, activation, squared)
        for (law, activation), squared in zip(spec.curves, all_squared, strict=True)
    ]
    return pd.DataFrame(rows)[list(COLUMNS)]


def _row(
    spec: JacobianSpec, law: Initializer, activation: Activation, squared: Array
) -> dict[str, Any]:
    exact = spectral_moments(spec.widths, law, activation)
    own_mean = squared.mean(1)
    mean = float(own_mean.mean())
    mean_error = math.sqrt(max(exact.mean_square - 1, 0.0) / spec.draws + ROUNDING**2)
    second, second_error = _mean_and_error((squared**2).mean(1))
    mean_square, mean_square_error = _mean_and_error(own_mean**2)
    floor = spec.width * np.finfo(np.float64).eps
    zero = np.sqrt(squared) <= floor * np.sqrt(squared[:, :1])

    def score(t: float) -> float:
        return float(normal_score(t, spec.draws - 1))

    return {
        "initializer": law.name,
        "activation": activation.name,
        "negative_slope": activation.gain_slope,
        "depth": spec.depth,
        "width": spec.width,
        "draws": spec.draws,
        "log10_mean_theory": exact.log_scale / math.log(10),
        "mean": mean,
        "mean_error": mean_error,
        "mean_z": (mean - 1) / mean_error,
        "variance": second - 1,
        "variance_error": second_error,
        "variance_theory": exact.variance,
        "variance_limit": limit_variance(spec.depth, law, activation),
        "variance_z": score((second - exact.second_moment) / second_error),
        "mean_square": mean_square,
        "mean_square_error": mean_square_error,
        "mean_square_theory": exact.mean_square,
        "mean_square_z": score((mean_square - exact.mean_square) / mean_square_error),
        "zero_fraction": float(zero.mean()),
        "zero_fraction_theory": zero_fraction(spec.depth, spec.width, activation),
    }


def _mean_and_error(per_network: Array) -> tuple[float, float]:
    error = float(per_network.std(ddof=1)) / math.sqrt(len(per_network))
    return float(per_network.mean()), math.hypot(error, ROUNDING)
