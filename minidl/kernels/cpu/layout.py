"""Memory layouts: kernels see contiguous channels, users see (N, C, H, W)."""

import numpy as np

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def floats(*arrays):
    """Whether all arrays (None apart) are float32, or all float64, and none is empty."""
    dtype = arrays[0].dtype
    return dtype in FLOATS and all(a is None or (a.dtype == dtype and a.size > 0) for a in arrays)


def channels_last(x):
    """x (N, C, H, W) as a contiguous (N, H, W, C): a view where the memory is so already, else a copy."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def rows(x):
    """x (N, C) or (N, C, ...) as contiguous rows (m, C) of channels."""
    axes = (0, *range(2, x.ndim), 1)
    return np.ascontiguousarray(x.transpose(axes)).reshape(-1, x.shape[1])


def unrows(r, x):
    """Rows (m, C) in the shape of x, channels last in memory."""
    N, C, *extents = x.shape
    return r.reshape(N, *extents, C).transpose(0, x.ndim - 1, *range(1, x.ndim - 1))


def dense(x):
    """Whether the elements of x lie in one piece, rows first or channels last."""
    return x.flags.c_contiguous or (x.ndim == 4 and x.transpose(0, 2, 3, 1).flags.c_contiguous)


def flat(x):
    """The elements of a dense x in memory order, as a 1-D view."""
    return x.reshape(-1) if x.flags.c_contiguous else x.transpose(0, 2, 3, 1).reshape(-1)


def same_memory_order(*arrays):
    """Whether the arrays are dense and element i of one belongs to element i of the others."""
    first = arrays[0]
    return dense(first) and all(
        a.shape == first.shape and (a.strides == first.strides or (a.flags.c_contiguous and first.flags.c_contiguous))
        for a in arrays
    )
