"""Model files written for PyTorch, run under minidl, as ONNX files."""

import pytest
from onnx_judge import compared, stirred
from pytorch_code.loading import load
from test_pytorch_code import SMALL

import minidl


@pytest.mark.parametrize("name", SMALL)
def test_files_written_for_pytorch(name, tmp_path):
    file, construct, height = SMALL[name]
    model = stirred(construct(load(file, "minidl"), 0.3))
    compared(model, [minidl.randn(n, 3, height, height).numpy() for n in (2, 3)], tmp_path)
