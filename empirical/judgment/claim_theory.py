"""What theory says about each of the report's claims, with its numbers computed.

**The average weight of a network as drawn** is known beforehand.  It is the mean over parameter tensors
of each tensor's mean; weights and biases have symmetric laws, so only what starts elsewhere counts: the
scale 1 of every batch norm and the slope 0.25 of every PReLU,

    E[w_0] = (norms·1 + slopes·0.25)/tensors,      Var[w_0] = Σ_k (Var of tensor k)/(size of k)/tensors²

whatever the initializer.  With L layers there are L − 1 norms and, under ReLU, 4L tensors.

**The scale of a weight before a batch norm** is not seen by the function (``law.batch_norm``): under
Adam, N(0, 1) in the place of He is a learning rate divided by the ratio of their standard deviations.

**The last linear layer** keeps its scale: after a batch norm and a rectifier the second moment of its
inputs is A₂ (a pool between them raises it), so that its logits have fan_in·Var[w]·A₂ + Var[b], and
with them the first loss is known (``theory.law.cross_entropy``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache

from empirical.judgment.evidence import Cells, Evidence
from empirical.protocol import CLASSES, COURSE_REPORT, TrainSpec
from theory.activations import parse_activation
from theory.initializers import Initializer
from theory.law.batch_norm import gradient_growth
from theory.law.cross_entropy import initial_cross_entropy
from theory.law.learning_rate import effective_learning_rate

DEPTHS = COURSE_REPORT.depths
SHALLOWEST, DEEPEST = DEPTHS[0], DEPTHS[-1]


def theory_says(name: str, evidence: Evidence, fan: str) -> str:
    """What theory says about the claim called ``name`` with He by ``fan``, in one or two sentences."""
    return SENTENCES[name](evidence, fan)


def he(activation: str, depth: int, fan: str) -> Cells:
    """He's cells, with ``fan`` in every layer."""
    changes = () if fan == COURSE_REPORT.fan else (("fan", fan),)
    return Cells("he", activation, depth, changes)


# ---------------------------------------------------------------------------- the network as drawn


def parameter_tensors(spec: TrainSpec) -> Iterator[tuple[str, int, float, float]]:
    """(kind, size, mean, variance of one element) of every parameter tensor of ``spec``'s network."""
    slope = parse_activation(spec.activation)
    for layer in range(spec.depth):
        fan_in, fan_out = 9 * (spec.filters if layer else 3), 9 * spec.filters
        yield from _weighted("conv", spec.weight_law, fan_in, fan_out, spec.filters, spec)
        if layer and spec.norm == "batch":
            yield "norm", spec.filters, 1.0, 0.0
            yield "norm", spec.filters, 0.0, 0.0
        if slope.kind == "prelu" and slope.negative_slope is not None:
            yield "slope", 1, slope.negative_slope, 0.0
    yield from _weighted("head", spec.head_law, head_fan_in(spec), CLASSES, CLASSES, spec)


def _weighted(
    kind: str, law: Initializer, fan_in: int, fan_out: int, outputs: int, spec: TrainSpec
) -> Iterator[tuple[str, int, float, float]]:
    yield kind, fan_in * outputs, 0.0, law.variance(fan_in, fan_out, spec.gain_slope)
    yield kind, outputs, 0.0, 1 / (3 * fan_in)  # torch's law of biases, whatever that of the weights


def head_fan_in(spec: TrainSpec) -> int:
    """Inputs of the last linear layer."""
    return spec.filters * spec.head_size**2


def drawn_average_weight(spec: TrainSpec) -> tuple[float, float]:
    """Expectation and standard deviation of the average weight of ``spec``'s network as drawn.

    >>> drawn_average_weight(TrainSpec(depth=2))[0]
    0.125
    """
    tensors = list(parameter_tensors(spec))
    mean = math.fsum(mean for _, _, mean, _ in tensors) / len(tensors)
    variance = math.fsum(variance / size for _, size, _, variance in tensors)
    return mean, math.sqrt(variance) / len(tensors)


@cache
def first_loss(spec: TrainSpec) -> float:
    """The expected cross-entropy of ``spec``'s network as drawn; NaN with a pool before the head.

    He by fan_out makes large logits of 32,768 inputs:

    >>> [round(first_loss(TrainSpec(depth=2, fan=fan)), 2) for fan in ("fan_out", "fan_in")]
    [88.1, 2.73]
    """
    last = spec.depth - 1
    pooled = last > 0 and last % spec.pool_every == 0 and spec.map_sizes[-1] > 1
    if spec.norm != "batch" or pooled or not last:
        return math.nan
    fan_in = head_fan_in(spec)
    moment = parse_activation(spec.activation).second_moment
    variance = spec.head_law.variance(fan_in, CLASSES, spec.gain_slope)
    return initial_cross_entropy(fan_in * variance * moment + 1 / (3 * fan_in), CLASSES)


