"""Pairs of inputs through real networks, with the correlation map and its 1/width correction beside.

Two inputs of correlation c_0 enter a network; the correlation of their pre-activations at layer l is

    c_l = Σ_i y_i·y'_i / √(Σ_i y_i² · Σ_i y'_i²)         (not centered, as in the mean field).

At infinite width c_l follows the correlation map (``theory.law.mean_field``).  Networks are finite, and
at depth L and width n they leave the map by O(L/n).  For Gaussian weights, rectifiers and no biases
the deviation is known to first order in 1/n.  Given the correlation ρ after a layer, the next layer's
units are independent pairs of normals of correlation ρ, and the correlation of their n activations is
a smooth function of three sample means: of X = φ(u)²/A₂, Y = φ(v)²/A₂ and Z = φ(u)φ(v)/A₂.  With f
the correlation map and V, C variances and covariances of one unit, the delta method gives

    E[ρ'|ρ] = f + b/n,    b = ½[(3f/2)·V_X + (f/2)·C_XY − 2·C_XZ]
    Var[ρ'|ρ] = w/n,      w = V_Z + (f²/2)(V_X + C_XY) − 2f·C_XZ

and along the layers, with δ/n the deviation of the mean and v/n the variance,

    δ' = f′·δ + ½f″·v + b,    v' = f′²·v + w.

Reading y instead of φ(y) adds one linear step: f = ρ, b = −ρ(1 − ρ²)/2, w = (1 − ρ²)².
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from theory.activations import Activation
from theory.devices import resolve_device
from theory.errors import WorkError
from theory.initializers import Initializer, default_bias_std, shape_named
from theory.law import mean_field
from theory.law.scores import normal_score
from theory.mean_field_specs import CorrelationSpec
from theory.probe import Probe
from theory.randomness import generator

if TYPE_CHECKING:
    import torch

    from theory.draw.stacks import Stream

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]

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
BLOCK_WEIGHTS = 2**21  # weights per layer drawn at once; fixes which generator draws which network
ROUNDING = 1e-6  # of a float32 correlation, a floor under the standard error


def correlation(spec: CorrelationSpec, on_progress: Progress | None = None) -> pd.DataFrame:
    """The table of ``spec``: measured correlation and map, one row per curve, pair and layer.

    ``on_progress(done, total)`` is called as draws finish.  Columns: see ``COLUMNS``.  Raises
    ``RequestError`` for a device that is not there, ``WorkError`` when memory runs out.

    >>> spec = CorrelationSpec(depth=2, width=8, draws=10, activations=("relu",), correlations=(0.5,))
    >>> list(correlation(spec)["layer"])
    [1, 2]
    """
    measured: dict[int, tuple[Array, Array, Array]] = {}
    for group in _groups(spec):
        moments = Moments()
        for block in _blocks(spec, group, on_progress):
            moments.add(block)
        for stream, index in enumerate(group.curves):
            parts = (moments.mean, moments.std, moments.count)
            measured[index] = tuple(part[:, stream] for part in parts)  # type: ignore[assignment]
    tables = [
        _table(spec, *curve, c_0, *(part[:, pair] for part in measured[index]))
        for index, curve in enumerate(spec.curves)
        for pair, c_0 in enumerate(spec.correlations)
    ]
    return pd.concat(tables, ignore_index=True)


def _table(
    spec: CorrelationSpec, law: Initializer, phi: Activation, c_0: float,
    measured: Array, std: Array, count: Array,
) -> pd.DataFrame:  # fmt: skip
    """The rows of one curve and pair; ``count`` is how many networks have a signal there."""
    weight_std, bias_std = _weight_std(spec, law, phi), _bias_std(spec, law)
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


# --------------------------------------------------------------------- first order in 1/width


def first_order(phi: Activation, c_0: float, depth: int) -> tuple[Array, Array]:
    """(δ_l, v_l) of y_l, l = 1 … ``depth``: E[c_l] ≈ map + δ_l/n and Var[c_l] ≈ v_l/n; each (L,).

    For a rectifier, Gaussian weights, no biases and n units in every layer.

    >>> from theory.activations import parse_activation
    >>> first_order(parse_activation("linear"), 0.0, 3)[1].tolist()  # every layer adds its 1/n
    [1.0, 2.0, 3.0]
    """
    rho, shift, variance = c_0, 0.0, 0.0
    shifts, variances = np.empty(depth), np.empty(depth)
    for layer in range(depth):
        shifts[layer] = shift - rho * (1 - rho**2) / 2
        variances[layer] = variance + (1 - rho**2) ** 2
        slope, bend = _derivatives(phi, rho)
        bias, scatter = _unit_moments(phi, rho)
        shift = slope * shift + bend * variance / 2 + bias
        variance = slope**2 * variance + scatter
        rho = float(phi.correlation_map(rho))
    return shifts, variances


def _derivatives(phi: Activation, rho: float) -> tuple[float, float]:
    """f′ and f″ of the correlation map; f″, infinite at ±1, is 0 there, where nothing varies."""
    a = phi.gain_slope
    slope = mean_field.correlation_slope(phi, 1 / phi.second_moment, 1.0, rho)
    inside = 1 - rho**2
    bend = (1 - a) ** 2 / (math.pi * (1 + a**2) * math.sqrt(inside)) if inside > 1e-12 else 0.0
    return slope, bend


def _unit_moments(phi: Activation, rho: float) -> tuple[float, float]:
    """b and w of the module's docstring."""
    a, power = phi.gain_slope, phi.second_moment
    f = float(phi.correlation_map(rho))
    v_x = 3 * phi.fourth_moment / power**2 - 1
    (same, cubed), (opposite, cubed_opposite) = _half_moments(rho), _half_moments(-rho)
    square = ((1 + a**4) * same + 2 * a**2 * opposite) / power**2
    c_xy, v_z = square - 1, square - f**2
    c_xz = ((1 + a**4) * cubed - (a + a**3) * cubed_opposite) / power**2 - f
    bias = (1.5 * f * v_x + 0.5 * f * c_xy - 2 * c_xz) / 2
    return bias, max(v_z + f**2 / 2 * (v_x + c_xy) - 2 * f * c_xz, 0.0)


