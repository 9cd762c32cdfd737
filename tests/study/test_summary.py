"""Summaries: torchsummary's table row by row, what is kept for backward, trees, HTML, and errors."""

import html.parser
import sys
import tracemalloc
import types

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.models import get_model
from minidl.nn import functional as F
from minidl.study import summary
from minidl.study.summary import Summary


class Standard(nn.Module):
    """The deck's class, with the shortcut that its table shows."""

    def __init__(self, in_dim=256, mid_dim=64, out_dim=64):
        super().__init__()
        self.building_block = nn.Sequential(
            nn.Conv2d(in_channels=in_dim, out_channels=mid_dim, kernel_size=3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(in_channels=mid_dim, out_channels=out_dim, kernel_size=3, padding=1, bias=False),
        )
        self.shortcut = nn.Conv2d(in_dim, out_dim, kernel_size=3, padding=1, bias=False)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.building_block(x) + self.shortcut(x))


class BottleNeck(nn.Module):
    def __init__(self, in_dim=256, mid_dim=64, out_dim=256):
        super().__init__()
        self.bottleneck = nn.Sequential(
            nn.Conv2d(in_channels=in_dim, out_channels=mid_dim, kernel_size=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(in_channels=mid_dim, out_channels=mid_dim, kernel_size=3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(in_channels=mid_dim, out_channels=in_dim, kernel_size=1, bias=False),
        )
        self.shortcut = nn.Conv2d(in_dim, out_dim, kernel_size=1)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.bottleneck(x) + self.shortcut(x))


DECK = {
    Standard: """\
Layer (type)	Output Shape	Param #
Conv2d-1	[-1, 64, 320, 320]	147,456
ReLU-2	[-1, 64, 320, 320]	0
Conv2d-3	[-1, 64, 320, 320]	36,864
Conv2d-4	[-1, 64, 320, 320]	147,456
ReLU-5	[-1, 64, 320, 320]	0
Total params: 331,776
Trainable params: 331,776
Non-trainable params: 0""",
    BottleNeck: """\
Layer (type)	Output Shape	Param #
Conv2d-1	[-1, 64, 320, 320]	16,384
ReLU-2	[-1, 64, 320, 320]	0
Conv2d-3	[-1, 64, 320, 320]	36,864
ReLU-4	[-1, 64, 320, 320]	0
Conv2d-5	[-1, 256, 320, 320]	16,384
Conv2d-6	[-1, 256, 320, 320]	65,792
ReLU-7	[-1, 256, 320, 320]	0
Total params: 135,424
Trainable params: 135,424
Non-trainable params: 0""",
}


@pytest.mark.parametrize("block", DECK)
def test_the_tables_of_the_deck_row_by_row(block, capsys):
    size = (256, 32, 32)  # a hundredth of the deck's pixels
    summary(block(), size, columns=["parameters"])
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split("  ") for line in lines if not set(line) <= set("-=")]
    shown = ["\t".join(part.strip() for part in row if part.strip()) for row in rows]
    wanted = DECK[block].replace("320", "32").splitlines()
    assert shown[: len(wanted)] == wanted


def test_the_text_is_torchsummarys():
    assert (
        str(summary(Standard(8, 2, 2), (8, 4, 4), columns=["parameters"], verbose=False))
        == """\
----------------------------------------------------------------
        Layer (type)               Output Shape         Param #
================================================================
            Conv2d-1              [-1, 2, 4, 4]             144
              ReLU-2              [-1, 2, 4, 4]               0
            Conv2d-3              [-1, 2, 4, 4]              36
            Conv2d-4              [-1, 2, 4, 4]             144
              ReLU-5              [-1, 2, 4, 4]               0
================================================================
Total params: 324
Trainable params: 324
Non-trainable params: 0
----------------------------------------------------------------
Input size (MB): 0.00
Forward/backward pass size (MB): 0.00
Params size (MB): 0.00
Estimated Total Size (MB): 0.00
----------------------------------------------------------------
Multiply-adds: 5,184
FLOPs, forward: 10,464
FLOPs, forward + backward: 22,048
Kept for backward (MB): 0.00
----------------------------------------------------------------
Operations that no layer runs: 1 add. functional=True gives them
rows.
Multiply-adds count convolutions and matrix products; FLOPs
count all arithmetic, a multiply-add as 2. Both are for one
example, in training mode."""
    )


def labels(result):
    return [row.label for row in result.rows]


def test_resnet20_fits_into_80_columns_and_adds_up():
    result = summary(get_model("resnet20"), (3, 32, 32), verbose=False)
    assert max(map(len, str(result).splitlines())) <= 80
    assert sum(row.parameters for row in result.rows) == result.counts.parameters == 269_722
    assert sum(row.cost.multiply_adds for row in result.rows) == 2 * 40_551_040
    whole = summary(get_model("resnet20"), (3, 32, 32), functional=True, verbose=False)
    assert sum(row.cost.forward for row in whole.rows) == 2 * whole.counts.flops_forward
    assert [row.label for row in whole.rows[8:11]] == ["Identity-9", "(add)", "ReLU-10"]


