"""The instruments of every network but the course report's: one run along theory's tape.

The tape (``theory.predict.follow``) sees each use of each weight: of a recurrent network every step, of
a branch what is added.  Measured are the gradients of the losses of the images, vectors or sequences of
the fixed batch, one loss each; from random signs those of one never meet those of another, in the mean.
Rows are those of ``instruments``, one for each use; uses after the first are called ``hidden.2``, ….

Predicted is the network as drawn, from the second moments of its weights, and without a rule by a
factor that was measured (the basis says so); the gradient at the outputs is theory's
(``objectives``).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import nn

from empirical.protocol import TrainSpec
from empirical.training.look import Look, as_found, layer_row, weight_row, weight_steps
from empirical.training.objectives import objective_of
from theory.predict import follow, record, weights_of
from theory.predict.moments import INFINITE_WIDTH, basis_name

BATCH = 64  # of the fixed batch


class Losses(nn.Module):
    """(inputs, targets) → the loss (B,) of each."""

    def __init__(self, network: nn.Module, spec: TrainSpec) -> None:
        super().__init__()
        self.network, self.objective = network, objective_of(spec)

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        each = self.objective.loss(self.network(inputs), targets, reduction="none")
        return each.reshape(len(inputs), -1).mean(1)


class TapedInstruments:
    """The instruments of one cell: its fixed batch, and ``drawn``, its weights as they were drawn."""

    def __init__(
        self,
        spec: TrainSpec,
        inputs: torch.Tensor,
        targets: torch.Tensor,
        drawn: nn.Module,
    ) -> None:
        self.spec, self.inputs, self.targets = spec, inputs[:BATCH], targets[:BATCH]
        self.drawn = {name: value.detach().clone() for name, value in drawn.named_parameters()}
        self.answers = max(self.targets[0].numel(), 1)

    def look(self, network: nn.Module, epoch: int) -> Look:
        """Read ``network``, in train mode, after ``epoch`` epochs."""
        losses, parameters = Losses(network, self.spec), dict(network.named_parameters())
        with as_found(network):
            loss = losses(self.inputs, self.targets).mean()
            found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            norms = {
                name: 0.0 if gradient is None else gradient.double().norm().item()
                for name, gradient in zip(parameters, found, strict=True)
            }
            measured = self._measured(losses)
            with threadpool_limits(1, user_api="blas"):
                foretold = follow(network, self.inputs).to_dict("records") if epoch == 0 else []
        cotangent, first_loss = self._at_the_outputs(foretold[-1]) if foretold else (0.0, math.nan)
        uses: dict[str, list[dict[str, Any]]] = {}
        for number, (module, moments) in enumerate(measured):
            theory = _foretold(foretold[number], cotangent) if foretold else {}
            uses.setdefault(module, []).append(moments | theory)
        rows = self._rows(network, epoch, uses, norms)
        return Look(rows, math.hypot(*norms.values()), loss.item(), first_loss)

    def _measured(self, losses: Losses) -> list[tuple[str, dict[str, float]]]:
        """For each use of a weight, in running order: its module's name in the network, and the second
        moments of its output and of the gradient there."""
        tape = record(losses, (self.inputs, self.targets), gradients=True)
        found = []
        for operation in tape.operations:
            value = tape.values[operation.outputs[0]]
            for weights in weights_of(operation):
                module = weights.parameter.removeprefix("network.").rpartition(".")[0]
                moments = {"second_moment": value.second_moment}
                moments["gradient_second_moment"] = value.gradient_second_moment
                found.append((module, moments))
        return found

    def _at_the_outputs(self, head: dict[Any, Any]) -> tuple[float, float]:
        """The second moment of the gradient there, and the loss, both predicted."""
        power, objective = float(head["forward_predicted"]), objective_of(self.spec)
        about = (power, self.targets, self.spec.data.classes)
        return objective.cotangent(*about) / self.answers**2, objective.first_loss(*about)

    def _rows(
        self,
        network: nn.Module,
        epoch: int,
        uses: dict[str, list[dict[str, Any]]],
        norms: dict[str, float],
    ) -> list[dict[str, Any]]:
        rows = []
        for name, module in network.named_modules():
            own = [f"{name}.{part}" for part, _ in module.named_parameters(recurse=False)]
            if not own:
                continue
            for number, use in enumerate(uses.get(name, [{}]), 1):
                layer = name if number == 1 else f"{name}.{number}"
                row = layer_row(epoch, layer, module) | use
                if number == 1:
                    row |= weight_row(module)
                    row["gradient_norm"] = math.hypot(*(norms[one] for one in own))
                    if use:
                        row |= weight_steps(self.spec, module, self.drawn[f"{name}.weight"])
                rows.append(row)
        return rows


def _foretold(theory: dict[Any, Any], cotangent: float) -> dict[str, Any]:
    """One use's columns; what comes back is linear in ``cotangent``, its second moment at the outputs,
    which rests on Gaussian outputs."""
    basis = {*theory["backward_basis"].split(" + "), INFINITE_WIDTH}
    return {
        "second_moment_predicted": theory["forward_predicted"],
        "gradient_second_moment_predicted": theory["backward_predicted"] * cotangent,
        "prediction_basis": basis_name(frozenset(basis)),
    }
