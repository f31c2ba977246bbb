"""The checked derivation: true lines pass at their own standard error, the slip fails."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from rich.cells import cell_len
from rich.console import Console
from scipy import stats
from test_cli import assert_light, one_error_line, run

from figures.theory.derivation import derivation_figure, derivation_table
from theory.errors import RequestError
from theory.lessons import derivation as module
from theory.lessons.derivation import COLUMNS, HE, THRESHOLD, derivation, lines, measure
from theory.randomness import generator
from theory.specs import DerivationSpec


def spec(**changes):
    return DerivationSpec(**({"width": 64, "draws": 60, "device": "cpu"} | changes))


@pytest.fixture(scope="module")
def table():
    return derivation(spec(draws=100))


def test_every_line_passes_but_the_slip(table):
    assert table.loc[~table["passes"], "equation"].tolist() == ["the slip"]
    assert table.loc[table["known_slip"], "equation"].tolist() == ["the slip"]
    assert list(table.columns) == list(COLUMNS)
    assert (table["passes"] == (table["z"].abs() <= THRESHOLD)).all()


def test_the_slip_is_a_half_against_0341(table):
    slip = table[table["known_slip"]].iloc[0]
    right = table[table["equation"] == "set right"].iloc[0]
    assert slip["predicted"] == 0.5 and slip["measured"] == right["measured"]
    assert right["predicted"] == pytest.approx(0.5 - 1 / (2 * math.pi), abs=1e-12)
    assert round(right["predicted"], 3) == 0.341


def test_it_goes_through_the_papers_equations_in_both_directions(table):
    equations = table["equation"].tolist()
    for number in (6, 7, 8, 9, 10, 11, 12, 13, 14, 15):
        assert f"Eq. {number}" in equations
    assert table["part"].unique().tolist() == ["forward, ReLU", "backward, ReLU", "slope a = 0.25"]


def test_predictions_are_the_papers(table):
    values = list(zip(table["equation"], table["predicted"], strict=True))

    def predicted(equation):
        return [value for name, value in values if name == equation]

    assert predicted("Eq. 9") == [pytest.approx(2**-9)]
    assert predicted("Eq. 13") == [pytest.approx(2**-9)]
    assert predicted("after 14") == [pytest.approx(0.5), pytest.approx(2)]
    assert predicted("before 15") == [0.53125]
    assert predicted("after 15") == [pytest.approx(1.0625**9)]


def test_z_is_standard_over_seeds():
    """Every prediction is exact: over seeds z has mean 0 and the spread of Student's t."""
    seeds, draws = 16, 20
    z = np.array([derivation(spec(seed=s, draws=draws, depth=3, width=32))["z"] for s in range(seeds)])
    z = np.delete(z, 4, axis=1)  # the slip
    t_variance = (draws - 1) / (draws - 3)
    assert np.abs(z.mean(0)).max() < 4.3 * math.sqrt(t_variance / seeds)
    low, high = stats.chi2.ppf([1e-5, 1 - 1e-5], seeds - 1) / (seeds - 1)
    # skewed averages make z wider than Student's; a wrong standard error makes it twice as wide
    assert np.all((z.var(0, ddof=1) > low) & (z.var(0, ddof=1) < 1.4 * t_variance * high))


def test_the_readings_obey_what_holds_in_every_network():
    """What holds in every network, whatever was drawn."""
    read = measure(spec(width=16, depth=3, draws=10), HE)
    assert read.y.shape == (10, 3) and read.widths == (16,) * 4
    np.testing.assert_allclose(read.dx[:, -1], 1.0)  # the cotangent
    # x² ≤ y² for ReLU, Var ≤ 16/15·E[x²], and the fraction of positives is of 16 units
    assert np.all(read.x <= read.y) and np.all(read.x_variance <= read.x * 16 / 15)
    np.testing.assert_allclose(read.positive * 16, np.round(read.positive * 16))
    assert np.all(read.dy <= read.dx + 1e-12)


