"""The rules of an audit: what in a network is drawn wrongly, each with the number that says so.

Two kinds of rules.  *Effects* are measured: a signal or a gradient that is lost or blown up between
the references of ``network``, a first loss far above guessing, a residual stream that outgrows its
branches.
*Causes* are deviations of the weights themselves: the default left in place, the wrong fan or gain,
packed and grouped tensors, copies, zeros.  A cause is a warning only where it has an effect; alone it
is a note, or nothing.  ``WARN`` and ``BREAK`` are factors of second moments.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from theory.audit import fixes
from theory.audit.fixes import Fix
from theory.audit.network import ACTIVATIONS, KEEPS_SCALE, PRODUCTS, Join, Network, Weight
from theory.audit.recognition import Recognized
from theory.audit.stuck import COPIES, MOVES, NEVER, Fate
from theory.initializers import LAWS
from theory.law.cross_entropy import softmax_concentration
from theory.predict.moments import has_no_mean
from theory.predict.tape import Operation

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (NOTE, WARNING, ERROR)
WARN, BREAK = 1e4, 1e8  # factors of second moments: of amplitudes 100 and 10,000
OFF = 1.4  # a factor per layer that is away from 1
SHARE = 0.1  # of the decades that are lost, below which a law is no cause of it
BESIDE = 0.25  # of what the first cause explains, below which another is none
LOCAL = 3.0  # a wrong factor that matters by itself, where no norm hides it
ELSEWHERE = ("vanishing-signal", "residual-growth")  # causes that are effects with a rule of their own
TRADED = 1e3  # what one way may gain or lose to the other
DEAD = 0.9  # share of silent units; a ReLU silences half of its units even where all inputs are alike
DEEP = 4  # residual sums in a row from which their number counts
GROWN = 10.0  # growth of the stream of a pre-norm stack, unscaled
GROWN_PLAIN = 30.0  # of a stack without norms
IDLE = 1e-3  # what a branch adds that changes nothing, as behind a LayerScale of 1e-6
FORGETS = 0.5  # mean forget bias below which a cell forgets by half
LOST = 1e-2  # what may be left of a cell's state at the end
OUTLIER = 30.0  # robust standard deviations
COMMON = 0.3  # of the second moment of weights by their mean: what all units share
BIASED = 0.9  # share of biases in what a layer gives, from which they are to blame
SHARP = 0.5  # expected Σ A² of an attention matrix at random weights, above which it hardly mixes
KEYS = 8  # below which attention may be as sharp as it is
FEW = 8  # units, or weights of a unit, that say nothing of a mean
MIXES = frozenset("einsum bmm baddbmm bilinear".split())
RECTIFIERS = frozenset("relu relu6 clamp clamp_min threshold".split())
TINY = 1e-10  # a spread over a second moment that is rounding


@dataclass(frozen=True)
class Finding:
    """What is wrong, or looks so.

    code       one of the contract's
    severity   error (it will not train like this), warning (it costs), note (good to know)
    modules    where
    message    one sentence
    evidence   the numbers behind it; after the fix was tried, ``before`` and ``after``, and ``of`` what
    fix        one line of code, or None
    """

    code: str
    severity: str
    modules: tuple[str, ...]
    message: str
    evidence: dict[str, Any]
    fix: str | None = None
    cure: Fix | None = field(default=None, repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """What the contract's JSON says of a finding."""
        keys = ("code", "severity", "modules", "message", "evidence", "fix")
        return {key: getattr(self, key) for key in keys}


@dataclass(frozen=True)
class Loss:
    """Cross-entropy of the untrained network, in nats per example, labels uniform over ``classes``."""

    predicted: float
    measured: float
    guessing: float
    classes: int
    logit_variance: float

    @property
    def dear(self) -> float:
        """The loss above which something is wrong."""
        return self.guessing + max(2.0, self.guessing / 2)

    def as_dict(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in ("predicted", "measured", "guessing")}


@dataclass(frozen=True)
class Seen:
    """All that the rules look at."""

    network: Network
    laws: dict[str, Recognized]  # by parameter
    loss: Loss | None
    fates: dict[str, Fate]  # of zero and constant tensors: ``stuck``

    @property
    def weights(self) -> Sequence[Weight]:
        return self.network.weights

    def drawn(self) -> Iterator[tuple[int, Weight, Recognized]]:
        """Each parameter at its first use."""
        for name, index in self.network.laws.items():
            yield index, self.weights[index], self.laws[name]


def find(seen: Seen) -> list[Finding]:
    """Every finding, errors first."""
    found = [finding for rule in RULES for finding in rule(seen)]
    return sorted(found, key=lambda finding: -SEVERITIES.index(finding.severity))


def modules_of(weights: Sequence[Weight]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(weight.module or weight.parameter for weight in weights))


def named(name: str) -> str:
    """A module in a sentence.

    >>> named("fc"), named("0")
    ('fc', 'layer 0')
    """
    return f"layer {name}" if name.isdigit() else name


