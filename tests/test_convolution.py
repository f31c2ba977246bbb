import numpy as np
import pytest
import torch
from torch import nn

from theory.convolution import backward_power, forward_power
from theory.errors import RequestError

GEOMETRIES = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": (5, 2), "padding": (2, 1), "stride": (1, 3)},
    {"kernel_size": 3, "padding": 2, "dilation": 2},
    {"kernel_size": 4, "padding": "same"},
    {"kernel_size": 3, "padding": "valid"},
    {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    {"kernel_size": 5, "padding": 2, "stride": 2, "padding_mode": "reflect"},
    {"kernel_size": 5, "padding": 2, "padding_mode": "replicate"},
]


def ones_conv(geometry):
    conv = nn.Conv2d(1, 1, bias=False, dtype=torch.float64, **geometry)
    conv.weight.data.fill_(1 / conv.weight.numel())
    return conv


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_the_power_map_is_torchs_own_convolution_with_constant_weights(geometry):
    """Σ of squared taps is a convolution of the squares: torch's indexing is the oracle."""
    power = np.random.default_rng(0).random((9, 7))
    x = torch.from_numpy(power)[None, None].requires_grad_()
    y = ones_conv(geometry)(x)
    np.testing.assert_allclose(forward_power(power, **geometry), y[0, 0].detach().numpy(), atol=1e-15)
    cotangent = torch.rand_like(y)
    (gradient,) = torch.autograd.grad(y, x, cotangent)
    back = backward_power(cotangent[0, 0].numpy(), (9, 7), **geometry)
    np.testing.assert_allclose(back, gradient[0, 0].numpy(), atol=1e-15)


@pytest.mark.parametrize("size, published", [(32, 0.95877), (4, 0.69444)])
def test_one_zero_padded_layer_loses_the_published_share(size, published):
    mean = forward_power(np.ones((size, size)), 3, 1).mean()
    assert mean == pytest.approx(((3 * size - 2) / (3 * size)) ** 2, rel=1e-14)
    assert round(mean, 5) == published


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: forward_power(np.ones((2, 2)), 3, 0), "does not fit"),
        (lambda: forward_power(np.ones(4), 3, 1), "two dimensions"),
        (lambda: forward_power(np.ones((4, 4)), 0, 1), "whole number"),
        (lambda: forward_power(np.ones((4, 4)), 3, -1), "padding must be"),
        (lambda: forward_power(np.ones((4, 4)), 3, "some"), "same"),
        (lambda: forward_power(np.ones((4, 4)), 3, 1, padding_mode="zero"), "did you mean zeros"),
        (lambda: backward_power(np.ones((4, 4)), 8, 3, 1), "8×8 pixels"),
    ],
)
def test_an_impossible_geometry_is_refused(call, says):
    with pytest.raises(RequestError, match=says):
        call()
