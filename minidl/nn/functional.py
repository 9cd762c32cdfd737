"""The operations of networks as functions; on arrays they return arrays, on Tensors they are recorded.

Names, arguments and defaults are those of torch.nn.functional.
"""

import math
from typing import Any

import numpy as np

from minidl import primitives as op
from minidl.autograd import TensorBase, differentiable
from minidl.kernels.deferred import Deferred
from minidl.nn.checks import require
from minidl.nn.geometry import adaptive_weights, as_pair, conv_window, pool_window, sliding, window_divisor
from minidl.nn.losses import cross_entropy, log_softmax, one_hot, softmax
from minidl.ops import batch_norm as bn
from minidl.ops import conv, pooling
from minidl.ops import linear as linear_ops
from minidl.primitives import unwrap

__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "batch_norm",
    "conv2d",
    "cross_entropy",
    "fold",
    "linear",
    "log_softmax",
    "max_pool2d",
    "one_hot",
    "pad",
    "relu",
    "softmax",
    "unfold",
]

_conv2d = differentiable(conv.conv2d_forward, conv.conv2d_backward)
_linear = differentiable(linear_ops.linear_forward, linear_ops.linear_backward)
_max_pool2d = differentiable(pooling.max_pool2d_forward, pooling.max_pool2d_backward)
_avg_pool2d = differentiable(pooling.avg_pool2d_forward, pooling.avg_pool2d_backward)
_adaptive_avg_pool2d = differentiable(pooling.adaptive_avg_pool2d_forward, pooling.adaptive_avg_pool2d_backward)
_batch_norm = differentiable(bn.batch_norm_forward, bn.batch_norm_backward)
_batch_norm_inference = differentiable(bn.batch_norm_inference_forward, bn.batch_norm_inference_backward)


def require_4d(function: str, x: Any) -> Any:
    require(function, x=x)
    if x.ndim not in (3, 4):
        raise ValueError(f"{function}: x must have shape (N, C, H, W) or (C, H, W), got {x.shape}")
    return x


def batched(x: Any) -> Any:
    """(C, H, W) as a batch of one."""
    return x if x.ndim == 4 else x.reshape(1, *x.shape)


def like_input(y: Any, x: Any) -> Any:
    return y if x.ndim == 4 else y.reshape(*y.shape[1:])


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


