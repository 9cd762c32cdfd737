"""One work on one library: the same weights, the same images, one step at a time."""

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

import minidl
from minidl.bench.networks import Work, define

__all__ = ["MODES", "Side", "channels_last", "data", "minidl_side", "torch_side", "torch_version"]

MODES = ("eager NCHW", "eager channels_last", "torch.compile")  # of PyTorch
SGD = dict(lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True)


class Side:
    """A name, a step to time, and the numbers of the first step: output, loss and gradients by name."""

    def __init__(self, name: str, step: Callable[[], Any], first: Callable[[], dict[str, np.ndarray]]):
        self.name, self.step, self.first = name, step, first


def data(work: Work, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, C, H, W) and what the loss is taken by: labels (N,), or for a block the gradient of its output."""
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((work.batch, *work.image), np.float32)
    if work.classes is None:
        return images, rng.standard_normal(images.shape, np.float32)
    return images, rng.integers(0, work.classes, work.batch)


def torch_version() -> str | None:
    """The version of PyTorch, or None where it is not installed."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    return torch.__version__


def minidl_side(work: Work, weights: dict[str, np.ndarray] | None = None) -> Side:
    """The work on minidl, with the weights of the other side."""
    import minidl.nn.functional as F

    minidl.manual_seed(0)
    model = minidl.models.get_model(work.own) if work.own else work.build(define(minidl.nn, F))
    if weights is not None:
        model.load_state_dict({name: minidl.tensor(value) for name, value in weights.items()})
    images, target = data(work)
    x, t = (minidl.from_numpy(channels_last(a) if a.ndim == 4 else a) for a in (images, target))
    return _side("minidl", work, model, x, t, minidl, F, minidl.compile if work.compiled else None)


def channels_last(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def torch_side(work: Work, mode: str) -> tuple[Side, dict[str, np.ndarray]]:
    """The work on PyTorch in one of the `MODES`, and its weights before the first step.

    Raises:
        ImportError: PyTorch is not installed.
    """
    import torch
    import torch.nn.functional as F

    torch.manual_seed(0)
    model = work.build(define(torch.nn, F))
    weights = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    images, target = data(work)
    x, t = torch.from_numpy(images), torch.from_numpy(target)
    if mode != "eager NCHW":
        model, x = model.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
        t = t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t
    side = _side(f"PyTorch {mode}", work, model, x, t, torch, F, torch.compile if mode == "torch.compile" else None)
    return side, weights


def _side(
    name: str, work: Work, model: Any, x: Any, target: Any, library: Any, F: Any, wrap: Callable | None = None
) -> Side:
    """The step of either library: the same lines for both."""
    call = model if wrap is None else wrap(model)
    if not work.train:
        model.eval()

        def step() -> Any:
            with library.no_grad():
                return call(x)

        return Side(name, step, lambda: {"output": step().numpy().copy()})

    def forward_backward() -> tuple[Any, Any]:
        output = call(x)
        if work.classes is None:
            output.backward(target)
            return output, output
        loss = F.cross_entropy(output, target)
        loss.backward()
        return output, loss

    if work.classes is None:
        x.requires_grad_()
        leaves = {"x": x, **dict(model.named_parameters())}

        def step() -> Any:
            for leaf in leaves.values():
                leaf.grad = None
            return forward_backward()

    else:
        leaves = dict(model.named_parameters())
        optimizer = library.optim.SGD(model.parameters(), **SGD)

        def step() -> Any:
            optimizer.zero_grad()
            _, loss = forward_backward()
            optimizer.step()
            return loss.item()

    def first() -> dict[str, np.ndarray]:
        """Without changing the weights."""
        output, loss = forward_backward()
        found = {"output": output, "loss": loss, **{f"d{k}": leaf.grad for k, leaf in leaves.items()}}
        found = {k: v.detach().numpy().copy() for k, v in found.items()}
        for leaf in leaves.values():
            leaf.grad = None
        return found

    return Side(name, step, first)
