"""A model as an ONNX file (https://onnx.ai/onnx/repo-docs/IR.html), which other programs run without minidl."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from minidl.interop.onnx_graph import Graph, OnnxNode, Value
from minidl.interop.onnx_ops import BUILDERS, TRAINING_ONLY
from minidl.interop.onnx_trace import Input, Result, Trace, Varying, trace
from minidl.interop.safetensors import write_atomically
from minidl.nn.module import Module
from minidl.primitives import unwrap

__all__ = ["export_onnx"]

OLDEST_OPSET = 18  # reductions take their axes as an input, and Col2Im exists
MOST_BYTES = 2**31 - 2**20  # of weights: a protobuf message has less than 2 GiB, and the nodes need some


def export_onnx(
    model: Module,
    x: Any,
    path: str | os.PathLike,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic_batch: bool = True,
    opset: int = OLDEST_OPSET,
    training: bool = False,
) -> None:
    """Write a model as an ONNX file that computes what model(x) computes.

    The model runs on x and on random numbers, in a batch one larger if the batch is to stay free; what it does is taken
    from the recorded operations. Other extents are those of x. The model is left as it was.

    Args:
        model: the model; its parameters and buffers become initializers under their names in the state dict.
        x: an input (N, ...), Tensor or array, float32 or float64; or a tuple of the inputs.
        path: the file to write.
        input_names, output_names: default "input" and "output", or "input_0", "input_1", ... of several.
        dynamic_batch: leave the extent of axis 0 of all inputs free; it is called "batch".
        opset: version of ONNX's operators, 18 or later.
        training: export what training mode computes instead of evaluation.

    Raises:
        ImportError: onnx is not installed.
        TypeError: a model, input or output that cannot be exported.
        ValueError: names, an opset or inputs that do not fit; a model whose operations depend on the numbers in x or
            hold constants computed from them; weights of 2 GiB or more.
        NotImplementedError: an operation that has no form in ONNX here.
        OSError: the file cannot be written; a previous file of that name is untouched.
    """
    onnx = imported()
    if not isinstance(model, Module):
        raise TypeError(f"export_onnx: model must be a Module, got {type(model).__name__}")
    arrays = checked_inputs(x, dynamic_batch)
    newest = onnx.defs.onnx_opset_version()
    if isinstance(opset, bool) or not isinstance(opset, int) or not OLDEST_OPSET <= opset <= newest:
        raise ValueError(f"export_onnx: opset must be an integer from {OLDEST_OPSET} to {newest}, got {opset!r}")
    parameters = {name: t.array for name, t in (*model.named_parameters(), *model.named_buffers())}
    with frozen(model, training):
        traced = trace(model, arrays, dynamic_batch)
    inputs = checked_names("input", input_names, len(arrays), len(arrays) > 1)
    outputs = checked_names("output", output_names, len(traced.outputs), traced.several)
    if clash := set(inputs) & set(outputs):
        raise ValueError(f"export_onnx: {min(clash)!r} names an input and an output")
    graph = Graph(parameters, inputs, traced.batches)
    graph.names.update(outputs)
    ends = written(graph, traced, arrays)
    weights = sum(array.nbytes for array in graph.initializers.values())
    if weights > MOST_BYTES:
        raise ValueError(f"export_onnx: the weights have {weights:,} bytes; an ONNX file holds at most {MOST_BYTES:,}")
    data = as_proto(onnx, type(model).__name__, graph, arrays, ends, outputs, opset).SerializeToString()
    onnx.checker.check_model(data, full_check=True)
    write_atomically(path, [data])


def imported() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise ImportError("export_onnx needs the package onnx: pip install 'minidl[interop]'") from error
    return onnx


def checked_inputs(x: Any, dynamic_batch: bool) -> list[np.ndarray]:
    given = list(x) if isinstance(x, tuple | list) else [x]
    arrays = [unwrap(v) for v in given]
    if not arrays:
        raise ValueError("export_onnx: x is an empty tuple; expected an input, or a tuple of them")
    for v in arrays:
        if not isinstance(v, np.ndarray) or v.dtype not in (np.float32, np.float64):
            found = f"dtype {v.dtype}" if isinstance(v, np.ndarray) else type(v).__name__
            raise TypeError(f"export_onnx: x must be float32 or float64 Tensors or arrays, got {found}")
    batches = {v.shape[0] if v.ndim else 0 for v in arrays}
    if dynamic_batch and (len(batches) > 1 or 0 in batches):
        shapes = ", ".join(str(v.shape) for v in arrays)
        raise ValueError(f"export_onnx: x of shape {shapes} has no batch on axis 0; pass dynamic_batch=False")
    return arrays


def checked_names(kind: str, names: Sequence[str] | None, count: int, several: bool) -> list[str]:
    if names is None:
        return [f"{kind}_{i}" for i in range(count)] if several else [kind]
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
        raise TypeError(f"export_onnx: {kind}_names must be a list of names, got {names!r}")
    if len(names) != count or len(set(names)) != count:
        raise ValueError(f"export_onnx: {kind}_names must be {count} different names, got {list(names)}")
    return list(names)


@contextlib.contextmanager
def frozen(model: Module, training: bool) -> Iterator[None]:
    """Take the parameters for constants, in the mode asked for; put everything back at the end of the block."""
    flags = [(module, module.training) for module in model.modules()]
    needed = [p for p in model.parameters() if p.requires_grad]
    buffers = [(b, b.array.copy(), b.memory.changes) for b in model.buffers()]
    try:
        for parameter in needed:
            parameter.requires_grad_(False)
        model.train(training)
        yield
    finally:
        for parameter in needed:
            parameter.requires_grad_(True)
        for module, flag in flags:
            module.training = flag
        for buffer, array, changes in buffers:
            if buffer.memory.changes != changes:
                buffer.array[...] = array
                buffer.memory.changes = changes  # the same bits again


def written(graph: Graph, traced: Trace, arrays: Sequence[np.ndarray]) -> list[Value]:
    """Write every step into the graph; returns the outputs."""
    values: list[Value] = []

    def source(x: Any) -> Any:
        if isinstance(x, Input):
            return given(graph, arrays, x.number)
        return values[x.number] if isinstance(x, Result) else x

    for step in traced.steps:
        graph.step = step
        if step.op not in BUILDERS:
            raise NotImplementedError(
                f"export_onnx: {step.where} has no form in ONNX"
                + ("; it belongs to training: export in evaluation mode" if step.op in TRAINING_ONLY else "")
            )
        builder, free = BUILDERS[step.op]
        for name, option in step.options.items():
            if name not in free:
                graph.fixed(name, option)
        sources = [source(x) for x in step.inputs]
        known = [x for x in sources if isinstance(x, Value)] or [x for x in sources if isinstance(x, np.ndarray)]
        dtype = known[-1].dtype  # that numbers beside it take
        operands = [x if isinstance(x, Value) else graph.value(x, dtype) for x in sources]
        name = builder(graph, *operands, **step.options)
        values.append(Value(name, step.shape, np.dtype(step.options["dtype"]) if step.op == "cast" else dtype))
    return [source(end) for end in traced.outputs]


def given(graph: Graph, arrays: Sequence[np.ndarray], number: int) -> Value:
    array = arrays[number]
    shape = array.shape if graph.batches is None else (Varying(*graph.batches), *array.shape[1:])
    return Value(graph.inputs[number], shape, array.dtype)


def renamed(graph: Graph, ends: Sequence[Value], outputs: Sequence[str]) -> list[OnnxNode]:
    """The nodes, with the graph's outputs under their names; what is an input or an output already is copied."""
    nodes, names = list(graph.nodes), {}
    made = {node.output for node in nodes}
    for end, output in zip(ends, outputs, strict=True):
        if end.name in made and end.name not in names:
            names[end.name] = output
        else:
            nodes.append(OnnxNode(graph.unique(f"/{output}/Identity"), "Identity", [end.name], output, {}))
    return [
        node._replace(inputs=[names.get(n, n) for n in node.inputs], output=names.get(node.output, node.output))
        for node in nodes
    ]


