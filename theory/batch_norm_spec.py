"""What can be asked of stacks with batch norm: a frozen request that checks itself, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from theory.activations import Activation
from theory.convolution_spec import DIRECTIONS, curve_names, parse_curves
from theory.devices import DEVICES
from theory.errors import RequestError, check_choice, check_real, check_whole
from theory.initializers import Initializer, drawing_biases
from theory.randomness import MAX_SEED

MIN_BATCH = 4


@dataclass(frozen=True)
class BatchNormSpec:
    """A simulation of dense stacks with batch norm: L × (Linear, BatchNorm, activation).

    depth, width   L weight layers of ``width`` units; the input has ``width`` entries too
    batch          inputs that are normalized together, at least 4
    draws          independent networks per curve
    direction      forward, backward (gradients of a random unit-variance cotangent at the last
                   layer's normalized output) or both
    the rest       as for plain stacks

    Raises ``RequestError`` on construction for anything unknown, impossible or contradictory.
    """

    depth: int = 30
    width: int = 512
    batch: int = 256
    draws: int = 10
    initializers: tuple[str, ...] = ("he", "xavier", "normal")
    activations: tuple[str, ...] = ("relu", "prelu")
    direction: str = "both"
    fan: str | None = None
    input_second_moment: float = 1.0
    gain_slope: float | None = None
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        check_whole("depth", self.depth, 1, 10_000)
        check_whole("width", self.width, 2, 16_384)
        check_whole("draws", self.draws, 2, 10_000_000)
        check_whole("seed", self.seed, 0, MAX_SEED)
        check_choice("direction", self.direction, DIRECTIONS)
        check_choice("device", self.device, DEVICES)
        check_real("the input second moment", self.input_second_moment, 1e-30, 1e30)
        if self.gain_slope is not None:
            check_real("gain slope", self.gain_slope, -10, 10)
        if isinstance(self.batch, int) and 1 <= self.batch < MIN_BATCH:
            raise RequestError(
                f"batch norm needs a batch of at least {MIN_BATCH}, not {self.batch}: of 2 inputs it "
                "leaves signs, and of 3 the gradient has no finite mean"
            )
        check_whole("batch", self.batch, MIN_BATCH, 65_536)
        if names := drawing_biases(law for law, _ in self.curves):
            raise RequestError(
                f"batch norm removes the biases that {names} draws: use another initializer"
            )

    @cached_property
    def curves(self) -> tuple[tuple[Initializer, Activation], ...]:
        """Every (initializer, activation), activations outermost, repeated names dropped."""
        return parse_curves(self.initializers, self.activations, self.fan)

    @property
    def directions(self) -> tuple[str, ...]:
        """forward, backward or both, in that order."""
        return ("forward", "backward") if self.direction == "both" else (self.direction,)

    def as_dict(self) -> dict[str, Any]:
        """The request as plain JSON values, names normalised."""
        names = (
            "depth", "width", "batch", "draws", "direction", "fan", "input_second_moment",
            "gain_slope", "seed",
        )  # fmt: skip
        return (
            {"norm": "batch"} | curve_names(self.curves) | {name: getattr(self, name) for name in names}
        )
