"""Student's t as a normal score: the same tail, whatever the draws, and finite far out."""

import math

import numpy as np
import pytest
from rich.console import Console
from scipy import special, stats
from test_cli import one_error_line, run

from figures.theory.derivation import derivation_table
from theory.draw.correlation import correlation
from theory.draw.jacobian import jacobian
from theory.draw.scores import UNDECIDED, _log_tail, agreement, normal_score, skewed_score
from theory.lessons.derivation import derivation
from theory.specs import CorrelationSpec, DerivationSpec, JacobianSpec


@pytest.mark.parametrize("degrees", [1, 2, 9, 99])
def test_the_tails_are_equal(degrees):
    t = np.array([-8.0, -0.3, 0.0, 1.0, 12.0])
    z = normal_score(t, degrees)
    np.testing.assert_allclose(stats.norm.sf(np.abs(z)), stats.t.sf(np.abs(t), degrees), rtol=1e-10)
    assert np.array_equal(np.sign(z), np.sign(t))


def test_many_draws_make_it_normal():
    assert normal_score(4.0, 1e9) == pytest.approx(4.0, abs=1e-6)


def test_far_tails_are_continued_smoothly_and_stay_finite():
    for degrees in (150, 999, 9_999, 99_999):
        t = np.geomspace(20, 1e6, 2000)
        z = normal_score(t, degrees)
        assert np.isfinite(z).all() and np.all(np.diff(z) > 0)
        tail = special.stdtr(degrees, -t)
        both = (tail < 1e-250) & (tail > 1e-300)  # either way of computing it is good there
        np.testing.assert_allclose(
            _log_tail(t[both], np.float64(degrees)), np.log(tail[both]), rtol=1e-9
        )


@pytest.mark.parametrize("skewness", [-1.2, -0.3, 0.5])
def test_a_skewed_law_has_its_own_tail(skewness):
    law = stats.pearson3(skewness)
    for far in (2.5, 4.0, 9.0):
        z = math.copysign(far, skewness)
        tail = law.sf(z) if skewness > 0 else law.cdf(z)
        assert stats.norm.sf(abs(skewed_score(z, skewness))) == pytest.approx(tail, rel=1e-8)
        assert skewed_score(-z, skewness) == -z  # the shorter tail
    z = skewed_score(np.sign(skewness) * np.geomspace(1.0, 1e6, 500), skewness)
    assert np.isfinite(z).all() and np.all(np.diff(np.abs(z)) >= 0)


def test_agreement_says_when_it_cannot_tell():
    assert [agreement(1.0, 6, degrees) for degrees in (1, 2, 9, np.inf)] == [
        UNDECIDED, UNDECIDED, "yes", "yes",
    ]  # fmt: skip
    assert agreement(4.5, 6, 1) == "no" and agreement(np.nan, 6, 9) == "–"


def test_without_a_degree_of_freedom_there_is_none():
    assert np.isnan(normal_score(3.0, 0)) and np.isnan(normal_score(np.nan, 3))


def test_few_networks_do_not_look_like_a_refutation():
    """Over seeds, five networks exceed z = 4 no more often than a normal score may."""
    z = []
    for seed in range(12):
        spec = JacobianSpec(depth=2, width=12, draws=5, seed=seed, device="cpu")
        z += jacobian(spec)[["variance_z", "mean_square_z"]].to_numpy().ravel().tolist()
        pairs = CorrelationSpec(depth=3, width=32, draws=10, seed=seed, device="cpu")
        z += correlation(pairs)["z_finite_width"].tolist()
    assert np.max(np.abs(z)) < 5


def test_the_slip_on_few_networks_is_undecided_and_on_many_refuted():
    few = derivation(DerivationSpec(width=16, draws=10, depth=3, device="cpu"))
    many = derivation(DerivationSpec(width=64, draws=80, depth=3, device="cpu"))
    for table, verdicts in ((few, [UNDECIDED] * 2), (many, ["fails", "holds"])):
        named = table.set_index("equation")["verdict"]
        assert [named["the slip"], named["set right"]] == verdicts
        assert (named.drop(["the slip", "set right"]) == "holds").all()
    console = Console(width=80, color_system=None)
    for table, asks in ((few, True), (many, False)):
        with console.capture() as capture:
            console.print(derivation_table(table))
        text = " ".join(capture.get().split())
        assert ("too few draws to tell" in text) == asks == ("-1.0 ?" in text)
        assert "Not as it should be" not in text


@pytest.mark.parametrize("command", ["gains", "phase"])
def test_a_missing_device_is_said_before_the_work(command, capsys, tmp_path, monkeypatch):
    def work(*_):
        raise AssertionError("worked first")

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for name in (
        "lessons.torch_gains.gains",
        "law.phase.marks",
        "law.phase.contours",
        "law.phase.critical_line",
    ):
        monkeypatch.setattr(f"theory.{name}", work)
    assert run(command, "--device", "cuda", "--out", tmp_path) == 2
    assert "no cuda device" in one_error_line(capsys.readouterr())
