"""The data set and the augmentation: torchvision's bits, torchvision's distribution, clear errors."""

import errno
import gzip
import hashlib
import io
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cifar_format import tiny_dataset, write_cifar10
from PIL import Image
from torchvision.transforms import functional as transform

from empirical.data.catalog import DATASETS, load_dataset
from empirical.data.datasets import augment_with, normalize, sample_offsets
from empirical.data.files import CIFAR10, CIFAR100, FASHION_MNIST, SVHN, _md5, cache_folder
from theory.errors import RequestError, WorkError

CPU = torch.device("cpu")
FOLDER = CIFAR10.folder
MEAN, STD = DATASETS["cifar10"].mean, DATASETS["cifar10"].std
REAL = os.environ.get("CIFAR10_DIR")


def torchvision_pipeline(image, flip, top, left):
    """flip → crop from zero padding 4 → ToTensor → Normalize, on a PIL image, at given offsets."""
    pil = Image.fromarray(image.numpy())
    if flip:
        pil = transform.hflip(pil)
    pil = transform.crop(transform.pad(pil, 4), top, left, 32, 32)
    return transform.normalize(transform.to_tensor(pil), MEAN, STD)


def test_every_offset_gives_torchvisions_bits():
    cases = [(flip, top, left) for flip in (False, True) for top in range(9) for left in range(9)]
    source = torch.Generator().manual_seed(0)
    images = torch.randint(256, (len(cases), 32, 32, 3), dtype=torch.uint8, generator=source)
    flips, tops, lefts = (torch.tensor(values) for values in zip(*cases, strict=True))
    ours = augment_with(images, flips, tops, lefts, MEAN, STD)
    assert ours.dtype == torch.float32
    assert ours.is_contiguous(memory_format=torch.channels_last)
    for image, mine, case in zip(images, ours, cases, strict=True):
        assert torch.equal(mine, torchvision_pipeline(image, *case)), case


def test_normalization_gives_torchvisions_bits_for_every_value_of_a_pixel():
    images = torch.arange(256, dtype=torch.uint8).repeat(12).reshape(1, 32, 32, 3)
    images = torch.cat([images, images.flip(3)])
    for image, mine in zip(images, normalize(images, MEAN, STD), strict=True):
        plain = transform.normalize(transform.to_tensor(image.numpy()), MEAN, STD)
        assert torch.equal(mine, plain)


def test_offsets_are_uniform_and_independent():
    count = 81 * 2 * 500
    flips, tops, lefts = sample_offsets(count, torch.Generator().manual_seed(0))
    cell = (flips.long() * 9 + tops) * 9 + lefts
    seen = torch.bincount(cell, minlength=162).double()
    assert len(seen) == 162
    chi_squared = ((seen - 500) ** 2 / 500).sum().item()
    # 161 degrees of freedom: mean 161, standard deviation √322; 4 of them either way.
    assert abs(chi_squared - 161) < 4 * 322**0.5
    pairs = torch.bincount(cell[:-1] % 9 * 9 + cell[1:] % 9, minlength=81).double()
    expected = (count - 1) / 81
    assert abs(((pairs - expected) ** 2 / expected).sum().item() - 80) < 4 * 160**0.5


def test_offsets_are_drawn_from_the_generator_alone():
    before = torch.random.get_rng_state()
    one, two = (sample_offsets(96, torch.Generator().manual_seed(5)) for _ in range(2))
    assert all(map(torch.equal, one, two))
    assert not torch.equal(one.tops, sample_offsets(96, torch.Generator().manual_seed(6)).tops)
    assert torch.equal(before, torch.random.get_rng_state())


def test_files_in_the_official_format_are_read_back(tmp_path):
    made = tiny_dataset()
    source = write_cifar10(tmp_path, made)
    read = CIFAR10.read(tmp_path / FOLDER, source)
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        assert torch.equal(getattr(read, name), getattr(made, name)), name
    few = read.limited(10, 5)
    assert torch.equal(few.train_images, made.train_images[:10])
    assert torch.equal(few.test_labels, made.test_labels[:5])


