"""What theory foretells of each claim and condition before a weight is drawn, and whether it was right.

**The average weight of a network as drawn** is known beforehand.  It is the mean over parameter tensors
of each tensor's mean; weights and biases have symmetric laws, so only what starts elsewhere counts: the
scale 1 of every batch norm and the slope 0.25 of every PReLU,

    E[w_0] = (norms·1 + slopes·0.25)/tensors,      Var[w_0] = Σ_k (Var of tensor k)/(size of k)/tensors²

whatever the initializer.  With L layers there are L − 1 norms and, under ReLU, 4L tensors.  A level M
is foretold to be ordered as E[w_0] is.  How far the curve moves is foretold by averaging alone: one
tensor that moves counts 1/tensors, so R, V, S, D, F and Z are ordered as 1/tensors.

**Accuracies** are foretold by one rule for all (``off``), by how far, in e-folds, a network is from an
even start.  The fewer, the better it ends:

    ln(first loss/ln classes)   the last linear layer keeps its scale: after a batch norm and a
                                rectifier its logits have the second moment fan_in·Var[w]·A₂ + Var[b],
                                and with them the first loss is known (``law.cross_entropy``)
    |ln(relative step/He's)|    the scale of a weight before a batch norm is not seen by the function
                                (``law.batch_norm``): under Adam, N(0, 1) in the place of He is a
                                learning rate divided by the ratio of their standard deviations
    ½·(L − 1)·ln(growth)        of the gradient's second moment per layer with batch norm (Yang 2019)
    ½·|ln q_L|                  of the second moment at the last layer, without batch norm

Differences below ``TIE`` e-folds are foretold to be none.  Of a bound such as 75 % it says nothing.
Each number is known before training; that they are summed, and where a tie ends, was settled when the
first records were there, so that the rule describes them and foretells the later ones alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from empirical.judgment.evidence import Cells, Evidence
from empirical.judgment.statistics import EQUIVALENT, MARGIN
from empirical.judgment.truth import CONFIRMED, REFUTED, Judgment, Part, PartOutcome
from empirical.protocol import CLASSES, COURSE_REPORT, TrainSpec
from theory.activations import parse_activation
from theory.initializers import Initializer, parse_initializer
from theory.law.batch_norm import effective_learning_rate, gradient_growth
from theory.law.cross_entropy import initial_cross_entropy

DEPTHS = COURSE_REPORT.depths
SHALLOWEST, DEEPEST = DEPTHS[0], DEPTHS[-1]


TIE = 0.5  # e-folds
WITHIN = 0.1  # a size is foretold if it is off by at most this part of it
TRUE, FALSE, NONE = "true", "false", "no difference"
THEORY_COLUMNS = {
    "theory": "what theory foretells: true, false, or no difference; empty if it is silent",
    "theory_part": "on which that rests: the part foretold to be least; of several the decisive one",
    "theory_value": "of that part: e-folds, or average weight",
    "theory_right": "right or wrong by the verdict and that part; of an open sentence so far, by the "
    "runs there are: no difference is one of at most ``MARGIN`` points",
}


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
    return _step(spec.weight_law, spec) / _step(parse_initializer("normal"), spec)


def _step(law: Initializer, spec: TrainSpec) -> float:
    """The effective learning rate of a convolution of ``spec`` of this law, for a rate of 1."""
    width = 9 * spec.filters
    return effective_learning_rate(1.0, law.std(width, width, spec.gain_slope), spec.optimizer)


def drawn_signal(cells: Cells, evidence: Evidence) -> float:
    """The second moment predicted for the last layer of ``cells`` as drawn; NaN if not recorded."""
    layers = evidence.layers
    if not {"epoch", "layer", "second_moment_predicted"} <= set(layers):
        return math.nan
    rows = layers[layers["cell"].isin(evidence.ids(cells)) & (layers["epoch"] == 0)]
    last = rows[rows["layer"] == "head"]
    return float(pd.to_numeric(last["second_moment_predicted"]).mean()) if len(last) else math.nan


# ------------------------------------------------------------------------------ what is foretold


def off(cells: Cells, evidence: Evidence) -> float:
    """E-folds from an even start (see the module); NaN where a prediction is not recorded."""
    spec = cells.spec
    if not _is_known(spec):
        return recorded_off(cells, evidence)
    loss = evidence.initial("initial_loss_predicted", cells)
    loss = loss if math.isfinite(loss) else first_loss(spec)
    found = max(math.log(loss / math.log(CLASSES)), 0.0) if loss > 0 else math.nan
    if spec.norm != "batch":
        signal = drawn_signal(cells, evidence)
        return found + 0.5 * abs(math.log(signal)) if signal > 0 else math.nan
    growth = gradient_growth(parse_activation(spec.activation))
    return found + abs(math.log(_relative_step(spec))) + 0.5 * (spec.depth - 1) * math.log(growth)


def recorded_off(cells: Cells, evidence: Evidence) -> float:
    """The same of any other network, from what its records say of it before the first step.

    ln(first loss/guessing)    as above
    ½·|ln(g_1/g_L)|            the gradient's predicted second moments at the first and the last weight
                               before the head: of a recurrent network at its first and last step, of
                               one with norms between layers from the second layer on
    |ln(std/std of He)|        of a weight that a norm follows: its relative step, as above
    """
    spec, loss = cells.spec, evidence.initial("initial_loss_predicted", cells)
    layers, column = evidence.layers, "gradient_second_moment_predicted"
    if not {"epoch", "layer", column} <= set(layers) or not loss > 0:
        return math.nan
    rows = layers[layers["cell"].isin(evidence.ids(cells)) & (layers["epoch"] == 0)]
    rows = rows[(rows[column] > 0) & (rows["layer"] != "head")]
    if spec.architecture.gates:
        rows = rows[rows["layer"].str.startswith("recurrent.hidden")]
    logs = [np.log(own[column].to_numpy()) for _, own in rows.groupby("cell", sort=False)]
    followed = spec.network == "plain" and spec.norm != "none"
    first = 1 if followed and spec.depth > 1 else 0
    uneven = float(np.mean([abs(one[first] - one[-1]) for one in logs])) if logs else math.nan
    found = max(math.log(loss / spec.data.guessing), 0.0) + 0.5 * uneven
    if not followed:
        return found
    he = TrainSpec(fan="fan_in", gain_slope=0.0).weight_law
    shape = spec.filter_shape(1)[: 4 if spec.data.takes == "images" else 2]
    return found + abs(math.log(spec.weight_law.std_of(shape, spec.gain_slope) / he.std_of(shape)))


def _relative_step(spec: TrainSpec) -> float:
    """The effective learning rate of a convolution between batch norms, over that of He as printed."""
    law = spec.learning_rate_reference or spec.initializer
    own = TrainSpec(initializer=law, fan=spec.fan).weight_law
    return _step(own, spec) / _step(TrainSpec().weight_law, spec)


def expected(part: Part, evidence: Evidence) -> float:
    """What ``part`` should be if theory is right, in its own unit or in e-folds; NaN: it is silent."""
    quantities = {term.quantity for term in part.terms}
    if part.threshold or (len(quantities) > 1 and quantities & {"accuracy", "level"}):
        return math.nan
    total = math.fsum(
        term.factor * _foretold(term.quantity, term.cells, evidence) for term in part.terms
    )
    least = TIE if part.points else 1e-9
    if abs(total) < least:
        return 0.0 if part.points else math.nan
    return total


def _foretold(quantity: str, cells: Cells, evidence: Evidence) -> float:
    if quantity == "accuracy":
        return -off(cells, evidence)
    if quantity == "level":
        return drawn_average_weight(cells.spec)[0]
    return 1 / len(list(parameter_tensors(cells.spec)))


def foretold(judgment: Judgment, evidence: Evidence) -> dict[str, Any]:
    """``THEORY_COLUMNS`` of a judged sentence."""
    parts = {one.part.name: expected(one.part, evidence) for one in judgment.outcomes}
    spoken = {name: value for name, value in parts.items() if not math.isnan(value)}
    if not spoken:
        return dict.fromkeys(THEORY_COLUMNS, "") | {"theory_value": math.nan}
    decisive = judgment.decisive.part.name if judgment.decisive else ""
    least = min(spoken, key=lambda name: (spoken[name], name != decisive))
    value = spoken[least]
    says = TRUE if value > 0 else FALSE if value < 0 else NONE
    return dict(zip(THEORY_COLUMNS, (says, least, value, _right(says, least, judgment)), strict=True))


def _right(says: str, least: str, judgment: Judgment) -> str:
    """Whether theory was right in what it ``says``; "" without a run.

    The sentence must have come out so, and the part that theory rests on, ``least``: that another part
    refutes a sentence is not to its credit.
    """
    if judgment.decisive is None:
        return ""
    own = next((_seen(one) for one in judgment.measured if one.part.name == least), says)
    verdicts = {CONFIRMED: TRUE, REFUTED: FALSE, EQUIVALENT: NONE}
    known = judgment.verdict in verdicts
    seen = verdicts[judgment.verdict] if known else _seen(judgment.decisive)
    right = seen == says and (own == says or (known and says != FALSE))
    return ("right" if right else "wrong") + " so far" * (not known)


def _seen(outcome: PartOutcome) -> str:
    """What the runs there are say of a part."""
    if outcome.part.points and abs(outcome.mean) <= MARGIN:
        return NONE
    return TRUE if outcome.mean > 0 else FALSE


def score(*tables: pd.DataFrame) -> dict[str, int]:
    """How often theory was right of the sentences in these tables: ``theory_right`` counted."""
    found = pd.concat([table["theory_right"] for table in tables])
    return {
        one: int((found == one).sum()) for one in ("right", "wrong", "right so far", "wrong so far")
    }


SIZE_COLUMNS = {
    "what": "first loss, or average weight as drawn",
    "cells": "recorded cells of which it is foretold",
    "right": f"of these, how many are within {WITHIN:g} of it (an average weight: within two standard "
    "deviations)",
    "worst": "the largest measured/foretold, or foretold/measured",
}


def foretold_sizes(evidence: Evidence) -> pd.DataFrame:
    """How often theory's numbers of the network as drawn were those measured: ``SIZE_COLUMNS``.

    Of the course report's networks on its data set, whose tensors ``parameter_tensors`` knows.
    """
    names = ["initial_loss", "initial_loss_predicted", "initial_average_weight"]
    rows = evidence.study.drop_duplicates("cell").set_index("cell")
    rows = rows[[_is_known(Cells.of(row).spec) for row in rows.to_dict("records")]]
    measured = evidence.cells.set_index("cell").reindex(columns=names)
    measured = measured[measured.index.isin(rows.index)].apply(pd.to_numeric, errors="coerce")
    measured = measured.astype(np.float64).replace([-np.inf, np.inf], np.nan)
    losses = measured[(measured[names[:2]] > 0).all(axis=1)]
    ratios = losses["initial_loss"] / losses["initial_loss_predicted"]
    weights = measured["initial_average_weight"].dropna()
    specs = [Cells.of(row).spec for row in rows.loc[weights.index].to_dict("records")]
    mean, std = np.array([drawn_average_weight(spec) for spec in specs]).reshape(-1, 2).T
    near, true = (ratios - 1).abs() <= WITHIN, (weights - mean).abs() <= 2 * std
    table = [
        ("first loss", len(ratios), near.sum(), _worst(ratios)),
        ("average weight as drawn", len(weights), true.sum(), _worst((weights / mean)[mean != 0])),
    ]
    return pd.DataFrame(table, columns=list(SIZE_COLUMNS))


def _is_known(spec: TrainSpec) -> bool:
    """Whether it is the course report's network on its data set."""
    return spec.is_classic and spec.dataset == COURSE_REPORT.dataset


def _worst(ratios: pd.Series[float]) -> float:
    """The farthest from 1, as a factor; NaN without any."""
    known = ratios[ratios > 0]
    return float(np.maximum(known, 1 / known).max())
