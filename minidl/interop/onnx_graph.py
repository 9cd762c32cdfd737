"""An ONNX graph under construction: nodes, initializers, and names that say which module a node came from."""

from typing import Any, NamedTuple

import numpy as np

from minidl.interop.onnx_trace import Step, Varying, is_varying

__all__ = ["Graph", "OnnxNode", "Value"]


class Value(NamedTuple):
    """An input of an operation: its name in the graph, and what is known of it."""

    name: str
    shape: tuple[Any, ...]  # Varying where it follows the batch
    dtype: np.dtype
    constant: np.ndarray | None = None

    @property
    def ndim(self) -> int:
        return len(self.shape)


class OnnxNode(NamedTuple):
    name: str
    op: str
    inputs: list[str]
    output: str
    attributes: dict[str, Any]


def place(array: np.ndarray) -> tuple[int, int, bool]:
    """Where an array lies: the same for a parameter and for its elements in another shape."""
    return array.__array_interface__["data"][0], array.nbytes, array.flags.c_contiguous


class Graph:
    """What the builders of minidl.interop.onnx_ops write into.

    Args:
        parameters: parameters and buffers by name.
        inputs: names of the graph's inputs.
        batches: batch sizes of the two runs, or None where the batch is fixed.
    """

    def __init__(self, parameters: dict[str, np.ndarray], inputs: list[str], batches: tuple[int, int] | None):
        self.parameters = {place(array): name for name, array in reversed(parameters.items())}
        self.inputs, self.batches = inputs, batches
        self.nodes: list[OnnxNode] = []
        self.initializers: dict[str, np.ndarray] = {}
        self.known: dict[Any, str] = {}  # small constants, and the batch size, by what they are
        self.names = set(inputs)
        self.step: Step  # the operation that is being written

    # --- names ----------------------------------------------------------------------------------------------------
    def unique(self, name: str) -> str:
        found, number = name, 0
        while found in self.names:
            number += 1
            found = f"{name}_{number}"
        self.names.add(found)
        return found

    def scoped(self, name: str) -> str:
        path = self.step.path.replace(".", "/")
        return self.unique(f"/{path}/{name}" if path else f"/{name}")

    # --- nodes ----------------------------------------------------------------------------------------------------
    def add(self, op: str, *inputs: Any, **attributes: Any) -> str:
        """Add a node and return its output's name; inputs are Values, names, arrays, or None for one left out."""
        given = list(inputs)
        while given[-1] is None:
            given.pop()
        names = [
            x.name if isinstance(x, Value) else self.constant(x) if isinstance(x, np.ndarray) else x for x in given
        ]
        name = self.scoped(op)
        self.nodes.append(OnnxNode(name, op, [n or "" for n in names], self.unique(f"{name}_output"), attributes))
        return self.nodes[-1].output

    # --- constants ------------------------------------------------------------------------------------------------
    def constant(self, array: np.ndarray) -> str:
        """The name of an initializer; parameters keep theirs, and small constants of one value are shared."""
        name = self.parameters.get(place(array))
        small = name is None and array.size <= 64
        key = (array.dtype.str, array.shape, array.tobytes() if small else place(array))
        if key not in self.known:
            self.known[key] = self.unique(name) if name is not None else self.scoped("constant")
            self.initializers[self.known[key]] = array
        return self.known[key]

    def ints(self, *numbers: int) -> np.ndarray:
        return np.array(numbers, np.int64)

    def value(self, x: Any, dtype: np.dtype) -> Value | None:
        """A constant input of an operation; numbers take `dtype`.

        Raises:
            ValueError: it is not the same in both runs, and does not follow the batch either.
        """
        if x is None:
            return None
        if isinstance(x, Varying):
            return self.following(x, dtype)
        array = x if isinstance(x, np.ndarray) else np.asarray(x, dtype)
        return Value(self.constant(array), array.shape, array.dtype, array)

    def following(self, x: Varying, dtype: np.dtype) -> Value:
        """A constant that follows the batch: a multiple of its size, or an array that repeats along it."""
        a, b = x
        if self.batches and all(isinstance(v, int | float) for v in x) and a * self.batches[1] == b * self.batches[0]:
            size = self.add("Squeeze", self.add("Cast", self.batch(), to=dtype), self.ints(0))
            factor = np.asarray(a / self.batches[0], dtype)
            return Value(size if factor == 1 else self.add("Mul", size, factor), (), dtype)
        if self.batches and all(isinstance(v, np.ndarray) for v in x) and a.ndim == b.ndim and a.dtype == b.dtype:
            index = tuple(slice(None) if n == m else slice(0, 1) for n, m in zip(a.shape, b.shape, strict=True))
            if np.array_equal(np.broadcast_to(a[index], a.shape), a) and np.array_equal(
                np.broadcast_to(a[index], b.shape), b
            ):
                shape = tuple(n if n == m else Varying(n, m) for n, m in zip(a.shape, b.shape, strict=True))
                return Value(self.add("Expand", np.array(a[index]), self.extents(shape)), shape, a.dtype)
        raise ValueError(
            f"export_onnx: {self.step.where} gets a constant that was computed from x where no operation sees it "
            "(by a comparison, argmax, .item(), a random draw, ...), or from the batch size; it is not the same for "
            "other numbers of x"
        )

    def is_parameter(self, array: np.ndarray) -> bool:
        return place(array) in self.parameters

    # --- the batch ------------------------------------------------------------------------------------------------
    def batch(self) -> str:
        """The batch size, an int64 vector of one element."""
        if "batch" not in self.known:
            self.known["batch"] = self.add("Shape", self.inputs[0], start=0, end=1)
        return self.known["batch"]

    def extents(self, shape: tuple[Any, ...]) -> str:
        """A shape as an int64 vector; extents that follow the batch are computed.

        Raises:
            ValueError: an extent differs between the runs, and is no multiple of the batch.
        """
        if not is_varying(shape):
            return self.constant(self.ints(*shape))
        parts: list[str] = []
        for extent in shape:
            if not isinstance(extent, Varying):
                parts.append(self.constant(self.ints(extent)))
                continue
            a, b = extent
            n, m = self.batches or (0, 0)
            if not n or a % n or a // n * m != b:
                raise ValueError(
                    f"export_onnx: {self.step.where} makes an extent of {a} for a batch of {n} and of {b} for {m}; "
                    "only multiples of the batch can stay free: pass dynamic_batch=False"
                )
            parts.append(self.batch() if a == n else self.add("Mul", self.batch(), self.ints(a // n)))
        return self.add("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]

    def fixed(self, name: str, value: Any) -> None:
        """Refuse an option that follows the batch.

        Raises:
            ValueError: it does.
        """
        if is_varying(value):
            raise ValueError(
                f"export_onnx: the option {name!r} of {self.step.where} changes with the numbers of x or its batch "
                "size; if only with the batch size, pass dynamic_batch=False"
            )
