"""What is said about the report's claims: theory's numbers, and texts that follow the data."""

import ast
import math
import re
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_records import cell, world

from empirical.judgment import claim_theory
from empirical.judgment import claims as claims_module
from empirical.judgment.claim_theory import (
    drawn_average_weight,
    expected,
    first_loss,
    foretold_sizes,
    off,
    parameter_tensors,
    rate_ratio,
    score,
)
from empirical.judgment.claims import BOUNDS, claims, judge_claims
from empirical.judgment.evidence import Cells, Evidence
from empirical.judgment.truth import REFUTED, Part, Term, judge
from empirical.protocol import TrainSpec
from empirical.training.families import build_network
from empirical.training.instruments import average_weight

ROOT = Path(__file__).parent.parent.parent.parent


def judged(study, **tables):
    """The claims' table under the protocol as printed, by id."""
    table, _ = judge_claims(Evidence(study, **tables))
    return table[table["fan"] == "fan_out"].set_index("id")


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


def test_an_even_start_is_counted_in_e_folds():
    """He against N(0, 1) at two layers: the first losses and the steps, and nothing else."""
    nothing = Evidence(world(1, grid=[("he", "relu", 2)]))
    he, normal = Cells("he", "relu", 2), Cells("normal", "relu", 2)
    losses = [first_loss(one.spec) for one in (he, normal)]
    gap = math.log(losses[1] / losses[0]) + math.log(rate_ratio())
    assert off(normal, nothing) - off(he, nothing) == pytest.approx(gap)
    like_he = Cells(
        "normal", "relu", 2, (("head_initializer", "he"), ("learning_rate_reference", "he"))
    )
    assert off(like_he, nothing) == pytest.approx(off(he, nothing), abs=1e-3)
    growth = [off(Cells("he", a, 2), nothing) - math.log(first_loss(Cells("he", a, 2).spec))
              for a in ("relu", "prelu")]  # fmt: skip
    from theory.activations import parse_activation
    from theory.law.batch_norm import gradient_growth

    relu, prelu = (gradient_growth(parse_activation(a)) for a in ("relu", "prelu"))
    assert growth[0] - growth[1] == pytest.approx(0.5 * math.log(relu / prelu))
    assert math.isnan(off(Cells("he", "relu", 3), nothing))  # a pool before the head, not recorded


@pytest.mark.parametrize(
    "means, right",
    [
        ({"fell": -3.0, "level": 2.0}, "right"),  # foretold to fall, and it does
        ({"fell": 3.0, "level": -3.0}, "wrong"),  # another part refutes the sentence
    ],
)
def test_theory_has_no_credit_for_a_part_that_it_did_not_mean(monkeypatch, means, right):
    parts = [
        Part(name, (Term(1.0, "accuracy", Cells("he", "relu", depth)),))
        for name, depth in (("fell", 2), ("level", 5))
    ]
    said = dict(zip(parts, (-1.0, 0.0), strict=True))
    monkeypatch.setattr(claim_theory, "expected", lambda part, evidence: said[part])
    random = np.random.default_rng(0)
    rows = [
        row
        for part in parts
        for seed in range(6)
        for row in cell(
            "he", "relu", part.terms[0].cells.depth, seed, means[part.name] + random.normal(0, 0.1)
        )
    ]
    judgment = judge({"one": parts}, evidence := Evidence(pd.DataFrame(rows)))["one"]
    assert judgment.verdict == REFUTED
    found = claim_theory.foretold(judgment, evidence)
    assert (found["theory"], found["theory_part"], found["theory_right"]) == ("false", "fell", right)


def test_without_batch_norm_the_signal_counts():
    plain = {"norm": "none", "fan": "fan_in"}
    study = pd.DataFrame(cell("xavier", "relu", 2, 0, 50.0, **plain))
    ids = study["cell"].unique()
    cells = pd.DataFrame({"cell": ids, "initial_loss_predicted": math.log(10) * math.e})
    layers = pd.DataFrame(
        {"cell": ids[0], "epoch": [0, 0, 10], "layer": ["conv01", "head", "head"]}
        | {"second_moment_predicted": [9.0, math.exp(-4), 7.0]}
    )
    xavier = Cells("xavier", "relu", 2, tuple(sorted(plain.items())))
    assert off(xavier, Evidence(study, cells, layers)) == pytest.approx(1 + 0.5 * 4)
    assert math.isnan(off(xavier, Evidence(study, cells)))


