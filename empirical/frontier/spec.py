"""What a map of trainability asks: networks of one kind in the plane of weight variance and depth.

Width, steps, batch and learning rate are the same all over the map: σ_w² and depth alone differ.
The learning rate was chosen at two layers, of which theory says that nearly all train: after 300 steps
of plain SGD on ``digits`` they are at about 30 % with 10⁻³ and near 90 % with 10⁻².  The default width
is that of the images: all fans but the last fan_out are equal, and an initializer is one σ_w².

The depth of a recurrent network is the steps between what it reads and when it is to say it (``copy``
with one symbol, in ``networks``); its σ_w² is that of the recurrent weight, the gain squared.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from theory.activations import Activation
from theory.errors import RequestError, check_choice, check_real, check_whole
from theory.initializers import drawing_biases
from theory.randomness import MAX_SEED
from theory.specs import WHOLE, Named, Range, Spec

NETWORKS = ("plain", "residual", "rnn")
BRANCH_SCALES = ("none", "depth")
VARIANCES = {
    "plain": (0.5, 0.7, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.25, 2.5, 3.0, 4.0, 8.0),
    "residual": (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 4.0, 8.0, 16.0, 32.0),
    "rnn": (0.3, 0.5, 0.7, 1.0, 1.4, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0, 16.0),
}
SMOOTH_BIAS_VARIANCE = 0.05  # Schoenholz et al. (2017), Fig. 5
MAX_CELLS = 100_000
MAX_STACK = 128  # networks in a stack
MAX_NUMBERS = 2**27  # weights and activations of networks trained at once: some 2 GiB with gradients


@dataclass(frozen=True, kw_only=True)
class FrontierSpec(Named, Spec):
    """A map for each activation: σ_w² × depth, every network trained for the same few steps.

    network        plain, residual or rnn, of ``networks``
    branch_scale   none, or depth: the weights of residual branches are drawn 1/√branches as large
    initializers   marked on the map: their σ_w² are trained in addition
    variances      σ_w² = fan_in·Var[w] of every layer, of rnn of the recurrent one; (): ``VARIANCES``
    depths         weight layers, the last one (to the ten classes) among them
    bias_variance  σ_b² at the start, of rnn what the input adds at a step; None: of plain networks 0
                   for rectifiers, of which only then one σ_w² is critical, and Schoenholz's 0.05 for
                   the others; of residual ones 0, of rnn 1
    learning_rate  of plain SGD, constant
    """

    ranges: ClassVar[dict[str, Range]] = {
        "width": (2, 4096),
        "steps": (1, 1_000_000),
        "batch_size": (1, 1_437),
    }
    network: str = "plain"
    branch_scale: str = "none"
    initializers: tuple[str, ...] = ("he", "xavier", "normal")
    activations: tuple[str, ...] = ("tanh", "relu", "prelu")
    variances: tuple[float, ...] = ()
    depths: tuple[int, ...] = (2, 4, 8, 12, 16, 24, 32, 48, 64)
    width: int = 64
    steps: int = 300
    batch_size: int = 64
    learning_rate: float = 1e-2
    bias_variance: float | None = None
    seeds: tuple[int, ...] = (0,)
    device: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("network", self.network, NETWORKS)
        check_choice("branch scale", self.branch_scale, BRANCH_SCALES)
        if self.network != "residual" and self.branch_scale != "none":
            raise RequestError(f"a {self.network} network has no branches: use --network residual")
        if self.variances == ():
            object.__setattr__(self, "variances", VARIANCES[self.network])
        if names := drawing_biases(self.laws):
            raise RequestError(f"{names} draws biases of its own: name initializers of weights alone")
        for depth in _distinct("depths", self.depths):
            check_whole("depth", depth, *WHOLE["depth"])
        for variance in _distinct("variances", self.variances):
            check_real("σ_w²", variance, 1e-6, 1e6)
        for seed in _distinct("seeds", self.seeds):
            check_whole("seed", seed, 0, MAX_SEED)
        check_real("learning rate", self.learning_rate, 0, 10, open_low=True)
        if self.bias_variance is not None:
            check_real("bias variance", self.bias_variance, 0, 1e6)
        if self._numbers(max(self.depths)) > MAX_NUMBERS:
            raise RequestError(
                f"{max(self.depths):,} layers of width {self.width:,} are too large: their weights and "
                f"the activations of a batch must stay below {MAX_NUMBERS:,} numbers"
            )
        cells = len(self.depths) * len(self.seeds) * sum(len(self.columns(phi)) for phi in self.parsed)
        check_whole("the number of networks", cells, 1, MAX_CELLS)

    @property
    def name(self) -> str:
        """The stem of the map's picture: frontier, and what is not as in plain networks."""
        words = ["frontier", self.network, self.branch_scale]
        return "-".join(word for word in words if word not in ("plain", "none"))

    def at_once(self, depth: int) -> int:
        """How many networks of ``depth`` are trained as one stack."""
        return min(MAX_STACK, MAX_NUMBERS // self._numbers(depth))

    def _numbers(self, depth: int) -> int:
        return depth * self.width * (self.width + self.batch_size)

    def marks(self, phi: Activation) -> dict[str, float]:
        """σ_w² of the initializers that are marked, at equal fans."""
        named = {law.name: law.variance(self.width, self.width, phi.gain_slope) for law in self.laws}
        return {name: round(self.width * variance, 12) for name, variance in named.items()}

    def columns(self, phi: Activation) -> list[float]:
        """Every σ_w² of the map of ``phi``, in rising order."""
        return sorted({*map(float, self.variances), *self.marks(phi).values()})

    def bias_of(self, phi: Activation) -> float:
        """σ_b² of the map of ``phi``."""
        if self.bias_variance is not None:
            return self.bias_variance
        smooth = 0.0 if phi.is_rectifier else SMOOTH_BIAS_VARIANCE
        return {"plain": smooth, "residual": 0.0, "rnn": 1.0}[self.network]


def _distinct(what: str, values: Collection[float]) -> Collection[float]:
    if not values or len(set(values)) < len(values):
        raise RequestError(f"name at least one of the {what}, and each once")
    return values
