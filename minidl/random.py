"""The generator behind initialisation and every other draw that is given no generator of its own."""

from typing import Any

import numpy as np

__all__ = ["generator", "get_rng_state", "manual_seed", "set_rng_state"]

_generator = np.random.Generator(np.random.PCG64(0))


def generator() -> np.random.Generator:
    """Return the global generator."""
    return _generator


def manual_seed(seed: int) -> None:
    """Restart the global generator from `seed` (an integer >= 0).

    Raises:
        TypeError, ValueError: `seed` is not an integer, or negative.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise TypeError(f"manual_seed: seed must be an integer, got {seed!r}")
    if seed < 0:
        raise ValueError(f"manual_seed: seed must be >= 0, got {seed}")
    _generator.bit_generator.state = np.random.PCG64(int(seed)).state


def get_rng_state() -> dict[str, Any]:
    """Return the global generator's state as a dict of strings and integers (JSON can hold it)."""
    return _generator.bit_generator.state


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore a state that `get_rng_state` returned.

    Raises:
        ValueError: `state` is not such a state.
    """
    try:
        _generator.bit_generator.state = state
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise ValueError(f"set_rng_state: not a state of get_rng_state: {error}") from error
