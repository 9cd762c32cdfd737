"""Whether operations are recorded: a switch of each thread."""

import threading
from contextlib import ContextDecorator

__all__ = ["enable_grad", "is_grad_enabled", "no_grad", "set_grad_enabled"]


class _Local(threading.local):
    enabled = True  # whether operations of this thread are recorded


_local = _Local()


def is_grad_enabled() -> bool:
    """Tell whether operations of this thread are recorded."""
    return _local.enabled


class set_grad_enabled:
    """Record operations of this thread or not: at once as a call, until the end of the block as a context."""

    def __init__(self, mode: bool):
        self.mode, self._before = bool(mode), is_grad_enabled()
        _local.enabled = self.mode

    def __enter__(self) -> None:
        _local.enabled = self.mode

    def __exit__(self, *exception: object) -> None:
        _local.enabled = self._before


class _Mode(ContextDecorator):
    """A context, also usable as a decorator, in which the mode is `enabled`."""

    enabled: bool

    def __enter__(self) -> None:
        self._before = [*getattr(self, "_before", ()), is_grad_enabled()]  # a decorated function may call itself
        _local.enabled = self.enabled

    def __exit__(self, *exception: object) -> None:
        *self._before, _local.enabled = self._before


class no_grad(_Mode):
    """Record nothing inside: `with no_grad(): ...` or `@no_grad()`."""

    enabled = False


class enable_grad(_Mode):
    """Record again inside a `no_grad` block."""

    enabled = True