def called(weight: Weight) -> str:
    """A weight in a sentence: its module, or itself where it is the model's own."""
    return named(weight.module or weight.parameter)


def say(value: float) -> str:
    """A number in a sentence.

    >>> say(0.16), say(3.2e-9), say(1234567.0)
    ('0.16', '3.2e-09', '1.2e+06')
    """
    return f"{value:.2g}"


def severity(factor: float) -> str:
    """Of a signal that is multiplied by ``factor``, or divided by it."""
    return ERROR if not 1 / BREAK < factor < BREAK else WARNING


# ----------------------------------------------------------------------------------- effects


def lost_or_blown_up(seen: Seen) -> Iterator[Finding]:
    """Signal and gradient from end to end, and what in the laws of the layers explains it."""
    net = seen.network
    bad = _not_finite(net)
    if bad is not None:
        yield bad
        return
    if any(fate.state != MOVES for fate in seen.fates.values()):
        return  # zeros_and_constants says what comes first
    signal, gradient = end_to_end(net)
    causes: list[Finding] = []
    if _matters(signal, gradient):
        causes = _causes(seen, signal)
        effect = _signal(seen, signal, causes)
        if not (_explained(signal, causes) or effect.severity == ERROR):
            effect = replace(effect, severity=NOTE)
            causes = [replace(cause, severity=NOTE) for cause in causes]
            gradient = math.nan
        yield effect
    if _matters(gradient, signal) or (gradient > 0 and not 1 / BREAK < gradient < BREAK):
        causes = causes or _causes(seen, gradient)
        yield _gradient(seen, gradient, causes)
    yield from (cause for cause in causes if cause.code not in ELSEWHERE)


def end_to_end(net: Network) -> tuple[float, float]:
    """Signal in front of the last weights, and gradient at the first over that at the last.

    Of several ends the best counts; NaN where there is none.
    """
    ends = [net.weights[index] for index in net.heads]
    sources = [weight.source for weight in ends if weight.source is not None]
    first = [net.weights[index] for index in net.stems]
    below = [net.gradient(one.result if one.source is None else one.source) for one in first]
    above = [net.gradient(source) for source in sources]
    below, above = ([one for one in side if one > 0] for side in (below, above))
    signals = [one for one in map(net.signal, sources) if one == one]
    gradient = max(below) / max(above) if below and above else math.nan
    return max(signals, default=math.nan), gradient


def _explained(factor: float, causes: Sequence[Finding]) -> bool:
    """Whether deviating laws make at least half of the decades; else it is borders, pools, chance."""
    logs = sum(math.log(cause.evidence["factor"]) for cause in causes if "factor" in cause.evidence)
    return logs / math.log(factor) >= 0.5 or any(cause.code in ELSEWHERE for cause in causes)


def _matters(factor: float, other_way: float) -> bool:
    """Whether a factor from end to end is too far from 1.

    Signal and gradient may be traded for each other: He's fan_out keeps the gradient, and leaves the
    signal to c_in/c_out; what counts up to ``BREAK`` is that both go the same way.
    """
    if not factor > 0 or 1 / WARN < factor < WARN:
        return False
    with_it = other_way < 1 / TRADED if factor < 1 else other_way > TRADED
    return with_it or not 1 / BREAK < factor < BREAK


def _not_finite(net: Network) -> Finding | None:
    for weight in net.weights:
        if not math.isfinite(net.tape.values[weight.result].second_moment):
            bad = {name: int((~one.isfinite()).sum()) for name, one in net.parameters.items()}
            names = [name for name, count in bad.items() if count]
            if names:
                more = f", and so do {len(names) - 1} more" if len(names) > 1 else ""
                message = f"{names[0]} holds numbers that are not finite{more}: never drawn?"
                where = tuple(dict.fromkeys(net.owner(name) or name for name in names))
                evidence = {"not_finite": sum(bad.values())}
                return Finding("exploding-signal", ERROR, where, message, evidence)
            where = (weight.module or weight.parameter,)
            message = f"{where[0]} gives numbers that are not finite: the signal overflows."
            return Finding("exploding-signal", ERROR, where, message, {"second_moment": math.inf})
    return None


def _signal(seen: Seen, factor: float, causes: Sequence[Finding]) -> Finding:
    net, vanishes = seen.network, factor < 1
    code = "vanishing-signal" if vanishes else "exploding-signal"
    beyond = [
        weight for index, weight in enumerate(net.weights)
        if index not in net.heads and (net.signal(weight.result) < 1 / WARN if vanishes
                                       else net.signal(weight.result) > WARN)
    ]  # fmt: skip
    ends = [net.weights[index] for index in net.heads]
    last = next(one for one in ends if one.source is not None and net.signal(one.source) == factor)
    where = modules_of(beyond) or (last.module,)
    kept = "keeps" if vanishes else "has"
    word = "vanishes" if vanishes else "explodes"
    message = (
        f"The signal {word}: in front of {called(last)} it {kept} {say(factor)} of "
        "the variance over the inputs that it started with."
    )
    evidence = {"factor": factor, "layers_beyond": len(beyond)}
    for cause in causes:
        if "eps" in cause.evidence:
            evidence["eps"] = cause.evidence["eps"]
            where = tuple(dict.fromkeys((*cause.modules, *where)))
            message += f" {cause.message}"
    return Finding(code, severity(factor), where, message, evidence, cure=_cure(causes))


