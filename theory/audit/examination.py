"""The audit of a network: its laws, its signal, what is wrong with it and what mends it.

One run under the tape gives the signal and, backward, the gradient; ``theory.predict.follow`` the
prediction beside them; ``recognize`` the law of each tensor; ``findings`` what deviates.  Every fix is
tried on a copy.  Layers that drop at random are off during an audit, and batch norm uses the statistics
of the batch, as in training.
"""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import nn

from theory.audit import stuck
from theory.audit.causes import default_left, wrong_fans
from theory.audit.effects import (
    dead_units,
    large_loss,
    lost_or_blown_up,
    residual_stacks,
    sharp_attention,
)
from theory.audit.findings import ERROR, SEVERITIES, WARNING, Finding, Loss, Seen
from theory.audit.fixes import Trial, tried
from theory.audit.network import Network, Weight
from theory.audit.recognition import Recognized, agreed, recognize
from theory.audit.tensors import (
    copies,
    forget_bias,
    norm_scales,
    off_center,
    outliers,
    unused,
    zeros_and_constants,
)
from theory.errors import RequestError, check_choice, check_whole
from theory.jsonable import plain
from theory.law.cross_entropy import initial_cross_entropy
from theory.predict.network import table_of
from theory.predict.tape import as_arguments, left_as_it_was, tensors_in
from theory.probe import modes_kept

# In the order in which they are asked: later ones know what was said.
RULES: tuple[Callable[[Seen], Iterator[Finding]], ...] = (
    zeros_and_constants,
    lost_or_blown_up,
    large_loss,
    residual_stacks,
    copies,
    dead_units,
    wrong_fans,
    default_left,
    sharp_attention,
    off_center,
    norm_scales,
    forget_bias,
    outliers,
    unused,
)
HEALTHY, CHECK, BROKEN = "healthy", "check", "broken"
COLUMNS = {
    "module": "the layer's name in the network",
    "call": "0, or which call it is of a module that runs several times",
    "parameter": "the weight's name in the network",
    "kind": "the module's class",
    "shape": "of the weight as torch holds it",
    "fan_in": "inputs of one unit, as this operation uses the weight",
    "fan_out": "units that one input feeds; of a packed weight, of one part",
    "groups": "of a convolution",
    "law": "the law of the weight with its fan, or why there is none",
    "std": "of the weight",
    "expected_std": "what the law asks for",
    "confidence": "the law's share of the likelihood of all",
    "forward_predicted": "second moment of the output, predicted",
    "forward_measured": "second moment of the output on these inputs",
    "forward_band_low": "between this and",
    "forward_band_high": "this lie 95 % of single networks",
    "backward_predicted": "second moment of the gradient at the output, predicted",
    "backward_measured": "second moment of the gradient at the output, for random signs at the outputs",
    "basis": "what the prediction rests on",
    "spread": "variance of the output over the inputs, mean over units: what tells inputs apart",
    "signal": "variance over the inputs, over that at the last reference",
    "hidden": "whether a norm behind it takes the scale out",
    "branch": "whether it stands in a residual branch",
    "findings": "codes of the findings about it",
    "verdict": "ok, or the worst severity among them",
}
STREAM_COLUMNS = {
    "stack": "which residual stack, from 0",
    "position": "how many rows of the layers stand before it",
    "forward_measured": "second moment of the stream: what enters the stack, then each sum",
    "backward_measured": "second moment of the gradient at it",
}


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    layers    a row for each weight and call, with the columns of ``COLUMNS``
    stream    a row for each residual sum, with the columns of ``STREAM_COLUMNS``
    loss      None where the outputs are no logits
    findings  errors first
    verdict   ``broken`` (an error), ``check`` (a warning) or ``healthy``
    """

    layers: pd.DataFrame
    stream: pd.DataFrame = field(repr=False)
    loss: Loss | None
    findings: tuple[Finding, ...]
    verdict: str
    laws: dict[str, Recognized] = field(repr=False)

    def worst(self) -> str | None:
        """The highest severity among the findings."""
        return max((one.severity for one in self.findings), key=SEVERITIES.index, default=None)

    def as_dict(self) -> dict[str, Any]:
        """The contract's JSON: layers, loss, findings, verdict; null for what is no number."""
        document: dict[str, Any] = plain(
            {
                "layers": [self._layer(row) for row in self.layers.to_dict("records")],
                "loss": self.loss and self.loss.as_dict(),
                "findings": [finding.as_dict() for finding in self.findings],
                "verdict": self.verdict,
            }
        )
        return document

    def _layer(self, row: Mapping[Any, Any]) -> dict[str, Any]:
        keys = ("module", "call", "parameter", "kind", "shape", "fan_in", "fan_out", "groups")
        law = self.laws[row["parameter"]]
        return {
            **{key: row[key] for key in keys},
            "law": None if law.name is None else law.as_dict(),
            "forward_predicted": row["forward_predicted"],
            "forward_measured": row["forward_measured"],
            "forward_band": [row["forward_band_low"], row["forward_band_high"]],
            "backward_predicted": row["backward_predicted"],
            "backward_measured": row["backward_measured"],
            "basis": row["basis"],
            "findings": list(row["findings"]),
        }

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        shown = ["module", "kind", "law", "fan_in", "forward_predicted", "forward_measured", "verdict"]
        said = "".join(
            f"<li><b>{one.severity}: {one.code}</b> {html.escape(one.message)}"
            + (f"<br><code>{html.escape(one.fix)}</code>" if one.fix else "")
            + "</li>"
            for one in self.findings
        )
        table = self.layers[shown].to_html(index=False, float_format="{:.3g}".format)
        return f"<p><b>{self.verdict}</b></p><ul>{said}</ul>{table}"


