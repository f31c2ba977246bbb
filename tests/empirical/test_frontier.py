"""The frontier: stacked networks are single ones, predictions come first, records go on."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from torch import nn

from empirical.frontier import table as frontier
from empirical.frontier.networks import Networks, Recurrent, Residual, digits, remembered
from empirical.frontier.prediction import ends
from empirical.frontier.spec import FrontierSpec
from theory.activations import parse_activation
from theory.errors import RequestError
from theory.law.phase import depth_scales
from theory.randomness import generator

CPU = torch.device("cpu")
TINY = FrontierSpec(
    activations=("relu", "tanh"), initializers=("he", "normal"), variances=(0.5, 1.0), depths=(3, 2),
    width=16, steps=5, batch_size=8, learning_rate=0.1, seeds=(3, 4),
)  # fmt: skip


@pytest.fixture(scope="module")
def data():
    return digits(CPU)


def networks(name, variances, seeds, widths=(64, 16, 16, 10), bias_variance=0.1):
    return Networks(parse_activation(name), widths, variances, bias_variance, seeds, CPU)


def single(stack, k):
    """Network ``k`` of ``stack`` as torch's own modules."""
    layers = []
    for weight, bias in zip(stack.weights, stack.biases, strict=True):
        linear = nn.Linear(weight.shape[1], weight.shape[2])
        linear.weight.data, linear.bias.data = weight[k].detach().T.clone(), bias[k, 0].detach().clone()
        layers += [linear, stack.phi.module()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("name", ["tanh", "relu", "prelu"])
def test_a_network_among_others_computes_what_it_computes_alone(name, data):
    images, labels, test_images, test_labels = data
    stack = networks(name, [0.5, 1e9, 2.0], [0, 0, 1])
    alone, seeds = [single(stack, k) for k in range(3)], (0, 0, 1)
    stack.train(images, labels, 12, 8, 0.2)
    accuracies, losses = stack.measured(test_images, test_labels)
    for k in (0, 2):
        batches, optimizer = generator(seeds[k], "frontier", "batches"), None
        optimizer = torch.optim.SGD(alone[k].parameters(), 0.2)
        for _ in range(12):
            index = torch.randint(len(images), (8,), generator=batches)
            optimizer.zero_grad()
            nn.functional.cross_entropy(alone[k](images[index]), labels[index]).backward()
            optimizer.step()
        logits = alone[k](test_images)
        assert losses[k] == pytest.approx(nn.functional.cross_entropy(logits, test_labels).item(), 1e-4)
        right = (logits.argmax(1) == test_labels).sum().item()
        assert accuracies[k] * len(test_labels) / 100 == pytest.approx(right, abs=1.01)  # a near tie
        linear = [layer for layer in alone[k] if isinstance(layer, nn.Linear)]
        for layer, weight in zip(linear, stack.weights, strict=True):
            torch.testing.assert_close(layer.weight.T, weight[k], rtol=1e-4, atol=1e-5)
    if name == "prelu":
        slope = alone[2][1].weight.item()
        assert slope != 0.25 and stack.slopes[0][2].item() == pytest.approx(slope, 1e-4)
    assert not math.isfinite(stack.weights[0][1].sum().item()) or losses[1] > 1e3


@pytest.mark.parametrize("name", ["tanh", "prelu"])
def test_a_residual_network_adds_its_branches_and_keeps_to_itself(name, data):
    phi, seeds = parse_activation(name), (0, 1)
    widths = Residual.widths(5, 64, 16, 10)
    stack = Residual(phi, widths, [0.5, 1e9], 0.1, seeds, CPU)
    plain = Networks(phi, widths, [0.5, 1e9], 0.1, seeds, CPU)
    scaled = Residual(phi, widths, [0.5, 1e9], 0.1, seeds, CPU, "depth")
    for layer, (weight, same) in enumerate(zip(stack.weights, plain.weights, strict=True)):
        torch.testing.assert_close(weight, same)
        factor = 3**0.5 if 0 < layer < 4 else 1.0
        torch.testing.assert_close(scaled.weights[layer] * factor, weight)
    images, labels, tested, _ = data
    alone = single(stack, 0)
    slopes = [alone[i].weight for i in range(1, len(alone), 2)] if name == "prelu" else []
    parameters = [*(one for i in range(0, 9, 2) for one in alone[i].parameters()), *slopes]

    def forward(x):
        h = alone[0](x)
        for layer in (1, 2, 3):
            h = h + alone[2 * layer](alone[2 * layer - 1](h))
        return alone[8](alone[7](h))

    torch.testing.assert_close(stack.logits(tested.expand(2, -1, -1))[0], forward(tested))
    optimizer, batches = torch.optim.SGD(parameters, 0.1), generator(0, "frontier", "batches")
    for _ in range(6):
        index = torch.randint(len(images), (8,), generator=batches)
        optimizer.zero_grad()
        nn.functional.cross_entropy(forward(images[index]), labels[index]).backward()
        optimizer.step()
    stack.train(images, labels, 6, 8, 0.1)
    torch.testing.assert_close(stack.weights[2][0].T, alone[4].weight, rtol=1e-3, atol=1e-5)


def test_a_recurrent_network_is_torchs_own_and_remembers_by_its_gain():
    images, labels, tested, _ = remembered(3, CPU)
    assert (
        images.shape == (2000, 4, 9)
        and tested.shape == (500, 4, 9)
        and set(labels.tolist()) == set(range(8))
    )
    assert (images[:, 1:, 8] == 3).all() and (images[:, 0].argmax(1) == labels).all()
    assert (images.square().mean(2) - 1).abs().max() < 1e-6
    widths = Recurrent.widths(3, 9, 200, 8)
    stack = Recurrent(parse_activation("tanh"), widths, [0.5, 3.0], 0.7, (0, 0), CPU)
    for weight, variance in zip(stack.weights, (0.7, 3.0, 1.0), strict=True):
        power = weight[1].square().mean().item() * weight.shape[1]
        assert power == pytest.approx(variance, rel=5 * math.sqrt(2 / weight[1].numel()))
    assert all((bias == 0).all() for bias in stack.biases)
    cell = nn.RNN(9, 200, batch_first=True)
    cell.weight_ih_l0.data, cell.weight_hh_l0.data = stack.weights[0][1].T, stack.weights[1][1].T
    cell.bias_ih_l0.data, cell.bias_hh_l0.data = torch.zeros(200), torch.zeros(200)
    expected = cell(tested)[0][:, -1] @ stack.weights[2][1]
    torch.testing.assert_close(
        stack.logits(tested.expand(2, -1, -1, -1))[1], expected, rtol=1e-4, atol=1e-4
    )


def test_a_recurrent_network_remembers_by_its_gain_as_theory_says():
    variances, data = (0.3, 2.0), remembered(12, CPU)
    spec = FrontierSpec(network="rnn", activations=("tanh",), variances=variances, depths=(12,))
    widths = Recurrent.widths(12, 9, 64, 8)
    stack = Recurrent(parse_activation("tanh"), widths, variances, 1.0, (0, 0), CPU)
    stack.train(*data[:2], 200, 32, 1e-2)
    found = [accuracy > frontier.TRAINED for accuracy in stack.measured(*data[2:])[0]]
    predicted = frontier.planned(spec).set_index("weight_variance")["predicted"]
    assert found == predicted[list(variances)].tolist() == [False, True]


def test_a_network_without_numbers_has_loss_inf_and_answers_nothing(data):
    stack = networks("relu", [1e30, 1.0], [0, 0], widths=(64, *[16] * 30, 10))
    accuracies, losses = stack.measured(*data[2:])
    assert accuracies[0] == 0.0 and losses[0] == math.inf
    assert accuracies[1] > 0.0 and losses[1] == pytest.approx(math.log(10), abs=1)


def test_weights_and_biases_have_their_variances_and_share_their_draws():
    stack = networks("tanh", [0.5, 4.0, 4.0], [0, 0, 1], widths=(64, 200, 200, 10))
    for k, variance in enumerate((0.5, 4.0, 4.0)):
        weights, biases = stack.weights[1][k].detach(), stack.biases[1][k].detach()
        for drawn, expected in ((weights * math.sqrt(200), variance), (biases, 0.1)):
            assert drawn.pow(2).mean().item() == pytest.approx(
                expected, rel=5 * math.sqrt(2 / drawn.numel())
            )
    torch.testing.assert_close(stack.weights[1][1], math.sqrt(8) * stack.weights[1][0])
    assert not torch.equal(stack.weights[1][1], stack.weights[1][2])


def test_theory_says_which_train_with_nothing_fitted():
    spec = FrontierSpec(activations=("relu", "prelu"), depths=(8, 9, 10_000))
    table = frontier.planned(spec).set_index(["activation", "weight_variance", "depth"])["predicted"]
    xavier = 6 / math.log(2)  # 8.66 layers
    assert (
        [table["relu", 1.0, depth] for depth in (8, 9)] == [8 <= xavier, 9 <= xavier] == [True, False]
    )
    assert (
        table["relu", 2.0, 10_000]
        and table["prelu", spec.marks(parse_activation("prelu"))["he"], 10_000]
    )
    assert not table["prelu", 2.0, 10_000] and not table["relu", 64.0, 8]
    assert spec.marks(parse_activation("relu")) == {"he": 2.0, "xavier": 1.0, "normal": 64.0}


def test_theory_of_residual_networks_is_the_growth_of_their_branches():
    spec = FrontierSpec(network="residual", depths=(2, 6, 10, 64), initializers=("he",))
    table = frontier.planned(spec).set_index(["activation", "weight_variance", "depth"])
    row = table.loc["relu", 2.0, 10]
    assert 10 / row["depth_scale"] == 10 / row["gradient_depth_scale"] == pytest.approx(8 * math.log(2))
    assert [table["predicted"]["relu", 2.0, depth] for depth in (6, 10, 64)] == [
        True,
        True,
        False,
    ]  # 8.7 branches
    assert math.isinf(table.loc["relu", 32.0, 2]["depth_scale"])  # no branch at all
    relu, tanh = parse_activation("relu"), parse_activation("tanh")
    between = 10 + 54 * (6 - 8 * math.log(2)) / (54 * math.log(2))
    assert ends(spec, relu, 2.0) == pytest.approx((between, between))
    assert ends(spec, relu, 0.01) == (math.inf, math.inf)
    gradient, distance = ends(spec, tanh, 4.0)
    assert gradient < distance
    scaled = replace(spec, branch_scale="depth")
    assert frontier.planned(scaled)["predicted"].mean() > table["predicted"].mean()
    few = frontier.planned(scaled).set_index(["activation", "weight_variance", "depth"])
    assert 6 / few.loc["relu", 16.0, 6]["depth_scale"] == pytest.approx(4 * math.log(1 + 16 / 8))


def test_theory_of_recurrent_networks_takes_the_input_for_a_bias():
    spec = FrontierSpec(network="rnn", activations=("tanh",), variances=(1.0,), depths=(7, 8))
    gradient, correlation = depth_scales(parse_activation("tanh"), 1.0, 1.0)
    rows = frontier.planned(spec)
    rows = rows[rows["weight_variance"] == 1.0]
    assert (rows["depth_scale"] == correlation).all() and (rows["bias_variance"] == 1.0).all()
    assert rows["predicted"].tolist() == [depth <= 6 * correlation for depth in (7, 8)]
    assert ends(spec, parse_activation("tanh"), 1.0) == (6 * gradient, 6 * correlation)


def test_a_map_from_before_other_networks_is_one_of_plain_ones(tmp_path, monkeypatch):
    small = replace(TINY, activations=("relu",))
    whole = frontier.run_frontier(small, tmp_path, CPU)
    path = tmp_path / frontier.FILE
    pd.read_csv(path).drop(columns=["network", "branch_scale"]).to_csv(path, index=False)
    monkeypatch.setattr(frontier, "_trained", None)  # calling it would fail
    pd.testing.assert_frame_equal(frontier.run_frontier(small, tmp_path, CPU), whole)


def test_maps_of_several_networks_share_a_file(tmp_path):
    kinds = (TINY, replace(TINY, network="residual"), replace(TINY, network="rnn", variances=(1.0,)))
    kinds = [replace(one, activations=("tanh",)) for one in kinds]
    both = frontier.run_maps(kinds, tmp_path, CPU)
    assert both.groupby("network", sort=False).size().to_dict() == {
        "plain": 16,
        "residual": 16,
        "rnn": 12,
    }
    assert both["accuracy"].notna().all()
    written = frontier.load_map(tmp_path / frontier.FILE)
    assert len(written) == 44 and list(frontier.agreement(both)["network"]) == [
        "plain",
        "residual",
        "rnn",
    ]


def test_predictions_are_written_before_training_and_an_interrupted_map_goes_on(tmp_path, monkeypatch):
    trained, asked = frontier._trained, []

    def interrupted(spec, phi, depth, rows, data):
        asked.append((phi.name, depth, len(rows)))
        written = pd.read_csv(tmp_path / frontier.FILE)
        assert written["predicted"].notna().all() and len(written) == len(frontier.planned(TINY))
        if len(asked) == 2:
            raise KeyboardInterrupt
        assert len(asked) > 1 or written["accuracy"].isna().all()
        return trained(spec, phi, depth, rows, data)

    monkeypatch.setattr(frontier, "_trained", interrupted)
    with pytest.raises(KeyboardInterrupt):
        frontier.run_frontier(TINY, tmp_path, CPU)
    done = pd.read_csv(tmp_path / frontier.FILE)["accuracy"].notna().sum()
    columns = 4  # 0.5, 1, he and normal
    assert done == 2 * columns
    progress = []
    found = frontier.run_frontier(TINY, tmp_path, CPU, lambda *of: progress.append(of))
    assert asked[2:] == [("relu", 3, 8), ("tanh", 2, 8), ("tanh", 3, 8)]
    assert progress[0] == (8, 32) and progress[-1] == (32, 32)
    (tmp_path / "whole").mkdir()
    monkeypatch.setattr(frontier, "_trained", trained)
    whole = frontier.run_frontier(TINY, tmp_path / "whole", CPU)
    pd.testing.assert_frame_equal(found, whole)
    assert list(found.columns) == list(frontier.COLUMNS)
    pd.testing.assert_frame_equal(frontier.planned(TINY)[frontier.KEYS], found[frontier.KEYS])


def test_a_larger_map_trains_only_what_is_new_and_keeps_what_others_left(tmp_path, monkeypatch):
    small = replace(TINY, activations=("relu",), seeds=(3,))
    first = frontier.run_frontier(small, tmp_path, CPU)
    frontier.run_frontier(replace(small, steps=4), tmp_path, CPU)
    sizes, trained = [], frontier._trained
    monkeypatch.setattr(frontier, "_trained", lambda *of: (sizes.append(len(of[3])), trained(*of))[1])
    both = frontier.run_frontier(replace(small, seeds=(3, 4)), tmp_path, CPU)
    assert sizes == [4, 4]
    again = both[both["seed"] == 3].reset_index(drop=True)
    pd.testing.assert_frame_equal(again, first)
    rest = pd.read_csv(tmp_path / frontier.FILE)
    assert rest["steps"].value_counts().to_dict() == {5: 16, 4: 8} and rest["accuracy"].notna().all()


def test_a_stack_is_no_larger_than_memory_allows(tmp_path, monkeypatch):
    assert TINY.at_once(2) == 128
    assert FrontierSpec(width=1024, batch_size=1024).at_once(32) == 2  # 2²⁷/(2⁵·2¹⁰·2¹¹)
    small, sizes, trained = replace(TINY, activations=("relu",), depths=(2,)), [], frontier._trained
    whole = frontier.run_frontier(small, tmp_path, CPU)
    (tmp_path / frontier.FILE).unlink()
    monkeypatch.setattr(FrontierSpec, "at_once", lambda spec, depth: 3)
    monkeypatch.setattr(frontier, "_trained", lambda *of: (sizes.append(len(of[3])), trained(*of))[1])
    parts = frontier.run_frontier(small, tmp_path, CPU)
    assert sizes == [3, 3, 2]
    pd.testing.assert_frame_equal(parts, whole)


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "\x00", "twice", "words"])
def test_a_file_that_is_no_map_is_refused_and_left_alone(content, tmp_path):
    path = tmp_path / frontier.FILE
    table = frontier.planned(TINY)
    if content == "twice":
        content = pd.concat([table, table]).to_csv(index=False)
    if content == "words":
        content = table.astype({"accuracy": object}).assign(accuracy="much").to_csv(index=False)
    path.write_text(content)
    with pytest.raises(RequestError, match="is no map of trainability"):
        frontier.run_frontier(TINY, tmp_path, CPU)
    assert path.read_text() == content


