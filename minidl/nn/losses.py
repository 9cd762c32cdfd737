"""Softmax, and the loss on it; `minidl.nn.functional` shows these under PyTorch's names."""

import math
from typing import Any

import numpy as np

from minidl import primitives as op
from minidl.arguments import as_axis
from minidl.autograd import TensorBase, differentiable
from minidl.nn.checks import require
from minidl.ops import softmax as softmax_ops
from minidl.primitives import unwrap

__all__ = ["cross_entropy", "log_softmax", "one_hot", "softmax"]

_cross_entropy = differentiable(softmax_ops.cross_entropy_forward, softmax_ops.cross_entropy_backward)


def softmax(x: Any, dim: int) -> Any:
    """Compute exp(x) / Σ exp(x) along `dim`."""
    require("softmax", x=x)
    return op.softmax_(x, axis=as_axis("softmax", dim, x.ndim))


def log_softmax(x: Any, dim: int) -> Any:
    """Compute x - ln Σ exp(x) along `dim`."""
    require("log_softmax", x=x)
    return op.log_softmax(x, axis=as_axis("log_softmax", dim, x.ndim))


def one_hot(labels: Any, num_classes: int = -1) -> Any:
    """Make rows of the identity: integer labels (...,) -> (..., num_classes), int64; -1 counts up to the largest label.

    Raises:
        TypeError: labels that are no integers. ValueError: a label outside 0..num_classes-1.
    """
    array = unwrap(labels)
    if getattr(array, "dtype", np.dtype(bool)).kind not in "iu":
        raise TypeError(
            f"one_hot: labels must be a Tensor or an array of integers, got {getattr(array, 'dtype', array)}"
        )
    highest = int(array.max(initial=-1))
    classes = highest + 1 if num_classes == -1 else num_classes
    if highest >= classes or array.min(initial=0) < 0:
        raise ValueError(f"one_hot: labels from {array.min()} to {highest} are not in 0..{classes - 1}")
    hot = np.eye(classes, dtype=np.int64)[array]
    return TensorBase.tensor_type(hot) if isinstance(labels, TensorBase) else hot


def cross_entropy(
    x: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Compute -Σ_c q_c ln softmax(x)_c for class labels or class probabilities.

    Args:
        x: logits (C,), (N, C) or (N, C, d1, ...).
        target: integer labels (), (N,) or (N, d1, ...); or probabilities in the shape of x.
        weight: (C,) factor of each class, or None.
        ignore_index: label that counts for nothing.
        reduction: "none", "sum", or "mean" (over the weights of the labels that count).
        label_smoothing: share of the target that is spread evenly over the classes, in [0, 1].

    Raises:
        ValueError, TypeError, IndexError: shapes, dtypes or options that do not fit; a label outside 0..C-1.
    """
    require("cross_entropy", x=x, weight=weight)
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"cross_entropy: reduction must be 'none', 'mean' or 'sum', got {reduction!r}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing must be in [0, 1], got {label_smoothing}")
    kind = target.dtype.kind if hasattr(target, "dtype") else type(target).__name__
    if kind not in ("i", "u", "f"):
        raise TypeError(
            f"cross_entropy: target must hold integers or probabilities, got {getattr(target, 'dtype', kind)}"
        )
    if x.ndim == 0:
        raise ValueError("cross_entropy: x must have shape (C,), (N, C) or (N, C, d1, ...), got ()")
    axis = 0 if x.ndim == 1 else 1
    C, outer = x.shape[axis], (*x.shape[:axis], *x.shape[axis + 1 :])
    if weight is not None and weight.shape != (C,):
        raise ValueError(f"cross_entropy: weight has shape {weight.shape} but x {x.shape} has {C} classes")
    w = np.ones_like(unwrap(x), shape=C) if weight is None else unwrap(weight)
    if kind == "f":
        require("cross_entropy", x=x, target=target)
        if target.shape != x.shape:
            raise ValueError(f"cross_entropy: probabilities have shape {target.shape} but x has {x.shape}")
        q = (class_last(target, axis) * (1 - label_smoothing) + label_smoothing / C) * w
        total = float(math.prod(outer))
    else:
        labels = unwrap(target)
        if labels.shape != outer:
            raise ValueError(f"cross_entropy: target has shape {labels.shape} but x {x.shape} expects {outer}")
        labels = labels.reshape(-1)
        counts = labels != ignore_index
        bad = labels[counts & ((labels < 0) | (labels >= C))]
        if bad.size:
            raise IndexError(f"cross_entropy: target holds the label {bad[0]}, expected 0..{C - 1}")
        hot = np.eye(C, dtype=x.dtype)[np.where(counts, labels, 0)]
        q = hot * w * (1 - label_smoothing) + w * (label_smoothing / C)
        q = (q * counts[:, None]).astype(x.dtype)
        total = float((w[np.where(counts, labels, 0)] * counts).sum())
    loss = _cross_entropy(class_last(x, axis), q)
    if reduction == "none":
        return loss.reshape(outer)
    loss = np.sum(loss)
    loss = loss if reduction == "sum" else loss / (total if total else math.nan)
    return loss if isinstance(loss, TensorBase) else np.asarray(loss)


def class_last(x: Any, axis: int) -> Any:
    """(N, C, d1, ...) -> (N * d1 * ..., C)."""
    axes = (*range(axis), *range(axis + 1, x.ndim), axis)
    moved = x if axes == tuple(range(x.ndim)) else np.transpose(x, axes)
    return moved.reshape(-1, x.shape[axis])
