"""Sums over the rows (m, C) of contiguous channels, in float64, whatever the number of threads.

Each of a fixed number of blocks of rows has a partial sum of its own.
"""

import math

import numpy as np
from numba import types
from numba.extending import intrinsic

from minidl.kernels import threads
from minidl.kernels.cpu.jit import jit
from minidl.kernels.cpu.launch import job_of, share_out
from minidl.kernels.cpu.signs import GROUP, passed
from minidl.kernels.cpu.vectors import I64, Emitter, Vector, data, loop

__all__ = ["BLOCKS", "RUN", "SPAN", "column_sums", "join", "sum_rows", "sums_over_rows"]

BLOCKS = 64  # partial sums
RUN = 32  # rows that are summed in the dtype of x before they are added in float64
JOINED = 256  # numbers in a row: narrower ones are joined, so that the inner loops are long
SPAN = 2 * GROUP  # channels whose sums stay in registers while rows pass


def join(*arrays, width=JOINED):
    """Rows (m, C) as fewer rows of `repeats` times as many channels, and parameters (C,) repeated to that length.

    Rows get about `width` numbers, a multiple of SPAN if m allows it.
    """
    m, C = arrays[0].shape
    unit = SPAN // math.gcd(C, SPAN)
    choices = [*range(max(1, width // C // unit) * unit, 0, -unit), *range(min(m, width // C), 1, -1)]
    repeats = next((r for r in choices if m % r == 0), 1)
    return repeats, [a.reshape(m // repeats, repeats * C) if a.ndim == 2 else repeated(a, repeats) for a in arrays]


def repeated(v, repeats):
    """v (C,) so many times (np.tile takes longer than the kernels of a small layer)."""
    copies = np.empty((repeats, len(v)), v.dtype)
    copies[:] = v
    return copies.reshape(-1)


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


def sums_over_rows(kernel, x, mean, dy=None, *signs):
    """Run a summing kernel over rows x, and dy if there is one; the two sums (C,) in float64."""
    repeats, (x, mean, *joined) = join(x, mean, *([] if dy is None else [dy]), width=SPAN)
    first, second = np.zeros((2, BLOCKS, x.shape[1]))
    threads.run_over(x.size, kernel, BLOCKS, x, mean, first, second, *joined, *signs)
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
