"""What a dataset is, and the one that minidl's own datasets share: all images in one uint8 array."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from minidl import random
from minidl.data.transforms import Transform, to_float, transformed

__all__ = ["ArrayDataset", "Dataset"]


class Dataset(ABC):
    """A collection of samples with a length; `DataLoader` draws batches from it."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Any: ...


class ArrayDataset(Dataset):
    """Labelled images in one array, read batch by batch without a Python loop over images.

    Attributes:
        data: (N, H, W, C) uint8, contiguous.
        targets: (N,) int64, each in 0 .. len(classes) - 1.
        classes: the name of each class.
        mean, std: per channel, in units of [0, 1].
        transform: maps (n, H, W, C) images and a generator to (n, H', W', C') images, or None.

    Args:
        data, targets: arrays as above, `targets` of any integer dtype.
        classes: names; by default "0", "1", ... up to the largest target.
        mean, std: by default 0 and 1.
        transform: see `minidl.data.transforms`; uint8 images are scaled to [0, 1] after it.

    Raises:
        TypeError, ValueError: a dtype, shape or label that does not fit.
    """

    def __init__(
        self,
        data: np.ndarray,
        targets: np.ndarray,
        classes: Sequence[str] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        transform: Transform | None = None,
    ):
        data, targets = np.asarray(data), np.asarray(targets)
        if data.dtype != np.uint8 or not np.issubdtype(targets.dtype, np.integer):
            raise TypeError(f"ArrayDataset: data must be uint8 and targets integer, got {data.dtype}, {targets.dtype}")
        if data.ndim != 4 or targets.shape != data.shape[:1]:
            raise ValueError(
                f"ArrayDataset: data must be (N, H, W, C) and targets (N,), got shapes {data.shape}, {targets.shape}"
            )
        self.data = np.ascontiguousarray(data)
        self.targets = targets.astype(np.int64)
        largest = int(self.targets.max(initial=-1))
        self.classes = list(classes) if classes is not None else [str(k) for k in range(largest + 1)]
        if self.targets.min(initial=0) < 0 or largest >= len(self.classes):
            raise ValueError(
                f"ArrayDataset: targets must be in 0 .. {len(self.classes) - 1} ({len(self.classes)} classes), "
                f"got {self.targets.min()} .. {largest}"
            )
        C = data.shape[3]
        self.mean = tuple(mean) if mean is not None else (0.0,) * C
        self.std = tuple(std) if std is not None else (1.0,) * C
        if len(self.mean) != C or len(self.std) != C:
            raise ValueError(f"ArrayDataset: mean {self.mean} and std {self.std} must have {C} numbers (channels)")
        self.transform = transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        """Return one (image, label): float32 (C, H, W) after the transform, and an int.

        A random transform draws from minidl's global generator here.
        """
        if isinstance(index, bool) or not isinstance(index, int | np.integer):
            raise TypeError(f"{type(self).__name__}: an index must be an integer, got {index!r}")
        if not -len(self) <= index < len(self):
            raise IndexError(f"{type(self).__name__}: index {index} is out of range for {len(self)} images")
        images, labels = self.fetch(np.array([index]))
        return images[0], int(labels[0])

    def fetch(
        self, indices: np.ndarray, rng: np.random.Generator | None = None, epoch: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Gather a batch and transform it at once.

        Args:
            indices: (n,) integers.
            rng: source of the transform's randomness; by default minidl's global generator.
            epoch: for transforms that change from one to the next.

        Returns:
            images (n, C, H, W) float32, channels-last in memory, and labels (n,) int64.

        Raises:
            TypeError, ValueError: the transform returned something else than (n, H, W, C) uint8 or float32.
            IndexError: an index is out of range.
        """
        images = self.data[indices]
        if self.transform is not None:
            images = transformed(self.transform, images, rng or random.generator(), indices, epoch)
        images = np.ascontiguousarray(to_float(images))
        if len(images) != len(indices):
            raise ValueError(f"{type(self).__name__}: the transform returned {len(images)} images for {len(indices)}")
        return images.transpose(0, 3, 1, 2), self.targets[indices]

    def subset(self, indices: np.ndarray) -> Self:
        """Return the dataset of these images, in this order (a copy of their pixels)."""
        part = copy.copy(self)
        part.data, part.targets = self.data[indices], self.targets[indices]
        return part

    def split(self, holdout: int | None = None, seed: int = 0) -> tuple[Self, Self]:
        """Split off a validation set with the same share of every class; the same seed gives the same split.

        Args:
            holdout: how many images to hold out, by default a tenth (5,000 of CIFAR-10's 50,000).
            seed: integer >= 0.

        Returns:
            (training, validation), both in the original order.

        Raises:
            TypeError, ValueError: `holdout` is not an integer in 1 .. N - 1.
        """
        N = len(self)
        holdout = N // 10 if holdout is None else holdout
        if isinstance(holdout, bool) or not isinstance(holdout, int | np.integer):
            raise TypeError(f"split: holdout must be an integer, got {holdout!r}")
        if not 1 <= holdout < N:
            raise ValueError(f"split: holdout must be in 1 .. {N - 1} (the dataset has {N} images), got {holdout}")
        shuffled = np.random.default_rng(seed).permutation(N)
        by_class = shuffled[np.argsort(self.targets[shuffled], kind="stable")]
        held = np.zeros(N, bool)
        held[by_class[np.arange(holdout) * N // holdout]] = True  # evenly spaced, so every class gives its share
        return self.subset(np.flatnonzero(~held)), self.subset(np.flatnonzero(held))

    def with_transform(self, transform: Transform | None) -> Self:
        """Return the same images (shared, not copied) under another transform."""
        other = copy.copy(self)
        other.transform = transform
        return other

    def __repr__(self) -> str:
        N, H, W, C = self.data.shape
        parts = f"{N} images of {H}x{W}x{C}, {len(self.classes)} classes, transform={self.transform!r}"
        return f"{type(self).__name__}({parts})"
