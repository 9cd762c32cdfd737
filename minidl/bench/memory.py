"""Peak memory of a process that takes a few steps: `python -m minidl.bench.memory WORK SIDE THREADS` prints MB."""

import subprocess
import sys
from pathlib import Path

import minidl
from minidl.bench.networks import WORKS
from minidl.bench.sides import MODES, minidl_side, torch_side

__all__ = ["peak_memory"]

STEPS = 6


def peak_memory(name: str, side: str) -> float:
    """Megabytes that a new process holds at most, libraries included, while it takes a few steps of a work.

    Args:
        name: of `minidl.bench.networks.WORKS`.
        side: "minidl" or one of `minidl.bench.sides.MODES`.

    Raises:
        subprocess.CalledProcessError: the process failed.
    """
    words = [sys.executable, "-m", "minidl.bench.memory", name, side, str(minidl.get_num_threads())]
    return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def main(name: str, side: str, threads: str) -> None:
    """Take the steps and print the peak."""
    minidl.set_num_threads(int(threads))
    if side in MODES:
        import torch

        torch.set_num_threads(int(threads))
        step = torch_side(WORKS[name], side)[0].step
    else:
        step = minidl_side(WORKS[name]).step
    for _ in range(STEPS):
        step()
    print(_peak())


def _peak() -> float:
    """Megabytes that this process has held at most."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux's ru_maxrss would begin at what the parent process held
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return float(lines["VmHWM"].split()[0]) / 1024
    import resource  # absent on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


if __name__ == "__main__":
    main(*sys.argv[1:])
