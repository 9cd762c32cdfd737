"""NumPy's .npz: a zip archive of .npy files, numbers only; objects, which would be unpickled, are refused.

Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import io
import math
import os
import re
import zipfile
from collections.abc import Mapping

import numpy as np

from minidl.interop.safetensors import write_atomically
from minidl.interop.zip_parts import read_part

__all__ = ["read_arrays", "write_npz"]

MAX_HEADER = 10_000  # bytes, as in NumPy
_HEADER = re.compile(
    r"\{\s*'descr':\s*'?(?P<dtype>.+?)'?,\s*'fortran_order':\s*(?P<fortran>True|False),"
    r"\s*'shape':\s*\((?P<shape>[0-9, ]*)\)\s*,?\s*\}\s*"
)
_NUMBER = re.compile(r"[<>|=](b1|[iu][1248]|f[248])")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # equal content gives equal files


def read_arrays(archive: zipfile.ZipFile, parts: dict[str, zipfile.ZipInfo]) -> dict[str, np.ndarray]:
    """Return the arrays of an open archive by name, in the order of the file.

    Raises:
        ValueError: a part is damaged, or no array of real numbers.
    """
    return {name.removesuffix(".npy"): _array(name, read_part(archive, info)) for name, info in parts.items()}


def _array(name: str, raw: np.ndarray) -> np.ndarray:
    name = name[:80]
    head = raw[:MAX_HEADER].tobytes()
    width = {b"\x01": 2, b"\x02": 4, b"\x03": 4}.get(head[6:7], 0)
    start = 8 + width + int.from_bytes(head[8 : 8 + width], "little")
    header = _HEADER.fullmatch(head[8 + width : start].decode("latin1"))
    if head[:6] != b"\x93NUMPY" or start > len(head) or header is None:
        raise ValueError(f"part {name!r} is no array")
    if not _NUMBER.fullmatch(header["dtype"]):
        raise ValueError(f"array {name!r} has dtype {header['dtype'][:80]}; only real numbers are read")
    dtype, shape = np.dtype(header["dtype"]), tuple(int(n) for n in header["shape"].split(",") if n.strip())
    content = raw[start:]
    bytes_of_ones = math.prod(n or 1 for n in shape) * dtype.itemsize  # NumPy refuses overflow even with zeros
    if len(shape) > 64 or bytes_of_ones >= 2**63 or math.prod(shape) * dtype.itemsize != content.size:
        raise ValueError(f"array {name!r}: {content.size:,} bytes are not shape {str(shape)[:80]} of {dtype}")
    if dtype == np.bool_ and content.size and content.max() > 1:
        raise ValueError(f"array {name!r}: a bool must be 0 or 1, found {content.max()}")
    numbers = content.view(dtype).reshape(shape, order="F" if header["fortran"] == "True" else "C")
    return np.array(numbers, dtype.newbyteorder("="), order="C")


def write_npz(arrays: Mapping[str, np.ndarray], path: str | os.PathLike) -> None:
    """Write named arrays as an uncompressed .npz, atomically.

    Raises:
        TypeError: an array of objects, which would be pickled.
        OSError: the file cannot be written; a previous file of that name is untouched.
    """
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise TypeError(f"save: {name!r} has dtype {array.dtype}; only real numbers are written")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _EPOCH), "w", force_zip64=True) as part:
                np.lib.format.write_array(part, array, allow_pickle=False)
    write_atomically(path, [buffer.getbuffer()])
