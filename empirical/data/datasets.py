"""CIFAR-10 as tensors that live on the device, and the report's augmentation in whole batches.

The files are those of Krizhevsky (2009), read and checked against their published MD5 sums by
torchvision's own class.  They come from ``--data-dir``, else ``$CIFAR10_DIR``, else a per-user cache
that is filled once from the official address or a mirror of the same archive.

The augmentation is torchvision's

    RandomHorizontalFlip(½) → RandomCrop(32, padding=4) → ToTensor → Normalize(mean, std)

with the same distribution (per image and independent) and, for the same flip and offsets, the same
bits: ``augment_with`` is a pure function of them, ``sample_offsets`` draws them on the CPU.  The crop
pads the raw image, so its border is black *before* the normalization.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from empirical.records.locations import FOLDER, HOW_TO_SUPPLY, cache_folder, find_cifar10
from theory.errors import RequestError, WorkError

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)
PADDING = 4
OFFSETS = 2 * PADDING + 1  # a crop starts at one of 0 … 8 in each direction

ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
MIRRORS = (
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",  # the official address
    "https://dataset.bj.bcebos.com/cifar/cifar-10-python.tar.gz",  # PaddlePaddle's copy, same MD5
)
TIMEOUT_SECONDS = 30.0
LOCK_SECONDS = 1800.0
DISK_GAVE_OUT = {
    getattr(errno, name, None): reason
    for name, reason in (
        ("ENOSPC", "the disk is full"),
        ("EDQUOT", "the disk quota is used up"),
        ("EIO", "the disk fails"),
    )
}


@dataclass(frozen=True)
class Dataset:
    """A labelled image set on one device.

    train_images, test_images   uint8 (N, 32, 32, 3): raw, not normalized
    train_labels, test_labels   int64 (N,)
    """

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor

    def limited(self, train: int | None, test: int | None) -> Dataset:
        """The first ``train`` and ``test`` images (None: all of them)."""
        return replace(
            self,
            train_images=self.train_images[:train],
            train_labels=self.train_labels[:train],
            test_images=self.test_images[:test],
            test_labels=self.test_labels[:test],
        )

    def to(self, device: torch.device) -> Dataset:
        """The same set on ``device``."""
        return Dataset(
            self.train_images.to(device),
            self.train_labels.to(device),
            self.test_images.to(device),
            self.test_labels.to(device),
        )


class Offsets(NamedTuple):
    """What the augmentation decides per image: flip first, then crop from (top, left)."""

    flips: torch.Tensor  # bool (B,)
    tops: torch.Tensor  # int64 (B,), 0 … 8
    lefts: torch.Tensor  # int64 (B,), 0 … 8

    def part(self, start: int, stop: int) -> Offsets:
        """The offsets of images ``start`` to ``stop``."""
        return Offsets(self.flips[start:stop], self.tops[start:stop], self.lefts[start:stop])

    def to(self, device: torch.device) -> Offsets:
        """The same offsets on ``device``."""
        return Offsets(self.flips.to(device), self.tops.to(device), self.lefts.to(device))


def sample_offsets(
    count: int, generator: torch.Generator, augment: str = "flip+crop"
) -> Offsets:
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


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A randomly flipped and cropped, normalized batch; shapes as in ``augment_with``."""
    return augment_with(images, *sample_offsets(len(images), generator).to(images.device))


