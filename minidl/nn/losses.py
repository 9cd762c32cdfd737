"""Softmax and the losses of classes, as functions and as layers, under PyTorch's names."""

import math
import warnings
from typing import Any

import numpy as np

from minidl import primitives as op
from minidl.arguments import as_axis
from minidl.autograd import TensorBase, differentiable
from minidl.nn.checks import require
from minidl.nn.module import Module
from minidl.ops import softmax as softmax_ops
from minidl.primitives import unwrap
from minidl.tensor import Tensor

__all__ = ["cross_entropy", "kl_div", "log_softmax", "nll_loss", "one_hot", "softmax"]
__all__ += ["CrossEntropyLoss", "KLDivLoss", "NLLLoss"]

_cross_entropy = differentiable(softmax_ops.cross_entropy_forward, softmax_ops.cross_entropy_backward)


def softmax(x: Any, dim: int | None = None) -> Any:
    """Compute exp(x) / Σ exp(x) along `dim`."""
    require("softmax", x=x)
    return op.softmax_(x, axis=chosen_axis("softmax", dim, x.ndim))


def log_softmax(x: Any, dim: int | None = None) -> Any:
    """Compute x - ln Σ exp(x) along `dim`."""
    require("log_softmax", x=x)
    return op.log_softmax(x, axis=chosen_axis("log_softmax", dim, x.ndim))


def chosen_axis(function: str, dim: int | None, ndim: int) -> int:
    """`dim`; where it is left out, the axis that PyTorch takes, with its warning."""
    if dim is None:
        dim = 0 if ndim in (0, 1, 3) else 1
        warnings.warn(f"{function}: dim was left out; {dim} is taken, name it", UserWarning, stacklevel=3)
    return as_axis(function, dim, ndim)


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
    check_reduction("cross_entropy", reduction)
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
        labels, counts = checked_labels("cross_entropy", target, C, outer, ignore_index)
        q = softmax_ops.class_targets(labels, counts, w, smoothing=label_smoothing)
        total = float((w[labels] * counts).sum())
    loss = _cross_entropy(class_last(x, axis), q)
    return reduced(loss if len(outer) == 1 else loss.reshape(outer), reduction, total)


def check_reduction(function: str, reduction: str, *more: str) -> None:
    if reduction not in ("none", "mean", "sum", *more):
        raise ValueError(f"{function}: reduction must be 'none', 'mean' or 'sum', got {reduction!r}")


def reduced(loss: Any, reduction: str, total: float | None = None) -> Any:
    """The losses themselves ("none"), their sum, or that over `total` ("mean"), by default their number."""
    if reduction == "none":
        return loss
    total = math.prod(loss.shape) if total is None else total
    loss = op.sum_(loss, axis=None, keepdims=False)
    loss = loss if reduction == "sum" else loss / (total if total else math.nan)
    return loss if isinstance(loss, TensorBase) else np.asarray(loss)


def checked_labels(function: str, target: Any, C: int, shape: tuple, ignore_index: int) -> tuple[Any, Any]:
    """(labels, which of them count) in one row; a label that does not count is 0."""
    labels = unwrap(target)
    if labels.shape != shape:
        raise ValueError(f"{function}: target has shape {labels.shape}, expected {shape}")
    labels = labels.reshape(-1)
    counts = labels != ignore_index
    if not counts.all():
        labels = np.where(counts, labels, 0)
    if labels.size and (labels.min() < 0 or labels.max() >= C):
        bad = labels[(labels < 0) | (labels >= C)]
        raise IndexError(f"{function}: target holds the label {bad[0]}, expected 0..{C - 1}")
    return labels, counts


def class_last(x: Any, axis: int) -> Any:
    """(N, C, d1, ...) -> (N * d1 * ..., C)."""
    if x.ndim == 2:
        return x
    moved = np.transpose(x, (*range(axis), *range(axis + 1, x.ndim), axis))
    return moved.reshape(-1, x.shape[axis])


def nll_loss(x: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> Any:
    """Compute -w_c x_c for the class c of each label: cross-entropy, if x holds the logarithms of probabilities.

    Args:
        x: (C,), (N, C) or (N, C, d1, ...). target: integer labels (), (N,) or (N, d1, ...).
        weight, ignore_index, reduction: as for `cross_entropy`.
    """
    require("nll_loss", x=x, weight=weight)
    check_reduction("nll_loss", reduction)
    if getattr(getattr(target, "dtype", None), "kind", "?") not in "iu":
        raise TypeError(f"nll_loss: target must hold integers, got {getattr(target, 'dtype', type(target).__name__)}")
    if x.ndim == 0:
        raise ValueError("nll_loss: x must have shape (C,), (N, C) or (N, C, d1, ...), got ()")
    axis = 0 if x.ndim == 1 else 1
    C, outer = x.shape[axis], (*x.shape[:axis], *x.shape[axis + 1 :])
    if weight is not None and weight.shape != (C,):
        raise ValueError(f"nll_loss: weight has shape {weight.shape} but x {x.shape} has {C} classes")
    labels, counts = checked_labels("nll_loss", target, C, outer, ignore_index)
    w = (np.ones_like(unwrap(x), shape=C) if weight is None else unwrap(weight))[labels] * counts
    chosen = op.getitem(class_last(x, axis), index=(np.arange(len(labels)), labels))
    loss = op.where(counts, -chosen * w, 0.0)
    return reduced(loss if len(outer) == 1 else loss.reshape(outer), reduction, float(w.sum()))


def kl_div(x: Any, target: Any, reduction: str = "mean", log_target: bool = False) -> Any:
    """Compute t (ln t - x), element by element: the divergence of exp(x) from t, summed over classes.

    Args:
        x: logarithms of probabilities. target: probabilities t in the shape of x, or with log_target ln t.
        reduction: "none", "sum", "batchmean" (sum over the number of rows), or "mean" (over all elements).
    """
    require("kl_div", x=x, target=target)
    check_reduction("kl_div", reduction, "batchmean")
    if tuple(x.shape) != tuple(target.shape):
        raise ValueError(f"kl_div: target has shape {target.shape} but x has {x.shape}")
    if log_target:
        loss = np.exp(target) * (target - x)
    else:
        possible = unwrap(target) > 0  # where t is 0, so is the term
        loss = target * (np.log(op.where(possible, target, 1.0)) - x)
    if reduction == "batchmean":
        return reduced(loss, "mean", x.shape[0])
    return reduced(loss, reduction)


class CrossEntropyLoss(Module):
    """-Σ q ln softmax(x) (see `functional.cross_entropy`)."""

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ):
        super().__init__()
        self.register_buffer("weight", weight)
        self.ignore_index, self.reduction, self.label_smoothing = ignore_index, reduction, label_smoothing

    def forward(self, x: Any, target: Any) -> Any:
        return cross_entropy(x, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing)


class NLLLoss(Module):
    """-w_c x_c (see `functional.nll_loss`)."""

    def __init__(self, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean"):
        super().__init__()
        self.register_buffer("weight", weight)
        self.ignore_index, self.reduction = ignore_index, reduction

    def forward(self, x: Any, target: Any) -> Any:
        return nll_loss(x, target, self.weight, self.ignore_index, self.reduction)


class KLDivLoss(Module):
    """t (ln t - x) (see `functional.kl_div`)."""

    def __init__(self, reduction: str = "mean", log_target: bool = False):
        super().__init__()
        self.reduction, self.log_target = reduction, log_target

    def forward(self, x: Any, target: Any) -> Any:
        return kl_div(x, target, self.reduction, self.log_target)
