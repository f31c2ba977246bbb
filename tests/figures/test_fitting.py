"""No table cuts a number: every one of them, with the longest names, in narrow and wide terminals."""

import math

import pandas as pd
import pytest
from rich.cells import cell_len
from rich.console import Console

from empirical.arm import Arm
from figures.fitting import MARK
from figures.study.statistics import cells_table, pairs_table
from figures.study.study_tables import accuracy_table, plan_table, presets_table
from figures.tables import Sheet
from figures.theory.batch_norm import norm_growth_table
from figures.theory.correlation import correlation_table
from figures.theory.derivation import derivation_table
from figures.theory.gains import gains_notes, gains_table
from figures.theory.jacobian import jacobian_table
from figures.theory.paper import paper_table
from figures.theory.phase import critical_table, phase_table
from figures.theory.variance import growth_table, variance_table
from theory.draw.batch_norm import GROWTH_COLUMNS
from theory.draw.correlation import correlation
from theory.draw.jacobian import jacobian
from theory.draw.variance import COLUMNS
from theory.law import phase
from theory.lessons.derivation import derivation
from theory.lessons.paper import paper
from theory.lessons.torch_gains import gains
from theory.specs import CorrelationSpec, DerivationSpec, GainsSpec, JacobianSpec, PhaseSpec

SLOPE, LAW = "leaky-relu:0.123", "xavier-uniform"


def correlation_rows():
    names = {"initializers": ("he", LAW), "activations": (SLOPE, "tanh")}
    return correlation(CorrelationSpec(depth=3, width=16, draws=10, device="cpu", **names))


def jacobian_rows():
    names = {"initializers": ("normal", LAW), "activations": (SLOPE, "relu")}
    return jacobian(JacobianSpec(depth=20, width=4, draws=5, device="cpu", **names))


def variance_rows(log10):
    row = dict.fromkeys(COLUMNS, math.nan) | {"initializer": LAW, "activation": SLOPE, "layer": 1}
    row |= {"direction": "backward", "z": -123.4}
    numbers = ("theory", "median_theory", "measured", "band_low", "band_high")
    return pd.DataFrame([row | {f"log10_{name}": log10 for name in numbers}])


def growth_rows():
    names = {"initializer": LAW, "activation": SLOPE, "direction": "backward"}
    numbers = {"theory": -1234.1, "measured": -1234.2, "largest_z": 1234.5}
    numbers |= {"asymptotic": -1234.1, "border": math.nan}
    return pd.DataFrame([names | numbers | {"law": "exact", "agreement": "no", "verdict": "vanishing"}])


def norm_rows():
    row = dict.fromkeys(GROWTH_COLUMNS, 1.46694) | {"initializer": LAW, "activation": SLOPE}
    return pd.DataFrame([row | {"width": 4096, "batch": 4096, "measured": 1234.5}])


def accuracy_rows():
    arm = Arm(LAW, (("head_initializer", LAW), ("learning_rate_reference", LAW)))
    names = {"initializer": LAW, "activation": SLOPE, "variant": arm.variant, "arm": arm}
    ours = {"test_accuracy": 98.76, "published": 10.0, "difference": 88.76, "seeds": 100, "diverged": 0}
    arms = [names, names | {"variant": "", "arm": Arm(LAW)}]
    return pd.DataFrame([one | ours | {"depth": depth} for one in arms for depth in (2, 5, 10, 12)])


def plan_rows():
    row = {"cell": "leaky-relu0.123-xavier-uniform-d1000-s1234567-0a1b2c3d", "status": "interrupted"}
    numbers = {"epochs_done": 9_999, "epochs": 10_000, "parameters": 999_999_999, "seconds": 1e8}
    return pd.DataFrame([row | numbers | {"megabytes": 12_345.6}])


