"""The map shows the table, lines pass where theory says, initializers have their columns."""

import math

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from empirical.frontier.spec import FrontierSpec
from empirical.frontier.table import agreement, planned
from figures.beyond.frontier import frontier_caption, frontier_figure, frontier_table

SPEC = FrontierSpec(
    activations=("tanh", "relu"), variances=(0.5, 1.5, 4.0), depths=(32, 2, 8, 128), seeds=(0, 1)
)
NAMES = ["0.5", "1", "1.5", "2", "4", "64"]


@pytest.fixture(scope="module")
def table():
    table = planned(SPEC)
    right = np.where(table["predicted"], 90.0, 10.0) + 2 * table["seed"]
    wrong = (table["activation"] == "relu") & (table["weight_variance"] == 1.5)
    return table.assign(accuracy=np.where(wrong, 30.0, right), loss=1.0)


@pytest.fixture(scope="module")
def panels(table):
    figure = frontier_figure(table, SPEC)
    FigureCanvasAgg(figure).draw()
    return figure.axes[:2]


def test_cells_hold_the_mean_over_seeds_and_trained_ones_are_bold(panels):
    _, relu = panels
    assert [label.get_text() for label in relu.get_xticklabels()] == NAMES
    assert [label.get_text() for label in relu.get_yticklabels()] == ["2", "8", "32", "128"]
    assert relu.get_ylim() == (0, 4)  # deep above
    cells = relu.collections[0].get_array().reshape(4, 6)
    assert cells[1].tolist() == [11, 91, 30, 91, 91, 11]  # 8 layers: 6ξ is 4.3, 8.7, …, 8.7, 1.7
    numbers = [text for text in relu.texts if text.get_position()[1] != 1.02]
    assert [text.get_text() for text in numbers[6:12]] == ["11", "91", "30", "91", "91", "11"]
    assert [text.get_fontweight() for text in numbers[6:9]] == ["normal", "bold", "normal"]


def test_lines_pass_where_theory_says(panels):
    tanh, relu = panels
    line = relu.lines[0]
    at = dict(zip(np.round(line.get_xdata(), 6), line.get_ydata(), strict=True))
    xavier = 0.5 + 1 + math.log(6 / math.log(2) / 8) / math.log(32 / 8)  # between 8 and 32 layers
    assert at[1.5] == pytest.approx(xavier)
    assert at[3.5] > 4 and at[5.5] < 0  # He: no end; N(0, 1): not even two layers
    gradient = relu.lines[1].get_ydata()
    np.testing.assert_array_equal(gradient, line.get_ydata())
    correlation, gradient = (line.get_ydata() for line in tanh.lines)
    assert correlation[0] == gradient[0] and gradient[-1] < correlation[-1]


def test_initializers_stand_above_their_columns(panels):
    for axes in panels:
        marks = [text for text in axes.texts if text.get_position()[1] == 1.02]
        assert {mark.get_text(): mark.get_position()[0] for mark in marks} == {
            "He": 3.5, "Xavier": 1.5, "N(0, 1)": 5.5
        }  # fmt: skip


def test_the_caption_and_the_table_say_what_was_counted(table):
    found = agreement(table)
    caption = frontier_caption(found, SPEC)
    assert "tanh: 100 % of 48 networks" in caption
    relu = found.set_index("activation").loc["relu"]
    assert relu["agree"] == pytest.approx(1 - 2 / 24)  # 2 and 8 layers, of 4 · 6
    assert "ReLU: 92 % of 48 networks" in caption and "0 % train beyond the line, 8 % below" in caption
    markdown = frontier_table(found, [caption]).markdown()
    assert caption[:40] in markdown and "92 %" in markdown


@pytest.mark.parametrize(("network", "reach"), [("plain", "up to 6ξ"), ("residual", "change by $e^6$")])
def test_the_legend_names_what_theory_counts(network, reach):
    spec = FrontierSpec(network=network, activations=("relu",), variances=(0.5, 1.0), depths=(2, 8))
    figure = frontier_figure(planned(spec).assign(accuracy=50.0, loss=1.0), spec)
    shown = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert any(reach in text for text in shown), shown
