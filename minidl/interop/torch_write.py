"""Write PyTorch's .pth files without PyTorch: `torch.load(path)` reads them, also with weights_only=True.

The format is described in `torch_read.py`. The pickle is written opcode by opcode, because Python's pickler
would import PyTorch to check the names that it writes.
"""

import io
import os
import struct
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from minidl.interop.safetensors import write_atomically
from minidl.primitives import unwrap
from minidl.tensor import Tensor

__all__ = ["write_torch"]

MAX_DEPTH = 100
ALIGNMENT = 64  # of each storage in the file, as PyTorch does it, for memory maps
HEADER = 30  # bytes before a part's name in a zip archive
_EPOCH = (1980, 1, 1, 0, 0, 0)  # equal content gives equal files
_STORAGES = {
    **{"f8": "Double", "f4": "Float", "f2": "Half", "i8": "Long", "i4": "Int", "i2": "Short"},
    **{"i1": "Char", "u1": "Byte", "b1": "Bool"},
}


def write_torch(value: Any, path: str | os.PathLike) -> None:
    """Write dicts, lists, tuples, plain values and Tensors in PyTorch's zip format, atomically.

    Tensors over the same numbers (tied weights) share a storage.

    Raises:
        TypeError: a value of another type, or of a dtype that PyTorch's storages lack.
        ValueError: values nested deeper than 100.
        OSError: the file cannot be written; a previous file of that name is untouched.
    """
    pickler = _Pickler()
    pickled = b"".join((b"\x80\x02", *pickler.opcodes(value, "state"), b"."))
    parts = {"data.pkl": pickled, ".format_version": b"1", ".storage_alignment": b"64", "byteorder": b"little"}
    parts |= {f"data/{key}": array.reshape(-1).view(np.uint8) for key, array in pickler.storages.values()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in {**parts, "version": b"3\n"}.items():
            info = zipfile.ZipInfo(f"archive/{name}", _EPOCH)
            padding = -(buffer.tell() + HEADER + len(info.filename) + 4) % ALIGNMENT
            info.extra = b"FB" + struct.pack("<H", padding) + bytes(padding)
            archive.writestr(info, memoryview(content))
    write_atomically(path, [buffer.getbuffer()])


class _Pickler:
    """Turns values into opcodes of pickle's protocol 2, and collects the storages on the way."""

    def __init__(self) -> None:
        self.storages: dict[tuple, tuple[int, np.ndarray]] = {}  # by place in memory, which stays taken

    def opcodes(self, value: Any, where: str, depth: int = 0) -> Iterator[bytes]:
        if depth > MAX_DEPTH:
            raise ValueError(f"save: {where[:100]} is nested deeper than {MAX_DEPTH}")
        value = value.item() if isinstance(value, np.generic) else value
        if value is None or isinstance(value, bool):
            yield {None: b"N", True: b"\x88", False: b"\x89"}[value]
        elif isinstance(value, str):
            text = value.encode("utf-8", "surrogatepass")
            yield b"X" + struct.pack("<I", len(text)) + text
        elif isinstance(value, int):
            yield self.integer(value)
        elif isinstance(value, float):
            yield b"G" + struct.pack(">d", value)
        elif isinstance(value, Tensor | np.ndarray):
            yield from self.tensor(np.asarray(unwrap(value)), where)
        elif isinstance(value, Mapping):
            yield b"}("
            for key, item in value.items():
                if not isinstance(key, str | int):
                    raise TypeError(f"save: a key of {where} must be text or an integer, got {type(key).__name__}")
                yield from self.opcodes(key, where)
                yield from self.opcodes(item, f"{where}[{key!r}]", depth + 1)
            yield b"u"
        elif isinstance(value, list | tuple):
            yield b"](" if isinstance(value, list) else b"("
            for index, item in enumerate(value):
                yield from self.opcodes(item, f"{where}[{index}]", depth + 1)
            yield b"e" if isinstance(value, list) else b"t"
        else:
            raise TypeError(
                f"save: {where} must be a Tensor, a plain value, a dict or a list, got {type(value).__name__}"
            )

    def integer(self, value: int) -> bytes:
        if -(2**31) <= value < 2**31:
            return b"J" + struct.pack("<i", value)
        content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        if len(content) > 255:
            raise ValueError(f"save: an integer of {8 * len(content)} bits is too long")
        return b"\x8a" + bytes([len(content)]) + content

    def tensor(self, array: np.ndarray, where: str) -> Iterator[bytes]:
        """torch._utils._rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())"""
        kind = _STORAGES.get(array.dtype.str[1:])
        if kind is None:
            raise TypeError(f"save: {where} has dtype {array.dtype}, which PyTorch's storages lack")
        plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
        place = (plain.ctypes.data if plain.size else len(self.storages), plain.nbytes, kind)
        key, _ = self.storages.setdefault(place, (len(self.storages), plain))
        strides = tuple(stride // plain.itemsize for stride in plain.strides)
        yield b"ctorch._utils\n_rebuild_tensor_v2\n(("
        yield from self.opcodes("storage", where)
        yield f"ctorch\n{kind}Storage\n".encode()
        for part in (str(key), "cpu", plain.size):
            yield from self.opcodes(part, where)
        yield b"tQ"
        for part in (0, plain.shape, strides, False):
            yield from self.opcodes(part, where)
        yield b"ccollections\nOrderedDict\n)Rt" + b"R"
