"""Drawing the graph that backward runs through, as SVG, DOT or text."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minidl.interop.safetensors import write_atomically
from minidl.nn.module import Module
from minidl.primitives import is_floating
from minidl.study import graph_text, svg
from minidl.study.flow import gradients_of
from minidl.study.graph_boxes import Box, Picture, Source, norm_of
from minidl.study.one_pass import example_inputs, one_pass, tensors_in
from minidl.tensor import Tensor

__all__ = ["GraphDrawing", "show_graph"]

MOST_BOXES = 60  # that a drawing has where no depth is given

FAMILIES = {
    "conv2d matmul linear": ("#dce9f9", "#4a7ab5"),
    "batch_norm batch_norm_inference normalize local_response_norm whiten": ("#e9e1f6", "#7d62b5"),
    "exp expm1 log sqrt absolute erf sigmoid tanh softplus softmax log_softmax": ("#fdeccf", "#c28a2b"),
    "relu leaky_relu elu gelu gelu_tanh silu hardtanh hardswish": ("#fdeccf", "#c28a2b"),
    "max_pool2d avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d sum amax": ("#daf0e4", "#3f9469"),
    "add subtract multiply divide power negative": ("#fbe0dc", "#c0604f"),
}
OPERATIONS = {name: colours for names, colours in FAMILIES.items() for name in names.split()}
KINDS = {
    "operation": ("#eceef1", "#87909b"),
    "module": ("#f3f6fb", "#4a7ab5"),
    "input": ("#ffffff", "#20262e"),
    "tensor": ("#fff7c9", "#a58e1a"),
    "constant": ("#f4f4f2", "#a3a8ad"),
    "output": ("#dfe3e8", "#20262e"),
}


class GraphDrawing:
    """A drawn graph: shows itself in a notebook; `str()` is an outline for the terminal.

    Attributes:
        boxes: what is drawn, in the order in which it ran (minidl.study.graph_boxes.Box).
        edges: (from, to), numbers of boxes.
        svg: the drawing as SVG text.
        dot: the same graph in Graphviz's DOT language.
    """

    def __init__(self, picture: Picture, direction: str):
        number = {box: i for i, box in enumerate(picture.boxes)}
        self.boxes: list[Box] = picture.boxes
        self.edges = [(number[a], number[b]) for a, b in picture.edges]
        self.direction = direction
        cards = [card(box) for box in self.boxes]
        self.svg = svg.draw(cards, self.edges, direction)
        self.dot = dot(cards, self.edges, direction)

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_html_(self) -> str:
        return self.svg.replace("<svg ", '<svg style="max-width:100%;height:auto" ', 1)  # as wide as the page at most

    def __str__(self) -> str:
        """One line for each box: its number, what it is, where, what leaves it, and the boxes that it reads."""
        reads: list[list[int]] = [[] for _ in self.boxes]
        for a, b in self.edges:
            reads[b].append(a)
        rows = []
        for i, box in enumerate(self.boxes):
            below, leaving = (one_line(pairs) for pairs in (graph_text.lines(box), graph_text.label(box)))
            rows.append((f"{i:3}  {graph_text.title(box)}", below, leaving, reads[i]))
        wide = [max((len(row[k]) for row in rows), default=0) for k in range(3)]
        texts = []
        for *columns, read in rows:
            shown = "  ".join(text.ljust(width) for text, width in zip(columns, wide, strict=True))
            texts.append((shown + (f"  <- {', '.join(map(str, read))}" if read else "")).rstrip())
        return "\n".join(" ".join(line.splitlines()) for line in texts)

    def __repr__(self) -> str:
        return f"<drawing of a graph: {len(self.boxes)} boxes, {len(self.edges)} edges>"

    def save(self, path: str | os.PathLike) -> None:
        """Write the drawing into a file: `.svg`, or `.dot` for Graphviz.

        Raises:
            ValueError: another suffix.
            OSError: the file cannot be written; a previous file of that name is untouched.
        """
        suffix = Path(path).suffix.lower()
        texts = {".svg": self.svg, ".dot": self.dot}
        if suffix not in texts:
            raise ValueError(f"save: path must end in .svg or .dot, got {os.fspath(path)!r}")
        write_atomically(path, [texts[suffix].encode("utf-8")])


def show_graph(
    source: Tensor | Module | Sequence[Tensor],
    *inputs: Any,
    input_size: Any = None,
    batch_size: int | None = None,
    model: Module | None = None,
    names: Mapping[str, Tensor] | None = None,
    depth: int | None = None,
    fold: bool = True,
    gradients: bool = False,
    direction: str = "TB",
) -> GraphDrawing:
    """Draw the graph that backward runs through: operations, the shapes of what goes between them, norms of gradients.

    Boxes are operations, or modules at the given depth; edges are values. A Parameter that one box reads is named in
    it, one that several read has a box of its own, and so have inputs, other leaves and arrays. After `backward()`
    the norms of `.grad` are shown: of leaves, and of other Tensors after their `retain_grad()`.

    Args:
        source: a Tensor with a graph (or several), or a Module, which is then run once in the mode that it is in;
            its buffers, gradients and the generator stay as they were.
        inputs: what the Module is called with.
        input_size, batch_size: instead of inputs, their extents without the batch, e.g. (3, 32, 32), and the examples
            (default: 2 in training mode, else 1), as for `count`.
        model: whose names the parameters and modules of a Tensor's graph have; default: the outermost that ran.
        names: name -> Tensor, further names: of inputs, leaves, or what was computed on the way.
        depth: modules nested deeper are drawn as one box each; 0 draws the whole network as a box. Default: as deep
            as there are at most 60 boxes.
        fold: draw equal modules that follow each other as one box with their number.
        gradients: compute the gradient of the Tensor, a single number, by everything in the graph and show the norms;
            no `.grad` changes.
        direction: "TB" from top to bottom, "LR" from left to right.

    Returns:
        A GraphDrawing, with `.svg`, `.dot`, `.save(path)`.

    Raises:
        TypeError: `source` is no Tensor and no Module, or arguments that it cannot be drawn with.
        ValueError: no graph was recorded; a bad depth or direction; the network cannot take the inputs.
        RuntimeError: gradients of several numbers, or of a graph that an earlier backward pass freed.

    Source: layers and dummies as in Sugiyama, Tagawa and Toda 1981.
    """
    if direction not in ("TB", "LR"):
        raise ValueError(f'show_graph: direction must be "TB" or "LR", got {direction!r}')
    if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int | np.integer) or depth < 0):
        raise ValueError(f"show_graph: depth must be an integer >= 0 or None, got {depth!r}")
    if model is not None and not isinstance(model, Module):
        raise TypeError(f"show_graph: model must be a Module, got {type(model).__name__}")
    if batch_size is not None and input_size is None:
        raise TypeError("show_graph: batch_size belongs to input_size")
    given: list[Tensor] = []
    if isinstance(source, Module):
        outputs, given = run(source, inputs, input_size, batch_size)
        model = source if model is None else model
    elif inputs or input_size is not None:
        raise TypeError(f"show_graph: inputs belong to a Module, but source is a {type(source).__name__}")
    else:
        outputs = list(source) if isinstance(source, list | tuple) else [source]
    for y in outputs:
        if not isinstance(y, Tensor):
            raise TypeError(f"show_graph: source must be a Tensor or a Module, got {type(y).__name__}")
    check_recorded(outputs, isinstance(source, Module))
    names = checked_names(names)
    graph = Source(outputs, given, model, names, norms_of(outputs) if gradients else None)
    return GraphDrawing(chosen(graph, depth, fold), direction)


def run(model: Module, inputs: tuple, input_size: Any, batch_size: int | None) -> tuple[list[Tensor], list[Tensor]]:
    """The outputs of a network, and the Tensors that it was called with: copies that require gradients if they can."""
    if bool(inputs) == (input_size is not None):
        raise TypeError("show_graph: a Module needs inputs, or their input_size; give one of the two")
    if input_size is not None:
        inputs = tuple(example_inputs("show_graph", model, input_size, batch_size, None))
    copies = tuple(x.detach() if isinstance(x, Tensor) else x for x in inputs)
    copies = tuple(Tensor(x) if isinstance(x, np.ndarray) else x for x in copies)
    given = tensors_in(copies)
    for x in given:
        if is_floating(x):
            x.requires_grad_()
    return tensors_in(one_pass("show_graph", model, copies).output), given


def check_recorded(outputs: Sequence[Tensor], ran: bool) -> None:
    if not outputs:
        raise ValueError("show_graph: there is no Tensor to draw the graph of")
    missing = [i for i, y in enumerate(outputs) if y.node is None]
    if len(missing) == len(outputs):
        why = (
            "the network's output depends on no Parameter and on no input that can require a gradient, or its forward "
            "runs under no_grad()"
            if ran
            else "it was computed under no_grad(), or from nothing that requires a gradient; call requires_grad_() on "
            "an input, or draw the network: show_graph(model, x)"
        )
        raise ValueError(f"show_graph: no graph was recorded for this Tensor of shape {outputs[0].shape}: {why}")


def checked_names(names: Mapping[str, Tensor] | None) -> Mapping[str, Tensor]:
    for name, x in (names or {}).items():
        if not isinstance(name, str) or not isinstance(x, Tensor | np.ndarray):
            raise TypeError(f"show_graph: names must map text to Tensors, got {name!r}: {type(x).__name__}")
    return {name: Tensor(x) if isinstance(x, np.ndarray) else x for name, x in (names or {}).items()}


def norms_of(outputs: Sequence[Tensor]) -> dict[int, float]:
    """The norm of the gradient by every edge, by its id; nothing is freed and no `.grad` changes."""
    found = gradients_of(outputs, [None] * len(outputs))
    return {key: norm_of(dy) for key, dy in found.items()}


def chosen(graph: Source, depth: int | None, fold: bool) -> Picture:
    """The picture at a depth; without one, the deepest that is not too large."""
    if depth is not None:
        return graph.picture(depth, fold)
    for level in range(graph.levels, 1, -1):
        picture = graph.picture(level, fold)
        if len(picture.boxes) <= MOST_BOXES:
            return picture
    return graph.picture(1, fold)


def card(box: Box) -> svg.Card:
    fill, stroke = KINDS[box.kind]
    if box.nodes and len({node.name for node in box.nodes}) == 1:
        fill, stroke = OPERATIONS.get(box.nodes[0].name, (fill, stroke))
    return svg.Card(
        graph_text.title(box),
        graph_text.lines(box),
        graph_text.label(box),
        graph_text.tooltip(box),
        fill,
        stroke,
        round=not box.nodes,
        stacked=box.repeats > 1,
        shortcut=box.shortcut,
    )


def dot(cards: Sequence[svg.Card], edges: Sequence[tuple[int, int]], direction: str) -> str:
    """The graph in Graphviz's language."""
    lines = ["digraph {", f'  rankdir="{direction}";', '  node [shape="box", style="rounded,filled", fontsize="11"];']
    for i, one in enumerate(cards):
        text = quoted("\n".join([one.title, *map(" ".join, one.lines)]))
        lines.append(f'  n{i} [label={text}, fillcolor="{one.fill}", color="{one.stroke}"];')
    for a, b in edges:
        lines.append(f"  n{a} -> n{b} [label={quoted(one_line(cards[a].label))}];")
    return "\n".join([*lines, "}\n"])


def one_line(pairs: Sequence[tuple[str, str]]) -> str:
    return "  ".join(text for pair in pairs for text in pair if text)


def quoted(text: str) -> str:
    """A DOT string: quotes and backslashes escaped, line breaks as \\n."""
    text = svg.printable(text).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "\\n".join(text.splitlines()) + '"'
