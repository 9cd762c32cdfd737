"""Caffe's fillers: how the parameters of a layer begin."""

import math
from collections.abc import Callable
from typing import Any

from minidl.interop.caffe_fields import Fields
from minidl.nn import init
from minidl.nn.module import Parameter

__all__ = ["fill"]

_VARIANCE_NORMS = ("FAN_IN", "FAN_OUT", "AVERAGE")
_SQUARE_ROOT_3 = math.sqrt(3)


def fill(parameter: Parameter, filler: Fields | None, default: Callable[[Parameter], Any]) -> None:
    """Draw a parameter as its filler says.

        constant   value                      xavier   U(-√(3/n), √(3/n))
        uniform    U(min, max)                msra     N(0, 2/n)
        gaussian   N(mean, std²)

    n is the inputs of one output (FAN_IN, the default), the outputs of one input (FAN_OUT), or their mean (AVERAGE).

    Args:
        parameter: its first axis counts outputs, its second one inputs.
        filler: a FillerParameter, or None where the file gives none.
        default: fills it in that case.

    Raises:
        PrototxtError: a type or field that minidl does not know.
    """
    if filler is None:
        default(parameter)
        return
    kind = filler.string("type", "constant")
    if kind not in _FILLERS:
        filler.fail(f'{filler.name} has type "{kind}", which minidl does not know; it knows {", ".join(_FILLERS)}')
    _FILLERS[kind](parameter, filler)


def _constant(parameter: Parameter, filler: Fields) -> None:
    init.constant_(parameter, filler.number("value", 0.0))


def _uniform(parameter: Parameter, filler: Fields) -> None:
    low, high = filler.number("min", 0.0), filler.number("max", 1.0)
    if not low <= high or math.isinf(high - low):
        filler.fail(f"{filler.name} must have a finite min <= max, got {low:g} and {high:g}")
    init.uniform_(parameter, low, high)


def _gaussian(parameter: Parameter, filler: Fields) -> None:
    init.normal_(parameter, filler.number("mean", 0.0), filler.number("std", 1.0, least=0.0))


def _xavier(parameter: Parameter, filler: Fields) -> None:
    bound = _SQUARE_ROOT_3 / math.sqrt(_fan(parameter, filler))
    init.uniform_(parameter, -bound, bound)


def _msra(parameter: Parameter, filler: Fields) -> None:
    init.normal_(parameter, 0.0, math.sqrt(2 / _fan(parameter, filler)))


def _fan(parameter: Parameter, filler: Fields) -> float:
    norm = filler.choice("variance_norm", "FAN_IN", _VARIANCE_NORMS)
    count, outputs = parameter.numel(), parameter.shape[0]
    fan_in, fan_out = count / outputs, count / parameter.shape[1] if parameter.ndim > 1 else count
    return {"FAN_IN": fan_in, "FAN_OUT": fan_out, "AVERAGE": (fan_in + fan_out) / 2}[norm]


_FILLERS: dict[str, Callable[[Parameter, Fields], None]] = {
    "constant": _constant,
    "uniform": _uniform,
    "gaussian": _gaussian,
    "xavier": _xavier,
    "msra": _msra,
}
