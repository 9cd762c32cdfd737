"""A tape of what was done to arrays, so that it can be done again to the same memory: see `minidl.compile`.

Kernels that helpers share are on it by themselves (minidl.kernels.threads), and so are texts. An override that changes
an array in NumPy's way says so: `do(np.add, y, bias, y)`.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

__all__ = ["Call", "arrays_in", "compute", "contiguous", "do", "is_recording", "note", "record"]

Call = tuple[Callable[..., Any], tuple]


class _Local(threading.local):
    calls: list[Call] | None = None  # of this thread, while it records


_local = _Local()


class record:
    """Collect the calls of this thread inside the block: `with record() as calls:`."""

    def __enter__(self) -> list[Call]:
        _local.calls = calls = []
        return calls

    def __exit__(self, *exception: object) -> None:
        _local.calls = None


def is_recording() -> bool:
    return _local.calls is not None


def note(function: Callable[..., Any], *args: Any) -> None:
    """Put a call on the tape, if there is one."""
    if _local.calls is not None:
        _local.calls.append((function, args))


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


def compute(function: Callable[..., Any], args: tuple, options: dict[str, Any]) -> Any:
    """What a pure function returns, and a note to compute it again into the same arrays."""
    results = function(*args, **options)
    note(_compute_again, function, args, options, results)
    return results


def _compute_again(function: Callable[..., Any], args: tuple, options: dict[str, Any], results: Any) -> None:
    for old, new in zip(arrays_in(results), arrays_in(function(*args, **options)), strict=True):
        if not np.may_share_memory(old, new):  # else a view of what is there already
            np.copyto(old, new)


def arrays_in(x: Any) -> Iterator[np.ndarray]:
    """The arrays in tuples, lists and dicts, however deep."""
    if isinstance(x, np.ndarray):
        yield x
    elif isinstance(x, tuple | list | dict):
        for part in x.values() if isinstance(x, dict) else x:
            yield from arrays_in(part)