def foretold(name, **tables):
    return judged(world(3), **tables).loc[name]


def test_what_theory_foretells_of_the_weights_is_their_start_and_their_number():
    of = {claim.name: claim for claim in claims()}
    evidence = Evidence(world(3))
    start = [drawn_average_weight(TrainSpec(activation="prelu", depth=d))[0] for d in (2, 5)]
    assert expected(of["C9"].parts[0], evidence) == pytest.approx(start[0] - start[1])
    count = [len(list(parameter_tensors(TrainSpec(depth=d)))) for d in (2, 5)]
    assert expected(of["C2"].parts[0], evidence) == pytest.approx(1 / count[0] - 1 / count[1])
    assert math.isnan(expected(of["C11"].parts[0], evidence))  # a bound
    assert foretold("C9")["theory"] == "false" and foretold("C9")["theory_right"] == "wrong"
    assert foretold("C12")["theory"] == "true" and foretold("C12")["theory_right"] == "right"
    assert foretold("C11")["theory"] == "" and foretold("C11")["theory_right"] == ""
    assert judged(world(1)).loc["C9", "theory_right"] == "wrong so far"


def test_theory_is_scored_over_every_sentence_and_every_recorded_cell():
    table = judged(world(3))
    found = score(table)
    assert found["right"] == (table["theory_right"] == "right").sum() > 0
    assert sum(found.values()) == (table["theory"] != "").sum()
    study = world(1, grid=[("he", "relu", 2)])
    mean, std = drawn_average_weight(TrainSpec())
    for loss, weight, right in ((88.0, mean + std, (1, 1)), (60.0, mean + 3 * std, (0, 0))):
        cells = pd.DataFrame({"cell": study["cell"].unique(), "initial_loss_predicted": 88.1})
        cells = cells.assign(initial_loss=loss, initial_average_weight=weight)
        sizes = foretold_sizes(Evidence(study, cells))
        assert tuple(sizes["right"]) == right and set(sizes["cells"]) == {1}


def test_the_texts_change_with_the_data(monkeypatch):
    study = world(1)
    monkeypatch.setitem(BOUNDS, "C3", 71.5)
    changed = judged(study)
    assert "71.5 %" in changed.loc["C3", "claim"] and "71.5 > 0" in changed.loc["C3", "operationalised"]
    assert "> 71.5 %" in changed.loc["C3", "short"]
    assert "12 layers − 71.5: +6.5" in changed.loc["C3", "parts"]
    monkeypatch.setattr(claims_module, "NEARER", 0.25)
    assert "0.25·R" in judged(study).loc["C7", "operationalised"]
    monkeypatch.setattr(claims_module, "published_accuracy", lambda *arm: 123.0)
    assert "printed: 123" in judged(study).loc["C11", "claim"]


ALLOWED = (
    r"C\d+|BatchNorm2d|Conv2d|N\(0, 1\)|he2015|\(Eq\. 15\)|> 0|1/|w_0|scale of 1|scales of 1|cells of 1"
)


@pytest.mark.parametrize("name", ["claims", "claim_theory", "conditions", "protocol_agreement"])
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


def test_no_number_is_typed_into_the_words_of_the_claims():
    words = tomllib.loads((ROOT / "empirical" / "judgment" / "claims.toml").read_text(encoding="utf-8"))
    texts = [claim[name] for claim in words.values() for name in claims_module.WORDS]
    assert len(words) == len(claims()) and len(texts) == 4 * len(words)
    assert [text for text in texts if re.search(r"\d", re.sub(rf"\{{.*?\}}|{ALLOWED}", "", text))] == []