def audit(
    model: nn.Module,
    inputs: Any,
    classes: int | None = None,
    *,
    draws: int = 0,
    seed: int = 0,
    try_fixes: bool = True,
) -> Audit:
    """The audit of ``model`` as it is, on ``inputs``; it is left as it was.

    inputs   a tensor (its first dimension counts the inputs: several, so that there is something to
             tell apart), a sequence of arguments, or a mapping of them by name
    classes  of the logits that it returns, 0 if it returns none; found out for vocabularies, and for
             (B, K) outputs that have not the shape of an input
    draws    networks that ``follow`` draws for the band; 0 for none
    try_fixes  run each fix on a copy and put what it does into the finding

    Raises ``RequestError`` where the model does not run on ``inputs``, or has no weights.
    """
    if not isinstance(model, nn.Module):
        raise RequestError(f"an audit takes an nn.Module, not a {type(model).__name__}")
    if classes:
        check_whole("classes", classes, 2, 1_000_000)
    with as_in_training(model), torch.enable_grad():
        network = Network.of(model, inputs, seed=seed)
        if not network.weights:
            raise RequestError("the network has no weights in use: there is nothing to audit")
        laws = agreed({name: law_of(network.weights[index]) for name, index in network.laws.items()})
        table = _layers(network, laws, table_of(model, network.tape, inputs, draws, seed))
        loss = first_loss(network, inputs, classes, table, seed)
        seen = Seen(network, laws, loss, stuck.fates(network, inputs, seed=seed))
        found = find(seen)
        if try_fixes:
            found = _with_fixes(found, model, inputs, network, loss, seed)
    found = [dataclasses.replace(one, fix=one.cure.line if one.cure else one.fix) for one in found]
    found += _not_predicted(table) + _out_of_sight(network) + _one_input(network)
    severities = [one.severity for one in found]
    verdict = BROKEN if ERROR in severities else CHECK if WARNING in severities else HEALTHY
    return Audit(_judged(table, found), _stream(network), loss, tuple(found), verdict, laws)


def find(seen: Seen) -> list[Finding]:
    """Every finding, errors first."""
    for rule in RULES:
        seen.said.extend(list(rule(seen)))
    return sorted(seen.said, key=lambda finding: -SEVERITIES.index(finding.severity))


