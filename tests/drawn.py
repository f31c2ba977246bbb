"""Single draws of dense stacks, where the package itself only keeps their statistics."""

import numpy as np

from theory.draw.dense import DenseSimulation
from theory.draw.ensemble import groups
from theory.law.finite_width import spread_coefficient


def single_draws(spec):
    """ln of every draw's second moments, (curves, draws, L, batch), in the spec's (first) direction."""
    result = np.empty((len(spec.curves), spec.draws, spec.depth, spec.batch))
    direction = spec.directions[0]
    for group in groups(spec):
        blocks = DenseSimulation(spec, group).blocks()
        log_q = np.concatenate([block.log_q[direction] for block in blocks])
        for curve in group.curves:
            shift = curve.log_shift[direction][:, None]
            result[curve.index] = log_q[:, :, curve.stream] + shift
    return result


def squared_ratio(law):
    """E[q_l²]/E[q_l]² of a ``SignalLaw`` with Gaussian weights, dead networks included, shape (L,)."""
    units = np.array(law.units, dtype=np.float64)
    product = (1 + spread_coefficient(law.negative_slope) / units).cumprod()
    if law.gated_reading:
        return product
    return np.concatenate([[1.0], product[:-1]]) * (1 + 2 / units)