def _cure(causes: Sequence[Finding]) -> Fix | None:
    return next((cause.cure for cause in causes if cause.cure), None)


def _gradient(seen: Seen, factor: float, causes: Sequence[Finding]) -> Finding:
    net, vanishes = seen.network, factor < 1
    code = "vanishing-gradient" if vanishes else "exploding-gradient"
    first = net.weights[net.stems[0]]
    message = (
        f"The gradient {'vanishes' if vanishes else 'explodes'} on its way back: at "
        f"{called(first)} it is {say(factor)} of what it is at the last layer."
    )
    where, evidence = modules_of([first]), {"factor": factor}
    # alone, where norms hold the signal, it costs before it breaks
    grave = severity(factor) if causes or not 1 / BREAK**2 < factor < BREAK**2 else WARNING
    return Finding(code, grave, where, message, evidence, cure=_cure(causes))


def _causes(seen: Seen, factor: float, *, spared: bool = True) -> list[Finding]:
    """What changes the signal the way the whole network does, in the order of what it changes.

    spared  whether He's law with fan_out is no cause: it keeps the gradient, c_in/c_out telescopes
            (He et al. 2015, Eq. 14)
    """
    net = seen.network
    biting = [one for one in net.tape.operations if net.is_norm(one) and net.bites(one)]
    if biting and factor < 1:
        eps, where = biting[0].arguments["eps"], tuple(dict.fromkeys(one.module for one in biting))
        message = f"The ε of {where[0]}, {eps:g}, is larger than the variance that it is to normalize."
        cure = fixes.smaller_eps(net, [net.weights[net.heads[-1]]], where[0])
        return [Finding("vanishing-signal", WARNING, where, message, {"eps": eps}, cure=cure)]
    grown = [one for one in residual_stacks(seen) if one.code == "residual-growth"]
    if grown and factor > 1:
        return grown
    laws = _deviating_laws(seen, factor, spared)
    sizes = [(abs(math.log(one.evidence["factor"])), one) for one in laws]
    sizes.sort(key=lambda pair: -pair[0])
    return [one for size, one in sizes if size > BESIDE * sizes[0][0]]


def _deviating_laws(seen: Seen, factor: float, spared: bool) -> Iterator[Finding]:
    """The laws of the layers that change the signal the way the whole network does."""
    net = seen.network
    groups: dict[str, list[tuple[Weight, float]]] = defaultdict(list)
    idle = {index for join in net.joins if abs(join.growth - 1) < IDLE for index in join.weights}
    for index, weight, law in seen.drawn():
        change = _change(net, index)
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
        code = _cause(law, weights[-1])
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
            else _cause_sentence(code, label, len(weights), each),
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


def _cause(law: Recognized, weight: Weight) -> str:
    fan = law.fan or ""
    if "packed" in fan:
        return "packed-fan"
    if "ungrouped" in fan:
        return "grouped-fan"
    if _is_default(law, weight):
        return "default-law"
    return "wrong-fan" if "fan_out" in fan or "kernel" in fan else "wrong-gain"


def _is_default(law: Recognized, weight: Weight) -> bool:
    """Whether this is what torch draws by itself: of a transposed convolution with its fan_out."""
    return law.name == "pytorch" and law.fan == ("fan_out" if weight.transposed else "fan_in")


def _cause_sentence(code: str, label: str, count: int, each: float) -> str:
    layers = f"each of {count} layers" if count > 1 else "one layer"
    what = {
        "default-law": "PyTorch's default law was left in place",
        "wrong-fan": f"The weights are drawn with the wrong fan ({label})",
        "packed-fan": f"Several matrices in one tensor are drawn as one ({label})",
        "grouped-fan": f"The groups of the convolution are left out of its fan ({label})",
        "wrong-gain": f"The weights have the wrong scale for what comes before them ({label})",
    }[code]
    return f"{what}: it multiplies the variance of the signal by {say(each)} in {layers}."


def _change(net: Network, index: int) -> float:
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
    todo, done = [value], {value}
    while todo:
        one = todo.pop()
        made_by = None if one in net.results else net.producers.get(one)
        if made_by is None:
            continue
        if made_by.name in MIXES and made_by.parameters:
            return True
        new = set(made_by.inputs) - done
        done |= new
        todo += new
    return False


