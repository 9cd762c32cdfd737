"""From the nodes of a graph to the boxes of a drawing: which operations share a box, and what leads where.

Nodes are taken in the order in which they ran. Operations of one call of a module follow each other, so a box holds a
run of neighbours, every edge points to a later box, and collapsing makes no cycles. (Two calls of one module directly
after each other look like one.)
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minidl.autograd import Node, reach
from minidl.nn.module import Module
from minidl.tensor import Tensor

__all__ = ["Box", "Picture", "Source", "norm_of"]


@np.errstate(all="ignore")  # a gradient may hold NaN and Inf
def norm_of(gradient: np.ndarray) -> float:
    """√Σ g² over all elements."""
    return float(np.linalg.norm(gradient))


@dataclass(eq=False)
class Box:
    """What is drawn as one box.

    Attributes:
        kind: "operation", "module", "tensor" (a leaf that gradients go to), "input", "constant" or "output".
        name: the path of the module that ran, or the name of a Tensor; "" where it has none.
        shapes: of the values that leave it.
        nodes: the operations in it, in the order in which they ran.
        modules: that ran them, the outermost first.
        value: the Tensor or array of a box that is no operation.
        parameters: name -> Parameter (or array of a frozen one), of those that only this box reads.
        norms: name -> norm of the gradient by that parameter.
        gradient: norm of the gradient by its value, if known.
        repeats, last: how many equal modules in a row it stands for, and the path of the last one.
        shortcut: whether it is a module that ends with adding a path around its layers.
        sent: the nodes in it whose values leave it.
    """

    kind: str
    name: str
    shapes: tuple[tuple[int, ...], ...] = ()
    nodes: list[Node] = field(default_factory=list)
    modules: tuple[Module, ...] = ()
    value: Any = None
    parameters: dict[str, Any] = field(default_factory=dict)
    norms: dict[str, float] = field(default_factory=dict)
    gradient: float | None = None
    repeats: int = 1
    last: str = ""
    shortcut: bool = False
    sent: list[Node] = field(default_factory=list)


@dataclass
class Picture:
    """Boxes and the edges between them, in the order in which they ran."""

    boxes: list[Box]
    edges: list[tuple[Box, Box]]


class Source:
    """The graph to be drawn, and what is known of it.

    Args:
        outputs: Tensors with a graph.
        inputs: Tensors that are called inputs.
        model: whose names are used; None for the first network that ran. Those of others begin with their type.
        names: name -> Tensor, further names.
        norms: norms of gradients by id of edge; None for those of `.grad`.
    """

    def __init__(
        self,
        outputs: Sequence[Tensor],
        inputs: Sequence[Tensor],
        model: Module | None,
        names: Mapping[str, Tensor],
        norms: Mapping[int, float] | None,
    ):
        self.outputs, self.norms = outputs, norms
        self.nodes, self.leaves = reach([y.edge for y in outputs], {})
        self.levels = max((len(node.modules) for node in self.nodes), default=0)
        self.names = {id(key): name for name, x in names.items() for key in (x.edge, x.held)}
        self.paths: dict[int, str] = {}
        self.parameters: dict[int, str] = {}
        self.buffers: dict[int, str] = {}
        ran = {id(node.modules[0]): node for node in reversed(self.nodes) if node.modules}
        roots = [node.modules[0] for node in reversed(ran.values())]  # the first to run first
        if model is None:
            model = next((root for root in roots if any(True for _ in root.parameters())), None)
        for root in [model, *roots] if model is not None else roots:
            prefix = "" if root is model else type(root).__name__
            for path, module in root.named_modules():
                self.paths.setdefault(id(module), ".".join(filter(None, [prefix, path])))
            for name, x in root.named_parameters():
                for key in (x, x.held):
                    self.parameters.setdefault(id(key), ".".join(filter(None, [prefix, name])))
            self.buffers.update((id(x.held), name) for name, x in root.named_buffers())
        self.inputs = {id(key) for x in inputs for key in (x, x.held)}
        self.inputs |= {id(node.inputs[0]) for node in ran.values()}  # what the first operation of a network reads

    def norm(self, edge: Any) -> float | None:
        """The norm of the gradient by a node's output or by a leaf, if it is known."""
        if self.norms is not None:
            return self.norms.get(id(edge))
        x = edge.output() if isinstance(edge, Node) else edge
        known = x is not None and x.edge is edge and x.grad is not None
        return norm_of(x.grad.array) if known else None

    def picture(self, depth: int, fold: bool) -> Picture:
        """The boxes at a depth of modules, and the edges between them."""
        of = self.calls(depth)
        readers: dict[int, set[Box]] = {}
        for node in self.nodes:
            for x in node.inputs:
                readers.setdefault(id(x), set()).add(of[id(node)])
        drawn: list[Box] = []
        edges: dict[tuple[Box, Box], None] = {}
        leaves: dict[int, Box] = {}
        for node in self.nodes:
            box = of[id(node)]
            for position, (x, need) in enumerate(zip(node.inputs, node.needs, strict=True)):
                if id(x) in self.parameters and len(readers[id(x)]) == 1:
                    name = self.parameters[id(x)]
                    box.parameters[name] = x
                    if need and (norm := self.norm(x)) is not None:
                        box.norms[name] = norm
                elif isinstance(x, Node):
                    if of[id(x)] is not box:
                        self.send(of[id(x)], x)
                        edges[of[id(x)], box] = None
                elif need or self.is_drawn(x, box, position):
                    if id(x) not in leaves:
                        leaves[id(x)] = self.leaf(x)
                        drawn.append(leaves[id(x)])
                    edges[leaves[id(x)], box] = None
            if box.nodes[-1] is node:
                drawn.append(box)
        for number, y in enumerate(self.outputs):
            source = of.get(id(y.node)) or leaves.get(id(y)) or self.leaf(y)
            if source not in drawn:
                drawn.append(source)
            if y.node is not None:
                self.send(source, y.node)
            name = self.names.get(id(y.edge)) or ("output" if y.ndim else "loss")
            drawn.append(Box("output", name + (f" {number}" if len(self.outputs) > 1 else ""), value=y))
            edges[source, drawn[-1]] = None
        for box in drawn:
            box.shortcut = box.kind == "module" and adds_shortcut(box.nodes, self.parameters)
        picture = Picture(drawn, list(edges))
        return folded(picture) if fold else picture

    def calls(self, depth: int) -> dict[int, Box]:
        """id of a node -> its box: one for each operation, or for each call of a module that lies `depth` deep."""
        of: dict[int, Box] = {}
        last = None
        for node in self.nodes:
            kind, modules = "module" if len(node.modules) > depth else "operation", node.modules[: depth + 1]
            if last is None or kind == "operation" or (last.kind, last.modules) != (kind, modules):
                path = self.paths.get(id(modules[-1]), "") if modules else ""
                last = Box(kind, self.names.get(id(node), path) if kind == "operation" else path, modules=modules)
            last.nodes.append(node)
            of[id(node)] = last
        return of

    def send(self, box: Box, node: Node) -> None:
        """Note that the value of a node goes from its box to another."""
        if node not in box.sent:
            box.sent.append(node)
            box.shapes = tuple(dict.fromkeys(sent.shape for sent in box.sent))
            box.gradient = self.norm(node) if len(box.sent) == 1 else None

    def is_drawn(self, x: Any, box: Box, position: int) -> bool:
        """Whether an array has a box: not if it is a buffer, or made within a module that is drawn as one box."""
        if not getattr(x, "ndim", 0) or id(x) in self.buffers:
            return False
        given = id(x) in self.inputs or id(x) in self.names or id(x) in self.parameters
        return given or box.kind == "operation" or position == 0

    def leaf(self, x: Any) -> Box:
        """The box of a leaf or of an array."""
        name = self.names.get(id(x)) or self.parameters.get(id(x), "")
        kind = "input" if id(x) in self.inputs else "tensor" if isinstance(x, Tensor) else "constant"
        return Box(kind, name, (tuple(x.shape),), value=x, gradient=self.norm(x) if isinstance(x, Tensor) else None)