def _half_moments(rho: float) -> tuple[float, float]:
    """E[u₊²v₊²] (Cho & Saul 2009, degree 2) and, by parts, E[u₊³v₊] = 2E[u₊v₊] + ρ·E[u₊²·1(v > 0)]."""
    psi = math.acos(min(max(rho, -1.0), 1.0))
    sine, rest = math.sin(psi), math.pi - psi
    squares = 3 * sine * rho + rest * (1 + 2 * rho**2)
    cubed = 2 * (sine + rest * rho) + rho * (rest + sine * rho)
    return squares / (2 * math.pi), cubed / (2 * math.pi)


# ------------------------------------------------------------------------------ simulation


class Moments:
    """Streaming mean and standard deviation over draws of arrays (draws, …), by Chan et al.'s merge.

    A NaN, the correlation of a network whose signal is exactly zero, is left out.
    """

    def __init__(self) -> None:
        self.count: Any = 0.0
        self.mean: Any = 0.0
        self.scatter: Any = 0.0

    def add(self, values: Array) -> None:
        """Take in a block of draws."""
        alive = np.isfinite(values)
        count = alive.sum(0)
        mean = np.where(alive, values, 0.0).sum(0) / np.maximum(count, 1)
        delta = mean - self.mean
        total = np.maximum(self.count + count, 1)
        self.scatter = self.scatter + np.where(alive, (values - mean) ** 2, 0.0).sum(0)
        self.scatter = self.scatter + delta**2 * self.count * count / total
        self.mean = self.mean + delta * count / total
        self.count = self.count + count

    @property
    def std(self) -> Array:
        """Standard deviation of one draw; NaN below two."""
        variance = self.scatter / np.maximum(self.count - 1, 1)
        std: Array = np.where(self.count > 1, np.sqrt(variance), np.nan)
        return std


@dataclass(frozen=True)
class Group:
    """Curves that share weight draws: one shape of law, with or without biases of its own."""

    shape: str
    streams: tuple[Stream, ...]
    curves: tuple[int, ...]


