"""What the laws of the layers do to the signal, and how a law that is to blame is called."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from theory.audit import fixes
from theory.audit.findings import LOCAL, OFF, WARNING, Finding, Seen, called, modules_of, say, severity
from theory.audit.network import Network, Weight, reached
from theory.audit.recognition import Recognized
from theory.initializers import LAWS

SHARE = 0.1  # of the decades that are lost, below which a law is no cause of it
IDLE = 1e-3  # what a branch adds that changes nothing, as behind a LayerScale of 1e-6
BIASED = 0.9  # share of biases in what a layer gives, from which they are to blame
MIXES = frozenset("einsum bmm baddbmm bilinear".split())


def deviating_laws(seen: Seen, factor: float, spared: bool) -> Iterator[Finding]:
    """The laws of the layers that change the signal the way the whole network does."""
    net = seen.network
    groups: dict[str, list[tuple[Weight, float]]] = defaultdict(list)
    idle = {index for join in net.joins if abs(join.growth - 1) < IDLE for index in join.weights}
    for index, weight, law in seen.drawn():
        change = change_of(net, index)
        if (
            index not in idle
            and law.name != "identity"  # it keeps all lengths
            and not net.hidden[index]
            and weight.kind != "Embedding"
            and change == change
            and not _only_weighs(net, weight)
        ):
            groups[law.label].append((weight, change))
    for label, found in groups.items():
        weights = [weight for weight, _ in found]
        middle = statistics.median_high if factor < 1 else statistics.median_low
        each = middle(change for _, change in found)  # a law that is to blame is so in most layers
        whole = len(found) * math.log(each)
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
            "layers": len(weights),
            "factor_per_layer": each,
            "factor": math.exp(whole),
            "std": law.std,
            "asked_std": law.std / math.sqrt(found[-1][1]),
        }
        code = cause_of(law, weights[-1])
        biased = [_share_of_biases(net, weight) for weight in weights]
        by_biases = code == "wrong-gain" and statistics.median(biased) > BIASED
        if by_biases:
            evidence["share_of_biases"] = statistics.median(biased)
        yield Finding(
            code,
            severity(factor) if 2 * len(weights) > len(net.laws) else WARNING,
            modules_of(weights),
            _of_biases(evidence, weights, each)
            if by_biases
            else cause_sentence(code, label, len(weights), each),
            evidence,
            cure=fixes.zero_biases(net, weights) if by_biases else fixes.redraw(net, weights),
        )


def _share_of_biases(net: Network, weight: Weight) -> float:
    """Of the second moment that a layer makes, where its biases alone are far from 1; else 0."""
    bias = net.parameters.get(f"{weight.module}.bias".lstrip("."))
    size = 0.0 if bias is None else float(bias.detach().double().square().mean())
    return size / net.tape.values[weight.result].second_moment if size > LOCAL**2 else 0.0


def _of_biases(evidence: dict[str, Any], weights: Sequence[Weight], each: float) -> str:
    return (
        f"The biases of {called(weights[-1])} make {evidence['share_of_biases']:.0%} of what it gives, "
        f"and what follows is flat there: the variance of the signal is multiplied by {say(each)} in "
        f"{f'each of {len(weights)} layers' if len(weights) > 1 else 'one layer'}."
    )


def _only_weighs(net: Network, weight: Weight) -> bool:
    """Whether what a weight makes goes into a softmax alone, as a router's: no signal passes there."""
    using = net.consumers[weight.result]
    return bool(using) and all(one.name == "softmax" for one in using)


def _adds_up(net: Network, weights: Sequence[Weight], whole: float, factor: float) -> bool:
    """Whether a small deviation of the weights from what their activation asks for explains it all.

    Of the weights, and not of the signal: a narrow layer or a border loses some by itself.
    """
    own = [
        float(weight.fan_in * weight.tensor.double().square().mean())
        / fixes.gain_after(fixes.activation_before(net, weight)) ** 2
        for weight in weights
    ]  # fmt: skip
    deviation = sum(math.log(one) for one in own if one > 0) / len(own)
    return whole / math.log(factor) >= 0.5 and abs(deviation) > 0.1 and deviation * math.log(factor) > 0


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
    layers = f"each of {count} layers" if count > 1 else "one layer"
    what = {
        "default-law": "PyTorch's default law was left in place",
        "wrong-fan": f"The weights are drawn with the wrong fan ({label})",
        "packed-fan": f"Several matrices in one tensor are drawn as one ({label})",
        "grouped-fan": f"The groups of the convolution are left out of its fan ({label})",
        "wrong-gain": f"The weights have the wrong scale for what comes before them ({label})",
    }[code]
    return f"{what}: it multiplies the variance of the signal by {say(each)} in {layers}."


def change_of(net: Network, index: int) -> float:
    """What a weight, with what stands between it and the weight before it, does to the spread."""
    weight = net.weights[index]
    if weight.source is None or _hides_weights(net, weight.source):
        return math.nan
    before = net.nearest_weights(weight.source)
    from_value = net.weights[before[-1]].result if before else weight.source
    if before and net.references[from_value] != net.references[weight.source]:
        from_value = weight.source  # a norm or a mean over places stands in between
    made, given = (net.tape.values[one].spread for one in (weight.result, from_value))
    return made / given if given > 0 and made > 0 else math.nan


def _hides_weights(net: Network, value: int) -> bool:
    """Whether parameters that the tape takes for no weights multiply the signal, as in an einsum."""
    values = reached(value, lambda one: () if one in net.results else net.made_of(one))
    makers = [net.producers[one] for one in values if one in net.producers and one not in net.results]
    return any(one.name in MIXES and one.parameters for one in makers)
