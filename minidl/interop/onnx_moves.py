"""ONNX nodes for what moves elements without changing them: shapes, axes, slices, indices, padding, windows."""

import math
from typing import Any

import numpy as np

from minidl.interop.onnx_graph import Graph, Value
from minidl.interop.onnx_trace import Varying

__all__ = ["MOVES", "getitem"]

END, BEFORE = np.iinfo(np.int64).max, np.iinfo(np.int64).min  # a slice to the end; backwards, past the beginning


def reshape(g: Graph, x: Value, *, shape: Any) -> str:
    if g.step.shape == x.shape:
        return x.name
    shape = g.step.shape
    following = [axis for axis, extent in enumerate(shape) if isinstance(extent, Varying)]
    if len(following) == 1 and 0 not in shape:
        return g.add("Reshape", x, g.ints(*(-1 if isinstance(n, Varying) else n for n in shape)))
    return g.add("Reshape", x, g.extents(shape), allowzero=int(0 in shape))


def transpose(g: Graph, x: Value, *, axes: Any) -> str:
    return g.add("Transpose", x, perm=[int(axis) for axis in axes])


def broadcast_to(g: Graph, x: Value, *, shape: Any) -> str:
    shape = (shape,) if isinstance(shape, int | Varying) else tuple(shape)
    own = (1,) * (len(shape) - x.ndim) + x.shape
    return g.add("Expand", x, g.extents(tuple(1 if n == old else n for n, old in zip(shape, own, strict=True))))


def concatenate(g: Graph, *arrays: Value, axis: int) -> str:
    return g.add("Concat", *arrays, axis=axis)


def pad(g: Graph, x: Value, *, widths: Any, value: float = 0) -> str:
    befores, afters = zip(*widths, strict=True)
    return g.add("Pad", x, g.ints(*befores, *afters), np.asarray(value, x.dtype), mode="constant")


# --- indices ----------------------------------------------------------------------------------------------------------


def getitem(g: Graph, x: Value, *, index: Any) -> str:
    """x[index]: slices first, then integers and arrays, then new axes, laid out by NumPy's rules."""
    places = laid_out(index, x.ndim)  # (part, axis of x), with the axis None for a new one
    g.fixed("index", [part for part, _ in places if not isinstance(part, slice)])
    name = sliced(g, x, [(part, axis) for part, axis in places if isinstance(part, slice)])
    picks = [(part, axis) for part, axis in places if axis is not None and not isinstance(part, slice)]
    order = [axis for part, axis in places if isinstance(part, slice)]  # that are left, as they stand in x
    fancy = any(isinstance(part, np.ndarray) for part, _ in picks)
    if not fancy:
        for part, axis in reversed(picks):
            name = g.add("Gather", name, np.array(part, np.int64), axis=axis)
        new = [i for i, (_, axis) in enumerate(p for p in places if p not in picks) if axis is None]
        return g.add("Unsqueeze", name, g.ints(*new)) if new else name
    arrays = np.broadcast_arrays(*(np.asarray(part, np.int64) for part, _ in picks))
    axes, ndim = [axis for _, axis in picks], arrays[0].ndim
    picked = [i for i, (part, axis) in enumerate(places) if axis is not None and not isinstance(part, slice)]
    together = picked[-1] - picked[0] == len(picked) - 1
    head = places[: picked[0]] if together else []  # what stands before the arrays' axes in the result
    lead = sum(axis is not None for _, axis in head)
    if len(picks) == 1:
        name = g.add("Gather", name, np.array(arrays[0]), axis=axes[0])
    else:
        name = g.add("Transpose", name, perm=[*axes, *order])
        name = g.add("GatherND", name, np.stack(arrays, axis=-1))
        if lead:
            perm = [*range(ndim, ndim + lead), *range(ndim), *range(ndim + lead, ndim + len(order))]
            name = g.add("Transpose", name, perm=perm)
    tail = [p for p in places[len(head) :] if p[1] is None or isinstance(p[0], slice)]
    final = [*(axis is None for _, axis in head), *[False] * ndim, *(axis is None for _, axis in tail)]
    return g.add("Unsqueeze", name, g.ints(*np.flatnonzero(final))) if any(final) else name


