"""The batch norm laboratory: four implementations side by side, running statistics, Bessel's correction, folding."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

import minidl
from minidl.autograd import grad, no_grad
from minidl.kernels import use_kernels
from minidl.nn import functional as F
from minidl.nn.folding import fold_batch_norm
from minidl.nn.module import Module
from minidl.nn.norm import BatchNorm1d, BatchNorm2d
from minidl.study.table import Table
from minidl.tensor import Tensor

__all__ = [
    "RunningStatistics",
    "bessel_correction",
    "compare_batch_norms",
    "compare_folded",
    "population_statistics",
    "running_statistics",
]

MODES = ("training", "inference", "frozen")


def by_primitives(x: Any, gamma: Any, beta: Any, mean: Any, var: Any, eps: float) -> Any:
    """Batch norm of x (N, C, ...) from operations that everybody knows; statistics of the batch where mean is None."""
    axes, shape = (0, *range(2, x.ndim)), (-1,) + (1,) * (x.ndim - 2)
    if mean is None:
        mean = np.mean(x, axis=axes, keepdims=True)
        var = np.mean((x - mean) ** 2, axis=axes, keepdims=True)
    else:
        mean, var = np.reshape(mean, shape), np.reshape(var, shape)
    return np.reshape(gamma, shape) * (x - mean) / np.sqrt(var + eps) + np.reshape(beta, shape)


def compare_batch_norms(
    x: Any,
    gamma: Any = None,
    beta: Any = None,
    mode: str = "training",
    running_mean: Any = None,
    running_var: Any = None,
    eps: float = 1e-5,
    seed: int = 0,
    repeats: int = 5,
) -> Table:
    """Compute batch norm, forward and backward, by the text, primitives, the kernels, and PyTorch if it is there.

    Args:
        x: (N, C) or (N, C, ...), float32 or float64.
        gamma, beta: (C,), by default random.
        mode: "training" (the batch's statistics, gradients flow through them), "inference" (running statistics, nothing
            recorded) or "frozen" (running statistics, but gradients by x, γ and β: a layer whose statistics rest).
        running_mean, running_var: (C,), by default those of x; not used in training.
        eps: added to the variance.
        seed: of γ, β and the upstream gradient.
        repeats: runs; the median counts.

    Returns:
        A table: largest differences from primitives in float64, relative to the largest value, and milliseconds.

    Raises:
        ValueError: an unknown mode, or shapes that do not fit.
    """
    if mode not in MODES:
        raise ValueError(f"compare_batch_norms: mode must be one of {', '.join(MODES)}, got {mode!r}")
    x = x.detach().numpy() if isinstance(x, Tensor) else np.asarray(x)
    rng, C, axes = np.random.default_rng(seed), x.shape[1], (0, *range(2, x.ndim))
    drawn = (rng.uniform(0.5, 1.5, C), rng.standard_normal(C), x.mean(axis=axes), x.var(axis=axes))
    given = (gamma, beta, running_mean, running_var)
    gamma, beta, mean, var = (
        np.asarray(d if v is None else v.detach() if isinstance(v, Tensor) else v, x.dtype)
        for v, d in zip(given, drawn, strict=True)
    )
    dy = rng.standard_normal(x.shape).astype(x.dtype)
    statistics = (None, None) if mode == "training" else (mean, var)

    def of_minidl(batch_norm: Callable[..., Any]) -> Callable[[np.dtype], list[np.ndarray]]:
        def run(dtype: Any = x.dtype) -> list[np.ndarray]:
            inputs = [minidl.tensor(v, dtype=dtype, requires_grad=mode != "inference") for v in (x, gamma, beta)]
            fixed = [v if v is None else np.asarray(v, dtype) for v in statistics]
            y = batch_norm(*inputs, *fixed)
            upstream = minidl.tensor(dy, dtype=dtype)
            found = [] if mode == "inference" else grad(y, inputs, upstream)
            return [y.detach().numpy(), *(g.numpy() for g in found)]

        return run

    def composed(x: Any, gamma: Any, beta: Any, mean: Any, var: Any) -> Any:
        return by_primitives(x, gamma, beta, mean, var, eps)

    def layer(x: Any, gamma: Any, beta: Any, mean: Any, var: Any) -> Any:
        return F.batch_norm(x, mean, var, gamma, beta, mode == "training", 0.0, eps)

    def text() -> list[np.ndarray]:
        with use_kernels(False):
            return of_minidl(layer)()

    ways = {"text (NumPy)": text, "primitives": of_minidl(composed), "kernels (numba)": of_minidl(layer)}
    theirs = of_torch(x, gamma, beta, dy, *statistics, mode, eps)
    if theirs is not None:
        ways["PyTorch"] = theirs
    exact = of_minidl(composed)(np.float64)
    rows = []
    for name, run in ways.items():
        found, milliseconds = timed(run, repeats)
        errors = [np.abs(f - e).max() / max(np.abs(e).max(), 1e-300) for f, e in zip(found, exact, strict=True)]
        rows.append([name, *(f"{error:.1e}" for error in errors), f"{milliseconds:.3g}"])
    columns = ["implementation", *(">" + v for v in ("y", "dx", "dgamma", "dbeta")[: len(exact)]), ">ms"]
    remark = "largest differences from primitives in float64, relative to the largest value"
    return Table(columns, rows, f"batch norm, {mode}, x {x.shape} {x.dtype}", [remark])


def of_torch(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, dy: np.ndarray, mean: Any, var: Any, mode: str, eps: float
) -> Callable[[], list[np.ndarray]] | None:
    """PyTorch's batch norm, forward and backward; None where PyTorch is not installed."""
    try:
        import torch
    except ImportError:
        return None

    def run() -> list[np.ndarray]:
        inputs = [torch.tensor(v, requires_grad=mode != "inference") for v in (x, gamma, beta)]
        fixed = [v if v is None else torch.tensor(v) for v in (mean, var)]
        y = torch.nn.functional.batch_norm(inputs[0], *fixed, *inputs[1:], mode == "training", 0.0, eps)
        found = [] if mode == "inference" else torch.autograd.grad(y, inputs, torch.tensor(dy))
        return [v.detach().numpy() for v in (y, *found)]

    return run


