"""The distribution of many numbers, as they stream by: how many of them begin with the same bits.

Read as integers, the bits of positive floating-point numbers are in the order of their sizes. The first 16 of 32 are
the sign, the exponent and seven digits: 65,536 buckets, none wider than 1/128 of its numbers. Nothing is sorted or
kept, so that a million numbers cost milliseconds.
"""

import numpy as np

from minidl.kernels import threads

__all__ = ["Distribution"]

BUCKETS = 1 << 16
FINITE = slice(0x80, BUCKETS - 0x80)  # what is outside begins like an infinity or NaN
ZERO = 1 << 15  # the bucket of 0
SIGN = np.uint32(1 << 31)
COUNTED = 1 << 17  # numbers, in rows evenly spaced, that quantiles and histograms are made of


def edge(bucket):
    """The smallest number of a bucket."""
    begin = np.asarray(bucket, np.uint32) << np.uint32(16)
    return np.where(begin & SIGN, begin ^ SIGN, ~begin).view(np.float32).astype(np.float64)


class Distribution:
    """What is kept of numbers that come in rows (m, C): e.g. pixels of channels.

    Attributes:
        mean, std, norm: of all numbers; not finite if one of them is not.
        dead: the fraction of columns that are 0 in all rows.
        low, high: the smallest and the largest number; where that is infinite, about the last finite one; 0 if there
            is none.
    """

    def __init__(self, rows: np.ndarray):
        from minidl.kernels.cpu.distribution import BLOCKS, count, sum_up
        from minidl.kernels.cpu.sums import join

        x = np.ascontiguousarray(rows, None if rows.dtype == np.float64 else np.float32)
        C, joined = x.shape[1], join(x)
        sample = x[:: max(1, -(-x.size // COUNTED))]
        shift = sample.dtype.type(sample.mean(dtype=np.float64))
        shift = shift if np.isfinite(shift) else sample.dtype.type(0)
        sums, ends = np.zeros((BLOCKS, 2)), np.empty((BLOCKS, 2, joined.shape[1]), x.dtype)
        ends[:, 0], ends[:, 1] = np.inf, -np.inf
        threads.run_over(x.size, sum_up, BLOCKS, joined, shift, sums, ends)
        mean, square = sums.sum(axis=0) / x.size  # of the differences from the shift
        self.mean, self.std = float(shift + mean), float(np.sqrt(np.maximum(square - mean**2, 0)))
        self.norm = float(np.sqrt(x.size * np.maximum(square + 2 * shift * mean + float(shift) ** 2, 0)))
        low, high = ends[:, 0].reshape(-1, C).min(axis=0), ends[:, 1].reshape(-1, C).max(axis=0)
        self.dead = float(np.mean((low == 0) & (high == 0)))
        center = shift if self.std < abs(self.mean) else shift * 0
        counts = np.zeros(BUCKETS, np.int32)
        count((sample - center).astype(np.float32, copy=False).reshape(-1).view(np.uint32), counts)
        found = np.flatnonzero(counts[FINITE]) + FINITE.start
        if not len(found):
            found, counts[ZERO] = np.array([ZERO]), len(sample)
        edges = np.stack([edge(found), edge(found + 1)])
        edges[:, found == ZERO] = 0
        edges += center
        self.low, self.high = (
            float(end) if np.isfinite(end) else float(nearest)
            for end, nearest in ((low.min(), edges[0, 0]), (high.max(), edges[1, -1]))
        )
        self._counts, self._edges = counts[found], np.clip(edges, self.low, self.high)

    def quantiles(self, fractions: np.ndarray) -> np.ndarray:
        """The numbers at these fractions of the finite ones in order; 0 and 1 give the ends.

        Within 1/128 of the number, or, where the mean is larger than the deviation, of its distance from the mean.
        """
        fractions, after = np.asarray(fractions), np.cumsum(self._counts)
        place = np.rint(fractions * (after[-1] - 1))
        bucket = np.searchsorted(after, place, side="right")
        inside = (place - (after - self._counts)[bucket] + 0.5) / self._counts[bucket]
        below, above = self._edges[:, bucket]
        values = below + inside * (above - below)
        return np.where(fractions == 0, self.low, np.where(fractions == 1, self.high, values))

    def histogram(self, bins: int) -> tuple[np.ndarray, tuple[float, float]]:
        """How many of the finite numbers are in each of so many bins of one width, and where these begin and end."""
        low, high = (self.low, self.high) if self.low < self.high else (self.low - 0.5, self.high + 0.5)
        after = np.cumsum(self._counts)
        below = np.stack([after - self._counts, after], 1).reshape(-1)
        within = np.interp(np.linspace(low, high, bins + 1)[1:-1], self._edges.T.reshape(-1), below)
        return np.diff(np.rint([0, *within, after[-1]]).astype(int)), (low, high)
