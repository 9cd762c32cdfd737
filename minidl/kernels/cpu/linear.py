"""Matrix products through the micro-kernel: the same bits whatever the number of threads."""

import math

import numpy as np

from minidl.kernels import override, threads
from minidl.kernels.cpu.jit import jit
from minidl.kernels.cpu.layout import floats
from minidl.kernels.cpu.micro import product

BLOCK = 32  # rows of the result per task
RUN = 256  # terms that are summed in the dtype of the operands; longer sums are added up from runs in float64


@jit
def multiply(start, stop, a, rs, cs, b, c):
    """Rows of C (M, N) = A B for blocks start..stop: A[p, k] at p rs + k cs of flat a, B (K, N)."""
    (M, N), K = c.shape, b.shape[0]
    b_flat = b.reshape(-1)
    for first in range(start * BLOCK, min(stop * BLOCK, M), BLOCK):
        rows = min(BLOCK, M - first)
        if K <= RUN:
            product(rows, N, a, first * rs, rs, 0, cs, b_flat, 0, 0, N, c.reshape(-1), first * N, N, 1, K, 0)
            continue
        run, total = np.empty((rows, N), c.dtype), np.zeros((rows, N))
        for k in range(0, K, RUN):
            length = min(RUN, K - k)
            product(
                rows, N, a, first * rs + k * cs, rs, 0, cs, b_flat, k * N, 0, N, run.reshape(-1), 0, N, 1, length, 0
            )
            total += run
        c[first : first + rows] = total


def matrix_product(a, b, transposed=False):
    """a b, or aᵀ b, for contiguous matrices."""
    rs, cs = (1, a.shape[1]) if transposed else (a.shape[1], 1)
    M = a.shape[1] if transposed else a.shape[0]
    c = np.empty((M, b.shape[1]), a.dtype)
    threads.run(multiply, -(-M // BLOCK), a.reshape(-1), rs, cs, b, c)
    return c


def matrix(x):
    """x (..., K) as a contiguous matrix."""
    return np.ascontiguousarray(x).reshape(-1, x.shape[-1])


@override("linear_forward", "cpu", when=lambda x, weight, bias: floats(x, weight, bias))
def linear_forward(x, weight, bias):
    y = matrix_product(matrix(x), np.ascontiguousarray(weight.T))
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], weight.shape[0]), (x, weight)


@override("linear_backward", "cpu", when=lambda dy, saved, needs: floats(dy, *saved))
def linear_backward(dy, saved, needs):
    x, weight = saved
    rows = matrix(dy)
    dx = matrix_product(rows, np.ascontiguousarray(weight)).reshape(x.shape) if needs[0] else None
    dweight = matrix_product(rows, matrix(x), transposed=True) if needs[1] else None
    dbias = rows.sum(axis=0, dtype=np.float64).astype(dy.dtype) if needs[2] else None
    return dx, dweight, dbias


@override("matmul_forward", "cpu", when=lambda x, w: w.ndim == 2 and x.ndim >= 2 and floats(x, w))
def matmul_forward(x, w):
    y = matrix_product(matrix(x), np.ascontiguousarray(w))
    return y.reshape(*x.shape[:-1], math.prod(w.shape[1:])), (x, w)
