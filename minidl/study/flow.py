"""What flows through a recorded graph: the values of its nodes, and the gradients by all of them."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from minidl.autograd import Node, reach, sweep
from minidl.kernels.deferred import settled
from minidl.tensor import Tensor

__all__ = ["gradients_of", "value_of", "values_of", "was_changed"]


def gradients_of(outputs: Sequence[Tensor], upstream: Sequence[Any]) -> dict[int, np.ndarray]:
    """The gradient by every edge of the graph, by its id; nothing is freed and no `.grad` changes.

    Hooks run as in a backward pass, but for those by which Tensors retain their gradient.
    """
    nodes, leaves = reach([y.edge for y in outputs], {})
    hooks = [(node, node.hooks) for node in nodes if node.hooks]
    try:
        for node, all_hooks in hooks:
            node.hooks = {key: hook for key, hook in all_hooks.items() if key != "retain_grad"}
        return sweep(outputs, upstream, True, False, wanted=[*nodes, *leaves.values()])
    finally:
        for node, all_hooks in hooks:
            node.hooks = all_hooks


def was_changed(node: Node) -> bool:
    """Whether a Tensor whose memory the node saved was changed in place since."""
    return any(memory.changes != before for memory, before, _ in node.versions)


def kept_value(node: Node) -> np.ndarray | None:
    """The output of a node, where somebody still holds it."""
    y = node.output()
    return y.array if y is not None and y.node is node else None


@np.errstate(all="ignore")
def values_of(nodes: Sequence[Node], wanted: Collection[Node]) -> tuple[dict[int, np.ndarray], set[int]]:
    """The outputs of the wanted nodes and of those that they read, by id of node, and which were computed again.

    An output that was dropped is computed again from the node's inputs. It is left out where a Tensor that the node
    saved was changed in place since.
    """
    nodes_of = {id(node): [x for x, need in zip(node.inputs, node.needs, strict=True) if need] for node in nodes}
    asked = {id(node) for node in wanted} | {id(x) for node in wanted for x in nodes_of[id(node)]}
    values: dict[int, np.ndarray] = {}
    for node in reversed(nodes):
        if id(node) in asked:
            if (value := kept_value(node)) is not None:
                values[id(node)] = value
            else:
                asked.update(id(x) for x in nodes_of[id(node)])
    again = set()
    for node in nodes:
        if id(node) not in asked or id(node) in values:
            continue
        inputs = [value_of(x, values) if need else x for x, need in zip(node.inputs, node.needs, strict=True)]
        if not was_changed(node) and all(x is not None for x, need in zip(inputs, node.needs, strict=True) if need):
            values[id(node)] = np.asarray(settled(node.forward(*inputs, **node.options)[0]))
            again.add(id(node))
    return values, again


def value_of(edge: Any, values: dict[int, np.ndarray]) -> np.ndarray | None:
    """The array of an edge: of a leaf, or of a node if it is known."""
    return values.get(id(edge)) if isinstance(edge, Node) else edge.array
