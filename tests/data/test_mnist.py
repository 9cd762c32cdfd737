import gzip

import numpy as np
import pytest

from minidl.data import MNIST, mnist


@pytest.fixture
def small_mnist(monkeypatch):
    monkeypatch.setattr(mnist, "COUNTS", {"train": 30, "t10k": 12})


def idx(array):
    return np.array([0x0800 + array.ndim, *array.shape], ">i4").tobytes() + array.tobytes()


def write(folder, suffix="", counts=(30, 12)):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    content = {}
    for part, count in zip(("train", "t10k"), counts, strict=True):
        images, labels = (
            rng.integers(0, 256, (count, 28, 28), dtype=np.uint8),
            rng.integers(0, 10, count, dtype=np.uint8),
        )
        content[part] = images, labels
        for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            data = idx(array)
            (folder / f"{name}{suffix}").write_bytes(gzip.compress(data) if suffix else data)
    return content


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("below", ["", "raw", "MNIST", "MNIST/raw"])
def test_plain_and_gzipped_in_every_folder(below, suffix, small_mnist, tmp_path):
    content = write(tmp_path / below, suffix)
    for train, part in ((True, "train"), (False, "t10k")):
        ds = MNIST(tmp_path, train=train)
        np.testing.assert_array_equal(ds.data[..., 0], content[part][0])
        np.testing.assert_array_equal(ds.targets, content[part][1])
        assert ds.data.shape[3] == 1 and ds.targets.dtype == np.int64 and ds.classes == list("0123456789")
    assert ds[0][0].shape == (1, 28, 28)


def test_official_counts(tmp_path):
    write(tmp_path, counts=(1, 10_000))
    assert len(MNIST(tmp_path, train=False)) == 10_000
    with pytest.raises(ValueError, match="train-images-idx3-ubyte: expected an idx file of 60000 x 28 x 28 bytes"):
        MNIST(tmp_path)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: b"", "an empty file|found 0 bytes"),
        (lambda content: content[:-1], "found"),
        (lambda content: content + b"\0", "found"),
        (lambda content: b"\0\0\x08\x01" + content[4:], "its header says otherwise"),
        (lambda content: content[:4] + b"\0\0\0\x0d" + content[8:], "its header says otherwise"),
        (lambda content: content[:4] + b"\x7f\xff\xff\xff" + content[8:], "its header says otherwise"),
        (lambda content: bytes(len(content)), "its header says otherwise"),
        (lambda content: content[:-900] + bytes(900), "the last is all zeros"),
        (lambda content: b"<html>", "an HTML page|found 6 bytes"),
        (lambda content: bytes(10_000_000), "found"),
    ],
)
def test_damaged_files_are_named(damage, message, suffix, small_mnist, tmp_path):
    write(tmp_path, suffix)
    path = tmp_path / f"t10k-images-idx3-ubyte{suffix}"
    content = path.read_bytes()
    path.write_bytes(gzip.compress(damage(gzip.decompress(content))) if suffix else damage(content))
    with pytest.raises(ValueError, match=message) as caught:
        MNIST(tmp_path, train=False)
    assert "t10k-images-idx3-ubyte" in str(caught.value) and "expected" in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[: len(content) // 2], "found a damaged one"),
        (lambda content: content[:-6] + b"abcdef", "found a damaged one"),
        (lambda content: content[:100] + bytes(50) + content[150:], "found a damaged one"),
        (lambda content: b"<html>404</html>", "found an HTML page"),
        (lambda content: b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
        (lambda content: b"", "an empty file"),
        (lambda content: bytes(len(content)), "begins with zeros"),
    ],
)
def test_damaged_compression_is_named(damage, message, small_mnist, tmp_path):
    write(tmp_path, ".gz")
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as caught:
        MNIST(tmp_path)
    assert str(path) in str(caught.value) and "expected" in str(caught.value)


def test_missing_files_and_bad_labels(small_mnist, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no MNIST files .*minidl data download mnist"):
        MNIST(tmp_path)
    write(tmp_path)
    path = tmp_path / "train-labels-idx1-ubyte"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"\x0a")
    with pytest.raises(ValueError, match="train-labels-idx1-ubyte: expected labels 0 to 9, found 10"):
        MNIST(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"train-labels-idx1-ubyte \(or .gz\) is missing"):
        MNIST(tmp_path)


def test_real_files(real_data):
    if MNIST.locate(real_data) is None:
        pytest.skip(f"no MNIST in MINIDL_DATA ({real_data})")
    train, test = MNIST(real_data), MNIST(real_data, train=False)
    assert (len(train), len(test)) == (60_000, 10_000)
    assert np.bincount(train.targets).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert train.data.mean() / 255 == pytest.approx(train.mean[0], abs=1e-4)
    assert train.data.std() / 255 == pytest.approx(train.std[0], abs=1e-4)