def assert_healthy(
    model: nn.Module, inputs: Any, classes: int | None = None, *, fail_on: str = WARNING
) -> Audit:
    """The audit of ``model``; an ``AssertionError`` where a finding is as grave as ``fail_on``."""
    check_choice("fail_on", fail_on, SEVERITIES)
    result = audit(model, inputs, classes)
    grave = [
        one for one in result.findings
        if SEVERITIES.index(one.severity) >= SEVERITIES.index(fail_on)
    ]  # fmt: skip
    lines = [f"{one.severity}: {one.code}: {one.message}" + (f" Fix: {one.fix}" if one.fix else "")
             for one in grave]  # fmt: skip
    assert not grave, "\n".join(lines)
    return result


@contextmanager
def as_in_training(model: nn.Module) -> Iterator[None]:
    """Train mode, but for what drops at random; each module's mode is put back."""
    with modes_kept(model):
        model.train()
        for module in model.modules():
            kind = type(module).__name__.lower()
            drops = "drop" in kind or "stochasticdepth" in kind
            if drops or isinstance(module, (nn.MultiheadAttention, nn.RNNBase)):
                module.training = False
        yield


def law_of(weight: Weight) -> Recognized:
    """The law of a weight, with the right fans and the mistaken ones that people take for them."""
    shape = weight.shape
    fans: dict[str, tuple[float, float]] = {"": (weight.fan_in, weight.fan_out)}
    if weight.kind == "Embedding" or weight.source is None:
        fans = {"": (shape[-1], shape[0])}
    if weight.summed:
        behind, before = math.prod(shape[2:]), math.prod(shape[:-2])
        fans["kernel-like"] = (shape[1] * behind, shape[0] * behind)  # as torch.nn.init takes it
        fans["kernel-first"] = (shape[-2] * before, shape[-1] * before)  # as Keras and Flax do
        return recognize(weight.tensor, fans, groups=weight.groups)
    if weight.parts > 1:
        whole = weight.fan_out * weight.parts
        fans["packed"] = (weight.fan_in, whole)
    if weight.groups > 1:
        fans["ungrouped"] = (weight.fan_in, weight.fan_out * weight.groups)
        fans["wholly ungrouped"] = (weight.fan_in * weight.groups, weight.fan_out * weight.groups)
    kernel = math.prod(shape[2:])
    if kernel > 1 and weight.groups == 1:
        fans["kernel-less"] = (weight.fan_in / kernel, weight.fan_out / kernel)
    return recognize(weight.tensor, fans, groups=weight.groups, parts=weight.parts)


