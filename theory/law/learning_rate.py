"""The scale of a weight that batch norm follows is a learning rate.

BN(k·y) = BN(y): multiplying the weight before batch norm by k > 0 changes nothing in the function and
divides the gradient by k.  Relative to the weight, an Adam step of learning rate η is η/k, an SGD step
η/k².
"""

from __future__ import annotations

from theory.errors import check_choice, check_real

OPTIMIZERS = ("adam", "sgd")


def effective_learning_rate(
    learning_rate: float, weight_scale: float, optimizer: str = "adam"
) -> float:
    """The learning rate that a BN-followed weight of scale 1 would feel: η/k (Adam), η/k² (SGD).

    ``weight_scale`` is k, for instance the ratio of two standard deviations: N(0, 1) against He at
    fan 288 is k = 12.

    >>> effective_learning_rate(1e-3, 2.0, "sgd")
    0.00025
    """
    check_choice("optimizer", optimizer, OPTIMIZERS)
    check_real("learning rate", learning_rate, 0)
    check_real("the weight's scale", weight_scale, 0, open_low=True)
    return learning_rate / weight_scale ** (1 if optimizer == "adam" else 2)


def equivalent_learning_rate(
    learning_rate: float, weight_scale: float, optimizer: str = "adam"
) -> float:
    """The learning rate with which a weight multiplied by k learns as it did before: η·k or η·k²."""
    return effective_learning_rate(learning_rate, 1 / weight_scale, optimizer)
