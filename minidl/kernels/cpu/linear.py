"""Matrix products through the micro-kernel: the same bits whatever the number of threads.

The columns of b that the micro-kernel takes at a time, two vectors of them, are copied side by side first: into a panel
that stays in the L1 and L2 caches while the rows of a pass.
"""

from functools import lru_cache

import numpy as np

from minidl.kernels import override, threads
from minidl.kernels.buffers import empty
from minidl.kernels.cpu.copies import copy_rows, copy_transposed
from minidl.kernels.cpu.jit import VECTOR_BYTES, jit, routine
from minidl.kernels.cpu.launch import job_of, share_out
from minidl.kernels.cpu.layout import floats
from minidl.kernels.cpu.micro import product
from minidl.kernels.cpu.sums import column_sums
from minidl.kernels.tape import contiguous, do

ROWS = 128  # of the result per task, at most: their part of A stays in the L2 cache
FEW = 4  # rows, or terms, for which copying columns of b side by side takes longer than the products
COLUMNS = 1024  # of b at a time for a few rows
RUN = 256  # terms that are added one after the other; longer sums are added up from runs
SIDE = 4  # panels at a time; twice as many if rows of b are read in pieces, or a transposed A is copied for each group
PANELS = 32  # at a time for at most as many rows, for which b is read once: in pieces of pages
TERMS = 2048  # of all those panels
TASKS = 8  # wanted
LONG = 512  # terms of a sum that is worth parts
FLOPS = 16  # products in the time of passing over a number, sharing them out included


