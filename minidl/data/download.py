"""Fetch the published files of a dataset: resumable, checked, and put in place only when complete."""

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

__all__ = ["DownloadError", "cache_folder", "download"]

TIMEOUT = 30  # seconds without a byte
TRIES = 4  # per mirror; each one after the first resumes
CHUNK = 1 << 18  # bytes


class DownloadError(OSError):
    """No mirror delivered the file."""


@dataclass(frozen=True)
class RemoteFile:
    name: str
    size: int
    md5: str


@dataclass(frozen=True)
class Source:
    folder: str  # below the data folder
    mirrors: tuple[str, ...]  # base addresses, the official one first
    files: tuple[RemoteFile, ...]


SOURCES = {
    "cifar10": Source(
        "",
        (
            "https://www.cs.toronto.edu/~kriz/",
            "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
            "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/",
        ),
        (RemoteFile("cifar-10-binary.tar.gz", 170_052_171, "c32a1d4ab5d03f1284b67883e8d87530"),),
    ),
    "cifar10-python": Source(
        "",
        ("https://www.cs.toronto.edu/~kriz/",),
        (RemoteFile("cifar-10-python.tar.gz", 170_498_071, "c58f30108f718f92721af3b95e74349a"),),
    ),
    "mnist": Source(
        "MNIST/raw",
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
        (
            RemoteFile("train-images-idx3-ubyte.gz", 9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            RemoteFile("train-labels-idx1-ubyte.gz", 28_881, "d53e105ee54ea40749a09fcbcd1e9432"),
            RemoteFile("t10k-images-idx3-ubyte.gz", 1_648_877, "9fb629c4189551a2d022fa330f9573f3"),
            RemoteFile("t10k-labels-idx1-ubyte.gz", 4_542, "ec29112dd5afa0611ce80d1b7f02629c"),
        ),
    ),
}


def cache_folder() -> Path:
    """Return the folder for downloaded data: `minidl` in $XDG_CACHE_HOME or in ~/.cache (it may not exist yet)."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "minidl"


def download(name: str, root: str | Path | None = None, mirrors: Sequence[str] | None = None) -> Path:
    """Download a dataset's files; what is already there and right is not fetched again.

    A file arrives as `<file>.part`, which a later call continues; it gets its name when its MD5 checksum is right.

    Args:
        name: "cifar10" (the binary archive, 170 MB), "cifar10-python" (the pickled archive) or "mnist" (12 MB).
        root: the data folder, by default `cache_folder()`.
        mirrors: base addresses to use instead of the built-in ones, first to last.

    Returns:
        The data folder.

    Raises:
        ValueError: an unknown name, or an address that is not http(s).
        DownloadError: no mirror delivered a file; the message says what each answered and how to place it by hand.
        OSError: the folder cannot be written (no space, no permission).
    """
    source = SOURCES.get(name)
    if source is None:
        raise ValueError(f"download: name must be one of {', '.join(SOURCES)}, got {name!r}")
    bases = [base if base.endswith("/") else f"{base}/" for base in (source.mirrors if mirrors is None else mirrors)]
    for base in bases:
        if not base.startswith(("https://", "http://")):
            raise ValueError(f"download: mirrors must begin with https:// or http://, got {base!r}")
    if not bases:
        raise ValueError("download: mirrors must name at least one address, got none")
    root = cache_folder() if root is None else Path(root)
    folder = root / source.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in source.files:
            if not _is_complete(folder / file.name, file):
                _fetch(file, folder, bases)
    except DownloadError:
        raise
    except OSError as error:
        place = f"download: cannot write to {folder}: {error.strerror or error} (a .part file there is continued later)"
        raise OSError(error.errno, place) from error
    return root


def _fetch(file: RemoteFile, folder: Path, bases: Sequence[str]) -> None:
    part = folder / f"{file.name}.part"
    answers = []
    for base in bases:
        answer = ""
        old_part = part.is_file()
        for _ in range(TRIES):
            try:
                _receive(base + file.name, part, file)
            except _NotDelivered as error:
                answer = str(error)
                if error.resumable:
                    continue
                break
            if _is_complete(part, file):
                os.replace(part, folder / file.name)
                _sync_folder(folder)
                return
            part.unlink()
            answer = f"sent a file with a wrong checksum (expected MD5 {file.md5})"
            if not old_part:
                break
            old_part = False  # the start may have come from elsewhere: once more, all of it from this mirror
        answers.append(f"{urllib.parse.urlsplit(base).netloc}: {answer}")
    raise DownloadError(
        f"download: could not fetch {file.name}. Tried {'; '.join(answers)}. "
        f"To place it by hand, get {bases[0]}{file.name} on a machine with a connection and copy it to "
        f"{folder / file.name} (MD5 {file.md5})"
    )


class _NotDelivered(Exception):
    def __init__(self, reason: str, resumable: bool):
        super().__init__(reason)
        self.resumable = resumable


def _receive(url: str, part: Path, file: RemoteFile) -> None:
    """Append the missing bytes of `file` to `part`; disk errors pass as OSError, others become _NotDelivered."""
    have = part.stat().st_size if part.is_file() else 0
    if have > file.size:
        part.unlink()
        have = 0
    if have == file.size:
        return
    request = urllib.request.Request(url, headers={"User-Agent": "minidl", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:
            part.unlink()
        raise _NotDelivered(f"HTTP {error.code} {error.reason}", resumable=error.code == 416) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _NotDelivered(_reason(error), resumable=False) from error
    with response:
        continued = response.status == 206
        if continued and _range_start(response.headers.get("Content-Range")) != have:
            raise _NotDelivered("answered with another range than it was asked for", resumable=False)
        start = have if continued else 0
        length = response.headers.get("Content-Length", "")
        if length.isdigit() and start + int(length) != file.size:
            raise _NotDelivered(f"offers {start + int(length):,} bytes instead of {file.size:,}", resumable=False)
        bar = tqdm(total=file.size, initial=start, unit="B", unit_scale=True, desc=file.name)
        with open(part, "r+b" if continued else "wb") as out, bar:
            out.seek(start)
            while start < file.size:
                try:
                    chunk = response.read(min(CHUNK, file.size - start))
                except (OSError, http.client.HTTPException) as error:
                    chunk, cut = getattr(error, "partial", b""), _reason(error)
                else:
                    cut = "" if chunk else f"the connection was cut at {start:,} of {file.size:,} bytes"
                out.write(chunk)
                start += len(chunk)
                bar.update(len(chunk))
                if cut:
                    raise _NotDelivered(cut, resumable=True)
            out.flush()
            os.fsync(out.fileno())


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return f"{type(reason).__name__}: {reason}" if isinstance(reason, Exception) else str(reason)


def _range_start(content_range: str | None) -> int | None:
    match = re.match(r"bytes (\d+)-", content_range or "")
    return int(match[1]) if match else None


def _is_complete(path: Path, file: RemoteFile) -> bool:
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    with open(path, "rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == file.md5


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
