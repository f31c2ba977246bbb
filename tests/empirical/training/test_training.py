"""One step, one epoch, one cell: against plain torch, and the instruments by brute force."""

import math

import pytest
import torch
from cifar_format import tiny_dataset
from torch import nn

from empirical.data.catalog import DATASETS
from empirical.data.datasets import augment_with, normalize
from empirical.protocol import TrainSpec
from empirical.records.cell import EPOCH_COLUMNS, LAYER_COLUMNS
from empirical.training.families import build_network
from empirical.training.instruments import average_weight
from empirical.training.loop import CellTraining, epoch_plan, train_cell
from empirical.training.networks import SharedPReLU
from theory.errors import RequestError

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
MEAN, STD = DATASETS["cifar10"].mean, DATASETS["cifar10"].std
TINY = {"filters": 4, "epochs": 2, "batch_size": 32}


def plain(network):
    """The same network of torch's own modules, contiguous, with the same parameters."""
    layers = []
    for module in network:
        if isinstance(module, SharedPReLU):
            twin = nn.PReLU()
        elif isinstance(module, nn.Conv2d):
            twin = nn.Conv2d(module.in_channels, module.out_channels, 3, padding=1)
        elif isinstance(module, nn.BatchNorm2d):
            twin = nn.BatchNorm2d(module.num_features)
        elif isinstance(module, nn.Linear):
            layers.append(nn.Flatten())
            twin = nn.Linear(module.in_features, module.out_features)
        else:
            twin = nn.ReLU() if isinstance(module, nn.ReLU) else nn.MaxPool2d(2)
        if list(module.parameters()):
            twin.load_state_dict({k: v.contiguous() for k, v in module.state_dict().items()})
        layers.append(twin)
    return nn.Sequential(*layers)


@pytest.mark.parametrize("engine", ["eager", "stacked"])
@pytest.mark.parametrize("activation", ["relu", "prelu"])
@pytest.mark.parametrize("depth", [2, 5, 12])
def test_a_step_is_the_plain_step_of_torch(activation, depth, engine):
    spec = TrainSpec(activation=activation, depth=depth, filters=8, batch_size=32, engine=engine)
    training = CellTraining(spec, tiny_dataset(), CPU)
    training.network.double()  # in place: the optimizer keeps its parameters
    reference = plain(training.network).double()
    optimizer = torch.optim.Adam(reference.parameters(), lr=1e-3, fused=False, foreach=False)
    single = training.plain_step
    training.plain_step = lambda images, labels: single(images.double(), labels)
    order, offsets = epoch_plan(spec, 1, 96, CPU)
    training.network.train()
    for begin in (0, 32, 64):
        chosen, part = order[begin : begin + 32], offsets.part(begin, begin + 32)
        loss = training.step(chosen, part)
        images = augment_with(training.dataset.train_images[chosen], *part, MEAN, STD)
        images = images.contiguous().double()
        expected = nn.functional.cross_entropy(reference(images), training.dataset.train_labels[chosen])
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-9, atol=0)
    # A gradient that is zero but for rounding (a bias before batch norm) still moves Adam by a part of
    # the learning rate, in a direction that rounding decides: those biases are left out.
    for (name, one), two in zip(
        training.network.named_parameters(), reference.parameters(), strict=True
    ):
        if not (name.startswith("conv") and name.endswith("bias") and name != "conv01.bias"):
            torch.testing.assert_close(
                one, two, rtol=1e-5, atol=1e-7, msg=lambda text, n=name: n + text
            )


def test_an_epoch_shows_every_image_once_and_keeps_the_last_partial_batch():
    spec = TrainSpec(**TINY)
    order, offsets = epoch_plan(spec, 1, 70, CPU)
    assert sorted(order.tolist()) == list(range(70)) and len(offsets.flips) == 70
    assert not torch.equal(order, epoch_plan(spec, 2, 70, CPU)[0])
    training = CellTraining(spec, tiny_dataset(70), CPU)
    sizes, plain_step = [], training.step
    training.step = lambda chosen, part: (sizes.append(len(chosen)), plain_step(chosen, part))[1]
    training.run_epoch()
    assert sizes == [32, 32, 6]


