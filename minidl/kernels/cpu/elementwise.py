"""ReLU and addition over whole activations, at memory speed on all threads.

The gradient that passes a ReLU is deferred: batch norm and additions cut it on their own way through memory.
"""

import numpy as np

from minidl.kernels import override, threads
from minidl.kernels.buffers import empty_like, is_buffer
from minidl.kernels.cpu.conv import is_winograd
from minidl.kernels.cpu.jit import jit
from minidl.kernels.cpu.launch import job_of, share_out
from minidl.kernels.cpu.layout import flat, floats, in_one_order, is_channels_last
from minidl.kernels.cpu.signs import cut, keep_signs, new_signs, signs_of
from minidl.kernels.deferred import Deferred, settled

BLOCK = 1 << 14  # numbers per task
PART = 256  # numbers that stay in the first cache between two loops over them
SMALL = 1 << 15  # below this NumPy is as fast


@jit
def relu_block(start, stop, crew, x, y, signs):
    if crew:
        return share_out(job_of(start, stop), crew)
    zero = x.dtype.type(0)  # a plain 0 would make the loop run in float64
    for first in range(start * BLOCK, min(stop * BLOCK, x.size), PART):
        here, there = x[first : first + PART], y[first : first + PART]  # no index is negative: loops become vectors
        for i in range(here.size):
            there[i] = zero if here[i] <= zero else here[i]  # NaN passes
        if signs.size:
            keep_signs(y, first, here.size, signs)


@jit
def relu_backward_block(start, stop, crew, dy, y, dx):
    if crew:
        return share_out(job_of(start, stop), crew)
    zero = y.dtype.type(0)
    part = slice(start * BLOCK, stop * BLOCK)
    dy, y, dx = dy[part], y[part], dx[part]
    for i in range(y.size):
        d = dy[i]  # read it in any case: then the loop has no branch
        dx[i] = zero if y[i] <= zero else d


@jit
def cut_block(start, stop, crew, dy, signs, dx):
    if crew:
        return share_out(job_of(start, stop), crew)
    first, last = start * BLOCK, min(stop * BLOCK, dx.size)
    cut(dy, first, last - first, signs, dx[first:last])


@jit
def add_cut_block(start, stop, crew, x, dy, signs, z):
    if crew:
        return share_out(job_of(start, stop), crew)
    d = np.empty(PART, dy.dtype)
    for first in range(start * BLOCK, min(stop * BLOCK, z.size), PART):
        here, there = x[first : first + PART], z[first : first + PART]
        cut(dy, first, here.size, signs, d)
        for i in range(here.size):
            there[i] = here[i] + d[i]


@jit
def add_block(start, stop, crew, x, y, z):
    if crew:
        return share_out(job_of(start, stop), crew)
    part = slice(start * BLOCK, stop * BLOCK)
    x, y, z = x[part], y[part], z[part]
    for i in range(x.size):
        z[i] = x[i] + y[i]


def over(kernel, *arrays, more=()):
    """Run a kernel over the numbers of arrays of one shape, what else it takes, and a new array, which is returned."""
    arrays = in_one_order(*arrays)
    out = empty_like(arrays[0])
    threads.run_over(out.size, kernel, -(-out.size // BLOCK), *(flat(a) for a in arrays), *more, flat(out))
    return out


def large(*arrays):
    first = arrays[0]
    return all(isinstance(a, np.ndarray) and a.shape == first.shape for a in arrays) and (
        first.size >= SMALL and floats(*arrays)
    )


def rectified(x):
    """The ReLU of x, with its signs."""
    (x,) = in_one_order(x)
    y = empty_like(x)
    threads.run(relu_block, -(-x.size // BLOCK), flat(x), flat(y), new_signs(y))
    return y


def is_rectified(x):
    return isinstance(x, Deferred) and x.make is rectified and not x.is_made


@override("relu_forward", "cpu", when=large)
def relu_forward(x):
    y = Deferred(x.shape, x.dtype, rectified, x)  # pooling may do it on its way
    y = y if is_buffer(x) else y.array
    return y, y


def masked(dy, y):
    """dy where y > 0 (or NaN), else 0."""
    signs = signs_of(y, dy)
    return over(relu_backward_block, dy, y) if signs is None else over(cut_block, dy, more=[signs])


def is_masked(x):
    return isinstance(x, Deferred) and x.make is masked and not x.is_made


@override("relu_backward", "cpu", when=lambda dy, y, needs: large(dy, y))
def relu_backward(dy, y, needs):
    return (Deferred(dy.shape, dy.dtype, masked, dy, y),)


@override("relu_backward", "deferred", when=lambda dy, y, needs: is_rectified(y) and large(dy, *y.sources))
def relu_backward_of_nothing_made(dy, y, needs):
    return (over(relu_backward_block, dy, *y.sources),)  # x is positive where y is; its signs may be of an earlier x


@override("add_forward", "cpu", when=large)
def add_forward(x, y):
    return over(add_block, x, y), (x.shape, y.shape)


@override("add_forward", "deferred", when=lambda x, y: (is_masked(x) or is_masked(y)) and np.shape(x) == np.shape(y))
def add_masked(x, y):
    gradient, other = (x, y) if is_masked(x) else (y, x)
    dy, positive = gradient.sources  # before `other` is made, which may be the same
    signs = signs_of(positive, dy)
    if signs is not None and is_winograd(other) and is_channels_last(dy):
        return other.make(*other.sources, other=dy, signs=signs), (x.shape, y.shape)  # added on its way to memory
    other = settled(other)
    if signs is None or signs_of(positive, other) is None:
        return over(add_block, settled(gradient), other), (x.shape, y.shape)
    return over(add_cut_block, other, dy, more=[signs]), (x.shape, y.shape)


@override("add_backward", "deferred", when=lambda dy, saved, needs: all(shape == dy.shape for shape in saved))
def add_backward(dy, saved, needs):
    return tuple(dy if need else None for need in needs)
