"""The tests behind the verdicts raise few false alarms, whatever the shape of the seeds."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_records import world

from empirical.judgment import calibration
from empirical.judgment.evidence import Cells, Evidence
from empirical.judgment.statistics import holm
from empirical.records.published import read

DATA = Path(__file__).parents[3] / "figures" / "data"
RUNS = 20_000
MOST = 0.06  # at a nominal 5 %


@pytest.fixture(scope="module")
def recorded():
    records = read(DATA)
    return Evidence(records.study, records.cells, records.layers)


@pytest.fixture(scope="module")
def alarms():
    return calibration.false_alarms((3, 5), RUNS)


def test_false_alarms_are_rare_on_every_shape(alarms):
    """Even on one that the records hardly resemble."""
    slack = 3 * math.sqrt(MOST * (1 - MOST) / RUNS)
    assert len(alarms) == 2 * len(calibration.SHAPES) * len(calibration.DESIGNS)
    assert (alarms["used"] <= MOST + slack).all(), alarms[alarms["used"] > MOST + slack]


def test_each_penalty_is_needed(alarms):
    """Without it, some shape gives more than is allowed; normal seeds give what they should."""
    plain = alarms.groupby("design")["t"].max()
    assert plain["two arms"] < MOST < min(plain["half an arm"], plain["one arm"])
    half = alarms[(alarms["design"] == "one arm") & (alarms["shape"] == "very skewed (2)")]
    assert half["t"].min() > 0.1  # so much that doubling does not do either
    normal = alarms[alarms["shape"] == "normal"]["t"]
    assert np.abs(normal - 0.05).max() < 4 * math.sqrt(0.05 * 0.95 / RUNS)


def test_resampled_records_raise_few_false_alarms_too(recorded):
    found = calibration.resampled(recorded, (3, 5), RUNS)
    assert len(found) == 2 * 3 * len(calibration._samples(recorded, 10)) > 0
    assert found["used"].max() <= MOST


def test_the_records_say_which_shapes_they_resemble(recorded):
    like = calibration.resemblance(recorded, runs=2_000)
    assert like["normal"] > 0.05 and like["very skewed (2)"] < like["skewed (1)"] < like["normal"]
    assert holm(np.asarray(calibration.normality(recorded)["shapiro"])).min() > 0.05
    far = world(10, grid=[("he", "relu", d) for d in (2, 5, 10, 12)])
    last = far["epoch"] == 10
    far.loc[last, "test_accuracy"] = np.tile([*[50.0] * 9, 60.0], 4) + 0.01 * np.arange(40)
    assert calibration.resemblance(Evidence(far), runs=2_000)["normal"] < 0.01


def test_both_tests_say_the_same_of_clear_differences(recorded):
    same, pairs = calibration.agreement(recorded)
    assert same == pairs > 0


def test_looking_often_raises_more_false_alarms():
    """One look is the test's own level; more looks are worse than one, better than as many tests."""
    once, often = (calibration.stopped(0.05, most, RUNS) for most in (3, 10))
    assert once == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / RUNS))
    assert 2 * once < often < 8 * once


def test_more_seeds_decide_more():
    evidence = Evidence(pd.concat([world(3, noise=30.0)]))
    counts = {seeds: np.mean(calibration.decided(evidence, seeds, runs=2)) for seeds in (2, 3, 10)}
    assert counts[2] == 0 < counts[3] <= counts[10] <= 14
    projected = calibration.Projected(evidence, 500, np.random.default_rng(0))
    one = Cells("he", "relu", 2)
    drawn = projected.values("accuracy", one)
    assert drawn.std() == pytest.approx(evidence.spread("accuracy"), rel=0.15)
    assert drawn.mean() == pytest.approx(evidence.mean("accuracy", one), abs=0.5)
    assert projected.values("accuracy", one) is drawn
