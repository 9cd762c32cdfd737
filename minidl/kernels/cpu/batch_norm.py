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
from minidl.kernels.cpu.jit import exact_jit, jit
from minidl.kernels.cpu.launch import job_of, share_out
from minidl.kernels.cpu.layout import floats, is_channels_last, rows, unrows
from minidl.kernels.cpu.signs import cut, keep_signs, new_signs, signs_of
from minidl.kernels.cpu.sums import BLOCKS, RUN, SPAN, add_up, join, repeated, sum_rows
from minidl.kernels.deferred import Deferred, settled
from minidl.kernels.tape import compute, contiguous, do


@jit
def moments(start, stop, crew, x, gamma, beta, eps, sums, found):
    """found (5, C) = mean, var, 1 / √(var + ε), gamma times it, and beta, from two sums for the blocks start..stop.

    They are Σ (x - shift) and Σ (x - shift)²; a shift near the mean, the first x, keeps the difference exact.
    """
    if crew:
        share_out(job_of(start, stop), crew)
        C = len(gamma)
        total, m = add_up(sums, C), x.size // C
        for c in range(C):
            mean = total[0, c] / m
            var = total[1, c] / m - mean**2
            var = 0 if var < 0 else var  # NaN passes
            inv_std = 1 / np.sqrt(var + eps)
            found[0, c], found[1, c], found[2, c] = x[0, c] + mean, var, inv_std
            found[3, c], found[4, c] = gamma[c] * inv_std, beta[c]
        return
    m, C = x.shape
    s, q, flat, shift = np.empty(C, x.dtype), np.empty(C, x.dtype), x.reshape(-1), repeated(x[0, : len(gamma)], C)
    for t in range(start, stop):
        for c in range(C):
            sums[0, t, c] = sums[1, t, c] = 0
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
                sums[0, t, c] += s[c]
                sums[1, t, c] += q[c]


