"""show_graph: what is drawn, of what, under which names, with which norms; and that nothing else changes."""

import re
from collections import Counter

import numpy as np
import pytest
from drawings import NETWORKS, Branches, boxes, lenet, loose_ends, network, overlapping, run_through, texts

import minidl
import minidl.nn.functional as F
from minidl import nn
from minidl.autograd import Node, reach
from minidl.models import resnet20, resnet56
from minidl.study import show_graph


@pytest.fixture(autouse=True)
def seeded():
    minidl.manual_seed(0)


def named(drawing, name):
    (box,) = [box for box in drawing.boxes if box.name == name]
    return box


# --- geometry ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("direction", ["TB", "LR"])
@pytest.mark.parametrize("name", NETWORKS)
def test_boxes_do_not_overlap_and_edges_pass_them_by(name, direction):
    for depth in (1, 9):
        drawing = show_graph(*network(name), depth=depth, direction=direction)
        assert len(boxes(drawing.svg)) == len(drawing.boxes)
        assert overlapping(boxes(drawing.svg)) == []
        assert run_through(drawing.svg, drawing.edges) == []
        assert loose_ends(drawing.svg, drawing.edges) == []


def test_a_shortcut_runs_beside_the_main_line():
    drawing = show_graph(*network("block"))
    start, add = 0, next(i for i, box in enumerate(drawing.boxes) if box.nodes and box.nodes[0].name == "add")
    assert (start, add) in drawing.edges and len([e for e in drawing.edges if e[1] == add]) == 2
    lefts = [(a + c) / 2 for a, _, c, _ in boxes(drawing.svg)]
    assert max(lefts) - min(lefts) < 0.2, "the main line is straight"


# --- what is drawn ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NETWORKS)
def test_every_operation_and_edge_is_there(name):
    model, x = network(name)
    y = model(x)
    nodes, _ = reach([y.edge], {})
    drawing = show_graph(y, depth=9)
    drawn = [box for box in drawing.boxes if box.kind == "operation"]
    assert [box.nodes for box in drawn] == [[node] for node in nodes]
    pairs = [(drawing.boxes[u].nodes, drawing.boxes[v].nodes) for u, v in drawing.edges]
    assert {(a[0], b[0]) for a, b in pairs if a and b} == {
        (a, b) for b in nodes for a in b.inputs if isinstance(a, Node)
    }
    shown = Counter(text.split()[0] for text in texts(drawing.svg))
    assert all(shown[name] >= count for name, count in Counter(node.name for node in nodes).items())


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_collapsing_keeps_the_flow_of_data(name, depth, fold):
    model, x = network(name)
    y = model(x)
    drawing = show_graph(y, depth=depth, fold=fold)
    nodes, _ = reach([y.edge], {})
    of = {node: i for i, box in enumerate(drawing.boxes) for node in box.nodes}
    assert of.keys() == set(nodes) and sum(len(box.nodes) for box in drawing.boxes) == len(nodes)
    quotient = {(of[a], of[b]) for b in nodes for a in b.inputs if isinstance(a, Node) and of[a] != of[b]}
    assert {(u, v) for u, v in drawing.edges if drawing.boxes[u].nodes and drawing.boxes[v].nodes} == quotient
    assert len(drawing.edges) == len(set(drawing.edges))
    for box in drawing.boxes:
        if box.kind == "module":
            assert {node.modules[:depth] for node in box.nodes} == {box.modules[:-1]}
    assert run_through(drawing.svg, drawing.edges) == []


def test_values_that_leave_a_box():
    drawing = show_graph(resnet20(), minidl.randn(2, 3, 8, 8), depth=1)
    assert [box.shapes for box in drawing.boxes if box.name.startswith("layer")] == [
        ((2, 16, 8, 8),),
        ((2, 32, 4, 4),),
        ((2, 64, 2, 2),),
    ]
    assert "2×32×4×4" in texts(drawing.svg)


def test_equal_blocks_in_a_row_are_folded():
    model = resnet56()
    drawing = show_graph(model, input_size=(3, 8, 8))
    assert [(b.name, b.last, b.repeats) for b in drawing.boxes if b.name.startswith("layer")] == [
        ("layer1.0", "layer1.8", 9),
        ("layer2.0", "", 1),
        ("layer2.1", "layer2.8", 8),
        ("layer3.0", "", 1),
        ("layer3.1", "layer3.8", 8),
    ]
    held = [name for box in drawing.boxes for name in box.parameters]
    assert held == [name for name, _ in model.named_parameters()]
    assert "layer3.1 … layer3.8 ×8" in texts(drawing.svg)
    count = sum(p.numel() for name, p in model.named_parameters() if re.match(r"layer3\.[1-8]\.", name))
    assert f"{count:,} parameters" in texts(drawing.svg)
    unfolded = show_graph(model, input_size=(3, 8, 8), depth=2, fold=False)
    assert sum(box.name.startswith("layer") for box in unfolded.boxes) == 27


@pytest.mark.parametrize("model", [resnet20, resnet56, lenet])
def test_without_a_depth_drawings_are_small(model):
    size = (1, 28, 28) if model is lenet else (3, 8, 8)
    assert 7 <= len(show_graph(model(), input_size=size).boxes) <= 60