def as_proto(
    onnx: Any,
    name: str,
    graph: Graph,
    arrays: Sequence[np.ndarray],
    ends: Sequence[Value],
    outputs: Sequence[str],
    opset: int,
) -> Any:
    from minidl import __version__  # minidl imports this module

    helper, kind = onnx.helper, onnx.helper.np_dtype_to_tensor_dtype

    def described(value: Value) -> Any:
        n = graph.batches and graph.batches[0]
        extents = [("batch" if e.first == n else None) if isinstance(e, Varying) else e for e in value.shape]
        return helper.make_tensor_value_info(value.name, kind(value.dtype), extents)

    def node_of(node: OnnxNode) -> Any:
        attributes = {k: kind(v) if isinstance(v, np.dtype) else v for k, v in node.attributes.items()}
        return helper.make_node(node.op, node.inputs, [node.output], name=node.name, **attributes)

    proto = helper.make_graph(
        [node_of(node) for node in renamed(graph, ends, outputs)],
        name,
        [described(given(graph, arrays, i)) for i in range(len(arrays))],
        [described(end._replace(name=output)) for end, output in zip(ends, outputs, strict=True)],
        [onnx.numpy_helper.from_array(np.asarray(a, order="C"), n) for n, a in graph.initializers.items()],
    )
    versions = [helper.make_opsetid("", opset)]
    return helper.make_model(
        proto,
        producer_name="minidl",
        producer_version=__version__,
        doc_string=f"{name}, exported by minidl {__version__}",
        opset_imports=versions,
        ir_version=helper.find_min_ir_version_for(versions),  # so that older programs read it too
    )
