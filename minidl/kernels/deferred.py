"""Arrays that are made when somebody looks at them, so that kernels can fuse code as people write it.

An override may return a `Deferred` instead of an array, for example batch norm, once it knows the statistics. An
override registered with `deferred=True` takes it as it is: ReLU then normalises, adds the shortcut and cuts in one pass
over memory. For everything else (a text, a hook, a user) the array is made, once, and nothing differs.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["Deferred", "settled"]


class Deferred:
    """An array of known shape and dtype, not made yet.

    Args:
        shape, dtype: of the array.
        make: returns the array, given the sources.
        sources: what it is made from; a kernel that takes the Deferred reads them instead.

    Attributes:
        read: what keeps watch over the memory that it will be made from (minidl.autograd.Memory).
    """

    __slots__ = ("_array", "dtype", "make", "ndim", "read", "shape", "size", "sources")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, make: Callable[..., np.ndarray], *sources: Any):
        self.shape, self.dtype, self.ndim, self.size = shape, dtype, len(shape), math.prod(shape)
        self.make, self.sources = make, sources
        self.read: Sequence[Any] = ()
        self._array: np.ndarray | None = None

    @property
    def array(self) -> np.ndarray:
        """The array; made at the first look, the same one ever after."""
        if self._array is None:
            self._array = self.make(*self.sources)
            self.sources = self.read = ()
        return self._array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.array, dtype, copy=copy)

    @property
    def is_made(self) -> bool:
        return self._array is not None


def settled(x: Any) -> Any:
    """The array of a Deferred; anything else as it is."""
    return x.array if isinstance(x, Deferred) else x
