"""A tape of what was done to arrays, so that it can be done again to the same memory: see `minidl.compile`.

Kernels that helpers share are on it by themselves (minidl.kernels.threads), and so are texts. What else an override
does in NumPy's way is said: `do(np.add, y, bias, y)` changes an array, `y = compute(np.tile, x, 3)` makes one.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minidl.kernels.deferred import Deferred

__all__ = ["Call", "arrays_in", "compute", "contiguous", "do", "is_recording", "note", "play", "record"]

Call = tuple[Callable[..., Any], tuple]


class _Local(threading.local):
    calls: list[Call] | None = None  # of this thread, while it records
    keep: Callable[[tuple], tuple]  # makes of their arguments what is kept


_local = _Local()


class record:
    """Collect the calls of this thread inside the block: `with record() as calls:`.

    Args:
        keep: makes of the arguments of a call those that are kept (see minidl.kernels.buffers.lent).
    """

    def __init__(self, keep: Callable[[tuple], tuple] = lambda args: args):
        self.keep = keep

    def __enter__(self) -> list[Call]:
        _local.calls, _local.keep = [], self.keep
        return _local.calls

    def __exit__(self, *exception: object) -> None:
        _local.calls = None


def is_recording() -> bool:
    return _local.calls is not None


def play(calls: list[Call]) -> None:
    """Do again what was noted."""
    for function, args in calls:
        function(*args)


def note(function: Callable[..., Any], *args: Any) -> None:
    """Put a call on the tape, if there is one."""
    if _local.calls is not None:
        _local.calls.append((function, _local.keep(args)))


def do(function: Callable[..., Any], *args: Any) -> None:
    """Call a function that writes into arrays, and note it."""
    note(function, *args)
    function(*args)


def contiguous(x: np.ndarray) -> np.ndarray:
    """As np.ascontiguousarray; a copy is noted."""
    y = np.ascontiguousarray(x)
    if y is not x:
        note(np.copyto, y, x)
    return y


def compute(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What a pure function returns, and a note to compute it again into the same arrays."""
    if _local.calls is None:
        return function(*args, **options)
    results = _own(function(*args, **options), args)
    if not _is_deferred(results):  # else kernels make it, and note that themselves
        note(_compute_again, function, args, options, results)
    return results


def _is_deferred(x: Any) -> bool:
    return isinstance(x, Deferred) or type(x) in (tuple, list) and any(map(_is_deferred, x))


def _compute_again(function: Callable[..., Any], args: tuple, options: dict[str, Any], results: Any) -> None:
    for old, new in zip(arrays_in(results), arrays_in(_own(function(*args, **options), args)), strict=True):
        if not np.may_share_memory(old, new):  # else a view of what is there already
            np.copyto(old, new)


def _own(x: Any, args: tuple) -> Any:
    """Results with numbers as arrays, and read-only arrays that are no views of the arguments copied."""
    if type(x) in (tuple, list):
        return type(x)(_own(part, args) for part in x)
    if isinstance(x, np.ndarray) and not x.flags.writeable:
        return x if any(np.may_share_memory(x, a) for a in arrays_in(args)) else np.array(x)
    return np.asarray(x) if isinstance(x, np.generic) else x


def arrays_in(x: Any) -> Iterator[np.ndarray]:
    """The arrays in tuples, lists and dicts, however deep."""
    if isinstance(x, np.ndarray):
        yield x
    elif isinstance(x, tuple | list | dict):
        for part in x.values() if isinstance(x, dict) else x:
            yield from arrays_in(part)
