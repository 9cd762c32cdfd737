"""Batch norm at inference is one linear transform, and vanishes into the convolution before it.

    y = γ (W x + b - E[x]) / √(Var[x] + ε) + β  =  W' x + b',   W' = s W,  b' = s (b - E[x]) + β,  s = γ / √(Var[x] + ε)

Source: Ioffe & Szegedy 2015 (arXiv 1502.03167), Algorithm 2, line 11.
"""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl.autograd import no_grad
from minidl.nn.layers import Conv2d, Identity, Linear
from minidl.nn.module import Module, Parameter
from minidl.nn.norm import BatchNorm1d, BatchNorm2d
from minidl.tensor import Tensor
from minidl.watch import here, watch

__all__ = ["fold_batch_norm", "folded_pairs"]

SIDES = (32, 224, 64, 28)  # of images that are tried where none is given


def fold_batch_norm(model: Module, x: Any = None) -> Module:
    """Return a copy of `model` in evaluation mode whose batch norms are part of the layers before them.

    A batch norm is folded if all it gets is the output of one convolution or linear layer that nobody else reads, each
    run once; it becomes an `Identity`, and the layer gets a bias. Others stay. One run on x shows who follows whom.

    Args:
        model: with batch norms that keep running statistics.
        x: an input; by default an image, or a row, of random numbers as its first layer takes it.

    Raises:
        ValueError: no x was given and none of the usual sizes fits, or no batch norm can be folded.
    """
    folded = copy.deepcopy(model).eval()
    pairs = folded_pairs(folded, x)
    if not pairs:
        raise ValueError("fold_batch_norm: no batch norm follows a convolution or linear layer of its own")
    modules = dict(folded.named_modules())
    for layer, norm in pairs:
        absorb(modules[layer], modules[norm])
        parent, _, name = norm.rpartition(".")
        setattr(modules[parent], name, Identity())
    return folded


def folded_pairs(model: Module, x: Any = None) -> list[tuple[str, str]]:
    """Name the (layer, batch norm) pairs of a model in evaluation mode that can be folded, in the order they run."""
    names = {id(module): name for name, module in model.named_modules()}
    runs: list[tuple[Module, Tensor, Tensor]] = []  # of every layer and batch norm: itself, input, output
    readers: dict[int, int] = {}  # how many operations read a Tensor
    kept_alive = []

    def look(op: Any, inputs: tuple, options: dict, output: Any, saved: Any) -> None:
        kept_alive.append((inputs, output))
        for value in {id(v): v for v in inputs if isinstance(v, Tensor)}:
            readers[value] = readers.get(value, 0) + 1
        module = here.modules[-1] if here.modules else None
        if isinstance(module, Conv2d | Linear | BatchNorm1d | BatchNorm2d) and id(module) in names:
            runs.append((module, inputs[0], output))

    with no_grad(), watch(look):
        if x is None:
            run_on_some_input(model, runs)
        else:
            model(x)
    made_by = {id(output): module for module, _, output in runs if not isinstance(module, BatchNorm1d | BatchNorm2d)}
    counts: dict[int, int] = {}
    for module, _, _ in runs:
        counts[id(module)] = counts.get(id(module), 0) + 1
    pairs = []
    for norm, given, _ in runs:
        layer = made_by.get(id(given))
        if isinstance(norm, Conv2d | Linear) or norm.running_mean is None or layer is None:
            continue
        if readers[id(given)] == counts[id(layer)] == counts[id(norm)] == 1:
            pairs.append((names[id(layer)], names[id(norm)]))
    return pairs


def run_on_some_input(model: Module, runs: list) -> None:
    for x in candidates(model):
        try:
            model(x)
            return
        except ValueError:
            runs.clear()
    raise ValueError("fold_batch_norm: none of the usual inputs fits the model; pass x, an input of it")


def candidates(model: Module) -> Iterator[Any]:
    """Inputs that the first layer with weights may take."""
    first = next((m for m in model.modules() if isinstance(m, Conv2d | Linear)), None)
    dtype = next((p.dtype for p in model.parameters()), np.dtype(np.float32))
    rng = np.random.default_rng(0)
    if isinstance(first, Linear):
        yield Tensor(rng.standard_normal((2, first.in_features)).astype(dtype))
    elif first is not None:
        for side in SIDES:
            yield Tensor(rng.standard_normal((2, first.in_channels, side, side)).astype(dtype))


def absorb(layer: Conv2d | Linear, norm: BatchNorm1d | BatchNorm2d) -> None:
    """Change a layer's weight and bias to what it and the batch norm after it compute together."""
    mean, var = (v.array.astype(np.float64) for v in (norm.running_mean, norm.running_var))
    scale, shift = 1 / np.sqrt(var + norm.eps), 0.0
    if norm.weight is not None:
        scale = scale * norm.weight.array
    if norm.bias is not None:
        shift = norm.bias.array
    bias = 0.0 if layer.bias is None else layer.bias.array
    weight, dtype = layer.weight.array, layer.weight.dtype
    layer.weight = Parameter(Tensor((weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))).astype(dtype)))
    layer.bias = Parameter(Tensor((scale * (bias - mean) + shift).astype(dtype)))
