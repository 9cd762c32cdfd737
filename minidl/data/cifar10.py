"""CIFAR-10: 50,000 training and 10,000 test photographs of 32x32 pixels in ten classes (Krizhevsky, 2009).

Each published layout is read as it is, and no code in a file is run: the binary version (one label byte and 3,072 pixel
bytes a record), the Python version (pickled), and the archives of both.
"""

import gzip
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from minidl.data import restricted_pickle
from minidl.data.dataset import ArrayDataset
from minidl.data.download import download as fetch_files
from minidl.data.files import BoundedReader, read_exactly, refuse
from minidl.data.transforms import Transform

__all__ = ["CIFAR10"]

RECORDS = 10_000  # images in each of the six files
PIXELS = 3 * 32 * 32
PYTHON_LIMIT = 128 << 20  # bytes; the official pickled files have 31 million
MEMBER_LIMIT = 1000
ARCHIVE_LIMIT = 512 << 20  # bytes after unpacking; the official archives hold 186 million

TRAIN_FILES = tuple(f"data_batch_{k}" for k in range(1, 6))
TEST_FILES = ("test_batch",)
Parsed = tuple[np.ndarray, np.ndarray]


class CIFAR10(ArrayDataset):
    """CIFAR-10 from the official files.

    Args:
        root: the folder `cifar-10-batches-bin` or `cifar-10-batches-py`, one of the archives
            `cifar-10-binary.tar.gz` and `cifar-10-python.tar.gz`, or the folder that holds one of these.
        train: the 50,000 training images, or the 10,000 test images.
        transform: see `ArrayDataset`.
        download: fetch the archive into `root` where none of them is found.

    Raises:
        FileNotFoundError: nothing of CIFAR-10 is in `root`, or one of its files is missing.
        ValueError: a file is not what it should be; the message names it.
    """

    names: ClassVar[list[str]] = [
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    ]  # fmt: skip
    channel_mean: ClassVar[tuple[float, ...]] = (0.4914, 0.4822, 0.4465)
    channel_std: ClassVar[tuple[float, ...]] = (0.2470, 0.2435, 0.2616)

    def __init__(
        self, root: str | Path, train: bool = True, transform: Transform | None = None, download: bool = False
    ):
        source = self.locate(root)
        if source is None and download:
            source = self.locate(fetch_files("cifar10", root))
        if source is None:
            raise FileNotFoundError(
                f"CIFAR10: {root} holds none of cifar-10-batches-bin, cifar-10-batches-py, cifar-10-binary.tar.gz, "
                "cifar-10-python.tar.gz (`minidl data download cifar10` fetches it)"
            )
        files = TRAIN_FILES if train else TEST_FILES
        data = np.empty((RECORDS * len(files), 32, 32, 3), np.uint8)
        targets = np.empty(len(data), np.int64)
        batches = _read_archive(source, files) if source.is_file() else _read_folder(source, files)
        for position, (labels, pixels) in zip(range(0, len(data), RECORDS), batches, strict=True):
            data[position : position + RECORDS] = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            targets[position : position + RECORDS] = labels
        super().__init__(data, targets, self.names, self.channel_mean, self.channel_std, transform)

    @staticmethod
    def locate(root: str | Path) -> Path | None:
        """Return the folder or archive of CIFAR-10 at or in `root`, or None."""
        root = Path(root)
        if root.is_file():
            return root if root.name.endswith(".tar.gz") else None
        for folder in (root, root / "cifar-10-batches-bin", root / "cifar-10-batches-py"):
            names = ("data_batch_1.bin", "test_batch.bin", "data_batch_1", "test_batch")
            if any((folder / name).is_file() for name in names):
                return folder
        archives = (root / "cifar-10-binary.tar.gz", root / "cifar-10-python.tar.gz")
        return next((archive for archive in archives if archive.is_file()), None)


def _read_folder(folder: Path, files: tuple[str, ...]) -> list[Parsed]:
    binary = any(folder.glob("*_batch*.bin"))
    batches = []
    for name in files:
        path = folder / (f"{name}.bin" if binary else name)
        if not path.is_file():
            raise FileNotFoundError(f"CIFAR10: {path} is missing (the other files of CIFAR-10 are in that folder)")
        if binary:
            content = read_exactly(path, RECORDS * (1 + PIXELS), _expected_binary())
            batches.append(_parse_binary(content, str(path)))
            continue
        size = path.stat().st_size
        content = path.read_bytes() if size <= PYTHON_LIMIT else b""
        batches.append(_parse_python(content, str(path), size))
    return batches


