"""Someone's network from a command line: whatever is wrong is one line, nothing is downloaded."""

import pytest
import torch
from torch import nn

from theory.audit.loading import example_inputs, guarded, load, shape_of, with_weights
from theory.errors import RequestError

SOURCE = """
import urllib.request
import torch
from torch import nn
print("loud")
def net(depth=1): return nn.Sequential(*[nn.Linear(4, 4) for _ in range(depth)])
ready = nn.Linear(4, 4)
number = 3
def raises(): raise ValueError("two\\nlines")
def needs(width): return nn.Linear(width, width)
def gives_three(): return 3
def downloads(): urllib.request.urlopen("http://weights.invalid/w.pt")
def leaves(): raise SystemExit(1)
def on_gpu(): raise RuntimeError("Found no NVIDIA driver on your system.")
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "someones.py"
    file.write_text(SOURCE, encoding="utf-8")
    return str(file)


def test_a_factory_a_network_and_its_arguments(path, capsys):
    assert len(load(f"{path}:net", '{"depth": 3}')) == 3
    assert isinstance(load(f"{path}:ready"), nn.Linear)
    assert capsys.readouterr() == ("", "")
    assert type(load("torch.nn:Identity")).__name__ == "Identity"


@pytest.mark.parametrize(
    "name, arguments, says",
    [
        ("nett", None, "did you mean net"),
        ("number", None, "not a callable"),
        ("gives_three", None, "not an nn.Module"),
        ("raises", None, "ValueError: two"),
        ("needs", None, "--arguments"),
        ("net", "{", "not JSON"),
        ("net", "[1]", "JSON object"),
        ("ready", '{"a": 1}', "takes no --arguments"),
        ("downloads", None, "download something (from weights.invalid)"),
        ("leaves", None, "SystemExit"),
        ("on_gpu", None, "needs a GPU"),
    ],
)
def test_what_is_wrong_is_one_line(path, name, arguments, says):
    with pytest.raises(RequestError) as caught:
        load(f"{path}:{name}", arguments)
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "target, says",
    [("no_colon", "MODULE:FACTORY"), ("none.py:net", "no file"), ("no.such.module:net", "no module")],
)
def test_a_place_that_is_not_there(target, says):
    with pytest.raises(RequestError, match=says):
        load(target)


def test_a_seed_makes_the_same_network(path):
    state = torch.get_rng_state()
    one, same, other = (load(f"{path}:net", seed=seed)[0].weight for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_network_is_reachable_again_afterwards():
    import socket

    look_up = socket.getaddrinfo
    with pytest.raises(RequestError), guarded("it"):
        socket.getaddrinfo("host.invalid", 80)
    assert socket.getaddrinfo is look_up


@pytest.mark.parametrize("text", ["", "a,b", "0,3", "8,-1", "100000000,100000000"])
def test_sizes_that_are_none(text):
    with pytest.raises(RequestError):
        shape_of(text)


def test_inputs_follow_the_network():
    assert shape_of("8x3,32") == (8, 3, 32)
    table = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 2))
    (ids,) = example_inputs(table, tokens=[(3, 50)])
    assert ids.shape == (3, 50) and 0 <= ids.min() and ids.max() == 6
    (guess,) = example_inputs(nn.Sequential(nn.Conv2d(5, 2, 3)))
    assert guess.shape[1] == 5
    (half,) = example_inputs(nn.Linear(4, 2).to(torch.bfloat16), [(2, 4)])
    assert half.dtype == torch.bfloat16
    with pytest.raises(RequestError, match="has no nn"):
        example_inputs(nn.Linear(4, 2), tokens=[(2, 3)])


def lazy():
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(10))


def test_a_lazy_network_gets_its_weights_from_one_run():
    with pytest.raises(RequestError, match="say what goes into the network"):
        example_inputs(lazy())
    inputs = example_inputs(lazy(), [(8, 3, 8, 8)])
    one, same, other = (with_weights(lazy(), inputs, seed=seed) for seed in (0, 0, 1))
    assert one.training and one[0].weight.shape == (4, 3, 3, 3) and one[3].weight.shape == (10, 144)
    assert torch.equal(one[1].running_mean, torch.zeros(4))
    assert torch.equal(one[3].weight, same[3].weight)
    assert not torch.equal(one[3].weight, other[3].weight)
    with pytest.raises(RequestError, match=r"^running the network failed"):
        with_weights(lazy(), example_inputs(lazy(), [(8, 3)]))
