"""Gradient checking that says what is wrong: every derivative against differences of the forward pass, in float64.

With L = Σ <dy, y> for a random upstream gradient dy, backward's ∂L/∂x is compared element by element with

    (8 (L(x + h) - L(x - h)) - (L(x + 2h) - L(x - 2h))) / 12h  =  ∂L/∂x + O(h⁴)

An upstream gradient of ones would not do: by it, batch norm's dx is zero. Where the function is written in NumPy's
notation and analytic, Im L(x + ih) / h gives the derivative to the last digit instead (Squire & Trapp 1998).
"""

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

import minidl
from minidl.autograd import enable_grad, grad, no_grad
from minidl.nn.module import Module
from minidl.study.gradcheck_report import GradcheckError, GradcheckReport, InputCheck
from minidl.study.kinks import kinks_near
from minidl.tensor import Tensor

__all__ = ["gradcheck", "gradgradcheck"]

STEPS = (1e-4, 1e-3, 1e-5, 1e-2, 1e-6)  # tried in this order, times max(1, |x|)
FLOOR = 1e-3  # of the largest derivative by an input: smaller ones are not judged relative to themselves


class Problem:
    """A function of leaves: Tensors in float64 that are perturbed in place, one element or direction at a time."""

    def __init__(self, function: Callable[[], Any], leaves: dict[str, Tensor], modules: Sequence[Module], name: str):
        self.function, self.leaves, self.name = function, leaves, name
        self.buffers = [b for module in modules for b in module.buffers()]
        self.buffer_values = [b.array.copy() for b in self.buffers]
        self.random_state = minidl.get_rng_state()
        self.upstream: list[np.ndarray] = []

    def outputs(self) -> list[Tensor]:
        """The outputs that can be differentiated: with the same draws (of dropout), and buffers as at first."""
        state = minidl.get_rng_state()
        minidl.set_rng_state(self.random_state)
        try:
            y = self.function()
        finally:
            minidl.set_rng_state(state)
            for buffer, value in zip(self.buffers, self.buffer_values, strict=True):
                buffer.array[...] = value
        ys = y if isinstance(y, tuple | list) else [y]
        found = [v for v in ys if isinstance(v, Tensor) and v.dtype.kind == "f"]
        if not found:
            raise TypeError(f"gradcheck: {self.name} must return floating-point Tensors, got {type(y).__name__}")
        return found

    def draw_upstream(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        with no_grad():
            self.upstream = [rng.standard_normal(y.shape) for y in self.outputs()]

    def gradients(self) -> dict[str, np.ndarray]:
        """Backward's gradient by each leaf; zeros where the outputs do not depend on it."""
        with enable_grad():
            outputs = [(y, dy) for y, dy in zip(self.outputs(), self.upstream, strict=True) if y.requires_grad]
            if not outputs:
                raise ValueError(f"gradcheck: no output of {self.name} depends on its inputs by recorded operations")
            ys, dys = zip(*outputs, strict=True)
            found = grad(ys, list(self.leaves.values()), [minidl.from_numpy(dy) for dy in dys], allow_unused=True)
        pairs = zip(self.leaves.items(), found, strict=True)
        return {name: np.zeros(x.shape) if g is None else g.array.copy() for (name, x), g in pairs}

    def change(self, x: Tensor, where: Any, moves: Any) -> list[float]:
        """Σ <dy, y(x moved) - y(x)> for each move of the flat elements `where`."""
        with no_grad():
            start, flat = [y.array.copy() for y in self.outputs()], x.array.reshape(-1)
            before, changes = flat[where].copy(), []
            for move in moves:
                flat[where] = before + move
                ys = self.outputs()
                terms = zip(self.upstream, ys, start, strict=True)
                changes.append(sum(float(np.sum(dy * (y.array - y0))) for dy, y, y0 in terms))
                flat[where] = before
        return changes

    def slope(self, x: Tensor, where: Any, direction: Any, h: float) -> float:
        """The derivative of L at x along a direction of the elements `where`, by four differences."""
        one, minus, two, minus_two = self.change(x, where, [k * h * direction for k in (1, -1, 2, -2)])
        return (8 * (one - minus) - (two - minus_two)) / (12 * h)

    def sides(self, x: Tensor, where: Any, h: float) -> tuple[float, float]:
        """The derivatives from below and from above by one element."""
        minus_two, minus, one, two = self.change(x, where, [-2 * h, -h, h, 2 * h])
        return (minus_two - 4 * minus) / (2 * h), (4 * one - two) / (2 * h)


class ComplexProblem(Problem):
    """The same by the complex step: the function runs on arrays x + ih."""

    def __init__(self, problem: Problem, function: Callable[..., Any], inputs: Any):
        super().__init__(problem.function, problem.leaves, (), problem.name)
        self.on_arrays, self.arguments = function, inputs if isinstance(inputs, tuple | list) else (inputs,)

    def slope(self, x: Tensor, where: Any, direction: Any, h: float) -> float:
        moved, leaves = x.array.astype(complex), iter(self.leaves.values())
        moved.reshape(-1)[where] += 1e-30j * direction
        arguments = []
        for value in self.arguments:
            is_leaf = getattr(value, "dtype", np.dtype(int)).kind == "f"
            leaf = next(leaves) if is_leaf else value
            arguments.append(moved if leaf is x else leaf.array if is_leaf else value)
        ys = self.on_arrays(*arguments)
        pairs = zip(self.upstream, ys if isinstance(ys, tuple | list) else [ys], strict=True)
        return float(sum(np.sum(dy * np.imag(y)) for dy, y in pairs)) / 1e-30


def gradcheck(
    function: Callable[..., Any] | Module,
    inputs: Any,
    *,
    rtol: float = 1e-6,
    atol: float = 1e-9,
    method: str = "central",
    max_elements: int | None = 256,
    seed: int = 0,
    raise_exception: bool = False,
    progress: bool = True,
) -> GradcheckReport:
    """Compare the gradients of `function(*inputs)` with finite differences, and say where they disagree.

    Everything is computed in float64 on copies; a module's parameters are checked as its inputs are. Random draws
    (dropout) are repeated for each evaluation. An element at a kink (ReLU at 0, two equal maxima) passes if its
    gradient lies between the slopes on both sides; it is named. Of an input with more than `max_elements` elements a
    random selection is checked one by one, and all together along a random direction.

    Args:
        function: of Tensors, returning a Tensor or several; a Module is copied, so its state stays.
        inputs: a Tensor, an array, or a tuple of them; whole numbers are passed on as they are.
        rtol: largest error relative to max(|backward|, |differences|, 0.001 of the input's largest, atol / rtol).
        atol: smaller errors never count: rounding of differences where derivatives are next to nothing.
        method: "central" differences, or "complex": the complex step, for functions of arrays in NumPy's notation
            without comparisons and absolute values (a Module is neither).
        max_elements: per input; None checks every element.
        seed: of the upstream gradient and the selection.
        raise_exception: raise on failure, as PyTorch's gradcheck does, instead of only returning the report.
        progress: show a bar after two seconds.

    Returns:
        A report: true if all passed; printed as a table; `plot()` draws the error against the step size.

    Raises:
        TypeError, ValueError: nothing to differentiate.
        GradcheckError: a gradient is wrong and `raise_exception` is set.
    """
    if method not in ("central", "complex"):
        raise ValueError(f"gradcheck: method must be 'central' or 'complex', got {method!r}")
    problem = problem_of(function, inputs)
    if method == "complex":
        if isinstance(function, Module):
            raise ValueError("gradcheck: method='complex' needs a function of arrays, got a Module")
        problem = ComplexProblem(problem, function, inputs)
    return checked(problem, Tolerance(rtol, atol), max_elements, seed, raise_exception, progress)


def gradgradcheck(
    function: Callable[..., Any] | Module,
    inputs: Any,
    *,
    rtol: float = 1e-6,
    atol: float = 1e-9,
    max_elements: int | None = 256,
    seed: int = 0,
    raise_exception: bool = False,
    progress: bool = True,
) -> GradcheckReport:
    """As `gradcheck` for second derivatives: those of the gradients, by the inputs and the upstream gradient dy."""
    first = problem_of(function, inputs)
    first.draw_upstream(seed + 1)
    upstream = {f"dy{i}": minidl.tensor(dy, requires_grad=True) for i, dy in enumerate(first.upstream)}

    def gradients() -> list[Tensor]:
        with enable_grad():
            pairs = list(zip(first.outputs(), upstream.values(), strict=True))
            ys, dys = zip(*[(y, dy) for y, dy in pairs if y.requires_grad], strict=True)
            found = grad(ys, list(first.leaves.values()), dys, create_graph=True, allow_unused=True)
        return [g for g in found if g is not None]

    second = Problem(gradients, {**first.leaves, **upstream}, (), f"the gradient of {first.name}")
    return checked(second, Tolerance(rtol, atol), max_elements, seed, raise_exception, progress)


def problem_of(function: Callable[..., Any] | Module, inputs: Any) -> Problem:
    """Copies in float64 of everything that can be differentiated."""
    values = inputs if isinstance(inputs, tuple | list) else (inputs,)
    name = getattr(function, "__name__", type(function).__name__)
    arguments, leaves = [], {}
    for label, value in zip(argument_names(function, len(values)), values, strict=True):
        array = value.array if isinstance(value, Tensor) else value
        if isinstance(array, np.ndarray | np.floating) and array.dtype.kind == "f":
            leaves[label] = minidl.tensor(np.array(array, np.float64), requires_grad=True)
            arguments.append(leaves[label])
        else:
            arguments.append(value)
    modules: tuple[Module, ...] = ()
    if isinstance(function, Module):
        function = copy.deepcopy(function).double()
        modules = (function,)
        for label, p in function.named_parameters():
            leaves[label] = p.requires_grad_()
    if not leaves:
        raise ValueError(f"gradcheck: {name} has no floating-point input to differentiate by")
    return Problem(lambda: function(*arguments), leaves, modules, name)


def argument_names(function: Any, count: int) -> list[str]:
    """The names of the first arguments, as far as they are known."""
    try:
        known = inspect.signature(function.forward if isinstance(function, Module) else function).parameters.values()
    except (TypeError, ValueError):
        known = ()
    positional = [p.name for p in known if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return (positional + [f"input {i}" for i in range(len(positional), count)])[:count]


@dataclass(frozen=True)
class Tolerance:
    """How far two derivatives may lie apart."""

    rtol: float
    atol: float

    def judge(self, backward: float, numeric: float, floor: float) -> tuple[float, bool]:
        """The relative error, by a scale of at least `floor` and atol / rtol, and whether it passes."""
        error = abs(backward - numeric) / max(abs(backward), abs(numeric), floor, self.atol / self.rtol)
        return error, bool(error <= self.rtol)


def checked(
    problem: Problem, tolerance: Tolerance, max_elements: int | None, seed: int, raise_exception: bool, progress: bool
) -> GradcheckReport:
    problem.draw_upstream(seed)
    gradients, rng = problem.gradients(), np.random.default_rng(seed + 1)
    chosen = {name: selection(x.numel(), max_elements, rng) for name, x in problem.leaves.items()}
    total, checks = sum(map(len, chosen.values())), []
    with tqdm(total=total, desc=f"gradcheck {problem.name}", delay=2, disable=not progress, leave=False) as bar:
        for name, x in problem.leaves.items():
            dx = gradients[name]
            if dx.shape != x.shape:
                checks.append(InputCheck(name, x.shape, problem=f"backward returned shape {dx.shape}"))
                continue
            check = check_elements(problem, name, dx.reshape(-1), chosen[name], tolerance, bar)
            if check.checked + len(check.kinks) < x.numel():
                check_direction(problem, x, dx.reshape(-1), rng, tolerance, check)
            checks.append(check)
    report = GradcheckReport(problem, checks, kinks_near(problem.outputs, STEPS[0]), tolerance.rtol, tolerance.atol)
    if raise_exception and not report:
        raise GradcheckError(str(report))
    return report


def selection(count: int, most: int | None, rng: np.random.Generator) -> np.ndarray:
    return np.arange(count) if most is None or count <= most else np.sort(rng.choice(count, most, replace=False))


def place(i: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(int, np.unravel_index(i, shape)))


def check_elements(
    problem: Problem, name: str, dx: np.ndarray, elements: np.ndarray, tolerance: Tolerance, bar: Any
) -> InputCheck:
    """Compare the chosen elements of one input; a step that agrees is enough, because a wrong gradient meets none."""
    x = problem.leaves[name]
    values, floor, check = x.array.reshape(-1), FLOOR * float(np.abs(dx).max(initial=0.0)), InputCheck(name, x.shape)
    for i in elements:
        tries = []
        for step in STEPS:
            numeric = problem.slope(x, i, 1.0, step * max(1.0, abs(values[i])))
            relative, passed = tolerance.judge(dx[i], numeric, floor)
            tries.append((not relative < np.inf, relative, numeric, passed))  # NaN last
            if passed:
                break
        _, relative, numeric, passed = min(tries)
        slopes = None if passed else kink(problem, x, i, dx[i], floor, tolerance)
        if slopes is None:
            check.add(place(i, x.shape), float(dx[i]), numeric, relative, passed)
        else:
            check.kinks.append((place(i, x.shape), float(dx[i]), *slopes))
        bar.update()
    return check


def kink(
    problem: Problem, x: Tensor, i: int, backward: float, floor: float, tolerance: Tolerance
) -> tuple[float, float] | None:
    """The slopes on both sides where they differ by more than curvature explains and backward's lies between them."""
    sides = [problem.sides(x, i, h) for h in (1e-5, 1e-6)]
    gaps, (below, above) = [abs(above - below) for below, above in sides], sides[0]
    margin = 1e-4 * max(abs(below), abs(above), floor) + tolerance.atol
    is_kink = min(gaps) > 10 * margin and gaps[1] > 0.5 * gaps[0]  # the gap of a smooth function shrinks with the step
    between = min(below, above) - margin <= backward <= max(below, above) + margin
    return (below, above) if is_kink and between else None


def check_direction(
    problem: Problem, x: Tensor, dx: np.ndarray, rng: np.random.Generator, tolerance: Tolerance, check: InputCheck
) -> None:
    """Compare the derivatives along a random direction of all elements; halve it to find the element that is wrong."""
    signs = rng.choice([-1.0, 1.0], dx.size)

    def compare(part: np.ndarray) -> tuple[float, bool, float, float]:
        """Relative error, whether it passes, and both derivatives along the elements `part`."""
        backward, floor, tries = float(dx[part] @ signs[part]), float(np.linalg.norm(dx[part])), []
        for step in STEPS:
            numeric = problem.slope(x, part, signs[part], step / np.sqrt(len(part)))
            relative, passed = tolerance.judge(backward, numeric, floor)
            tries.append((relative, passed, backward, numeric))
            if passed:
                break
        return min(tries)

    part = np.arange(dx.size)
    check.direction, passed, backward, numeric = compare(part)
    if passed or not check.passed:
        return
    check.problem = f"along a random direction backward gives {backward:.6g}, differences {numeric:.6g}"
    while len(part) > 1:
        halves = part[: len(part) // 2], part[len(part) // 2 :]
        part = max(halves, key=lambda half: abs(np.subtract(*compare(half)[2:])))
    relative, passed, backward, numeric = compare(part)
    check.add(place(part[0], x.shape), *(float(signs[part[0]] * v) for v in (backward, numeric)), relative, passed)
