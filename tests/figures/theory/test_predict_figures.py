"""The table and the pictures show what the comparison holds."""

import io

import numpy as np
import pytest
import torch
from rich.console import Console

from empirical.protocol import TrainSpec
from empirical.training.networks import build_network
from figures.theory.predict import map_figure, prediction_figure, prediction_table
from theory.initializers import parse_initializer
from theory.predict.prediction import calibrate, compare, measure, predict
from theory.randomness import generator


@pytest.fixture(scope="module")
def comparison():
    network = build_network(TrainSpec(depth=5))
    x = torch.randn(8, 3, 32, 32, generator=generator(0, "images"))
    prediction = predict(
        network, x, law=parse_initializer("he"), calibration=calibrate(network, x, seed=1)
    )
    return compare(prediction, measure(network, x))


def test_the_table_fits_eighty_columns(comparison):
    console = Console(file=io.StringIO(), width=80)
    console.print(prediction_table(comparison))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    row = next(line for line in lines if "conv03" in line)
    assert f"{comparison['forward_ratio'][2]:.2f}" in row and "batch" in row and "…" not in row


def test_the_picture_shows_what_the_table_holds(comparison):
    figure = prediction_figure({"He": comparison, "again": comparison})
    forward, backward = figure.axes
    for axes, direction in ((forward, "forward"), (backward, "backward")):
        lines = [line for line in axes.lines if line.get_marker() == "None"]
        assert len(lines) == 2
        np.testing.assert_allclose(lines[0].get_ydata(), np.log10(comparison[f"{direction}_predicted"]))
        points = [line for line in axes.lines if line.get_marker() != "None"][:2]
        exact = comparison[f"{direction}_basis"] == "exact"
        np.testing.assert_array_equal(points[0].get_xdata(), comparison["layer"][exact])
        np.testing.assert_allclose(
            points[1].get_ydata(), np.log10(comparison[f"{direction}_measured"][~exact])
        )
    assert len(figure.legends[0].get_texts()) == 4


def test_the_map_picture_shares_one_scale():
    figure = map_figure(np.ones((4, 4)), np.full((4, 4), 2.0), "conv")
    scales = [axes.images[0].get_clim() for axes in figure.axes[:2]]
    assert scales == [(0.0, 2.0), (0.0, 2.0)]
