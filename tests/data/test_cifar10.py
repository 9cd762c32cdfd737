import gzip
import io
import pickle
import shutil
import tarfile

import numpy as np
import pytest
from cifar_files import RECORDS, binary_record_file, pickled, python2_pickled, tar_gz

from minidl.data import CIFAR10, cifar10

TRAIN = [f"data_batch_{k}" for k in range(1, 6)]


def write_binary(folder, batches):
    folder.mkdir(parents=True)
    for name, (labels, pixels) in batches.items():
        (folder / f"{name}.bin").write_bytes(binary_record_file(labels, pixels))
    return folder


def write_python(folder, batches, write=pickled):
    folder.mkdir(parents=True)
    for name, (labels, pixels) in batches.items():
        (folder / name).write_bytes(write(labels, pixels))
    return folder


def make_layout(root, layout, batches):
    """Write one of the published layouts below `root`."""
    members = {"cifar-10-batches-bin/readme.html": b"<html>"}
    if layout == "binary folder":
        write_binary(root / "cifar-10-batches-bin", batches)
    elif layout == "python folder":
        write_python(root / "cifar-10-batches-py", batches)
    elif layout == "python 2 folder":
        write_python(root / "cifar-10-batches-py", batches, python2_pickled)
    elif layout == "binary archive":
        members |= {
            f"cifar-10-batches-bin/{name}.bin": binary_record_file(*batches[name]) for name in reversed(batches)
        }
        tar_gz(root / "cifar-10-binary.tar.gz", members)
    else:
        members |= {f"cifar-10-batches-py/{name}": python2_pickled(*batches[name]) for name in batches}
        tar_gz(root / "cifar-10-python.tar.gz", members)


LAYOUTS = ["binary folder", "python folder", "python 2 folder", "binary archive", "python archive"]


def check(ds, batches, names):
    assert ds.data.shape == (RECORDS * len(names), 32, 32, 3) and ds.data.flags.c_contiguous
    for position, name in enumerate(names):
        labels, pixels = batches[name]
        part = slice(position * RECORDS, (position + 1) * RECORDS)
        np.testing.assert_array_equal(ds.targets[part], labels)
        for n in (0, RECORDS - 1):  # red, green and blue planes, row by row
            image = ds.data[part][n]
            assert [image[3, 5, c] for c in range(3)] == [pixels[n, 1024 * c + 32 * 3 + 5] for c in range(3)]
        np.testing.assert_array_equal(ds.data[part].transpose(0, 3, 1, 2).reshape(RECORDS, -1), pixels)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_published_layout(layout, small_cifar, tmp_path):
    make_layout(tmp_path, layout, small_cifar)
    before = sorted(tmp_path.rglob("*"))
    check(CIFAR10(tmp_path), small_cifar, TRAIN)
    check(CIFAR10(tmp_path, train=False), small_cifar, ["test_batch"])
    check(
        CIFAR10(str(next(tmp_path.iterdir())), train=False), small_cifar, ["test_batch"]
    )  # the folder or archive itself
    assert sorted(tmp_path.rglob("*")) == before
    assert CIFAR10(tmp_path, train=False).classes[3] == "cat"


