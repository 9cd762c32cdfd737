"""A network beside its PyTorch twin: how far apart outputs, gradients, running statistics and trained weights are."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl.creation import tensor
from minidl.nn import functional as F
from minidl.nn.module import Module
from minidl.optim import SGD
from minidl.primitives import unwrap
from minidl.random import get_rng_state, set_rng_state
from minidl.tensor import Tensor

__all__ = ["Comparison", "Difference", "compare_with_torch"]

SHOWN = 30  # rows of the table


@dataclass(frozen=True)
class Difference:
    """How far one array of minidl is from PyTorch's.

    Attributes:
        what: "output", "loss", "gradient", "buffer", "weight after 3 steps", ...
        name: of the parameter or buffer.
        shape: of both.
        absolute: max |ours - theirs|; inf where one is NaN and the other is not.
        relative: `absolute` / max |theirs|.
    """

    what: str
    name: str
    shape: tuple[int, ...]
    absolute: float
    relative: float


@dataclass(frozen=True)
class Comparison:
    """What `compare_with_torch` found; `str()` of it is a table, worst first.

    Attributes:
        rows: the differences, by falling relative difference.
    """

    rows: list[Difference]

    @property
    def relative(self) -> float:
        """The largest relative difference of all."""
        return self.rows[0].relative

    def of(self, what: str) -> list[Difference]:
        """The rows whose `what` begins so, such as "gradient", worst first."""
        return [row for row in self.rows if row.what.startswith(what)]

    def __str__(self) -> str:
        lines = [("what", "name", "shape", "absolute", "relative")]
        for row in self.rows[:SHOWN]:
            lines.append((row.what, row.name, str(row.shape), f"{row.absolute:.1e}", f"{row.relative:.1e}"))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = ["  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        hidden = len(self.rows) - SHOWN
        return "\n".join(table + ([f"... and {hidden} rows that differ no more"] if hidden > 0 else []))


def compare_with_torch(
    model: Module,
    torch_model: Any,
    x: Any,
    *,
    target: Any = None,
    loss: str | None = None,
    steps: int = 3,
    sgd: Mapping[str, Any] | None = None,
    double: bool = False,
) -> Comparison:
    """Give both networks PyTorch's weights and the same batch, train both by SGD, and compare everything on the way.

    Copies are compared; neither network changes. Both run in the mode (training or evaluation) of `model`. Dropout
    draws different masks on both sides: compare such networks in evaluation mode.

    Args:
        model: the network of minidl.
        torch_model: the same in PyTorch; its state_dict must have the same keys and shapes.
        x: a batch, an array or a Tensor of either side; floating-point numbers are converted to the dtype compared.
        target: what the loss takes beside the output, e.g. int64 labels.
        loss: a loss by its name in `nn.functional` of both. By default cross_entropy with a target; without one, the
            sum of the outputs weighted by fixed random numbers, so that every gradient gets something to do.
        steps: steps of SGD, 0 for none.
        sgd: its options on both sides, by default lr=0.01 and momentum=0.9.
        double: compute in float64.

    Returns:
        The differences of output, loss, the gradients of input and parameters, the buffers after the first batch, and
        weights and buffers after the last step.

    Raises:
        ImportError: PyTorch is not installed.
        RuntimeError: keys or shapes of the weights do not agree.
        ValueError, TypeError: an unknown loss, steps < 0, or outputs that are no Tensors of the same shape.
    """
    try:
        import torch
    except ImportError:
        raise ImportError("compare_with_torch needs PyTorch: pip install 'minidl[torch]'") from None
    if type(steps) is not int or steps < 0:
        raise ValueError(f"compare_with_torch: steps must be an integer >= 0, got {steps!r}")
    if loss is not None and target is None:
        raise ValueError(f"compare_with_torch: loss {loss!r} needs a target")
    name = loss or "cross_entropy"
    if not hasattr(F, name) or not hasattr(torch.nn.functional, name):
        raise ValueError(f"compare_with_torch: loss must be a function of nn.functional on both sides, got {name!r}")

    kind = np.float64 if double else np.float32
    batch, target = _array(x, kind), None if target is None else _array(target, kind)
    theirs = copy.deepcopy(torch_model).cpu().to(torch.float64 if double else torch.float32).train(model.training)
    ours = copy.deepcopy(model).to(kind)
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    options = {"lr": 0.01, "momentum": 0.9, **(sgd or {})}
    sides = [
        _Side(ours, tensor, getattr(F, name), SGD(ours.parameters(), **options)),
        _Side(
            theirs,
            torch.tensor,
            getattr(torch.nn.functional, name),
            torch.optim.SGD(theirs.parameters(), **options),
        ),
    ]
    drawn = get_rng_state()
    try:
        with torch.random.fork_rng(devices=[]):
            found = [side.run(batch, target, steps) for side in sides]
    finally:
        set_rng_state(drawn)
    return Comparison(sorted(_differences(*found), key=lambda row: -row.relative))


class _Side:
    """One of the two networks; both libraries have the same names, so that one text runs either."""

    def __init__(self, model: Any, make: Callable, loss: Callable, optimizer: Any):
        self.model, self.make, self.loss, self.optimizer = model, make, loss, optimizer

    def run(self, batch: np.ndarray, target: np.ndarray | None, steps: int) -> dict[tuple[str, str], np.ndarray]:
        """Return everything that is compared, by what it is and its name."""
        found: dict[tuple[str, str], np.ndarray] = {}
        for step in range(max(steps, 1)):
            x = self.make(batch)
            if batch.dtype.kind == "f":
                x.requires_grad_(True)
            self.optimizer.zero_grad()
            output = self.model(x)
            if not hasattr(output, "backward"):
                raise TypeError(f"compare_with_torch: the networks must return one Tensor, got {type(output).__name__}")
            if target is None:
                weights = np.random.default_rng(0).standard_normal(tuple(output.shape)).astype(batch.dtype)
                loss = (output * self.make(weights)).sum()
            else:
                loss = self.loss(output, self.make(target))
            loss.backward()
            if step == 0:
                found = {("output", ""): _copied(output), ("loss", ""): _copied(loss)}
                grads = {"input": x, **dict(self.model.named_parameters())}
                found |= {
                    ("gradient", n): np.zeros(tuple(p.shape)) if p.grad is None else _copied(p.grad)
                    for n, p in grads.items()
                }
                found |= {("buffer", n): _copied(b) for n, b in self.model.named_buffers()}
            if steps:
                self.optimizer.step()
        after = f"after {steps} step{'s' if steps > 1 else ''}"
        if steps:
            found |= {(f"weight {after}", n): _copied(p) for n, p in self.model.named_parameters()}
            found |= {(f"buffer {after}", n): _copied(b) for n, b in self.model.named_buffers()}
        return found


def _array(x: Any, kind: type) -> np.ndarray:
    x = x if isinstance(x, np.ndarray | Tensor) or not hasattr(x, "detach") else x.detach().cpu().numpy()
    array = np.asarray(unwrap(x))
    return array.astype(kind if array.dtype.kind == "f" else array.dtype)


def _copied(value: Any) -> np.ndarray:
    return np.array(value.detach().numpy())


def _differences(ours: Mapping, theirs: Mapping) -> list[Difference]:
    rows = []
    for what, name in theirs:
        a, b = ours[what, name], theirs[what, name]
        if a.shape != b.shape:
            raise ValueError(f"compare_with_torch: the {what} has shape {a.shape}, PyTorch's has {b.shape}")
        a, b = a.astype(np.float64), b.astype(np.float64)
        with np.errstate(invalid="ignore"):
            distance = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, np.abs(a - b))
        absolute = float(np.nan_to_num(distance, nan=np.inf, posinf=np.inf).max(initial=0))
        scale = float(np.abs(b[np.isfinite(b)]).max(initial=0))
        relative = absolute / scale if scale else float(absolute and np.inf)
        rows.append(Difference(what, name, a.shape, absolute, relative))
    return rows
