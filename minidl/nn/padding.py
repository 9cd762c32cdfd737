"""Padding as a function and as layers, under PyTorch's names."""

from typing import Any

import numpy as np

from minidl import primitives as op
from minidl.nn.module import Module

__all__ = ["pad", "ConstantPad2d", "ReflectionPad2d", "ReplicationPad2d", "ZeroPad2d"]


def pad(x: Any, pad: Any, mode: str = "constant", value: float = 0.0) -> Any:
    """Add elements around the last axes: pad = (left, right, top, bottom, ...), beginning with the last axis.

    Args:
        x: any shape. pad: pairs of counts; negative ones crop.
        mode: "constant" (of `value`), "reflect", "replicate" or "circular".

    Raises:
        ValueError, TypeError: counts that are no pairs of integers, or do not fit.
    """
    if not hasattr(x, "ndim") or not isinstance(pad, tuple | list):
        raise TypeError(f"pad: x must be a Tensor or an array and pad pairs of counts, got {type(x).__name__}, {pad!r}")
    if len(pad) % 2 or len(pad) // 2 > x.ndim or not all(isinstance(p, int | np.integer) for p in pad):
        raise ValueError(f"pad: expected pairs of integers for at most {x.ndim} axes, got {pad!r}")
    modes = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    if mode != "constant" and mode not in modes:
        raise ValueError(f"pad: mode must be 'constant', 'reflect', 'replicate' or 'circular', got {mode!r}")
    widths = [(0, 0)] * (x.ndim - len(pad) // 2) + [tuple(pad[i : i + 2]) for i in range(len(pad) - 2, -1, -2)]
    for axis, (extent, cuts) in enumerate(zip(x.shape, widths, strict=True)):
        if extent + sum(min(0, cut) for cut in cuts) < 0:
            raise ValueError(f"pad: {cuts} crops more than the {extent} elements of axis {axis}")
    crop = tuple(slice(max(0, -a), extent - max(0, -b)) for extent, (a, b) in zip(x.shape, widths, strict=True))
    if any(part != slice(0, extent) for part, extent in zip(crop, x.shape, strict=True)):
        x = op.getitem(x, index=crop)
    widths = tuple((max(0, a), max(0, b)) for a, b in widths)
    if mode == "constant":
        return op.pad(x, widths=widths, value=value) if any(any(w) for w in widths) else x
    for axis, width in enumerate(widths):
        if any(width):
            limit = {"reflect": x.shape[axis] - 1, "circular": x.shape[axis]}.get(mode, max(width))
            if max(width) > limit or not x.shape[axis]:
                raise ValueError(f"pad: {mode} padding {width} is too wide for axis {axis} of {x.shape}")
            source = np.pad(np.arange(x.shape[axis]), width, mode=modes[mode])
            x = op.getitem(x, index=(slice(None),) * axis + (source,))
    return x


class _Pad2d(Module):
    """Pad the last two axes: padding, a number or (left, right, top, bottom)."""

    mode = "constant"

    def __init__(self, padding: Any):
        super().__init__()
        sides = (padding,) * 4 if isinstance(padding, int) else padding
        if not isinstance(sides, tuple | list) or len(sides) != 4:
            raise TypeError(f"{type(self).__name__}: padding must be 1 or 4 integers, got {padding!r}")
        self.padding = tuple(sides)

    def forward(self, x: Any) -> Any:
        return pad(x, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ZeroPad2d(_Pad2d):
    __doc__ = _Pad2d.__doc__


class ReflectionPad2d(_Pad2d):
    __doc__ = _Pad2d.__doc__
    mode = "reflect"


class ReplicationPad2d(_Pad2d):
    __doc__ = _Pad2d.__doc__
    mode = "replicate"


class ConstantPad2d(_Pad2d):
    __doc__ = _Pad2d.__doc__

    def __init__(self, padding: Any, value: float):
        super().__init__(padding)
        self.value = value

    def forward(self, x: Any) -> Any:
        return pad(x, self.padding, value=self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"
