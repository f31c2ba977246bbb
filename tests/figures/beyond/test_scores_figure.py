"""The figure shows every arm with theory's bar, its seeds and their mean; the table its verdict."""

import math

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg

from empirical.judgment.beyond import COLUMNS
from empirical.judgment.evidence import Cells
from figures.beyond.scores import scores_figure
from figures.beyond.verdicts import verdicts_table

CHANGES = (("dataset", "digits"), ("norm", "none"))
ARMS = [Cells("he", "relu", 4, CHANGES), Cells("xavier", "relu", 4, CHANGES),
        Cells("normal", "relu", 4, CHANGES)]  # fmt: skip
ROWS = [
    ("plain", ARMS[0], 0.25, 0, 80.0), ("plain", ARMS[0], 0.25, 1, 90.0),
    ("plain", ARMS[1], 2.5, 0, 40.0), ("plain", ARMS[2], 5.0, -1, math.nan),
]  # fmt: skip


def test_bars_points_and_names_are_those_of_the_arms():
    table = pd.DataFrame(ROWS, columns=["group", "cells", "off", "seed", "score"])
    figure = scores_figure(table)
    FigureCanvasAgg(figure).draw()
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["He", "Xavier", "N(0, 1)"]
    assert sorted({bar.get_width() for bar in left.patches}) == [0.25, 2.5, 5.0]
    points = right.collections[0].get_offsets()
    assert points[:3].tolist() == [[80, 0], [90, 0], [40, 1]]
    assert right.lines[0].get_xdata()[:2].tolist() == [85, 40]
    assert [text.get_text() for text in right.texts] == ["diverged"]


def test_the_table_says_what_theory_foretold_and_how_often_it_was_right():
    row = dict.fromkeys(COLUMNS, "") | {
        "id": "E1", "preset": "plain", "dataset": "digits", "claim": "He above Xavier", "value": 40.0,
        "low": 30.0, "high": 50.0, "seeds": 3, "verdict": "confirmed", "theory": "true", "needed": 3,
        "theory_value": 4.9, "theory_part": "E1", "theory_right": "right", "diverged": 0,
    }  # fmt: skip
    text = verdicts_table(pd.DataFrame([row])).markdown()
    for words in ("He above Xavier", "+40.00", "confirmed", "true (+4.9 e-folds): right", "digits"):
        assert words in text
    assert "right of 1 of 1 decided claims" in text
