"""Pictures of several recordings beside each other."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from minidl.study.recording import Recording, spread

__all__ = ["PICTURES", "draw_recordings"]

PICTURES = ("activations", "gradients", "depth", "updates", "dead")
LAYERS = 4  # rows of a comparison


def draw_recordings(recordings: Mapping[str, Recording], what: str = "activations", layer: str | None = None) -> Any:
    """Draw one kind of picture of several recordings, side by side on equal scales.

    Args:
        recordings: by the name of the run.
        what: "activations" or "gradients" (distributions over the steps, of a few layers from the first to the last),
            "depth" (norms of gradients and deviations of activations from the input to the output, at the first and
            the last step), "updates" (‖update‖ / ‖weight‖ of the parameters), "dead" (channels that are 0).
        layer: for "activations" and "gradients": only this one, with its histograms.

    Returns:
        matplotlib's Figure, which belongs to no window.

    Raises:
        ValueError: no recordings, an unknown picture, a layer that was not recorded, or a recording without steps.
    """
    from matplotlib.figure import Figure

    if what not in PICTURES:
        raise ValueError(f"draw_recordings: what must be one of {', '.join(PICTURES)}, got {what!r}")
    if not recordings:
        raise ValueError("draw_recordings: recordings must hold at least one")
    for name, recording in recordings.items():
        if not recording.steps:
            raise ValueError(f"draw_recordings: the recording {name!r} holds no step")
    if layer is not None and what not in ("activations", "gradients"):
        raise ValueError(f"draw_recordings: layer is for activations and gradients, not for {what}")
    figure = Figure(layout="constrained", dpi=120)
    draw = {"depth": draw_depth, "updates": draw_updates, "dead": draw_dead}.get(what)
    if draw is None:
        draw_distributions(figure, recordings, what.removesuffix("s"), layer)
    else:
        draw(figure, recordings)
    return figure


def draw_distributions(figure: Any, recordings: Mapping[str, Recording], kind: str, layer: str | None) -> None:
    """A column for each recording; rows of layers equally deep, or of one layer's ribbon and histograms."""
    chosen = {
        name: [layer] if layer is not None else spread(recording.names(kind), LAYERS)
        for name, recording in recordings.items()
    }
    ribbons = max(len(layers) for layers in chosen.values())
    if not ribbons:
        raise ValueError(f"draw_recordings: no {kind} was recorded")
    rows = ribbons + (layer is not None)
    figure.set_size_inches(max(5.5, 4.2 * len(recordings)), 0.8 + 2.3 * rows)
    axes = figure.subplots(rows, len(recordings), squeeze=False)
    for column, (name, recording) in zip(axes.T, recordings.items(), strict=True):
        for ax, path in zip(column, chosen[name], strict=False):
            recording.ribbon(path, kind, ax)
            ax.set_title(path, fontsize="medium")
        for ax in column[len(chosen[name]) : ribbons]:
            ax.set_axis_off()
        if layer is not None:
            recording.histograms(layer, kind, axes=column[-1]).set_title("")
        column[0].set_title(f"{name}\n{column[0].get_title()}", fontsize="medium")
    for row in axes[:ribbons]:
        share_limits(row)
    if layer is not None:
        share_limits(axes[-1], "x")
    figure.suptitle(f"{kind}s: median, 70, 90 and 100 % of the values", fontsize="medium")


def draw_depth(figure: Any, recordings: Mapping[str, Recording]) -> None:
    """All recordings in two panels, at the first step and at the last."""
    figure.set_size_inches(11, 4.2)
    panels = figure.subplots(1, 2)
    for ax, (statistic, kind) in zip(panels, (("norm", "gradient"), ("std", "activation")), strict=True):
        for number, (name, recording) in enumerate(recordings.items()):
            for place, line, opacity in ((0, ":", 0.6), (-1, "-", 1.0)):
                label = f"{name}, step {recording.steps[place]}"
                style = {"color": f"C{number}", "linestyle": line, "alpha": opacity, "label": label}
                recording.by_depth(statistic, kind, place, ax, **style)
        ax.set_yscale("log")
        ax.grid(color="0.9")
    panels[0].legend(fontsize="small")


def draw_updates(figure: Any, recordings: Mapping[str, Recording]) -> None:
    draw_columns(figure, recordings, Recording.update_ratios)
    figure.suptitle("update / weight at each step, of the first weights (dark) to the last (light)", fontsize="medium")


def draw_dead(figure: Any, recordings: Mapping[str, Recording]) -> None:
    draw_columns(figure, recordings, Recording.dead_units)
    figure.suptitle("channels that are 0 in a whole batch, of the first layers (dark) to the last (light)", fontsize=10)


def draw_columns(figure: Any, recordings: Mapping[str, Recording], draw: Callable[..., Any]) -> None:
    """One panel for each recording."""
    figure.set_size_inches(max(6.0, 4.8 * len(recordings)), 4.2)
    axes = figure.subplots(1, len(recordings), squeeze=False)[0]
    for ax, (name, recording) in zip(axes, recordings.items(), strict=True):
        draw(recording, ax)
        ax.set_title(name, fontsize="medium")
    share_limits(axes)


def share_limits(axes: Iterable[Any], side: str = "y") -> None:
    """Give all axes with something drawn in them the same range."""
    drawn = [ax for ax in axes if ax.has_data()]
    limits = np.array([getattr(ax, f"get_{side}lim")() for ax in drawn]).reshape(-1, 2)
    for ax in drawn:
        getattr(ax, f"set_{side}lim")(limits[:, 0].min(), limits[:, 1].max())
