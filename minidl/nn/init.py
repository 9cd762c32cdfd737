"""Initial weights, under PyTorch's names; each fills its Tensor in place and returns it.

Draws come from minidl's global generator (`minidl.manual_seed`).
"""

import math
from collections.abc import Callable

import numpy as np

from minidl.random import generator
from minidl.tensor import Tensor

__all__ = [
    *("calculate_gain", "constant_", "dirac_", "eye_", "kaiming_normal_", "kaiming_uniform_", "normal_", "ones_"),
    *("orthogonal_", "trunc_normal_", "uniform_", "xavier_normal_", "xavier_uniform_", "zeros_"),
]


def _store(tensor: Tensor, values: np.ndarray | float) -> Tensor:
    tensor.detach().copy_(np.asarray(values, tensor.dtype))
    return tensor


def _draw(tensor: Tensor, draw: Callable[[tuple[int, ...]], np.ndarray]) -> Tensor:
    """Store draw(shape), some rows at a time: fresh memory for 100 million float64 costs more than drawing them."""
    if tensor.ndim == 0:
        return _store(tensor, draw(()))
    values, rows = tensor.detach(), max(1, 2**16 // max(1, math.prod(tensor.shape[1:])))
    for first in range(0, tensor.shape[0], rows):
        part = values[first : first + rows]
        _store(part, draw(part.shape))
    return tensor


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Draw from U(a, b)."""
    return _draw(tensor, lambda shape: generator().uniform(a, b, shape))


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Draw from N(mean, std²)."""
    return _draw(tensor, lambda shape: generator().normal(mean, std, shape))


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Set every element to `val`."""
    return _store(tensor, val)


def zeros_(tensor: Tensor) -> Tensor:
    """Set every element to 0."""
    return _store(tensor, 0)


def ones_(tensor: Tensor) -> Tensor:
    """Set every element to 1."""
    return _store(tensor, 1)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor that keeps the variance through a nonlinearity."""
    gains = {"linear": 1.0, "conv2d": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in gains:
        raise ValueError(
            f"calculate_gain: nonlinearity must be one of {sorted([*gains, 'leaky_relu'])}, got {nonlinearity!r}"
        )
    return gains[nonlinearity]


def fans(tensor: Tensor) -> tuple[int, int]:
    """(inputs, outputs) of one element of a weight (OUT, IN, ...)."""
    if tensor.ndim < 2:
        raise ValueError(f"init: fan in and fan out need a weight of 2 axes or more, got shape {tensor.shape}")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Draw from U(-a, a), a = gain √(6 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""
    bound = gain * math.sqrt(6 / sum(fans(tensor)))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Draw from N(0, gain² 2 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""
    return normal_(tensor, 0, gain * math.sqrt(2 / sum(fans(tensor))))


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"kaiming: mode must be 'fan_in' or 'fan_out', got {mode!r}")
    fan = fans(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(max(1, fan))


def kaiming_normal_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Draw from N(0, gain² / fan) (He et al. 2015, arXiv 1502.01852)."""
    return normal_(tensor, 0, _kaiming_std(tensor, a, mode, nonlinearity))


def kaiming_uniform_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Draw from U(-b, b), b = gain √(3 / fan) (He et al. 2015)."""
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def trunc_normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Tensor:
    """Draw from N(mean, std²), again and again where a draw is outside [a, b]."""
    if not a < b:
        raise ValueError(f"trunc_normal_: a must be less than b, got {a} and {b}")

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        values = generator().normal(mean, std, shape)
        for _ in range(1000):
            outside = (values < a) | (values > b)
            if not outside.any():
                return values
            values[outside] = generator().normal(mean, std, int(outside.sum()))
        raise ValueError(f"trunc_normal_: N({mean}, {std}²) has next to nothing in [{a}, {b}]")

    return _draw(tensor, draw)


def orthogonal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Draw an orthogonal matrix, times gain: rows (or, if there are more of them, columns) of length 1 at right angles.

    The weight (OUT, IN, ...) counts as a matrix (OUT, IN * ...). Source: Saxe et al. 2013, arXiv 1312.6120.
    """
    if tensor.ndim < 2:
        raise ValueError(f"orthogonal_: a weight of 2 axes or more is needed, got shape {tensor.shape}")
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    q, r = np.linalg.qr(generator().standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))  # else they are not drawn evenly (Mezzadri 2007)
    return _store(tensor, gain * (q.T if rows < columns else q).reshape(tensor.shape))


def eye_(tensor: Tensor) -> Tensor:
    """Make a matrix the identity."""
    if tensor.ndim != 2:
        raise ValueError(f"eye_: a matrix is needed, got shape {tensor.shape}")
    return _store(tensor, np.eye(*tensor.shape))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Make a convolution's weight pass its input on: in each group, output channel i is input channel i."""
    if tensor.ndim < 3 or tensor.shape[0] % groups:
        raise ValueError(f"dirac_: a weight of 3 axes or more is needed, of {groups} groups, got {tensor.shape}")
    values, each = np.zeros(tensor.shape), tensor.shape[0] // groups
    for o in range(tensor.shape[0]):
        if o % each < tensor.shape[1]:
            values[(o, o % each, *(k // 2 for k in tensor.shape[2:]))] = 1
    return _store(tensor, values)


# Names of older PyTorch files, and the ones without the underscore.
_calculate_fan_in_and_fan_out = fans
kaiming_normal, kaiming_uniform, xavier_normal = kaiming_normal_, kaiming_uniform_, xavier_normal_
xavier_uniform, normal, uniform, constant = xavier_uniform_, normal_, uniform_, constant_
