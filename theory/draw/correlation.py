"""Pairs of inputs through real networks, with the correlation map and its 1/width correction beside.

Two inputs of correlation c_0 enter a network; the correlation of their pre-activations at layer l is

    c_l = Σ_i y_i·y'_i / √(Σ_i y_i² · Σ_i y'_i²)         (not centered, as in the mean field).

The map (``law.mean_field``) is its limit at infinite width; ``law.correlation`` has what a finite width
adds to it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from theory.activations import Activation
from theory.draw.dense import BLOCK_DRAWS, BLOCK_WEIGHTS
from theory.draw.ensemble import Progress, Simulation, groups
from theory.draw.moments import Moments
from theory.draw.scores import normal_score
from theory.draw.stacks import Ensemble
from theory.initializers import Initializer
from theory.keywords import takes_fields_of
from theory.law import mean_field
from theory.law.correlation import first_order
from theory.probe import Probe
from theory.randomness import generator
from theory.specs import CorrelationSpec

Array = NDArray[np.float64]

COLUMNS = {
    "initializer": "the weight law, as named on the command line",
    "activation": "the activation, as named on the command line",
    "negative_slope": "its slope for negative inputs; NaN for a smooth activation",
    "input_correlation": "c_0, the correlation of the two inputs, exact in every draw",
    "layer": "l = 1 … L; without biases y_1 still has c_0 on average, y_{l+1} has l activations behind",
    "measured": "mean over draws of c_l, the correlation of the pre-activations y_l",
    "standard_error": "its standard error, from the scatter between draws",
    "theory": "the correlation map: infinite width",
    "z": "normal score of Student's (measured − theory)/standard_error; large at finite width, rightly",
    "finite_width": "the mean of c_l at this width to first order in 1/width; NaN where not known",
    "z_finite_width": "normal score of Student's (measured − finite_width)/standard_error",
    "std": "standard deviation of c_l between draws; c_l is skewed, the more so the deeper",
    "std_theory": "the same to first order; NaN where not known",
}
ROUNDING = 1e-6  # of a float32 correlation, a floor under the standard error


@takes_fields_of(CorrelationSpec)
def correlation(spec: CorrelationSpec, on_progress: Progress | None = None) -> pd.DataFrame:
    """The table of ``spec``: measured correlation and map, one row per curve, pair and layer.

    ``on_progress(done, total)`` is called as draws finish.  Columns: see ``COLUMNS``.  Raises
    ``RequestError`` for a device that is not there, ``WorkError`` when memory runs out.

    >>> spec = CorrelationSpec(depth=2, width=8, draws=10, activations=("relu",), correlations=(0.5,))
    >>> list(correlation(spec)["layer"])
    [1, 2]
    """
    measured: dict[int, tuple[Moments, int]] = {}
    for group in groups(spec):
        moments = Moments()
        for block in PairSimulation(spec, group).blocks(on_progress):
            moments.add(np.moveaxis(block, 0, -1))
        measured |= {curve.index: (moments, curve.stream) for curve in group.curves}
    tables = [
        _table(spec, *curve, c_0, *(part[:, stream, pair] for part in parts))
        for index, curve in enumerate(spec.curves)
        for moments, stream in [measured[index]]
        for parts in [(moments.mean, moments.std, moments.count)]
        for pair, c_0 in enumerate(spec.correlations)
    ]
    return pd.concat(tables, ignore_index=True)


def _table(
    spec: CorrelationSpec, law: Initializer, phi: Activation, c_0: float,
    measured: Array, std: Array, count: Array,
) -> pd.DataFrame:  # fmt: skip
    """The rows of one curve and pair; ``count`` is how many networks have a signal there."""
    weight_std, bias_std = spec.weight_std(law, phi), spec.bias_std(law)
    log_scales = 2 * np.log(weight_std) + np.log(spec.widths[:-1])
    bias_variance = bias_std[0] ** 2 if bias_std else 0.0
    theory = np.array(
        mean_field.correlations(
            phi, list(log_scales), c_0, math.log(spec.input_second_moment), bias_variance
        )
    )
    error = np.hypot(std / np.sqrt(np.maximum(count, 1)), ROUNDING)
    known = law.shape == "normal" and phi.is_rectifier and not bias_variance
    shift, variance = first_order(phi, c_0, spec.depth) if known else np.full((2, spec.depth), np.nan)
    finite = theory + shift / spec.width
    columns: dict[str, Any] = {
        "initializer": law.name,
        "activation": phi.name,
        "negative_slope": math.nan if phi.negative_slope is None else phi.negative_slope,
        "input_correlation": c_0,
        "layer": np.arange(1, spec.depth + 1),
        "measured": measured,
        "standard_error": error,
        "theory": theory,
        "z": normal_score((measured - theory) / error, count - 1),
        "finite_width": finite,
        "z_finite_width": normal_score((measured - finite) / error, count - 1),
        "std": std,
        "std_theory": np.sqrt(variance / spec.width),
    }
    return pd.DataFrame({name: columns[name] for name in COLUMNS})


class PairSimulation(Simulation[CorrelationSpec]):
    """Networks that see the first input and its partners; a block is (draws, L, streams, pairs)."""

    threaded = True
    advice = "width {0.width}: make it smaller"

    @property
    def block_size(self) -> int:
        """Draws per block."""
        return max(1, min(self.spec.draws, BLOCK_WEIGHTS // self.spec.width**2, BLOCK_DRAWS))

    def inputs(self) -> torch.Tensor:
        """Inputs (n_0, 1 + pairs) of second moment 1; the first has the asked correlation with each.

        Random directions, made orthogonal first, so that the correlations are exact.
        """
        spec = self.spec
        stream = generator(spec.seed, "inputs")
        draw = torch.randn(spec.widths[0], 2, dtype=torch.float64, generator=stream).numpy()
        frame = np.linalg.qr(draw)[0] * math.sqrt(spec.widths[0])
        c = np.array([1.0, *spec.correlations])
        return torch.from_numpy(frame[:, :1] * c + frame[:, 1:] * np.sqrt(1 - c**2))

    def stream(self, name: str, block: int) -> torch.Generator:
        """The random numbers of one purpose and block; a law with biases of its own has its own."""
        own = ("own bias",) if self.group.streams[0].uniform_bias else ()
        purpose = (name, self.group.law.shape, *own)
        return generator(self.spec.seed, *purpose, block, device=self.device)

    def run(self, block: int, draws: int) -> Array:
        """c_l of ``draws`` networks; NaN where a signal is exactly zero."""
        spec, streams, columns = self.spec, self.group.streams, self.x.shape[1]
        log_input = 0.5 * math.log(spec.input_second_moment)
        ensemble = Ensemble(spec.widths, self.group.law.shape, streams, log_input).to(self.device)

        def correlate(output: torch.Tensor) -> dict[str, torch.Tensor]:
            y = output.to(torch.float64).reshape(draws, -1, len(streams), columns)
            power = y.square().sum(1).sqrt()
            product = (y[..., :1] * y[..., 1:]).sum(1)
            return {"correlation": product / (power[..., :1] * power[..., 1:])}

        names = [f"layers.{index}" for index in range(spec.depth)]
        with torch.inference_mode(), Probe(ensemble, names, statistics=correlate) as probe:
            ensemble(self.x, draws, self.stream("weights", block), self.stream("biases", block))
        found = [reading.forward["correlation"] for reading in probe.readings]
        result: Array = torch.stack(found, 1).cpu().numpy()
        return result
