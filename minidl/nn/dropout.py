"""Dropout as functions and as layers, under PyTorch's names; draws come from minidl's global generator."""

from typing import Any

import numpy as np

from minidl.autograd import differentiable
from minidl.kernels.tape import compute
from minidl.nn.activations import overwrite
from minidl.nn.checks import require
from minidl.nn.module import Module
from minidl.ops import dropout as dropout_ops
from minidl.random import generator

__all__ = ["dropout", "dropout2d", "Dropout", "Dropout2d"]

_dropout = differentiable(dropout_ops.dropout_forward, dropout_ops.dropout_backward)


def dropout(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Set each element to 0 with probability p and divide the others by 1 - p; without `training`, return x itself.

    Source: Srivastava et al. 2014, with the division moved from evaluation to training.
    """
    require("dropout", x=x)
    return drop("dropout", x, tuple(x.shape), p, training, inplace)


def dropout2d(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Set whole channels of x (N, C, H, W) or (C, H, W) to 0 with probability p and divide the others by 1 - p.

    Source: Tompson et al. 2015, arXiv 1411.4280.
    """
    require("dropout2d", x=x)
    if x.ndim not in (3, 4):
        raise ValueError(f"dropout2d: x must have shape (N, C, H, W) or (C, H, W), got {x.shape}")
    return drop("dropout2d", x, (*x.shape[:-2], 1, 1), p, training, inplace)


def drop(function: str, x: Any, shape: tuple[int, ...], p: float, training: bool, inplace: bool) -> Any:
    """Draw which elements to keep in an array of `shape`, which is broadcast over x."""
    check_probability(function, p)
    if not training or p == 0:
        return x
    y = _dropout(x, compute(kept, shape, p), p=float(p))
    return overwrite(x, y) if inplace else y


def kept(shape: tuple[int, ...], p: float) -> np.ndarray:
    return generator().random(shape, np.float32) >= p


def check_probability(function: str, p: float) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"{function}: p must be a probability, in [0, 1], got {p}")


class Dropout(Module):
    """Set each element to 0 with probability p in training (see `functional.dropout`)."""

    function = staticmethod(dropout)

    def __init__(self, p: float = 0.5, inplace: bool = False):
        super().__init__()
        check_probability(type(self).__name__, p)
        self.p, self.inplace = p, inplace

    def forward(self, x: Any) -> Any:
        return type(self).function(x, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout2d(Dropout):
    """Set whole channels to 0 with probability p in training (see `functional.dropout2d`)."""

    function = staticmethod(dropout2d)
