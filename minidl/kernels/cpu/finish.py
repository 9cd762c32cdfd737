"""What convolutions do to a result before it leaves the registers: max(scale y + bias + other, low).

A finish is (), (scale, low), (scale, low, other), or (scale, low, other, signs): scale (OC,), low a number, `other`
flat, as y lies in memory; with signs, `other` is added where they let it pass. Kernels get all four, empty where there
is nothing to do: so they are compiled once.
"""

import numpy as np

__all__ = ["filled"]


def filled(finish, dtype):
    """The finish with all its parts."""
    nothing = np.empty(0, dtype)
    return (*finish, *(nothing, dtype.type(-np.inf), nothing, np.empty(0, np.uint16))[len(finish) :])
