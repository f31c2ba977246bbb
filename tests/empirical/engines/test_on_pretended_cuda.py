"""The stand-in for a GPU keeps CUDA's rules; and by these rules every engine does what a CPU does."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from cifar_format import tiny_dataset
from pretended_cuda import is_on_cuda, on_cuda, pretended_cuda
from torch import nn
from trainings import CPU, CUDA, TINY, cells, run, tiny_study

from empirical.data.datasets import Offsets
from empirical.engines import groups
from empirical.engines.graphs import Captured
from empirical.engines.groups import GroupTraining
from empirical.protocol import TrainSpec
from empirical.records import folders as records
from empirical.study import grid as study
from empirical.training.loop import REPORT_EVERY, CellTraining
from theory.draw.correlation import correlation
from theory.draw.jacobian import singular_values
from theory.draw.variance import measure, variance
from theory.errors import RequestError
from theory.lessons.derivation import derivation
from theory.predict import prediction as predict
from theory.randomness import generator
from theory.specs import (
    BatchNormSpec,
    ConvSpec,
    CorrelationSpec,
    DerivationSpec,
    JacobianSpec,
    VarianceSpec,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def mode(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pretended_cuda(monkeypatch) as pretending:
        yield pretending


def test_tensors_know_where_they_are(mode):
    there = torch.arange(3, device=CUDA)
    for tensor in (there, there + 1, there[1:], torch.zeros(3).to("cuda"), torch.zeros(3).to(there)):
        assert tensor.device.type == "cuda" and tensor.is_cuda, tensor
    for tensor in (there.cpu(), there.to("cpu"), torch.zeros(3), torch.zeros(3).to(there.cpu())):
        assert tensor.device.type == "cpu" and not tensor.is_cuda, tensor
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    weight = network[0].weight
    assert not on_cuda(network)
    assert on_cuda(network.to(CUDA)) and network[0].weight is weight
    network(torch.zeros(2, 3, 5, 5, device=CUDA)).square().sum().backward()
    assert all(parameter.grad.is_cuda for parameter in network.parameters())
    moved = torch.zeros(3).to(CUDA)
    moved.cpu().add_(1)
    assert moved.sum() == 0


@pytest.mark.parametrize(
    "mixed",
    [
        lambda here, there: here + there,
        lambda here, there: there.add_(here),
        lambda here, there: torch.stack([here, there]),
        lambda here, there: torch.nn.functional.linear(there[None], here[None]),
        lambda here, there: here[there.long()],
    ],
)
def test_devices_do_not_mix(mode, mixed):
    with pytest.raises(RuntimeError, match="cuda and cpu"):
        mixed(torch.ones(3), torch.ones(3, device=CUDA))
    mixed(torch.ones(3), torch.ones(3))


def test_a_single_number_of_the_cpu_may_join(mode):
    assert (torch.ones(3, device=CUDA) * torch.tensor(2.0)).sum() == 6


def test_what_the_host_reads_is_counted(mode):
    value = torch.ones((), device=CUDA)
    for read in (torch.Tensor.item, torch.Tensor.tolist, torch.Tensor.cpu, bool, float, int):
        before = mode.waits
        read(value)
        assert mode.waits == before + 1, read
    torch.ones(()).item()
    value.to(CUDA)
    assert mode.waits == before + 1


def captured(function, *inputs, optimizer=None):
    nothing = optimizer or torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    return Captured(function, inputs, [], nothing)


def test_a_capture_changes_nothing_and_a_replay_runs_its_kernels_alone(mode):
    total, asked = torch.zeros(3, device=CUDA), []

    def step(value):
        asked.append(value)
        total.add_(value)
        return total * len(asked)

    graph = captured(step, torch.ones(3, device=CUDA))
    assert total.tolist() == [3, 3, 3]  # three steps to warm up, whose state was not named
    assert len(asked) == 4
    first = graph(torch.full((3,), 5.0, device=CUDA))
    assert graph(torch.ones(3, device=CUDA)).tolist() == [36, 36, 36]
    assert first.tolist() == [32, 32, 32]  # (3 + 5)·4, whatever came later
    assert len(asked) == 4


def test_numpy_is_reached_by_the_cpu_alone(mode):
    there = torch.ones(3, device=CUDA)
    for convert in (torch.Tensor.numpy, np.asarray):
        with pytest.raises(TypeError, match="copy it to the CPU first"):
            convert(there)
        assert convert(there.cpu()).sum() == 3


@pytest.mark.parametrize(
    "bring",
    [
        lambda there: torch.ones(3).to(CUDA),
        lambda there: there.copy_(torch.ones(3)),
        lambda there: torch.tensor([1.0], device=CUDA),
    ],
)
def test_a_capture_brings_nothing_from_the_host(mode, bring):
    there = torch.zeros(3, device=CUDA)
    bring(there)
    with pytest.raises(RuntimeError, match="from the host cannot be captured"):
        captured(lambda value: bring(value) + 1, there)
    assert captured(lambda value: value + torch.arange(3, device=CUDA).to(value), there)


@pytest.mark.parametrize("read", [torch.Tensor.item, torch.Tensor.cpu, bool])
def test_a_capture_cannot_wait_for_a_value(mode, read):
    times = []

    def step(value):
        times.append(1)
        if len(times) > 3:  # after the warm-up
            read(value)
        return value * 2

    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        captured(step, torch.ones((), device=CUDA))


def test_adam_is_captured_by_our_leave_only(mode):
    weight = torch.zeros(3, device=CUDA).requires_grad_()
    optimizer = torch.optim.Adam([weight], fused=True)

    def step():
        weight.grad = torch.ones(3, device=CUDA)
        optimizer.step()

    step()
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="capturable"), torch.cuda.graph(graph):
        step()
    assert captured(lambda value: (step(), value + 1)[1], weight.detach(), optimizer=optimizer)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("engine", ["eager", "stacked"])
def test_a_cell_is_the_cpus_bit_for_bit(monkeypatch, engine, optimizer, precision):
    """But for a PReLU, whose slope's gradient has a kernel of its own on a CPU."""
    spec = TrainSpec(**TINY, depth=3, optimizer=optimizer, precision=precision, engine=engine)
    data, reports = tiny_dataset(29, 8), []
    expected = CellTraining(spec, data, CPU)
    with pretended_cuda(monkeypatch) as mode:
        training = CellTraining(spec, data.to(CUDA), CUDA)
        assert on_cuda(training.network)
        for own in (expected, training):
            own.look(epoch=0)
            own.train_pass(lambda report: None)
        before = mode.waits
        training.train_pass(reports.append)
        assert mode.waits - before == len(reports) + 1  # and the losses at the end
        expected.train_pass(lambda report: None)
        for own in (expected, training):
            own.end_epoch(1.0, *own.test(), groups.Stopwatch())
        for moments in training.optimizer.state.values():
            assert all(is_on_cuda(value) for value in moments.values())
        assert not any(group.get("capturable") for group in training.optimizer.param_groups)
        assert training.engine == engine
    assert math.isfinite(reports[0].loss)
    assert [dict(row, seconds=0) for row in training.epochs] == [
        dict(row, seconds=0) for row in expected.epochs
    ]
    assert repr(training.layers) == repr(expected.layers)


