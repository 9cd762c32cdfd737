"""The operations of networks as functions; on arrays they return arrays, on Tensors they are recorded.

Names, arguments and defaults are those of torch.nn.functional. Families of operations have files of their own, where
the layers made of them are too; here is what moves windows over images or multiplies by weights.
"""

import math
from typing import Any

from minidl import primitives as op
from minidl.autograd import differentiable
from minidl.nn import activations
from minidl.nn.activations import *  # noqa: F403
from minidl.nn.checks import batched, like_input, positive, require, require_4d
from minidl.nn.dropout import dropout, dropout2d
from minidl.nn.elementwise_losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    huber_loss,
    l1_loss,
    mse_loss,
    smooth_l1_loss,
)
from minidl.nn.geometry import as_pair, conv_window, sliding
from minidl.nn.losses import cross_entropy, kl_div, log_softmax, nll_loss, one_hot, softmax
from minidl.nn.norm import batch_norm, group_norm, layer_norm, local_response_norm
from minidl.nn.padding import pad
from minidl.nn.pooling import adaptive_avg_pool2d, adaptive_max_pool2d, avg_pool2d, max_pool2d
from minidl.nn.resampling import channel_shuffle, interpolate, pixel_shuffle, upsample
from minidl.ops import conv
from minidl.ops import linear as linear_ops
from minidl.ops.windows import Window

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "channel_shuffle",
    "conv2d",
    "conv_transpose2d",
    "cross_entropy",
    "dropout",
    "dropout2d",
    "fold",
    "group_norm",
    "huber_loss",
    "interpolate",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "linear",
    "local_response_norm",
    "log_softmax",
    "max_pool2d",
    "mse_loss",
    "nll_loss",
    "one_hot",
    "pad",
    "pixel_shuffle",
    "smooth_l1_loss",
    "softmax",
    "unfold",
    "upsample",
]
__all__ += activations.__all__

_conv2d = differentiable(conv.conv2d_forward, conv.conv2d_backward)
_linear = differentiable(linear_ops.linear_forward, linear_ops.linear_backward)


def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """Compute y = x Wᵀ + b.

    Args:
        x: (..., IN). weight: (OUT, IN). bias: (OUT,) or None.

    Returns:
        (..., OUT).

    Raises:
        ValueError, TypeError: shapes or dtypes that do not fit.
    """
    require("linear", x=x, weight=weight, bias=bias)
    if weight.ndim != 2:
        raise ValueError(f"linear: weight must have shape (OUT, IN), got {weight.shape}")
    if x.ndim < 1 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"linear: x has {x.shape} but weight {weight.shape} expects {weight.shape[1]} on the last axis"
        )
    if bias is not None and bias.shape != (weight.shape[0],):
        raise ValueError(f"linear: bias has shape {bias.shape} but weight {weight.shape} expects ({weight.shape[0]},)")
    return _linear(x, weight, bias)


