"""Batch norm on rows (m, C) of contiguous channels: two passes forward, two passes backward.

Four of the six derivatives are one number per channel, so the backward's first pass makes two sums per channel, the
paper's dvar and dmean follow from them, and the second pass writes dx. Sums are collected in float64, one row of
partial sums for each fixed block of rows, so they do not depend on the number of threads.
"""

import numpy as np

from minidl.kernels import override, threads
from minidl.kernels.cpu.jit import jit
from minidl.kernels.cpu.layout import floats, rows, unrows

BLOCKS = 64  # partial sums
RUN = 32  # rows that are summed in the dtype of x before they are added in float64


@jit
def moments(start, stop, x, shift, sums, squares):
    """Σ (x - shift) and Σ (x - shift)² for blocks start..stop; a shift near the mean keeps the difference exact."""
    m, C = x.shape
    s, q = np.empty(C, x.dtype), np.empty(C, x.dtype)
    for t in range(start, stop):
        for first in range(m * t // BLOCKS, m * (t + 1) // BLOCKS, RUN):
            s[:], q[:] = 0, 0
            for i in range(first, min(first + RUN, m * (t + 1) // BLOCKS)):
                for c in range(C):
                    d = x[i, c] - shift[c]
                    s[c] += d
                    q[c] += d * d
            for c in range(C):
                sums[t, c] += s[c]
                squares[t, c] += q[c]


@jit
def scale_and_shift(start, stop, x, mean, scale, beta, y):
    """y = (x - mean) scale + beta for blocks start..stop."""
    m, C = x.shape
    for i in range(m * start // BLOCKS, m * stop // BLOCKS):
        for c in range(C):
            y[i, c] = (x[i, c] - mean[c]) * scale[c] + beta[c]


@jit
def gradient_sums(start, stop, dy, x, mean, dbeta, dcentred):
    """dbeta = Σ dy and Σ dy (x - mean) for blocks start..stop."""
    m, C = x.shape
    s, q = np.empty(C, x.dtype), np.empty(C, x.dtype)
    for t in range(start, stop):
        for first in range(m * t // BLOCKS, m * (t + 1) // BLOCKS, RUN):
            s[:], q[:] = 0, 0
            for i in range(first, min(first + RUN, m * (t + 1) // BLOCKS)):
                for c in range(C):
                    s[c] += dy[i, c]
                    q[c] += dy[i, c] * (x[i, c] - mean[c])
            for c in range(C):
                dbeta[t, c] += s[c]
                dcentred[t, c] += q[c]


@jit
def input_gradient(start, stop, dy, x, mean, by_dy, by_centred, constant, dx):
    """dx = by_dy dy + by_centred (x - mean) + constant for blocks start..stop."""
    m, C = x.shape
    for i in range(m * start // BLOCKS, m * stop // BLOCKS):
        for c in range(C):
            dx[i, c] = by_dy[c] * dy[i, c] + by_centred[c] * (x[i, c] - mean[c]) + constant[c]


def sums_over_rows(kernel, r, *arrays):
    """Run a summing kernel; the two sums (C,) in float64."""
    first, second = np.zeros((BLOCKS, r.shape[1])), np.zeros((BLOCKS, r.shape[1]))
    threads.run(kernel, BLOCKS, *arrays, first, second)
    return first.sum(axis=0), second.sum(axis=0)


def kept(v, x):
    """v (C,) in the dtype of x and in the shape of its channel axis, as the text keeps mean and var."""
    return v.astype(x.dtype).reshape(-1, *(1,) * (x.ndim - 2))[None]


@override("batch_norm_forward", "cpu", when=lambda x, gamma, beta, **_: floats(x, gamma, beta))
def batch_norm_forward(x, gamma, beta, *, eps):
    r = rows(x)
    m, shift = len(r), r[0].copy()
    total, squares = sums_over_rows(moments, r, r, shift)
    mean = shift + total / m
    var = np.maximum(squares / m - (total / m) ** 2, 0)
    inv_std = 1 / np.sqrt(var + eps)
    y = np.empty_like(r)
    scale = (gamma * inv_std).astype(x.dtype)
    threads.run(scale_and_shift, BLOCKS, r, mean.astype(x.dtype), scale, np.ascontiguousarray(beta), y)
    return unrows(y, x), (x, gamma, kept(mean, x), kept(var, x), kept(inv_std, x))


@override("batch_norm_backward", "cpu", when=lambda dy, saved, needs: floats(dy, *saved[:2]))
def batch_norm_backward(dy, saved, needs):
    x, gamma, mean, var, inv_std = saved
    dy_r, r = rows(dy), rows(x)
    m, mean = len(r), mean.reshape(-1)
    dbeta, dcentred = sums_over_rows(gradient_sums, r, dy_r, r, mean)
    inv_std = inv_std.reshape(-1).astype(np.float64)
    # fmt: off
    dgamma = dcentred * inv_std
    dvar   = gamma * dcentred * -0.5 * inv_std**3
    dmean  = gamma * dbeta * -inv_std
    # fmt: on
    dx = None
    if needs[0]:
        dx = np.empty_like(r)
        coefficients = [v.astype(x.dtype) for v in (gamma * inv_std, dvar * 2 / m, dmean / m)]
        threads.run(input_gradient, BLOCKS, dy_r, r, mean, *coefficients, dx)
        dx = unrows(dx, x)
    return dx, dgamma.astype(x.dtype) if needs[1] else None, dbeta.astype(x.dtype) if needs[2] else None


@override("batch_norm_inference_forward", "cpu", when=lambda x, *params, **_: floats(x, *params))
def batch_norm_inference_forward(x, gamma, beta, mean, var, *, eps):
    inv_std = 1 / np.sqrt(var + eps)
    r = rows(x)
    y = np.empty_like(r)
    scale, mean_, beta = (np.ascontiguousarray(v, x.dtype) for v in (gamma * inv_std, mean, beta))
    threads.run(scale_and_shift, BLOCKS, r, mean_, scale, beta, y)
    return unrows(y, x), (x, gamma, mean, inv_std)
