"""Memory for activations and gradients, reused by the next step instead of returned to the system.

New pages cost a fault each and arrive cold; a block that was in use a moment ago is neither. Blocks start at a cache
line, so that no vector of channels lies across two.
"""

import threading

import numpy as np

from minidl.kernels.threads import at_fork

__all__ = ["empty", "empty_like", "is_buffer", "lent", "own_pool", "owner", "shares_memory"]

LEAST = 1 << 14  # bytes; smaller arrays are NumPy's business
SPARE = 64 << 20  # bytes of free blocks that are always kept
LINE = 64  # bytes of a cache line

_lock = threading.RLock()  # a block may be freed (by a garbage collection) while this thread holds it
_free: dict[int, list["Pages"]] = {}  # by size
_bytes = {"used": 0, "free": 0}


class _Local(threading.local):
    pool: dict[int, list["Pages"]] | None = None  # of this thread, inside of `own_pool`


_local = _Local()


class own_pool:
    """Take the buffers of this thread inside of the block from a pool of its own, to which they return."""

    def __init__(self, pool):
        self.pool = pool

    def __enter__(self):
        self.before, _local.pool = _local.pool, self.pool
        with _lock:
            release(0)  # what lies free in the common pool is not needed beside this one

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
    """Memory in use; goes back when the last array that views it is gone."""

    __slots__ = ("__array_interface__", "memory", "pool", "signs")

    def __init__(self, memory, shape, dtype, pool=None):
        self.memory, self.pool, self.signs = memory, pool, None  # signs: see minidl.kernels.cpu.signs
        self.__array_interface__ = {"data": memory.data, "shape": shape, "typestr": dtype.str, "version": 3}

    def __del__(self):
        with _lock:
            if self.pool is not None:
                self.pool.setdefault(self.memory.size, []).append(self.memory)
                return
            _free.setdefault(self.memory.size, []).append(self.memory)
            _bytes["used"] -= self.memory.size
            _bytes["free"] += self.memory.size


def empty(shape, dtype):
    """As np.empty, from a block that was used before if one fits."""
    dtype = np.dtype(dtype)
    size = dtype.itemsize
    for extent in shape:
        size *= extent
    if size < LEAST:
        return np.empty(shape, dtype)
    size, pool = rounded(size), _local.pool
    if pool is not None:
        with _lock:
            memory = pool[size].pop() if pool.get(size) else Pages(size)
        return np.asarray(Block(memory, shape, dtype, pool))
    with _lock:
        blocks = _free.get(size)
        if blocks:
            memory = blocks.pop()
            _bytes["free"] -= size
        else:
            release(max(SPARE, _bytes["used"]))
            memory = Pages(size)
        _bytes["used"] += size
    return np.asarray(Block(memory, shape, dtype))


def empty_like(x):
    """As np.empty_like for x with contiguous channels (or rows): the same order of axes in memory."""
    if x.flags.c_contiguous:
        return empty(x.shape, x.dtype)
    order = sorted(range(x.ndim), key=lambda axis: -x.strides[axis])
    return empty(tuple(x.shape[axis] for axis in order), x.dtype).transpose(np.argsort(order))


def rounded(size):
    """The size of the block for so many bytes: at most an eighth more."""
    step = 1 << max(size.bit_length() - 4, 12)
    return -(-size // step) * step


def release(limit):
    """Return free blocks to the system, until `limit` bytes of them are left."""
    for size in list(_free):
        while _free[size] and _bytes["free"] > limit:
            _free[size].pop(0)
            _bytes["free"] -= size
        if not _free[size]:
            del _free[size]


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
    if not isinstance(block, Block) or block.pool is None:
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