def max_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Take the maximum of each window; of equal ones the first gets the gradient; NaN wins.

    Args:
        x: (N, C, H, W) or (C, H, W).
        kernel_size, stride, padding, dilation: pixels, a number or (vertical, horizontal); stride None is kernel_size.
        ceil_mode: keep a last window that starts inside but ends past the image.

    Raises:
        ValueError, TypeError: shapes or options that do not fit. NotImplementedError: return_indices.
    """
    if return_indices:
        raise NotImplementedError("max_pool2d: return_indices=True is not supported")
    images = batched(require_4d("max_pool2d", x))
    window = pool_window("max_pool2d", images.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    return like_input(_max_pool2d(images, window=window), x)


def avg_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """Average each window.

    Args:
        x: (N, C, H, W) or (C, H, W).
        kernel_size, stride, padding, ceil_mode: as for `max_pool2d`.
        count_include_pad: count the padding's zeros as elements.
        divisor_override: divide by this number instead of the count.

    Raises:
        ValueError, TypeError: shapes or options that do not fit.
    """
    images = batched(require_4d("avg_pool2d", x))
    window = pool_window("avg_pool2d", images.shape[2:], kernel_size, stride, padding, 1, ceil_mode)
    divisor = window_divisor(window, images.shape[2:], count_include_pad, divisor_override, x.dtype)
    return like_input(_avg_pool2d(images, window=window, divisor=divisor), x)


def adaptive_avg_pool2d(x: Any, output_size: Any) -> Any:
    """Average over a grid of `output_size` cells; cell i covers rows floor(i H / OH) to ceil((i + 1) H / OH).

    Args:
        x: (N, C, H, W) or (C, H, W). output_size: a number or (OH, OW); None keeps that extent.
    """
    images = batched(require_4d("adaptive_avg_pool2d", x))
    size = output_size if isinstance(output_size, tuple | list) else (output_size, output_size)
    if len(size) != 2 or not all(o is None or isinstance(o, int | np.integer) for o in size):
        raise TypeError(f"adaptive_avg_pool2d: output_size must be integers or None, one or two, got {output_size!r}")
    size = tuple(extent if o is None else o for o, extent in zip(size, images.shape[2:], strict=True))
    if min(size) < 1 or 0 in images.shape[2:]:
        raise ValueError(f"adaptive_avg_pool2d: cannot average {images.shape[2:]} pixels into {size} cells")
    rows, columns = (adaptive_weights(n, o, x.dtype) for n, o in zip(images.shape[2:], size, strict=True))
    return like_input(_adaptive_avg_pool2d(images, rows=rows, columns=columns), x)


def batch_norm(
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Normalise each channel: y = γ (x - mean) / √(var + ε) + β.

    In training, mean and (biased) variance are the mini-batch's, gradients flow through them, and the running
    statistics move towards the new batch: running = (1 - momentum) running + momentum new, with Bessel's correction
    m / (m - 1) on the variance. In evaluation the running statistics are used.

    Args:
        x: (N, C) or (N, C, ...). running_mean, running_var: (C,), changed in place in training; None for none.
        weight, bias: γ and β (C,), or None for 1 and 0.

    Raises:
        ValueError, TypeError: shapes or dtypes that do not fit, or one value per channel in training.

    Source: Ioffe & Szegedy 2015, Algorithms 1 and 2.
    """
    require("batch_norm", x=x, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    if not eps >= 0:
        raise ValueError(f"batch_norm: eps must be >= 0, got {eps}")
    if x.ndim < 2:
        raise ValueError(f"batch_norm: x must have shape (N, C) or (N, C, ...), got {x.shape}")
    C = x.shape[1]
    for name, v in dict(running_mean=running_mean, running_var=running_var, weight=weight, bias=bias).items():
        if v is not None and v.shape != (C,):
            raise ValueError(f"batch_norm: {name} has shape {v.shape} but x {x.shape} has {C} channels")
    gamma = np.ones_like(unwrap(x), shape=C) if weight is None else weight
    beta = np.zeros_like(unwrap(x), shape=C) if bias is None else bias
    if not training:
        if running_mean is None or running_var is None:
            raise ValueError("batch_norm: evaluation needs running_mean and running_var; got None")
        return _batch_norm_inference(x, gamma, beta, running_mean, running_var, eps=eps)
    m = x.shape[0] * math.prod(x.shape[2:])
    if m == 1:
        raise ValueError(f"batch_norm: training needs more than 1 value per channel, got x of shape {x.shape}")
    y, (_, _, mean, var, _) = _batch_norm.with_saved(x, gamma, beta, eps=eps)
    if running_mean is not None and m > 0:
        update_running(running_mean, mean.reshape(C), momentum)
        update_running(running_var, var.reshape(C) * (m / (m - 1)), momentum)
    return y


def update_running(running: Any, new: np.ndarray, momentum: float) -> None:
    unwrap(running)[...] = (1 - momentum) * unwrap(running) + momentum * new
    if isinstance(running, TensorBase):
        running.memory.changes += 1


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


def relu(x: Any, inplace: bool = False) -> Any:
    """Compute max(x, 0); the gradient at 0 is 0. `inplace` returns x itself, changed."""
    require("relu", x=x)
    y = op.relu(x)
    if not inplace:
        return y
    if not isinstance(x, TensorBase):
        x[...] = y
    elif isinstance(x.held, Deferred):
        x.become(y)
    else:
        x.copy_(y)
    return x


def pad(x: Any, pad: Any, mode: str = "constant", value: float = 0.0) -> Any:
    """Add elements around the last axes: pad = (left, right, top, bottom, ...), beginning with the last axis.

    Args:
        x: any shape. pad: pairs of counts; negative ones crop.
        mode: "constant" (of `value`), "reflect", "replicate" or "circular".

    Raises:
        ValueError, TypeError: counts that are no pairs of integers, or do not fit.
    """
    if not hasattr(x, "ndim") or not isinstance(pad, tuple | list):
        raise TypeError(f"pad: x must be a Tensor or an array and pad pairs of counts, got {type(x).__name__}, {pad!r}")
    if len(pad) % 2 or len(pad) // 2 > x.ndim or not all(isinstance(p, int | np.integer) for p in pad):
        raise ValueError(f"pad: expected pairs of integers for at most {x.ndim} axes, got {pad!r}")
    modes = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    if mode != "constant" and mode not in modes:
        raise ValueError(f"pad: mode must be 'constant', 'reflect', 'replicate' or 'circular', got {mode!r}")
    widths = [(0, 0)] * (x.ndim - len(pad) // 2) + [tuple(pad[i : i + 2]) for i in range(len(pad) - 2, -1, -2)]
    for axis, (extent, cuts) in enumerate(zip(x.shape, widths, strict=True)):
        if extent + sum(min(0, cut) for cut in cuts) < 0:
            raise ValueError(f"pad: {cuts} crops more than the {extent} elements of axis {axis}")
    crop = tuple(slice(max(0, -a), extent - max(0, -b)) for extent, (a, b) in zip(x.shape, widths, strict=True))
    if any(part != slice(0, extent) for part, extent in zip(crop, x.shape, strict=True)):
        x = op.getitem(x, index=crop)
    widths = tuple((max(0, a), max(0, b)) for a, b in widths)
    if mode == "constant":
        return op.pad(x, widths=widths, value=value) if any(any(w) for w in widths) else x
    for axis, width in enumerate(widths):
        if any(width):
            limit = {"reflect": x.shape[axis] - 1, "circular": x.shape[axis]}.get(mode, max(width))
            if max(width) > limit or not x.shape[axis]:
                raise ValueError(f"pad: {mode} padding {width} is too wide for axis {axis} of {x.shape}")
            source = np.pad(np.arange(x.shape[axis]), width, mode=modes[mode])
            x = op.getitem(x, index=(slice(None),) * axis + (source,))
    return x