@jit
def scale_and_shift(start, stop, crew, x, mean, scale, beta, other, low, y, signs):
    """y = max((x - mean) scale + beta (+ other), low) for blocks start..stop, and its signs if they have room."""
    if crew:
        return share_out(job_of(start, stop), crew)
    m, C = x.shape
    flat, mean, scale, beta = y.reshape(-1), repeated(mean, C), repeated(scale, C), repeated(beta, C)
    for i in range(m * start // BLOCKS, m * stop // BLOCKS):
        if len(other):
            for c in range(C):
                v = (x[i, c] - mean[c]) * scale[c] + beta[c] + other[i, c]
                y[i, c] = low if v <= low else v  # NaN passes
        else:
            for c in range(C):
                v = (x[i, c] - mean[c]) * scale[c] + beta[c]
                y[i, c] = low if v <= low else v
        if signs.size:
            keep_signs(flat, i * C, C, signs)


@jit
def gradient_sums(start, stop, crew, x, mean, inv_std, gamma, dy, signs, sums, found):
    """found (5, C) = dgamma, dbeta, and the factors of dy, of x - mean, and of 1 in dx.

    They come from Σ dy and Σ dy (x - mean) of the blocks start..stop; with signs, only the dy that they let pass count.
    """
    if crew:
        share_out(job_of(start, stop), crew)
        C = len(gamma)
        total, m = add_up(sums, C), x.size // C
        for c in range(C):
            dbeta, dcentred, inv = total[0, c], total[1, c], np.float64(inv_std[c])
            # fmt: off
            dgamma = dcentred * inv
            dvar   = gamma[c] * dcentred * -0.5 * inv**3
            dmean  = gamma[c] * dbeta * -inv
            # fmt: on
            found[0, c], found[1, c] = dgamma, dbeta
            found[2, c], found[3, c], found[4, c] = gamma[c] * inv, dvar * 2 / m, dmean / m
        return
    m, C = x.shape
    s, q, mean = np.empty(C, x.dtype), np.empty(C, x.dtype), repeated(mean, C)
    flat_x, flat_dy = x.reshape(-1), dy.reshape(-1)
    for t in range(start, stop):
        for c in range(C):
            sums[0, t, c] = sums[1, t, c] = 0
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
                sums[0, t, c] += s[c]
                sums[1, t, c] += q[c]


@jit
def input_gradient(start, stop, crew, x, mean, factors, dy, signs, dx):
    """dx = factors[2] dy + factors[3] (x - mean) + factors[4] for blocks start..stop, dy as in `gradient_sums`."""
    if crew:
        return share_out(job_of(start, stop), crew)
    m, C = x.shape
    passed, flat, mean = np.empty(C, x.dtype), dy.reshape(-1), repeated(mean, C)
    by_dy, by_centred, constant = repeated(factors[2], C), repeated(factors[3], C), repeated(factors[4], C)
    for i in range(m * start // BLOCKS, m * stop // BLOCKS):
        if signs.size:
            cut(flat, i * C, C, signs, passed)
        d = passed if signs.size else dy[i]
        for c in range(C):
            dx[i, c] = by_dy[c] * d[c] + by_centred[c] * (x[i, c] - mean[c]) + constant[c]


NONE = np.empty(0, np.uint16)  # no signs


# --- forward ------------------------------------------------------------------------------------------------------


def normalize(x, mean, scale, beta, other=None, low=-np.inf):
    """max((x - mean) scale + beta + other, low) for x, other (N, C, ...) and mean, scale, beta (C,)."""
    r = rows(x)
    y, joined = empty_like(r), join(r)
    out = y.reshape(joined.shape)
    other = joined[:0] if other is None else join(rows(other))
    signs = new_signs(y) if low == 0 and out.shape[1] % SPAN == 0 else NONE
    threads.run_over(x.size, scale_and_shift, BLOCKS, joined, mean, scale, beta, other, x.dtype.type(low), out, signs)
    return unrows(y, x)


def deferred(x, mean, scale, beta):
    """`normalize(...)`, later if nobody else can change what it reads."""
    y = Deferred(x.shape, x.dtype, normalize, x, mean, scale, beta)
    return y if is_buffer(x) else y.array


@override("batch_norm_forward", "cpu", when=lambda x, gamma, beta, **_: floats(x, gamma, beta))
def batch_norm_forward(x, gamma, beta, *, eps):
    r = rows(x)
    joined, found = join(r, SPAN), np.empty((5, r.shape[1]), x.dtype)
    sums = np.empty((2, BLOCKS, joined.shape[1]))
    threads.run_over(x.size, moments, BLOCKS, joined, contiguous(gamma), contiguous(beta), float(eps), sums, found)
    y = deferred(x, found[0], found[3], found[4])
    mean, var, inv_std, *_ = found.reshape(5, 1, -1, *(1,) * (x.ndim - 2))
    return y, (x, gamma, mean, var, inv_std)


@exact_jit
def move(running, new, old, momentum, correction):
    """running = old running + momentum (correction new)."""
    for i in range(len(running)):
        running[i] = old * running[i] + momentum * (correction * new[i])


def are_flat(running, new, **_):
    return floats(running, new) and running.flags.c_contiguous and new.flags.c_contiguous


@override("move_running", "cpu", when=are_flat)
def move_running(running, new, *, momentum, correction):
    numbers = map(running.dtype.type, (1 - momentum, momentum, correction))
    do(move, running.reshape(-1), new.reshape(-1), *numbers)


@override("batch_norm_inference_forward", "cpu", when=lambda x, *params, **_: floats(x, *params))
def batch_norm_inference_forward(x, gamma, beta, mean, var, *, eps):
    inv_std, *parameters = compute(factors, gamma, beta, mean, var, eps)
    return deferred(x, *parameters), (x, gamma, mean, inv_std)


def factors(gamma, beta, mean, var, eps):
    """1 / √(var + ε), and copies of the mean, of gamma times that, and of beta."""
    inv_std = 1 / np.sqrt(var + eps)
    return inv_std, np.array(mean), gamma * inv_std, np.array(beta)


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
    *parts, _, bias = x.sources
    inv_std, scale, shift = compute(folded, gamma, beta, mean, var, eps, bias)
    return Deferred(x.shape, x.dtype, convolve, *parts, scale, shift), (x, gamma, mean, inv_std)


def folded(gamma, beta, mean, var, eps, bias):
    """1 / √(var + ε), and the factor and the term that stand for batch norm after a convolution with that bias."""
    inv_std = 1 / np.sqrt(var + eps)
    scale, shift = gamma * inv_std, beta - mean * gamma * inv_std
    return inv_std, scale, shift if bias is None else shift + bias * scale


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
    r, d, mean = rows(x), rows(dy), mean.reshape(-1)
    joined, found = join(r, SPAN), np.empty((5, r.shape[1]), x.dtype)
    sums, parameters = np.empty((2, BLOCKS, joined.shape[1])), (inv_std.reshape(-1), contiguous(gamma))
    inputs = joined, mean, *parameters, d.reshape(joined.shape), signs
    threads.run_over(x.size, gradient_sums, BLOCKS, *inputs, sums, found)
    dx = None
    if needs[0]:
        joined, y = join(r), empty_like(r)
        out = y.reshape(joined.shape)
        threads.run_over(x.size, input_gradient, BLOCKS, joined, mean, found, d.reshape(joined.shape), signs, out)
        dx = unrows(y, x)
    return dx, found[0] if needs[1] else None, found[1] if needs[2] else None


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
    return join(rows(d)).shape[1] % SPAN == 0  # and so are narrower rows


@override("batch_norm_backward", "deferred", when=comes_with_signs)
def batch_norm_backward_through_relu(dy, saved, needs):
    d, positive = dy.sources
    return gradients(d, saved, needs, signs_of(positive, d))
