"""A training step as one CUDA graph: everything from the data set to the optimizer in one launch.

A step of a small network is a few hundred kernels of a few microseconds, and Python takes longer to
launch one than the GPU to run it.  A CUDA graph holds them all with their addresses and is launched
as a whole (Nguyen et al. 2021, https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs).

``torch.compile(mode="reduce-overhead")`` captures too, in one line in place of the hundred of this
module, but forward and backward alone: the batch and the optimizer stay outside.  It also compiles
before the first step and needs triton.  So the capture is made by hand.

What is captured must not depend on the host: so the batch is gathered and augmented on the device
from its indices and offsets (``Batches``, the bits of ``datasets.augment_with``), the optimizer
counts its steps on the device, and the steps that set everything up before the capture are undone
(``state_kept``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch

from empirical.data.catalog import ImageSet
from empirical.data.datasets import PADDING, Dataset

WARM_UPS = 3  # steps before the capture, in which libraries choose their kernels and workspaces


class Captured:
    """``function`` of tensors whose shapes do not change, captured once and replayed at every call.

    ``inputs`` are examples of its arguments; ``state`` are the tensors that it changes in place, with
    those of ``optimizer``.  Nothing is changed by the capture itself.  CUDA only.
    """

    def __init__(
        self,
        function: Callable[..., torch.Tensor],
        inputs: Sequence[torch.Tensor],
        state: Sequence[torch.Tensor],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self.inputs = [value.clone() for value in inputs]
        with state_kept(state, optimizer):
            self.warm_up(function)
        with _capturable(optimizer):
            self.capture(function)

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        for held, new in zip(self.inputs, inputs, strict=True):
            held.copy_(new)
        return self.replay()

    def fits(self, *inputs: torch.Tensor) -> bool:
        """Whether ``inputs`` have the shapes that were captured."""
        return [value.shape for value in inputs] == [held.shape for held in self.inputs]

    def warm_up(self, function: Callable[..., torch.Tensor]) -> None:
        """Run ``function`` a few times on a stream of its own, as a capture needs it."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), _tuned():
            for _ in range(WARM_UPS):
                function(*self.inputs)
        torch.cuda.current_stream().wait_stream(side)

    def capture(self, function: Callable[..., torch.Tensor]) -> None:
        self.graph = torch.cuda.CUDAGraph()
        with _tuned(), torch.cuda.graph(self.graph):
            self.output = function(*self.inputs)

    def replay(self) -> torch.Tensor:
        """Run what was captured on the inputs as they are; the next call does not touch the result."""
        self.graph.replay()
        return self.output.clone()


@contextlib.contextmanager
def state_kept(state: Sequence[torch.Tensor], optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Put ``state`` and the optimizer's own tensors back in place on leaving.

    Tensors that the optimizer makes in the meantime become zeros, as which Adam's begin; SGD's first
    velocity is the gradient, which is also what zero makes it.
    """
    before = [value.detach().clone() for value in state]
    moments = {
        parameter: {name: value.clone() for name, value in own.items() if torch.is_tensor(value)}
        for parameter, own in optimizer.state.items()
    }
    try:
        yield
    finally:
        with torch.no_grad():
            for value, old in zip(state, before, strict=True):
                value.copy_(old)
            for parameter, own in optimizer.state.items():
                for name, value in own.items():
                    if torch.is_tensor(value):
                        first = moments.get(parameter, {}).get(name)
                        value.zero_() if first is None else value.copy_(first)


@contextlib.contextmanager
def _capturable(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Let Adam be captured; its groups, which are part of a cell's state, are then as before.

    The flag only permits: the fused optimizers keep their steps on the device with and without it.
    """
    groups = [group for group in optimizer.param_groups if "capturable" in group]
    before = [group["capturable"] for group in groups]
    try:
        for group in groups:
            group["capturable"] = True
        yield
    finally:
        for group, value in zip(groups, before, strict=True):
            group["capturable"] = value


@contextlib.contextmanager
def _tuned() -> Iterator[None]:
    """Let cuDNN time its kernels: the choice is made once and replayed in every step."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class Batches:
    """Gathers and augments batches of K cells at once, without asking the host.

    For cells k with images ``chosen[:, k]`` of the training set and their offsets it gives what
    ``datasets.augment_with`` gives for each, bit for bit, cell beside cell in the channels.  ``row``
    holds the statistics to normalize by.
    """

    def __init__(self, dataset: Dataset, row: ImageSet) -> None:
        images = dataset.train_images
        _, self.height, self.width, channels = images.shape
        self.pixels, self.labels = images.reshape(-1, channels), dataset.train_labels
        self.ys, self.xs = (
            torch.arange(size, device=images.device) - PADDING for size in (self.height, self.width)
        )
        # Division by a tensor on the device: by a Python number, CUDA multiplies by its reciprocal.
        self.constants = [
            torch.tensor(values, device=images.device)
            for values in ((255.0,) * channels, row.mean, row.std)
        ]

    def __call__(
        self, chosen: torch.Tensor, flips: torch.Tensor, tops: torch.Tensor, lefts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (B, K·C, H, W) in channels_last and labels (B, K); all arguments are (B, K)."""
        rows = (tops[:, None] + self.ys[:, None])[:, :, None]  # (B, H, 1, K)
        columns = lefts[:, None] + self.xs[:, None]
        columns = torch.where(flips[:, None], self.width - 1 - columns, columns)[:, None]
        inside = (
            (rows >= 0) & (rows < self.height) & (columns >= 0) & (columns < self.width)
        )  # the rest is black
        rows, columns = rows.clamp(0, self.height - 1), columns.clamp(0, self.width - 1)
        places = (chosen[:, None, None] * self.height + rows) * self.width + columns
        maps = (self.pixels[places] * inside[..., None]).to(torch.float32)
        scale, mean, std = self.constants
        maps = maps.div_(scale).sub_(mean).div_(std).flatten(3)  # (B, H, W, K·C)
        return maps.permute(0, 3, 1, 2), self.labels[chosen]
