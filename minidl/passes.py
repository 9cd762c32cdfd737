"""What `minidl.compile` plays: an inference pass, or a pass with its gradients, recorded once for inputs of one shape.

A recording notes what kernels do to which memory (minidl.kernels.tape). It counts only if it does for other numbers
what the model does, to the last bit.
"""

import copy
import pickle
import random
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minidl.autograd import TensorBase, differentiable, reach, sweep
from minidl.kernels import Kernel, tape
from minidl.kernels.buffers import empty_like, lent, own_pool, owner
from minidl.nn.module import Module
from minidl.random import fork_rng, get_rng_state, set_rng_state
from minidl.tensor import Tensor

__all__ = ["Pass", "Step", "Unplayable", "recorded_pass", "recorded_step"]


class Unplayable(Exception):
    """Why a model cannot be played."""


# --- inference ----------------------------------------------------------------------------------------------------


class Pass:
    """The calls that a pass over an input of one shape consists of."""

    def __init__(self, model: Module, x: np.ndarray):
        self.input = copied(x)
        calls, output = recorded(model, Tensor(self.input), x)
        self.output, self.calls = output.array, depending(calls, self.input)

    @np.errstate(all="ignore")
    def __call__(self, x: np.ndarray) -> np.ndarray:
        np.copyto(self.input, x)
        tape.play(self.calls)
        return self.output.copy("K")


def recorded_pass(model: Module, x: np.ndarray) -> Pass:
    """The pass for inputs like x; raises Unplayable if it does not do what the model does."""
    play, other = Pass(model, x), varied(x)
    compare([play(other)], lambda: [model(Tensor(other)).array])
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

    __slots__ = ("__weakref__", "is_over", "seen")

    def __init__(self, seen: list[int]):
        self.is_over, self.seen = False, seen


class Step:
    """The calls of a pass forward and of the gradients' way back, for inputs of one shape.

    They are noted while the model runs as it is: the way forward of x when the Step is made, for its first turn, and
    the way back when somebody asks for gradients. The activations stay where they are, in a pool of their own, so there
    is one turn at a time.

    Attributes:
        parameters: that the output depends on.
    """

    def __init__(self, model: Module, x: Tensor):
        self.input, self.pool = copied(x.array), {}
        source = Tensor(self.input).requires_grad_(x.requires_grad)
        tensors = [*model.parameters(), *model.buffers()]
        before = [tensor.memory.changes for tensor in tensors]
        with own_pool(self.pool):
            self.forward, self.graph = recorded(model, source, x.array, lent)
        if not self.graph.requires_grad:
            raise Unplayable("its output depends on no parameter")
        self.nodes, leaves = reach([self.graph.edge], {})
        self.parameters = [p for p in model.parameters() if id(p) in leaves]
        self.leaves = [*([source] * x.requires_grad), *self.parameters]
        if {id(leaf) for leaf in self.leaves} != set(leaves):
            raise Unplayable("it does not depend on its input and its parameters alone, or on its input at all")
        read = {id(memory) for node in self.nodes for memory, _, _ in node.versions}
        self.read = [tensor.memory for tensor in tensors if id(tensor.memory) in read]
        self.changing = [t.memory for t, n in zip(tensors, before, strict=True) if t.memory.changes != n]
        self.output, self.turn = self.graph.array, None
        self.held = [tensor.array for tensor in tensors]  # so that no other array gets the id of one of them
        self.backward: list[tape.Call] | None = None

    def is_free(self) -> bool:
        """Whether nobody can ask for the gradients of the last turn any more."""
        turn = self.turn and self.turn()
        return turn is None or turn.is_over

    def begin(self, x: np.ndarray) -> tuple[np.ndarray, Turn]:
        if self.turn is not None:
            np.copyto(self.input, x)
            tape.play(self.forward)
            for memory in self.changing:
                memory.changes += 1
            for node in self.nodes:  # as long as the way back is not noted: they hold what was computed now
                node.versions = [(memory, memory.changes, shape) for memory, _, shape in node.versions]
        turn = Turn([memory.changes for memory in self.read])
        self.turn = weakref.ref(turn)
        return self.output.copy("K"), turn

    def end(self, turn: Turn, dy: np.ndarray, needs: Sequence[bool]) -> tuple[np.ndarray | None, ...]:
        if turn.is_over:
            raise RuntimeError(
                "compile: the activations of this pass were used up by its first backward; "
                "take further gradients of the model itself"
            )
        if turn.seen != [memory.changes for memory in self.read]:
            raise RuntimeError(
                "compile: a parameter or buffer that the gradients depend on was changed in place since the pass; "
                "change it after backward"
            )
        if self.backward is None:
            self.record_way_back(dy)
        else:
            np.copyto(self.dy, dy)
            tape.play(self.backward)
        wanted = needs if len(needs) == len(self.leaves) else needs[1:]  # x needs none
        dxs = [reused_copy(g) if need else None for g, need in zip(self.gradients, wanted, strict=True)]
        turn.is_over = True
        return tuple(dxs) if wanted is needs else (None, *dxs)

    def record_way_back(self, dy: np.ndarray) -> None:
        self.dy = np.array(dy, order="K")
        hooks = [leaf.hooks for leaf in self.leaves]
        for leaf in self.leaves:
            leaf.hooks = None  # they are for who asks for the gradients
        try:
            with own_pool(self.pool), tape.record(lent) as calls:
                found = sweep([self.graph], [Tensor(self.dy)], None, False)
        finally:
            for leaf, own in zip(self.leaves, hooks, strict=True):
                leaf.hooks = own
        self.gradients = [found[id(leaf)] for leaf in self.leaves]
        self.backward, self.graph, self.nodes = calls, None, []

    def __call__(self, x: Tensor) -> Tensor:
        """The output for x, as one operation on x and the parameters."""
        return _compiled(x, *self.parameters, step=self)


