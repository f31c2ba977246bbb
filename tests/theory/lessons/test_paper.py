"""The paper's statements: what agrees, what does not, and that nothing is typed in as computed."""

import json
import math

import pytest
from rich.console import Console
from scipy import stats
from test_cli import run

from figures.theory.paper import paper_figure, paper_table, written
from theory.initializers import GAINS
from theory.lessons import paper as module
from theory.lessons.paper import (
    agrees,
    at_printed_digits,
    gradient_ratio,
    paper,
    shared_slopes,
    vgg_gradient,
)


@pytest.fixture(scope="module")
def table():
    return paper()


def test_all_agree_and_the_projects_own_values_are_told_apart(table):
    assert table["agree"].all() and list(table.columns) == list(module.COLUMNS)
    assert (table["is_published"] == (table["source"] != "project")).all()
    assert table["is_published"].sum() > 35 and (~table["is_published"]).sum() > 10
    exact = 1 - 0.75**2 / (math.pi * (1 + 0.25**2))
    assert at_printed_digits("0.83148", exact) == "0.83148"


def test_the_gradient_ratio_comes_from_the_layer_list():
    steps = vgg_gradient()
    assert [step.layer for step in steps] == list(range(10, 1, -1))
    assert [step.filters for step in steps] == [512, 512, 512, 512, 256, 256, 128, 128, 64]
    by_hand = math.prod(math.sqrt(2 / (9 * step.filters)) / 0.01 for step in steps)
    assert gradient_ratio() == pytest.approx(by_hand, rel=1e-12)
    assert gradient_ratio() == pytest.approx(16728.76, abs=0.005)
    assert gradient_ratio() == pytest.approx(5.9 * 4.2**2 * 2.9**2 * 2.1**4, rel=0.03)


def test_thirteen_slopes_for_fourteen_layers():
    assert len(module.FOURTEEN_LAYERS) == 14 and shared_slopes() == 13


@pytest.mark.parametrize(
    "published, computed, good",
    [
        ("0.059", 0.05949, True),
        ("0.059", 0.0596, False),
        ("0.059", 0.0584, False),
        ("1.7e4", 16728.76, True),
        ("1.7e4", 17600.0, False),
        ("4.88e-4", 4.8828e-4, True),
        ("4.88e-4", 4.8928e-4, False),
        ("13", 13, True),
        ("13", 14, False),
        ("ValueError", "ValueError", True),
        ("ValueError", 1.0, False),
        ("1", math.nan, False),
    ],
)
def test_agreement_is_rounding_at_the_printed_digits(published, computed, good):
    assert agrees(published, computed) == good


@pytest.mark.parametrize(
    "break_it, statement",
    [
        (
            ("theory.initializers.GAINS", {**GAINS, "he": lambda slope: 1.0}),
            "std of a 3×3 layer with 64 filters",
        ),
        (("theory.lessons.paper.TRUNCATED_VARIANCE", 0.77), "its variance"),
        (
            ("theory.law.finite_width.spread_coefficient", lambda a: 4.0),
            "c(0): spread 1 + c/n per ReLU layer",
        ),
        (("theory.lessons.paper.KERNEL", 25), "gradient std, conv10 to conv2 at std 0.01: 1/…"),
        (("theory.law.mean_field.chi_1", lambda phi, s: s), "factor per layer, He, ReLU"),
    ],
)
def test_a_broken_formula_shows_as_disagreement(break_it, statement, monkeypatch):
    monkeypatch.setattr(*break_it)
    items = [item for topic in module.TOPICS.values() for item in topic if item.statement == statement]
    assert len(items) == 1
    if statement == "its variance":
        assert not agrees(items[0].published, module.TRUNCATED_VARIANCE)
    assert not agrees(items[0].published, items[0].compute())


def test_truncation_is_scipys(table):
    row = table[table["statement"] == "its variance"].iloc[0]
    assert row["computed"] == pytest.approx(stats.truncnorm.var(-2, 2), abs=1e-12)


def test_the_table_fits_80_columns(table):
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(paper_table(table))
    text = capture.get()
    assert max(map(len, text.splitlines())) <= 80
    published, own = int(table["is_published"].sum()), int((~table["is_published"]).sum())
    words = " ".join(text.split())
    assert f"{published} of {published} agree" in words and f"own values {own} of {own}" in words


def test_a_disagreement_is_counted_on_its_own_side(table):
    wrong = table.copy()
    wrong.loc[wrong["source"] == "project", "agree"] = False
    title, published = paper_table(wrong).title, int(table["is_published"].sum())
    assert f"{published} of {published} agree" in title and "own values 0 of" in title


def test_written_numbers():
    assert written(16728.7636) == "16728.76" and written(1.0) == "1"


def test_the_picture_ends_at_the_ratio():
    (axes,) = paper_figure().axes
    fixed = axes.lines[1].get_ydata()
    assert 10 ** -fixed[-1] == pytest.approx(gradient_ratio())
    assert list(axes.lines[0].get_ydata()) == [0.0] * 10


def test_the_command(capsys, tmp_path):
    assert run("paper", "--json", "--out", tmp_path, "--device", "cpu") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "paper" and len(document["statements"]) > 50
    assert document["statements"][0]["agree"] is True
    assert (tmp_path / "paper.csv").stat().st_size > 1000 and (tmp_path / "paper.pdf").exists()
