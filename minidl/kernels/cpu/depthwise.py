"""Convolutions with one channel in each group: nothing is summed over channels, so the inner loops run along them.

Weights lie as (KH KW, C), one row of channels for each tap.
"""

import numpy as np

from minidl.kernels import threads
from minidl.kernels.buffers import empty
from minidl.kernels.cpu.jit import jit
from minidl.kernels.cpu.launch import job_of, share_out
from minidl.kernels.tape import compute, contiguous

__all__ = ["correlate", "fits", "input_gradient", "weight_gradient"]

PARTS = 16  # partial weight gradients, a fixed number so that sums do not depend on the number of threads


@jit
def forward(start, stop, crew, x, w, bias, y, kernel, stride, padding, dilation, scale, low):
    """y = max(scale (x * w) + bias, low) for rows start..stop of all images: x (N, H, W, C), y (N, OH, OW, C)."""
    if crew:
        return share_out(job_of(start, stop), crew)
    (_, H, W, C), (_, OH, OW, _) = x.shape, y.shape
    (KH, KW), (SH, SW), (top, left), (DH, DW), zero = kernel, stride, padding, dilation, x.dtype.type(0)
    for row in range(start, stop):
        n, oh = divmod(row, OH)
        for ow in range(OW):
            pixel = y[n, oh, ow]
            for c in range(C):
                pixel[c] = zero
            for i in range(KH):
                for j in range(KW):
                    h, v = oh * SH + i * DH - top, ow * SW + j * DW - left
                    if 0 <= h < H and 0 <= v < W:
                        here, tap = x[n, h, v], w[i * KW + j]
                        for c in range(C):
                            pixel[c] += here[c] * tap[c]
            for c in range(C):
                value = scale[c] * pixel[c] + bias[c]
                pixel[c] = low if value <= low else value  # NaN passes


@jit
def spread(start, stop, crew, dy, w, dx, kernel, stride, padding, dilation):
    """dx, the adjoint of `forward`, for images start..stop."""
    if crew:
        return share_out(job_of(start, stop), crew)
    (_, H, W, C), (_, OH, OW, _) = dx.shape, dy.shape
    (KH, KW), (SH, SW), (top, left), (DH, DW) = kernel, stride, padding, dilation
    for n in range(start, stop):
        dx[n] = 0
        for oh in range(OH):
            for ow in range(OW):
                incoming = dy[n, oh, ow]
                for i in range(KH):
                    for j in range(KW):
                        h, v = oh * SH + i * DH - top, ow * SW + j * DW - left
                        if 0 <= h < H and 0 <= v < W:
                            pixel, tap = dx[n, h, v], w[i * KW + j]
                            for c in range(C):
                                pixel[c] += incoming[c] * tap[c]


@jit
def collect(start, stop, crew, x, dy, parts, kernel, stride, padding, dilation):
    """parts[t] (KH KW, C) = Σ dy x over its share of the images, for parts start..stop; rows of outputs in float64."""
    if crew:
        return share_out(job_of(start, stop), crew)
    (_, H, W, C), (N, OH, OW, _) = x.shape, dy.shape
    (KH, KW), (SH, SW), (top, left), (DH, DW), zero = kernel, stride, padding, dilation, x.dtype.type(0)
    total = np.empty(C, x.dtype)
    for t in range(start, stop):
        parts[t] = 0
        for n in range(N * t // len(parts), N * (t + 1) // len(parts)):
            for oh in range(OH):
                for i in range(KH):
                    h = oh * SH + i * DH - top
                    if h < 0 or h >= H:
                        continue
                    for j in range(KW):
                        for c in range(C):
                            total[c] = zero
                        for ow in range(OW):
                            v = ow * SW + j * DW - left
                            if 0 <= v < W:
                                here, incoming = x[n, h, v], dy[n, oh, ow]
                                for c in range(C):
                                    total[c] += here[c] * incoming[c]
                        part = parts[t, i * KW + j]
                        for c in range(C):
                            part[c] += total[c]


def fits(shape, groups):
    """Whether weights of this shape (OC, C / groups, KH, KW) have a group for each channel."""
    OC, CG, _, _ = shape
    return CG == 1 and OC == groups > 1


def taps(weight):
    """Weights (C, 1, KH, KW) as (KH KW, C)."""
    return contiguous(weight.reshape(len(weight), -1).T)


def correlate(x, w, C, bias, window, finish=()):
    """y (N, OH, OW, C), with weights from `taps`, finished (minidl.kernels.cpu.finish)."""
    scale, low, *other = finish or (np.ones(C, x.dtype), x.dtype.type(-np.inf))
    bias = np.zeros(C, x.dtype) if bias is None else bias
    (N, OH, OW), least = (len(x), *window.output), x.dtype.type(-np.inf) if other else low
    y = empty((N, OH, OW, C), x.dtype)
    threads.run(forward, N * OH, x, w, bias, y, *window[:4], scale, least)
    return compute(add_and_cut, y, other[0].reshape(y.shape), low) if other else y


def add_and_cut(y, other, low):
    return np.maximum(y + other, low)


def input_gradient(dy, weight, window, shape):
    """dx (N, H, W, C) for channels-last dy and x of NumPy shape (N, C, H, W)."""
    N, C, H, W = shape
    dx = empty((N, H, W, C), dy.dtype)
    threads.run(spread, N, dy, taps(weight), dx, *window[:4])
    return dx


def weight_gradient(x, dy, shape, window):
    """dweight of the given shape (C, 1, KH, KW)."""
    C, _, KH, KW = shape
    parts = np.empty((min(PARTS, len(x)), KH * KW, C))
    threads.run(collect, len(parts), x, dy, parts, *window[:4])
    return compute(added_up, parts, x.dtype).reshape(shape)


def added_up(parts, dtype):
    return np.ascontiguousarray(parts.sum(axis=0).T, dtype)
