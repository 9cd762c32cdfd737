"""PyTorch's .pth, .pt and .th files, read without PyTorch and without running anything found in them.

Since version 1.6 a zip archive, uncompressed, below one folder of any name:

    data.pkl    a pickle; Tensors are calls that name their storage by a key
    data/KEY    the bytes of each storage
    byteorder   "little" or "big"

Before (`_use_new_zipfile_serialization=False`), one after the other:

    three pickles    a magic number, 1001, and the machine's sizes
    a pickle         the object
    a pickle         the storages' keys, and then for each the number of elements (int64) and its bytes, little-endian

Source: `torch/serialization.py` of PyTorch 2.13 (formats only).
"""

import pickletools
import struct
import zipfile
from typing import Any, BinaryIO

import numpy as np

from minidl.interop.torch_pickle import MAX_OPCODES, Kind, Storages, load_pickle
from minidl.interop.zip_parts import read_part

__all__ = ["LEGACY_MAGIC", "read_legacy", "read_parts"]

LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the number 0x1950a86a20f9469cfc6c as a pickle's last two opcodes
_ORDERS = {b"little": "<", b"big": ">"}


def read_parts(archive: zipfile.ZipFile, parts: dict[str, zipfile.ZipInfo]) -> Any:
    """Read the object from an open archive that holds FOLDER/data.pkl.

    Raises:
        ValueError: damaged, or it asks for more than tensors and plain values.
    """
    (folder,) = (name.removesuffix("data.pkl") for name in parts if name.endswith("/data.pkl") and name.count("/") == 1)
    if f"{folder}constants.pkl" in parts:
        raise ValueError("a TorchScript program, which holds code; save the weights: torch.save(m.state_dict(), path)")
    order = b"little"
    if f"{folder}byteorder" in parts:
        order = read_part(archive, parts[f"{folder}byteorder"]).tobytes()
    if order not in _ORDERS:
        raise ValueError(f"its byte order must be little or big, got {order[:20]!r}")

    def read(key: str, kind: Kind, count: int) -> np.ndarray:
        info = parts.get(f"{folder}data/{key}")
        needed = count * kind.stored.itemsize
        if info is None or info.file_size != needed:
            found = "is not there" if info is None else f"has {info.file_size:,} bytes"
            raise ValueError(f"storage {key[:80]!r} {found}, expected {needed:,}")
        return kind.numbers(read_part(archive, info), _ORDERS[order])

    pickled = read_part(archive, parts[f"{folder}data.pkl"]).tobytes()
    return load_pickle(pickled, Storages(sum(info.file_size for info in parts.values()), read))


def read_legacy(file: BinaryIO, size: int) -> Any:
    """Read the object from an open file of `size` bytes in the format before PyTorch 1.6.

    Raises:
        ValueError: damaged, or it asks for more than tensors and plain values.
    """
    load_pickle(_next_pickle(file, size))  # the magic number, by which the format was recognised
    version = load_pickle(_next_pickle(file, size))
    if version != 1001:
        raise ValueError(f"version {str(version)[:40]} of PyTorch's old format is unknown, expected 1001")
    load_pickle(_next_pickle(file, size))  # of the machine that wrote it; the numbers are little-endian on all
    pickled = _next_pickle(file, size)
    storages = Storages(size - file.tell())
    value = load_pickle(pickled, storages)

    keys = load_pickle(_next_pickle(file, size))
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages.found):
        raise ValueError("the list of storages is not that of the tensors")
    for key in keys:
        storage = storages.found[str(key)]
        needed = storage.array.size * storage.kind.stored.itemsize
        head = file.read(8)
        if len(head) < 8 or size - file.tell() < needed:
            raise ValueError(f"cut off: it ends within storage {str(key)[:80]!r}")
        (count,) = struct.unpack("<q", head)
        if count != storage.array.size:
            raise ValueError(f"storage {str(key)[:80]!r} has {count:,} elements, expected {storage.array.size:,}")
        raw = np.empty(needed, np.uint8)
        if raw.size and file.readinto(memoryview(raw)) != needed:  # the file shrank since its size was taken
            raise ValueError(f"cut off: it ends within storage {str(key)[:80]!r}")
        storage.array[...] = storage.kind.numbers(raw, "<")
    return value


class _Bounded:
    """A file whose reads never ask for more than there is, because Python reserves what is asked for."""

    def __init__(self, file: BinaryIO, size: int):
        self.file, self.size = file, size
        self.readline, self.tell = file.readline, file.tell

    def read(self, count: int) -> bytes:
        return self.file.read(min(count, self.size - self.file.tell()))


def _next_pickle(file: BinaryIO, size: int) -> bytes:
    """Return the bytes of the pickle that begins here; the file is then behind it."""
    start = file.tell()
    for count, _ in enumerate(pickletools.genops(_Bounded(file, size))):
        if count > MAX_OPCODES:
            raise ValueError(f"a pickle of more than {MAX_OPCODES:,} opcodes")
    end = file.tell()
    file.seek(start)
    return file.read(end - start)
