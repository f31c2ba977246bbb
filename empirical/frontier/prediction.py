"""What theory says of a network of the map before it is trained, with no free parameter.

A network trains as long as what decides changes by no more than e⁶ from one end to the other.  For a
plain network that is a depth of 6ξ, which Schoenholz et al. (2017, Fig. 5) found for tanh, where
ξ = 1/|ln χ| (``theory.law.phase.depth_scales``) is the number of layers for a factor e:

    tanh         ξ_c.  The correlation of two inputs goes to c*, and what is left of their difference
                 from it shrinks by χ_c* per layer: at 6ξ_c, e⁻⁶ = 0.25 % are left to tell them apart
    rectifiers   1/|ln χ₁|.  Without bias the correlation decides nothing, since its map is the same for
                 every σ_w²; but the second moments of signal and gradient change by the factor
                 χ₁ = σ_w²·(1 + a²)/2 per layer.  At 6ξ they are e^±6 ≈ 400 times what they were: far
                 inside float32, which gives out near 88ξ, but no step of SGD fits all scales

For rectifiers 6 is thus no derived number: the paper's is carried over and put to the test.  The scale
of the gradient, ξ_∇ = 1/|ln χ₁|, is recorded too: it differs from ξ_c in the chaotic phase alone.

    rnn          the same with steps for layers (Chen, Pennington & Schoenholz 2018): the blanks after
                 the symbol are one input again and again, so that U·x is a bias, of variance σ_b²
    residual     nothing tends to a fixed point, so ξ is that of the network: its depth over the e-folds
                 that its branches make (``theory.law.phase.residual_growth``).  Of rectifiers those of
                 stream and gradient, of tanh those of the squared distance of two nearby inputs over
                 the stream, the slope of the correlation map; ξ_∇ is the gradient's of both
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from empirical.frontier.spec import FrontierSpec
from theory.activations import Activation
from theory.law.phase import depth_scales, residual_growth

SCALES = 6  # Schoenholz et al. (2017), Fig. 5
EVEN = 1e-9  # e-folds that are rounding


def scales_of(spec: FrontierSpec, phi: Activation, variance: float, depth: int) -> tuple[float, float]:
    """ξ_∇ and ξ in layers, of networks of ``spec`` with σ_w² = ``variance`` and ``depth``."""
    bias = spec.bias_of(phi)
    if spec.network != "residual":
        return _tending(phi, variance, bias)
    blocks = max(depth - 2, 0)
    scaled = variance / max(blocks, 1) if spec.branch_scale == "depth" else variance
    gradient, distance = residual_growth(phi, scaled, bias, blocks, variance + bias)
    decides = gradient if phi.is_rectifier else distance
    return _layers(depth, gradient), _layers(depth, decides)


def ends(spec: FrontierSpec, phi: Activation, variance: float) -> tuple[float, float]:
    """The depths at which ξ_∇ and ξ say that training ends; inf if beyond a residual map's last."""
    if spec.network != "residual":
        gradient, decides = _tending(phi, variance, spec.bias_of(phi))
        return SCALES * gradient, SCALES * decides
    depths = sorted(spec.depths)
    scales = [scales_of(spec, phi, variance, depth) for depth in depths]
    gradient, decides = (_crossing(depths, xi) for xi in zip(*scales, strict=True))
    return gradient, decides


_tending = lru_cache(maxsize=4096)(depth_scales)  # ξ_∇ and ξ of what tends to a fixed point


def _crossing(depths: Sequence[int], scales: Sequence[float]) -> float:
    """Where the e-folds depth/ξ first exceed ``SCALES``, by straight lines between the depths."""
    before = (0, 0.0)
    for depth, scale in zip(depths, scales, strict=True):
        folds = depth / scale
        if folds > SCALES:
            return depth - (depth - before[0]) * (folds - SCALES) / (folds - before[1])
        before = (depth, folds)
    return math.inf


def _layers(depth: int, folds: float) -> float:
    return depth / abs(folds) if abs(folds) > EVEN else math.inf