@routine
def copy_panels(b, first, ks, ns, length, columns, panels, width):
    """panels[(s length + k) width + q] = b[first + k ks + (s width + q) ns] for k < length, s width + q < columns.

    What vectors of the last panel hold behind the last column does not matter.
    """
    if ns != 1:
        for s in range(0, columns, width):
            copy_transposed(b, first + s * ns, ns, min(width, columns - s), length, panels[s * length :], width)
        return
    for k in range(length):
        for s in range(0, columns, width):
            here, there = b[first + k * ks + s :], panels[s * length + k * width :]
            if len(here) >= width:
                for q in range(2 * VECTOR_BYTES // b.itemsize):  # a constant, so that vectors are copied
                    there[q] = here[q]
            else:
                for q in range(len(here)):
                    there[q] = here[q]


@routine
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
def multiply(start, stop, crew, a, a_strides, b, b_strides, parts, K, rows, run, count):
    """parts[i] = the i-th part of the sum A (M, K) B (K, N), for tasks start..stop; parts (S, M, N).

    A task is a part of the sum, `count` panels of columns, and so many rows; it adds up `run` terms at a time. a and b
    are flat, with the strides of their rows and columns. A transposed A is copied by blocks, terms side by side.
    """
    if crew:
        return share_out(job_of(start, stop), crew)
    (rs, cs), (ks, ns), (S, M, N), c = a_strides, b_strides, parts.shape, parts.reshape(-1)
    width, lanes, heights = 2 * VECTOR_BYTES // c.itemsize, VECTOR_BYTES // c.itemsize, -(-M // rows)
    groups = -(-N // (count * width))
    panels, edge = np.empty(count * run * width, c.dtype), np.empty(ROWS * width, c.dtype)
    block = np.empty(0 if cs == 1 else run * ROWS, c.dtype)
    (left, row, term) = (a, rs, 1) if cs == 1 else (block, 1, ROWS)
    for task in range(start, stop):
        group, height = divmod(task % (groups * heights), heights)
        part, begin = task // (groups * heights), group * count * width
        end, columns, first_k = min(M, (height + 1) * rows), min(count * width, N - begin), K * part // S
        for k in range(first_k, K * (part + 1) // S, run):
            length = min(run, K * (part + 1) // S - k)
            copy_panels(b, k * ks + begin * ns, ks, ns, length, columns, panels, width)
            for first in range(height * rows, end, ROWS):
                tall, ia = min(ROWS, end - first), first * rs + k * cs
                if cs != 1:
                    copy_rows(a, ia, cs, block, 0, ROWS, length, tall)
                    ia = 0
                for s in range(0, columns, width):
                    here, ib, ic = min(width, columns - s), s * length, (part * M + first) * N + begin + s
                    whole = k == first_k and here % lanes == 0
                    target, it, step = (c, ic, N) if whole else (edge, 0, width)
                    wide = -(-here // lanes) * lanes
                    product(tall, wide, left, ia, row, 0, term, panels, ib, 0, width, target, it, step, 1, length, 0)
                    if not whole:
                        add_rows(tall, here, edge, width, c, ic, N, k > first_k)


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


@jit
def multiply_few_terms(start, stop, crew, a, b, c):
    """C (M, N) = A (M, K) B (K, N) for few terms and rows start..stop of A, each written once."""
    if crew:
        return share_out(job_of(start, stop), crew)
    zero = c.dtype.type(0)
    for p in range(start, stop):
        row = c[p]
        for k in range(len(b)):
            factor, there = a[p, k], b[k]
            for q in range(len(row)):
                row[q] = factor * there[q] + (row[q] if k > 0 else zero)


def matrix_product(a, b):
    """a b for matrices that are contiguous, or are the transpose of one that is."""
    (M, K), N = a.shape, b.shape[1]
    a_rows, b_rows = a.flags.c_contiguous, b.flags.c_contiguous
    if not (M <= FEW and a_rows or K <= FEW and b_rows):
        return product_by_panels(a, b, a_rows, b_rows)
    c = empty((M, N), a.dtype)
    if not (M <= FEW and a_rows):
        threads.run_over(c.size, multiply_few_terms, M, a, b, c)
    elif b_rows:
        threads.run_over(b.size, multiply_rows, -(-N // COLUMNS), a, b, c)
    else:
        threads.run_over(b.size, multiply_by_columns, N, a, b.T, c)
    return c


@lru_cache(4096)
def plan(M, N, K, itemsize, a_rows, b_rows):
    """(parts of the sum, tasks, rows, run, count) of `multiply`."""
    panels = -(-N * itemsize // (2 * VECTOR_BYTES))
    rows = min(ROWS, max(ROWS // 2, -(-M * panels // (8 * TASKS)) * 8))
    heights = -(-M // rows)
    most = PANELS if b_rows and M <= PANELS else SIDE if a_rows and not b_rows else 2 * SIDE
    count = max(1, min(most, 2 * panels * heights // TASKS))
    tasks = -(-panels // count) * heights
    parts = max(1, min(TASKS // tasks, K // LONG))
    return parts, parts * tasks, rows, min(K, RUN, TERMS // count), count


def product_by_panels(a, b, a_rows, b_rows):
    """a b, given whether these are contiguous or else their transposes are."""
    (M, K), N = a.shape, b.shape[1]
    S, tasks, rows, run, count = plan(M, N, K, a.itemsize, a_rows, b_rows)
    parts = empty((S, M, N), a.dtype)
    left, a_strides = (a, (K, 1)) if a_rows else (a.T, (1, M))
    right, b_strides = (b, (N, 1)) if b_rows else (b.T, (1, K))
    operands = left.reshape(-1), a_strides, right.reshape(-1), b_strides
    threads.run_over(M * N * K // FLOPS, multiply, tasks, *operands, parts, K, rows, run, count)
    if S == 1:
        return parts[0]
    c = empty((M, N), a.dtype)
    do(np.add.reduce, parts, 0, None, c)
    return c


def compact(w):
    """The matrix w, copied if neither it nor its transpose is contiguous."""
    return w if w.flags.forc else contiguous(w)


def matrix(x):
    """x (..., K) as a contiguous matrix."""
    return contiguous(x).reshape(-1, x.shape[-1])


@override("linear_forward", "cpu", when=lambda x, weight, bias: floats(x, weight, bias))
def linear_forward(x, weight, bias):
    y = matrix_product(matrix(x), compact(weight).T)
    if bias is not None:
        do(np.add, y, bias, y)
    return y.reshape(*x.shape[:-1], weight.shape[0]), (x, weight)


@override("linear_backward", "cpu", when=lambda dy, saved, needs: floats(dy, *saved))
def linear_backward(dy, saved, needs):
    x, weight = saved
    rows = matrix(dy)
    dx = matrix_product(rows, compact(weight)).reshape(x.shape) if needs[0] else None
    dweight = matrix_product(rows.T, matrix(x)) if needs[1] else None
    dbias = column_sums(rows) if needs[2] else None
    return dx, dweight, dbias


def is_matrix_product(x, w, *more):
    return w.ndim == 2 and x.ndim >= 2 and floats(x, w, *more)


@override("matmul_forward", "cpu", when=is_matrix_product)
def matmul_forward(x, w):
    if x.ndim == 2:
        return matrix_product(compact(x), compact(w)), (x, w)
    return matrix_product(matrix(x), compact(w)).reshape(*x.shape[:-1], w.shape[1]), (x, w)


@override("matmul_backward", "cpu", when=lambda dy, saved, needs: is_matrix_product(*saved, dy))
def matmul_backward(dy, saved, needs):
    x, w = saved
    rows = matrix(dy)
    dx = matrix_product(rows, compact(w).T).reshape(x.shape) if needs[0] else None
    dw = matrix_product(matrix(x).T, rows) if needs[1] else None
    return dx, dw
