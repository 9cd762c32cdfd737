"""Images in other sizes, and channels in another order, as functions and as layers, under PyTorch's names."""

import math
from typing import Any

import numpy as np

from minidl import primitives as op
from minidl.nn.checks import positive, require
from minidl.nn.geometry import as_pair
from minidl.nn.module import Module

__all__ = ["channel_shuffle", "interpolate", "pixel_shuffle", "upsample"]
__all__ += ["ChannelShuffle", "PixelShuffle", "Upsample", "UpsamplingBilinear2d", "UpsamplingNearest2d"]


def interpolate(
    x: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None
) -> Any:
    """Compute images of another size: y[i, j] = x[floor(i H / OH), floor(j W / OW)], or the bilinear mean around there.

    Args:
        x: (N, C, H, W).
        size: (OH, OW) or a number. scale_factor: OH / H and OW / W, or a number for both. One of the two is given.
        mode: "nearest" or "bilinear".
        align_corners: in bilinear mode, whether the centres (True) or the borders (False) of the corner pixels meet.

    Raises:
        ValueError, TypeError: shapes or options that do not fit. NotImplementedError: another mode.
    """
    require("interpolate", x=x)
    if x.ndim != 4:
        raise ValueError(f"interpolate: x must have shape (N, C, H, W), got {x.shape}")
    if mode not in ("nearest", "bilinear"):
        raise NotImplementedError(f"interpolate: mode must be 'nearest' or 'bilinear', got {mode!r}")
    if mode == "nearest" and align_corners is not None:
        raise ValueError("interpolate: align_corners is an option of mode='bilinear'")
    if (size is None) == (scale_factor is None):
        raise ValueError(f"interpolate: give size or scale_factor, got {size} and {scale_factor}")
    if size is not None:
        size, scales = as_pair("interpolate", "size", size, 1), (None, None)
    else:
        scales = scale_factor if isinstance(scale_factor, tuple | list) else (scale_factor, scale_factor)
        size = tuple(math.floor(n * s) for n, s in zip(x.shape[2:], scales, strict=True))
    if min(size) < 1:
        raise ValueError(f"interpolate: scale_factor {scale_factor} leaves no pixels of {x.shape}")
    # PyTorch takes the distance of the pixels from the scale_factor that it is given, else from the sizes.
    steps = [n / o if s is None else 1 / s for n, o, s in zip(x.shape[2:], size, scales, strict=True)]
    if mode == "bilinear":
        rows, columns = (
            linear_weights(n, o, step, align_corners, x.dtype)
            for n, o, step in zip(x.shape[2:], size, steps, strict=True)
        )
        return op.matmul(op.matmul(rows, x), columns.T)
    return nearest(x, size, steps)


def nearest(x: Any, size: tuple[int, int], steps: list[float]) -> Any:
    (N, C, H, W), (OH, OW) = x.shape, size
    if OH % H == OW % W == 0 and list(steps) == [H / OH, W / OW]:
        KH, KW = OH // H, OW // W  # each pixel becomes KH x KW
        repeated = op.broadcast_to(op.reshape(x, shape=(N, C, H, 1, W, 1)), shape=(N, C, H, KH, W, KW))
        return op.reshape(repeated, shape=(N, C, OH, OW))
    rows, columns = (
        np.minimum(np.floor(np.arange(o) * np.float32(step)).astype(np.int64), n - 1)
        for n, o, step in zip((H, W), size, steps, strict=True)
    )
    return op.getitem(x, index=(slice(None), slice(None), rows[:, None], columns[None, :]))


def linear_weights(extent: int, count: int, step: float, align_corners: bool | None, dtype: Any) -> np.ndarray:
    """Weights (count, extent): row i holds those of the two pixels around the place of output pixel i."""
    if align_corners:
        place = np.arange(count) * ((extent - 1) / (count - 1) if count > 1 else 0.0)
    else:
        place = np.maximum((np.arange(count) + 0.5) * step - 0.5, 0)
    before = np.minimum(np.floor(place).astype(np.int64), extent - 1)
    share = place - before
    weights = np.zeros((count, extent), dtype)
    np.add.at(weights, (np.arange(count), before), 1 - share)
    np.add.at(weights, (np.arange(count), np.minimum(before + 1, extent - 1)), share)
    return weights


upsample = interpolate


def channel_shuffle(x: Any, groups: int) -> Any:
    """Exchange channels between groups: channel g C/groups + c becomes c groups + g (Zhang et al. 2017, 1707.01083)."""
    require("channel_shuffle", x=x)
    positive("channel_shuffle", groups=groups)
    if x.ndim < 3 or x.shape[1] % groups:
        raise ValueError(f"channel_shuffle: groups must divide the channels (axis 1) of {x.shape}, got {groups}")
    N, C, *rest = x.shape
    apart = op.reshape(x, shape=(N, groups, C // groups, *rest))
    return op.reshape(op.transpose(apart, axes=(0, 2, 1, *range(3, apart.ndim))), shape=tuple(x.shape))


def pixel_shuffle(x: Any, upscale_factor: int) -> Any:
    """Make larger images of more channels: (N, C r², H, W) -> (N, C, H r, W r) (Shi et al. 2016, 1609.05158)."""
    require("pixel_shuffle", x=x)
    positive("pixel_shuffle", upscale_factor=upscale_factor)
    r = upscale_factor
    if x.ndim != 4 or x.shape[1] % (r * r):
        raise ValueError(f"pixel_shuffle: x must have shape (N, C * {r * r}, H, W), got {x.shape}")
    N, C, H, W = x.shape
    apart = op.reshape(x, shape=(N, C // (r * r), r, r, H, W))
    return op.reshape(op.transpose(apart, axes=(0, 1, 4, 2, 5, 3)), shape=(N, C // (r * r), H * r, W * r))


class Upsample(Module):
    """Images of another size (see `functional.interpolate`)."""

    def __init__(
        self, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None
    ):
        super().__init__()
        self.size, self.mode, self.align_corners = size, mode, align_corners
        several = isinstance(scale_factor, tuple | list)
        self.scale_factor = tuple(map(float, scale_factor)) if several else scale_factor and float(scale_factor)

    def forward(self, x: Any) -> Any:
        return interpolate(x, self.size, self.scale_factor, self.mode, self.align_corners)

    def extra_repr(self) -> str:
        text = f"size={self.size!r}" if self.scale_factor is None else f"scale_factor={self.scale_factor!r}"
        return f"{text}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """Images of another size, from the nearest pixel."""

    def __init__(self, size: Any = None, scale_factor: Any = None):
        super().__init__(size, scale_factor, "nearest")


class UpsamplingBilinear2d(Upsample):
    """Images of another size, bilinear, the centres of the corner pixels kept."""

    def __init__(self, size: Any = None, scale_factor: Any = None):
        super().__init__(size, scale_factor, "bilinear", align_corners=True)


class ChannelShuffle(Module):
    """Exchange channels between groups (see `functional.channel_shuffle`)."""

    def __init__(self, groups: int):
        super().__init__()
        self.groups = groups

    def forward(self, x: Any) -> Any:
        return channel_shuffle(x, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"


class PixelShuffle(Module):
    """Larger images of more channels (see `functional.pixel_shuffle`)."""

    def __init__(self, upscale_factor: int):
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, x: Any) -> Any:
        return pixel_shuffle(x, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"
