"""Every exercise of the lessons, by name: ``check_exercise("he-std", your_function)``.

What is right comes from the modules that the rest of the program uses, so no answer is typed in.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from theory.activations import parse_activation
from theory.errors import unknown_name
from theory.exercises.answers import Checked, Exercise, Slip, compared
from theory.exercises.broken import BUGS
from theory.initializers import fans, he_gain
from theory.law import cross_entropy, gains, mean_field, quadrature
from theory.law.batch_norm import effective_learning_rate
from theory.law.finite_width import SignalLaw

Array = NDArray[np.float64]
RELU = parse_activation("relu")
FAINT = 1e-6


def check_exercise(name: str, answer: Any) -> Checked:
    """Whether ``answer`` to the exercise ``name`` is right, and what is off if not.

    Raises ``RequestError`` for an exercise that there is none of.

    >>> check_exercise("he-std", lambda fan_in, slope: (1 / fan_in) ** 0.5)
    not yet: that is LeCun's: the rectifier has not been made up for
    """
    if name not in EXERCISES:
        raise unknown_name("exercise", name, EXERCISES)
    return EXERCISES[name].check(answer)


def relu(x: Array) -> Array:
    """max(0, x): what a student's gain is tried on, beside numpy's own."""
    passed: Array = np.maximum(x, 0)
    return passed


def swish(x: Array) -> Array:
    """x/(1 + e^−x), smooth and not symmetric."""
    passed: Array = x / (1 + np.exp(-x))
    return passed


def softened(x: Array) -> Array:
    """x where it is positive, −0.5 where not."""
    return np.where(x > 0, x, -0.5)


def _spread(width: int, depth: int) -> float:
    return float(SignalLaw((width,) * depth, 0.0).log_variance[-1])


def _growth(fan_in: int, std: float) -> float:
    return RELU.second_moment * fan_in * std**2


def _variance_share(slope: float) -> float:
    phi = parse_activation(f"leaky-relu:{slope}")
    return phi.second_moment * phi.variance_ratio


def _t_interval(differences: list[float]) -> tuple[float, float]:
    found = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    return float(found.low), float(found.high)


def _normal_interval(differences: list[float]) -> tuple[float, float]:
    half = 1.96 * np.std(differences, ddof=1) / math.sqrt(len(differences))
    return float(np.mean(differences) - half), float(np.mean(differences) + half)


EXERCISES: dict[str, Exercise] = {
    "growth": Exercise(
        1, "the factor on the second moment: half of fan_in · std²",
        **compared(_growth, (256, 0.1), (64, 1.0), (100, 0.02)),
        slips=(
            Slip(lambda n, std: n * std**2, "the rectifier lets only half of the second moment pass"),
            Slip(lambda n, std: n * std / 2, "a variance is asked for: the std enters squared"),
        ),
    ),
    "faint-layer": Exercise(
        1, "under Xavier, layer l has 2^−(l−1) of the second moment of layer 1",
        next(layer for layer in range(1, 100) if RELU.second_moment ** (layer - 1) < FAINT),
        slips=(
            Slip(20, "that layer has 2^−19 of it, which is still above one millionth"),
            Slip(40, "the second moment halves per layer; it is the std that shrinks by √2"),
        ),
    ),
    "he-std": Exercise(
        2, "√(2/((1 + a²) · fan_in)): Eq. 15 of He et al.",
        **compared(lambda n, slope: he_gain(slope) / math.sqrt(n), (256, 0.0), (27, 0.25), (64, 1.0)),
        slips=(
            Slip(lambda n, slope: math.sqrt(1 / n),
                 "that is LeCun's: the rectifier has not been made up for"),
            Slip(lambda n, slope: math.sqrt(2 / n), "right for slope 0 only: a slope passes more"),
            Slip(lambda n, slope: 2 / ((1 + slope**2) * n), "that is the variance: take its root"),
        ),
    ),
    "rectified-variance": Exercise(
        2, "the mean of what passes is not zero, and its square is missing from the variance",
        **compared(_variance_share, (0.0,), (0.25,), (0.5,)),
        slips=(
            Slip(lambda a: (1 + a**2) / 2, "that is the second moment: the slip of this lesson"),
            Slip(lambda a: (1 + a**2) / 2 - 1 / (2 * math.pi),
                 "with a slope the mean is (1 − a)/√(2π), and not 1/√(2π)"),
        ),
    ),
    "log-spread": Exercise(
        3, "about 5/width per layer: the spread grows with depth / width",
        **compared(_spread, (512, 30), (1024, 30), (512, 60)), tolerance=0.05,
        slips=(
            Slip(lambda width, depth: depth / width, "each layer adds c/width with c = 5, not 1"),
            Slip(lambda width, depth: 5 / width, "the layers are independent: their variances add up"),
            Slip(lambda width, depth: math.sqrt(5 * depth / width), "that is the std: square it"),
        ),
    ),
    "typical": Exercise(
        3, "the median of a log-normal is e^(−variance/2) of its mean",
        **compared(lambda variance: math.exp(-variance / 2), (0.1,), (0.5,), (2.0,)),
        slips=(
            Slip(lambda variance: 1.0, "a few large networks carry the mean, and not the median"),
            Slip(lambda variance: math.exp(-variance), "half of the variance stands in the exponent"),
        ),
    ),
    "conv-fans": Exercise(
        4, "k² times the channels of one group, on either side",
        **compared(
            lambda c_in, c_out, k, groups: fans((c_out, c_in // groups, k, k), groups=groups),
            (3, 64, 3, 1), (64, 128, 5, 1), (32, 32, 3, 32), (64, 128, 3, 4),
        ),
        slips=(
            Slip(lambda c_in, c_out, k, groups: (k * k * c_in // groups, k * k * c_out),
                 "fan_out has forgotten the groups: torch's own slip"),
            Slip(lambda c_in, c_out, k, groups: (c_in // groups, c_out // groups),
                 "a kernel of k × k connects k² pixels"),
            Slip(lambda c_in, c_out, k, groups: (k * k * c_in, k * k * c_out),
                 "with groups, a unit sees the channels of its own group alone"),
        ),
    ),
    "drift": Exercise(
        4, "the fans telescope: only the first and the last width are left",
        **compared(lambda widths: widths[1] / widths[-1], ([64, 64, 128, 256],), ([10, 500, 20, 30],)),
        slips=(
            Slip(lambda widths: widths[-1] / widths[1], "upside down: a widening net fades"),
            Slip(lambda widths: widths[0] / widths[-1],
                 "from y_1 on: the first layer's weight is not in it"),
        ),
    ),
    "gain": Exercise(
        5, "1/√E[φ(z)²], z ~ N(0, 1)",
        **compared(gains.gain, (np.tanh,), (relu,), (softened,), (swish,)), tolerance=0.01,
        slips=(
            Slip(lambda phi: gains.gain(phi) ** 2, "that is the variance's factor: take its root"),
            Slip(lambda phi: (quadrature.second_moment(phi) - quadrature.moment(phi) ** 2) ** -0.5,
                 "the second moment counts, and not the variance"),
            Slip(lambda phi: gains.backward_gain(phi), "that one keeps the gradient"),
        ),
    ),
    "slope-growth": Exercise(
        5, "(1 + a²) per rectifier, and there is one less than layers",
        **compared(lambda slope, depth: (1 + slope**2) ** (depth - 1), (0.25, 30), (0.1, 12)),
        slips=(
            Slip(lambda slope, depth: (1 + slope**2) ** depth, "layer 1 has no rectifier before it"),
            Slip(lambda slope, depth: (1 + slope) ** (depth - 1), "the slope enters squared"),
        ),
    ),
    "effective-rate": Exercise(
        6, "a step of Adam has the size of the rate; one of SGD shrinks with the gradient, too",
        **compared(effective_learning_rate, (1e-3, 12.0, "adam"), (0.1, 4.0, "sgd"), (0.1, 0.5, "sgd")),
        slips=(
            Slip(lambda rate, k, optimizer: rate / k, "for SGD the gradient is divided by k as well"),
            Slip(lambda rate, k, optimizer: rate, "relative to a weight k times as large, it is less"),
        ),
    ),
    "first-loss": Exercise(
        7, "ln K + (1 − 1/K)·v/2, while the logits' variance v is small",
        **compared(cross_entropy.initial_cross_entropy, (0.0, 10), (0.01, 10), (0.02, 1000)),
        tolerance=1e-4,
        slips=(
            Slip(lambda v, classes: math.log(classes), "that is guessing: a spread costs more"),
            Slip(lambda v, classes: math.log(classes) + v, "half of the variance"),
            Slip(
                lambda v, classes: math.log(classes) + v / 2,
                "so it is for many classes; what all logits of one input share costs nothing: 1 − 1/K",
            ),
            Slip(
                lambda v, classes: math.log2(classes) + (1 - 1 / classes) * v / 2,
                "torch's loss is in nats: ln, not log₂",
            ),
        ),
    ),
    "head-std": Exercise(
        7, "the logits' variance is fan_in · std² · E[x²]",
        **compared(lambda n, moment, v: math.sqrt(v / (n * moment)), (512, 1.0, 0.01), (9, 0.5, 1.0)),
        slips=(
            Slip(lambda n, moment, v: v / (n * moment), "that is the variance: take its root"),
            Slip(lambda n, moment, v: math.sqrt(2 * v / (n * moment)),
                 "no rectifier follows the last layer: no 2"),
        ),
    ),
    "correlation-step": Exercise(
        8, "(√(1 − c²) + c·(π − arccos c))/π",
        **compared(
            lambda c: mean_field.correlation_step(RELU, 0.0, c), (0.0,), (0.5,), (-0.5,), (1.0,)
        ),
        slips=(
            Slip(lambda c: math.sqrt(1 - c**2) / math.pi + c / 2,
                 "the angle between the inputs decides how often both units are active"),
            Slip(lambda c: c, "the rectifier makes every pair of inputs more alike"),
        ),
    ),
    "depth-scale": Exercise(
        8, "1/|ln χ₁| with χ₁ = σ_w²/2",
        **compared(
            lambda variance: mean_field.depth_scale(mean_field.chi_1(RELU, variance)),
            (1.0,), (1.8,), (4.0,),
        ),
        slips=(
            Slip(lambda variance: 1 / abs(math.log(variance)) if variance != 1 else math.inf,
                 "half of the derivatives of a ReLU are zero: χ₁ is σ_w²/2"),
            Slip(lambda variance: 1 / math.log(variance / 2), "a depth is positive on both sides"),
        ),
    ),
    "residual-stream": Exercise(
        9, "every branch adds what it is given without a norm, and always the same behind one",
        **compared(
            lambda blocks, norm: float(1 + blocks) if norm else 2.0**blocks,
            (4, False), (4, True), (24, True),
        ),
        slips=(
            Slip(lambda blocks, norm: 2.0**blocks, "behind a norm a branch keeps its size"),
            Slip(lambda blocks, norm: 1.0 + blocks, "without a norm a branch grows with the stream"),
        ),
    ),
    "branch-factor": Exercise(
        9, "1/√(branches), and a block of a transformer has two",
        **compared(lambda blocks: 1 / math.sqrt(2 * blocks), (1,), (12,), (48,)),
        slips=(
            Slip(lambda blocks: 1 / math.sqrt(blocks), "attention and MLP: two branches per block"),
            Slip(lambda blocks: 1 / (2 * blocks), "powers add up, so the std takes the root"),
        ),
    ),
    "t-interval": Exercise(
        11, "mean ± t·s/√n, with the t of n − 1 degrees of freedom",
        **compared(
            _t_interval, ([1.0, 2.0, 3.0, 2.5, 1.5],), ([0.3, -0.2, 0.1],), ([5.0, 5.5, 4.0, 6.0],)
        ),
        slips=(
            Slip(_normal_interval, "1.96 is for a known spread: five seeds do not know theirs"),
            Slip(
                lambda d: stats.t.interval(0.95, len(d) - 1, np.mean(d), np.std(d, ddof=1)),
                "that is where the next seed may lie: the mean is known better by √n",
            ),
            Slip(
                lambda d: stats.t.interval(0.95, len(d) - 1, np.mean(d), stats.sem(d, ddof=0)),
                "the spread is divided by n − 1: the mean was taken from the same seeds",
            ),
        ),
    ),
    **{
        f"bug-{number}": Exercise(
            10, f"the audit says {bug.code}, too", bug.code,
            slips=tuple(Slip(code, bug.hint) for code in dict.fromkeys(b.code for b in BUGS)
                        if code != bug.code),
        )
        for number, bug in enumerate(BUGS, 1)
    },
}  # fmt: skip