def first_loss(seen: Seen) -> Iterator[Finding]:
    """A loss far above guessing, and the tie behind it where there is one."""
    loss, net = seen.loss, seen.network
    if loss is None or not loss.measured > loss.dear:
        return
    heads = [net.weights[index] for index in net.heads]
    grave = ERROR if loss.measured > loss.guessing + max(20.0, 3 * loss.guessing) else WARNING
    evidence = {
        "loss": loss.measured,
        "guessing": loss.guessing,
        "classes": loss.classes,
        "logit_variance": loss.logit_variance,
    }
    tied = [names for names in net.tape.ties.values() if _is_table_and_head(net, names)]
    cure: Fix | None = fixes.shrink(net, heads[-1:], 1 / math.sqrt(max(loss.logit_variance, 1)))
    effects = [one for one in lost_or_blown_up(seen) if one.severity != NOTE]
    behind = _behind_loss(seen)
    if any(one.code == "exploding-signal" for one in effects) or behind:
        cure = _cure([*effects, *behind])  # the head only hands on what came to it
    said = {one.message for one in effects}
    yield from (one for one in behind if one.code not in ELSEWHERE and one.message not in said)
    luck = grave == WARNING and loss.predicted <= loss.dear
    if tied:
        names = tied[0]
        weight = net.parameters[names[0]]
        std, width = float(weight.detach().std()), weight.shape[-1]
        cure = fixes.rescale(names[0], width**-0.5)
        yield Finding(
            "tied-scale",
            grave,
            tuple(dict.fromkeys(name.rpartition(".")[0] for name in names)),
            f"One tensor of std {say(std)} is both the embedding and the head: as a head of {width} "
            f"inputs it makes logits of variance {say(loss.logit_variance)}.",
            {"std": std, "width": width, "logit_variance": loss.logit_variance},
            cure=cure,
        )
    why = (
        f"{loss.predicted:.4g} is expected of these weights, so this draw's logits are large by chance"
        if luck
        else "the logits are too large"
    )
    yield Finding(
        "first-loss",
        NOTE if luck else grave,
        modules_of(heads[-1:]),
        f"The loss before training is {loss.measured:.4g}; guessing among {loss.classes:,} classes "
        f"costs {loss.guessing:.4g}: {why}.",
        evidence,
        cure=None if luck else cure,
    )


def _behind_loss(seen: Seen) -> list[Finding]:
    """The laws that make at least half of the decades by which the logits are too large."""
    signal, _ = end_to_end(seen.network)
    causes = _causes(seen, signal, spared=False) if signal > GROWN else []
    if not _explained(signal, causes):
        return []
    return [replace(one, severity=WARNING) for one in causes]


def _is_table_and_head(net: Network, names: Sequence[str]) -> bool:
    by = {one.name for one in net.tape.operations if set(one.parameters) & set(names)}
    return "embedding" in by and bool(by & PRODUCTS)


def residual_stacks(seen: Seen) -> Iterator[Finding]:
    """Streams that outgrow their branches, and branches that do not know the depth."""
    net = seen.network
    for stack in net.stacks:
        values = net.tape.values
        before = values[stack[0].skip].second_moment
        growth = values[stack[-1].result].second_moment / before if before > 0 else math.nan
        if len(stack) < DEEP or not growth > GROWN or any(join.ends_in_norm for join in stack):
            continue
        normed = sum(join.normed for join in stack) > len(stack) / 2
        scaled = normed and _knows_depth(seen, stack)
        by_depth = growth / max(join.growth for join in stack)  # what no single branch has done
        if normed and by_depth < GROWN / 2:
            continue
        if (scaled and growth < WARN / 10) or (not normed and growth < GROWN_PLAIN):
            continue
        yield from _stack(seen, stack, growth, normed=normed, scaled=scaled)


def _stack(
    seen: Seen, stack: Sequence[Join], growth: float, *, normed: bool, scaled: bool
) -> Iterator[Finding]:
    net, count = seen.network, len(stack)
    last = list(dict.fromkeys(index for join in stack for index in join.last))
    weights = [net.weights[index] for index in last]
    cure = fixes.shrink(net, weights, count**-0.5, watch=stack[-1])
    how = (
        "grows with every branch"
        if normed
        else f"grows ×{say(growth ** (1 / count))} with every branch"
    )
    if not scaled:
        std = seen.laws[weights[0].parameter].std
        yield Finding(
            "branch-scale",
            WARNING,
            modules_of(weights),
            f"The last weights of {count} residual branches do not know the depth: their variance is "
            f"{count}× what 1/√{count} would make it.",
            {"branches": count, "std": std, "asked_std": std * count**-0.5, "variance_factor": count},
            cure=cure,
        )
    yield Finding(
        "residual-growth",
        WARNING if growth < BREAK else ERROR,
        modules_of([weights[0], weights[-1]]),
        f"The residual stream {how}: after {count} branches its second moment is {say(growth)}× that "
        "of what entered.",
        {"growth": growth, "branches": count},
        cure=cure,
    )


