"""NumPy's .npz: a zip archive of .npy files, numbers only; objects, which would be unpickled, are refused.

Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import io
import math
import os
import zipfile
from collections.abc import Mapping

import numpy as np

from minidl.interop.safetensors import write_atomically
from minidl.interop.zip_parts import read_part

__all__ = ["read_arrays", "write_npz"]

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
HEADER = 70_000  # bytes in which an array's header must end; NumPy itself accepts 10,000 characters
_EPOCH = (1980, 1, 1, 0, 0, 0)  # equal content gives equal files


def read_arrays(archive: zipfile.ZipFile, parts: dict[str, zipfile.ZipInfo]) -> dict[str, np.ndarray]:
    """Return the arrays of an open archive by name, in the order of the file.

    Raises:
        ValueError: a part is damaged, or no array of real numbers.
    """
    return {name.removesuffix(".npy"): _array(name, read_part(archive, info)) for name, info in parts.items()}


def _array(name: str, raw: np.ndarray) -> np.ndarray:
    file = io.BytesIO(raw[:HEADER])
    try:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"version {version} of the format is for records")
        shape, fortran, dtype = _HEADERS[version](file)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:  # Python's parser raises all of these
        raise ValueError(f"part {name[:80]!r} is no array: {str(error)[:200]}") from None
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise ValueError(f"array {name[:80]!r} has dtype {str(dtype)[:80]}; only real numbers are read")
    content = raw[file.tell() :]
    sizes_ok = len(shape) <= 64 and all(type(n) is int and n >= 0 for n in shape)
    if sizes_ok and math.prod(n or 1 for n in shape) * dtype.itemsize >= 2**63:  # NumPy refuses it, zeros or not
        sizes_ok = False
    if not sizes_ok or math.prod(shape) * dtype.itemsize != content.size:
        raise ValueError(f"array {name[:80]!r}: {content.size:,} bytes are not shape {str(shape)[:80]} of {dtype}")
    if dtype == np.bool_ and content.size and content.max() > 1:
        raise ValueError(f"array {name[:80]!r}: a bool must be 0 or 1, found {content.max()}")
    numbers = content.view(dtype).reshape(shape, order="F" if fortran else "C")
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
