"""Memory layouts: kernels see contiguous channels, users see (N, C, H, W)."""

import numpy as np

from minidl.kernels.tape import contiguous

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def floats(*arrays):
    """Whether all arrays (None apart) are float32, or all float64, and none is empty."""
    dtype = arrays[0].dtype
    return dtype in FLOATS and all([a is None or (a.dtype == dtype and a.size > 0) for a in arrays])


def channels_last(x):
    """x (N, C, H, W) as a contiguous (N, H, W, C): a view where the memory is so already, else a copy."""
    return contiguous(x.transpose(0, 2, 3, 1))


def rows(x):
    """x (N, C) or (N, C, ...) as contiguous rows (m, C) of channels."""
    axes = (0, *range(2, x.ndim), 1)
    return contiguous(x.transpose(axes)).reshape(-1, x.shape[1])


def unrows(r, x):
    """Rows (m, C) in the shape of x, channels last in memory."""
    N, C, *extents = x.shape
    return r.reshape(N, *extents, C).transpose(0, x.ndim - 1, *range(1, x.ndim - 1))


def is_channels_last(x):
    return x.ndim == 4 and x.transpose(0, 2, 3, 1).flags.c_contiguous


def in_one_order(*arrays):
    """The arrays, of one shape, copied where needed so that element i of one lies where element i of the others does.

    Channels last if one of four axes is so already, else rows first.
    """
    if any(is_channels_last(a) for a in arrays):
        return [channels_last(a).transpose(0, 3, 1, 2) for a in arrays]
    return [contiguous(a) for a in arrays]


def flat(x):
    """The elements of an array from `in_one_order`, in memory order, as a 1-D view."""
    return x.transpose(0, 2, 3, 1).reshape(-1) if is_channels_last(x) else x.reshape(-1)
