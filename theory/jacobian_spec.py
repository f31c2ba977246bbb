"""What can be asked about input–output Jacobians: a request that checks itself, without numpy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from theory.activations import Activation, parse_activation
from theory.devices import DEVICES
from theory.errors import RequestError, check_choice, check_whole
from theory.initializers import Initializer, parse_initializer
from theory.randomness import MAX_SEED

MAX_DEPTH, MAX_WIDTH, MAX_DRAWS, MAX_VALUES = 1000, 4096, 100_000, 20_000_000
LEAST_DRAWS = 5  # below, a spread estimated from the draws says little


@dataclass(frozen=True)
class JacobianSpec:
    """Singular values of ∂x_L/∂x_0 in square stacks, one curve per law and rectifier.

    depth, width   L layers of ``width`` units, each a weight and then a rectifier, the last included
    draws          independent networks per curve
    initializers, activations   names as on the command line; every pair is one curve
    seed, device   what the random numbers and the arithmetic (float64) come from

    Raises ``RequestError`` on construction for anything unknown, impossible, or no rectifier.
    """

    depth: int = 10
    width: int = 200
    draws: int = 30
    initializers: tuple[str, ...] = ("he", "orthogonal")
    activations: tuple[str, ...] = ("linear", "relu", "prelu")
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        check_whole("depth", self.depth, 1, MAX_DEPTH)
        check_whole("width", self.width, 1, MAX_WIDTH)
        check_whole("draws", self.draws, LEAST_DRAWS, MAX_DRAWS)
        check_whole("seed", self.seed, 0, MAX_SEED)
        check_choice("device", self.device, DEVICES)
        if not self.initializers or not self.activations:
            raise RequestError("name at least one initializer and one activation")
        for _, activation in self.curves:
            if not activation.is_rectifier:
                raise RequestError(
                    f"the Jacobian's exact values hold for rectifiers, not for {activation.name}: "
                    "use relu, prelu, leaky-relu:SLOPE or linear"
                )
        values = len(self.curves) * self.draws * self.width
        if values > MAX_VALUES:
            raise RequestError(
                f"{values:,} singular values are more than {MAX_VALUES:,}: ask for fewer draws"
            )

    @cached_property
    def curves(self) -> tuple[tuple[Initializer, Activation], ...]:
        """Every (initializer, activation), activations outermost, repeated names dropped."""
        laws = dict.fromkeys(parse_initializer(name) for name in self.initializers)
        activations = dict.fromkeys(parse_activation(name) for name in self.activations)
        return tuple((law, activation) for activation in activations for law in laws)

    @property
    def widths(self) -> tuple[int, ...]:
        """(n_0, n_1, …, n_L)."""
        return (self.width,) * (self.depth + 1)

    def as_dict(self) -> dict[str, Any]:
        """The request as plain JSON values, names normalised."""
        return {
            "depth": self.depth,
            "width": self.width,
            "draws": self.draws,
            "init": list(dict.fromkeys(law.name for law, _ in self.curves)),
            "activation": list(dict.fromkeys(activation.name for _, activation in self.curves)),
            "seed": self.seed,
        }
