"""Arrays in words: small ones in full, large ones by their statistics."""

from typing import Any

import numpy as np

from minidl.kernels.deferred import settled
from minidl.ops.windows import Window
from minidl.study.graph_text import shape_text, window_text

__all__ = ["about", "bytes_text", "describe", "special", "statistics"]

FEW = 16  # elements that are shown
LONG = 80  # characters of anything else


def describe(x: Any) -> str:
    """Shape, dtype and `about`; of what is no array, what it is."""
    x = settled(x)
    x = np.asarray(x) if isinstance(x, np.generic) else x
    if isinstance(x, np.ndarray):
        return f"{shape_text(x.shape)} {x.dtype}: {about(x)}"
    text = f"window {window_text(x)}" if isinstance(x, Window) else " ".join(repr(x).split())
    return text if len(text) <= LONG else text[: LONG - 1] + "…"


def about(x: np.ndarray) -> str:
    """Up to 16 elements as they are; of more, minimum, mean, maximum, deviation, and how many are 0, NaN or Inf."""
    if not x.size:
        return "no elements"
    if x.size <= FEW or x.dtype.kind not in "biuf":
        shown = np.array2string(x, precision=4, max_line_width=10_000, threshold=FEW)
        return " ".join(shown.split()).replace("[ ", "[")
    numbers = [f"{name} {v}" for name, v in zip(("min", "mean", "max", "std"), statistics(x), strict=False)]
    return ", ".join(filter(None, [*numbers, special(x)]))


def statistics(x: np.ndarray) -> list[str]:
    """Minimum, mean, maximum and deviation of the finite elements; nothing if there are none."""
    if x.dtype.kind not in "biuf":
        return []
    values = x[np.isfinite(x)].astype(np.float64)
    if not values.size:
        return []
    with np.errstate(all="ignore"):
        return [f"{float(v):.4g}" for v in (values.min(), values.mean(), values.max(), values.std())]


def special(x: np.ndarray) -> str:
    """How many elements are 0, NaN or infinite."""
    counts = {"NaN": np.isnan(x).sum(), "Inf": np.isinf(x).sum()} if x.dtype.kind == "f" else {}
    zeros = np.count_nonzero(x == 0)
    words = [f"zeros {zeros / x.size:.1%}"] if zeros else []
    return ", ".join(words + [f"{count:,} {name}" for name, count in counts.items() if count])


def bytes_text(size: int) -> str:
    """1,536 bytes as 1.5 KiB."""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.4g} {unit}"
