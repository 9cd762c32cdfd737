"""One convolution computed four ways: the same numbers, at very different speed.

1. seven loops: the definition, y[n, o, h, w] = Σ_{c,i,j} x[n, c, h s + i - p, w s + j - p] W[o, c, i, j]
2. im2col times matrix: windows as columns, one product (minidl.ops.conv)
3. implicit im2col: the SIMD micro-kernel walks the windows in place (minidl.kernels.cpu.conv)
4. Winograd: F(4x4, 3x3) or F(2x2, 5x5), fewer multiplications (minidl.kernels.cpu.winograd)
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl.kernels import use_kernels
from minidl.kernels.algorithms import set_conv_algorithm
from minidl.nn import functional as F
from minidl.nn.geometry import as_pair
from minidl.study.table import Table
from minidl.tensor import Tensor

__all__ = ["ConvolutionWays", "Way", "convolve_four_ways", "seven_loops"]


def seven_loops(x: np.ndarray, weight: np.ndarray, stride: Any = 1, padding: Any = 0) -> np.ndarray:
    """Correlate x (N, C, H, W) with weight (OC, C, KH, KW) by the definition: y (N, OC, OH, OW), summed in float64."""
    (N, C, H, W), (OC, _, KH, KW) = x.shape, weight.shape
    (SH, SW), (PH, PW) = as_pair("seven_loops", "stride", stride, 1), as_pair("seven_loops", "padding", padding, 0)
    OH, OW = (H + 2 * PH - KH) // SH + 1, (W + 2 * PW - KW) // SW + 1
    y = np.zeros((N, OC, OH, OW))
    for n in range(N):
        for o in range(OC):
            for h in range(OH):
                for w in range(OW):
                    for c in range(C):
                        for i in range(KH):
                            for j in range(KW):
                                row, column = h * SH + i - PH, w * SW + j - PW
                                if 0 <= row < H and 0 <= column < W:
                                    y[n, o, h, w] += float(x[n, c, row, column]) * float(weight[o, c, i, j])
    return y


@dataclass(frozen=True)
class Way:
    """One way to convolve: what it computed, how long it took (median), and how far it is from seven loops."""

    name: str
    y: np.ndarray
    milliseconds: float
    difference: float  # largest, relative to the largest output


class ConvolutionWays(tuple[Way, ...]):
    """The ways that fit a convolution, the definition first; printed as a table."""

    multiply_adds: int = 0

    def table(self) -> Table:
        """The comparison as a table."""
        rows = [
            (
                way.name,
                f"{way.milliseconds:.3g}",
                f"{self[0].milliseconds / way.milliseconds:,.0f}",
                f"{2e-6 * self.multiply_adds / way.milliseconds:.3g}",
                f"{way.difference:.1e}",
            )
            for way in self
        ]
        return Table(("way", ">ms", ">times as fast", ">GFLOP/s", ">largest difference"), rows)

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def convolve_four_ways(x: Any, weight: Any, stride: Any = 1, padding: Any = 0, repeats: int = 5) -> ConvolutionWays:
    """Compute one convolution by seven loops, im2col, the SIMD kernel and Winograd; compare the numbers and the times.

    Winograd is left out where it does not apply (see `minidl.set_conv_algorithm`). Seven loops take about a second for
    a million multiply-adds: keep x small.

    Args:
        x: images (N, C, H, W), float32 or float64. weight: (OC, C, KH, KW), of the same dtype.
        stride, padding: pixels, a number or (vertical, horizontal).
        repeats: runs of each way but the loops; the median counts, and the first, which compiles, does not.

    Raises:
        ValueError, TypeError: as `minidl.nn.functional.conv2d`.
    """
    x, weight = (v.detach().numpy() if isinstance(v, Tensor) else np.asarray(v) for v in (x, weight))

    def convolved() -> np.ndarray:
        return F.conv2d(x, weight, None, stride, padding)

    def text() -> np.ndarray:
        with use_kernels(False):
            return convolved()

    def by(algorithm: str) -> Callable[[], np.ndarray]:
        def run() -> np.ndarray:
            with set_conv_algorithm(algorithm):
                return convolved()

        return run

    text()  # checks the arguments before the loops begin
    start = time.perf_counter()
    exact = seven_loops(x, weight, stride, padding)
    ways = [Way("seven loops", exact, 1e3 * (time.perf_counter() - start), 0.0)]
    candidates = {"im2col times matrix": text, "implicit im2col, SIMD": by("direct"), "Winograd": by("winograd")}
    largest = max(float(np.abs(exact).max(initial=0.0)), np.finfo(float).tiny)
    for name, run in candidates.items():
        y, times = run(), []
        if name == "Winograd" and np.array_equal(y, ways[-1].y):
            continue  # it fell back to the way before
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            times.append(1e3 * (time.perf_counter() - start))
        ways.append(Way(name, y, float(np.median(times)), float(np.abs(y - exact).max(initial=0.0)) / largest))
    result = ConvolutionWays(ways)
    result.multiply_adds = exact.size * int(np.prod(weight.shape[1:]))
    return result
