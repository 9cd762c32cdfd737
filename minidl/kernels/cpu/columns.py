"""Convolution through im2col where rows of outputs are too short for the direct kernel: all windows as one matrix.

cols (N OH OW, KH KW C):  y = cols W,  dW = dyᵀ cols,  dcols = dy Wᵀ and dx adds them up where they came from
"""

import numpy as np

from minidl.kernels import threads
from minidl.kernels.buffers import empty
from minidl.kernels.cpu.jit import jit
from minidl.kernels.cpu.launch import job_of, share_out
from minidl.kernels.cpu.linear import matrix_product
from minidl.kernels.tape import contiguous, do

__all__ = ["correlate", "fits", "input_gradient", "matrix", "weight_gradient"]

NARROW = 8  # outputs in a row


@jit
def gather(start, stop, crew, x, cols, kernel, stride, padding, dilation):
    """cols (N, OH, OW, KH KW C) = the windows of x (N, H, W, C) for images start..stop, zeros outside."""
    if crew:
        return share_out(job_of(start, stop), crew)
    (_, H, W, C), (_, OH, OW, _) = x.shape, cols.shape
    (KH, KW), (SH, SW), (top, left), (DH, DW) = kernel, stride, padding, dilation
    for n in range(start, stop):
        for oh in range(OH):
            for ow in range(OW):
                for k in range(KH * KW):
                    h, w = oh * SH + k // KW * DH - top, ow * SW + k % KW * DW - left
                    if 0 <= h < H and 0 <= w < W:
                        cols[n, oh, ow, k * C : (k + 1) * C] = x[n, h, w]
                    else:
                        cols[n, oh, ow, k * C : (k + 1) * C] = 0


@jit
def scatter(start, stop, crew, cols, x, kernel, stride, padding, dilation):
    """x = the sum of what `gather` would read from each place, for images start..stop."""
    if crew:
        return share_out(job_of(start, stop), crew)
    (_, H, W, C), (_, OH, OW, _) = x.shape, cols.shape
    (KH, KW), (SH, SW), (top, left), (DH, DW) = kernel, stride, padding, dilation
    for n in range(start, stop):
        x[n] = 0
        for oh in range(OH):
            for ow in range(OW):
                for k in range(KH * KW):
                    h, w = oh * SH + k // KW * DH - top, ow * SW + k % KW * DW - left
                    if 0 <= h < H and 0 <= w < W:
                        x[n, h, w] += cols[n, oh, ow, k * C : (k + 1) * C]


def fits(window, groups, N):
    """Whether this way is the faster one."""
    OH, OW = window.output
    return groups == 1 and OW < NARROW and N * OH * OW >= 64


def windows(x, window):
    """All windows of channels-last x, (N OH OW, KH KW C)."""
    N, C, (KH, KW) = len(x), x.shape[3], window.kernel_size
    cols = empty((N, *window.output, KH * KW * C), x.dtype)
    threads.run(gather, N, x, cols, *window[:4])
    return cols.reshape(-1, KH * KW * C)


def matrix(weight):
    """Weights (OC, C, KH, KW) as (OC, KH KW C)."""
    return contiguous(weight.transpose(0, 2, 3, 1)).reshape(len(weight), -1)


def finish_rows(y, bias, scale, low, *other):
    """y = max(scale y + bias (+ other), low)."""
    y *= scale
    y += bias
    for summand in other:
        y += summand.reshape(y.shape)
    np.maximum(y, low, out=y)


def correlate(x, w, OC, bias, window, finish=()):
    """y (N, OH, OW, OC) for weights from `matrix`, finished (minidl.kernels.cpu.finish)."""
    y = matrix_product(windows(x, window), w.T)
    if finish:
        do(finish_rows, y, bias, *finish)
    elif bias is not None:
        do(np.add, y, bias, y)
    return y.reshape(len(x), *window.output, OC)


def input_gradient(dy, weight, window, shape):
    """dx (N, H, W, C) for channels-last dy and x of NumPy shape (N, C, H, W)."""
    (N, C, H, W), OC = shape, weight.shape[0]
    cols, dx = matrix_product(dy.reshape(-1, OC), matrix(weight)), empty((N, H, W, C), dy.dtype)
    threads.run(scatter, N, cols.reshape(N, *window.output, -1), dx, *window[:4])
    return dx


def weight_gradient(x, dy, shape, window):
    """dweight of the given shape (OC, C, KH, KW)."""
    OC, C, KH, KW = shape
    dw = matrix_product(dy.reshape(-1, OC).T, windows(x, window))
    return contiguous(dw.reshape(OC, KH, KW, C).transpose(0, 3, 1, 2))
