"""Layered drawings of directed graphs: where boxes stand and how edges run between them.

Sugiyama, Tagawa and Toda 1981 in four steps, none of which recurses:

    1. layers       a box is one layer below the lowest box that it reads from (longest path)
    2. dummies      an edge that spans several layers gets a place in each of them, one chain per source, so that no
                    edge runs through a box; edges of one source share the chain and leave it where they are needed
    3. order        within a layer by barycentre of the neighbours, kept where it has fewer crossings
    4. positions    boxes along a main line, and the dummies of a chain, stand exactly above each other: such a column
                    moves as one, as near to its neighbours as the columns beside it allow

Coordinates are (across, along): (x, y) when the graph runs from top to bottom.
"""

from bisect import bisect_right, insort
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Layout", "Shape", "place"]

BEND = 30.0  # along: the room between layers in which edges bend
APART = 22.0  # across: between neighbours in a layer
ARROW = 10.0  # along: the straight end of an edge
SWEEPS = 8
LARGE = 20_000  # edges between layers: a drawing that nobody will look at closely
MAX_DUMMIES = 100_000


class Shape(NamedTuple):
    """How much room a box takes: itself, and its label beside the first piece of its outgoing edges."""

    across: float
    along: float
    label_across: float = 0.0
    label_along: float = 0.0


class Layout(NamedTuple):
    """Centres of boxes; for each edge the points of its route, joined by a line along or by an S-curve; the extent."""

    centres: list[tuple[float, float]]
    routes: list[list[tuple[float, float]]]
    across: float
    along: float


def place(shapes: Sequence[Shape], edges: Sequence[tuple[int, int]]) -> Layout:
    """Lay out a graph without cycles.

    Args:
        shapes: of box 0, 1, ...
        edges: (from, to), each pair once; the first edge to a box is preferred for its main line.

    Raises:
        ValueError: a cycle, or so many edges over so many layers that nobody could read the drawing.
    """
    layers, depth, height = assign_layers(len(shapes), edges)
    graph = with_dummies(layers, edges)
    links = main_lines(graph, edges, depth, height)
    order = ordered(graph, links)
    links = uncrossed(links, order, graph.layers)
    across = columns(graph, order, links, [*shapes, *[Shape(0, 0)] * (len(graph.layers) - len(shapes))])
    return routed(graph, shapes, edges, across)


class Graph(NamedTuple):
    """Boxes and dummies: the layer of each, edges between neighbouring layers, and the dummies of a source."""

    layers: list[int]
    pairs: list[tuple[int, int]]
    chains: dict[int, range]


def assign_layers(count: int, edges: Sequence[tuple[int, int]]) -> tuple[list[int], list[int], list[int]]:
    """The layer of each box, its distance from the first and to the last box of its longest path."""
    above: list[list[int]] = [[] for _ in range(count)]
    below: list[list[int]] = [[] for _ in range(count)]
    for u, v in edges:
        below[u].append(v)
        above[v].append(u)
    missing = [len(a) for a in above]
    sorted_boxes = [v for v in range(count) if not missing[v]]
    for u in sorted_boxes:  # grows while it is read
        for v in below[u]:
            missing[v] -= 1
            if not missing[v]:
                sorted_boxes.append(v)
    if len(sorted_boxes) < count:
        raise ValueError("place: the graph has a cycle")
    depth, height = [0] * count, [0] * count
    for v in sorted_boxes:
        depth[v] = max((depth[u] + 1 for u in above[v]), default=0)
    for u in reversed(sorted_boxes):
        height[u] = max((height[v] + 1 for v in below[u]), default=0)
    layers = list(depth)
    for u in range(count):  # what reads nothing stands next to its first reader
        if not above[u] and below[u]:
            layers[u] = min(depth[v] for v in below[u]) - 1
    return layers, depth, height


def with_dummies(layers: Sequence[int], edges: Sequence[tuple[int, int]]) -> Graph:
    last: dict[int, int] = {}
    for u, v in edges:
        if layers[v] > layers[u] + 1:
            last[u] = max(last.get(u, 0), layers[v])
    dummies = sum(end - layers[u] - 1 for u, end in last.items())
    if dummies > MAX_DUMMIES:
        raise ValueError(
            f"show_graph: edges pass {dummies} layers, more than {MAX_DUMMIES}; collapse modules (depth=...)"
        )
    all_layers, pairs, chains = list(layers), [], {}
    for u, end in last.items():
        first = len(all_layers)
        all_layers.extend(range(layers[u] + 1, end))
        chains[u] = range(first, len(all_layers))
        pairs.extend(zip([u, *chains[u]], chains[u], strict=False))
    for u, v in edges:
        pairs.append((u if layers[v] == layers[u] + 1 else chains[u][layers[v] - layers[u] - 2], v))
    return Graph(all_layers, pairs, chains)


