"""Zip archives that may lie: every part is checked before it is read, and nothing is ever unpacked to the disk."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np

__all__ = ["open_parts", "read_part"]

MAX_RATIO = 20  # unpacked bytes per byte of the file; trained weights hardly shrink, bombs grow a thousand times
FREE = 64_000_000  # bytes that any archive may unpack to
CHUNK = 1 << 20
ENCRYPTED = 1  # a bit of a part's flags


@contextmanager
def open_parts(file: BinaryIO, size: int) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """Open an archive of `size` bytes and yield it with its parts by name.

    Raises:
        ValueError: it is damaged; a name is doubled, absolute or climbs out of the archive; a part is encrypted or
            packed by anything but deflate; all parts together would take more than 20 times the file (and 64 MB).
    """
    try:
        with zipfile.ZipFile(file) as archive:
            parts = {info.filename: info for info in archive.infolist()}
            if len(parts) != len(archive.infolist()):
                raise ValueError("two parts of the archive have the same name")
            for name, info in parts.items():
                if name.startswith("/") or "\\" in name or ":" in name or ".." in name.split("/"):
                    raise ValueError(f"a part is named {name[:80]!r}, which points out of the archive")
                if not 0 <= info.header_offset < size:
                    raise ValueError(f"part {name[:80]!r} is said to begin at byte {info.header_offset:,} of {size:,}")
                if info.flag_bits & ENCRYPTED or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError(f"part {name[:80]!r} is encrypted, or packed by an unknown method")
            total = sum(info.file_size for info in parts.values())
            if total > max(FREE, MAX_RATIO * size):
                raise ValueError(
                    f"its parts would unpack to {total:,} bytes, more than {MAX_RATIO} times the file's {size:,}"
                )
            yield archive, parts
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise ValueError(f"cut off or damaged: {str(error).rstrip('.')}") from None


def read_part(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """Return a part's bytes (uint8), unpacked, at most as many as it announces, its CRC-32 checked.

    Raises:
        ValueError: it is shorter or longer than it announces, or damaged.
    """
    raw, filled = np.empty(info.file_size, np.uint8), 0
    try:
        with archive.open(info) as part:
            while piece := part.read(CHUNK):
                if filled + len(piece) > raw.size:
                    raise ValueError(f"part {info.filename[:80]!r} is longer than the {raw.size:,} bytes it announces")
                raw[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
                filled += len(piece)
    except zlib.error as error:
        raise ValueError(f"part {info.filename[:80]!r} is damaged: {error}") from None
    if filled != raw.size:
        raise ValueError(f"part {info.filename[:80]!r} ends after {filled:,} of {raw.size:,} bytes")
    return raw
