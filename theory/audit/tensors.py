"""What is wrong with single tensors: copies, zeros, a mean, outliers, no part in the run."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from theory.audit import fixes
from theory.audit.findings import (
    ERROR,
    NOTE,
    RECTIFIERS,
    WARNING,
    Finding,
    Seen,
    modules_of,
    named,
    say,
)
from theory.audit.fixes import Fix
from theory.audit.network import ACTIVATIONS, Network, Weight
from theory.audit.stuck import COPIES, MOVES, NEVER, Fate
from theory.predict.moments import has_no_mean

FORGETS = 0.5  # mean forget bias below which a cell forgets by half
LOST = 1e-2  # what may be left of a cell's state at the end
OUTLIER = 30.0  # robust standard deviations
COMMON = 0.3  # of the second moment of weights by their mean: what all units share
FEW = 8  # units, or weights of a unit, that say nothing of a mean
TINY = 1e-10  # a spread over a second moment that is rounding


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
            {
                "tensors": len(names),
                "distinct": len(names) - fixes.repeats([weight.tensor for weight in same]),
            },
            cure=fixes.redraw_same(seen.network, same, seen.laws),
        )


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