def test_official_sizes(tmp_path):
    rng = np.random.default_rng(0)
    labels, pixels = rng.integers(0, 10, 10_000), rng.integers(0, 256, (10_000, 3072), dtype=np.uint8)
    (tmp_path / "test_batch.bin").write_bytes(binary_record_file(labels, pixels))
    ds = CIFAR10(tmp_path, train=False)
    assert len(ds) == 10_000
    np.testing.assert_array_equal(ds.targets, labels)
    np.testing.assert_array_equal(ds.data[9_999].transpose(2, 0, 1).ravel(), pixels[9_999])
    content = (tmp_path / "test_batch.bin").read_bytes()
    (tmp_path / "test_batch.bin").write_bytes(content[: 3073 * 9_999])
    with pytest.raises(ValueError, match=r"test_batch.bin: expected 30,730,000 bytes \(10,000 records"):
        CIFAR10(tmp_path, train=False)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 30730000\n"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: b"", "found an empty file"),
        (lambda content: content[:-1], "found a file of|exhausted before"),
        (lambda content: content + b"\0", "found a file of|1 bytes follow"),
        (lambda content: b"<!DOCTYPE html><html>404", "found an HTML page"),
        (lambda content: POINTER, "found a git-lfs pointer"),
        (lambda content: bytes(len(content)), "all zeros|begins with zeros|pickled data"),
        (lambda content: content[:-4000] + bytes(4000), "all zeros|pickled data"),
    ],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_damaged_files_are_named(layout, damage, message, small_cifar, tmp_path):
    make_layout(tmp_path, layout, small_cifar)
    path = next(path for path in tmp_path.rglob("*") if path.is_file() and "data_batch_1" not in path.name)
    if path.suffix != ".gz":
        path = next(tmp_path.rglob("test_batch*"))
    content = path.read_bytes()
    if path.suffix == ".gz":  # cut in the middle: a gzip file may end in anything
        message += "|damaged"
        content = content[: len(content) // 2]
    path.write_bytes(damage(content))
    with pytest.raises(ValueError, match=message) as caught:
        CIFAR10(tmp_path, train=False)
    assert str(path) in str(caught.value) and "expected" in str(caught.value)


@pytest.mark.parametrize("layout", ["binary archive", "python archive"])
def test_damage_inside_an_archive_names_the_member(layout, small_cifar, tmp_path):
    small_cifar["test_batch"][1][-1] = 0
    make_layout(tmp_path, layout, small_cifar)
    with pytest.raises(ValueError, match=r"tar.gz \(cifar-10-batches-\w+/test_batch(.bin)?\): expected .* all zeros"):
        CIFAR10(tmp_path, train=False)
    check(CIFAR10(tmp_path), small_cifar, TRAIN)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_label_above_nine(layout, small_cifar, tmp_path):
    small_cifar["data_batch_4"][0][5] = 10
    make_layout(tmp_path, layout, small_cifar)
    with pytest.raises(ValueError, match="data_batch_4.*: expected labels 0 to 9, found"):
        CIFAR10(tmp_path)


def test_missing_files(small_cifar, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds none of cifar-10-batches-bin, .*minidl data download cifar10"):
        CIFAR10(tmp_path)
    folder = write_binary(tmp_path / "cifar-10-batches-bin", small_cifar)
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"data_batch_3.bin is missing"):
        CIFAR10(tmp_path)
    archive = tar_gz(tmp_path / "cifar-10-binary.tar.gz", {"cifar-10-batches-bin/test_batch.bin": b""})
    shutil.rmtree(folder)
    with pytest.raises(ValueError, match="cifar-10-binary.tar.gz: .* it holds no data_batch_1, "):
        CIFAR10(archive)


class Owned:
    def __reduce__(self):
        return __import__("os").system, ("touch owned",)


def test_a_pickled_file_runs_no_code(small_cifar, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write_python(tmp_path / "cifar-10-batches-py", small_cifar)
    (folder / "test_batch").write_bytes(pickle.dumps({b"data": Owned(), b"labels": []}, 2))
    with pytest.raises(ValueError, match=r"cifar-10-batches-py/test_batch: refused .* posix.system"):
        CIFAR10(tmp_path, train=False)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([1], "found a list"),
        ({}, "found `data` NoneType"),
        ({b"data": np.zeros((RECORDS, 3072), np.int16)}, r"found `data` \(40, 3072\) int16"),
        ({b"data": np.ones((RECORDS, 3071), np.uint8)}, r"found `data` \(40, 3071\)"),
        ({b"data": np.ones((RECORDS, 3072), np.uint8), b"labels": [1] * 39}, "found `labels`"),
        ({b"data": np.ones((RECORDS, 3072), np.uint8), b"labels": ["1"] * RECORDS}, "found `labels`"),
        ({b"data": np.ones((RECORDS, 3072), np.uint8), b"labels": [-1] * RECORDS}, "found -1 to -1"),
        ({b"data": np.ones((RECORDS, 3072), np.uint8), b"labels": [2**80] * RECORDS}, "expected labels 0 to 9"),
    ],
)
def test_a_pickled_batch_of_another_kind(batch, message, small_cifar, tmp_path):
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch, 2))
    with pytest.raises(ValueError, match=message):
        CIFAR10(tmp_path, train=False)