def test_a_stack_waits_as_seldom_as_a_cell(mode):
    data = tiny_dataset(REPORT_EVERY * 12 + 30, 8).to(CUDA)
    group = GroupTraining([CellTraining(cell, data, CUDA) for cell in cells(activation="prelu")])
    assert on_cuda(group.stack) and group.stack.cells == 3
    before, reports = mode.waits, []
    group.train_pass([reports.append] * 3)
    assert len(reports) == 2 * 3
    assert mode.waits - before == 2 + 1
    before = mode.waits
    group.test()
    assert mode.waits - before == 2  # accuracies and losses of all cells
    assert group.captured is not None
    assert group.captured.fits(torch.zeros(12, 3), *[torch.zeros(12, 3)] * 3)


def test_auto_is_stacked_and_the_study_is_the_cpus(monkeypatch, mode, tmp_path):
    """From the command line's spec to the records; a lone cell is a stack of one."""
    monkeypatch.setattr(groups, "WAYS", {"grouped": groups.WAYS["grouped"]})  # as on a CPU
    monkeypatch.setattr(groups, "_ways", {})
    found, _ = run(tiny_study(tmp_path / "gpu", device="cuda", engine="auto"))
    assert set(found["engine"]) == {"stacked"}
    made_on = records.read_all(tmp_path / "gpu")[0][0].result["environment"]
    assert (made_on["device"], made_on["hardware"]) == ("cuda", "pretended GPU")
    expected, _ = run(tiny_study(tmp_path / "cpu", engine="stacked"))
    columns = [name for name in study.STUDY_COLUMNS if name not in ("engine", "seconds")]
    assert found[columns].equals(expected[columns])
    alone, _ = run(
        tiny_study(tmp_path / "alone", device="cuda", engine="auto", initializers=("normal",))
    )
    assert set(alone["engine"]) == {"stacked"} and len(alone) == 2


