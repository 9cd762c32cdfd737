"""What `minidl.compile` plays: an inference pass, or a pass with its gradients, recorded once for inputs of one shape.

A recording notes what kernels do to which memory (minidl.kernels.tape). It counts only if it does for other numbers
what the model does, to the last bit.
"""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minidl.autograd import TensorBase, differentiable, reach, sweep
from minidl.grad_mode import no_grad
from minidl.kernels import Kernel, tape
from minidl.kernels.buffers import owner
from minidl.nn.module import Module
from minidl.random import get_rng_state, set_rng_state
from minidl.tensor import Tensor

__all__ = ["Pass", "Step", "Unplayable", "recorded_pass", "recorded_step"]


class Unplayable(Exception):
    """Why a model cannot be played."""


# --- inference ----------------------------------------------------------------------------------------------------


class Pass:
    """The calls that a pass over an input of one shape consists of."""

    def __init__(self, model: Module, x: np.ndarray):
        self.input = copied(x)
        with tape.record() as calls:
            self.output = array_of(model(Tensor(self.input)))
        self.calls = depending(calls, self.input)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        np.copyto(self.input, x)
        tape.play(self.calls)
        return self.output.copy("K")


def recorded_pass(model: Module, x: np.ndarray) -> Pass:
    """The pass for inputs like x; raises Unplayable if it does not do what the model does."""
    play, other = Pass(model, x), varied(x)
    check([play(other)], [model(Tensor(other)).array])
    return play


def depending(calls: list[tape.Call], x: np.ndarray) -> list[tape.Call]:
    """The calls that depend on the memory of x; the others have packed weights, once for all."""
    reached, kept = {id(owner(x))}, []
    for function, args in calls:
        touched = {id(owner(a)) for a in tape.arrays_in(args)}
        if touched & reached:
            reached |= touched
            kept.append((function, args))
    return kept


# --- with gradients -----------------------------------------------------------------------------------------------


class Turn:
    """One pass forward, until its gradients have been taken or nobody can ask for them any more."""

    __slots__ = ("__weakref__", "is_over")

    def __init__(self) -> None:
        self.is_over = False


class Step:
    """The calls of a pass forward and of the gradients' way back, for inputs of one shape.

    Its activations stay where they are, so there is one turn at a time.

    Attributes:
        parameters: that the output depends on.
    """

    def __init__(self, model: Module, x: Tensor):
        self.input = copied(x.array)
        source = Tensor(self.input).requires_grad_(x.requires_grad)
        buffers = [(buffer, buffer.memory.changes) for buffer in model.buffers()]
        with tape.record() as self.forward:
            output = model(source)
            self.output = array_of(output)
        self.changing = [buffer.memory for buffer, before in buffers if buffer.memory.changes != before]
        nodes, leaves = reach([output.edge], {})
        self.parameters = [p for p in model.parameters() if id(p) in leaves]
        if {id(leaf) for leaf in leaves.values()} != {id(p) for p in (*self.parameters, *([source] * x.requires_grad))}:
            raise Unplayable("it depends on more than its parameters and its input")
        read = {id(memory) for node in nodes for memory, _, _ in node.versions}
        self.read = [p.array for p in self.parameters if id(p.memory) in read]
        self.dy = np.zeros_like(self.output)
        with tape.record() as self.backward:
            found = sweep([output], [Tensor(self.dy)], None, False)
        self.gradients = [found.get(id(leaf)) for leaf in (source, *self.parameters)]
        self.turn: weakref.ref[Turn] | None = None

    def is_free(self) -> bool:
        """Whether nobody can ask for the gradients of the last pass any more."""
        turn = self.turn and self.turn()
        return turn is None or turn.is_over

    def begin(self, x: np.ndarray) -> tuple[np.ndarray, Turn]:
        np.copyto(self.input, x)
        tape.play(self.forward)
        for memory in self.changing:
            memory.changes += 1
        turn = Turn()
        self.turn = weakref.ref(turn)
        return self.output.copy("K"), turn

    def end(self, turn: Turn, dy: np.ndarray, needs: Sequence[bool]) -> tuple[np.ndarray | None, ...]:
        if turn.is_over:
            raise RuntimeError(
                "compile: the activations of this pass were used up by its first backward; "
                "take further gradients of the model itself"
            )
        np.copyto(self.dy, dy)
        tape.play(self.backward)
        dxs = tuple([g.copy("K") if need else None for g, need in zip(self.gradients, needs, strict=True)])
        turn.is_over = True
        return dxs

    def __call__(self, x: Tensor) -> Tensor:
        """The output for x, as one operation on x and the parameters."""
        return _compiled(x, *self.parameters, step=self)