def test_a_damaged_or_missing_file_is_named(tmp_path):
    source = write_cifar10(tmp_path, tiny_dataset())
    victim = tmp_path / FOLDER / "data_batch_3"
    content = victim.read_bytes()
    victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(
        RequestError, match=r"data_batch_3 is damaged: expected MD5 \w{32}, found \w{32}"
    ):
        CIFAR10.read(tmp_path / FOLDER, source)
    victim.unlink()
    with pytest.raises(RequestError, match="data_batch_3 is missing"):
        CIFAR10.read(tmp_path / FOLDER, source)


def test_the_published_sums_are_what_a_real_run_checks(tmp_path):
    write_cifar10(tmp_path, tiny_dataset())
    with pytest.raises(
        RequestError, match="data_batch_1 is damaged: expected MD5 c99cafc152244af753f735de768cd75f"
    ):
        load_dataset("cifar10", tmp_path, CPU)


def test_the_folder_and_its_parent_are_both_accepted(tmp_path, monkeypatch):
    write_cifar10(tmp_path, tiny_dataset())
    assert CIFAR10.find(tmp_path) == tmp_path / FOLDER
    assert CIFAR10.find(tmp_path / FOLDER) == tmp_path / FOLDER
    monkeypatch.setenv("CIFAR10_DIR", str(tmp_path))
    assert CIFAR10.find(None) == tmp_path / FOLDER


def test_a_folder_is_known_by_what_it_holds(tmp_path, monkeypatch):
    made = tiny_dataset()
    source = write_cifar10(tmp_path, made)
    inside, link, renamed = tmp_path / FOLDER, tmp_path / "link", tmp_path / "else" / "cifar"
    link.symlink_to(inside, target_is_directory=True)
    shutil.copytree(inside, renamed)
    monkeypatch.chdir(inside)
    monkeypatch.setenv("CIFAR10_DIR", ".")
    for named in (Path(), None, link, renamed, Path("../link"), Path(".."), inside / ".." / FOLDER):
        read = CIFAR10.read(CIFAR10.find(named), source)
        assert torch.equal(read.train_images, made.train_images), named
    (renamed / "batches.meta").unlink()
    with pytest.raises(RequestError, match=r"batches.meta is missing"):
        CIFAR10.read(CIFAR10.find(renamed), source)


def test_a_wrong_folder_is_refused(tmp_path, monkeypatch):
    with pytest.raises(RequestError, match=r"--data-dir .* holds no cifar-10-batches-py"):
        CIFAR10.find(tmp_path)
    monkeypatch.setenv("CIFAR10_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(RequestError, match=r"\$CIFAR10_DIR .* is no folder"):
        CIFAR10.find(None)


def test_the_cache_follows_the_platform(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/fanin")


def archive(folder: Path, target: Path) -> str:
    with tarfile.open(target, "w:gz") as packed:
        packed.add(folder / FOLDER, FOLDER)
    return _md5(target)


def at(reader, address, md5):
    """torchvision's ``reader``, to be downloaded from ``address`` alone."""
    return type(reader.__name__, (reader,), {"url": address, "tgz_md5": md5})


def test_a_download_passes_over_bad_mirrors_and_happens_once(tmp_path):
    made = tiny_dataset()
    reader = write_cifar10(tmp_path / "server", made)
    for name in ("bad", "good"):
        (tmp_path / name).mkdir()
    md5 = archive(tmp_path / "server", tmp_path / "good" / reader.filename)
    (tmp_path / "bad" / reader.filename).write_bytes(b"not it")
    mirrored = replace(CIFAR10, mirrors=[(tmp_path / name).as_uri() for name in ("bad", "good")])
    reader = at(reader, (tmp_path / "none").as_uri(), md5)
    cache = tmp_path / "cache"
    assert mirrored.fetch(cache, reader) == cache / FOLDER
    assert torch.equal(CIFAR10.read(cache / FOLDER, reader).train_images, made.train_images)
    assert not list(cache.glob("download-*"))
    nowhere = replace(CIFAR10, mirrors=())
    assert nowhere.fetch(cache, reader) == cache / FOLDER  # nothing left to fetch


def test_without_a_network_the_error_says_how_to_supply_the_data(tmp_path):
    nowhere = [(tmp_path / "none").as_uri()]
    for source in (CIFAR10, CIFAR100):
        reader = at(source.torchvisions(), nowhere[0], "0" * 32)
        with pytest.raises(RequestError, match=rf"not download {source.title} .*--data-dir") as caught:
            replace(source, mirrors=nowhere).fetch(tmp_path / "cache", reader)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "cache" / source.folder).exists()


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT", "EIO"])
def test_a_disk_that_gives_out_during_the_download_is_no_wrong_request(tmp_path, monkeypatch, number):
    def fail(*_):
        raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))

    (tmp_path / "archive").write_bytes(b"some")
    monkeypatch.setattr(shutil, "copyfileobj", fail)
    reader = at(CIFAR10.torchvisions(), (tmp_path / "archive").as_uri(), "0" * 32)
    with pytest.raises(WorkError, match=r"the disk .*--data-dir"):
        CIFAR10.fetch(tmp_path / "cache", reader)