def test_blocks_with_a_shortcut_are_marked():
    def shortcut(model, *shape):
        return show_graph(model, minidl.randn(*shape), depth=0).boxes[1].shortcut

    assert shortcut(nn.ResidualBlock(4, 4), 2, 4, 6, 6)
    assert shortcut(nn.ResidualBlock(4, 8, 2), 2, 4, 6, 6)
    assert shortcut(nn.Bottleneck(8, 4), 2, 8, 6, 6)
    assert not shortcut(nn.ResidualBlock(4, 4, shortcut=None), 2, 4, 6, 6)
    assert not shortcut(nn.Sequential(nn.ResidualBlock(4, 4), nn.ResidualBlock(4, 4)), 2, 4, 6, 6)
    assert not shortcut(nn.Linear(3, 3), 2, 3)
    assert not shortcut(Branches(), 2, 4)


def test_options_and_numbers_are_written():
    x = minidl.randn(2, 3, 8, 8, requires_grad=True)
    w = minidl.randn(3, 1, 3, 5)
    y = F.max_pool2d(F.conv2d(x, w, stride=2, dilation=1, groups=3), 2)
    y = (y[:, ::2] * 3).transpose(0, 1).sum(dim=(0, 2)) ** 2
    shown = [" ".join(line.split()) for line in str(show_graph(y)).splitlines()]
    assert [" ".join(line.split()[1:-2]) for line in shown if "<-" in line] == [
        "conv2d 3×5 / 2 groups 3 2×3×3×2 <-",
        "max_pool2d 2×2 / 2 2×3×1×1",
        "getitem [:, ::2, ...] 2×2×1×1",
        "multiply 3 2×2×1×1",
        "transpose axes (1, 0, 2, 3) 2×2×1×1",
        "sum axis (0, 2) 2×1",
        "power 2 2×1",
        "output",
    ]


def test_several_outputs_and_the_shapes_between_modules():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = Branches()

        def forward(self, x):
            y = self.body(x)
            return {"sum": y.sum(), "y": [y]}

    drawing = show_graph(Two(), minidl.randn(2, 4), depth=1)
    assert [box.name for box in drawing.boxes if box.kind == "output"] == ["loss 0", "output 1"]
    assert drawing.boxes[1].shapes == ((2, 16),)


# --- names ------------------------------------------------------------------------------------------------------------
def test_parameters_are_named_by_their_path():
    model = resnet20()
    drawing = show_graph(model, minidl.randn(2, 3, 8, 8), depth=9)
    for name, p in model.named_parameters():
        (box,) = [box for box in drawing.boxes if name in box.parameters]
        assert box.parameters[name] is p and name == f"{box.name}.{name.rpartition('.')[2]}"
    assert "weight 64×32×3×3" in texts(drawing.svg)


def test_names_come_from_the_model_that_is_given():
    whole = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 4), nn.ReLU()))
    y = whole[1](minidl.randn(5, 3))
    assert "weight" not in show_graph(y, model=whole).boxes[1].parameters
    assert list(show_graph(y).boxes[1].parameters) == ["0.weight", "0.bias"]
    assert list(show_graph(y, model=whole).boxes[1].parameters) == ["1.0.weight", "1.0.bias"]
    assert show_graph(y, model=whole).boxes[1].name == "1.0"


def test_two_networks_do_not_share_names():
    maker, judge = nn.Sequential(nn.Linear(2, 3)), nn.Linear(3, 1)
    drawing = show_graph(nn.CrossEntropyLoss()(judge(maker(minidl.randn(4, 2))), minidl.zeros(4, dtype=np.int64)))
    found = [name for box in drawing.boxes for name in box.parameters]
    assert found == ["0.weight", "0.bias", "Linear.weight", "Linear.bias"]
    assert "CrossEntropyLoss" in [box.name for box in drawing.boxes]


def test_frozen_parameters_and_running_statistics_are_no_constants():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).requires_grad_(False).eval()
    drawing = show_graph(model, minidl.randn(2, 3, 4, 4))
    assert [box.kind for box in drawing.boxes] == ["input", "operation", "operation", "output"]
    assert list(drawing.boxes[2].parameters) == ["1.weight", "1.bias"]


def test_a_parameter_that_two_boxes_read_has_its_own():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(minidl.randn(4, 4))

        def forward(self, x):
            return F.relu(x @ self.w) @ self.w

    drawing = show_graph(Tied(), minidl.randn(2, 4))
    tied = drawing.boxes.index(named(drawing, "w"))
    assert drawing.boxes[tied].kind == "tensor" and sum(u == tied for u, _ in drawing.edges) == 2


def test_names_that_are_given():
    x, w = minidl.randn(2, 3), minidl.randn(3, 4, requires_grad=True)
    h = x @ w
    loss = h.exp().sum()
    drawing = show_graph(loss, names={"x": x, "w": w, "h": h, "L": loss})
    assert named(drawing, "x").kind == "constant" and named(drawing, "w").kind == "tensor"
    assert named(drawing, "h").nodes == [h.node] and drawing.boxes[-1].name == "L"


def test_arrays_made_inside_of_a_collapsed_module_are_not_drawn():
    class Masked(nn.Module):
        def forward(self, x):
            return x * minidl.ones(3)

    drawing = show_graph(nn.Sequential(nn.Linear(3, 3), Masked()), minidl.randn(2, 3), depth=1)
    assert Counter(box.kind for box in drawing.boxes) == {"input": 1, "module": 2, "output": 1}
    drawing = show_graph(nn.Sequential(nn.Linear(3, 3), Masked()), minidl.randn(2, 3), depth=2)
    assert Counter(box.kind for box in drawing.boxes) == {"input": 1, "operation": 2, "constant": 1, "output": 1}
