"""What the laws of the layers do to the signal, and how a law that is to blame is called."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from theory.audit import fixes
from theory.audit.findings import LOCAL, OFF, WARNING, Finding, Seen, called, modules_of, say, severity
from theory.audit.fixes import Fix
from theory.audit.network import Network, Weight, reached
from theory.audit.recognition import Recognized
from theory.initializers import LAWS
from theory.predict.tape import Value

SHARE = 0.1  # of the decades that are lost, below which a law is no cause of it
IDLE = 1e-3  # what a branch adds that changes nothing, as behind a LayerScale of 1e-6
BIASED = 0.9  # share of biases in what a layer gives, from which they are to blame
NOISE = 10.0  # times ε² of the second moment, below which a spread is what rounding makes
NEAR = 0.1  # |ln| of what the activation asks for, within which a scale is right
LARGEST = 690.0  # a logarithm whose exponential is a number still
MIXES = frozenset("einsum bmm baddbmm bilinear".split())


def deviating_laws(seen: Seen, factor: float, spared: bool) -> Iterator[Finding]:
    """The laws of the layers that change the signal the way the whole network does."""
    net = seen.network
    groups: dict[str, list[tuple[Weight, float]]] = defaultdict(list)
    uses = Counter(weight.parameter for weight in net.weights)
    idle = {index for join in net.joins if abs(join.growth - 1) < IDLE for index in join.weights}
    for index, weight, law in seen.drawn():
        change = change_of(net, index)
        if (
            index not in idle
            and law.name != "identity"  # it keeps all lengths
            and not net.hidden[index]
            and weight.kind != "Embedding"
            and (change == change or _faded(net, weight))
            and not _only_weighs(net, weight)
        ):
            groups[law.label].append((weight, change))
    for label, found in groups.items():
        weights = [weight for weight, _ in found]
        known = [change for _, change in found if change == change]
        if not known:
            continue
        middle = statistics.median_high if factor < 1 else statistics.median_low
        each = middle(known)  # a law that is to blame is so in most layers
        count = sum(uses[weight.parameter] for weight in weights)
        whole = count * math.log(each)
        little = (each * OFF > 1 if factor < 1 else each < OFF) and not _adds_up(
            net, weights, whole, factor
        )
        if little or abs(whole) < math.log(LOCAL) or whole / math.log(factor) < SHARE:
            continue
        law = seen.laws[weights[-1].parameter]
        if spared and law.fan == "fan_out" and LAWS[law.name or ""].gain == "he":
            continue
        evidence = {
            "law": label,
            "layers": count,
            "factor_per_layer": each,
            "factor": math.exp(max(-LARGEST, min(whole, LARGEST))),
            "std": law.std,
            "asked_std": law.std / math.sqrt(known[-1]),
        }
        code = cause_of(law, weights[-1])
        biased = [_share_of_biases(net, weight) for weight in weights]
        cure: Fix | None = fixes.redraw(net, weights)
        says = cause_sentence(code, label, count, each)
        if code == "wrong-gain" and statistics.median(biased) > BIASED:
            evidence["share_of_biases"] = statistics.median(biased)
            says, cure = _of_biases(evidence, weights, each), fixes.zero_biases(net, weights)
        elif code == "wrong-gain" and abs(_deviation(net, weights)) < NEAR:
            before = (fixes.activation_before(net, weight).name for weight in weights)
            if bending := [name for name in before if name != "linear"]:
                says, cure = _of_activation(statistics.mode(bending), count, each), None
        grave = severity(factor) if 2 * len(weights) > len(net.laws) else WARNING
        yield Finding(code, grave, modules_of(weights), says, evidence, cure=cure)


def _share_of_biases(net: Network, weight: Weight) -> float:
    """Of the second moment that a layer makes, where its biases alone are far from 1; else 0."""
    bias = net.parameters.get(f"{weight.module}.bias".lstrip("."))
    size = 0.0 if bias is None else float(bias.detach().double().square().mean())
    return size / net.tape.values[weight.result].second_moment if size > LOCAL**2 else 0.0


def _of_biases(evidence: dict[str, Any], weights: Sequence[Weight], each: float) -> str:
    return (
        f"The biases of {called(weights[-1])} make {evidence['share_of_biases']:.0%} of what it gives, "
        f"and what follows is flat there: the variance of the signal is multiplied by {say(each)} in "
        f"{_layers(len(weights))}."
    )


def _of_activation(name: str, count: int, each: float) -> str:
    """Of weights that have the scale that is asked for."""
    return (
        f"The weights have the scale that {name} asks for, and the signal does not rest there: its "
        f"variance is multiplied by {say(each)} in {_layers(count)}; a norm or another activation "
        "would hold it."
    )


def _layers(count: int) -> str:
    return f"each of {count} layers" if count > 1 else "one layer"


def _only_weighs(net: Network, weight: Weight) -> bool:
    """Whether what a weight makes goes into a softmax alone, as a router's: no signal passes there."""
    using = net.consumers[weight.result]
    return bool(using) and all(one.name == "softmax" for one in using)


