"""Monte Carlo over convolutional stacks, theory beside it: the tables of ``variance --stack conv``.

What has no closed form is the law of ln q_l: one network's pixels share its weights.  So ``z`` here
tests the mean.  The mean of q_l itself is hopeless in a deep stack (a few large networks carry it);
but q_l over its expectation given the layer before,

    r_l = q_l / (s·A₂·mean(forward_power(y_{l−1}²))),

has mean 1 exactly, given the past, and no heavy tail.  ``z`` at layer l is the mean over draws of
Σ_{k≤l} (r_k − 1) divided by its empirical standard error (as the normal score of Student's t): a
test of the growth up to layer l.
Backward there is no such conditioning, and z compares the mean itself, as long as its estimated
skewness allows.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from theory.activations import Activation
from theory.convolution_spec import ConvSpec
from theory.draw.moments import LogMoments
from theory.draw.simulate import COLUMNS
from theory.errors import WorkError
from theory.initializers import Initializer, default_bias_std
from theory.law import mean_field
from theory.law.convolution import (
    backward_power,
    expected_log_gradient,
    expected_log_power,
    log_borderless,
)
from theory.law.scores import normal_score
from theory.precision import float64_device
from theory.probe import Probe
from theory.randomness import generator

if TYPE_CHECKING:
    import torch

    from theory.draw.convolution_stacks import ConvStream

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]
BORDER_COLUMNS = {
    "initializer": "the weight laws that share these numbers, as named on the command line",
    "activation": "the activation, as named on the command line",
    "direction": "forward: second moments of y_l; backward: of ∂E/∂y_l",
    "layer": "l",
    "row": "i = 0 … H_l − 1",
    "column": "j = 0 … H_l − 1",
    "measured": "mean over draws and images, divided by what it would be without any border",
    "standard_error": "of measured, from the scatter between draws",
    "theory": "its expectation",
}
# A block of draws holds this many numbers at most, in one layer, or in all for backward's graph.
BLOCK_NUMBERS, GRAPH_NUMBERS, PIXEL_NUMBERS = 2**22, 2**25, 2**24
# Beyond this skewness of the sample mean its t statistic is no longer standard normal.
MOST_SKEWNESS = 0.3
LN10 = math.log(10)


def variance(spec: ConvSpec, on_progress: Progress | None = None) -> pd.DataFrame:
    """The table of ``spec``: measured and expected second moments, one row per curve and layer.

    Columns as in ``draw.simulate.COLUMNS``; q_l is the mean of y_l² over channels and pixels, its
    law has no closed form (those columns are NaN, ``law`` is "mean only"), and z is the one described
    at the top of this module.  Raises ``RequestError`` for a device that is not there, ``WorkError``
    when memory runs out.

    >>> table = variance(ConvSpec(depth=2, channels=4, image_size=4, draws=4, initializers=("he",)))
    >>> [round(10**value, 5) for value in table["log10_theory"][:2]]
    [1.38889, 1.04321]
    """
    return measure(spec, on_progress)[0]


def border_table(spec: ConvSpec, on_progress: Progress | None = None) -> pd.DataFrame:
    """Second moments per pixel at ``spec.border_layers``; columns: see ``BORDER_COLUMNS``."""
    return measure(spec, on_progress)[1]


def measure(spec: ConvSpec, on_progress: Progress | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``variance``'s and ``border_table``'s tables from one simulation.

    ``on_progress(done, total)`` is called as draws finish.
    """
    tables: dict[tuple[int, int], pd.DataFrame] = {}
    borders = []
    for group in _groups(spec):
        tallies = _tallies(spec, group, on_progress)
        for order, direction in enumerate(spec.directions):
            for curve in group.curves:
                tally = tallies[direction, curve.stream]
                tables[curve.index, order] = _table(spec, curve, direction, tally)
            for stream in range(len(group.streams)):
                curves = [curve for curve in group.curves if curve.stream == stream]
                borders.append(_border(spec, curves, direction, tallies[direction, stream]))
    rows = pd.concat([tables[key] for key in sorted(tables)], ignore_index=True)
    return rows, pd.concat(borders, ignore_index=True)


