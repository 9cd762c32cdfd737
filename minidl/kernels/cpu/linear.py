"""Matrix products through the micro-kernel: the same bits whatever the number of threads.

One operand is packed in panels of the columns that the micro-kernel takes at a time, each contiguous: the smaller one,
as c = a b or cᵀ = bᵀ aᵀ.
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

BLOCK = 64  # rows of the result per task
RUN = 256  # terms that are summed in the dtype of the operands; longer sums are added up from runs in float64


@jit
def pack(start, stop, crew, b, panels):
    """Panels start..stop of b (K, N): panels (count, K, width); the last one is filled with zeros."""
    if crew:
        return share_out(job_of(start, stop), crew)
    (K, N), width = b.shape, panels.shape[2]
    for j in range(start, stop):
        columns = min(width, N - j * width)
        for first in range(0, K, 16):  # a cache line of b, whichever way it lies
            for q in range(columns):
                for k in range(first, min(first + 16, K)):
                    panels[j, k, q] = b[k, j * width + q]
        panels[j, :, columns:] = 0


@jit
def multiply(start, stop, crew, a, rs, cs, panels, c, transposed):
    """C (M, N), or its transpose, = A B for tasks start..stop of blocks of rows * panels: A[p, k] = a[p rs + k cs]."""
    if crew:
        return share_out(job_of(start, stop), crew)
    M, N = c.shape[::-1] if transposed else c.shape
    _, K, width = panels.shape
    b, out = panels.reshape(-1), c.reshape(-1)
    run, total = np.empty((BLOCK, width), c.dtype), np.empty((BLOCK, width))
    for task in range(start, stop):
        block, j = divmod(task, len(panels))  # the rows of a block stay in the cache while panels pass
        first, begin, columns = block * BLOCK, j * width, min(width, N - j * width)
        rows = min(BLOCK, M - first)
        if K <= RUN and not transposed:
            product(
                rows, columns, a, first * rs, rs, 0, cs, b, j * K * width, 0, width, out, first * N + begin, N, 1, K, 0
            )
            continue
        total[:rows] = 0
        for k in range(0, K, RUN):
            length = min(RUN, K - k)
            product(
                rows, columns, a, first * rs + k * cs, rs, 0, cs, b, (j * K + k) * width, 0, width,
                run.reshape(-1), 0, width, 1, length, 0,
            )  # fmt: skip
            for p in range(rows):
                for q in range(columns):
                    total[p, q] += run[p, q]
        if transposed:
            for q in range(columns):
                for p in range(rows):
                    c[begin + q, first + p] = total[p, q]
        else:
            for p in range(rows):
                for q in range(columns):
                    c[first + p, begin + q] = total[p, q]


def matrix_product(a, b):
    """a b for matrices that are contiguous, or are the transpose of one that is."""
    (M, K), N = a.shape, b.shape[1]
    if M * (K + N) < K * N:  # numbers to be moved
        return packed_product(b.T, packed(a.T), M, transposed=True)
    return packed_product(a, packed(b), N)


def packed(b):
    """The panels of a matrix b."""
    (K, N), width = b.shape, 2 * VECTOR_BYTES // b.itemsize
    panels = empty((-(-N // width), K, width), b.dtype)
    threads.run(pack, len(panels), b, panels)
    return panels


def packed_product(a, panels, N, transposed=False):
    """a b, or (a b)ᵀ, for a matrix b of N columns that is packed already."""
    M = len(a)
    c = empty((N, M) if transposed else (M, N), a.dtype)
    rs, cs = (s // a.itemsize for s in a.strides)
    flat = a.reshape(-1) if a.flags.c_contiguous else a.T.reshape(-1)
    threads.run(multiply, len(panels) * -(-M // BLOCK), flat, rs, cs, panels, c, transposed)
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
