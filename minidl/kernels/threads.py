"""Worker threads for kernels that release the GIL.

A thread that has done its part looks out for the next one for a moment before it sleeps: the gaps between the kernels
of a step are shorter than waking up.

Work is a range of independent tasks, cut into one contiguous part per thread. A kernel writes the same results for a
task whoever runs it, so nothing depends on the number of threads. Unlike numba's threading layers this survives a fork,
several Python threads at once, and Ctrl-C.
"""

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np

__all__ = ["at_fork", "get_num_threads", "run", "run_over", "set_num_threads"]


def _available() -> int:
    asked = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(int(asked), cores) if asked.isdecimal() and int(asked) > 0 else cores


FEW = 1 << 15  # numbers that one thread passes over in the time that another needs to begin
LOOKS = 100_000  # about a tenth of a millisecond
_num_threads = _available()
_workers: list["Worker"] = []
_starting = threading.Lock()


class Worker:
    """A thread, the queue of its jobs, and counters of what was given to it and what it has finished.

    The counters are hints where to look; only the queues decide.
    """

    def __init__(self, number: int):
        self.jobs: SimpleQueue = SimpleQueue()
        self.given, self.finished = np.zeros(1, np.int64), np.zeros(1, np.int64)
        threading.Thread(target=self.work, name=f"minidl-{number}", daemon=True).start()

    def give(self, *job: Any) -> None:
        self.jobs.put(job)
        self.given[0] += 1

    def work(self) -> None:
        from minidl.kernels.cpu.spin import spin

        while True:
            seen = self.given[0]
            if self.jobs.empty():
                spin(self.given, seen, LOOKS)
            kernel, start, stop, args, done = self.jobs.get()
            error = None
            try:
                kernel(start, stop, *args)
            except BaseException as caught:  # handed to the caller of run()
                error = caught
            del args
            done.put(error)
            self.finished[0] += 1


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
    """Call kernel(start, stop, *args) so that every task in range(tasks) is done once, on all threads."""
    parts = min(_num_threads, tasks)
    if parts <= 1:
        kernel(0, tasks, *args)
        return
    while len(_workers) < parts - 1:
        _start_worker(parts - 1)
    bounds = [tasks * i // parts for i in range(parts + 1)]
    done: SimpleQueue = SimpleQueue()
    helpers = _workers[: parts - 1]
    for i, worker in enumerate(helpers):
        worker.give(kernel, bounds[i], bounds[i + 1], args, done)
    try:
        kernel(bounds[-2], bounds[-1], *args)
    finally:
        seen = helpers[-1].finished[0]
        if done.empty():
            from minidl.kernels.cpu.spin import spin

            spin(helpers[-1].finished, seen, LOOKS)
        errors = [done.get() for _ in helpers]
    for error in errors:
        if error is not None:
            raise error


def run_over(numbers: int, kernel: Callable[..., None], tasks: int, *args: Any) -> None:
    """As `run` for a pass over so many numbers: on this thread alone where they are too few to wake another for."""
    if numbers < FEW:
        kernel(0, tasks, *args)
    else:
        run(kernel, tasks, *args)


def _start_worker(wanted: int) -> None:
    with _starting:
        if len(_workers) < wanted:
            _workers.append(Worker(len(_workers) + 1))


def _forget_workers() -> None:
    global _starting
    _workers.clear()  # a forked child has none of its parent's threads
    _starting = threading.Lock()


def at_fork(function: Callable[[], None]) -> None:
    """Call `function` first thing in every forked child, where the system forks."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


at_fork(_forget_workers)
