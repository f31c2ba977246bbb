"""What made the printed numbers, on made-up records whose protocol is known."""

import math

import numpy as np
import pandas as pd
import pytest
from made_up_records import GRID, cell, diverged
from scipy import stats

from empirical.judgment.evidence import Evidence
from empirical.judgment.protocol_agreement import (
    CANDIDATES,
    CELL_COLUMNS,
    COLUMNS,
    PAIR_COLUMNS,
    Spread,
    log_predictive,
    protocol_agreement,
    protocol_cells,
    protocol_pairs,
)
from empirical.protocol import published_accuracy
from figures.study.protocol_agreement import STRONG, most_likely

SPREAD = 1.2


def records(protocol, shift=0.0, *, seeds=3, grid=GRID, seed=0):
    """Cells of a candidate about the printed accuracies, ``shift`` points above them."""
    random = np.random.default_rng(seed)
    return [
        row
        for arm in grid
        for number in range(seeds)
        for row in cell(
            *arm,
            number,
            published_accuracy(*arm) + shift + random.normal(0, SPREAD),
            **CANDIDATES[protocol],
        )
    ]


def evidence_of(*parts):
    return Evidence(pd.DataFrame([row for part in parts for row in part]))


def by_protocol(table):
    return table.set_index(["augment", "fan"])


HE = [one for one in GRID if one[0] == "he"]
PRINTED, NONE, FLIP = ("flip+crop", "fan_out"), ("none", "fan_out"), ("flip", "fan_in")


@pytest.mark.parametrize("true", [PRINTED, NONE, FLIP, ("none", "head fan_in")])
def test_records_of_a_known_protocol_are_attributed_to_it(true):
    rivals = [one for one in (PRINTED, NONE, FLIP) if one != true]
    parts = [records(one, -4.0, seed=number + 1) for number, one in enumerate(rivals)]
    known = [
        row
        for row in records(true)
        if true not in [("none", "head fan_in")] or row["initializer"] == "he"
    ]
    evidence = evidence_of(known, *parts)
    table = by_protocol(protocol_agreement(evidence))
    assert list(protocol_agreement(evidence)) == list(COLUMNS)
    assert table["share"].idxmax() == true and table["share"].sum() == pytest.approx(1)
    assert table.loc[true, "share"] > 0.99
    for rival in rivals:
        assert table.loc[rival, "mean_difference"] == pytest.approx(4, abs=1)
        assert table.loc[rival, "shift_low"] > 0


def test_the_likelihood_is_students_by_hand():
    values = [50.0, 52.0, 54.0]
    rows = [row for seed, value in enumerate(values) for row in cell("he", "relu", 2, seed, value)]
    (found,) = protocol_cells(evidence_of(rows)).to_dict("records")
    scale = 2 * math.sqrt(4 / 3)
    z = (55.83 - 52) / scale
    assert found["log_likelihood"] == pytest.approx(math.log((2 + z**2) ** -1.5 / scale))  # two degrees
    quantile = 4.302653
    assert found["high"] == pytest.approx(52 + quantile * scale, abs=1e-4)
    assert (found["spread"], found["degrees"], found["borrowed"], found["within"]) == (
        2,
        2,
        False,
        True,
    )
    assert log_predictive(50, 48, 1, Spread(1.5, 7)) == pytest.approx(
        stats.t(7, loc=48, scale=1.5 * math.sqrt(2)).logpdf(50)
    )


def test_a_single_seed_borrows_the_spread_of_its_depth_else_of_all():
    three = [row for seed in range(3) for row in cell("he", "relu", 2, seed, 50.0 + 2 * seed)]
    five = [row for seed in range(5) for row in cell("normal", "relu", 5, seed, 40.0 + seed)]
    single = [*cell("he", "prelu", 2, 0, 50.0), *cell("he", "relu", 12, 0, 80.0)]
    table = protocol_cells(evidence_of(three, five, single))
    assert list(table) == list(CELL_COLUMNS)
    rows = table.set_index(["activation", "depth"])
    assert (rows.loc[("prelu", 2), "spread"], rows.loc[("prelu", 2), "degrees"]) == (2, 2)
    assert rows.loc[("relu", 12), "spread"] == pytest.approx(math.sqrt((8 + 10) / 6))
    assert rows.loc[("relu", 12), "degrees"] == 6 and rows.loc[("relu", 12), "borrowed"]


