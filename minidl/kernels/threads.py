"""Worker threads for kernels that release the GIL.

Work is a range of independent tasks, cut into one contiguous part per thread. A kernel writes the same results for a
task whoever runs it, so nothing depends on the number of threads. Unlike numba's threading layers this survives a fork,
several Python threads at once, and Ctrl-C.
"""

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

__all__ = ["at_fork", "get_num_threads", "run", "set_num_threads"]


def _available() -> int:
    asked = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(int(asked), cores) if asked.isdecimal() and int(asked) > 0 else cores


_num_threads = _available()
_workers: list[SimpleQueue] = []
_starting = threading.Lock()


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
    for i in range(parts - 1):
        _workers[i].put((kernel, bounds[i], bounds[i + 1], args, done))
    try:
        kernel(bounds[-2], bounds[-1], *args)
    finally:
        errors = [done.get() for _ in range(parts - 1)]
    for error in errors:
        if error is not None:
            raise error


def _start_worker(wanted: int) -> None:
    with _starting:
        if len(_workers) < wanted:
            jobs: SimpleQueue = SimpleQueue()
            threading.Thread(target=_work, args=(jobs,), name=f"minidl-{len(_workers) + 1}", daemon=True).start()
            _workers.append(jobs)


def _work(jobs: SimpleQueue) -> None:
    while True:
        kernel, start, stop, args, done = jobs.get()
        error = None
        try:
            kernel(start, stop, *args)
        except BaseException as caught:  # handed to the caller of run()
            error = caught
        del args
        done.put(error)


def _forget_workers() -> None:
    global _starting
    _workers.clear()  # a forked child has none of its parent's threads
    _starting = threading.Lock()


def at_fork(function: Callable[[], None]) -> None:
    """Call `function` first thing in every forked child, where the system forks."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


at_fork(_forget_workers)
