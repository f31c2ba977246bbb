"""Which machine does the arithmetic, in which precision and with how many threads; a record of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import metadata
from typing import TYPE_CHECKING, Any

from theory.errors import RequestError, check_choice

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda", "mps")
# Below this width a product is done before a second thread has woken up.
WIDTH_FOR_THREADS = 512


def resolve_device(name: str = "auto") -> torch.device:
    """The torch device called ``name``; ``auto`` takes CUDA, then MPS, then the CPU.

    On CUDA it also turns TF32 off, for the whole process: torch lets convolutions round their factors
    to ten bits there, and float32 in our records and pictures means float32.
    Raises ``RequestError`` for an unknown name and for a device that this machine does not have.
    """
    import torch

    check_choice("device", name, DEVICES)
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, there in present.items() if there)
    if not present[name]:
        there = ", ".join(kind for kind, is_there in present.items() if is_there)
        raise RequestError(f"no {name} device on this machine (torch sees: {there}); use --device auto")
    if name == "cuda":
        torch.backends.cudnn.allow_tf32 = False
    return torch.device(name)


def environment(device: torch.device) -> dict[str, Any]:
    """What a result depends on beside its spec: versions, hardware, threads."""
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()
    return {
        "version": project_version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": device.type,
        "hardware": name,
        "threads": torch.get_num_threads(),
        "platform": platform.platform(terse=True),
        "cpus": os.cpu_count(),
    }


def project_version() -> str:
    """The installed version of this project, or ``unknown`` when it runs uninstalled."""
    try:
        return metadata.version("fanin")
    except metadata.PackageNotFoundError:
        return "unknown"


def processor_name() -> str:
    """The processor's model name where the operating system tells it, else its architecture."""
    try:
        with open("/proc/cpuinfo") as lines:  # noqa: PTH123 (a kernel table, not a file of ours)
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


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


def threads_for(width: int) -> AbstractContextManager[None]:
    """Inside the block torch uses one CPU thread if ``width`` is small; then as many as before."""
    return one_thread_if(width < WIDTH_FOR_THREADS)


@contextmanager
def one_thread_if(small: bool) -> Iterator[None]:
    """Inside the block torch uses one CPU thread if the work of a step is ``small``.

    A second thread gains little on it, and on a busy machine the two wait for each other.
    """
    import torch

    before = torch.get_num_threads()
    if small:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
