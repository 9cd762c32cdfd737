"""Normalisation over the last axes: layer norm, group norm and instance norm, row by row within the cache."""

import math

from minidl.kernels import override, threads
from minidl.kernels.buffers import empty
from minidl.kernels.cpu.jit import jit
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


def row_length(x, axes):
    """The numbers in a row that ends an array, or 0 if `axes` are not its last ones."""
    first = x.ndim - len(axes)
    return math.prod(x.shape[first:]) if sorted(a % x.ndim for a in axes) == [*range(first, x.ndim)] else 0


def run_rows(kernel, rows, *args):
    """Run a kernel over blocks of the rows (M, L)."""
    count = max(1, BLOCK // rows.shape[1])
    threads.run_over(rows.size, kernel, -(-len(rows) // count), rows, *args, count)


@override("normalize_forward", "cpu", when=lambda x, axes, eps: floats(x) and row_length(x, axes) > 0)
def normalize_forward(x, *, axes, eps):
    rows = contiguous(x).reshape(-1, row_length(x, axes))
    x_hat, inv_std = empty(rows.shape, x.dtype), empty((len(rows),), x.dtype)
    run_rows(normalize_rows, rows, float(eps), x_hat, inv_std)
    x_hat = x_hat.reshape(x.shape)
    return x_hat, (x_hat, inv_std.reshape(*x.shape[: x.ndim - len(axes)], *[1] * len(axes)), axes)


def in_rows(dx_hat, saved, needs):
    """Whether `normalize_forward` of this room made x_hat, or might have."""
    x_hat, inv_std, axes = saved
    return floats(dx_hat, x_hat, inv_std) and row_length(x_hat, axes) > 0


@override("normalize_backward", "cpu", when=in_rows)
def normalize_backward(dx_hat, saved, needs):
    x_hat, inv_std, axes = saved
    rows, x_rows = (contiguous(a).reshape(-1, row_length(x_hat, axes)) for a in (dx_hat, x_hat))
    dx = empty(rows.shape, rows.dtype)
    run_rows(normalize_backward_rows, rows, x_rows, contiguous(inv_std).reshape(-1), dx)
    return (dx.reshape(dx_hat.shape),)
