"""Convolutional stacks: what a block of networks gives, pixel by pixel.

What has no closed form is the law of ln q_l: one network's pixels share its weights.  So ``z`` here
tests the mean.  The mean of q_l itself is hopeless in a deep stack (a few large networks carry it);
but q_l over its expectation given the layer before,

    r_l = q_l / (s·A₂·mean(forward_power(y_{l−1}²))),

has mean 1 exactly, given the past, and no heavy tail.  What z at layer l tests is Σ_{k≤l} (r_k − 1),
whose mean over draws is 0: a test of the growth up to layer l.  Backward there is no such conditioning,
and z compares the mean itself, as long as its estimated skewness allows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from theory.draw.convolution_stacks import ConvEnsemble, power
from theory.draw.ensemble import Block, Curve, Group, Simulation
from theory.draw.moments import Moments
from theory.draw.stacks import Stream
from theory.law import mean_field
from theory.law.convolution import (
    expected_log_means,
    expected_log_powers,
    log_borderless,
)
from theory.probe import Probe
from theory.randomness import generator
from theory.specs import ConvSpec
from theory.windows import backward_power

Array = NDArray[np.float64]
Reading = tuple[list[Array], Array]  # power per layer (images, draws, H, H), and ln of its scale
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


class ConvSimulation(Simulation[ConvSpec]):
    """Networks of ``ConvSpec``; also keeps the second moments of single pixels at some layers."""

    purpose = ("convolution",)
    advice = (
        "{0.batch} images of {0.channels}×{0.image_size}×{0.image_size}: make batch, channels or the "
        "image smaller"
    )

    def __init__(self, spec: ConvSpec, group: Group) -> None:
        super().__init__(spec, group)
        keys = [(way, number) for way in spec.directions for number in range(len(group.streams))]
        self.expected = {key: self._of_stream(expected_log_powers, *key) for key in keys}
        self.reference = {key: self._of_stream(log_borderless, *key) for key in keys}
        self.pixels = {(*key, layer): Moments() for key in keys for layer in spec.border_layers}

    def _of_stream(self, theory: Any, direction: str, number: int) -> Any:
        """What a function of ``law.convolution`` says of a stream at its own scale."""
        stream = self.group.streams[number]
        variance = stream.bias_std[0] ** 2 if stream.bias_std else 0.0
        return theory(self.spec, stream.activation, stream.weight_std[0], variance, direction)

    @property
    def block_size(self) -> int:
        """Draws per block."""
        spec = self.spec
        pixels = spec.batch * len(self.group.streams) * spec.image_size**2
        size = min(BLOCK_NUMBERS // (pixels * spec.channels), PIXEL_NUMBERS // (pixels * spec.depth))
        if "backward" in spec.directions:
            size = min(size, GRAPH_NUMBERS // (4 * pixels * spec.channels * spec.depth))
        return max(1, min(size, spec.draws))

    def inputs(self) -> torch.Tensor:
        """Random images (batch, C, H, H) of power 1 at every pixel."""
        spec = self.spec
        shape = (spec.batch, spec.channels, spec.image_size, spec.image_size)
        noise = torch.randn(shape, dtype=torch.float64, generator=generator(spec.seed, "images"))
        return noise / noise.square().mean(1, keepdim=True).sqrt()

    def run(self, block: int, draws: int) -> Block:
        """What ``draws`` networks gave; the pixels join those of the blocks before."""
        readings = self.read(block, draws)
        log_q: dict[str, list[Array]] = {way: [] for way in readings}
        surprise: dict[str, list[Array]] = {way: [] for way in readings}
        for number, stream in enumerate(self.group.streams):
            images = slice(number * self.spec.batch, (number + 1) * self.spec.batch)
            for way, (powers, log_scales) in readings.items():
                own = [one[images] for one in powers], log_scales[:, images]
                with np.errstate(divide="ignore"):
                    log_power = np.log([one.mean((2, 3)) for one in own[0]]) + 2 * own[1]
                log_q[way].append(log_power.transpose(2, 0, 1))
                surprise[way].append(self._surprise(way, number, stream, own, log_power).mean(1).T)
                self._add_pixels(way, number, own)
        return Block(
            {way: np.stack(values, 2) for way, values in log_q.items()},
            surprise={way: np.stack(values, 2) for way, values in surprise.items()},
        )

    def read(self, block: int, draws: int) -> dict[str, Reading]:
        """Per direction, power per pixel of every layer and ln of its scale."""
        spec, group = self.spec, self.group
        ensemble = ConvEnsemble(spec, draws, group.law, group.streams, self.device)
        names = [f"layers.{index}" for index in range(spec.depth)]
        backward = "backward" in spec.directions
        statistics = lambda output: {"power": power(output, draws)}  # noqa: E731
        with (
            torch.set_grad_enabled(backward),
            Probe(ensemble, names, backward=backward, statistics=statistics) as probe,
        ):
            scales = ensemble(self.x, self.stream("weights", block), self.stream("biases", block))
            log_scales = {"forward": scales}
            if backward:
                cotangents = self.stream("cotangents", block)
                log_scales["backward"] = ensemble.backward(cotangents, scales)
        return {
            way: (
                [(getattr(one, way) or {})["power"].cpu().numpy() for one in probe.readings],
                log_scales[way].cpu().numpy(),
            )
            for way in spec.directions
        }

    def _surprise(
        self, direction: str, number: int, stream: Stream, reading: Reading, log_q: Array
    ) -> Array:
        """Values of expectation 0, (L, images, draws); NaN where the expectation is a limit."""
        if not stream.activation.is_rectifier:
            return np.full(log_q.shape, np.nan)
        if direction == "backward":
            expected = expected_log_means(self.expected[direction, number])
            ratio: Array = np.exp(log_q - expected[:, None, None]) - 1
            return ratio
        return _surprises(self.spec, stream, reading, log_q).cumsum(0)

    def _add_pixels(self, direction: str, number: int, reading: Reading) -> None:
        powers, log_scales = reading
        reference = self.reference[direction, number]
        for layer in self.spec.border_layers:
            scale = np.exp(2 * log_scales[layer - 1] - reference[layer - 1])
            factors = (powers[layer - 1] * scale[:, :, None, None]).mean(0)
            self.pixels[direction, number, layer].add(np.moveaxis(factors, 0, -1))

    def border(self) -> dict[int, pd.DataFrame]:
        """Second moments per pixel at the border layers, by the index of the first curve of each
        stream (backward ones after all forward ones); columns: see ``BORDER_COLUMNS``."""
        tables = {}
        for order, direction in enumerate(self.spec.directions):
            for number in range(len(self.group.streams)):
                curves = [curve for curve in self.group.curves if curve.stream == number]
                place = order * len(self.spec.curves) + curves[0].index
                tables[place] = self._border_of(curves, direction, number)
        return tables

    def _border_of(self, curves: list[Curve], direction: str, number: int) -> pd.DataFrame:
        expected, reference = self.expected[direction, number], self.reference[direction, number]
        parts = []
        for layer in self.spec.border_layers:
            moments = self.pixels[direction, number, layer]
            rows, columns = np.indices(moments.mean.shape)
            values = {
                "initializer": " ".join(dict.fromkeys(curve.initializer.name for curve in curves)),
                "activation": curves[0].activation.name,
                "direction": direction,
                "layer": layer,
                "row": rows.ravel(),
                "column": columns.ravel(),
                "measured": moments.mean.ravel(),
                "standard_error": moments.error.ravel(),
                "theory": np.exp(expected[layer - 1] - reference[layer - 1]).ravel(),
            }
            parts.append(pd.DataFrame({name: values[name] for name in BORDER_COLUMNS}))
        return pd.concat(parts, ignore_index=True)


def _surprises(spec: ConvSpec, stream: Stream, reading: Reading, log_q: Array) -> Array:
    """r_l − 1, shape (L, images, draws): q_l over its expectation given layer l − 1, less one."""
    powers, log_scales = reading
    log_s = math.log(spec.fan_in) + 2 * math.log(stream.weight_std[0])
    log_gain = mean_field.log_activation_gain(stream.activation, 0.0)
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
    log_bias = 2 * math.log(stream.bias_std[0]) if stream.bias_std else -math.inf
    expected = np.logaddexp(log_s + log_seen, log_bias)
    dead = ~np.isfinite(expected)  # a dead network stays dead, as it must
    surprises: Array = np.where(dead, 0.0, np.exp(log_q - np.where(dead, 0.0, expected)) - 1)
    return surprises
