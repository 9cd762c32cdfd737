"""Augmentation of whole batches: each transform maps (N, H, W, C) images and a generator to new images.

No transform loops over images in Python and none changes its input. Images are uint8 (0 to 255) or float32; an
augmentation keeps the dtype, `Normalize` returns float32. One whose attribute `by_image` is true is called with two
more arguments, the images' numbers in the dataset and the epoch.
"""

from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["AlternatingFlip", "Compose", "Normalize", "RandomCrop", "RandomHorizontalFlip", "to_float", "transformed"]

Transform = Callable[..., np.ndarray]


def to_float(images: np.ndarray) -> np.ndarray:
    """Return images as float32: uint8 becomes y = x / 255, float32 passes unchanged.

    Args:
        images: (N, H, W, C), uint8 or float32.

    Raises:
        TypeError, ValueError: another dtype, or not four axes.
    """
    _check_images("to_float", images)
    if images.dtype == np.float32:
        return images
    out = images.astype(np.float32)
    return np.divide(out, np.float32(255), out=out)


def transformed(
    transform: Transform, images: np.ndarray, rng: np.random.Generator, numbers: np.ndarray, epoch: int
) -> np.ndarray:
    """Apply a transform to images (n, H, W, C) of these numbers (n,)."""
    if getattr(transform, "by_image", False):
        return transform(images, rng, numbers, epoch)
    return transform(images, rng)


class Compose:
    """Apply several transforms, first to last.

    Args:
        transforms: callables (images, generator) -> images.

    Raises:
        TypeError: one of them cannot be called.
    """

    by_image = True

    def __init__(self, transforms: Sequence[Transform]):
        self.transforms = list(transforms)
        for position, transform in enumerate(self.transforms):
            if not callable(transform):
                raise TypeError(f"Compose: transforms[{position}] must be callable, got {transform!r}")

    def __call__(
        self, images: np.ndarray, rng: np.random.Generator, numbers: np.ndarray | None = None, epoch: int = 0
    ) -> np.ndarray:
        numbers = np.arange(len(images)) if numbers is None else numbers
        for transform in self.transforms:
            images = transformed(transform, images, rng, numbers, epoch)
        return images

    def __repr__(self) -> str:
        return "\n".join(["Compose(", *(f"    {transform!r}" for transform in self.transforms), ")"])


class RandomCrop:
    """Pad each image on all sides and cut a window of `size` at a random place.

    The offsets are uniform over {0, ..., H + 2 padding - size}, independent for each image and axis.

    Args:
        size: side of the window in pixels, or (height, width).
        padding: pixels added on each side, or (rows, columns).
        padding_mode: "constant" adds zeros, "reflect" the image mirrored at its outermost pixels.

    Raises:
        TypeError, ValueError: sizes that are not positive integers, another mode, a window larger than the padded
            image, or a reflection larger than the image.
    """

    def __init__(self, size: int | tuple[int, int], padding: int | tuple[int, int] = 0, padding_mode: str = "constant"):
        self.size = _pair("RandomCrop", "size", size, least=1)
        self.padding = _pair("RandomCrop", "padding", padding, least=0)
        if padding_mode not in ("constant", "reflect"):
            raise ValueError(f"RandomCrop: padding_mode must be 'constant' or 'reflect', got {padding_mode!r}")
        self.padding_mode = padding_mode

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        _check_images("RandomCrop", images)
        _check_rng("RandomCrop", rng)
        N, H, W, C = images.shape
        (PH, PW), (OH, OW) = self.padding, self.size
        if OH > H + 2 * PH or OW > W + 2 * PW:
            raise ValueError(
                f"RandomCrop: size {self.size} is larger than the padded image {(H + 2 * PH, W + 2 * PW)} "
                f"(image {(H, W)}, padding {self.padding})"
            )
        if self.padding_mode == "reflect" and (H <= PH or W <= PW):
            raise ValueError(f"RandomCrop: padding {self.padding} cannot be reflected in an image of {(H, W)}")
        padded = np.pad(images, ((0, 0), (PH, PH), (PW, PW), (0, 0)), self.padding_mode)
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.size, axis=(1, 2))  # (N, rows, cols, C, OH, OW)
        windows = np.moveaxis(windows, 3, -1)  # channels last, so that one row of a window is one block of memory
        top = rng.integers(0, windows.shape[1], N)
        left = rng.integers(0, windows.shape[2], N)
        return windows[np.arange(N), top, left]

    def __repr__(self) -> str:
        mode = "" if self.padding_mode == "constant" else f", padding_mode={self.padding_mode!r}"
        return f"RandomCrop(size={self.size}, padding={self.padding}{mode})"