# ------------------------------------------------------------------- other data sets of torchvision


def images_and_labels(count, classes, channels, size):
    source = torch.Generator().manual_seed(count)
    images = torch.randint(256, (count, size, size, channels), dtype=torch.uint8, generator=source)
    return images, torch.randint(classes, (count,), generator=source)


def assert_same(read, train, test):
    assert torch.equal(read.train_images, train[0]) and torch.equal(read.train_labels, train[1])
    assert torch.equal(read.test_images, test[0]) and torch.equal(read.test_labels, test[1])
    assert read.train_images.dtype == torch.uint8 and read.train_labels.dtype == torch.int64


def test_cifar100_is_read_with_its_fine_labels(tmp_path):
    parts = {
        name: images_and_labels(count, 100, 3, 32) for name, count in (("train", 30), ("test", 12))
    }
    for name, (images, labels) in parts.items():
        content = {"data": images.permute(0, 3, 1, 2).reshape(len(images), -1).numpy(),
                   "fine_labels": labels.tolist(), "coarse_labels": [0] * len(labels)}  # fmt: skip
        (tmp_path / name).write_bytes(pickle.dumps(content))
    (tmp_path / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(k) for k in range(100)]}))
    sums = {name: _md5(tmp_path / name) for name in ("train", "test", "meta")}
    lists = {"train_list": [["train", sums["train"]]], "test_list": [["test", sums["test"]]],
             "meta": {"filename": "meta", "key": "fine_label_names", "md5": sums["meta"]}}  # fmt: skip
    reader = type("Tiny", (CIFAR100.torchvisions(),), lists)
    assert CIFAR100.find(tmp_path) == tmp_path
    assert_same(CIFAR100.read(tmp_path, reader), *parts.values())
    with pytest.raises(RequestError, match=r"train is damaged: expected MD5 16019d7e"):
        CIFAR100.read(tmp_path)