def main_lines(
    graph: Graph, edges: Sequence[tuple[int, int]], depth: Sequence[int], height: Sequence[int]
) -> dict[int, int]:
    """Which box stands exactly below which: along longest paths first, then along the dummies of long edges."""
    wanted: dict[int, int] = {}  # box -> the one that its main line comes from
    for u, v in edges:
        if graph.layers[v] == graph.layers[u] + 1 and (v not in wanted or depth[u] > depth[wanted[v]]):
            wanted[v] = u
    links: dict[int, int] = {}
    for v, u in wanted.items():
        if u not in links or height[v] > height[links[u]]:
            links[u] = v
    taken = set(links.values())
    for u, v in graph.pairs:
        if u not in links and v not in taken:
            links[u] = v
            taken.add(v)
    return links


def lines(links: dict[int, int], count: int) -> list[list[int]]:
    """The columns that `links` make, the longest first."""
    starts = set(range(count)) - set(links.values())
    found = []
    for v in sorted(starts):
        line = [v]
        while line[-1] in links:
            line.append(links[line[-1]])
        found.append(line)
    return sorted(found, key=lambda line: (-len(line), line[0]))


def ordered(graph: Graph, links: dict[int, int]) -> list[list[int]]:
    """Each layer from one side to the other: main lines first, improved by barycentres."""
    order: list[list[int]] = [[] for _ in range(max(graph.layers, default=-1) + 1)]
    for line in lines(links, len(graph.layers)):
        for v in line:
            order[graph.layers[v]].append(v)
    above: list[list[int]] = [[] for _ in graph.layers]
    below: list[list[int]] = [[] for _ in graph.layers]
    for u, v in graph.pairs:
        below[u].append(v)
        above[v].append(u)
    best, fewest = order, crossings(order, below)
    sweeps = 0 if not fewest else SWEEPS if len(graph.pairs) < LARGE else 2
    for sweep in range(sweeps):
        order = [list(layer) for layer in order]
        near, numbers = (above, range(1, len(order))) if sweep % 2 == 0 else (below, range(len(order) - 2, -1, -1))
        for k in numbers:
            position = {v: i for i, v in enumerate(order[k - 1 if sweep % 2 == 0 else k + 1])}
            now = {v: i for i, v in enumerate(order[k])}
            centre = {
                v: sum(position[u] for u in near[v]) / len(near[v]) if near[v] else float(now[v]) for v in order[k]
            }
            order[k].sort(key=centre.__getitem__)  # stable
        if (found := crossings(order, below)) < fewest:
            best, fewest = order, found
    return best


def crossings(order: Sequence[Sequence[int]], below: Sequence[Sequence[int]]) -> int:
    count = 0
    for upper, lower in zip(order, order[1:], strict=False):
        position = {v: i for i, v in enumerate(lower)}
        seen: list[int] = []
        for u in upper:
            ends = sorted(position[v] for v in below[u])
            count += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return count


def uncrossed(links: dict[int, int], order: Sequence[Sequence[int]], layers: Sequence[int]) -> dict[int, int]:
    """Without the links that cross one of a longer line: columns must have one order in all layers."""
    length = {v: len(line) for line in lines(links, len(layers)) for v in line}
    position = {v: i for layer in order for i, v in enumerate(layer)}
    kept: dict[int, int] = {}
    for layer in order:
        chosen: list[tuple[int, int]] = []
        for u in sorted((u for u in layer if u in links), key=lambda u: -length[u]):
            a, b = position[u], position[links[u]]
            i = bisect_right(chosen, (a, b))
            if (i == 0 or chosen[i - 1][1] < b) and (i == len(chosen) or b < chosen[i][1]):
                chosen.insert(i, (a, b))
                kept[u] = links[u]
    return kept


