"""One table of every kind, from made-up numbers: the same on every machine."""

import itertools
import math

import pandas as pd

from empirical.arm import Arm
from empirical.judgment.statistics import cell_statistics, pair_statistics
from empirical.protocol import Protocol
from figures.study.statistics import cells_table, pairs_table
from figures.study.study_tables import accuracy_table, plan_table, presets_table
from figures.theory.batch_norm import norm_growth_table
from figures.theory.correlation import correlation_table
from figures.theory.derivation import derivation_table
from figures.theory.gains import gains_notes, gains_table
from figures.theory.jacobian import jacobian_table
from figures.theory.paper import paper_table
from figures.theory.phase import critical_table, phase_table
from figures.theory.variance import growth_table, variance_table
from theory.draw.variance import COLUMNS

NAN = math.nan


def rows(names, *values):
    return pd.DataFrame([dict(zip(names.split(), row, strict=True)) for row in values])


def variance_rows():
    """He flat, N(0, 1) off float64's scale, in the shape of theory.draw.variance's table."""
    found = []
    curves = (("he", 0.301, 0.0, 0.4), ("normal", 2.7093, 2.4082, -4.6))
    for initializer, start, step, z in curves:
        for layer in range(1, 31):
            mean = start + step * (layer - 1)
            found.append(
                dict.fromkeys(COLUMNS, NAN)
                | {"initializer": initializer, "activation": "relu", "negative_slope": 0.0}
                | {"direction": "forward", "engine": "modules", "layer": layer, "law": "exact"}
                | {"log10_measured": mean + 0.01, "log10_theory": mean, "z": z}
                | {"log10_median_theory": mean - 0.002 * layer}
                | {"log10_band_low": mean - 0.01 * layer, "log10_band_high": mean + 0.01 * layer}
            )
    return pd.DataFrame(found)


def growth_rows():
    names = "initializer activation direction law theory asymptotic border measured"
    return rows(
        f"{names} largest_z agreement verdict",
        ("he", "relu", "forward", "exact", 0.0, 0.0, NAN, 0.0004, 2.2, "yes", "stable"),
        ("xavier", "relu", "backward", "exact", -0.30103, -0.30103, NAN, -0.3, 5.2, "no", "vanishing"),
        ("normal", "tanh", "forward", "exact", 2.4082, 2.4082, NAN, 2.4081, NAN, "–", "exploding"),
    )


def correlation_rows():
    names = "initializer activation input_correlation layer theory finite_width measured"
    return rows(
        f"{names} standard_error z z_finite_width",
        ("he", "relu", 0.5, 1, 0.5, 0.49414, 0.4854, 0.0365, -0.4, -0.2),
        ("he", "relu", 0.5, 2, 0.609, 0.60084, 0.6911, 0.0152, 5.4, 5.9),
        ("he", "relu", 0.9, 1, 0.9, 0.89733, 0.8882, 0.0119, -1.0, -0.7),
        ("xavier", "tanh", 0.5, 1, 0.45388, NAN, 0.4458, 0.0023, -4.2, NAN),
    )


def jacobian_rows():
    names = "initializer activation depth width draws mean mean_error mean_z variance variance_error"
    return rows(
        f"{names} variance_theory variance_limit variance_z mean_square_theory",
        ("he", "relu", 10, 200, 30, 1.0123, 0.021, 0.6, 20.12, 0.81, 21.3, 20.0, -1.5, 0.05),
        ("orthogonal", "linear", 10, 200, 30, 1.0, 0.0, 0.0, 1e-16, 0.0, 0.0, 0.0, 0.0, 0.0),
        ("normal", "prelu", 10, 200, 30, 0.0012, 0.001, -998.0, 2.1e7, 1e6, 4.4e8, 1e3, -9.0, 2.5),
    )


def gains_rows():
    names = "activation second_moment gain backward_gain gain_torch growth_torch slope remark"
    return rows(
        names,
        ("relu", 0.5, math.sqrt(2), math.sqrt(2), math.sqrt(2), 1.0, 1.0, ""),
        ("tanh", 0.3943, 1.5925, 1.4674, 5 / 3, 1.0953, 0.5, "torch's 5/3 is +4.7 % off: q = 1 grows."),
        ("gelu", 0.4252, 1.5335, 1.4811, NAN, NAN, 1.2, 'calculate_gain("gelu") raises & stops.'),
    )


def derivation_rows():
    names = "part equation claim formula assumption predicted measured standard_error z passes"
    return rows(
        f"{names} known_slip verdict",
        ("forward, ReLU", "Eq. 7", "E[x²] enters, not Var[x]",
         r"\operatorname{E}[y_l^2]/\operatorname{E}[x^2] = n \cdot \operatorname{Var}[w]",
         "w has mean 0; x need not have", 1.0, 0.9268, 0.046, -1.5, True, False, "holds"),
        ("forward, ReLU", "the slip", "“the rectifier halves the variance”",
         r"\operatorname{Var}[x] = \tfrac12 \cdot \operatorname{Var}[y]",
         "E[x] = 0, which is false", 0.5, 0.3471, 0.026, -4.4, False, True, "fails"),
        ("slope a = 0.25", "Eq. 15", "forward",
         r"\operatorname{Var}[y_L]/\operatorname{Var}[y_1] = (1 + a^2)^{L-1}",
         "½(1 + a²)·n̂·Var[w] = 1", 1.0, 0.8816, 0.088, -1.3, True, False, "too few draws to tell"),
    )  # fmt: skip


