"""What the windows of a convolution see: power maps through kernel, padding, stride and dilation.

The map of an image is the product of the maps of its two axes.  It is the geometry alone, without
weights: ``theory.law.convolution`` and the rules of ``theory.predict`` follow second moments by it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory.errors import RequestError, check_choice, check_whole

Array = NDArray[np.float64]
Pair = int | tuple[int, int]
PADDING_MODES = {  # of torch, as numpy calls them
    "zeros": "constant", "circular": "wrap", "reflect": "reflect", "replicate": "edge",
}  # fmt: skip


def forward_power(
    power: ArrayLike,
    kernel_size: Pair,
    padding: Pair | str,
    stride: Pair = 1,
    dilation: Pair = 1,
    padding_mode: str = "zeros",
) -> Array:
    """What each output pixel sees: mean over its kernel taps of ``power``, a missing tap counting 0.

    ``power`` (H, W) holds the second moment of the input per pixel, mean over channels; the result
    (H', W') times s = fan_in·Var[w] is the expected second moment of the convolution's output.  The
    other arguments are those of ``torch.nn.Conv2d``.  Raises ``RequestError`` for a kernel that does
    not fit.

    >>> forward_power(np.ones((3, 3)), 3, 1) * 9
    array([[4., 6., 4.],
           [6., 9., 6.],
           [4., 6., 4.]])
    """
    power = np.asarray(power, dtype=np.float64)
    axes = _axes(power.shape, kernel_size, padding, stride, dilation, padding_mode)
    rows, columns = (axis_map(*axis) for axis in axes)
    seen: Array = rows @ power @ columns.T
    return seen


def backward_power(
    power: ArrayLike,
    input_size: Pair,
    kernel_size: Pair,
    padding: Pair | str,
    stride: Pair = 1,
    dilation: Pair = 1,
    padding_mode: str = "zeros",
) -> Array:
    """The transpose of ``forward_power``: from gradients at the output to gradients at the input.

    ``power`` (H', W') holds the second moment of ∂E/∂y per pixel, mean over channels; the result
    (H, W) = ``input_size`` times fan_out·Var[w], fan_out = k²·c_out, is the expected second moment
    of ∂E/∂x.  A stride leaves fan_out alone and thins the map.

    >>> backward_power(np.ones((2, 2)), 4, 2, 0, stride=2) * 4
    array([[1., 1., 1., 1.],
           [1., 1., 1., 1.],
           [1., 1., 1., 1.],
           [1., 1., 1., 1.]])
    """
    power = np.asarray(power, dtype=np.float64)
    axes = _axes(_pair(input_size), kernel_size, padding, stride, dilation, padding_mode)
    rows, columns = (axis_map(*axis) for axis in axes)
    if power.shape != (len(rows), len(columns)):
        raise RequestError(
            f"the output has {len(rows)}×{len(columns)} pixels, but the power has shape {power.shape}"
        )
    collected: Array = rows.T @ power @ columns
    return collected


@lru_cache(maxsize=256)
def axis_map(
    size: int, kernel: int, before: int, after: int, stride: int, dilation: int, padding_mode: str
) -> Array:
    """T (outputs, ``size``): T[i, p] is the share of the taps of output i that fall on input p.

    ``before`` and ``after`` are the padding at the two ends of the axis.  Read-only.
    """
    taps = _taps(size, kernel, before, after, stride, dilation, padding_mode)
    result = np.zeros((len(taps), size + 1))
    np.add.at(result, (np.arange(len(taps))[:, None], taps), 1 / kernel)
    result = np.ascontiguousarray(result[:, 1:])
    result.setflags(write=False)
    return result


def _taps(
    size: int, kernel: int, before: int, after: int, stride: int, dilation: int, padding_mode: str
) -> NDArray[np.int64]:
    """(outputs, kernel): the input pixel under each tap of each output, from 1; 0 where none is."""
    check_choice("padding mode", padding_mode, PADDING_MODES)
    reach = dilation * (kernel - 1) + 1
    outputs = (size + before + after - reach) // stride + 1
    if size < 1 or outputs < 1:
        raise RequestError(
            f"a kernel that reaches over {reach} pixels does not fit an axis of {size} "
            f"with padding {before} and {after}: make the image larger or the kernel smaller"
        )
    seen = np.pad(np.arange(1, size + 1), (before, after), PADDING_MODES[padding_mode])  # type: ignore[call-overload]
    taps: NDArray[np.int64] = seen[stride * np.arange(outputs)[:, None] + dilation * np.arange(kernel)]
    return taps


def kept_with_mean(
    size: tuple[int, ...],
    kernel_size: Pair,
    padding: Pair | str,
    stride: Pair = 1,
    dilation: Pair = 1,
    padding_mode: str = "zeros",
) -> Array:
    """(H', W'): what the product of an output pixel and the mean output keeps of a constant input.

    The mean of the outputs weighs tap t by the share f_t of the outputs at which it is inside of the
    image; a pixel keeps the mean over its kernel of f_t, a missing tap counting 0.  All ones where
    nothing is missing; the mean over pixels is the mean of f_t².
    """
    axes = []
    for axis in _axes(size, kernel_size, padding, stride, dilation, padding_mode):
        inside = _taps(*axis) > 0
        axes.append((inside * inside.mean(0)).mean(1))
    kept: Array = np.outer(*axes)
    return kept


Axis = tuple[int, int, int, int, int, int, str]  # the arguments of ``axis_map``


def _axes(
    size: tuple[int, ...],
    kernel_size: Pair,
    padding: Pair | str,
    stride: Pair,
    dilation: Pair,
    padding_mode: str,
) -> list[Axis]:
    if len(size) != 2:
        raise RequestError(f"the power of an image has two dimensions (H, W), not {len(size)}")
    kernel, strides, dilations = _pair(kernel_size), _pair(stride), _pair(dilation)
    for value in (*kernel, *strides, *dilations):
        check_whole("kernel size, stride and dilation", value, 1, 100_000)
    if isinstance(padding, str):
        check_choice("padding", padding, ("same", "valid"))
        total = [
            d * (k - 1) if padding == "same" else 0 for k, d in zip(kernel, dilations, strict=True)
        ]
        ends = [(both // 2, both - both // 2) for both in total]  # torch's: the odd one goes last
    else:
        ends = [(check_whole("padding", p, 0, 100_000), p) for p in _pair(padding)]
    return [
        (size[axis], kernel[axis], *ends[axis], strides[axis], dilations[axis], padding_mode)
        for axis in (0, 1)
    ]


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
