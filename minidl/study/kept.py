"""What a pass keeps in memory for backward, read off the graph's nodes."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from minidl.autograd import FREED
from minidl.kernels.buffers import owner
from minidl.kernels.deferred import Deferred
from minidl.nn.module import Module
from minidl.study.one_pass import Operation

__all__ = ["kept_for_backward"]


def kept_for_backward(operations: Iterable[Operation], model: Module) -> list[int]:
    """Bytes that each operation's node is the first to keep: each block of memory once, without the model's own.

    Counted are the arrays that the node saved and the constants among its inputs, by the whole memory that they are
    views of, and the signs of activations that kernels keep beside them.
    """
    own = {id(owner(t.array)) for t in (*model.parameters(), *model.buffers())}
    seen, kept = set(own), []
    for operation in operations:
        size = 0
        for array in arrays_of(operation.node):
            memory = owner(array)
            if id(memory) not in seen:
                seen.add(id(memory))
                size += size_of(memory) + size_of(getattr(memory, "signs", None))
        kept.append(size)
    return kept


def arrays_of(node: Any) -> Iterator[np.ndarray]:
    """The arrays that a node keeps alive."""
    if node is not None and node.saved is not FREED:
        constants = [x for x, need in zip(node.inputs, node.needs, strict=True) if not need]
        yield from arrays_in((node.saved, constants))


def arrays_in(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, Deferred):
        value = value.array if value.is_made else value.sources
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from arrays_in(item)


def size_of(memory: Any) -> int:
    """Bytes of an array, or of what lends memory to arrays; 0 of anything else."""
    if isinstance(memory, np.ndarray):
        return memory.nbytes
    interface = getattr(memory, "__array_interface__", None)
    return int(np.prod(interface["shape"])) * np.dtype(interface["typestr"]).itemsize if interface else 0
