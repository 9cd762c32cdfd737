"""Single layers: GFLOP/s of the kernels, their share of the machine's peak, and PyTorch's time for the same."""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import minidl
from minidl.bench.compare import PAUSE
from minidl.bench.sides import torch_version
from minidl.kernels import get_kernel
from minidl.kernels.deferred import settled
from minidl.nn.geometry import sliding

__all__ = ["LAYERS", "LINEARS", "alternate", "bandwidth", "measure_layers", "peak"]

#        images, channels in, out, side, kernel, stride
LAYERS = [
    (128, 3, 16, 32, 3, 1),
    (128, 16, 16, 32, 3, 1),
    (128, 16, 32, 32, 3, 2),
    (128, 32, 32, 16, 3, 1),
    (128, 64, 64, 8, 3, 1),
    (64, 64, 64, 32, 3, 1),
    (64, 128, 128, 16, 3, 1),
    (64, 256, 256, 8, 3, 1),
    (64, 512, 512, 4, 3, 1),
    (8, 256, 64, 56, 1, 1),
    (8, 64, 256, 56, 1, 1),
    (128, 32, 64, 14, 5, 1),
]
LINEARS = [(128, 3136, 1024), (512, 512, 512), (8, 4096, 4096), (1, 2048, 1000), (64, 64, 64)]  # rows, features in, out
DIRECTIONS = ("forward", "input gradient", "weight gradient")


def peak() -> float:
    """GFLOP/s of the micro-kernel on all threads where its operands are in the first cache: what a kernel can reach."""
    from minidl.kernels import threads
    from minidl.kernels.cpu.jit import VECTOR_BYTES
    from minidl.kernels.cpu.micro import product_many

    M, N, K, repeats = 24, VECTOR_BYTES // 2, 64, 2000
    a, b, c = (np.ones(n, np.float32) for n in (M * K, K * N, M * N))
    best, end = 0.0, time.perf_counter() + 1  # by then the helpers have loaded what they run
    while time.perf_counter() < end:
        begin = time.perf_counter()
        threads.run(product_many, minidl.get_num_threads(), repeats, M, N, K, a, b)
        best = max(best, 2e-9 * M * N * K * repeats * minidl.get_num_threads() / (time.perf_counter() - begin))
    return best


def bandwidth() -> float:
    """GB/s of adding two arrays of 64 MB: what memory gives to all threads, two reads and one write counted."""
    add = get_kernel("add_forward")
    x, y = np.ones((2, 1 << 24), np.float32)
    best = 0.0
    for _ in range(5):
        begin = time.perf_counter()
        z, _ = add(x, y)
        best = max(best, 1e-9 * (x.nbytes + y.nbytes + z.nbytes) / (time.perf_counter() - begin))
    return best


def measure_layers(rounds: int = 9, tick: Callable[[], None] = lambda: None) -> Iterator[dict[str, Any]]:
    """Time each layer and direction, with PyTorch's channels_last beside it where that is installed.

    Yields:
        {"layer", "direction", "milliseconds", "gflops", "intensity", "torch_milliseconds", "ratio"}; GFLOP/s count the
        operations of the plain sum, also where Winograd needs fewer; the intensity is operations per byte of the three
        arrays. The last two are None without PyTorch.
    """
    cases = itertools.chain((_convolution(*layer) for layer in LAYERS), (_linear(*layer) for layer in LINEARS))
    for title, gflop, arrays, calls, others in cases:
        for direction, own, other in zip(DIRECTIONS, calls, others, strict=True):
            times = alternate([own] if other is None else [own, other], rounds)
            ms = float(np.median(times[0]))
            torch_ms = None if other is None else float(np.median(times[1]))
            yield {
                "layer": title,
                "direction": direction,
                "milliseconds": ms,
                "gflops": gflop / ms * 1e3,
                "intensity": gflop * 1e9 / sum(a.nbytes for a in arrays),
                "torch_milliseconds": torch_ms,
                "ratio": None if torch_ms is None else float(np.median(np.divide(times[1], times[0]))),
            }
            tick()


def _random(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


def _convolution(N: int, C: int, OC: int, side: int, K: int, stride: int) -> tuple:
    """(title, GFLOP, arrays, minidl's calls, PyTorch's calls) in the order of DIRECTIONS."""
    window = sliding("bench", (side, side), (K, K), (stride, stride), (K // 2, K // 2), (1, 1))
    output = window.output[0]
    x, w, dy = arrays = _random((N, C, side, side), (OC, C, K, K), (N, OC, output, output))
    title = f"{C} -> {OC}, {K}x{K}{f' / {stride}' if stride > 1 else ''}, {side}x{side}, batch {N}"
    others = _torch_calls(x, w, dy, stride, K // 2) if torch_version() else [None] * 3
    return title, 2e-9 * N * OC * output * output * C * K * K, arrays, _minidl_calls(x, w, dy, window), others


def _linear(rows: int, features_in: int, features_out: int) -> tuple:
    """As `_convolution`."""
    x, w, dy = arrays = _random((rows, features_in), (features_out, features_in), (rows, features_out))
    forward, backward = get_kernel("linear_forward"), get_kernel("linear_backward")
    calls = [lambda: forward(x, w, None)]
    calls += [lambda needs=needs: backward(dy, (x, w), needs) for needs in ((True, False, False), (False, True, False))]
    others: list[Any] = [None] * 3
    if torch_version():
        import torch

        torch.set_num_threads(minidl.get_num_threads())
        tx, tw, tdy = map(torch.from_numpy, arrays)
        others = [lambda: torch.nn.functional.linear(tx, tw), lambda: tdy @ tw, lambda: tdy.T @ tx]
    title = f"linear {features_in} -> {features_out}, batch {rows}"
    return title, 2e-9 * rows * features_in * features_out, arrays, calls, others


def _minidl_calls(x: Any, w: Any, dy: Any, window: Any) -> list[Callable[[], Any]]:
    x, dy = (np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) for a in (x, dy))
    forward, backward = get_kernel("conv2d_forward"), get_kernel("conv2d_backward")
    saved = (x, w, window, 1)
    return [
        lambda: settled(forward(x, w, None, window=window, groups=1)[0]),
        lambda: settled(backward(dy, saved, (True, False, False))[0]),
        lambda: backward(dy, saved, (False, True, False)),
    ]


def _torch_calls(x: Any, w: Any, dy: Any, stride: int, padding: int) -> list[Callable[[], Any]]:
    import torch

    torch.set_num_threads(minidl.get_num_threads())
    x, w, dy = (torch.from_numpy(a).contiguous(memory_format=torch.channels_last) for a in (x, w, dy))

    def backward(*mask: bool) -> Any:
        sizes = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1)
        return torch.ops.aten.convolution_backward(dy, x, w, None, *sizes, mask)

    return [
        lambda: torch.nn.functional.conv2d(x, w, stride=stride, padding=padding),
        lambda: backward(True, False, False),
        lambda: backward(False, True, False),
    ]


def alternate(calls: list[Callable[[], Any]], rounds: int, seconds: float = 0.05) -> list[list[float]]:
    """Milliseconds by call and round."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(rounds):
        for call, found in zip(calls, times, strict=True):
            time.sleep(PAUSE)
            call()
            steps, begin = 0, time.perf_counter()
            while not steps or time.perf_counter() - begin < seconds:
                call()
                steps += 1
            found.append(1e3 * (time.perf_counter() - begin) / steps)
    return times
