import io
import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from figures import tables
from figures.study_tables import accuracy_table
from figures.variance import growth_table, variance_table
from theory.simulate import COLUMNS


def render(renderable, width, *, color=False):
    stream = io.StringIO()
    system = "truecolor" if color else None
    Console(
        file=stream, width=width, force_terminal=color, color_system=system, no_color=not color
    ).print(renderable)
    return stream.getvalue()


@pytest.fixture
def variance_rows():
    """Made-up numbers in the shape of theory.simulate's table: He flat, N(0, 1) off float64's scale."""
    rows = []
    for initializer, start, step, verdict_z in (
        ("he", 0.301, 0.0, 0.4),
        ("normal", 2.7093, 2.4082, -4.6),
    ):
        for layer in range(1, 31):
            mean = start + step * (layer - 1)
            rows.append(
                dict.fromkeys(COLUMNS, math.nan)
                | {"initializer": initializer, "activation": "relu", "negative_slope": 0.0}
                | {"direction": "forward", "engine": "modules", "layer": layer, "law": "exact"}
                | {"log10_measured": mean + 0.01, "log10_theory": mean, "z": verdict_z}
                | {"log10_median_theory": mean - 0.002 * layer}
                | {"log10_band_low": mean - 0.01 * layer, "log10_band_high": mean + 0.01 * layer}
            )
    return pd.DataFrame(rows)


@pytest.mark.parametrize("width", [60, 80, 160])
def test_variance_table(golden, variance_rows, width):
    text = render(variance_table(variance_rows), width)
    assert max(map(len, text.splitlines())) <= width
    golden(f"variance-{width}", text)


def test_every_layer_is_shown_on_request(variance_rows):
    text = render(variance_table(variance_rows, all_layers=True), 80)
    assert sum(" " + str(layer) + " " in text for layer in range(1, 31)) == 30
    assert len(text.splitlines()) > 60


def test_a_table_without_a_band_leaves_its_column_out(variance_rows):
    variance_rows[["log10_band_low", "log10_band_high", "z"]] = math.nan
    text = render(variance_table(variance_rows), 80)
    assert "95 %" not in text and "–" in text


@pytest.fixture
def growth_rows():
    names = ("initializer", "activation", "direction", "theory", "measured", "largest_z")
    names += ("agreement", "verdict")
    values = [
        ("he", "relu", "forward", 0.0, 0.0004, 2.2, "yes", "stable"),
        ("xavier", "relu", "backward", -0.30103, -0.3, 5.2, "no", "vanishing"),
        ("normal", "tanh", "forward", 2.4082, 2.4081, math.nan, "–", "exploding"),
    ]
    return pd.DataFrame([dict(zip(names, row, strict=True)) for row in values])


@pytest.mark.parametrize("color", [False, True])
def test_growth_table(golden, growth_rows, color):
    text = render(growth_table(growth_rows), 80, color=color)
    assert ("\x1b[" in text) == color
    golden(f"growth-80{'-color' if color else ''}", text)


@pytest.fixture
def comparison():
    names = ("initializer", "activation", "depth", "test_accuracy", "published", "difference", "status")
    names += ("seeds", "diverged")
    values = [
        ("he", "relu", 2, 56.1, 55.83, 0.27, "completed", 1, 0),
        ("he", "relu", 12, math.nan, 79.03, math.nan, "diverged", 1, 1),
        ("xavier", "relu", 2, 60.0, None, None, "completed", 1, 0),
    ]
    return pd.DataFrame([dict(zip(names, row, strict=True)) for row in values]).assign(variant="")


def test_accuracy_table(golden, comparison):
    golden("accuracy-80", render(accuracy_table(comparison), 80))


@given(st.floats(-4000, 4000))
def test_scientific_is_right_to_three_digits(log10):
    mantissa, _, exponent = tables.scientific(log10).partition("e")
    back = math.log10(float(mantissa)) + int(exponent or 0)
    assert back == pytest.approx(log10, abs=math.log10(1.006))


@pytest.mark.parametrize(
    "log10, text", [(0.0, "1.00"), (math.log10(999.6), "1.00e+03"), (-0.00001, "1.00"), (math.nan, "–")]
)
def test_scientific_rounds_up_into_the_next_power(log10, text):
    assert tables.scientific(log10) == text
