"""Lines of code that mend a finding, and what they do, tried on a copy of the network.

A line uses ``model``, ``nn``, ``torch`` and ``re``; it is run on a copy, as it is printed, and the
network is run again: so what a finding promises has been measured.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from theory.audit.network import ACTIVATIONS, Join, Network, Weight
from theory.audit.recognition import Recognized
from theory.initializers import LAWS, parse_initializer
from theory.law import quadrature
from theory.predict.tape import Operation, Value, mapped, tensors_in
from theory.randomness import generator

LISTED = 2  # names that are written out; more become a pattern
LEAST = 0.1  # of the way to its aim, that a line must go
LARGEST = 2_000_000_000  # bytes of a network that is copied to try a line


@dataclass(frozen=True)
class Fix:
    """A line, and the number that tells whether it helps: ``of`` says which number that is.

    ``aim`` is what the number should be; a line after which it is hardly nearer is none.
    """

    line: str
    of: str
    watch: Callable[[Trial], float]
    aim: float = 1.0

    def helps(self, before: float, after: float) -> bool:
        """Whether ``after`` is nearer to the aim by a tenth of the way: by factors, if it is above 0.

        >>> fix = Fix("", "variance", lambda trial: 0.0)
        >>> fix.helps(1e-18, 1e-9), fix.helps(1e-18, 2e-18), fix.helps(0.0, 3.0)
        (True, False, True)
        """
        return self._away(after) < (1 - LEAST) * self._away(before)

    def _away(self, value: float) -> float:
        if not self.aim > 0:
            return abs(value - self.aim)
        return abs(math.log(value / self.aim)) if value > 0 else math.inf


@dataclass(frozen=True)
class Trial:
    """A run of a network with or without a fix, and the loss at its outputs."""

    network: Network
    loss: Callable[[], float]

    @property
    def values(self) -> Sequence[Value]:
        return self.network.tape.values

    def made(self, operation: int) -> Value:
        """What the operation of that place on the tape made."""
        return self.values[self.network.tape.operations[operation].outputs[0]]


def tried(model: nn.Module, line: str, *, seed: int = 0) -> nn.Module | None:
    """A copy of ``model`` on which ``line`` was run; None where it cannot be copied."""
    size = sum(one.numel() * one.element_size() for one in model.parameters())
    if size > LARGEST:
        return None
    try:
        twin = copy.deepcopy(model)
    except (RuntimeError, TypeError, ValueError, NotImplementedError):
        return None
    with torch.random.fork_rng([]), torch.no_grad():
        torch.random.set_rng_state(generator(seed, "fix").get_state())
        exec(line, {"model": twin, "nn": nn, "torch": torch, "re": re})
    return twin


# --------------------------------------------------------------------- what a line is about


def over(net: Network, names: Sequence[str], body: str) -> str:
    """A line that runs ``body`` with each parameter of ``names`` as p."""
    names = list(dict.fromkeys(names))
    if len(names) > LISTED:
        known = [name for name, _ in net.model.named_parameters()]
        for write in (_any_number, _these_numbers):
            patterns = _patterns(names, write)
            pattern = "|".join(patterns)
            met = {name for name in known if re.fullmatch(pattern, name)}
            if len(patterns) <= LISTED * 3 and met == set(names):
                return f'for n, p in model.named_parameters(): re.fullmatch(r"{pattern}", n) and {body}'
    listed = ", ".join(f'"{name}"' for name in names) + ","
    return f"for p in map(model.get_parameter, ({listed})): {body}"


def _patterns(names: Sequence[str], write: Callable[[list[str]], str]) -> list[str]:
    """A pattern for the names that differ in their numbers only, each number through ``write``.

    >>> _patterns(["body.0.2.weight", "body.1.2.weight"], _any_number)
    ['body\\\\.\\\\d+\\\\.2\\\\.weight']
    >>> _patterns(["0.weight", "2.weight"], _these_numbers)
    ['(0|2)\\\\.weight']
    """
    alike: dict[tuple[str, ...], list[list[str]]] = {}
    for name in names:
        pieces = re.split(r"(\d+)", name)  # words, and numbers in between
        alike.setdefault(tuple(pieces[::2]), []).append(pieces)
    return [
        "".join(
            write(list(found)) if place % 2 else re.escape(found[0])
            for place, found in enumerate(zip(*columns, strict=True))
        )
        for columns in alike.values()
    ]


def _any_number(found: list[str]) -> str:
    return found[0] if len(set(found)) == 1 else r"\d+"


def _these_numbers(found: list[str]) -> str:
    return found[0] if len(set(found)) == 1 else f"({'|'.join(dict.fromkeys(found))})"


def at(net: Network, parameter: str, what: str = "spread") -> tuple[str, Callable[[Trial], float]]:
    """The signal that the weight ``parameter`` makes: its name in words, and how to read it."""
    module = net.weights[net.laws[parameter]].module or parameter

    def read(trial: Trial) -> float:
        weight = trial.network.weights[trial.network.laws[parameter]]
        return float(getattr(trial.values[weight.result], what))

    words = {"spread": "variance over the inputs at", "second_moment": "second moment at"}[what]
    return f"{words} {module}", read


def deepest(net: Network, weights: Iterable[Weight]) -> str:
    return max(weights, key=lambda weight: weight.operation).parameter


@dataclass(frozen=True)
class Before:
    """The activation whose output a weight acts on, ``linear`` for none, and the gain it asks for."""

    name: str = "linear"
    gain: float = 1.0


def activation_before(net: Network, weight: Weight) -> Before:
    """What stands between ``weight`` and the weight before it."""
    value = weight.source
    for _ in range(12):
        made_by = None if value is None else net.producers.get(value)
        if made_by is None or made_by.outputs[0] in net.results:
            return Before()
        if made_by.name in ACTIVATIONS:
            return Before(made_by.name, gain_after(made_by))
        value = next(iter(net.real_inputs(made_by)), None)
    return Before()


def gain_after(activation: Operation) -> float:
    """1/√E[φ(z)²], which keeps a unit signal, of an operation as it was called: with its own slopes.

    Of a PReLU with several slopes the mean over them; 1 where nothing passes, or where what it does
    depends on another value of the run.
    """
    if len(set(activation.inputs)) > 1:
        return 1.0
    template = mapped(activation.template, lambda one: one.detach().double().cpu())
    units = max((one.numel() for one in tensors_in(template)), default=1)
    alone = dataclasses.replace(activation, template=template)

    def phi(y: NDArray[np.float64]) -> NDArray[np.float64]:
        z = torch.from_numpy(y.ravel()).unsqueeze(1).repeat(1, units)
        made: torch.Tensor = alone.again({activation.inputs[0]: z})
        return made.square().mean(1).sqrt().numpy().reshape(y.shape)

    with torch.random.fork_rng([]), torch.no_grad():
        moment = quadrature.second_moment(phi)
    return moment**-0.5 if 0 < moment < math.inf else 1.0


# ------------------------------------------------------------------------------------- lines


def redraw(net: Network, weights: Sequence[Weight]) -> Fix:
    """He's law for the activations that come before, with the right fan."""
    before = Counter(activation_before(net, weight) for weight in weights)
    before.pop(Before(), None) if len(before) > 1 else None
    activation = before.most_common(1)[0][0]
    by_call: dict[str, list[str]] = {}
    for weight in weights:
        length = _length_of(net, weight)
        call = _draw(net, weight, activation, of_length=length is not None)
        by_call.setdefault(call, []).append(length or weight.parameter)
    return Fix(_line(net, by_call), *at(net, deepest(net, weights)))


