"""Distances in standard errors, where the standard error comes from few draws itself.

A mean of n draws over its estimated standard error follows Student's law with n − 1 degrees of freedom,
not the normal one: of three draws, one mean in a hundred lies ten standard errors away.  Its normal
score is the z that is as unlikely under N(0, 1), so that every z of the project means the same.
Very few draws cannot refute anything then, and ``agreement`` says so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Array = NDArray[np.float64]
SMALLEST = 1e-280  # a tail below is computed by its logarithm
LEAST_SKEWNESS = 1e-3  # below, no |z| that counts is changed
UNDECIDED = "too few draws to tell"
CHANCE = 1e-3  # the share of true theories that ``agreement`` may call wrong
GLARING = 10.0  # standard errors that a test must be able to see


def normal_score(t: ArrayLike, degrees: ArrayLike) -> Array:
    """The z that is as unlikely under a standard normal as ``t`` is under Student's law.

    Any shapes that broadcast; NaN without a degree of freedom, finite for every finite ``t``.

    >>> [round(float(normal_score(t, 3)), 2) for t in (0.5, 4.0, 28.0)]
    [0.45, 2.2, 3.89]
    """
    t, degrees = np.broadcast_arrays(np.asarray(t, float), np.asarray(degrees, float))
    nu = np.where(degrees > 0, degrees, np.nan)
    tail = special.stdtr(nu, -np.abs(t))
    far = tail < SMALLEST
    score = -special.ndtri(np.where(far, 0.5, tail))
    if far.any():
        score = np.where(far, -special.ndtri_exp(_log_tail(np.where(far, t, 1.0), nu)), score)
    signed: Array = np.sign(t) * score + 0.0  # no −0
    return signed


def _log_tail(t: Array, nu: Array) -> Array:
    """ln P(T > |t|) = ln ½I_x(ν/2, ½), x = ν/(ν + t²), by DLMF 8.17.8: nothing underflows."""
    a, x = nu / 2, 1 / (1 + t**2 / nu)
    front = -a * np.log1p(t**2 / nu) - 0.5 * np.log1p(nu / t**2) - np.log(2 * a)
    result: Array = front - special.betaln(a, 0.5) + np.log(special.hyp2f1(a + 0.5, 1, a + 1, x))
    return result


def skewed_score(z: ArrayLike, skewness: ArrayLike) -> Array:
    """``z`` as a normal score, where its law has some ``skewness``: its longer tail is a gamma law's.

    A mean of few ln q is skewed, for one narrow layer that nearly dies makes it small: −3 is then less
    unlikely than +3.  A gamma law of that skewness (Pearson's type III) has the exponential tail of
    ln χ².  The shorter tail is left as it is, and no |z| grows: what errs, errs to the safe side.

    >>> skewed_score([-4.0, 4.0], -0.5).round(2).tolist()
    [-3.21, 4.0]
    """
    z, skewness = np.broadcast_arrays(np.asarray(z, float), np.asarray(skewness, float))
    longer = (np.abs(skewness) > LEAST_SKEWNESS) & (z * skewness > 0)
    shape = 4 / np.where(longer, skewness, 1.0) ** 2
    x = shape + np.where(longer, np.abs(z), 0.0) * np.sqrt(shape)
    tail = special.gammaincc(shape, x)
    # ln of the tail far out, by its leading term
    far = -x + (shape - 1) * np.log(x) - special.gammaln(shape) - np.log1p((1 - shape) / x)
    with np.errstate(divide="ignore"):
        log_tail = np.where(tail > SMALLEST, np.log(tail), far)
    score = -special.ndtri_exp(log_tail)
    scored: Array = np.where(longer, np.sign(z) * np.clip(score, 0.0, np.abs(z)), z)
    return scored


def agreement(largest_z: float, tests: int, degrees: float) -> str:
    """yes, no or too few draws to tell: what the largest |z| of ``tests`` says; – for NaN.

    no when chance alone exceeds it in fewer than 1 of 1,000 runs, by Bonferroni.  ``degrees`` is of the
    standard error behind z, inf for an exact one: too few when not even a mean ten standard errors
    off would have been a no.

    >>> agreement(2.0, 30, np.inf), agreement(5.0, 30, np.inf), agreement(1.0, 30, 2)
    ('yes', 'no', 'too few draws to tell')
    """
    if np.isnan(largest_z):
        return "–"
    limit = special.ndtri(1 - CHANCE / (2 * tests))
    if largest_z > limit:
        return "no"
    seen = GLARING if np.isinf(degrees) else float(normal_score(GLARING, degrees))
    return "yes" if seen > limit else UNDECIDED
