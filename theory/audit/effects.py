"""What is measured: signal, gradient and first loss, residual streams, attention, dead units."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from theory.audit import fixes
from theory.audit.findings import (
    BREAK,
    ERROR,
    GROWN,
    NOTE,
    RECTIFIERS,
    WARN,
    WARNING,
    Finding,
    Seen,
    called,
    modules_of,
    say,
    severity,
)
from theory.audit.fixes import Fix
from theory.audit.laws import deviating_laws
from theory.audit.network import KEEPS_SCALE, PRODUCTS, Join, Network
from theory.audit.stuck import MOVES
from theory.law.cross_entropy import softmax_concentration
from theory.predict.tape import Operation

NOTHING = 1e-300  # stands for a signal or a gradient that is 0, whose decades can't be counted
BESIDE = 0.25  # of what the first cause explains, below which another is none
ELSEWHERE = ("vanishing-signal", "residual-growth")  # causes that are effects with a rule of their own
TRADED = 1e3  # what one way may gain or lose to the other
DEAD = 0.9  # share of silent units; a ReLU silences half of its units even where all inputs are alike
DEEP = 4  # residual sums in a row from which their number counts
GROWN_PLAIN = 30.0  # of a stack without norms
SHARP = 0.5  # expected Σ A² of an attention matrix at random weights, above which it hardly mixes
KEYS = 8  # below which attention may be as sharp as it is

OF_TENSORS = ("zero-weights", "identical-weights")


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
    below, above = ([one for one in side if one == one] for side in (below, above))
    signals = [one for one in (_left(net, source) for source in sources) if one == one]
    known = below and max(above, default=0.0) > 0
    gradient = max(max(below) / max(above), NOTHING) if known else math.nan
    return max(signals, default=math.nan), gradient


def _left(net: Network, value: int) -> float:
    """``Network.signal``, or ``NOTHING`` where that is 0."""
    return max(net.signal(value), NOTHING)


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
        if index not in net.heads and (_left(net, weight.result) < 1 / WARN if vanishes
                                       else _left(net, weight.result) > WARN)
    ]  # fmt: skip
    ends = [net.weights[index] for index in net.heads]
    last = next(one for one in ends if one.source is not None and _left(net, one.source) == factor)
    where = modules_of(beyond) or (last.module,)
    kept = "keeps" if vanishes else "has"
    word = "vanishes" if vanishes else "explodes"
    message = (
        f"The signal {word}: in front of {called(last)} it {kept} {_amount(factor)} of "
        "the variance over the inputs that it started with."
    )
    evidence = {"factor": factor, "layers_beyond": len(beyond)}
    for cause in causes:
        if "eps" in cause.evidence:
            evidence["eps"] = cause.evidence["eps"]
            where = tuple(dict.fromkeys((*cause.modules, *where)))
            message += f" {cause.message}"
    return Finding(code, severity(factor), where, message, evidence, cure=_cure(causes))


def _amount(factor: float) -> str:
    return "nothing" if factor == NOTHING else say(factor)


def _cure(causes: Sequence[Finding]) -> Fix | None:
    return next((cause.cure for cause in causes if cause.cure), None)


def _gradient(seen: Seen, factor: float, causes: Sequence[Finding]) -> Finding:
    net, vanishes = seen.network, factor < 1
    code = "vanishing-gradient" if vanishes else "exploding-gradient"
    first = net.weights[net.stems[0]]
    message = (
        f"The gradient {'vanishes' if vanishes else 'explodes'} on its way back: at "
        f"{called(first)} it is {_amount(factor)} of what it is at the last layer."
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
    laws = deviating_laws(seen, factor, spared)
    sizes = [(abs(math.log(one.evidence["factor"])), one) for one in laws]
    sizes.sort(key=lambda pair: -pair[0])
    return [one for size, one in sizes if size > BESIDE * sizes[0][0]]


def large_loss(seen: Seen) -> Iterator[Finding]:
    """A loss far above guessing, and the tie behind it where there is one."""
    loss, net = seen.loss, seen.network
    if loss is None or not loss.measured > loss.dear:
        return
    heads = [net.weights[index] for index in loss.heads]
    grave = ERROR if loss.measured > loss.guessing + max(20.0, 3 * loss.guessing) else WARNING
    evidence = {
        "loss": loss.measured,
        "guessing": loss.guessing,
        "classes": loss.classes,
        "logit_variance": loss.logit_variance,
    }
    tied = [names for names in net.tape.ties.values() if _is_table_and_head(net, names)]
    cure: Fix | None = fixes.shrink(net, heads[-1:], 1 / math.sqrt(max(loss.logit_variance, 1)))
    effects = [one for one in seen.said if one.severity != NOTE and one.code not in OF_TENSORS]
    luck = grave == WARNING and loss.predicted <= loss.dear and not tied
    behind = [] if luck else _behind_loss(seen)
    if any(one.code == "exploding-signal" for one in effects) or behind:
        cure = _cure([*effects, *behind])  # the head only hands on what came to it
    said = {one.message for one in effects}
    yield from (one for one in behind if one.code not in ELSEWHERE and one.message not in said)
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
        scaled = _knows_depth(seen, stack)
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
    """Whether the last weights of branches are smaller than their others by about their number.

    Of a branch of one weight: smaller than what is in front of it asks for.
    """
    net = seen.network
    ratios = []
    for join in stack:
        others = [net.weights[index] for index in join.weights if index not in join.last]
        for index in join.last:
            last = net.weights[index]
            mine = seen.laws[last.parameter].std ** 2
            if not others:
                ratios.append(mine * last.fan_in / fixes.activation_before(net, last).gain ** 2)
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
    return net.leads_to(
        operation.outputs[0],
        lambda one: one.name in PRODUCTS and len(one.inputs) > 1,
        lambda one: one.name in KEEPS_SCALE,
        steps=4,
    )


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
