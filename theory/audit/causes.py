"""Laws that deviate without an effect that was measured: the default left in place, wrong fans."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

from theory.audit import fixes
from theory.audit.findings import GROWN, LOCAL, NOTE, OFF, WARNING, Finding, Seen, modules_of, say
from theory.audit.laws import cause_of, cause_sentence, change_of, is_default
from theory.audit.network import ACTIVATIONS, Network, Weight
from theory.audit.recognition import Recognized


def default_left(seen: Seen) -> Iterator[Finding]:
    """PyTorch's default where it costs nothing that was measured: a note."""
    net = seen.network
    found = [
        weight for index, weight, law in seen.drawn()
        if is_default(law, weight) and index not in net.heads
        and weight.kind not in ("LSTM", "GRU", "RNN") and _feeds_activation(net, weight)
    ]  # fmt: skip
    if len(found) < 2 or any(one.code.endswith(("-signal", "-gradient")) for one in seen.said):
        return
    changes = [change_of(net, net.laws[weight.parameter]) for weight in found]
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
    return net.leads_to(
        weight.result,
        lambda one: one.name in ACTIVATIONS,
        lambda one: net.is_norm(one) or one.name in ("dropout", "cat"),
        steps=8,
    )


def wrong_fans(seen: Seen) -> Iterator[Finding]:
    """Packed, grouped and mistaken fans: warnings where no norm hides a factor of ``LOCAL``."""
    net = seen.network
    said = {
        module for finding in seen.said for module in finding.modules
        if finding.code.endswith(("-fan", "-gain"))
    }  # fmt: skip
    dear = seen.loss is not None and seen.loss.measured > seen.loss.dear
    groups: dict[tuple[str, str], list[tuple[int, Weight, float]]] = defaultdict(list)
    for index, weight, law in seen.drawn():
        code = cause_of(law, weight)
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
        ends = any(index in net.heads for index, *_ in found)  # as a gate's weights do not
        worst = max((off for *_, off in found), key=lambda off: abs(math.log(off)))
        law = seen.laws[weights[0].parameter]
        hides = "" if bare else "; a norm behind it takes the scale out" if all(
            net.hidden[index] for index, *_ in found) else ""  # fmt: skip
        message = cause_sentence(code, law.label, len(weights), 1.0).partition(":")[0]
        yield Finding(
            code,
            WARNING if bare and (code != "wrong-fan" or (dear and ends)) else NOTE,
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
