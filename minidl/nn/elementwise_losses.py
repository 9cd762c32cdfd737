"""Losses of numbers and of yes-or-no classes, as functions and as layers, under PyTorch's names."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.autograd import TensorBase, differentiable
from minidl.nn.checks import require
from minidl.nn.losses import check_reduction, reduced
from minidl.nn.module import Module
from minidl.ops import loss as loss_ops
from minidl.primitives import unwrap
from minidl.tensor import Tensor

__all__ = ["binary_cross_entropy", "binary_cross_entropy_with_logits", "huber_loss", "l1_loss", "mse_loss"]
__all__ += ["smooth_l1_loss", "BCELoss", "BCEWithLogitsLoss", "HuberLoss", "L1Loss", "MSELoss", "SmoothL1Loss"]

_huber = differentiable(loss_ops.huber_forward, loss_ops.huber_backward)
_binary_cross_entropy = differentiable(loss_ops.binary_cross_entropy_forward, loss_ops.binary_cross_entropy_backward)
_sigmoid_cross_entropy = differentiable(loss_ops.sigmoid_cross_entropy_forward, loss_ops.sigmoid_cross_entropy_backward)


def check(function: str, x: Any, target: Any, reduction: str, **others: Any) -> None:
    """Check that x and target have one shape and dtype; a target that would be broadcast is nearly always a slip."""
    require(function, x=x, target=target, **others)
    check_reduction(function, reduction)
    if tuple(x.shape) != tuple(target.shape):
        raise ValueError(f"{function}: target has shape {tuple(target.shape)} but x has {tuple(x.shape)}")


def mse_loss(x: Any, target: Any, reduction: str = "mean") -> Any:
    """Compute (x - target)²."""
    check("mse_loss", x, target, reduction)
    d = x - target
    return reduced(d * d, reduction)


def l1_loss(x: Any, target: Any, reduction: str = "mean") -> Any:
    """Compute |x - target|."""
    check("l1_loss", x, target, reduction)
    return reduced(abs(x - target), reduction)


def smooth_l1_loss(x: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Any:
    """Compute d²/(2 beta) where d = |x - target| < beta, else d - beta/2 (Girshick 2015, arXiv 1504.08083)."""
    check("smooth_l1_loss", x, target, reduction)
    if not beta >= 0:
        raise ValueError(f"smooth_l1_loss: beta must be >= 0, got {beta}")
    if beta == 0:
        return l1_loss(x, target, reduction)
    loss = huber_loss(x, target, reduction, beta) / beta
    return loss if isinstance(loss, TensorBase) else np.asarray(loss)  # a quotient of numbers is no array


def huber_loss(x: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Any:
    """Compute d²/2 where d = |x - target| <= delta, else delta (d - delta/2) (Huber 1964)."""
    check("huber_loss", x, target, reduction)
    if not delta > 0:
        raise ValueError(f"huber_loss: delta must be > 0, got {delta}")
    return reduced(_huber(x, target, delta=float(delta)), reduction)


def binary_cross_entropy(x: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Any:
    """Compute -(t ln p + (1 - t) ln(1 - p)), no logarithm below -100.

    Args:
        x: probabilities p in [0, 1]. target: t in [0, 1], in the shape of x.
        weight: factor of each element (broadcast), or None. reduction: "none", "sum" or "mean".
    """
    check("binary_cross_entropy", x, target, reduction, weight=weight)
    p = unwrap(x)
    if p.size and not (p.min() >= 0 and p.max() <= 1 or np.isnan(p).any()):
        raise RuntimeError(f"binary_cross_entropy: x must hold probabilities in [0, 1], got {p.min()} to {p.max()}")
    loss = _binary_cross_entropy(x, target)
    return reduced(loss if weight is None else loss * weight, reduction)


def binary_cross_entropy_with_logits(
    x: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Any:
    """Compute -(t ln σ(x) + (1 - t) ln(1 - σ(x))), exact also where σ(x) rounds to 0 or 1 ("sigmoid cross-entropy").

    Args:
        x: logits. target: t in [0, 1], in the shape of x.
        weight: factor of each element (broadcast), or None. reduction: "none", "sum" or "mean".
        pos_weight: factor of the first term, such as one for each class, or None.
    """
    function = "binary_cross_entropy_with_logits"
    check(function, x, target, reduction, weight=weight, pos_weight=pos_weight)
    w = 1.0 if pos_weight is None else unwrap(pos_weight)
    if np.broadcast_shapes(np.shape(w), tuple(x.shape)) != tuple(x.shape):
        raise ValueError(f"{function}: pos_weight of shape {np.shape(w)} does not fit x {tuple(x.shape)}")
    loss = _sigmoid_cross_entropy(x, target, pos_weight=w)
    return reduced(loss if weight is None else loss * weight, reduction)


class _Loss(Module):
    """A loss of x and target with a reduction: "none", "sum" or "mean"."""

    function: Callable[..., Any]

    def __init__(self, reduction: str = "mean"):
        super().__init__()
        self.reduction = reduction

    def forward(self, x: Any, target: Any) -> Any:
        return type(self).function(x, target, reduction=self.reduction)


class MSELoss(_Loss):
    """(x - target)²."""

    function = staticmethod(mse_loss)


class L1Loss(_Loss):
    """|x - target|."""

    function = staticmethod(l1_loss)


class SmoothL1Loss(_Loss):
    """See `functional.smooth_l1_loss`."""

    def __init__(self, reduction: str = "mean", beta: float = 1.0):
        super().__init__(reduction)
        self.beta = beta

    def forward(self, x: Any, target: Any) -> Any:
        return smooth_l1_loss(x, target, self.reduction, self.beta)


class HuberLoss(_Loss):
    """See `functional.huber_loss`."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0):
        super().__init__(reduction)
        self.delta = delta

    def forward(self, x: Any, target: Any) -> Any:
        return huber_loss(x, target, self.reduction, self.delta)


class BCELoss(_Loss):
    """See `functional.binary_cross_entropy`."""

    def __init__(self, weight: Tensor | None = None, reduction: str = "mean"):
        super().__init__(reduction)
        self.register_buffer("weight", weight)

    def forward(self, x: Any, target: Any) -> Any:
        return binary_cross_entropy(x, target, self.weight, self.reduction)


class BCEWithLogitsLoss(_Loss):
    """See `functional.binary_cross_entropy_with_logits`."""

    def __init__(self, weight: Tensor | None = None, reduction: str = "mean", pos_weight: Tensor | None = None):
        super().__init__(reduction)
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, x: Any, target: Any) -> Any:
        return binary_cross_entropy_with_logits(x, target, self.weight, self.reduction, self.pos_weight)