class RandomHorizontalFlip:
    """Mirror each image left to right with probability `p`.

    Raises:
        TypeError, ValueError: `p` is not a number in [0, 1].
    """

    def __init__(self, p: float = 0.5):
        if isinstance(p, bool) or not isinstance(p, int | float):
            raise TypeError(f"RandomHorizontalFlip: p must be a number, got {p!r}")
        if not 0 <= p <= 1:
            raise ValueError(f"RandomHorizontalFlip: p must be in [0, 1], got {p}")
        self.p = p

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        _check_images("RandomHorizontalFlip", images)
        _check_rng("RandomHorizontalFlip", rng)
        flipped = rng.random(len(images)) < self.p
        out = images.copy()
        out[flipped] = images[flipped, :, ::-1]
        return out

    def __repr__(self) -> str:
        return f"RandomHorizontalFlip(p={self.p})"


class AlternatingFlip:
    """Mirror each image left to right in every second epoch.

    Image i is mirrored in epoch e where coin_i + e is odd; half of the coins are 1. So any two epochs in a row show
    every image both ways, where independent flips would repeat half of the views (Jordan 2024, arXiv 2404.00498).
    """

    by_image = True

    def __call__(self, images: np.ndarray, rng: np.random.Generator, numbers: np.ndarray, epoch: int) -> np.ndarray:
        _check_images("AlternatingFlip", images)
        coins = (np.asarray(numbers, np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(63)
        flipped = (coins + np.uint64(epoch)) % np.uint64(2) == 1
        out = images.copy()
        out[flipped] = images[flipped, :, ::-1]
        return out

    def __repr__(self) -> str:
        return "AlternatingFlip()"


class Normalize:
    """Shift and scale each channel: y = (x - mean) / std, where uint8 images count as x / 255.

    Args:
        mean, std: one number per channel, in units of [0, 1].

    Raises:
        TypeError, ValueError: lengths that differ, values that are not finite, or a `std` that is not positive.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        self.mean, self.std = (tuple(float(value) for value in values) for values in (mean, std))
        if not self.mean or len(self.mean) != len(self.std):
            raise ValueError(f"Normalize: mean {self.mean} and std {self.std} must have one number per channel")
        if not np.isfinite(self.mean + self.std).all() or min(self.std) <= 0:
            raise ValueError(f"Normalize: mean must be finite and std positive, got mean {self.mean}, std {self.std}")

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        _check_images("Normalize", images)
        N, H, W, C = images.shape
        if len(self.mean) != C:
            found = f"images have {C} channels (axis 3 of {images.shape})"
            raise ValueError(f"Normalize: {found}, but mean and std have {len(self.mean)}")
        unit = 255.0 if images.dtype == np.uint8 else 1.0
        scale = 1 / (unit * np.asarray(self.std))
        shift = -np.asarray(self.mean) / np.asarray(self.std)
        out = np.array(images, np.float32, order="C")
        rows = out.reshape(N, H, W * C)  # whole rows: NumPy's inner loop is then W * C long instead of C
        rows *= np.tile(scale, W).astype(np.float32)
        rows += np.tile(shift, W).astype(np.float32)
        return out

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean}, std={self.std})"


def _check_images(name: str, images: np.ndarray) -> None:
    if not isinstance(images, np.ndarray) or images.dtype not in (np.uint8, np.float32):
        kind = images.dtype if isinstance(images, np.ndarray) else type(images).__name__
        raise TypeError(f"{name}: images must be a uint8 or float32 array, got {kind}")
    if images.ndim != 4:
        raise ValueError(f"{name}: images must be (N, H, W, C), got shape {images.shape}")


def _check_rng(name: str, rng: np.random.Generator) -> None:
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"{name}: rng must be a numpy.random.Generator, got {type(rng).__name__}")


def _pair(name: str, argument: str, value: int | tuple[int, int], least: int) -> tuple[int, int]:
    pair = value if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or any(isinstance(v, bool) or not isinstance(v, int | np.integer) for v in pair):
        raise TypeError(f"{name}: {argument} must be an integer or a pair of integers, got {value!r}")
    if min(pair) < least:
        raise ValueError(f"{name}: {argument} must be >= {least}, got {value!r}")
    return int(pair[0]), int(pair[1])