def _knows_depth(seen: Seen, stack: Sequence[Join]) -> bool:
    """Whether the last weights of branches are smaller than their others by about their number."""
    net = seen.network
    ratios = []
    for join in stack:
        others = [net.weights[index] for index in join.weights if index not in join.last]
        for index in join.last:
            last = net.weights[index]
            mine = seen.laws[last.parameter].std ** 2
            for other in others:
                theirs = seen.laws[other.parameter].std ** 2
                if theirs > 0 and other.kind != "Embedding":
                    ratios += [mine / theirs, mine * last.fan_in / (theirs * other.fan_in)]
    return bool(ratios) and min(ratios) < 3 / len(stack)


def sharp_attention(seen: Seen) -> Iterator[Finding]:
    """Attention whose logits are so large that each query looks at about one key: no 1/√d, say."""
    net, sharp = seen.network, []
    for operation in net.tape.operations:
        logits = operation.logits
        if logits is None or max(logits.shares) < KEYS or not _is_attention(net, operation):
            continue
        weights = [net.weights[index] for index in net.nearest_weights(operation.inputs[0])]
        (expected,) = softmax_concentration(logits.variance, [max(logits.shares)])
        if expected > SHARP and weights:
            sharp.append((float(expected), operation, weights))
    if not sharp:
        return
    share, worst, _ = max(sharp, key=lambda each: each[0])
    assert worst.logits is not None
    variance, keys = worst.logits.variance, max(worst.logits.shares)
    weights = [weight for *_, found in sharp for weight in found]
    yield Finding(
        "wrong-gain",
        WARNING,
        modules_of(weights),
        f"Attention begins sharp: logits of variance {variance:.3g} in {len(sharp)} "
        f"matri{'ces' if len(sharp) > 1 else 'x'} let a query look at {1 / share:.1f} of "
        f"{keys} keys, and softmax passes hardly any gradient there; a variance of 1 is "
        "usual (1/√d left out?).",
        {"logit_variance": variance, "keys": keys, "concentration": share},
        cure=fixes.calm(net, [found[0] for *_, found in sharp], variance, worst),
    )


def _is_attention(net: Network, operation: Operation) -> bool:
    """Whether an operation weighs values by a softmax: inside of it, or in the product that follows."""
    if operation.name == "scaled_dot_product_attention":
        return True
    value = operation.outputs[0]
    for _ in range(4):
        using = net.consumers[value]
        if any(one.name in PRODUCTS and len(one.inputs) > 1 for one in using):
            return True
        onward = [one for one in using if one.name in KEEPS_SCALE]
        if not onward:
            return False
        value = onward[0].outputs[0]
    return False


def dead_units(seen: Seen) -> Iterator[Finding]:
    """Rectifiers that are silent for every input."""
    net, dead = seen.network, []
    for operation in net.tape.operations:
        if operation.name not in RECTIFIERS:
            continue
        share = net.tape.values[operation.outputs[0]].silent
        before = net.nearest_weights(operation.inputs[0])
        zero = any(seen.laws[net.weights[index].parameter].name == "zero" for index in before)
        if share >= DEAD and not zero and before:
            dead.append((net.weights[before[-1]], share, operation))
    if dead:
        share = max(share for _, share, _ in dead)
        around = end_to_end(net)[0] > 1 / WARN  # as past a gate that is shut
        weights = [weight for weight, _, _ in dead]
        yield Finding(
            "dead-units",
            NOTE if around else ERROR if share == 1 else WARNING,
            modules_of(weights),
            f"{share:.0%} of the units behind {called(weights[0])} are 0 for every input, and get no "
            "gradient; half would be usual.",
            {"share": share, "layers": len(dead)},
            cure=fixes.zero_biases(net, weights, dead[0][2]),
        )


# ------------------------------------------------------------------------------------ causes


def default_left(seen: Seen) -> Iterator[Finding]:
    """PyTorch's default where it costs nothing that was measured: a note."""
    net = seen.network
    found = [
        weight for index, weight, law in seen.drawn()
        if _is_default(law, weight) and index not in net.heads
        and weight.kind not in ("LSTM", "GRU", "RNN") and _feeds_activation(net, weight)
    ]  # fmt: skip
    if len(found) < 2 or any(lost_or_blown_up(seen)):
        return
    changes = [_change(net, net.laws[weight.parameter]) for weight in found]
    known = [math.log(change) for change in changes if change == change]
    each = math.exp(sum(known) / len(known)) if known else math.nan
    hidden = sum(net.hidden[net.laws[weight.parameter]] for weight in found)
    why = (
        "a norm behind it takes the scale out"
        if hidden * 2 > len(found)
        else ("over the whole network that does not add up to a loss")
    )
    yield Finding(
        "default-law",
        NOTE,
        modules_of(found),
        f"PyTorch's default law was left in place in {len(found)} layers (each multiplies the variance "
        f"by {say(each)}); {why}.",
        {"layers": len(found), "behind_a_norm": hidden, "factor_per_layer": each},
        cure=fixes.redraw(net, found),
    )


