"""What can be asked of the theory: frozen requests that check themselves, without importing torch.

Every request is a ``Spec``: its fields are checked by name against one table of ranges, its names are
parsed once, and ``as_dict`` gives it back as plain JSON values.  The requests that draw networks
(``VarianceSpec``, ``ConvSpec``, ``BatchNormSpec``, ``CorrelationSpec``, ``JacobianSpec``) have a
curve per law and activation, and know the standard deviations of every layer's weights and biases.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, Literal

from theory.activations import SMOOTH, Activation, parse_activation
from theory.devices import DEVICES
from theory.errors import RequestError, check_choice, check_not_tiny, check_real, check_whole
from theory.initializers import FANS, Initializer, default_bias_std, drawing_biases, parse_initializer
from theory.randomness import MAX_SEED

# Of one draw: a signal of this many numbers, or readings, is what still fits in a few GiB.
MAX_NUMBERS = 2**24
DIRECTIONS = ("forward", "backward", "both")
ENGINES = ("modules", "law")
PADDINGS = ("zero", "circular", "none")
MIN_BATCH = 4  # of batch norm
MAX_PAIRS = 64
MAX_VALUES = 20_000_000  # singular values of one request
# Layers at which single pixels are reported, and the last one.
BORDER_LAYERS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
PHASE_ACTIVATIONS = ("relu", "prelu", "tanh")
GAINS_ACTIVATIONS = ("relu", "leaky-relu:0.01", "prelu", "linear", *SMOOTH)

Range = tuple[int, int]
WHOLE: dict[str, Range] = {
    "depth": (1, 100_000),
    "width": (1, 16_384),
    "channels": (1, 4096),
    "image_size": (1, 1024),
    "kernel_size": (1, 63),
    "batch": (1, 65_536),
    "draws": (2, 10_000_000),
    "seed": (0, MAX_SEED),
}
REAL = {
    "input_second_moment": ("the input second moment", 1e-30, 1e30),
    "sigma_b": ("sigma-b", 0, 1e6),
    "gain_slope": ("gain slope", -10, 10),
}
CHOICES = {"direction": DIRECTIONS, "engine": ENGINES, "padding": PADDINGS, "device": DEVICES}
# Fields whose name in JSON is that of the command line's option.
OPTION = {
    "initializers": "init",
    "activations": "activation",
    "layer_widths": "widths",
    "largest_bias_variance": "max_bias_variance",
}


@dataclass(frozen=True)
class Spec:
    """A request: checked on construction, and plain JSON values on demand.

    ``ranges`` holds a subclass's own limits of whole numbers, ``kind`` what its JSON starts with.
    Raises ``RequestError`` on construction for anything unknown, impossible or contradictory.
    """

    ranges: ClassVar[dict[str, Range]] = {}
    kind: ClassVar[dict[str, str]] = {}

    def __post_init__(self) -> None:
        names = {field.name for field in fields(self)}
        for name, limits in (WHOLE | self.ranges).items():
            if name in names:
                check_whole(name.replace("_", " "), getattr(self, name), *limits)
        for name, (what, low, high) in REAL.items():
            if name in names and getattr(self, name) is not None:
                value = check_real(what, getattr(self, name), low, high)
                if name == "sigma_b":
                    check_not_tiny(what, value)
        for name, choices in CHOICES.items():
            if name in names:
                check_choice(name, getattr(self, name), choices)

    def as_dict(self) -> dict[str, Any]:
        """The request as plain JSON values, names normalised; all but the device."""
        names = [field.name for field in fields(self) if field.name != "device"]
        return self.kind | {OPTION.get(name, name): self._plain(name) for name in names}

    def _plain(self, name: str) -> Any:
        parsed = {"initializers": "laws", "activations": "parsed"}.get(name)
        if parsed:
            return list(dict.fromkeys(one.name for one in getattr(self, parsed)))
        value = getattr(self, name)
        return list(value) if isinstance(value, tuple) else value


class Named:
    """What a spec with ``initializers`` and ``activations`` has: their names, parsed once."""

    initializers: tuple[str, ...] = ()
    activations: tuple[str, ...]
    fan: str | None = None

    @cached_property
    def laws(self) -> tuple[Initializer, ...]:
        """The initializers, repeated ones dropped."""
        if not self.initializers:
            raise RequestError("name at least one initializer and one activation")
        return tuple(dict.fromkeys(parse_initializer(name, self.fan) for name in self.initializers))

    @cached_property
    def parsed(self) -> tuple[Activation, ...]:
        """The activations, repeated ones dropped."""
        if not self.activations:
            raise RequestError("name at least one activation")
        return tuple(dict.fromkeys(map(parse_activation, self.activations)))

    @property
    def curves(self) -> tuple[tuple[Initializer, Activation], ...]:
        """Every (initializer, activation), activations outermost."""
        return tuple((law, activation) for activation in self.parsed for law in self.laws)


@dataclass(frozen=True, kw_only=True)
class EnsembleSpec(Named, Spec):
    """What all stacks share: networks drawn independently, one curve per law and activation.

    depth                 L weight layers
    draws                 independent networks per curve
    initializers, activations   names as on the command line; every pair is one curve
    fan                   fan_in, fan_out or fan_avg for the laws that leave it free; None: their own
    gain_slope            the slope in He's gain; None: the one of the activation (Eq. 15)
    input_second_moment   mean of x_0² of every input, exactly
    seed, device          what the random numbers and the arithmetic come from
    """

    depth: int = 30
    draws: int = 100
    initializers: tuple[str, ...] = ("he", "xavier", "normal")
    activations: tuple[str, ...] = ("relu", "prelu")
    fan: str | None = None
    gain_slope: float | None = None
    input_second_moment: float = 1.0
    seed: int = 0
    device: str = "auto"

    sigma_b: ClassVar[float] = 0.0
    engine: ClassVar[str] = "modules"
    direction: ClassVar[str] = "forward"
    batch: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        laws, _ = self.laws, self.parsed  # parses every name
        if self.fan is not None and not any(law.law.free_fan for law in laws):
            raise RequestError(
                f"--fan {check_choice('fan', self.fan, FANS)} has nothing to act on: "
                f"{', '.join(self.initializers)} has a fan of its own; use it with he or lecun"
            )
        if self.sigma_b and (names := drawing_biases(laws)):
            raise RequestError(f"sigma-b contradicts {names}, whose law draws its own biases; drop one")

    @property
    def directions(self) -> tuple[str, ...]:
        """forward, backward, or both of them."""
        return ("forward", "backward") if self.direction == "both" else (self.direction,)

    @property
    def fans(self) -> tuple[tuple[int, int], ...]:
        """(fan_in, fan_out) of every layer."""
        raise NotImplementedError

    def weight_std(self, law: Initializer, activation: Activation) -> tuple[float, ...]:
        """Standard deviation of the weights of each layer, length L."""
        slope = activation.gain_slope if self.gain_slope is None else self.gain_slope
        return tuple(law.std(fan_in, fan_out, slope) for fan_in, fan_out in self.fans)

    def bias_std(self, law: Initializer) -> tuple[float, ...] | None:
        """Standard deviation of the biases of each layer, or None without biases."""
        if law.draws_bias:
            return tuple(default_bias_std(fan_in) for fan_in, _ in self.fans)
        return (self.sigma_b,) * self.depth if self.sigma_b else None


@dataclass(frozen=True, kw_only=True)
class DenseSpec(EnsembleSpec):
    """A dense stack: L weight layers of ``width`` units; the input has ``width`` entries too."""

    width: int = 512

    @property
    def widths(self) -> tuple[int, ...]:
        """(n_0, n_1, …, n_L)."""
        return (self.width,) * (self.depth + 1)

    @property
    def fans(self) -> tuple[tuple[int, int], ...]:
        """(fan_in, fan_out) of every layer."""
        return tuple(pairwise(self.widths))


@dataclass(frozen=True, kw_only=True)
class VarianceSpec(DenseSpec):
    """A simulation of activation variance through plain dense stacks.

    layer_widths   (n_0, n_1, …, n_L) instead of depth and width: widths of their own
    batch          inputs that each network sees
    direction      forward: pre-activations y_l; backward: gradients ∂/∂y_l of a random cotangent
                   of second moment 1 at y_L; both
    engine         modules: nn.Modules with hooks; law: their exact law, without weights
    sigma_b        standard deviation of Gaussian biases
    the rest       as in ``EnsembleSpec``
    """

    layer_widths: tuple[int, ...] | None = None
    batch: int = 1  # type: ignore[misc]
    direction: str = "forward"  # type: ignore[misc]
    engine: str = "modules"  # type: ignore[misc]
    sigma_b: float = 0.0  # type: ignore[misc]

    def __post_init__(self) -> None:
        if self.layer_widths is not None:
            if len(self.layer_widths) < 2:
                raise RequestError("name at least two widths: the input's and one layer's")
            for width in self.layer_widths:
                check_whole("width", width, *WHOLE["width"])
            object.__setattr__(self, "layer_widths", tuple(self.layer_widths))
            object.__setattr__(self, "depth", len(self.layer_widths) - 1)
            object.__setattr__(self, "width", max(self.layer_widths))
        super().__post_init__()
        for what, size in (("depth × batch", self.depth), ("width × batch", self.width)):
            check_whole(what, size * self.batch, 1, MAX_NUMBERS)
        if self.engine == "law":
            self._check_law()

    def _check_law(self) -> None:
        """The exact law holds for independent Gaussian weights only."""
        others = sorted({law.name for law in self.laws if law.shape != "normal"})
        if others:
            raise RequestError(
                f"--engine law needs Gaussian weights, and {', '.join(others)} draws none: "
                "use --engine modules"
            )
        smooth = any(not activation.is_rectifier for activation in self.parsed)
        if self.direction != "forward" and (smooth or self.batch > 1 or self.sigma_b):
            raise RequestError(
                "--engine law goes backward for one input through rectifiers without bias: "
                "use --engine modules"
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """(n_0, n_1, …, n_L)."""
        return self.layer_widths or super().widths

    @property
    def needs_units(self) -> bool:
        """Whether the exact law must draw every unit: several inputs, or a smooth activation."""
        return self.batch > 1 or any(not activation.is_rectifier for activation in self.parsed)


@dataclass(frozen=True, kw_only=True)
class ConvSpec(EnsembleSpec):
    """A simulation of activation variance through convolutional stacks.

    depth                 L convolutions of stride 1, an activation between them
    channels, image_size  C channels of H×H pixels; the input has C channels too
    kernel_size, padding  k×k taps; zero and circular padding keep H (k odd), none takes k−1 per layer
    batch                 images that each network sees, of second moment ``input_second_moment``
                          (mean over channels) at every pixel
    the rest              as in ``VarianceSpec``
    """

    kind: ClassVar[dict[str, str]] = {"stack": "conv"}
    ranges: ClassVar[dict[str, Range]] = {"depth": (1, 10_000)}

    channels: int = 32
    image_size: int = 32
    kernel_size: int = 3
    padding: str = "zero"
    batch: int = 1  # type: ignore[misc]
    direction: str = "forward"  # type: ignore[misc]
    sigma_b: float = 0.0  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        kernel, lost = self.kernel_size, self.depth * (self.kernel_size - 1)
        if self.padding == "none" and lost >= self.image_size:
            raise RequestError(
                f"without padding {self.depth} layers of {kernel}×{kernel} take {lost} pixels off an "
                f"image of {self.image_size}: make it larger than {lost}, or use --padding zero"
            )
        if self.padding != "none" and kernel % 2 == 0:
            raise RequestError(
                f"padding {self.padding} keeps the image's size only for an odd kernel, not {kernel}: "
                f"use {kernel - 1}, {kernel + 1} or --padding none"
            )
        if self.padding == "circular" and kernel // 2 > self.image_size:
            raise RequestError(
                f"circular padding of {kernel // 2} pixels is more than the image's {self.image_size}"
            )

    @property
    def pad(self) -> int:
        """Pixels of padding on each side."""
        return 0 if self.padding == "none" else self.kernel_size // 2

    @property
    def padding_mode(self) -> Literal["zeros", "circular"]:
        """The padding as torch calls it."""
        return "circular" if self.padding == "circular" else "zeros"

    @property
    def sizes(self) -> tuple[int, ...]:
        """(H_0, H_1, …, H_L)."""
        lost = self.kernel_size - 1 - 2 * self.pad
        return tuple(self.image_size - layer * lost for layer in range(self.depth + 1))

    @property
    def fan_in(self) -> int:
        """k²·C, which is fan_out too."""
        return self.kernel_size**2 * self.channels

    @property
    def fans(self) -> tuple[tuple[int, int], ...]:
        """(fan_in, fan_out) of every layer."""
        return ((self.fan_in, self.fan_in),) * self.depth

    @property
    def border_layers(self) -> tuple[int, ...]:
        """The layers at which single pixels are reported."""
        return tuple(sorted({*(layer for layer in BORDER_LAYERS if layer < self.depth), self.depth}))


@dataclass(frozen=True, kw_only=True)
class BatchNormSpec(DenseSpec):
    """A simulation of dense stacks with batch norm: L × (Linear, BatchNorm, activation).

    batch       inputs that are normalized together, at least 4
    direction   forward, backward (gradients of a random unit-variance cotangent at the last layer's
                normalized output) or both
    the rest    as in ``EnsembleSpec``
    """

    kind: ClassVar[dict[str, str]] = {"norm": "batch"}
    ranges: ClassVar[dict[str, Range]] = {
        "depth": (1, 10_000),
        "width": (2, 16_384),
        "batch": (MIN_BATCH, 65_536),
    }

    draws: int = 10
    batch: int = 256  # type: ignore[misc]
    direction: str = "both"  # type: ignore[misc]

    def __post_init__(self) -> None:
        if isinstance(self.batch, int) and 1 <= self.batch < MIN_BATCH:
            raise RequestError(
                f"batch norm needs a batch of at least {MIN_BATCH}, not {self.batch}: of 2 inputs it "
                "leaves signs, and of 3 the gradient has no finite mean"
            )
        super().__post_init__()
        if names := drawing_biases(self.laws):
            raise RequestError(
                f"batch norm removes the biases that {names} draws: use another initializer"
            )


@dataclass(frozen=True, kw_only=True)
class CorrelationSpec(DenseSpec):
    """A simulation of the correlation of pairs of inputs through dense stacks, the map beside it.

    correlations   of two inputs, in [−1, 1], held exactly; each gives every pair of names a curve
    sigma_b        standard deviation of Gaussian biases
    the rest       as in ``EnsembleSpec``
    """

    # below ten draws, a spread estimated from them says little
    ranges: ClassVar[dict[str, Range]] = {"width": (2, 16_384), "draws": (10, 10_000_000)}

    depth: int = 50
    initializers: tuple[str, ...] = ("he",)
    correlations: tuple[float, ...] = (0.0, 0.5, 0.9)
    sigma_b: float = 0.0  # type: ignore[misc]

    def __post_init__(self) -> None:
        check_whole("the number of correlations", len(self.correlations), 1, MAX_PAIRS)
        for correlation in self.correlations:
            check_real("a correlation of two inputs", correlation, -1, 1)
        if len(set(self.correlations)) < len(self.correlations):
            raise RequestError("name each correlation once")
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class JacobianSpec(Named, Spec):
    """Singular values of ∂x_L/∂x_0 in square stacks, one curve per law and rectifier.

    depth, width   L layers of ``width`` units, each a weight and then a rectifier, the last included
    draws          independent networks per curve
    initializers, activations   names as on the command line; every pair is one curve
    seed, device   what the random numbers and the arithmetic (float64) come from
    """

    # below five draws, a spread estimated from them says little
    ranges: ClassVar[dict[str, Range]] = {
        "depth": (1, 1000),
        "width": (1, 4096),
        "draws": (5, 100_000),
    }

    depth: int = 10
    width: int = 200
    draws: int = 30
    initializers: tuple[str, ...] = ("he", "orthogonal")
    activations: tuple[str, ...] = ("linear", "relu", "prelu")
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        for smooth in (activation for _, activation in self.curves if not activation.is_rectifier):
            raise RequestError(
                f"the Jacobian's exact values hold for rectifiers, not for {smooth.name}: "
                "use relu, prelu, leaky-relu:SLOPE or linear"
            )
        values = len(self.curves) * self.draws * self.width
        if values > MAX_VALUES:
            raise RequestError(
                f"{values:,} singular values are more than {MAX_VALUES:,}: ask for fewer draws"
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """(n_0, n_1, …, n_L)."""
        return (self.width,) * (self.depth + 1)


@dataclass(frozen=True, kw_only=True)
class DerivationSpec(Spec):
    """He's derivation checked on networks of ``depth`` layers, ``width`` units, drawn ``draws`` times.

    (Odd widths are rounded down, so that a network can double its width midway.)

    activation    the rectifier of the part that follows Eq. 15; the part before it is ReLU's
    seed, device  what the random numbers and the arithmetic (float64) come from

    A width of at least 16 keeps networks that die at their first layer out of every realistic run.
    """

    ranges: ClassVar[dict[str, Range]] = {
        "depth": (3, 100),
        "width": (16, 4096),
        "draws": (10, 100_000),
    }

    depth: int = 10
    width: int = 128
    draws: int = 100
    activation: str = "prelu"
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
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
        names = {"activation": self.rectifier.name, "negative_slope": self.rectifier.gain_slope}
        return super().as_dict() | names


@dataclass(frozen=True)
class GainsSpec(Named, Spec):
    """The gains of some activations, named as on the command line; repeated names are dropped."""

    activations: tuple[str, ...] = GAINS_ACTIVATIONS

    def __post_init__(self) -> None:
        _ = self.parsed


@dataclass(frozen=True)
class PhaseSpec(Named, Spec):
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
        super().__post_init__()
        check_real("sigma-b", self.sigma_b, 0, 1e3)
        check_real("the largest σ_b²", self.largest_bias_variance, 1e-3, 1e6)
        if self.sigma_b**2 > self.largest_bias_variance:
            raise RequestError(
                f"sigma-b {self.sigma_b:g} lies outside the diagram, whose σ_b² ends at "
                f"{self.largest_bias_variance:g}: raise --max-bias-variance"
            )
        if names := drawing_biases(self.laws):
            raise RequestError(f"{names} draws biases of its own: name initializers of weights alone")
        _ = self.parsed
