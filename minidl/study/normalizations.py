"""Centring, normalising, decorrelating and whitening side by side: pictures in two dimensions, and what they cost."""

from collections.abc import Sequence
from typing import Any

import numpy as np

import minidl
from minidl.autograd import grad
from minidl.nn import functional as F
from minidl.nn.whitening import whiten
from minidl.ops.whitening import whitening_matrix
from minidl.study.batch_norm_lab import timed
from minidl.study.table import Table

__all__ = ["cloud", "compare_costs", "draw_normalizations", "normalizations"]


def cloud(points: int = 400, seed: int = 0) -> np.ndarray:
    """Draw correlated points (points, 2) off the origin."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((points, 2)) @ np.array([[1.6, 1.1], [0.0, 0.5]]) + np.array([2.0, 1.0])


def normalizations(x: np.ndarray, eps: float = 1e-12) -> dict[str, np.ndarray]:
    """Transform x (m, D) in every way that the papers compare.

    Returns:
        "data", "centred" (mean 0), "batch norm" (mean 0, variance 1 of each feature; correlations stay), "decorrelated"
        (rotated to the principal components), "PCA whitening", "ZCA whitening" (covariance I).

    Raises:
        ValueError: x is no matrix of two rows or more.
    """
    x = np.asarray(x, float)
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"normalizations: x must have shape (m, D) with m >= 2, got {x.shape}")
    centred = x - x.mean(axis=0)
    _, _, U = whitening_matrix(centred.T @ centred / len(x) + eps * np.eye(x.shape[1]), "pca")
    return {
        "data": x,
        "centred": centred,
        "batch norm": F.batch_norm(x, None, None, training=True, eps=eps),
        "decorrelated": centred @ U[:, ::-1],
        "PCA whitening": whiten(x, "pca", eps)[:, ::-1],
        "ZCA whitening": whiten(x, "zca", eps),
    }


def draw_normalizations(x: np.ndarray | None = None, figure: Any = None) -> Any:
    """Draw what each transformation makes of points x (m, 2), and the ellipse of the covariance; returns the figure."""
    import matplotlib.pyplot as plt

    views = normalizations(cloud() if x is None else x)
    if views["data"].shape[1] != 2:
        raise ValueError(f"draw_normalizations: x must have shape (m, 2), got {views['data'].shape}")
    figure = figure or plt.figure(figsize=(9, 6), layout="constrained")
    angle = np.linspace(0, 2 * np.pi, 100)
    colors = np.arctan2(*views["centred"].T)
    limit = 1.1 * max(np.abs(points).max() for points in views.values())
    for ax, (name, points) in zip(figure.subplots(2, 3, sharex=True, sharey=True).flat, views.items(), strict=True):
        ax.scatter(*points.T, s=6, c=colors, cmap="twilight")
        values, U = np.linalg.eigh(np.cov(points.T))
        ellipse = points.mean(axis=0)[:, None] + U @ (
            2 * np.sqrt(values)[:, None] * np.array([np.cos(angle), np.sin(angle)])
        )
        ax.plot(*ellipse, color="tab:red", label="2 standard deviations")
        ax.axhline(0, color="0.7", lw=0.8, zorder=0)
        ax.axvline(0, color="0.7", lw=0.8, zorder=0)
        ax.set(title=name, aspect="equal", xlim=(-limit, limit), ylim=(-limit, limit))
    figure.axes[0].legend(loc="lower right", fontsize="small")
    return figure


def compare_costs(m: int = 1024, features: Sequence[int] = (16, 64, 256), repeats: int = 5, seed: int = 0) -> Table:
    """Time batch norm beside whitening, forward and backward, on x (m, D) for several D."""
    rng, rows = np.random.default_rng(seed), []
    for D in features:
        x = minidl.tensor(rng.standard_normal((m, D)).astype(np.float32), requires_grad=True)
        dy = minidl.tensor(rng.standard_normal((m, D)).astype(np.float32))
        _, norm = timed(lambda x=x, dy=dy: grad(F.batch_norm(x, None, None, training=True), x, dy), repeats)
        _, white = timed(lambda x=x, dy=dy: grad(whiten(x), x, dy), repeats)
        rows.append([str(D), f"{norm:.3g}", f"{white:.3g}", f"{white / norm:.1f}"])
    remark = (
        f"forward and backward on {m} rows; whitening multiplies m D² and decomposes D³, batch norm passes over m D"
    )
    return Table([">features D", ">batch norm, ms", ">whitening, ms", ">times as long"], rows, remarks=[remark])