def test_sizes_in_memory_are_torchsummarys_and_grow_with_the_batch():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    for batch, shown in ((None, 1), (3, 3)):
        result = summary(model, (4,), batch_size=batch, verbose=False)
        assert result.input_bytes == shown * 16
        assert result.pass_bytes == shown * 2 * 2 * 8 * 4
        assert result.parameter_bytes == 40 * 4
        assert str([batch or -1, 8]) in str(result)


def test_what_is_kept_for_backward_counts_each_memory_once():
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 3))
    result = summary(model.double(), (2, 8, 8), columns=["kept"], verbose=False)
    x, y = 8 * 2 * 64, 8 * 4 * 64
    with minidl.use_kernels(False):  # the texts lay nothing down beside
        plain = summary(model, (2, 8, 8), verbose=False)
    # the image; each ReLU's result; the linear layer's input is a view of the second, or a copy in rows
    assert plain.kept_bytes == x + 2 * y
    assert result.kept_bytes >= x + 2 * y
    nothing = summary(nn.Sequential(nn.ReLU()), (4,), verbose=False)
    assert nothing.kept_bytes == 0  # nothing needs a gradient


def test_what_is_kept_for_backward_is_what_python_allocates():
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, 10)),
    )
    x = minidl.randn(4, 3, 64, 64)
    with minidl.use_kernels(False):
        model(x)
        tracemalloc.start()
        y = model(x)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        result = summary(model, input_data=x, verbose=False)
    assert y.requires_grad
    assert kept == pytest.approx(result.kept_bytes - 4 * x.numel(), rel=0.01)  # the image was there before


