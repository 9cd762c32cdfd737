"""Reading data files with suspicion: an error names the file, what it seems to be and what was expected."""

import gzip
import io
import zlib
from pathlib import Path
from typing import BinaryIO

__all__ = ["BoundedReader", "describe", "read_exactly", "refuse"]


def describe(head: bytes, size: int) -> str:
    """Say what a file seems to be, from its first bytes and its size in bytes."""
    start = head[:512].lstrip().lower()
    if size == 0:
        return "an empty file"
    if start.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer, not the file itself (run `git lfs pull`)"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "an HTML page, not the data (the download was answered by a web page)"
    if head and not any(head):
        return f"a file of {size:,} bytes that begins with zeros (the download or the disk failed)"
    return f"a file of {size:,} bytes"


def refuse(path: Path | str, head: bytes, size: int, expected: str) -> ValueError:
    """Return the error for a file that is not what it should be."""
    return ValueError(f"{path}: expected {expected}, found {describe(head, size)}")


def read_exactly(path: Path, size: int, expected: str) -> bytes:
    """Read a file that must hold `size` bytes (after unpacking, where its name ends in .gz).

    At most `size` + 1 bytes are ever unpacked, and a plain file of another size is refused before it is read.

    Raises:
        ValueError: another size, or damaged compression; the message names the file and `expected`.
    """
    found = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(512)
        file.seek(0)
        if path.suffix != ".gz":
            if found != size:
                raise refuse(path, head, found, expected)
            return file.read(size)
        if head[:2] != b"\x1f\x8b":
            raise refuse(path, head, found, f"a gzip file holding {expected}")
        try:
            with gzip.open(file) as unpacked:
                content = unpacked.read(size + 1)
        except (OSError, EOFError, zlib.error) as error:
            message = f"{path}: expected a gzip file holding {expected}, found a damaged one: {error}"
            raise ValueError(message) from error
    if len(content) != size:
        length = f"more than {size:,}" if len(content) > size else f"{len(content):,}"
        raise ValueError(f"{path}: expected a gzip file holding {expected}, found {length} bytes after unpacking")
    return content


class BoundedReader(io.RawIOBase):
    """A stream that refuses to deliver more than `limit` bytes: a small archive cannot unpack into a huge one."""

    def __init__(self, source: BinaryIO, limit: int, name: str):
        self._source, self._left, self._name, self._limit = source, limit, name, limit

    def read(self, size: int = -1) -> bytes:
        content = self._source.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(content)
        if self._left < 0:
            raise ValueError(f"{self._name}: unpacks to more than the {self._limit:,} bytes that it may hold")
        return content
