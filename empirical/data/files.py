"""Data sets from their official files, through torchvision's own readers.

The files come from ``--data-dir``, else the data set's environment variable, else a per-user cache
that is filled once from the official address or a mirror of the same archive, against published MD5
sums.  A folder is known by what it holds and not by its name, so ``.``, a symlink or a renamed copy
will do.

Importing this module imports neither torch nor numpy: a wrong folder is refused in milliseconds.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import http.client
import os
import shutil
import tarfile
import tempfile
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theory.errors import RequestError, WorkError

if TYPE_CHECKING:
    from empirical.data.datasets import Dataset

TIMEOUT_SECONDS = 30.0
LOCK_SECONDS = 1800.0
DISK_GAVE_OUT = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EIO: "the disk fails",
}


@dataclass(frozen=True)
class Source:
    """A data set of torchvision: its files, and where they are.

    title      as it is written
    reader     torchvision's class
    folder     the official name of the folder that holds ``files``
    files      any of them shows that a folder is the one
    variable   of the environment, names the folder or the one above it
    mirrors    folders on the net that have what torchvision's addresses have
    parts      the arguments of ``reader`` that give the training and the test images
    """

    title: str
    reader: str
    folder: str
    files: tuple[str, ...]
    variable: str
    mirrors: tuple[str, ...] = ()
    parts: tuple[Mapping[str, Any], Mapping[str, Any]] = ({"train": True}, {"train": False})

    @property
    def how_to_supply(self) -> str:
        return f"give the folder that holds {self.folder} with --data-dir or ${self.variable}"

    def find(self, data_dir: Path | None) -> Path | None:
        """The folder with the files, or None when they would have to be downloaded.

        ``data_dir`` and the variable may name that folder or the one that holds it under its official
        name.  A folder with any of the files counts: whoever reads it says which of them is missing.
        Raises ``RequestError`` for a folder that was named and holds none.
        """
        named = self.named(data_dir)
        if named is None:
            cached = cache_folder() / self.folder
            return cached if cached.is_dir() else None
        flag = "--data-dir" if data_dir is not None else f"${self.variable}"
        try:
            for folder in (named, named / self.folder):
                if any((folder / name).is_file() for name in self.files):
                    return folder
            if (named / self.folder).is_dir():
                return named / self.folder
            problem = f"holds no {self.folder}" if named.is_dir() else "is no folder"
        except (OSError, ValueError) as error:  # no permission to look, or no name of a file at all
            problem = f"cannot be read ({getattr(error, 'strerror', None) or error})"
        raise RequestError(f"{flag} {named} {problem}: {self.how_to_supply}")

    def named(self, data_dir: Path | None) -> Path | None:
        """The folder that the user named, by option or environment; None if none was."""
        value = os.environ.get(self.variable)
        return data_dir if data_dir is not None else Path(value) if value else None

    def load(self, data_dir: Path | None) -> Dataset:
        """All of it on the CPU; a one-line ``RequestError`` when it cannot be had."""
        return self.read(self.find(data_dir) or self.fetch(cache_folder()))

    def read(self, folder: Path, reader: type[Any] | None = None) -> Dataset:
        """The images in ``folder`` through torchvision, which checks the sums that are published.

        ``reader`` is torchvision's class, or a subclass of it with its own list of files and sums.
        """
        import torch

        from empirical.data.datasets import Dataset

        reader = reader or self.torchvisions()
        places = {"base_folder": "", "raw_folder": str(folder)}  # whatever the folder is called
        here = type(reader.__name__, (reader,), places)
        try:
            parts = [here(root=str(folder), download=False, **which) for which in self.parts]
        except (RuntimeError, OSError, ValueError) as error:
            problem = self.diagnose(folder, reader) or f"cannot read {folder}: {error}"
            raise RequestError(problem) from error
        tensors = []
        for part in parts:
            images = torch.as_tensor(part.data)
            if images.shape[1] == 3:  # SVHN's channels come first
                images = images.permute(0, 2, 3, 1)
            labels = part.labels if hasattr(part, "labels") else part.targets
            tensors.append(images[..., None] if images.dim() == 3 else images.contiguous())
            tensors.append(torch.as_tensor(labels).to(torch.int64))
        return Dataset(*tensors)

    def diagnose(self, folder: Path, reader: type[Any]) -> str | None:
        """One line naming the first file that is missing, unreadable or not what was published."""
        sums = published_sums(reader)
        for name, published in (sums or dict.fromkeys(self.files)).items():
            path = folder / name
            try:
                found = _md5(path)
            except FileNotFoundError:
                return f"{path} is missing: {self.how_to_supply} in full"
            except OSError as error:
                return f"cannot read {path}: {error.strerror or error}"
            if published not in (None, found):
                return (
                    f"{path} is damaged: expected MD5 {published}, found {found}; replace it by the "
                    "official file"
                )
        return None

    def fetch(self, folder: Path, reader: type[Any] | None = None) -> Path:
        """Download it into ``folder`` unless it is there; returns the folder of its files.

        Processes that want it at the same time wait for one download.  The archives are checked and
        unpacked beside their place, which is then renamed, so a half-fetched data set is never seen.
        Raises ``RequestError`` where it cannot be had and ``WorkError`` when the disk gives out.
        """
        from filelock import FileLock, Timeout

        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "download.lock", timeout=LOCK_SECONDS):
                if not (folder / self.folder).is_dir():
                    with tempfile.TemporaryDirectory(dir=folder, prefix="download-") as workplace:
                        unpacked = self._unpacked(Path(workplace), reader or self.torchvisions())
                        unpacked.replace(folder / self.folder)
        except Timeout:
            raise RequestError(
                f"another process has been downloading to {folder} for half an hour: "
                f"{self.how_to_supply}"
            ) from None
        except (OSError, tarfile.TarError) as error:
            number = getattr(error, "errno", None)
            if number in DISK_GAVE_OUT:
                raise WorkError(
                    f"could not keep {self.title} in {folder}: {DISK_GAVE_OUT[number]}; make room, "
                    f"name another cache with $XDG_CACHE_HOME, or {self.how_to_supply}"
                ) from error
            problem = f"cannot keep {self.title} in {folder} ({error})"
            raise RequestError(f"{problem}: {self.how_to_supply}") from error
        return folder / self.folder

    def torchvisions(self) -> type[Any]:
        """The class called ``reader``."""
        from torchvision import datasets

        found: type[Any] = getattr(datasets, self.reader)
        return found

    def archives(self, reader: type[Any]) -> dict[tuple[str, str], list[str]]:
        """(Name, MD5 sum) of each published file -> its addresses, torchvision's first."""
        if hasattr(reader, "resources"):
            first = {file: [f"{base}{file[0]}" for base in reader.mirrors] for file in reader.resources}
        elif hasattr(reader, "split_list"):
            first = {(n, md5): [url] for url, n, md5 in reader.split_list.values() if n in self.files}
        else:
            first = {(reader.filename, reader.tgz_md5): [reader.url]}
        return {
            (name, md5): [*addresses, *(f"{mirror}/{name}" for mirror in self.mirrors)]
            for (name, md5), addresses in first.items()
        }

    def _unpacked(self, workplace: Path, reader: type[Any]) -> Path:
        """The folder of the files in ``workplace``, from the archives."""
        files = workplace / self.folder
        for (name, md5), addresses in self.archives(reader).items():
            path = self._download(workplace / name, md5, addresses)
            if name.endswith(".tar.gz"):
                with tarfile.open(path) as packed:
                    packed.extractall(workplace, filter="data")
                continue
            files.mkdir(exist_ok=True)
            if name.endswith(".gz"):
                with gzip.open(path) as packed, (files / path.stem).open("wb") as file:
                    shutil.copyfileobj(packed, file, 1 << 20)
            else:
                path.replace(files / name)
        return files

    def _download(self, path: Path, md5: str, addresses: Iterable[str]) -> Path:
        problems = []
        for address in addresses:
            request = urllib.request.Request(address, headers={"User-Agent": "fanin"})
            try:
                with (
                    urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response,
                    path.open("wb") as file,
                ):
                    shutil.copyfileobj(response, file, 1 << 20)
            except (
                urllib.error.URLError,
                http.client.HTTPException,
                TimeoutError,
                ConnectionError,
            ) as error:
                problems.append(f"{address}: {getattr(error, 'reason', error)}")
                continue
            found = _md5(path)
            if found == md5:
                return path
            problems.append(f"{address}: expected MD5 {md5}, found {found}")
        raise RequestError(
            f"could not download {self.title} ({'; '.join(problems)}): {self.how_to_supply}"
        )


def published_sums(reader: type[Any]) -> Mapping[str, str | None]:
    """File name to MD5 sum, as far as torchvision's ``reader`` knows them."""
    if hasattr(reader, "split_list"):
        return {name: md5 for _, name, md5 in reader.split_list.values() if "extra" not in name}
    if not hasattr(reader, "train_list"):
        return {}
    listed = [*reader.train_list, *reader.test_list]
    return {**dict(listed), reader.meta["filename"]: reader.meta["md5"]}


def cache_folder() -> Path:
    """Where a download is kept: ``$XDG_CACHE_HOME/fanin``, or what the platform has in its place."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "fanin"
    if os.name == "nt" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"]) / "fanin" / "cache"
    return Path.home() / ".cache" / "fanin"


def tables(path: Path) -> dict[str, Any]:
    """What the file of TOML ``path`` holds, with tuples in the place of lists."""
    found: dict[str, Any] = _frozen(tomllib.loads(path.read_text(encoding="utf-8")))
    return found


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _frozen(one) for key, one in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


CIFAR10, CIFAR100, FASHION_MNIST, SVHN = (
    Source(**row) for row in tables(Path(__file__).with_name("sources.toml")).values()
)
