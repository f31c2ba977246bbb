"""The loss of a network that has not learned yet: cross-entropy at Gaussian logits.

At initialization the K logits z_i are independent N(0, q) (exactly so for Gaussian weights, given
what the last layer sees) and know nothing of the labels, so that

    E[loss] = E[ln Σ e^{z_i}] − E[z_label] = E[ln Σ e^{z_i}],

which is ln K for q → 0 and √q times the expected maximum of K standard normals for large q (1.539 for
ten): under N(0, 1) weights the first loss is not 2.3 but in the tens.  There is no closed form, but a
one-dimensional integral: by the Gumbel-max trick ln Σ e^{z_i} = E[max_i (z_i + G_i)] − γ with standard
Gumbel G_i, and with F the distribution function of one z + G,

    E[loss] = −γ + a + ∫_a^∞ (1 − F(x)^K) dx     for a so low that F(a)^K = 0.

The gradient with respect to the logits, p − onehot with p = softmax(z), has the second moment

    E[(p_i − 1{i = label})²] = (K·E[p²] + 1 − 2/K)/K,   E[p²] = E ∫_0^∞ t e^{2z_1} e^{−tΣ e^{z_i}} dt.

Trapezoid sums of these smooth, decaying integrands are exact to 1e-10: no sampling, no standard error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from theory.errors import check_real, check_whole
from theory.law.quadrature import gaussian_nodes

Array = NDArray[np.float64]
# A logit's std above which the Gumbel variable, and not the Gaussian, is the narrow one to sum over.
WIDE = 0.5
STEP = 0.02
WIDEST = 1e5  # a logit's std beyond which softmax is a maximum but for terms of order 1/std


def initial_cross_entropy(logit_second_moment: float, classes: int) -> float:
    """E[loss] in nats per example, for ``classes`` logits of the given second moment.

    Deterministic, to about 1e-10.  Raises ``RequestError`` for a negative second moment, or fewer
    than two classes.

    >>> round(initial_cross_entropy(0.0, 10), 4)
    2.3026
    """
    std = _checked(logit_second_moment, classes)
    if std > WIDEST:  # the loss is then √q·E[max z_i] to ten digits, and proportional to std
        return initial_cross_entropy(WIDEST**2, classes) * (std / WIDEST)
    scale = max(1.0, std)
    x = np.arange(-12 * scale - 40, 14 * scale + 45 + np.log(classes), STEP * 2.5 * scale)
    below = _gumbel_below(x, std)
    maximum = x[0] + np.trapezoid(1 - below**classes, x)
    return float(maximum - np.euler_gamma)


def softmax_second_moment(logit_second_moment: float, classes: int) -> float:
    """E[(p − onehot)²] per logit and example: the second moment of the loss's cotangent.

    For a loss averaged over a batch of B, divide by B².  ``theory.predict.prediction`` takes it as the
    gradient at the output; what follows from it is no longer exact, for it depends on the logits.

    >>> round(softmax_second_moment(0.0, 10), 12)
    0.09
    """
    _checked(logit_second_moment, classes)
    (sum_of_squares,) = softmax_concentration(logit_second_moment, [classes])
    return float((sum_of_squares + 1 - 2 / classes) / classes)


def softmax_concentration(variance: float, counts: Sequence[int]) -> Array:
    """E[Σ p²] of a softmax over that many independent Gaussian logits: 1 over how many it attends to.

    Logits whose correlation is r in all pairs count as independent ones of (1 − r) of their variance.
    For many logits e^variance/count, 1/count for small ones (Kedia et al. 2024 take this limit of keys
    under attention); it holds while the variance is small against 2·ln count.  Deterministic, to about
    1e-10.  Raises ``RequestError`` for a negative variance, or a count below one.

    >>> [round(float(share), 4) for share in softmax_concentration(1.0, [1, 16, 1024])]
    [1.0, 0.1325, 0.0026]
    """
    many = np.array([check_whole("the number of logits", count, 1, 1_000_000) for count in counts])
    std = float(np.sqrt(check_real("the variance of the logits", variance, 0)))
    if std > WIDEST:  # p is 0 or 1 but where the two largest logits are close: a share ~ 1/std
        return 1 - (1 - softmax_concentration(WIDEST**2, counts)) * WIDEST / std
    scale = max(1.0, std)
    # with t = e^u: E[p²] = ∫ E[h(u + z)]·E[exp(−e^{u + z})]^{K−1} du,  h(x) = e^{2x − e^x}
    u = np.arange(-14 * scale - 45 - np.log(many.max()), 12 * scale + 40, STEP * 2.5 * scale)
    below, squared = _gumbel_below(-u, std), _blurred(lambda x: np.exp(2 * x - np.exp(x)), u, std)
    sums = [count * np.trapezoid(squared * below ** (count - 1), u) for count in many.tolist()]
    return np.array(sums)


def _checked(second_moment: float, classes: int) -> float:
    check_whole("the number of classes", classes, 2, 1_000_000)
    return float(np.sqrt(check_real("the second moment of the logits", second_moment, 0)))


def _gumbel_below(x: Array, std: float) -> Array:
    """F(x) = P(z + G ≤ x), z ~ N(0, std²), G standard Gumbel; summed over the narrower of the two."""
    if std < WIDE:
        return _average(lambda y: np.exp(-np.exp(-y)), x, std)
    t = np.arange(-4.5, 42.0, STEP)
    mass = np.exp(-t - np.exp(-t)) * STEP
    below = _in_parts(lambda part: special.ndtr((part - t) / std) @ mass, x, t)
    return np.clip(below, 0.0, 1.0)


def _blurred(function: Callable[[Array], Array], u: Array, std: float) -> Array:
    """E[f(u + z)], z ~ N(0, std²), for f that is essentially zero outside of [−22, 4]."""
    if std < WIDE:
        return _average(function, u, std)
    t = np.arange(-22.0, 4.0, STEP)
    mass = function(t) * STEP / (std * np.sqrt(2 * np.pi))
    return _in_parts(lambda part: np.exp(-(((t - part) / std) ** 2) / 2) @ mass, u, t)


def _average(function: Callable[[Array], Array], x: Array, std: float) -> Array:
    z, weights = gaussian_nodes()
    return _in_parts(lambda part: function(np.clip(part + std * z, -700.0, 700.0)) @ weights, x, z)


def _in_parts(function: Callable[[Array], Array], rows: Array, columns: Array) -> Array:
    """``function`` of ``rows`` (n, 1), in parts whose product with ``columns`` is about a million."""
    parts = np.array_split(rows, max(1, len(rows) * len(columns) // 2**20))
    return np.concatenate([function(part[:, None]) for part in parts])
