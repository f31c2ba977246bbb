"""What the instruments read beside what they predict, and the learning rates that make laws equal."""

import math

import pytest
import torch
from cifar_format import tiny_dataset
from threadpoolctl import threadpool_limits
from torch import nn

from empirical.data.catalog import DATASETS
from empirical.data.datasets import normalize
from empirical.protocol import TrainSpec
from empirical.records.cell import LAYER_COLUMNS
from empirical.training.families import build_network
from empirical.training.instruments import Instruments, second_moment, weight_law
from empirical.training.loop import CellTraining
from empirical.training.networks import scale_free_layers, scale_free_parameters
from empirical.training.optimizers import build_optimizer
from theory.errors import RequestError
from theory.law.cross_entropy import initial_cross_entropy
from theory.randomness import generator

CPU = torch.device("cpu")
TINY = {"filters": 4, "epochs": 1, "batch_size": 16}


def looked_at(**options):
    training = CellTraining(TrainSpec(**TINY | options), tiny_dataset(), CPU)
    return training, training.look(0), {row["layer"]: row for row in training.layers}


def test_second_moments_by_brute_force():
    training, _, rows = looked_at(depth=3, initializer="he")
    data, network = training.dataset, training.network
    row, labels = DATASETS["cifar10"], data.train_labels[:256]
    images = normalize(data.train_images[:256], row.mean, row.std)
    outputs = {}
    values = images
    for name, module in network.named_children():
        values = module(values.clone())  # a copy: rectifiers work in place
        values.retain_grad()
        outputs[name] = values
    nn.functional.cross_entropy(values, labels, reduction="sum").backward()
    for name in ("conv01", "conv02", "conv03", "head"):
        output = outputs[name]
        exact = output.detach().double().square().mean().item()
        assert rows[name]["second_moment"] == pytest.approx(exact, rel=1e-5)
        exact = output.grad.double().square().mean().item()
        assert rows[name]["gradient_second_moment"] == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("size", [1e-25, 1.0, 1e25])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_second_moment_at_every_size_and_layout(size, layout):
    values = torch.randn(5, 3, 7, 7, generator=generator(0, "values")) * size
    values = values.to(memory_format=layout)
    assert second_moment(values).item() == pytest.approx(
        values.double().square().mean().item(), rel=1e-5
    )
    assert second_moment(torch.zeros(2, 3)) == 0


def test_predictions_follow_the_mean_over_seeds():
    """The exact rows (first two convolutions) against many draws, by their standard error."""
    measured = []
    for seed in range(80):
        _, _, rows = looked_at(depth=2, seed=seed, filters=8)
        measured.append([rows[name]["second_moment"] for name in ("conv01", "conv02")])
    drawn = torch.tensor(measured, dtype=torch.float64)
    predicted = [rows[name]["second_moment_predicted"] for name in ("conv01", "conv02")]
    error = drawn.std(0) / math.sqrt(len(drawn))
    assert torch.all((drawn.mean(0) - torch.tensor(predicted)).abs() < 4 * error)
    assert torch.all(error < 0.1 * drawn.mean(0))  # else the line above says nothing


def test_the_initial_loss_is_predicted_from_the_predicted_logits():
    training, seen, rows = looked_at(depth=2)
    power = rows["head"]["second_moment_predicted"]
    assert seen.loss_predicted == training.initial["loss_predicted"]
    assert seen.loss_predicted == pytest.approx(initial_cross_entropy(power, 10), rel=1e-12)
    assert seen.loss_predicted > 10  # fan_out at the last layer: enormous logits
    _, small, _ = looked_at(depth=2, head_fan="fan_in")
    assert small.loss_predicted < 3.5


def test_relative_change_and_effective_learning_rate():
    training, _, rows = looked_at(depth=2)
    weight = training.network.get_parameter("conv02.weight")
    rms = weight.detach().double().square().mean().sqrt().item()
    assert rows["conv02"]["relative_change"] == 0
    assert rows["conv02"]["effective_learning_rate"] == pytest.approx(1e-3 / rms, rel=1e-12)
    with torch.no_grad():
        weight.mul_(1.5)
    training.layers.clear()
    training.look(1)
    rows = {row["layer"]: row for row in training.layers}
    assert rows["conv02"]["relative_change"] == pytest.approx(0.5, rel=1e-6)
    assert rows["conv02"]["effective_learning_rate"] == pytest.approx(1e-3 / rms / 1.5, rel=1e-6)
    assert math.isnan(rows["norm02"]["relative_change"])
    assert tuple(rows["norm02"]) == LAYER_COLUMNS


def test_under_sgd_the_effective_rate_has_the_square():
    training, _, rows = looked_at(depth=2, optimizer="sgd", learning_rate=0.1)
    weight = training.network.get_parameter("conv01.weight").detach().double()
    exact = 0.1 / weight.square().mean().item()
    assert rows["conv01"]["effective_learning_rate"] == pytest.approx(exact, rel=1e-12)


