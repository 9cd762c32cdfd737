"""`minidl weights`: what files hold, in a table; errors of one line."""

import numpy as np
import pytest

import minidl
from minidl.cli import main


def test_nested_files(tmp_path, capsys):
    state = {
        "a.weight": np.float32([[1, -2.5]]),
        "empty": np.zeros((0, 3)),
        "count": np.array(3),
        "bad\x1b[2J": np.float32([1, np.nan]),
    }
    minidl.save({"state_dict": state, "epoch": 3, "list": [1, 2], "more": [{"lr": 0.1}]}, tmp_path / "a.pth")
    assert main(["weights", str(tmp_path / "a.pth")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "shape", "dtype", "min", "max", "mean", "std"]
    assert lines[1].split() == ["state_dict.a.weight", "(1,", "2)", "float32", "-2.5", "1", "-0.75", "1.75"]
    assert lines[2].split() == ["state_dict.empty", "(0,", "3)", "float64"]
    assert lines[3].split() == ["state_dict.count", "()", "int64", "3", "3", "3", "0"]
    assert lines[4].split() == ["state_dict.bad\\x1b[2J", "(2,)", "float32", "nan", "nan", "nan", "nan"]
    assert lines[5:] == ["epoch = 3", "list = [1, 2]", "more.0.lr = 0.1", "4 tensors, 5 numbers, 24 bytes in memory"]


@pytest.mark.parametrize("ending", [".safetensors", ".npz"])
def test_flat_files(tmp_path, capsys, ending):
    minidl.save({"x": np.arange(3)}, tmp_path / f"a{ending}")
    assert main(["weights", str(tmp_path / f"a{ending}")]) == 0
    assert "x     (3,)   int64  0    2    1     0.8165" in capsys.readouterr().out


def test_errors(tmp_path, capsys):
    (tmp_path / "a.pth").write_bytes(b"hello")
    for path, code, message in [("a.pth", 1, "it begins with b'hello'"), ("b.pth", 2, "there is no file")]:
        assert main(["weights", str(tmp_path / path)]) == code
        error = capsys.readouterr().err
        assert message in error and path in error and error.count("\n") == 1
