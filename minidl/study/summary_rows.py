"""The rows of a summary: torchsummary's table of calls, or the tree of modules."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from minidl.nn.containers import ModuleList, Sequential
from minidl.nn.module import Module
from minidl.study.costs import Cost
from minidl.study.layer_times import CallTime
from minidl.study.one_pass import ModuleCall, OnePass, Operation, total_cost

__all__ = ["Pass", "Row", "functional_operations", "has_row", "table_rows", "tree_rows"]


@dataclass
class Row:
    """A line of a summary.

    Attributes:
        label: "Conv2d-1" in the table; the module's name in the tree; an operation outside of layers in brackets.
        kind: the module's type, and what is to be said of it; "" for an operation.
        shapes: of its outputs, with the batch that was run.
        parameters: numbers in the parameters that no row before had; None for an operation.
        shared: numbers in the parameters that a row before had.
        cost: of its operations, for the batch that was run.
        kept: bytes for backward, for the batch that was run.
        seconds: of its calls; None where none was measured.
        indent: depth in the tree.
    """

    label: str
    kind: str
    shapes: Sequence[tuple[int, ...]]
    parameters: int | None
    shared: int
    cost: Cost
    kept: int
    seconds: float | None = None
    indent: int = 0


@dataclass
class Pass:
    """A pass that was seen, what each of its operations keeps (bytes), and what its calls took (None: not measured)."""

    model: Module
    trace: OnePass
    kept: dict[Operation, int]
    times: dict[tuple[str, int], CallTime] | None

    def kept_by(self, operations: Iterable[Operation]) -> int:
        return sum(self.kept[o] for o in operations)


class Parameters:
    """Counts each parameter once: where it is met first."""

    def __init__(self) -> None:
        self.met: set[int] = set()

    def count(self, parameters: Iterable[Any]) -> tuple[int, int]:
        """Numbers in those not met yet, and in the others."""
        parameters = list(parameters)
        shared = sum(p.numel() for p in parameters if id(p) in self.met)
        return sum(p.numel() for p in parameters) - shared, shared

    def meet(self, parameters: Iterable[Any]) -> None:
        self.met.update(map(id, parameters))


def is_whole(call: ModuleCall, depth: int | None) -> bool:
    """Whether its row stands for all that happens inside: a layer, or a module at the depth where the table ends."""
    return call.depth == depth or not list(call.module.children())


def has_row(call: ModuleCall, depth: int | None) -> bool:
    """Whether the table shows the call: as torchsummary, neither the network itself nor what only holds others."""
    if depth is not None and call.depth >= depth:
        return call.depth == depth
    holder = isinstance(call.module, Sequential | ModuleList)
    return not holder and (call.depth > 0 or is_whole(call, depth))


def owner_of(operation: Operation, depth: int | None) -> ModuleCall | None:
    """The call that an operation belongs to: the outermost whole one around it, else the innermost."""
    whole = (call for call in operation.calls if is_whole(call, depth))
    return next(whole, operation.calls[-1] if operation.calls else None)


def functional_operations(seen: OnePass, depth: int | None) -> list[Operation]:
    """Operations that no layer runs: those of blocks and of the network itself."""
    owners = ((operation, owner_of(operation, depth)) for operation in seen.operations)
    return [operation for operation, call in owners if call is None or not is_whole(call, depth)]


def table_rows(seen: Pass, depth: int | None, functional: bool) -> list[Row]:
    """A row for each call of a module, numbered in the order in which calls end; operations outside of layers too,
    where `functional`."""
    owned: dict[ModuleCall | None, list[Operation]] = defaultdict(list)
    alone = set(functional_operations(seen.trace, depth)) if functional else set()
    for operation in seen.trace.operations:
        if operation not in alone:
            owned[owner_of(operation, depth)].append(operation)
    rows, number, calls, parameters = [], 0, Counter(), Parameters()
    for event in seen.trace.events:
        if event in alone:
            rows.append(operation_row(seen, event.name, [event]))
        if not isinstance(event, ModuleCall):
            continue
        which = calls[event.path]
        calls[event.path] += 1
        if has_row(event, depth):
            number += 1
            whole = is_whole(event, depth)
            own = list(event.module.parameters(recurse=whole))
            time = seen.times and seen.times.get((event.path, which))
            row = Row(
                f"{type(event.module).__name__}-{number}",
                type(event.module).__name__,
                event.shapes,
                *parameters.count(own),
                total_cost(owned[event]),
                seen.kept_by(owned[event]),
                (time.whole if whole else time.own) if time else None,
            )
            parameters.meet(own)
            rows.append(row)
    return rows


def operation_row(seen: Pass, name: str, operations: Sequence[Operation], indent: int = 0) -> Row:
    times = f" x{len(operations)}" if len(operations) > 1 else ""
    shapes = [operations[-1].output]
    cost, kept = total_cost(operations), seen.kept_by(operations)
    return Row(f"({name}){times}", "", shapes, None, 0, cost, kept, indent=indent)


def tree_rows(seen: Pass, depth: int | None) -> list[Row]:
    """A row for each module, indented, with all that is inside of it; then the operations that it runs itself."""
    inside: dict[int, list[Operation]] = defaultdict(list)
    calls: dict[int, list[tuple[ModuleCall, int]]] = defaultdict(list)
    for operation in seen.trace.operations:
        for module in dict.fromkeys(id(call.module) for call in operation.calls):
            inside[module].append(operation)
    for call in seen.trace.calls:
        calls[id(call.module)].append((call, len(calls[id(call.module)])))
    used = {id(m) for call in seen.trace.calls for m in call.module.modules() if id(m) in calls}
    parameters, visited = Parameters(), {}

    def walk(module: Module, name: str, path: str, indent: int) -> Iterator[Row]:
        kind, own_calls = type(module).__name__, calls[id(module)]
        if id(module) in visited:
            same = f"{kind}, the same as {visited[id(module)]}"
            yield Row(name, same, [], *parameters.count(module.parameters()), Cost(), 0, indent=indent)
            return
        visited[id(module)] = path
        if len(own_calls) > 1:
            kind += f" x{len(own_calls)}"
        elif not any(id(m) in used for m in module.modules()):
            kind += ", not called"
        keys = [(call.path, which) for call, which in own_calls]
        operations, children = inside[id(module)], list(module.named_children())
        times = [seen.times[key].whole for key in keys if key in seen.times] if seen.times else []
        shapes = own_calls[-1][0].shapes if own_calls else []
        counted = parameters.count(module.parameters())
        cost, kept = total_cost(operations), seen.kept_by(operations)
        yield Row(name, kind, shapes, *counted, cost, kept, sum(times) if times else None, indent)
        ends = indent == depth or not children
        own = [(n, p.shape, parameters.count([p])) for n, p in module.named_parameters(recurse=False)]
        parameters.meet(module.parameters(recurse=ends))
        if ends:
            return
        for own_name, shape, counted in own:
            yield Row(own_name, f"Parameter {shape}", [], *counted, Cost(), 0, indent=indent + 1)
        for child_name, child in children:
            yield from walk(child, child_name, f"{path}.{child_name}" if path else child_name, indent + 1)
        alone: dict[str, list[Operation]] = defaultdict(list)
        for operation in operations:
            if operation.calls[-1].module is module:
                alone[operation.name].append(operation)
        for operation_name, group in alone.items():
            yield operation_row(seen, operation_name, group, indent + 1)

    return list(walk(seen.model, type(seen.model).__name__, "", 0))
