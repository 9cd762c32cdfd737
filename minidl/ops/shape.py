"""Reductions, and everything that moves elements without changing them."""

import numpy as np

from minidl.kernels import kernel
from minidl.ops.elementwise import unbroadcast


@kernel(y=r"\sum_{axis} x")
def sum_forward(x, *, axis=None, keepdims=False):
    return np.sum(x, axis=axis, keepdims=keepdims), (x.shape, axis)


@kernel(dx="broadcast(dy)")
def sum_backward(dy, saved, needs):
    shape, axis = saved
    return (np.broadcast_to(np.reshape(dy, kept(shape, axis)), shape),)


def kept(shape, axis):
    """The shape of a reduction over `axis` with the reduced axes kept as 1."""
    axes = range(len(shape)) if axis is None else [axis] if isinstance(axis, int) else axis
    axes = [a % len(shape) for a in axes]
    return tuple(1 if i in axes else extent for i, extent in enumerate(shape))


@kernel(y=r"\max_{axis} x")
def amax_forward(x, *, axis=None, keepdims=False):
    y = np.max(x, axis=axis, keepdims=keepdims)
    return y, (x, y, axis)


@kernel(dx=r"dy \cdot \frac{\mathbf{1}[x = y]}{\sum_{axis} \mathbf{1}[x = y]}")
def amax_backward(dy, saved, needs):
    """Equal maxima share the gradient."""
    x, y, axis = saved
    shape = kept(x.shape, axis)
    is_max = x == np.reshape(y, shape)
    count = np.sum(is_max, axis=axis, keepdims=True)
    return (np.reshape(dy, shape) * is_max / count.astype(dy.dtype),)  # NaN is no maximum: count 0, and NaN stays


@kernel(y="reshape(x, shape)")
def reshape_forward(x, *, shape):
    return np.reshape(x, shape), x.shape


@kernel(dx="reshape(dy, shape_x)")
def reshape_backward(dy, shape, needs):
    return (np.reshape(dy, shape),)


@kernel(y="transpose(x, axes)")
def transpose_forward(x, *, axes):
    return np.transpose(x, axes), axes


@kernel(dx="transpose(dy, axes^{-1})")
def transpose_backward(dy, axes, needs):
    return (np.transpose(dy, tuple(axes.index(i) for i in range(len(axes)))),)


@kernel(y="broadcast(x, shape)")
def broadcast_to_forward(x, *, shape):
    return np.broadcast_to(x, shape), x.shape


@kernel(dx="unbroadcast(dy)")
def broadcast_to_backward(dy, shape, needs):
    return (unbroadcast(dy, shape),)


@kernel(y=r"[arrays_1, arrays_2, \ldots]")
def concatenate_forward(*arrays, axis):
    return np.concatenate(arrays, axis=axis), (tuple(a.shape[axis] for a in arrays), axis)


@kernel(darrays=r"[dy[part_1], dy[part_2], \ldots]")
def concatenate_backward(dy, saved, needs):
    extents, axis = saved
    ends = np.cumsum(extents)
    before = (slice(None),) * (axis % dy.ndim)
    return tuple(
        dy[(*before, slice(int(end - extent), int(end)))] if need else None
        for extent, end, need in zip(extents, ends, needs, strict=True)
    )


@kernel(y="pad(x, widths, value)")
def pad_forward(x, *, widths, value=0):
    """Add widths[i] = (before, after) elements of `value` along each axis i."""
    return np.pad(x, widths, constant_values=value), (x.shape, widths)


@kernel(dx="dy[inside]")
def pad_backward(dy, saved, needs):
    shape, widths = saved
    return (dy[tuple(slice(before, before + extent) for extent, (before, _) in zip(shape, widths, strict=True))],)


@kernel(y="x[index]")
def getitem_forward(x, *, index):
    return x[index], (x.shape, index)


@kernel(dx="put(dy, index)")
def getitem_backward(dy, saved, needs):
    shape, index = saved
    return (put(dy, index, shape),)


@kernel
def put(values, index, shape):
    """The adjoint of x[index]: add `values` into zeros of `shape` at `index`."""
    if is_basic(index):
        return place(values, index, shape)
    x = np.zeros_like(values, shape=shape)
    np.add.at(x, index, values)  # an element may be indexed more than once
    return x


@kernel
def place(values, index, shape):
    """As `put` where no element is indexed twice."""
    x = np.zeros_like(values, shape=shape)
    x[index] = values
    return x


def is_basic(index):
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is Ellipsis or isinstance(part, int | slice | np.integer) for part in parts)


@kernel(x="put(values, index)")
def put_forward(values, *, index, shape):
    return put(values, index, shape), index


@kernel(dvalues="dx[index]")
def put_backward(dx, index, needs):
    return (dx[index],)
