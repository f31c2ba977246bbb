"""Laws recognized from values: drawn by torch's own functions, told by likelihood."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from theory.audit.recognition import Values, agreed, log_likelihood, recognize
from theory.initializers import TRUNCATED_VARIANCE, parse_initializer
from theory.randomness import generator

FANS = {"": (576, 1152)}
DRAWN = {
    "pytorch, fan_in": lambda w: nn.init.kaiming_uniform_(w, a=math.sqrt(5)),
    "he, fan_in": nn.init.kaiming_normal_,
    "he-uniform, fan_in": nn.init.kaiming_uniform_,
    "xavier, fan_avg": nn.init.xavier_normal_,
    "xavier-uniform, fan_avg": nn.init.xavier_uniform_,
    "xavier × 1.67, fan_avg": lambda w: nn.init.xavier_normal_(w, 5 / 3),
    "normal:0.02": lambda w: nn.init.normal_(w, std=0.02),
    "normal": nn.init.normal_,
    "orthogonal × 1.41": lambda w: nn.init.orthogonal_(w, math.sqrt(2)),
    "zero": nn.init.zeros_,
    "constant": lambda w: nn.init.constant_(w, 0.1),
    "uniform:0.05": lambda w: nn.init.uniform_(w, -0.05, 0.05),
}


@pytest.fixture(autouse=True)
def one_seed():
    with torch.random.fork_rng():
        torch.set_rng_state(generator(0, "recognition").get_state())
        yield


@pytest.mark.parametrize("label", DRAWN)
def test_a_law_is_told_from_its_values(label):
    weight = torch.empty(128, 64, 3, 3)
    DRAWN[label](weight)
    found = recognize(weight, FANS)
    assert found.name is not None
    assert found.label == label or (found.label == f"{found.name}" and label.startswith(found.name))
    if math.isfinite(found.expected_std):
        assert found.expected_std == pytest.approx(found.std, rel=0.02)


@given(
    st.sampled_from(
        ["he", "he-uniform", "xavier", "xavier-uniform", "lecun", "pytorch", "he-truncated"]
    ),
    st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_each_of_our_laws_is_found_with_confidence(name, seed):
    law = parse_initializer(name)
    weight = law.draw_(torch.empty(200, 90), generator(seed, "law"))
    found = recognize(weight, {"": (90, 200)})
    assert found.name == name and found.confidence > 0.9


def test_laws_that_coincide_are_both_named():
    weight = nn.init.kaiming_normal_(torch.empty(64, 64))
    found = recognize(weight, {"": (64, 64)})
    assert found.label == "he, fan_in" and "he, fan_out" in found.also


def test_the_network_decides_between_laws_that_coincide():
    square = nn.init.kaiming_normal_(torch.empty(256, 256), mode="fan_out")
    wide = nn.init.kaiming_normal_(torch.empty(512, 128), mode="fan_out")
    laws = {"square": recognize(square, {"": (256, 256)}), "wide": recognize(wide, {"": (128, 512)})}
    laws["third"] = recognize(nn.init.kaiming_normal_(wide.clone(), mode="fan_out"), {"": (128, 512)})
    assert laws["square"].label == "he, fan_in"
    assert agreed(laws)["square"].label == "he, fan_out"


def test_too_few_weights_to_tell():
    found = recognize(torch.randn(3, 2), {"": (2, 3)})
    assert found.name is None and "too few" in found.label


def test_mistaken_fans_have_names():
    packed = nn.MultiheadAttention(64, 4).in_proj_weight.detach()
    assert recognize(packed, {"": (64, 64), "packed": (64, 192)}, parts=3).fan == "packed fan_avg"
    depthwise = nn.init.kaiming_normal_(torch.empty(512, 1, 3, 3), mode="fan_out")
    fans = {"": (9, 9), "ungrouped": (9, 9 * 512)}
    assert recognize(depthwise, fans, groups=512).fan.startswith("ungrouped")


def test_packed_gates_are_orthogonal_apart_or_as_one():
    apart = torch.cat([nn.init.orthogonal_(torch.empty(32, 32)) for _ in range(4)])
    as_one = nn.init.orthogonal_(torch.empty(128, 32))
    fans = {"": (32, 32)}
    assert recognize(apart, fans, parts=4).label == "orthogonal"
    assert recognize(as_one, fans, parts=4).fan == "packed"


def test_values_that_are_no_law_get_none():
    trained = torch.distributions.StudentT(2.5).sample((100, 100))
    assert recognize(trained, {"": (100, 100)}).name is None
    shifted = torch.randn(100, 100) + 0.5
    assert "mean" in recognize(shifted, {"": (100, 100)}).label


@pytest.mark.parametrize("shape", ["normal", "uniform", "truncated"])
def test_likelihoods_are_scipys(shape):
    weight = torch.empty(50).uniform_(-0.9, 0.9, generator=generator(0, "likelihood")).double()
    std = 0.7
    sigma = std / math.sqrt(TRUNCATED_VARIANCE)
    law = {
        "normal": stats.norm(0, std),
        "uniform": stats.uniform(-math.sqrt(3) * std, 2 * math.sqrt(3) * std),
        "truncated": stats.truncnorm(-2, 2, 0, sigma),
    }[shape]
    assert log_likelihood(Values.of(weight), shape, std) == pytest.approx(
        law.logpdf(weight.numpy()).sum(), rel=1e-9
    )
