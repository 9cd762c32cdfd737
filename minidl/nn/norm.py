"""Normalisation as functions and as layers, under PyTorch's names."""

import math
from typing import Any

import numpy as np

from minidl.autograd import TensorBase, differentiable
from minidl.creation import ones, zeros
from minidl.kernels.tape import do
from minidl.nn.checks import positive, require
from minidl.nn.module import Module, Parameter
from minidl.ops import batch_norm as bn
from minidl.ops import normalization
from minidl.primitives import unwrap

__all__ = ["batch_norm", "group_norm", "layer_norm", "local_response_norm"]
__all__ += ["BatchNorm1d", "BatchNorm2d", "GroupNorm", "LayerNorm", "LocalResponseNorm"]

_batch_norm = differentiable(bn.batch_norm_forward, bn.batch_norm_backward)
_batch_norm_inference = differentiable(bn.batch_norm_inference_forward, bn.batch_norm_inference_backward)
_normalize = differentiable(normalization.normalize_forward, normalization.normalize_backward)
_local_response_norm = differentiable(
    normalization.local_response_norm_forward, normalization.local_response_norm_backward
)


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
        update_running(running_var, var.reshape(C), momentum, m / (m - 1))
    return y


def update_running(running: Any, new: np.ndarray, momentum: float, correction: float = 1) -> None:
    bn.move_running(changed(running), new, momentum=momentum, correction=correction)


def changed(buffer: Any) -> np.ndarray:
    """The array of a buffer that is about to change in place."""
    if isinstance(buffer, TensorBase):
        buffer.memory.changes += 1
    return unwrap(buffer)