def _groups(spec: CorrelationSpec) -> list[Group]:
    from theory.draw.stacks import Stream

    streams: dict[tuple[str, bool], list[Stream]] = defaultdict(list)
    curves: dict[tuple[str, bool], list[int]] = defaultdict(list)
    for index, (law, phi) in enumerate(spec.curves):
        own_bias = law.draws_bias
        key = (law.shape, own_bias)
        std, bias_std = _weight_std(spec, law, phi), _bias_std(spec, law)
        streams[key].append(Stream(phi, std, bias_std, own_bias))
        curves[key].append(index)
    return [Group(key[0], tuple(streams[key]), tuple(curves[key])) for key in streams]


def _weight_std(spec: CorrelationSpec, law: Initializer, phi: Activation) -> tuple[float, ...]:
    slope = phi.gain_slope if spec.gain_slope is None else spec.gain_slope
    return tuple(law.std(fan_in, fan_out, slope) for fan_in, fan_out in pairwise(spec.widths))


def _bias_std(spec: CorrelationSpec, law: Initializer) -> tuple[float, ...] | None:
    if law.draws_bias:
        return tuple(default_bias_std(fan_in) for fan_in in spec.widths[:-1])
    return (spec.sigma_b,) * spec.depth if spec.sigma_b else None


def pairs_of_inputs(spec: CorrelationSpec) -> Array:
    """Inputs (n_0, 1 + pairs) of second moment 1; the first has the asked correlation with each.

    Random directions, made orthogonal first, so that the correlations are exact.
    """
    import torch

    stream = generator(spec.seed, "inputs")
    draw = torch.randn(spec.widths[0], 2, dtype=torch.float64, generator=stream).numpy()
    frame = np.linalg.qr(draw)[0] * math.sqrt(spec.widths[0])
    c = np.array([1.0, *spec.correlations])
    inputs: Array = frame[:, :1] * c + frame[:, 1:] * np.sqrt(1 - c**2)
    return inputs


def _blocks(spec: CorrelationSpec, group: Group, on_progress: Progress | None) -> Iterator[Array]:
    """Correlations of the group's streams, block by block: arrays (draws, L, streams, pairs).

    Blocks have their own generators, so they run side by side on CPU threads with the same result.
    """
    import torch

    device = resolve_device(spec.device)
    size = max(1, min(spec.draws, BLOCK_WEIGHTS // spec.width**2, 4096))
    starts = range(0, spec.draws, size)
    inputs = torch.from_numpy(pairs_of_inputs(spec)).float().to(device)

    def run(start: int) -> Array:
        return _run_block(spec, group, inputs, start // size, min(size, spec.draws - start))

    alone = device.type != "cpu" or shape_named(group.shape).is_orthogonal  # QR has threads of its own
    workers = 1 if alone else min(torch.get_num_threads(), len(starts))
    try:
        with ThreadPoolExecutor(workers) as pool:
            for start, block in zip(starts, pool.map(run, starts), strict=True):
                yield block
                if on_progress:
                    on_progress(start + len(block), spec.draws)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "memory" in str(error):
            raise WorkError(f"out of memory at width {spec.width}: make it smaller") from error
        raise


def _run_block(
    spec: CorrelationSpec, group: Group, inputs: torch.Tensor, block: int, draws: int
) -> Array:
    import torch

    from theory.draw.stacks import Ensemble

    streams, columns = len(group.streams), inputs.shape[1]
    log_input = 0.5 * math.log(spec.input_second_moment)
    ensemble = Ensemble(spec.widths, group.shape, group.streams, log_input).to(inputs.device)
    purpose = (group.shape, *(["own bias"] if group.streams[0].uniform_bias else []))
    weights = generator(spec.seed, "weights", *purpose, block, device=inputs.device)
    biases = generator(spec.seed, "biases", *purpose, block, device=inputs.device)

    def correlate(output: torch.Tensor) -> dict[str, torch.Tensor]:
        y = output.to(torch.float64).reshape(draws, -1, streams, columns)
        power = y.square().sum(1).sqrt()
        product = (y[..., :1] * y[..., 1:]).sum(1)
        return {"correlation": product / (power[..., :1] * power[..., 1:])}

    names = [f"layers.{index}" for index in range(spec.depth)]
    with torch.inference_mode(), Probe(ensemble, names, statistics=correlate) as probe:
        ensemble(inputs, draws, weights, biases)
    result: Array = torch.stack([r.forward["correlation"] for r in probe.readings], 1).cpu().numpy()
    return result
