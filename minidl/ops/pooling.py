"""Pooling: the maximum and the mean, over windows and over a grid of given size."""

import numpy as np

from minidl.kernels import kernel
from minidl.ops.linear import swap_last
from minidl.ops.shape import put
from minidl.ops.windows import fold, unfold


@kernel(cols="unfold(x)", index=r"argmax_{tap} \, cols", y=r"\max_{tap} cols")
def max_pool2d_forward(x, *, window):
    """y = the first maximum of each window (NaN wins); padding never does."""
    cols = unfold(x, window, -np.inf)  # (N, C, KH*KW, OH, OW)
    index = np.argmax(cols, axis=2)[:, :, None]
    y = np.sum(np.where(chosen(index, window), cols, 0), axis=2)
    return y, (index, window, x.shape[2:])


@kernel(dcols=r"dy \cdot \mathbf{1}[tap = index]", dx="fold(dcols)")
def max_pool2d_backward(dy, saved, needs):
    index, window, size = saved
    dcols = np.where(chosen(index, window), dy[:, :, None], 0)
    return (fold(dcols, window, size),)


def chosen(index, window):
    """One-hot over the window's elements: (N, C, KH*KW, OH, OW)."""
    KH, KW = window.kernel_size
    return index == np.reshape(np.arange(KH * KW, like=index), (KH * KW, 1, 1))


@kernel(y=r"\frac{1}{divisor} \sum_{tap} unfold(x)")
def avg_pool2d_forward(x, *, window, divisor):
    """y = (Σ of the window) / divisor, an array (OH, OW) or a number."""
    return np.sum(unfold(x, window), axis=2) / divisor, (window, divisor, x.shape[2:])


@kernel(dx=r"fold(\frac{dy}{divisor})")
def avg_pool2d_backward(dy, saved, needs):
    window, divisor, size = saved
    KH, KW = window.kernel_size
    N, C, OH, OW = dy.shape
    dcols = np.broadcast_to((dy / divisor)[:, :, None], (N, C, KH * KW, OH, OW))
    return (fold(dcols, window, size),)


@kernel(y=r"rows \, x \, columns^T")
def adaptive_avg_pool2d_forward(x, *, rows, columns):
    """y = R x Cᵀ: `rows` (OH, H) and `columns` (OW, W) hold each cell's averaging weights."""
    return rows @ x @ np.transpose(columns), (rows, columns)


@kernel(dx=r"rows^T dy \, columns")
def adaptive_avg_pool2d_backward(dy, saved, needs):
    rows, columns = saved
    return (swap_last(rows) @ dy @ columns,)


@kernel(y=r"\max_{cell} x[index]")
def adaptive_max_pool2d_forward(x, *, index):
    """y = the first maximum of each cell (NaN wins); x[index] lays the cells out: (N, C, OH, OW, LH, LW)."""
    cells = x[index]
    N, C, OH, OW, LH, LW = cells.shape
    cells = np.reshape(cells, (N, C, OH, OW, LH * LW))
    first = np.argmax(cells, axis=4)[..., None]
    first = first == np.arange(LH * LW, like=first)
    return np.sum(np.where(first, cells, 0), axis=4), (first, index, x.shape, (LH, LW))


@kernel(dx=r"put(dy \cdot \mathbf{1}[first], index)")
def adaptive_max_pool2d_backward(dy, saved, needs):
    first, index, shape, size = saved
    dcells = np.where(first, dy[..., None], 0)
    return (put(np.reshape(dcells, (*dy.shape, *size)), index, shape),)
