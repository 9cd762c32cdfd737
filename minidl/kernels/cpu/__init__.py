"""Numba kernels: overrides of the texts for NumPy arrays. Importing this registers them; nothing is compiled yet."""

from minidl.kernels.cpu import batch_norm, conv, elementwise, linear, pooling, sgd, shape

__all__ = ["batch_norm", "conv", "elementwise", "linear", "pooling", "sgd", "shape"]
