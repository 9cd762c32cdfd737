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
Points = list[tuple[float, float]]

_PAIR = {"train": "#7b9cc0", "val": "#d9541e"}  # for one run
_COLORS = ("#1f6fb4", "#d9541e", "#3a9a4b", "#8757b0", "#b5892b", "#4d4d4d")  # for several
_NAMES = {"train": "training", "val": "validation"}


def plot_curves(
    runs: str | os.PathLike | History | Mapping[str, str | os.PathLike | History],
    path: str | os.PathLike,
    *,
    title: str = "",
) -> None:
    """Draw training and validation loss and top-1 accuracy by epoch; the global matplotlib state is not touched.

    A history of `fit` shows the training curve within the epochs too, a CSV log has one point per epoch.

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
    panels = dict(zip(("loss", "top1"), figure.subplots(1, 2), strict=True))
    for number, (name, history) in enumerate(histories.items()):
        for quantity, axes in panels.items():
            for split in ("train", "val"):
                several = len(histories) > 1
                _draw(
                    axes,
                    _points(history, split, quantity),
                    label=f"{name} {_NAMES[split]}".strip(),
                    color=_COLORS[number % len(_COLORS)] if several else _PAIR[split],
                    linestyle="--" if several and split == "train" else "-",
                    unit=" %" if quantity == "top1" else "",
                    final=split == "val" and not several,
                )
    for axes, text in zip(panels.values(), ("cross-entropy loss", "top-1 accuracy in %"), strict=True):
        axes.set_title(text, fontsize=11, loc="left")
        axes.set_xlabel("epoch")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(color="#e2e2e2", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    panels["loss"].set_ylim(0, _loss_limit(histories))
    panels["top1"].set_ylim(0, 100)
    panels["loss"].legend(frameon=False, fontsize=9, loc="upper right")
    panels["top1"].legend(frameon=False, fontsize=9, loc="best")
    if title:
        figure.suptitle(title, fontsize=12)
    png = BytesIO()
    figure.savefig(png, format="png")
    write_atomically(Path(path), [png.getvalue()])


def _points(history: History, split: str, quantity: str) -> Points:
    """Return (epoch, value) pairs, accuracies in %; for training, those within the epochs where they are known."""
    scale, place = (100, 2) if quantity == "top1" else (1, 1)
    if split == "train" and all(row.get("trace") for row in history):
        return [(point[0], scale * point[place]) for row in history for point in row["trace"]]
    pairs = [(row["epoch"], row[f"{split}_{quantity}"]) for row in history]
    return [(epoch, scale * value) for epoch, value in pairs if value is not None]


def _draw(axes: Any, points: Points, *, label: str, color: str, linestyle: str, unit: str, final: bool) -> None:
    if not points:
        return
    marker = "o" if len(points) <= 30 else None
    x, y = zip(*points, strict=True)
    axes.plot(x, y, linestyle, color=color, marker=marker, markersize=4, linewidth=1.8, label=label)
    if final:
        axes.annotate(
            f"{y[-1]:.3g}{unit}", points[-1], (0, 7), textcoords="offset points", ha="right", color=color, fontsize=9
        )


def _loss_limit(histories: Mapping[str, History]) -> float | None:
    """Cut a panel that a wild first validation would otherwise flatten; None leaves it to matplotlib."""
    losses = {s: [y for h in histories.values() for _, y in _points(h, s, "loss")] for s in ("train", "val")}
    usual = max(losses["train"], default=0)
    return 1.25 * usual if max(losses["val"], default=0) > 2 * usual > 0 else None
