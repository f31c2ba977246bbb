"""New initializers, one of a new shape, and a new activation; and all that then works by itself."""

import json
import math
import re
from pathlib import Path

import pytest
from cifar_format import tiny_dataset

import cli
from theory.activations import SMOOTH
from theory.initializers import LAWS, SHAPES, Law, Shape
from theory.law.jacobian import spectral_moments

GUIDE = (Path(__file__).parent.parent.parent / "docs" / "extending.md").read_text(encoding="utf-8")


@pytest.fixture
def extended(monkeypatch):
    """The program with the rows that docs/extending.md shows, read from there."""
    (row,) = re.findall(r'^ +"(lecun-uniform)": (Law\(.*\)),$', GUIDE, re.MULTILINE)
    (entry,) = re.findall(r'^SMOOTH = \{\.\.\., "(mish)": "(Mish)"\}$', GUIDE, re.MULTILINE)
    monkeypatch.setitem(LAWS, row[0], eval(row[1], {"Law": Law}))
    monkeypatch.setitem(SMOOTH, *entry)


def draw_signs(weights, std, generator):
    weights.uniform_(-1, 1, generator=generator).sign_().mul_(std)


@pytest.fixture
def two_point(monkeypatch):
    """An initializer of a new shape: ±√(2/fan), as likely one as the other."""
    monkeypatch.setitem(SHAPES, "signs", Shape(draw_signs, kurtosis=1.0))
    monkeypatch.setitem(LAWS, "he-signs", Law("signs", "he", "fan_in", free_fan=True))


def answer(capsys, *argv):
    assert cli.main([str(part) for part in argv]) == 0
    return json.loads(capsys.readouterr().out)


def test_without_the_rows_they_are_unknown(capsys):
    assert cli.main(["variance", "--init", "lecun-uniform"]) == 2
    assert cli.main(["gains", "--activation", "mish"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_the_simulation_agrees_with_the_new_law(extended, capsys, tmp_path):
    small = ["--depth", 3, "--width", 32, "--draws", 400, "--device", "cpu", "--json"]
    new = ["--init", "he", "lecun-uniform", "--activation", "relu", "mish"]
    curves = answer(capsys, "variance", *small, *new, "--out", tmp_path)["curves"]
    found = {(curve["initializer"], curve["activation"]): curve for curve in curves}
    assert set(found) == {(law, phi) for law in ("he", "lecun-uniform") for phi in ("relu", "mish")}
    last = found["lecun-uniform", "relu"]["layers"][-1]
    assert last["log10_theory"] == pytest.approx(math.log10(1 / 4), abs=1e-9)  # two rectifiers, gain 1
    assert found["lecun-uniform", "relu"]["agreement"] == "yes"
    smooth = found["lecun-uniform", "mish"]["layers"][-1]  # beside its limit of infinite width
    assert smooth["log10_measured"] == pytest.approx(smooth["log10_theory"], abs=0.1)
    assert list(tmp_path.glob("*.png"))


def test_a_new_shape_is_drawn_as_it_says_and_keeps_its_law(two_point, capsys, tmp_path):
    new = ["--init", "he-signs", "--activation", "relu", "--json", "--out", tmp_path]
    small = ["--depth", 3, "--draws", 100, "--device", "cpu"]
    (dense,) = answer(capsys, "variance", *small, "--width", 32, *new)["curves"]
    assert dense["layers"][-1]["log10_theory"] == pytest.approx(math.log10(2), abs=1e-9)
    (conv,) = answer(capsys, "variance", "--stack", "conv", *small, *new)["curves"]
    assert dense["agreement"] == conv["agreement"] == "yes"
    assert answer(capsys, "phase", *new)["initializers"][0]["chi_1"] == pytest.approx(1)


def test_the_kurtosis_of_a_new_shape_reaches_the_jacobian(two_point):
    """One linear layer of signs: WWᵀ has the diagonal n exactly, so E tr (WWᵀ)²/n² is less by 2/n."""
    from theory.activations import parse_activation
    from theory.initializers import parse_initializer

    linear, n, laws = parse_activation("linear"), 16, map(parse_initializer, ("he", "he-signs"))
    he, signs = (spectral_moments((n, n), law, linear).variance for law in laws)
    assert he - signs == pytest.approx(2 / n)


def test_the_gain_of_the_new_activation(extended, capsys, tmp_path):
    rows = answer(capsys, "gains", "--activation", "mish", "--json", "--out", tmp_path)["gains"]
    assert [row["activation"] for row in rows] == ["mish"]
    assert 1 < rows[0]["gain"] < math.inf


def test_a_network_of_both_is_trained(extended, capsys, tmp_path, monkeypatch):
    from empirical.study import grid as study

    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    monkeypatch.setattr(study, "load_dataset", lambda *args, **options: tiny_dataset())
    new = ["--init", "lecun-uniform", "--activation", "mish", "--depths", 2]
    small = ["--filters", 4, "--epochs", 1, "--device", "cpu", "--engine", "eager", "--json"]
    (row,) = answer(capsys, "cifar", *new, *small, "--out", tmp_path)["cells"]
    assert (row["initializer"], row["activation"]) == ("lecun-uniform", "mish")
    assert (tmp_path / "test-accuracy-lecun-uniform-mish.png").exists()
