"""Windows sliding over an image: im2col (`unfold`) and its adjoint, col2im (`fold`)."""

from typing import NamedTuple

import numpy as np

from minidl.kernels import kernel


class Window(NamedTuple):
    """Where windows sit: each entry is (vertical, horizontal), `output` counts the windows (OH, OW)."""

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    output: tuple[int, int]

    def taps(self):
        """For each kernel element (i, j), the rows and columns of the padded image that it meets."""
        (KH, KW), (SH, SW), (DH, DW), (OH, OW) = self.kernel_size, self.stride, self.dilation, self.output
        return [
            (slice(i * DH, i * DH + SH * (OH - 1) + 1, SH), slice(j * DW, j * DW + SW * (OW - 1) + 1, SW))
            for i in range(KH)
            for j in range(KW)
        ]

    def padded(self, H, W):
        """(before, after) padding of both axes: enough for the last window, also where it starts past the image."""
        return tuple(
            (p, max(p, s * (o - 1) + d * (k - 1) + 1 - extent - p))
            for k, s, p, d, o, extent in zip(*self, (H, W), strict=True)
        )


@kernel
def unfold(x, window, fill=0.0):
    """Lay out every window of x (N, C, H, W) as a column: (N, C, KH*KW, OH, OW); padding holds `fill`."""
    x_pad = np.pad(x, ((0, 0), (0, 0), *window.padded(*x.shape[2:])), constant_values=fill)
    return np.stack([x_pad[:, :, rows, columns] for rows, columns in window.taps()], axis=2)


@kernel
def fold(cols, window, size):
    """Add every column of `unfold` back to where it came from: (N, C, KH*KW, OH, OW) -> (N, C, *size)."""
    (top, bottom), (left, right) = window.padded(*size)
    H, W = size
    x_pad = np.zeros_like(cols, shape=(*cols.shape[:2], top + H + bottom, left + W + right))
    for tap, (rows, columns) in enumerate(window.taps()):
        x_pad[:, :, rows, columns] += cols[:, :, tap]
    return x_pad[:, :, top : top + H, left : left + W]


@kernel(cols="x[windows]")
def unfold_forward(x, *, window, fill=0.0):
    return unfold(x, window, fill), (window, x.shape[2:])


@kernel(dx="fold(dcols)")
def unfold_backward(dcols, saved, needs):
    window, size = saved
    return (fold(dcols, window, size),)


@kernel(x=r"\sum_{windows} cols")
def fold_forward(cols, *, window, size):
    return fold(cols, window, size), window


@kernel(dcols="unfold(dx)")
def fold_backward(dx, window, needs):
    return (unfold(dx, window),)