def _feeds_activation(net: Network, weight: Weight) -> bool:
    value = weight.result
    for _ in range(8):
        using = net.consumers[value]
        if any(one.name in ACTIVATIONS for one in using):
            return True
        onward = [one for one in using if net.is_norm(one) or one.name in ("dropout", "cat")]
        if not onward:
            return False
        value = onward[0].outputs[0]
    return False


def wrong_fans(seen: Seen) -> Iterator[Finding]:
    """Packed, grouped and mistaken fans: warnings where no norm hides a factor of ``LOCAL``."""
    net = seen.network
    said = {
        module for rule in (lost_or_blown_up, first_loss) for finding in rule(seen)
        for module in finding.modules
        if finding.code.endswith(("-fan", "-gain"))
    }  # fmt: skip
    dear = seen.loss is not None and seen.loss.measured > seen.loss.dear
    groups: dict[tuple[str, str], list[tuple[int, Weight, float]]] = defaultdict(list)
    for index, weight, law in seen.drawn():
        code = _cause(law, weight)
        if law.name is None or not code.endswith("-fan") or weight.kind == "Embedding":
            continue
        if (weight.module or weight.parameter) in said:
            continue
        off = _off(weight, law)
        if code == "wrong-fan" and net.hidden[index]:
            continue
        if not 1 / OFF < off < OFF:
            label = law.label if code == "wrong-fan" else ""  # the others are one mistake each
            groups[code, label].append((index, weight, off))
    for (code, _), found in groups.items():
        weights = [weight for _, weight, _ in found]
        whole = math.exp(sum(math.log(off) for *_, off in found))
        if code == "wrong-fan" and 1 / GROWN < whole < GROWN:
            continue
        bare = [off for index, weight, off in found
                if not net.hidden[index] and not 1 / LOCAL < off < LOCAL]  # fmt: skip
        worst = max((off for *_, off in found), key=lambda off: abs(math.log(off)))
        law = seen.laws[weights[0].parameter]
        hides = "" if bare else "; a norm behind it takes the scale out" if all(
            net.hidden[index] for index, *_ in found) else ""  # fmt: skip
        message = _cause_sentence(code, law.label, len(weights), 1.0).partition(":")[0]
        yield Finding(
            code,
            WARNING if bare and (dear or code != "wrong-fan") else NOTE,
            modules_of(weights),
            f"{message}: the variance is {say(worst)}× that of the same law with the right fan{hides}.",
            {"law": law.label, "layers": len(weights), "variance_factor": worst, "std": law.std,
             "asked_std": law.std / math.sqrt(_off(weights[0], law)),
             "behind_a_norm": sum(net.hidden[index] for index, *_ in found)},
            cure=fixes.with_right_fan(net, weights, seen.laws, code),
        )  # fmt: skip


def _off(weight: Weight, law: Recognized) -> float:
    """Var[w] over what the same law has with the right fans."""
    return law.expected_std**2 / fixes.right_std(weight, law) ** 2


def copies(seen: Seen) -> Iterator[Finding]:
    """Different layers with the same numbers."""
    groups: dict[tuple[Any, ...], list[Weight]] = defaultdict(list)
    for _, weight, law in seen.drawn():
        fixed = not seen.network.parameters[weight.parameter].requires_grad  # as a teacher's copy is
        if fixed or law.name in ("zero", "constant", "identity") or weight.tensor.numel() < 4:
            continue
        flat = weight.tensor.reshape(-1)
        key = (tuple(weight.tensor.shape), *flat[:8].tolist(), float(flat[-1]))
        groups[key].append(weight)
    same: list[Weight] = []
    for group in groups.values():
        first = group[0].tensor
        again = [
            weight for weight in group[1:]
            if weight.tensor.data_ptr() != first.data_ptr() and torch.equal(weight.tensor, first)
        ]  # fmt: skip
        same += [group[0], *again] if again else []
    if same:
        names = {weight.parameter for weight in same}
        yield Finding(
            "identical-weights",
            WARNING,
            modules_of(same),
            f"{len(names)} weight tensors of different layers hold the same numbers in groups: the "
            "layers are copies of each other, as copy.deepcopy makes them.",
            {"tensors": len(names), "distinct": len(names) - _repeats(same)},
            cure=fixes.redraw_same(seen.network, same, seen.laws),
        )


def _repeats(weights: Sequence[Weight]) -> int:
    seen: list[torch.Tensor] = []
    repeats = 0
    for weight in weights:
        if any(one.shape == weight.tensor.shape and torch.equal(one, weight.tensor) for one in seen):
            repeats += 1
        else:
            seen.append(weight.tensor)
    return repeats


