"""How many parameters a network has, and how much arithmetic it does (the convention is in minidl.study.costs)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from minidl.nn.module import Module
from minidl.study.costs import Cost, is_known
from minidl.study.one_pass import OnePass, Operation, example_inputs, one_pass, total_cost

__all__ = ["Counts", "OperationCount", "count", "counts_of", "per_example"]


@dataclass(frozen=True)
class OperationCount:
    """What one call of an operation costs, for one example; `path` is the innermost module that ran it."""

    name: str
    path: str
    shape: tuple[int, ...]  # of the output, with the batch
    multiply_adds: int
    flops_forward: int
    flops_backward: int


@dataclass(frozen=True)
class Counts:
    """Parameters of a network, and its arithmetic for one example.

    Attributes:
        parameters, trainable_parameters: numbers in them, shared ones once.
        multiply_adds: of convolutions and matrix products, forward: what papers call FLOPs.
        flops_forward, flops_forward_backward: every operation; the convention is that of minidl.study.costs.
        operations: the calls that this is the sum of, in order.
        estimated: names of operations whose cost is not known exactly: 1 per element of output and gradient was taken.
    """

    parameters: int
    trainable_parameters: int
    multiply_adds: int
    flops_forward: int
    flops_forward_backward: int
    operations: tuple[OperationCount, ...]
    estimated: tuple[str, ...]

    def by_module(self) -> dict[str, Cost]:
        """Sum by the path of the module that ran the operation, in order."""
        sums: dict[str, Cost] = {}
        for o in self.operations:
            one = Cost(o.multiply_adds, o.flops_forward, o.flops_backward)
            sums[o.path] = sums.get(o.path, Cost()) + one
        return sums


def count(model: Module, input_size: Any, dtype: Any = None, batch_size: int | None = None) -> Counts:
    """Count a network's parameters, multiply-adds and FLOPs by running it once on zeros, in the mode it is in.

    Args:
        model: the network; it is left as it was.
        input_size: extents without the batch, e.g. (3, 224, 224), or a list of such, one for each input.
        dtype: of the inputs (a list for several); None for the dtype of the parameters.
        batch_size: examples that are run; None for 2 in training mode, where batch norm needs more than one, else 1.

    Returns:
        Counts for one example: those of the batch, divided by its extent.

    Raises:
        ValueError, TypeError: a size or dtype that is none, or inputs that the network cannot take.
    """
    return counts_of(model, one_pass("count", model, example_inputs("count", model, input_size, batch_size, dtype)))


def counts_of(model: Module, seen: OnePass) -> Counts:
    """Count what was seen of a network."""
    operations = tuple(
        OperationCount(o.name, o.path, o.output, *per_example([o], seen.examples)) for o in seen.operations
    )
    total = per_example(seen.operations, seen.examples)
    return Counts(
        parameters=sum(p.numel() for p in model.parameters()),
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        multiply_adds=total.multiply_adds,
        flops_forward=total.forward,
        flops_forward_backward=total.forward + total.backward,
        operations=operations,
        estimated=tuple(sorted({o.name for o in seen.operations if not is_known(o.name)})),
    )


def per_example(operations: Sequence[Operation], examples: int) -> Cost:
    """The cost of operations on a batch for one of its examples, rounded."""
    return Cost(*(round(value / examples) for value in total_cost(operations)))
