"""`minidl summary`: networks by name and of the user's files, and errors of one line."""

import pytest

from minidl import models
from minidl.cli import main
from minidl.cli.common import documented_size

NET = """
from beside import WIDTH
from minidl import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(3, WIDTH), nn.ReLU())

def build(width):
    return Net()

def number():
    return 3
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "beside.py").write_text("WIDTH = 4\n")
    (tmp_path / "net.py").write_text(NET)
    return tmp_path / "net.py"


def test_a_network_by_name(capsys):
    assert main(["summary", "resnet20"]) == 0
    out = capsys.readouterr().out
    assert "Conv2d-1           [-1, 16, 32, 32]             432      442,368" in out
    assert "Total params: 269,722" in out and "Multiply-adds: 40,551,040" in out and "Time" not in out


def test_options(capsys):
    words = "summary resnet20 --input 3 16 16 --batch-size 4 --tree --depth 1 --time --columns parameters kept"
    assert main(words.split()) == 0
    out = capsys.readouterr().out
    assert "  layer1     Sequential" in out and "[4, 16, 16, 16]" in out
    assert "Kept (MB)" in out and "Time (ms)" in out and "for a batch of 4" in out and "Mult-adds" not in out


def test_a_network_of_a_file(file, capsys):
    assert main(["summary", f"{file}:Net", "--input", "3"]) == 0
    assert "Linear-1                    [-1, 4]              16           12" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{file}:Net"], "--input is needed"),
        (["{file}:Net", "--input", "0"], "argument --input: expected an integer >= 1, got '0'"),
        (["{file}:nothing", "--input", "3"], "defines no class or function 'nothing'"),
        (["{file}:build", "--input", "3"], "cannot be called without arguments"),
        (["{file}:number", "--input", "3"], "must make a Module, it made: int"),
        (["{file}x.py:Net", "--input", "3"], "there is no file"),
        (["resnet21"], "there is no model 'resnet21'"),
    ],
)
def test_wrong_usage(file, capsys, words, message):
    assert main(["summary", *(word.format(file=file) for word in words)]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_an_input_that_does_not_fit(file, capsys):
    assert main(["summary", f"{file}:Net", "--input", "5"]) == 1
    assert "the network failed on input (2, 5) in 0 (Linear)" in capsys.readouterr().err


def test_every_network_says_what_it_takes():
    assert [name for name in models.list_models() if documented_size(name) is None] == []