def test_the_training_loss_is_the_mean_over_images_not_over_batches():
    training = CellTraining(TrainSpec(**TINY), tiny_dataset(40), CPU)
    losses = iter([torch.tensor(1.0), torch.tensor(6.0)])
    training.step = lambda chosen, part: next(losses)
    assert training.train_pass(lambda report: None) == pytest.approx((32 * 1 + 8 * 6) / 40, rel=1e-12)


def test_the_test_is_the_plain_one():
    training = CellTraining(TrainSpec(depth=5, **TINY), tiny_dataset(test=300), CPU)
    training.run_epoch()
    accuracy, loss = training.test()
    training.network.eval()
    with torch.no_grad():
        logits = training.network(normalize(training.dataset.test_images, MEAN, STD))
    labels = training.dataset.test_labels
    assert accuracy == 100 * (logits.argmax(1) == labels).sum().item() / 300
    assert loss == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert training.epochs[-1]["test_accuracy"] == accuracy


def test_the_average_weight_counts_every_tensor_once_whatever_its_size():
    network = build_network(TrainSpec(depth=3, activation="prelu", filters=4))
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            parameter.fill_(float(number**2))
    tensors = list(network.parameters())
    assert len(tensors) == 6 + 4 + 3 + 2  # convolutions, batch norms, slopes, head
    assert average_weight(network) == sum(number**2 for number in range(15)) / 15
    drawn = build_network(TrainSpec(depth=3, activation="prelu", initializer="normal"))
    by_hand = [sum(p.detach().flatten().tolist()) / p.numel() for p in drawn.parameters()]
    assert average_weight(drawn) == pytest.approx(sum(by_hand) / len(by_hand), rel=1e-10)


def test_the_instruments_by_brute_force():
    spec = TrainSpec(depth=4, activation="prelu", initializer="normal", **TINY)
    data = tiny_dataset()
    training = CellTraining(spec, data, CPU)
    with torch.no_grad():
        training.network.get_parameter("norm03.bias")[1] = -100.0  # one dead channel of four
    seen = training.look(0)
    rows = {row["layer"]: row for row in training.layers}
    assert all(tuple(row) == LAYER_COLUMNS for row in training.layers)
    reference = plain(training.network)
    images = normalize(data.train_images, MEAN, STD)
    loss = nn.functional.cross_entropy(reference(images), data.train_labels)
    loss.backward()
    gradients = {
        name: parameter.grad
        for (name, _), parameter in zip(
            training.network.named_parameters(), reference.parameters(), strict=True
        )
    }
    exact = math.sqrt(sum(g.double().square().sum().item() for g in gradients.values()))
    assert seen.gradient_norm == pytest.approx(exact, rel=1e-4)
    assert seen.loss == training.initial["loss"] == pytest.approx(loss.item(), rel=1e-5)
    head = math.sqrt(
        sum(gradients[f"head.{p}"].double().square().sum().item() for p in ("weight", "bias"))
    )
    assert rows["head"]["gradient_norm"] == pytest.approx(head, rel=1e-4)
    weight = training.network.get_parameter("conv02.weight").detach().double()
    assert rows["conv02"]["weight_std"] == pytest.approx(weight.std(correction=0).item(), rel=1e-12)
    assert rows["conv02"]["weight_mean"] == pytest.approx(weight.mean().item(), rel=1e-12)
    assert rows["act02"]["negative_slope"] == 0.25
    assert rows["act03"]["dead_fraction"] == 0.25
    assert rows["act02"]["dead_fraction"] == 0.0


def test_the_instruments_change_nothing():
    spec = TrainSpec(depth=3, **TINY)
    looked, left = (CellTraining(spec, tiny_dataset(), CPU) for _ in range(2))
    looked.look(0)
    assert all(parameter.grad is None for parameter in looked.network.parameters())
    for training in (looked, left):
        training.train_pass(lambda report: None)
    for one, two in zip(
        looked.network.state_dict().values(), left.network.state_dict().values(), strict=True
    ):
        assert torch.equal(one, two)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_a_cell_ends_with_one_row_per_epoch(norm):
    reports = []
    state = train_cell(
        TrainSpec(norm=norm, depth=12, **TINY), tiny_dataset(), CPU, on_step=reports.append
    )
    assert state.status == "completed" and [row["epoch"] for row in state.epochs] == [1, 2]
    assert all(tuple(row) == EPOCH_COLUMNS for row in state.epochs)
    assert {row["epoch"] for row in state.layers} == {0, 1, 2}
    assert reports[-1].images == 96 and reports[-1].epoch == 2


