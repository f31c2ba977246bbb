"""What a cell costs, by formula: arithmetic, and time relative to other cells.

A network of depth L and F filters on an image of C channels, for K classes, does, with s_l the side of
the map that convolution l works on (``TrainSpec.map_sizes``) and s the side that reaches the linear
layer,

    products = 9·C·F·s_1² + Σ_{l=2…L} 9·F²·s_l² + K·F·s²

multiplications forward, each with an addition.  Training does them three times, forward and for the
gradients of weights and inputs, but for the first convolution, whose input needs no gradient.

Time also has a part that is no arithmetic: activations, batch norm and Adam pass over memory.
``work_per_image`` adds it as 300 products per value of a map, measured on CPUs; it only ranks cells.

This module imports neither torch nor numpy.
"""

from __future__ import annotations

from empirical.protocol import TrainSpec

KERNEL = 9  # a 3×3 window
SMALL_STEP = 5e8  # work of a step that a second thread does not make faster
PASSES = 300.0  # cost of a map's value beside the products, in products


def work(cell: TrainSpec) -> float:
    """Relative cost of the whole cell, of images of the same number per epoch."""
    return work_per_image(cell) * cell.epochs


def is_small(cell: TrainSpec) -> bool:
    """Whether one thread does a step of ``cell`` as fast as two: of digits, not of CIFAR-10.

    >>> is_small(TrainSpec(depth=2)), is_small(TrainSpec(depth=2, dataset="digits", augment="none"))
    (False, True)
    """
    return work_per_image(cell) * cell.batch_size < SMALL_STEP


def work_per_image(cell: TrainSpec) -> float:
    """Relative cost of training on one image: multiplications, and passes over the maps.

    Of a network for vectors or sequences its parameters, once for every step.
    """
    if cell.data.takes != "images":
        return float(
            cell.parameters * cell.length + PASSES * cell.filters * max(cell.length, cell.depth)
        )
    products = _convolutions(cell)
    values = cell.filters * sum(size**2 for size in cell.map_sizes)
    return sum(products) + PASSES * values


def training_flops(cell: TrainSpec) -> int:
    """Floating-point operations of convolutions and linear layer in a training step, per image.

    Forward, and backward to all but the image itself; a multiplication with its addition counts as two.

    >>> training_flops(TrainSpec(depth=2))
    62128128
    """
    first, *later = _convolutions(cell)
    return 2 * (2 * first + 3 * (sum(later) + _head(cell)))


def _convolutions(cell: TrainSpec) -> list[int]:
    """Multiplications of each convolution for one image."""
    channels = [cell.data.inputs] + [cell.filters] * (cell.depth - 1)
    return [
        KERNEL * inside * cell.filters * size**2
        for inside, size in zip(channels, cell.map_sizes, strict=True)
    ]


def _head(cell: TrainSpec) -> int:
    return cell.head_size**2 * cell.filters * cell.data.classes
