r"""The registry: every operation is a plain text, and a kernel may override it by name.

A *text* is a pure function in NumPy notation, decorated with `kernel`. It is the definition of the operation. An
*override* is a fast function with the same signature, registered for one array type ("cpu": numba on NumPy arrays,
"cuda": CuPy arrays) and for the inputs that it supports. Calling the text's name picks the override that fits, and the
text where none does:

    @kernel(y=r"\max(x, 0)")                                  # ops/elementwise.py
    def relu_forward(x): ...

    @override("relu_forward", "cpu", when=lambda x: ...)      # kernels/cpu/elementwise.py
    def _(x): ...

In the brackets are the equations, name = formula, in LaTeX with the names of the code; `minidl.study.explain` shows
them. `relu_forward.text` is the plain function, whatever is registered; `use_kernels(False)` runs all of minidl on the
texts.
"""

import importlib
import threading
from collections.abc import Callable
from functools import update_wrapper
from typing import Any

import numpy as np

from minidl.kernels.deferred import Deferred, settled
from minidl.kernels.tape import compute

__all__ = ["Kernel", "array_type", "get_kernel", "kernel", "kernels_enabled", "list_kernels", "override", "overrides"]
__all__ += ["use_kernels"]

Override = tuple[Callable[..., bool], Callable[..., Any]]

_texts: dict[str, "Kernel"] = {}
_overrides: dict[tuple[str, str], list[Override]] = {}
_homes = {"cpu": "minidl.kernels.cpu"}  # imported when an array of that type first meets a kernel
_loaded: set[str] = set()
_loading = threading.RLock()


class _Local(threading.local):
    enabled = True  # whether calls of this thread may take overrides


_local = _Local()


def array_type(x: Any) -> str | None:
    """Name the kind of array that `x`, or the first of a list, is.

    "cpu" (NumPy), "cuda" (CuPy), "tensor", or None for anything else.
    """
    if isinstance(x, (np.ndarray, Deferred)):  # a union would be made anew each time
        return "cpu"
    if isinstance(x, list) and x:
        return array_type(x[0])
    if type(x).__module__.startswith("cupy"):
        return "cuda"
    return "tensor" if hasattr(x, "__array_function__") else None


class Kernel:
    """A text with a name and its equations, called through the override that fits its first argument."""

    def __init__(self, text: Callable[..., Any], formulas: dict[str, str] | None = None):
        self.text, self.formulas = text, formulas or {}
        self.name = text.__name__
        update_wrapper(self, text)

    def __call__(self, *args: Any, **options: Any) -> Any:
        device = array_type(args[0])
        enabled = _local.enabled
        if device == "tensor":  # NEP 18, as NumPy's own functions do: the Tensor decides
            return type(args[0]).__array_function__(args[0], self, (type(args[0]),), args, options)
        if Deferred in map(type, args):
            for fits, function in overrides(self.name, "deferred") if enabled else ():
                if fits(*args, **options):
                    return function(*args, **options)
            args = tuple(settled(a) for a in args)
        if enabled and device is not None:
            for fits, function in overrides(self.name, device):
                if fits(*args, **options):
                    return function(*args, **options)
        return compute(self.text, *args, **options)

    def __repr__(self) -> str:
        return f"<kernel {self.name}>"


def kernel(text: Callable[..., Any] | None = None, **formulas: str) -> Any:
    r"""Register `text` as the definition of the operation of its name: `@kernel` or `@kernel(y=r"\max(x, 0)")`.

    Args:
        text: the function.
        formulas: what it computes, in order: name -> LaTeX with the names of the code (gamma, dx_hat) for symbols.
    """
    if text is None:
        return lambda text: kernel(text, **formulas)
    if text.__name__ in _texts and _texts[text.__name__].__module__ != text.__module__:
        raise ValueError(f"kernel: {text.__name__} is already defined in {_texts[text.__name__].__module__}")
    _texts[text.__name__] = Kernel(text, formulas)
    return _texts[text.__name__]


def override(name: str, device: str, when: Callable[..., bool] = lambda *args, **options: True):
    """Register the decorated function as the kernel of text `name` on `device`, for calls that `when` accepts.

    `when` gets the call's own arguments. The first registered override that fits is taken. On the device "deferred"
    it gets the `Deferred` arrays among them as they are (see minidl.kernels.deferred); elsewhere they are made first.

    Raises:
        ValueError: there is no text of that name.
    """
    if name not in _texts:
        raise ValueError(f"override: there is no text named {name!r}; an override needs the text that defines it")

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        _overrides.setdefault((name, device), []).append((when, function))
        return function

    return register


def overrides(name: str, device: str) -> list[Override]:
    """List the (when, function) pairs registered for a text on a device, importing the device's kernels first."""
    if device not in _loaded and device in _homes:
        with _loading:
            importlib.import_module(_homes[device])
            _loaded.add(device)
    return _overrides.get((name, device), [])


def list_kernels() -> list[str]:
    """List the names of all texts."""
    return sorted(_texts)


def get_kernel(name: str) -> Kernel:
    """Return the text of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in _texts:
        raise ValueError(f"get_kernel: there is no text named {name!r}")
    return _texts[name]


def kernels_enabled() -> bool:
    """Tell whether calls of this thread may take overrides."""
    return _local.enabled


class use_kernels:
    """Let calls of this thread take kernels (True) or run everything on the plain texts (False).

    Works at once as a call, and until the end of the block as a context manager:

        minidl.use_kernels(False)
        with minidl.use_kernels(False): ...
    """

    def __init__(self, enabled: bool = True):
        self._before = kernels_enabled()
        _local.enabled = bool(enabled)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exception: object) -> None:
        _local.enabled = self._before
