"""Losses and scores against their definitions; theory's first loss against Gaussian outputs."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, r2_score

from empirical.training.objectives import OBJECTIVES, cross_entropy
from theory.randomness import generator


def test_scores_are_those_of_scikit_learn():
    source = generator(0, "scores")
    outputs, targets = torch.randn(200, 3, generator=source), torch.arange(200) % 3
    found = OBJECTIVES["cross-entropy"].score(outputs, targets)
    assert found == pytest.approx(100 * accuracy_score(targets, outputs.argmax(1)))
    real = torch.randn(200, 1, generator=source) * 3 + 1
    for guess in (real + 0.5, real * 0, torch.full_like(real, float(real.mean()))):
        score = OBJECTIVES["squared"].score(guess, real)
        assert score == pytest.approx(100 * r2_score(real.numpy(), guess.numpy()), abs=1e-4)


def test_every_answer_of_a_sequence_counts_alike():
    source = generator(0, "answers")
    outputs, targets = torch.randn(5, 4, 3, generator=source), torch.arange(20).view(5, 4) % 3
    each = [cross_entropy(outputs[:, step], targets[:, step]) for step in range(4)]
    assert cross_entropy(outputs, targets) == pytest.approx(torch.stack(each).mean())
    right = (outputs.argmax(2) == targets).float().mean()
    assert OBJECTIVES["cross-entropy"].score(outputs, targets) == pytest.approx(100 * float(right))


@pytest.mark.parametrize(("loss", "classes"), [("cross-entropy", 10), ("squared", 1)])
@pytest.mark.parametrize("power", (0.01, 1.0, 9.0))
def test_the_first_loss_and_its_gradient_are_those_of_gaussian_outputs(loss, classes, power):
    """Within four standard errors of the mean over many draws."""
    objective, source, count = OBJECTIVES[loss], generator(1, "first loss"), 40_000
    outputs = torch.randn(count, classes, generator=source, dtype=torch.float64) * power**0.5
    outputs.requires_grad_()
    if loss == "squared":
        targets = torch.randn(count, 1, generator=source, dtype=torch.float64) * 1.5
    else:
        targets = torch.randint(classes, (count,), generator=source)
    each = objective.loss(outputs, targets, reduction="none")
    (gradient,) = torch.autograd.grad(each.sum(), outputs)
    for found, told in (
        (each.detach().flatten(), objective.first_loss(power, targets, classes)),
        (gradient.square().mean(1), objective.cotangent(power, targets, classes)),
    ):
        error = float(found.std()) / np.sqrt(count)
        assert abs(float(found.mean()) - told) < 4 * error + 2e-3 * told
