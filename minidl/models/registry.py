"""The list of networks: a builder registers itself, `get_model` finds it."""

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from minidl.nn import Module

__all__ = ["get_model", "list_models", "register_model"]

_builders: dict[str, Callable[..., Module]] = {}


def register_model(builder: Callable[..., Module], name: str, doc: str) -> Callable[..., Module]:
    """Make `builder` known as `name`; `doc` says what it builds, with the input's size and the source."""
    builder.__name__ = builder.__qualname__ = name
    builder.__doc__ = doc
    _builders[name] = builder
    return builder


def list_models() -> list[str]:
    """List the names that `get_model` knows."""
    return list(_builders)


def get_model(name: str, **options: Any) -> Module:
    """Build the network `name` with random weights.

    Args:
        name: one of `list_models()`.
        options: passed to the builder; all take num_classes= and in_channels=.

    Raises:
        ValueError: there is no network of that name, or an option has a value that does not fit.
        TypeError: the network has no such option.
    """
    if not isinstance(name, str) or name not in _builders:
        close = difflib.get_close_matches(str(name), _builders, n=4)
        known = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(_builders)}"
        raise ValueError(f"get_model: there is no model {name!r}; {known}")
    known = inspect.signature(_builders[name]).parameters
    for option in options:
        if option not in known:
            raise TypeError(f"get_model: {name} has no option {option!r}; it takes {', '.join(known)}")
    return _builders[name](**options)
