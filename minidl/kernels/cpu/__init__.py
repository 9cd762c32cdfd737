"""Numba kernels: overrides of the texts for NumPy arrays. Importing this registers them; nothing is compiled yet."""

from minidl.kernels.cpu import (
    activation,
    batch_norm,
    conv,
    elementwise,
    linear,
    normalization,
    pooling,
    sgd,
    shape,
    softmax,
)

__all__ = [
    "activation",
    "batch_norm",
    "conv",
    "elementwise",
    "linear",
    "normalization",
    "pooling",
    "sgd",
    "shape",
    "softmax",
]