def augment_with(
    images: torch.Tensor, flips: torch.Tensor, tops: torch.Tensor, lefts: torch.Tensor
) -> torch.Tensor:
    """Flip, crop and normalize ``images`` by the given decisions; bit for bit torchvision's result.

    images   uint8 (B, H, W, 3);  flips bool (B,);  tops, lefts int64 (B,) in 0 … 8
    returns  float32 (B, 3, H, W) in channels_last

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
    return normalize(padded.view(-1, channels)[pixels])


def normalize(images: torch.Tensor) -> torch.Tensor:
    """Raw uint8 (B, H, W, 3) to normalized float32 (B, 3, H, W) in channels_last.

    The arithmetic of ToTensor and Normalize: x/255, minus the mean, divided by the std, in float32.
    """
    batch, height, width, channels = images.shape
    row = images.reshape(batch, -1)  # one long row per image, so that each pass over it is vectorized

    def constant(values: tuple[float, ...]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32).repeat(height * width).to(images.device)

    # Division by a tensor on the device: by a Python number, CUDA would multiply by its reciprocal.
    scaled = row.to(torch.float32).div_(constant((255.0,) * channels))
    scaled.sub_(constant(MEAN)).div_(constant(STD))
    return scaled.view(batch, height, width, channels).permute(0, 3, 1, 2)


def load_dataset(
    name: str,
    data_dir: Path | None,
    device: torch.device,
    *,
    limit_train: int | None = None,
    limit_test: int | None = None,
) -> Dataset:
    """The data set called ``name`` on ``device``; a one-line ``RequestError`` when it cannot be had."""
    assert name == "cifar10"  # the protocol has checked it
    folder = find_cifar10(data_dir) or fetch_cifar10(cache_folder())
    return read_cifar10(folder).limited(limit_train, limit_test).to(device)


def read_cifar10(folder: Path, source: type[Any] | None = None) -> Dataset:
    """CIFAR-10 from the batches in ``folder`` through torchvision, which checks every MD5 sum.

    ``source`` is torchvision's class, or a subclass of it with its own list of files and sums.
    """
    from torchvision.datasets import CIFAR10

    source = source or CIFAR10
    here = type(source.__name__, (source,), {"base_folder": ""})  # whatever the folder is called
    try:
        parts = [here(root=str(folder), train=train, download=False) for train in (True, False)]
    except (RuntimeError, OSError) as error:
        raise RequestError(diagnose(folder, source) or f"cannot read {folder}: {error}") from error
    tensors = []
    for part in parts:
        tensors.append(torch.from_numpy(np.ascontiguousarray(part.data)))
        tensors.append(torch.tensor(part.targets, dtype=torch.int64))
    return Dataset(*tensors)


def diagnose(folder: Path, source: type[Any]) -> str | None:
    """One line naming the first file that is missing, unreadable or not what was published."""
    expected = [*source.train_list, *source.test_list, [source.meta["filename"], source.meta["md5"]]]
    for filename, md5 in expected:
        path = folder / filename
        try:
            found = _md5(path)
        except FileNotFoundError:
            return f"{path} is missing: {HOW_TO_SUPPLY} in full"
        except OSError as error:
            return f"cannot read {path}: {error.strerror or error}"
        if found != md5:
            return (
                f"{path} is damaged: expected MD5 {md5}, found {found}; replace it by the official file"
            )
    return None


def fetch_cifar10(
    folder: Path, mirrors: tuple[str, ...] = MIRRORS, archive_md5: str = ARCHIVE_MD5
) -> Path:
    """Download CIFAR-10 into ``folder`` unless it is there; returns the folder of its batches.

    Processes that want it at the same time wait for one download.  The archive is checked and
    unpacked beside its place and then renamed, so a half-fetched data set is never seen.
    Raises ``RequestError`` where it cannot be had and ``WorkError`` when the disk gives out.
    """
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "download.lock", timeout=LOCK_SECONDS):
            if not (folder / FOLDER).is_dir():
                with tempfile.TemporaryDirectory(dir=folder, prefix="download-") as workplace:
                    archive = _download(Path(workplace), mirrors, archive_md5)
                    with tarfile.open(archive) as packed:
                        packed.extractall(workplace, filter="data")
                    (Path(workplace) / FOLDER).replace(folder / FOLDER)
    except Timeout:
        raise RequestError(
            f"another process has been downloading to {folder} for half an hour: {HOW_TO_SUPPLY}"
        ) from None
    except (OSError, tarfile.TarError) as error:
        number = getattr(error, "errno", None)
        if number is not None and number in DISK_GAVE_OUT:
            raise WorkError(
                f"could not keep CIFAR-10 in {folder}: {DISK_GAVE_OUT[number]}; "
                f"make room, name another cache with $XDG_CACHE_HOME, or {HOW_TO_SUPPLY}"
            ) from error
        raise RequestError(f"cannot keep CIFAR-10 in {folder} ({error}): {HOW_TO_SUPPLY}") from error
    return folder / FOLDER


def _download(workplace: Path, mirrors: tuple[str, ...], archive_md5: str) -> Path:
    archive = workplace / "archive.tar.gz"
    problems = []
    for address in mirrors:
        try:
            with _opened(address) as response, archive.open("wb") as file:
                shutil.copyfileobj(response, file, 1 << 20)
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            TimeoutError,
            ConnectionError,
        ) as error:
            problems.append(f"{address}: {getattr(error, 'reason', error)}")
            continue
        found = _md5(archive)
        if found == archive_md5:
            return archive
        problems.append(f"{address}: expected MD5 {archive_md5}, found {found}")
    raise RequestError(f"could not download CIFAR-10 ({'; '.join(problems)}): {HOW_TO_SUPPLY}")


@contextlib.contextmanager
def _opened(address: str) -> Iterator[Any]:
    request = urllib.request.Request(address, headers={"User-Agent": "fanin"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        yield response


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
