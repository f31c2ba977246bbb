"""Sums are taken in float64."""

from __future__ import annotations

import torch


def widened(tensor: torch.Tensor) -> torch.Tensor:
    """``tensor`` in float64, where it lies; on the CPU for MPS, which has no float64."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).to(torch.float64)