def columns(
    graph: Graph, order: Sequence[Sequence[int]], links: dict[int, int], shapes: Sequence[Shape]
) -> list[float]:
    """The position across of every box and dummy."""
    found = lines(links, len(graph.layers))
    column = {v: i for i, line in enumerate(found) for v in line}
    room: list[dict[int, float]] = [{} for _ in found]  # column -> {its neighbour before: distance at least}
    after: list[dict[int, float]] = [{} for _ in found]
    for layer in order:
        for u, v in zip(layer, layer[1:], strict=False):
            left, right = shapes[u], shapes[v]
            least = left.across / 2 + APART + max(right.across / 2, right.label_across)
            a, b = column[u], column[v]
            room[b][a] = after[a][b] = max(least, room[b].get(a, 0.0))
    missing = [len(r) for r in room]
    sequence = [i for i in range(len(found)) if not missing[i]]
    for a in sequence:  # grows while it is read
        for b in after[a]:
            missing[b] -= 1
            if not missing[b]:
                sequence.append(b)
    at = [0.0] * len(found)
    for b in sequence:
        at[b] = max((at[a] + least for a, least in room[b].items()), default=0.0)
    pulls: list[list[int]] = [[] for _ in found]
    for u, v in graph.pairs:
        if column[u] != column[v]:
            pulls[column[u]].append(column[v])
            pulls[column[v]].append(column[u])
    for sweep in range(SWEEPS):
        for b in sequence if sweep % 2 else reversed(sequence):
            if b == 0 or not pulls[b]:  # the longest line stays
                continue
            lowest = max((at[a] + least for a, least in room[b].items()), default=float("-inf"))
            highest = min((at[c] - least for c, least in after[b].items()), default=float("inf"))
            at[b] = max(lowest, min(highest, sum(at[c] for c in pulls[b]) / len(pulls[b])))
    return [at[column[v]] for v in range(len(graph.layers))]


def routed(graph: Graph, shapes: Sequence[Shape], edges: Sequence[tuple[int, int]], across: list[float]) -> Layout:
    """Positions along, and the routes of edges."""
    count = len(shapes)
    least = min([across[v] - max(shapes[v].across / 2, shapes[v].label_across) for v in range(count)] + across)
    across = [round(a - least, 1) for a in across]
    layer_count = max(graph.layers) + 1
    thick, label = [0.0] * layer_count, [0.0] * layer_count
    for v in range(count):
        k = graph.layers[v]
        thick[k], label[k] = max(thick[k], shapes[v].along), max(label[k], shapes[v].label_along)
    wide = [0.0] * layer_count
    for u, v in graph.pairs:
        wide[graph.layers[u]] = max(wide[graph.layers[u]], abs(across[u] - across[v]))
    begin, end = [0.0] * layer_count, [0.0] * layer_count
    for k in range(layer_count):
        if k:
            begin[k] = end[k - 1] + label[k - 1] + BEND + min(wide[k - 1] / 10, 40)
        end[k] = begin[k] + thick[k]
    centres = [(across[v], (begin[graph.layers[v]] + end[graph.layers[v]]) / 2) for v in range(count)]
    bend = [end[k] + label[k] for k in range(layer_count)]  # edges leave a layer straight up to here

    routes: dict[tuple[int, int], list[tuple[float, float]]] = {}
    leaving: dict[tuple[int, int], list[int]] = {}
    for u, v in edges:
        leaving.setdefault((u, graph.layers[v] - 1), []).append(v)
    for u in {u: None for u, _ in edges}:
        k = graph.layers[u]
        route = [(across[u], centres[u][1] + shapes[u].along / 2), (across[u], bend[k])]
        for v in leaving.get((u, k), ()):
            routes[u, v] = list(route)
        for dummy in graph.chains.get(u, ()):
            k += 1
            if across[dummy] != route[-1][0]:
                route += [(route[-1][0], bend[k - 1]), (across[dummy], begin[k])]
            for v in leaving.get((u, k), ()):
                routes[u, v] = [*route, (across[dummy], bend[k])]
    entering: dict[int, list[tuple[int, int]]] = {}
    for u, v in edges:
        entering.setdefault(v, []).append((u, v))
    for v, pairs in entering.items():
        pairs = sorted(pairs, key=lambda pair: routes[pair][-1][0])
        straight = [i for i, pair in enumerate(pairs) if routes[pair][-1][0] == across[v]]
        middle = straight[0] if straight else (len(pairs) - 1) / 2
        step = min(16.0, (shapes[v].across - 16) / 2 / max(middle, len(pairs) - 1 - middle, 1))
        top = centres[v][1] - shapes[v].along / 2
        for i, pair in enumerate(pairs):
            port = across[v] + step * (i - middle)
            routes[pair] += [(port, begin[graph.layers[v]] - ARROW), (port, top)]
    extent = max(across[v] + shapes[v].across / 2 for v in range(count))
    extent = max([extent, *across])
    return Layout(centres, [routes[pair] for pair in edges], extent, bend[-1])
