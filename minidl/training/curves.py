"""The picture of a run: loss and accuracy by epoch, as a PNG file."""

import os
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from minidl.interop import write_atomically
from minidl.training.log import read_log

__all__ = ["plot_curves"]

History = Sequence[Mapping[str, Any]]

_COLORS = ("#1f6fb4", "#d9541e", "#3a9a4b", "#8757b0", "#b5892b", "#4d4d4d")


def plot_curves(
    runs: str | os.PathLike | History | Mapping[str, str | os.PathLike | History],
    path: str | os.PathLike,
    *,
    title: str = "",
) -> None:
    """Draw training and validation loss and top-1 accuracy by epoch; the global matplotlib state is not touched.

    Args:
        runs: a CSV log, a history of `fit`, or several of either by name.
        path: the PNG file to write, atomically.
        title: a line above the panels.

    Raises:
        ValueError: no run, a run without epochs, or a file that is not a log.
        OSError: a file cannot be read or written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    named = dict(runs) if isinstance(runs, Mapping) else {"": runs}
    histories = {
        name: read_log(run) if isinstance(run, str | os.PathLike) else list(run) for name, run in named.items()
    }
    if not histories or not all(histories.values()):
        raise ValueError("plot_curves: runs must hold at least one epoch")

    figure = Figure(figsize=(10, 4.2), dpi=144, layout="constrained")
    FigureCanvasAgg(figure)
    loss, accuracy = figure.subplots(1, 2)
    for color, (name, history) in zip(_cycle(len(histories)), histories.items(), strict=True):
        for axes, quantity, scale in ((loss, "loss", 1), (accuracy, "top1", 100)):
            for split, style in (("train", "--"), ("val", "-")):
                points = [(row["epoch"], row[f"{split}_{quantity}"]) for row in history]
                points = [(epoch, scale * value) for epoch, value in points if value is not None]
                if points:
                    label = {"train": "training", "val": "validation"}[split]
                    marker = "o" if len(points) <= 30 else None
                    axes.plot(
                        *zip(*points, strict=True), style, color=color, alpha=0.6 if split == "train" else 1.0,
                        marker=marker, markersize=4, linewidth=1.8, label=f"{name} {label}".strip(),
                    )  # fmt: skip
    for axes, name in ((loss, "cross-entropy loss"), (accuracy, "top-1 accuracy in %")):
        axes.set_title(name, fontsize=11, loc="left")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
    loss.set_ylim(bottom=0)
    if title:
        figure.suptitle(title, fontsize=12)
    png = BytesIO()
    figure.savefig(png, format="png")
    write_atomically(Path(path), [png.getvalue()])


def _cycle(count: int) -> list[str]:
    return [_COLORS[index % len(_COLORS)] for index in range(count)]