def _draw(net: Network, weight: Weight, activation: Before, *, of_length: bool) -> str:
    """A call that draws p as ``activation`` before it asks, or sets p, the length of its units."""
    if of_length:
        return f"nn.init.constant_(p, {activation.gain:.4g})"
    if weight.summed:
        return f"nn.init.normal_(p, std={activation.gain * weight.fan_in**-0.5:.4g})"
    gains = {"relu": "", "relu6": "", "clamp_min": "", "linear": ', nonlinearity="linear"'}
    if activation.name in gains and net.steps(weight) == 1:
        mode = ', mode="fan_out"' if weight.held_across else ""
        return f"nn.init.kaiming_normal_(p{mode}{gains[activation.name]})"
    fan_in = "p[:, 0].numel()" if weight.held_across else "p[0].numel()"
    gain = activation.gain * math.sqrt(net.steps(weight))
    return f"nn.init.normal_(p, std={gain:.4g} * {fan_in} ** -0.5)"


def _length_of(net: Network, weight: Weight) -> str | None:
    """The parameter g of ``weight_norm``, w = g·v/‖v‖: the length of a unit's weights, so its gain."""
    name = "" if weight.transposed else weight.parameter
    for direction, length in (("weight.original1", "weight.original0"), ("weight_v", "weight_g")):
        other = name.removesuffix(direction) + length
        if name.endswith(direction) and other in net.parameters:
            return other
    return None


def shrink(net: Network, weights: Sequence[Weight], factor: float, *, watch: Join | None = None) -> Fix:
    """The weights times ``factor``; watched at the end of a residual stack, or by the loss."""
    line = over(net, [weight.parameter for weight in weights], f"p.data.mul_({factor:.4g})")
    if watch is None:
        return Fix(line, "loss", lambda trial: trial.loss(), 0.0)
    stream = "second moment of the stream behind the last branch"
    return Fix(line, stream, lambda trial: trial.values[watch.result].second_moment, 0.0)