def zeros_and_constants(seen: Seen) -> Iterator[Finding]:
    """Tensors without randomness: errors where the signal ends or training cannot break them."""
    net = seen.network
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, fate in seen.fates.items():
        code = "zero-weights" if fate.is_zero else "identical-weights"
        groups[code, _end_of(net, name, fate)].append(name)
    for (code, end), names in groups.items():
        if (code, end) == ("identical-weights", MOVES):
            continue
        where = tuple(dict.fromkeys(net.owner(name) or name for name in names))
        what = "zero" if code == "zero-weights" else "the same in every unit"
        steps = {name: seen.fates[name].gradient for name in names}
        matrices = [net.weights[net.laws[name]] for name in names if name in net.laws]
        first = names[0].removesuffix(".weight")
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield Finding(
            code,
            {MOVES: NOTE, ONE_UNIT: WARNING}.get(end, ERROR),
            where,
            f"The weights of {named(first)}{more} are {what}: {BECOMES[end]}.",
            {"tensors": len(names), "largest_gradient": max(steps.values())},
            cure=None if end == MOVES else _draw_or_set(net, names, matrices),
        )


def _draw_or_set(net: Network, names: Sequence[str], matrices: Sequence[Weight]) -> Fix | None:
    """What ends zeros or copies: the matrices drawn, or, where there are none, scales of norms to 1."""
    if len(matrices) == len(names):
        matrices = _all_but_every_second(net, matrices)
    if matrices:
        return fixes.redraw(net, matrices)
    of_norms = {name for one in net.tape.operations if net.is_norm(one) for name in one.parameters}
    return fixes.unit_scales(net, names, names[0]) if of_norms.issuperset(names) else None


def _all_but_every_second(net: Network, stuck: Sequence[Weight]) -> list[Weight]:
    """Of zeros in a row those to be drawn: in B·A·x it is enough to draw A, and B begins at nothing.

    What a rectifier follows is drawn too, because that sends no gradient back to a zero.
    """
    drawn: list[Weight] = []
    for weight in sorted(stuck, key=lambda one: one.operation):
        before = [] if weight.source is None else net.nearest_weights(weight.source)
        given = {one.parameter for one in drawn}
        behind_one = bool(before) and given.issuperset(net.weights[i].parameter for i in before)
        rectified = any(one.name in RECTIFIERS for one in net.consumers[weight.result])
        if not behind_one or rectified or bool(weight.tensor.any()):
            drawn.append(weight)
    return drawn


CUT, ONE_UNIT = "cut", "one unit"
BECOMES = {
    NEVER: "no gradient ever reaches them, so they stay so",
    COPIES: "all units get the same gradient, so a layer of them remains one unit",
    CUT: "the output is the same for every input, until they have left zero",
    ONE_UNIT: "the layer begins as one unit, and its units come apart only by what follows them",
    MOVES: "they leave zero within the first steps of training, as in a branch or head that is meant "
    "to begin at nothing",
}


def _end_of(net: Network, name: str, fate: Fate) -> str:
    """What a tensor of zeros or of equal units does to the network: a key of ``BECOMES``."""
    index = net.laws.get(name)
    if fate.state != MOVES or index is None or index in net.heads:
        return fate.state
    if not fate.is_zero:
        return ONE_UNIT if net.weights[index].groups == 1 and net.weights[index].fan_in > 1 else MOVES
    ends = [net.weights[head].source for head in net.heads]
    cut = _says_something(net, net.weights[index].source) and not any(
        _says_something(net, end) for end in ends
    )
    return CUT if cut and _bends(net, net.weights[index].result) else MOVES


def _bends(net: Network, value: int) -> bool:
    """Whether an activation or a norm follows on ``value``: if not, it is a head in several steps."""
    behind = [
        one for one in net.tape.operations if any(net.ancestors[at] >> value & 1 for at in one.inputs)
    ]
    return any(one.name in ACTIVATIONS or net.is_norm(one) for one in behind)


def _says_something(net: Network, number: int | None) -> bool:
    """Whether a value tells the inputs apart, by more than rounding."""
    value = None if number is None else net.tape.values[number]
    return value is not None and value.spread > TINY * value.second_moment


def off_center(seen: Seen) -> Iterator[Finding]:
    """Weights that are drawn around another number than 0, as ``torch.rand`` draws them."""
    net = seen.network
    found = {
        weight.parameter: (weight, share)
        for _, weight, law in seen.drawn()
        if law.name not in ("zero", "constant", "identity")
        and net.parameters[weight.parameter].requires_grad
        and weight.groups == 1
        and weight.kind != "Embedding"
        and min(weight.units.shape) >= FEW
        and (share := fixes.share_of_mean(weight.tensor)) > COMMON
    }
    if not found:
        return
    weights = [weight for weight, _ in found.values()]
    worst, share = max(found.values(), key=lambda each: each[1])
    yield Finding(
        "wrong-gain",
        WARNING,
        modules_of(weights),
        f"The weights of {worst.module or worst.parameter} are not drawn around 0: their mean makes "
        f"{share:.0%} of their second moment, and all units of the layer see nearly the same.",
        {"layers": len(found), "share_of_mean": share, "mean": float(worst.tensor.double().mean())},
        cure=fixes.centered(net, weights, worst),
    )


