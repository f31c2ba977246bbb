"""Plain dense stacks: what a block of networks gives, as real modules or by their exact law."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from theory.draw import sampler
from theory.draw.ensemble import Block, Simulation
from theory.draw.stacks import Ensemble, Trace, activate
from theory.probe import Probe, Reading
from theory.randomness import generator
from theory.specs import VarianceSpec

Array = NDArray[np.float64]

# One block holds this many weights per layer at most: 8 MiB of float32.
BLOCK_WEIGHTS = 2**21
BLOCK_DRAWS = 4096
# All blocks at work together keep weights for the way back up to this many numbers (1 GiB); beyond,
# they are drawn twice.
KEPT_WEIGHTS = 2**28
# What one draw of a block needs beside its weights is bounded too: signals, and one number per layer.
BLOCK_BYTES = 2**26


class DenseSimulation(Simulation[VarianceSpec]):
    """Networks of ``VarianceSpec``, by the engine that it names."""

    threaded = True

    @property
    def block_size(self) -> int:
        """Draws per block."""
        spec = self.spec
        columns = spec.batch * len(spec.curves)
        back = "backward" in spec.directions
        # per layer, draw and column: float64 readings of up to three kinds, and copies for the merge
        readings = spec.depth * columns * (72 if back else 24)
        # float32 signal, its float64 copies; a backward pass keeps the signal of every layer
        signals = spec.width * columns * (40 + (16 * spec.depth if back else 0))
        if spec.engine == "law" and not spec.needs_units:
            signals = columns * 64
        most = max(1, BLOCK_BYTES // (readings + signals))
        if spec.engine == "modules":
            weights = max(fan_in * fan_out for fan_in, fan_out in spec.fans)
            most = min(most, max(1, BLOCK_WEIGHTS // weights), BLOCK_DRAWS)
        return min(spec.draws, most)

    def inputs(self) -> torch.Tensor:
        """``batch`` random directions (n_0, batch)."""
        stream = generator(self.spec.seed, "inputs")
        shape = self.spec.widths[0], self.spec.batch
        inputs = torch.randn(shape, dtype=torch.float64, generator=stream)
        return inputs / inputs.square().mean(0).sqrt()

    def run(self, block: int, draws: int) -> Block:
        """What ``draws`` networks gave."""
        return self._by_law(block, draws) if self.spec.engine == "law" else self._modules(block, draws)

    def _modules(self, block: int, draws: int) -> Block:
        """Real modules, read by the probe; the gradient by its backward half."""
        spec, group = self.spec, self.group
        back = "backward" in spec.directions
        readings, trace, log_factor = self._pass(block, draws, keep=(0, 2))

        def shaped(values: torch.Tensor) -> Array:
            by_draw = values.transpose(0, 1).reshape(draws, spec.depth, len(group.streams), -1)
            result: Array = by_draw.cpu().numpy()
            return result

        forward = torch.stack([reading.forward["second_moment"] for reading in readings])
        log_forward = shaped(forward.log() + 2 * trace.log_scale)
        if not back:
            return Block({"forward": log_forward})
        seen = [reading.backward for reading in readings]
        gradient = torch.stack([moments["second_moment"] for moments in seen if moments is not None])
        log_gradient = gradient.log() + 2 * log_factor
        sizes = torch.tensor([math.log(n * m) for n, m in pairwise(spec.widths)], dtype=torch.float64)
        log_weight = log_gradient + trace.log_input + sizes.to(self.device)[:, None, None]
        return Block({"forward": log_forward, "backward": shaped(log_gradient)}, shaped(log_weight))

    def _pass(self, block: int, draws: int, **read: Any) -> tuple[list[Reading], Trace, torch.Tensor]:
        """One pass of ``draws`` networks, and back if asked: what the probe read, and its scales.

        The last is ``Trace.backward``'s; empty where there is no way back.
        """
        spec, group = self.spec, self.group
        back = "backward" in spec.directions
        weights = draws * sum(fan_in * fan_out for fan_in, fan_out in spec.fans)
        ensemble = Ensemble(
            spec.widths,
            group.law.shape,
            group.streams,
            0.5 * math.log(spec.input_second_moment),
            keep=weights * torch.get_num_threads() <= KEPT_WEIGHTS,
        ).to(self.device)
        names = [f"layers.{index}" for index in range(spec.depth)]
        log_factor = torch.empty(0)
        with torch.set_grad_enabled(back), Probe(ensemble, names, backward=back, **read) as probe:
            trace = ensemble(self.x, draws, self.stream("weights", block), self.stream("biases", block))
            if back:
                cotangent = self._cotangent(trace.output, self.stream("cotangent", block))
                log_factor = trace.backward(cotangent)
        return probe.readings, trace, log_factor

    def magnitudes(self, draws: int) -> Iterator[tuple[int, int, dict[str, Array]]]:
        """(stream, layer, ln|x_l| and ln|∂/∂y_l|) of each unit of ``draws`` networks; ln 0 = −∞.

        x_l = φ(y_l).  In the stream's own scale: see ``Curve.log_shift``.  Needs both directions.
        """
        readings, trace, log_factor = self._pass(0, draws, statistics=lambda tensor: {"values": tensor})
        for stream, one in enumerate(self.group.streams):
            columns = slice(stream * self.spec.batch, (stream + 1) * self.spec.batch)
            module = one.activation.module().to(self.device)
            for index, reading in enumerate(readings):
                assert reading.backward is not None
                log_scale = trace.log_scale[index][:, columns]
                unit = reading.forward["values"][:, :, columns]
                x = activate(one.activation, module, unit, log_scale).detach().double()
                gradient = reading.backward["values"][:, :, columns]
                factor = log_factor[index][:, columns]
                found = {
                    "activation": x.abs().log() + log_scale[:, None, :],
                    "gradient": gradient.double().abs().log() + factor[:, None, :],
                }
                yield stream, index + 1, {name: log.cpu().numpy() for name, log in found.items()}

    def _cotangent(self, output: torch.Tensor, stream: torch.Generator) -> torch.Tensor:
        """A random direction per draw and input, of second moment 1, the same for every stream."""
        draws, units, columns = output.shape
        batch = self.spec.batch
        direction = torch.empty(draws, units, batch, device=output.device).normal_(generator=stream)
        direction = direction / direction.square().mean(1, keepdim=True).sqrt()
        return direction.repeat(1, 1, columns // batch)

    def _by_law(self, block: int, draws: int) -> Block:
        """The exact law: no weights."""
        spec, streams = self.spec, self.group.streams
        stream = generator(spec.seed, "law", block, device=self.device)
        log_input = math.log(spec.input_second_moment)
        if spec.needs_units:
            log_q, _ = sampler.batch(spec.widths, streams, self.x, draws, stream, log_input)
            return Block({"forward": log_q})
        back = "backward" in spec.directions
        forward, backward, weight = sampler.one_input(
            spec.widths, streams, draws, stream, log_input, backward=back
        )
        both = {"forward": forward} | ({} if backward is None else {"backward": backward})
        return Block(both, weight)