def cells_rows():
    arm = Arm(LAW, (("head_initializer", LAW), ("learning_rate_reference", LAW)))
    row = {"arm": arm, "activation": SLOPE, "depth": 1000}
    numbers = {"seeds": 100, "diverged": 99, "mean": 98.76, "std": 12.34, "low": 10.0, "high": 98.76}
    return pd.DataFrame([row | numbers])


def pairs_rows():
    arm = cells_rows().iloc[0].to_dict()
    row = {"compared": "arm", "first": arm["arm"], "second": Arm("normal"), "activation": SLOPE}
    row |= {"depth": 1000, "seeds": 100, "paired": True, "diverged_first": 99, "diverged_second": 100}
    row |= {"difference": -98.76, "low": -98.76, "high": -10.0, "effect_size": -1234.5, "family": 99}
    row |= {"p_value": 1e-9, "p_exact": 1e-9, "p_holm": 0.1234, "arm": math.nan, "seeds_needed": 13}
    return pd.DataFrame([row | {"verdict": word} for word in ("first higher", "not enough seeds")])


def presets_rows():
    return [{"preset": "effective-lr", "cells": 100_000, "question": "Why? " * 30}]


def phase_spec():
    return PhaseSpec((SLOPE, "tanh"), ("normal:0.0123", LAW), 500)


TABLES = {
    "correlation": lambda: correlation_table(correlation_rows()),
    "jacobian": lambda: jacobian_table(jacobian_rows()),
    "gains": lambda: gains_table(gains(GainsSpec((SLOPE, "tanh", "selu")))),
    "gains-notes": lambda: gains_notes(gains(GainsSpec((SLOPE, "tanh", "selu")))),
    "derive": lambda: derivation_table(derivation(DerivationSpec(width=16, draws=10, depth=3))),
    "paper": lambda: paper_table(paper()),
    "phase": lambda: phase_table(phase.marks(phase_spec())),
    "critical": lambda: critical_table(phase.critical_line(phase_spec())),
    "batch-norm": lambda: norm_growth_table(norm_rows()),
    "variance-huge": lambda: variance_table(variance_rows(2408.21)),
    "variance-tiny": lambda: variance_table(variance_rows(-2408.21)),
    "variance": lambda: variance_table(variance_rows(0.3)),
    "growth": lambda: growth_table(growth_rows()),
    "accuracy": lambda: accuracy_table(accuracy_rows()),
    "plan": lambda: plan_table(plan_rows()),
    "presets": lambda: presets_table(presets_rows()),
    "statistics-cells": lambda: cells_table(cells_rows()),
    "statistics-pairs": lambda: pairs_table(pairs_rows()),
}
BUILT = {}


def rendered(table, width):
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


@pytest.mark.parametrize("width", [60, 80, 160])
@pytest.mark.parametrize("name", TABLES)
def test_nothing_is_cut_and_nothing_sticks_out(name, width):
    table = BUILT[name] = BUILT.get(name) or TABLES[name]()
    text = rendered(table, width)
    assert "…" not in text.replace("1/…", "")  # the paper's "one over the published number"
    assert max(map(cell_len, text.splitlines())) <= width
    assert isinstance(table, Sheet)
    for column in table.rich().fitted(width).columns:
        if column.no_wrap:
            for line in "\n".join(map(str, column.cells)).replace(MARK, "").splitlines():
                assert line in text


def test_numbers_stay_whole_as_columns_go():
    text = rendered(variance_table(variance_rows(2408.21)), 60)
    assert text.count("1.62e+2408") == 2 and "-123.4" in text
    assert "A wider terminal also shows 95 % of nets and median." in " ".join(text.split())
    text = rendered(growth_table(growth_rows()), 60)
    assert "vanishing" in text and "×7.943e-1235" in text
    assert "also shows" not in rendered(growth_table(growth_rows()), 100)


def test_a_table_is_the_same_after_being_shown_narrow():
    table = growth_table(growth_rows())
    before = rendered(table, 160)
    rendered(table, 60)
    assert rendered(table, 160) == before
