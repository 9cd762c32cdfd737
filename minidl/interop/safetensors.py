"""The safetensors format: named arrays in one file, readable without running anything found in it.

    8 bytes   n, the header's size, unsigned little-endian
    n bytes   JSON: {"__metadata__": {text: text}, name: {"dtype", "shape", "data_offsets": [begin, end]}, ...}
    the rest  the arrays' bytes, little-endian, C order, without gap or overlap; offsets count from here

Files exchange with the reference library in both directions; files written without checksums are the same bytes.

Source: https://github.com/huggingface/safetensors, "Format".
"""

import json
import math
import os
import struct
import threading
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

__all__ = ["load_file", "save_file", "write_atomically"]

MAX_HEADER = 100_000_000  # bytes; the reference library's limit
CHECKSUMS = "minidl.crc32"  # metadata key: JSON {tensor: crc32 of its bytes, "__metadata__": crc32 of the rest}

# In the order in which the reference library lays arrays out: wide types first, so that every array is aligned.
_TYPES = {
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
    "C64": "<c8",
    "F32": "<f4",
    "U32": "<u4",
    "I32": "<i4",
    "BF16": "<u2",  # read as float32, never written
    "F16": "<f2",
    "U16": "<u2",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}
_NAMES = {text: name for name, text in _TYPES.items() if name != "BF16"}
_ORDER = {name: place for place, name in enumerate(_TYPES)}


