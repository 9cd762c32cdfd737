"""What `minidl.study.distribution` needs of many numbers, in one pass each."""

import numpy as np

from minidl.kernels.cpu.jit import jit
from minidl.kernels.cpu.launch import job_of, share_out

__all__ = ["BLOCKS", "count", "sum_up"]

BLOCKS = 16  # partial sums, a fixed number so that sums do not depend on the number of threads


@jit
def sum_up(start, stop, crew, x, shift, sums, ends):
    """Σ d and Σ d², d = x - shift, of blocks start..stop of rows x (m, C); the least and largest x of each column."""
    if crew:
        return share_out(job_of(start, stop), crew)
    m, C = x.shape
    s, q = np.zeros((2, C))  # in float64, so that squares neither overflow nor vanish
    for t in range(start, stop):
        low, high = ends[t, 0], ends[t, 1]
        for i in range(m * t // BLOCKS, m * (t + 1) // BLOCKS):
            row = x[i]
            for c in range(C):
                v = row[c]
                d = np.float64(v - shift)
                s[c] += d
                q[c] += d * d
                low[c] = v if v < low[c] else low[c]  # never NaN
                high[c] = v if v > high[c] else high[c]
        for c in range(C):
            sums[t, 0] += s[c]
            sums[t, 1] += q[c]
            s[c] = q[c] = 0


@jit
def count(bits, counts):
    """counts[bucket] += 1 for each number; larger numbers have larger buckets."""
    for b in bits:
        counts[(b ^ (0xFFFFFFFF if b >> 31 else 0x80000000)) >> 16] += 1