def paper_rows():
    return rows(
        "topic statement source published computed agree is_published",
        ("He's rule", "E[max(0, z)²]", "He 2015, Eq. 8", "0.5", 0.5, True, True),
        (
            "He's rule",
            "std of a 3×3 layer with 64 filters",
            "He 2015, §2.2",
            "0.059",
            0.0589255,
            True,
            True,
        ),
        (
            "He's rule",
            "gradient std, conv10 to conv2: 1/…",
            "He 2015, §2.2",
            "1.7e4",
            16728.76,
            True,
            True,
        ),
        (
            "Other laws",
            "Xavier's bound: √6/√400",
            "Glorot & Bengio 2010, Eq. 16",
            "0.2",
            0.1225,
            False,
            True,
        ),
        (
            "Other laws",
            "calculate_gain('prelu') raises",
            "torch.nn.init",
            "yes",
            "ValueError",
            True,
            False,
        ),
    )


def phase_rows():
    return rows(
        "activation initializer sigma_w2 q chi_1 depth_scale correlation phase",
        ("tanh", "he", 2.0, 0.618, 1.106, 9.968, 0.0, "chaotic"),
        ("tanh", "xavier", 1.0, 0.0, 1.0, math.inf, NAN, "critical, q → 0"),
        ("relu", "he", 2.0, NAN, 1.0, math.inf, 1.0, "critical"),
    )


def critical_rows():
    lines = {"tanh": (1.0, 1.424205, 1.760955), "relu": (2.0, NAN, NAN)}
    return rows(
        "activation sigma_b2 sigma_w2",
        *((name, bias, value) for name, line in lines.items()
          for bias, value in zip((0.0, 0.01, 0.05), line, strict=True)),
    )  # fmt: skip


def norm_rows():
    names = (
        "initializer activation width batch infinite_batch theory measured standard_error after_norm"
    )
    return rows(
        names,
        ("he", "relu", 512, 256, 1.466942, 1.4751, 1.4802, 0.0031, 0.99999),
        ("xavier", "relu", 512, 256, 1.466942, 1.4751, 1.4802, 0.0031, 0.99999),
        ("he", "tanh", 512, 256, 1.1, NAN, 1.1104, 0.0021, 0.99998),
    )


def accuracy_rows():
    table = rows(
        "initializer activation depth variant test_accuracy published difference status seeds diverged",
        ("he", "relu", 2, "", 56.1, 55.83, 0.27, "completed", 1, 0),
        ("he", "relu", 12, "", NAN, 79.03, NAN, "diverged", 1, 1),
        ("he", "relu", 2, "head fan_in", 67.51, 55.83, 11.68, "completed", 6, 0),
        ("xavier", "relu", 2, "", 60.0, None, None, "completed", 3, 1),
    )
    head = ("head_fan", "fan_in")
    return table.assign(arm=[Arm("he"), Arm("he"), Arm("he", (head,)), Arm("xavier")])


def plan_rows():
    return rows(
        "cell status epochs_done epochs parameters seconds megabytes",
        ("he-relu-d02-s0-0a1b2c3d", "finished", 10, 10, 338_000, 0.0, 4.1),
        ("he-relu-d12-s0-4e5f6a7b", "new", 0, 10, 103_000, 8000.4, 1.3),
    )


def presets_rows():
    return [
        {"preset": "report", "cells": 16, "question": "The course report as printed: fan_out in all"},
        {"preset": "head", "cells": 24, "question": "How much is the last layer, 32768 against 10?"},
    ]


def study(seeds, *, initializers=("he", "normal"), depths=(2, 12), diverged=(("normal", 12, 1),)):
    """A study's cells: He above N(0, 1) by 15 points, PReLU above ReLU by half a point, noise of ½."""
    cells = []
    grid = itertools.product(initializers, ("relu", "prelu"), depths, range(seeds))
    for place, (initializer, activation, depth, seed) in enumerate(grid):
        accuracy = 55 + 15 * (initializer == "he") + 0.5 * (activation == "prelu") + depth
        gone = (initializer, depth, seed) in diverged
        cells.append(
            {"cell": f"{initializer}-{activation}-{depth}-{seed}", "initializer": initializer}
            | {"activation": activation, "depth": depth, "seed": seed, "variant": "", "epoch": 10}
            | {"status": "diverged" if gone else "completed"}
            | {"test_accuracy": accuracy + 0.5 * math.sin(78.233 * place)}
        )
    return pd.DataFrame(cells)


def _fixed(table, center):
    """Intervals that do not hang on the bootstrap's random numbers, which are scipy's."""
    half = 0.3 * table["low"].notna().astype(float).where(table["low"].notna())
    return table.assign(low=table[center] - half, high=table[center] + half)


SHEETS = {
    "variance": lambda: variance_table(variance_rows()),
    "growth": lambda: growth_table(growth_rows(), note="Under he, fan_in changes the gradient by ½."),
    "correlation": lambda: correlation_table(correlation_rows()),
    "jacobian": lambda: jacobian_table(jacobian_rows()),
    "gains": lambda: gains_table(gains_rows()),
    "gains-torch": lambda: gains_notes(gains_rows()),
    "derive": lambda: derivation_table(derivation_rows()),
    "paper": lambda: paper_table(paper_rows()),
    "phase": lambda: phase_table(phase_rows()),
    "critical": lambda: critical_table(critical_rows()),
    "gradient-growth": lambda: norm_growth_table(norm_rows()),
    "accuracy": lambda: accuracy_table(accuracy_rows(), Protocol(epochs=3, limit_train=500)),
    "plan": lambda: plan_table(plan_rows()),
    "presets": lambda: presets_table(presets_rows()),
    "statistics-cells": lambda: cells_table(_fixed(cell_statistics(study(6)), "mean")),
    "statistics-pairs": lambda: pairs_table(_fixed(pair_statistics(study(9)), "difference")),
    "statistics-few": lambda: pairs_table(_fixed(pair_statistics(study(2)), "difference")),
}
