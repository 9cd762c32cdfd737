"""Python's garbage collector during a long run."""

import gc

__all__ = ["LongLived"]


class LongLived:
    """Within the block, objects that are there when `begin` is called are no longer looked at by the garbage collector.

    Each of its full passes would look at the hundreds of thousands that numba has made: 50 ms every thirty steps or so.
    """

    def __enter__(self) -> "LongLived":
        self._begun = False
        return self

    def begin(self) -> None:
        """Do so from now on, unless the program has frozen objects itself."""
        if not gc.get_freeze_count():
            gc.collect()
            gc.freeze()
            self._begun = True

    def __exit__(self, *exception: object) -> None:
        if self._begun:
            gc.unfreeze()
