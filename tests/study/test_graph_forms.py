"""show_graph: SVG, DOT, text and files; names that try to break them; depth; wrong use."""

import re
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from drawings import NETWORKS, network

import minidl
from minidl import nn
from minidl.kernels import list_kernels
from minidl.study import show_graph
from minidl.study.graph import OPERATIONS


@pytest.fixture(autouse=True)
def seeded():
    minidl.manual_seed(0)


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", 'a"b', "a\\", "a&b", "--]]>", "a\x00\x1b", "\ud800", "x\ny"]
)
def test_hostile_names_are_escaped(name, tmp_path):
    hostile = type('<i>&"\\', (nn.Sequential,), {})
    model = hostile({name: hostile({name: nn.Linear(2, 2)})})
    x = minidl.randn(3, 2)
    drawing, collapsed = show_graph(model, x, depth=2, names={}), show_graph(model, x, depth=1)
    for one in (drawing, collapsed):
        assert "<script" not in one.svg and "<i>" not in one.svg and "\x00" not in one.svg + one.dot
        ElementTree.fromstring(one.svg)
        read_dot(one.dot)
        one.save(tmp_path / "a.svg")
        one.save(tmp_path / "a.dot")


def read_dot(text):
    """Nodes and edges of DOT text; every line must be one of the few that are expected."""
    string = r'"(?:[^"\\]|\\.)*"'
    nodes, edges = [], []
    lines = text.rstrip("\n").split("\n")
    assert lines[0] == "digraph {" and lines[-1] == "}"
    for line in lines[1:-1]:
        attributes = rf"\[\w+={string}(?:, \w+={string})*\]"
        node = re.fullmatch(rf"  n(\d+) {attributes};", line)
        edge = re.fullmatch(rf"  n(\d+) -> n(\d+) {attributes};", line)
        assert node or edge or re.fullmatch(rf"  (?:rankdir={string}|node {attributes});", line), line
        if node:
            nodes.append(int(node[1]))
        if edge:
            edges.append((int(edge[1]), int(edge[2])))
    return nodes, edges


@pytest.mark.parametrize("name", NETWORKS)
def test_dot_has_the_same_boxes_and_edges(name):
    drawing = show_graph(*network(name), direction="LR")
    nodes, edges = read_dot(drawing.dot)
    assert nodes == list(range(len(drawing.boxes))) and edges == drawing.edges
    assert 'rankdir="LR"' in drawing.dot


def test_the_outline_has_a_line_for_each_box():
    drawing = show_graph(*network("block"))
    lines = str(drawing).splitlines()
    assert len(lines) == len(drawing.boxes) == 9
    assert lines[6].split() == ["6", "add", "2×8×6×6", "<-", "5,", "0"]


def test_files(tmp_path):
    drawing = show_graph(*network("lenet"))
    drawing.save(tmp_path / "net.svg")
    drawing.save(str(tmp_path / "net.dot"))
    assert (tmp_path / "net.svg").read_text("utf-8") == drawing.svg
    assert (tmp_path / "net.dot").read_text("utf-8") == drawing.dot
    with pytest.raises(ValueError, match="must end in .svg or .dot, got 'net.png'"):
        drawing.save("net.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.dot", "net.svg"]


def test_notebooks_show_it():
    drawing = show_graph(*network("lenet"))
    assert drawing._repr_svg_() == drawing.svg
    ElementTree.fromstring(drawing._repr_html_())
    assert "max-width:100%" in drawing._repr_html_()


def test_tooltips_tell_the_details():
    drawing = show_graph(*network("block B"), depth=9)
    titles = [t.text for t in ElementTree.fromstring(drawing.svg).iter("{http://www.w3.org/2000/svg}title")]
    (conv,) = [t for t in titles if t.startswith("conv2d 3×3 / 2 conv1")]
    assert "groups = 1" in conv and "output: 2×16×3×3" in conv and "conv1.weight: 16×8×3×3 float32; mean" in conv
    assert re.search("kept for backward: 2×8×6×6 float32, 16×8×3×3 float32", conv)


# --- depth and errors -------------------------------------------------------------------------------------------------
def test_thousands_of_operations_do_not_recurse():
    w = y = minidl.ones(3, requires_grad=True)
    for _ in range(2 * sys.getrecursionlimit()):
        y = y + w
    drawing = show_graph(y.sum(), gradients=True)
    assert len(drawing.boxes) == 2 * sys.getrecursionlimit() + 3
    assert drawing.boxes[0].gradient == pytest.approx((2 * sys.getrecursionlimit() + 1) * 3**0.5)
    ElementTree.fromstring(drawing.svg)


def test_what_has_no_graph():
    model, x = network("block")
    with minidl.no_grad():
        y = model(x)
    with pytest.raises(ValueError, match=r"no graph was recorded for this Tensor of shape \(2, 8, 6, 6\): .*no_grad"):
        show_graph(y)
    with pytest.raises(ValueError, match="requires a gradient"):
        show_graph(minidl.ones(3) * 2)

    class Silent(nn.Module):
        def forward(self, x):
            with minidl.no_grad():
                return x * 2

    with pytest.raises(ValueError, match="depends on no Parameter"):
        show_graph(Silent(), x)
    with pytest.raises(ValueError, match="no Tensor"):
        show_graph([])


def test_a_network_without_parameters_is_drawn():
    drawing = show_graph(nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), input_size=(3, 4, 4))
    assert [box.kind for box in drawing.boxes] == ["input", "operation", "operation", "output"]


@pytest.mark.parametrize(
    "error, text, arguments, options",
    [
        (TypeError, "source must be a Tensor or a Module, got ndarray", [np.ones(3)], {}),
        (TypeError, "source must be a Tensor or a Module, got int", [3], {}),
        (TypeError, "inputs belong to a Module", [minidl.ones(3, requires_grad=True) * 2, 3], {}),
        (TypeError, "needs inputs, or their input_size", [nn.Linear(2, 3)], {}),
        (TypeError, "give one of the two", [nn.Linear(2, 3), minidl.ones(1, 2)], {"input_size": (2,)}),
        (TypeError, "batch_size belongs to input_size", [nn.Linear(2, 3), minidl.ones(1, 2)], {"batch_size": 2}),
        (ValueError, "input_size must be positive extents", [nn.Linear(2, 3)], {"input_size": (-2,)}),
        (ValueError, "the network failed on input", [nn.Linear(2, 3), minidl.ones(1, 5)], {}),
        (ValueError, "depth must be an integer >= 0 or None, got -1", [nn.Linear(2, 3)], {"depth": -1}),
        (ValueError, "depth must be an integer >= 0 or None, got True", [nn.Linear(2, 3)], {"depth": True}),
        (ValueError, "direction must be", [nn.Linear(2, 3)], {"direction": "RL"}),
        (TypeError, "model must be a Module, got int", [nn.Linear(2, 3)], {"model": 3}),
        (TypeError, "names must map text to Tensors", [minidl.ones(3, requires_grad=True) * 2], {"names": {"x": 3}}),
    ],
)
def test_wrong_use(error, text, arguments, options):
    with pytest.raises(error, match=f"show_graph: .*{re.escape(text)}"):
        show_graph(*arguments, **options)


def test_colours_belong_to_operations_that_there_are():
    assert {f"{name}_forward" for name in OPERATIONS} <= set(list_kernels())
