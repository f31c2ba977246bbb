"""Batch norm, rectifier and max-pool of a layer in one pass each way, on a CPU.

After the convolutions, which run at the processor's arithmetic peak, a step's time goes into passes
over maps of 8 MB: batch norm reads its input three times forward and four times backward, the rectifier
twice and three times, the pool twice and thrice.  ``fused.cpp`` does what the three do together, to
rounding, in two reads forward and two backward.

The C++ file is compiled once per machine by whatever compiler ``$CXX``, ``c++`` or ``g++`` names, in a
few seconds, into the user's cache folder.  It uses the OpenMP runtime that torch has loaded.  Where
there is no compiler, ``library`` raises ``Unavailable`` with the reason.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from empirical.records.locations import cache_folder

SOURCE = Path(__file__).with_name("fused.cpp")
# No contraction: the backward pass must compute again the very bits of the forward pass.
FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-ffp-contract=off", "-fno-trapping-math"),
    *("-fPIC", "-fopenmp", "-Wno-psabi"),
)
COMPILE_SECONDS = 300
TYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}


class Unavailable(Exception):
    """Why this machine or this network has no fused layers, in a few words."""


@dataclass(frozen=True)
class FusedLayer:
    """The modules that one call of the kernel stands for; ``slope`` is None for ReLU."""

    convolution: nn.Conv2d
    norm: nn.BatchNorm2d | None
    slope: torch.Tensor | None
    pool: bool


def fused_layers(network: nn.Sequential) -> list[FusedLayer]:
    """The layers of ``network`` before its head; ``Unavailable`` if the kernel lacks one."""
    layers: list[FusedLayer] = []
    modules = list(network)[:-1]
    while modules:
        convolution = modules.pop(0)
        norm: nn.BatchNorm2d | None = None
        if modules and isinstance(modules[0], nn.BatchNorm2d):
            norm = modules[0]
            del modules[0]
        activation = modules.pop(0) if modules else None
        pool = modules.pop(0) if modules and isinstance(modules[0], nn.MaxPool2d) else None
        if not isinstance(convolution, nn.Conv2d):
            raise Unavailable(f"the kernel knows no {type(convolution).__name__} here")
        slope: torch.Tensor | None = None
        if isinstance(activation, nn.PReLU):
            slope = activation.weight
        elif isinstance(activation, nn.LeakyReLU):
            slope = convolution.weight.new_tensor([activation.negative_slope])
        elif not isinstance(activation, nn.ReLU):
            raise Unavailable(f"the kernel knows no {type(activation).__name__}")
        layers.append(FusedLayer(convolution, norm, slope, pool is not None))
    return layers


def fused_forward(
    network: nn.Sequential, layers: list[FusedLayer], images: torch.Tensor
) -> torch.Tensor:
    """What ``network(images)`` gives, to rounding; ``layers`` are ``fused_layers(network)``.

    Hooks of the norms, activations and pools do not run.  The graph can be gone back through once.
    """
    maps = images
    for layer in layers:
        norm = layer.norm
        maps = _FusedLayer.apply(
            layer.convolution(maps),
            norm.weight if norm is not None else None,
            norm.bias if norm is not None else None,
            layer.slope,
            norm,
            layer.pool,
        )
    logits: torch.Tensor = network[-1](maps)
    return logits


class _Arguments(ctypes.Structure):
    """One call: ``struct Arguments`` of fused.cpp."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("type", "images", "channels", "height", "width")),
        *((name, ctypes.c_int64) for name in ("threads", "norm", "sloped", "pool", "training")),
        *((name, ctypes.c_double) for name in ("momentum", "epsilon")),
        *((name, ctypes.c_void_p) for name in ("u", "output", "gradient", "gamma", "beta")),
        *((name, ctypes.c_void_p) for name in ("running_mean", "running_variance")),
        *((name, ctypes.c_void_p) for name in ("slope", "saved", "gradients")),
    )


