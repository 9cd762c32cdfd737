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

    Changes of weights, of modes, of hooks, and of `set_conv_algorithm` are noticed; layers that are added or exchanged
    later are not. All activations of a recorded pass stay in memory. Second derivatives, and gradients taken twice of
    one pass (`retain_graph`), raise RuntimeError: take them of the model itself.

    Args:
        model: a network that is complete.

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
        self._orig_mod = model
        self._parts = list(model.modules())
        self._leaves, self._stats = list(model.parameters()), list(model.buffers())
        self._passes: dict[tuple, Pass | None] = {}
        self._seen: list[Any] = []  # the versions of weights and buffers that the passes are of
        self._steps: dict[tuple, Step | None] = {}
        self._last: tuple = ()  # what the last call with gradients was like
        self._playing = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("_orig_mod"), name)

    def __reduce__(self) -> tuple:
        return compile, (self._orig_mod,)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        if not options and len(inputs) == 1 and self._can_play(inputs[0]):
            x = inputs[0]
            with self._playing:
                if is_grad_enabled():
                    step = self._step(x)
                    if step is not None and step.is_free():
                        return step(x)
                elif not any(part.training for part in self._parts):
                    play = self._pass(x.array)
                    if play is not None:
                        return Tensor(play(x.array))
        return self._orig_mod(*inputs, **options)

    def _can_play(self, x: Any) -> bool:
        return (
            isinstance(x, Tensor)
            and x.array.dtype.kind == "f"
            and x.array.size > 0
            and kernels_enabled()
            and not tape.is_recording()
            and not here.watchers
            and not any(part._forward_hooks or part._forward_pre_hooks for part in self._parts)
        )

    def _pass(self, x: np.ndarray) -> Pass | None:
        """The inference pass for inputs like x, with the weights as they are."""
        seen = [tensor.memory.changes for tensor in (*self._leaves, *self._stats)]
        if seen != self._seen:
            self._passes, self._seen = {}, seen
        key = (x.shape, x.strides, x.dtype, get_conv_algorithm())
        return self._kept(self._passes, key, PASSES, recorded_pass, x)

    def _step(self, x: Tensor) -> Step | None:
        """The step for inputs like x, with any weights in the memory where they are."""
        if any(p.hooks for p in self._leaves):
            return None
        memory = tuple([id(tensor.array) for tensor in (*self._leaves, *self._stats)])
        wanted = tuple([tensor.requires_grad for tensor in (x, *self._leaves)])
        if True not in wanted:
            return None
        modes = tuple([part.training for part in self._parts])
        key = (x.shape, x.array.strides, x.dtype, get_conv_algorithm(), memory, wanted, modes)
        again, self._last = key == self._last or key in self._steps, key
        return self._kept(self._steps, key, STEPS, recorded_step, x) if again else None

    def _kept(self, store: dict[tuple, Any], key: tuple, most: int, record: Callable[..., Any], x: Any) -> Any:
        """What the store holds under a key, recorded if it is not there; the oldest of too many goes."""
        if key not in store:
            while len(store) >= most:
                del store[next(iter(store))]
            try:
                store[key] = record(self._orig_mod, x)
            except Unplayable as reason:
                store[key], name = None, type(self._orig_mod).__name__
                warnings.warn(f"compile: {name} runs as it is: {reason}", stacklevel=5)
        return store[key]
