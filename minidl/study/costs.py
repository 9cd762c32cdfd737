"""What an operation costs: its multiply-adds as papers count them, and its floating-point operations (FLOPs).

Multiply-adds are those of convolutions and matrix products alone; biases, normalisation, activations and pooling are
not counted. FLOPs are all arithmetic on elements:

- a multiply-add is 2; a sum of k numbers is k; every +, -, *, /, comparison, power, exp, log, sqrt, tanh or erf is 1
  per element; an activation is its equation written in these (a sigmoid 4, its backward 3);
- batch norm in training is 7 per element (mean 1, variance 3, (x - mean) scale + beta 3), its backward 9 (Σ dy: 1,
  Σ dy (x - mean): 3, dx = dy a + (x - mean) b + c: 5); in evaluation 3, and 1, 3 and 1 for dx, dgamma and dbeta;
- what is computed once for a channel is left out; moving, padding, indexing, converting and the arithmetic of integers
  cost nothing;
- backward is what the sweep computes: the gradient of each input that needs one (so none by the network's input), and
  the sums of gradients that arrive from several places.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Cost", "cost", "is_known"]


class Cost(NamedTuple):
    """Multiply-adds of the forward pass, and FLOPs of the forward and of the backward pass."""

    multiply_adds: int = 0
    forward: int = 0
    backward: int = 0

    def __add__(self, other: "Cost") -> "Cost":  # type: ignore[override]
        return Cost(*(a + b for a, b in zip(self, other, strict=True)))


class Call(NamedTuple):
    """One call of an operation: what its cost depends on; () is the shape of a number or of None."""

    shapes: Sequence[tuple[int, ...]]
    output: tuple[int, ...]
    needs: Sequence[bool]
    options: dict[str, Any]

    @property
    def n(self) -> int:
        """Elements of the output."""
        return math.prod(self.output)

    @property
    def x(self) -> int:
        """Elements of the first input."""
        return math.prod(self.shapes[0])

    def spread(self) -> int:
        """Additions that bring gradients back to the shapes of inputs that were broadcast."""
        pairs = zip(self.shapes, self.needs, strict=True)
        return sum(self.n for shape, need in pairs if need and tuple(shape) != tuple(self.output))


def product(call: Call, multiply_adds: int, bias: bool) -> Cost:
    """y = w x (+ b): as many multiply-adds for each gradient as forward; b adds, and its gradient sums dy."""
    forward = 2 * multiply_adds + call.n * bias
    return Cost(multiply_adds, forward, 2 * multiply_adds * sum(call.needs[:2]) + call.n * sum(call.needs[2:]))


def conv2d(call: Call) -> Cost:
    return product(call, call.n * math.prod(call.shapes[1][1:]), bias=bool(call.shapes[2]))


def linear(call: Call) -> Cost:
    return product(call, call.n * call.shapes[1][1], bias=bool(call.shapes[2]))


def matmul(call: Call) -> Cost:
    x, w = call.shapes
    cost = product(call, call.n * x[-1], bias=False)
    batch = call.output[: len(call.output) - (len(x) > 1) - (len(w) > 1)]
    repeated = sum(  # gradients of operands that were broadcast along the batch are summed
        math.prod(batch) * math.prod(shape[-2:])
        for shape, need in zip(call.shapes, call.needs, strict=True)
        if need and shape[:-2] != batch
    )
    return cost + Cost(backward=repeated)


def batch_norm(call: Call) -> Cost:
    dx, dgamma, dbeta = call.needs
    sums = (1 if dx or dbeta else 0) + (3 if dx or dgamma else 0)
    return Cost(forward=7 * call.n, backward=(sums + 5 * dx) * call.n)


def batch_norm_inference(call: Call) -> Cost:
    dx, dgamma, dbeta, dmean, dvar = call.needs
    return Cost(forward=3 * call.n, backward=(dx + 3 * (dgamma or dvar) + (dbeta or dmean)) * call.n)


def pool(call: Call, divide: bool) -> Cost:
    """An operation for each element of each window, and a division for each average."""
    elements = call.n * math.prod(call.options["window"].kernel_size)
    backward = elements + call.n if divide else call.n
    return Cost(forward=elements + divide * call.n, backward=backward * call.needs[0])


def adaptive_pool(call: Call) -> Cost:
    rows, columns = (sum(int(cells) for cells in (call.options[name] != 0).sum(axis=1)) for name in ("rows", "columns"))
    elements = math.prod(call.output[:2]) * rows * columns
    return Cost(forward=elements + call.n, backward=(elements + call.n) * call.needs[0])


def adaptive_max_pool(call: Call) -> Cost:
    """An operation for each place of a cell's grid; `index` holds rows (..., LH, LW) and columns of the cells."""
    grids = [part.shape for part in call.options["index"] if hasattr(part, "shape")]
    return Cost(forward=call.n * math.prod(np.broadcast_shapes(*grids)[-2:]), backward=call.n * call.needs[0])


