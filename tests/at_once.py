"""Several Python threads that do the same."""

import threading

__all__ = ["at_once"]


def at_once(work, arguments):
    """Call `work` with each tuple of arguments in a thread of its own, and wait for all."""
    threads = [threading.Thread(target=work, args=args) for args in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