def timed(run: Callable[[], Any], repeats: int) -> tuple[Any, float]:
    """What `run` returns, and its median time in milliseconds; the first run, which compiles, does not count."""
    result, times = run(), []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    return result, float(np.median(times))


def population_statistics(model: Module, batches: Iterable[Any]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Replace running statistics by averages over training mini-batches of one size (Algorithm 2, lines 6 to 10).

        E[x] = mean of the mini-batch means,   Var[x] = m / (m - 1) mean of the mini-batch variances

    Args:
        model: its batch norms get the statistics; modes, momentum and everything else stay.
        batches: inputs of the model, or (input, target) pairs as a loader gives them.

    Returns:
        name of each batch norm -> (mean, variance), arrays (C,).

    Raises:
        ValueError: there are no batches, or no batch norm keeps statistics.
    """
    norms = {n: m for n, m in model.named_modules() if isinstance(m, BatchNorm1d | BatchNorm2d)}
    norms = {name: norm for name, norm in norms.items() if norm.track_running_stats}
    if not norms:
        raise ValueError("population_statistics: no batch norm of the model keeps running statistics")
    modes = {module: module.training for module in model.modules()}
    momenta = {name: norm.momentum for name, norm in norms.items()}
    count = 0
    try:
        model.train()
        for norm in norms.values():
            norm.reset_running_stats()
            norm.momentum = None  # the cumulative average, of variances that are corrected already
        with no_grad():
            for count, batch in enumerate(batches, start=1):  # noqa: B007
                model(batch[0] if isinstance(batch, tuple | list) else batch)
    finally:
        for name, norm in norms.items():
            norm.momentum = momenta[name]
        for module, training in modes.items():
            module.training = training
    if not count:
        raise ValueError("population_statistics: there are no batches")
    return {name: (norm.running_mean.numpy().copy(), norm.running_var.numpy().copy()) for name, norm in norms.items()}


@dataclass(frozen=True)
class RunningStatistics:
    """Two ways to average over mini-batches, step by step, beside the statistics of all data; arrays (steps, C).

    Attributes:
        momentum_mean, momentum_var: exponential averages with the given momentum.
        cumulative_mean, cumulative_var: averages of all batches so far; the last row is Algorithm 2's.
        mean, var: (C,), of all values at once.
        momentum: of the exponential averages.
    """

    momentum_mean: np.ndarray
    momentum_var: np.ndarray
    cumulative_mean: np.ndarray
    cumulative_var: np.ndarray
    mean: np.ndarray
    var: np.ndarray
    momentum: float

    def plot(self, channel: int = 0, axes: Any = None) -> Any:
        """Draw the averages of one channel over the steps; returns the two matplotlib axes."""
        import matplotlib.pyplot as plt

        axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")[1] if axes is None else axes
        for ax, what in zip(axes, ("mean", "var"), strict=True):
            ax.plot(getattr(self, f"momentum_{what}")[:, channel], label=f"momentum {self.momentum}")
            ax.plot(getattr(self, f"cumulative_{what}")[:, channel], label="cumulative (Algorithm 2 at the end)")
            ax.axhline(getattr(self, what)[channel], color="0.5", linestyle="--", label="all data")
            ax.set(xlabel="mini-batch", title=f"running {what}, channel {channel}")
        axes[0].legend()
        return axes


def running_statistics(batches: Iterable[Any], momentum: float = 0.1) -> RunningStatistics:
    """Follow a batch norm's running statistics over mini-batches x (N, C, ...).

    Raises:
        ValueError: there are no batches, or their channels differ.
    """
    arrays = [b.detach().numpy() if isinstance(b, Tensor) else np.asarray(b) for b in batches]
    if not arrays or len({a.shape[1] for a in arrays}) != 1:
        raise ValueError("running_statistics: expected mini-batches (N, C, ...) of the same number of channels C")
    C = arrays[0].shape[1]
    layers = [BatchNorm1d(C, momentum=m, dtype=np.float64) for m in (momentum, None)]
    paths: list[list[list[np.ndarray]]] = [[[], []], [[], []]]
    rows = [np.moveaxis(a, 1, -1).reshape(-1, C).astype(np.float64) for a in arrays]
    with no_grad():
        for batch in rows:
            for layer, (means, variances) in zip(layers, paths, strict=True):
                layer(minidl.from_numpy(batch))
                means.append(layer.running_mean.numpy().copy())
                variances.append(layer.running_var.numpy().copy())
    curves = [np.array(values) for path in paths for values in path]
    whole = np.concatenate(rows)
    return RunningStatistics(*curves, whole.mean(axis=0), whole.var(axis=0, ddof=1), momentum)


def bessel_correction(sizes: Iterable[int] = (2, 3, 4, 8, 16, 32, 128), draws: int = 20_000, seed: int = 0) -> Table:
    """Average the variance of `draws` mini-batches of m normal numbers of variance 1, without and with m / (m - 1)."""
    rng, rows = np.random.default_rng(seed), []
    for m in sizes:
        if m < 2:
            raise ValueError(f"bessel_correction: a variance needs at least 2 values, got a size of {m}")
        biased = rng.standard_normal((draws, m)).var(axis=1).mean()
        rows.append([str(m), f"{biased:.3f}", f"{1 - 1 / m:.3f}", f"{biased * m / (m - 1):.3f}"])
    return Table([">m", ">biased", ">(m - 1) / m", ">corrected"], rows, "the variance of N(0, 1) from m values")


def compare_folded(model: Module, x: Any, repeats: int = 10) -> Table:
    """Fold a model's batch norms (`minidl.nn.fold_batch_norm`); the largest output difference and the speed gained.

    Args:
        model: in any mode; it is compared in evaluation mode, and left as it was.
        x: an input.
        repeats: runs of each; the median counts.
    """
    folded, modes = fold_batch_norm(model, x), {module: module.training for module in model.modules()}
    try:
        model.eval()
        with no_grad():
            (before, slow), (after, fast) = (timed(lambda m=m: m(x).numpy(), repeats) for m in (model, folded))
    finally:
        for module, training in modes.items():
            module.training = training
    difference = np.abs(before - after).max()
    rows = [["with batch norm", f"{slow:.3g}", ""], ["folded", f"{fast:.3g}", f"{slow / fast:.2f}"]]
    relative = difference / max(np.abs(before).max(), np.finfo(float).tiny)
    remark = f"largest output difference {difference:.2e}, {relative:.1e} of the largest output"
    return Table(["", ">ms", ">times as fast"], rows, remarks=[remark])
