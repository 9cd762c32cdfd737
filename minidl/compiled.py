"""A network without the interpreter between its kernels: a pass is recorded once, and played for every input after."""

import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.grad_mode import is_grad_enabled
from minidl.kernels import kernels_enabled, tape
from minidl.kernels.algorithms import get_conv_algorithm
from minidl.nn.module import Module
from minidl.passes import Pass, Step, Unplayable, recorded_pass, recorded_step
from minidl.tensor import Tensor
from minidl.watch import here

__all__ = ["Compiled", "compile"]

PASSES = 8  # of inference that are kept, for as many shapes of the input
STEPS = 2  # with gradients, which keep all activations


def compile(model: Module) -> "Compiled":
    """Return `model` with less time between the kernels: for small batches and small networks.

    A call with an input of some shape runs the model once more, and notes what the kernels do to which memory; later
    calls with that shape do only that. In evaluation mode and under `no_grad`, weights stay packed, and batch norms
    folded into convolutions. With gradients, the second call with a shape in a row is recorded (an epoch's last,
    smaller batch is not): then the pass and its gradients are one operation on the input and the parameters, and the
    loss and the optimiser follow as usual. What cannot be played runs as it is: hooks, several inputs, a second pass
    before the gradients of the first were taken. As with `torch.jit.trace`, what Python decides by the numbers of the
    input is decided once. Before a recording is used it must give the same bits as the model for another input, and
    for other weights if it has gradients; if it does not, a warning says so, and the model runs as it is.

    Changes of layers, weights, modes, attributes, hooks, and of `set_conv_algorithm` are noticed; what else Python does
    in a forward (print, count, change a list) is not repeated. All activations of a recorded pass stay in memory.
    Second derivatives, and gradients taken twice of one pass (`retain_graph`), raise RuntimeError: take them of the
    model itself.

    Args:
        model: a network.

    Returns:
        A Module that shares the model's parameters; in its state dict the keys begin with "_orig_mod.".

    Raises:
        TypeError: `model` is no Module.
    """
    if not isinstance(model, Module):
        raise TypeError(f"compile: model must be a Module, got {type(model).__name__}")
    return Compiled(model)


class Compiled(Module):
    """What `compile` returns."""

    def __init__(self, model: Module):
        super().__init__()
        self._orig_mod, self.training = model, model.training
        self._passes: dict[tuple, Pass | None] = {}
        self._seen: list[Any] = []  # what the model was when the passes were recorded
        self._held: list[Tensor] = []  # of its Tensors then: nothing else gets their ids
        self._steps: dict[tuple, Step | None] = {}
        self._last: list[tuple] = []  # what the last call with gradients was like
        self._playing = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("_orig_mod"), name)

    def __reduce__(self) -> tuple:
        return compile, (self._orig_mod,)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        if not options and len(inputs) == 1 and can_play(inputs[0]):
            x, parts = inputs[0], parts_of(self._orig_mod)
            if not any(part._forward_hooks or part._forward_pre_hooks for part in parts):
                with self._playing:
                    if is_grad_enabled():
                        step = self._step(x, parts)
                        if step is not None and step.is_free():
                            return step(x)
                    elif not any(part.training for part in parts):
                        play = self._pass(x.array, parts)
                        if play is not None:
                            return Tensor(play(x.array))
        return self._orig_mod(*inputs, **options)

    def _pass(self, x: np.ndarray, parts: list[Module]) -> Pass | None:
        """The inference pass for inputs like x, with the weights as they are."""
        tensors = tensors_of(parts)
        seen = [*(t.memory.changes for t in tensors), *map(id, tensors), *(part._changes for part in parts)]
        if seen != self._seen:
            self._passes.clear()
            self._seen[:], self._held[:] = seen, tensors
        key = (x.shape, x.strides, x.dtype, get_conv_algorithm())
        if key not in self._passes:
            self._keep(self._passes, key, PASSES, recorded_pass, x)
        return self._passes[key]

    def _step(self, x: Tensor, parts: list[Module]) -> Step | None:
        """The step for inputs like x, with any weights in the memory where they are."""
        tensors = tensors_of(parts)
        wanted = tuple([tensor.requires_grad for tensor in (x, *tensors)])
        if True not in wanted or any(tensor.hooks for tensor in tensors):
            return None
        memory, modes = tuple([id(tensor.array) for tensor in tensors]), tuple([part.training for part in parts])
        changes = tuple([part._changes for part in parts])
        key = (x.shape, x.array.strides, x.dtype, get_conv_algorithm(), memory, wanted, modes, changes)
        again, self._last[:] = [key] == self._last, [key]
        if again and key not in self._steps:
            self._keep(self._steps, key, STEPS, recorded_step, x)
        return self._steps.get(key)

    def _keep(self, store: dict[tuple, Any], key: tuple, most: int, record: Callable[..., Any], x: Any) -> None:
        """Record something under a key; the oldest of too many goes."""
        made = [k for k, play in store.items() if play is not None]
        for old in made[: max(0, len(made) + 1 - most)]:
            del store[old]
        store[key] = None
        try:
            store[key] = record(self._orig_mod, x)
        except Unplayable as reason:
            name = type(self._orig_mod).__name__
            warnings.warn(f"compile: {name} runs as it is: {reason}", stacklevel=6)


def can_play(x: Any) -> bool:
    return (
        isinstance(x, Tensor)
        and x.array.dtype.kind == "f"
        and x.array.size > 0
        and kernels_enabled()
        and not tape.is_recording()
        and not here.watchers
    )


def parts_of(model: Module) -> list[Module]:
    """The model and all modules in it; one that is in it twice comes twice."""
    parts = [model]
    for part in parts:
        parts += [child for child in part._modules.values() if child is not None]
    return parts


def tensors_of(parts: list[Module]) -> list[Tensor]:
    return [t for part in parts for home in (part._parameters, part._buffers) for t in home.values() if t is not None]
