"""What `minidl.study.distribution` needs of many numbers, in one pass each."""

import numpy as np

from minidl.kernels.cpu.jit import jit
from minidl.kernels.cpu.launch import job_of, share_out

__all__ = ["BLOCKS", "count", "sum_up"]

BLOCKS = 16  # partial sums, a fixed number so that sums do not depend on the number of threads


@jit
def sum_up(start, stop, crew, x, sums, ends, alive):
    """Σ x and Σ x², smallest and largest finite number, and which columns are not 0, of blocks start..stop of rows."""
    if crew:
        return share_out(job_of(start, stop), crew)
    (m, C), inf = x.shape, x.dtype.type(np.inf)
    for t in range(start, stop):
        for i in range(m * t // BLOCKS, m * (t + 1) // BLOCKS):
            row, first, second, low, high = x[i], 0.0, 0.0, inf, -inf
            for c in range(C):
                v = row[c]
                first += np.float64(v)
                second += np.float64(v) * np.float64(v)
                low = v if -inf < v < low else low
                high = v if high < v < inf else high
                alive[t, c] |= v != 0
            sums[t, 0] += first
            sums[t, 1] += second
            ends[t, 0], ends[t, 1] = min(ends[t, 0], low), max(ends[t, 1], high)


@jit
def count(bits, counts):
    """counts[bucket] += 1 for each number; larger numbers have larger buckets."""
    for b in bits:
        counts[(b ^ (0xFFFFFFFF if b >> 31 else 0x80000000)) >> 16] += 1
