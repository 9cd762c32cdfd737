"""How large gradients are by depth, and internal covariate shift: what batch norm and shortcuts are for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl import nn
from minidl.autograd import enable_grad, no_grad
from minidl.creation import from_numpy
from minidl.nn import functional as F
from minidl.nn import init
from minidl.optim import SGD
from minidl.random import get_rng_state, manual_seed, set_rng_state
from minidl.study.one_pass import unchanged
from minidl.study.recorder import Recorder
from minidl.study.recording import WEIGHTED
from minidl.tensor import Tensor

__all__ = ["CovariateShift", "covariate_shift", "deep_mlp", "draw_gradient_flow", "gradient_norms"]

ACTIVATIONS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}
PERCENTILES = (15, 50, 85)
PROBES = 1000  # test examples whose distribution is looked at


def gradient_norms(model: nn.Module, x: Any, y: Any, criterion: Any = None) -> dict[str, float]:
    """Measure the gradient by the output of each convolution and linear layer, from the input to the output.

        ‖∂L/∂s‖, s = W∗x + b

    The model runs in the mode it is in, and is left as it was: parameters, buffers, `.grad`, and minidl's generator.

    Args:
        model: maps x to logits (N, classes).
        x: a batch, Tensor or array.
        y: what the criterion takes, by default labels (N,).
        criterion: maps (logits, y) to the loss L; by default cross-entropy.

    Returns:
        {path of the layer: Euclidean norm over the batch}.

    Raises:
        ValueError: the model has no such layers, or the gradient reaches none.
    """
    recorder = Recorder(model, every=1, operations=WEIGHTED)
    x, y = as_tensor(x), as_tensor(y)
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    try:
        with unchanged(model), enable_grad(), recorder.step():
            for parameter, _ in gradients:
                parameter.grad = None  # what is there must not be added to
            (criterion or F.cross_entropy)(model(x), y).backward()
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
    recording = recorder.recording
    norms = {name: recording.layer("gradient", name)["norm"][0].item() for name in recording.names("gradient")}
    if not norms:
        raise ValueError("gradient_norms: the gradient reaches no convolution or linear layer of the model")
    return norms


def draw_gradient_flow(
    networks: Mapping[str, nn.Module | Mapping[str, float]],
    x: Any = None,
    y: Any = None,
    criterion: Any = None,
    axes: Any = None,
) -> Any:
    """Draw the gradient norms of several networks by relative depth, on a logarithmic scale.

    Args:
        networks: models by name, or what `gradient_norms` returned for one, e.g. before some training.
        x, y, criterion: as `gradient_norms`, for the models.
        axes: matplotlib's, by default new ones.

    Returns:
        The axes.
    """
    import matplotlib.pyplot as plt

    norms = {
        name: network if isinstance(network, Mapping) else gradient_norms(network, x, y, criterion)
        for name, network in networks.items()
    }
    axes = plt.subplots(figsize=(7, 4), layout="constrained")[1] if axes is None else axes
    for name, values in norms.items():
        axes.semilogy(np.linspace(0, 1, len(values)), list(values.values()), ".-", label=name)
    axes.set(xlabel="relative depth (0: first layer, 1: last)", ylabel="norm of the gradient by a layer's output")
    axes.grid(color="0.9")
    axes.legend()
    return axes


def deep_mlp(
    depth: int,
    width: int,
    activation: str,
    in_features: int = 784,
    num_classes: int = 10,
    batch_norm: bool = False,
    gain: float = 1.0,
) -> nn.Sequential:
    """Build a fully connected network: `depth` times linear -> (batch norm) -> activation, and a linear layer.

    Weights begin as N(0, (gain · g)² / in_features), with g = √2 before a ReLU and 1 elsewhere; biases as 0.

    Args:
        depth: hidden layers.
        width: units of each.
        activation: "sigmoid", "tanh" or "relu".
        in_features: numbers of an example, which may have any shape.
        num_classes: outputs, logits.
        batch_norm: normalise before each activation; the linear layer then has no bias.
        gain: of all weights; above 1, sigmoid and tanh saturate.

    Raises:
        ValueError: an unknown activation, or a size below 1.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"deep_mlp: activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    sizes = {"depth": depth, "width": width, "in_features": in_features, "num_classes": num_classes}
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"deep_mlp: {name} must be a positive integer, got {size!r}")
    layers: list[nn.Module] = [nn.Flatten()]
    for place in range(depth):
        layers.append(nn.Linear(width if place else in_features, width, bias=not batch_norm))
        layers += [nn.BatchNorm1d(width)] if batch_norm else []
        layers.append(ACTIVATIONS[activation]())
    model = nn.Sequential(*layers, nn.Linear(width, num_classes))
    *hidden, last = (layer for layer in model if isinstance(layer, nn.Linear))
    for layer in (*hidden, last):
        g = np.sqrt(2) if activation == "relu" and layer is not last else 1.0
        init.normal_(layer.weight, std=float(gain * g / np.sqrt(layer.in_features)))
        if layer.bias is not None:
            init.zeros_(layer.bias)
    return model


