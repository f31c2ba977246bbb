"""Which machine does the arithmetic, and a record of it."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import TYPE_CHECKING, Any

from theory.errors import RequestError, check_choice

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda", "mps")


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
