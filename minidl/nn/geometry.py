"""Sizes of windows, checked: what stride, padding and dilation make of an image."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.ops.windows import Window


def remembered(function: Callable[..., Any]) -> Callable[..., Any]:
    """Remember results: the windows of a network are checked once, not at every step."""
    known = functools.lru_cache(4096, typed=True)(function)

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        try:
            return known(*args)
        except TypeError:  # a list among them, or what `function` itself complains of
            return function(*args)

    return call


def as_pair(function: str, name: str, value: Any, least: int) -> tuple[int, int]:
    """(v, v) of a number, or the pair itself; integers >= `least`."""
    pair = (value, value) if isinstance(value, int | np.integer) else value
    if not isinstance(pair, tuple | list) or not 1 <= len(pair) <= 2:
        raise TypeError(f"{function}: {name} must be an integer or a pair of them, got {value!r}")
    pair = tuple(pair) * (3 - len(pair))
    if any(isinstance(v, bool) or not isinstance(v, int | np.integer) for v in pair):
        raise TypeError(f"{function}: {name} must be an integer or a pair of them, got {value!r}")
    if min(pair) < least:
        raise ValueError(f"{function}: {name} must be >= {least}, got {value!r}")
    return int(pair[0]), int(pair[1])


def conv_padding(function: str, padding: Any, kernel: Any, stride: Any, dilation: Any) -> tuple[tuple, tuple]:
    """(padding of each side, further zeros after the image): "same" with an even kernel needs one side more."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        if stride != (1, 1):
            raise ValueError(f"{function}: padding='same' needs stride 1, got {stride}")
        total = tuple(d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
        return tuple(t // 2 for t in total), tuple(t % 2 for t in total)
    if isinstance(padding, str):
        raise ValueError(f"{function}: padding must be numbers, 'valid' or 'same', got {padding!r}")
    return as_pair(function, "padding", padding, 0), (0, 0)


def sliding(
    function: str, size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool = False
) -> Window:
    """Place windows over an image of `size` (H, W); with `ceil` a last one may end past it."""
    output = []
    for extent, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True):
        span = d * (k - 1) + 1
        free = extent + 2 * p - span
        if free < 0:
            raise ValueError(
                f"{function}: a kernel that spans {span} pixels does not fit into {extent} pixels with padding {p}; "
                f"image {tuple(size)}, kernel {tuple(kernel)}, dilation {tuple(dilation)}"
            )
        count = (math.ceil(free / s) if ceil else free // s) + 1
        if ceil and (count - 1) * s >= extent + p:
            count -= 1  # a window may not start in the padding after the image
        output.append(count)
    return Window(kernel, stride, padding, dilation, tuple(output))


@remembered
def conv_window(size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> tuple[Window, tuple[int, int]]:
    """(the windows of conv2d over an image of `size` (H, W), zeros to be put after the image before)."""
    stride, dilation = as_pair("conv2d", "stride", stride, 1), as_pair("conv2d", "dilation", dilation, 1)
    padding, uneven = conv_padding("conv2d", padding, kernel, stride, dilation)
    size = tuple(extent + more for extent, more in zip(size, uneven, strict=True))
    return sliding("conv2d", size, kernel, stride, padding, dilation), uneven


@remembered
def pool_window(function: str, size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool) -> Window:
    kernel = as_pair(function, "kernel_size", kernel, 1)
    stride = kernel if stride is None else as_pair(function, "stride", stride, 1)
    padding, dilation = as_pair(function, "padding", padding, 0), as_pair(function, "dilation", dilation, 1)
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise ValueError(f"{function}: padding must be at most half of kernel_size, got {padding} and {kernel}")
    return sliding(function, size, kernel, stride, padding, dilation, ceil)


def window_divisor(window: Window, size: Any, include_pad: bool, override: int | None, dtype: Any) -> Any:
    """What each window's sum is divided by: a number, or an array (OH, OW) where windows hold different counts."""
    if override is not None:
        if not isinstance(override, int) or override == 0:
            raise ValueError(f"avg_pool2d: divisor_override must be an integer other than 0, got {override!r}")
        return override
    counts = []
    for extent, k, s, p, o in zip(size, window.kernel_size, window.stride, window.padding, window.output, strict=True):
        start = np.arange(o) * s - p
        first, last = (start, extent + p) if include_pad else (np.maximum(start, 0), extent)
        counts.append(np.minimum(start + k, last) - first)
    count = np.multiply.outer(*counts)
    return int(count[0, 0]) if count.size and (count == count[0, 0]).all() else count.astype(dtype)


def adaptive_weights(extent: int, cells: int, dtype: Any) -> np.ndarray:
    """Averaging weights (cells, extent): row i is 1/length over its pixels."""
    weights = np.zeros((cells, extent), dtype)
    for i in range(cells):
        first, end = i * extent // cells, -(-(i + 1) * extent // cells)
        weights[i, first:end] = 1 / (end - first)
    return weights


def adaptive_index(size: Any, cells: Any) -> tuple:
    """The index that lays out the cells of x (N, C, *size) as (N, C, *cells, LH, LW).

    Cells differ in length; a short one repeats its last pixel, which changes no maximum.
    """
    parts = []
    for extent, count in zip(size, cells, strict=True):
        first = np.arange(count) * extent // count
        end = -(-(np.arange(count) + 1) * extent // count)
        steps = np.arange((end - first).max(initial=1))
        parts.append(np.minimum(first[:, None] + steps, end[:, None] - 1))
    rows, columns = parts
    return slice(None), slice(None), rows[:, None, :, None], columns[None, :, None, :]
