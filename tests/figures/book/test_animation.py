"""The animation has a frame per layer, and what moves in it is the signal."""

import io

import numpy as np
import pytest
from PIL import Image

from figures.book.animation import HELD, signal_animation
from theory.draw.variance import histograms

DEPTH = 6


@pytest.fixture(scope="module")
def table():
    asked = {"depth": DEPTH, "width": 32, "draws": 4, "activations": ("relu",), "device": "cpu"}
    return histograms(initializers=("he", "normal"), most_layers=DEPTH, **asked)


def frames(animation):
    image = Image.open(io.BytesIO(animation.gif))
    for number in range(image.n_frames):
        image.seek(number)
        yield np.asarray(image.convert("RGB"), float), image.info["duration"]


def centre(picture, rgb):
    """Where the pixels of a color lie on average, from 0, left, to 1."""
    near = (np.abs(picture - rgb).sum(2) < 60).sum(0)
    return float(np.average(np.linspace(0, 1, len(near)), weights=near))


def test_a_frame_for_each_layer_and_the_last_is_held(table):
    found = list(frames(signal_animation(table, "relu")))
    assert len(found) == DEPTH
    assert found[-1][1] == (HELD + 1) * found[0][1]


def test_what_keeps_its_size_stays_and_what_explodes_walks(table):
    pictures = [picture for picture, _ in frames(signal_animation(table, "relu"))]
    half = pictures[0].shape[0] // 2
    green, blue = (np.array(rgb) * 0.8 + 255 * 0.2 for rgb in ((0, 158, 115), (0, 114, 178)))
    normal = [centre(picture[half:-60], green) for picture in pictures[1:]]  # layer 1 hides its shadow
    he = [centre(picture[60:half], blue) for picture in pictures[1:]]
    activations = table[table["quantity"] == "activation"]
    decades = activations["log10_high"].max() - activations["log10_low"].min() + 1
    step = 0.9 * np.log10(4) / decades  # 16 = 32/2 per layer on the second moment, its root on |x|
    assert np.all(np.diff(normal) > 0) and abs(normal[-1] - normal[0] - 4 * step) < step
    assert np.ptp(he) < step


def test_a_notebook_shows_it(table):
    assert signal_animation(table, "relu")._repr_html_().startswith("<img alt=")
