"""What is said about the report's claims: theory's numbers, and texts that follow the data."""

import ast
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_records import world

from empirical.judgment import claims as claims_module
from empirical.judgment.claim_theory import (
    average_weight_change,
    drawn_average_weight,
    first_loss,
    parameter_tensors,
    rate_ratio,
)
from empirical.judgment.claims import BOUNDS, judge_claims
from empirical.judgment.evidence import Cells, Evidence
from empirical.protocol import TrainSpec
from empirical.training.instruments import average_weight
from empirical.training.networks import build_network

ROOT = Path(__file__).parent.parent.parent.parent


def judged(study, **tables):
    """The claims' table under the protocol as printed, by id."""
    table, _ = judge_claims(Evidence(study, **tables))
    return table[table["fan"] == "fan_out"].set_index("id")


@pytest.fixture
def without_intervals(monkeypatch):
    """Bootstraps take most of the time, and no verdict rests on them."""
    monkeypatch.setattr("empirical.judgment.truth.bca_interval", lambda values, confidence: (0.0, 0.0))


@pytest.mark.parametrize("activation", ["relu", "prelu"])
@pytest.mark.parametrize("depth", [2, 5, 12])
def test_the_average_weight_as_drawn_is_the_networks(activation, depth):
    spec = TrainSpec(initializer="normal", activation=activation, depth=depth)
    tensors = [(tensor.numel(), tensor) for tensor in build_network(spec).parameters()]
    predicted = list(parameter_tensors(spec))
    assert sorted(size for size, _ in tensors) == sorted(size for _, size, _, _ in predicted)
    mean, std = drawn_average_weight(spec)
    seeds = range(12)
    drawn = [
        average_weight(
            build_network(
                TrainSpec(initializer="normal", activation=activation, depth=depth, seed=seed)
            )
        )
        for seed in seeds
    ]
    assert abs(np.mean(drawn) - mean) < 4 * std / math.sqrt(len(drawn))
    assert 0.4 < np.std(drawn, ddof=1) / std < 1.8  # χ²₁₁: outside once in thousands


def test_every_tensor_is_drawn_with_the_mean_and_variance_it_is_said_to_have():
    specs = [TrainSpec(activation="prelu", depth=3, seed=seed) for seed in range(5)]
    drawn = [list(build_network(spec).parameters()) for spec in specs]
    for number, (_, size, mean, variance) in enumerate(parameter_tensors(specs[0])):
        values = np.concatenate([tensors[number].detach().numpy().ravel() for tensors in drawn])
        assert len(values) == size * len(specs)
        if variance == 0:
            assert (values == mean).all()
        else:  # the square of a normal or a uniform varies by at most √2 times its mean
            assert abs((values**2).mean() / variance - 1) < 4 * math.sqrt(2 / len(values))


def test_the_first_loss_is_the_networks():
    """Gaussian images in the place of CIFAR-10: batch norm makes the logits the same."""
    import torch

    spec = TrainSpec(depth=2, fan="fan_in")
    random = torch.Generator().manual_seed(0)
    images = torch.randn(64, 3, 32, 32, generator=random)
    labels = torch.randint(10, (64,), generator=random)
    losses = []
    for seed in range(10):
        network = build_network(TrainSpec(depth=2, fan="fan_in", seed=seed)).train()
        with torch.no_grad():
            losses.append(torch.nn.functional.cross_entropy(network(images), labels).item())
    error = np.std(losses, ddof=1) / math.sqrt(len(losses))
    assert abs(np.mean(losses) - first_loss(spec)) < 4 * error
    assert math.isnan(first_loss(TrainSpec(depth=3)))  # a pool before the head
    assert math.isnan(first_loss(TrainSpec(norm="none")))


def test_the_rate_ratio_is_that_of_the_standard_deviations():
    assert rate_ratio() == pytest.approx(math.sqrt(1.0001 * 288 / 2))


def layers_of(study, changes):
    """Layer records in which each kind of layer moves by a known amount from epoch 0 to 10."""
    kinds = {"conv01": "Conv2d", "norm02": "BatchNorm2d", "act02": "PReLU", "head": "Linear"}
    return pd.DataFrame(
        [
            {"cell": cell, "epoch": epoch, "layer": layer, "kind": kind}
            | {"weight_mean": changes[layer] * epoch / 10, "bias_mean": 0.0}
            for cell in study["cell"].unique()
            for epoch in (0, 5, 10)
            for layer, kind in kinds.items()
        ]
    )


def test_the_change_of_the_average_weight_is_told_apart_by_layer():
    study = world(2, grid=[("he", "relu", 2)])
    layers = layers_of(study, {"conv01": 0.8, "norm02": -1.6, "act02": 0.0, "head": 0.08})
    cells = Cells("he", "relu", 2)
    shares = average_weight_change(Evidence(study, layers=layers), cells)
    assert shares == pytest.approx({"batch norm": -0.2, "convolutions": 0.1, "the last layer": 0.01})
    assert average_weight_change(Evidence(study), cells) is None
    table = judged(study, layers=layers)
    assert "moves by -0.0900 in training: -0.2000 from batch norm" in table.loc["C1", "theory"]


def test_the_texts_change_with_the_data(monkeypatch, without_intervals):
    study = world(1)
    cells = pd.DataFrame({"cell": study["cell"].unique()})
    for loss in (12.5, 13.5):
        table = judged(study, cells=cells.assign(initial_loss=loss, initial_average_weight=loss / 100))
        assert f"measured {loss:.2f}" in table.loc["C3", "theory"]
        assert f"measured {loss / 100:.4f}" in table.loc["C1", "theory"]
    monkeypatch.setitem(BOUNDS, "C3", 71.5)
    changed = judged(study)
    assert "71.5 %" in changed.loc["C3", "claim"] and "71.5 > 0" in changed.loc["C3", "operationalised"]
    assert "12 layers − 71.5: +6.5" in changed.loc["C3", "parts"]
    monkeypatch.setattr(claims_module, "NEARER", 0.25)
    assert "0.25·R" in judged(study).loc["C7", "operationalised"]
    monkeypatch.setattr(claims_module, "published_accuracy", lambda *arm: 123.0)
    assert "printed: 123" in judged(study).loc["C11", "claim"]


ALLOWED = (
    r"C\d+|BatchNorm2d|Conv2d|N\(0, 1\)|he2015|\(Eq\. 15\)|> 0|1/|w_0|scale of 1|scales of 1|cells of 1"
)


@pytest.mark.parametrize("name", ["claims", "claim_theory", "conditions", "arms", "protocol_agreement"])
def test_no_number_is_typed_into_a_text(name):
    tree = ast.parse((ROOT / "empirical" / "judgment" / f"{name}.py").read_text(encoding="utf-8"))
    columns = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]).endswith(("_COLUMNS", "BOUNDS"))
    ]
    skipped = {id(part) for node in columns for part in ast.walk(node)}
    skipped |= {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef))
        and isinstance(node.body[0], ast.Expr)
    }
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped
    ]
    formats = r"[+#,]*\.\d[efg]"
    typed = [
        text
        for text in texts
        if not re.fullmatch(formats, text) and re.search(r"\d", re.sub(ALLOWED, "", text))
    ]
    assert typed == []
