"""A tiny CIFAR-10 made by the tests: in memory, or as files in the official format."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import torch

from empirical.data.datasets import Dataset
from empirical.data.files import CIFAR10 as SOURCE


def tiny_dataset(train: int = 96, test: int = 40, seed: int = 0) -> Dataset:
    """Random images whose brightness tells the class, so that a network can learn from them."""
    source = torch.Generator().manual_seed(seed)

    def part(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.randint(10, (count,), generator=source)
        noise = torch.randint(0, 60, (count, 32, 32, 3), generator=source)
        return (noise + 19 * labels[:, None, None, None]).to(torch.uint8), labels

    return Dataset(*part(train), *part(test))


def write_cifar10(root: Path, dataset: Dataset) -> type[Any]:
    """Write ``dataset`` under ``root`` in pickled batches; torchvision's class with their sums."""
    from torchvision.datasets import CIFAR10

    folder = root / SOURCE.folder
    folder.mkdir(parents=True)

    def write(name: str, content: dict[str, Any]) -> list[str]:
        path = folder / name
        path.write_bytes(pickle.dumps(content))
        return [name, hashlib.md5(path.read_bytes()).hexdigest()]

    def batch(images: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
        planes = images.permute(0, 3, 1, 2).reshape(len(images), -1)
        return {"data": planes.numpy().copy(), "labels": labels.tolist()}

    images, labels = dataset.train_images.chunk(5), dataset.train_labels.chunk(5)
    train = [
        write(f"data_batch_{number}", batch(*pair))
        for number, pair in enumerate(zip(images, labels, strict=True), start=1)
    ]
    test = [write("test_batch", batch(dataset.test_images, dataset.test_labels))]
    filename, md5 = write("batches.meta", {"label_names": [f"class {number}" for number in range(10)]})

    class Tiny(CIFAR10):  # type: ignore[misc]
        train_list = train
        test_list = test
        meta = {"filename": filename, "key": "label_names", "md5": md5}  # noqa: RUF012

    return Tiny
