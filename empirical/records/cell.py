"""What is recorded of a cell: the columns of its two tables, and the state that it goes on from."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, fields
from typing import Any

EPOCH_COLUMNS = (
    "epoch",  # from 1
    "train_loss",  # mean loss over the epoch's images, each before its step
    "test_accuracy",  # the score in percent, in eval mode: accuracy, or 100·R² under squared error
    "test_loss",  # mean loss over the test images
    "average_weight",  # the report's: mean over parameter tensors of each tensor's mean
    "gradient_norm",  # L2 norm of the loss gradient on the fixed batch
    "seconds",  # wall time of the epoch: training, testing and measuring; in a stack, a cell's share
)

LAYER_COLUMNS = (
    "epoch",  # 0 is the network as drawn
    "layer",  # the module's name: conv01, norm02, act01, head, …; hidden.2: a weight's second use
    "kind",  # the torch class: Conv2d, BatchNorm2d, ReLU, PReLU, Linear, …
    "weight_mean",  # mean of the weight tensor (of a PReLU: its slope; of a batch norm: its scale)
    "weight_std",  # its standard deviation about that mean, divisor n
    "bias_mean",  # mean of the bias tensor, empty where there is none
    "negative_slope",  # the learned slope of a PReLU, else empty
    "gradient_norm",  # L2 norm of the loss gradient over the layer's parameters
    "dead_fraction",  # of an activation: its channels with pre-activation ≤ 0 at every image and place
    # of a convolution and of the linear layer alone:
    "relative_change",  # of the weight since it was drawn: ‖W − W₀‖/‖W₀‖
    "effective_learning_rate",  # η/rms(W) under Adam, η/rms(W)² under SGD: the step beside the weight
    "second_moment",  # of its output, over units, places and images
    "second_moment_predicted",
    "gradient_second_moment",  # of the gradient of one image's loss at that output
    "gradient_second_moment_predicted",
    "prediction_basis",  # what the predictions rest on (theory.predict.prediction)
)


@dataclass(eq=False)
class Progress:
    """How far a cell is, and what was seen of it.

    ``status`` is running, completed or diverged; ``epochs`` and ``layers`` are the rows so far;
    ``initial`` holds the loss on the fixed batch, its prediction and the average weight of the network
    as drawn; ``engine`` is what runs the steps, from the first to the last; ``notes`` are what a reader
    should know: a changed version, a clock that jumped.
    """

    epoch: int = 0
    status: str = "running"
    epochs: list[dict[str, Any]] = field(default_factory=list)
    layers: list[dict[str, Any]] = field(default_factory=list)
    initial: dict[str, float | None] = field(default_factory=dict)
    engine: str = ""
    notes: list[str] = field(default_factory=list)

    def progress(self) -> dict[str, Any]:
        """These fields by name, in lists of their own."""
        return {item.name: copy(getattr(self, item.name)) for item in fields(Progress)}


@dataclass
class CellState(Progress):
    """Everything that a cell needs to go on: plain values and tensors, safe to save and load.

    ``provenance`` and ``clock`` say what saved it and when.
    """

    provenance: str = ""
    clock: float = 0.0
    network: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
