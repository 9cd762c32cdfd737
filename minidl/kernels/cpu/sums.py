"""Sums over the rows (m, C) of contiguous channels, in float64, whatever the number of threads.

Each of a fixed number of blocks of rows has a partial sum of its own.
"""

import math
from functools import lru_cache

import numpy as np
from numba import types
from numba.extending import intrinsic

from minidl.kernels import threads
from minidl.kernels.cpu.jit import jit, routine
from minidl.kernels.cpu.launch import job_of, share_out
from minidl.kernels.cpu.signs import GROUP, passed
from minidl.kernels.cpu.vectors import I64, Emitter, Vector, data, loop
from minidl.kernels.tape import compute

__all__ = ["BLOCKS", "RUN", "SPAN", "add_up", "column_sums", "join", "repeated", "sum_rows"]

BLOCKS = 64  # partial sums
RUN = 32  # rows that are summed in the dtype of x before they are added in float64
JOINED = 256  # numbers in a row: narrower ones are joined, so that the inner loops are long
SPAN = 2 * GROUP  # channels whose sums stay in registers while rows pass


@lru_cache(4096)
def row_width(m, C, width):
    """Numbers in a row when rows (m, C) are joined to longer ones: about `width`, a multiple of SPAN if m allows it."""
    unit = SPAN // math.gcd(C, SPAN)
    choices = [*range(max(1, width // C // unit) * unit, 0, -unit), *range(min(m, width // C), 1, -1)]
    return C * next((r for r in choices if m % r == 0), 1)


def join(x, width=JOINED):
    """Rows (m, C) as fewer and longer ones."""
    return x.reshape(-1, row_width(*x.shape, width))


@routine
def repeated(v, width):
    """v (C,) beside itself until it is as long as a joined row."""
    wide = np.empty(width, v.dtype)
    for first in range(0, width, len(v)):
        for c in range(len(v)):
            wide[first + c] = v[c]
    return wide


@routine
def add_up(sums, C):
    """The sums (k, C) over blocks and joined rows of partial sums (k, BLOCKS, width)."""
    total = np.zeros((len(sums), C))
    for k in range(len(sums)):
        for t in range(sums.shape[1]):
            for first in range(0, sums.shape[2], C):
                for c in range(C):
                    total[k, c] += sums[k, t, first + c]
    return total


@intrinsic
def sum_rows(typingctx, x, mean, dy, signs, i, rows, C, c, s, q):
    """s[c:], q[c:] = Σ d and Σ d (x - mean) of SPAN channels over rows x[i + c:], x[i + c + C:], ...

    d is x - mean, or dy (with signs: where they let it pass) if there is one.
    """

    def codegen(context, builder, signature, args):
        kinds = signature.args
        emitter = Emitter(builder, context.get_value_type(kinds[0].dtype), GROUP)
        x, mean, dy, signs, i, rows, C, c, s, q = args
        x, mean = data(context, builder, kinds[0], x), data(context, builder, kinds[1], mean, c)
        groups = range(0, SPAN, GROUP)
        means = [Vector(emitter, emitter.load(mean, I64(g))) for g in groups]
        begin = builder.add(i, c)

        def add_row(row, sums):
            place = builder.add(begin, builder.mul(row, C))
            sums, new = [Vector(emitter, value) for value in sums], []
            for k, g in enumerate(groups):
                here = builder.add(place, I64(g))
                centred = Vector(emitter, emitter.load(x, here)) - means[k]
                d = centred
                if kinds[2] != types.none:
                    d = Vector(emitter, emitter.load(data(context, builder, kinds[2], dy), here))
                if kinds[3] != types.none:
                    d = Vector(emitter, passed(emitter, d.value, data(context, builder, kinds[3], signs), here))
                new += [sums[2 * k] + d, sums[2 * k + 1] + d * centred]
            return [value.value for value in new]

        totals = loop(builder, rows, [emitter.zero] * (2 * len(groups)), add_row)
        for k, g in enumerate(groups):
            for array, kind, total in ((s, kinds[8], totals[2 * k]), (q, kinds[9], totals[2 * k + 1])):
                emitter.store(total, data(context, builder, kind, array, c), I64(g))
        return context.get_dummy_value()

    n = types.intp
    return types.void(x, mean, dy, signs, n, n, n, n, s, q), codegen


@jit
def totals(start, stop, crew, x, sums, y):
    """y = Σ x, from the sums of blocks start..stop."""
    if crew:
        share_out(job_of(start, stop), crew)
        total = add_up(sums, len(y))
        for c in range(len(y)):
            y[c] = total[0, c]
        return
    m, C = x.shape
    s = np.empty(C, x.dtype)
    for t in range(start, stop):
        for c in range(C):
            sums[0, t, c] = 0
        for first in range(m * t // BLOCKS, m * (t + 1) // BLOCKS, RUN):
            s[:] = 0
            for i in range(first, min(first + RUN, m * (t + 1) // BLOCKS)):
                for c in range(C):
                    s[c] += x[i, c]
            for c in range(C):
                sums[0, t, c] += s[c]


def column_sums_of_few(x):
    return x.sum(axis=0, dtype=np.float64).astype(x.dtype)


def column_sums(x):
    """Σ over the rows of x (m, C), in the dtype of x."""
    if x.size < threads.FEW:  # NumPy is as fast, and nothing has to be compiled before the first step
        return compute(column_sums_of_few, x)
    joined, y = join(x), np.empty(x.shape[1], x.dtype)
    threads.run_over(x.size, totals, BLOCKS, joined, np.empty((1, BLOCKS, joined.shape[1])), y)
    return y