def rescale(name: str, std: float) -> Fix:
    """One normal law for the tensor ``name``."""
    line = f'nn.init.normal_(model.get_parameter("{name}"), std={std:.4g})'
    return Fix(line, "loss", lambda trial: trial.loss(), 0.0)


def calm(net: Network, weights: Sequence[Weight], variance: float, attention: Operation) -> Fix:
    """The weights of queries divided, for the logits of ``attention`` to have a variance of 1."""
    factor = f"mul_({variance**-0.5:.4g})"
    packed = weights[0].parts > 1
    body = f"p.data.chunk({weights[0].parts})[0].{factor}" if packed else f"p.data.{factor}"

    def logits(trial: Trial) -> float:
        found = trial.network.tape.operations[attention.index].logits
        return found.variance if found else math.nan

    line = over(net, [weight.parameter for weight in weights], body)
    return Fix(line, "variance of the logits", logits)


def zero_biases(net: Network, weights: Sequence[Weight], silent: Operation | None = None) -> Fix | None:
    """The biases beside ``weights`` to zero, for the rectifier ``silent``, or the last, to speak."""
    names = [f"{weight.module}.bias".lstrip(".") for weight in weights]
    names = [name for name in dict.fromkeys(names) if name in net.parameters]
    if not names:
        return None
    if silent is None:
        return Fix(over(net, names, "nn.init.zeros_(p)"), *at(net, deepest(net, weights)))
    share = "the share of silent units"
    return Fix(over(net, names, "nn.init.zeros_(p)"), share, lambda t: t.made(silent.index).silent, 0.0)


def smaller_eps(net: Network, weights: Sequence[Weight], module: str) -> Fix:
    """The ε of norms of this class as torch has it."""
    kind = type(net.model.get_submodule(module)).__name__
    line = f'for m in model.modules(): isinstance(m, nn.{kind}) and setattr(m, "eps", 1e-5)'
    return Fix(line, *at(net, deepest(net, weights)))


def share_of_mean(tensor: torch.Tensor) -> float:
    """mean² / mean of squares: the correlation that the units of a dense layer have by their mean."""
    values = tensor.detach().double()
    moment = float(values.square().mean())
    return float(values.mean()) ** 2 / moment if 0 < moment < math.inf else 0.0


def centered(net: Network, weights: Sequence[Weight], shown: Weight) -> Fix:
    """``redraw``, shown by what the mean of one of them makes of its second moment."""
    line, name = redraw(net, weights).line, shown.parameter
    share = f"share of the mean in {name}"
    return Fix(line, share, lambda trial: share_of_mean(trial.network.parameters[name]), 0.0)


def unit_scales(net: Network, names: Sequence[str], shown: str) -> Fix:
    """The scales ``names`` of norms to 1; the norm of ``shown`` tells what it does."""

    def made(trial: Trial) -> float:
        net = trial.network
        norms = (one for one in net.tape.operations if shown in one.parameters and net.is_norm(one))
        return trial.made(next(norms).index).second_moment

    return Fix(over(net, names, "nn.init.ones_(p)"), f"second moment behind {shown}", made)


def clamp(weight: Weight, limit: float) -> Fix:
    """Cut the few that are too large."""
    name = weight.parameter
    line = f'model.get_parameter("{name}").data.clamp_(-{limit:.4g}, {limit:.4g})'
    largest = lambda trial: float(trial.network.parameters[name].detach().abs().max())  # noqa: E731
    return Fix(line, "largest weight", largest, 0.0)


def right_std(weight: Weight, law: Recognized) -> float:
    """The standard deviation of the same law with the right fan.

    Packed and grouped tensors keep the kind of fan; where fan_out stands for fan_in, fan_in it is.
    """
    fan = (law.fan or "").split()
    if law.name == "orthogonal":
        rows, columns = weight.fan_out, weight.fan_in
        return law.gain / math.sqrt(max(rows, columns)) if "packed" in fan else law.expected_std
    if law.name not in LAWS or not fan:
        return law.expected_std
    initializer = parse_initializer(law.name, fan[-1] if LAWS[law.name].free_fan else None)
    if (len(fan) == 1 and fan[0] == "fan_out") or "kernel" in fan:
        initializer = parse_initializer(law.name)
    std = initializer.std(weight.fan_in, weight.fan_out)
    natural = initializer.law.gain == "one" and law.gain != 1.0
    return std * law.gain if natural else std


