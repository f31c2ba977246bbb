"""Draw a network as theory asks, in place: the fan and gain of each weight, a scale for each branch.

    weight            variance g²/fan_in, g the gain of the activation before it (He et al. 2015,
                      Eq. 10, for any activation: g²·E[φ(z)²] = 1), 1 without one;
                      packed parts apart, groups counted, a transposed convolution by c_in·k²/stride²
    end of a branch   times 1/√L for the L residual sums of its stack, unless a norm ends the branch
    recurrent cell    input weights 1/fan_in, recurrent ones orthogonal, gate by gate; the forget bias
                      of an LSTM 1 (Jozefowicz et al. 2015)
    tied table        an embedding that is also the head: 1/width
    bias              0, beside a weight that was drawn

Anything else stays as it is and is named: norms, other embeddings, zeros that are meant (they have a
gradient), parameters that take no part, weights that two operations use in different ways.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import nn

from theory.audit import stuck
from theory.audit.examination import Audit, as_in_training, audit
from theory.audit.fixes import Before, activation_before
from theory.audit.network import PRODUCTS, Network, Weight
from theory.initializers import draw_
from theory.randomness import generator

COLUMNS = {
    "parameter": "the parameter's name in the network",
    "law": "what it was drawn by, or that it was left alone",
    "std_before": "standard deviation of its values",
    "std": "standard deviation that it was drawn with",
    "why": "what asks for it",
}


@dataclass(frozen=True)
class Initialized:
    """What ``initialize`` did: a row for each parameter (``COLUMNS``), and the audit afterwards."""

    table: pd.DataFrame
    audit: Audit

    @property
    def untouched(self) -> tuple[str, ...]:
        """The parameters that were left alone."""
        return tuple(self.table.loc[self.table["std"].isna(), "parameter"])


@dataclass(frozen=True)
class Plan:
    """How one parameter is to be drawn: ``shape`` is one of ``theory.initializers.SHAPES``."""

    shape: str
    std: float
    why: str
    parts: int = 1


def initialize(
    model: nn.Module, inputs: Any, classes: int | None = None, *, seed: int = 0
) -> Initialized:
    """Draw the weights of ``model`` in place, and audit it; ``inputs`` as in ``audit``.

    The same ``seed`` draws the same weights.  Raises ``RequestError`` as ``audit`` does.
    """
    with as_in_training(model), torch.enable_grad():
        net = Network.of(model, inputs, seed=seed)
        fates = stuck.fates(net, inputs, seed=seed)
    meant = {name for name, fate in fates.items() if fate.is_zero and fate.state == stuck.MOVES}
    plans = dict(_plans(net))
    ties = {name: names for names in net.tape.ties.values() for name in names}
    rows: list[dict[str, Any]] = []
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            same = ties.get(name, (name,))
            plan = next((plans[one] for one in same if one in plans), None)
            before = float(parameter.detach().double().std(correction=0)) if parameter.numel() else 0.0
            row: dict[str, Any] = {"parameter": name, "std_before": before, "std": math.nan}
            if meant & set(same):
                row |= {"law": "left alone", "why": "zeros that have a gradient: meant as a beginning"}
            elif plan is None:
                row |= {"law": "left alone", "why": "no rule for it"}
            else:
                _draw(name, parameter, plan, seed)
                row |= {"law": plan.shape, "std": plan.std, "why": plan.why}
            rows.append(row)
    return Initialized(
        pd.DataFrame(rows, columns=list(COLUMNS)), audit(model, inputs, classes, seed=seed)
    )


def _draw(name: str, parameter: torch.Tensor, plan: Plan, seed: int) -> None:
    if plan.shape == "constant":
        parameter.zero_()
        if plan.std:  # the forget gate's quarter
            parameter.chunk(4)[1].fill_(1.0)
        return
    for index, part in enumerate(parameter.chunk(plan.parts)):
        draw_(plan.shape, part, plan.std, generator(seed, "initialize", name, index))


def _plans(net: Network) -> Iterator[tuple[str, Plan]]:
    scales = _branch_scales(net)
    tables = {
        name for names in net.tape.ties.values() for name in names
        if {"embedding"} < {net.tape.operations[w.operation].name for w in net.weights
                            if w.parameter in names}
    }  # fmt: skip
    for name, index in net.laws.items():
        weight = net.weights[index]
        operation = net.tape.operations[weight.operation].name
        if name in tables:
            yield name, Plan("normal", weight.shape[-1] ** -0.5, "embedding and head in one: 1/width")
        elif (weight.parts > 1 and operation in ("lstm", "gru")) or operation.startswith("rnn"):
            yield from _cell(net, weight)
        elif operation in PRODUCTS or operation.startswith("conv"):
            yield name, _weight(net, weight, scales.get(index, 1))
            bias = name.removesuffix("weight") + "bias"
            if name.endswith("weight") and bias in net.parameters:
                yield bias, Plan("constant", 0.0, "a bias beside a drawn weight")


def _weight(net: Network, weight: Weight, branches: int) -> Plan:
    before = activation_before(net, weight)
    fan_in, why = weight.fan_in, f"behind {before.name}"
    if before == Before():
        why = "no activation before it"
    if weight.transposed:
        fan_in /= net.steps(weight)
        why += ", transposed"
    if weight.parts > 1:
        why += f", {weight.parts} parts"
    if weight.groups > 1:
        why += f", {weight.groups} groups"
    if branches > 1:
        why += f", ends one of {branches} branches"
    return Plan("normal", before.gain / math.sqrt(fan_in * branches), why, 1)


def _branch_scales(net: Network) -> dict[int, int]:
    """For the last weights of residual branches, how many branches their stack has."""
    return {
        net.laws[net.weights[index].parameter]: len(stack)
        for stack in net.stacks
        for join in stack
        if not join.ends_in_norm and len(stack) > 1
        for index in join.last
    }


def _cell(net: Network, weight: Weight) -> Iterator[tuple[str, Plan]]:
    name = weight.parameter
    if "weight_hh" in name:
        std = 1 / math.sqrt(max(weight.fan_in, weight.fan_out))
        yield name, Plan("orthogonal", std, "recurrent, gate by gate", weight.parts)
    else:
        yield name, Plan("normal", weight.fan_in**-0.5, "into a cell, gate by gate", weight.parts)
    bias = name.replace("weight", "bias")
    if bias in net.parameters:
        remembers = float(weight.parts == 4 and "bias_hh" in bias)
        why = "forget bias 1, the others 0" if remembers else "a bias beside a drawn weight"
        yield bias, Plan("constant", remembers, why)
