"""`minidl.load` and `minidl.save`: files of weights, told apart by content when read, by ending when written."""

import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from minidl.creation import from_numpy
from minidl.interop.safetensors import load_file, save_file
from minidl.primitives import unwrap
from minidl.tensor import Tensor

__all__ = ["load", "save"]

_STRANGERS = {  # beginnings of files that people mean to load, and what to do about them
    b"\x89HDF": "an HDF5 file (.h5), which is not read",
    b"\x93NUMPY": "a single array; numpy.load reads it",
    b"\x1f\x8b": "compressed by gzip; unpack it first",
    b"<": "a web page or XML, perhaps instead of a download",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself; run `git lfs pull`",
}
HEAD = 512  # bytes that tell the format
LONGEST = 300  # characters of a message


def load(path: str | os.PathLike, map_location: Any = None, *, weights_only: bool = True) -> Any:
    """Read weights from a .safetensors, .npz, .pth, .pt or .th file; its content tells which. No code in it is run.

    Args:
        path: the file.
        map_location: None or "cpu"; Tensors are read into main memory.
        weights_only: True; other objects are never built.

    Returns:
        Name -> Tensor; of PyTorch's files, whatever was saved: dicts and lists of plain values and Tensors. float16 and
        bfloat16 become float32, exactly.

    Raises:
        ValueError: the file is of another kind, damaged, asks for anything but tensors and plain values (the message
            names it), or would take far more memory than its size.
        OSError: the file cannot be read (FileNotFoundError where there is none).
    """
    if map_location is not None and str(map_location) != "cpu":
        raise ValueError(f"load: map_location must be None or 'cpu', got {map_location!r}")
    if not weights_only:
        raise ValueError(
            "load: weights_only=False would run code from the file; only tensors and plain values are read"
        )
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(HEAD)
        file.seek(0)
        if head[8:9] == b"{":
            return _tensors(path, load_file(path)[0])
        try:
            return _read(file, size, head, path)
        except (ValueError, OverflowError, struct.error, Warning) as error:  # a Warning, where those are errors
            text = " ".join(str(error).split())  # libraries quote what they found, at any length
            raise ValueError(f"load: {os.fspath(path)}: {text[:LONGEST]}") from None


def _read(file: BinaryIO, size: int, head: bytes, path: str | os.PathLike) -> Any:
    from minidl.interop import torch_read, zip_parts  # here, so that `import minidl` stays quick

    if torch_read.LEGACY_MAGIC in head[:32]:
        return torch_read.read_legacy(file, size)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        with zip_parts.open_parts(file, size) as (archive, parts):
            if sum(name.endswith("/data.pkl") and name.count("/") == 1 for name in parts) == 1:
                return torch_read.read_parts(archive, parts)
            from minidl.interop.npz import read_arrays

            if all(name.endswith(".npy") for name in parts):
                return _tensors(path, read_arrays(archive, parts))
        raise ValueError("a zip archive that holds neither NumPy's arrays nor what torch.save writes")
    if head[257:262] == b"ustar":
        raise ValueError("PyTorch's tar format of before 2017, or a tar archive; save it again with a newer PyTorch")
    for beginning, what in _STRANGERS.items():
        if head.startswith(beginning):
            raise ValueError(what)
    if not head:
        raise ValueError("an empty file")
    what = "a pickle that torch.save did not write" if head[:1] == b"\x80" else f"it begins with {head[:8]!r}"
    raise ValueError(f"not a safetensors, npz or PyTorch file, or damaged: {what}")


def _tensors(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    for name, array in arrays.items():
        if array.dtype.kind == "c":
            raise ValueError(f"load: {os.fspath(path)}: array {name!r} is complex, which Tensors are not")
    return {name: from_numpy(a.astype(np.float32) if a.dtype == np.float16 else a) for name, a in arrays.items()}


def save(state: Any, path: str | os.PathLike) -> None:
    """Write weights, atomically; the ending of `path` says how.

    .safetensors, .npz: name -> Tensor or array. .pth, .pt, .th: also nested dicts and lists with plain values in them;
    PyTorch reads these with `torch.load(path)`.

    Args:
        state: such as `model.state_dict()`.
        path: the file; its folder must exist.

    Raises:
        TypeError: `state` is no dict of Tensors, or for PyTorch's files holds something other than plain values.
        ValueError: an ending that is not written.
        OSError: the file cannot be written; a previous file of that name is untouched.
    """
    ending = Path(path).suffix.lower()
    if ending not in _WRITERS:
        raise ValueError(f"save: path must end in one of {', '.join(_WRITERS)}, got {os.fspath(path)!r}")
    if not isinstance(state, Mapping):
        hint = "; pass model.state_dict()" if hasattr(state, "state_dict") else ""
        raise TypeError(f"save: state must be a dict, got {type(state).__name__}{hint}")
    _WRITERS[ending](state, path)


def _arrays(state: Mapping[str, Any], ending: str) -> dict[str, np.ndarray]:
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor | np.ndarray):
            raise TypeError(
                f"save: {ending} holds Tensors and arrays by name, {name!r} is {type(value).__name__}; .pth holds more"
            )
    return {name: np.asarray(unwrap(value)) for name, value in state.items()}


def _safetensors(state: Mapping[str, Any], path: str | os.PathLike) -> None:
    save_file(_arrays(state, ".safetensors"), path)


def _npz(state: Mapping[str, Any], path: str | os.PathLike) -> None:
    from minidl.interop.npz import write_npz

    write_npz(_arrays(state, ".npz"), path)


def _torch(state: Mapping[str, Any], path: str | os.PathLike) -> None:
    from minidl.interop.torch_write import write_torch

    write_torch(state, path)


_WRITERS: dict[str, Callable] = {
    ".safetensors": _safetensors,
    ".npz": _npz,
    ".pth": _torch,
    ".pt": _torch,
    ".th": _torch,
}
