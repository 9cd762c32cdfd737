"""Nonlinearities as functions, under PyTorch's names; the equations are in minidl.ops.activation."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minidl import primitives as op
from minidl.autograd import TensorBase, differentiable, is_grad_enabled
from minidl.kernels.deferred import Deferred
from minidl.nn.checks import require
from minidl.ops import activation

__all__ = [
    *("elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "logsigmoid", "mish", "prelu", "relu"),
    *("relu6", "relu_", "selu", "sigmoid", "silu", "softplus", "tanh"),
]

_leaky_relu = differentiable(activation.leaky_relu_forward, activation.leaky_relu_backward)
_elu = differentiable(activation.elu_forward, activation.elu_backward)
_gelu = differentiable(activation.gelu_forward, activation.gelu_backward)
_gelu_tanh = differentiable(activation.gelu_tanh_forward, activation.gelu_tanh_backward)
_silu = differentiable(activation.silu_forward, activation.silu_backward)
_hardtanh = differentiable(activation.hardtanh_forward, activation.hardtanh_backward)
_hardswish = differentiable(activation.hardswish_forward, activation.hardswish_backward)


def relu(x: Any, inplace: bool = False) -> Any:
    """Compute max(x, 0); the gradient at 0 is 0. `inplace` returns x itself, changed."""
    require("relu", x=x)
    y = op.relu(x)  # its backward reads y, so x may be overwritten
    if not inplace:
        return y
    if isinstance(x, TensorBase) and isinstance(x.held, Deferred):
        x.become(y)
        return x
    return overwrite(x, y)


def relu_(x: Any) -> Any:
    """Compute max(x, 0) in place."""
    return relu(x, inplace=True)


def overwrite(x: Any, y: Any) -> Any:
    """Make x what y is."""
    if isinstance(x, TensorBase):
        return x.copy_(y)
    x[...] = y
    return x


def apply(function: str, operation: Callable, x: Any, inplace: bool, **options: Any) -> Any:
    """Compute operation(x), or overwrite x with it; a backward that reads x then reads a copy."""
    require(function, x=x)
    if not inplace:
        return operation(x, **options)
    recorded = isinstance(x, TensorBase) and x.requires_grad and is_grad_enabled()
    return overwrite(x, operation(x.clone() if recorded else x, **options))


def sigmoid(x: Any) -> Any:
    """Compute σ(x) = 1 / (1 + exp(-x))."""
    require("sigmoid", x=x)
    return op.sigmoid(x)


def tanh(x: Any) -> Any:
    """Compute (exp(x) - exp(-x)) / (exp(x) + exp(-x))."""
    require("tanh", x=x)
    return op.tanh(x)


def leaky_relu(x: Any, negative_slope: float = 0.01, inplace: bool = False) -> Any:
    """Compute x where x > 0, else negative_slope · x."""
    return apply("leaky_relu", lambda x: _leaky_relu(x, negative_slope), x, inplace)


def prelu(x: Any, weight: Any) -> Any:
    """Compute x where x > 0, else weight · x; weight (C,), one for each channel (axis 1), or (1,)."""
    require("prelu", x=x, weight=weight)
    C = x.shape[1] if x.ndim > 1 else 1
    if weight.ndim != 1 or weight.shape[0] not in (1, C):
        raise ValueError(f"prelu: weight has shape {tuple(weight.shape)} but x {tuple(x.shape)} expects (1,) or ({C},)")
    return _leaky_relu(x, weight.reshape(-1, *(1,) * (x.ndim - 2)) if x.ndim > 1 else weight)


def elu(x: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """Compute x where x > 0, else alpha · (exp(x) - 1)."""
    return apply("elu", _elu, x, inplace, alpha=alpha)


def selu(x: Any, inplace: bool = False) -> Any:
    """Compute 1.0507 elu(x, 1.67326), which keeps mean 0 and variance 1 (Klambauer et al. 2017, arXiv 1706.02515)."""
    alpha, scale = 1.6732632423543772848, 1.0507009873554804934
    return apply("selu", lambda x: _elu(x, alpha=alpha) * scale, x, inplace)


def gelu(x: Any, approximate: str = "none") -> Any:
    """Compute x Φ(x), Φ the distribution function of N(0, 1); with approximate="tanh" by the tanh formula."""
    require("gelu", x=x)
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return _gelu(x) if approximate == "none" else _gelu_tanh(x)


def silu(x: Any, inplace: bool = False) -> Any:
    """Compute x σ(x), also called swish."""
    return apply("silu", _silu, x, inplace)


def mish(x: Any, inplace: bool = False) -> Any:
    """Compute x tanh(ln(1 + exp(x))) (Misra 2019, arXiv 1908.08681)."""
    return apply("mish", lambda x: x * op.tanh(op.softplus(x, beta=1.0, threshold=20.0)), x, inplace)


def hardtanh(x: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Any:
    """Cut x off at min_val and max_val; the gradient at the kinks is 0."""
    if not min_val < max_val:
        raise ValueError(f"hardtanh: min_val must be less than max_val, got {min_val} and {max_val}")
    return apply("hardtanh", _hardtanh, x, inplace, low=min_val, high=max_val)


def relu6(x: Any, inplace: bool = False) -> Any:
    """Cut x off at 0 and 6; the gradient at the kinks is 0."""
    return apply("relu6", _hardtanh, x, inplace, low=0.0, high=6.0)


def hardsigmoid(x: Any, inplace: bool = False) -> Any:
    """Compute x/6 + 1/2, cut off at 0 and 1."""
    return apply("hardsigmoid", lambda x: _hardtanh(x, low=-3.0, high=3.0) / 6 + 0.5, x, inplace)


def hardswish(x: Any, inplace: bool = False) -> Any:
    """Compute x hardsigmoid(x)."""
    return apply("hardswish", _hardswish, x, inplace)


def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """Compute ln(1 + exp(beta · x)) / beta, and x where beta · x > threshold."""
    require("softplus", x=x)
    return op.softplus(x, beta=float(beta), threshold=float(threshold))


def logsigmoid(x: Any) -> Any:
    """Compute ln σ(x) = -ln(1 + exp(-x))."""
    require("logsigmoid", x=x)
    return -op.softplus(-x, beta=1.0, threshold=np.inf)