def _read_archive(archive: Path, files: tuple[str, ...]) -> list[Parsed]:
    """Read the wanted members, by name, from a stream of the archive; nothing is ever written to disk."""
    found: dict[str, Parsed] = {}
    with open(archive, "rb") as raw:
        head = raw.read(512)
    if head[:2] != b"\x1f\x8b":
        raise refuse(archive, head, archive.stat().st_size, "a gzipped tar archive of CIFAR-10")
    wanted = {f"cifar-10-batches-bin/{name}.bin": name for name in files}
    wanted |= {f"cifar-10-batches-py/{name}": name for name in files}
    try:
        with gzip.open(archive) as unpacked:
            bounded = BoundedReader(unpacked, ARCHIVE_LIMIT, str(archive))
            with tarfile.open(fileobj=bounded, mode="r|", bufsize=1 << 20) as members:
                for count, member in enumerate(members):
                    if count >= MEMBER_LIMIT:
                        raise ValueError(f"{archive}: holds more than {MEMBER_LIMIT} members, expected 8")
                    name = wanted.get(member.name)
                    if name is None:
                        continue
                    if not member.isreg() or name in found:
                        raise ValueError(f"{archive}: member {member.name} must be one plain file")
                    found[name] = _read_member(archive, members, member)
            while bounded.read(1 << 20):  # to the end: gzip's checksum stands there
                pass
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        message = f"{archive}: expected a gzipped tar archive of CIFAR-10, found a damaged one: {error}"
        raise ValueError(message) from error
    missing = [name for name in files if name not in found]
    if missing:
        raise ValueError(f"{archive}: expected an archive of CIFAR-10, but it holds no {', '.join(missing)}")
    return [found[name] for name in files]


def _read_member(archive: Path, members: tarfile.TarFile, member: tarfile.TarInfo) -> Parsed:
    label = f"{archive} ({member.name})"
    parse: Callable[[bytes, str, int], Any]
    if member.name.endswith(".bin"):
        limit, parse = RECORDS * (1 + PIXELS), _parse_binary
    else:
        limit, parse = PYTHON_LIMIT, _parse_python
    file = members.extractfile(member) if member.size <= limit else None
    return parse(file.read() if file else b"", label, member.size)


def _expected_binary() -> str:
    return f"{RECORDS * (1 + PIXELS):,} bytes ({RECORDS:,} records of 1 label and {PIXELS:,} pixels)"


def _parse_binary(content: bytes, name: str, size: int | None = None) -> Parsed:
    if len(content) != RECORDS * (1 + PIXELS):
        raise refuse(name, content[:512], len(content) if size is None else size, _expected_binary())
    records = np.frombuffer(content, np.uint8).reshape(RECORDS, 1 + PIXELS)
    return _checked(records[:, 0], records[:, 1:], name)


def _parse_python(content: bytes, name: str, size: int) -> Parsed:
    expected = f"a pickled CIFAR-10 batch with `data` ({RECORDS}, {PIXELS}) uint8 and {RECORDS} `labels`"
    if size > PYTHON_LIMIT or not content.startswith((b"\x80", b"(")):
        raise refuse(name, content[:512], size, expected)
    try:
        batch = restricted_pickle.loads(content, name)
    except ValueError as error:
        raise ValueError(f"{error} (expected {expected})") from error
    if not isinstance(batch, dict):
        raise ValueError(f"{name}: expected {expected}, found a {type(batch).__name__}")
    entries = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in batch.items()}
    pixels, labels = entries.get("data"), entries.get("labels")
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != (RECORDS, PIXELS):
        found = f"{pixels.shape} {pixels.dtype}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise ValueError(f"{name}: expected {expected}, found `data` {found}")
    if not isinstance(labels, list) or len(labels) != RECORDS or any(type(label) is not int for label in labels):
        raise ValueError(f"{name}: expected {expected}, found `labels` that are not a list of {RECORDS} integers")
    if min(labels) < 0 or max(labels) > 9:
        raise ValueError(f"{name}: expected labels 0 to 9, found {min(labels)} to {max(labels)}")
    return _checked(np.array(labels), pixels, name)


def _checked(labels: np.ndarray, pixels: np.ndarray, name: str) -> Parsed:
    if not pixels[-1].any():
        raise ValueError(f"{name}: expected {RECORDS:,} images, but the last is all zeros (a zero-filled or cut file)")
    if labels.max() > 9:
        where = int(np.argmax(labels > 9))
        raise ValueError(f"{name}: expected labels 0 to 9, found {labels[where]} in record {where}")
    return labels, pixels
