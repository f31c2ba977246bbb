"""What is read off a network while it trains, without changing how it trains.

``average_weight`` is the course report's number, kept as the report defines it: the unweighted mean
over *all* parameter tensors (weights, biases, batch-norm scales and shifts, PReLU slopes) of each
tensor's mean.  A batch-norm scale of 1 counts in it as much as a whole convolution, so it says little
about the weights; beside it stand, per layer, quantities that do.

Second moments, gradients and dead channels are read on one fixed batch, the first images of the
training set without augmentation, with batch norm in train mode, beside what ``theory.predict`` says of
this very network: at epoch 0 from the law of its weights, before any was drawn; later from the weights
it holds.  Running statistics are put back afterwards and no ``.grad`` is touched, so that a run with
instruments equals a run without, bit for bit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import nn

from empirical.protocol import TrainSpec
from empirical.training.families import build_network
from empirical.training.look import Look, as_found, layer_row, weight_row, weight_steps, wide
from empirical.training.networks import scale_free_layers, scale_free_parameters
from theory.law.cross_entropy import initial_cross_entropy, softmax_second_moment
from theory.predict import prediction as predict
from theory.predict.layers import is_weighted
from theory.probe import Probe

FIXED_BATCH = 256
CALIBRATION_BATCH = 64  # of the fixed batch: enough for the factor of a pool


class Instruments:
    """The instruments of one cell: its fixed batch, and its weights as they were drawn.

    ``images`` (B, C, H, W) are normalized, ``labels`` (B,); ``forward`` runs the network as the
    training does.
    """

    def __init__(
        self,
        spec: TrainSpec,
        images: torch.Tensor,
        labels: torch.Tensor,
        forward: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        self.spec, self.images, self.labels, self.forward = spec, images, labels, forward
        drawn = dict(build_network(spec).named_parameters())
        self.drawn = {name: wide(drawn[f"{name}.weight"]) for name in _weighted(spec)}

    def look(self, network: nn.Module, epoch: int) -> Look:
        """Read ``network`` after ``epoch`` epochs."""
        gradients, readings, loss = _probe(network, self.images, self.labels, self.forward)
        at_logits = readings["head"]["gradient_second_moment"]
        # numpy's BLAS splits its sums over its threads: the last bits would tell of the machine
        with threadpool_limits(1, user_api="blas"):
            table, loss_predicted = self._predicted(network, epoch, at_logits)
        rows: list[dict[str, Any]] = []
        for name, module in network.named_children():
            own = [f"{name}.{parameter}" for parameter, _ in module.named_parameters()]
            if not own and name not in readings:
                continue
            row = layer_row(epoch, name, module) | readings.get(name, {}) | table.get(name, {})
            if own:
                row |= weight_row(module)
                row["gradient_norm"] = math.hypot(*(gradients[parameter] for parameter in own))
            if name in self.drawn:
                scale = scale_free_parameters(self.spec).get(f"{name}.weight", 1.0)
                row |= weight_steps(self.spec, module, self.drawn[name], scale)
            rows.append(row)
        return Look(rows, math.hypot(*gradients.values()), loss, loss_predicted)

    def _predicted(
        self, network: nn.Module, epoch: int, cotangent: float
    ) -> tuple[dict[str, dict[str, Any]], float]:
        """The predicted second moments of every weight layer, and the predicted loss.

        ``cotangent`` is the measured second moment at the logits: a network that has learned knows the
        labels, and no theory of its weights alone says how far its gradient has shrunk.
        """
        with as_found(network):
            factors = predict.calibrate(network, self.images[:CALIBRATION_BATCH])
            law = weight_law(self.spec) if epoch == 0 else None
            table = predict.predict(
                network, self.images, law=law, calibration=factors, cotangent_basis="infinite width"
            )
        power = float(table["forward_predicted"].iloc[-1])
        known, classes = math.isfinite(power), self.spec.data.classes
        if epoch == 0:
            cotangent = softmax_second_moment(power, classes) if known else math.nan
        rows = {
            str(row["module"]): {
                "second_moment_predicted": row["forward_predicted"],
                # the whole chain backward is linear in the cotangent
                "gradient_second_moment_predicted": row["backward_predicted"] * cotangent,
                "prediction_basis": row["backward_basis"],
            }
            for row in table.to_dict("records")
        }
        untrained = known and epoch == 0  # of a network that has learned it would say nothing
        return rows, initial_cross_entropy(power, classes) if untrained else math.nan


def weight_law(spec: TrainSpec) -> predict.WeightLaw:
    """How the weights and biases of ``spec``'s network are drawn."""
    layers = dict.fromkeys(_weighted(spec), spec.weight_law) | {"head": spec.head_law}
    first = scale_free_layers(spec).get("conv01", 1.0)
    bias = {"conv01": first**2 / (3 * 9 * spec.data.inputs)} if first != 1.0 else None
    return predict.WeightLaw(layers, spec.gain_slope, bias)


