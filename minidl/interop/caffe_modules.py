"""Caffe's layers that are no layer of PyTorch, as modules; minidl.interop.caffe_layers checks their options."""

import math
from typing import Any

import numpy as np

from minidl.autograd import differentiable
from minidl.creation import empty, ones, zeros
from minidl.nn import functional as F
from minidl.nn.geometry import sliding, window_divisor
from minidl.nn.layers import Conv2d, Linear
from minidl.nn.module import Module, Parameter
from minidl.ops import pooling
from minidl.primitives import unwrap
from minidl.tensor import Tensor

__all__ = [
    *("Accuracy", "BatchNorm", "Concat", "Convolution", "Eltwise", "EuclideanLoss", "InnerProduct"),
    *("LRNWithinChannel", "Pooling", "Reshape", "Scale", "SigmoidCrossEntropyLoss", "Silence", "SoftmaxWithLoss"),
    "Split",
]

# Caffe allows more padding than half of the window, which PyTorch's functions refuse.
_max_pool2d = differentiable(pooling.max_pool2d_forward, pooling.max_pool2d_backward)
_avg_pool2d = differentiable(pooling.avg_pool2d_forward, pooling.avg_pool2d_backward)


class Convolution(Conv2d):
    """A convolution whose parameters a filler draws."""

    def reset_parameters(self) -> None:
        """Leave them to the filler."""


class InnerProduct(Linear):
    """y = x Wᵀ + b, where the axes of x from `axis` on are joined; a filler draws the parameters."""

    def __init__(self, in_features: int, out_features: int, bias: bool, axis: int):
        super().__init__(in_features, out_features, bias)
        self.axis = axis

    def reset_parameters(self) -> None:
        """Leave them to the filler."""

    def forward(self, x: Any) -> Any:
        return super().forward(x.reshape(*x.shape[: self.axis], self.in_features))


class Pooling(Module):
    """The maximum ("MAX") or the mean ("AVE") of windows; the last one may end past the padded image.

    A mean divides by the window's area within the padded image.

    Args:
        pool: "MAX" or "AVE". kernel_size: (KH, KW), or None for the whole image. stride, padding: pairs.
        ceil: round the number of windows up, Caffe's rule, or down.
    """

    def __init__(self, pool: str, kernel_size: Any, stride: Any, padding: Any, ceil: bool):
        super().__init__()
        self.pool, self.kernel_size, self.stride, self.padding, self.ceil = pool, kernel_size, stride, padding, ceil

    def forward(self, x: Any) -> Any:
        size = tuple(x.shape[2:])
        window = sliding("Pooling", size, self.kernel_size or size, self.stride, self.padding, (1, 1), self.ceil)
        if self.pool == "MAX":
            return _max_pool2d(x, window=window)
        return _avg_pool2d(x, window=window, divisor=window_divisor(window, size, True, None, x.dtype))

    def extra_repr(self) -> str:
        return f"{self.pool}, kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class BatchNorm(Module):
    """(x - mean) / √(var + eps) of each channel, without scale and shift.

    The statistics are averages over all mini-batches, the latest with the greatest weight: with s ← fraction · s + 1,
    running ← running + (new - running) / s. Caffe stores the sums s · running.

    Args:
        channels: C. eps: added to the variance. fraction: `moving_average_fraction`.
        use_global_stats: normalise by the averages always (True) or never (False); None: only in evaluation.
    """

    def __init__(self, channels: int, eps: float, fraction: float, use_global_stats: bool | None):
        super().__init__()
        self.eps, self.fraction, self.use_global_stats = eps, fraction, use_global_stats
        self.register_buffer("running_mean", zeros(channels))
        self.register_buffer("running_var", ones(channels))
        self.register_buffer("scale_factor", zeros())

    def forward(self, x: Any) -> Any:
        use_global = not self.training if self.use_global_stats is None else self.use_global_stats
        momentum = 0.0
        if self.training and not use_global:
            self.scale_factor.fill_(self.fraction * self.scale_factor.item() + 1)
            momentum = 1 / self.scale_factor.item()
        return F.batch_norm(x, self.running_mean, self.running_var, None, None, not use_global, momentum, self.eps)

    def extra_repr(self) -> str:
        return f"{self.running_mean.numel()}, eps={self.eps}, use_global_stats={self.use_global_stats}"


