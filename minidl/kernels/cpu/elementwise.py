"""ReLU and addition over whole activations, at memory speed on all threads.

The gradient that passes a ReLU is deferred: batch norm and additions cut it on their own way through memory.
"""

import numpy as np

from minidl.kernels import override, threads
from minidl.kernels.buffers import empty_like
from minidl.kernels.cpu.jit import jit
from minidl.kernels.cpu.launch import job_of, share_out
from minidl.kernels.cpu.layout import flat, floats, in_one_order
from minidl.kernels.deferred import Deferred, settled

BLOCK = 1 << 14  # numbers per task
SMALL = 1 << 15  # below this NumPy is as fast


@jit
def relu_block(start, stop, crew, x, y):
    if crew:
        return share_out(job_of(start, stop), crew)
    zero = x.dtype.type(0)  # a plain 0 would make the loop run in float64
    part = slice(start * BLOCK, stop * BLOCK)
    x, y = x[part], y[part]  # indices from 0 on: none can be negative, and the loop is made of vectors
    for i in range(x.size):
        y[i] = zero if x[i] <= zero else x[i]  # NaN passes


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
def add_masked_block(start, stop, crew, x, dy, y, z):
    if crew:
        return share_out(job_of(start, stop), crew)
    zero = y.dtype.type(0)
    part = slice(start * BLOCK, stop * BLOCK)
    x, dy, y, z = x[part], dy[part], y[part], z[part]
    for i in range(y.size):
        d = dy[i]
        z[i] = x[i] + (zero if y[i] <= zero else d)


@jit
def add_block(start, stop, crew, x, y, z):
    if crew:
        return share_out(job_of(start, stop), crew)
    part = slice(start * BLOCK, stop * BLOCK)
    x, y, z = x[part], y[part], z[part]
    for i in range(x.size):
        z[i] = x[i] + y[i]


def over(kernel, *arrays):
    """Run a kernel over the numbers of arrays of one shape and a new one like them, which is returned."""
    arrays = in_one_order(*arrays)
    out = empty_like(arrays[0])
    threads.run(kernel, -(-out.size // BLOCK), *(flat(a) for a in arrays), flat(out))
    return out


def large(*arrays):
    first = arrays[0]
    return all(isinstance(a, np.ndarray) and a.shape == first.shape for a in arrays) and (
        first.size >= SMALL and floats(*arrays)
    )


@override("relu_forward", "cpu", when=large)
def relu_forward(x):
    y = over(relu_block, x)
    return y, y


def masked(dy, y):
    """dy where y > 0 (or NaN), else 0."""
    return over(relu_backward_block, dy, y)


def is_masked(x):
    return isinstance(x, Deferred) and x.make is masked and not x.is_made


@override("relu_backward", "cpu", when=lambda dy, y, needs: large(dy, y))
def relu_backward(dy, y, needs):
    return (Deferred(dy, masked, dy, y),)


@override("add_forward", "cpu", when=large)
def add_forward(x, y):
    return over(add_block, x, y), (x.shape, y.shape)


@override("add_forward", "deferred", when=lambda x, y: (is_masked(x) or is_masked(y)) and x.shape == y.shape)
def add_masked(x, y):
    gradient, other = (x, y) if is_masked(x) else (y, x)
    dy, mask = gradient.sources  # before `other` is made, which may be the same
    return over(add_masked_block, settled(other), dy, mask), (x.shape, y.shape)


@override("add_backward", "deferred", when=lambda dy, saved, needs: all(shape == dy.shape for shape in saved))
def add_backward(dy, saved, needs):
    return tuple(dy if need else None for need in needs)
