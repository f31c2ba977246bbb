"""The engine of a cell, by a fixed rule: the same command runs the same engine everywhere it is alike.

    eager     the network's modules, one after the other, by torch's own kernels: on a CPU, and on MPS
    stacked   cells of one shape in the calls of one, each step one CUDA graph (engines.groups): on
              CUDA, of the course report's networks alone

Any can be asked for by name.  An engine runs the *same modules*, with the same parameters, buffers and
optimizer, so that a cell's state does not depend on it.  Instruments read the modules themselves and
see the same under each.  The engine is fixed when a cell begins, because the last bits depend on it.

Nothing is timed here.  A stopwatch would give one command other last bits from day to day;
``benchmarks/training_step.py`` times the engines where somebody asks for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import nn

from empirical.engines.stacked import stacked_forward
from empirical.protocol import PAST_ENGINES, TrainSpec
from theory.errors import RequestError

EAGER, STACKED = "eager", "stacked"


def stack_of_one(network: nn.Sequential, images: torch.Tensor) -> torch.Tensor:
    """Logits by the same calls as for many cells, on the network's own parameters.

    ``empirical.engines.groups`` trains many; this is what a cell of theirs is by itself.
    """
    own = itertools.chain(network.named_parameters(), network.named_buffers())
    tensors = {name: value.unsqueeze(0) for name, value in own}
    return stacked_forward(dict(network.named_children()), tensors, images, network.training)[0]


def in_precision(
    layers: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, precision: str
) -> torch.Tensor:
    """What ``layers`` make of ``images``, in float32 or wider; with bf16 they run under autocast."""
    if precision == "fp32":
        return layers(images)
    with torch.autocast(images.device.type, dtype=torch.bfloat16):
        logits = layers(images)
    return logits.float()


def engine_name(asked: str, kind: str) -> str:
    """The engine that ``asked`` (auto, or one by name) means on a device of this ``kind``.

    >>> engine_name("auto", "cpu"), engine_name("auto", "cuda"), engine_name("eager", "cuda")
    ('eager', 'stacked', 'eager')
    """
    if asked in PAST_ENGINES:
        raise RequestError(f"the engine {asked} is gone: eager gives the same to rounding")
    if asked != "auto":
        return asked
    return STACKED if kind == "cuda" else EAGER


def engine_for(spec: TrainSpec, kind: str, begun_with: str = "") -> tuple[str, list[str]]:
    """The engine that trains the cell ``spec`` on a device of this ``kind``, and notes for its record.

    ``begun_with`` is the engine of a cell to go on with: it is taken whatever ``spec`` asks for; if
    there is none of that name any more, eager takes its place and a note says so.
    """
    name = begun_with or (EAGER if not spec.is_classic else engine_name(spec.engine, kind))
    if name in (EAGER, STACKED):
        return name, []
    return EAGER, [
        f"begun with the engine {name}, which is gone: went on with eager, the same to rounding"
    ]
