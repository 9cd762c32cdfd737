"""Memory for activations and gradients, reused by the next step instead of returned to the system.

New pages cost a fault each and arrive cold; a block that was in use a moment ago is neither. Blocks start at a cache
line, so that no vector of channels lies across two.
"""

import math
import threading
from contextlib import suppress
from functools import lru_cache

import numpy as np

from minidl.kernels.threads import at_fork

__all__ = ["empty", "empty_like", "is_buffer", "lent", "own_pool", "owner", "shares_memory"]

LEAST = 1 << 14  # bytes; smaller arrays are NumPy's business
SPARE = 64 << 20  # bytes of free blocks that may always stay
MEMORY = 512  # new pages until what was in use before them counts a third
LINE = 64  # bytes of a cache line

Stacks = dict[int, list["Pages"]]  # free blocks by size; to take one or put one back is one step of the interpreter

_free: Stacks = {}
_total = 0  # bytes of the common pool, in use or free
_peak = 0  # the most that were in use, of late
_lock = threading.RLock()  # held while these change; by one thread again if a garbage collection comes between


class _Local(threading.local):
    pool: Stacks | None = None  # of this thread, inside of `own_pool`


_local = _Local()


class own_pool:
    """Take the buffers of this thread inside of the block from a pool of its own, to which they return."""

    def __init__(self, pool):
        self.pool = pool

    def __enter__(self):
        self.before, _local.pool = _local.pool, self.pool
        release()  # what lies free in the common pool is not needed beside this one

    def __exit__(self, *exception):
        _local.pool = self.before


class Pages:
    """`size` bytes from the system; `data` is NumPy's form of (address, read-only)."""

    __slots__ = ("data", "owner", "size")

    def __init__(self, size):
        self.owner, self.size = np.empty(size + LINE, np.uint8), size
        address = self.owner.ctypes.data
        self.data = (address + -address % LINE, False)


class Block:
    """Memory in use; goes back to its stack when the last array that views it is gone."""

    __slots__ = ("__array_interface__", "is_own", "memory", "signs", "stack")

    def __init__(self, memory, stack, is_own, shape, typestr):
        self.memory, self.stack, self.is_own = memory, stack, is_own
        self.signs = None  # see minidl.kernels.cpu.signs
        self.__array_interface__ = {"data": memory.data, "shape": shape, "typestr": typestr, "version": 3}

    def __del__(self):
        self.stack.append(self.memory)


def empty(shape, dtype):
    """As np.empty, from a block that was used before if one fits."""
    size, typestr = block_of(shape, dtype)
    if size < LEAST:
        return np.empty(shape, dtype)
    own = _local.pool
    stacks = _free if own is None else own
    stack = stacks.get(size)
    if stack is None:
        stack = stacks.setdefault(size, [])
    try:
        memory = stack.pop()
    except IndexError:
        memory = more(size) if own is None else Pages(size)
    return np.asarray(Block(memory, stack, own is not None, shape, typestr))


@lru_cache(4096)
def block_of(shape, dtype):
    """The size of the block for an array, at most an eighth more than its bytes if they are many, and its type."""
    dtype = np.dtype(dtype)
    size = dtype.itemsize * math.prod(shape)
    step = 1 << max(size.bit_length() - 4, 12)
    return size if size < LEAST else -(-size // step) * step, dtype.str


def more(size):
    """New pages for the common pool, for which others may have to go.

    All blocks together take at most twice as much as was ever in use at once, and SPARE. What was in use long ago
    counts less and less: the steps of a network ask for new pages in the beginning only.
    """
    global _total, _peak
    with _lock:
        _peak = max(_total - free_bytes() + size, _peak - _peak // MEMORY)
        release(2 * _peak + SPARE - size)
        _total += size
    return Pages(size)


def free_bytes():
    return sum(size * len(stack) for size, stack in list(_free.items()))


def release(limit=0):
    """Return free blocks to the system, until all that there are take `limit` bytes, or none is free."""
    global _total
    with _lock:
        for size, stack in list(_free.items()):
            while _total > limit and stack:
                with suppress(IndexError):  # somebody took the last one
                    stack.pop(0)
                    _total -= size


def empty_like(x):
    """As np.empty_like for x with contiguous channels (or rows): the same order of axes in memory."""
    if x.flags.c_contiguous:
        return empty(x.shape, x.dtype)
    order = sorted(range(x.ndim), key=lambda axis: -x.strides[axis])
    return empty(tuple(x.shape[axis] for axis in order), x.dtype).transpose(np.argsort(order))


def owner(x):
    """What owns the memory of an array: an array (perhaps itself), a Block, or whatever else lends it."""
    while (base := getattr(x, "base", x)) is not x and base is not None:  # what as_strided puts between has one, too
        x = base
    return x


def lent(x):
    """x with arrays in buffers of an `own_pool` replaced by views that do not keep them from going back there."""
    if type(x) in (tuple, list):
        return type(x)(lent(part) for part in x)
    if isinstance(x, dict):
        return {key: lent(part) for key, part in x.items()}
    block = owner(x) if isinstance(x, np.ndarray) else None
    if not isinstance(block, Block) or not block.is_own:
        return x
    pages = block.memory.owner
    start = x.__array_interface__["data"][0] - pages.__array_interface__["data"][0]
    return np.ndarray(x.shape, x.dtype, pages, start, x.strides)


def shares_memory(a, b):
    """Whether two arrays may have numbers in common."""
    return a is b or (isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and np.may_share_memory(a, b))


def is_buffer(x):
    """Whether the memory of x is such a block: then only views made from it can name it."""
    return isinstance(owner(x), Block)


def _forget():
    """A forked child starts with a lock that nobody holds."""
    global _lock
    _lock = threading.RLock()


at_fork(_forget)
