"""Stopping a run politely: Ctrl-C and SIGTERM ask, the loop answers after the step it is in."""

import os
import signal
import threading
from pathlib import Path
from types import FrameType

__all__ = ["StopRequest", "TrainingInterrupted"]


class TrainingInterrupted(KeyboardInterrupt):
    """Raised by `fit` after it saved because of Ctrl-C or SIGTERM.

    Attributes:
        signum: the signal's number; a shell expects the exit code 128 + signum.
        path: the checkpoint that continues the run, or None where no checkpoint was asked for.
    """

    def __init__(self, signum: int, path: Path | None):
        super().__init__(f"interrupted by {signal.Signals(signum).name}" + (f", saved {path}" if path else ""))
        self.signum, self.path = signum, path


class StopRequest:
    """While the block runs, the first SIGINT or SIGTERM is noted in `signum`; a second one raises KeyboardInterrupt.

    Outside of the main thread, where Python delivers no signals, the block changes nothing.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._before[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self._before.items():
            # None: the handler was not installed from Python and cannot be put back
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            raise KeyboardInterrupt
        self.signum = signum
        # os.write, because print is not safe inside a signal handler
        os.write(2, b"\nfinishing the step, then saving (once more: quit at once)\n")