def response_norm(call: Call) -> Cost:
    """Over `size` neighbours: x², Σ, α/n, k, a power and a product; and what the equation of dx has."""
    size = call.options["size"]
    return Cost(forward=(5 + size) * call.n, backward=(8 + size) * call.n * call.needs[0])


def whiten(call: Call) -> Cost:
    """Covariance and y = x Wᵀ: m D² multiply-adds each; eigendecomposition 9 D³; backward three products, 8 D³."""
    m, D = call.shapes[0]
    backward = (6 * m * D * D + 8 * D**3 + 2 * m * D) * call.needs[0]
    return Cost(2 * m * D * D, 4 * m * D * D + 9 * D**3 + 2 * m * D, backward)


def per_element(forward: int, *backward: int, of: str = "n") -> Callable[[Call], Cost]:
    """`forward` operations for each element, backward[i] for the gradient of input i, and what broadcasting adds."""

    def costs(call: Call) -> Cost:
        count = getattr(call, of)
        back = sum(cost for cost, need in zip(backward, call.needs, strict=False) if need) * count
        return Cost(forward=forward * count, backward=back + (call.spread() if of == "n" else 0))

    return costs


def moved(call: Call) -> Cost:
    return Cost()


def repeated(call: Call) -> Cost:
    return Cost(backward=call.spread())


def taken(call: Call) -> Cost:
    """x[index]: where an element may be taken twice, gradients are added."""
    index = call.options["index"]
    parts = index if isinstance(index, tuple) else (index,)
    arrays = any(hasattr(part, "ndim") and part.ndim for part in parts)
    return Cost(backward=call.n * bool(arrays and call.needs[0]))


COSTS: dict[str, Callable[[Call], Cost]] = {
    **{"conv2d": conv2d, "linear": linear, "matmul": matmul},
    **{"batch_norm": batch_norm, "batch_norm_inference": batch_norm_inference},
    "max_pool2d": lambda call: pool(call, divide=False),
    "avg_pool2d": lambda call: pool(call, divide=True),
    **{"adaptive_avg_pool2d": adaptive_pool, "adaptive_max_pool2d": adaptive_max_pool},
    **{"relu": per_element(1, 1), "absolute": per_element(1, 2), "negative": per_element(1, 1)},
    **{"exp": per_element(1, 1), "log": per_element(1, 1), "sqrt": per_element(1, 2)},
    **{"add": per_element(1, 0, 0), "subtract": per_element(1, 0, 1), "multiply": per_element(1, 1, 1)},
    **{"divide": per_element(1, 1, 4), "power": per_element(1, 3, 4)},
    **{"maximum": per_element(1, 2, 2), "minimum": per_element(1, 2, 2), "where": per_element(1, 0, 1, 1)},
    **{"sigmoid": per_element(4, 3), "tanh": per_element(1, 3), "erf": per_element(1, 5), "expm1": per_element(1, 2)},
    **{"softplus": per_element(5, 6), "leaky_relu": per_element(2, 2, 1), "elu": per_element(3, 4)},
    **{"gelu": per_element(5, 11), "gelu_tanh": per_element(9, 19), "silu": per_element(5, 9)},
    **{"hardtanh": per_element(2, 2), "clip": per_element(2, 2), "hardswish": per_element(5, 5)},
    **{"dropout": per_element(2, 2), "normalize": per_element(6, 7), "local_response_norm": response_norm},
    "whiten": whiten,
    **{"binary_cross_entropy": per_element(8, 5, 5), "sigmoid_cross_entropy": per_element(12, 14, 10)},
    "huber": per_element(6, 4, 5),
    **{"sum": per_element(1, 0, of="x"), "amax": per_element(1, 3, of="x")},
    **{"softmax": per_element(5, 4), "log_softmax": per_element(5, 4)},
    "cross_entropy": per_element(7, 5, 2, of="x"),
    **dict.fromkeys(("reshape", "transpose", "concatenate", "pad", "cast"), moved),
    **{"broadcast_to": repeated, "getitem": taken, "put": per_element(1, 0, of="x")},
    **{"unfold": per_element(0, 1), "fold": per_element(1, 0, of="x")},
}


def is_known(name: str) -> bool:
    """Whether the operation's cost is counted; of others one FLOP is taken per element of output and gradient."""
    return name in COSTS


def cost(
    name: str,
    shapes: Sequence[tuple[int, ...]],
    output: tuple[int, ...],
    needs: Sequence[bool] = (),
    options: dict[str, Any] | None = None,
) -> Cost:
    """Count what one call of an operation costs.

    Args:
        name: of the operation, e.g. "conv2d".
        shapes: of its inputs; () for a number or None.
        output: shape of its result.
        needs: which inputs get a gradient; () for none.
        options: of the call.
    """
    call = Call(shapes, output, tuple(needs) or (False,) * len(shapes), options or {})
    if name in COSTS:
        return COSTS[name](call)
    gradients = sum(math.prod(shape) for shape, need in zip(shapes, call.needs, strict=True) if need)
    return Cost(forward=call.n, backward=gradients)
