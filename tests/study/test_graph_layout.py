"""Layers, dummies and columns on random graphs; the judge reads the finished drawing."""

import numpy as np
import pytest
from drawings import boxes, loose_ends, overlapping, routes, run_through

from minidl.study import graph_layout
from minidl.study.graph_layout import Shape, crossings, place
from minidl.study.svg import Card, draw


def random_graph(seed, count=24):
    """Boxes of many sizes; each reads some of those before it."""
    rng = np.random.default_rng(seed)
    edges = {}
    for v in range(1, count):
        for u in rng.choice(v, size=min(v, rng.integers(0, 4)), replace=False):
            edges[int(u), v] = None
    return edges, rng


def drawn(edges, count, direction="TB", rng=None):
    rng = rng or np.random.default_rng(0)
    cards = [
        Card("t" * rng.integers(1, 20), [("line", "grad")] * rng.integers(0, 4), [("2×3", "")], "", "#fff", "#000")
        for _ in range(count)
    ]
    return draw(cards, list(edges), direction)


@pytest.mark.parametrize("direction", ["TB", "LR"])
@pytest.mark.parametrize("seed", range(12))
def test_random_graphs_have_no_overlaps(seed, direction):
    edges, rng = random_graph(seed)
    svg = drawn(edges, 24, direction, rng)
    assert overlapping(boxes(svg)) == []
    assert run_through(svg, edges) == []
    assert loose_ends(svg, edges) == []


@pytest.mark.parametrize("seed", range(4))
def test_edges_run_forward(seed):
    edges, rng = random_graph(seed)
    layout = place([Shape(40, 20)] * 24, list(edges))
    for (u, v), route in zip(edges, layout.routes, strict=True):
        assert layout.centres[u][1] < layout.centres[v][1]
        along = [b for _, b in route]
        assert along == sorted(along)


@pytest.mark.parametrize("seed", range(8))
def test_everything_is_inside_the_picture(seed):
    edges, rng = random_graph(seed, 30)
    svg = drawn(edges, 30, rng=rng)
    width, height = (float(n) for n in svg.split('viewBox="')[1].split('"')[0].split()[2:])
    for left, top, right, bottom in boxes(svg):
        assert left > -16 and right < width - 16 and top > -16 and bottom < height - 16
    assert all(-16 < x < width - 16 and -16 < y < height - 16 for route in routes(svg) for x, y in route)


def test_a_chain_with_shortcuts_is_straight():
    edges = [(i, i + 1) for i in range(9)] + [(0, 4), (4, 8)]
    layout = place([Shape(60, 20)] * 10, edges)
    assert len({across for across, _ in layout.centres}) == 1
    assert max(across for across, _ in layout.routes[-1]) > layout.centres[0][0] + 30, "the shortcut runs beside it"


def test_crossings_are_counted():
    order, below = [[0, 1, 2], [3, 4, 5]], [[5], [4, 3], [3], [], [], []]
    pairs = [(order[0].index(u), order[1].index(v)) for u in order[0] for v in below[u]]
    naive = sum((a - c) * (b - d) < 0 for i, (a, b) in enumerate(pairs) for c, d in pairs[:i])
    assert crossings(order, below) == naive == 4


def test_crossings_that_can_be_avoided_are():
    edges = [(0, 4), (1, 3), (0, 5), (2, 3), (1, 5)]  # a path: 4 - 0 - 5 - 1 - 3 - 2
    layout = place([Shape(40, 20)] * 6, edges)
    ends = [(layout.centres[u][0], layout.centres[v][0]) for u, v in edges]
    assert not any((a - c) * (b - d) < 0 for i, (a, b) in enumerate(ends) for c, d in ends[:i])


def test_a_cycle_is_refused():
    with pytest.raises(ValueError, match="cycle"):
        place([Shape(10, 10)] * 3, [(0, 1), (1, 2), (2, 1)])


def test_too_many_long_edges_are_refused(monkeypatch):
    monkeypatch.setattr(graph_layout, "MAX_DUMMIES", 10)
    edges = [(i, i + 1) for i in range(13)]
    place([Shape(10, 10)] * 14, [*edges, (0, 11)])
    with pytest.raises(ValueError, match="pass 11 layers"):
        place([Shape(10, 10)] * 14, [*edges, (0, 12)])


def test_one_source_of_many_edges_has_one_chain():
    edges = [(i, i + 1) for i in range(500)] + [(0, i) for i in range(2, 501)]
    assert len(graph_layout.with_dummies(list(range(501)), edges).layers) == 501 + 499