@dataclass(frozen=True)
class ConvCurve:
    """One (initializer, activation), the standard deviations it asks for, and its stream."""

    index: int
    initializer: Initializer
    activation: Activation
    weight_std: float
    bias_std: float | None
    stream: int


@dataclass(frozen=True)
class ConvGroup:
    """Curves that share weight draws: one shape of law, with or without biases."""

    law: Initializer
    streams: tuple[ConvStream, ...]
    curves: tuple[ConvCurve, ...]


def _groups(spec: ConvSpec) -> list[ConvGroup]:
    from theory.draw.convolution_stacks import ConvStream

    streams: dict[tuple[str, bool], list[ConvStream]] = defaultdict(list)
    curves: dict[tuple[str, bool], list[ConvCurve]] = defaultdict(list)
    for index, (law, activation) in enumerate(spec.curves):
        slope = activation.gain_slope if spec.gain_slope is None else spec.gain_slope
        std, bias = law.std(spec.fan_in, spec.fan_in, slope), spec.sigma_b or None
        if law.draws_bias:
            bias = default_bias_std(spec.fan_in)
        free = activation.is_rectifier and bias is None  # homogeneous: the scale factors out
        stream = ConvStream(activation, 1.0 if free else std, bias, law.draws_bias)
        key = (law.shape, bias is not None)
        if stream not in streams[key]:
            streams[key].append(stream)
        number = streams[key].index(stream)
        curves[key].append(ConvCurve(index, law, activation, std, bias, number))
    return [
        ConvGroup(curves[key][0].initializer, tuple(streams[key]), tuple(curves[key]))
        for key in streams
    ]


@dataclass
class Tally:
    """Streaming statistics of one stream in one direction.

    ``test`` accumulates what z is made from: count, sum and sum of squares over draws of (L,) values
    whose expectation is 0.  ``pixels`` holds the same sums for single pixels of the border layers.
    """

    curve: ConvCurve
    direction: str
    moments: LogMoments
    test: list[Any] = field(default_factory=lambda: [0, 0.0, 0.0])
    pixels: dict[int, list[Any]] = field(default_factory=dict)

    def add(self, spec: ConvSpec, powers: list[Array], log_scales: Array) -> None:
        """``powers`` per layer (batch, draws, H, H), to be multiplied by e^(2·``log_scales``)."""
        with np.errstate(divide="ignore"):
            log_q = np.log([power.mean((2, 3)) for power in powers]) + 2 * log_scales
        self.moments.add(log_q.transpose(2, 0, 1))
        if self.direction == "forward":
            values = _surprises(spec, self.curve, powers, log_scales, log_q).cumsum(0)
        else:
            expected = _log_means(_expectation(spec, self.curve, self.direction))
            values = np.exp(log_q - expected[:, None, None]) - 1
        _accumulate(self.test, values.mean(1).T)
        reference = _reference(spec, self.curve, self.direction)
        for layer in spec.border_layers:
            scale = np.exp(2 * log_scales[layer - 1] - reference[layer - 1])
            factors = (powers[layer - 1] * scale[:, :, None, None]).mean(0)
            _accumulate(self.pixels.setdefault(layer, [0, 0.0, 0.0]), factors)

    @property
    def z(self) -> Array:
        """What ``test`` says, (L,), standard normal if the theory holds; NaN for an approximation.

        A rounding error per layer is added to the standard error.
        """
        mean, error = _mean_and_error(self.test)
        if not self.curve.activation.is_rectifier:
            return np.full(mean.shape, np.nan)
        floor = 1e-6 * np.arange(1, len(mean) + 1)
        return normal_score(mean / np.sqrt(error**2 + floor**2), self.test[0] - 1)


def _accumulate(sums: list[Any], values: Array) -> None:
    sums[0] += len(values)
    sums[1] = sums[1] + values.sum(0)
    sums[2] = sums[2] + (values**2).sum(0)


def _mean_and_error(sums: list[Any]) -> tuple[Array, Array]:
    count, mean = sums[0], sums[1] / sums[0]
    with np.errstate(invalid="ignore"):
        return mean, np.sqrt((sums[2] / count - mean**2).clip(0) / (count - 1))


