"""What runs on a GPU: on a real one where there is one, else by CUDA's rules on the CPU's numbers."""

import copy
import math

import pytest
import torch
from cifar_format import tiny_dataset
from pretended_cuda import pretended_cuda
from trainings import CUDA, assert_alike, cells, group_of, in_doubles, run, tiny_study

from empirical.engines import groups
from empirical.engines.choice import build_engine
from empirical.engines.groups import GroupTraining
from empirical.engines.stacked import WAYS
from empirical.protocol import TrainSpec
from empirical.training.loop import CellTraining, train_cell
from empirical.training.networks import build_network
from empirical.training.optimizers import build_optimizer

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


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("activation", ["relu", "prelu"])
def test_graph_is_eager_on_cuda(doubles, activation, optimizer):
    data = tiny_dataset(70, 20).to(CUDA)  # 32, 32 and 6
    shape = {"filters": 8, "batch_size": 32, "depth": 4, "activation": activation}
    graph, eager = (
        doubles(TrainSpec(**shape, optimizer=optimizer, engine=name), data, CUDA)
        for name in ("graph", "eager")
    )
    for _ in range(2):
        losses = [training.train_pass(lambda report: None) for training in (graph, eager)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert_alike(graph, eager, 1e-9)


def test_graph_steps_on_images_on_cuda():
    spec = TrainSpec(filters=8, depth=4, activation="prelu", optimizer="sgd")
    networks = [build_network(spec).double().to(CUDA).train() for _ in range(2)]
    pair = [
        build_engine(name, own, build_optimizer(spec, own, CUDA))
        for name, own in zip(("eager", "graph"), networks, strict=True)
    ]
    source = torch.Generator().manual_seed(0)
    for size in (16, 16, 7, 16):
        images = torch.randn(size, 3, 32, 32, generator=source, dtype=torch.float64).to(CUDA)
        labels = torch.randint(10, (size,), generator=source).to(CUDA)
        losses = [engine.step(images, labels) for engine in pair]
        torch.testing.assert_close(losses[1], losses[0], rtol=1e-9, atol=0)
    for one, two in zip(*(network.state_dict().values() for network in networks), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


def test_a_graph_resumes_on_cuda():
    data = tiny_dataset(70, 20).to(CUDA)
    spec = TrainSpec(filters=8, batch_size=32, epochs=2, depth=3, engine="graph")
    saved = []
    whole = train_cell(spec, data, CUDA, on_epoch=lambda state: saved.append(copy.deepcopy(state)))
    resumed = train_cell(spec, data, CUDA, resume=saved[1])
    assert resumed.engine == "graph" and len(resumed.epochs) == 2
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
    group.stack.store(group.optimizer, group.networks, group.optimizers)
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
