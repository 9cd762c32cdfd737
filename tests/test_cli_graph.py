"""`minidl graph`: an outline in the terminal, drawings in files, errors of one line."""

from xml.etree import ElementTree

import pytest

from minidl.cli import main
from minidl.models import resnet20
from minidl.study import show_graph


def test_the_outline_is_that_of_show_graph(capsys):
    assert main(["graph", "resnet20"]) == 0
    assert capsys.readouterr().out == f"{show_graph(resnet20(), input_size=(3, 32, 32))}\n"


def test_options_reach_the_drawing(capsys, tmp_path):
    words = ["--input", "3", "16", "16", "--depth", "2", "--no-fold", "--direction", "LR", "--out"]
    for name in ("net.svg", "net.dot"):
        assert main(["graph", "resnet20", *words, str(tmp_path / name)]) == 0
        assert capsys.readouterr().out == f"{tmp_path / name}: 17 boxes, 16 edges\n"
    drawing = show_graph(resnet20(), input_size=(3, 16, 16), depth=2, fold=False, direction="LR")
    assert (tmp_path / "net.svg").read_text("utf-8").count("<rect") == drawing.svg.count("<rect")
    assert (tmp_path / "net.dot").read_text("utf-8") == drawing.dot
    ElementTree.parse(tmp_path / "net.svg")


def test_a_network_of_a_file(capsys, tmp_path):
    file = tmp_path / "mynet.py"
    file.write_text("from minidl import nn\n\n\ndef net():\n    return nn.Sequential(nn.Linear(4, 2), nn.ReLU())\n")
    assert main(["graph", f"{file}:net", "--input", "4"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[1] for line in out.splitlines()] == ["input", "linear", "relu", "output"]


@pytest.mark.parametrize(
    "words, code, text",
    [
        (["nope"], 2, "there is no model 'nope'"),
        (["resnet20", "--out", "net.png"], 2, "--out: expected FILE.svg or FILE.dot, got net.png"),
        (["resnet20", "--depth", "-1"], 2, "expected an integer >= 0"),
        (["resnet20", "--input", "4", "16", "16"], 1, "but weight expects 3"),
    ],
)
def test_errors_are_one_line(words, code, text, capsys):
    assert main(["graph", *words]) == code
    err = capsys.readouterr().err
    assert text in err and err.startswith("minidl: error: ") and err.count("\n") == 1
