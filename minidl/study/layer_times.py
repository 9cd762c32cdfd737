"""How long each call of a module takes in the forward pass."""

import contextlib
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from tqdm import tqdm

from minidl.autograd import set_grad_enabled
from minidl.nn.module import Module
from minidl.study.one_pass import tensors_in, unchanged

__all__ = ["CallTime", "time_calls"]

LEAST_RUNS, MOST_RUNS, SECONDS = 5, 50, 1.0  # as many runs as fit into SECONDS, within these bounds


class CallTime(NamedTuple):
    """Seconds of one call: all of it, and without the modules called inside."""

    whole: float
    own: float


def time_calls(model: Module, inputs: Sequence[Any]) -> tuple[dict[tuple[str, int], CallTime], float]:
    """Measure the forward pass in the mode the model is in: recorded in training mode, else without gradients.

    What kernels put off (a batch norm that the ReLU after it would do on its way) is done before a call's clock stops;
    so the calls may take longer together than the pass does.

    Returns:
        ({(path, which call of it, from 0): medians over the runs}, median seconds of a pass without any clock inside)
    """
    paths = {id(module): path for path, module in model.named_modules()}
    runs: dict[tuple[str, int], list[CallTime]] = defaultdict(list)
    passes: list[float] = []
    with unchanged(model), set_grad_enabled(model.training):
        first = timed_pass(model, inputs)  # compiles what is not compiled yet
        second = timed_pass(model, inputs)
        count = max(LEAST_RUNS, min(MOST_RUNS, int(SECONDS / max(second, 1e-9))))
        with tqdm(total=2 * count, desc="timing", leave=False, disable=None, delay=max(0.0, 2 - first - second)) as bar:
            for _ in range(count):
                passes.append(timed_pass(model, inputs))
                bar.update()
                for key, seconds in clocked_pass(model, inputs, paths).items():
                    runs[key].append(seconds)
                bar.update()
    medians = {key: CallTime(*map(statistics.median, zip(*times, strict=True))) for key, times in runs.items()}
    return medians, statistics.median(passes)


def timed_pass(model: Module, inputs: Sequence[Any]) -> float:
    start = time.perf_counter()
    settle(model(*inputs))
    return time.perf_counter() - start


def settle(output: Any) -> None:
    """Make the arrays that kernels put off."""
    for tensor in tensors_in(output):
        tensor.array  # noqa: B018


def clocked_pass(model: Module, inputs: Sequence[Any], paths: dict[int, str]) -> dict[tuple[str, int], CallTime]:
    """One pass with a clock around each call of a module."""
    times: dict[tuple[str, int], CallTime] = {}
    number: dict[str, int] = defaultdict(int)
    running: list[list[Any]] = []  # of each call around: its module, when it began, and the seconds of calls inside

    def enter(module: Module, _: tuple) -> None:
        running.append([module, time.perf_counter(), 0.0])

    def leave(module: Module, _: tuple, output: Any) -> None:
        settle(output)
        end = time.perf_counter()
        while (call := running.pop())[0] is not module:
            pass  # calls that ended in an error which the network handled
        _, start, inside = call
        whole = end - start
        if running:
            running[-1][2] += whole
        path = paths[id(module)]
        times[path, number[path]] = CallTime(whole, whole - inside)
        number[path] += 1

    with contextlib.ExitStack() as stack:
        for module in model.modules():
            for handle in (module.register_forward_pre_hook(enter), module.register_forward_hook(leave)):
                stack.callback(handle.remove)
        model(*inputs)
    return times