def test_a_network_learns_what_can_be_learned():
    spec = TrainSpec(depth=2, filters=8, epochs=12, batch_size=16, norm="none", fan="fan_in")
    state = train_cell(spec, tiny_dataset(), CPU)
    assert state.epochs[-1]["train_loss"] < 0.8 * math.log(10)
    assert state.epochs[-1]["test_accuracy"] > 25  # guessing gives 10


def test_a_loss_that_is_not_finite_ends_the_cell_as_diverged():
    spec = TrainSpec(norm="none", depth=12, initializer="normal:1000000", **TINY)
    state = train_cell(spec, tiny_dataset(), CPU)
    assert state.status == "diverged" and state.epochs == []
    later = TrainSpec(norm="none", depth=5, learning_rate=1e6, filters=4, epochs=50, batch_size=32)
    assert train_cell(later, tiny_dataset(), CPU).status == "diverged"


@pytest.mark.parametrize("bad", [(10.0, math.nan), (10.0, math.inf), (math.nan, 2.3)])
def test_a_test_that_is_not_finite_ends_the_cell_as_diverged(bad):
    training = CellTraining(TrainSpec(**TINY), tiny_dataset(), CPU)
    training.run_epoch()
    training.test = lambda: bad
    training.run_epoch()
    assert training.status == "diverged" and len(training.epochs) == 1


@pytest.mark.parametrize("broken", ["norm02.running_var", "head.weight"])
def test_a_network_that_is_not_finite_after_its_epoch_has_diverged(broken):
    training = CellTraining(TrainSpec(**TINY), tiny_dataset(), CPU)
    whole = training.train_pass

    def train_pass(on_step):
        loss = whole(on_step)
        training.network.state_dict()[broken].view(-1)[0] = math.nan
        return loss

    training.train_pass = train_pass
    training.run_epoch()
    assert training.status == "diverged" and training.epochs == []


def test_a_resumed_cell_ends_with_the_same_bits():
    spec = TrainSpec(depth=5, activation="prelu", filters=4, epochs=4, batch_size=32)
    states = []

    def keep(state):
        copied = {name: getattr(state, name) for name in state.__dataclass_fields__}
        states.append(torch.load(dump(copied), weights_only=True))

    whole = train_cell(spec, tiny_dataset(), CPU, on_epoch=keep)
    for saved in states[:-1]:
        resumed = train_cell(spec, tiny_dataset(), CPU, resume=type(whole)(**saved))
        assert same_rows(resumed.epochs, whole.epochs) and same_rows(resumed.layers, whole.layers)
        for name, tensor in whole.network.items():
            assert torch.equal(tensor, resumed.network[name]), name


def test_bf16_trains_and_reports_in_fp32():
    state = train_cell(TrainSpec(precision="bf16", activation="prelu", **TINY), tiny_dataset(), CPU)
    full = train_cell(TrainSpec(activation="prelu", **TINY), tiny_dataset(), CPU)
    loss, exact = (found.epochs[0]["train_loss"] for found in (state, full))
    assert loss != exact and loss == pytest.approx(exact, rel=0.05)
    assert all(value.dtype != torch.bfloat16 for value in state.network.values())


def test_a_batch_of_one_is_refused_before_training():
    with pytest.raises(RequestError, match="batch of one"):
        CellTraining(TrainSpec(depth=12, filters=4, batch_size=32), tiny_dataset(97), CPU)


def dump(content):
    import io

    buffer = io.BytesIO()
    torch.save(content, buffer)
    buffer.seek(0)
    return buffer


def same_rows(one, two):
    """Equal to the last bit, but for the wall time; NaN equals NaN."""

    def plain_rows(rows):
        return [{name: repr(value) for name, value in row.items() if name != "seconds"} for row in rows]

    return plain_rows(one) == plain_rows(two)
