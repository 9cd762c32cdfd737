"""Operations that pass over memory: activations, normalisation, pooling and losses, with their gradients."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import minidl
import minidl.nn.functional
from minidl.bench.layers import alternate
from minidl.bench.sides import channels_last, torch_version

__all__ = ["OPERATIONS", "measure_operations"]

IMAGES, ROWS = (128, 64, 16, 16), (8192, 256)
Operation = tuple[str, tuple[int, ...], Callable[[Any, Any, Any], Any]]  # title, shape of x, y of (F, x, target)


def named(name: str) -> Operation:
    return name, IMAGES, lambda F, x, t: getattr(F, name)(x)


# fmt: off
OPERATIONS: list[Operation] = [
    *map(named, ("relu", "leaky_relu", "elu", "sigmoid", "tanh", "silu", "gelu", "softplus", "hardswish")),
    ("x + y",                   IMAGES,       lambda F, x, t: x + t),
    ("batch_norm, training",    IMAGES,       lambda F, x, t: F.batch_norm(x, None, None, training=True)),
    ("group_norm, 8 groups",    IMAGES,       lambda F, x, t: F.group_norm(x, 8)),
    ("layer_norm",              ROWS,         lambda F, x, t: F.layer_norm(x, (256,))),
    ("softmax",                 ROWS,         lambda F, x, t: F.softmax(x, 1)),
    ("log_softmax",             ROWS,         lambda F, x, t: F.log_softmax(x, 1)),
    ("max_pool2d 2x2",          IMAGES,       lambda F, x, t: F.max_pool2d(x, 2)),
    ("max_pool2d 3x3 / 2",      IMAGES,       lambda F, x, t: F.max_pool2d(x, 3, 2, 1)),
    ("avg_pool2d 2x2",          IMAGES,       lambda F, x, t: F.avg_pool2d(x, 2)),
    ("adaptive_avg_pool2d 1x1", IMAGES,       lambda F, x, t: F.adaptive_avg_pool2d(x, 1)),
    ("cross_entropy",           (128, 10),    lambda F, x, t: F.cross_entropy(x, t)),
    ("cross_entropy",           (128, 1000),  lambda F, x, t: F.cross_entropy(x, t)),
    ("cross_entropy",           (8192, 100),  lambda F, x, t: F.cross_entropy(x, t)),
    *((name, ROWS, lambda F, x, t, name=name: getattr(F, name)(x, t))
      for name in ("binary_cross_entropy_with_logits", "mse_loss", "l1_loss", "smooth_l1_loss")),
]
# fmt: on


def measure_operations(rounds: int = 9, tick: Callable[[], None] = lambda: None) -> Iterator[dict[str, Any]]:
    """Time each operation forward, and forward and back, with eager PyTorch beside it where that is installed.

    Images lie channels last in minidl; of PyTorch's two memory formats the faster one counts.

    Yields:
        {"operation", "shape", "forward", "both", "torch_forward", "torch_both", "ratio"}: milliseconds, and PyTorch's
        time for both over minidl's; the last three are None without PyTorch.

    Raises:
        ValueError: the two libraries do not compute the same.
    """
    for title, shape, compute in OPERATIONS:
        x, t, dy = numbers(title, shape, compute)
        sides = [minidl_calls(compute, x, t, dy)]
        if torch_version():
            sides += [torch_calls(compute, x, t, dy, last) for last in ((False, True) if len(shape) == 4 else (False,))]
        for _, both in sides[1:]:
            for own, other in zip(sides[0][1](), both(), strict=True):
                if not np.allclose(own, other, rtol=1e-3, atol=1e-5):
                    raise ValueError(f"{title} {shape}: minidl and PyTorch do not compute the same")
        times = np.median(alternate([call for side in sides for call in side], rounds), axis=1).reshape(-1, 2)
        forward, both = times[0]
        result = {"operation": title, "shape": shape, "forward": float(forward), "both": float(both)}
        fastest = times[1:][np.argmin(times[1:, 1])] if len(times) > 1 else None
        result["torch_forward"], result["torch_both"] = (None, None) if fastest is None else map(float, fastest)
        yield {**result, "ratio": None if fastest is None else float(fastest[1] / both)}
        tick()


def numbers(title: str, shape: tuple[int, ...], compute: Callable) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, the target of a loss or the other operand, and the gradient of what comes out."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, np.float32)
    t = rng.integers(0, shape[1], shape[0]) if title == "cross_entropy" else rng.random(shape, np.float32)
    y = np.asarray(compute(minidl.nn.functional, x, t))
    return x, t, rng.standard_normal(y.shape, np.float32)


Calls = tuple[Callable[[], Any], Callable[[], list[np.ndarray]]]


def minidl_calls(compute: Callable, x: np.ndarray, t: np.ndarray, dy: np.ndarray) -> Calls:
    """What is timed on minidl."""
    return calls(minidl.nn.functional, compute, *map(minidl.from_numpy, (_last(a) for a in (x, t, dy))))


def torch_calls(compute: Callable, x: np.ndarray, t: np.ndarray, dy: np.ndarray, last: bool) -> Calls:
    """What is timed on PyTorch; `last` for channels last."""
    import torch

    torch.set_num_threads(minidl.get_num_threads())
    own = (torch.from_numpy(_last(a).copy("K") if last else a.copy()) for a in (x, t, dy))
    return calls(torch.nn.functional, compute, *own)


def _last(a: np.ndarray) -> np.ndarray:
    return channels_last(a) if a.ndim == 4 else a


def calls(functional: Any, compute: Callable, x: Any, t: Any, dy: Any) -> Calls:
    """Forward alone, and forward and back: the output and the gradient."""
    x.requires_grad_()

    def forward() -> Any:
        y = compute(functional, x, t)
        return getattr(y, "array", y)  # made now, if minidl deferred it

    def both() -> list[np.ndarray]:
        x.grad = None
        y = compute(functional, x, t)
        y.backward(dy)
        return [y.detach().numpy(), x.grad.numpy()]

    return forward, both