def conv2d(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    """Correlate images: y[n, o, h, w] = b[o] + Σ_{c,i,j} x[n, c, h s + i d - p, w s + j d - p] W[o, c, i, j].

    Args:
        x: (N, C, H, W) or (C, H, W).
        weight: (OC, C / groups, KH, KW).
        bias: (OC,) or None.
        stride, dilation: pixels, a number or (vertical, horizontal).
        padding: zeros on each side, a number, a pair, "valid" (none) or "same" (output as large as input; stride 1).
        groups: number of blocks that the channels are split into.

    Returns:
        (N, OC, OH, OW) with OH = (H + 2 p - d (KH - 1) - 1) // s + 1.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit.
    """
    require_4d("conv2d", x)
    require("conv2d", x=x, weight=weight, bias=bias)
    if weight.ndim != 4:
        raise ValueError(f"conv2d: weight must have shape (OC, C / groups, KH, KW), got {weight.shape}")
    images, (OC, CG, KH, KW) = batched(x), weight.shape
    C = images.shape[1]
    if not isinstance(groups, int) or groups < 1 or OC % groups:
        raise ValueError(f"conv2d: groups must be a positive divisor of the {OC} output channels, got {groups}")
    if CG * groups != C:
        expected = f"{CG}" if groups == 1 else f"{CG} * {groups} groups = {CG * groups}"
        raise ValueError(f"conv2d: x has {C} channels (axis {x.ndim - 3} of {x.shape}) but weight expects {expected}")
    if bias is not None and bias.shape != (OC,):
        raise ValueError(f"conv2d: bias has shape {bias.shape} but weight {weight.shape} expects ({OC},)")
    window, uneven = conv_window(tuple(images.shape[2:]), (KH, KW), stride, padding, dilation)
    if uneven != (0, 0):
        images = pad(images, (0, uneven[1], 0, uneven[0]))
    return like_input(_conv2d(images, weight, bias, window=window, groups=groups), x)


def conv_transpose2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """Spread images: y[n, o, h s + i d - p, w s + j d - p] += x[n, c, h, w] W[c, o, i, j], conv2d's input gradient.

    Args:
        x: (N, C, H, W) or (C, H, W).
        weight: (C, OC / groups, KH, KW). bias: (OC,) or None.
        stride, padding, dilation, groups: of the convolution that this is the gradient of.
        output_padding: further rows and columns at the end, less than stride or dilation.

    Returns:
        (N, OC, OH, OW) with OH = (H - 1) s - 2 p + d (KH - 1) + output_padding + 1.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit.
    """
    function = "conv_transpose2d"
    require_4d(function, x)
    require(function, x=x, weight=weight, bias=bias)
    positive(function, groups=groups)
    images = batched(x)
    N, C, H, W = images.shape
    if weight.ndim != 4 or weight.shape[0] != C or C % groups:
        expected = f"({C}, OC / groups, KH, KW) and groups a divisor of {C}"
        raise ValueError(f"{function}: x {x.shape} expects weight {expected}, got {weight.shape} and {groups}")
    _, OG, KH, KW = weight.shape
    if bias is not None and bias.shape != (OG * groups,):
        raise ValueError(f"{function}: bias has shape {bias.shape} but weight {weight.shape} expects ({OG * groups},)")
    stride, padding = as_pair(function, "stride", stride, 1), as_pair(function, "padding", padding, 0)
    dilation, more = as_pair(function, "dilation", dilation, 1), as_pair(function, "output_padding", output_padding, 0)
    if any(m >= max(s, d) for m, s, d in zip(more, stride, dilation, strict=True)):
        raise ValueError(f"{function}: output_padding must be less than stride or dilation, got {output_padding}")
    axes = zip((H, W), (KH, KW), stride, padding, dilation, more, strict=True)
    size = tuple((n - 1) * s - 2 * p + d * (k - 1) + m + 1 for n, k, s, p, d, m in axes)
    if min(size) < 1:
        raise ValueError(f"{function}: padding {padding} leaves no pixels of x {x.shape}")
    matrix = op.reshape(weight, shape=(groups, C // groups, OG * KH * KW))
    rows = op.reshape(images, shape=(N, groups, C // groups, H * W))
    cols = op.matmul(op.transpose(matrix, axes=(0, 2, 1)), rows)
    window = Window((KH, KW), stride, padding, dilation, (H, W))
    y = op.fold(op.reshape(cols, shape=(N, groups * OG, KH * KW, H, W)), window=window, size=size)
    return like_input(y if bias is None else y + bias.reshape(-1, 1, 1), x)


def unfold(x: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """Lay out windows as columns (im2col): (N, C, H, W) -> (N, C * KH * KW, windows)."""
    images = batched(require_4d("unfold", x))
    window = unfold_window("unfold", images.shape[2:], kernel_size, dilation, padding, stride)
    N, C, K, L = *images.shape[:2], math.prod(window.kernel_size), math.prod(window.output)
    cols = op.unfold(images, window=window).reshape(N, C * K, L)
    return cols if x.ndim == 4 else cols.reshape(C * K, L)


def fold(x: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """Add columns back to where `unfold` took them from (col2im): (N, C * KH * KW, windows) -> (N, C, *output_size)."""
    require("fold", x=x)
    size = as_pair("fold", "output_size", output_size, 1)
    window = unfold_window("fold", size, kernel_size, dilation, padding, stride)
    K, L = math.prod(window.kernel_size), math.prod(window.output)
    if x.ndim not in (2, 3) or x.shape[-2] % K or x.shape[-1] != L:
        raise ValueError(f"fold: x has shape {x.shape}, expected (N, C * {K}, {L}) for output_size {size}")
    C = x.shape[-2] // K
    y = op.fold(x.reshape(-1, C, K, *window.output), window=window, size=size)
    return y if x.ndim == 3 else y.reshape(C, *size)


def unfold_window(function: str, size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Any:
    kernel, dilation = as_pair(function, "kernel_size", kernel_size, 1), as_pair(function, "dilation", dilation, 1)
    padding, stride = as_pair(function, "padding", padding, 0), as_pair(function, "stride", stride, 1)
    return sliding(function, size, kernel, stride, padding, dilation)
