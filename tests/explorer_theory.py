"""What the Python theory says of a setting of the explorer."""

import math

import numpy as np

from theory.law import stacks
from theory.specs import VarianceSpec

BASE = {
    "depth": 30,
    "width": 512,
    "taper": 1,
    "slope": 0,
    "initializer": "he",
    "fan": "fan_in",
    "scale": 2,
    "direction": "forward",
}
LN10 = math.log(10)


def python_theory(setting):
    """``theory.law.stacks`` for a setting, with the widths that the page itself gave it."""
    name, slope = setting["initializer"], setting["slope"]
    # weights of these two have lecun's variance but for a factor, which enters once per layer
    factor = {"custom": setting["scale"], "pytorch": 1 / 3}.get(name, 1.0)
    spec = VarianceSpec(
        layer_widths=tuple(setting["widths"]),
        initializers=({"he-relu": "he", "custom": "lecun", "pytorch": "lecun"}.get(name, name),),
        activations=({0: "relu", 1: "linear"}.get(slope, f"leaky-relu:{slope}"),),
        fan=setting["fan"] if name in ("he", "he-relu", "lecun", "custom") else None,
        gain_slope=0.0 if name == "he-relu" else None,
        direction=setting["direction"],
    )
    forward = setting["direction"] == "forward"
    theory = stacks.theory(spec, *spec.curves[0], setting["direction"])
    depth = setting["depth"]
    passed = np.arange(1, depth + 1) if forward else np.arange(depth - 1, -1, -1)
    shift = passed * math.log(factor)
    return {
        "mean": (theory.log_expected + shift) / LN10,
        "low": (theory.quantiles[:, 0] + shift) / LN10,
        "median": (theory.quantiles[:, 1] + shift) / LN10,
        "high": (theory.quantiles[:, 2] + shift) / LN10,
        "logMean": theory.log_mean + shift,
        "logVariance": theory.log_variance,
        "dead": theory.dead,
    }
