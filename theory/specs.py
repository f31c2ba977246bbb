"""What can be asked of the theory: frozen requests that check themselves, without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from theory.activations import Activation, parse_activation
from theory.devices import DEVICES
from theory.errors import RequestError, check_choice, check_real, check_whole
from theory.initializers import FANS, Initializer, drawing_biases, parse_initializer
from theory.randomness import MAX_SEED

MAX_DEPTH, MAX_WIDTH, MAX_BATCH, MAX_DRAWS = 100_000, 16_384, 65_536, 10_000_000
# Of one draw: a signal of this many numbers, or readings, is what still fits in a few GiB.
MAX_NUMBERS = 2**24
DIRECTIONS = ("forward", "backward", "both")
ENGINES = ("modules", "law")


@dataclass(frozen=True)
class VarianceSpec:
    """A simulation of activation variance through dense stacks, one curve per law and activation.

    depth, width          L weight layers of ``width`` units each; the input has ``width`` entries too
    layer_widths          (n_0, n_1, …, n_L) instead: widths of their own, which set the depth
    draws, batch          independent networks per curve; inputs that each of them sees
    initializers, activations   names as on the command line; every pair is one curve
    direction             forward: pre-activations y_l; backward: gradients ∂/∂y_l of a random cotangent
                          of second moment 1 at y_L; both
    engine                modules: nn.Modules with hooks; law: their exact law, without weights
    fan                   fan_in, fan_out or fan_avg for the laws that leave it free; None: their own
    input_second_moment   mean of x_0² of every input, exactly
    sigma_b               standard deviation of Gaussian biases
    gain_slope            the slope in He's gain; None: the one of the activation (Eq. 15)
    seed, device          what the random numbers and the arithmetic come from

    Raises ``RequestError`` on construction for anything unknown, impossible or contradictory.
    """

    depth: int = 30
    width: int = 512
    layer_widths: tuple[int, ...] | None = None
    draws: int = 100
    batch: int = 1
    initializers: tuple[str, ...] = ("he", "xavier", "normal")
    activations: tuple[str, ...] = ("relu", "prelu")
    direction: str = "forward"
    engine: str = "modules"
    fan: str | None = None
    input_second_moment: float = 1.0
    sigma_b: float = 0.0
    gain_slope: float | None = None
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.layer_widths is not None:
            if len(self.layer_widths) < 2:
                raise RequestError("name at least two widths: the input's and one layer's")
            for width in self.layer_widths:
                check_whole("width", width, 1, MAX_WIDTH)
            object.__setattr__(self, "layer_widths", tuple(self.layer_widths))
            object.__setattr__(self, "depth", len(self.layer_widths) - 1)
            object.__setattr__(self, "width", max(self.layer_widths))
        check_whole("depth", self.depth, 1, MAX_DEPTH)
        check_whole("width", self.width, 1, MAX_WIDTH)
        check_whole("draws", self.draws, 2, MAX_DRAWS)
        check_whole("batch", self.batch, 1, MAX_BATCH)
        for what, size in (("depth × batch", self.depth), ("width × batch", self.width)):
            check_whole(what, size * self.batch, 1, MAX_NUMBERS)
        check_whole("seed", self.seed, 0, MAX_SEED)
        check_choice("direction", self.direction, DIRECTIONS)
        check_choice("engine", self.engine, ENGINES)
        check_choice("device", self.device, DEVICES)
        check_real("the input second moment", self.input_second_moment, 1e-30, 1e30)
        check_real("sigma-b", self.sigma_b, 0, 1e6)
        if self.gain_slope is not None:
            check_real("gain slope", self.gain_slope, -10, 10)
        if not self.initializers or not self.activations:
            raise RequestError("name at least one initializer and one activation")
        _ = self.curves  # parses every name
        if self.fan is not None and not any(law.law.free_fan for law, _ in self.curves):
            raise RequestError(
                f"--fan {check_choice('fan', self.fan, FANS)} has nothing to act on: "
                f"{', '.join(self.initializers)} has a fan of its own; use it with he or lecun"
            )
        if self.sigma_b and (names := drawing_biases((law for law, _ in self.curves))):
            raise RequestError(f"sigma-b contradicts {names}, whose law draws its own biases; drop one")
        if self.engine == "law":
            self._check_law()

    def _check_law(self) -> None:
        """The exact law holds for independent Gaussian weights only."""
        others = sorted({law.name for law, _ in self.curves if law.shape != "normal"})
        if others:
            raise RequestError(
                f"--engine law needs Gaussian weights, and {', '.join(others)} draws none: "
                "use --engine modules"
            )
        smooth = any(not activation.is_rectifier for _, activation in self.curves)
        if self.direction != "forward" and (smooth or self.batch > 1 or self.sigma_b):
            raise RequestError(
                "--engine law goes backward for one input through rectifiers without bias: "
                "use --engine modules"
            )

    @cached_property
    def curves(self) -> tuple[tuple[Initializer, Activation], ...]:
        """Every (initializer, activation), activations outermost, repeated names dropped."""
        laws = dict.fromkeys(parse_initializer(name, self.fan) for name in self.initializers)
        activations = dict.fromkeys(parse_activation(name) for name in self.activations)
        return tuple((law, activation) for activation in activations for law in laws)

    @property
    def widths(self) -> tuple[int, ...]:
        """(n_0, n_1, …, n_L)."""
        return self.layer_widths or (self.width,) * (self.depth + 1)

    @property
    def directions(self) -> tuple[str, ...]:
        """forward, backward, or both of them."""
        return ("forward", "backward") if self.direction == "both" else (self.direction,)

    @property
    def needs_units(self) -> bool:
        """Whether the exact law must draw every unit: several inputs, or a smooth activation."""
        return self.batch > 1 or any(not activation.is_rectifier for _, activation in self.curves)

    def as_dict(self) -> dict[str, Any]:
        """The request as plain JSON values, names normalised."""
        return {
            "depth": self.depth,
            "width": self.width,
            "widths": None if self.layer_widths is None else list(self.layer_widths),
            "draws": self.draws,
            "batch": self.batch,
            "init": list(dict.fromkeys(law.name for law, _ in self.curves)),
            "activation": list(dict.fromkeys(activation.name for _, activation in self.curves)),
            "direction": self.direction,
            "engine": self.engine,
            "fan": self.fan,
            "input_second_moment": self.input_second_moment,
            "sigma_b": self.sigma_b,
            "gain_slope": self.gain_slope,
            "seed": self.seed,
        }