class _FusedLayer(torch.autograd.Function):
    """(u, γ, β, a) -> the pooled rectified batch norm of u; going back overwrites u."""

    @staticmethod
    def forward(
        ctx: Any,
        u: torch.Tensor,
        gamma: torch.Tensor | None,
        beta: torch.Tensor | None,
        slope: torch.Tensor | None,
        norm: nn.BatchNorm2d | None,
        pool: bool,
    ) -> torch.Tensor:
        u = u.contiguous(memory_format=torch.channels_last)
        images, channels, height, width = u.shape
        wide = torch.float64 if u.dtype == torch.float64 else torch.float32
        shape = (images, channels, height // 2, width // 2) if pool else u.shape
        output = torch.empty(shape, dtype=u.dtype, memory_format=torch.channels_last)
        saved = torch.empty(4 * channels + 1, dtype=wide)
        call = _Arguments(
            TYPES[u.dtype], images, channels, height, width,
            torch.get_num_threads(), norm is not None, slope is not None, pool,
        )  # fmt: skip
        call.u, call.output, call.saved = u.data_ptr(), output.data_ptr(), saved.data_ptr()
        if norm is not None:
            _give_norm(call, norm, wide)
        if slope is not None:
            call.slope = _pointer(slope, wide)
        library().fanin_forward(ctypes.byref(call))
        ctx.save_for_backward(u, saved)
        ctx.call = call
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        u, saved = ctx.saved_tensors
        call, ctx.call = ctx.call, None
        if call is None:
            raise RuntimeError("fused layers can be gone back through only once: u is overwritten")
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        channels = u.shape[1]
        gradients = torch.empty(2 * channels + 1, dtype=saved.dtype)
        call.gradient, call.gradients = gradient.data_ptr(), gradients.data_ptr()
        library().fanin_backward(ctypes.byref(call))
        parts = (gradients[channels:-1], gradients[:channels], gradients[-1:])  # of γ, β and the slope
        wanted = zip(parts, ctx.needs_input_grad[1:4], strict=True)
        return u, *(part if needed else None for part, needed in wanted), None, None


def _give_norm(call: _Arguments, norm: nn.BatchNorm2d, wide: torch.dtype) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    assert norm.num_batches_tracked is not None and norm.momentum is not None
    call.training, call.momentum, call.epsilon = norm.training, norm.momentum, norm.eps
    call.gamma, call.beta = _pointer(norm.weight, wide), _pointer(norm.bias, wide)
    call.running_mean = _pointer(norm.running_mean, wide)
    call.running_variance = _pointer(norm.running_var, wide)
    if norm.training:
        if call.images * call.height * call.width == 1:
            raise ValueError("batch norm needs more than one value per channel to train on")
        norm.num_batches_tracked.add_(1)


def _pointer(tensor: torch.Tensor, dtype: torch.dtype) -> int:
    assert tensor.dtype == dtype and tensor.is_contiguous()
    return tensor.data_ptr()


@cache
def library() -> ctypes.CDLL:
    """The compiled kernels, kept in the cache folder; ``Unavailable`` where they cannot be had."""
    compiler = find_compiler()
    source = SOURCE.read_bytes()
    about = "\n".join((*compiler, *FLAGS, _output([*compiler, "--version"]), _processor()))
    digest = hashlib.sha256(source + about.encode()).hexdigest()[:16]
    try:
        path = cache_folder() / f"fused-{digest}.so"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _build(compiler, path)
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise Unavailable(f"the compiled kernels cannot be kept or loaded: {error}") from error
    for function in (loaded.fanin_forward, loaded.fanin_backward):
        function.argtypes, function.restype = [ctypes.c_void_p], None
    return loaded


def find_compiler() -> list[str]:
    """The C++ compiler as the words of a command; ``Unavailable`` if there is none."""
    named = shlex.split(os.environ.get("CXX", ""))
    for words in (named, ["c++"], ["g++"], ["clang++"]):
        if words and shutil.which(words[0]):
            return words
    raise Unavailable("no C++ compiler is found ($CXX, c++, g++ or clang++)")


def _build(compiler: list[str], path: Path) -> None:
    """Compile to ``path``: beside it and renamed, so that processes that start together agree."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="fused-") as folder:
        object_file, shared = Path(folder) / "fused.o", Path(folder) / "fused.so"
        _output([*compiler, *FLAGS, "-c", str(SOURCE), "-o", str(object_file)])
        # Linked without -fopenmp: its symbols are those of the runtime that torch has brought.
        _output([*compiler, "-shared", str(object_file), "-o", str(shared)])
        shared.replace(path)


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMPILE_SECONDS,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["no message"])[0]
        raise Unavailable(f"{command[0]} failed: {reason}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]} failed: {error}") from error
    return done.stdout


def _processor() -> str:
    """What -march=native depends on, so that a cache shared by unlike machines is safe."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    known = {line for line in lines if line.startswith(("flags", "Features", "model name"))}
    return "\n".join((platform.machine(), platform.processor(), *sorted(known)))