class Scale(Module):
    """y = weight · x + bias, both of the extents of some axes of x, repeated along the others.

    Args:
        shape: those extents. around: how many axes of x come (before, after) them. bias: learn a bias.
    """

    def __init__(self, shape: tuple[int, ...], around: tuple[int, int], bias: bool):
        super().__init__()
        self.extended = (*(1,) * around[0], *shape, *(1,) * around[1])
        self.weight = Parameter(empty(*shape))
        self.register_parameter("bias", Parameter(empty(*shape)) if bias else None)

    def forward(self, x: Any) -> Any:
        y = x * self.weight.reshape(self.extended)
        return y if self.bias is None else y + self.bias.reshape(self.extended)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, bias={self.bias is not None}"


class LRNWithinChannel(Module):
    """y = x (1 + α mean(x²))^(-β), the mean over size × size pixels of the channel, zeros around the image included."""

    def __init__(self, size: int, alpha: float, beta: float):
        super().__init__()
        self.alpha, self.beta = alpha, beta
        self.mean = Pooling("AVE", (size, size), (1, 1), (size // 2, size // 2), True)

    def forward(self, x: Any) -> Any:
        return x * (1 + self.alpha * self.mean(x * x)) ** -self.beta


class Eltwise(Module):
    """Σ coeff[i] x[i] ("SUM"), the product ("PROD") or the maximum ("MAX") of its inputs."""

    def __init__(self, operation: str, coeff: list[float]):
        super().__init__()
        self.operation, self.coeff = operation, coeff

    def forward(self, *xs: Any) -> Any:
        if self.coeff:
            xs = tuple(x if c == 1 else x * c for x, c in zip(xs, self.coeff, strict=True))
        y = xs[0]
        for x in xs[1:]:
            y = y + x if self.operation == "SUM" else y * x if self.operation == "PROD" else np.maximum(y, x)
        return y

    def extra_repr(self) -> str:
        return self.operation + (f", coeff={self.coeff}" if self.coeff else "")


class Concat(Module):
    """Its inputs, one after the other along an axis."""

    def __init__(self, axis: int):
        super().__init__()
        self.axis = axis

    def forward(self, *xs: Any) -> Any:
        return np.concatenate(xs, axis=self.axis)

    def extra_repr(self) -> str:
        return f"axis={self.axis}"


class Reshape(Module):
    """The axes from `first` to `end` get the extents `dims`: 0 keeps that of the axis there, -1 is what is left."""

    def __init__(self, dims: list[int], first: int, end: int):
        super().__init__()
        self.dims, self.first, self.end = dims, first, end

    def forward(self, x: Any) -> Any:
        kept = [x.shape[self.first + i] if d == 0 else d for i, d in enumerate(self.dims)]
        return x.reshape(*x.shape[: self.first], *kept, *x.shape[self.end :])

    def extra_repr(self) -> str:
        return f"{self.dims}"


class Split(Module):
    """The same blob under several names."""

    def __init__(self, count: int):
        super().__init__()
        self.count = count

    def forward(self, x: Any) -> Any:
        return (x,) * self.count


class Silence(Module):
    """Takes blobs that nobody reads."""

    def forward(self, *xs: Any) -> tuple[()]:
        return ()


class _Classes(Module):
    """What the layers that compare scores with labels share.

    Args:
        axis: of the classes. ignore_label: a label that counts for nothing, or None.
    """

    def __init__(self, axis: int, ignore_label: int | None):
        super().__init__()
        self.axis, self.ignore_label = axis, ignore_label

    def arranged(self, x: Any, label: Any) -> tuple[Any, Any]:
        """Scores (outer, C, inner) and labels (outer, inner), integers."""
        kind = getattr(getattr(label, "dtype", None), "kind", "?")
        if kind not in "iu":
            found = getattr(label, "dtype", type(label).__name__)
            raise TypeError(f"{type(self).__name__}: labels must be integers, got {found}")
        outer, C = math.prod(x.shape[: self.axis]), x.shape[self.axis]
        inner = math.prod(x.shape[self.axis + 1 :])
        if math.prod(label.shape) != outer * inner:
            raise ValueError(
                f"{type(self).__name__}: scores {tuple(x.shape)} have {C} classes on axis {self.axis} and need "
                f"{outer * inner} labels, got {tuple(label.shape)}"
            )
        return x.reshape(outer, C, inner), unwrap(label).reshape(outer, inner)


class SoftmaxWithLoss(_Classes):
    """-Σ ln softmax(x)[label] / n, n by `normalization`: labels that count ("VALID"), all ("FULL"), images, or 1."""

    def __init__(self, axis: int, ignore_label: int | None, normalization: str):
        super().__init__(axis, ignore_label)
        self.normalization = normalization

    def forward(self, x: Any, label: Any) -> Any:
        x, label = self.arranged(x, label)
        ignored = -100 if self.ignore_label is None else self.ignore_label
        total = F.cross_entropy(x, label, ignore_index=ignored, reduction="sum")
        return total / _normalizer(self.normalization, label, ignored)

    def extra_repr(self) -> str:
        return f"normalization={self.normalization}"


class SigmoidCrossEntropyLoss(Module):
    """-Σ (t ln σ(x) + (1 - t) ln(1 - σ(x))) / n for targets t in [0, 1]; n as for `SoftmaxWithLoss`."""

    def __init__(self, ignore_label: int | None, normalization: str):
        super().__init__()
        self.ignore_label, self.normalization = ignore_label, normalization

    def forward(self, x: Any, target: Any) -> Any:
        given = unwrap(target).reshape(x.shape)
        t = np.asarray(given, x.dtype)
        if self.ignore_label is None:
            total = F.binary_cross_entropy_with_logits(x, t, reduction="sum")
        else:
            counts = np.asarray(given != self.ignore_label, x.dtype)
            total = F.binary_cross_entropy_with_logits(x, t * counts, weight=counts, reduction="sum")
        return total / _normalizer(self.normalization, given, self.ignore_label)

    def extra_repr(self) -> str:
        return f"normalization={self.normalization}"


def _normalizer(normalization: str, label: np.ndarray, ignored: int | None) -> float:
    """What the sum of a loss is divided by, at least 1."""
    if normalization == "VALID":
        return max(1.0, float(label.size if ignored is None else np.count_nonzero(label != ignored)))
    return max(1.0, float({"FULL": label.size, "BATCH_SIZE": label.shape[0], "NONE": 1}[normalization]))


class EuclideanLoss(Module):
    """Σ (x - t)² / (2 N)."""

    def forward(self, x: Any, target: Any) -> Any:
        difference = x - target
        return np.sum(difference * difference) / (2 * x.shape[0])


class Accuracy(_Classes):
    """The share of labels whose score is among the `top_k` highest; scores equal to the label's count as higher."""

    def __init__(self, axis: int, ignore_label: int | None, top_k: int):
        super().__init__(axis, ignore_label)
        self.top_k = top_k

    def forward(self, x: Any, label: Any) -> Tensor:
        scores, label = self.arranged(x, label)
        scores = unwrap(scores)
        counts = np.full(label.shape, True) if self.ignore_label is None else label != self.ignore_label
        at = np.where(counts, label, 0)[:, None]
        if at.size and not 0 <= at.min() <= at.max() < scores.shape[1]:
            raise IndexError(f"Accuracy: labels must be in 0..{scores.shape[1] - 1}, got {at.min()} to {at.max()}")
        own = np.take_along_axis(scores, at, axis=1)
        right = ((scores >= own).sum(1) - 1 < self.top_k) & ~np.isnan(scores).any(1) & counts
        return Tensor(np.asarray(np.count_nonzero(right) / max(1, np.count_nonzero(counts)), scores.dtype))

    def extra_repr(self) -> str:
        return f"top_k={self.top_k}"
