"""Convolution as a matrix product over windows (im2col).

With cols = unfold(x), one column of C/G * KH*KW numbers for each output pixel, and the weight as a matrix, per group:

    y     = W cols + b
    dW    = Σ_n dy colsᵀ
    dcols = Wᵀ dy,   dx = fold(dcols)
    db    = Σ_{n,h,w} dy
"""

import numpy as np

from minidl.kernels import kernel
from minidl.ops.linear import swap_last
from minidl.ops.windows import fold, unfold


@kernel(cols="unfold(x)", y=r"weight \, cols + bias")
def conv2d_forward(x, weight, bias, *, window, groups):
    """Correlate x (N, C, H, W) with weight (OC, C/groups, KH, KW), add bias (OC,) or None: y (N, OC, OH, OW)."""
    N, (OC, CG, KH, KW), (OH, OW) = x.shape[0], weight.shape, window.output
    cols = np.reshape(unfold(x, window), (N, groups, CG * KH * KW, OH * OW))
    y = np.reshape(weight, (groups, OC // groups, CG * KH * KW)) @ cols
    y = np.reshape(y, (N, OC, OH, OW))
    return y if bias is None else y + np.reshape(bias, (OC, 1, 1)), (x, weight, window, groups)


@kernel(dcols="weight^T dy", dx="fold(dcols)", dweight=r"\sum_{n} dy \, cols^T", dbias=r"\sum_{n,h,w} dy")
def conv2d_backward(dy, saved, needs):
    x, weight, window, groups = saved
    (N, C, H, W), (OC, CG, KH, KW), (OH, OW) = x.shape, weight.shape, window.output
    dy_matrix = np.reshape(dy, (N, groups, OC // groups, OH * OW))
    dx = dweight = dbias = None
    if needs[0]:
        dcols = swap_last(np.reshape(weight, (groups, OC // groups, CG * KH * KW))) @ dy_matrix
        dx = fold(np.reshape(dcols, (N, C, KH * KW, OH, OW)), window, (H, W))
    if needs[1]:
        cols = np.reshape(unfold(x, window), (N, groups, CG * KH * KW, OH * OW))
        dweight = np.reshape(np.sum(dy_matrix @ swap_last(cols), axis=0), weight.shape)
    if needs[2]:
        dbias = np.sum(dy, axis=(0, 2, 3))
    return dx, dweight, dbias
