"""Which networks are predicted, and which are refused in one line: none is predicted as another."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from theory.errors import RequestError
from theory.initializers import parse_initializer
from theory.predict.prediction import WeightLaw, compare, measure, predict
from theory.randomness import generator

pytestmark = pytest.mark.usefixtures("one_thread")

HE = parse_initializer("he")


def chain(layer):
    return nn.Sequential(layer, nn.ReLU(), nn.Linear(6, 3))


def linear(seed=0):
    layer = nn.Linear(6, 6)
    HE.draw_(layer.weight, generator(seed, "layer"))
    return layer


# tied weights


def brute_force(width, draws, seed=0):
    """Mean and its standard error of the second moment of W·relu(W·x), that of x being 1."""
    w = np.random.default_rng(seed).standard_normal((draws, width, width)) * math.sqrt(2 / width)
    y = w @ np.ones((width, 1))
    out = w @ np.maximum(y, 0)
    q = (out**2).mean((1, 2))
    return q.mean(), q.std() / math.sqrt(draws)


@pytest.mark.parametrize("width", [1, 2, 5, 20])
def test_a_layer_that_runs_twice_is_not_called_exact(width):
    layer = nn.Linear(width, width, bias=False)
    table = predict(nn.Sequential(layer, nn.ReLU(), layer), np.ones(width), law=HE)
    assert list(table["forward_basis"]) == ["exact", "shared weights"]
    assert list(table["backward_basis"]) == ["shared weights", "exact"]
    mean, error = brute_force(width, 20_000)
    assert abs(mean - 2.0) > 4 * error  # what the basis warns of


def tied_tensors():
    one, two = nn.Linear(6, 6), nn.Linear(6, 6)
    two.weight = one.weight
    yield "one parameter", [one, two], 1
    one, two = nn.Linear(6, 6), nn.Linear(6, 6)
    two.weight = nn.Parameter(one.weight.detach())
    yield "one storage", [one, two], 1
    encoder, decoder = nn.Linear(6, 6), nn.Linear(6, 6)
    decoder.weight = nn.Parameter(encoder.weight.detach().t())
    yield "transposed", [encoder, decoder], 1
    flat = torch.zeros(60)
    one, two = nn.Linear(6, 6), nn.Linear(6, 6)
    one.weight, two.weight = nn.Parameter(flat[:36].view(6, 6)), nn.Parameter(flat[24:].view(6, 6))
    yield "overlapping", [one, two], 1
    one, two = nn.Linear(6, 6), nn.Linear(6, 6)
    two.bias = one.bias
    yield "one bias", [one, two], 1
    yield "nothing", [nn.Linear(6, 6), nn.Linear(6, 6)], None
    flat = torch.zeros(72)
    one, two = nn.Linear(6, 6), nn.Linear(6, 6)
    one.weight, two.weight = nn.Parameter(flat[:36].view(6, 6)), nn.Parameter(flat[36:].view(6, 6))
    yield "side by side in one buffer", [one, two], None


@pytest.mark.parametrize("name, layers, tied", list(tied_tensors()), ids=lambda value: str(value)[:20])
def test_shared_memory_is_seen(name, layers, tied):
    model = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), nn.Linear(6, 2))
    table = predict(model, 1.0, law=HE)
    expected = ["exact"] * 3 if tied is None else ["exact", "shared weights", "shared weights"]
    assert list(table["forward_basis"]) == expected
    assert table["backward_basis"][0] == ("exact" if tied is None else "shared weights")
    assert table["backward_basis"][2] == "exact"


# what a network returns


class Returns(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.first, self.second, self.what = linear(0), linear(1), what

    def forward(self, x):
        y = torch.relu(self.first(x))
        return self.what(x, y, self.second(y))


RETURNED = {
    "earlier": lambda x, y, z: y,
    "input": lambda x, y, z: x,
    "tuple": lambda x, y, z: (z, y),
    "tuple of one": lambda x, y, z: (z,),
    "list": lambda x, y, z: [z],
    "dict": lambda x, y, z: {"logits": z},
    "nothing": lambda x, y, z: None,
    "sum": lambda x, y, z: y + z,
    "in place": lambda x, y, z: z.add_(1),
}


@pytest.mark.parametrize("what", RETURNED.values(), ids=RETURNED)
def test_only_the_last_value_may_be_returned(what):
    with pytest.raises(RequestError):
        predict(Returns(what), 1.0, law=HE)
    assert len(predict(Returns(lambda x, y, z: z), 1.0, law=HE)) == 2


# weights that are computed at every call


def old(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return getattr(nn.utils, name)(linear())


COMPUTED = {
    "weight_norm": lambda: parametrizations.weight_norm(linear()),
    "spectral_norm": lambda: parametrizations.spectral_norm(linear()),
    "orthogonal": lambda: parametrizations.orthogonal(linear()),
    "old weight_norm": lambda: old("weight_norm"),
    "old spectral_norm": lambda: old("spectral_norm"),
    "pruned": lambda: prune.l1_unstructured(linear(), "weight", 0.5),
    "pruned bias": lambda: prune.l1_unstructured(linear(), "bias", 0.5),
    "pruned twice": lambda: prune.random_unstructured(
        prune.l1_unstructured(linear(), "weight", 0.5), "weight", 0.5
    ),
}


@pytest.mark.parametrize("made", COMPUTED.values(), ids=COMPUTED)
def test_a_computed_weight_is_predicted_as_held_and_refused_with_a_law(made):
    layer = made()
    model = chain(layer).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.eye(6)  # the mean of w² is then all that counts
    table = compare(predict(model, x), measure(model, x))
    with torch.no_grad():
        moments = [float(values.double().square().mean()) for values in (layer.weight, layer.bias)]
    expected = moments[0] + moments[1]
    assert table["forward_predicted"][0] == pytest.approx(expected, rel=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(RequestError, match="computes its weight"):
        predict(model, x, law=HE)


def test_training_mode_leaves_the_vectors_of_spectral_norm():
    for layer in (parametrizations.spectral_norm(linear()), old("spectral_norm")):
        model = chain(layer)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        predict(model, torch.eye(6))
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# layers that are not what their class says


class Shifted(nn.ReLU):
    def forward(self, input):
        return super().forward(input) + 1


class Noisy(nn.Linear):
    def forward(self, input):
        return super().forward(input + torch.randn_like(input))


class Renamed(nn.ReLU):
    def forward(self, input):
        return torch.clamp(input, min=0)


def hooked(module, register):
    getattr(module, register)(lambda *arguments: None)
    return module


def empty():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Linear(0, 6)


def sparse():
    layer = nn.Linear(6, 6)
    layer.weight = nn.Parameter(layer.weight.detach().to_sparse())
    return layer


REFUSED = {
    "lazy": (lambda: nn.LazyLinear(6), "run the network once"),
    "complex": (lambda: nn.Linear(6, 6, dtype=torch.complex64), "complex weights"),
    "empty": (empty, "is empty"),
    "sparse": (sparse, "sparse weights"),
    "own forward": (lambda: Noisy(6, 6), "forward of its own"),
    "hook": (lambda: hooked(linear(), "register_forward_hook"), "forward hook"),
    "pre-hook": (lambda: hooked(linear(), "register_forward_pre_hook"), "forward hook"),
    "no rule": (lambda: nn.Softmax(1), "no rule"),
}


@pytest.mark.parametrize("made, says", REFUSED.values(), ids=REFUSED)
def test_what_is_not_what_its_class_says_is_refused(made, says):
    for model in (chain(made()), nn.Sequential(made())):
        with pytest.raises(RequestError, match=says):
            predict(model, torch.ones(2, 6), law=HE)


def test_activations_of_ones_own_must_give_torchs_numbers():
    model = nn.Sequential(nn.Linear(6, 6), Renamed(), nn.Linear(6, 3))
    assert list(predict(model, 1.0, law=HE)["forward_basis"]) == ["exact", "exact"]
    model[1] = Shifted()
    with pytest.raises(RequestError, match="forward of its own"):
        predict(model, 1.0, law=HE)
    model[1] = hooked(nn.ReLU(), "register_forward_hook")
    with pytest.raises(RequestError, match="forward hook"):
        predict(model, 1.0, law=HE)


@pytest.mark.parametrize(
    "model, inputs, says",
    [
        (nn.Sequential(nn.Linear(6, 6), nn.BatchNorm2d(6)), np.ones(6), r"1 \(BatchNorm2d\), given"),
        (nn.Sequential(nn.Linear(6, 6), nn.MaxPool2d(2)), np.ones(6), r"1 \(MaxPool2d\), given 2×6"),
        (nn.Sequential(nn.Linear(6, 6), nn.PReLU(4)), np.ones(6), r"1 \(PReLU\), given 2×6"),
        (nn.Sequential(nn.Conv2d(1, 2, 1), nn.MaxPool2d(2, return_indices=True)), np.ones((1, 4, 4)),
         "to one tensor"),
        (nn.Sequential(nn.PReLU(4), nn.Linear(6, 6)), torch.ones(2, 6), r"0 \(PReLU\), given 2×6"),
        (nn.Linear(6, 6), torch.full((2, 6), math.nan), "not finite"),
        (nn.Linear(6, 6), torch.ones(2, 6, dtype=torch.complex64), "complex"),
        (nn.Linear(6, 6), "six", "at least 0"),
        (nn.Linear(6, 6), math.nan, "at least 0"),
        (nn.Sequential(), np.ones(6), "no linear or convolutional layer"),
        (nn.ReLU(), np.ones(6), "no linear or convolutional layer"),
        (nn.ModuleList([nn.Linear(6, 6)]), np.ones(6), "missing the required"),
    ],
    ids=lambda value: str(value)[:30].replace("\n", ""),
)  # fmt: skip
def test_sizes_and_inputs_that_do_not_fit_are_refused(model, inputs, says):
    with pytest.raises(RequestError, match=says):
        predict(model, inputs, law=HE)


def test_weights_without_values_need_a_law():
    model = nn.Sequential(nn.Linear(6, 6, device="meta"), nn.ReLU(), nn.Linear(6, 2, device="meta"))
    table = predict(model, 1.0, law=WeightLaw(HE, bias=0.0))
    np.testing.assert_allclose(table["forward_predicted"], 2.0)
    assert set(table["forward_basis"]) == {"exact"}
    with pytest.raises(RequestError, match="meta device"):
        predict(model, 1.0)