def compiled_forward(x: Any, *parameters: Any, step: Step) -> tuple[Any, tuple]:
    if any(isinstance(a, TensorBase) for a in (x, *parameters)):  # the gradient of a gradient asks for it
        raise RuntimeError("compile: a compiled model has no second derivatives; take them of the model itself")
    y, turn = step.begin(x)
    return y, (turn, step)


def compiled_backward(dy: Any, saved: tuple, needs: tuple[bool, ...]) -> tuple[Any, ...]:
    turn, step = saved
    return step.end(turn, dy, needs)


_compiled = differentiable(Kernel(compiled_forward), Kernel(compiled_backward))


def recorded_step(model: Module, x: Tensor) -> Step:
    """The step that x begins, recorded on its first turn; raises Unplayable if it would not do what the model does.

    That is seen before by a copy of the model: a recording of it, and it itself, take the gradients of another input,
    with other weights, in the state that a pass has left.
    """
    try:
        twin = copy.deepcopy(model)
    except Exception as error:
        raise Unplayable(f"it cannot be copied: {error}") from error
    others = random.getstate(), np.random.get_state()
    try:
        with fork_rng():
            see_that_it_plays(twin, x)
    finally:
        random.setstate(others[0])
        np.random.set_state(others[1])
    return Step(model, x)


def see_that_it_plays(twin: Module, x: Tensor) -> None:
    start, other = (Tensor(a).requires_grad_(x.requires_grad) for a in (x.array, varied(x.array)))
    step = Step(twin, start)
    results(step, twin, start)
    for tensor in (*twin.parameters(), *twin.buffers()):
        if tensor.array.dtype.kind == "f":
            tensor.array[...] = tensor.array * 0.9375 + 0.0078125
    itself, draws = copy.deepcopy(twin), get_rng_state()
    played = [*results(step, twin, other), drawn()]
    del step  # its activations go before those of the model itself come
    set_rng_state(draws)
    compare(played, lambda: [*results(itself, itself, other), drawn()])


def results(function: Callable[[Tensor], Any], model: Module, x: Tensor) -> list[np.ndarray]:
    """The output of the function, its gradients by x and the parameters, and the buffers of the model after it."""
    y = function(x)
    dys = sweep([y], [Tensor(y.array * 0.5)], None, False)
    gradients = [dys[id(leaf)] for leaf in (x, *model.parameters()) if id(leaf) in dys]
    return [np.array(a) for a in (y.array, *gradients, *(buffer.array for buffer in model.buffers()))]


def drawn() -> np.ndarray:
    """The state of all random generators, in bytes."""
    return np.frombuffer(pickle.dumps((get_rng_state(), random.getstate(), np.random.get_state())), np.uint8)


# --- both ---------------------------------------------------------------------------------------------------------


def recorded(model: Module, source: Tensor, x: np.ndarray, *keep: Any) -> tuple[list[tape.Call], Tensor]:
    """The calls of the model's pass over `source`, which holds x, and its output; `keep` as for the tape."""
    before = [module._changes for module in model.modules()]
    with tape.record(*keep) as calls:
        output = model(source)
        if isinstance(output, Tensor):
            output.array  # noqa: B018 (made now)
    if not isinstance(output, Tensor):
        raise Unplayable("its output is no Tensor")
    if before != [module._changes for module in model.modules()]:
        raise Unplayable("its forward sets attributes")
    if not np.array_equal(source.array, x, equal_nan=True):
        raise Unplayable("it changes its input")
    return calls, output


def copied(x: np.ndarray) -> np.ndarray:
    """A copy of x with x's strides."""
    y = np.empty_like(x)
    if y.strides != x.strides:
        raise Unplayable("its input has gaps in memory")
    np.copyto(y, x)
    return y


def reused_copy(x: np.ndarray) -> np.ndarray:
    """A copy of x in a buffer."""
    y = empty_like(x)
    np.copyto(y, x)
    return y


def varied(x: np.ndarray) -> np.ndarray:
    """Other numbers with the shape and the strides of x."""
    y = np.empty_like(x)
    np.multiply(x[..., ::-1] if x.ndim else x, 0.75, out=y)
    return y


def compare(played: list[np.ndarray], expect: Callable[[], list[np.ndarray]]) -> None:
    """Raise Unplayable where what was played is not what is expected."""
    try:
        expected = expect()
    except Exception as error:
        raise Unplayable(f"{type(error).__name__} for another input: {error}") from error
    if len(played) != len(expected) or not all(
        np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(played, expected, strict=True)
    ):
        raise Unplayable("it does more than kernels do")