def adds_shortcut(nodes: Sequence[Node], parameters: Mapping[int, str]) -> bool:
    """Whether the first value that all paths go through is a sum, with one operation after it at most.

    So it is in y = relu(F(x) + x); in a chain of such blocks the first sum is followed by the other blocks.
    """
    inside = {id(node) for node in nodes}
    reads = [[id(x) for x in n.inputs if id(x) not in parameters and getattr(x, "shape", ())] for n in nodes]
    given = {x for read in reads for x in read} - inside
    left = Counter(x for read in reads for x in read)  # how often a value is still to be read
    opened = set(given)
    for place, (node, read) in enumerate(zip(nodes, reads, strict=True)):
        left.subtract(read)
        opened = {x for x in opened if left[x]} | {id(node)}
        if opened == {id(node)}:
            return len(given) == 1 and node.name == "add" and len(nodes) - place <= 2
    return False


def folded(picture: Picture) -> Picture:
    """Draw equal modules that follow each other, each reading the one before only, as one box."""
    before: dict[Box, list[Box]] = {}
    after: dict[Box, list[Box]] = {}
    for a, b in picture.edges:
        before.setdefault(b, []).append(a)
        after.setdefault(a, []).append(b)
    first: dict[Box, Box] = {}  # box -> the one that it is drawn as
    boxes: list[Box] = []
    texts: dict[int, str] = {}
    for box in picture.boxes:
        previous = before.get(box, [])
        if len(previous) == 1 and after[previous[0]] == [box] and are_alike(previous[0], box, texts):
            head = first[box] = first[previous[0]]
            head.repeats, head.sent, head.gradient = head.repeats + 1, box.sent, box.gradient
            head.nodes += box.nodes
            head.parameters.update(box.parameters)
            head.norms.update(box.norms)
            head.last = box.name
        else:
            first[box] = box
            boxes.append(box)
    edges = dict.fromkeys((first[a], first[b]) for a, b in picture.edges)
    return Picture(boxes, [(a, b) for a, b in edges if a is not b])


def are_alike(a: Box, b: Box, texts: dict[int, str]) -> bool:
    """Whether two boxes are sibling modules of one making, with values of one shape."""
    if (a.kind, b.kind) != ("module", "module") or a.modules[:-1] != b.modules[:-1] or a.shapes != b.shapes:
        return False
    one, other = (texts.setdefault(id(m), repr(m)) for m in (a.modules[-1], b.modules[-1]))
    return type(a.modules[-1]) is type(b.modules[-1]) and one == other
