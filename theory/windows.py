"""What the windows of a convolution see: power maps through kernel, padding, stride and dilation.

The map of an image is the product of the maps of its two axes.  It is the geometry alone, without
weights: ``theory.law.convolution`` and the rules of ``theory.predict`` follow second moments by it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory.errors import RequestError, check_choice, check_whole

Array = NDArray[np.float64]
Pair = int | tuple[int, int]
PADDING_MODES = ("zeros", "circular", "reflect", "replicate")


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
    rows, columns = _axis_maps(power.shape, kernel_size, padding, stride, dilation, padding_mode)
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
    rows, columns = _axis_maps(_pair(input_size), kernel_size, padding, stride, dilation, padding_mode)
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
    check_choice("padding mode", padding_mode, PADDING_MODES)
    reach = dilation * (kernel - 1) + 1
    outputs = (size + before + after - reach) // stride + 1
    if size < 1 or outputs < 1:
        raise RequestError(
            f"a kernel that reaches over {reach} pixels does not fit an axis of {size} "
            f"with padding {before} and {after}: make the image larger or the kernel smaller"
        )
    first = stride * np.arange(outputs)[:, None] - before
    taps = first + dilation * np.arange(kernel)[None, :]
    result = np.zeros((outputs, size))
    output = np.broadcast_to(np.arange(outputs)[:, None], taps.shape)
    if padding_mode == "zeros":
        inside = (taps >= 0) & (taps < size)
        np.add.at(result, (output[inside], taps[inside]), 1 / kernel)
    else:
        np.add.at(result, (output, _folded(taps, size, padding_mode)), 1 / kernel)
    result.setflags(write=False)
    return result


def _folded(taps: NDArray[Any], size: int, padding_mode: str) -> NDArray[Any]:
    """The input pixel that a tap outside of the image reads, as ``torch.nn.functional.pad`` has it."""
    if padding_mode == "circular":
        return taps % size
    if padding_mode == "replicate":
        return taps.clip(0, size - 1)
    period = max(2 * (size - 1), 1)
    folded = taps % period
    return np.where(folded < size, folded, period - folded)


def _axis_maps(
    size: tuple[int, ...],
    kernel_size: Pair,
    padding: Pair | str,
    stride: Pair,
    dilation: Pair,
    padding_mode: str,
) -> tuple[Array, Array]:
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
    maps = [
        axis_map(size[axis], kernel[axis], *ends[axis], strides[axis], dilations[axis], padding_mode)
        for axis in (0, 1)
    ]
    return maps[0], maps[1]


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