def _surprises(
    spec: ConvSpec, curve: ConvCurve, powers: list[Array], log_scales: Array, log_q: Array
) -> Array:
    """r_l − 1, shape (L, batch, draws): q_l over its expectation given layer l − 1, less one."""
    if not curve.activation.is_rectifier:
        return np.full(log_q.shape, np.nan)
    log_s = math.log(spec.fan_in) + 2 * math.log(curve.weight_std)
    log_gain = mean_field.log_activation_gain(curve.activation, 0.0)
    geometry = (spec.kernel_size, spec.pad, 1, 1, spec.padding_mode)
    log_seen = np.empty_like(log_q)
    for layer, size in enumerate(spec.sizes[1:]):
        share = backward_power(np.full((size, size), 1 / size**2), spec.sizes[layer], *geometry)
        if layer == 0:
            log_seen[0] = math.log(share.sum() * spec.input_second_moment)
            continue
        seen = np.tensordot(powers[layer - 1], share, 2)
        with np.errstate(divide="ignore"):
            log_seen[layer] = np.log(seen) + 2 * log_scales[layer - 1] + log_gain
    log_bias = 2 * math.log(curve.bias_std) if curve.bias_std else -math.inf
    expected = np.logaddexp(log_s + log_seen, log_bias)
    dead = ~np.isfinite(expected)  # a dead network stays dead, as it must
    return np.where(dead, 0.0, np.exp(log_q - np.where(dead, 0.0, expected)) - 1)


def _tallies(
    spec: ConvSpec, group: ConvGroup, on_progress: Progress | None
) -> dict[tuple[str, int], Tally]:
    tallies = {}
    for number, stream in enumerate(group.streams):
        curve = next(curve for curve in group.curves if curve.stream == number)
        unit = ConvCurve(
            0, curve.initializer, curve.activation, stream.weight_std, stream.bias_std, number
        )
        for direction in spec.directions:
            tallies[direction, number] = Tally(unit, direction, LogMoments(spec.depth))
    for block in _blocks(spec, group, on_progress):
        for (direction, number), tally in tallies.items():
            powers, log_scales = block[direction]
            images = slice(number * spec.batch, (number + 1) * spec.batch)
            tally.add(spec, [power[images] for power in powers], log_scales[:, images])
    return tallies