def with_right_fan(
    net: Network, weights: Sequence[Weight], laws: dict[str, Recognized], code: str
) -> Fix:
    """The same law, part by part or group by group; kept simple where a torch call does it."""
    law = laws[weights[0].parameter]
    names = [weight.parameter for weight in weights]
    shown = at(net, deepest(net, weights), "second_moment")
    call = _call(law, "nn.init.xavier_uniform_({})")
    if code == "packed-fan":
        parts = weights[0].parts
        body = f"[{call.format('part')} for part in p.data.chunk({parts})]"
        return Fix(over(net, names, body), *shown)
    if code == "grouped-fan":
        line = (
            "for m in model.modules(): isinstance(m, nn.Conv2d) and m.groups > 1 and nn.init.normal_("
            "m.weight, std=(2 * m.groups / (m.out_channels * m.weight[0, 0].numel())) ** 0.5)"
        )
        return Fix(line, *shown)
    return redraw(net, weights)


TORCH = {
    "he": "nn.init.kaiming_normal_({})",
    "he-uniform": "nn.init.kaiming_uniform_({})",
    "xavier": "nn.init.xavier_normal_({})",
    "xavier-uniform": "nn.init.xavier_uniform_({})",
    "lecun": 'nn.init.kaiming_normal_({}, nonlinearity="linear")',
    "pytorch": "nn.init.kaiming_uniform_({}, a=5**0.5)",
    "orthogonal": "nn.init.orthogonal_({})",
    "normal": "nn.init.normal_({})",
}


def _call(law: Recognized, otherwise: str) -> str:
    """The call of torch that draws ``{}`` by ``law``, with its gain where the call takes one."""
    call = TORCH.get(law.name or "", otherwise)
    takes_gain = law.name in ("orthogonal", "xavier", "xavier-uniform") and abs(law.gain - 1) > 1e-3
    return call.replace("{}", f"{{}}, gain={law.gain:.4g}") if takes_gain else call


def redraw_same(net: Network, weights: Sequence[Weight], laws: dict[str, Recognized]) -> Fix:
    """Each tensor anew, by the law that it has."""
    by_call: dict[str, list[str]] = {}
    for weight in weights:
        law = laws[weight.parameter]
        alike = f"nn.init.normal_({{}}, std={law.std:.4g})"
        call = alike if weight.summed else _call(law, alike)
        by_call.setdefault(call.format("p"), []).append(weight.parameter)
    names = list(dict.fromkeys(weight.parameter for weight in weights))

    def repeated(trial: Trial) -> float:
        tensors = [trial.network.parameters[name].detach() for name in names]
        return float(repeats(tensors))

    return Fix(_line(net, by_call), "the number of tensors that repeat another", repeated, 0.0)


def repeats(tensors: Sequence[torch.Tensor]) -> int:
    """How many of the ``tensors`` equal an earlier one."""
    return sum(
        any(one.shape == other.shape and torch.equal(one, other) for other in tensors[:index])
        for index, one in enumerate(tensors)
    )


def _line(net: Network, by_call: dict[str, list[str]]) -> str:
    """One line that makes each call with p as each of its parameters."""
    if len(by_call) == 1:
        ((body, names),) = by_call.items()
        return over(net, names, body)
    return "[" + ", ".join(
        "[" + _expression(over(net, names, body)) + "]" for body, names in by_call.items()
    ) + "]"  # fmt: skip


def _expression(line: str) -> str:
    """``for X in Y: Z`` as the inside of a comprehension."""
    head, _, body = line.partition(": ")
    return f"{body} {head}"


def forget_biases(module: nn.LSTM | nn.LSTMCell) -> list[torch.Tensor]:
    """b_ih + b_hh of the forget gate, for each layer and direction; empty without biases."""
    size = module.hidden_size
    found = []
    for name, bias in module.named_parameters():
        if name.startswith("bias_ih"):
            other = getattr(module, name.replace("bias_ih", "bias_hh"))
            found.append((bias + other).detach()[size : 2 * size])
    return found


def remember(name: str, module: nn.LSTM | nn.LSTMCell, steps: int) -> Fix | None:
    """A forget bias of 1 more."""
    if not module.bias:
        return None
    owner = f'model.get_submodule("{name}")'
    line = (
        f'for n, p in {owner}.named_parameters(): n.startswith("bias_hh") and '
        "nn.init.ones_(p.data.chunk(4)[1])"
    )

    def left(trial: Trial) -> float:
        cell: Any = trial.network.model.get_submodule(name)
        biases = forget_biases(cell)
        mean = sum(float(bias.mean()) for bias in biases) / len(biases)
        return float((1 / (1 + math.exp(-mean))) ** steps)

    return Fix(line, f"gradient of the cell after {steps} steps", left)
