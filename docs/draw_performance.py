"""Draw the figures of performance.md from what `minidl bench --json` wrote: python docs/draw_performance.py."""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

HERE = Path(__file__).parent
OURS, THEIRS = "tab:blue", "0.65"


def networks(results, path):
    """Ratios to PyTorch's fastest eager mode, with quartiles, and what is wanted."""
    results = [r for r in results if "ratio" in r][::-1]
    figure, axes = plt.subplots(figsize=(8, 0.45 * len(results) + 1.2), layout="constrained")
    places = np.arange(len(results))
    ratios = np.array([r["ratio"] for r in results])
    quartiles = np.array([r["ratio_quartiles"] for r in results])
    reached = [r["ratio"] >= r["wanted"] for r in results]
    colors = [OURS if ok else "tab:orange" for ok in reached]
    axes.set_xlim(0, 1.08 * max(ratios.max(), *(r["wanted"] for r in results)))
    axes.barh(places, ratios, color=colors, height=0.6, xerr=np.abs(quartiles - ratios[:, None]).T, ecolor="0.2")
    axes.scatter([r["wanted"] for r in results], places, marker="|", s=260, color="black", label="wanted")
    axes.axvline(1, color=THEIRS, linewidth=1)
    axes.set_yticks(places, [f"{r['title']}, batch {r['batch']}" for r in results])
    axes.set_xlabel("times as fast as eager PyTorch")
    figure.legend(loc="outside lower left")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def operations(results, path):
    """Ratios to PyTorch, forward and back."""
    results = results[::-1]
    figure, axes = plt.subplots(figsize=(8, 0.3 * len(results) + 1), layout="constrained")
    ratios = [r["ratio"] for r in results]
    axes.barh(range(len(results)), ratios, color=[OURS if ratio >= 1 else "tab:orange" for ratio in ratios])
    axes.axvline(1, color="0.2", linewidth=1)
    axes.margins(y=0.01)
    axes.set_yticks(range(len(results)), [f"{r['operation']}, {' x '.join(map(str, r['shape']))}" for r in results])
    axes.set_xlabel("times as fast as eager PyTorch, forward and back")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def roofline(report, path):
    """GFLOP/s of each layer and direction over operations per byte, below the two roofs."""
    top, stream = report["peak_gflops"], report["bandwidth"]
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    x = np.geomspace(0.3, 2000, 200)
    axes.plot(x, np.minimum(top, stream * x), color="0.3", label="roofs: memory, then the micro-kernel's peak")
    axes.plot(
        x, np.minimum(4 * top, stream * x), "--", color="0.6", label="the same for Winograd, a quarter of the products"
    )
    for direction, marker in (("forward", "o"), ("input gradient", "s"), ("weight gradient", "^")):
        rows = [r for r in report["layers"] if r["direction"] == direction]
        axes.scatter(
            [r["intensity"] for r in rows], [r["gflops"] for r in rows], marker=marker, label=direction, zorder=3
        )
    axes.set(xscale="log", yscale="log", xlabel="operations per byte of input, weights and output")
    axes.set_ylabel("GFLOP/s (operations of the plain sum)")
    axes.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    networks(json.loads((HERE / "data/bench-networks.json").read_text())["networks"], HERE / "images/networks.png")
    passes = json.loads((HERE / "data/bench-operations.json").read_text())["operations"]
    operations(passes, HERE / "images/operations.png")
    roofline(json.loads((HERE / "data/bench-layers.json").read_text()), HERE / "images/roofline.png")
