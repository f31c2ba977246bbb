"""In float32 engines differ in the last bits, and they grow: what must agree is where training ends."""

import math

import numpy as np
import pytest
import torch
from cifar_format import tiny_dataset

from empirical.protocol import StudySpec
from empirical.study.grid import run_study
from empirical.training.loop import CellTraining

pytestmark = pytest.mark.usefixtures("one_thread")

SEEDS = tuple(range(6))
STUDY = {"initializers": ("he",), "activations": ("prelu",), "depths": (3,), "seeds": SEEDS}
SMALL = {"filters": 8, "epochs": 4, "batch_size": 32, "device": "cpu"}


def finals(out, engine):
    """The final test accuracy of every seed, in percent."""
    spec = StudySpec(**STUDY | SMALL, out=out, engine=engine)
    table = run_study(spec, dataset=tiny_dataset(480, 400))
    assert set(table["engine"]) == {engine}
    return table[table["epoch"] == 4].set_index("seed")["test_accuracy"].loc[list(SEEDS)].to_numpy()


@pytest.fixture(scope="module")
def eager(one_thread, tmp_path_factory):
    return finals(tmp_path_factory.mktemp("eager"), "eager")


def assert_within_seed_noise(found, eager):
    """The means differ by no more than three standard errors of two independent sets of seeds."""
    error = math.sqrt((np.var(found, ddof=1) + np.var(eager, ddof=1)) / len(SEEDS))
    assert 20 < eager.mean() < 99 and error > 0.2  # it learns, and not all there is to learn
    assert abs(found.mean() - eager.mean()) < 3 * error


def test_a_stack_ends_where_eager_does(eager, tmp_path):
    assert_within_seed_noise(finals(tmp_path, "stacked"), eager)


def test_an_engine_that_forgets_gradients_is_found_out(eager, tmp_path, monkeypatch):
    """The bound is narrow enough to tell a step that trains the first convolution alone."""

    def step(self, images, labels):
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(self.network(images), labels)
        loss.backward()
        for name, parameter in self.network.named_parameters():
            if not name.startswith("conv01"):
                parameter.grad = None
        self.optimizer.step()
        return loss.detach()

    monkeypatch.setattr(CellTraining, "plain_step", step)
    with pytest.raises(AssertionError):
        assert_within_seed_noise(finals(tmp_path, "eager"), eager)
