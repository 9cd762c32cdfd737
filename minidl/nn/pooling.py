"""Pooling as functions and as layers, under PyTorch's names."""

from typing import Any

import numpy as np

from minidl.autograd import differentiable
from minidl.nn.checks import batched, like_input, require_4d
from minidl.nn.geometry import adaptive_index, adaptive_weights, pool_window, window_divisor
from minidl.nn.module import Module
from minidl.ops import pooling

__all__ = [
    *("adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool2d", "max_pool2d"),
    *("AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "AvgPool2d", "MaxPool2d"),
]

_max_pool2d = differentiable(pooling.max_pool2d_forward, pooling.max_pool2d_backward)
_avg_pool2d = differentiable(pooling.avg_pool2d_forward, pooling.avg_pool2d_backward)
_adaptive_avg_pool2d = differentiable(pooling.adaptive_avg_pool2d_forward, pooling.adaptive_avg_pool2d_backward)
_adaptive_max_pool2d = differentiable(pooling.adaptive_max_pool2d_forward, pooling.adaptive_max_pool2d_backward)


def max_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Take the maximum of each window; of equal ones the first gets the gradient; NaN wins.

    Args:
        x: (N, C, H, W) or (C, H, W).
        kernel_size, stride, padding, dilation: pixels, a number or (vertical, horizontal); stride None is kernel_size.
        ceil_mode: keep a last window that starts inside but ends past the image.

    Raises:
        ValueError, TypeError: shapes or options that do not fit. NotImplementedError: return_indices.
    """
    if return_indices:
        raise NotImplementedError("max_pool2d: return_indices=True is not supported")
    images = batched(require_4d("max_pool2d", x))
    window = pool_window("max_pool2d", images.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    return like_input(_max_pool2d(images, window=window), x)


def avg_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """Average each window.

    Args:
        x: (N, C, H, W) or (C, H, W).
        kernel_size, stride, padding, ceil_mode: as for `max_pool2d`.
        count_include_pad: count the padding's zeros as elements.
        divisor_override: divide by this number instead of the count.

    Raises:
        ValueError, TypeError: shapes or options that do not fit.
    """
    images = batched(require_4d("avg_pool2d", x))
    window = pool_window("avg_pool2d", images.shape[2:], kernel_size, stride, padding, 1, ceil_mode)
    divisor = window_divisor(window, images.shape[2:], count_include_pad, divisor_override, x.dtype)
    return like_input(_avg_pool2d(images, window=window, divisor=divisor), x)


def adaptive_avg_pool2d(x: Any, output_size: Any) -> Any:
    """Average over a grid of `output_size` cells; cell i covers rows floor(i H / OH) to ceil((i + 1) H / OH).

    Args:
        x: (N, C, H, W) or (C, H, W). output_size: a number or (OH, OW); None keeps that extent.
    """
    images = batched(require_4d("adaptive_avg_pool2d", x))
    size = grid("adaptive_avg_pool2d", images, output_size)
    rows, columns = (adaptive_weights(n, o, x.dtype) for n, o in zip(images.shape[2:], size, strict=True))
    return like_input(_adaptive_avg_pool2d(images, rows=rows, columns=columns), x)


def adaptive_max_pool2d(x: Any, output_size: Any, return_indices: bool = False) -> Any:
    """Take the maximum over a grid of `output_size` cells, those of `adaptive_avg_pool2d`.

    Args:
        x: (N, C, H, W) or (C, H, W). output_size: a number or (OH, OW); None keeps that extent.

    Raises:
        ValueError, TypeError: shapes or options that do not fit. NotImplementedError: return_indices.
    """
    if return_indices:
        raise NotImplementedError("adaptive_max_pool2d: return_indices=True is not supported")
    images = batched(require_4d("adaptive_max_pool2d", x))
    size = grid("adaptive_max_pool2d", images, output_size)
    if all(n % o == 0 for n, o in zip(images.shape[2:], size, strict=True)):  # equal cells side by side
        return max_pool2d(x, tuple(n // o for n, o in zip(images.shape[2:], size, strict=True)))
    return like_input(_adaptive_max_pool2d(images, index=adaptive_index(images.shape[2:], size)), x)


def grid(function: str, images: Any, output_size: Any) -> tuple[int, int]:
    """(OH, OW), checked."""
    size = output_size if isinstance(output_size, tuple | list) else (output_size, output_size)
    if len(size) != 2 or not all(o is None or isinstance(o, int | np.integer) for o in size):
        raise TypeError(f"{function}: output_size must be integers or None, one or two, got {output_size!r}")
    size = tuple(extent if o is None else int(o) for o, extent in zip(size, images.shape[2:], strict=True))
    if min(size) < 1 or 0 in images.shape[2:]:
        raise ValueError(f"{function}: cannot pool {images.shape[2:]} pixels into {size} cells")
    return size


class MaxPool2d(Module):
    """The maximum of each window (see `functional.max_pool2d`)."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, x: Any) -> Any:
        return max_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class AvgPool2d(Module):
    """The mean of each window (see `functional.avg_pool2d`)."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode = padding, ceil_mode
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def forward(self, x: Any) -> Any:
        return avg_pool2d(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AdaptiveAvgPool2d(Module):
    """The mean over a grid of cells (see `functional.adaptive_avg_pool2d`)."""

    def __init__(self, output_size: Any):
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Any) -> Any:
        return adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveMaxPool2d(Module):
    """The maximum over a grid of cells (see `functional.adaptive_max_pool2d`)."""

    def __init__(self, output_size: Any, return_indices: bool = False):
        super().__init__()
        self.output_size, self.return_indices = output_size, return_indices

    def forward(self, x: Any) -> Any:
        return adaptive_max_pool2d(x, self.output_size, self.return_indices)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"
