"""The input–output Jacobian: how a stack stretches small changes of its input.

A layer is a weight and then a rectifier, x_l = φ(W_l x_{l−1}), for l = 1 … L, the last one
included.  At a fixed input

    J = ∂x_L/∂x_0 = D_L W_L ⋯ D_1 W_1,   D_l = diag φ'(y_l), entries 1 or a,   M = J Jᵀ,

and the eigenvalues of M are the squared singular values of J.  W has as many rows as the layer has
units and independent, symmetric entries (or is Haar orthogonal).  Flipping a row's sign flips its
gate and leaves |w_i·w_j| alone: the spectrum is that of *independent fair gates*, at every width,
although each gate is decided by the forward signal (Hanin & Nica 2020).

**Exact, at every width.**  Let t₁ = E(tr M)², t₂ = E tr M², u = E Σ M_ii², A₂ = (1 + a²)/2,
A₄ = (1 + a⁴)/2.  One layer of m units, weight variance σ² and excess kurtosis κ₄ gives

    t₁' = A₄·e + A₂²·m(m−1)σ⁴·t₁,   t₂' = A₄·e + A₂²·m(m−1)σ⁴·t₂,   u' = A₄·e,
    e = Σ_i E(w_iᵀ M w_i)² = mσ⁴(t₁ + 2t₂ + κ₄u),

from t₁ = n_0², t₂ = u = n_0; κ₄ = 0 for Gaussian weights.  A Haar matrix of p = max(n, m) rows, cut
to m × n and scaled so that its entries have variance σ², has rows that repel each other:

    e = mpσ⁴(t₁ + 2t₂)/(p + 2),   and m(m−1)σ⁴·t becomes pσ⁴·m(m−1)/(p−1)·(t − (t₁ + 2t₂)/(p + 2)).

**Infinite width**, square layers, in units of the mean: the variance of the squared singular values
grows by A₄/A₂² per layer for independent weights and by A₄/A₂² − 1 for orthogonal ones: over L
layers 2L (ReLU) and L (linear) against L and 0 (Pennington, Schoenholz & Ganguli 2017).  Their
whole law comes from free probability, with S-transforms that multiply from layer to layer
(Pennington et al. 2017, Eq. 16): see ``limit_density``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import special

from theory.activations import Activation
from theory.initializers import Initializer, shape_named

Array = NDArray[np.float64]
Moments = tuple[float, float, float]


@dataclass(frozen=True)
class SpectralMoments:
    """Exact moments of M = J Jᵀ in units of the mean: ``log_scale`` = ln(E tr M/n_0).

    mean_square     t₁/n_0² = E[(tr M)²]/(E tr M)²
    second_moment   t₂·n_0/(E tr M)²: for square stacks E[mean λ²]/E[mean λ]²
    """

    log_scale: float
    mean_square: float
    second_moment: float

    @property
    def variance(self) -> float:
        """Variance of the squared singular values, over values and networks, over their mean²."""
        return self.second_moment - 1


def spectral_moments(
    widths: Sequence[int], initializer: Initializer, activation: Activation
) -> SpectralMoments:
    """The recursion of the module's docstring along ``widths`` = (n_0, …, n_L), for any widths.

    >>> from theory.initializers import parse_initializer
    >>> from theory.activations import parse_activation
    >>> he, relu = parse_initializer("he"), parse_activation("relu")
    >>> round(spectral_moments((10**6,) * 11, he, relu).variance, 2)
    20.0
    """
    a2, a4 = activation.second_moment, activation.fourth_moment
    n0, shape = widths[0], shape_named(initializer.shape)
    moments = (float(n0) ** 2, float(n0), float(n0))  # t₁, t₂, u
    log_scale = 0.0
    for n, m in pairwise(widths):
        growth = m * initializer.variance(n, m, activation.gain_slope) * a2  # of E tr M
        log_scale += math.log(growth)
        sigma4 = 1 / (m * a2) ** 2  # once the growth is divided out of tr M
        if shape.is_orthogonal:
            moments = orthogonal_step(moments, n, m, sigma4, a2, a4)
        else:
            moments = independent_step(moments, m, sigma4, a2, a4, shape.excess_kurtosis)
    return SpectralMoments(log_scale, moments[0] / n0**2, moments[1] / n0)


def independent_step(
    moments: Moments, units: int, sigma4: float, a2: float, a4: float, kurtosis: float = 0.0
) -> Moments:
    """(t₁, t₂, u) after a layer of ``units`` with independent weights, σ⁴ = ``sigma4``."""
    t1, t2, u = moments
    same = a4 * units * sigma4 * (t1 + 2 * t2 + kurtosis * u)
    pairs = a2**2 * units * (units - 1) * sigma4
    return same + pairs * t1, same + pairs * t2, same


def orthogonal_step(
    moments: Moments, fan_in: int, units: int, sigma4: float, a2: float, a4: float
) -> Moments:
    """(t₁, t₂, u) after a layer of ``units`` with a Haar matrix cut to (units, fan_in)."""
    t1, t2, _ = moments
    p = max(fan_in, units)
    inner = (t1 + 2 * t2) / (p + 2)  # E Σ_i (QMQᵀ)_ii² of the whole p × p matrix Q
    same = a4 * units * p * sigma4 * inner
    pairs = a2**2 * p * sigma4 * units * (units - 1) / max(p - 1, 1)
    return same + pairs * (t1 - inner), same + pairs * (t2 - inner), same


def limit_variance(depth: int, initializer: Initializer, activation: Activation) -> float:
    """Variance of the squared singular values over their mean², square layers of infinite width.

    L·A₄/A₂² for independent weights, L·(A₄/A₂² − 1) for orthogonal ones.
    """
    ratio = activation.fourth_moment / activation.second_moment**2
    return depth * (ratio - 1 if shape_named(initializer.shape).is_orthogonal else ratio)


def zero_fraction(depth: int, width: int, activation: Activation) -> float:
    """Expected fraction of singular values that are exactly zero, square layers.

    J's rank is the fewest active units of any layer: 1 − E[min_l K_l]/n, K_l ~ Bin(n, ½).
    """
    if activation.negative_slope != 0:
        return 0.0
    at_least = special.bdtrc(np.arange(width), width, 0.5)  # P(K ≥ 1), …, P(K ≥ n)
    return float(1 - np.sum(at_least**depth) / width)


def limit_density(
    log_squared: Array, depth: int, initializer: Initializer, activation: Activation
) -> Array:
    """Density of ln λ at infinite width, λ a squared singular value over the mean; square layers.

    ``log_squared`` holds ln λ > −∞, any shape (k,).  With z = λ·G(λ) − 1, G the Stieltjes transform,

        λ = (1 + z)/z · S(z)^{−L},   S = S_D·S_W,   density of ln λ = −Im z/π,
        S_D = 2(1 + z)/(1 + 2z + √(1 + 4(1 − p)z(1 + z))),   p = a²/A₂²,
        S_W = 1/(1 + z) for independent weights, 1 for orthogonal ones.

    Solved by Newton along a path in the upper half-plane of λ, from far away, where z ≈ 1/λ, down to
    just above the real axis; the root is the one that is continuous along it.  Atoms have no density:
    half of the mass at λ = 0 for ReLU, and all of it in a single orthogonal layer.
    """
    from_weights = 0.0 if shape_named(initializer.shape).is_orthogonal else 1.0
    p = activation.gain_slope**2 / activation.second_moment**2
    x = np.asarray(log_squared, dtype=np.float64)
    far = np.log(1e3 * (depth + 1)) + np.maximum(x.max(), 0.0)
    down = [np.full_like(x, far) + (x - far) * t + 0.5j * np.pi for t in np.linspace(0, 1, 100)]
    turn = [x + 1j * angle for angle in np.geomspace(0.5 * np.pi, 1e-5, 200)]
    z = np.exp(-down[0])
    root = np.ones_like(z)
    with np.errstate(all="ignore"):  # far below the support 1 + z is lost to rounding: density 0
        for target in (*down, *turn):
            for _ in range(3):
                candidate = np.sqrt(1 + 4 * (1 - p) * z * (1 + z))
                root = np.where((candidate * root.conj()).real < 0, -candidate, candidate)
                gate = 1 + 2 * z + root
                power = np.log(2 * (1 + z) / gate) - from_weights * np.log(1 + z)
                miss = np.log((1 + z) / z) - depth * power - target
                miss = miss.real + 1j * np.angle(np.exp(1j * miss.imag))  # logs know 2πi only
                root_slope = 2 * (1 - p) * (1 + 2 * z) / root
                slope = 1 / (1 + z) - 1 / z
                slope -= depth * ((1 - from_weights) / (1 + z) - (2 + root_slope) / gate)
                z = z - miss / slope
    density: Array = np.maximum(np.nan_to_num(-z.imag / np.pi), 0.0)
    return density
