"""What a cell costs, by formula: arithmetic, time relative to other cells, and fair shares of a grid.

A network of depth L and F filters on a 32×32 image does, with s_l the side of the map that convolution
l works on (``TrainSpec.map_sizes``) and s the side that reaches the linear layer,

    products = 9·3·F·s_1² + Σ_{l=2…L} 9·F²·s_l² + 10·F·s²

multiplications forward, each with an addition.  Training does them three times, forward and for the
gradients of weights and inputs, but for the first convolution, whose input needs no gradient.

Time also has a part that is no arithmetic: activations, batch norm and Adam pass over memory.
``work_per_image`` adds it as 300 products per value of a map, measured on CPUs; it only ranks cells.

This module imports neither torch nor numpy: an impossible share is refused in milliseconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from empirical.protocol import CLASSES, StudySpec, TrainSpec
from theory.errors import RequestError

KERNEL = 9  # a 3×3 window
COLORS = 3
PASSES = 300.0  # cost of a map's value beside the products, in products


@dataclass(frozen=True)
class Share:
    """Part ``number`` (from 1) of ``count`` parts of a grid.

    >>> Share.parse("2/16")
    Share(number=2, count=16)
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Share:
        """``i/n`` with 1 ≤ i ≤ n, else a ``RequestError``."""
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if match and 1 <= int(match[1]) <= int(match[2]):
            return cls(int(match[1]), int(match[2]))
        raise RequestError(f"--shard must be i/n with i from 1 to n, such as 1/16, not {text!r}")


def cells_of(spec: StudySpec, share: Share) -> list[TrainSpec]:
    """The cells of ``spec`` that are in ``share``, in the order of the grid.

    From the most work to the least (equal ones in the grid's order), each cell goes to the part that
    has the least so far (of equal ones, the first).  So every cell is in exactly one part, the parts
    take about equally long, and the division follows from the grid alone: it is the same on every
    machine, whatever is finished.
    """
    cells = spec.cells()
    loads = [0.0] * share.count
    mine = set()
    for index in heaviest_first(cells):
        part = loads.index(min(loads))
        loads[part] += work(cells[index])
        if part == share.number - 1:
            mine.add(index)
    return [cell for index, cell in enumerate(cells) if index in mine]


def heaviest_first(cells: list[TrainSpec]) -> list[int]:
    """Positions in ``cells``, the most work first, equal ones in order.

    Processes that take the longest cells first end at about the same time.
    """
    efforts = [work(cell) for cell in cells]
    return sorted(range(len(cells)), key=lambda index: -efforts[index])


def work(cell: TrainSpec) -> float:
    """Relative cost of the whole cell, of images of the same number per epoch."""
    return work_per_image(cell) * cell.epochs


def work_per_image(cell: TrainSpec) -> float:
    """Relative cost of training on one image: multiplications, and passes over the maps."""
    products = _convolutions(cell)
    values = cell.filters * sum(size**2 for size in cell.map_sizes)
    return sum(products) + PASSES * values


def forward_flops(cell: TrainSpec) -> int:
    """Floating-point operations of the convolutions and the linear layer for one image, forward.

    A multiplication with its addition counts as two.

    >>> forward_flops(TrainSpec(depth=2))
    21299200
    """
    return 2 * (sum(_convolutions(cell)) + _head(cell))


def training_flops(cell: TrainSpec) -> int:
    """The same for a training step, per image: forward, and backward to all but the image itself."""
    first, *later = _convolutions(cell)
    return 2 * (2 * first + 3 * (sum(later) + _head(cell)))


def _convolutions(cell: TrainSpec) -> list[int]:
    """Multiplications of each convolution for one image."""
    channels = [COLORS] + [cell.filters] * (cell.depth - 1)
    return [
        KERNEL * inside * cell.filters * size**2
        for inside, size in zip(channels, cell.map_sizes, strict=True)
    ]


def _head(cell: TrainSpec) -> int:
    return cell.head_size**2 * cell.filters * CLASSES
