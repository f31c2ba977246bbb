"""Which device does the arithmetic, and what float32 means there."""

import pytest
import torch

from theory.devices import resolve_device
from theory.errors import RequestError


@pytest.fixture
def with_cuda(monkeypatch):
    """torch as on a machine with a GPU, and its default precision of convolutions there."""
    before = torch.backends.cudnn.allow_tf32
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    torch.backends.cudnn.allow_tf32 = True
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_float32_on_cuda_is_float32(with_cuda, name):
    assert torch.backends.cudnn.conv.fp32_precision == "tf32"
    assert resolve_device(name) == torch.device("cuda")
    assert torch.backends.cudnn.conv.fp32_precision != "tf32"


def test_another_device_leaves_the_setting_alone(with_cuda):
    assert resolve_device("cpu") == torch.device("cpu")
    assert torch.backends.cudnn.allow_tf32


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(RequestError, match="no cuda device on this machine"):
        resolve_device("cuda")
    with pytest.raises(RequestError, match="device"):
        resolve_device("tpu")