class Pair(nn.Module):
    """Two inputs (numbers of rows, and features), two outputs, a layer called twice and weights in two places."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(minidl.ones(5, 3))
        self.first, self.second = nn.Linear(3, 4, bias=False), nn.Linear(3, 4)
        self.second.weight = self.first.weight
        self.twice, self.unused = nn.Linear(4, 4), nn.Linear(7, 1)

    def forward(self, index, x):
        h = self.first(self.table[index]) + self.second(x)
        return {"y": self.twice(self.twice(h)), "h": h}


def test_several_inputs_shared_weights_and_repeated_calls():
    result = summary(Pair(), [(), (3,)], dtypes=[np.int64, None], verbose=False)
    assert labels(result) == ["Linear-1", "Linear-2", "Linear-3", "Linear-4"]
    assert [(row.parameters, row.shared) for row in result.rows] == [(12, 0), (4, 12), (20, 0), (0, 20)]
    text = " ".join(str(result).split())
    assert (
        "4 (12)" in text and " (20) " in text and "Parameters in no row: 23 (table, unused.weight, unused.bias)" in text
    )
    assert "are shared, and counted in the row that has them first" in text
    assert result.counts.parameters == 15 + 12 + 4 + 20 + 8
    data = summary(Pair(), input_data=(np.zeros(6, np.int64), minidl.ones(6, 3)), verbose=False)
    assert "[6, 4]" in str(data) and data.input_bytes == 6 * 8 + 6 * 12
    assert [row.shapes for row in data.rows] == [[(6, 4)]] * 4


def test_a_module_that_returns_several_tensors():
    assert "[[-1, 4], [-1, 4]]" in str(summary(Pair(), [(), (3,)], dtypes=[np.int64, None], depth=0, verbose=False))


def test_the_tree():
    result = summary(Pair(), [(), (3,)], dtypes=[np.int64, None], tree=True, verbose=False)
    shown = [(row.indent, row.label, row.kind, row.parameters, row.shared) for row in result.rows]
    assert shown == [
        (0, "Pair", "Pair", 59, 0),
        (1, "table", "Parameter (5, 3)", 15, 0),
        (1, "first", "Linear", 12, 0),
        (1, "second", "Linear", 4, 12),
        (1, "twice", "Linear x2", 20, 0),
        (1, "unused", "Linear, not called", 8, 0),
        (1, "(getitem)", "", None, 0),
        (1, "(add)", "", None, 0),
    ]
    lines = str(result).splitlines()
    assert lines[3].split() == ["Pair", "Pair", "[[-1,", "4],", "[-1,", "4]]", "59", "100.0", "%", "56"]
    assert lines[5].startswith("  first") and "20.3 %" in lines[5]


def test_depth_folds_what_is_below():
    model = get_model("resnet20")
    result = summary(model, (3, 32, 32), depth=1, verbose=False)
    assert labels(result)[2:6] == ["ReLU-3", "Sequential-4", "Sequential-5", "Sequential-6"]
    assert [row.parameters for row in result.rows][2:6] == [0, 14_016, 51_072, 203_520]
    assert sum(row.cost.multiply_adds for row in result.rows) == 2 * 40_551_040
    assert labels(summary(model, (3, 32, 32), depth=0, verbose=False)) == ["ResNetCIFAR-1"]
    tree = summary(model, (3, 32, 32), depth=1, tree=True, verbose=False)
    assert {row.indent for row in tree.rows} == {0, 1}


def test_a_module_in_two_places_of_the_tree():
    layer = nn.Linear(3, 3)
    result = summary(nn.Sequential(layer, nn.Sequential(layer)), (3,), tree=True, verbose=False)
    assert [(row.label, row.kind, row.parameters, row.shared) for row in result.rows] == [
        ("Sequential", "Sequential", 12, 0),
        ("0", "Linear x2", 12, 0),
        ("1", "Sequential", 0, 12),
        ("0", "Linear, the same as 0", 0, 12),
    ]


def test_times_only_on_request():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    without = summary(model, (3,), verbose=False)
    assert without.seconds is None and all(row.seconds is None for row in without.rows)
    assert "Time" not in str(without) and "time" not in str(without)
    before = model.state_dict()["1.running_mean"].array.copy()
    timed = summary(model, (3,), batch_size=16, timing=True, verbose=False)
    assert timed.seconds > 0 and all(row.seconds > 0 for row in timed.rows)
    assert "Time (ms)" in str(timed) and "for a batch of 16" in str(timed)
    np.testing.assert_array_equal(model.state_dict()["1.running_mean"].array, before)
    tree = summary(model.eval(), (3,), timing=True, tree=True, verbose=False)
    assert tree.rows[0].seconds >= max(row.seconds for row in tree.rows[1:])
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


class Cells(html.parser.HTMLParser):
    """The texts of the cells of an HTML table."""

    def __init__(self, text):
        super().__init__()
        self.cells, self.tags = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)

    def handle_data(self, data):
        self.cells.append(data)


def test_html_shows_the_same_and_escapes_names():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    model.add_module("<script>alert(1)</script>", type("A<b>&", (nn.Module,), {"forward": lambda self, x: x})())
    for tree in (True, False):
        result = summary(model, (2,), tree=tree, verbose=False)
        page = Cells(result._repr_html_())
        assert set(page.tags) == {"table", "thead", "tbody", "tr", "th", "td", "p"}
        assert ("<script>alert(1)</script>" in page.cells) == tree
        assert any("A<b>&" in cell for cell in page.cells) and "[-1, 3]" in page.cells
        assert "Total params" in page.cells and "9" in page.cells


def test_it_is_printed_once(capsys, monkeypatch):
    result = summary(nn.ReLU(), (3,))
    assert isinstance(result, Summary) and capsys.readouterr().out == f"{result}\n"
    assert "\n" not in repr(result)  # what an interactive session shows after it
    summary(nn.ReLU(), (3,), verbose=False)
    shell = types.SimpleNamespace(kernel=None)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    summary(nn.ReLU(), (3,))  # a notebook shows the value itself
    assert capsys.readouterr().out == ""


def test_operations_without_a_layer():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.q = nn.Linear(4, 4, bias=False)

        def forward(self, x):
            return F.softmax(self.q(x) @ x.transpose(1, 2), -1) @ x

    result = summary(Attention(), (5, 4), functional=True, verbose=False)
    assert labels(result) == ["Linear-1", "(transpose)", "(matmul)", "(softmax)", "(matmul)"]
    assert [row.cost.multiply_adds // 2 for row in result.rows] == [80, 0, 100, 0, 100]
    hidden = summary(Attention(), (5, 4), verbose=False)
    assert "Operations that no layer runs: 2 matmul, 1 transpose, 1 softmax" in " ".join(str(hidden).split())


def test_arguments_that_do_not_fit():
    model = nn.Linear(3, 2)
    with pytest.raises(ValueError, match="summary: give either input_size"):
        summary(model)
    with pytest.raises(ValueError, match="summary: give either input_size"):
        summary(model, (3,), input_data=minidl.ones(2, 3))
    with pytest.raises(ValueError, match=r"summary: input_size must be positive extents .*; got \(3, 'x'\)"):
        summary(model, (3, "x"))
    with pytest.raises(ValueError, match="columns must be among parameters, .*, got 'kept'"):
        summary(model, (3,), columns="kept")
    with pytest.raises(ValueError, match="depth must be an integer >= 0 or None, got -1"):
        summary(model, (3,), depth=-1)
    with pytest.raises(ValueError, match="batch_size must be a positive integer or None, got 0"):
        summary(model, (3,), batch_size=0)
    with pytest.raises(ValueError, match="input_data has its own batch"):
        summary(model, input_data=minidl.ones(2, 3), batch_size=4)
    with pytest.raises(TypeError, match="input_data must be a Tensor, an array, or a list of such, got str"):
        summary(model, input_data="x")
    with pytest.raises(TypeError, match="model must be a Module, got int"):
        summary(3, (3,))
    with pytest.raises(ValueError, match=r"failed on input \(2, 4\) in its own forward: ValueError: linear: x has"):
        summary(model, (4,))
