"""Sums over the rows (m, C) of contiguous channels, in float64, whatever the number of threads.

Each of a fixed number of blocks of rows has a partial sum of its own.
"""

import numpy as np

from minidl.kernels import threads
from minidl.kernels.cpu.jit import jit
from minidl.kernels.cpu.launch import job_of, share_out

__all__ = ["BLOCKS", "RUN", "column_sums", "join", "sums_over_rows"]

BLOCKS = 64  # partial sums
RUN = 32  # rows that are summed in the dtype of x before they are added in float64
JOINED = 256  # numbers in a row: narrower ones are joined, so that the inner loops are long


def join(*arrays):
    """Rows (m, C) as fewer rows of `repeats` times as many channels, and parameters (C,) repeated to that length."""
    m, C = arrays[0].shape
    repeats = max(1, min(m, JOINED // C))
    while m % repeats:
        repeats -= 1
    return repeats, [a.reshape(m // repeats, repeats * C) if a.ndim == 2 else repeated(a, repeats) for a in arrays]


def repeated(v, repeats):
    """v (C,) so many times (np.tile takes longer than the kernels of a small layer)."""
    copies = np.empty((repeats, len(v)), v.dtype)
    copies[:] = v
    return copies.reshape(-1)


def sums_over_rows(kernel, x, shift, dy=None, *others):
    """Run a summing kernel over rows x, and dy if there is one; the two sums (C,) in float64."""
    repeats, (x, shift, *joined) = join(x, shift, *([] if dy is None else [dy]))
    first, second = np.zeros((2, BLOCKS, x.shape[1]))
    threads.run_over(x.size, kernel, BLOCKS, x, shift, first, second, *joined, *others)
    return (s.reshape(BLOCKS * repeats, -1).sum(axis=0) for s in (first, second))


@jit
def totals(start, stop, crew, x, sums):
    """Σ x for blocks start..stop."""
    if crew:
        return share_out(job_of(start, stop), crew)
    m, C = x.shape
    s = np.empty(C, x.dtype)
    for t in range(start, stop):
        for first in range(m * t // BLOCKS, m * (t + 1) // BLOCKS, RUN):
            s[:] = 0
            for i in range(first, min(first + RUN, m * (t + 1) // BLOCKS)):
                for c in range(C):
                    s[c] += x[i, c]
            for c in range(C):
                sums[t, c] += s[c]


def column_sums(x):
    """Σ over the rows of x (m, C), in the dtype of x."""
    repeats, (joined,) = join(x)
    sums = np.zeros((BLOCKS, joined.shape[1]))
    threads.run_over(x.size, totals, BLOCKS, joined, sums)
    return sums.reshape(BLOCKS * repeats, -1).sum(axis=0).astype(x.dtype)
