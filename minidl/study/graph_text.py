"""What a drawing of a graph says of a box: its title, the lines below, the label of what leaves it, the tooltip."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from minidl.autograd import FREED, Node, TensorBase
from minidl.kernels.deferred import Deferred
from minidl.ops.windows import Window
from minidl.study.graph_boxes import Box

__all__ = ["label", "lines", "shape_text", "title", "tooltip"]

SMALL = 65_536  # elements: larger arrays get no statistics
FEW = 8  # elements: smaller arrays are shown
SHORT = 28  # characters of an option in a box
LONG = 100  # characters of an option in a tooltip
LISTED = 16  # entries of a list in a tooltip


def shape_text(shape: Iterable[int]) -> str:
    """16×3×3×3, or "scalar" without axes."""
    return "×".join(map(str, shape)) or "scalar"


def number(value: float) -> str:
    return f"{value:.4g}"


def pair(values: tuple[int, int], sign: str) -> str:
    return str(values[0]) if sign == "/" and values[0] == values[1] else "×".join(map(str, values))


def window_text(window: Window) -> str:
    """3×3 / 2: kernel and stride; dilation where there is one."""
    stride = f" / {pair(window.stride, '/')}" if window.stride != (1, 1) else ""
    return (
        pair(window.kernel_size, "×")
        + stride
        + (f" dilation {pair(window.dilation, '/')}" if window.dilation != (1, 1) else "")
    )


def option_text(name: str, value: Any) -> str:
    """An option as a box shows it; empty if it is usual, long, or to be seen from the shapes."""
    if isinstance(value, Window):
        return window_text(value)
    from_shapes = name == "size" and isinstance(value, tuple)
    unsaid = from_shapes or name in ("eps", "shape", "output", "rows", "columns", "divisor", "dtype")
    if unsaid or value is None or value is False or (name, value) in (("groups", 1), ("value", 0), ("fill", 0.0)):
        return ""
    text = index_text(value) if name == "index" else f"{name} {value}"
    return text if len(text) <= SHORT else ""


def index_text(index: Any) -> str:
    """[:, ::2]: an index as it is written."""
    parts = []
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, slice):
            a, b, step = ("" if v is None else str(v) for v in (part.start, part.stop, part.step))
            parts.append(f"{a}:{b}:{step}" if step else f"{a}:{b}")
        else:
            parts.append(
                "..."
                if part is Ellipsis
                else f"{shape_text(part.shape)} indices"
                if hasattr(part, "shape")
                else str(part)
            )
    return f"[{', '.join(parts)}]"


def operation(node: Node) -> str:
    """conv2d 3×3 / 2: the operation with what matters of its options, and numbers among its inputs."""
    options = [option_text(name, value) for name, value in node.options.items() if not hasattr(value, "shape")]
    numbers = [
        number(float(x))
        for x, need in zip(node.inputs, node.needs, strict=True)
        if not need and x is not None and np.ndim(x) == 0
    ]
    return " ".join([node.name, *filter(None, options), *numbers])


def arrays_in(value: Any) -> list[np.ndarray]:
    if isinstance(value, list | tuple):
        return [a for item in value for a in arrays_in(item)]
    return [value] if isinstance(value, np.ndarray | Deferred) and value.ndim else []


def kept(node: Node) -> str:
    """The arrays that backward will read."""
    if node.saved is FREED:
        return "kept for backward: freed by a backward pass"
    found = [f"{shape_text(a.shape)} {a.dtype}" for a in arrays_in(node.saved)]
    return "kept for backward: " + (", ".join(found) or "no array")


def statistics(x: Any) -> str:
    """The values of a few elements, mean, deviation and range of a small array; empty for a large one."""
    if not isinstance(x, np.ndarray) or not 0 < x.size <= SMALL or x.dtype.kind not in "biuf":
        return ""
    if x.size <= FEW:
        return "values: " + " ".join(np.array2string(x.reshape(-1), precision=4, max_line_width=10_000).split())
    with np.errstate(all="ignore"):
        mean, deviation = (number(float(f(x, dtype=np.float64))) for f in (np.mean, np.std))
    return f"mean {mean}, std {deviation}, from {number(float(x.min()))} to {number(float(x.max()))}"


def norm_text(value: float | None) -> str:
    return "" if value is None else f"‖grad‖ {number(value)}"


def title(box: Box) -> str:
    """What the box is."""
    if box.kind == "operation":
        return operation(box.nodes[0])
    if box.kind == "module":
        windows = [option for node in box.nodes for option in node.options.values() if isinstance(option, Window)]
        window = f" {window_text(windows[0])}" if len(box.nodes) == 1 and windows else ""
        return type(box.modules[-1]).__name__ + window
    value = f" {number(box.value.item())}" if box.kind == "output" and box.value.ndim == 0 else ""
    return (box.name or box.kind) + value


def lines(box: Box) -> list[tuple[str, str]]:
    """Where it is and its parameters, each with the norm of its gradient or ""."""
    if not box.nodes:
        return []
    name = box.name if box.repeats == 1 else f"{box.name} … {box.last} ×{box.repeats}"
    found = [(name, "")] if name else []
    if box.kind == "operation":
        for name, x in box.parameters.items():
            own = name.removeprefix(f"{box.name}.")
            found.append((f"{own} {shape_text(x.shape)}", norm_text(box.norms.get(name))))
    elif box.parameters:
        count = sum(math.prod(x.shape) for x in box.parameters.values())
        found.append((f"{count:,} parameters", norm_text(math.hypot(*box.norms.values()) if box.norms else None)))
    return found


def label(box: Box) -> list[tuple[str, str]]:
    """The shape of what leaves the box, and the norm of the gradient by it."""
    shapes = ", ".join(map(shape_text, box.shapes))
    return [pair for pair in ((shapes, ""), ("", norm_text(box.gradient))) if any(pair)] if shapes else []


def tooltip(box: Box) -> str:
    """All that is known of the box."""
    found = [" ".join(filter(None, [title(box), box.name if box.nodes else ""]))]
    if box.kind == "operation":
        found += about_operation(box.nodes[0])
    elif box.kind == "module":
        found += listed(repr(box.modules[-1]).splitlines())
        names = Counter(node.name for node in box.nodes)
        found.append("runs " + ", ".join(f"{n} × {name}" if n > 1 else name for name, n in names.items()))
    else:
        found += about_array(box.value)
    for name, x in list(box.parameters.items())[:LISTED]:
        found.append(f"{name}: " + "; ".join(filter(None, [*about_array(x), norm_text(box.norms.get(name))])))
    return "\n".join(filter(None, [*found, norm_text(box.gradient)]))


def about_operation(node: Node) -> list[str]:
    options = [(name, repr(v) if not hasattr(v, "shape") else shape_text(v.shape)) for name, v in node.options.items()]
    found = [f"{name} = {text if len(text) <= LONG else text[: LONG - 1] + '…'}" for name, text in options]
    given = [shape_text(x.shape) if hasattr(x, "shape") else repr(x) for x in node.inputs]
    found += [f"inputs: {', '.join(given)}", f"output: {shape_text(node.shape)}", kept(node)]
    y = node.output()
    about = statistics(y.held) if y is not None and y.node is node else ""  # a deferred array is left as it is
    return found + ([f"output's {about}"] if about else [])


def about_array(x: Any) -> list[str]:
    array = x.held if isinstance(x, TensorBase) else x
    about = statistics(array)
    return [f"{shape_text(array.shape)} {array.dtype}", *([about] if about else [])]


def listed(found: list[str]) -> list[str]:
    return found if len(found) <= LISTED else [*found[:LISTED], f"... {len(found) - LISTED} more"]
