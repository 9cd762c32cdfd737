"""Normalisation within one image, in the cache: over rows of numbers (layer norm), or over groups of channels."""

import math

import numpy as np

from minidl.kernels import override, threads
from minidl.kernels.buffers import empty
from minidl.kernels.cpu.jit import jit, routine
from minidl.kernels.cpu.launch import job_of, share_out
from minidl.kernels.cpu.layout import floats
from minidl.kernels.tape import contiguous

BLOCK = 1 << 13  # numbers per task, in whole rows


@jit
def normalize_rows(start, stop, crew, x, eps, x_hat, inv_std, rows):
    if crew:
        return share_out(job_of(start, stop), crew)
    for r in range(start * rows, min(stop * rows, len(x))):
        here, there, total, squares = x[r], x_hat[r], 0.0, 0.0
        for i in range(len(here)):
            total += here[i]
        mean = x.dtype.type(total / len(here))
        for i in range(len(here)):
            d = here[i] - mean
            squares += d * d
        factor = x.dtype.type(1 / math.sqrt(squares / len(here) + eps))
        for i in range(len(here)):
            there[i] = (here[i] - mean) * factor
        inv_std[r] = factor


@jit
def normalize_backward_rows(start, stop, crew, dx_hat, x_hat, inv_std, dx, rows):
    if crew:
        return share_out(job_of(start, stop), crew)
    for r in range(start * rows, min(stop * rows, len(dx))):
        d, here, there, total, products = dx_hat[r], x_hat[r], dx[r], 0.0, 0.0
        for i in range(len(d)):
            total += d[i]
            products += d[i] * here[i]
        mean, slope, factor = dx.dtype.type(total / len(d)), dx.dtype.type(products / len(d)), inv_std[r]
        for i in range(len(d)):
            there[i] = factor * (d[i] - mean - here[i] * slope)


@jit
def normalize_images(start, stop, crew, x, eps, size, x_hat, inv_std):
    """As `normalize_rows`, for groups of `size` channels of images start..stop; x (N, P, C) with P pixels."""
    if crew:
        return share_out(job_of(start, stop), crew)
    _, P, C = x.shape
    sums, mean, factor = np.empty(C), np.empty(C, x.dtype), np.empty(C, x.dtype)
    for n in range(start, stop):
        sums[:] = 0
        for p in range(P):
            here = x[n, p]
            for c in range(C):
                sums[c] += here[c]
        share_among(sums, size, 1 / (P * size), mean)
        sums[:] = 0
        for p in range(P):
            here = x[n, p]
            for c in range(C):
                d = here[c] - mean[c]
                sums[c] += d * d
        share_among(sums, size, 1 / (P * size), factor)
        for c in range(C):
            factor[c] = 1 / math.sqrt(factor[c] + eps)
        for p in range(P):
            here, there = x[n, p], x_hat[n, p]
            for c in range(C):
                there[c] = (here[c] - mean[c]) * factor[c]
        for g in range(C // size):
            inv_std[n, g] = factor[g * size]


@routine
def share_among(sums, size, factor, means):
    """means[c] = factor times the sum over the group of c."""
    for first in range(0, len(sums), size):
        total = 0.0
        for c in range(first, first + size):
            total += sums[c]
        for c in range(first, first + size):
            means[c] = total * factor


@jit
def normalize_backward_images(start, stop, crew, dx_hat, x_hat, inv_std, size, dx):
    if crew:
        return share_out(job_of(start, stop), crew)
    _, P, C = dx.shape
    sums, products = np.empty(C), np.empty(C)
    mean, slope, factor = np.empty(C, dx.dtype), np.empty(C, dx.dtype), np.empty(C, dx.dtype)
    for n in range(start, stop):
        sums[:] = 0
        products[:] = 0
        for p in range(P):
            d, here = dx_hat[n, p], x_hat[n, p]
            for c in range(C):
                sums[c] += d[c]
                products[c] += d[c] * here[c]
        share_among(sums, size, 1 / (P * size), mean)
        share_among(products, size, 1 / (P * size), slope)
        for c in range(C):
            factor[c] = inv_std[n, c // size]
        for p in range(P):
            d, here, there = dx_hat[n, p], x_hat[n, p], dx[n, p]
            for c in range(C):
                there[c] = factor[c] * (d[c] - mean[c] - here[c] * slope[c])


def row_length(x, axes):
    """The numbers in a row that ends an array, or 0 if `axes` are not its last ones."""
    first = x.ndim - len(axes)
    return math.prod(x.shape[first:]) if sorted(a % x.ndim for a in axes) == [*range(first, x.ndim)] else 0


def groups_last(x):
    """x (N, G, C / G, H, W) as (N, H, W, G, C / G)."""
    return x.transpose(0, 3, 4, 1, 2)


def has_groups_last(x, axes):
    """Whether x holds groups of channels of images whose channels lie side by side."""
    return x.ndim == 5 and axes == (2, 3, 4) and groups_last(x).flags.c_contiguous


def pixels(x):
    """x (N, G, C / G, H, W) as contiguous (N, H W, C)."""
    N, G, size, H, W = x.shape
    return contiguous(groups_last(x)).reshape(N, H * W, G * size)


def empty_images(x):
    """An array like x with groups last in memory, and it as (N, H W, C)."""
    N, G, size, H, W = x.shape
    y = empty((N, H, W, G, size), x.dtype)
    return y.transpose(0, 3, 4, 1, 2), y.reshape(N, H * W, G * size)


def run_rows(kernel, rows, *args):
    """Run a kernel over blocks of the rows (M, L)."""
    count = max(1, BLOCK // rows.shape[1])
    threads.run_over(rows.size, kernel, -(-len(rows) // count), rows, *args, count)


@override("normalize_forward", "cpu", when=lambda x, axes, eps: floats(x) and row_length(x, axes) > 0)
def normalize_forward(x, *, axes, eps):
    heads = x.shape[: x.ndim - len(axes)]
    inv_std = empty(heads, x.dtype)
    if has_groups_last(x, axes):
        x_hat, target = empty_images(x)
        threads.run_over(x.size, normalize_images, len(x), pixels(x), float(eps), x.shape[2], target, inv_std)
    else:
        x_hat, rows = empty(x.shape, x.dtype), contiguous(x).reshape(-1, row_length(x, axes))
        run_rows(normalize_rows, rows, float(eps), x_hat.reshape(rows.shape), inv_std.reshape(-1))
    return x_hat, (x_hat, inv_std.reshape(*heads, *[1] * len(axes)), axes)


def in_rows(dx_hat, saved, needs):
    x_hat, inv_std, axes = saved
    return floats(dx_hat, x_hat, inv_std) and row_length(x_hat, axes) > 0


@override("normalize_backward", "cpu", when=in_rows)
def normalize_backward(dx_hat, saved, needs):
    x_hat, inv_std, axes = saved
    inv_std = contiguous(inv_std)
    if has_groups_last(x_hat, axes):
        dx, target = empty_images(x_hat)
        groups, size = inv_std.reshape(x_hat.shape[:2]), x_hat.shape[2]
        args = pixels(dx_hat), pixels(x_hat), groups, size, target
        threads.run_over(dx.size, normalize_backward_images, len(dx), *args)
        return (dx,)
    rows, x_rows = (contiguous(a).reshape(-1, row_length(x_hat, axes)) for a in (dx_hat, x_hat))
    dx = empty(rows.shape, rows.dtype)
    run_rows(normalize_backward_rows, rows, x_rows, inv_std.reshape(-1), dx)
    return (dx.reshape(dx_hat.shape),)