def write_atomically(path: str | os.PathLike, chunks: Iterable[bytes | memoryview]) -> None:
    """Write a file so that `path` holds either its previous content or all of the new one, whatever happens.

    The bytes go to a temporary file in the same folder, are flushed to the disk (fsync), and take the name last.

    Args:
        path: the file to write; its folder must exist.
        chunks: the content, piece by piece.

    Raises:
        OSError: no such folder, no permission, disk full; the previous file is untouched.
    """
    target = Path(os.path.realpath(path))  # through a symbolic link, not over it
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with open(temporary, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the new name must survive a power cut too
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        except OSError:
            pass  # some network file systems cannot; the file itself is complete
        finally:
            os.close(folder)


def save_file(
    tensors: Mapping[str, np.ndarray],
    path: str | os.PathLike,
    metadata: Mapping[str, str] | None = None,
    *,
    checksums: bool = True,
) -> None:
    """Write named arrays into a safetensors file, atomically.

    Args:
        tensors: name -> array of any shape; float16/32/64, complex64, bool, or 8 to 64-bit integers.
        path: the file to write.
        metadata: text -> text, kept in the header.
        checksums: keep a CRC-32 of every array and of the header in the metadata (key "minidl.crc32").

    Raises:
        TypeError: a name or a metadata entry that is not text, a value that is not an array, a dtype the format lacks.
        ValueError: a reserved name, or a header above 100 MB.
        OSError: the file cannot be written; a previous file of that name is untouched.
    """
    notes = _checked_metadata(metadata)
    arrays = {name: _little_endian(name, value) for name, value in tensors.items()}
    kinds = {name: _NAMES[array.dtype.str] for name, array in arrays.items()}
    names = sorted(arrays, key=lambda name: (_ORDER[kinds[name]], name))
    parts = [arrays[name].reshape(-1).view(np.uint8) if arrays[name].size else b"" for name in names]

    entries, begin = {}, 0
    for name in names:
        end = begin + arrays[name].nbytes
        entries[name] = {"dtype": kinds[name], "shape": list(arrays[name].shape), "data_offsets": [begin, end]}
        begin = end
    if checksums:
        sums = {name: zlib.crc32(part) for name, part in zip(names, parts, strict=True)}
        notes = {**(notes or {}), CHECKSUMS: json.dumps({**sums, "__metadata__": _header_crc(notes or {}, entries)})}
    header = entries if notes is None else {"__metadata__": notes, **entries}
    text = _encode(json.dumps(header, ensure_ascii=False, separators=(",", ":")))
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise ValueError(f"save_file: the header (names, shapes, metadata) has {len(text)} bytes, at most {MAX_HEADER}")
    write_atomically(path, [struct.pack("<Q", len(text)), text, *(memoryview(part) for part in parts)])


def load_file(
    path: str | os.PathLike, *, require_checksums: bool = False
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read a safetensors file, checking everything the header says before any array is allocated.

    Args:
        path: the file to read.
        require_checksums: refuse a file that was written without them.

    Returns:
        (tensors, metadata): name -> array in the order of the file, and text -> text without the checksums. BF16 is
        returned as float32 (exact); float8 and other types that NumPy lacks are refused.

    Raises:
        ValueError: the file is damaged, or not a safetensors file; the message names the tensor, offset and size.
        OSError: the file cannot be read (FileNotFoundError where there is none).
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            return _read(file, size, require_checksums)
        except ValueError as error:
            raise ValueError(f"load_file: {os.fspath(path)}: {error}") from None


def _read(file: BinaryIO, size: int, require_checksums: bool) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    header, start = _read_header(file, size)
    notes = header.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(value, str) for value in notes.values()):
        raise ValueError('the header\'s "__metadata__" must map text to text')
    entries = {name: _checked_entry(name, entry, size - start) for name, entry in header.items()}
    _check_ranges(entries, size - start)
    sums = _checksums(notes, entries, require_checksums)

    tensors: dict[str, np.ndarray] = {}
    for name in sorted(entries, key=lambda name: entries[name]["data_offsets"]):
        entry = entries[name]
        begin, end = entry["data_offsets"]
        array = np.empty(entry["shape"], _TYPES[entry["dtype"]])
        raw = array.reshape(-1).view(np.uint8)
        file.seek(start + begin)
        if raw.size and file.readinto(memoryview(raw)) != end - begin:  # the file shrank since its size was taken
            raise ValueError(f"tensor {name!r}: the file ends inside its bytes {begin} to {end}")
        if sums is not None and zlib.crc32(raw) != sums[name]:
            raise ValueError(f"tensor {name!r} is damaged: its bytes {begin} to {end} do not match their checksum")
        if entry["dtype"] == "BOOL" and raw.size and raw.max() > 1:
            raise ValueError(f"tensor {name!r}: a BOOL byte must be 0 or 1, found {raw.max()}")
        if entry["dtype"] == "BF16":  # the upper half of a float32
            array = (array.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
    return tensors, {key: value for key, value in notes.items() if key != CHECKSUMS}


def _read_header(file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """Return the parsed header and the position of the first array byte."""
    if size < 10:
        raise ValueError(f"not a safetensors file: it has {size} bytes, a header alone needs 10")
    (length,) = struct.unpack("<Q", file.read(8))
    if length > min(size - 8, MAX_HEADER):
        raise ValueError(
            f"not a safetensors file, or cut off: it announces a header of {length} bytes, "
            f"the file has {size} and a header at most {MAX_HEADER}"
        )
    text = file.read(length)
    if not text.startswith(b"{"):
        raise ValueError(f"not a safetensors file: the header must start with '{{', found {text[:8]!r}")
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("the header is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"the header is not UTF-8 at byte {8 + error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"the header is not JSON: {error}") from None
    return header, 8 + length


def _checked_entry(name: str, entry: Any, available: int) -> dict[str, Any]:
    """Check one tensor's entry by itself: the three fields, a known dtype, a shape that fits its byte range."""
    if not isinstance(entry, dict) or not entry.keys() >= {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {name!r} must have dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _TYPES:
        raise ValueError(f"tensor {name!r}: dtype {dtype!r} is not supported, expected one of {', '.join(_TYPES)}")
    if not _natural_numbers(shape) or len(shape) > 64:
        raise ValueError(f"tensor {name!r}: shape must be at most 64 integers >= 0, got {_short(shape)}")
    if not _natural_numbers(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= available:
        raise ValueError(
            f"tensor {name!r}: data_offsets must be [begin, end] within the {available} data bytes, "
            f"got {_short(offsets)}"
        )
    itemsize = np.dtype(_TYPES[dtype]).itemsize
    if math.prod(extent or 1 for extent in shape) * itemsize >= 2**63:  # NumPy refuses it, zeros or not
        raise ValueError(f"tensor {name!r}: shape {_short(shape)} overflows")
    needed, begin, end = math.prod(shape) * itemsize, *offsets
    if needed != end - begin:
        raise ValueError(
            f"tensor {name!r}: {dtype} of shape {_short(shape)} needs {needed} bytes, "
            f"data_offsets {offsets} hold {end - begin}"
        )
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def _check_ranges(entries: dict[str, dict[str, Any]], available: int) -> None:
    """Refuse byte ranges that overlap, leave a gap, or do not reach the end of the file."""
    reached = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        if begin != reached:
            what = "overlaps the tensor before it" if begin < reached else "leaves a gap"
            raise ValueError(f"tensor {name!r} {what}: it begins at {begin}, expected {reached}")
        reached = end
    if reached != available:
        raise ValueError(f"the tensors end at data byte {reached}, the file has {available}: trailing bytes")


def _checksums(notes: dict[str, str], entries: dict[str, Any], require: bool) -> dict[str, int] | None:
    """Return the checksum of each tensor, or None in a file that has none; the header's own is checked here."""
    if CHECKSUMS not in notes:
        if require:
            raise ValueError(f"it has no checksums (metadata key {CHECKSUMS!r}): not written by minidl, or damaged")
        return None
    try:
        sums = json.loads(notes[CHECKSUMS], object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ValueError(f"the metadata entry {CHECKSUMS!r} is damaged") from None
    if not isinstance(sums, dict) or sums.keys() != {*entries, "__metadata__"}:
        raise ValueError(f"the metadata entry {CHECKSUMS!r} must name every tensor")
    others = {key: value for key, value in notes.items() if key != CHECKSUMS}
    if sums["__metadata__"] != _header_crc(others, entries):
        raise ValueError("the header is damaged: it does not match its checksum")
    return sums


def _header_crc(notes: Mapping[str, str], entries: Mapping[str, Any]) -> int:
    """CRC-32 of what the header says, independent of spacing and of the order of keys."""
    return zlib.crc32(json.dumps([dict(notes), dict(entries)], sort_keys=True).encode())


def _checked_metadata(metadata: Mapping[str, str] | None) -> dict[str, str] | None:
    for key, value in (metadata or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"save_file: metadata must map text to text, got {key!r}: {type(value).__name__}")
        if key == CHECKSUMS:
            raise ValueError(f"save_file: the metadata key {CHECKSUMS!r} is reserved for the checksums")
    return None if metadata is None else dict(metadata)


def _little_endian(name: str, value: np.ndarray) -> np.ndarray:
    """Check a tensor to be saved and return it little-endian and contiguous."""
    if not isinstance(name, str):
        raise TypeError(f"save_file: names must be text, got {name!r}")
    if name == "__metadata__":
        raise ValueError("save_file: the name '__metadata__' is reserved by the format")
    if not isinstance(value, np.ndarray):
        raise TypeError(f"save_file: tensor {name!r} must be a NumPy array, got {type(value).__name__}")
    dtype = value.dtype.newbyteorder("<")
    if dtype.str not in _NAMES:
        raise TypeError(f"save_file: tensor {name!r} has dtype {value.dtype}, which the format lacks")
    return np.asarray(value, dtype, order="C")


def _encode(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"save_file: a name or metadata entry is not valid Unicode: {error}") from None


def _natural_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        double = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"the header names {_short(double)} twice")
    return result


def _no_constant(text: str) -> None:
    raise ValueError(f"the header contains {text}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