def laid_out(index: Any, ndim: int) -> list[tuple[Any, int | None]]:
    """Each part of an index with the axis that it is for; a mask becomes one array for each of its axes."""
    parts: list[Any] = []
    for part in index if isinstance(index, tuple) and not isinstance(index, Varying) else (index,):
        if isinstance(part, np.ndarray) and part.dtype == np.bool_:
            parts.extend(part.nonzero())
        else:
            parts.append(part)
    given = sum(part is not None and part is not Ellipsis for part in parts)
    if not any(part is Ellipsis for part in parts):
        parts.append(Ellipsis)
    places, axis = [], 0
    for part in parts:
        if part is Ellipsis:
            for _ in range(ndim - given):
                places.append((slice(None), axis))
                axis += 1
        elif part is None:
            places.append((None, None))
        else:
            places.append((part, axis))
            axis += 1
    return places


def sliced(g: Graph, x: Value, cuts: list[tuple[slice, int]]) -> str:
    starts, ends, axes, steps = [], [], [], []
    for part, axis in cuts:
        start, end, step = ends_of(g, part, x.shape[axis])
        if (start, end, step) != (0, END, 1):
            starts, ends, axes, steps = [*starts, start], [*ends, end], [*axes, axis], [*steps, step]
    return g.add("Slice", x, g.ints(*starts), g.ints(*ends), g.ints(*axes), g.ints(*steps)) if axes else x.name


def ends_of(g: Graph, part: slice, extent: Any) -> tuple[int, int, int]:
    """(start, end, step) of a Slice, written so that an end that follows the batch keeps following it."""
    step = 1 if part.step is None else part.step
    g.fixed("index", [step, part.start])
    start = (0 if step > 0 else -1) if part.start is None else part.start
    end = part.stop
    if end is None or end == extent or (isinstance(end, int) and isinstance(extent, int) and end >= extent):
        end = END if step > 0 else BEFORE if part.stop is None else end
    g.fixed("index", [end])
    return int(start), int(end), int(step)


def put(g: Graph, values: Value, *, index: Any, shape: Any) -> str:
    """The adjoint of x[index]: the flat place of each value is known."""
    size = math.prod(shape)
    places = np.arange(size).reshape(shape)[index].reshape(-1)
    flat = g.add("Reshape", values, g.ints(-1))
    name = g.add("ScatterElements", np.zeros(size, values.dtype), places, flat, axis=0, reduction="add")
    return g.add("Reshape", name, g.ints(*shape))


# --- windows ----------------------------------------------------------------------------------------------------------


def padding_of(window: Any, size: Any) -> list[int]:
    """ONNX's order: top, left, bottom, right."""
    (top, bottom), (left, right) = window.padded(*size)
    return [top, left, bottom, right]


def unfold(g: Graph, x: Value, *, window: Any, fill: float = 0.0) -> str:
    """im2col as a convolution: each channel with one filter per element of the window, 1 there and 0 elsewhere."""
    (KH, KW), C = window.kernel_size, x.shape[1]
    top, left, bottom, right = padding_of(window, x.shape[2:])
    name = g.add("Pad", x, g.ints(0, 0, top, left, 0, 0, bottom, right), np.asarray(fill, x.dtype), mode="constant")
    filters = np.tile(np.eye(KH * KW, dtype=x.dtype).reshape(-1, 1, KH, KW), (C, 1, 1, 1))
    name = g.add("Conv", name, filters, group=C, strides=list(window.stride), dilations=list(window.dilation))
    return g.add("Reshape", name, g.ints(0, C, KH * KW, *window.output))


def fold(g: Graph, cols: Value, *, window: Any, size: Any) -> str:
    """col2im of (N, C, KH*KW, OH, OW), into the padded image, which is then cut."""
    _, C, K, OH, OW = cols.shape
    (H, W), (top, left, bottom, right) = size, padding_of(window, size)
    rows = g.add("Reshape", cols, g.ints(0, C * K, OH * OW))
    image, block = g.ints(top + H + bottom, left + W + right), g.ints(*window.kernel_size)
    options = dict(dilations=list(window.dilation), strides=list(window.stride))
    name = g.add("Col2Im", rows, image, block, **options)
    return g.add("Slice", name, g.ints(top, left), g.ints(top + H, left + W), g.ints(2, 3))


#: By operation: its builder, and the options that may follow the batch.
MOVES = {
    "reshape": (reshape, ("shape",)),
    "transpose": (transpose, ()),
    "broadcast_to": (broadcast_to, ("shape",)),
    "concatenate": (concatenate, ()),
    "pad": (pad, ()),
    "getitem": (getitem, ("index",)),
    "put": (put, ()),
    "unfold": (unfold, ()),
    "fold": (fold, ()),
}
