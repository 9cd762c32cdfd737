"""What a `Recorder` recorded: arrays by layer and step, on disk as npz, and pictures of them."""

import io
import os
import zipfile
import zlib
from typing import Any

import numpy as np

from minidl.interop.safetensors import write_atomically

__all__ = ["QUANTILES", "Recording"]

QUANTILES = (0.0, 0.05, 0.15, 0.5, 0.85, 0.95, 1.0)
BANDS = ((0, 6, 0.12), (1, 5, 0.25), (2, 4, 0.45))  # quantile below, above, opacity
STATISTICS = ("mean", "std", "norm", "dead")
WEIGHTED = ("conv2d", "linear")
FORMAT = 1


class Recording:
    """Statistics of recorded steps.

    Attributes:
        steps: numbers of the recorded steps.
        layers: {"activation" or "gradient": {layer: {"steps", "mean", "std", "norm", "dead", "quantiles", "histogram",
            "edges"}}}, each a list over the steps.
        operations: {layer: name of its operation}, in the order of the forward pass.
        parameters: {parameter: {"norm", "gradient", "update"}}, lists over the steps; update is ‖Δw‖ / ‖w‖.
        every: one of so many steps was recorded.
        bins: of the histograms.
    """

    def __init__(self, every: int = 10, bins: int = 64):
        self.every, self.bins, self.steps = every, bins, []
        self.layers: dict[str, dict[str, dict[str, list]]] = {"activation": {}, "gradient": {}}
        self.operations: dict[str, str] = {}
        self.parameters: dict[str, dict[str, list]] = {}

    # --- written by the recorder ------------------------------------------------------------------------------------
    def begin(self, step: int) -> None:
        self.steps.append(step)

    def add(self, kind: str, layer: str, values: dict[str, Any]) -> None:
        found = self.layers[kind].setdefault(layer, {"steps": []})
        for name, value in {"steps": self.steps[-1], **values}.items():
            found.setdefault(name, []).append(value)

    def add_parameter(self, name: str, norm: float, gradient: float, update: float) -> None:
        found = self.parameters.setdefault(name, {"norm": [], "gradient": [], "update": []})
        for key, value in (("norm", norm), ("gradient", gradient), ("update", update)):
            found[key].append(value)

    def forget(self, step: int) -> None:
        """Drop the steps from number `step` on."""
        for layers in self.layers.values():
            for name, values in list(layers.items()):
                keep = sum(number < step for number in values["steps"])
                layers[name] = {key: entries[:keep] for key, entries in values.items()}
                if not keep:
                    del layers[name]
        keep = sum(number < step for number in self.steps)
        self.parameters = {
            name: {key: entries[:keep] for key, entries in values.items()}
            for name, values in self.parameters.items()
            if keep
        }
        self.steps = self.steps[:keep]

    # --- on disk ------------------------------------------------------------------------------------------------------
    def save(self, path: str | os.PathLike) -> None:
        """Write everything to an .npz file, whole or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        arrays = {"format": np.array(FORMAT), "steps": np.array(self.steps, int)}
        arrays |= {"every": np.array(self.every), "bins": np.array(self.bins)}
        for kind, layers in self.layers.items():
            for layer, values in layers.items():
                arrays |= {f"{kind}|{layer}|{name}": np.array(value) for name, value in values.items()}
        arrays |= {f"operation|{layer}|": np.array(name) for layer, name in self.operations.items()}
        for parameter, values in self.parameters.items():
            arrays |= {f"parameter|{parameter}|{name}": np.array(value) for name, value in values.items()}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        write_atomically(path, [buffer.getvalue()])

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Recording":
        """Read what `save` wrote.

        Raises:
            ValueError: the file is no recording. OSError: it cannot be read.
        """
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                if int(arrays["format"]) != FORMAT:
                    raise ValueError(f"format {int(arrays['format'])} is unknown")
                recording = cls(int(arrays["every"]), int(arrays["bins"]))
                recording.steps = arrays["steps"].tolist()
                for key in arrays.files:
                    if "|" in key:
                        kind, rest = key.split("|", 1)
                        layer, name = rest.rsplit("|", 1)
                        if kind == "operation":
                            recording.operations[layer] = str(arrays[key])
                            continue
                        home = recording.parameters if kind == "parameter" else recording.layers[kind]
                        home.setdefault(layer, {})[name] = list(arrays[key])
                return recording
        except (KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path}: not a recording of minidl: {error}") from error

    # --- looked at ----------------------------------------------------------------------------------------------------
    def names(self, kind: str = "activation") -> list[str]:
        """The recorded layers in the order of the forward pass.

        Raises:
            ValueError: an unknown kind.
        """
        if kind not in self.layers:
            raise ValueError(f"kind must be 'activation' or 'gradient', got {kind!r}")
        return [name for name in self.layers["activation"] if name in self.layers[kind]]

    def layer(self, kind: str, name: str) -> dict[str, np.ndarray]:
        """The arrays of one layer, one entry for each recorded step.

        Raises:
            ValueError: nothing of that kind was recorded under that name.
        """
        if name not in self.names(kind):
            raise ValueError(f"no {kind} of {name!r} was recorded; there are {', '.join(self.names(kind)) or 'none'}")
        return {key: np.array(values) for key, values in self.layers[kind][name].items()}

    @property
    def marker(self) -> str:
        """Of lines over the steps: dots where they are few, down to one that no line shows."""
        return "." if len(self.steps) <= 30 else ""

    def ribbons(self, layers: list[str] | None = None, kind: str = "activation", figure: Any = None) -> Any:
        """Draw each layer's distribution over the steps: the median in bands of 70, 90 and 100 % of the values.

        Args:
            layers: names; by default at most six, spread over the depth.
            kind: "activation" or "gradient". figure: matplotlib's, by default a new one.

        Returns:
            The figure.
        """
        import matplotlib.pyplot as plt

        layers = spread(self.names(kind)) if layers is None else layers
        if not layers:
            raise ValueError(f"ribbons: no {kind} was recorded")
        columns, rows = min(3, len(layers)), -(-len(layers) // 3)
        figure = figure or plt.figure(figsize=(3.6 * columns, 2.8 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
        for ax, name in zip(axes.flat, layers, strict=False):
            self.ribbon(name, kind, ax)
        for ax in axes.flat[len(layers) :]:
            ax.remove()
        figure.suptitle(f"{kind}s: median, 70, 90 and 100 % of the values")
        return figure

    def ribbon(self, layer: str, kind: str = "activation", axes: Any = None) -> Any:
        """Draw one layer's distribution over the steps, as `ribbons` does; returns the axes."""
        import matplotlib.pyplot as plt

        values = self.layer(kind, layer)
        axes = plt.subplots(figsize=(6, 4), layout="constrained")[1] if axes is None else axes
        steps, quantiles = values["steps"], values["quantiles"]
        for below, above, opacity in BANDS:
            axes.fill_between(steps, quantiles[:, below], quantiles[:, above], alpha=opacity, color="tab:blue", lw=0)
        axes.plot(steps, quantiles[:, 3], color="tab:blue", marker=self.marker)
        axes.set(title=layer, xlabel="step")
        return axes

    def histograms(self, layer: str, kind: str = "activation", count: int = 6, axes: Any = None) -> Any:
        """Draw a layer's histograms at `count` steps, the first at the bottom; returns the axes."""
        import matplotlib.pyplot as plt

        values = self.layer(kind, layer)
        chosen = np.unique(np.linspace(0, len(values["steps"]) - 1, count).round().astype(int))
        axes = plt.subplots(figsize=(6, 4), layout="constrained")[1] if axes is None else axes
        colors = plt.get_cmap("viridis")(np.linspace(0, 0.95, len(chosen)))
        for place, (i, color) in enumerate(zip(chosen, colors, strict=True)):
            edges, counts = np.linspace(*values["edges"][i], self.bins + 1), values["histogram"][i]
            axes.stairs(place + 0.9 * counts / max(1, counts.max()), edges, baseline=place, fill=True, color=color)
        axes.set_yticks(range(len(chosen)), [f"step {int(values['steps'][i])}" for i in chosen])
        axes.set(title=f"{kind} of {layer}", xlabel="value")
        widths = values["std"][chosen]
        if widths.max() > 20 * widths.min() > 0:  # on one linear axis the narrow ones would be a line
            axes.set_xscale("symlog", linthresh=10 ** np.ceil(np.log10(widths.min())))
        return axes

    def by_depth(
        self, statistic: str = "norm", kind: str = "gradient", step: int = -1, axes: Any = None, **style: Any
    ) -> Any:
        """Draw one number of each convolution and linear layer by its depth, at a recorded step (an index).

        Where neither was recorded, that of all operations.

        Args:
            statistic: "norm", "std", "mean" or "dead".
            kind: "activation" or "gradient": of the layers' outputs, or of the loss by these.
            step: index into `steps`.
            axes: matplotlib's, by default new ones.
            style: of matplotlib's line.

        Returns:
            The axes.
        """
        import matplotlib.pyplot as plt
        from matplotlib.ticker import MaxNLocator

        if statistic not in STATISTICS:
            raise ValueError(f"statistic must be one of {', '.join(STATISTICS)}, got {statistic!r}")
        axes = plt.subplots(figsize=(7, 3.5), layout="constrained")[1] if axes is None else axes
        weighted = [name for name in self.names() if self.operations[name] in WEIGHTED]
        names = weighted or self.names()
        values = [self.layers[kind][name][statistic][step] if name in self.layers[kind] else np.nan for name in names]
        axes.plot(range(1, len(names) + 1), values, **{"marker": ".", **style})
        axes.set(
            xlabel=f"{'layer with weights' if weighted else 'operation'}, from the input on",
            ylabel=f"{statistic} of the {kind}",
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if statistic == "norm":
            axes.set_yscale("log")
        return axes

    def update_ratios(self, axes: Any = None) -> Any:
        """Draw ‖update‖ / ‖weight‖ of each parameter that is a matrix or a kernel, over the steps; returns the axes."""
        import matplotlib.pyplot as plt

        axes = plt.subplots(figsize=(7, 3.5), layout="constrained")[1] if axes is None else axes
        names = [name for name in self.parameters if name.endswith("weight") and self.parameters[name]["norm"][0]]
        colors = plt.get_cmap("viridis")(np.linspace(0, 0.95, len(names)))
        for name, color in zip(names, colors, strict=True):
            axes.semilogy(self.steps, self.parameters[name]["update"], color=color, label=name, marker=self.marker)
        axes.axhline(1e-3, color="0.5", linestyle="--")
        axes.set(xlabel="step", ylabel="update / weight")
        if len(names) <= 12:
            axes.legend(fontsize="small")
        return axes

    def dead_units(self, axes: Any = None) -> Any:
        """Draw the fraction of channels that were 0 for a whole batch, of layers with any; returns the axes."""
        import matplotlib.pyplot as plt

        axes = plt.subplots(figsize=(7, 3.5), layout="constrained")[1] if axes is None else axes
        found = {name: values for name, values in self.layers["activation"].items() if np.any(values["dead"])}
        colors = plt.get_cmap("viridis")(np.linspace(0, 0.95, len(found)))
        for (name, values), color in zip(found.items(), colors, strict=True):
            axes.plot(values["steps"], values["dead"], color=color, label=name, marker=self.marker)
        axes.set(xlabel="step", ylabel="fraction of channels that are 0", ylim=(-0.02, 1.02))
        if not found:
            axes.text(0.5, 0.5, "no channel was 0 for a whole batch", ha="center", transform=axes.transAxes)
        elif len(found) <= 12:
            axes.legend(fontsize="small")
        return axes


def spread(names: list[str], most: int = 6) -> list[str]:
    """At most so many names, evenly from the first to the last."""
    return [names[i] for i in np.unique(np.linspace(0, len(names) - 1, most).round().astype(int))] if names else []