def rate_ratio() -> float:
    """By what N(0, 1) divides the learning rate of a convolution between batch norms, against He's."""
    spec = TrainSpec()
    width = 9 * spec.filters
    std = spec.weight_law.std(width, width, spec.gain_slope)
    normal = TrainSpec(initializer="normal").weight_law.std(width, width)
    return effective_learning_rate(1.0, std, spec.optimizer) / effective_learning_rate(
        1.0, normal, spec.optimizer
    )


# ------------------------------------------------------------------------------------ sentences


def _as_drawn(cells: Cells, evidence: Evidence) -> str:
    """The average weight before training: expected, and measured if recorded."""
    mean, _ = drawn_average_weight(cells.spec)
    measured = evidence.initial("initial_average_weight", cells)
    return f"{mean:.4f}" + (f" (measured {measured:.4f})" if math.isfinite(measured) else "")


def _drop(evidence: Evidence, cells: Cells) -> str:
    """C1 and C6: where a two-layer net's average weight starts, and which tensors move it."""
    tensors = list(parameter_tensors(cells.spec))
    norms = sum(kind == "norm" for kind, *_ in tensors) // 2
    text = (
        f"Laws of mean zero add nothing to the average: as drawn it is the {_times(norms, 'scale')} "
        f"of batch norm over {len(tensors)} tensors, {_as_drawn(cells, evidence)}, under every "
        "initializer. "
    )
    shares = average_weight_change(evidence, cells)
    if shares is None:
        return text + "How it moves in training is not decided by theory."
    total = sum(shares.values())
    words = ", ".join(f"{value:+.4f} from {kind}" for kind, value in shares.items())
    return text + f"From there it moves by {total:+.4f} in training: {words}."


def _times(count: int, word: str) -> str:
    return f"one {word}" if count == 1 else f"{count} {word}s"


def average_weight_change(evidence: Evidence, cells: Cells) -> dict[str, float] | None:
    """By what each kind of layer changes the average weight from drawn to trained, mean over seeds.

    None without the layers' records.
    """
    layers, done = evidence.layers, evidence.completed(cells)
    rows = evidence.rows(cells)
    ids = rows.loc[rows["seed"].isin(done), "cell"].unique()
    if not {"weight_mean", "bias_mean", "epoch", "kind"} <= set(layers) or not len(ids):
        return None
    layers = layers[layers["cell"].isin(ids)]
    tensors = len(list(parameter_tensors(cells.spec)))
    names = {"BatchNorm2d": "batch norm", "PReLU": "slopes", "Conv2d": "convolutions"}
    kinds = layers["kind"].map(names).fillna("the last layer")
    layers = layers.assign(
        kind=kinds, total=layers[["weight_mean", "bias_mean"]].sum(axis=1), cell=layers["cell"]
    )
    sums = layers.pivot_table(index=["cell", "kind"], columns="epoch", values="total", aggfunc="sum")
    last = int(layers["epoch"].max()) if len(layers) else 0
    if 0 not in sums or not last:
        return None
    change = (sums[last] - sums[0]) / tensors
    change = change.groupby(level=1).mean()
    return {str(kind): float(value) for kind, value in change.items() if value}


def _levels(activation: str) -> str:
    """The average weights as drawn, at the report's depths."""
    means = [drawn_average_weight(TrainSpec(activation=activation, depth=d))[0] for d in DEPTHS]
    words = ", ".join(f"{mean:.4f}" for mean in means)
    return f"{words} at {', '.join(map(str, DEPTHS))} layers"


def _c2(evidence: Evidence, fan: str) -> str:
    few, many = (len(list(parameter_tensors(TrainSpec(depth=d)))) for d in (SHALLOWEST, DEEPEST))
    return (
        f"The average runs over {few} tensors at {SHALLOWEST} layers and over {many} at {DEEPEST}, so "
        f"one tensor that moves counts 1/{few} and 1/{many} of its change: smaller changes of deeper "
        "nets are part of the measure, whatever the initializer."
    )


def _c3(evidence: Evidence, fan: str) -> str:
    inputs = [head_fan_in(TrainSpec(depth=depth)) for depth in (SHALLOWEST, DEEPEST)]
    losses = _first_losses(evidence, "relu", lambda depth: he("relu", depth, fan))
    return (
        "Batch norm makes the signal independent of the law of the convolutions, so nothing here rests "
        f"on He's variance. What depth changes is the last layer: fan_in {inputs[0]} at {SHALLOWEST} "
        f"layers, {inputs[1]} at {DEEPEST}, with a first loss of {losses}."
    )