def _blocks(
    spec: ConvSpec, group: ConvGroup, on_progress: Progress | None
) -> Iterator[dict[str, tuple[list[Array], Array]]]:
    """Per direction, power per pixel of every layer and ln of its scale, block of draws by block."""
    import torch

    device = float64_device(spec.device)
    images = spec.batch * len(group.streams)
    pixels = images * spec.image_size**2
    size = min(BLOCK_NUMBERS // (pixels * spec.channels), PIXEL_NUMBERS // (pixels * spec.depth))
    if "backward" in spec.directions:
        size = min(size, GRAPH_NUMBERS // (4 * pixels * spec.channels * spec.depth))
    size = max(1, min(size, spec.draws))
    stream = generator(spec.seed, "images")
    shape = (spec.batch, spec.channels, spec.image_size, spec.image_size)
    noise = torch.randn(shape, dtype=torch.float64, generator=stream)
    inputs = (noise / noise.square().mean(1, keepdim=True).sqrt()).float().to(device)
    try:
        for start in range(0, spec.draws, size):
            draws = min(size, spec.draws - start)
            yield _run_block(spec, group, inputs, start // size, draws)
            if on_progress:
                on_progress(start + draws, spec.draws)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "memory" in str(error):
            raise WorkError(
                f"out of memory with {spec.batch} images of {spec.channels}×{spec.image_size}×"
                f"{spec.image_size}: make batch, channels or the image smaller"
            ) from error
        raise


def _run_block(
    spec: ConvSpec, group: ConvGroup, inputs: torch.Tensor, block: int, draws: int
) -> dict[str, tuple[list[Array], Array]]:
    import torch

    from theory.draw.convolution_stacks import ConvEnsemble, power

    ensemble = ConvEnsemble(spec, draws, group.law, group.streams, inputs.device)
    purpose = ("convolution", group.law.shape, block)
    weights = generator(spec.seed, "weights", *purpose, device=inputs.device)
    biases = generator(spec.seed, "biases", *purpose, device=inputs.device)
    names = [f"layers.{index}" for index in range(spec.depth)]
    backward = "backward" in spec.directions
    statistics = lambda output: {"power": power(output, draws)}  # noqa: E731
    with (
        torch.set_grad_enabled(backward),
        Probe(ensemble, names, backward=backward, statistics=statistics) as probe,
    ):
        scales = ensemble(inputs, weights, biases)
        log_scales = {"forward": scales}
        if backward:
            cotangents = generator(spec.seed, "cotangents", *purpose, device=inputs.device)
            log_scales["backward"] = ensemble.backward(cotangents, scales)
    result = {}
    for direction in spec.directions:
        powers = [(getattr(reading, direction) or {})["power"] for reading in probe.readings]
        result[direction] = (
            [power.cpu().numpy() for power in powers],
            log_scales[direction].cpu().numpy(),
        )
    return result


def _expectation(spec: ConvSpec, curve: ConvCurve, direction: str) -> list[Array]:
    expected = expected_log_gradient if direction == "backward" else expected_log_power
    return expected(spec, curve.activation, curve.weight_std, (curve.bias_std or 0.0) ** 2)


def _reference(spec: ConvSpec, curve: ConvCurve, direction: str) -> Array:
    bias_variance = (curve.bias_std or 0.0) ** 2
    return log_borderless(spec, curve.activation, curve.weight_std, bias_variance, direction)


def _log_means(log_powers: list[Array]) -> Array:
    return np.array([np.logaddexp.reduce(log.ravel()) - math.log(log.size) for log in log_powers])


def _log_shift(spec: ConvSpec, curve: ConvCurve, tally: Tally, direction: str) -> Array:
    """What turns the stream's ln q_l into the curve's: 2 ln std per convolution passed, (L,)."""
    step = 2 * math.log(curve.weight_std / tally.curve.weight_std)
    passed = np.arange(1, spec.depth + 1)
    if direction == "backward":
        passed = spec.depth - passed
    shift: Array = step * passed.astype(np.float64)
    return shift


def _table(spec: ConvSpec, curve: ConvCurve, direction: str, tally: Tally) -> pd.DataFrame:
    moments, shift = tally.moments, _log_shift(spec, curve, tally, direction)
    slope, z = curve.activation.negative_slope, np.array(tally.z)
    if direction == "backward":
        growth = np.expm1(moments.variance)  # a log-normal's
        skewness = (growth + 3) * np.sqrt(growth / spec.draws)
        z[~(skewness < MOST_SKEWNESS)] = np.nan
    columns: dict[str, Any] = {
        "initializer": curve.initializer.name,
        "activation": curve.activation.name,
        "negative_slope": math.nan if slope is None else slope,
        "direction": direction,
        "engine": "modules",
        "layer": np.arange(1, spec.depth + 1),
        "log10_measured": (moments.log_of_mean + shift) / LN10,
        "log10_theory": _log_means(_expectation(spec, curve, direction)) / LN10,
        "log_mean": moments.mean + shift,
        "log_variance": moments.variance,
        "z": z,
        "dead_fraction": moments.dead_fraction,
        "law": "none" if slope is None else "mean only",
    }
    return pd.DataFrame({name: columns.get(name, math.nan) for name in COLUMNS})


def _border(spec: ConvSpec, curves: list[ConvCurve], direction: str, tally: Tally) -> pd.DataFrame:
    expected = _expectation(spec, tally.curve, direction)
    reference = _reference(spec, tally.curve, direction)
    names = " ".join(dict.fromkeys(curve.initializer.name for curve in curves))
    parts = []
    for layer in spec.border_layers:
        measured, error = _mean_and_error(tally.pixels[layer])
        rows, columns = np.indices(measured.shape)
        values = {
            "initializer": names,
            "activation": tally.curve.activation.name,
            "direction": direction,
            "layer": layer,
            "row": rows.ravel(),
            "column": columns.ravel(),
            "measured": measured.ravel(),
            "standard_error": error.ravel(),
            "theory": np.exp(expected[layer - 1] - reference[layer - 1]).ravel(),
        }
        parts.append(pd.DataFrame({name: values[name] for name in BORDER_COLUMNS}))
    return pd.concat(parts, ignore_index=True)
