"""Arithmetic in float64 on many small networks: on which device, and with how many threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from theory.devices import resolve_device
from theory.errors import RequestError

if TYPE_CHECKING:
    import torch

# Below this width a product is done before a second thread has woken up.
WIDTH_FOR_THREADS = 512


def float64_device(name: str) -> torch.device:
    """The device called ``name``, with the CPU in MPS's place for ``auto``: MPS has no float64.

    Raises ``RequestError`` as ``resolve_device`` does, and for ``mps``.
    """
    device = resolve_device(name)
    if device.type != "mps":
        return device
    if name == "mps":
        raise RequestError("this command computes in float64, which mps lacks; use --device cpu")
    return resolve_device("cpu")


def widened(tensor: torch.Tensor) -> torch.Tensor:
    """``tensor`` in float64, where it lies; on the CPU for MPS, which has no float64."""
    import torch

    return (tensor.cpu() if tensor.device.type == "mps" else tensor).to(torch.float64)


@contextmanager
def threads_for(width: int) -> Iterator[None]:
    """Inside the block torch uses one CPU thread if ``width`` is small; then as many as before."""
    import torch

    before = torch.get_num_threads()
    if width < WIDTH_FOR_THREADS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
