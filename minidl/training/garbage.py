"""Python's garbage collector during a long run."""

import gc

__all__ = ["LongLived"]

STEPS = 20  # of a run before it counts as long: what is done then takes a tenth of a second


class LongLived:
    """Within the block, what is there after some steps is no longer looked at by the garbage collector.

    Each of its full passes would look at the hundreds of thousands of objects that numba has made: 50 ms, every thirty
    steps or so.
    """

    def __enter__(self) -> "LongLived":
        self._steps, self._begun = 0, False
        return self

    def step(self) -> None:
        """Count a step."""
        self._steps += 1
        if self._steps == STEPS and not gc.get_freeze_count():  # else the program has frozen objects itself
            gc.collect()
            gc.freeze()
            self._begun = True

    def __exit__(self, *exception: object) -> None:
        if self._begun:
            gc.unfreeze()
