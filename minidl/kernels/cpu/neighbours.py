"""Convolutions with few channels out: neighbouring pixels are computed together, so that they fill a vector.

Three channels of four pixels beside each other are twelve channels of one pixel, whose window is three columns wider
and moves by four. Each output has its own taps in it, and zeros elsewhere: their products cost less than lanes that
stay empty. (An infinite pixel makes NaN of them, as anywhere in a tile of Winograd's.)
"""

import numpy as np

from minidl.kernels.cpu.jit import VECTOR_BYTES

__all__ = ["banded", "fits", "widened"]

FEW = 512  # outputs, in which little is to be gained


def count_of(window, dtype, OC):
    """The most pixels that fit into a vector and divide a row of outputs."""
    most = max(1, VECTOR_BYTES // dtype.itemsize // OC)
    return max(count for count in range(1, most + 1) if window.output[1] % count == 0)


def fits(window, groups, dtype, N, OC):
    """Whether this way serves, and is the faster one."""
    if N * window.output[0] * window.output[1] < FEW:
        return False
    return groups == 1 and dtype == np.float32 and window.dilation[1] == 1 and count_of(window, dtype, OC) > 1


def banded(weight, window):
    """Weights (OC, C, KH, KW) of all pixels computed together, (count OC, C, KH, wider), each in its place."""
    (OC, C, KH, KW), step = weight.shape, window.stride[1]
    count = count_of(window, weight.dtype, OC)
    wide = np.zeros((count, OC, C, KH, KW + (count - 1) * step), weight.dtype)
    for i in range(count):
        wide[i, ..., i * step : i * step + KW] = weight
    return wide.reshape(count * OC, *wide.shape[2:])


def widened(window, columns):
    """The windows of the convolution with `banded` weights so many columns wide."""
    (KH, KW), (SH, SW), (OH, OW) = window.kernel_size, window.stride, window.output
    count = (columns - KW) // SW + 1
    return window._replace(kernel_size=(KH, columns), stride=(SH, count * SW), output=(OH, OW // count))
