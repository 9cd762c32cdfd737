"""MNIST: 60,000 training and 10,000 test images of handwritten digits, 28x28 (LeCun et al., 1998)."""

from pathlib import Path
from typing import ClassVar

import numpy as np

from minidl.data.dataset import ArrayDataset
from minidl.data.download import download as fetch_files
from minidl.data.files import read_exactly, refuse
from minidl.data.transforms import Transform

__all__ = ["MNIST"]

COUNTS = {"train": 60_000, "t10k": 10_000}


class MNIST(ArrayDataset):
    """MNIST from the idx files, plain or gzipped.

    Args:
        root: the folder with the four files, its parent, or the folder above `MNIST/raw`.
        train: the 60,000 training images, or the 10,000 test images.
        transform: see `ArrayDataset`.
        download: fetch the files into `root`/MNIST/raw where they are not found.

    Raises:
        FileNotFoundError: the files are not there.
        ValueError: a file is not what it should be; the message names it.
    """

    channel_mean: ClassVar[tuple[float, ...]] = (0.1307,)
    channel_std: ClassVar[tuple[float, ...]] = (0.3081,)

    def __init__(
        self, root: str | Path, train: bool = True, transform: Transform | None = None, download: bool = False
    ):
        folder = self.locate(root)
        if folder is None and download:
            folder = self.locate(fetch_files("mnist", root))
        if folder is None:
            raise FileNotFoundError(
                f"MNIST: {root} holds no MNIST files such as t10k-images-idx3-ubyte.gz, in itself, raw/ or MNIST/raw/ "
                "(`minidl data download mnist` fetches them)"
            )
        part = "train" if train else "t10k"
        data = _read_idx(folder, f"{part}-images-idx3-ubyte", (COUNTS[part], 28, 28))[..., None]
        targets = _read_idx(folder, f"{part}-labels-idx1-ubyte", (COUNTS[part],))
        if targets.max() > 9:
            raise ValueError(f"{folder / part}-labels-idx1-ubyte: expected labels 0 to 9, found {targets.max()}")
        if not data[-1].any():
            name = f"{folder / part}-images-idx3-ubyte"
            raise ValueError(f"{name}: expected images, but the last is all zeros (a zero-filled or cut file)")
        names = [str(digit) for digit in range(10)]
        super().__init__(data, targets, names, self.channel_mean, self.channel_std, transform)

    @staticmethod
    def locate(root: str | Path) -> Path | None:
        """Return the folder at or in `root` that holds MNIST's files, or None."""
        root = Path(root)
        for folder in (root, root / "raw", root / "MNIST", root / "MNIST" / "raw"):
            if any(_path(folder, f"{part}-images-idx3-ubyte") for part in COUNTS):
                return folder
        return None


def _path(folder: Path, name: str) -> Path | None:
    spellings = (name, f"{name}.gz", name.replace("-idx", ".idx"))
    return next((folder / spelling for spelling in spellings if (folder / spelling).is_file()), None)


def _read_idx(folder: Path, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Read an idx file of bytes: 0, 0, type 8, the number of axes, each extent as big-endian int32, then the values."""
    path = _path(folder, name)
    if path is None:
        raise FileNotFoundError(f"MNIST: {folder / name} (or .gz) is missing")
    header = np.array([0x0800 + len(shape), *shape], ">i4").tobytes()
    expected = f"an idx file of {' x '.join(map(str, shape))} bytes with magic {0x0800 + len(shape)}"
    content = read_exactly(path, len(header) + int(np.prod(shape)), expected)
    if content[: len(header)] != header:
        raise refuse(path, content[:512], len(content), f"{expected} (its header says otherwise)")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)
