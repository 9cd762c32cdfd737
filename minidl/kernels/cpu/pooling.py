"""Global average pooling over contiguous channels."""

import numpy as np

from minidl.kernels import override, threads
from minidl.kernels.cpu.buffers import empty
from minidl.kernels.cpu.jit import jit
from minidl.kernels.cpu.layout import channels_last, floats


@jit
def mean_over_pixels(start, stop, x, y):
    """y[n] = the mean of x[n] (pixels, C) for images start..stop."""
    N, pixels, C = x.shape
    total = np.empty(C)
    for n in range(start, stop):
        total[:] = 0
        for i in range(pixels):
            for c in range(C):
                total[c] += x[n, i, c]
        for c in range(C):
            y[n, c] = total[c] / pixels


@jit
def spread_over_pixels(start, stop, dy, dx):
    """dx[n, i] = dy[n] / pixels for images start..stop."""
    N, pixels, C = dx.shape
    for n in range(start, stop):
        for i in range(pixels):
            for c in range(C):
                dx[n, i, c] = dy[n, c] / pixels


def whole_image(x, rows, columns):
    return len(rows) == len(columns) == 1 and floats(x, rows)


@override("adaptive_avg_pool2d_forward", "cpu", when=lambda x, *, rows, columns: whole_image(x, rows, columns))
def adaptive_avg_pool2d_forward(x, *, rows, columns):
    N, C, H, W = x.shape
    y = np.empty((N, C), x.dtype)
    threads.run(mean_over_pixels, N, channels_last(x).reshape(N, H * W, C), y)
    return y.reshape(N, C, 1, 1), (rows, columns)


@override("adaptive_avg_pool2d_backward", "cpu", when=lambda dy, saved, needs: whole_image(dy, *saved))
def adaptive_avg_pool2d_backward(dy, saved, needs):
    (N, C), H, W = dy.shape[:2], saved[0].shape[1], saved[1].shape[1]
    dx = empty((N, H * W, C), dy.dtype)
    threads.run(spread_over_pixels, N, np.ascontiguousarray(dy).reshape(N, C), dx)
    return (dx.reshape(N, H, W, C).transpose(0, 3, 1, 2),)
