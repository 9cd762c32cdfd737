"""Nonlinearities as layers, under PyTorch's names."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.creation import full
from minidl.nn import activations as F
from minidl.nn.checks import positive
from minidl.nn.losses import log_softmax, softmax
from minidl.nn.module import Module, Parameter

__all__ = [
    *("ELU", "GELU", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU", "LogSigmoid", "LogSoftmax", "Mish"),
    *("PReLU", "ReLU", "ReLU6", "SELU", "Sigmoid", "SiLU", "Softmax", "Softplus", "Tanh"),
]


class _Activation(Module):
    """A layer without parameters: its options are those of the function, kept as attributes of the same names."""

    function: Callable[..., Any]

    def __init__(self, **options: Any):
        super().__init__()
        self._options = tuple(options)
        for name, value in options.items():
            setattr(self, name, value)

    def forward(self, x: Any) -> Any:
        return type(self).function(x, **{name: getattr(self, name) for name in self._options})

    def extra_repr(self) -> str:
        shown = {n: getattr(self, n) for n in self._options if n != "inplace" or self.inplace}
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())


class ReLU(_Activation):
    """max(x, 0)."""

    function = staticmethod(F.relu)

    def __init__(self, inplace: bool = False):
        super().__init__(inplace=inplace)


class ReLU6(_Activation):
    """x, cut off at 0 and 6."""

    function = staticmethod(F.relu6)

    def __init__(self, inplace: bool = False):
        super().__init__(inplace=inplace)


class LeakyReLU(_Activation):
    """x where x > 0, else negative_slope · x."""

    function = staticmethod(F.leaky_relu)

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False):
        super().__init__(negative_slope=negative_slope, inplace=inplace)


class PReLU(Module):
    """x where x > 0, else weight · x, the weight learned: one number, or one for each channel."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25, dtype: Any = np.float32):
        super().__init__()
        positive("PReLU", num_parameters=num_parameters)
        self.num_parameters = num_parameters
        self.weight = Parameter(full((num_parameters,), float(init), dtype=dtype))

    def forward(self, x: Any) -> Any:
        return F.prelu(x, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class ELU(_Activation):
    """x where x > 0, else alpha · (exp(x) - 1)."""

    function = staticmethod(F.elu)

    def __init__(self, alpha: float = 1.0, inplace: bool = False):
        super().__init__(alpha=alpha, inplace=inplace)


class SELU(_Activation):
    """1.0507 elu(x, 1.67326)."""

    function = staticmethod(F.selu)

    def __init__(self, inplace: bool = False):
        super().__init__(inplace=inplace)


class GELU(_Activation):
    """x Φ(x); approximate: "none" or "tanh"."""

    function = staticmethod(F.gelu)

    def __init__(self, approximate: str = "none"):
        super().__init__(approximate=approximate)


class SiLU(_Activation):
    """x σ(x), also called swish."""

    function = staticmethod(F.silu)

    def __init__(self, inplace: bool = False):
        super().__init__(inplace=inplace)


class Mish(_Activation):
    """x tanh(ln(1 + exp(x)))."""

    function = staticmethod(F.mish)

    def __init__(self, inplace: bool = False):
        super().__init__(inplace=inplace)


class Hardtanh(_Activation):
    """x, cut off at min_val and max_val."""

    function = staticmethod(F.hardtanh)

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False):
        super().__init__(min_val=min_val, max_val=max_val, inplace=inplace)


class Hardsigmoid(_Activation):
    """x/6 + 1/2, cut off at 0 and 1."""

    function = staticmethod(F.hardsigmoid)

    def __init__(self, inplace: bool = False):
        super().__init__(inplace=inplace)

    def extra_repr(self) -> str:
        return ""


class Hardswish(_Activation):
    """x hardsigmoid(x)."""

    function = staticmethod(F.hardswish)

    def __init__(self, inplace: bool = False):
        super().__init__(inplace=inplace)

    def extra_repr(self) -> str:
        return ""


class Softplus(_Activation):
    """ln(1 + exp(beta · x)) / beta."""

    function = staticmethod(F.softplus)

    def __init__(self, beta: float = 1.0, threshold: float = 20.0):
        super().__init__(beta=beta, threshold=threshold)


class Sigmoid(_Activation):
    """1 / (1 + exp(-x))."""

    function = staticmethod(F.sigmoid)


class LogSigmoid(_Activation):
    """ln σ(x)."""

    function = staticmethod(F.logsigmoid)


class Tanh(_Activation):
    """The hyperbolic tangent."""

    function = staticmethod(F.tanh)


class Softmax(_Activation):
    """exp(x) / Σ exp(x) along `dim`."""

    function = staticmethod(softmax)

    def __init__(self, dim: int | None = None):
        super().__init__(dim=dim)


class LogSoftmax(_Activation):
    """x - ln Σ exp(x) along `dim`."""

    function = staticmethod(log_softmax)

    def __init__(self, dim: int | None = None):
        super().__init__(dim=dim)
