"""Batch norm on rows (m, C) of contiguous channels, with the addition and the ReLU that follow it.

Forward: one pass makes the moments of the batch; the result is deferred, and one pass more writes γ x̂ + β, or the
ReLU of it, or of its sum with a shortcut. Backward: four of the six derivatives are one number per channel, so one pass
makes two sums per channel, the paper's dvar and dmean follow from them, and one pass writes dx; where the gradient
comes through a ReLU, both passes cut it on the way. Sums are collected in float64, one row of partial sums for each
fixed block of rows, so they do not depend on the number of threads.
"""

import numpy as np

from minidl.kernels import override, threads
from minidl.kernels.buffers import empty_like, is_buffer
from minidl.kernels.cpu.conv import convolve
from minidl.kernels.cpu.elementwise import is_masked
from minidl.kernels.cpu.jit import jit
from minidl.kernels.cpu.launch import job_of, share_out
from minidl.kernels.cpu.layout import floats, is_channels_last, rows, unrows
from minidl.kernels.cpu.signs import cut, keep_signs, new_signs, signs_of
from minidl.kernels.cpu.sums import BLOCKS, RUN, SPAN, join, sum_rows, sums_over_rows
from minidl.kernels.deferred import Deferred, settled


@jit
def moments(start, stop, crew, x, shift, sums, squares):
    """Σ (x - shift) and Σ (x - shift)² for blocks start..stop; a shift near the mean keeps the difference exact."""
    if crew:
        return share_out(job_of(start, stop), crew)
    m, C = x.shape
    s, q, flat = np.zeros(C, x.dtype), np.zeros(C, x.dtype), x.reshape(-1)
    for t in range(start, stop):
        for first in range(m * t // BLOCKS, m * (t + 1) // BLOCKS, RUN):
            last = min(first + RUN, m * (t + 1) // BLOCKS)
            for c in range(0, C - SPAN + 1, SPAN):
                sum_rows(flat, shift, None, None, first * C, last - first, C, c, s, q)
            for c in range(C // SPAN * SPAN, C):
                s[c], q[c] = 0, 0
                for i in range(first, last):
                    d = x[i, c] - shift[c]
                    s[c] += d
                    q[c] += d * d
            for c in range(C):
                sums[t, c] += s[c]
                squares[t, c] += q[c]


@jit
def scale_and_shift(start, stop, crew, x, mean, scale, beta, low, y, signs):
    """y = max((x - mean) scale + beta, low) for blocks start..stop, and its signs if there is room for them."""
    if crew:
        return share_out(job_of(start, stop), crew)
    m, C = x.shape
    flat = y.reshape(-1)
    for i in range(m * start // BLOCKS, m * stop // BLOCKS):
        for c in range(C):
            v = (x[i, c] - mean[c]) * scale[c] + beta[c]
            y[i, c] = low if v <= low else v  # NaN passes
        if signs.size:
            keep_signs(flat, i * C, C, signs)


@jit
def scale_shift_and_add(start, stop, crew, x, mean, scale, beta, low, y, signs, other):
    """y = max((x - mean) scale + beta + other, low) for blocks start..stop, and its signs."""
    if crew:
        return share_out(job_of(start, stop), crew)
    m, C = x.shape
    flat = y.reshape(-1)
    for i in range(m * start // BLOCKS, m * stop // BLOCKS):
        for c in range(C):
            v = (x[i, c] - mean[c]) * scale[c] + beta[c] + other[i, c]
            y[i, c] = low if v <= low else v
        if signs.size:
            keep_signs(flat, i * C, C, signs)


@jit
def gradient_sums(start, stop, crew, x, mean, dbeta, dcentred, dy, signs):
    """dbeta = Σ dy and Σ dy (x - mean) for blocks start..stop; with signs, only the dy that they let pass count."""
    if crew:
        return share_out(job_of(start, stop), crew)
    m, C = x.shape
    s, q, flat_x, flat_dy = np.zeros(C, x.dtype), np.zeros(C, x.dtype), x.reshape(-1), dy.reshape(-1)
    for t in range(start, stop):
        for first in range(m * t // BLOCKS, m * (t + 1) // BLOCKS, RUN):
            last = min(first + RUN, m * (t + 1) // BLOCKS)
            for c in range(0, C - SPAN + 1, SPAN):
                if signs.size:
                    sum_rows(flat_x, mean, flat_dy, signs, first * C, last - first, C, c, s, q)
                else:
                    sum_rows(flat_x, mean, flat_dy, None, first * C, last - first, C, c, s, q)
            for c in range(C // SPAN * SPAN, C):  # of rows without signs
                s[c], q[c] = 0, 0
                for i in range(first, last):
                    s[c] += dy[i, c]
                    q[c] += dy[i, c] * (x[i, c] - mean[c])
            for c in range(C):
                dbeta[t, c] += s[c]
                dcentred[t, c] += q[c]


@jit
def input_gradient(start, stop, crew, x, mean, by_dy, by_centred, constant, dx, dy, signs):
    """dx = by_dy dy + by_centred (x - mean) + constant for blocks start..stop, dy as in `gradient_sums`."""
    if crew:
        return share_out(job_of(start, stop), crew)
    m, C = x.shape
    passed, flat = np.empty(C, x.dtype), dy.reshape(-1)
    for i in range(m * start // BLOCKS, m * stop // BLOCKS):
        if signs.size:
            cut(flat, i * C, C, signs, passed)
        d = passed if signs.size else dy[i]
        for c in range(C):
            dx[i, c] = by_dy[c] * d[c] + by_centred[c] * (x[i, c] - mean[c]) + constant[c]


NONE = np.empty(0, np.uint16)  # no signs


def kept(v, x):
    """v (C,) in the dtype of x and in the shape of its channel axis, as the text keeps mean and var."""
    return v.astype(x.dtype).reshape(-1, *(1,) * (x.ndim - 2))[None]


# --- forward ------------------------------------------------------------------------------------------------------


def normalize(x, mean, scale, beta, other=None, low=-np.inf):
    """max((x - mean) scale + beta + other, low) for x, other (N, C, ...) and mean, scale, beta (C,)."""
    r = rows(x)
    y = empty_like(r)
    arrays = [r, mean, scale, beta, y] + ([] if other is None else [rows(other)])
    _, (r_, mean, scale, beta, y_, *other_) = join(*arrays)
    kernel = scale_shift_and_add if other_ else scale_and_shift
    signs = new_signs(y) if low == 0 and y_.shape[1] % SPAN == 0 else NONE
    threads.run_over(x.size, kernel, BLOCKS, r_, mean, scale, beta, x.dtype.type(low), y_, signs, *other_)
    return unrows(y, x)


def deferred(x, mean, scale, beta):
    """`normalize(...)`, later if nobody else can change what it reads."""
    y = Deferred(x.shape, x.dtype, normalize, x, mean, scale, beta)
    return y if is_buffer(x) else y.array


@override("batch_norm_forward", "cpu", when=lambda x, gamma, beta, **_: floats(x, gamma, beta))
def batch_norm_forward(x, gamma, beta, *, eps):
    r = rows(x)
    m, shift = len(r), r[0].copy()
    total, squares = sums_over_rows(moments, r, shift)
    mean = shift + total / m
    var = np.maximum(squares / m - (total / m) ** 2, 0)
    inv_std = 1 / np.sqrt(var + eps)
    y = deferred(x, mean.astype(x.dtype), (gamma * inv_std).astype(x.dtype), np.array(beta))
    return y, (x, gamma, kept(mean, x), kept(var, x), kept(inv_std, x))


@override("batch_norm_inference_forward", "cpu", when=lambda x, *params, **_: floats(x, *params))
def batch_norm_inference_forward(x, gamma, beta, mean, var, *, eps):
    inv_std = 1 / np.sqrt(var + eps)
    y = deferred(x, *(np.array(v, x.dtype) for v in (mean, gamma * inv_std, beta)))
    return y, (x, gamma, mean, inv_std)


# What a later addition and ReLU may be part of, and the number of its sources as long as nothing was added.
SOURCES = {normalize: 4, convolve: 7}


def is_open(x):
    return isinstance(x, Deferred) and x.make in SOURCES and not x.is_made


def is_summand(x):
    return is_open(x) and len(x.sources) == SOURCES[x.make]


def is_convolution(x, *params):
    return is_summand(x) and x.make is convolve and x.sources[5] is None and floats(x, *params)


@override("batch_norm_inference_forward", "deferred", when=lambda x, *params, **_: is_convolution(x, *params))
def batch_norm_of_convolution(x, gamma, beta, mean, var, *, eps):
    inv_std = 1 / np.sqrt(var + eps)
    *parts, _, bias = x.sources
    scale, shift = gamma * inv_std, beta - mean * gamma * inv_std
    if bias is not None:
        shift = shift + bias * scale
    return Deferred(x.shape, x.dtype, convolve, *parts, scale, shift), (x, gamma, mean, inv_std)


@override("relu_forward", "deferred", when=is_open)
def relu_at_once(x):
    y = x.make(*x.sources, low=0)
    return y, y


@override(
    "add_forward",
    "deferred",
    when=lambda x, y: (is_summand(x) or is_summand(y)) and np.shape(x) == np.shape(y) and x.dtype == y.dtype,
)
def add_at_once(x, y):
    first, other = (x, y) if is_summand(x) else (y, x)
    other = settled(other)
    if first.is_made:  # they were the same
        return first.array + other, (x.shape, y.shape)
    z = Deferred(x.shape, x.dtype, first.make, *first.sources, other)
    return z if is_buffer(other) else z.array, (x.shape, y.shape)


# --- backward -----------------------------------------------------------------------------------------------------


def gradients(dy, saved, needs, signs=NONE):
    """(dx, dgamma, dbeta) for dy, cut where the signs say so."""
    x, gamma, mean, _, inv_std = saved
    r, mean, dy = rows(x), mean.reshape(-1), rows(dy)
    dbeta, dcentred = sums_over_rows(gradient_sums, r, mean, dy, signs)
    m, inv_std = len(r), inv_std.reshape(-1).astype(np.float64)
    # fmt: off
    dgamma = dcentred * inv_std
    dvar   = gamma * dcentred * -0.5 * inv_std**3
    dmean  = gamma * dbeta * -inv_std
    # fmt: on
    dx = None
    if needs[0]:
        dx = empty_like(r)
        coefficients = [v.astype(x.dtype) for v in (gamma * inv_std, dvar * 2 / m, dmean / m)]
        _, joined = join(r, mean, *coefficients, dx, dy)
        threads.run_over(x.size, input_gradient, BLOCKS, *joined, signs)
        dx = unrows(dx, x)
    return dx, dgamma.astype(x.dtype) if needs[1] else None, dbeta.astype(x.dtype) if needs[2] else None


@override("batch_norm_backward", "cpu", when=lambda dy, saved, needs: floats(dy, *saved[:2]))
def batch_norm_backward(dy, saved, needs):
    return gradients(dy, saved, needs)


def comes_with_signs(dy, saved, needs):
    """Whether it is the gradient of a ReLU whose signs the kernels can read row by row."""
    if not is_masked(dy) or not floats(*dy.sources, *saved[:2]):
        return False
    d, positive = dy.sources
    if signs_of(positive, d) is None or not (d.ndim == 2 or is_channels_last(positive)):
        return False
    return join(rows(d))[1][0].shape[1] % SPAN == 0  # and so are narrower rows


@override("batch_norm_backward", "deferred", when=comes_with_signs)
def batch_norm_backward_through_relu(dy, saved, needs):
    d, positive = dy.sources
    return gradients(d, saved, needs, signs_of(positive, d))