def test_protocols_are_compared_on_the_cells_that_they_share():
    evidence = evidence_of(records(PRINTED, -4), records(NONE, grid=HE[:4], seed=1))
    table = by_protocol(protocol_agreement(evidence))
    cells = protocol_cells(evidence).set_index(["augment", "initializer", "activation", "depth"])
    sums = {
        one[0]: sum(cells.loc[(one[0], *arm), "log_likelihood"] for arm in HE[:4])
        for one in (PRINTED, NONE)
    }
    assert (table.loc[NONE, "cells"], table.loc[PRINTED, "cells"]) == (4, 16)
    assert table.loc[PRINTED, "shared"] == table.loc[NONE, "shared"] == 4
    odds = math.exp(sums["none"] - sums["flip+crop"])
    assert table.loc[NONE, "share"] / table.loc[PRINTED, "share"] == pytest.approx(odds)
    pairs = protocol_pairs(evidence)
    assert list(pairs) == list(PAIR_COLUMNS)
    assert pairs["cells"].tolist() == [4]
    assert pairs["log_ratio"].iloc[0] == pytest.approx(sums["flip+crop"] - sums["none"])
    words = most_likely(protocol_agreement(evidence), pairs)
    assert "no augmentation, fan_out is the most likely one on the 4 cells" in words
    assert "Not recorded yet: flips and crops, head fan_in;" in words


def test_two_protocols_that_are_close_are_not_told_apart():
    """On all the cells that these two have, also where a third has fewer."""
    close = [records(FLIP, -1), records(NONE, -1, seed=1), records(PRINTED, -9, grid=HE[:4], seed=2)]
    evidence = evidence_of(*close)
    pairs = protocol_pairs(evidence)
    (ratio,) = pairs.loc[pairs["cells"] == 16, "log_ratio"]
    assert abs(ratio) < STRONG
    words = most_likely(protocol_agreement(evidence), pairs)
    first = words.partition(" is the most likely")[0].endswith("flips alone, fan_in")
    assert f"and {ratio if first else -ratio:+.1f} on the 16 cells that these two have" in words
    assert "so that the two are not told apart" in words
    clear = evidence_of(records(FLIP), records(NONE, -9, seed=1))
    assert "not told apart" not in most_likely(protocol_agreement(clear), protocol_pairs(clear))


def test_normal_alone_records_no_fan_mode_and_counts_in_each():
    normal = [one for one in GRID if one[0] == "normal"]
    only = evidence_of(records(NONE, grid=normal))
    assert protocol_cells(only).empty and protocol_agreement(only)["cells"].sum() == 0
    both = records(("none", "fan_in"), grid=HE)
    table = by_protocol(protocol_agreement(evidence_of(records(NONE), both)))
    assert table.loc[NONE, "cells"] == table.loc[("none", "fan_in"), "cells"] == 16


def test_without_records_nothing_is_said():
    for evidence in (
        evidence_of([*cell("xavier", "relu", 2, 0, 50.0)]),
        evidence_of(diverged("he", "relu", 2, 0)),
        evidence_of(cell("he", "relu", 2, 0, 50.0)),  # no spread to lay it against
    ):
        table = protocol_agreement(evidence)
        assert len(table) == 12 and table["share"].isna().all() and not table["cells"].any()
        assert most_likely(table, protocol_pairs(evidence)).startswith("Open: no two protocols")


def test_a_protocol_of_one_cell_does_not_silence_the_others():
    evidence = evidence_of(
        records(PRINTED, -4), records(NONE, grid=GRID[:5], seed=1), records(FLIP, grid=GRID[:1], seed=2)
    )
    pairs = protocol_pairs(evidence)
    (ratio,) = pairs.loc[pairs["cells"] == 5, "log_ratio"]
    words = most_likely(protocol_agreement(evidence), pairs)
    assert f"no augmentation, fan_out {-ratio:+.1f} over 5 cells" in words
    assert "over 1 cells" not in words and words.startswith("Open")