def _weighted(spec: TrainSpec) -> list[str]:
    return [*(f"conv{layer + 1:02d}" for layer in range(spec.depth)), "head"]


def average_weight(network: nn.Module) -> float:
    """The report's average weight: the mean over all parameter tensors of each tensor's mean."""
    means = [wide(tensor).mean().item() for tensor in network.parameters()]
    return math.fsum(means) / len(means) if all(map(math.isfinite, means)) else math.nan


def _probe(
    network: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    forward: Callable[[torch.Tensor], torch.Tensor],
) -> tuple[dict[str, float], dict[str, dict[str, float]], float]:
    """Norm of the gradient per parameter, readings per layer (columns of the table), and the loss."""
    names = [name for name, _ in network.named_children()]
    inputs = {before: name for before, name in itertools.pairwise(names) if name.startswith("act")}
    weighted = [name for name, module in network.named_children() if is_weighted(module)]
    parameters = dict(network.named_parameters())
    with (
        as_found(network),
        Probe(network, {*inputs, *weighted}, backward=True, mode="train", statistics=_seen) as probe,
    ):
        loss = nn.functional.cross_entropy(forward(images), labels)
        found = torch.autograd.grad(loss, list(parameters.values()))
    norms = (wide(gradient).norm().item() for gradient in found)
    gradients = dict(zip(parameters, norms, strict=True))
    readings: dict[str, dict[str, float]] = {}
    for reading in probe.readings:
        name = reading.module
        if name in inputs:
            readings.setdefault(inputs[name], {})["dead_fraction"] = float(reading.forward["dead"])
        if name in weighted:
            assert reading.backward is not None
            gradient = (
                float(reading.backward["second_moment"]) * len(images) ** 2
            )  # of one image's loss
            signal = float(reading.forward["second_moment"])
            row = readings.setdefault(name, {})
            row |= {"second_moment": signal, "gradient_second_moment": gradient}
    return gradients, readings, loss.item()


def _seen(values: torch.Tensor) -> dict[str, torch.Tensor]:
    """Share of channels that are nowhere positive, and the second moment."""
    over = [dimension for dimension in range(values.dim()) if dimension != 1]
    return {"dead": (values.amax(over) <= 0).float().mean(), "second_moment": second_moment(values)}


def second_moment(values: torch.Tensor) -> torch.Tensor:
    """Mean of the squares of ``values`` (B, …), in float64 on the CPU.

    Each image is summed in the tensor's own precision, which is twenty times faster and loses nothing
    that matters; only where a square leaves float32's range is everything widened first.
    """
    flat = (values.movedim(1, -1) if values.dim() == 4 else values).flatten(1)  # as it lies in memory
    norms = wide(torch.linalg.vector_norm(flat, dim=1, dtype=torch.float32))
    if not torch.all((norms > 1e-15) & (norms < 1e15)):
        return wide(values).square().mean()
    return norms.square().sum() / values.numel()
