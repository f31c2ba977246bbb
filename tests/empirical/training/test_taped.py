"""Cells of other tasks: predicted before the first step, read without a trace, resumed to the bit."""

import math

import numpy as np
import pytest
import torch

from empirical.data.catalog import load_dataset
from empirical.protocol import TrainSpec
from empirical.training.families import build_network
from empirical.training.loop import CellTraining, train_cell

CPU = torch.device("cpu")
PLAIN = {"norm": "none", "fan": "fan_in", "gain_slope": 0.0, "filters": 8, "epochs": 2, "depth": 4}
CELLS = {
    "teacher": TrainSpec(**PLAIN | {"dataset": "teacher", "dropout": 0.2}),
    "diabetes": TrainSpec(**PLAIN | {"dataset": "diabetes", "norm": "batch", "weight_decay": 0.1}),
    "copy": TrainSpec(**PLAIN | {"dataset": "copy", "network": "lstm", "activation": "tanh"}),
    "characters": TrainSpec(
        **PLAIN | {"dataset": "characters", "network": "transformer", "depth": 1, "dropout": 0.1}
    ),
}


def data(spec):
    return load_dataset(spec.dataset, None, CPU, limit_train=96, limit_test=48)


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_is_predicted_before_its_first_step_and_resumes_to_the_same_bits(name):
    spec, states = CELLS[name], []
    saved = {}

    def keep(state):
        states.append(state)
        if state.epoch == 1:
            saved["network"] = {key: value.clone() for key, value in state.network.items()}
            saved["optimizer"] = {
                "param_groups": state.optimizer["param_groups"],
                "state": {
                    key: {one: value.clone() for one, value in moments.items()}
                    for key, moments in state.optimizer["state"].items()
                },
            }

    random_state = torch.random.get_rng_state()
    end = train_cell(spec, data(spec), CPU, on_epoch=keep)
    assert torch.equal(torch.random.get_rng_state(), random_state)
    first = states[0]
    assert first.epoch == 0 and not first.epochs
    told = [row for row in first.layers if math.isfinite(row["second_moment"])]
    assert told and told[-1]["layer"] == "head" and math.isfinite(first.initial["loss_predicted"])
    assert all(math.isfinite(row["gradient_second_moment_predicted"]) for row in told)
    assert all("infinite width" in row["prediction_basis"] for row in told)
    assert len({(row["epoch"], row["layer"]) for row in end.layers}) == len(end.layers)
    middle = states[1]
    middle.network, middle.optimizer = saved["network"], saved["optimizer"]
    again = train_cell(spec, data(spec), CPU, resume=middle)
    assert [row["train_loss"] for row in again.epochs] == [row["train_loss"] for row in end.epochs]
    assert all(torch.equal(value, again.network[key]) for key, value in end.network.items())


def test_instruments_leave_no_trace(monkeypatch):
    spec = CELLS["diabetes"]
    seen = train_cell(spec, data(spec), CPU)
    training = CellTraining(spec, data(spec), CPU)
    for epoch in (1, 2):
        training.epoch = epoch - 1
        training.train_pass(lambda report: None)
    training.test()
    for key, value in training.network.state_dict().items():
        assert torch.equal(value, seen.network[key]), key


def test_predicted_moments_are_the_means_over_draws():
    """Without norm the signal is exact: within four standard errors at every layer."""
    rows = []
    for seed in range(40):
        spec = TrainSpec(**PLAIN | {"dataset": "teacher", "seed": seed, "filters": 32})
        training = CellTraining(spec, data(spec), CPU)
        training.look(0)
        rows.append(training.layers)
    for column in ("second_moment", "gradient_second_moment"):
        found = np.array([[row[column] for row in layers] for layers in rows])
        told = np.array([[row[f"{column}_predicted"] for row in layers] for layers in rows])
        ratios = found / told
        errors = ratios.std(0, ddof=1) / math.sqrt(len(rows))
        if column == "second_moment":
            assert (abs(ratios.mean(0) - 1) < 4 * errors).all()
        else:  # the loss knows the outputs: wide networks only
            assert (abs(np.log(np.median(ratios, 0))) < 0.7).all()


@pytest.mark.parametrize("dataset", ["characters", "copy"])
def test_the_gradient_of_many_answers_is_that_of_their_mean(dataset):
    """At the head the prediction is of Gaussian logits that know nothing: near the measured one."""
    spec = TrainSpec(
        **PLAIN | {"dataset": dataset, "network": "gru", "activation": "tanh", "filters": 64}
    )
    training = CellTraining(spec, data(spec), CPU)
    training.look(0)
    head = training.layers[-1]
    told, found = head["gradient_second_moment_predicted"], head["gradient_second_moment"]
    assert head["layer"] == "head" and found == pytest.approx(told, rel=0.3)


def test_every_use_of_a_weight_has_its_row():
    spec = TrainSpec(**PLAIN | {"dataset": "adding", "network": "rnn", "activation": "tanh"})
    training = CellTraining(spec, data(spec), CPU)
    training.look(0)
    names = [row["layer"] for row in training.layers]
    assert names == ["recurrent.input", "recurrent.hidden", "recurrent.hidden.2", "recurrent.hidden.3",
                     "head"]  # fmt: skip
    assert math.isnan(training.layers[2]["weight_std"]) and training.layers[1]["weight_std"] > 0
    weight = build_network(spec).get_parameter("recurrent.hidden.weight").detach()
    assert training.layers[1]["effective_learning_rate"] == pytest.approx(
        spec.learning_rate / float(weight.square().mean().sqrt()), rel=1e-5
    )


def test_weight_decay_is_of_weights_alone():
    spec = CELLS["diabetes"]
    groups = CellTraining(spec, data(spec), CPU).optimizer.param_groups
    for group in groups:
        assert all((tensor.dim() > 1) == (group["weight_decay"] > 0) for tensor in group["params"])
    assert {group["weight_decay"] for group in groups} == {0.0, 0.1}