def norm_scales(seen: Seen) -> Iterator[Finding]:
    """Scales of norms that were drawn around 0, as by a loop over all that is called ``weight``."""
    net = seen.network
    names = {
        name: one.module
        for one in net.tape.operations
        if net.is_norm(one)
        for name in one.parameters
        if name not in net.laws and name in net.parameters and not name.endswith("bias")
    }
    found = {
        name: float(net.parameters[name].detach().square().mean())
        for name in names
        if len(torch.unique(net.parameters[name])) > 2 and has_no_mean(net.parameters[name])
    }
    if not found:
        return
    first, moment = min(found.items(), key=lambda each: each[1])
    where = tuple(dict.fromkeys(names[name] for name in found))
    yield Finding(
        "wrong-gain",
        WARNING,
        where,
        f"The scales of {len(found)} norms are drawn around 0, those of {names[first] or first} with a "
        f"standard deviation of {say(math.sqrt(moment))}: they multiply the second moment by "
        f"{say(moment)}, where 1 is meant.",
        {"norms": len(found), "factor": moment, "std": math.sqrt(moment), "asked_mean": 1.0},
        cure=fixes.unit_scales(net, list(found), first),
    )


def forget_bias(seen: Seen) -> Iterator[Finding]:
    """LSTM cells that forget half of their state at every step."""
    net = seen.network
    calls: dict[str, int] = defaultdict(int)
    for operation in net.tape.operations:
        calls[operation.module] += operation.name == "lstm_cell"
    done: set[str] = set()
    for operation in net.tape.operations:
        if not operation.name.startswith("lstm") or operation.module in done:
            continue
        done.add(operation.module)
        module: Any = net.model.get_submodule(operation.module)
        if not isinstance(module, (nn.LSTM, nn.LSTMCell)):
            continue
        shape = net.tape.values[operation.inputs[0]].shape
        batch_first = getattr(module, "batch_first", False)
        steps = calls[operation.module] or shape[1 if batch_first and len(shape) > 2 else 0]
        biases = fixes.forget_biases(module)
        mean = sum(float(bias.mean()) for bias in biases) / max(len(biases), 1)
        kept = 1 / (1 + math.exp(-mean))
        if mean >= FORGETS:
            continue
        left = kept**steps
        where = operation.module or "the model"
        yield Finding(
            "forget-bias",
            WARNING if left < LOST else NOTE,
            (operation.module,),
            f"The forget bias of {where} is {mean:.2f} on average: its cell keeps {kept:.2f} of its "
            f"state at every step, and {say(left)} of its gradient after {steps} steps.",
            {"forget_bias": mean, "kept_per_step": kept, "steps": steps, "left": left},
            cure=fixes.remember(operation.module, module, steps),
        )


def outliers(seen: Seen) -> Iterator[Finding]:
    """A few weights far outside of the law that the others follow."""
    for _, weight, law in seen.drawn():
        if law.name is not None or weight.tensor.numel() < 100:
            continue
        size = weight.tensor.detach().abs().float().reshape(-1)
        robust = float(size.median()) / 0.6745
        far = size > OUTLIER / 3 * robust
        largest = float(size.max())
        if robust > 0 and largest > OUTLIER * robust and float(far.double().mean()) < 1e-2:
            yield Finding(
                "outliers",
                WARNING,
                modules_of([weight]),
                f"{int(far.sum())} of {size.numel():,} weights of {weight.parameter} lie far outside "
                f"of the others: the largest is {say(largest / robust)} standard deviations of theirs.",
                {"largest": largest, "std_of_the_others": robust, "count": int(far.sum())},
                cure=fixes.clamp(weight, 4 * robust),
            )


def unused(seen: Seen) -> Iterator[Finding]:
    """Parameters that take no part in this run."""
    net = seen.network
    used = {name for operation in net.tape.operations for name in operation.parameters}
    used |= {name for names in net.tape.ties.values() if used & set(names) for name in names}
    left = [name for name, one in net.parameters.items() if name not in used and one.numel()]
    if left:
        modules = tuple(dict.fromkeys(name.rpartition(".")[0] or name for name in left))
        total = sum(net.parameters[name].numel() for name in left)
        yield Finding(
            "unused",
            NOTE,
            modules,
            f"{len(left)} parameter{'s' * (len(left) > 1)} ({total:,} numbers) without a part in this "
            f"run: {left[0]}"
            f"{' and others' * (len(left) > 1)}.",
            {"parameters": len(left), "numbers": total},
        )


RULES: tuple[Callable[[Seen], Iterator[Finding]], ...] = (
    zeros_and_constants,
    lost_or_blown_up,
    first_loss,
    residual_stacks,
    copies,
    dead_units,
    sharp_attention,
    off_center,
    norm_scales,
    forget_bias,
    wrong_fans,
    default_left,
    outliers,
    unused,
)