@dataclass
class CovariateShift:
    """What `covariate_shift` saw, for the networks "without batch norm" and "with batch norm".

    Attributes:
        steps: (K,), training steps done.
        accuracy: {network: (K,)}, on the test set, in [0, 1].
        percentiles: {network: (K, 3, units)}, the 15th, 50th and 85th of each input of the last hidden layer's sigmoid.
    """

    steps: np.ndarray
    accuracy: dict[str, np.ndarray]
    percentiles: dict[str, np.ndarray]

    def typical(self, network: str) -> int:
        """The unit whose median moves as far as that of the median unit."""
        moved = np.ptp(self.percentiles[network][:, 1], axis=0)
        return int(np.argsort(moved, kind="stable")[len(moved) // 2])

    def plot(self, units: Mapping[str, int] | None = None, figure: Any = None) -> Any:
        """Draw accuracy by step, and the percentiles of one unit without and with batch norm.

        Args:
            units: the unit of each network, by default a `typical` one. figure: matplotlib's, by default a new one.

        Returns:
            The figure.

        Source: Ioffe & Szegedy 2015, figure 1.
        """
        import matplotlib.pyplot as plt

        figure = figure or plt.figure(figsize=(11, 3.4), layout="constrained")
        left, *right = figure.subplots(1, 3)
        for (name, values), line in zip(self.accuracy.items(), ("--", "-"), strict=True):
            left.plot(self.steps, 100 * values, line, label=name)
        left.set(xlabel="step", ylabel="test accuracy in %", title="accuracy")
        left.legend()
        low, high = np.inf, -np.inf
        for ax, (name, values) in zip(right, self.percentiles.items(), strict=True):
            unit = self.typical(name) if units is None else units[name]
            for place, percentile in enumerate(PERCENTILES):
                style = {"color": f"C{place}", "label": f"{percentile} %"}
                ax.plot(self.steps, values[:, place, unit], **style)
            ax.set(xlabel="step", title=f"{name}: input of unit {unit}")
            low, high = min(low, ax.get_ylim()[0]), max(high, ax.get_ylim()[1])
        for ax in right:
            ax.set_ylim(low, high)
        right[0].legend(title="percentile")
        return figure


def covariate_shift(
    x: np.ndarray,
    y: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    steps: int = 2000,
    *,
    batch_size: int = 60,
    lr: float = 0.1,
    width: int = 100,
    every: int | None = None,
    seed: int = 0,
) -> CovariateShift:
    """Train a network of three hidden sigmoid layers without and with batch norm, from the same weights and batches.

    Accuracy is measured in evaluation mode. Percentiles are those of up to 1,000 test examples in training mode: with
    batch norm, of values normalised by their own mean and variance.

    Args:
        x, x_test: (N, ...), floating. y, y_test: labels (N,).
        steps: of plain SGD.
        batch_size: examples per step, drawn at random.
        lr: learning rate.
        width: units of each hidden layer.
        every: look after so many steps, by default about 50 times.
        seed: of weights and batches; minidl's generator is left as it was.

    Source: Ioffe & Szegedy 2015, section 4.1: 3 layers of 100 sigmoids, batches of 60, MNIST.

    Raises:
        ValueError: extents that do not fit, or steps, batch_size or every below 1.
    """
    for name, value in {"steps": steps, "batch_size": batch_size, "every": 1 if every is None else every}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"covariate_shift: {name} must be a positive integer, got {value!r}")
    x, y, x_test, y_test = (np.asarray(a) for a in (x, y, x_test, y_test))
    for name, images, labels in (("x", x, y), ("x_test", x_test, y_test)):
        if images.shape[1:] != x.shape[1:] or labels.shape != images.shape[:1] or not len(images):
            raise ValueError(
                f"covariate_shift: {name} {images.shape} does not fit its labels {labels.shape} or x {x.shape}"
            )
    every = every or max(1, steps // 50)
    classes = int(max(y.max(), y_test.max())) + 1
    seen_at = sorted({*range(0, steps, every), steps})
    accuracy: dict[str, list[float]] = {}
    percentiles: dict[str, list[np.ndarray]] = {}
    rng = get_rng_state()
    try:
        for name, batch_norm in (("without batch norm", False), ("with batch norm", True)):
            manual_seed(seed)
            features = int(np.prod(x.shape[1:]))
            model = deep_mlp(3, width, "sigmoid", features, classes, batch_norm)
            optimizer, draws = SGD(model.parameters(), lr=lr), np.random.default_rng(seed)
            accuracy[name], percentiles[name] = [], []
            for step in range(steps + 1):
                if step in seen_at:
                    accuracy[name].append(share_right(model, x_test, y_test))
                    percentiles[name].append(sigmoid_percentiles(model, x_test[:PROBES]))
                if step < steps:
                    batch = draws.integers(0, len(x), batch_size)
                    optimizer.zero_grad()
                    F.cross_entropy(model(from_numpy(x[batch])), from_numpy(y[batch])).backward()
                    optimizer.step()
    finally:
        set_rng_state(rng)
    return CovariateShift(
        np.array(seen_at),
        {name: np.array(values) for name, values in accuracy.items()},
        {name: np.stack(values) for name, values in percentiles.items()},
    )


def share_right(model: nn.Module, x: np.ndarray, y: np.ndarray) -> float:
    """Top-1 accuracy in evaluation mode."""
    with unchanged(model), no_grad():
        model.eval()
        return float(np.mean(model(from_numpy(x)).numpy().argmax(1) == y))


def sigmoid_percentiles(model: nn.Sequential, x: np.ndarray) -> np.ndarray:
    """Percentiles (3, units) of what the last sigmoid is given, in training mode."""
    with unchanged(model), no_grad():
        s = model[:-2](from_numpy(x)).numpy()
    return np.percentile(s, PERCENTILES, axis=0)


def as_tensor(values: Any) -> Tensor:
    return values if isinstance(values, Tensor) else from_numpy(np.asarray(values))
