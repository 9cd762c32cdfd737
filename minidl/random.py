"""The generator behind initialisation and every other draw that is given no generator of its own."""

import threading
from typing import Any

import numpy as np

__all__ = ["fork_rng", "generator", "get_rng_state", "manual_seed", "set_rng_state"]

_generator = np.random.Generator(np.random.PCG64(0))


class _Local(threading.local):
    generator: np.random.Generator | None = None  # of this thread, inside of `fork_rng`


_local = _Local()


def generator() -> np.random.Generator:
    """Return the global generator."""
    return _local.generator or _generator


class fork_rng:
    """Let what this thread draws inside of the block come from a copy of the generator: `with fork_rng(): ...`."""

    def __enter__(self) -> None:
        self._before, copy = _local.generator, np.random.Generator(np.random.PCG64(0))
        copy.bit_generator.state = generator().bit_generator.state
        _local.generator = copy

    def __exit__(self, *exception: object) -> None:
        _local.generator = self._before


def manual_seed(seed: int) -> None:
    """Restart the global generator from `seed` (an integer >= 0).

    Raises:
        TypeError, ValueError: `seed` is not an integer, or negative.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise TypeError(f"manual_seed: seed must be an integer, got {seed!r}")
    if seed < 0:
        raise ValueError(f"manual_seed: seed must be >= 0, got {seed}")
    generator().bit_generator.state = np.random.PCG64(int(seed)).state


def get_rng_state() -> dict[str, Any]:
    """Return the global generator's state as a dict of strings and integers (JSON can hold it)."""
    return generator().bit_generator.state


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore a state that `get_rng_state` returned.

    Raises:
        ValueError: `state` is not such a state.
    """
    try:
        generator().bit_generator.state = state
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise ValueError(f"set_rng_state: not a state of get_rng_state: {error}") from error