def test_a_network_that_overflows_is_described_and_not_refused():
    training, seen, rows = looked_at(depth=40, initializer="normal", norm="none", filters=32)
    assert training.initial["loss"] is None or training.initial["loss"] > 1e15
    assert rows["conv40"]["second_moment_predicted"] > 1e30
    assert math.isfinite(seen.loss_predicted)


def test_what_is_recorded_does_not_tell_how_many_threads_the_process_began_with():
    """BLAS splits its sums over its threads; a cell begun on one machine ends on another."""
    options = {"depth": 5, "initializer": "he", "activation": "prelu", "filters": 8}
    training = CellTraining(TrainSpec(**TINY | options), tiny_dataset(160), CPU)
    seen = []
    for threads in (1, 2, 4):
        with threadpool_limits(threads, user_api="blas"):
            seen.append(repr(training.instruments.look(training.network, 0).rows))
    assert seen[0] == seen[1] == seen[2]


# learning rates that refer to another law


def test_scale_free_layers_are_all_but_the_head():
    spec = TrainSpec(depth=3, initializer="normal", learning_rate_reference="he")
    scales = scale_free_layers(spec)
    assert set(scales) == {"conv01", "conv02", "conv03"}
    he = math.sqrt(2 / (1 + 0.01**2) / 288)
    assert all(scale == pytest.approx(1 / he, rel=1e-12) for scale in scales.values())
    assert set(scale_free_parameters(spec)) == {*(f"{name}.weight" for name in scales), "conv01.bias"}
    assert set(scale_free_layers(TrainSpec(depth=3, activation="tanh"))) == {"conv02", "conv03"}
    assert not scale_free_layers(TrainSpec(depth=3, norm="none"))
    with pytest.raises(RequestError, match="needs batch norm"):
        TrainSpec(norm="none", learning_rate_reference="he")


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("activation", ["relu", "prelu"])
def test_scaled_rates_make_normal_and_he_the_same_to_the_last_digits(optimizer, activation):
    """Batch norm's and Adam's ε made tiny, float64: the losses agree step by step."""

    def losses(**options):
        spec = TrainSpec(depth=4, activation=activation, optimizer=optimizer, **TINY | options)
        network = build_network(spec).double()
        he = TrainSpec(depth=4, activation=activation, **TINY)
        reference = dict(build_network(he).named_parameters())
        for name, scale in scale_free_parameters(spec).items():
            if scale != 1:  # without the rounding of the draw to float32
                exact = reference[name].detach().double() * scale
                torch.testing.assert_close(network.get_parameter(name).data, exact, rtol=1e-6, atol=0)
                network.get_parameter(name).data = exact
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 1e-30
        adam = build_optimizer(spec, network, CPU)
        for group in adam.param_groups:
            if optimizer == "adam":
                group["eps"] = 1e-30
        noise = generator(0, "images")
        found = []
        for _ in range(6):
            images = torch.randn(16, 3, 32, 32, generator=noise, dtype=torch.float64)
            labels = torch.randint(10, (16,), generator=noise)
            loss = nn.functional.cross_entropy(network(images), labels)
            adam.zero_grad()
            loss.backward()
            for name, parameter in network.named_parameters():
                if name.endswith("bias") and name.startswith("conv") and name != "conv01.bias":
                    parameter.grad = None  # batch norm takes it out: its gradient is rounding alone
            adam.step()
            found.append(loss.item())
        return torch.tensor(found, dtype=torch.float64)

    he = losses(initializer="he")
    same = losses(initializer="normal", head_initializer="he", learning_rate_reference="he")
    other = losses(initializer="normal", head_initializer="he")
    torch.testing.assert_close(same, he, rtol=1e-8, atol=0)
    assert (other - he).abs().max() > 1e-3 * he.abs().max()


def test_the_weight_law_is_that_of_the_network():
    spec = TrainSpec(depth=2, initializer="normal", head_initializer="he", learning_rate_reference="he",
                     head_fan="fan_in", filters=64)  # fmt: skip
    law = weight_law(spec)
    network = build_network(spec)
    for name in ("conv01", "conv02", "head"):
        weight = network.get_parameter(f"{name}.weight").double()
        variance, bias = law.variances(name, weight.shape)
        spread = variance * math.sqrt(2 / weight.numel())  # of the sample variance of a Gaussian
        assert weight.square().mean().item() == pytest.approx(variance, abs=5 * spread)
        drawn = network.get_parameter(f"{name}.bias").double()
        assert drawn.square().max().item() <= 3 * bias * (1 + 1e-6)
        assert drawn.square().max().item() > 1.5 * bias


def test_the_instruments_hold_the_weights_as_drawn():
    spec = TrainSpec(depth=2, **TINY)
    training = CellTraining(spec, tiny_dataset(), CPU)
    assert isinstance(training.instruments, Instruments)
    drawn = training.network.get_parameter("head.weight").detach().double()
    assert torch.equal(training.instruments.drawn["head"], drawn)