def test_a_map_that_another_process_fills_is_refused(tmp_path):
    with FileLock(tmp_path / ".map.lock"), pytest.raises(RequestError, match="another process"):
        frontier.run_frontier(TINY, tmp_path, CPU)


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"network": "lstm"}, "network"),
        ({"branch_scale": "depth"}, "has no branches"),
        ({"network": "residual", "branch_scale": "zero"}, "branch scale"),
        ({"depths": ()}, "at least one of the depths"),
        ({"depths": (2, 2)}, "each once"),
        ({"depths": (0,)}, "depth must be"),
        ({"variances": (-1.0,)}, "σ_w² must be"),
        ({"variances": (math.nan,)}, "σ_w² must be"),
        ({"seeds": (-1,)}, "seed must be"),
        ({"width": 1}, "width must be"),
        ({"steps": 0}, "steps must be"),
        ({"batch_size": 1_438}, "batch size must be"),
        ({"learning_rate": 0.0}, "learning rate must be"),
        ({"bias_variance": -0.1}, "bias variance must be"),
        ({"activations": ("rellu",)}, "did you mean relu"),
        ({"initializers": ("pytorch",)}, "draws biases"),
        ({"depths": tuple(range(1, 4000))}, "number of networks"),
        ({"depths": (2, 100_000)}, "100,000 layers of width 64 are too large"),
    ],
)
def test_a_wrong_request_is_refused(wrong, says):
    with pytest.raises(RequestError, match=says):
        FrontierSpec(**wrong)


