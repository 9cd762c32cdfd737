"""Looking on while a network runs: operations know the modules that run them, and watchers see every operation.

Both belong to a thread; the tools of minidl.study and the exporters are built on them.
"""

import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Watcher", "here", "watch"]

Watcher = Callable[[Any, tuple, dict, Any, Any], None]


class _Local(threading.local):
    def __init__(self) -> None:
        self.modules: list[Any] = []  # that are running, the outermost first
        self.watchers: list[Watcher] = []


here = _Local()


class watch:
    """Call `watcher(operation, inputs, options, output, saved)` after every operation on Tensors inside the block.

    Args:
        watcher: gets the `differentiable` operation, what it was called with (Tensors, arrays, numbers, None) and by
            which options, the Tensor that came out, and what the forward text saved for backward.
    """

    def __init__(self, watcher: Watcher):
        self.watcher = watcher

    def __enter__(self) -> "watch":
        here.watchers.append(self.watcher)
        return self

    def __exit__(self, *exception: object) -> None:
        here.watchers.remove(self.watcher)
