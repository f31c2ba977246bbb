"""CIFAR-10 from its official files.

They are those of Krizhevsky (2009), read and checked against their published MD5 sums by torchvision's
own class.  They come from ``--data-dir``, else ``$CIFAR10_DIR``, else a per-user cache that is filled
once from the official address or a mirror of the same archive.  A folder is known by what it holds and
not by its name, so ``.``, a symlink or a renamed copy will do.

Importing this module imports neither torch nor numpy: a wrong folder is refused in milliseconds.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import os
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theory.errors import RequestError, WorkError

if TYPE_CHECKING:
    from empirical.data.datasets import Dataset

FOLDER = "cifar-10-batches-py"
FILES = ("batches.meta", *(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
HOW_TO_SUPPLY = f"give the folder that holds {FOLDER} with --data-dir or $CIFAR10_DIR"
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


def find_cifar10(data_dir: Path | None) -> Path | None:
    """The folder with the batches of CIFAR-10, or None when they would have to be downloaded.

    ``data_dir`` and ``$CIFAR10_DIR`` may name that folder or the one that holds it under its official
    name.  A folder with any of the files counts: whoever reads it says which of them is missing.
    Raises ``RequestError`` for a folder that was named and holds none.
    """
    named = (data_dir, "--data-dir") if data_dir is not None else _named_by_environment()
    if named is None:
        cached = cache_folder() / FOLDER
        return cached if cached.is_dir() else None
    folder, source = named
    try:
        if any((folder / name).is_file() for name in FILES):
            return folder
        if (folder / FOLDER).is_dir():
            return folder / FOLDER
        problem = f"holds no {FOLDER}" if folder.is_dir() else "is no folder"
    except (OSError, ValueError) as error:  # no permission to look, or no name of a file at all
        problem = f"cannot be read ({getattr(error, 'strerror', None) or error})"
    raise RequestError(f"{source} {folder} {problem}: {HOW_TO_SUPPLY}")


def cache_folder() -> Path:
    """Where a download is kept: ``$XDG_CACHE_HOME/fanin``, or what the platform has in its place."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "fanin"
    if os.name == "nt" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"]) / "fanin" / "cache"
    return Path.home() / ".cache" / "fanin"


def _named_by_environment() -> tuple[Path, str] | None:
    value = os.environ.get("CIFAR10_DIR")
    return (Path(value), "$CIFAR10_DIR") if value else None


def load_cifar10(data_dir: Path | None) -> Dataset:
    """All of CIFAR-10; a one-line ``RequestError`` when it cannot be had."""
    return read_cifar10(find_cifar10(data_dir) or fetch_cifar10(cache_folder()))


def read_cifar10(folder: Path, source: type[Any] | None = None) -> Dataset:
    """CIFAR-10 from the batches in ``folder`` through torchvision, which checks every MD5 sum.

    ``source`` is torchvision's class, or a subclass of it with its own list of files and sums.
    """
    import numpy as np
    import torch
    from torchvision.datasets import CIFAR10

    from empirical.data.datasets import Dataset

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