def test_a_huge_pickled_file_is_not_read(monkeypatch, small_cifar, tmp_path):
    monkeypatch.setattr(cifar10, "PYTHON_LIMIT", 1000)
    write_python(tmp_path / "cifar-10-batches-py", small_cifar)
    with pytest.raises(ValueError, match="test_batch: expected a pickled CIFAR-10 batch"):
        CIFAR10(tmp_path, train=False)


def test_an_archive_cannot_write_or_link_anywhere(small_cifar, tmp_path, monkeypatch):
    inner = tmp_path / "inner"
    inner.mkdir()
    path = inner / "cifar-10-binary.tar.gz"
    content = binary_record_file(*small_cifar["test_batch"])
    tar_gz(path, {"../outside": b"x", "/tmp/minidl-outside": b"x", "cifar-10-batches-bin/test_batch.bin": content})
    check(CIFAR10(path, train=False), small_cifar, ["test_batch"])
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["cifar-10-binary.tar.gz", "inner"]
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    with pytest.raises(ValueError, match="test_batch.bin must be one plain file"):
        CIFAR10(path, train=False)
    with tarfile.open(path, "w:gz") as archive:
        for _ in range(2):
            info = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    with pytest.raises(ValueError, match="must be one plain file"):
        CIFAR10(path, train=False)


def test_an_archive_that_unpacks_without_end(monkeypatch, small_cifar, tmp_path):
    monkeypatch.setattr(cifar10, "ARCHIVE_LIMIT", 1 << 20)
    path = tmp_path / "cifar-10-binary.tar.gz"
    tar_gz(path, {"cifar-10-batches-bin/junk": bytes(3 << 20)})
    with pytest.raises(ValueError, match="unpacks to more than the 1,048,576 bytes"):
        CIFAR10(path)
    monkeypatch.setattr(cifar10, "MEMBER_LIMIT", 10)
    tar_gz(path, {f"member{k}": b"" for k in range(11)})
    with pytest.raises(ValueError, match="more than 10 members"):
        CIFAR10(path)


def test_a_flipped_bit_in_an_archive(small_cifar, tmp_path):
    path = tmp_path / "cifar-10-binary.tar.gz"
    make_layout(tmp_path, "binary archive", small_cifar)
    unpacked = bytearray(gzip.decompress(path.read_bytes()))
    whole = gzip.compress(bytes(unpacked), 0)
    position = whole.index(small_cifar["test_batch"][1][7].tobytes()[:100])
    path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
    with pytest.raises(ValueError, match="damaged one: CRC check failed"):
        CIFAR10(path)


def test_real_files(real_data):
    if CIFAR10.locate(real_data) is None:
        pytest.skip(f"no CIFAR-10 in MINIDL_DATA ({real_data})")
    train, test = CIFAR10(real_data), CIFAR10(real_data, train=False)
    assert np.bincount(train.targets).tolist() == [5000] * 10 and np.bincount(test.targets).tolist() == [1000] * 10
    np.testing.assert_allclose(train.data.mean(axis=(0, 1, 2)) / 255, train.mean, atol=0.002)
    np.testing.assert_allclose(train.data.std(axis=(0, 1, 2)) / 255, train.std, atol=0.005)
    assert np.bincount(train.split()[1].targets).tolist() == [500] * 10
    folders = [real_data / f"cifar-10-batches-{kind}" for kind in ("bin", "py")]
    if all(folder.is_dir() for folder in folders):
        binary, python = (CIFAR10(folder, train=False) for folder in folders)
        np.testing.assert_array_equal(binary.data, python.data)
        np.testing.assert_array_equal(binary.targets, python.targets)
