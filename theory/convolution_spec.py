"""What can be asked of convolutional stacks: a frozen request that checks itself, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from theory.activations import Activation, parse_activation
from theory.devices import DEVICES
from theory.errors import RequestError, check_choice, check_real, check_whole
from theory.initializers import FANS, Initializer, drawing_biases, parse_initializer
from theory.randomness import MAX_SEED

PADDINGS = ("zero", "circular", "none")
DIRECTIONS = ("forward", "backward", "both")
MAX_DEPTH, MAX_CHANNELS, MAX_IMAGE, MAX_KERNEL = 10_000, 4096, 1024, 63
# Layers at which single pixels are reported, and the last one.
BORDER_LAYERS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True)
class ConvSpec:
    """A simulation of activation variance through convolutional stacks, a curve per law and activation.

    depth                 L convolutions of stride 1, an activation between them
    channels, image_size  C channels of H×H pixels; the input has C channels too
    kernel_size, padding  k×k taps; zero and circular padding keep H (k odd), none takes k−1 per layer
    draws, batch          independent networks per curve; images that each of them sees
    direction             forward, backward (gradients of a random unit-variance cotangent) or both
    initializers, activations, fan, sigma_b, gain_slope, seed, device   as for dense stacks
    input_second_moment   mean over channels of x_0², exactly, at every pixel of every image

    Raises ``RequestError`` on construction for anything unknown, impossible or contradictory.
    """

    depth: int = 30
    channels: int = 32
    image_size: int = 32
    kernel_size: int = 3
    padding: str = "zero"
    draws: int = 100
    batch: int = 1
    initializers: tuple[str, ...] = ("he", "xavier", "normal")
    activations: tuple[str, ...] = ("relu", "prelu")
    direction: str = "forward"
    fan: str | None = None
    input_second_moment: float = 1.0
    sigma_b: float = 0.0
    gain_slope: float | None = None
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        check_whole("depth", self.depth, 1, MAX_DEPTH)
        check_whole("channels", self.channels, 1, MAX_CHANNELS)
        check_whole("image size", self.image_size, 1, MAX_IMAGE)
        check_whole("kernel size", self.kernel_size, 1, MAX_KERNEL)
        check_whole("draws", self.draws, 2, 10_000_000)
        check_whole("batch", self.batch, 1, 65_536)
        check_whole("seed", self.seed, 0, MAX_SEED)
        check_choice("padding", self.padding, PADDINGS)
        check_choice("direction", self.direction, DIRECTIONS)
        check_choice("device", self.device, DEVICES)
        check_real("the input second moment", self.input_second_moment, 1e-30, 1e30)
        check_real("sigma-b", self.sigma_b, 0, 1e6)
        if self.gain_slope is not None:
            check_real("gain slope", self.gain_slope, -10, 10)
        self._check_geometry()
        curves = self.curves  # parses every name
        if self.sigma_b and (names := drawing_biases((law for law, _ in curves))):
            raise RequestError(f"sigma-b contradicts {names}, whose law draws its own biases; drop one")

    def _check_geometry(self) -> None:
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

    @cached_property
    def curves(self) -> tuple[tuple[Initializer, Activation], ...]:
        """Every (initializer, activation), activations outermost, repeated names dropped."""
        return parse_curves(self.initializers, self.activations, self.fan)

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
    def border_layers(self) -> tuple[int, ...]:
        """The layers at which single pixels are reported."""
        return tuple(sorted({*(layer for layer in BORDER_LAYERS if layer < self.depth), self.depth}))

    @property
    def directions(self) -> tuple[str, ...]:
        """forward, backward or both, in that order."""
        return ("forward", "backward") if self.direction == "both" else (self.direction,)

    def as_dict(self) -> dict[str, Any]:
        """The request as plain JSON values, names normalised."""
        names = (
            "depth", "channels", "image_size", "kernel_size", "padding", "draws", "batch",
            "direction", "fan", "input_second_moment", "sigma_b", "gain_slope", "seed",
        )  # fmt: skip
        return (
            {"stack": "conv"} | curve_names(self.curves) | {name: getattr(self, name) for name in names}
        )


def parse_curves(
    initializers: tuple[str, ...], activations: tuple[str, ...], fan: str | None
) -> tuple[tuple[Initializer, Activation], ...]:
    """Every pair of the named laws and activations; ``RequestError`` for a name that is none."""
    if not initializers or not activations:
        raise RequestError("name at least one initializer and one activation")
    laws = dict.fromkeys(parse_initializer(name, fan) for name in initializers)
    if fan is not None and not any(law.law.free_fan for law in laws):
        raise RequestError(
            f"--fan {check_choice('fan', fan, FANS)} has nothing to act on: "
            f"{', '.join(initializers)} has a fan of its own; use it with he or lecun"
        )
    parsed = dict.fromkeys(parse_activation(name) for name in activations)
    return tuple((law, activation) for activation in parsed for law in laws)


def curve_names(curves: tuple[tuple[Initializer, Activation], ...]) -> dict[str, list[str]]:
    """The normalised names in ``curves``, for JSON."""
    return {
        "init": list(dict.fromkeys(law.name for law, _ in curves)),
        "activation": list(dict.fromkeys(activation.name for _, activation in curves)),
    }
