"""What can be asked of the mean field: frozen requests that check themselves; torch is not imported."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from theory.activations import Activation, parse_activation
from theory.devices import DEVICES
from theory.errors import RequestError, check_choice, check_real, check_whole
from theory.initializers import FANS, Initializer, drawing_biases, parse_initializer
from theory.randomness import MAX_SEED
from theory.specs import MAX_DEPTH, MAX_DRAWS, MAX_WIDTH

GAINS_ACTIVATIONS = (
    "relu",
    "leaky-relu:0.01",
    "prelu",
    "linear",
    "tanh",
    "gelu",
    "silu",
    "elu",
    "selu",
)
PHASE_ACTIVATIONS = ("relu", "prelu", "tanh")
MAX_PAIRS = 64
LEAST_DRAWS = 10  # below, a spread estimated from the draws says little


@dataclass(frozen=True)
class GainsSpec:
    """The gains of some activations, named as on the command line; repeated names are dropped."""

    activations: tuple[str, ...] = GAINS_ACTIVATIONS

    def __post_init__(self) -> None:
        _ = self.parsed

    @cached_property
    def parsed(self) -> tuple[Activation, ...]:
        """The activations, in the order asked for."""
        return _activations(self.activations)

    def as_dict(self) -> dict[str, Any]:
        """The request as plain JSON values, names normalised."""
        return {"activation": [activation.name for activation in self.parsed]}


@dataclass(frozen=True)
class CorrelationSpec:
    """A simulation of the correlation of pairs of inputs through dense stacks, the map beside it.

    depth, width          L weight layers of ``width`` units each; the input has ``width`` entries too
    draws                 independent networks per curve
    initializers, activations   names as on the command line; every pair of names is a curve …
    correlations          … for each of these correlations of two inputs, in [−1, 1], held exactly
    fan, gain_slope, sigma_b, input_second_moment, seed, device   as in ``VarianceSpec``

    Raises ``RequestError`` on construction for anything unknown, impossible or contradictory.
    """

    depth: int = 50
    width: int = 512
    draws: int = 100
    initializers: tuple[str, ...] = ("he",)
    activations: tuple[str, ...] = ("relu", "prelu")
    correlations: tuple[float, ...] = (0.0, 0.5, 0.9)
    fan: str | None = None
    gain_slope: float | None = None
    sigma_b: float = 0.0
    input_second_moment: float = 1.0
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        check_whole("depth", self.depth, 1, MAX_DEPTH)
        check_whole("width", self.width, 2, MAX_WIDTH)
        check_whole("draws", self.draws, LEAST_DRAWS, MAX_DRAWS)
        check_whole("seed", self.seed, 0, MAX_SEED)
        check_choice("device", self.device, DEVICES)
        check_real("sigma-b", self.sigma_b, 0, 1e6)
        check_real("the input second moment", self.input_second_moment, 1e-30, 1e30)
        if self.gain_slope is not None:
            check_real("gain slope", self.gain_slope, -10, 10)
        check_whole("the number of correlations", len(self.correlations), 1, MAX_PAIRS)
        for correlation in self.correlations:
            check_real("a correlation of two inputs", correlation, -1, 1)
        if len(set(self.correlations)) < len(self.correlations):
            raise RequestError("name each correlation once")
        laws = [law for law, _ in self.curves]  # parses every name
        if self.fan is not None and not any(law.law.free_fan for law in laws):
            raise RequestError(
                f"--fan {check_choice('fan', self.fan, FANS)} has nothing to act on: "
                f"{', '.join(self.initializers)} has a fan of its own; use it with he or lecun"
            )
        if self.sigma_b and (names := drawing_biases(laws)):
            raise RequestError(f"sigma-b contradicts {names}, whose law draws its own biases; drop one")

    @cached_property
    def curves(self) -> tuple[tuple[Initializer, Activation], ...]:
        """Every (initializer, activation), activations outermost, repeated names dropped."""
        laws = _initializers(self.initializers, self.fan)
        return tuple((law, phi) for phi in _activations(self.activations) for law in laws)

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
            "activation": list(dict.fromkeys(phi.name for _, phi in self.curves)),
            "correlations": list(self.correlations),
            "fan": self.fan,
            "gain_slope": self.gain_slope,
            "sigma_b": self.sigma_b,
            "input_second_moment": self.input_second_moment,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class PhaseSpec:
    """The phase diagram (σ_w², σ_b²) of some activations, with initializers marked in it.

    ``width`` is fan_in and fan_out of the layers whose σ_w² = fan_in·Var[w] is marked; ``sigma_b`` the
    standard deviation of their biases; ``largest_bias_variance`` the end of the diagram's axis.
    """

    activations: tuple[str, ...] = PHASE_ACTIVATIONS
    initializers: tuple[str, ...] = ("he", "xavier", "normal")
    width: int = 512
    sigma_b: float = 0.0
    largest_bias_variance: float = 1.0

    def __post_init__(self) -> None:
        check_whole("width", self.width, 1, MAX_WIDTH)
        check_real("sigma-b", self.sigma_b, 0, 1e3)
        check_real("the largest σ_b²", self.largest_bias_variance, 1e-3, 1e6)
        if self.sigma_b**2 > self.largest_bias_variance:
            raise RequestError(
                f"sigma-b {self.sigma_b:g} lies outside the diagram, whose σ_b² ends at "
                f"{self.largest_bias_variance:g}: raise --max-bias-variance"
            )
        if names := drawing_biases(self.laws):
            raise RequestError(f"{names} draws biases of its own; name initializers of weights alone")
        _ = self.parsed

    @cached_property
    def parsed(self) -> tuple[Activation, ...]:
        """The activations, one panel each."""
        return _activations(self.activations)

    @cached_property
    def laws(self) -> tuple[Initializer, ...]:
        """The initializers that are marked."""
        return _initializers(self.initializers, None)

    def as_dict(self) -> dict[str, Any]:
        """The request as plain JSON values, names normalised."""
        return {
            "activation": [phi.name for phi in self.parsed],
            "init": [law.name for law in self.laws],
            "width": self.width,
            "sigma_b": self.sigma_b,
            "max_bias_variance": self.largest_bias_variance,
        }


def _activations(names: tuple[str, ...]) -> tuple[Activation, ...]:
    if not names:
        raise RequestError("name at least one activation")
    return tuple(dict.fromkeys(parse_activation(name) for name in names))


def _initializers(names: tuple[str, ...], fan: str | None) -> tuple[Initializer, ...]:
    if not names:
        raise RequestError("name at least one initializer")
    return tuple(dict.fromkeys(parse_initializer(name, fan) for name in names))
