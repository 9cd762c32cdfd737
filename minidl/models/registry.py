"""The list of networks: a builder registers itself, `get_model` finds it."""

from collections.abc import Callable
from typing import Any

from minidl.nn.module import Module

__all__ = ["get_model", "list_models", "register_model"]

_builders: dict[str, Callable[..., Module]] = {}


def register_model(builder: Callable[..., Module]) -> Callable[..., Module]:
    """Make `builder` known under its own name."""
    _builders[builder.__name__] = builder
    return builder


def list_models() -> list[str]:
    """List the names that `get_model` knows."""
    return list(_builders)


def get_model(name: str, **options: Any) -> Module:
    """Build the network `name` with random weights.

    Args:
        name: one of `list_models()`.
        options: passed to the builder, e.g. num_classes=10, in_channels=3.

    Raises:
        ValueError: there is no network of that name.
    """
    if name not in _builders:
        raise ValueError(f"get_model: there is no model {name!r}; known are {', '.join(_builders)}")
    return _builders[name](**options)