def compiled_forward(x: Any, *parameters: Any, step: Step) -> tuple[Any, tuple]:
    if any(isinstance(a, TensorBase) for a in (x, *parameters)):  # the gradient of a gradient asks for it
        raise RuntimeError("compile: a compiled model has no second derivatives; take them of the model itself")
    y, turn = step.begin(x)
    return y, (turn, step, *step.read)


def compiled_backward(dy: Any, saved: tuple, needs: tuple[bool, ...]) -> tuple[Any, ...]:
    turn, step, *_ = saved
    return step.end(turn, dy, needs)


_compiled = differentiable(Kernel(compiled_forward), Kernel(compiled_backward))


def recorded_step(model: Module, x: Tensor) -> Step:
    """The step for inputs like x; raises Unplayable if it does not do what the model does.

    That is seen by the gradients of another input, with other weights, in the state that a pass has left. The model
    goes first: its activations are gone when those of the step come to stay.
    """
    before, other = State(model), Tensor(varied(x.array)).requires_grad_(x.requires_grad)
    try:
        for p in model.parameters():
            p.array[...] *= 0.9375
        with no_grad():
            model(other)
        between = State(model)
        expected = results(model, model, other)
        before.restore()
        step = Step(model, x)
        between.restore()
        check(results(step, model, other), expected)
        return step
    finally:
        before.restore()


class State:
    """What a pass depends on and may change: parameters, buffers, and the random generator."""

    def __init__(self, model: Module):
        self.arrays = [tensor.array for tensor in (*model.parameters(), *model.buffers())]
        self.values, self.random = [a.copy() for a in self.arrays], get_rng_state()

    def restore(self) -> None:
        for a, value in zip(self.arrays, self.values, strict=True):
            a[...] = value
        set_rng_state(self.random)


def results(function: Callable[[Tensor], Any], model: Module, x: Tensor) -> list[np.ndarray]:
    """The output of the function, its gradients by x and the parameters, and the buffers of the model after it."""
    y = function(x)
    dy = array_of(y) * 0.5
    if not y.requires_grad:
        raise Unplayable("its output depends on no parameter")
    dys = sweep([y], [Tensor(dy)], None, False)
    gradients = [dys[id(leaf)] for leaf in (x, *model.parameters()) if id(leaf) in dys]
    return [copied(a) for a in (y.array, *gradients, *(buffer.array for buffer in model.buffers()))]


# --- both ---------------------------------------------------------------------------------------------------------


def copied(x: np.ndarray) -> np.ndarray:
    """A copy of x with x's strides."""
    y = np.empty_like(x)
    np.copyto(y, x)
    return y


def varied(x: np.ndarray) -> np.ndarray:
    """Other numbers with the shape and the strides of x."""
    y = np.empty_like(x)
    np.multiply(x[..., ::-1], 0.75, out=y)
    return y


def array_of(output: Any) -> np.ndarray:
    if not isinstance(output, Tensor):
        raise Unplayable("its output is no Tensor")
    return output.array


def check(played: list[np.ndarray], expected: list[np.ndarray]) -> None:
    pairs = zip(played, expected, strict=False)
    if len(played) != len(expected) or not all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs):
        raise Unplayable("it does more than kernels do")
