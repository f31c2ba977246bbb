"""What runs on a GPU: on a real one where there is one, else by CUDA's rules on the CPU's numbers."""

import copy
import math

import pytest
import torch
from cifar_format import tiny_dataset
from pretended_cuda import pretended_cuda
from trainings import CUDA, assert_alike, cells, group_of, in_doubles, run, tiny_study

from empirical.engines import groups
from empirical.engines.groups import GroupTraining
from empirical.engines.stacked import WAYS
from empirical.protocol import TrainSpec
from empirical.training.loop import CellTraining

pytestmark = pytest.mark.usefixtures("one_thread", "cuda")


@pytest.fixture(params=["pretended", "real"])
def cuda(request, monkeypatch, one_thread):
    if request.param == "real":
        if not torch.cuda.is_available():
            pytest.skip("there is no CUDA device")
        yield None
    else:
        with pretended_cuda(monkeypatch) as mode:
            yield mode


@pytest.fixture
def doubles(monkeypatch):
    return in_doubles(monkeypatch)


def test_a_captured_stack_resumes_on_cuda():
    data = tiny_dataset(70, 20).to(CUDA)
    spec = TrainSpec(filters=8, batch_size=32, epochs=2, depth=3, engine="stacked")
    ends, saved = [], []

    def told(training):
        return groups.Member(
            training,
            lambda report: None,
            lambda state: saved.append(copy.deepcopy(state)),
            lambda state: ends.append(copy.deepcopy(state)),
        )

    groups.train_group([told(CellTraining(spec, data, CUDA))])
    groups.train_group([told(CellTraining(spec, data, CUDA, saved[1]))])
    whole, resumed = ends
    assert resumed.engine == "stacked" and len(resumed.epochs) == 2
    # In float32 on a GPU, where sums are not always taken in one order.
    assert resumed.epochs[1]["train_loss"] == pytest.approx(whole.epochs[1]["train_loss"], rel=0.02)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("activation", ["relu", "prelu"])
def test_a_captured_stack_trains_as_alone_on_cuda(doubles, monkeypatch, way, activation):
    monkeypatch.setattr(groups, "WAYS", {way: WAYS[way]})
    monkeypatch.setattr(groups, "_ways", {})
    data = tiny_dataset(70, 20).to(CUDA)
    specs = cells(filters=8, batch_size=32, depth=4, activation=activation)
    members, alone = ([doubles(cell, data, CUDA) for cell in specs] for _ in range(2))
    group = group_of(members)
    losses = group.train_pass([lambda report: None] * 3)
    assert group.captured is not None and group.stack.way == way
    group.stack.store(group.optimizer, group.optimizers)
    for member, training, loss in zip(members, alone, losses, strict=True):
        assert loss == pytest.approx(training.train_pass(lambda report: None), rel=1e-6)
        assert_alike(member, training, 1e-9)


@pytest.mark.parametrize("way", WAYS)
def test_a_cell_that_diverges_leaves_the_others_alone_on_cuda(monkeypatch, way):
    monkeypatch.setattr(groups, "WAYS", {way: WAYS[way]})
    monkeypatch.setattr(groups, "_ways", {})
    data = tiny_dataset(70, 20).to(CUDA)
    members = [CellTraining(cell, data, CUDA) for cell in cells(filters=8, batch_size=32, depth=4)]
    with torch.no_grad():
        members[1].network.conv02.weight.fill_(math.nan)
    GroupTraining(members).run_epoch([lambda report: None] * 3)
    assert [member.status for member in members] == ["running", "diverged", "running"]


def test_a_stacked_study_runs_on_cuda(tmp_path):
    table, _ = run(tiny_study(tmp_path, device="cuda", filters=8, seeds=(0, 1)))
    assert len(table) == 8 and set(table["status"]) == {"completed"}
