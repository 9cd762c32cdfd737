"""The datasets by name, and where their files may be."""

import os
from pathlib import Path

from minidl.data.cifar10 import CIFAR10
from minidl.data.dataset import ArrayDataset
from minidl.data.download import cache_folder
from minidl.data.mnist import MNIST
from minidl.data.shapes import Shapes10

__all__ = ["DATASETS", "available", "find"]

DATASETS: dict[str, type[ArrayDataset]] = {"cifar10": CIFAR10, "mnist": MNIST, "shapes10": Shapes10}


def find(name: str, folder: str | Path | None = None) -> Path | None:
    """Look for a dataset's files in `folder`, $MINIDL_DATA, ./data and the cache folder, in this order.

    Args:
        name: a key of `DATASETS`.
        folder: looked at first, where given.

    Returns:
        The first of these folders that holds the dataset (to be passed on as `root`), or None. Shapes10 has no files.

    Raises:
        ValueError: an unknown name.
    """
    dataset = DATASETS.get(name)
    if dataset is None:
        raise ValueError(f"find: name must be one of {', '.join(DATASETS)}, got {name!r}")
    if not issubclass(dataset, CIFAR10 | MNIST):
        return None
    places = [folder, os.environ.get("MINIDL_DATA"), "data", cache_folder()]
    return next((Path(place) for place in places if place and dataset.locate(place)), None)


def available(folder: str | Path | None = None) -> dict[str, Path | None]:
    """Return the datasets that can be used now: name -> folder, or None for one that is made from a seed."""
    found = {name: find(name, folder) for name in DATASETS}
    return {name: path for name, path in found.items() if path is not None or name == "shapes10"}