def _adds_up(net: Network, weights: Sequence[Weight], whole: float, factor: float) -> bool:
    """Whether a small deviation of the weights from what their activation asks for explains it all.

    Of the weights, and not of the signal: a narrow layer or a border loses some by itself.
    """
    deviation = _deviation(net, weights)
    return (
        whole / math.log(factor) >= 0.5 and abs(deviation) > NEAR and deviation * math.log(factor) > 0
    )


def _deviation(net: Network, weights: Sequence[Weight]) -> float:
    """ln of fan_in·E[w²] over what the activation before asks for, mean over the weights."""
    own = [
        float(weight.fan_in * weight.tensor.double().square().mean())
        / fixes.activation_before(net, weight).gain ** 2
        for weight in weights
    ]  # fmt: skip
    return sum(math.log(one) for one in own if one > 0) / len(own)


def cause_of(law: Recognized, weight: Weight) -> str:
    fan = law.fan or ""
    if "packed" in fan:
        return "packed-fan"
    if "ungrouped" in fan:
        return "grouped-fan"
    if is_default(law, weight):
        return "default-law"
    return "wrong-fan" if "fan_out" in fan or "kernel" in fan else "wrong-gain"


def is_default(law: Recognized, weight: Weight) -> bool:
    """Whether this is what torch draws by itself: of a transposed convolution with its fan_out."""
    return law.name == "pytorch" and law.fan == ("fan_out" if weight.transposed else "fan_in")


def cause_sentence(code: str, label: str, count: int, each: float) -> str:
    what = {
        "default-law": "PyTorch's default law was left in place",
        "wrong-fan": f"The weights are drawn with the wrong fan ({label})",
        "packed-fan": f"Several matrices in one tensor are drawn as one ({label})",
        "grouped-fan": f"The groups of the convolution are left out of its fan ({label})",
        "wrong-gain": f"The weights have the wrong scale for what comes before them ({label})",
    }[code]
    return f"{what}: it multiplies the variance of the signal by {say(each)} in {_layers(count)}."


def change_of(net: Network, index: int) -> float:
    """What a weight, with what stands between it and the weight before it, does to the spread."""
    weight = net.weights[index]
    given = _given(net, weight)
    if given is None or _is_noise(given):
        return math.nan
    made = net.tape.values[weight.result].spread
    return made / given.spread if made > 0 else math.nan


def _faded(net: Network, weight: Weight) -> bool:
    """Whether a weight is given a signal of which nothing is left, and so can show no change."""
    given = _given(net, weight)
    return given is not None and _is_noise(given)


def _given(net: Network, weight: Weight) -> Value | None:
    """The value from which the change of a weight counts."""
    if weight.source is None or _hides_weights(net, weight.source):
        return None
    before = net.nearest_weights(weight.source)
    value = net.weights[before[-1]].result if before else weight.source
    if before and net.references[value] != net.references[weight.source]:
        value = weight.source  # a norm or a mean over places stands in between
    return net.tape.values[value]


def _is_noise(value: Value) -> bool:
    """Whether a value tells inputs apart by rounding alone, or not at all any more."""
    eps = torch.finfo(value.dtype).eps if value.dtype.is_floating_point else 0.0
    return value.spread <= NOISE * eps**2 * value.second_moment


def _hides_weights(net: Network, value: int) -> bool:
    """Whether parameters that the tape takes for no weights multiply the signal, as in an einsum."""
    values = reached(value, lambda one: () if one in net.results else net.made_of(one))
    makers = [net.producers[one] for one in values if one in net.producers and one not in net.results]
    return any(one.name in MIXES and one.parameters for one in makers)