def group_norm(x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Normalise groups of neighbouring channels of each image by their own mean and variance, then y = γ x_hat + β.

    Args:
        x: (N, C, ...). num_groups: a divisor of C. weight, bias: γ and β (C,), or None for 1 and 0.

    Source: Wu & He 2018, arXiv 1803.08494.
    """
    require("group_norm", x=x, weight=weight, bias=bias)
    positive("group_norm", num_groups=num_groups)
    if x.ndim < 2 or x.shape[1] % num_groups:
        raise ValueError(f"group_norm: num_groups must divide the channels (axis 1) of {x.shape}, got {num_groups}")
    N, C = x.shape[:2]
    groups = x.reshape(N, num_groups, C // num_groups, *x.shape[2:])
    y = _normalize(groups, axes=tuple(range(2, groups.ndim)), eps=eps).reshape(*x.shape)
    return scale_and_shift("group_norm", y, weight, bias, (C,), (C,) + (1,) * (x.ndim - 2))


def layer_norm(x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Normalise over the last axes, whose extents are `normalized_shape`, then y = γ x_hat + β.

    Args:
        x: (..., *normalized_shape). weight, bias: γ and β in that shape, or None for 1 and 0.

    Source: Ba et al. 2016, arXiv 1607.06450.
    """
    require("layer_norm", x=x, weight=weight, bias=bias)
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or tuple(x.shape[-len(shape) :]) != shape:
        raise ValueError(f"layer_norm: x has shape {x.shape}, expected (..., {', '.join(map(str, shape))})")
    y = _normalize(x, axes=tuple(range(-len(shape), 0)), eps=eps)
    return scale_and_shift("layer_norm", y, weight, bias, shape, shape)


def scale_and_shift(function: str, y: Any, weight: Any, bias: Any, shape: tuple, seen_as: tuple) -> Any:
    for name, v in (("weight", weight), ("bias", bias)):
        if v is not None and tuple(v.shape) != shape:
            raise ValueError(f"{function}: {name} has shape {v.shape}, expected {shape}")
    y = y if weight is None else y * weight.reshape(seen_as)
    return y if bias is None else y + bias.reshape(seen_as)


def local_response_norm(x: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Any:
    """Divide each channel by what is around it: y_c = x_c / (k + alpha / size · Σ x_j²)^beta over `size` channels j.

    Args:
        x: (N, C, ...). size: number of channels, c in the middle.

    Source: Krizhevsky et al. 2012, section 3.3 (there alpha stands for this alpha / size).
    """
    require("local_response_norm", x=x)
    positive("local_response_norm", size=size)
    if x.ndim < 3:
        raise ValueError(f"local_response_norm: x must have shape (N, C, ...) of 3 axes or more, got {x.shape}")
    return _local_response_norm(x, size=size, alpha=float(alpha), beta=float(beta), k=float(k))


class _BatchNorm(Module):
    """Normalise each channel (see `functional.batch_norm`).

    Args:
        num_features: channels C.
        eps: added to the variance.
        momentum: weight of the new batch in the running statistics; None for their cumulative average.
        affine: learn γ and β.
        track_running_stats: keep running statistics; without them evaluation uses the mini-batch's.
        bias: learn β, where `affine`.
    """

    ndims: tuple[int, ...]
    shapes: str

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: Any = np.float32,
        *,
        bias: bool = True,
    ):
        super().__init__()
        if isinstance(num_features, bool) or not isinstance(num_features, int) or num_features < 1:
            raise ValueError(f"{type(self).__name__}: num_features must be a positive integer, got {num_features!r}")
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.register_parameter("weight", Parameter(ones(num_features, dtype=dtype)) if affine else None)
        self.register_parameter("bias", Parameter(zeros(num_features, dtype=dtype)) if affine and bias else None)
        tracked = track_running_stats
        self.register_buffer("running_mean", zeros(num_features, dtype=dtype) if tracked else None)
        self.register_buffer("running_var", ones(num_features, dtype=dtype) if tracked else None)
        self.register_buffer("num_batches_tracked", zeros(dtype=np.int64) if tracked else None)

    def reset_running_stats(self) -> None:
        """Forget the statistics seen so far."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def forward(self, x: Any) -> Any:
        if x.ndim not in self.ndims:
            raise ValueError(f"{type(self).__name__}: x must have shape {self.shapes}, got {x.shape}")
        if x.shape[1] != self.num_features:
            raise ValueError(
                f"{type(self).__name__}: x has {x.shape[1]} channels (axis 1 of {x.shape}), "
                f"expected {self.num_features}"
            )
        use_batch = self.training or not self.track_running_stats
        mean, var, momentum = self.running_mean, self.running_var, 0.0
        if self.training and self.track_running_stats:
            count = changed(self.num_batches_tracked)
            do(np.add, count, 1, count)
            momentum = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        return batch_norm(x, mean, var, self.weight, self.bias, use_batch, momentum, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    __doc__ = _BatchNorm.__doc__
    ndims, shapes = (2, 3), "(N, C) or (N, C, L)"


class BatchNorm2d(_BatchNorm):
    __doc__ = _BatchNorm.__doc__
    ndims, shapes = (4,), "(N, C, H, W)"


class GroupNorm(Module):
    """Normalise groups of channels of each image (see `functional.group_norm`)."""

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: Any = np.float32,
        *,
        bias: bool = True,
    ):
        super().__init__()
        positive("GroupNorm", num_groups=num_groups, num_channels=num_channels)
        if num_channels % num_groups:
            raise ValueError(f"GroupNorm: num_groups={num_groups} must divide num_channels={num_channels}")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self.register_parameter("weight", Parameter(ones(num_channels, dtype=dtype)) if affine else None)
        self.register_parameter("bias", Parameter(zeros(num_channels, dtype=dtype)) if affine and bias else None)

    def forward(self, x: Any) -> Any:
        return group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        text = f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"
        return text + f", bias={self.bias is not None}"


class LayerNorm(Module):
    """Normalise over the last axes (see `functional.layer_norm`)."""

    def __init__(
        self,
        normalized_shape: Any,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: Any = np.float32,
    ):
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape, self.eps, self.elementwise_affine = shape, eps, elementwise_affine
        affine = elementwise_affine
        self.register_parameter("weight", Parameter(ones(shape, dtype=dtype)) if affine else None)
        self.register_parameter("bias", Parameter(zeros(shape, dtype=dtype)) if affine and bias else None)

    def forward(self, x: Any) -> Any:
        return layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        text = f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        return text + f", bias={self.bias is not None}"


class LocalResponseNorm(Module):
    """Divide each channel by what is around it (see `functional.local_response_norm`)."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0):
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: Any) -> Any:
        return local_response_norm(x, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
