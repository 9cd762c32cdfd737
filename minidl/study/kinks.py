"""Where a network has no derivative: operations that the forward pass met at, or near, a kink or a tie."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.autograd import no_grad
from minidl.ops.windows import unfold_forward
from minidl.tensor import TensorBase
from minidl.watch import watch

__all__ = ["kinks_near"]


def near_zero(inputs: list, options: dict, y: Any, h: float) -> int:
    return int(np.sum(np.abs(inputs[0]) <= h))


def near_each_other(inputs: list, options: dict, y: Any, h: float) -> int:
    return int(np.sum(np.abs(np.subtract(inputs[0], inputs[1])) <= h))


def near_bounds(inputs: list, options: dict, y: Any, h: float) -> int:
    bounds = [v for v in (*inputs[1:], *options.values()) if isinstance(v, int | float) and np.isfinite(v)]
    return int(sum(np.sum(np.abs(inputs[0] - bound) <= h) for bound in bounds))


def several_maxima(inputs: list, options: dict, y: Any, h: float) -> int:
    x, y = inputs[0], np.asarray(y)
    axes = options.get("axis")
    axes = tuple(range(x.ndim)) if axes is None else axes
    reach = np.amax(x, axis=axes, keepdims=True)
    return int(np.sum(np.sum(x >= reach - h, axis=axes) > 1))


def tied_windows(inputs: list, options: dict, y: Any, h: float) -> int:
    x, window = inputs[0], options["window"]
    taps, _ = unfold_forward(np.exp(x - x.max()) if x.size else x, window=window)  # positive: zeros are the padding
    taps = taps.reshape(*x.shape[:2], -1, taps.shape[-1])
    top = taps.max(axis=2, keepdims=True)
    return int(np.sum(np.sum(taps >= top * (1 - h), axis=2) > 1))


KINKS: dict[str, tuple[Callable[[list, dict, Any, float], int], str]] = {
    "relu": (near_zero, "inputs at 0"),
    "leaky_relu": (near_zero, "inputs at 0"),
    "absolute": (near_zero, "inputs at 0"),
    "maximum": (near_each_other, "pairs that are equal"),
    "minimum": (near_each_other, "pairs that are equal"),
    "clamp": (near_bounds, "inputs at a bound"),
    "amax": (several_maxima, "maxima that are not unique"),
    "max_pool2d": (tied_windows, "windows with equal maxima"),
}


def kinks_near(function: Callable[[], Any], h: float) -> list[str]:
    """Run `function` and name the operations that met a kink or a tie within a distance h."""
    met: dict[str, int] = {}

    def look(op: Any, inputs: tuple, options: dict, output: Any, saved: Any) -> None:
        if op.__name__ in KINKS:
            arrays = [x.array if isinstance(x, TensorBase) else x for x in inputs]
            count = KINKS[op.__name__][0](arrays, options, output.array, h)
            if count:
                met[op.__name__] = met.get(op.__name__, 0) + count

    with no_grad(), watch(look):
        function()
    return [f"{name}: {count} {KINKS[name][1]} (within {h:g})" for name, count in met.items()]