def test_the_readings_are_numpys_own_passes(monkeypatch):
    """One network taken apart: products, gates and transposes by hand."""
    kept = []
    read_one = module._read
    monkeypatch.setattr(module, "_read", lambda *args: kept.append(args[0]) or read_one(*args))
    read = measure(spec(width=16, depth=3, draws=10, seed=7), HE)
    stream = generator(7, "derivation", *map(str, vars(HE).values()))
    for draw, stack in enumerate(kept):
        for fan_in, fan_out in pairwise(read.widths):  # the weights come before the signals
            torch.empty(fan_out, fan_in).normal_(generator=stream)
        x, g = (torch.randn(1, 16, dtype=torch.float64, generator=stream).numpy()[0] for _ in range(2))
        x, g = x / np.sqrt(np.mean(x**2)), g / np.sqrt(np.mean(g**2))
        weights = [layer.weight.detach().numpy() for layer in stack[0::2]]
        ys = []
        for weight in weights:
            ys.append(weight @ x)
            x = np.maximum(ys[-1], 0)
        for layer in (2, 1, 0):
            assert read.dx[draw, layer] == pytest.approx(np.mean(g**2), rel=1e-12)
            g = g * (ys[layer] > 0)
            assert read.dy[draw, layer] == pytest.approx(np.mean(g**2), rel=1e-12)
            g = weights[layer].T @ g
        np.testing.assert_allclose(read.y[draw], [np.mean(y**2) for y in ys])
        rectified = [np.maximum(y, 0) for y in ys]
        np.testing.assert_allclose(read.x_variance[draw], [x.var(ddof=1) for x in rectified])
        products = (weights[1] * rectified[0]) ** 2
        assert read.products[draw] == pytest.approx(16 * products.mean(), rel=1e-12)


@pytest.mark.parametrize("activation", ["relu", "linear", "prelu:-0.5", "leaky-relu:2"])
def test_any_slope_passes(activation):
    table = derivation(spec(activation=activation, depth=5))
    assert table.loc[~table["passes"], "equation"].tolist() == ["the slip"]


def test_results_depend_on_the_seed_and_on_nothing_else():
    first = derivation(spec(draws=10, depth=3))
    torch.manual_seed(3)
    assert first.equals(derivation(spec(draws=10, depth=3)))
    assert not first.equals(derivation(spec(draws=10, depth=3, seed=1)))


def test_every_line_says_what_it_assumes():
    for line in lines():
        assert line.claim and line.formula and line.assumption
        assert sum(other.formula == line.formula for other in lines()) <= 2


def rendered(table, width=80):
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(derivation_table(table))
    return capture.get()


def test_table_and_figure(table):
    text = rendered(table)
    assert max(map(cell_len, text.splitlines())) <= 80  # n̂ is two characters in one cell
    assert text.count("✗") == 2 and "Not as it should be" not in text  # the slip, and the note on it
    table = table.copy()
    table.loc[0, "passes"] = False
    assert "Not as it should be: Eq. 6" in rendered(table)
    (axes,) = derivation_figure(table).axes
    assert len(axes.get_yticklabels()) == len(table)


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"depth": 2}, "depth must be"),
        ({"width": 15}, "width must be"),
        ({"draws": 9}, "draws must be"),
        ({"activation": "gelu"}, "for rectifiers"),
        ({"activation": "rellu"}, "did you mean relu"),
        ({"device": "tpu"}, "cuda"),
    ],
)
def test_a_wrong_request_is_refused_on_construction(changes, says):
    with pytest.raises(RequestError, match=says):
        spec(**changes)


def test_the_command_exits_0_although_the_slip_fails(capsys, tmp_path):
    small = ["--width", 32, "--draws", 40, "--depth", 4, "--device", "cpu", "--out", tmp_path]
    assert run("derive", *small, "--negative-slope", 0.5, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["spec"]["negative_slope"] == 0.5 and document["threshold"] == 4
    assert [line["equation"] for line in document["lines"] if line["known_slip"]] == ["the slip"]
    assert document["lines"][4]["passes"] is False
    for name in ("derive.csv", "derive.png", "derive.pdf"):
        assert (tmp_path / name).stat().st_size > 1000


def test_a_wrong_command_is_one_line(capsys):
    assert run("derive", "--activation", "tanh") == 2
    assert "rectifiers" in one_error_line(capsys.readouterr())
    assert run("derive", "--activation", "relu", "--negative-slope", "1") == 2
    assert "not allowed with" in one_error_line(capsys.readouterr())
    assert_light(["derive", "--width", "3"], code=2, says="width must be")
