"""Batch norm: it fixes the signal and lets gradients grow.

Layer l is y_l = W_l x_{l−1}, z_l = BN(y_l), x_l = φ(z_l), with BN(y) = (y − mean)/σ over the batch of
B inputs, each unit by itself (no ε, no affine map: this is the network as it is initialized).

**Forward.**  Each unit of z_l has mean 0 and second moment 1, in every network.  Turning the sign of
a row of W_l turns that of z_l, so for a rectifier E[φ(z)²] = A₂ and, exactly at every width and batch,

    E[y_1²] = s·q_0,   E[y_l²] = s·A₂ for l ≥ 2:   nothing vanishes or explodes, whatever the law.

**Backward** (Yang et al. 2019).  In the limit of infinite width the B pre-activations of a unit are
Gaussian with covariance s·A₂·[(1 − ρ)I + ρ11ᵀ], where the common correlation ρ = f(c), c = −1/(B − 1):
BN leaves a unit uniform on the sphere of radius √B in the B − 1 dimensions orthogonal to 1, two of
whose coordinates have correlation c, and f is the rectifier's correlation map.  So σ² is
s·A₂·(1 − ρ)·χ²_{B−1}/B, independent of the direction z, and E[1/σ²] = B/((B − 3)·s·A₂·(1 − ρ)).

The gradient passes BN as (1/σ)·Π, Π = I − 11ᵀ/B − zzᵀ/B; its covariance over the batch stays a
multiple γ of P = I − 11ᵀ/B.  Through the next layer's weights, φ'(z) = D and BN:

    γ' = γ·s·E[1/σ²]·E tr(Π D P D)/(B − 1),
    E tr(P D P D) = (B − 1)²/B·A₂ + (B − 1)/B·A₂·f′(c),    E zᵀD P D z/B = (B − 1)/B·A₂·(1 − ρ),

which gives the growth of the gradient's second moment per layer, from the output to the input,

    λ_B = (B − 2 + f(c) + f′(c)) / ((B − 3)·(1 − f(c))),       c = −1/(B − 1).

Linear units: (B − 2)/(B − 3).  Infinite batch: λ = 1/(1 − f(0)) = 1/(1 − (1−a)²/(π(1+a²))), the inverse
of Var[φ(z)]/E[φ(z)²]; for ReLU π/(π − 1) = 1.46694.  Batch norm removes the mean that the rectifier
makes, and pays for it with exploding gradients; linear units have none.  The same count at infinite
batch gives E[φ′²]/Var[φ] for any activation.  A finite width deviates, and
more the deeper the stack: ReLU, n = 512, B = 256 was measured 0.1 % below at depth 12, 0.8 % at depth
30, where the inputs of a batch have drifted apart in norm and are no longer alike.

**The scale of a weight that batch norm follows is a learning rate.**  BN(k·y) = BN(y): multiplying the
weight by k > 0 changes nothing in the function and divides the gradient by k.  Relative to the weight,
an Adam step of learning rate η is η/k, an SGD step η/k².
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from theory.activations import Activation
from theory.errors import RequestError, check_choice, check_real
from theory.law import mean_field, quadrature
from theory.specs import BatchNormSpec

Array = NDArray[np.float64]
OPTIMIZERS = ("adam", "sgd")


def gradient_growth(activation: Activation, batch: float = math.inf) -> float:
    """λ_B, the growth of the gradient's second moment per layer backward, at infinite width.

    For a smooth activation, by quadrature, at infinite batch only: E[φ′²]/(E[φ²] − E[φ]²).  Raises
    ``RequestError`` for one with a finite batch, and for a batch below 4.

    >>> from theory.activations import parse_activation
    >>> round(gradient_growth(parse_activation("relu")), 5)
    1.46694
    >>> round(gradient_growth(parse_activation("linear"), 8), 12)
    1.2
    """
    if batch == math.inf and activation.is_rectifier:
        return 1 / activation.variance_ratio
    if batch == math.inf:
        return quadrature.derivative_second_moment(activation) / _variance(activation)
    if not activation.is_rectifier:
        raise RequestError(
            f"{activation.name} is no rectifier: the growth under batch norm has no formula"
        )
    check_real("batch", batch, 4)
    c = -1 / (batch - 1)
    rho = float(activation.correlation_map(c))
    slope = mean_field.correlation_slope(activation, 1 / activation.second_moment, 1.0, c)
    return (batch - 2 + rho + slope) / ((batch - 3) * (1 - rho))


def expected_log_second_moments(spec: BatchNormSpec, activation: Activation, std: float) -> Array:
    """ln E[y_l²], (L,): exact for rectifiers; else infinite width and batch."""
    log_s = math.log(spec.width) + 2 * math.log(std)
    later = log_s + mean_field.log_activation_gain(activation, 0.0)
    return np.array([log_s + math.log(spec.input_second_moment), *[later] * (spec.depth - 1)])


def expected_log_gradients(spec: BatchNormSpec, activation: Activation, std: float) -> Array:
    """ln E[(∂E/∂y_l)²], (L,), at infinite width, independent inputs; smooth: infinite batch too.

    The cotangent has variance 1 at z_L.  The first layer's pre-activations have second moment s·q_0
    and no common correlation, all others s·A₂ and ρ.
    """
    batch, log_s = spec.batch, math.log(spec.width) + 2 * math.log(std)
    share = 1.0  # E[1/σ²]·tr Π, in units of B/σ²; below, σ² in units of s
    if activation.is_rectifier:
        rho = float(activation.correlation_map(-1 / (batch - 1)))
        share, inner = (batch - 2) / (batch - 3), activation.second_moment * (1 - rho)
        growth = gradient_growth(activation, batch)
    else:
        inner, growth = _variance(activation), gradient_growth(activation)
    scatter = np.full(spec.depth, inner)
    scatter[0] = spec.input_second_moment
    passed = np.arange(spec.depth - 1, -1, -1)
    logs: Array = math.log(share) - log_s - np.log(scatter) + passed * math.log(growth)
    return logs


def _variance(activation: Activation) -> float:
    """Var[φ(z)], z ~ N(0, 1)."""
    return quadrature.second_moment(activation) - quadrature.moment(activation) ** 2


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