def test_agreement_counts_each_side():
    ends = {1.0: (8, 2.0), 2.0: (2, math.inf), 3.0: (64, 0.1)}  # σ_w²: deepest that trains, ξ
    depths = (2, 8, 16, 64)
    rows = [
        {
            "network": "plain", "branch_scale": "none",
            "activation": "relu", "weight_variance": variance, "depth": depth, "depth_scale": scale,
            "gradient_depth_scale": 0.0, "predicted": depth <= 6 * scale,
            "accuracy": 90.0 if depth <= deepest else 20.0,
        }
        for variance, (deepest, scale) in ends.items()
        for depth in depths
    ]  # fmt: skip
    (row,) = frontier.agreement(pd.DataFrame(rows)).to_dict("records")
    # predicted: 2 and 8 of the first, all of the second, none of the third
    assert row["trained"] == 7 / 12 == row["best_constant"] and row["predicted"] == 6 / 12
    assert row["agree"] == pytest.approx((4 + 1 + 0) / 12)
    assert row["short"] == pytest.approx(4 / 12) and row["beyond"] == pytest.approx(3 / 12)
    assert row["agree_gradient"] == pytest.approx(5 / 12)
    assert row["columns"] == 1  # the second has no scale, the third no end
    assert row["depth_ratio"] == pytest.approx(np.sqrt(8 * 16) / 12)
    assert math.isnan(row["ratio_low"]) and math.isnan(row["agree_low"])  # of three σ_w²
    found = pd.DataFrame(rows)
    found["depth_scale"] = found["depth_scale"].where(
        found["depth"] > 2, math.inf
    )  # as of residual ones
    folds = np.interp(np.log(np.sqrt(8 * 16)), np.log([8, 16]), [4, 8]) / 6
    assert frontier.agreement(found)["depth_ratio"].item() == pytest.approx(folds)


def test_intervals_hold_the_value_and_narrow_with_the_number_of_variances():
    def of(count):
        rows = [
            {
                "network": "rnn", "branch_scale": "none", "activation": "tanh", "depth": depth,
                "weight_variance": float(i), "depth_scale": 2.0, "gradient_depth_scale": 2.0,
                "predicted": depth <= 12, "accuracy": 90.0 if depth <= (4, 8, 16, 32)[i % 4] else 10.0,
            }
            for i in range(count)
            for depth in (2, 4, 8, 16, 32, 64)
        ]  # fmt: skip
        return frontier.agreement(pd.DataFrame(rows)).iloc[0]

    few, many = of(8), of(64)
    for row in (few, many):
        assert row["agree_low"] <= row["agree"] <= row["agree_high"]
        assert row["ratio_low"] <= row["depth_ratio"] <= row["ratio_high"]
        assert row["agree"] == pytest.approx(1 - (1 + 0 + 1 + 2) / 24)
    assert many["agree_high"] - many["agree_low"] < 0.5 * (few["agree_high"] - few["agree_low"])
    error = many["agree_high"] - many["agree_low"]
    assert error == pytest.approx(2 * 1.96 * np.std([1, 0, 1, 2]) / 6 / 8, rel=0.1)
