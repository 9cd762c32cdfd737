"""Padding and indexing that keep channels last in memory, in buffers that were used before."""

import numpy as np
from numpy.lib.stride_tricks import as_strided

from minidl.kernels import override, threads
from minidl.kernels.buffers import empty, is_buffer
from minidl.kernels.cpu.jit import jit
from minidl.kernels.cpu.launch import job_of, share_out
from minidl.kernels.cpu.layout import channels_last, floats, is_channels_last
from minidl.kernels.deferred import Deferred, settled


@jit
def spread(start, stop, crew, x, strides, shape, first, step, value, other, y):
    """y = value, or `other` if there is one, but y[first + i step] = x[i] (added to `other`), for images start..stop.

    y and other are (N, H, W, C). x (N, H, W, C) of some shape and strides lies in a flat array, the channels of a pixel
    side by side.
    """
    if crew:
        return share_out(job_of(start, stop), crew)
    (N, H, W, C), (_, IH, IW, IC), added = shape, y.shape, other.size > 0
    flat, before, size = y.reshape(-1), other.reshape(-1), IH * IW * IC
    for m in range(start, stop):
        image, old = flat[m * size : (m + 1) * size], before[m * size :]  # then no index can be negative
        if added:
            for i in range(size):
                image[i] = old[i]
        else:
            for i in range(size):
                image[i] = value
        n, between = divmod(m - first[0], step[0])
        if between or not 0 <= n < N:
            continue
        for h in range(H):
            for w in range(W):
                target = ((first[1] + h * step[1]) * IW + first[2] + w * step[2]) * IC + first[3]
                here, there = x[n * strides[0] + h * strides[1] + w * strides[2] :], image[target:]
                if added:
                    for c in range(C):
                        there[c] += here[c]
                else:
                    for c in range(C):
                        there[c] = here[c]


def has_channels_last(x, shape):
    """Whether channels are neighbours in memory, in x (N, C, H, W) and in a new array of some shape."""
    return (
        x.ndim == len(shape) == 4
        and floats(x)
        and x.strides[1] == x.itemsize
        and x.shape[1] > 1
        and min(x.strides) >= 0
        and all(stride % x.itemsize == 0 for stride in x.strides)
    )


def placed(x, shape, first, step, value=0, other=None):
    """A new array (N, C, H, W) of a shape, channels last in memory: x from a place on, by a step, elsewhere `value`.

    With another array of that shape, channels last, it is the sum of both.
    """
    order = (0, 2, 3, 1)
    pixels, y = x.transpose(order), empty(tuple(shape[axis] for axis in order), x.dtype)
    strides = [stride // x.itemsize for stride in pixels.strides[:3]]
    extent = sum((n - 1) * stride for n, stride in zip(pixels.shape, strides, strict=False)) + x.shape[1]
    flat = as_strided(x, (extent,), (x.itemsize,))
    where = tuple(strides), pixels.shape, *(tuple(v[axis] for axis in order) for v in (first, step))
    before = np.empty((0,) * 4, x.dtype) if other is None else channels_last(other)
    threads.run_over(y.size, spread, len(y), flat, *where, x.dtype.type(value), before, y)
    return y.transpose(0, 3, 1, 2)


@override("pad_forward", "cpu", when=lambda x, *, widths, value=0: has_channels_last(x, widths))
def pad_forward(x, *, widths, value=0):
    shape = [extent + sum(width) for extent, width in zip(x.shape, widths, strict=True)]
    return placed(x, shape, [before for before, _ in widths], (1,) * 4, value), (x.shape, widths)


def slices_of(index):
    """The four slices of an index that takes pixels upwards, with neighbouring channels; None for any other."""
    parts = index if isinstance(index, tuple) else (index,)
    parts = parts[:-1] if parts and parts[-1] is Ellipsis else parts
    parts += (slice(None),) * (4 - len(parts))
    if all(isinstance(part, slice) and (part.step is None or part.step > 0) for part in parts):
        return parts if parts[1].step in (None, 1) else None
    return None


@override("place", "cpu", when=lambda x, index, shape: has_channels_last(x, shape) and slices_of(index) is not None)
def place(x, index, shape):
    ranges = [part.indices(extent) for part, extent in zip(slices_of(index), shape, strict=True)]
    sources = x, shape, [first for first, _, _ in ranges], [step for _, _, step in ranges]
    y = Deferred(shape, x.dtype, placed, *sources)  # the gradient of a part is often added to that of the whole
    return y if is_buffer(x) else y.array


def is_placed(x):
    return isinstance(x, Deferred) and x.make is placed and not x.is_made


@override("add_forward", "deferred", when=lambda x, y: (is_placed(x) or is_placed(y)) and np.shape(x) == np.shape(y))
def add_placed(x, y):
    part, other = (x, y) if is_placed(x) else (y, x)
    other = settled(other)
    if part.is_made or other.dtype != part.dtype or not is_channels_last(other):
        return part.array + other, (x.shape, y.shape)
    return placed(*part.sources, other=other), (x.shape, y.shape)