def _layers(net: Network, laws: dict[str, Recognized], predicted: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``follow``, but for weights that are buffers, with what the audit adds."""
    in_branch = {index for join in net.joins for index in join.weights if join.growth < math.inf}
    known = predicted[predicted["parameter"].isin(net.parameters)].to_dict("records")
    rows = []
    for index, (weight, row) in enumerate(zip(net.weights, known, strict=True)):
        law = laws[weight.parameter]
        own = {
            "module": weight.module,
            "shape": list(weight.shape),
            "fan_out": weight.fan_out,
            "law": law.label,
            "std": law.std,
            "expected_std": law.expected_std,
            "confidence": law.confidence,
            "spread": net.tape.values[weight.result].spread,
            "signal": net.signal(weight.result),
            "hidden": net.hidden[index],
            "branch": index in in_branch,
        }
        rows.append(row | own)
    return pd.DataFrame(rows)


def _stream(net: Network) -> pd.DataFrame:
    rows = []
    for number, stack in enumerate(net.stacks):
        places = [stack[0].skip, *(join.result for join in stack)]
        starts = [stack[0].operation, *(join.operation for join in stack)]
        first = min((net.weights[i].operation for i in stack[0].weights), default=starts[0])
        for value, operation in zip(places, [first, *starts[1:]], strict=True):
            made = net.tape.values[value]
            before = sum(weight.operation < operation for weight in net.weights)
            moments = (made.second_moment, made.gradient_second_moment)
            rows.append((number, before, *moments))
    return pd.DataFrame(rows, columns=list(STREAM_COLUMNS))


def _judged(table: pd.DataFrame, found: list[Finding]) -> pd.DataFrame:
    """The table with the codes and the verdict of each layer."""
    about = [
        [one for one in found if row["module"] in one.modules or row["parameter"] in one.modules]
        for row in table.to_dict("records")
    ]
    worst = [max((one.severity for one in some), key=SEVERITIES.index, default="ok") for some in about]
    codes = [list(dict.fromkeys(one.code for one in some)) for some in about]
    return table.assign(findings=pd.Series(codes, dtype=object), verdict=worst)[list(COLUMNS)]


def _not_predicted(table: pd.DataFrame) -> list[Finding]:
    missing = table[table["forward_predicted"].isna()]
    if missing.empty:
        return []
    share = len(missing) / len(table)
    return [
        Finding(
            "not-predicted",
            SEVERITIES[0],
            tuple(dict.fromkeys(missing["module"])),
            f"{len(missing)} of {len(table)} weight layers are measured only: theory has no rule for "
            "what stands before them.",
            {"layers": len(missing), "share": share},
        )
    ]


def _one_input(net: Network) -> list[Finding]:
    """Of a single input nothing can be told apart."""
    sizes = {net.tape.values[value].shape[:1] for value in net.tape.inputs}
    if sizes != {(1,)}:
        return []
    message = "There is one input: what is lost between inputs can't be seen. Give several."
    return [Finding("not-predicted", SEVERITIES[0], (), message, {"inputs": 1})]


def _out_of_sight(net: Network) -> list[Finding]:
    """Layers that act on parameters alone, as on learned queries: the tape follows the inputs."""
    used = {name for operation in net.tape.operations for name in operation.parameters}
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    left = [
        module for module, layer in net.model.named_modules()
        if isinstance(layer, kinds)
        and (name := f"{module}.weight".lstrip(".")) in used
        and name not in net.laws
        and not any(name in shared and set(shared) & set(net.laws) for shared in net.tape.ties.values())
    ]  # fmt: skip
    if not left:
        return []
    more = " and others" if len(left) > 3 else ""
    message = f"Not in the table, for they act on parameters alone: {', '.join(left[:3])}{more}."
    return [Finding("not-predicted", SEVERITIES[0], tuple(left), message, {"layers": len(left)})]


# --------------------------------------------------------------------------------- the loss


def first_loss(
    net: Network, inputs: Any, classes: int | None, table: pd.DataFrame | None, seed: int
) -> Loss | None:
    """The loss at the outputs, if they are logits."""
    if classes == 0:
        return None
    positional, keywords = as_arguments(inputs)
    given = tensors_in(inputs)
    device = given[0].device if given else torch.device("cpu")
    with left_as_it_was(net.model, device, seed), torch.no_grad():
        output = net.model(*positional, **keywords)
        found = _logits(output, classes, net, given)
    if found is None:
        return None
    logits, held = found
    heads = _heads_of(net, output, held)
    spread = float(logits.var(-1, correction=0).mean())
    count = logits.shape[-1]
    measured = float((logits.logsumexp(-1) - logits.mean(-1)).mean())
    predicted = spread
    if table is not None and heads:
        head = net.weights[heads[-1]]
        at_head = table[(table["parameter"] == head.parameter) & (table["call"] == head.call)]
        value = float(at_head["forward_predicted"].iloc[0]) if len(at_head) else math.nan
        predicted = value if math.isfinite(value) and head.result in net.tape.outputs else spread
    finite = math.isfinite(predicted)
    return Loss(
        initial_cross_entropy(predicted, count) if finite else math.nan,
        measured,
        math.log(count),
        count,
        spread,
        tuple(heads),
    )


def _heads_of(net: Network, output: Any, held: torch.Tensor) -> list[int]:
    """The last weights on the way to ``held``, of the tensors in ``output``."""
    every, known = tensors_in(output), net.tape.outputs
    place = next((index for index, one in enumerate(every) if one is held), 0)
    if len(every) == len(known):
        return net.nearest_weights(known[place])
    alike = [value for value in known if net.tape.values[value].shape == tuple(held.shape)]
    return net.nearest_weights(alike[0]) if alike else list(net.heads)


def _vocabulary(net: Network, given: list[torch.Tensor]) -> set[int]:
    """Sizes of the embeddings, where tokens go in."""
    if all(one.is_floating_point() for one in given):
        return set()
    return {one.num_embeddings for one in net.model.modules() if isinstance(one, nn.Embedding)}


def _logits(
    output: Any, classes: int | None, net: Network, given: list[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """(…, K) in float64: the output named logits, else the first of real numbers, if it can be that.

    And the tensor as it was returned.  What has the shape of an input is that input again, as of an
    autoencoder or a flow.  Of probabilities, as after a softmax, the logits are the logarithms.
    """
    named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    real = [
        one for one in tensors_in(named if named is not None else output) if one.is_floating_point()
    ]
    if not real:
        return None
    first = real[0].detach().double()
    if classes is not None:
        places = [place for place in (-1, 1) if first.dim() > 1 and first.shape[place] == classes]
        if not places:
            raise RequestError(f"no output has {classes} classes: its shape is {tuple(first.shape)}")
        return _unless_probabilities(first.movedim(places[0], -1), real[0].dtype), real[0]
    words = first.dim() > 1 and first.shape[-1] in _vocabulary(net, given)
    again = any(one.is_floating_point() and one.shape == first.shape for one in given)
    if not words and (first.dim() != 2 or first.shape[1] < 2 or again):
        return None
    return _unless_probabilities(first, real[0].dtype), real[0]


def _unless_probabilities(outputs: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """``outputs`` (…, K), once of ``dtype``; their logarithms if each row is of probabilities."""
    sums = outputs.sum(-1)
    if not bool((outputs >= 0).all()) or not torch.allclose(sums, torch.ones_like(sums), atol=1e-2):
        return outputs
    return outputs.clamp_min(torch.finfo(dtype).tiny).log()


# ------------------------------------------------------------------------------- the fixes


def _with_fixes(
    found: list[Finding], model: nn.Module, inputs: Any, net: Network, loss: Loss | None, seed: int
) -> list[Finding]:
    """The findings with what their fixes do, each line tried once."""
    classes = None if loss is None else loss.classes
    before = Trial(net, lambda: math.nan if loss is None else loss.measured)
    trials: dict[str, Trial | None] = {}
    result = []
    for finding in found:
        cure = finding.cure
        if cure is None:
            result.append(finding)
            continue
        if cure.line not in trials:
            trials[cure.line] = _trial(model, cure.line, inputs, classes, seed)
        trial = trials[cure.line]
        evidence = dict(finding.evidence)
        message = finding.message
        if trial is not None:
            numbers = (cure.watch(before), cure.watch(trial))
            if not cure.helps(*numbers):
                result.append(dataclasses.replace(finding, cure=None))
                continue
            evidence |= {"of": cure.of, "before": numbers[0], "after": numbers[1]}
            message += f" With the fix, {cure.of} is {numbers[1]:.2g} instead of {numbers[0]:.2g}."
        result.append(dataclasses.replace(finding, evidence=evidence, message=message))
    return result


def _trial(model: nn.Module, line: str, inputs: Any, classes: int | None, seed: int) -> Trial | None:
    twin = tried(model, line, seed=seed)
    if twin is None:
        return None
    network = Network.of(twin, inputs, gradients=False, seed=seed)

    def loss() -> float:
        seen = first_loss(network, inputs, classes, None, seed)
        return math.nan if seen is None else seen.measured

    return Trial(network, loss)
