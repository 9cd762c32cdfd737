"""Matrix products through the micro-kernel: the same bits whatever the number of threads.

The right operand is packed in panels of the columns that the micro-kernel takes at a time, each contiguous.
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
def multiply(start, stop, crew, a, rs, cs, panels, c, blocks):
    """C (M, N) = A B for tasks start..stop of panels * blocks of rows: A[p, k] at p rs + k cs of flat a."""
    if crew:
        return share_out(job_of(start, stop), crew)
    (M, N), (_, K, width) = c.shape, panels.shape
    b, out = panels.reshape(-1), c.reshape(-1)
    run, total = np.empty((BLOCK, width), c.dtype), np.empty((BLOCK, width))
    for task in range(start, stop):
        j, block = divmod(task, blocks)
        first, columns = block * BLOCK, min(width, N - j * width)
        rows = min(BLOCK, M - first)
        if K <= RUN:
            product(
                rows, columns, a, first * rs, rs, 0, cs, b, j * K * width, 0, width,
                out, first * N + j * width, N, 1, K, 0,
            )  # fmt: skip
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
        for p in range(rows):
            for q in range(columns):
                c[first + p, j * width + q] = total[p, q]


def matrix_product(a, b, transposed=False):
    """a b, or aᵀ b, for a contiguous matrix a and a matrix b of any strides."""
    (K, N), width = b.shape, 2 * VECTOR_BYTES // a.itemsize
    panels = empty((-(-N // width), K, width), a.dtype)
    threads.run(pack, len(panels), b, panels)
    return packed_product(a, panels, N, transposed)


def packed_product(a, panels, N, transposed=False):
    """As `matrix_product` for a matrix b of N columns that is packed already."""
    rs, cs = (1, a.shape[1]) if transposed else (a.shape[1], 1)
    M = a.shape[1] if transposed else a.shape[0]
    c, blocks = empty((M, N), a.dtype), -(-M // BLOCK)
    threads.run(multiply, len(panels) * blocks, a.reshape(-1), rs, cs, panels, c, blocks)
    return c


def matrix(x):
    """x (..., K) as a contiguous matrix."""
    return np.ascontiguousarray(x).reshape(-1, x.shape[-1])


@override("linear_forward", "cpu", when=lambda x, weight, bias: floats(x, weight, bias))
def linear_forward(x, weight, bias):
    y = matrix_product(matrix(x), weight.T)
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], weight.shape[0]), (x, weight)


@override("linear_backward", "cpu", when=lambda dy, saved, needs: floats(dy, *saved))
def linear_backward(dy, saved, needs):
    x, weight = saved
    rows = matrix(dy)
    dx = matrix_product(rows, weight).reshape(x.shape) if needs[0] else None
    dweight = matrix_product(rows, matrix(x), transposed=True) if needs[1] else None
    dbias = column_sums(rows) if needs[2] else None
    return dx, dweight, dbias


@override("matmul_forward", "cpu", when=lambda x, w: w.ndim == 2 and x.ndim >= 2 and floats(x, w))
def matmul_forward(x, w):
    y = matrix_product(matrix(x), w)
    return y.reshape(*x.shape[:-1], math.prod(w.shape[1:])), (x, w)
