"""Matrix products through the micro-kernel: the same bits whatever the number of threads.

The columns of b that the micro-kernel takes at a time, two vectors of them, are copied side by side first: into a panel
that stays in the L1 and L2 caches while the rows of a pass.
"""

import math

import numpy as np

from minidl.kernels import override, threads
from minidl.kernels.buffers import empty
from minidl.kernels.cpu.jit import VECTOR_BYTES, jit
from minidl.kernels.cpu.launch import job_of, share_out
from minidl.kernels.cpu.layout import floats
from minidl.kernels.cpu.micro import product
from minidl.kernels.cpu.sums import column_sums
from minidl.kernels.cpu.transpose import copy_transposed

ROWS = 128  # of the result per task: their part of A stays in the L2 cache
BLOCK = 64  # rows of the result at a time
FEW = 4  # rows, for which copying columns of b side by side takes longer than the products
COLUMNS = 1024  # of b at a time for a few rows
RUN = 256  # terms that are added one after the other; longer sums are added up from runs


@jit
def copy_panel(b, first, ks, ns, length, columns, panel, width):
    """panel[k width + q] = b[first + k ks + q ns] for k < length, q < columns, and 0 up to a whole vector."""
    if ns == 1:
        for k in range(length):
            here, there = b[first + k * ks :], panel[k * width :]
            for q in range(columns):
                there[q] = here[q]
    else:
        copy_transposed(b, first, ns, columns, length, panel, width)
    for q in range(columns, whole(columns, b.itemsize)):
        for k in range(length):
            panel[k * width + q] = 0


@jit
def whole(columns, itemsize):
    """The columns of vectors that hold so many columns."""
    lanes = VECTOR_BYTES // itemsize
    return -(-columns // lanes) * lanes


@jit
def add_rows(rows, columns, block, width, c, first, stride, begun):
    """c[first + p stride + q] = block[p width + q], added to what is there if begun."""
    for p in range(rows):
        here, there = block[p * width :], c[first + p * stride :]
        if begun:
            for q in range(columns):
                there[q] += here[q]
        else:
            for q in range(columns):
                there[q] = here[q]


@jit
def multiply(start, stop, crew, a, a_strides, b, b_strides, c, K):
    """C (M, N) = A (M, K) B (K, N) for tasks start..stop of panels of columns * blocks of ROWS rows.

    a and b are flat, with the strides of their rows and columns.
    """
    if crew:
        return share_out(job_of(start, stop), crew)
    (rs, cs), (ks, ns), (M, N), out = a_strides, b_strides, c.shape, c.reshape(-1)
    width = 2 * VECTOR_BYTES // c.itemsize
    panel, block, parts = np.empty(min(K, RUN) * width, c.dtype), np.empty(BLOCK * width, c.dtype), -(-M // ROWS)
    for task in range(start, stop):
        j, part = divmod(task, parts)
        begin, columns, end = j * width, min(width, N - j * width), min(M, (part + 1) * ROWS)
        vectors = whole(columns, c.itemsize)
        for k in range(0, K, RUN):
            length = min(RUN, K - k)
            copy_panel(b, k * ks + begin * ns, ks, ns, length, columns, panel, width)
            for first in range(part * ROWS, end, BLOCK):
                rows, ia, ic = min(BLOCK, end - first), first * rs + k * cs, first * N + begin
                if k == 0 and columns == vectors:
                    product(rows, columns, a, ia, rs, 0, cs, panel, 0, 0, width, out, ic, N, 1, length, 0)
                else:
                    product(rows, vectors, a, ia, rs, 0, cs, panel, 0, 0, width, block, 0, width, 1, length, 0)
                    add_rows(rows, columns, block, width, out, ic, N, k)


@jit
def multiply_rows(start, stop, crew, a, b, c):
    """C (M, N) = A (M, K) B (K, N) for a few rows and blocks start..stop of columns of B, each read once."""
    if crew:
        return share_out(job_of(start, stop), crew)
    (M, K), N = a.shape, b.shape[1]
    total, zero = np.empty(COLUMNS, c.dtype), c.dtype.type(0)
    for task in range(start, stop):
        begin, columns = task * COLUMNS, min(COLUMNS, N - task * COLUMNS)
        for k in range(0, K, RUN):
            for p in range(M):
                total[:] = zero
                for r in range(k, min(k + RUN, K)):
                    factor, row = a[p, r], b[r, begin:]
                    for q in range(columns):
                        total[q] += factor * row[q]
                there = c[p, begin:]
                for q in range(columns):
                    there[q] = total[q] + (there[q] if k > 0 else zero)


@jit
def multiply_by_columns(start, stop, crew, a, columns, c):
    """C (M, N) = A (M, K) B (K, N) for a few rows and columns start..stop of B, which are rows of `columns` (N, K)."""
    if crew:
        return share_out(job_of(start, stop), crew)
    for n in range(start, stop):
        column = columns[n]
        for p in range(len(a)):
            row, total = a[p], c.dtype.type(0)
            for k in range(len(column)):
                total += row[k] * column[k]
            c[p, n] = total


def matrix_product(a, b):
    """a b for matrices that are contiguous, or are the transpose of one that is."""
    (M, K), N = a.shape, b.shape[1]
    c = empty((M, N), a.dtype)
    if M <= FEW and a.flags.c_contiguous and b.flags.c_contiguous:
        threads.run_over(b.size, multiply_rows, -(-N // COLUMNS), a, b, c)
    elif M <= FEW and a.flags.c_contiguous:
        threads.run_over(b.size, multiply_by_columns, N, a, b.T, c)
    else:
        operands = [part for m in (a, b) for part in (m.ravel("K"), tuple(s // m.itemsize for s in m.strides))]
        panels = -(-N * c.itemsize // (2 * VECTOR_BYTES))
        threads.run_over(M * N * K, multiply, panels * -(-M // ROWS), *operands, c, K)
    return c


def contiguous(w):
    """The matrix w, copied if neither it nor its transpose is contiguous."""
    return w if w.flags.forc else np.ascontiguousarray(w)


def matrix(x):
    """x (..., K) as a contiguous matrix."""
    return np.ascontiguousarray(x).reshape(-1, x.shape[-1])


@override("linear_forward", "cpu", when=lambda x, weight, bias: floats(x, weight, bias))
def linear_forward(x, weight, bias):
    y = matrix_product(matrix(x), contiguous(weight).T)
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], weight.shape[0]), (x, weight)


@override("linear_backward", "cpu", when=lambda dy, saved, needs: floats(dy, *saved))
def linear_backward(dy, saved, needs):
    x, weight = saved
    rows = matrix(dy)
    dx = matrix_product(rows, contiguous(weight)).reshape(x.shape) if needs[0] else None
    dweight = matrix_product(rows.T, matrix(x)) if needs[1] else None
    dbias = column_sums(rows) if needs[2] else None
    return dx, dweight, dbias


@override("matmul_forward", "cpu", when=lambda x, w: w.ndim == 2 and x.ndim >= 2 and floats(x, w))
def matmul_forward(x, w):
    y = matrix_product(matrix(x), contiguous(w))
    return y.reshape(*x.shape[:-1], math.prod(w.shape[1:])), (x, w)
