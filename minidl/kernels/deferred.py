"""Arrays that are made when somebody looks at them, so that kernels can fuse code as people write it.

An override may return a `Deferred` instead of an array, for example batch norm, once it knows the statistics. An
override registered with `deferred=True` takes it as it is: ReLU then normalises, adds the shortcut and cuts in one pass
over memory. For everything else (a text, a hook, a user) the array is made, once, and nothing differs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Deferred", "settled"]


class Deferred:
    """An array of known shape and dtype, not made yet.

    Args:
        like: an array of its shape and dtype.
        make: returns the array, given the sources.
        sources: what it is made from; a kernel that takes the Deferred reads them instead.
    """

    __slots__ = ("_array", "dtype", "make", "ndim", "shape", "size", "sources")

    def __init__(self, like: np.ndarray, make: Callable[..., np.ndarray], *sources: Any):
        self.shape, self.dtype, self.ndim, self.size = like.shape, like.dtype, like.ndim, like.size
        self.make, self.sources = make, sources
        self._array: np.ndarray | None = None

    @property
    def array(self) -> np.ndarray:
        """The array; made at the first look, the same one ever after."""
        if self._array is None:
            self._array = self.make(*self.sources)
            self.sources = ()
        return self._array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.array, dtype, copy=copy)

    @property
    def is_made(self) -> bool:
        return self._array is not None


def settled(x: Any) -> Any:
    """The array of a Deferred; anything else as it is."""
    return x.array if isinstance(x, Deferred) else x
