"""Helper threads for kernels that release the GIL.

Work is a range of independent tasks; a kernel writes the same results for a task whoever does it, so nothing depends on
the number of threads. A helper that has nothing to do looks out for the next kernel for a moment before it sleeps: the
gaps between the kernels of a step are shorter than waking up. Kernels reach helpers that are awake without the
interpreter (minidl.kernels.cpu.launch). Unlike numba's threading layers this survives a fork, several Python threads at
once (one of them has the helpers, the others compute alone meanwhile), and Ctrl-C.
"""

import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.kernels.tape import do, note

__all__ = ["at_fork", "get_num_threads", "run", "run_over", "set_num_threads"]


def _available() -> int:
    asked = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(int(asked), cores) if asked.isdecimal() and int(asked) > 0 else cores


FEW = 1 << 15  # numbers that one thread passes over in the time that another needs to begin
LOOKS = 1_000_000  # something below a millisecond
MOST = 1024  # helpers
MAILBOX = 128  # bytes of a mailbox: two cache lines, so that no two helpers share one
HELPERS = 0  # the first number before all mailboxes: how many of them count
ASLEEP, IDLE, OFFERED, TAKEN = range(4)  # states of a helper: the first number in its mailbox
_num_threads = _available()


class Crew:
    """Helper threads and their mailboxes. One Python thread at a time gives them work: who holds `free`."""

    def __init__(self) -> None:
        self.free = threading.Lock()
        self.mailboxes = np.zeros((1 + MOST, MAILBOX // 8), np.int64)
        self.address = self.mailboxes.ctypes.data
        self.beds: list[threading.Lock] = []  # a helper sleeps as long as it cannot have its own

    def call(self, helpers: int) -> int:
        """Wake so many helpers and return the address of their mailboxes."""
        while len(self.beds) < helpers:
            self.beds.append(threading.Lock())
            self.beds[-1].acquire()
            number = len(self.beds)
            place = self.address, number, self.beds[-1]
            threading.Thread(target=help_out, args=place, name=f"minidl-{number}", daemon=True).start()
        for number in range(helpers):
            if self.mailboxes[1 + number, 0] == ASLEEP:
                self.mailboxes[1 + number, 0] = IDLE
                self.beds[number].release()
        self.mailboxes[0, HELPERS] = helpers
        return self.address


def help_out(crew: int, number: int, bed: threading.Lock) -> None:
    """Do what kernels put into the mailbox, and sleep meanwhile."""
    from minidl.kernels.cpu.launch import serve

    while True:
        bed.acquire()
        serve(crew, number, LOOKS)


_crew, _alone = Crew(), Crew()  # no helper is ever called to the second


def get_num_threads() -> int:
    """Return how many threads kernels use (at first: the cores of this process, at most OMP_NUM_THREADS)."""
    return _num_threads


def set_num_threads(num_threads: int) -> None:
    """Set how many threads kernels use; results do not depend on it.

    Raises:
        ValueError: `num_threads` is not a positive integer.
    """
    global _num_threads
    if isinstance(num_threads, bool) or not isinstance(num_threads, int) or num_threads < 1:
        raise ValueError(f"set_num_threads: num_threads must be a positive integer, got {num_threads!r}")
    _num_threads = num_threads


def run(kernel: Callable[..., None], tasks: int, *args: Any) -> None:
    """Do every task in range(tasks) once, on all threads that are free."""
    note(run, kernel, tasks, *args)
    helpers, crew = min(_num_threads, tasks, MOST) - 1, _crew
    if helpers > 0 and crew.free.acquire(blocking=False):
        try:
            kernel(0, tasks, crew.call(helpers), *args)
        finally:
            crew.free.release()
    else:
        kernel(0, tasks, _alone.address, *args)


def run_over(numbers: int, kernel: Callable[..., None], tasks: int, *args: Any) -> None:
    """As `run` for a pass over so many numbers: on this thread alone where they are too few to wake another for."""
    if numbers < FEW:
        do(kernel, 0, tasks, _alone.address, *args)
    else:
        run(kernel, tasks, *args)


def at_fork(function: Callable[[], None]) -> None:
    """Call `function` first thing in every forked child, where the system forks."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def _forget_helpers() -> None:
    global _crew
    _crew = Crew()  # a forked child has none of its parent's threads


at_fork(_forget_helpers)