def idx(array):
    """Bytes in the format of MNIST: magic number, sizes, values (LeCun, Cortes & Burges)."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.dim()]) + sizes + array.to(torch.uint8).numpy().tobytes()


def test_fashion_mnist_is_downloaded_and_read(tmp_path):
    parts = [images_and_labels(count, 10, 1, 28) for count in (20, 8)]
    arrays = [array for images, labels in parts for array in (images[..., 0], labels)]
    (tmp_path / "server").mkdir()
    resources = []
    for name, array in zip(FASHION_MNIST.files, arrays, strict=True):
        packed = tmp_path / "server" / f"{name}.gz"
        packed.write_bytes(gzip.compress(idx(array)))
        resources.append((packed.name, _md5(packed)))
    published = {"resources": resources, "mirrors": [f"{(tmp_path / 'server').as_uri()}/"]}
    reader = type("Tiny", (FASHION_MNIST.torchvisions(),), published)
    folder = FASHION_MNIST.fetch(tmp_path / "cache", reader)
    assert_same(FASHION_MNIST.read(folder, reader), *parts)
    (folder / FASHION_MNIST.files[2]).unlink()
    with pytest.raises(RequestError, match="t10k-images-idx3-ubyte is missing: give the folder"):
        FASHION_MNIST.read(folder, reader)
    resources[1] = (resources[1][0], "0" * 32)
    with pytest.raises(RequestError, match=r"not download Fashion-MNIST .*expected MD5 0000"):
        replace(FASHION_MNIST, mirrors=()).fetch(tmp_path / "other", reader)


def test_svhn_is_downloaded_and_read_with_ten_as_nought(tmp_path):
    from scipy import io as matlab

    parts = [images_and_labels(count, 10, 3, 32) for count in (20, 8)]
    (tmp_path / "server").mkdir()
    listed = {}
    for which, (images, labels) in zip(("train", "test"), parts, strict=True):
        path = tmp_path / "server" / f"{which}_32x32.mat"
        ten = torch.where(labels == 0, 10, labels)[:, None]
        matlab.savemat(path, {"X": images.permute(1, 2, 3, 0).numpy(), "y": ten.numpy()})
        listed[which] = [path.as_uri(), path.name, hashlib.md5(path.read_bytes()).hexdigest()]
    reader = type("Tiny", (SVHN.torchvisions(),), {"split_list": listed})
    folder = SVHN.fetch(tmp_path / "cache", reader)
    assert_same(SVHN.read(folder, reader), *parts)
    (folder / "test_32x32.mat").write_bytes(b"no")
    with pytest.raises(RequestError, match=r"test_32x32\.mat is damaged"):
        SVHN.read(folder, reader)


def test_digits_need_no_files_and_have_the_statistics_of_their_row():
    row, digits = DATASETS["digits"], load_dataset("digits", None, CPU)
    assert (len(digits.train_images), len(digits.test_images)) == (row.train_images, row.test_images)
    assert digits.train_images.shape[1:] == (8, 8, 1)
    assert digits.train_images.max() == 255
    values = digits.train_images.double() / 255
    assert (float(values.mean()), float(values.std())) == pytest.approx(
        (row.mean[0], row.std[0]), abs=1e-4
    )
    assert torch.bincount(digits.train_labels).min() > 120


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_wrong_folder_is_said_before_torch_is_imported(tmp_path, options):
    program = (
        "import sys, cli\n"
        "code = cli.main(sys.argv[1:])\n"
        "heavy = {'torch', 'numpy', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(99 if heavy else code)"
    )
    argv = ["cifar", "--data-dir", str(tmp_path / "none"), "--out", str(tmp_path / "out"), *options]
    done = subprocess.run(
        [sys.executable, "-c", program, *argv],
        cwd=Path(__file__).parent.parent.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "is no folder" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_archive_that_reaches_outside_is_not_unpacked(tmp_path):
    evil = tmp_path / "evil.tar.gz"
    with tarfile.open(evil, "w:gz") as packed:
        member = tarfile.TarInfo("../outside")
        member.size = 1
        packed.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(RequestError, match="cannot keep CIFAR-10"):
        CIFAR10.fetch(tmp_path / "cache", at(CIFAR10.torchvisions(), evil.as_uri(), _md5(evil)))
    assert not (tmp_path / "cache" / "outside").exists()


@pytest.mark.skipif(REAL is None, reason="needs the real CIFAR-10: set CIFAR10_DIR")
def test_the_real_data_set_has_the_published_shape():
    real = load_dataset("cifar10", None, CPU)
    assert real.train_images.shape == (50_000, 32, 32, 3)
    assert real.test_images.shape == (10_000, 32, 32, 3)
    assert torch.bincount(real.train_labels).tolist() == [5000] * 10
    assert torch.bincount(real.test_labels).tolist() == [1000] * 10


@pytest.mark.parametrize("name", ["flip", "crop", "none"])
def test_an_augmentation_that_is_left_out_changes_no_other(name):
    whole, part = (
        sample_offsets(50, torch.Generator().manual_seed(3), one) for one in ("flip+crop", name)
    )
    assert torch.equal(part.flips, whole.flips if name == "flip" else torch.zeros(50, dtype=torch.bool))
    for one, all_of_it in ((part.tops, whole.tops), (part.lefts, whole.lefts)):
        assert torch.equal(one, all_of_it if name == "crop" else torch.full((50,), 4))
    images = torch.randint(0, 256, (50, 32, 32, 3), dtype=torch.uint8)
    if name == "none":
        assert torch.equal(augment_with(images, *part, MEAN, STD), normalize(images, MEAN, STD))