def _first_losses(evidence: Evidence, activation: str, cells_at: Callable[[int], Cells]) -> str:
    """The first loss by depth: predicted by the record or, without one, by formula; measured."""
    found = []
    for depth in (SHALLOWEST, DEEPEST):
        cells = cells_at(depth)
        predicted = evidence.initial("initial_loss_predicted", cells)
        predicted = predicted if math.isfinite(predicted) else first_loss(cells.spec)
        measured = evidence.initial("initial_loss", cells)
        if not math.isfinite(predicted):
            continue
        seen = f" (measured {measured:.2f})" if math.isfinite(measured) else ""
        found.append(f"{predicted:.2f}{seen} at {depth} layers")
    return f"{', '.join(found)}; {math.log(CLASSES):.2f} is guessing"


def _c4(evidence: Evidence, fan: str) -> str:
    return (
        f"Counting tensors gives {_levels('prelu')} as drawn, under every initializer: that it is a "
        "little higher with depth says how many scales of 1 and slopes there are, and nothing of He."
    )


def _c5(evidence: Evidence, fan: str) -> str:
    relu, prelu = (gradient_growth(parse_activation(name)) for name in ("relu", "prelu"))
    layers = DEEPEST - 1
    return (
        "Under batch norm the gradient's second moment grows backward by "
        f"{relu:.4f} per layer with ReLU and {prelu:.4f} with PReLU as it starts, ×{relu**layers:.1f} "
        f"and ×{prelu**layers:.1f} over {layers} layers: this favors PReLU, and the more the deeper "
        "the net, though Adam divides most of it out."
    )


def _c7(evidence: Evidence, fan: str) -> str:
    return (
        f"As drawn the average weight is {_levels('relu')}. An Adam step moves a weight by about the "
        f"learning rate whatever its size, which is {rate_ratio():.1f} times less of N(0, 1)'s weights "
        f"than of He's; {_c2(evidence, fan)[0].lower()}{_c2(evidence, fan)[1:]}"
    )


def _c8(evidence: Evidence, fan: str) -> str:
    losses = _first_losses(evidence, "relu", lambda depth: Cells("normal", "relu", depth))
    return (
        "Before a batch norm N(0, 1) is He with a learning rate "
        f"{rate_ratio():.1f} times smaller, at every depth alike: theory gives no reason for a gap "
        f"that grows with depth. Only the last layer keeps its scale: first loss {losses}."
    )


def _c9(evidence: Evidence, fan: str) -> str:
    scatter = max(
        drawn_average_weight(TrainSpec(initializer="normal", activation="prelu", depth=depth))[1]
        for depth in DEPTHS
    )
    return (
        f"As drawn the levels rise with depth: {_levels('prelu')}, and chance moves them by at most "
        f"{scatter:.4f} (one standard deviation). A fall with depth would have to come from training."
    )


def _c10(evidence: Evidence, fan: str) -> str:
    inputs = [head_fan_in(TrainSpec(depth=depth)) for depth in (SHALLOWEST, DEEPEST)]
    losses = _first_losses(evidence, "prelu", lambda depth: Cells("normal", "prelu", depth))
    return (
        "Under N(0, 1) the logits' second moment is in proportion to the last layer's fan_in, "
        f"{inputs[0]} at {SHALLOWEST} layers and {inputs[1]} at {DEEPEST}: first loss {losses}. Deeper "
        "nets start from smaller errors, which is not a gain of depth itself."
    )


def _c11(evidence: Evidence, fan: str) -> str:
    return (
        "Theory sets no such bound: with batch norm N(0, 1) is a learning rate "
        f"{rate_ratio():.1f} times smaller in every convolution, and more epochs may make up for it."
    )


def _c12(evidence: Evidence, fan: str) -> str:
    few, many = (len(list(parameter_tensors(TrainSpec(depth=d)))) for d in (SHALLOWEST, DEEPEST))
    ratio = math.sqrt(few / many)
    return (
        f"A mean over {many} tensors that move independently and alike moves {ratio:.2f} times as much "
        f"as one over {few}: steadier curves of deeper nets follow from averaging alone."
    )


def _c14(evidence: Evidence, fan: str) -> str:
    slope = parse_activation("prelu").negative_slope
    assert slope is not None
    assumed = TrainSpec().gain_slope
    factor = (1 + slope**2) / (1 + assumed**2)
    return (
        f"He's gain as printed assumes a slope of {assumed:g}, so under PReLU each layer without batch "
        f"norm would grow by {factor:.4f} (Eq. 15); batch norm takes that out. What remains is that "
        f"PReLU's gradients grow less (C5) and N(0, 1)'s steps are {rate_ratio():.1f} times smaller."
    )


SENTENCES: dict[str, Callable[[Evidence, str], str]] = {
    "C1": lambda evidence, fan: _drop(evidence, he("relu", SHALLOWEST, fan)),
    "C2": _c2,
    "C3": _c3,
    "C4": _c4,
    "C5": _c5,
    "C6": lambda evidence, fan: _drop(evidence, Cells("normal", "relu", SHALLOWEST)),
    "C7": _c7,
    "C8": _c8,
    "C9": _c9,
    "C10": _c10,
    "C11": _c11,
    "C12": _c12,
    "C13": _c8,
    "C14": _c14,
}
