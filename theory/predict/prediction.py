"""One prediction for a real network: second moments forward and backward, layer after layer.

For a module that runs its layers one after another, from the law of its weights (or the weights it
holds) and the second moment of its input, ``predict`` gives for every weight layer

    forward   E[y²] of its output, the pre-activation of what follows
    backward  E[(∂E/∂y)²] of the gradient that reaches this output

averaged over units and inputs; ``predict_layers`` gives the same unit by unit, which is what borders
need.  ``theory.predict.chain`` says how each kind of layer acts.  Every number says what it rests on:

    exact            the expectation over draws of the weights, at any width (He et al. 2015, Eq. 7–15)
    infinite width   Gaussian pre-activations, one variance for all inputs (Poole et al. 2016)
    infinite batch   batch norm: its statistics are taken for their expectation over draws
    held weights     the actual mean of w² in the place of Var[w], and the actual biases: how the
                     weights lie to the signal, and to each other, is left out
    shared weights   layers that use one tensor are taken for independent draws: that what comes
                     later meets again the weights that made its input, of order 1/width, is left out
    measured factor  a pool, or an activation of what is not Gaussian, stands in between: its factor
                     was measured on a calibration batch
    no closed form   the same without calibration; the number is NaN

What stands before the first weight layer is applied to the batch itself, and so exact.  Several bases
are joined by " + ".  ``measure`` reads the same rows off the same network with the probe, and
``compare`` joins the two on the keys (module, call).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from theory.errors import RequestError, check_choice, check_real
from theory.initializers import Initializer, fans
from theory.precision import widened
from theory.predict.chain import (
    DROPOUTS,
    Backward,
    Factor,
    Gradient,
    Setting,
    Signal,
    rule_of,
)
from theory.predict.chain import POOLS as POOL_LAYERS
from theory.predict.layers import check_layer, check_tensors, held_weights, is_computed, is_weighted
from theory.predict.moments import BASES, EXACT, HELD_WEIGHTS, SHARED_WEIGHTS, basis_name
from theory.predict.nonlinearities import ACTIVATIONS, Pointwise
from theory.predict.points import Points
from theory.predict.tape import Operation, Tape, left_as_it_was, record
from theory.probe import Probe
from theory.randomness import generator

Array = NDArray[np.float64]
Key = tuple[str, int]

KEYS = ["module", "call"]
COLUMNS = {
    "module": "the weight layer's name in the network",
    "call": "0, or which call it is of a module that runs several times",
    "kind": "its class",
    "layer": "1, 2, … in the order in which they run",
    "forward_predicted": "second moment of its output, mean over units and inputs",
    "backward_predicted": "second moment of the gradient at its output",
    "forward_basis": "what the forward prediction rests on: exact, or the approximations in it",
    "backward_basis": "what the backward prediction rests on",
}
MEASURED_COLUMNS = {
    "module": COLUMNS["module"],
    "call": COLUMNS["call"],
    "forward_measured": "second moment of its output in this network on this batch",
    "backward_measured": "second moment of the gradient at its output",
}
COMPARED_COLUMNS = COLUMNS | MEASURED_COLUMNS | {
    "forward_ratio": "measured / predicted",
    "backward_ratio": "measured / predicted",
}  # fmt: skip


@dataclass(frozen=True)
class WeightLaw:
    """How the weights of a network are drawn.

    initializer  one law for all weight layers, or a mapping from their names
    gain_slope   the slope in He's gain (Eq. 15)
    bias         variance of the biases, or None for torch's law U(±1/√fan_in): 1/(3·fan_in); or a
                 mapping from the names of the layers that do not follow torch's law
    """

    initializer: Initializer | Mapping[str, Initializer]
    gain_slope: float = 0.0
    bias: float | Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        check_real("the slope in He's gain", self.gain_slope, -10, 10)
        given = self.bias.values() if isinstance(self.bias, Mapping) else [self.bias]
        for variance in given:
            if variance is not None:
                check_real("the variance of the biases", variance, 0)

    def variances(
        self, name: str, shape: tuple[int, ...] | torch.Size, groups: int = 1
    ) -> tuple[float, float]:
        """(Var[w], Var[b]) of the layer ``name`` with a weight of ``shape`` as torch holds it."""
        initializer = self.initializer
        if not isinstance(initializer, Initializer):
            if name not in initializer:
                raise RequestError(f"the weight law has no entry for {name}: name every weight layer")
            initializer = initializer[name]
        fan_in, _ = fans(shape, groups=groups)
        bias = self.bias.get(name) if isinstance(self.bias, Mapping) else self.bias
        bias = 1 / (3 * fan_in) if bias is None else bias
        return initializer.std_of(shape, self.gain_slope, groups=groups) ** 2, bias


@dataclass(frozen=True)
class Layer:
    """One weight layer, predicted or measured, unit by unit: (F,) or (C, H, W), mean over inputs.

    ``backward`` is of ∂E/∂y.  The bases are empty in a measurement.
    """

    module: str
    call: int
    kind: str
    forward: Array
    backward: Array
    forward_basis: str = ""
    backward_basis: str = ""

    def row(self, how: str) -> dict[str, Any]:
        """Itself, and its means over units as columns of what is ``measured`` or ``predicted``."""
        means = {f"forward_{how}": self.forward.mean(), f"backward_{how}": self.backward.mean()}
        return vars(self) | {name: float(mean) for name, mean in means.items()}


def predict(
    model: nn.Module,
    inputs: torch.Tensor | ArrayLike,
    *,
    law: WeightLaw | Initializer | None = None,
    cotangent_second_moment: float = 1.0,
    cotangent_basis: str = EXACT,
    calibration: Mapping[Key, Factor] | None = None,
) -> pd.DataFrame:
    """The prediction for every weight layer of ``model``, with the columns of ``COLUMNS``.

    model        runs its layers one after another; its modules' train/eval modes count
    inputs       a batch, as a tensor (B, F) or (B, C, H, W); or the second moment of every unit of one
                 input as an array (F,) or (C, H, W), their means over the inputs taken for 0; a
                 number where the first layer is linear
    law          how the weights are drawn; None for the weights that ``model`` holds
    cotangent_second_moment  of the gradient at each output, for each input
    cotangent_basis  ``exact`` when the cotangent is random and independent of the network, as in
                 ``measure``; ``infinite width`` for a loss's (``cross_entropy.softmax_second_moment``)
    calibration  what ``calibrate`` measured; needed where there is a pool

    Raises ``RequestError`` for a network that does not run layer after layer, a layer without a
    rule, and sizes that do not agree.
    """
    layers = predict_layers(
        model,
        inputs,
        law=law,
        cotangent_second_moment=cotangent_second_moment,
        cotangent_basis=cotangent_basis,
        calibration=calibration,
    )
    rows = [layer.row("predicted") | {"layer": number} for number, layer in enumerate(layers, 1)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def predict_layers(
    model: nn.Module,
    inputs: torch.Tensor | ArrayLike,
    *,
    law: WeightLaw | Initializer | None = None,
    cotangent_second_moment: float = 1.0,
    cotangent_basis: str = EXACT,
    calibration: Mapping[Key, Factor] | None = None,
) -> list[Layer]:
    """``predict``, unit by unit."""
    check_real("the cotangent's second moment", cotangent_second_moment, 0)
    check_choice("basis", cotangent_basis, (EXACT, *BASES))
    law = WeightLaw(law) if isinstance(law, Initializer) else law
    inputs = _checked(model, inputs)
    stages = _stages(run_order(model, _example(model, inputs)))
    if isinstance(inputs, torch.Tensor):
        stages, inputs = _past_the_input(stages, inputs)
    again = _shared([stage.modules[0] for stage in stages])
    signal, batch = _entering(inputs)
    steps: list[tuple[Key, nn.Module, Signal, Backward]] = []
    for index, stage in enumerate(stages):
        following = stages[index + 1].module if index + 1 < len(stages) else None
        setting = _setting(stage, following, batch, law, calibration or {}, index in again)
        signal, backward = _followed(stage, signal, setting)
        steps.append((stage.keys[0], stage.module, signal, backward))
    basis = frozenset(() if cotangent_basis == EXACT else (cotangent_basis,))
    gradient = Gradient(np.full(signal.power.shape, float(cotangent_second_moment)), basis)
    layers: list[Layer] = []
    for key, module, signal, backward in reversed(steps):
        if is_weighted(module):
            bases = (basis_name(signal.basis), basis_name(gradient.basis))
            layers.append(Layer(*key, type(module).__name__, signal.power, gradient.power, *bases))
        gradient = backward(gradient)
    return layers[::-1]


@dataclass(frozen=True)
class Stage:
    """A layer with a rule of its own, or activations in a row: their keys, and one module for all."""

    keys: tuple[Key, ...]
    modules: tuple[nn.Module, ...]

    @property
    def module(self) -> nn.Module:
        return self.modules[0] if len(self.modules) == 1 else Pointwise(*self.modules)


def _stages(chain: Sequence[tuple[Key, nn.Module]]) -> list[Stage]:
    """``chain`` without the layers that do nothing, and with activations in a row as one."""
    stages: list[Stage] = []
    for key, module in chain:
        off = isinstance(module, DROPOUTS) and (not module.training or module.p == 0)
        if off or isinstance(module, nn.Identity):
            continue
        if stages and all(isinstance(m, ACTIVATIONS) for m in (module, *stages[-1].modules)):
            last = stages.pop()
            stages.append(Stage((*last.keys, key), (*last.modules, module)))
        else:
            stages.append(Stage((key,), (module,)))
    return stages


def _past_the_input(stages: list[Stage], batch: torch.Tensor) -> tuple[list[Stage], torch.Tensor]:
    """What is left after the layers before the first weights, and the batch that they make of it."""
    first = next(
        index for index, stage in enumerate(stages)
        if is_weighted(stage.module) or isinstance(stage.module, DROPOUTS)
    )  # fmt: skip
    values = batch.detach().cpu().to(torch.float64, copy=True) if first else batch
    for stage in stages[:first]:
        for module in stage.modules:
            with torch.no_grad():
                values = copy.deepcopy(module).cpu().double()(values)
    return stages[first:], values


def _followed(stage: Stage, signal: Signal, setting: Setting) -> tuple[Signal, Backward]:
    """The rule of ``stage``, with its name before what it cannot do."""
    rule = rule_of(stage.module)
    assert rule is not None  # run_order has checked it
    try:
        return rule(stage.module, signal, setting)
    except RequestError as error:
        raise RequestError(f"{stage.keys[0][0] or 'the model'}: {error}") from None


def _shared(modules: Sequence[nn.Module]) -> set[int]:
    """The indices of the weight layers that use memory which an earlier one uses too."""
    seen: list[tuple[int, int]] = []
    again = set()
    for index, module in enumerate(modules):
        if is_weighted(module):
            spans = [_span(tensor) for tensor in module.parameters() if tensor.numel()]
            if any(low < end and start < high for low, high in spans for start, end in seen):
                again.add(index)
            seen += spans
    return again


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    """The first address of ``tensor`` and the one after its last; of a meta tensor, its own name."""
    if tensor.device.type == "meta":
        return id(tensor), id(tensor) + 1
    reach = sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (reach + 1) * tensor.element_size()


def run_order(model: nn.Module, inputs: torch.Tensor) -> list[tuple[Key, nn.Module]]:
    """((name, call), module) of every layer in the order in which ``model`` runs them on ``inputs``.

    A chain is a tape on which every layer takes what the one before it made, and nothing else.  Names
    and calls are those of the probe; relu and flatten called as functions are "relu()", "flatten()".
    Raises ``RequestError`` for anything but a chain.
    """
    for name, module in model.named_modules():
        check_tensors(name or "the model", module)
    tape = record(model, inputs)
    needed = _needed(tape)
    chain: list[tuple[Key, nn.Module]] = []
    made, known, inside = set(tape.inputs), set(tape.inputs), None
    for operation in tape.operations:
        module, here = model.get_submodule(operation.module), (operation.module, operation.call)
        if rule_of(module) is None and not needed.intersection(operation.outputs):
            continue  # nothing is made of it, as of a number that is only looked at
        if here != inside:
            known = made
        if not known.issuperset(operation.inputs):
            raise RequestError(
                f"{operation.module or operation.name} does not take the output of the layer before it "
                "and nothing else: only networks that run layer after layer are predicted, "
                "without branches"
            )
        if rule_of(module) is None:
            here = (f"{operation.name}()", operation.index)
            chain.append((here, _function(operation, module, tape)))
        elif here != inside:
            check_layer(operation.module or "the model", module)
            chain.append((here, module))
        made, inside = set(operation.outputs), here
        known = known | made
    if tape.returned is not torch.Tensor or not made.issuperset(tape.outputs):
        raise RequestError(
            "the network does not return the output of its last layer and nothing else: only "
            "networks that run layer after layer to one tensor are predicted"
        )
    if not any(is_weighted(module) for _, module in chain):
        raise RequestError("the network has no linear or convolutional layer to predict")
    return chain


def _needed(tape: Tape) -> set[int]:
    """The values of which the outputs are made."""
    needed = set(tape.outputs)
    for operation in reversed(tape.operations):
        if needed.intersection(operation.outputs):
            needed.update(operation.inputs)
    return needed


def _function(operation: Operation, module: nn.Module, tape: Tape) -> nn.Module:
    """The layer that does what ``operation`` does, which ``module`` runs as a function."""
    batch, *shape = tape.values[operation.inputs[0]].shape
    if operation.name == "relu":
        return nn.ReLU()
    if tape.values[operation.outputs[0]].shape == (batch, math.prod(shape)) and operation.name in (
        "flatten", "view", "reshape"
    ):  # fmt: skip
        return nn.Flatten()
    if not any(module.children()):
        kind = type(module).__name__
        raise RequestError(f"{operation.module} ({kind}) has no rule in theory.predict")
    raise RequestError(f"{operation.name} is no layer with a rule: make it a module, such as nn.ReLU")


def _checked(model: nn.Module, inputs: torch.Tensor | ArrayLike) -> torch.Tensor | Array:
    """A batch, or the second moment of every unit of one input."""
    if isinstance(inputs, torch.Tensor):
        if inputs.dim() not in (2, 4) or not inputs.numel():
            raise RequestError(f"a batch is (B, F) or (B, C, H, W), not {tuple(inputs.shape)}")
        if inputs.is_complex() or not torch.isfinite(inputs).all():
            raise RequestError("the batch holds numbers that are complex or not finite")
        return inputs
    try:
        power = np.asarray(inputs, dtype=np.float64)
    except (TypeError, ValueError):
        power = np.full((), np.nan)
    first = next(filter(is_weighted, model.modules()), None)
    if power.ndim == 0 and isinstance(first, nn.Linear):
        power = np.full(first.in_features, float(power))
    if power.ndim not in (1, 3) or not np.all(np.isfinite(power)) or np.any(power < 0):
        raise RequestError(
            "the input's second moment is an array (F,) or (C, H, W) of numbers of at least 0, "
            f"one per unit; this one has shape {power.shape}"
        )
    return power


def _example(model: nn.Module, inputs: torch.Tensor | Array) -> torch.Tensor:
    """Two inputs, which is what batch norm needs, to see in what order ``model`` runs its layers."""
    like = next(model.parameters(), torch.zeros(()))
    if isinstance(inputs, torch.Tensor):
        return inputs[:2].expand(2, *inputs.shape[1:]).to(like)
    return torch.zeros((2, *inputs.shape)).to(like)


def _entering(inputs: torch.Tensor | Array) -> tuple[Signal, int | None]:
    """What is known of the input, and the size of the batch."""
    if not isinstance(inputs, torch.Tensor):
        return Signal(inputs, np.zeros(len(inputs))), None
    values: Array = inputs.detach().cpu().to(torch.float64).numpy()
    over = (0, *range(2, values.ndim))
    points = Points.of_batch(inputs)
    return Signal((values**2).mean(0), values.mean(over) ** 2, points=points), len(values)


def _setting(
    stage: Stage,
    following: nn.Module | None,
    batch: int | None,
    law: WeightLaw | None,
    calibration: Mapping[Key, Factor],
    shared: bool,
) -> Setting:
    module = stage.module
    feeds_pool = isinstance(following, POOL_LAYERS)
    if not is_weighted(module):
        factor = _combined([calibration.get(key) for key in stage.keys])
        return Setting(batch, factor=factor, feeds_pool=feeds_pool)
    name = stage.keys[0][0]
    basis = frozenset({SHARED_WEIGHTS} if shared else ())
    if law is None:
        weight, bias = held_weights(module)
        if weight.is_meta:
            raise RequestError(
                f"{name or 'the model'} is on the meta device and holds no weights: name a law"
            )
        zero = np.zeros(1)
        held = zero if bias is None else bias.cpu().to(torch.float64).numpy()
        return Setting(batch, _mean_square(weight), held**2, held, basis | {HELD_WEIGHTS})
    if is_computed(module):
        raise RequestError(
            f"{name or 'the model'} computes its weight (weight_norm, spectral_norm, pruning, a "
            "parametrization), and no law is known for it: predict with the weights it holds"
        )
    has_bias = getattr(module, "bias", None) is not None
    weight_variance, bias_variance = law.variances(
        name, module.get_parameter("weight").shape, getattr(module, "groups", 1)
    )
    return Setting(
        batch, weight_variance, np.full(1, bias_variance if has_bias else 0.0), weight_basis=basis
    )


def _combined(factors: Sequence[Factor | None]) -> Factor | None:
    """The factor of layers in a row; None unless all are known."""
    known = [factor for factor in factors if factor is not None]
    if not known or len(known) < len(factors):
        return None
    return Factor(
        math.prod(factor.forward for factor in known),
        math.prod(factor.backward for factor in known),
        known[-1].channel_mean,
    )


def _mean_square(tensor: torch.Tensor) -> float:
    return widened(tensor.detach()).square().mean().item()


def measure(
    model: nn.Module, batch: torch.Tensor, *, labels: torch.Tensor | None = None, seed: int = 0
) -> pd.DataFrame:
    """What the probe reads on ``model``, with the columns of ``MEASURED_COLUMNS``.

    The cotangent is an independent random sign for each output and input (second moment 1), or,
    with ``labels`` (B,), the gradient of the cross-entropy of each example.  The model is left as it
    was: modes, running statistics and ``.grad``.
    """
    layers = measure_layers(model, batch, labels=labels, seed=seed)
    rows = [layer.row("measured") for layer in layers]
    return pd.DataFrame(rows, columns=list(MEASURED_COLUMNS))


def measure_layers(
    model: nn.Module, batch: torch.Tensor, *, labels: torch.Tensor | None = None, seed: int = 0
) -> list[Layer]:
    """``measure``, unit by unit."""
    readings, _ = _read(model, batch, _is_weighted_name, _per_unit, labels, seed)
    layers = []
    for reading in readings:
        assert reading.backward is not None
        forward, backward = (
            statistics["second_moment"].cpu().numpy()
            for statistics in (reading.forward, reading.backward)
        )
        layers.append(Layer(reading.module, reading.call, reading.kind, forward, backward))
    return layers


def calibrate(model: nn.Module, batch: torch.Tensor, *, seed: int = 0) -> dict[Key, Factor]:
    """The factors of everything that is no weight layer, read on this network and this batch.

    ``predict`` uses only those that have no closed form: pools, and activations beside them.  The
    cotangent is that of ``measure``.
    """
    chain = run_order(model, _example(model, batch))
    names = {key[0] for key, _ in chain}
    modules = {name for name, _ in model.named_modules()}
    if not names <= modules:
        raise RequestError("only modules can be calibrated: write relu and flatten as modules")
    readings, at_input = _read(
        model, batch, lambda name, module: name in names, _pooled_moments, None, seed
    )
    before = _mean_square(batch)
    gradient_before = _mean_square(at_input)
    factors: dict[Key, Factor] = {}
    for (key, module), reading in zip(chain, readings, strict=True):
        assert reading.backward is not None
        after = float(reading.forward["second_moment"])
        gradient = float(reading.backward["second_moment"])
        if not is_weighted(module):
            share = float(reading.forward["channel_mean"]) / (after or 1.0)
            ratios = (after / (before or 1.0), gradient_before / (gradient or 1.0))
            factors[key] = Factor(*ratios, share)
        before, gradient_before = after, gradient
    return factors


def compare(prediction: pd.DataFrame, measurement: pd.DataFrame) -> pd.DataFrame:
    """``predict`` and ``measure`` side by side, with the columns of ``COMPARED_COLUMNS``.

    Raises ``RequestError`` unless both have the same keys.
    """
    keys = [list(map(tuple, table[KEYS].to_numpy())) for table in (prediction, measurement)]
    if sorted(keys[0]) != sorted(keys[1]):
        raise RequestError("the prediction and the measurement are of different layers")
    table = prediction.merge(measurement, on=KEYS, validate="one_to_one")
    for direction in ("forward", "backward"):
        table[f"{direction}_ratio"] = table[f"{direction}_measured"] / table[f"{direction}_predicted"]
    return table[list(COMPARED_COLUMNS)]


def _read(
    model: nn.Module,
    batch: torch.Tensor,
    select: Any,
    statistics: Any,
    labels: torch.Tensor | None,
    seed: int,
) -> tuple[list[Any], torch.Tensor]:
    """The probe's readings of one step, and the gradient at the input."""
    inputs = batch.detach().clone().requires_grad_()
    with (
        left_as_it_was(model, batch.device, seed),
        torch.enable_grad(),
        Probe(model, select, backward=True, statistics=statistics) as probe,
    ):
        output = model(inputs)
        if labels is None:
            signs = torch.rand(output.shape, generator=generator(seed, "cotangent")) < 0.5
            cotangent = (2.0 * signs - 1.0).to(output)
            (gradient,) = torch.autograd.grad(output, inputs, cotangent)
        else:
            loss = nn.functional.cross_entropy(output, labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, inputs)
    return probe.readings, gradient


def _is_weighted_name(name: str, module: nn.Module) -> bool:
    return is_weighted(module)


def _per_unit(tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"second_moment": widened(tensor.detach()).square().mean(0)}


def _pooled_moments(tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    wide = widened(tensor.detach())
    over = [0, *range(2, wide.dim())]
    return {"second_moment": wide.square().mean(), "channel_mean": wide.mean(over).square().mean()}