def test_the_way_of_convolutions_is_chosen_once(monkeypatch, mode):
    monkeypatch.setattr(groups, "_ways", {})
    data, asked = tiny_dataset(29, 8).to(CUDA), []
    monkeypatch.setattr(
        GroupTraining,
        "seconds_of",
        lambda self, way, choice: asked.append(way) or float(way != "grouped, channels_last"),
    )
    for _ in range(2):
        group = GroupTraining([CellTraining(cell, data, CUDA) for cell in cells()])
        group.train_pass([lambda report: None] * 3)
        assert group.stack.way == "grouped, channels_last"
    assert asked == list(groups.WAYS)


def test_timing_a_way_changes_no_number(mode):
    data = tiny_dataset(29, 8).to(CUDA)
    group = GroupTraining([CellTraining(cell, data, CUDA) for cell in cells(activation="prelu")])
    before = [value.clone() for value in group.state()]
    choice = torch.zeros((12, 3), dtype=torch.int64, device=CUDA)
    offsets = Offsets(choice < 0, choice, choice)
    assert group.seconds_of("grouped", (choice, *offsets)) > 0
    assert all(torch.equal(*pair) for pair in zip(before, group.state(), strict=True))
    moments = [value for own in group.optimizer.state.values() for value in own.values()]
    assert moments and not any(value.any() for value in moments)


def test_a_look_leaves_the_maps_on_the_gpu(mode):
    data = tiny_dataset(29, 8).to(CUDA)
    training = CellTraining(TrainSpec(**TINY | {"filters": 8}, depth=3, engine="eager"), data, CUDA)
    training.look(epoch=0)
    training.look(epoch=1)
    assert mode.largest == 29 * 3 * 32**2  # the images, and no map of 8 channels


def test_a_prediction_leaves_other_gpus_alone(monkeypatch, mode):
    """With two of them torch warns where it would save the state of both; dropout has its stream."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    asked, states, save, put = [], [], torch.cuda.get_rng_state, torch.cuda.set_rng_state
    monkeypatch.setattr(
        torch.cuda, "get_rng_state", lambda device: asked.append(device) or save(device)
    )
    monkeypatch.setattr(
        torch.cuda, "set_rng_state", lambda state, device: states.append(state) or put(state, device)
    )
    before = save(CUDA)
    network = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)).to(CUDA)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = predict.measure(network, torch.ones(6, 4, device=CUDA))
    assert asked == [CUDA] and len(table) == 2
    assert [state.tolist() for state in states] == [
        generator(0, "dropout").get_state().tolist(), before.tolist()
    ]  # fmt: skip


def test_a_cuda_study_without_cuda_is_refused(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(RequestError, match="no cuda device on this machine"):
        run(tiny_study(tmp_path, device="cuda"))


SMALL = {"depth": 3, "draws": 10, "width": 16}


@pytest.mark.parametrize(
    ("tables", "spec"),
    [
        (variance, VarianceSpec(**SMALL, direction="both")),
        (variance, VarianceSpec(**SMALL, engine="law")),
        (measure, ConvSpec(depth=2, draws=2, channels=3, image_size=6)),
        (measure, BatchNormSpec(**SMALL, batch=6)),
        (singular_values, JacobianSpec(**SMALL)),
        (correlation, CorrelationSpec(**SMALL)),
        (derivation, DerivationSpec(**SMALL)),
    ],
)
def test_theory_is_the_cpus(monkeypatch, tables, spec):
    with pretended_cuda(monkeypatch) as mode:
        found = tables(replace(spec, device="cuda"))
        assert mode.waits > 0
    expected = tables(replace(spec, device="cpu"))
    found, expected = (
        [one] if isinstance(one, pd.DataFrame) else [*vars(one).values()] for one in (found, expected)
    )
    assert [table.to_csv() for table in found if table is not None] == [
        table.to_csv() for table in expected if table is not None
    ]
