"""ReLU and addition over whole activations, at memory speed on all threads."""

import numpy as np

from minidl.kernels import override, threads
from minidl.kernels.cpu.jit import jit
from minidl.kernels.cpu.layout import flat, floats, same_memory_order

BLOCK = 1 << 14  # numbers per task
SMALL = 1 << 15  # below this NumPy is as fast


@jit
def relu_block(start, stop, x, y):
    for i in range(start * BLOCK, min(stop * BLOCK, x.size)):
        y[i] = 0 if x[i] <= 0 else x[i]  # NaN passes


@jit
def relu_backward_block(start, stop, dy, y, dx):
    for i in range(start * BLOCK, min(stop * BLOCK, y.size)):
        dx[i] = 0 if y[i] <= 0 else dy[i]


@jit
def add_block(start, stop, x, y, z):
    for i in range(start * BLOCK, min(stop * BLOCK, x.size)):
        z[i] = x[i] + y[i]


def tasks(x):
    return -(-x.size // BLOCK)


def large(*arrays):
    return (
        all(isinstance(a, np.ndarray) for a in arrays)
        and arrays[0].size >= SMALL
        and floats(*arrays)
        and same_memory_order(*arrays)
    )


@override("relu_forward", "cpu", when=lambda x: large(x))
def relu_forward(x):
    y = np.empty_like(x)
    threads.run(relu_block, tasks(x), flat(x), flat(y))
    return y, y


@override("relu_backward", "cpu", when=lambda dy, y, needs: large(dy, y))
def relu_backward(dy, y, needs):
    dx = np.empty_like(y)
    threads.run(relu_backward_block, tasks(y), flat(dy), flat(y), flat(dx))
    return (dx,)


@override("add_forward", "cpu", when=lambda x, y: large(x, y))
def add_forward(x, y):
    z = np.empty_like(x)
    threads.run(add_block, tasks(x), flat(x), flat(y), flat(z))
    return z, (x.shape, y.shape)
