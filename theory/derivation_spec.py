"""What can be asked of the derivation: a request that checks itself, without numpy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from theory.activations import Activation, parse_activation
from theory.devices import DEVICES
from theory.errors import RequestError, check_choice, check_whole
from theory.randomness import MAX_SEED

MAX_DEPTH, MAX_WIDTH, MAX_DRAWS = 100, 4096, 100_000


@dataclass(frozen=True)
class DerivationSpec:
    """He's derivation checked on networks of ``depth`` layers, ``width`` units, drawn ``draws`` times.

    (Odd widths are rounded down, so that a network can double its width midway.)

    activation    the rectifier of the part that follows Eq. 15; the part before it is ReLU's
    seed, device  what the random numbers and the arithmetic (float64) come from

    A width of at least 16 keeps networks that die at their first layer out of every realistic run.
    Raises ``RequestError`` on construction for anything unknown, impossible, or no rectifier.
    """

    depth: int = 10
    width: int = 128
    draws: int = 100
    activation: str = "prelu"
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        check_whole("depth", self.depth, 3, MAX_DEPTH)
        check_whole("width", self.width, 16, MAX_WIDTH)
        check_whole("draws", self.draws, 10, MAX_DRAWS)
        check_whole("seed", self.seed, 0, MAX_SEED)
        check_choice("device", self.device, DEVICES)
        if not self.rectifier.is_rectifier:
            raise RequestError(
                f"the derivation is for rectifiers, not for {self.rectifier.name}: "
                "use relu, prelu, prelu:SLOPE, leaky-relu:SLOPE or linear"
            )

    @cached_property
    def rectifier(self) -> Activation:
        """The activation of the second part."""
        return parse_activation(self.activation)

    def as_dict(self) -> dict[str, Any]:
        """The request as plain JSON values, names normalised."""
        return {
            "depth": self.depth,
            "width": self.width,
            "draws": self.draws,
            "activation": self.rectifier.name,
            "negative_slope": self.rectifier.gain_slope,
            "seed": self.seed,
        }
