"""Make a numbered series of things in threads, ahead of the consumer and handed over in order."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["prefetch"]


class _Shared:
    """What the workers and the consumer share. Workers hold this, never the iterator, so that it can be collected."""

    def __init__(self, make: Callable[[int], Any], numbers: range, window: int):
        self.make, self.numbers, self.window = make, numbers, window
        self.taken = self.delivered = 0  # how many the workers have begun, and the consumer has received
        self.done: dict[int, tuple[Any, BaseException | None]] = {}
        self.stopped = False
        self.change = threading.Condition()

    def work(self) -> None:
        while True:
            with self.change:
                self.change.wait_for(lambda: self.stopped or self.taken < self.delivered + self.window)
                if self.stopped or self.taken >= len(self.numbers):
                    return
                position = self.taken
                self.taken += 1
            try:
                outcome = self.make(self.numbers[position]), None
            except BaseException as error:  # noqa: B036 - raised again in the consumer
                outcome = None, error
            with self.change:
                self.done[position] = outcome
                self.change.notify_all()

    def stop(self) -> None:
        with self.change:
            self.stopped = True
            self.done.clear()
            self.change.notify_all()


def prefetch(make: Callable[[int], Any], numbers: range, workers: int, window: int) -> Iterator[Any]:
    """Yield make(number) for each number, in order, computed by `workers` threads at most `window` ahead.

    An error in a worker is raised here, as the same object, when its turn comes. The threads end with the iterator:
    exhausted, closed or collected.
    """
    shared = _Shared(make, numbers, window)
    threads = [threading.Thread(target=shared.work, name=f"minidl-loader-{k}", daemon=True) for k in range(workers)]
    try:
        for thread in threads:
            thread.start()
        for position, number in enumerate(numbers):
            with shared.change:
                shared.change.wait_for(lambda position=position: position in shared.done)
                value, error = shared.done.pop(position)
                shared.delivered += 1
                shared.change.notify_all()
            if error is not None:
                error.add_note(f"(raised by a DataLoader thread while making batch {number})")
                raise error
            yield value
    finally:
        shared.stop()
