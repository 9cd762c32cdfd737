"""Timing two libraries fairly: check that they compute the same, then alternate, and compare medians."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import minidl
from minidl.bench.networks import WORKS, Work
from minidl.bench.sides import MODES, Side, minidl_side, torch_side, torch_version

__all__ = ["compare", "differences", "measure"]

PAUSE = 0.05  # seconds between two libraries: PyTorch's threads spin for a while after their work
WARM_UP = 3  # steps before the first that is timed
TOLERANCE = 0.05  # of outputs and gradients, relative to their norm: PyTorch's own two layouts differ by 0.005


def differences(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> dict[str, float]:
    """‖a - b‖ / ‖b‖ of arrays of the same name.

    Raises:
        ValueError: names or shapes differ.
    """
    if one.keys() != other.keys():
        raise ValueError(f"bench: the libraries name different things: {sorted(one.keys() ^ other.keys())}")
    found = {}
    for name, b in other.items():
        a = one[name]
        if a.shape != b.shape:
            raise ValueError(f"bench: {name} has shape {a.shape} in minidl and {b.shape} in PyTorch")
        found[name] = float(np.linalg.norm(a.astype(np.float64) - b) / max(np.linalg.norm(b), 1e-12))
    return found


def check(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """The largest difference between the first steps of two libraries.

    Gradients that are zero by the mathematics (of a bias before a batch norm) are left out: they are rounding errors.

    Raises:
        ValueError: they do not compute the same.
    """
    largest = max(float(np.linalg.norm(b)) for name, b in other.items())
    relevant = {name for name, b in other.items() if np.linalg.norm(b) > 1e-5 * largest}
    found = {name: d for name, d in differences(one, other).items() if name in relevant}
    name = max(found, key=lambda k: found[k])
    if not found[name] <= TOLERANCE:
        raise ValueError(f"bench: minidl and PyTorch do not compute the same: {name} differs by {found[name]:.2g}")
    return found[name]


def measure(sides: list[Side], rounds: int, seconds: float, tick: Callable[[], None] = lambda: None) -> dict[str, list]:
    """Milliseconds of a step by side and round, the sides taking turns; each turn lasts about `seconds`."""
    for side in sides:
        for _ in range(WARM_UP):
            side.step()
        tick()
    times: dict[str, list[float]] = {side.name: [] for side in sides}
    for turn in range(rounds):
        for side in sides if turn % 2 == 0 else sides[::-1]:
            time.sleep(PAUSE)
            side.step()  # brings its own data back into the cache
            steps, begin = 0, time.perf_counter()
            while steps < 1 or time.perf_counter() - begin < seconds:
                side.step()
                steps += 1
            times[side.name].append(1e3 * (time.perf_counter() - begin) / steps)
        tick()
    return times


def compare(
    name: str,
    rounds: int = 7,
    seconds: float = 0.5,
    modes: tuple[str, ...] = MODES,
    tick: Callable[[], None] = lambda: None,
    batch: int | None = None,
) -> dict[str, Any]:
    """Time a work on minidl and, where it is installed, on PyTorch with the same number of threads.

    Args:
        name: of `minidl.bench.networks.WORKS`.
        rounds: turns of each side.
        seconds: of each turn.
        modes: of PyTorch.
        tick: called as the work goes on.
        batch: images of a step, instead of the work's own number.

    Returns:
        JSON values: "title", "batch", "wanted"; "milliseconds" and "spread" (half the distance between the quartiles,
        relative to the median) by side; "ratio", the median over rounds of PyTorch's fastest eager mode to minidl, with
        its "ratio_quartiles"; "difference" of the first step.

    Raises:
        ValueError: the two do not compute the same.
    """
    work: Work = WORKS[name] if batch is None else replace(WORKS[name], batch=batch, wanted=1.0)
    result: dict[str, Any] = {"name": name, "title": work.title, "batch": work.batch, "wanted": work.wanted}
    if torch_version() is None:
        sides = [minidl_side(work)]
    else:
        import torch

        torch.set_num_threads(minidl.get_num_threads())
        others, weights = zip(*(torch_side(work, mode) for mode in modes), strict=True)
        own = minidl_side(work, weights[0])
        result["difference"] = check(own.first(), others[0].first())
        sides = [own, *others]
    times = measure(sides, rounds, seconds, tick)
    result["milliseconds"] = {side: float(np.median(ts)) for side, ts in times.items()}
    result["spread"] = {
        side: float(np.subtract(*np.percentile(ts, [75, 25])) / 2 / np.median(ts)) for side, ts in times.items()
    }
    eager = [side for side in times if "eager" in side]
    if eager:
        fastest = min(eager, key=lambda side: result["milliseconds"][side])
        ratios = np.divide(times[fastest], times["minidl"])
        result["yardstick"], result["ratio"] = fastest, float(np.median(ratios))
        result["ratio_quartiles"] = [float(q) for q in np.percentile(ratios, [25, 75])]
    return result
