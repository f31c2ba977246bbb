"""Images as tensors that live on the device, and the report's augmentation in whole batches.

The augmentation is torchvision's

    RandomHorizontalFlip(½) → RandomCrop(size, padding=4) → ToTensor → Normalize(mean, std)

with the same distribution (per image and independent) and, for the same flip and offsets, the same
bits: ``augment_with`` is a pure function of them, ``sample_offsets`` draws them on the CPU.  The crop
pads the raw image, so its border is black *before* the normalization.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

Values = tuple[float, ...]  # one per channel

PADDING = 4
OFFSETS = 2 * PADDING + 1  # a crop starts at one of 0 … 8 in each direction


@dataclass(frozen=True)
class Dataset:
    """A labelled image set on one device.

    train_images, test_images   uint8 (N, H, W, C): raw, not normalized
    train_labels, test_labels   int64 (N,)
    """

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor

    def limited(self, train: int | None, test: int | None) -> Dataset:
        """The first ``train`` and ``test`` images (None: all of them)."""
        sizes = (train, train, test, test)
        return Dataset(*(part[:size] for part, size in zip(vars(self).values(), sizes, strict=True)))

    def to(self, device: torch.device) -> Dataset:
        """The same set on ``device``."""
        return Dataset(*(part.to(device) for part in vars(self).values()))


class Offsets(NamedTuple):
    """What the augmentation decides per image: flip first, then crop from (top, left)."""

    flips: torch.Tensor  # bool (B,)
    tops: torch.Tensor  # int64 (B,), 0 … 8
    lefts: torch.Tensor  # int64 (B,), 0 … 8

    def part(self, start: int, stop: int) -> Offsets:
        """The offsets of images ``start`` to ``stop``."""
        return Offsets(*(each[start:stop] for each in self))

    def to(self, device: torch.device) -> Offsets:
        """The same offsets on ``device``."""
        return Offsets(*(each.to(device) for each in self))


def sample_offsets(count: int, generator: torch.Generator, augment: str = "flip+crop") -> Offsets:
    """Independent offsets for ``count`` images: flips with probability ½, crops uniform on 0 … 8.

    All are drawn, whatever ``augment`` keeps: "flip" flips the very images that "flip+crop" does.
    """
    drawn = Offsets(
        torch.rand(count, generator=generator) < 0.5,
        torch.randint(OFFSETS, (count,), generator=generator),
        torch.randint(OFFSETS, (count,), generator=generator),
    )
    kept = augment.split("+")
    flips = drawn.flips if "flip" in kept else torch.zeros_like(drawn.flips)
    tops, lefts = (
        at if "crop" in kept else torch.full_like(at, PADDING) for at in (drawn.tops, drawn.lefts)
    )
    return Offsets(flips, tops, lefts)


def augment_with(
    images: torch.Tensor,
    flips: torch.Tensor,
    tops: torch.Tensor,
    lefts: torch.Tensor,
    mean: Values,
    std: Values,
) -> torch.Tensor:
    """Flip, crop and normalize ``images`` by the given decisions; bit for bit torchvision's result.

    images   uint8 (B, H, W, C);  flips bool (B,);  tops, lefts int64 (B,) in 0 … 8
    returns  float32 (B, C, H, W) in channels_last

    One gather: output pixel (y, x) is input pixel (y + top − 4, x + left − 4), and of a flipped image
    (y + top − 4, W − 1 − (x + left − 4)); black outside.
    """
    batch, height, width, channels = images.shape
    side = width + 2 * PADDING
    padded = images.new_zeros(batch, height + 2 * PADDING, side, channels)
    padded[:, PADDING : PADDING + height, PADDING : PADDING + width] = images

    ys = torch.arange(height, device=images.device)
    xs = torch.arange(width, device=images.device)
    columns = lefts[:, None] + xs
    columns = torch.where(flips[:, None], side - 1 - columns, columns)
    rows = tops[:, None] + ys
    first = torch.arange(batch, device=images.device)[:, None] * (height + 2 * PADDING)
    pixels = ((first + rows) * side)[:, :, None] + columns[:, None, :]
    return normalize(padded.view(-1, channels)[pixels], mean, std)


def normalize(images: torch.Tensor, mean: Values, std: Values) -> torch.Tensor:
    """Raw uint8 (B, H, W, C) to normalized float32 (B, C, H, W) in channels_last.

    The arithmetic of ToTensor and Normalize: x/255, minus the mean, divided by the std, in float32.
    """
    batch, height, width, channels = images.shape
    row = images.reshape(batch, -1)  # one long row per image, so that each pass over it is vectorized

    def constant(values: Values) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32).repeat(height * width).to(images.device)

    # Division by a tensor on the device: by a Python number, CUDA would multiply by its reciprocal.
    scaled = row.to(torch.float32).div_(constant((255.0,) * channels))
    scaled.sub_(constant(mean)).div_(constant(std))
    return scaled.view(batch, height, width, channels).permute(0, 3, 1, 2)
